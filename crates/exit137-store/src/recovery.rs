//! Reading a log that nobody sealed: the server was killed, or the end of the file is damaged. Every record has its
//! own checksums, so what is sound is found again wherever it lies.

use std::fs::File;
use std::io;

use crate::direct::{self, Aligned};
use crate::record::{Entry, HEAD_BYTES, RECORD_ALIGNMENT, agrees};
use crate::segment::{Damage, FileHead};

/// Read at a time.
const WINDOW_BYTES: usize = 1 << 20;

/// What a log holds.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub head: FileHead,
    pub entries: Vec<Entry>,
    /// Where the last sound record ends.
    pub end: u64,
    /// Bytes between sound records that are none.
    pub damaged_bytes: u64,
}

/// Finds all sound records. The time it takes is linear in the length of the file.
pub(crate) fn scan(file: &File) -> Result<Recovered, Damage> {
    let length = file.metadata()?.len();
    let mut window = Window { file, start: 0, end: 0, buffer: Aligned::with_capacity(WINDOW_BYTES) };
    let head = FileHead::from_bytes(window.head(0)?)?;
    let mut recovered = Recovered { head, entries: Vec::new(), end: HEAD_BYTES as u64, damaged_bytes: 0 };
    let mut offset = HEAD_BYTES as u64;
    while offset + HEAD_BYTES as u64 <= length {
        match record_at(&mut window, offset, length, head.nonce)? {
            Some(entry) => {
                recovered.damaged_bytes += offset - recovered.end;
                offset += entry.span();
                recovered.end = offset;
                recovered.entries.push(entry);
            }
            None => offset = next_candidate(&mut window, offset + RECORD_ALIGNMENT, length)?,
        }
    }
    // The space before the next record is part of the last one, and may lie beyond a cut file.
    recovered.end = recovered.end.min(length);
    Ok(recovered)
}

fn record_at(window: &mut Window<'_>, offset: u64, length: u64, nonce: u64) -> io::Result<Option<Entry>> {
    let Some((entry, crc)) = Entry::from_head(window.head(offset)?, nonce, offset) else {
        return Ok(None);
    };
    let body = offset + HEAD_BYTES as u64;
    let fits = body + u64::from(entry.stored_bytes) <= length;
    Ok((fits && agrees(crc, window.crc(body, entry.stored_bytes as usize)?)).then_some(entry))
}

/// The next place where a head may begin.
fn next_candidate(window: &mut Window<'_>, mut offset: u64, length: u64) -> io::Result<u64> {
    let step = RECORD_ALIGNMENT as usize;
    while offset + HEAD_BYTES as u64 <= length {
        let bytes = window.rest(offset)?;
        if let Some(at) = bytes.chunks(step).position(|chunk| chunk.starts_with(b"e137")) {
            return Ok(offset + (at * step) as u64);
        }
        offset += bytes.len().max(step).next_multiple_of(step) as u64;
    }
    Ok(length)
}

/// The part of a file that is in memory.
struct Window<'a> {
    file: &'a File,
    start: u64,
    end: u64,
    buffer: Aligned,
}

impl Window<'_> {
    /// What is in memory from `offset` on: at least a head, if the file is that long.
    fn rest(&mut self, offset: u64) -> io::Result<&[u8]> {
        if offset < self.start || self.end < offset + HEAD_BYTES as u64 {
            let got = direct::read_at(self.file, offset, WINDOW_BYTES, &mut self.buffer)?.len();
            (self.start, self.end) = (offset, offset + got as u64);
        }
        let from = (offset - self.start) as usize;
        let to = (self.end - self.start) as usize;
        Ok(&self.buffer.filled(self.start)[from..to])
    }

    fn head(&mut self, offset: u64) -> io::Result<&[u8]> {
        let rest = self.rest(offset)?;
        Ok(&rest[..rest.len().min(HEAD_BYTES)])
    }

    fn crc(&mut self, mut offset: u64, mut length: usize) -> io::Result<u32> {
        let mut crc = crc32fast::Hasher::new();
        while length > 0 {
            let rest = self.rest(offset)?;
            let bytes = &rest[..rest.len().min(length)];
            if bytes.is_empty() {
                break;
            }
            crc.update(bytes);
            offset += bytes.len() as u64;
            length -= bytes.len();
        }
        Ok(crc.finalize())
    }
}
