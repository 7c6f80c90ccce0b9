//! Splitting exports at their resources. What is left of any bytes can be split again into the same, and joined
//! protobuf parts are one export.
#![no_main]

use exit137_sources::receiver::split::{identity, split};
use exit137_sources::receiver::{Encoding, Signal};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, body)) = bytes.split_first() else { return };
    let signal = [Signal::Traces, Signal::Metrics, Signal::Logs][usize::from(choice % 3)];
    let encoding = if choice & 0x80 == 0 { Encoding::Protobuf } else { Encoding::Json };
    let first = split(signal, encoding, body);
    let mut joined = Vec::new();
    for part in &first.parts {
        identity(encoding, part.resource);
        let again = split(signal, encoding, &part.bytes);
        assert_eq!(again.parts.len(), 1);
        let same = &again.parts[0];
        assert_eq!((same.records, same.first, same.last), (part.records, part.first, part.last));
        assert_eq!(same.resource, part.resource);
        joined.extend_from_slice(&part.bytes);
    }
    if encoding == Encoding::Protobuf {
        let records: u64 = first.parts.iter().map(|part| part.records).sum();
        let again = split(signal, encoding, &joined);
        assert_eq!(again.rejected, 0);
        assert_eq!(again.parts.iter().map(|part| part.records).sum::<u64>(), records);
    }
});
