//! From a file to its plain bytes: gzip and zstd are recognised by their first bytes and undone on the way, so
//! that the decompressed file is never held as a whole.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;

use super::Progress;
use super::framed::{self, Framed};
use super::walk::{Entry, Origin};

/// A compressed file may be compressed again (a rotated `.gz` in a `.zst` archive), not more often.
const LAYERS_MAX: usize = 2;

/// Memory a zstd stream may ask for is two to this: what `zstd -d` allows without being told.
pub(super) const ZSTD_WINDOW_LOG_MAX: u32 = 27;

const GZIP: &[u8] = &[0x1f, 0x8b];
pub(super) const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
/// Any of sixteen magic numbers starts a frame that holds no data; their upper three bytes.
const ZSTD_SKIPPABLE: &[u8] = &[0x2a, 0x4d, 0x18];

/// Telemetry shrinks to a tenth or a fiftieth. What grows more than this, past the first gibibyte, was made to keep
/// a reader busy for ever.
const EXPANSION_MAX: u64 = 500;
const EXPANSION_FREE_BYTES: u64 = if cfg!(test) { 16 << 20 } else { 1 << 30 };

/// Four bytes tell a compression; four more, that a length stands before it.
const MAGIC_BYTES: usize = 8;

/// Plain bytes of an input.
pub(super) type Stream<'a> = Box<dyn Read + Send + 'a>;

/// Opens `entry` and undoes its compression.
pub(super) fn open<'a>(entry: &Entry, progress: &'a dyn Progress) -> io::Result<Stream<'a>> {
    let raw: Stream<'a> = match &entry.origin {
        Origin::StandardInput => Box::new(io::stdin()),
        Origin::Path(path) => Box::new(File::open(path)?),
        #[cfg(feature = "fuzzing")]
        Origin::Memory(bytes) => Box::new(io::Cursor::new(Arc::clone(bytes))),
    };
    let taken = Arc::new(AtomicU64::new(0));
    let mut stream: Stream<'a> = Box::new(Counted { inner: raw, progress, taken: Arc::clone(&taken) });
    for layer in 0..=LAYERS_MAX {
        let mut magic = [0; MAGIC_BYTES];
        let (length, result) = fill(&mut stream, &mut magic);
        result?;
        let magic = &magic[..length];
        let whole = io::Cursor::new(magic.to_vec()).chain(stream);
        let may_be_compressed = layer < LAYERS_MAX;
        if may_be_compressed && magic.starts_with(GZIP) {
            stream = Box::new(MultiGzDecoder::new(BufReader::with_capacity(256 << 10, whole)));
        } else if may_be_compressed && (magic.starts_with(ZSTD) || is_skippable(magic)) {
            let mut decoder = zstd::Decoder::new(whole)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            stream = Box::new(decoder);
        } else if may_be_compressed && framed::looks_like(magic) {
            let plain = Box::new(Framed::new(BufReader::with_capacity(256 << 10, whole)));
            return Ok(Box::new(Expanded { inner: plain, taken, given: 0 }));
        } else if layer == 0 {
            return Ok(Box::new(whole));
        } else {
            return Ok(Box::new(Expanded { inner: Box::new(whole), taken, given: 0 }));
        }
    }
    Ok(stream)
}

/// A frame of zstd that holds no data.
fn is_skippable(magic: &[u8]) -> bool {
    magic.get(1..4) == Some(ZSTD_SKIPPABLE) && magic[0] & 0xf0 == 0x50
}

/// Reads until `buffer` is full or the input ends; what came before a failure counts.
pub(super) fn fill(reader: &mut dyn Read, buffer: &mut [u8]) -> (usize, io::Result<()>) {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (filled, Err(error)),
        }
    }
    (filled, Ok(()))
}

/// Tells how far the file on disk was read.
struct Counted<'a> {
    inner: Stream<'a>,
    progress: &'a dyn Progress,
    /// Bytes read.
    taken: Arc<AtomicU64>,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.progress.advance(read as u64);
        self.taken.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// Ends what expands without measure.
struct Expanded<'a> {
    inner: Stream<'a>,
    /// Bytes read from the file.
    taken: Arc<AtomicU64>,
    /// Bytes that came of them.
    given: u64,
}

impl Read for Expanded<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.given > EXPANSION_FREE_BYTES
            && self.given / EXPANSION_MAX > self.taken.load(Ordering::Relaxed)
        {
            let message = format!("expected at most {EXPANSION_MAX} times the size of the compressed file");
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        let read = self.inner.read(buffer)?;
        self.given += read as u64;
        Ok(read)
    }
}
