//! Many kills at once: the kernel prints ten reports in five seconds, and of the rest only that a process died.

use super::node::{Container, Node, wait_for};

/// Small enough that a process meets it in a millisecond, large enough for a shell.
const LIMIT_MIB: u64 = 4;

fn storm(containers: usize, kills_each: usize) {
    let mut node = Node::new();
    let containers: Vec<Container> = (0..containers).map(|_| node.container(LIMIT_MIB)).collect();
    node.start(&[]);
    let loops = containers.iter().map(|container| {
        // The shell itself is the smaller one, and is spared besides.
        container.run(&format!(
            "echo -900 > /proc/$$/oom_score_adj; for i in $(seq {kills_each}); do \
             sh -c 'echo 500 > /proc/$$/oom_score_adj; exec tail /dev/zero'; done"
        ))
    });
    for mut child in loops.collect::<Vec<_>>() {
        child.wait().expect("ended");
    }
    let truth: Vec<u64> = containers.iter().map(Container::counter).collect();
    let total: u64 = truth.iter().sum();
    assert!(total >= (containers.len() * kills_each) as u64, "the kernel killed {truth:?}");
    let seen = |node: &Node| node.collector.events("exit137.oom_kill").len() as u64;
    wait_for("all kills", || seen(&node) >= total);
    let told: Vec<u64> = containers.iter().map(|container| node.kills(container).len() as u64).collect();
    assert_eq!((told, seen(&node)), (truth, total));
    node.stop_agent();
    assert_eq!(seen(&node), total, "none came late");
}

#[test]
fn hundreds_of_kills_are_counted_once_in_the_right_container() {
    storm(4, 75);
}

/// `cargo test -p exit137 --test agent -- --ignored`: some minutes.
#[test]
#[ignore = "takes minutes"]
fn ten_thousand_kills_are_counted_once_in_the_right_container() {
    storm(8, 1250);
}
