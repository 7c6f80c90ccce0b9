//! Messages made by the protocol's own types, encoded both ways by its own libraries: ours must read both as
//! the types say.

use std::collections::BTreeMap;

use exit137_core::observation::metric::metric_by_name;
use exit137_core::observation::span::{SpanKind, SpanStatus};
use opentelemetry_proto::tonic::common::v1::any_value::Value as ProtoValue;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, LogsData, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{
    ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint, Metric,
    MetricsData, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::Event;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status, TracesData};
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;

use super::{from_json, from_proto, problems, view};
use crate::otlp::keys::{KeyClass, classify};

fn any_value() -> impl Strategy<Value = Option<AnyValue>> {
    let leaf = prop_oneof![
        4 => ".{0,12}".prop_map(ProtoValue::StringValue),
        1 => "[a-zé]{200,300}".prop_map(ProtoValue::StringValue),
        1 => any::<bool>().prop_map(ProtoValue::BoolValue),
        2 => any::<i64>().prop_map(ProtoValue::IntValue),
        1 => (-1e9..1e9f64).prop_map(ProtoValue::DoubleValue),
        1 => vec(any::<u8>(), 0..9).prop_map(ProtoValue::BytesValue),
    ];
    let value = leaf.prop_recursive(3, 12, 4, |inner| {
        let value = inner.prop_map(|value| AnyValue { value: Some(value) });
        prop_oneof![
            vec(value.clone(), 0..4).prop_map(|values| ProtoValue::ArrayValue(ArrayValue { values })),
            vec(("[a-z\"]{1,5}", value), 0..4).prop_map(|pairs| {
                let pair =
                    |(key, value): (String, _)| KeyValue { key, value: Some(value), ..Default::default() };
                ProtoValue::KvlistValue(KeyValueList { values: pairs.into_iter().map(pair).collect() })
            }),
        ]
    });
    prop_oneof![
        9 => value.prop_map(|value| Some(AnyValue { value: Some(value) })),
        1 => Just(None),
    ]
}

fn attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    let key = prop_oneof![
        prop::sample::select(vec!["http.route", "url.full", "net.peer.port", "thread.id", "k8s.pod.name"])
            .prop_map(str::to_owned),
        "[a-zA-Z.\"é]{1,12}",
    ];
    prop::collection::btree_map(key, any_value(), 0..6).prop_map(|pairs: BTreeMap<_, _>| {
        pairs.into_iter().map(|(key, value)| KeyValue { key, value, ..Default::default() }).collect()
    })
}

fn resource() -> impl Strategy<Value = Option<Resource>> {
    prop::option::of(attributes().prop_map(|attributes| Resource { attributes, ..Default::default() }))
}

fn time() -> impl Strategy<Value = u64> {
    1..4_000_000_000_000_000_000u64
}

fn span() -> impl Strategy<Value = Span> {
    let ids = (any::<[u8; 16]>(), any::<[u8; 8]>(), prop::option::of(any::<[u8; 8]>()));
    let event = ("[a-z.]{1,8}", attributes()).prop_map(|(name, attributes)| Event {
        name,
        attributes,
        time_unix_nano: 7,
        ..Default::default()
    });
    let status = prop::option::of((0..3i32, ".{0,5}").prop_map(|(code, message)| Status { message, code }));
    let rest = (0..6i32, prop_oneof![Just(""), Just("ot=th:8"), Just("a=b,ot=p:2")]);
    (ids, ".{0,20}", time(), time(), attributes(), vec(event, 0..3), status, rest).prop_map(
        |((trace_id, span_id, parent), name, start, end, attributes, events, status, (kind, state))| Span {
            trace_id: trace_id.to_vec(),
            span_id: span_id.to_vec(),
            parent_span_id: parent.map(|id| id.to_vec()).unwrap_or_default(),
            trace_state: state.to_owned(),
            name,
            kind,
            start_time_unix_nano: start,
            end_time_unix_nano: end,
            attributes,
            events,
            status,
            flags: 0x100,
            ..Default::default()
        },
    )
}

fn traces() -> impl Strategy<Value = TracesData> {
    vec((resource(), vec(vec(span(), 1..4), 1..3)), 1..3).prop_map(|resources| TracesData {
        resource_spans: resources
            .into_iter()
            .map(|(resource, scopes)| ResourceSpans {
                resource,
                scope_spans: scopes
                    .into_iter()
                    .map(|spans| ScopeSpans { spans, ..Default::default() })
                    .collect(),
                ..Default::default()
            })
            .collect(),
    })
}

/// The text of a value, by the types; `None` for no value.
fn text(value: Option<&AnyValue>) -> Option<String> {
    let text = match value?.value.as_ref()? {
        ProtoValue::StringValue(text) => text.clone(),
        ProtoValue::IntValue(number) => number.to_string(),
        ProtoValue::BytesValue(bytes) => base64(bytes),
        other => json(other),
    };
    Some(text[..text.floor_char_boundary(256)].to_owned())
}

fn json(value: &ProtoValue) -> String {
    let quoted =
        |text: &str| serde_json::to_string(&text[..text.floor_char_boundary(256)]).expect("a string");
    let inner =
        |value: Option<&AnyValue>| value.and_then(|value| value.value.as_ref()).map_or("null".into(), json);
    match value {
        ProtoValue::StringValue(text) => quoted(text),
        ProtoValue::BoolValue(truth) => truth.to_string(),
        ProtoValue::IntValue(number) => number.to_string(),
        ProtoValue::DoubleValue(number) => format!("{number:?}"),
        ProtoValue::BytesValue(bytes) => quoted(&base64(bytes)),
        ProtoValue::ArrayValue(list) => {
            let values: Vec<String> = list.values.iter().map(|value| inner(Some(value))).collect();
            format!("[{}]", values.join(","))
        }
        ProtoValue::KvlistValue(list) => {
            let pair = |pair: &KeyValue| format!("{}:{}", quoted(&pair.key), inner(pair.value.as_ref()));
            format!("{{{}}}", list.values.iter().map(pair).collect::<Vec<_>>().join(","))
        }
        ProtoValue::StringValueStrindex(_) => unreachable!("not made above"),
    }
}

fn base64(bytes: &[u8]) -> String {
    let mut out = Vec::new();
    crate::otlp::number::push_base64(bytes, &mut out);
    String::from_utf8(out).expect("base64")
}

fn lines(attributes: &[KeyValue], keep: impl Fn(&str) -> bool) -> Vec<String> {
    let kept = attributes.iter().filter(|pair| keep(&pair.key));
    kept.filter_map(|pair| Some(format!("{}={}", pair.key, text(pair.value.as_ref())?))).collect()
}

fn resource_line(resource: Option<&Resource>) -> String {
    resource.map(|resource| lines(&resource.attributes, |_| true).join(" ")).unwrap_or_default()
}

fn expected_span(span: &Span, resource: &str) -> String {
    let kind = SpanKind::from_number(span.kind as u64);
    let boundary =
        matches!(kind, SpanKind::Server | SpanKind::Client | SpanKind::Producer | SpanKind::Consumer);
    let mut attributes = lines(&span.attributes, |key| match classify(key) {
        KeyClass::Keep => true,
        KeyClass::BoundaryOnly => boundary,
        KeyClass::Drop => false,
    });
    for event in &span.events {
        let kept = lines(&event.attributes, |key| classify(key) != KeyClass::Drop);
        if kept.is_empty() {
            attributes.push(format!("event.{}=", event.name));
        }
        attributes.extend(kept.into_iter().map(|pair| format!("event.{}.{pair}", event.name)));
    }
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let weight = match span.trace_state.as_str() {
        "ot=th:8" => 2,
        "a=b,ot=p:2" => 4,
        _ => 1,
    };
    format!(
        "span {} {} {:0>16} {:?} {}..{} {:?} {:?} x{weight} [{resource}] {:?}",
        hex(&span.trace_id),
        hex(&span.span_id),
        hex(&span.parent_span_id),
        span.name,
        span.start_time_unix_nano,
        span.end_time_unix_nano.max(span.start_time_unix_nano),
        kind,
        SpanStatus::from_number(span.status.as_ref().map_or(0, |status| status.code as u64)),
        attributes,
    )
}

fn framed(message: &impl Message) -> Vec<u8> {
    let encoded = message.encode_to_vec();
    [&(encoded.len() as u32).to_be_bytes()[..], &encoded].concat()
}

/// Both encodings must give `expected`, without problems.
fn check<M: Message + serde::Serialize>(message: &M, mut expected: Vec<String>) -> Result<(), TestCaseError> {
    expected.sort();
    let json = from_json(&serde_json::to_vec(message).expect("JSON"));
    prop_assert_eq!(problems(&json), Vec::<String>::new());
    prop_assert_eq!(&view(&json), &expected);
    for file in [framed(message), message.encode_to_vec()] {
        let proto = from_proto(&file);
        prop_assert_eq!(problems(&proto), Vec::<String>::new());
        prop_assert_eq!(&view(&proto), &expected);
    }
    Ok(())
}

fn number_point() -> impl Strategy<Value = NumberDataPoint> {
    let value = prop_oneof![
        any::<i64>().prop_map(number_data_point::Value::AsInt),
        (-1e12..1e12f64).prop_map(number_data_point::Value::AsDouble),
    ];
    (time(), time(), value, attributes(), 0..2u32).prop_map(|(start, time, value, attributes, flags)| {
        NumberDataPoint {
            start_time_unix_nano: start,
            time_unix_nano: time,
            value: Some(value),
            attributes,
            flags,
            ..Default::default()
        }
    })
}

fn histogram_point() -> impl Strategy<Value = HistogramDataPoint> {
    let bounds = vec(-1e6..1e6f64, 0..5);
    (time(), any::<u64>(), prop::option::of(0.0..1e9f64), bounds, attributes()).prop_map(
        |(time, count, sum, explicit_bounds, attributes)| HistogramDataPoint {
            start_time_unix_nano: 5,
            time_unix_nano: time,
            count,
            sum,
            max: sum,
            bucket_counts: (0..=explicit_bounds.len() as u64).collect(),
            explicit_bounds,
            attributes,
            ..Default::default()
        },
    )
}

fn metric() -> impl Strategy<Value = Metric> {
    let numbers = prop::sample::select(vec!["container.memory.usage", "jvm.memory.used", "system.cpu.time"]);
    let number =
        (numbers, vec(number_point(), 1..4), any::<bool>()).prop_map(|(name, data_points, is_sum)| {
            let data = if is_sum {
                Data::Sum(Sum { data_points, aggregation_temporality: 2, is_monotonic: false })
            } else {
                Data::Gauge(Gauge { data_points })
            };
            (name, data)
        });
    let histograms = prop::sample::select(vec![
        "request.memory.delta",
        "http.server.request.duration",
        "rpc.client.duration",
    ]);
    let histogram = (histograms, vec(histogram_point(), 1..3), 1..3i32).prop_map(
        |(name, data_points, aggregation_temporality)| {
            (name, Data::Histogram(Histogram { data_points, aggregation_temporality }))
        },
    );
    prop_oneof![number, histogram].prop_map(|(name, data)| Metric {
        name: name.to_owned(),
        unit: "By".to_owned(),
        data: Some(data),
        ..Default::default()
    })
}

fn expected_points(metric: &Metric, resource: &str) -> Vec<String> {
    let Some(kept) = metric_by_name(&metric.name) else {
        return Vec::new();
    };
    let sorted = |attributes: &[KeyValue]| {
        let mut lines = lines(attributes, |_| true);
        lines.sort();
        lines
    };
    let numbers = |points: &[NumberDataPoint]| {
        let line = |point: &NumberDataPoint| {
            let value = match point.value {
                Some(number_data_point::Value::AsInt(value)) => value as f64,
                Some(number_data_point::Value::AsDouble(value)) => value,
                None => return None,
            };
            let attributes = sorted(&point.attributes);
            let (start, at) = (point.start_time_unix_nano, point.time_unix_nano);
            let line = format!("point {kept:?} {attributes:?} {start}..{at} {value:?} [{resource}]");
            (point.flags & 1 == 0).then_some(line)
        };
        points.iter().filter_map(line).collect()
    };
    match metric.data.as_ref().expect("made with data") {
        Data::Gauge(gauge) => numbers(&gauge.data_points),
        Data::Sum(sum) => numbers(&sum.data_points),
        Data::Histogram(histogram) => {
            let delta = histogram.aggregation_temporality == 1;
            let line = |point: &HistogramDataPoint| {
                let bounds = point.explicit_bounds.iter().copied().chain([f64::INFINITY]);
                let buckets = bounds.zip(point.bucket_counts.iter().copied());
                let wanted = metric.name == "request.memory.delta";
                let expected = exit137_core::observation::metric::DistributionPoint {
                    at: exit137_core::time::UnixNanos(point.time_unix_nano as i64),
                    start: exit137_core::time::UnixNanos(point.start_time_unix_nano as i64),
                    delta,
                    count: point.count,
                    sum: point.sum,
                    min: None,
                    max: point.max,
                    buckets: buckets.filter(|_| wanted).collect(),
                };
                let attributes = sorted(&point.attributes);
                format!("distribution {kept:?} {attributes:?} {expected:?} [{resource}]")
            };
            histogram.data_points.iter().map(line).collect()
        }
        _ => unreachable!("not made above"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn spans_are_read_as_the_types_say(traces in traces()) {
        let mut expected = Vec::new();
        for resource in &traces.resource_spans {
            let line = resource_line(resource.resource.as_ref());
            let spans = resource.scope_spans.iter().flat_map(|scope| &scope.spans);
            expected.extend(spans.map(|span| expected_span(span, &line)));
        }
        check(&traces, expected)?;
    }

    #[test]
    fn metrics_are_read_as_the_types_say(metrics in vec(metric(), 1..4), resource in resource()) {
        let line = resource_line(resource.as_ref());
        let expected = metrics.iter().flat_map(|metric| expected_points(metric, &line)).collect();
        let scope_metrics = vec![ScopeMetrics { metrics, ..Default::default() }];
        let resource = ResourceMetrics { resource, scope_metrics, ..Default::default() };
        check(&MetricsData { resource_metrics: vec![resource] }, expected)?;
    }

    #[test]
    fn logs_are_read_as_the_types_say(
        body in prop_oneof!["[a-z\" ]{0,9}", "[a-z\" ]{0,9}(memory|Killed process)[a-zé\\n]{0,9}"],
        attributes in attributes(),
        resource in resource(),
        (time, is_event, event_name) in (time(), any::<bool>(), prop_oneof![Just(""), Just("exit137.sample")]),
    ) {
        let mut attributes = attributes;
        if is_event {
            let value = Some(AnyValue { value: Some(ProtoValue::StringValue("Evicted".to_owned())) });
            attributes.push(KeyValue { key: "k8s.event.reason".to_owned(), value, ..Default::default() });
        }
        let wanted = is_event
            || !event_name.is_empty()
            || ["emory", "oom", "illed process"].iter().any(|word| body.contains(word));
        let name = (!event_name.is_empty()).then_some(event_name);
        let line = resource_line(resource.as_ref());
        let expected = format!("log {time} {name:?} {body:?} {:?} [{line}]", lines(&attributes, |_| true));
        let record = LogRecord {
            observed_time_unix_nano: time,
            body: Some(AnyValue { value: Some(ProtoValue::StringValue(body)) }),
            attributes,
            event_name: event_name.to_owned(),
            ..Default::default()
        };
        let scope_logs = vec![ScopeLogs { log_records: vec![record], ..Default::default() }];
        let resource = ResourceLogs { resource, scope_logs, ..Default::default() };
        check(&LogsData { resource_logs: vec![resource] }, if wanted { vec![expected] } else { Vec::new() })?;
    }

    #[test]
    fn any_bytes_are_no_panic(bytes in vec(any::<u8>(), 0..400)) {
        from_json(&bytes);
        from_proto(&bytes);
        from_proto(&[&(bytes.len() as u32).to_be_bytes()[..], &bytes].concat());
        crate::otlp::proto::looks_like(&bytes);
    }

    #[test]
    fn damaged_messages_are_no_panic(traces in traces(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        for mut file in [serde_json::to_vec(&traces).expect("JSON"), framed(&traces), traces.encode_to_vec()] {
            let place = at.index(file.len());
            file[place] = byte;
            from_json(&file);
            from_proto(&file);
            file.truncate(place);
            from_json(&file);
            from_proto(&file);
        }
    }
}

#[test]
fn exponential_buckets_get_their_upper_bounds() {
    let buckets = |offset, bucket_counts| Some(Buckets { offset, bucket_counts });
    let point = ExponentialHistogramDataPoint {
        time_unix_nano: 9,
        count: 10,
        scale: -1,
        zero_count: 2,
        zero_threshold: 0.5,
        positive: buckets(1, vec![3, 0, 1]),
        negative: buckets(0, vec![4, 1]),
        ..Default::default()
    };
    let data = ExponentialHistogram { data_points: vec![point], aggregation_temporality: 2 };
    let metric = Metric {
        name: "request.memory.delta".to_owned(),
        unit: "KiBy".to_owned(),
        data: Some(Data::ExponentialHistogram(data)),
        ..Default::default()
    };
    let scope_metrics = vec![ScopeMetrics { metrics: vec![metric], ..Default::default() }];
    let metrics =
        MetricsData { resource_metrics: vec![ResourceMetrics { scope_metrics, ..Default::default() }] };
    // The base is 4: bucket i above zero ends at 4^(offset + i + 1), below zero at -4^(offset + i).
    let expected =
        [(-4.0, 1), (-1.0, 4), (0.5, 2), (16.0, 3), (256.0, 1)].map(|(bound, count)| (bound * 1024.0, count));
    for observations in
        [from_json(&serde_json::to_vec(&metrics).expect("JSON")), from_proto(&framed(&metrics))]
    {
        assert_eq!(observations.metrics.distributions[0].points[0].buckets, expected);
    }
}

#[test]
fn the_head_of_a_file_of_messages_is_recognised() {
    let span =
        Span { trace_id: vec![1; 16], span_id: vec![2; 8], start_time_unix_nano: 3, ..Default::default() };
    let attributes = vec![KeyValue {
        key: "service.name".to_owned(),
        value: Some(AnyValue { value: Some(ProtoValue::StringValue("cart".to_owned())) }),
        ..Default::default()
    }];
    // With this many, the first four bytes of the message alone can be taken for a length.
    let scope_spans = vec![ScopeSpans { spans: vec![span; 1000], ..Default::default() }];
    let resource = Some(Resource { attributes, ..Default::default() });
    let traces =
        TracesData { resource_spans: vec![ResourceSpans { resource, scope_spans, ..Default::default() }] };
    for file in [traces.encode_to_vec(), framed(&traces)] {
        assert_eq!(from_proto(&file).traces.spans.len(), 1000);
    }
    let looks_like = crate::otlp::proto::looks_like;
    assert!(looks_like(&traces.encode_to_vec()));
    assert!(looks_like(&framed(&traces)));
    for text in
        ["", "\n", "\n{\n  \"kind\": \"List\"\n}", "[1.5] kernel: text", "\n\n\n\n\n\n\n\n", "\0\0\0\0"]
    {
        assert!(!looks_like(text.as_bytes()), "{text:?}");
    }
}
