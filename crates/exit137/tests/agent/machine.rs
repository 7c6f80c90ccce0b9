//! The same tests on cgroup v2: this very binary, in a virtual machine.

#[path = "../kernel/machine.rs"]
mod virtual_machine;

use std::path::Path;

#[test]
fn all_of_it_holds_on_cgroup_v2() {
    let own = std::env::current_exe().expect("a path");
    let program = env!("CARGO_BIN_EXE_exit137");
    // Ten thousand kills are too much for an emulated processor; hundreds are not. EXIT137_TESTS_IN_VM picks other tests.
    let which = std::env::var("EXIT137_TESTS_IN_VM").unwrap_or_else(|_| "--skip ten_thousand".to_owned());
    let job = format!(
        "echo +memory +pids > /sys/fs/cgroup/cgroup.subtree_control
        /tests --test-threads 1 --skip cgroup_v2 {which}
        echo \"=== ended with $?\""
    );
    // busybox has a setpriv that cannot change users.
    let files = [
        ("tests", own.as_path()),
        (program, Path::new(program)),
        ("bin/setpriv", Path::new("/usr/bin/setpriv")),
    ];
    let said = virtual_machine::run(&job, &files);
    assert!(said.contains("=== ended with 0") && said.contains("test kills::"), "{said}");
}
