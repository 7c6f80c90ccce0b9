//! What becomes of an incident: a server that ends in the middle, a rollout that ends the series, a pod that is gone.

use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use exit137_core::time::UnixNanos;
use serde_json::{Value, json};

use crate::kill::watched;
use crate::server::Server;
use crate::{append, case, is_the_leak, played, read, replay};

const HOUR: f64 = 3600.0;

fn seconds_now() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock").as_secs_f64()
}

fn time(seconds: f64) -> String {
    UnixNanos::from_seconds(seconds).to_string()[..19].to_owned() + "Z"
}

#[test]
fn a_verdict_that_was_not_settled_is_settled_by_the_next_server() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, log) = (folder.path().join("data"), folder.path().join("kernel.log"));
    let config = folder.path().join("exit137.toml");
    append(&log, b"");
    // Everything of a case happened long ago; so long, something late may come.
    std::fs::write(&config, "[verdict]\nsettle = \"5000d\"\n").expect("written");
    let follow = ["--no-kubernetes", "--kernel-log", log.to_str().expect("UTF-8")];
    let patient = [&follow[..], &["--config", config.to_str().expect("UTF-8")]].concat();
    let mut server = Server::start(&data, &patient);
    replay(&server, &case("shop-catalog-leak"), "metrics");
    replay(&server, &case("shop-catalog-leak"), "traces");
    append(&log, &read(&case("shop-catalog-leak").join("kernel/kmsg.log")));
    let open = server.wait_for("leak of GET /search", is_the_leak);
    assert_eq!(open["settled"], false, "{open:#}");
    let id = open["id"].as_str().expect("a name");
    let page = server.get(&format!("/incidents/{id}")).text();
    assert!(page.contains("http-equiv=\"refresh\""), "{page}");
    let still = server.get(&format!("/incidents/{id}?refresh=off")).text();
    assert!(!still.contains("http-equiv") && still.contains("still being judged"), "{still}");
    server.kill();
    let server = Server::start(&data, &follow);
    let settled =
        server.wait_for("settled verdict", |found| (found["settled"] == true).then(|| found.clone()));
    assert_eq!(
        (&settled["id"], &settled["operations"], &settled["kill_count"]),
        (&open["id"], &open["operations"], &open["kill_count"])
    );
    assert!(!server.get(&format!("/incidents/{id}")).text().contains("http-equiv"));
}

/// The kernel's lines of the case as a collector sends them: a log record each.
fn kernel_lines() -> Vec<u8> {
    let report = String::from_utf8(read(&case("shop-catalog-leak").join("kernel/kmsg.log"))).expect("UTF-8");
    let record = |line: &str| {
        let (at, text) = line.split_once(' ').unwrap_or((line, ""));
        let at: jiff::Timestamp = at.replace(',', ".").parse().expect("a time");
        json!({"timeUnixNano": at.as_nanosecond().to_string(), "body": {"stringValue": text}})
    };
    let records: Vec<Value> = report.lines().map(record).collect();
    let node = json!({"key": "k8s.node.name", "value": {"stringValue": "node-1"}});
    let body = json!({"resourceLogs": [{"resource": {"attributes": [node]},
        "scopeLogs": [{"logRecords": records}]}]});
    body.to_string().into_bytes()
}

#[test]
fn a_kill_that_was_acknowledged_and_not_judged_is_judged_by_the_next_server() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let mut server = Server::start(&data, &["--no-kubernetes"]);
    replay(&server, &case("shop-catalog-leak"), "metrics");
    replay(&server, &case("shop-catalog-leak"), "traces");
    server.send("logs", &kernel_lines());
    server.kill();
    let server = Server::start(&data, &["--no-kubernetes"]);
    let found = server.wait_for("leak of GET /search", is_the_leak);
    assert_eq!(found["kill_count"], 2, "{found:#}");
}

/// Makes the incidents in a data folder look as if this version of the program had judged them.
fn judged_by(data: &Path, version: &str) {
    let script = "import json,sqlite3,sys\n\
        db = sqlite3.connect(sys.argv[1] + '/exit137.sqlite')\n\
        for key, text in db.execute('SELECT key, summary FROM incident').fetchall():\n\
        \x20   summary = json.loads(text) | {'judged_by': sys.argv[2], 'cause': 'unknown'}\n\
        \x20   db.execute('UPDATE incident SET summary = ? WHERE key = ?', (json.dumps(summary), key))\n\
        db.commit()\n";
    let status = Command::new("python3").args(["-c", script]).arg(data).arg(version).status();
    assert!(status.expect("python3 runs").success());
}

#[test]
fn a_newer_program_judges_again_what_an_older_one_judged() {
    let folder = tempfile::tempdir().expect("a folder");
    let (server, first) = played(folder.path(), "shop-catalog-leak");
    let settled = server.wait_for("settled verdict", |found| {
        (found["id"] == first["id"] && found["settled"] == true).then(|| found.clone())
    });
    assert_eq!(server.end(), Some(0));
    let data = folder.path().join("data");
    judged_by(&data, "0.0.1");
    // As far back as everything is kept, which for this case is long.
    let config = folder.path().join("exit137.toml");
    std::fs::write(&config, "[keep]\nspans = \"5000d\"\nmetrics = \"5000d\"\n").expect("written");
    let server = Server::start(&data, &["--no-kubernetes", "--config", config.to_str().expect("UTF-8")]);
    let renewed = server.wait_for("verdict made again", is_the_leak);
    assert_eq!(
        (&renewed["id"], &renewed["kill_count"], &renewed["settled"]),
        (&settled["id"], &settled["kill_count"], &json!(true))
    );
    assert_eq!(renewed["revision"], settled["revision"].as_u64().expect("a number") + 1);
    assert_eq!(server.end(), Some(0));

    // What this program has judged, it leaves alone.
    let server = Server::start(&data, &["--no-kubernetes", "--config", config.to_str().expect("UTF-8")]);
    let again = server.wait_for("the same", is_the_leak);
    assert_eq!(again["revision"], renewed["revision"]);
}

/// A pod of the cart, with its last end if it was killed.
fn pod(name: &str, version: &str, started: f64, killed: Option<f64>) -> Value {
    let image = format!("registry.example/shop/cart:{version}");
    let mut status = json!({"containerID": format!("containerd://{:0>64}", name.len()), "name": "cart",
        "image": image, "ready": true, "restartCount": i32::from(killed.is_some()),
        "state": {"running": {"startedAt": time(killed.unwrap_or(started) + 1.0)}}});
    if let Some(killed) = killed {
        status["lastState"] = json!({"terminated": {"containerID": format!("containerd://{}", "c0".repeat(32)),
            "exitCode": 137, "reason": "OOMKilled", "startedAt": time(started), "finishedAt": time(killed)}});
    }
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-of-{name}"),
            "labels": {"pod-template-hash": "7d9c"}, "creationTimestamp": time(started),
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "cart-7d9c", "uid": "r-1",
                "controller": true}]},
        "spec": {"nodeName": "node-1", "containers": [{"name": "cart", "image": image,
            "resources": {"limits": {"memory": "200Mi"}}}]},
        "status": {"phase": "Running", "containerStatuses": [status]}})
}

/// A value of memory every 20 s.
fn memory(name: &str, version: &str, from: f64, to: f64, bytes: impl Fn(f64) -> f64) -> Vec<u8> {
    let steps = ((to - from) / 20.0) as u32;
    let points: Vec<Value> = (0..steps)
        .map(|step| {
            let at = from + f64::from(step) * 20.0;
            let value = bytes(at - from) as u64;
            json!({"timeUnixNano": format!("{}", (at * 1e9) as u64), "asInt": value.to_string()})
        })
        .collect();
    let attributes = [
        ("service.name", "cart"),
        ("service.version", version),
        ("k8s.namespace.name", "shop"),
        ("k8s.deployment.name", "cart"),
        ("k8s.pod.name", name),
        ("k8s.pod.uid", &format!("uid-of-{name}")),
        ("k8s.container.name", "cart"),
    ]
    .map(|(key, value)| json!({"key": key, "value": {"stringValue": value}}));
    let body = json!({"resourceMetrics": [{"resource": {"attributes": attributes}, "scopeMetrics": [{"metrics": [
        {"name": "container.memory.working_set", "unit": "By", "gauge": {"dataPoints": points}}]}]}]});
    body.to_string().into_bytes()
}

#[test]
fn a_rollout_that_ends_the_kills_is_noted() {
    let folder = tempfile::tempdir().expect("a folder");
    let now = seconds_now();
    let killed = now - 2.0 * HOUR;
    let (_runtime, api, server) =
        watched(folder.path(), pod("cart-old", "1.4.2", killed - HOUR, Some(killed)), &[]);
    server.send("metrics", &memory("cart-old", "1.4.2", killed - HOUR, killed, |s| 5e7 + s * 4e4));
    let before = server.wait_for("incident of the cart", |found| {
        (found["workload"] == "cart" && found["settled"] == true).then(|| found.clone())
    });
    assert_eq!((&before["version"], &before["ended_with"]), (&json!("1.4.2"), &Value::Null));
    api.publish("pods", "ADDED", pod("cart-new", "1.4.3", killed + 60.0, None));
    server.send("metrics", &memory("cart-new", "1.4.3", killed + 60.0, now, |_| 6e7));
    assert_eq!(server.end(), Some(0));

    // The next server looks over the incidents at once; a running one does so every minute.
    let kubeconfig = folder.path().join("kubeconfig");
    let server =
        Server::start(&folder.path().join("data"), &["--kubeconfig", kubeconfig.to_str().expect("UTF-8")]);
    let ended = server.wait_for("end of the series", |found| {
        (found["id"] == before["id"] && found["ended_with"] == "1.4.3").then(|| found.clone())
    });
    assert_eq!(ended["kill_count"], before["kill_count"]);
    assert!(server.get("/?state=ended").text().contains("no kill since 1.4.3"));
    assert!(server.get("/?state=open").text().contains("No incident matches"));
    let id = before["id"].as_str().expect("a name");
    assert!(server.get(&format!("/incidents/{id}")).text().contains("no kill since 1.4.3"));
}
