//! Reads files into observations.
//!
//! [`read`] takes files and folders in any mix. What a file is shows in its content, never in its name.

pub mod agent;
mod cgroup;
#[cfg(feature = "live")]
pub mod cluster;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod input;
pub mod journal;
pub mod kernel_log;
pub mod kubernetes;
pub mod location;
#[cfg(target_os = "linux")]
pub mod node;
mod otlp;
#[cfg(feature = "live")]
pub mod receiver;

pub use input::{NoProgress, Pieces, Progress, ReadError, ReadOptions, read};
pub use otlp::{
    Carries, MemorySamples, Replace, SampleSeries, encode_samples, memory_metrics, memory_samples,
};
pub use otlp::{rewrite_json, rewrite_protobuf};
