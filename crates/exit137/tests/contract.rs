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
