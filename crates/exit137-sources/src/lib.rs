//! Reads files into observations.
