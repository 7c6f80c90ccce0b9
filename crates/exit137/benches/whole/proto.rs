//! Rows as OTLP/protobuf, by the protocol's own types.

use opentelemetry_proto::tonic::common::v1::any_value::Value as ProtoValue;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{
    Gauge as ProtoGauge, Metric, MetricsData, NumberDataPoint, ResourceMetrics, ScopeMetrics,
    number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{
    ResourceSpans, ScopeSpans, Span as ProtoSpan, Status, TracesData,
};
use prost::Message;

use super::shop::{Attribute, Gauge, Span, Value};

pub(crate) fn spans(resource: &[Attribute], spans: &[Span]) -> Vec<u8> {
    let scope_spans = vec![ScopeSpans {
        scope: Some(scope("opentelemetry.instrumentation.flask")),
        spans: spans.iter().map(span).collect(),
        schema_url: String::new(),
    }];
    let resource = Some(self::resource(resource));
    framed(&TracesData {
        resource_spans: vec![ResourceSpans { resource, scope_spans, ..ResourceSpans::default() }],
    })
}

pub(crate) fn gauges(resource: &[Attribute], start: u64, at: u64, gauges: &[Gauge]) -> Vec<u8> {
    let metric = |gauge: &Gauge| Metric {
        name: gauge.name.to_owned(),
        unit: gauge.unit.to_owned(),
        data: Some(Data::Gauge(ProtoGauge {
            data_points: vec![NumberDataPoint {
                start_time_unix_nano: start,
                time_unix_nano: at,
                value: Some(number_data_point::Value::AsInt(gauge.value as i64)),
                ..NumberDataPoint::default()
            }],
        })),
        ..Metric::default()
    };
    let scope_metrics = vec![ScopeMetrics {
        scope: Some(scope("kubeletstatsreceiver")),
        metrics: gauges.iter().map(metric).collect(),
        schema_url: String::new(),
    }];
    let resource = Some(self::resource(resource));
    framed(&MetricsData {
        resource_metrics: vec![ResourceMetrics { resource, scope_metrics, ..ResourceMetrics::default() }],
    })
}

/// After its length, as the file exporter writes it.
fn framed(message: &impl Message) -> Vec<u8> {
    let mut bytes = (message.encoded_len() as u32).to_be_bytes().to_vec();
    bytes.extend(message.encode_to_vec());
    bytes
}

fn scope(name: &str) -> InstrumentationScope {
    InstrumentationScope { name: name.to_owned(), ..InstrumentationScope::default() }
}

fn resource(attributes: &[Attribute]) -> Resource {
    Resource { attributes: self::attributes(attributes), ..Resource::default() }
}

fn attributes(attributes: &[Attribute]) -> Vec<KeyValue> {
    let attribute = |(key, value): &Attribute| {
        let value = match value {
            Value::Text(text) => ProtoValue::StringValue(text.clone().into_owned()),
            Value::Int(number) => ProtoValue::IntValue(*number),
        };
        let value = Some(AnyValue { value: Some(value) });
        KeyValue { key: (*key).to_owned(), value, ..KeyValue::default() }
    };
    attributes.iter().map(attribute).collect()
}

fn span(span: &Span) -> ProtoSpan {
    let parent = if span.parent == 0 { Vec::new() } else { span.parent.to_be_bytes().to_vec() };
    ProtoSpan {
        trace_id: span.trace_id.to_be_bytes().to_vec(),
        span_id: span.id.to_be_bytes().to_vec(),
        parent_span_id: parent,
        flags: 256,
        name: span.name.to_owned(),
        kind: i32::from(span.kind),
        start_time_unix_nano: span.start,
        end_time_unix_nano: span.end,
        attributes: attributes(&span.attributes),
        status: Some(Status { message: String::new(), code: if span.failed { 2 } else { 0 } }),
        ..ProtoSpan::default()
    }
}
