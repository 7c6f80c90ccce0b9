//! Journals of instrumented processes, as far as observations; their bytes alone are fuzzed in the crate that
//! specifies them.
#![no_main]

use exit137_sources::fuzzing::{Decoder, decode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    decode(Decoder::Journal, bytes);
});
