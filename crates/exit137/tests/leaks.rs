//! `exit137 leaks`: what it lists, by exit137 and by the simpler methods, and how it ends.

mod support;

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use support::scratch;

fn leaks(arguments: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_exit137"));
    command.arg("leaks").args(arguments).arg("--quiet").env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
    let output = command.output().expect("the program runs");
    (output.status.code().unwrap_or(-1), String::from_utf8(output.stdout).expect("UTF-8"))
}

fn leaks_json(arguments: &[&str]) -> (i32, Value) {
    let (code, text) = leaks(&[arguments, &["--output", "json"]].concat());
    (code, serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")))
}

fn case(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../cases").join(name);
    folder.to_string_lossy().into_owned()
}

fn write(test: &str, file: &str, text: &str) -> String {
    let folder = scratch(test);
    std::fs::write(folder.join(file), text).expect("written");
    folder.to_string_lossy().into_owned()
}

fn attribute(key: &str, value: &str) -> Value {
    json!({"key": key, "value": {"stringValue": value}})
}

/// Spans of `route`, one for each growth, as the article's tracker marks them: two phases, each measured from
/// the start of the request.
fn spans(lines: &mut String, route: &str, megabytes: impl Iterator<Item = f64>) {
    for (index, grown) in megabytes.enumerate() {
        let delta = |phase: &str, mb: f64| json!({"key": format!("memory.{phase}.delta_mb"), "value": {"doubleValue": mb}});
        let start = 1_800_000_000_000_000_000u64 + index as u64 * 1_000_000;
        let span = json!({
            "traceId": format!("{:032x}", index + 1), "spanId": format!("{:016x}", index + 1), "name": "handle",
            "kind": 2, "startTimeUnixNano": start.to_string(), "endTimeUnixNano": (start + 1000).to_string(),
            "attributes": [attribute("http.route", route), delta("after_load", 64.0), delta("after_total", grown)],
        });
        let resource = json!({"attributes": [attribute("service.name", "shop")]});
        let line = json!({"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": [span]}]}]});
        let _ = writeln!(lines, "{line}");
    }
}

#[test]
fn who_leaks_and_lives_is_listed_with_the_time_left_and_who_does_it() {
    let (code, list) = leaks_json(&[&case("playlist-leak-alive")]);
    assert_eq!((code, list["schema"].as_str()), (0, Some("exit137.leaks/1")));
    let leak = &list["leaks"][0];
    assert!(leak["time_to_limit_seconds"]["mid"].as_i64().is_some_and(|left| left > 0), "{leak}");
    assert!(leak["operations"][0]["names"][0].is_string(), "{leak}");
    let (code, text) = leaks(&[&case("playlist-leak-alive")]);
    assert_eq!(code, 0);
    assert!(text.contains(" leaks, ") && text.contains("if nothing changes"), "{text}");
}

#[test]
fn who_was_killed_by_a_leak_is_listed_and_who_was_killed_otherwise_is_not() {
    let (code, list) = leaks_json(&[&case("shop-catalog-leak"), &case("pricing-startup")]);
    assert_eq!(code, 0);
    let killed: Vec<_> =
        list["killed"].as_array().into_iter().flatten().map(|leak| &leak["container"]["name"]).collect();
    assert_eq!(killed, ["catalog-api"]);
    let (code, text) = leaks(&[&case("pricing-startup")]);
    assert_eq!(code, 1);
    assert!(text.starts_with("nothing is found to leak; 4 OOM kills had another cause\n"), "{text}");
}

#[test]
fn the_article_s_method_reads_span_attributes_and_keeps_its_fields() {
    let mut lines = String::new();
    spans(&mut lines, "/leaks", (0..100).map(|i| if i < 81 { 2.0 } else { 0.0 }));
    spans(&mut lines, "/leaks-more", (0..200).map(|_| 1.5));
    spans(&mut lines, "/gives-back", (0..100).map(|i| if i < 80 { 9.0 } else { -1.0 }));
    spans(&mut lines, "/rare", (0..99).map(|_| 50.0));
    let folder = write("leaks-article", "traces.jsonl", &lines);
    let (code, list) = leaks_json(&["--method", "article", &folder]);
    assert_eq!(code, 0);
    let expected = json!([
        {"endpoint": "/leaks-more", "growth_ratio": 1.0, "avg_growth_bytes": 1572864.0, "total_growth_mb": 300.0},
        {"endpoint": "/leaks", "growth_ratio": 0.81, "avg_growth_bytes": 1698693.12, "total_growth_mb": 162.0},
    ]);
    assert_eq!(list["endpoints"], expected);
}

#[test]
fn the_article_s_method_says_what_it_lacks() {
    let (code, text) = leaks(&["--method", "article", &case("shop-catalog-leak")]);
    assert_eq!(code, 1);
    assert!(text.starts_with("no request's memory was recorded\nhint: "), "{text}");
}

#[test]
fn each_method_ranks_by_its_own_unit() {
    let folder = case("shop-catalog-leak");
    for (method, unit) in
        [("regression", "growth_bytes"), ("most-frequent", "calls"), ("most-in-flight", "calls")]
    {
        let (code, list) = leaks_json(&["--method", method, &folder]);
        assert_eq!((code, list["method"].as_str()), (0, Some(method)));
        let scores: Vec<f64> = list["containers"][0]["operations"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|operation| operation[unit].as_f64().expect("a number"))
            .collect();
        assert!(!scores.is_empty() && scores.is_sorted_by(|a, b| a >= b), "{method}: {scores:?}");
    }
}

#[test]
fn a_healthy_run_has_nothing_to_list() {
    assert_eq!(leaks(&[&case("presence-healthy")]).0, 1);
}
