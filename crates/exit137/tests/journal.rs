//! A service killed by the kernel after a real leak, and the journal that it left: recorded by
//! `instrumentation/rust/proof`, seed 6, where `GET /cart` keeps memory and `GET /export` takes more and gives it back.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn recorded(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/journal").join(name)
}

fn exit137(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_exit137")).args(arguments).output().expect("the program runs")
}

fn verdict() -> Value {
    let (kernel, journal) = (recorded("kernel.log"), recorded("exit137.journal.gz"));
    let paths = [kernel.to_str().expect("a path"), journal.to_str().expect("a path")];
    let output = exit137(&["diagnose", paths[0], paths[1], "--output", "json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn the_culprit_is_named_after_one_kill() {
    let verdict = verdict();
    let operation = &verdict["incidents"][0]["operations"][0];
    assert_eq!(operation["names"], serde_json::json!(["GET /cart"]), "{operation:#}");
    assert!(operation["probability"].as_f64() >= Some(0.9), "{operation:#}");
    let summary = operation["summary"].as_str().unwrap_or_default();
    assert!(summary.contains("of it allocated by `GET /cart` at `src/service.rs:103`"), "{summary}");
}

#[test]
fn the_cause_is_named_after_one_kill() {
    let verdict = verdict();
    let cause = &verdict["incidents"][0]["cause"];
    assert_eq!(cause["name"], "leak", "{cause:#}");
    assert!(cause["probability"].as_f64() >= Some(0.85), "{cause:#}");
}

#[test]
fn requests_in_flight_come_from_the_journal() {
    let verdict = verdict();
    let requests = verdict["incidents"][0]["in_flight"].as_array().expect("a list");
    assert_eq!(requests.len(), 10);
    assert!(requests.iter().all(|request| request["recovered_from"] == "journal"), "{requests:#?}");
    assert!(requests.iter().all(|request| request["attributes"]["held"].is_string()), "{requests:#?}");
}

#[test]
fn a_journal_can_be_shown() {
    let file = std::env::temp_dir().join(format!("exit137-shown-{}.journal", std::process::id()));
    let packed = std::fs::File::open(recorded("exit137.journal.gz")).expect("a file");
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(packed), &mut bytes).expect("gzip");
    std::fs::write(&file, bytes).expect("room");
    let path = file.to_str().expect("a path");
    let text = String::from_utf8(exit137(&["journal", path]).stdout).expect("UTF-8");
    for part in ["10 requests in flight", "by GET /cart at src/service.rs:103", "GET /cart: "] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let json: Value = serde_json::from_slice(&exit137(&["journal", "--json", path]).stdout).expect("JSON");
    assert_eq!(json["in_flight"].as_array().map(Vec::len), Some(10));
    let _ = std::fs::remove_file(file);
}

#[test]
fn what_is_no_journal_is_an_error() {
    let path = recorded("kernel.log");
    let output = exit137(&["journal", path.to_str().expect("a path")]);
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("not a journal: expected it to start with \"E137JRNL\""), "{text}");
}
