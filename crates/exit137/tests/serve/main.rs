//! `exit137 serve` from the outside: telemetry in over sockets, verdicts out of pages and API.

mod api;
mod clock;
#[path = "../support/fake_api/mod.rs"]
mod fake_api;
mod hostile;
mod in_cluster;
mod kill;
mod kill_nine;
mod life;
mod memory;
mod senders;
mod server;
mod survives;
mod tls;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use server::{Server, request};

fn case(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../cases").join(name)
}

fn read(path: &Path) -> Vec<u8> {
    let bytes = std::fs::read(path).expect("the file of a case");
    match path.extension().is_some_and(|ending| ending == "zst") {
        true => zstd::decode_all(&bytes[..]).expect("zstd"),
        false => bytes,
    }
}

/// Sends everything that a case recorded of one signal, a document a line.
fn replay(server: &Server, case: &Path, signal: &str) {
    let lines = read(&case.join(format!("otlp/{signal}.jsonl.zst")));
    for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        server.send(signal, line);
    }
}

fn append(path: &Path, bytes: &[u8]) {
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path).expect("opened");
    file.write_all(bytes).expect("written");
}

/// A server to which a case was played: its telemetry over HTTP, its kernel log through a file that grows.
fn played(folder: &Path, name: &str) -> (Server, Value) {
    let log = folder.join("kernel.log");
    append(&log, b"");
    let arguments = ["--no-kubernetes", "--kernel-log", log.to_str().expect("UTF-8")];
    let server = Server::start(&folder.join("data"), &arguments);
    replay(&server, &case(name), "metrics");
    replay(&server, &case(name), "traces");
    append(&log, &read(&case(name).join("kernel/kmsg.log")));
    let summary = server.wait_for("leak of GET /search", is_the_leak);
    (server, summary)
}

fn is_the_leak(incident: &Value) -> Option<Value> {
    let is_right = incident["cause"]["name"] == "leak" && incident["operations"][0] == "GET /search";
    is_right.then(|| incident.clone())
}

#[test]
fn a_kill_in_the_kernel_log_is_explained_from_what_was_sent() {
    let folder = tempfile::tempdir().expect("a folder");
    let (server, summary) = played(folder.path(), "shop-catalog-leak");
    let id = summary["id"].as_str().expect("a name").to_owned();
    check_against_openapi(&server, &id);
    check_pages(&server, &id);
    check_examples(&server, &id);
    let url = format!("http://{}", server.pages);
    check_capture(&server, &id, &["--server", &url], &folder.path().join("captured"));

    let anew = server.post(&format!("/api/v1/incidents/{id}/recompute"));
    let anew: Value = serde_json::from_slice(&anew.body).expect("JSON");
    assert_eq!(
        (&anew["id"], &anew["cause"]["name"]),
        (&summary["id"], &summary["cause"]["name"]),
        "{anew:#}"
    );

    let captured = folder.path().join("captured-from-the-folder");
    let data = folder.path().join("data");
    let from_folder = ["--data-dir", data.to_str().expect("UTF-8")];
    let refused = capture(&id, &from_folder, &captured);
    assert_eq!(refused.status.code(), Some(2));
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(why.contains("already in use by process") && why.contains("--server"), "{why}");
    let served = server.json(&format!("/api/v1/incidents/{id}/verdict"));
    assert_eq!(server.end(), Some(0));
    assert!(capture(&id, &from_folder, &captured).status.success());
    compare(&diagnosed(&captured), &served);

    let server = Server::start(&data, &["--no-kubernetes"]);
    let again = server.json(&format!("/api/v1/incidents/{id}"));
    assert_eq!(again["operations"], summary["operations"]);
    assert_eq!(again["verdict"]["incidents"][0]["cause"]["name"], "leak");
}

/// Every answer is what `docs/openapi.json` says that it is.
fn check_against_openapi(server: &Server, id: &str) {
    let document = server.json("/api/v1/openapi.json");
    let answer = |path: &str, status: &str, value: &Value| {
        let operation = &document["paths"][path]["get"];
        let schema = &operation["responses"][status]["content"]["application/json"]["schema"];
        assert!(schema.is_object(), "{path} {status} is not described");
        let whole = serde_json::json!({ "components": document["components"], "allOf": [schema] });
        let validator = jsonschema::validator_for(&whole).expect("a schema");
        let errors: Vec<String> = validator.iter_errors(value).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{path}: {errors:#?}\n{value:#}");
    };
    for path in ["/incidents", "/containers", "/leaks", "/recorder", "/openapi.json"] {
        answer(path, "200", &server.json(&format!("/api/v1{path}")));
    }
    for suffix in ["", "/verdict", "/series"] {
        answer(
            &format!("/incidents/{{id}}{suffix}"),
            "200",
            &server.json(&format!("/api/v1/incidents/{id}{suffix}")),
        );
    }
    for (path, described, status) in
        [("/incidents?sort=colour", "/incidents", 400), ("/incidents/none", "/incidents/{id}", 404)]
    {
        let found = server.get(&format!("/api/v1{path}"));
        assert_eq!(found.status, status, "{path}");
        answer(described, &status.to_string(), &serde_json::from_slice(&found.body).expect("JSON"));
    }
    let described: std::collections::BTreeSet<&String> =
        document["paths"].as_object().expect("paths").keys().collect();
    assert_eq!(described.len(), 10, "{described:?}");
    let verdict = server.json(&format!("/api/v1/incidents/{id}/verdict"));
    let schema = include_str!("../../../../docs/verdict.schema.json");
    let schema: Value = serde_json::from_str(schema).expect("JSON");
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    let errors: Vec<String> = validator.iter_errors(&verdict).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{errors:#?}");
}

/// What the guide says to type works.
fn check_examples(server: &Server, id: &str) {
    let guide = include_str!("../../../../docs/serve.md");
    let examples: Vec<&str> = guide
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("curl") && line.contains("$api"))
        .collect();
    assert!(examples.len() >= 12, "{examples:#?}");
    for example in examples {
        let path =
            example.split("\"$api").nth(1).and_then(|rest| rest.strip_suffix('"')).expect("an address");
        let path = format!("/api/v1{}", path.replace("$id", id));
        let answer = if example.contains("-X POST") { server.post(&path) } else { server.get(&path) };
        assert_eq!(answer.status, 200, "{example}: {}", answer.text());
    }
}

/// Pages show what the API tells, without a script, and load nothing from elsewhere.
fn check_pages(server: &Server, id: &str) {
    for (path, expected) in [
        ("/".to_owned(), "GET /search"),
        ("/?q=search&cause=leak".to_owned(), "GET /search"),
        ("/?q=nothing-like-it".to_owned(), "No incident matches"),
        ("/?sort=colour".to_owned(), "role=\"alert\""),
        (format!("/incidents/{id}"), "Which operation"),
        ("/next".to_owned(), "Who is next"),
        ("/recorder".to_owned(), "What is kept"),
    ] {
        let page = server.get(&path);
        assert_eq!(page.status, 200, "{path}");
        let text = page.text();
        assert!(text.contains(expected), "{path} lacks {expected}:\n{text}");
        assert!(!text.contains("<script") && !text.contains("style="), "{path}:\n{text}");
        let policy = "content-security-policy: default-src 'none'; style-src 'self';";
        assert!(page.head.contains(policy), "{}", page.head);
    }
    assert_eq!(server.get("/incidents/none").status, 404);
    assert_eq!(server.get("/style.css").status, 200);
    assert!(server.get("/metrics").text().contains("exit137_otlp_records_total{signal=\"traces\"}"));
    assert_eq!((server.get("/healthz").status, server.get("/readyz").status), (200, 200));
    let elsewhere = request(&server.pages, "GET", "/", "Host: evil.example\r\n", b"");
    assert_eq!(elsewhere.status, 421);
}

fn capture(id: &str, from: &[&str], folder: &Path) -> std::process::Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_exit137"));
    command.args(["capture", id, "-o"]).arg(folder).args(from).output().expect("the program runs")
}

fn diagnosed(folder: &Path) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_exit137"));
    let output = command.args(["diagnose", "-o", "json"]).arg(folder).output().expect("the program runs");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Diagnosing what was captured gives the verdict that was captured.
fn check_capture(server: &Server, id: &str, from: &[&str], folder: &Path) {
    let output = capture(id, from, folder);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    compare(&diagnosed(folder), &server.json(&format!("/api/v1/incidents/{id}/verdict")));
}

fn compare(diagnosed: &Value, served: &Value) {
    for part in ["cause", "headline", "operations", "opinions", "kills", "in_flight", "advice", "timeline"] {
        let strip = |verdict: &Value| {
            let mut part = verdict["incidents"][0][part].clone();
            // The name of the file is the only thing that differs, and what was taken out by rule.
            part.as_array_mut().into_iter().flatten().for_each(|one| {
                if let Some(fields) = one.as_object_mut() {
                    fields.remove("record");
                    fields.remove("attributes");
                }
            });
            part
        };
        assert_eq!(strip(diagnosed), strip(served), "{part}");
    }
}

#[test]
fn a_second_server_is_refused_and_says_why() {
    let folder = tempfile::tempdir().expect("a folder");
    let _first = Server::start(folder.path(), &["--no-kubernetes"]);
    let second = Command::new(env!("CARGO_BIN_EXE_exit137"))
        .args([
            "serve",
            "--no-kubernetes",
            "--listen",
            "off",
            "--otlp-http",
            "off",
            "--otlp-grpc",
            "off",
            "--data-dir",
        ])
        .arg(folder.path())
        .output()
        .expect("the program runs");
    assert_eq!(second.status.code(), Some(2));
    let text = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(text.contains("already in use by process"), "{text}");
}

#[test]
fn settings_that_are_wrong_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("exit137.toml");
    for (content, expected) in [
        (
            "disk_bugdet = \"1GiB\"\n",
            "exit137.toml:1: unknown key \"disk_bugdet\"; did you mean \"disk_budget\"?",
        ),
        (
            "\nlisten = \"shop\"\n",
            "exit137.toml:2: expected an address like 127.0.0.1:1370 or [::]:1370, or \"off\", found \"shop\"",
        ),
    ] {
        std::fs::write(&path, content).expect("written");
        let output = Command::new(env!("CARGO_BIN_EXE_exit137"))
            .args(["serve", "--print-config", "--config"])
            .arg(&path)
            .output()
            .expect("the program runs");
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&output.stderr).contains(expected), "{output:?}");
    }
    std::fs::write(&path, "disk_budget = \"1GiB\"\nlisten = \"off\"\n").expect("written");
    let output = Command::new(env!("CARGO_BIN_EXE_exit137"))
        .args(["serve", "--print-config", "--disk-budget", "3GiB", "--config"])
        .arg(&path)
        .env("EXIT137_DISK_BUDGET", "2GiB")
        .env("EXIT137_MEMORY_BUDGET", "100MiB")
        .output()
        .expect("the program runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for line in ["disk_budget = \"3GiB\"", "memory_budget = \"100MiB\"", "listen = \"off\""] {
        assert!(text.contains(line), "{text}");
    }
}

#[test]
fn a_token_opens_the_pages_and_nothing_else_does() {
    let folder = tempfile::tempdir().expect("a folder");
    let tokens = folder.path().join("tokens");
    std::fs::write(&tokens, "# for the team\ns3cret-token\n").expect("written");
    let arguments = ["--no-kubernetes", "--tokens-file", tokens.to_str().expect("UTF-8")];
    let server = Server::start(&folder.path().join("data"), &arguments);
    assert_eq!(server.get("/").status, 401);
    assert_eq!(server.get("/api/v1/incidents").status, 401);
    assert_eq!(server.get("/healthz").status, 200);
    let with = |header: &str| request(&server.pages, "GET", "/api/v1/incidents", header, b"").status;
    assert_eq!(with("Authorization: Bearer s3cret-token\r\n"), 200);
    assert_eq!(with("Authorization: Bearer s3cret-toke\r\n"), 401);
    assert!(!server.log().contains("s3cret-token"));
}

#[test]
fn a_kill_is_explained_from_what_was_acknowledged_before_sigkill() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, log) = (folder.path().join("data"), folder.path().join("kernel.log"));
    append(&log, b"");
    let arguments = ["--no-kubernetes", "--kernel-log", log.to_str().expect("UTF-8")];
    let mut server = Server::start(&data, &arguments);
    replay(&server, &case("shop-catalog-leak"), "metrics");
    replay(&server, &case("shop-catalog-leak"), "traces");
    server.kill();
    let server = Server::start(&data, &arguments);
    append(&log, &read(&case("shop-catalog-leak").join("kernel/kmsg.log")));
    server.wait_for("leak of GET /search", is_the_leak);
}
