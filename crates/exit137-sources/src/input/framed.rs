//! The Collector's `compression: zstd`: each message is compressed by itself and stands after its length (four
//! bytes, big endian), whatever its encoding. Undone, it is what the exporter writes without compression: JSON one
//! message a line, protobuf each message after its length.

use std::io::{self, Read};

use super::blocks::DOCUMENT_BYTES_MAX;
use super::stream::{ZSTD, ZSTD_WINDOW_LOG_MAX, fill};

const LENGTH_BYTES: usize = 4;

/// Whether a file that starts like this holds such messages.
pub(super) fn looks_like(head: &[u8]) -> bool {
    head.get(LENGTH_BYTES..).is_some_and(|message| message.starts_with(ZSTD))
}

/// Undoes the compression message by message.
pub(super) struct Framed<R> {
    inner: R,
    message: Vec<u8>,
    /// How much of it was handed out.
    at: usize,
}

impl<R: Read> Framed<R> {
    pub(super) fn new(inner: R) -> Self {
        Self { inner, message: Vec::new(), at: 0 }
    }

    /// Puts the next message into place; `false` at the end.
    fn advance(&mut self) -> io::Result<bool> {
        let mut length = [0; LENGTH_BYTES];
        let (read, result) = fill(&mut self.inner, &mut length);
        result?;
        if read == 0 {
            return Ok(false);
        }
        let length = u64::from(u32::from_be_bytes(length));
        if read < LENGTH_BYTES || length > DOCUMENT_BYTES_MAX as u64 {
            return Err(broken());
        }
        let mut compressed = Vec::new();
        // Reading grows the buffer as bytes come: a length that lies costs nothing.
        if self.inner.by_ref().take(length).read_to_end(&mut compressed)? as u64 != length {
            return Err(broken());
        }
        let mut decoder = zstd::Decoder::new(compressed.as_slice())?;
        decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
        self.at = 0;
        self.message.clear();
        self.message.extend([0; LENGTH_BYTES]);
        decoder.take(DOCUMENT_BYTES_MAX as u64 + 1).read_to_end(&mut self.message).map_err(|_| broken())?;
        let length = self.message.len() - LENGTH_BYTES;
        if length > DOCUMENT_BYTES_MAX {
            return Err(broken());
        }
        if self.message[LENGTH_BYTES..].trim_ascii_start().starts_with(b"{") {
            self.at = LENGTH_BYTES;
            self.message.push(b'\n');
        } else {
            self.message[..LENGTH_BYTES].copy_from_slice(&(length as u32).to_be_bytes());
        }
        Ok(true)
    }
}

fn broken() -> io::Error {
    let expected = format!(
        "expected messages of at most {} MiB, each compressed with zstd and after its length",
        DOCUMENT_BYTES_MAX >> 20
    );
    io::Error::new(io::ErrorKind::InvalidData, expected)
}

impl<R: Read> Read for Framed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.message.len() {
            if !self.advance()? {
                return Ok(0);
            }
        }
        let length = buffer.len().min(self.message.len() - self.at);
        buffer[..length].copy_from_slice(&self.message[self.at..self.at + length]);
        self.at += length;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(messages: &[&[u8]]) -> Vec<u8> {
        let frames = messages.iter().flat_map(|message| {
            let compressed = zstd::encode_all(*message, 3).expect("memory can be compressed");
            [&(compressed.len() as u32).to_be_bytes()[..], &compressed].concat()
        });
        frames.collect()
    }

    fn undone(bytes: &[u8]) -> (Vec<u8>, Option<String>) {
        let mut plain = Vec::new();
        let result = Framed::new(bytes).read_to_end(&mut plain);
        (plain, result.err().map(|error| error.to_string()))
    }

    #[test]
    fn json_becomes_lines_and_protobuf_keeps_its_lengths() {
        assert!(looks_like(&framed(&[b"{}"])));
        assert!(!looks_like(b"\x28\xb5\x2f\xfd") && !looks_like(b"abc"));
        assert_eq!(undone(&framed(&[b"{\"a\":1}", b"{}"])), (b"{\"a\":1}\n{}\n".to_vec(), None));
        assert_eq!(
            undone(&framed(&[b"\n\x00", b"\n\x01x"])),
            (b"\0\0\0\x02\n\0\0\0\0\x03\n\x01x".to_vec(), None)
        );
        assert_eq!(undone(b""), (Vec::new(), None));
    }

    #[test]
    fn what_came_before_a_broken_message_counts() {
        let whole = framed(&[b"{}", b"{\"resourceSpans\":[]}"]);
        for cut in 1..whole.len() {
            let (plain, error) = undone(&whole[..cut]);
            assert!(plain.is_empty() || plain == b"{}\n", "{cut}: {plain:?}");
            assert!(error.is_none_or(|error| error.starts_with("expected messages of at most ")), "{cut}");
        }
        let mut lying = whole;
        lying[0] = 0xff;
        assert!(undone(&lying).1.is_some());
    }
}
