//! The JSON contract: what is printed keeps `docs/verdict.schema.json`, and the schema rejects what it should.

mod support;

use exit137::output::{Format, Paper};
use exit137_core::verdict::Verdict;
use serde_json::Value;
use support::{sample, schema_errors};

fn document(verdict: &Verdict) -> Value {
    serde_json::from_str(&Format::Json.render(verdict, &Paper::default())).expect("the output is JSON")
}

#[test]
fn what_is_printed_keeps_the_contract() {
    let mut sparse = sample::verdict();
    for incident in &mut sparse.incidents {
        incident.container = exit137_core::verdict::ContainerRef::default();
        incident.introduced_by = None;
        incident.timeline = exit137_core::verdict::Timeline::default();
        for kill in &mut incident.kills {
            kill.limit_hit = None;
            kill.limit_bytes = None;
            kill.victim = exit137_core::verdict::VictimProcess::default();
        }
        for request in &mut incident.in_flight {
            (request.trace_id, request.span_id, request.started_at) = (None, None, None);
        }
    }
    for verdict in [sample::verdict(), sparse, Verdict::default()] {
        assert_eq!(schema_errors(&document(&verdict)), Vec::<String>::new());
    }
}

#[test]
fn the_schema_rejects_what_the_contract_forbids() {
    let changes = [
        ("/schema", Value::from("exit137.verdict/2")),
        ("/incidents/0/cause/name", Value::from("gremlins")),
        ("/incidents/0/cause/words", Value::from("certainly")),
        ("/incidents/0/opinions/0/opinion", Value::from("maybe")),
        ("/incidents/0/opinions/0/probability", Value::from(1.5)),
        ("/incidents/0/kills/0/at", Value::from("yesterday")),
        ("/incidents/0/kills/0/limit_bytes", Value::from(-1)),
        ("/incidents/0/kills/0/seen_by/0", Value::from("a friend")),
        ("/incidents/0/container/role", Value::from("boss")),
        ("/incidents/0/in_flight/0/trace_id", Value::from("XYZ")),
        ("/incidents/0/gaps/0/do", Value::Null),
        ("/not_oom/0/reason", Value::from("OOMKilled")),
        ("/problems", Value::Null),
    ];
    let sound = document(&sample::verdict());
    for (pointer, value) in changes {
        let mut changed = sound.clone();
        *changed.pointer_mut(pointer).expect(pointer) = value;
        assert!(!schema_errors(&changed).is_empty(), "{pointer}");
    }
}

#[test]
fn a_number_that_is_not_known_is_never_zero() {
    let mut verdict = sample::verdict();
    let incident = &mut verdict.incidents[0];
    incident.advice.next_kill_in_seconds =
        Some(exit137_core::verdict::Interval { low: f64::NAN, mid: 1.0, high: f64::INFINITY });
    incident.timeline.series[0].lives[0][0].1 = f64::NAN;
    let document = document(&verdict);
    assert_eq!(schema_errors(&document), Vec::<String>::new());
    assert!(document["incidents"][0]["advice"].get("next_kill_in_seconds").is_none());
    assert!(document["incidents"][1]["kills"][0]["limit_hit"].is_null());
    assert!(document["incidents"][1]["kills"][0]["victim"].get("anon_bytes").is_none());
    assert!(document["incidents"][0]["in_flight"][2]["span_id"].is_null());
}

/// What programs may rely on: fields may be added to this list, never taken from it.
#[test]
fn every_field_of_the_contract_is_printed() {
    let fields: [(&str, &[&str]); 19] = [
        ("", &["schema", "incidents", "leaks", "not_oom", "problems"]),
        (
            "/incidents/0",
            &["container", "kills", "cause", "opinions", "operations", "introduced_by", "in_flight"],
        ),
        ("/incidents/0", &["advice", "gaps"]),
        (
            "/incidents/0/container",
            &["namespace", "workload", "pod", "pod_uid", "name", "role", "image", "version", "node"],
        ),
        ("/incidents/0/container/workload", &["kind", "name"]),
        (
            "/incidents/0/kills/0",
            &["at", "uncertainty_seconds", "pod", "container_id", "seen_by", "limit_hit"],
        ),
        ("/incidents/0/kills/0", &["limit_bytes", "victim", "container_survived"]),
        (
            "/incidents/0/kills/0/victim",
            &["pid", "comm", "main_process", "anon_bytes", "file_bytes", "shmem_bytes"],
        ),
        ("/incidents/0/cause", &["name", "probability", "words"]),
        ("/incidents/0/opinions/0", &["cause", "opinion", "probability", "summary", "evidence"]),
        ("/incidents/0/operations/0", &["names", "service", "probability", "words", "attributes"]),
        (
            "/incidents/0/operations/0",
            &["bytes_per_execution", "share_of_growth", "in_flight_at_kill", "summary"],
        ),
        ("/incidents/0/introduced_by", &["version", "previous"]),
        (
            "/incidents/0/in_flight/0",
            &["operation", "trace_id", "span_id", "started_at", "recovered_from", "attributes"],
        ),
        (
            "/incidents/0/advice",
            &["action", "summary", "limit_bytes", "horizon_days", "next_kill_in_seconds"],
        ),
        ("/incidents/0/gaps/0", &["missing", "effect", "do"]),
        (
            "/leaks/0",
            &["container", "probability", "slope_bytes_per_hour", "time_to_limit_seconds", "operations"],
        ),
        ("/not_oom/0", &["container", "at", "exit_code", "reason", "summary"]),
        ("/problems/0", &["source", "message"]),
    ];
    let document = document(&sample::verdict());
    for (place, names) in fields {
        let object = document.pointer(place).and_then(Value::as_object).expect(place);
        for name in names {
            assert!(object.contains_key(*name), "{place}/{name}");
        }
    }
}

#[test]
fn a_kill_without_a_time_has_none() {
    let mut verdict = sample::verdict();
    let incident = &mut verdict.incidents[0];
    incident.kills[0].at = exit137_core::time::Moment::UNKNOWN;
    incident.timeline = exit137_core::verdict::Timeline::default();
    let document = document(&verdict);
    assert_eq!(schema_errors(&document), Vec::<String>::new());
    let incident = &document["incidents"][0];
    assert!(incident["kills"][0]["at"].is_null() && incident["kills"][0]["uncertainty_seconds"].is_null());
    assert!(incident.get("timeline").is_none());
    for format in [Format::Text, Format::Markdown, Format::Html] {
        let text = format.render(&verdict, &Paper::default());
        assert!(text.contains("at an unknown time") && !text.contains("1970"), "{text}");
    }
}
