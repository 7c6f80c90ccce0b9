//! OTLP as protobuf.

use std::io::{self, BufRead};

use super::sink::Sink;

/// Whether a file that starts like this holds OTLP messages.
pub(crate) fn looks_like(_head: &[u8]) -> bool {
    false
}

/// Reads all messages.
pub(crate) fn decode(_reader: &mut dyn BufRead, _file: &str, _sink: &mut Sink) -> io::Result<()> {
    Ok(())
}
