//! Reads files into observations.

pub mod kubernetes;
pub mod location;
