//! One message of the protocol's own types, written by its own libraries as protobuf and as JSON: both of our
//! decoders have to read the same from it.
#![no_main]

use exit137_core::observation::Observations;
use exit137_sources::fuzzing::{Decoder, decode};
use libfuzzer_sys::fuzz_target;
use opentelemetry_proto::tonic::trace::v1::{Span, TracesData};
use prost::Message;

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut traces) = TracesData::decode(bytes) else { return };
    for resource in &mut traces.resource_spans {
        for scope in &mut resource.scope_spans {
            scope.spans.retain(is_usual);
        }
        resource.scope_spans.retain(|scope| !scope.spans.is_empty());
    }
    traces.resource_spans.retain(|resource| !resource.scope_spans.is_empty());
    let proto = decode(Decoder::OtlpProto, &traces.encode_to_vec());
    let Ok(json) = serde_json::to_vec(&traces) else { return };
    let json = decode(Decoder::OtlpJson, &json);
    assert_eq!(spans(&proto), spans(&json));
});

/// Whether nothing in the span is what one of the encodings cannot say.
fn is_usual(span: &Span) -> bool {
    span.trace_id.len() == 16
        && span.span_id.len() == 8
        && matches!(span.parent_span_id.len(), 0 | 8)
        && span.start_time_unix_nano != 0
        && span.end_time_unix_nano != 0
        // serde writes unknown numbers of an enum as numbers, and refuses the negative ones.
        && (0..=5).contains(&span.kind)
        && span.status.as_ref().is_none_or(|status| (0..=2).contains(&status.code))
}

fn spans(observations: &Observations) -> Vec<String> {
    let text = |symbol| observations.symbols.text(symbol);
    let line = |span: &exit137_core::observation::span::Span| {
        let mut attributes: Vec<(&str, &str)> = observations
            .traces
            .attributes(span)
            .iter()
            .map(|(key, value)| (text(*key), text(*value)))
            .collect();
        attributes.sort_unstable();
        format!(
            "{:x} {:x} {:x} {:?} {}..{} {:?} {:?} x{} {attributes:?}",
            span.trace_id,
            span.span_id,
            span.parent_span_id,
            text(span.name),
            span.start.0,
            span.end.0,
            span.kind,
            span.status,
            span.weight,
        )
    };
    let mut lines: Vec<String> = observations.traces.spans.iter().map(line).collect();
    lines.sort_unstable();
    lines
}
