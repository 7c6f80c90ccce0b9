//! Against the protocol's own types.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::{
    Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, metric,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use proptest::prelude::*;
use prost::Message;
use serde::Serialize;

use super::*;

fn attribute(key: &str, value: any_value::Value) -> KeyValue {
    let value = Some(AnyValue { value: Some(value) });
    KeyValue { key: key.into(), value, ..KeyValue::default() }
}

fn text(text: &str) -> any_value::Value {
    any_value::Value::StringValue(text.into())
}

fn resource(number: u64) -> Resource {
    Resource {
        attributes: vec![
            attribute("telemetry.sdk.language", text("python")),
            attribute("service.name", text("cart")),
            attribute("k8s.pod.uid", text(&format!("uid-{number}"))),
            attribute("k8s.pod.labels.app", text("cart")),
            attribute("k8s.pod.annotation.name", text("\"quoted\"\u{1f600}\n")),
            attribute("process.pid", any_value::Value::IntValue(7)),
            attribute("container.id", text("")),
        ],
        ..Resource::default()
    }
}

/// Of these numbers: one for each resource, scope and record, the last a time.
type Shape = Vec<Vec<Vec<u64>>>;

fn spans(shape: &Shape) -> ExportTraceServiceRequest {
    let span = |&nanos: &u64| Span {
        trace_id: vec![1; 16],
        span_id: vec![2; 8],
        name: "GET /".into(),
        start_time_unix_nano: nanos,
        end_time_unix_nano: nanos.saturating_add(5),
        attributes: vec![attribute("http.route", text("/")), attribute("n", any_value::Value::IntValue(-1))],
        ..Span::default()
    };
    let scope =
        |records: &Vec<u64>| ScopeSpans { spans: records.iter().map(span).collect(), ..Default::default() };
    let resource_spans = |(number, scopes): (usize, &Vec<Vec<u64>>)| ResourceSpans {
        resource: (number % 4 != 3).then(|| resource(number as u64)),
        scope_spans: scopes.iter().map(scope).collect(),
        ..Default::default()
    };
    ExportTraceServiceRequest { resource_spans: shape.iter().enumerate().map(resource_spans).collect() }
}

fn metrics(shape: &Shape) -> ExportMetricsServiceRequest {
    let number = |&nanos: &u64| NumberDataPoint { time_unix_nano: nanos, ..Default::default() };
    let bucket = |&nanos: &u64| HistogramDataPoint { time_unix_nano: nanos, ..Default::default() };
    let scope = |times: &Vec<u64>| {
        let (numbers, buckets) = times.split_at(times.len() / 2);
        let gauge = Gauge { data_points: numbers.iter().map(number).collect() };
        let histogram = Histogram { data_points: buckets.iter().map(bucket).collect(), ..Default::default() };
        let metrics = [metric::Data::Gauge(gauge), metric::Data::Histogram(histogram)];
        let metric = |data| Metric { name: "m".into(), data: Some(data), ..Default::default() };
        ScopeMetrics { metrics: metrics.into_iter().map(metric).collect(), ..Default::default() }
    };
    let resource_metrics = |(number, scopes): (usize, &Vec<Vec<u64>>)| ResourceMetrics {
        resource: Some(resource(number as u64)),
        scope_metrics: scopes.iter().map(scope).collect(),
        ..Default::default()
    };
    ExportMetricsServiceRequest { resource_metrics: shape.iter().enumerate().map(resource_metrics).collect() }
}

fn logs(shape: &Shape) -> ExportLogsServiceRequest {
    let record = |&nanos: &u64| match nanos % 2 {
        0 => LogRecord { time_unix_nano: nanos, observed_time_unix_nano: 1, ..Default::default() },
        _ => LogRecord { observed_time_unix_nano: nanos, ..Default::default() },
    };
    let scope = |records: &Vec<u64>| ScopeLogs {
        log_records: records.iter().map(record).collect(),
        ..Default::default()
    };
    let resource_logs = |(number, scopes): (usize, &Vec<Vec<u64>>)| ResourceLogs {
        resource: Some(resource(number as u64)),
        scope_logs: scopes.iter().map(scope).collect(),
        ..Default::default()
    };
    ExportLogsServiceRequest { resource_logs: shape.iter().enumerate().map(resource_logs).collect() }
}

/// A request in both encodings comes apart into one part for each resource that has records, with all of them.
fn check<M>(signal: Signal, shape: &Shape, span_nanos: i64, make: fn(&Shape) -> M)
where
    M: Message + Serialize + for<'de> serde::Deserialize<'de> + Default + PartialEq + std::fmt::Debug,
{
    let request = make(shape);
    let (proto, json) = (request.encode_to_vec(), serde_json::to_vec(&request).unwrap());
    for (encoding, body) in [(Encoding::Protobuf, &proto), (Encoding::Json, &json)] {
        let found = split(signal, encoding, body);
        assert_eq!((found.rejected, found.expected), (0, None));
        let mut parts = found.parts.iter();
        for (number, scopes) in shape.iter().enumerate() {
            let times: Vec<i64> = scopes.iter().flatten().map(|nanos| *nanos as i64).collect();
            if times.is_empty() {
                continue;
            }
            let part = parts.next().unwrap();
            assert_eq!(part.records, times.len() as u64, "{encoding:?}");
            assert_eq!(part.first, times.iter().min().map(|nanos| UnixNanos(*nanos)), "{encoding:?}");
            assert_eq!(
                part.last,
                times.iter().max().map(|nanos| UnixNanos(nanos + span_nanos)),
                "{encoding:?}"
            );
            let mut alone = Shape::new();
            alone.resize(number, Vec::new());
            alone.push(scopes.clone());
            // A request of this resource alone: all others before it have nothing.
            let expected = make(&alone).encode_to_vec();
            let got = match encoding {
                Encoding::Protobuf => M::decode(&part.bytes[..]).unwrap(),
                Encoding::Json => serde_json::from_slice(&part.bytes).unwrap(),
            };
            assert!(expected.ends_with(&got.encode_to_vec()), "{encoding:?}");
        }
        assert!(parts.next().is_none());
    }
}

proptest! {
    #[test]
    fn requests_come_apart_at_their_resources(
        shape in prop::collection::vec(prop::collection::vec(prop::collection::vec(1..1u64 << 62, 0..4), 0..3), 0..6)
    ) {
        check(Signal::Traces, &shape, 5, spans);
        check(Signal::Metrics, &shape, 0, metrics);
        check(Signal::Logs, &shape, 0, logs);
    }

    /// However broken: what is kept can be read, and counts are of what is there.
    #[test]
    fn what_is_left_of_broken_bytes_can_be_split_again(
        shape in prop::collection::vec(prop::collection::vec(prop::collection::vec(1..1u64 << 62, 1..4), 1..3), 1..4),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
        json in any::<bool>(),
    ) {
        let request = spans(&shape);
        let (encoding, mut body) = match json {
            true => (Encoding::Json, serde_json::to_vec(&request).unwrap()),
            false => (Encoding::Protobuf, request.encode_to_vec()),
        };
        for (at, bits) in flips {
            *at.get_mut(&mut body) ^= bits;
        }
        if let Some(cut) = cut {
            body.truncate(cut.index(body.len()));
        }
        let first = split(Signal::Traces, encoding, &body);
        for part in &first.parts {
            let again = split(Signal::Traces, encoding, &part.bytes);
            prop_assert_eq!(again.parts.len(), 1);
            prop_assert_eq!(again.parts[0].records, part.records);
            prop_assert_eq!((again.parts[0].first, again.parts[0].last), (part.first, part.last));
            prop_assert!(encoding == Encoding::Json || again.rejected == 0);
            identity(encoding, part.resource);
        }
    }
}

#[test]
fn a_broken_span_costs_only_itself() {
    let request = spans(&vec![vec![vec![10, 20, 30]], vec![vec![40]]]);
    let mut body = request.encode_to_vec();
    // The second span's trace id says that it is longer than the span.
    let ids: Vec<usize> =
        (0..body.len()).filter(|at| body[*at..].starts_with(&[0x0a, 16, 1, 1, 1])).collect();
    body[ids[1] + 1] = 127;
    let found = split(Signal::Traces, Encoding::Protobuf, &body);
    assert_eq!((found.rejected, found.expected), (1, Some("a span")));
    assert_eq!(found.parts.len(), 2);
    assert_eq!((found.parts[0].records, found.parts[0].last), (2, Some(UnixNanos(35))));
    let left = ExportTraceServiceRequest::decode(&found.parts[0].bytes[..]).unwrap();
    let mut expected = spans(&vec![vec![vec![10, 20, 30]]]);
    expected.resource_spans[0].scope_spans[0].spans.remove(1);
    assert_eq!(left, expected);
}

#[test]
fn a_body_that_is_cut_off_keeps_what_came_before() {
    let body = spans(&vec![vec![vec![10]], vec![vec![20]]]).encode_to_vec();
    let found = split(Signal::Traces, Encoding::Protobuf, &body[..body.len() - 1]);
    assert_eq!(
        (found.parts.len(), found.rejected, found.expected),
        (1, 1, Some("the records of a resource"))
    );
    let body = serde_json::to_vec(&spans(&vec![vec![vec![10]], vec![vec![20]]])).unwrap();
    let found = split(Signal::Traces, Encoding::Json, &body[..body.len() - 9]);
    assert_eq!((found.parts.len(), found.rejected), (1, 1));
}

#[test]
fn only_what_names_a_container_is_its_identity() {
    let resource = resource(3);
    let expected = [("k8s.pod.uid", "uid-3"), ("process.pid", "7"), ("service.name", "cart")];
    let expected: Vec<_> = expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    assert_eq!(identity(Encoding::Json, &serde_json::to_vec(&resource).unwrap()), expected);
    assert_eq!(identity(Encoding::Protobuf, &resource.encode_to_vec()), expected);
    for (key, expected) in [
        ("k8s.pod.name", true),
        ("k8s.statefulset.uid", true),
        ("container.id", true),
        ("k8s.pod.labels.team", false),
        ("k8s.pod.label.app.kubernetes.io/name", false),
        ("host.arch", false),
        ("process.command_line", false),
    ] {
        assert_eq!(is_identity(key.as_bytes()), expected, "{key}");
    }
}

#[test]
fn deep_nesting_and_rubbish_end() {
    let deep = [b"{\"resourceSpans\":[{\"resource\":".to_vec(), b"[".repeat(1 << 20)].concat();
    assert_eq!(split(Signal::Traces, Encoding::Json, &deep).rejected, 1);
    // Groups in groups.
    let found = split(Signal::Traces, Encoding::Protobuf, &[0x0b; 1 << 20]);
    assert_eq!((found.parts.len(), found.rejected), (0, 1));
    for body in [&b"null"[..], b"[]", b"\xff\xfe", b"{\"resourceSpans\":7}", b"{\"resourceSpans\":[7,null]}"]
    {
        assert!(split(Signal::Traces, Encoding::Json, body).parts.is_empty());
    }
}
