//! Reads files into observations.

pub mod kernel_log;
