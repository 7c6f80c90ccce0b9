//! Files past the page cache. Filling the page cache costs the kernel about a microsecond per 500 bytes on the
//! virtual machines that this runs on: ten times as much as everything else that is done with a span. Direct
//! reads and writes cost a twentieth of it, and leave the memory of the machine to the containers.
//!
//! The price is alignment: [`Appender`] and [`read_at`] keep it to themselves. Where a file system has no
//! direct access (some network and memory file systems), the same code goes through the page cache.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

/// What direct access must be aligned to: the logical block of every disk in use, and the page.
pub(crate) const BLOCK: usize = 4096;
/// Written at a time. Smaller writes cost more each, larger ones win nothing.
const BUFFER_BYTES: usize = 2 << 20;

/// Bytes at an address that direct access accepts.
#[derive(Debug, Default)]
pub(crate) struct Aligned {
    bytes: Vec<u8>,
    start: usize,
    capacity: usize,
}

impl Aligned {
    /// Room for `capacity` bytes, rounded up to whole blocks.
    pub fn with_capacity(capacity: usize) -> Self {
        let capacity = capacity.next_multiple_of(BLOCK);
        let bytes = vec![0; capacity + BLOCK];
        let start = bytes.as_ptr().align_offset(BLOCK).min(BLOCK);
        Self { bytes, start, capacity }
    }

    /// What [`read_at`] last read, when it began at `offset`.
    pub fn filled(&self, offset: u64) -> &[u8] {
        &self.bytes[self.start + (offset % BLOCK as u64) as usize..]
    }

    fn room(&mut self, capacity: usize) -> &mut [u8] {
        if self.capacity < capacity {
            *self = Self::with_capacity(capacity);
        }
        &mut self.bytes[self.start..self.start + capacity]
    }

    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.capacity]
    }
}

/// Opens past the page cache if the file system can do that, else through it.
fn open(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    match options.custom_flags(OFlags::DIRECT.bits() as i32).open(path) {
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error()) => {
            options.custom_flags(0).open(path)
        }
        opened => opened,
    }
}

/// Opens a file for [`read_at`].
pub(crate) fn open_to_read(path: &Path) -> io::Result<File> {
    open(OpenOptions::new().read(true), path)
}

/// Reads `length` bytes at `offset`, or as many as there are, whatever the alignment.
pub(crate) fn read_at<'a>(
    file: &File,
    offset: u64,
    length: usize,
    buffer: &'a mut Aligned,
) -> io::Result<&'a [u8]> {
    let lead = (offset % BLOCK as u64) as usize;
    let from = offset - lead as u64;
    let wanted = (lead + length).next_multiple_of(BLOCK);
    let room = buffer.room(wanted);
    let mut got = 0;
    while got < lead + length {
        match file.read_at(&mut room[got..], from + got as u64) {
            Ok(0) => break,
            Ok(count) => got += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        // A short read ends at the end of the file, and the next one may not start within a block.
        if got % BLOCK != 0 {
            break;
        }
    }
    let end = got.min(lead + length);
    Ok(&buffer.as_mut()[lead.min(end)..end])
}

/// A part of one file that is read from its start to its end, with gaps: what comes next is already there.
#[derive(Debug)]
pub(crate) struct Window {
    buffer: Aligned,
    /// Of the file, what `buffer` holds.
    from: u64,
    length: usize,
    ahead: usize,
}

impl Window {
    /// Reads at least `ahead` bytes at once.
    pub fn new(ahead: usize) -> Self {
        Self { buffer: Aligned::default(), from: 0, length: 0, ahead }
    }

    /// As [`read_at`], of the same file each time.
    pub fn read_at(&mut self, file: &File, offset: u64, length: usize) -> io::Result<&[u8]> {
        let held = self.from..=self.from + self.length as u64;
        if !(held.contains(&offset) && held.contains(&(offset.saturating_add(length as u64)))) {
            self.length = 0;
            self.length = read_at(file, offset, length.max(self.ahead), &mut self.buffer)?.len();
            self.from = offset;
        }
        let skipped = (offset - self.from) as usize;
        let held = &self.buffer.filled(self.from)[..self.length];
        Ok(&held[skipped..(skipped + length).min(self.length)])
    }
}

/// Appends to a new file. What was appended is in the file after [`sync`](Self::sync).
#[derive(Debug)]
pub(crate) struct Appender {
    file: File,
    buffer: Aligned,
    /// Bytes in the buffer.
    filled: usize,
    /// Where the buffer goes: a multiple of the block.
    offset: u64,
    /// The last, partly filled block as it is in the file, for when the bytes after it are taken back.
    tail: Vec<u8>,
    /// What `sync` last made durable.
    durable: u64,
}

impl Appender {
    /// Makes the file; an existing one is an error. `reserved_bytes` of it are asked for at once, where that is
    /// possible, so that a sync need not write the length of the file too.
    pub fn create(path: &Path, reserved_bytes: u64) -> io::Result<Self> {
        let file = open(OpenOptions::new().write(true).create_new(true).mode(0o600), path)?;
        if reserved_bytes > 0 {
            use rustix::fs::FallocateFlags;
            match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, reserved_bytes) {
                Ok(()) | Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {}
                Err(error) => {
                    // Nothing is in it yet, and an empty log would only be in the way.
                    let _ = std::fs::remove_file(path);
                    return Err(error.into());
                }
            }
        }
        let buffer = Aligned::with_capacity(BUFFER_BYTES);
        Ok(Self { file, buffer, filled: 0, offset: 0, tail: Vec::new(), durable: 0 })
    }

    /// Goes on with a file at `position`; what it holds from there on is overwritten.
    pub fn resume(path: &Path, position: u64) -> io::Result<Self> {
        let file = open(OpenOptions::new().read(true).write(true), path)?;
        let mut buffer = Aligned::with_capacity(BUFFER_BYTES);
        let filled = (position % BLOCK as u64) as usize;
        let offset = position - filled as u64;
        let tail = read_at(&file, offset, filled, &mut buffer)?.to_vec();
        if tail.len() < filled {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Self { file, buffer, filled, offset, tail, durable: position })
    }

    /// Where the next byte goes.
    pub fn position(&self) -> u64 {
        self.offset + self.filled as u64
    }

    /// Adds bytes.
    pub fn append(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let room = &mut self.buffer.as_mut()[self.filled..];
            let count = room.len().min(bytes.len());
            room[..count].copy_from_slice(&bytes[..count]);
            self.filled += count;
            bytes = &bytes[count..];
            if self.filled == BUFFER_BYTES {
                self.write_out()?;
            }
        }
        Ok(())
    }

    /// Adds zeros up to a multiple of `alignment`.
    pub fn align(&mut self, alignment: u64) -> io::Result<()> {
        const ZEROS: [u8; BLOCK] = [0; BLOCK];
        let missing = self.position().next_multiple_of(alignment) - self.position();
        self.append(&ZEROS[..missing as usize])
    }

    /// Writes whole blocks; the last one is filled with zeros, stays in the buffer and is written again when
    /// there is more. Its first bytes are the same again, so that a torn write does not harm them.
    fn write_out(&mut self) -> io::Result<()> {
        let padded = self.filled.next_multiple_of(BLOCK);
        let buffer = self.buffer.as_mut();
        buffer[self.filled..padded].fill(0);
        self.file.write_all_at(&buffer[..padded], self.offset)?;
        let whole = self.filled / BLOCK * BLOCK;
        buffer.copy_within(whole..padded, 0);
        self.offset += whole as u64;
        self.filled -= whole;
        Ok(())
    }

    /// Makes everything appended durable.
    pub fn sync(&mut self) -> io::Result<()> {
        self.write_out()?;
        self.file.sync_data()?;
        self.durable = self.position();
        self.tail.clear();
        self.tail.extend_from_slice(&self.buffer.as_mut()[..self.filled]);
        Ok(())
    }

    /// Takes back what was appended since the last successful sync.
    pub fn take_back(&mut self) -> io::Result<()> {
        let lead = self.tail.len();
        self.buffer.as_mut()[..lead].copy_from_slice(&self.tail);
        self.filled = lead;
        self.offset = self.durable - lead as u64;
        self.file.set_len(self.position().next_multiple_of(BLOCK as u64))
    }

    /// Cuts off what was reserved and not used. The file ends on a whole block.
    pub fn finish(mut self) -> io::Result<u64> {
        self.align(BLOCK as u64)?;
        self.write_out()?;
        let length = self.position();
        self.file.set_len(length)?;
        self.file.sync_all()?;
        Ok(length)
    }
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn any_range_is_read_back(
            lengths in prop::collection::vec(0usize..60_000, 1..60), offset in 0u64..400_000, length in 0usize..90_000,
        ) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("file");
            let mut appender = Appender::create(&path, 1 << 20).unwrap();
            let mut expected = Vec::new();
            for (index, length) in lengths.iter().enumerate() {
                let bytes: Vec<u8> = (0..*length).map(|at| (at * 7 + index) as u8).collect();
                appender.append(&bytes).unwrap();
                if index % 3 == 0 {
                    appender.sync().unwrap();
                    expected.extend_from_slice(&bytes);
                } else if index % 3 == 1 {
                    appender.take_back().unwrap();
                } else {
                    expected.extend_from_slice(&bytes);
                    appender.sync().unwrap();
                }
            }
            appender.finish().unwrap();
            expected.resize(expected.len().next_multiple_of(BLOCK), 0);

            let mut buffer = Aligned::default();
            let read = read_at(&open_to_read(&path).unwrap(), offset, length, &mut buffer).unwrap();
            let from = (offset as usize).min(expected.len());
            prop_assert_eq!(read, &expected[from..(from + length).min(expected.len())]);
        }
    }

    #[test]
    fn a_window_gives_what_the_file_holds() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let bytes: Vec<u8> = (0..40_000_u32).map(|n| (n * 7 % 251) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let file = open_to_read(&path).unwrap();
        let mut window = Window::new(8 << 10);
        // Forward with gaps, larger than what is read ahead, back, across the end and beyond it.
        let reads = [
            (5, 100),
            (105, 0),
            (4000, 4000),
            (8100, 200),
            (20_000, 15_000),
            (10, 50),
            (39_990, 50),
            (50_000, 10),
        ];
        for (offset, length) in reads {
            let there = bytes.get(offset..).unwrap_or_default();
            let expected = &there[..length.min(there.len())];
            assert_eq!(window.read_at(&file, offset as u64, length).unwrap(), expected, "{offset}");
        }
    }
}
