//! Messages after their lengths (four bytes, big endian), cut into blocks that workers decode at the same time.

use std::io::{self, Read};

use super::{MESSAGE_BYTES_MAX, Message};
use crate::otlp::sink::Sink;

pub(super) const LENGTH_BYTES: usize = 4;

/// Enough to keep a worker busy, little enough to stay in the processor's cache.
const BLOCK_BYTES: usize = 512 << 10;

/// A stream of messages being cut into blocks.
pub(crate) struct Messages<R> {
    reader: R,
    /// Of the next message, from 1.
    number: usize,
    ended: bool,
    failure: Option<io::Error>,
}

impl<R: Read> Messages<R> {
    pub(crate) fn of(reader: R) -> Self {
        Self { reader, number: 1, ended: false, failure: None }
    }

    /// Fills `block` with the next messages and their lengths; tells the number of the first, `None` at the end.
    /// Of a message that was cut off there is what there is.
    pub(crate) fn next(&mut self, block: &mut Vec<u8>) -> Option<usize> {
        block.clear();
        let first = self.number;
        while !self.ended && block.len() < BLOCK_BYTES {
            match self.append(block) {
                Ok(whole) => self.ended = !whole,
                Err(error) => {
                    self.failure = Some(error);
                    self.ended = true;
                }
            }
            self.number += 1;
        }
        (!block.is_empty()).then_some(first)
    }

    /// Why the end came early, told once.
    pub(crate) fn failure(&mut self) -> Option<io::Error> {
        self.failure.take()
    }

    /// Appends one message with its length; tells whether it was whole.
    fn append(&mut self, block: &mut Vec<u8>) -> io::Result<bool> {
        let start = block.len();
        self.reader.by_ref().take(LENGTH_BYTES as u64).read_to_end(block)?;
        let Some(length) = length(&block[start..]) else { return Ok(false) };
        // Reading grows the block as bytes come: a length that lies costs nothing.
        Ok(self.reader.by_ref().take(length as u64).read_to_end(block)? == length)
    }
}

/// The length at the start of `bytes`, unless it is a wrong one.
fn length(bytes: &[u8]) -> Option<usize> {
    let length = u32::from_be_bytes(*bytes.first_chunk()?) as usize;
    (length <= MESSAGE_BYTES_MAX).then_some(length)
}

/// Decodes all messages of a block, of which `first` is the number of the first.
pub(crate) fn decode_block(block: &[u8], first: usize, file: &str, sink: &mut Sink) {
    let mut rest = block;
    for number in first.. {
        if rest.is_empty() {
            return;
        }
        let after = rest.get(LENGTH_BYTES..).unwrap_or_default();
        let Some((message, after)) = length(rest).and_then(|length| after.split_at_checked(length)) else {
            let problem = format!("message {number}: expected its length and as many bytes");
            sink.observations.problems.add(file, None, problem);
            return;
        };
        Message { file, number, sink }.decode(message);
        rest = after;
    }
}
