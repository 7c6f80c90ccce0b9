//! Rows as OTLP/JSON, in the order and the spelling of the Collector's file exporter.

use super::shop::{Attribute, Gauge, Span, Value};

pub(crate) fn spans(resource: &[Attribute], spans: &[Span]) -> Vec<u8> {
    let spans: Vec<String> = spans.iter().map(span).collect();
    format!(
        r#"{{"resourceSpans":[{{"resource":{{"attributes":[{}]}},"scopeSpans":[{{"scope":{{"name":"opentelemetry.instrumentation.flask","version":"0.66b1"}},"spans":[{}]}}],"schemaUrl":"https://opentelemetry.io/schemas/1.37.0"}}]}}
"#,
        attributes(resource),
        spans.join(",")
    )
    .into_bytes()
}

pub(crate) fn gauges(resource: &[Attribute], start: u64, at: u64, gauges: &[Gauge]) -> Vec<u8> {
    let gauge = |gauge: &Gauge| {
        let Gauge { name, unit, value } = gauge;
        format!(
            r#"{{"name":"{name}","unit":"{unit}","gauge":{{"dataPoints":[{{"startTimeUnixNano":"{start}","timeUnixNano":"{at}","asInt":"{value}"}}]}}}}"#
        )
    };
    let gauges: Vec<String> = gauges.iter().map(gauge).collect();
    format!(
        r#"{{"resourceMetrics":[{{"resource":{{"attributes":[{}]}},"scopeMetrics":[{{"scope":{{"name":"github.com/open-telemetry/opentelemetry-collector-contrib/receiver/kubeletstatsreceiver","version":"0.141.0"}},"metrics":[{}]}}]}}]}}
"#,
        attributes(resource),
        gauges.join(",")
    )
    .into_bytes()
}

fn attributes(attributes: &[Attribute]) -> String {
    let attribute = |(key, value): &Attribute| match value {
        Value::Text(text) => format!(r#"{{"key":"{key}","value":{{"stringValue":"{text}"}}}}"#),
        Value::Int(number) => format!(r#"{{"key":"{key}","value":{{"intValue":"{number}"}}}}"#),
    };
    attributes.iter().map(attribute).collect::<Vec<_>>().join(",")
}

fn span(span: &Span) -> String {
    let parent = if span.parent == 0 { String::new() } else { format!("{:016x}", span.parent) };
    let status = if span.failed { r#"{"message":"Connection reset by peer","code":2}"# } else { "{}" };
    format!(
        r#"{{"traceId":"{:032x}","spanId":"{:016x}","parentSpanId":"{parent}","flags":256,"name":"{}","kind":{},"startTimeUnixNano":"{}","endTimeUnixNano":"{}","attributes":[{}],"status":{status}}}"#,
        span.trace_id,
        span.id,
        span.name,
        span.kind,
        span.start,
        span.end,
        attributes(&span.attributes)
    )
}
