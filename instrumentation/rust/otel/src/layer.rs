//! Layers that say for whom a thread works, for each poll of each future.

#[cfg(feature = "tower")]
pub mod tower;
#[cfg(feature = "tracing")]
pub mod tracing;
