//! End to end: a real service with the stock OpenTelemetry distribution, in a real memory cgroup, really killed by the
//! kernel; its verdict is read from the server's API.

use std::fs;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use exit137_core::time::UnixNanos;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::fake_api::FakeApi;
use crate::server::{PATIENCE, Server, request};

const PACKAGES: &[&str] = &[
    "flask==3.1.3",
    "opentelemetry-distro==0.66b1",
    "opentelemetry-exporter-otlp-proto-http==1.45.1",
    "opentelemetry-instrumentation-flask==0.66b1",
    "opentelemetry-instrumentation-system-metrics==0.66b1",
];

const LIMIT_BYTES: u64 = 176 << 20;
const POD_UID: &str = "5d0f3c52-3a6e-4c8e-9a63-1f3b8e0c77aa";
pub(crate) const POD: &str = "cart-7d9c-x2x2x";
const CONTAINER_ID: &str = "c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00";

fn python() -> PathBuf {
    environment("python-serve-1", PACKAGES)
}

/// A virtual environment with these packages, made once a machine; its programs.
pub(crate) fn environment(name: &str, packages: &[&str]) -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || PathBuf::from(std::env::var_os("HOME").expect("a home")).join(".cache");
    let folder = cache.unwrap_or_else(home).join("exit137").join(name);
    let ready = folder.join("ready");
    if !ready.exists() {
        let run = |command: &mut Command| {
            let output = command.output().expect("python3 runs");
            assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        };
        run(Command::new("python3").args(["-m", "venv"]).arg(&folder));
        run(Command::new(folder.join("bin/pip"))
            .args(["install", "--quiet", "--disable-pip-version-check"])
            .args(packages));
        fs::write(ready, "").expect("written");
    }
    folder.join("bin")
}

/// A memory cgroup like a container's; removed when it goes out of scope.
struct Cgroup(Vec<PathBuf>);

impl Cgroup {
    fn new() -> Self {
        let root = Path::new("/sys/fs/cgroup/memory");
        assert!(
            root.join("memory.limit_in_bytes").exists(),
            "expected the memory hierarchy of cgroup v1 at {root:?}"
        );
        let name = format!("exit137-serve-{}", std::process::id());
        let top = root.join(name);
        let pod = top.join(format!("pod{POD_UID}"));
        let container = pod.join(CONTAINER_ID);
        fs::create_dir_all(&container).expect("root may make cgroups");
        fs::write(container.join("memory.limit_in_bytes"), LIMIT_BYTES.to_string()).expect("a limit");
        // Where swap is accounted, it must not be the way out.
        let _ = fs::write(container.join("memory.memsw.limit_in_bytes"), LIMIT_BYTES.to_string());
        Self(vec![container, pod, top])
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for _ in 0..50 {
            if self.0.iter().map(fs::remove_dir).all(|removed| removed.is_ok()) || !self.0[2].exists() {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// The service, killed when it goes out of scope.
struct Service {
    child: Child,
    address: String,
}

impl Service {
    /// In its container, and outside of it once before: then its code is in memory and charged to nobody. At its limit a
    /// program that has to read its own code from the disk again and again may hang for minutes before the kernel kills.
    fn start(cgroup: &Cgroup, server: &Server) -> Self {
        drop(Self::start_in("/dev/null", "127.0.0.1:9"));
        let procs = cgroup.0[0].join("cgroup.procs");
        Self::start_in(&procs.to_string_lossy(), &server.otlp_http)
    }

    fn start_in(procs: &str, otlp_http: &str) -> Self {
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
        let bin = python();
        let attributes = format!(
            "service.name=cart,service.version=2.3.1,k8s.namespace.name=shop,k8s.deployment.name=cart,\
             k8s.pod.name={POD},k8s.pod.uid={POD_UID},k8s.container.name=cart,container.id={CONTAINER_ID}"
        );
        let script = format!("echo $$ > {procs} && exec \"$@\"");
        let child = Command::new("sh")
            .args(["-c", &script, "sh"])
            .arg(bin.join("opentelemetry-instrument"))
            .arg(bin.join("python"))
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/serve/app.py"))
            .arg(port.to_string())
            .env("OTEL_RESOURCE_ATTRIBUTES", attributes)
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{otlp_http}"))
            .env("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
            .env("OTEL_TRACES_EXPORTER", "otlp")
            .env("OTEL_METRICS_EXPORTER", "otlp")
            .env("OTEL_LOGS_EXPORTER", "none")
            .env("OTEL_METRIC_EXPORT_INTERVAL", "1000")
            .env("OTEL_BSP_SCHEDULE_DELAY", "1000")
            .process_group(0)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the service starts");
        let mut service = Self { child, address: format!("127.0.0.1:{port}") };
        let began = Instant::now();
        while service.ask("/health").is_none() {
            assert!(began.elapsed() < PATIENCE, "the service does not answer");
            assert!(service.is_alive(), "the service ended while starting");
            std::thread::sleep(Duration::from_millis(100));
        }
        service
    }

    fn is_alive(&mut self) -> bool {
        self.child.try_wait().expect("a state").is_none()
    }

    /// `None` when nobody answers any more.
    fn ask(&self, path: &str) -> Option<u16> {
        std::net::TcpStream::connect(&self.address).ok()?;
        std::panic::catch_unwind(|| request(&self.address, "GET", path, "", b"").status).ok()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The pod as the API shows it: running, or restarted after its container was killed.
fn pod(killed: bool) -> Value {
    let seconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock").as_secs_f64();
    let now = UnixNanos::from_seconds(seconds).to_string()[..19].to_owned() + "Z";
    let id = if killed { CONTAINER_ID.replace("c0ffee", "bee5ee") } else { CONTAINER_ID.to_owned() };
    let mut status = json!({"containerID": format!("containerd://{id}"), "name": "cart",
        "image": "registry.example/shop/cart:2.3.1", "ready": true, "restartCount": i32::from(killed),
        "state": {"running": {"startedAt": now}}});
    if killed {
        status["lastState"] = json!({"terminated": {"containerID": format!("containerd://{CONTAINER_ID}"),
            "exitCode": 137, "reason": "OOMKilled", "finishedAt": now}});
    }
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": POD, "namespace": "shop", "uid": POD_UID, "labels": {"pod-template-hash": "7d9c"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "cart-7d9c", "uid": "r-1",
                "controller": true}]},
        "spec": {"nodeName": "node-1", "containers": [{"name": "cart", "image": "registry.example/shop/cart:2.3.1",
            "resources": {"limits": {"memory": LIMIT_BYTES.to_string()}}}]},
        "status": {"phase": "Running", "containerStatuses": [status]}})
}

/// A cluster with this pod, and a server that watches it.
pub(crate) fn watched(folder: &Path, pod: Value, arguments: &[&str]) -> (Runtime, FakeApi, Server) {
    let runtime = Runtime::new().expect("threads");
    let api = runtime.block_on(FakeApi::start());
    api.publish("pods", "ADDED", pod);
    let kubeconfig = folder.join("kubeconfig");
    api.write_kubeconfig(&kubeconfig, "secret");
    let all = [&["--kubeconfig", kubeconfig.to_str().expect("UTF-8")], arguments].concat();
    let server = Server::start(&folder.join("data"), &all);
    (runtime, api, server)
}

#[test]
fn a_kill_that_nobody_watched_is_found_at_the_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_runtime, _api, server) = watched(folder.path(), pod(true), &[]);
    let ours = |incident: &Value| (incident["pod"] == POD).then(|| incident.clone());
    let summary = server.wait_for("incident of the pod", ours);
    let workload = (&summary["workload"], &summary["workload_kind"]);
    assert_eq!(workload, (&json!("cart"), &json!("Deployment")), "{summary:#}");
    assert_eq!(summary["version"], "2.3.1");
}

#[test]
fn a_real_kill_is_explained_within_seconds() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_runtime, api, server) = watched(folder.path(), pod(false), &["--kernel-log", "/dev/kmsg"]);
    let cgroup = Cgroup::new();
    let mut service = Service::start(&cgroup, &server);
    // A steady mix: what leaks is called less often than what does not.
    let mut number = 0;
    let began = Instant::now();
    while service.is_alive() {
        number += 1;
        let path = if number % 3 == 0 { "/search".to_owned() } else { format!("/items/{number}") };
        let _ = service.ask(&path);
        std::thread::sleep(Duration::from_millis(80));
        assert!(began.elapsed() < 3 * PATIENCE, "the kernel did not kill it after {number} requests");
    }
    let killed = Instant::now();
    api.publish("pods", "MODIFIED", pod(true));
    let is_ours = |incident: &Value| incident["pod"] == POD;
    server.wait_for("incident of the killed container", |incident| is_ours(incident).then_some(()));
    let first = killed.elapsed();
    let summary = server.wait_for("leak of GET /search", |incident| {
        let right = is_ours(incident)
            && incident["cause"]["name"] == "leak"
            && incident["operations"] == json!(["GET /search"]);
        right.then(|| incident.clone())
    });
    eprintln!("first verdict {first:.1?} after the kill, the right one after {:.1?}", killed.elapsed());
    assert_eq!(summary["kill_count"], 1, "{summary:#}");
    assert_eq!(
        (&summary["namespace"], &summary["workload"]),
        (&"shop".into(), &"cart".into()),
        "{summary:#}"
    );
    let id = summary["id"].as_str().expect("a name");
    let verdict = server.json(&format!("/api/v1/incidents/{id}/verdict"));
    let kill = &verdict["incidents"][0]["kills"][0];
    assert_eq!(kill["limit_bytes"], LIMIT_BYTES, "{kill:#}");
    assert_eq!(kill["container_id"], CONTAINER_ID);
    // The API and the kernel saw the same kill.
    let both = server.wait_for("kill seen by both", |incident| {
        let id = incident["id"].as_str().filter(|_| is_ours(incident))?;
        let verdict = server.json(&format!("/api/v1/incidents/{id}/verdict"));
        let seen = verdict["incidents"][0]["kills"][0]["seen_by"].clone();
        (seen == json!(["kernel", "kubernetes"])).then_some(incident["kill_count"].clone())
    });
    assert_eq!(both, 1);
}
