//! A verdict stays within the memory that it may take, and says what it left out.

use serde_json::Value;

use crate::server::Server;
use crate::{append, case, read, replay};

/// What a verdict on one case says is missing, when it may take so much memory.
fn gaps(memory: &str) -> Vec<Value> {
    let folder = tempfile::tempdir().expect("a folder");
    let (log, config) = (folder.path().join("kernel.log"), folder.path().join("exit137.toml"));
    append(&log, b"");
    std::fs::write(&config, format!("[verdict]\nmemory = \"{memory}\"\n")).expect("written");
    let paths = [log.to_str().expect("UTF-8"), config.to_str().expect("UTF-8")];
    let arguments = ["--no-kubernetes", "--kernel-log", paths[0], "--config", paths[1]];
    let server = Server::start(&folder.path().join("data"), &arguments);
    replay(&server, &case("shop-catalog-leak"), "metrics");
    replay(&server, &case("shop-catalog-leak"), "traces");
    append(&log, &read(&case("shop-catalog-leak").join("kernel/kmsg.log")));
    let settled = |found: &Value| (found["settled"] == true).then(|| found["id"].clone());
    let id = server.wait_for("settled verdict", settled);
    let verdict = server.json(&format!("/api/v1/incidents/{}/verdict", id.as_str().expect("a name")));
    assert_eq!(verdict["incidents"][0]["kills"].as_array().map(Vec::len), Some(2), "{verdict:#}");
    verdict["incidents"][0]["gaps"].as_array().expect("gaps").clone()
}

fn of_memory(gaps: &[Value]) -> Option<&Value> {
    gaps.iter()
        .find(|gap| gap["do"].as_str().is_some_and(|remedy| remedy.contains("`memory` under [verdict]")))
}

#[test]
fn a_verdict_says_what_it_had_no_memory_for() {
    assert_eq!(of_memory(&gaps("384MiB")), None);
    for memory in ["2MiB", "3MiB"] {
        let gaps = gaps(memory);
        let gap = of_memory(&gaps).unwrap_or_else(|| panic!("{memory}: {gaps:#?}"));
        let missing = gap["missing"].as_str().expect("text");
        assert!(missing.contains("MiB of spans before the kill"), "{memory}: {missing}");
        assert_eq!(gap["effect"], "calls that were left out count for nothing in the verdict");
    }
}
