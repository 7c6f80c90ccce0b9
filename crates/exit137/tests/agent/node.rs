//! A node for one test: a cgroup of its own with pods and containers in it, and an agent that watches that cgroup alone.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::collector::{Collector, Event};

/// Everything here takes milliseconds; a machine that is busy with other builds takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// IDs are unique on a node, and all tests run on one.
static CONTAINERS: AtomicU32 = AtomicU32::new(0);

/// Whether the machine has cgroup v2 with the memory controller.
pub fn is_v2() -> bool {
    let controllers = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    controllers.split_whitespace().any(|name| name == "memory")
}

fn hierarchy() -> &'static Path {
    if is_v2() { Path::new("/sys/fs/cgroup") } else { Path::new("/sys/fs/cgroup/memory") }
}

/// Waits until `condition` holds.
#[track_caller]
pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A container: its cgroup, and the name that it has in metrics.
#[derive(Debug, Clone)]
pub struct Container {
    pub id: String,
    pub folder: PathBuf,
}

pub struct Node {
    pub state: tempfile::TempDir,
    pub collector: Collector,
    root: PathBuf,
    agent: Option<Child>,
    containers: Vec<Container>,
}

impl Node {
    /// Without an agent.
    pub fn new() -> Self {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let root = hierarchy().join(format!("exit137-agent-{}-{number}", std::process::id()));
        make(&root);
        // The tracepoint is found where systemd mounts it; without systemd nobody does.
        if !Path::new("/sys/kernel/tracing/instances").exists() {
            let _ = Command::new("mount").args(["-t", "tracefs", "nodev", "/sys/kernel/tracing"]).status();
        }
        let state = tempfile::tempdir().expect("a folder");
        Self { state, collector: Collector::start(), root, agent: None, containers: Vec::new() }
    }

    /// The path of the node's cgroup from the hierarchy's root.
    pub fn cgroup_root(&self) -> String {
        format!("/{}", self.root.file_name().expect("a name").to_string_lossy())
    }

    /// The command that starts the agent.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_exit137"));
        command.arg("agent").args(["--endpoint", &self.collector.endpoint]);
        command.args([
            "--cgroup-root",
            &self.cgroup_root(),
            "--node-name",
            "node-1",
            "--export-interval",
            "1s",
        ]);
        command.arg("--state-dir").arg(self.state.path().join("state")).args(arguments);
        command
    }

    pub fn start(&mut self, arguments: &[&str]) {
        let agent = self.command(arguments).stderr(Stdio::piped()).spawn().expect("the agent starts");
        self.agent = Some(agent);
        // What it has found is stored right after the start.
        let state = self.state.path().join("state/state");
        wait_for("the agent's start", || state.exists());
    }

    /// Like the OOM killer would. What is on its way is left to arrive, or it could rightly be sent again.
    pub fn kill_agent(&mut self) {
        let state = self.state.path().join("state");
        let waiting = || {
            let entries = std::fs::read_dir(&state).expect("the folder").flatten();
            entries.filter(|entry| entry.path().extension().is_some_and(|end| end == "logs")).count()
        };
        if self.collector.takes() {
            wait_for("delivery", || waiting() == 0);
        }
        let mut agent = self.agent.take().expect("an agent runs");
        agent.kill().expect("killed");
        agent.wait().expect("ended");
    }

    /// Politely; what it said.
    pub fn stop_agent(&mut self) -> String {
        let mut agent = self.agent.take().expect("an agent runs");
        let status = Command::new("kill").args(["-TERM", &agent.id().to_string()]).status();
        assert!(status.expect("kill runs").success());
        let mut said = String::new();
        agent.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
        let status = agent.wait().expect("ended");
        assert!(status.success(), "{status}: {said}");
        said
    }

    /// A container of a pod of its own.
    pub fn container(&mut self, limit_mib: u64) -> Container {
        let number = CONTAINERS.fetch_add(1, Ordering::Relaxed);
        let pod_uid = format!("6f0dc1b2-3a4e-4c6f-9f1a-{:08x}{number:04x}", std::process::id());
        let pod = self.root.join(format!("kubepods/burstable/pod{pod_uid}"));
        self.container_in(&pod, limit_mib)
    }

    pub fn container_in(&mut self, pod: &Path, limit_mib: u64) -> Container {
        let number = CONTAINERS.fetch_add(1, Ordering::Relaxed);
        let id = format!("{:056x}{number:08x}", std::process::id());
        let folder = pod.join(&id);
        make(&folder);
        limit(&folder, limit_mib << 20);
        let container = Container { id, folder };
        self.containers.push(container.clone());
        container
    }

    /// The folder of a new pod with a limit of its own.
    pub fn pod(&self, pod_uid: &str, limit_mib: u64) -> PathBuf {
        let pod = self.root.join(format!("kubepods/burstable/pod{pod_uid}"));
        make(&pod);
        limit(&pod, limit_mib << 20);
        pod
    }

    /// Kills of a container that were received, each once.
    #[track_caller]
    pub fn kills(&self, container: &Container) -> Vec<Event> {
        let mut kills = self.collector.events("exit137.oom_kill");
        kills.retain(|kill| kill.attributes.get("container.id") == Some(&container.id));
        let ids: std::collections::BTreeSet<_> =
            kills.iter().map(|kill| kill.attribute("exit137.kill.id")).collect();
        assert_eq!(ids.len(), kills.len(), "a kill was told twice");
        kills
    }

    /// Waits for as many kills of a container, and a while for more that must not come.
    #[track_caller]
    pub fn expect_kills(&self, container: &Container, expected: usize) -> Vec<Event> {
        wait_for("kills", || self.kills(container).len() >= expected);
        let kills = self.kills(container);
        assert_eq!(kills.len(), expected, "{kills:#?}");
        kills
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            let _ = agent.kill();
            let _ = agent.wait();
        }
        for container in &self.containers {
            container.kill_all();
        }
        let mut folders = vec![self.root.clone()];
        let mut at = 0;
        while at < folders.len() {
            if let Ok(entries) = std::fs::read_dir(&folders[at]) {
                let below =
                    entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
                folders.extend(below.map(|entry| entry.path()).collect::<Vec<_>>());
            }
            at += 1;
        }
        for folder in folders.iter().rev() {
            // A process that was just killed still counts for a moment.
            for _ in 0..100 {
                if std::fs::remove_dir(folder).is_ok() || !folder.exists() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

impl Container {
    /// Runs a line of shell in the container; it ends with the container's main process.
    pub fn run(&self, line: &str) -> Child {
        let procs = self.folder.join("cgroup.procs");
        let script = format!("echo $$ > {} && {line}", procs.display());
        let mut command = Command::new("sh");
        command.args(["-c", &script]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().expect("sh starts")
    }

    /// Whether the last process is gone.
    pub fn is_empty(&self) -> bool {
        std::fs::read_to_string(self.folder.join("cgroup.procs")).is_ok_and(|pids| pids.is_empty())
    }

    /// The kernel's own count.
    pub fn counter(&self) -> u64 {
        let files = ["memory.events", "memory.oom_control"]
            .map(|name| std::fs::read_to_string(self.folder.join(name)));
        let text = files.into_iter().flatten().next().expect("a file with counters");
        let line = text.lines().find_map(|line| line.strip_prefix("oom_kill ")).expect("a counter");
        line.parse().expect("a number")
    }

    pub fn kill_all(&self) {
        let pids = std::fs::read_to_string(self.folder.join("cgroup.procs")).unwrap_or_default();
        for pid in pids.lines() {
            let _ = Command::new("kill").args(["-KILL", pid]).stderr(Stdio::null()).status();
        }
    }
}

fn make(folder: &Path) {
    let mut path = hierarchy().to_owned();
    for part in folder.strip_prefix(hierarchy()).expect("below the hierarchy") {
        if is_v2() {
            let _ = std::fs::write(path.join("cgroup.subtree_control"), "+memory");
        }
        path.push(part);
        if !path.exists() {
            std::fs::create_dir(&path)
                .unwrap_or_else(|error| panic!("{}: {error}: run as root", path.display()));
        }
    }
}

fn limit(folder: &Path, bytes: u64) {
    let name = if is_v2() { "memory.max" } else { "memory.limit_in_bytes" };
    std::fs::write(folder.join(name), bytes.to_string()).expect("the limit is set");
}
