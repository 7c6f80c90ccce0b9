//! Where exit137's observations come from: one module a source. Sources open, read and decode; they decide nothing.

pub mod kernel_log;
pub mod kubernetes;
pub mod location;
