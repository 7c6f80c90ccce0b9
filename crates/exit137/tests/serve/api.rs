//! The API against its own description, asked by a fuzzer that reads it: schemathesis, from PyPI.

use std::path::PathBuf;
use std::process::Command;

use crate::kill::environment;
use crate::played;

const SCHEMATHESIS: &[&str] = &["schemathesis==4.32.5"];

/// Questions of each operation; a minute's worth at most.
const EXAMPLES: &str = "15";

fn schemathesis() -> PathBuf {
    environment("schemathesis-1", SCHEMATHESIS).join("schemathesis")
}

#[test]
fn every_answer_is_as_described_whatever_is_asked() {
    let folder = tempfile::tempdir().expect("a folder");
    let (server, _) = played(folder.path(), "shop-catalog-leak");
    let description = format!("http://{}/api/v1/openapi.json", server.pages);
    let output = Command::new(schemathesis())
        .args(["run", &description, "--checks", "all", "--no-color", "--max-examples", EXAMPLES])
        .args(["--phases", "coverage,fuzzing", "--seed", "137"])
        .current_dir(folder.path())
        .output()
        .expect("schemathesis runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(server.get("/healthz").status, 200);
}
