//! Kubernetes objects, lists and watch events as JSON.
#![no_main]

use exit137_sources::fuzzing::{Decoder, decode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    decode(Decoder::KubernetesJson, bytes);
});
