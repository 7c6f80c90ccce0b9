//! With fewer rights: what still works, and what the agent says about the rest.

use std::process::{Command, Stdio};

use super::node::{Node, wait_for};

#[test]
fn a_user_without_rights_counts_kills_by_cgroups_and_hears_what_is_lost() {
    let mut node = Node::new();
    let container = node.container(16);
    let nobody = "65534";
    let status = Command::new("chown").arg(nobody).arg(node.state.path()).status().expect("chown runs");
    assert!(status.success());
    // Readable by that user, wherever the build lies.
    let program = node.state.path().join("exit137");
    std::fs::copy(env!("CARGO_BIN_EXE_exit137"), &program).expect("copied");
    let root = node.cgroup_root();
    let state = node.state.path().join("state");
    let mut command = Command::new("setpriv");
    command.args(["--reuid", nobody, "--regid", nobody, "--clear-groups"]).arg(&program);
    command.args(["agent", "--kernel-log", "/proc/kmsg", "--cgroup-root", &root, "--export-interval", "1s"]);
    command.args(["--endpoint", &node.collector.endpoint]).arg("--state-dir").arg(&state);
    let mut agent = command.stderr(Stdio::piped()).spawn().expect("setpriv runs");
    wait_for("metrics", || !node.collector.points(&container.id).is_empty());
    container.run("tail /dev/zero; sleep 3").wait().expect("ended");
    let kill = node.expect_kills(&container, 1).remove(0);
    assert_eq!(kill.attribute("exit137.kill.seen_by"), "counter");
    assert!(kill.body.contains("the kernel log does not say which"), "{}", kill.body);
    Command::new("kill").args(["-TERM", &agent.id().to_string()]).status().expect("kill runs");
    let mut said = String::new();
    std::io::Read::read_to_string(&mut agent.stderr.take().expect("piped"), &mut said).expect("text");
    assert!(agent.wait().expect("ended").success(), "{said}");
    for line in [
        "no: cannot read /proc/kmsg: Permission denied",
        "tracepoint         no: ",
        "lost: which process was killed",
    ] {
        assert!(said.contains(line), "`{line}` is not in:\n{said}");
    }
}

#[test]
fn what_cannot_work_is_an_error_that_says_so() {
    let node = Node::new();
    for (arguments, expected) in [
        (&["--interval", "1ms"][..], "expected an interval of 50ms to 60s, found 1ms"),
        (&["--cgroup-root", "/no-such-cgroup"], "there is no cgroup /no-such-cgroup"),
        (
            &["--endpoint", "collector:4318"],
            "expected an address like http://collector:4318, found \"collector:4318\"",
        ),
        (&["--sysroot", "/proc"], "no memory cgroups below /proc/sys/fs/cgroup"),
        (&["--header", "novalue"], "expected a header like name=value, found \"novalue\""),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_exit137"))
            .args(["agent", "--state-dir"])
            .arg(node.state.path())
            .args(arguments)
            .output()
            .expect("exit137 runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(expected), "`{expected}` is not in:\n{said}");
    }
}
