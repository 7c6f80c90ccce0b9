//! Reads files into observations.
//!
//! [`read`] takes files and folders in any mix. What a file is shows in its content, never in its name.

mod cgroup;
mod input;
mod kernel_log;
mod kubernetes;
pub mod location;
mod otlp;

pub use input::{NoProgress, Progress, ReadError, ReadOptions, read};
