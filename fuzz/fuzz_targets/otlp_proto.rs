//! OTLP as protobuf. Whatever is kept has to be as short as it is said to be.
#![no_main]

use exit137_sources::fuzzing::{Decoder, decode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let observations = decode(Decoder::OtlpProto, bytes);
    for span in &observations.traces.spans {
        assert!(span.start <= span.end);
        assert_eq!(observations.traces.attributes(span).len(), usize::from(span.attributes_len));
    }
});
