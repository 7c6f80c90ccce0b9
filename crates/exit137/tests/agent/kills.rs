//! Each kill once, in the right container, whatever dies.

use std::process::Command;

use super::node::{Node, is_v2, wait_for};

/// Grows until it is killed, and touches every page that it gets.
const GROW: &str = "tail /dev/zero";

#[test]
fn a_main_process_a_child_and_a_tmpfs_are_told_apart() {
    let mut node = Node::new();
    let (main, child) = (node.container(16), node.container(16));
    let pod_uid = "6f0dc1b2-3a4e-4c6f-9f1a-0000000000aa";
    let pod = node.pod(pod_uid, 24);
    let files = node.container_in(&pod, 64);
    node.start(&[]);
    main.run(&format!("exec {GROW}")).wait().expect("ended");
    let status = child.run(&format!("{GROW}; test $? = 137")).wait().expect("ended");
    assert!(status.success(), "the child died, and its parent saw it: {status}");
    let volume = tempfile::tempdir().expect("a folder");
    let mounted =
        Command::new("mount").args(["-t", "tmpfs", "nodev"]).arg(volume.path()).status().expect("mount runs");
    assert!(mounted.success());
    let write = format!("exec dd if=/dev/zero of={}/file bs=64k", volume.path().display());
    files.run(&write).wait().expect("ended");
    Command::new("umount").arg(volume.path()).status().expect("umount runs");

    let main = node.expect_kills(&main, 1).remove(0);
    assert_eq!(main.attribute("exit137.kill.limit_hit"), "container");
    assert_eq!(main.attribute("exit137.kill.limit_bytes"), (16 << 20).to_string());
    assert_eq!(main.attribute("process.executable.name"), "tail");
    assert_eq!(main.attribute("k8s.node.name"), "node-1");
    assert!(main.attribute("exit137.victim.anon_bytes").parse::<u64>().expect("a number") > 8 << 20);
    node.expect_kills(&child, 1);
    let files = node.expect_kills(&files, 1).remove(0);
    assert_eq!((files.attribute("exit137.kill.limit_hit"), files.attribute("k8s.pod.uid")), ("pod", pod_uid));
    node.stop_agent();
}

#[test]
fn what_is_received_explains_the_kill() {
    let mut node = Node::new();
    let container = node.container(48);
    node.start(&[]);
    wait_for("metrics", || !node.collector.points(&container.id).is_empty());
    // Slowly enough to be looked at on the way.
    container
        .run("x=; i=0; while :; do x=$x$(head -c 400000 /dev/zero | tr '\\0' x); sleep 0.05; done")
        .wait()
        .expect("ended");
    // The shell's own children are as large as it is, and die before it, or after it.
    wait_for("the last process's end", || container.is_empty());
    let died = container.counter() as usize;
    node.expect_kills(&container, died);
    node.stop_agent();

    let points = node.collector.points(&container.id);
    for metric in [
        "container.memory.usage",
        "container.memory.working_set",
        "container.memory.rss",
        "k8s.container.memory.limit.current",
        "container.memory.usage.max",
    ] {
        assert!(points.contains_key(metric), "{metric} is missing in {points:?}");
    }
    let photographs = node.collector.events("exit137.cgroup.sample");
    let reasons: Vec<_> = photographs.iter().map(|event| event.attribute("exit137.sample.reason")).collect();
    assert!(reasons.contains(&"wall") || reasons.contains(&"95 %"), "{reasons:?}");
    assert!(photographs.iter().any(|event| event.body.contains("\"command\":\"sh -c")), "{photographs:?}");

    let folder = tempfile::tempdir().expect("a folder");
    node.collector.save(folder.path());
    let diagnose = Command::new(env!("CARGO_BIN_EXE_exit137"))
        .args(["diagnose", "--output", "json"])
        .arg(folder.path())
        .output()
        .expect("exit137 runs");
    let verdict: serde_json::Value = serde_json::from_slice(&diagnose.stdout).expect("JSON");
    // Main process and child may die by causes of their own.
    let incidents = verdict["incidents"].as_array().expect("incidents");
    let kills: Vec<_> =
        incidents.iter().flat_map(|incident| incident["kills"].as_array().expect("kills")).collect();
    assert_eq!(kills.len(), died, "{verdict:#}");
    for kill in kills {
        assert_eq!(kill["container_id"], container.id.as_str());
        assert_eq!(kill["limit_hit"], "container");
        assert_eq!(kill["limit_bytes"], 48 << 20);
    }
    assert_eq!(verdict["problems"], serde_json::json!([]));
}

#[test]
fn several_at_once_and_a_burst_of_forks_are_counted_where_they_died() {
    let mut node = Node::new();
    let containers: Vec<_> = (0..4).map(|_| node.container(16)).collect();
    let burst = node.container(24);
    node.start(&[]);
    let children: Vec<_> = (2..)
        .zip(&containers)
        .map(|(kills, container)| container.run(&format!("for i in $(seq {kills}); do {GROW}; done")))
        .collect();
    // Bounded: twelve at a time, all of which want everything.
    let forks = burst.run(&format!("for i in $(seq 12); do {GROW} & done; wait"));
    for mut child in children.into_iter().chain([forks]) {
        child.wait().expect("ended");
    }
    for container in containers.iter().chain([&burst]) {
        let counter = container.counter();
        assert!(counter >= 2, "the kernel killed {counter} processes");
        node.expect_kills(container, counter as usize);
    }
    node.stop_agent();
}

#[test]
fn a_kill_is_told_once_across_stops_and_kills_of_the_agent() {
    let mut node = Node::new();
    let (first, second) = (node.container(16), node.container(16));
    node.start(&[]);
    first.run(&format!("exec {GROW}")).wait().expect("ended");
    node.expect_kills(&first, 1);
    node.kill_agent();
    // Nobody is there.
    first.run(&format!("exec {GROW}")).wait().expect("ended");
    second.run(&format!("{GROW}; {GROW}")).wait().expect("ended");
    node.start(&[]);
    node.expect_kills(&first, 2);
    node.expect_kills(&second, 2);
    node.kill_agent();
    node.start(&[]);
    second.run(&format!("exec {GROW}")).wait().expect("ended");
    node.expect_kills(&second, 3);
    node.expect_kills(&first, 2);
    node.stop_agent();
}

#[test]
fn what_a_collector_does_not_take_waits_on_disk() {
    let mut node = Node::new();
    let container = node.container(16);
    node.collector.answer(503);
    node.start(&[]);
    container.run(&format!("exec {GROW}")).wait().expect("ended");
    let state = node.state.path().join("state");
    let waits = || {
        std::fs::read_dir(&state)
            .expect("the folder")
            .flatten()
            .any(|entry| entry.path().extension().is_some_and(|end| end == "logs"))
    };
    wait_for("a request on disk", waits);
    node.kill_agent();
    node.collector.answer(200);
    node.start(&[]);
    node.expect_kills(&container, 1);
    node.stop_agent();
}

/// What systemd-oomd does: a mark on the cgroup (cgroup v2 alone keeps such), SIGKILL to all in it; and the runtime removes it.
#[test]
fn kills_by_a_daemon_are_noticed_though_the_container_goes_at_once() {
    let mut node = Node::new();
    let container = node.container(64);
    node.start(&[]);
    let mut main = container.run("exec sleep 600");
    wait_for("the process", || !container.is_empty());
    let marked =
        rustix::fs::setxattr(&container.folder, "user.oomd_kill", b"2", rustix::fs::XattrFlags::empty());
    container.kill_all();
    main.wait().expect("ended");
    wait_for("the removal", || std::fs::remove_dir(&container.folder).is_ok());
    if marked.is_err() {
        // cgroup v1, for which there is no systemd-oomd either.
        node.stop_agent();
        assert!(!is_v2(), "{marked:?}");
        return;
    }
    wait_for("the record", || !node.collector.events("exit137.user_space_kill").is_empty());
    node.stop_agent();
    let events = node.collector.events("exit137.user_space_kill");
    assert_eq!(events.len(), 1, "{events:#?}");
    assert_eq!(events[0].attribute("container.id"), container.id);
    assert_eq!(events[0].attribute("exit137.user_space_kill.processes"), "2");
    assert_eq!(node.collector.events("exit137.oom_kill").len(), 0, "the kernel killed nothing");
}

/// A node's file system as a pod has it: mounted elsewhere.
#[test]
fn the_kubelets_files_name_the_container_and_its_journal_tells_what_was_in_flight() {
    let mut node = Node::new();
    let pod_uid = "6f0dc1b2-3a4e-4c6f-9f1a-0000000000bb";
    let pod = node.pod(pod_uid, 64);
    let container = node.container_in(&pod, 16);
    let host = tempfile::tempdir().expect("a folder");
    for name in ["sys", "proc"] {
        std::os::unix::fs::symlink(format!("/{name}"), host.path().join(name)).expect("a link");
    }
    let links = host.path().join("var/log/containers");
    std::fs::create_dir_all(&links).expect("folders");
    let target = format!("/var/log/pods/shop_api-0_{pod_uid}/api/3.log");
    std::os::unix::fs::symlink(target, links.join(format!("api-0_shop_api-{}.log", container.id)))
        .expect("a link");
    let volume =
        host.path().join(format!("var/lib/kubelet/pods/{pod_uid}/volumes/kubernetes.io~empty-dir/exit137"));
    std::fs::create_dir_all(&volume).expect("folders");
    node.start(&["--sysroot", &host.path().to_string_lossy()]);

    let fixture = include_bytes!("../journal/exit137.journal.gz");
    let mut journal = Vec::new();
    let mut packed = flate2::read::GzDecoder::new(&fixture[..]);
    std::io::Read::read_to_end(&mut packed, &mut journal).expect("gzip");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    // Its last sign of life, as `instrumentation/JOURNAL.md` places it.
    journal[80..88].copy_from_slice(&(now.as_nanos() as u64).to_le_bytes());
    std::fs::write(volume.join("exit137.journal"), journal).expect("written");
    container.run(&format!("exec {GROW}")).wait().expect("ended");
    let kill = node.expect_kills(&container, 1).remove(0);
    for (key, expected) in [
        ("k8s.namespace.name", "shop"),
        ("k8s.pod.name", "api-0"),
        ("k8s.container.name", "api"),
        ("k8s.container.restart_count", "3"),
    ] {
        assert_eq!(kill.attribute(key), expected);
    }
    assert!(kill.body.contains("of shop/api-0/api"), "{}", kill.body);
    wait_for("spans", || !node.collector.spans().is_empty());
    wait_for("the journal", || !node.collector.events("exit137.journal").is_empty());
    let journal = node.collector.events("exit137.journal").remove(0);
    assert_eq!(journal.attribute("k8s.pod.uid"), pod_uid);
    assert!(
        journal.body.contains("live on the heap; ") && journal.body.contains("\"heap\":[{"),
        "{}",
        journal.body
    );
    node.stop_agent();
}
