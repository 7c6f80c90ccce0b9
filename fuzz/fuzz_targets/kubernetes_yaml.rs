//! Kubernetes objects as YAML.
#![no_main]

use exit137_sources::fuzzing::{Decoder, decode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    decode(Decoder::KubernetesYaml, bytes);
});
