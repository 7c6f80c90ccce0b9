//! OTLP/JSON, beside `serde_json`: what is JSON for the one and has the usual shape must not be broken for the
//! other.
#![no_main]

use exit137_sources::fuzzing::{Decoder, decode};
use libfuzzer_sys::fuzz_target;
use opentelemetry_proto::tonic::trace::v1::TracesData;

fuzz_target!(|bytes: &[u8]| {
    let observations = decode(Decoder::OtlpJson, bytes);
    for span in &observations.traces.spans {
        assert!(span.start <= span.end);
        assert_eq!(observations.traces.attributes(span).len(), usize::from(span.attributes_len));
    }
    let Ok(traces) = serde_json::from_slice::<TracesData>(bytes) else { return };
    let spans: Vec<_> = traces
        .resource_spans
        .iter()
        .flat_map(|resource| &resource.scope_spans)
        .flat_map(|scope| &scope.spans)
        .collect();
    let usable = spans.iter().filter(|span| {
        matches!(span.trace_id.len(), 0 | 16)
            && matches!(span.span_id.len(), 0 | 8)
            && matches!(span.parent_span_id.len(), 0 | 8)
            && (span.start_time_unix_nano, span.end_time_unix_nano) != (0, 0)
    });
    // Ours refuses more (a number with a fraction, an array where a text should be), and says so.
    if observations.problems.list().is_empty() {
        assert_eq!(observations.traces.spans.len(), usable.count());
    }
});
