//! What is met in the field beside the specification.

use super::{from_json, problems, view};

const IDS: &str = r#""traceId":"93866a3532a993adca855526b7ca9d6d","spanId":"83797909cc057293""#;

fn traces(spans: &str) -> String {
    format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{spans}]}}]}}]}}"#)
}

#[track_caller]
fn check_span(span: &str, expected: &str) {
    let observations = from_json(traces(span).as_bytes());
    assert_eq!(problems(&observations), Vec::<String>::new(), "{span}");
    let prefix = "span 93866a3532a993adca855526b7ca9d6d 83797909cc057293 0000000000000000 ";
    assert_eq!(view(&observations), [format!("{prefix}{expected}")], "{span}");
}

#[test]
fn one_span_in_many_spellings() {
    let expected = r#""GET /" 5..9 Server Error x1 [] []"#;
    for span in [
        format!(r#"{{{IDS},"name":"GET /","kind":2,"startTimeUnixNano":"5","endTimeUnixNano":"9","status":{{"code":2}}}}"#),
        format!(r#"{{{IDS},"name":"GET /","kind":"SPAN_KIND_SERVER","startTimeUnixNano":5,"endTimeUnixNano":9,"status":{{"code":"STATUS_CODE_ERROR"}}}}"#),
        format!(r#"{{{IDS},"name":"GET \u002f","kind":"server","startTimeUnixNano":5.0,"endTimeUnixNano":"9","status":{{"code":"2"}},"parentSpanId":null,"attributes":null,"events":null,"links":null,"traceState":null}}"#),
        r#"{ "trace_id" : "93866A3532A993ADCA855526B7CA9D6D" , "span_id" : "g3l5CcwFcpM=", "name":"GET /","kind":2,"start_time_unix_nano":"5", "end_time_unix_nano":"9","status":{"code":2,"message":null}, "later": {"a":[1,{"b":"}"}]}, }"#.to_owned(),
    ] {
        check_span(&span, expected);
    }
}

#[test]
fn attribute_values_become_text() {
    for (value, expected) in [
        (r#"{"stringValue":"a\"b\n\u00e9\ud83d\ude00"}"#, r#"a"b\né😀"#.replace("\\n", "\n")),
        (r#"{"intValue":"007"}"#, "7".to_owned()),
        (r#"{"intValue":-3}"#, "-3".to_owned()),
        (r#"{"int_value":1e3}"#, "1000".to_owned()),
        (r#"{"doubleValue":0.5}"#, "0.5".to_owned()),
        (r#"{"doubleValue":"NaN"}"#, "NaN".to_owned()),
        (r#"{"doubleValue":"-Infinity"}"#, "-Infinity".to_owned()),
        (r#"{"boolValue":"true"}"#, "true".to_owned()),
        (r#"{"bytesValue":"AAE="}"#, "AAE=".to_owned()),
        (r#""bare""#, "bare".to_owned()),
        (
            r#"{"arrayValue":{"values":[{"stringValue":"a\"b"},{"intValue":"1"},{},{"kvlistValue":{"values":[{"key":"k","value":{"boolValue":false}},{"key":"n"}]}}]}}"#,
            r#"["a\"b",1,null,{"k":false,"n":null}]"#.to_owned(),
        ),
    ] {
        let span = format!(r#"{{{IDS},"startTimeUnixNano":5,"attributes":[{{"value":{value},"key":"k"}}]}}"#);
        check_span(&span, &format!(r#""" 5..5 Unspecified Unset x1 [] {:?}"#, [format!("k={expected}")]));
    }
}

#[test]
fn events_keep_their_name() {
    let span = format!(
        r#"{{{IDS},"startTimeUnixNano":5,"events":[{{"attributes":[{{"key":"delta_mb","value":{{"doubleValue":3}}}},{{"key":"exception.stacktrace","value":{{"stringValue":"long"}}}}],"name":"memory.high_growth"}},{{"name":"retry"}},{{}}]}}"#
    );
    check_span(
        &span,
        r#""" 5..5 Unspecified Unset x1 [] ["event.memory.high_growth.delta_mb=3.0", "event.retry="]"#,
    );
}

#[test]
fn urls_stay_where_a_process_is_left_or_entered() {
    let span = |kind: u8| {
        format!(
            r#"{{{IDS},"startTimeUnixNano":5,"attributes":[{{"key":"url.full","value":{{"stringValue":"http://a"}}}},{{"key":"a","value":{{"stringValue":"b"}}}}],"kind":{kind}}}"#
        )
    };
    check_span(&span(3), r#""" 5..5 Client Unset x1 [] ["url.full=http://a", "a=b"]"#);
    check_span(&span(1), r#""" 5..5 Internal Unset x1 [] ["a=b"]"#);
}

#[test]
fn a_span_keeps_at_most_64_attributes() {
    let pairs: Vec<String> =
        (0..200).map(|number| format!(r#"{{"key":"k{number}","value":{{"intValue":{number}}}}}"#)).collect();
    let span = format!(r#"{{{IDS},"startTimeUnixNano":5,"attributes":[{}]}}"#, pairs.join(","));
    let observations = from_json(traces(&span).as_bytes());
    assert_eq!(observations.traces.spans[0].attributes_len, 64);
}

#[test]
fn a_bad_span_does_not_cost_its_siblings() {
    let good = format!(r#"{{{IDS},"name":"good","startTimeUnixNano":5}}"#);
    for (bad, expected) in [
        (r#"{"traceId":"xyz","startTimeUnixNano":5}"#, "a trace id of 32 hex digits"),
        (r#"{"traceId":7}"#, "a string"),
        (r#"{"kind":{}}"#, "an enum's number or name"),
        (r#"{"startTimeUnixNano":"soon"}"#, "a whole number"),
        (r#"{"attributes":{"a":"b"},"startTimeUnixNano":5}"#, "an array"),
        (r#"{"name":"no time"}"#, "a span with a start or end time"),
        ("7", "an object"),
        // The text itself is broken: reading goes on at the next span.
        (r#"{"kind":2 name:"x"}"#, "a field name or '}'"),
        (r#"{"traceId":"93866a3532a993adca855526b7ca9d6d,"name":"x"}"#, "a trace id of 32 hex digits"),
        (r#"{"attributes":[{"key":"a","value":{"stringValue":"b}]}"#, "a field name or '}'"),
    ] {
        let observations = from_json(traces(&format!("{good},{bad},{good}")).as_bytes());
        let names = view(&observations).iter().filter(|line| line.contains("\"good\"")).count();
        assert_eq!(names, 2, "{bad}: {:?}", view(&observations));
        let problems = problems(&observations);
        assert!(problems[0].contains(expected), "{bad}: {problems:?}");
    }
}

#[test]
fn a_broken_record_does_not_move_spans_to_another_resource() {
    let resource = |name: &str, spans: &str| {
        format!(
            r#"{{"resource":{{"attributes":[{{"key":"service.name","value":{{"stringValue":"{name}"}}}}]}},"scopeSpans":[{{"spans":[{spans}]}}]}}"#
        )
    };
    let good = format!(r#"{{{IDS},"startTimeUnixNano":5}}"#);
    let broken = r#"{"traceId":"93866a3532a993adca855526b7ca9d6d,"name":"x"}"#;
    let document = format!(
        r#"{{"resourceSpans":[{},{}]}}"#,
        resource("a", &format!("{good},{broken}")),
        resource("b", &good)
    );
    let observations = from_json(document.as_bytes());
    let services: Vec<_> = view(&observations).iter().map(|line| line.contains("[service.name=a]")).collect();
    assert_eq!(services, [true, false], "{:?}", view(&observations));
}

#[test]
fn a_cut_off_document_keeps_what_came_before() {
    let spans: Vec<String> =
        (1..10).map(|time| format!(r#"{{{IDS},"name":"n","startTimeUnixNano":{time}}}"#)).collect();
    let whole = traces(&spans.join(","));
    let (mut before, mut complete) = (0, 0);
    for length in 0..whole.len() {
        let observations = from_json(&whole.as_bytes()[..length]);
        let kept = observations.traces.spans.len();
        assert!(kept >= before, "{length}");
        before = kept;
        complete += usize::from(problems(&observations).is_empty());
    }
    assert_eq!((before, complete), (9, 0));
}

#[test]
fn the_resource_may_come_after_its_spans_or_not_at_all() {
    let span = format!(r#"{{{IDS},"startTimeUnixNano":5}}"#);
    let document = format!(
        r#"{{"resource_spans":[{{"scope_spans":[{{"spans":[{span}]}}],"resource":{{"attributes":[{{"key":"a","value":{{"stringValue":"b"}}}}]}}}},{{"scopeSpans":[{{"spans":[{span}]}}]}}]}}"#
    );
    let observations = from_json(document.as_bytes());
    let lines = view(&observations);
    assert!(
        lines.iter().any(|line| line.contains("[a=b]")) && lines.iter().any(|line| line.contains("[]")),
        "{lines:?}"
    );
}

#[test]
fn metrics_mean_what_their_attributes_say() {
    let metric = |name: &str, unit: &str, attribute: &str| {
        let (key, value) = attribute.split_once('=').expect("a pair");
        format!(
            r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"name":"{name}","unit":"{unit}","gauge":{{"dataPoints":[{{"timeUnixNano":"7","asDouble":2,"attributes":[{{"key":"{key}","value":{{"stringValue":"{value}"}}}}]}}]}}}}]}}]}}]}}"#
        )
    };
    for (name, unit, attribute, expected) in [
        ("process.runtime.cpython.memory", "By", "type=rss", Some("Process Rss 2.0")),
        ("process.runtime.cpython.memory", "By", "type=vms", Some("Process Virtual 2.0")),
        ("process.runtime.cpython.memory", "By", "other=x", None),
        ("process.memory.usage", "MB", "memory.type=rss", Some("Process Rss 2097152.0")),
        ("process.memory.usage", "MBy", "memory.type=vms", Some("Process Virtual 2000000.0")),
        ("process.memory.usage", "", "a=b", Some("Process Rss 2.0")),
        ("kube_pod_container_resource_limits", "", "resource=memory", Some("Container LimitDesired 2.0")),
        ("kube_pod_container_resource_limits", "", "resource=cpu", None),
        ("container_memory_working_set_bytes", "", "pod=a", Some("Container WorkingSet 2.0")),
        ("k8s.container.restarts", "GiBy", "pod=a", Some("Container Restarts 2.0")),
        ("system.cpu.time", "s", "a=b", None),
    ] {
        let observations = from_json(metric(name, unit, attribute).as_bytes());
        let kept = observations.metrics.series.first().map(|series| {
            format!("{:?} {:?} {:?}", series.metric.subject, series.metric.quantity, series.points[0].value)
        });
        assert_eq!(kept.as_deref(), expected, "{name} {attribute}");
    }
}

#[test]
fn points_without_a_value_are_left_out_and_bad_ones_are_named() {
    let document = |points: &str| {
        format!(
            r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"sum":{{"dataPoints":[{points}],"aggregationTemporality":"AGGREGATION_TEMPORALITY_CUMULATIVE"}},"name":"container.memory.usage"}}]}}]}}]}}"#
        )
    };
    for (point, points, bad) in [
        (r#"{"timeUnixNano":"7","asInt":"12"}"#, 2, 0),
        (r#"{"timeUnixNano":"7","asInt":12.0,"flags":0}"#, 2, 0),
        (r#"{"timeUnixNano":"7","asInt":"0","flags":1}"#, 1, 0),
        (r#"{"timeUnixNano":"7","asDouble":"NaN"}"#, 1, 0),
        (r#"{"timeUnixNano":"7"}"#, 1, 1),
        (r#"{"timeUnixNano":"7","asInt":"many"}"#, 1, 1),
        (r#"{"asInt":"1"}"#, 1, 1),
    ] {
        let good = r#"{"timeUnixNano":"7","asInt":"1"}"#;
        let observations = from_json(document(&format!("{point},{good}")).as_bytes());
        let kept: usize = observations.metrics.series.iter().map(|series| series.points.len()).sum();
        assert_eq!((kept, problems(&observations).len()), (points, bad), "{point}");
    }
}

#[test]
fn deep_nesting_is_refused_not_followed() {
    let deep = |depth: usize| {
        let (open, close) = (r#"{"arrayValue":{"values":["#.repeat(depth), "]}}".repeat(depth));
        traces(&format!(
            r#"{{{IDS},"startTimeUnixNano":5,"attributes":[{{"key":"k","value":{open}{close}}}]}}"#
        ))
    };
    assert_eq!(from_json(deep(15).as_bytes()).traces.spans.len(), 1);
    let refused = from_json(deep(100_000).as_bytes());
    assert_eq!(refused.traces.spans.len(), 0);
    assert!(problems(&refused)[0].contains("less than 64 levels of nesting"), "{:?}", problems(&refused));
}
