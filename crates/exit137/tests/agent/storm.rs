//! Many kills at once: the kernel prints ten reports in five seconds, and of the rest only that a process died.

use super::node::{Container, Node, wait_for};

/// Small enough that a process meets it in a millisecond, large enough for a shell.
const LIMIT_MIB: u64 = 4;

fn storm(containers: usize, kills_each: u64) {
    let mut node = Node::new();
    let containers: Vec<Container> = (0..containers).map(|_| node.container(LIMIT_MIB)).collect();
    node.start(&[]);
    std::thread::scope(|scope| {
        for container in &containers {
            scope.spawn(|| {
                // The shell itself is the smaller one, and is spared besides; but while what was killed is still ending,
                // the kernel takes it all the same. Then another goes on.
                while container.counter() < kills_each {
                    let left = kills_each - container.counter();
                    let line = format!(
                        "echo -900 > /proc/$$/oom_score_adj; for i in $(seq {left}); do \
                         sh -c 'echo 500 > /proc/$$/oom_score_adj; exec tail /dev/zero'; done"
                    );
                    container.run(&line).wait().expect("ended");
                    wait_for("the last process's end", || container.is_empty());
                }
            });
        }
    });
    let truth: Vec<u64> = containers.iter().map(Container::counter).collect();
    let total: u64 = truth.iter().sum();
    assert!(total >= containers.len() as u64 * kills_each, "the kernel killed {truth:?}");
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

#[test]
fn ten_thousand_kills_are_counted_once_in_the_right_container() {
    storm(8, 1250);
}
