//! OpenTelemetry's OTLP: traces, metrics and logs, as JSON ([`json`]) and as protobuf ([`proto`]).
//!
//! Both are read in one pass straight from the bytes. Types generated from the protocol would hold everything a
//! program ever sent; of that a verdict needs a tenth, and a day of traces must fit beside it in memory.

pub(crate) mod json;
mod keys;
mod memory_metrics;
mod memory_samples;
pub(crate) mod number;
pub(crate) mod proto;
mod rewrite;
pub(crate) mod sink;

pub use memory_metrics::memory_metrics;
pub use memory_samples::{MemorySamples, SampleSeries, encode_samples, memory_samples};
pub use rewrite::{Carries, Replace, rewrite_json, rewrite_protobuf};

#[cfg(test)]
mod tests;
