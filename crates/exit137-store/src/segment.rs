//! Segments: files of records. One is being appended to (the log); the others are sealed: their index lies at the
//! end, and nothing in them changes any more. `FORMAT.md` describes every byte.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::direct::{self, Aligned, Appender, BLOCK, Window};
use crate::piece::{ContainerId, Encoding, Found};
use crate::record::{Entry, HEAD_BYTES, agrees};

const HEAD_MAGIC: [u8; 8] = *b"e137seg\n";
const END_MAGIC: [u8; 8] = *b"e137end\n";
/// The version of everything that is in a segment.
pub(crate) const VERSION: u32 = 1;
/// Before each piece of several that were joined: encoding, first, last, count, length.
pub(crate) const JOINED_HEAD_BYTES: usize = 25;
/// Neighbours are read together up to this many bytes.
const READ_BYTES: u64 = 1 << 20;
/// Reading so much that is not asked for costs less than another read.
const GAP_BYTES: u64 = 16 << 10;
/// One container id is kept in memory for so many entries of an index.
const FENCE_ENTRIES: u64 = 64;

/// The first 64 bytes of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileHead {
    /// Goes into every checksum of the file.
    pub nonce: u64,
    /// The logs whose pieces are in it, by their numbers.
    pub first_log: u64,
    pub last_log: u64,
    /// 0 in a log; more than that of everything it was made from.
    pub generation: u32,
    /// When the oldest of its pieces arrived, on the store's clock.
    pub oldest_seconds: u64,
    /// Samples are thinned to intervals of so many seconds; 0 for not.
    pub thinned_seconds: u32,
}

impl FileHead {
    pub fn to_bytes(self) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        bytes[..8].copy_from_slice(&HEAD_MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.generation.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.nonce.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.first_log.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.last_log.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.oldest_seconds.to_le_bytes());
        bytes[48..52].copy_from_slice(&self.thinned_seconds.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Damage> {
        let bytes: &[u8; HEAD_BYTES] = bytes.first_chunk().ok_or(Damage::NoSegment)?;
        if bytes[..8] != HEAD_MAGIC || !agrees(number(bytes, 60, 4) as u32, crc32fast::hash(&bytes[..60])) {
            return Err(Damage::NoSegment);
        }
        if number(bytes, 8, 4) != u64::from(VERSION) {
            return Err(Damage::Version(number(bytes, 8, 4) as u32));
        }
        Ok(Self {
            generation: number(bytes, 12, 4) as u32,
            nonce: number(bytes, 16, 8),
            first_log: number(bytes, 24, 8),
            last_log: number(bytes, 32, 8),
            oldest_seconds: number(bytes, 40, 8),
            thinned_seconds: number(bytes, 48, 4) as u32,
        })
    }
}

/// The last 64 bytes of a sealed segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileEnd {
    pub index_offset: u64,
    pub entries: u64,
    /// The earliest and the latest time of any piece.
    pub first: i64,
    pub last: i64,
    /// When the newest of its pieces arrived, on the store's clock.
    pub newest_seconds: u64,
    /// A bit for each kind that is in it.
    pub kinds: u32,
}

impl FileEnd {
    fn of(entries: &[Entry], index_offset: u64, newest_seconds: u64) -> Self {
        let pieces = || entries.iter().filter(|entry| entry.kind().is_some());
        Self {
            index_offset,
            entries: entries.len() as u64,
            first: pieces().map(|entry| entry.first).min().unwrap_or(i64::MAX),
            last: pieces().map(|entry| entry.last).max().unwrap_or(i64::MIN),
            newest_seconds,
            kinds: pieces().fold(0, |kinds, entry| kinds | 1 << (entry.kind & 31)),
        }
    }

    fn to_bytes(self, nonce: u64) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        bytes[..8].copy_from_slice(&END_MAGIC);
        bytes[8..16].copy_from_slice(&self.index_offset.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.entries.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.first.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.last.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.newest_seconds.to_le_bytes());
        bytes[48..52].copy_from_slice(&self.kinds.to_le_bytes());
        let crc = crc_with(nonce, &bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8], nonce: u64, length: u64) -> Option<Self> {
        let bytes: &[u8; HEAD_BYTES] = bytes.first_chunk()?;
        let sound =
            bytes[..8] == END_MAGIC && agrees(number(bytes, 60, 4) as u32, crc_with(nonce, &bytes[..60]));
        let end = Self {
            index_offset: number(bytes, 8, 8),
            entries: number(bytes, 16, 8),
            first: number(bytes, 24, 8) as i64,
            last: number(bytes, 32, 8) as i64,
            newest_seconds: number(bytes, 40, 8),
            kinds: number(bytes, 48, 4) as u32,
        };
        let fits = end.entries.checked_mul(HEAD_BYTES as u64)?.checked_add(end.index_offset)? < length;
        (sound && fits).then_some(end)
    }
}

fn number(bytes: &[u8; HEAD_BYTES], at: usize, width: usize) -> u64 {
    bytes[at..at + width].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn crc_with(nonce: u64, bytes: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&nonce.to_le_bytes());
    crc.update(bytes);
    crc.finalize()
}

/// What is wrong with bytes of a file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Damage {
    /// The start of the file.
    #[error("not a segment: expected `e137seg` and a sound checksum")]
    NoSegment,
    /// Written by a later version.
    #[error("segment format {0}: this version of exit137 reads format {VERSION}")]
    Version(u32),
    /// The end of the file.
    #[error("no index: expected `e137end` and a sound checksum in the last 64 bytes")]
    NoIndex,
    /// One entry of the index.
    #[error("the index has a wrong checksum")]
    Index,
    /// One record.
    #[error("the record at byte {0} has a wrong checksum")]
    Record(u64),
    /// The file could not be read.
    #[error("cannot read")]
    Io(#[from] io::Error),
}

/// A sealed segment.
#[derive(Debug)]
pub(crate) struct Segment {
    pub path: PathBuf,
    pub head: FileHead,
    pub end: FileEnd,
    pub length: u64,
    file: File,
    /// The container of every 64th entry of the index, read when it is first asked for.
    fences: OnceLock<Vec<ContainerId>>,
}

impl Segment {
    /// Opens a sealed segment: two reads, whatever its size.
    pub fn open(path: &Path, buffer: &mut Aligned) -> Result<Self, Damage> {
        let file = direct::open_to_read(path)?;
        let length = file.metadata()?.len();
        let head = FileHead::from_bytes(direct::read_at(&file, 0, HEAD_BYTES, buffer)?)?;
        let end_offset = length.checked_sub(HEAD_BYTES as u64).ok_or(Damage::NoSegment)?;
        let end = direct::read_at(&file, end_offset, HEAD_BYTES, buffer)?;
        let end = FileEnd::from_bytes(end, head.nonce, length).ok_or(Damage::NoIndex)?;
        Ok(Self { path: path.to_owned(), head, end, length, file, fences: OnceLock::new() })
    }

    /// Whether a piece in it may touch the time from `from` to `to`.
    pub fn touches(&self, from: i64, to: i64) -> bool {
        self.end.first <= to && from <= self.end.last
    }

    /// The whole index.
    pub fn entries(&self, buffer: &mut Aligned) -> Result<Vec<Entry>, Damage> {
        self.entries_between(0, self.end.entries, buffer)
    }

    /// The entries of one container.
    pub fn entries_of(&self, container: ContainerId, buffer: &mut Aligned) -> Result<Vec<Entry>, Damage> {
        let fences = match self.fences.get() {
            Some(fences) => fences,
            None => {
                let all = self.entries(buffer)?;
                self.fences.get_or_init(|| {
                    all.iter().step_by(FENCE_ENTRIES as usize).map(|entry| entry.container).collect()
                })
            }
        };
        let from = fences.partition_point(|fence| *fence < container).saturating_sub(1) as u64;
        let to = fences.partition_point(|fence| *fence <= container) as u64;
        let to = (to * FENCE_ENTRIES).min(self.end.entries);
        let mut entries = self.entries_between(from * FENCE_ENTRIES, to, buffer)?;
        entries.retain(|entry| entry.container == container);
        Ok(entries)
    }

    fn entries_between(&self, from: u64, to: u64, buffer: &mut Aligned) -> Result<Vec<Entry>, Damage> {
        let length = to.saturating_sub(from) as usize * HEAD_BYTES;
        let offset = self.end.index_offset + from * HEAD_BYTES as u64;
        let bytes = direct::read_at(&self.file, offset, length, buffer)?;
        if bytes.len() < length {
            return Err(Damage::Index);
        }
        let entries = bytes.chunks_exact(HEAD_BYTES);
        entries.map(|bytes| Entry::from_index(bytes, self.head.nonce).ok_or(Damage::Index)).collect()
    }

    /// The file and what its checksums start from.
    pub fn records(&self) -> Records<'_> {
        Records { file: &self.file, memory: None, window: None, nonce: self.head.nonce }
    }

    /// The same, to be read in about the order in which they lie.
    pub fn records_ahead<'a>(&'a self, window: &'a RefCell<Window>) -> Records<'a> {
        Records { window: Some(window), ..self.records() }
    }

    /// The records of a segment that was read into memory as a whole.
    pub fn records_in<'a>(&'a self, memory: &'a [u8]) -> Records<'a> {
        Records { memory: Some(memory), ..self.records() }
    }

    /// Reads everything before the index.
    pub fn load<'a>(&self, buffer: &'a mut Aligned) -> io::Result<&'a [u8]> {
        direct::read_at(&self.file, 0, self.end.index_offset as usize, buffer)
    }
}

/// Where records are read from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Records<'a> {
    pub file: &'a File,
    /// The file's bytes from its start, when they are in memory.
    pub memory: Option<&'a [u8]>,
    /// What was read ahead of it.
    pub window: Option<&'a RefCell<Window>>,
    pub nonce: u64,
}

/// Memory that reading uses again and again.
#[derive(Default)]
pub(crate) struct Scratch {
    pub read: Aligned,
    pub raw: Vec<u8>,
    pub zstd: zstd::bulk::Decompressor<'static>,
}

impl Records<'_> {
    /// Calls `each` with every one of `entries`, which are in order of their offsets, and its body as it is stored.
    /// A damaged record is given to `damaged`, and its neighbours are read on.
    pub fn each_stored(
        &self,
        entries: &[Entry],
        buffer: &mut Aligned,
        damaged: &mut dyn FnMut(Damage),
        each: &mut dyn FnMut(&Entry, &[u8], u32) -> bool,
    ) -> io::Result<()> {
        let mut rest = entries;
        while let Some(first) = rest.first() {
            let together = together(rest);
            let (group, after) = rest.split_at(together);
            rest = after;
            let end = group.last().map_or(first.offset, |entry| entry.offset + entry.span());
            let length = (end - first.offset) as usize;
            let mut window = self.window.and_then(|window| window.try_borrow_mut().ok());
            let bytes = match (self.memory, &mut window) {
                (Some(memory), _) => memory.get(first.offset as usize..).unwrap_or_default(),
                (None, Some(window)) => window.read_at(self.file, first.offset, length)?,
                (None, None) => direct::read_at(self.file, first.offset, length, buffer)?,
            };
            for entry in group {
                match self.stored((entry.offset - first.offset) as usize, bytes, entry) {
                    Some((body, crc)) => {
                        if !each(entry, body, crc) {
                            return Ok(());
                        }
                    }
                    None => damaged(Damage::Record(entry.offset)),
                }
            }
        }
        Ok(())
    }

    fn stored<'b>(&self, at: usize, bytes: &'b [u8], entry: &Entry) -> Option<(&'b [u8], u32)> {
        let head = bytes.get(at..at + HEAD_BYTES)?;
        let (found, crc) = Entry::from_head(head, self.nonce, entry.offset)?;
        let body = bytes.get(at + HEAD_BYTES..)?.get(..found.stored_bytes as usize)?;
        (found == *entry && agrees(crc, crc32fast::hash(body))).then_some((body, crc))
    }

    /// Calls `each` with every piece of `entries`, decompressed. `false` from it ends the reading.
    pub fn each_piece(
        &self,
        entries: &[Entry],
        scratch: &mut Scratch,
        damaged: &mut dyn FnMut(Damage),
        each: &mut dyn FnMut(Found<'_>) -> bool,
    ) -> io::Result<()> {
        let Scratch { read, raw, zstd } = scratch;
        let mut broken = Vec::new();
        self.each_stored(entries, read, damaged, &mut |entry, stored, _| match pieces_of(
            entry,
            stored,
            (raw, zstd),
            each,
        ) {
            Some(go_on) => go_on,
            None => {
                broken.push(entry.offset);
                true
            }
        })?;
        broken.into_iter().for_each(|offset| damaged(Damage::Record(offset)));
        Ok(())
    }
}

/// How many of the first entries are read together: such as lie near each other.
fn together(entries: &[Entry]) -> usize {
    let Some(first) = entries.first() else {
        return 0;
    };
    let near = |pair: &&[Entry]| {
        let end = pair[0].offset.saturating_add(pair[0].span());
        pair[1].offset.saturating_sub(end) <= GAP_BYTES
            && pair[1].offset.saturating_add(pair[1].span()) - first.offset <= READ_BYTES
    };
    1 + entries.windows(2).take_while(near).count()
}

/// Takes a record apart into its pieces; `None` when it is not one.
fn pieces_of(
    entry: &Entry,
    stored: &[u8],
    (raw, zstd): (&mut Vec<u8>, &mut zstd::bulk::Decompressor<'_>),
    each: &mut dyn FnMut(Found<'_>) -> bool,
) -> Option<bool> {
    let mut rest = stored;
    if entry.zstd {
        raw.clear();
        raw.reserve(entry.raw_bytes as usize);
        zstd.decompress_to_buffer(stored, raw).ok()?;
        if raw.len() != entry.raw_bytes as usize {
            return None;
        }
        rest = raw;
    }
    let kind = entry.kind()?;
    let whole = |bytes, encoding, first, last, count| {
        let (first, last) = (exit137_core::time::UnixNanos(first), exit137_core::time::UnixNanos(last));
        Found { container: entry.container, kind, encoding, first, last, count, bytes }
    };
    if !entry.joined {
        return Some(each(whole(rest, entry.encoding()?, entry.first, entry.last, entry.count)));
    }
    while !rest.is_empty() {
        let (head, after) = rest.split_first_chunk::<JOINED_HEAD_BYTES>()?;
        let number = |at: usize, width: usize| {
            head[at..at + width].iter().rev().fold(0u64, |number, byte| number << 8 | u64::from(*byte))
        };
        let (bytes, after) = after.split_at_checked(number(21, 4) as usize)?;
        let (first, last, count) = (number(1, 8) as i64, number(9, 8) as i64, number(17, 4) as u32);
        if !each(whole(bytes, Encoding::from_number(head[0])?, first, last, count)) {
            return Some(false);
        }
        rest = after;
    }
    Some(true)
}

/// The head of one of several pieces in a record.
pub(crate) fn joined_head(piece: &Found<'_>) -> [u8; JOINED_HEAD_BYTES] {
    let mut head = [0; JOINED_HEAD_BYTES];
    head[0] = piece.encoding as u8;
    head[1..9].copy_from_slice(&piece.first.0.to_le_bytes());
    head[9..17].copy_from_slice(&piece.last.0.to_le_bytes());
    head[17..21].copy_from_slice(&piece.count.to_le_bytes());
    head[21..].copy_from_slice(&(piece.bytes.len() as u32).to_le_bytes());
    head
}

/// Ends a segment: index and end. `entries` are put into the order of the index.
pub(crate) fn seal(
    mut file: Appender,
    nonce: u64,
    entries: &mut [Entry],
    newest_seconds: u64,
) -> io::Result<()> {
    entries.sort_unstable_by_key(Entry::key);
    let index_offset = file.position();
    for entry in entries.iter() {
        file.append(&entry.to_index(nonce))?;
    }
    // The end lies in the last bytes of a whole block.
    let position = file.position();
    let end_offset = (position + HEAD_BYTES as u64).next_multiple_of(BLOCK as u64) - HEAD_BYTES as u64;
    file.append(&[0; BLOCK][..(end_offset - position) as usize])?;
    file.append(&FileEnd::of(entries, index_offset, newest_seconds).to_bytes(nonce))?;
    file.finish()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use exit137_core::time::UnixNanos;

    use super::*;
    use crate::piece::{Identity, Kind, Piece};
    use crate::samples::Sample;
    use crate::writer::{append_identity, append_record};

    const FORMAT: &str = include_str!("../FORMAT.md");
    const NONCE: u64 = 0x0706_0504_0302_0100;

    /// Sixteen bytes a line, after the offset of the first; lines of zeros are left out.
    fn dump(bytes: &[u8]) -> String {
        let mut text = String::new();
        for (number, line) in
            bytes.chunks(16).enumerate().filter(|(_, line)| line.iter().any(|byte| *byte != 0))
        {
            let hex: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
            let shown = |byte: &u8| if byte.is_ascii_graphic() { char::from(*byte) } else { '.' };
            let shown: String = line.iter().map(shown).collect();
            text += &format!("{:04x}  {}  {shown}\n", number * 16, hex.join(" "));
        }
        text
    }

    fn bytes_of(dump: &str) -> Vec<u8> {
        let mut bytes = vec![0; BLOCK];
        for line in dump.lines() {
            let (offset, rest) = line.split_once("  ").expect("an offset");
            let offset = usize::from_str_radix(offset, 16).expect("hex");
            for (at, byte) in rest[..16 * 3 - 1].split(' ').enumerate() {
                bytes[offset + at] = u8::from_str_radix(byte, 16).expect("hex");
            }
        }
        bytes
    }

    fn pieces() -> (Identity, [Piece; 2]) {
        let identity = Identity::of([("k8s.pod.name", "cart-0")]);
        let sample = |at: i64, value: f64| Sample { series: "rss", at: UnixNanos(at), value };
        let samples = Piece::of_samples(
            identity.clone(),
            &[sample(1_000_000_000, 4096.0), sample(2_000_000_000, 8192.0)],
        );
        let log = Piece {
            kind: Kind::KernelLog,
            encoding: Encoding::Text,
            first: UnixNanos(3_000_000_000),
            last: UnixNanos(3_000_000_000),
            count: 1,
            bytes: bytes::Bytes::from_static(b"Killed process 7 (python)\n"),
            container: identity.clone(),
        };
        (identity, [samples, log])
    }

    fn written(path: &Path) -> Vec<u8> {
        let (identity, pieces) = pieces();
        let head = FileHead {
            nonce: NONCE,
            first_log: 1,
            last_log: 1,
            generation: 0,
            oldest_seconds: 5,
            thinned_seconds: 0,
        };
        let mut file = Appender::create(path, 0).unwrap();
        file.append(&head.to_bytes()).unwrap();
        let mut entries = vec![append_identity(&mut file, NONCE, &identity).unwrap()];
        for piece in &pieces {
            let entry = Entry {
                offset: file.position(),
                stored_bytes: piece.bytes.len() as u32,
                raw_bytes: piece.bytes.len() as u32,
                container: identity.id(),
                first: piece.first.0,
                last: piece.last.0,
                count: piece.count,
                pieces: 1,
                kind: piece.kind as u8,
                encoding: piece.encoding as u8,
                zstd: false,
                joined: false,
            };
            append_record(&mut file, NONCE, &entry, &piece.bytes, crc32fast::hash(&piece.bytes)).unwrap();
            entries.push(entry);
        }
        seal(file, NONCE, &mut entries, 6).unwrap();
        std::fs::read(path).unwrap()
    }

    #[test]
    fn the_segment_in_the_documentation_is_what_is_written_and_read() {
        let folder = tempfile::tempdir().unwrap();
        let example =
            FORMAT.split("```hexdump\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap_or_default();
        let written = written(&folder.path().join("written"));
        assert_eq!(dump(&written), example, "FORMAT.md should have:\n{}", dump(&written));

        let path = folder.path().join("documented");
        std::fs::write(&path, bytes_of(example)).unwrap();
        let mut scratch = Scratch::default();
        let segment = Segment::open(&path, &mut scratch.read).unwrap();
        assert_eq!((segment.head.nonce, segment.end.entries, segment.end.newest_seconds), (NONCE, 3, 6));
        let mut entries = segment.entries(&mut scratch.read).unwrap();
        entries.sort_unstable_by_key(|entry| entry.offset);
        let mut found = Vec::new();
        let mut damaged = |damage| panic!("{damage}");
        let mut each = |piece: Found<'_>| {
            found.push((piece.kind, piece.first, piece.count, piece.bytes.to_vec()));
            true
        };
        segment.records().each_piece(&entries[1..], &mut scratch, &mut damaged, &mut each).unwrap();
        let (_, pieces) = pieces();
        let expected = pieces.map(|piece| (piece.kind, piece.first, piece.count, piece.bytes.to_vec()));
        assert_eq!(found, expected);
        // The same without index and end, as a log that nobody sealed.
        let log = folder.path().join("log");
        std::fs::write(&log, &bytes_of(example)[..segment.end.index_offset as usize]).unwrap();
        assert_eq!(crate::recovery::scan(&File::open(log).unwrap()).unwrap().entries, entries);
    }
}
