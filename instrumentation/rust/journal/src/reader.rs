//! From bytes to what they say. The bytes may come from a process that was killed between any two stores, from a copy
//! taken while a process wrote, or from an enemy.

use std::collections::BTreeMap;
use std::fmt;

use crate::checksum;
use crate::layout::{
    HEADER_BYTES, HEAP_ROW_BYTES, Kind, MAGIC, OPERATION_BYTES, SLOT_BYTES, VERSION_MAJOR, header, heap,
    operation, slot, state, untagged, words,
};
use crate::record::{is_valid, split};

/// More records of one sort are not looked at; the writer's own limits are lower.
const RECORDS_MAX: usize = 65_536;

/// Attributes of the resource; more are not looked at.
const RESOURCE_ATTRIBUTES_MAX: usize = 256;

/// Why bytes are no journal.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotAJournal {
    /// They do not start with [`MAGIC`].
    Magic,
    /// A version that this reader does not know.
    Version {
        /// As written.
        major: u16,
    },
    /// The header was never finished, or is damaged.
    Header(&'static str),
    /// There are fewer bytes than the header tells.
    Short {
        /// By the header.
        expected: u64,
        /// What there is.
        found: u64,
    },
}

impl fmt::Display for NotAJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Magic => f.write_str("not a journal: expected it to start with \"E137JRNL\""),
            Self::Version { major } => {
                write!(f, "a journal of version {major}; this program reads version {VERSION_MAJOR}")
            }
            Self::Header(what) => write!(f, "a damaged journal: {what}"),
            Self::Short { expected, found } => {
                write!(f, "a journal cut short: expected {expected} bytes, found {found}")
            }
        }
    }
}

impl std::error::Error for NotAJournal {}

/// What a journal says of one life of one process.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Journal {
    /// Chosen at random by each life.
    pub life: u64,
    /// As the process saw it: 1 in most containers.
    pub pid: u32,
    /// Nanoseconds since 1970, by the process's clock, as all times here.
    pub started_unix_nanos: u64,
    /// The last moment at which the process is known to have lived.
    pub seen_unix_nanos: u64,
    /// When it ended of its own will, if it did.
    pub closed_unix_nanos: Option<u64>,
    /// Who it was: attributes of its OpenTelemetry resource.
    pub resource: Vec<(String, String)>,
    /// By start.
    pub in_flight: Vec<InFlight>,
    /// Records that were being written, or were copied while they were.
    pub torn: usize,
    /// Requests that found no slot.
    pub not_recorded: u64,
    /// All operations since the start.
    pub operations: Vec<OperationRow>,
    /// Live heap by operation and stack, largest first. Estimated from samples.
    pub heap: Vec<HeapRow>,
    /// Live heap altogether, listed in `heap` or not; bytes, estimated from samples.
    pub live_bytes: u64,
    /// One sample stands for so many bytes on average; 0 when the heap was not sampled.
    pub sample_bytes: u64,
}

/// Live bytes that one operation allocated at one place of the program, by whatever way it came there.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// Name of the operation.
    pub operation: String,
    /// `file:line`, or the function without debug information; `None` when the place was not named in time.
    pub place: Option<String>,
    /// Bytes, estimated.
    pub live_bytes: u64,
    /// Bytes ever allocated there, estimated.
    pub allocated_bytes: u64,
}

impl Journal {
    /// The live heap by operation and innermost place, largest first.
    pub fn holders(&self) -> Vec<Holder> {
        let mut places: BTreeMap<(&str, Option<&str>), (u64, u64)> = BTreeMap::new();
        for row in &self.heap {
            let place = row.frames.first().map(|frame| match frame.location.as_str() {
                "" => frame.function.as_str(),
                location => location,
            });
            let (live, allocated) = places.entry((row.operation_name.as_str(), place)).or_default();
            *live = live.saturating_add(row.live_bytes);
            *allocated = allocated.saturating_add(row.allocated_bytes);
        }
        let holder =
            |((operation, place), (live_bytes, allocated_bytes)): ((&str, Option<&str>), _)| Holder {
                operation: operation.to_owned(),
                place: place.map(str::to_owned),
                live_bytes,
                allocated_bytes,
            };
        let mut holders: Vec<Holder> = places.into_iter().map(holder).collect();
        holders.sort_by_key(|holder| std::cmp::Reverse(holder.live_bytes));
        holders
    }
}

/// A request that had begun and not ended.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct InFlight {
    /// 16 bytes, big endian; 0 when the request was not traced.
    pub trace_id: u128,
    /// 8 bytes, big endian; 0 when the request was not traced.
    pub span_id: u64,
    /// 0 for a root.
    pub parent_span_id: u64,
    /// Low-cardinality name: `GET /search`.
    pub operation: String,
    /// Kind of the span.
    pub kind: Kind,
    /// Start.
    pub started_unix_nanos: u64,
    /// Its last sign of life.
    pub seen_unix_nanos: u64,
    /// Bytes it held then; `None` when not measured.
    pub held_bytes: Option<u64>,
    /// The most it ever held.
    pub peak_bytes: Option<u64>,
    /// All it ever allocated.
    pub allocated_bytes: Option<u64>,
    /// Last phase that it entered.
    pub phase: Option<String>,
    /// Chosen attributes.
    pub attributes: Vec<(String, String)>,
    /// Whether the span was sampled, and so would have been exported.
    pub sampled: bool,
}

/// What all requests of one operation have done so far, those in flight left out.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct OperationRow {
    /// Index that [`HeapRow`]s mean.
    pub index: u16,
    /// Name; `background` and `other` are reserved.
    pub name: String,
    /// Requests begun.
    pub started: u64,
    /// Requests ended.
    pub finished: u64,
    /// Bytes allocated.
    pub allocated_bytes: u64,
    /// Bytes freed by its requests, and its large blocks freed by others.
    pub freed_bytes: u64,
    /// Bytes of small blocks of its that others freed, less those of others that it freed: estimated from samples.
    pub moved_bytes: i64,
    /// The most that one request held.
    pub peak_bytes: u64,
}

impl OperationRow {
    /// Bytes that its finished requests have left behind; negative when they freed more than they allocated.
    pub fn retained_bytes(&self) -> i64 {
        let counted = (self.allocated_bytes as i64).wrapping_sub(self.freed_bytes as i64);
        counted.saturating_sub(self.moved_bytes)
    }
}

/// Live bytes that one operation allocated at one place.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct HeapRow {
    /// Index of the operation.
    pub operation: u16,
    /// Its name.
    pub operation_name: String,
    /// Bytes, estimated.
    pub live_bytes: u64,
    /// Samples that they are estimated from.
    pub samples: u64,
    /// Bytes ever allocated there, estimated.
    pub allocated_bytes: u64,
    /// Return addresses, innermost first.
    pub addresses: Vec<u64>,
    /// Places in the program, innermost first; empty until somebody had the time to name them.
    pub frames: Vec<Frame>,
}

/// A place in the program.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Frame {
    /// Function.
    pub function: String,
    /// `file:line`; empty without debug information.
    pub location: String,
}

/// Whether these are the first bytes of a journal, of whatever version.
pub fn is_journal(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC)
}

/// Decodes a journal.
///
/// # Errors
/// When the bytes are no journal, of another version, cut short, or damaged in the header. A damaged record is counted
/// in [`Journal::torn`] instead.
pub fn read(bytes: &[u8]) -> Result<Journal, NotAJournal> {
    let sections = sections(bytes)?;
    let word = |at: usize| u64_at(bytes, at);
    let mut journal = Journal {
        life: word(header::LIFE),
        pid: u32_at(bytes, header::PID),
        started_unix_nanos: word(header::STARTED),
        closed_unix_nanos: Some(word(header::CLOSED)).filter(|at| *at != 0),
        sample_bytes: word(header::SAMPLE_BYTES),
        not_recorded: word(header::NOT_RECORDED),
        live_bytes: word(header::LIVE_BYTES),
        resource: resource(sections.resource),
        ..Journal::default()
    };
    journal.seen_unix_nanos = word(header::HEARTBEAT).max(journal.started_unix_nanos);
    for record in sections.slots.chunks_exact(SLOT_BYTES) {
        let words = words_of::<{ slot::WORDS }>(record);
        journal.seen_unix_nanos = journal.seen_unix_nanos.max(words[slot::SEEN]);
        match in_flight(&words) {
            Record::Valid(request) => journal.in_flight.push(request),
            Record::Torn => journal.torn += 1,
            Record::Absent => {}
        }
    }
    journal.in_flight.sort_by_key(|request| (request.started_unix_nanos, request.span_id));
    let rows = sections.operations.chunks_exact(OPERATION_BYTES).enumerate();
    journal.operations = rows.filter_map(|(index, row)| operation_row(index, row)).collect();
    for record in sections.heap.chunks_exact(HEAP_ROW_BYTES) {
        match heap_row(&words_of(record), &journal.operations) {
            Record::Valid(row) => journal.heap.push(row),
            Record::Torn => journal.torn += 1,
            Record::Absent => {}
        }
    }
    journal.heap.retain(|row| row.live_bytes > 0);
    journal.heap.sort_by(|a, b| b.live_bytes.cmp(&a.live_bytes).then_with(|| a.addresses.cmp(&b.addresses)));
    Ok(journal)
}

struct Sections<'a> {
    resource: &'a [u8],
    slots: &'a [u8],
    operations: &'a [u8],
    heap: &'a [u8],
}

fn sections(bytes: &[u8]) -> Result<Sections<'_>, NotAJournal> {
    if !is_journal(bytes) {
        return Err(NotAJournal::Magic);
    }
    if bytes.len() < HEADER_BYTES {
        return Err(NotAJournal::Short { expected: HEADER_BYTES as u64, found: bytes.len() as u64 });
    }
    let major = u16_at(bytes, header::VERSION_MAJOR);
    if major != VERSION_MAJOR {
        return Err(NotAJournal::Version { major });
    }
    let field = |at: usize| u32_at(bytes, at) as usize;
    let resource = header::RESOURCE..header::RESOURCE + field(header::RESOURCE_BYTES).min(HEADER_BYTES);
    let resource = bytes[..HEADER_BYTES].get(resource);
    let resource = resource.ok_or(NotAJournal::Header("the resource is larger than the header"))?;
    let sum = checksum::of(checksum::of_bytes(&bytes[..header::CHECKSUM]), [checksum::of_bytes(resource)]);
    if sum != u64_at(bytes, header::CHECKSUM) {
        return Err(NotAJournal::Header(
            "its checksum does not fit, so it was never finished or was changed",
        ));
    }
    let sizes = [
        (header::SLOT_BYTES, SLOT_BYTES),
        (header::OPERATION_BYTES, OPERATION_BYTES),
        (header::HEAP_ROW_BYTES, HEAP_ROW_BYTES),
        (header::HEADER_BYTES, HEADER_BYTES),
    ];
    if sizes.iter().any(|(at, size)| field(*at) != *size) {
        return Err(NotAJournal::Header("a record size that this version does not have"));
    }
    let counts = [header::SLOT_COUNT, header::OPERATION_COUNT, header::HEAP_ROW_COUNT].map(field);
    if counts.iter().any(|count| *count > RECORDS_MAX) {
        return Err(NotAJournal::Header("more records than a journal has"));
    }
    let [slots, operations, heap] =
        [counts[0] * SLOT_BYTES, counts[1] * OPERATION_BYTES, counts[2] * HEAP_ROW_BYTES];
    let expected = HEADER_BYTES + slots + operations + heap;
    if bytes.len() < expected {
        return Err(NotAJournal::Short { expected: expected as u64, found: bytes.len() as u64 });
    }
    let (slots, rest) = bytes[HEADER_BYTES..expected].split_at(slots);
    let (operations, heap) = rest.split_at(operations);
    Ok(Sections { resource, slots, operations, heap })
}

enum Record<T> {
    Valid(T),
    Torn,
    /// Free, or ended.
    Absent,
}

fn in_flight(words: &[u64; slot::WORDS]) -> Record<InFlight> {
    let (sequence, state) = split(words[slot::CONTROL]);
    if state == state::FREE || state == state::ENDED {
        return Record::Absent;
    }
    let shape = words[slot::SHAPE].to_le_bytes();
    let tag = u16::from_le_bytes([shape[0], shape[1]]);
    let (name_bytes, attribute_bytes) = (usize::from(shape[4]), usize::from(shape[5]));
    let text_words = self::words(name_bytes) + self::words(attribute_bytes);
    if text_words > slot::TEXT_WORDS {
        return Record::Torn;
    }
    let payload = &words[slot::START..slot::TEXT + text_words];
    if sequence == 0 || !is_valid(words[slot::CONTROL], words[slot::CHECKSUM], payload.iter().copied()) {
        return Record::Torn;
    }
    let text = bytes_of(&words[slot::TEXT..slot::TEXT + slot::TEXT_WORDS]);
    let (name, attributes) = text.split_at(self::words(name_bytes) * 8);
    let big_endian = |word: u64| u64::from_be_bytes(word.to_le_bytes());
    let trace = [slot::TRACE_ID, slot::TRACE_ID + 1].map(|at| u128::from(big_endian(words[at])));
    Record::Valid(InFlight {
        trace_id: trace[0] << 64 | trace[1],
        span_id: big_endian(words[slot::SPAN_ID]),
        parent_span_id: big_endian(words[slot::PARENT_ID]),
        operation: text_of(&name[..name_bytes]),
        kind: Kind::from_number(shape[2]),
        sampled: shape[3] & 1 != 0,
        started_unix_nanos: words[slot::START],
        seen_unix_nanos: words[slot::SEEN].max(words[slot::START]),
        held_bytes: untagged(tag, words[slot::HELD]),
        peak_bytes: untagged(tag, words[slot::PEAK]),
        allocated_bytes: untagged(tag, words[slot::ALLOCATED]),
        phase: phase(tag, words),
        attributes: short_pairs(&attributes[..attribute_bytes]),
    })
}

/// The phase has a checksum of its own: it changes while the record stands.
fn phase(tag: u16, words: &[u64; slot::WORDS]) -> Option<String> {
    let word = words[slot::PHASE];
    let bytes = (word & 0xffff) as usize;
    if bytes == 0 || bytes > slot::PHASE_BYTES_MAX || (word >> 16) as u16 != tag {
        return None;
    }
    let text = &words[slot::PHASE_TEXT..slot::PHASE_TEXT + slot::PHASE_WORDS];
    let sum = checksum::of(word & 0xffff_ffff, text.iter().copied());
    (sum >> 32 == word >> 32).then(|| text_of(&bytes_of(text)[..bytes]))
}

fn operation_row(index: usize, row: &[u8]) -> Option<OperationRow> {
    let words: [u64; operation::WORDS] = words_of(row);
    let name = &words[operation::NAME..operation::NAME + operation::NAME_WORDS];
    let sum =
        checksum::of(index as u64, std::iter::once(words[operation::SHAPE]).chain(name.iter().copied()));
    let name_bytes = usize::from(words[operation::SHAPE].to_le_bytes()[0]);
    if sum != words[operation::CHECKSUM] || name_bytes == 0 || name_bytes > operation::NAME_WORDS * 8 {
        return None;
    }
    Some(OperationRow {
        index: index as u16,
        name: text_of(&bytes_of(name)[..name_bytes]),
        started: words[operation::STARTED],
        finished: words[operation::FINISHED],
        allocated_bytes: words[operation::ALLOCATED],
        freed_bytes: words[operation::FREED],
        moved_bytes: words[operation::MOVED] as i64,
        peak_bytes: words[operation::PEAK],
    })
}

fn heap_row(words: &[u64; heap::WORDS], operations: &[OperationRow]) -> Record<HeapRow> {
    let (sequence, state) = split(words[heap::CONTROL]);
    if state == state::FREE || state == state::ENDED {
        return Record::Absent;
    }
    let shape = words[heap::SHAPE];
    let operation = shape as u16;
    let tag = (shape >> 16) as u16;
    let frames = (shape >> 32) as u8 as usize;
    let text_bytes = (shape >> 48) as usize;
    if frames > heap::FRAMES_MAX || text_bytes > heap::TEXT_WORDS * 8 {
        return Record::Torn;
    }
    let covered = std::iter::once(shape)
        .chain(words[heap::FRAMES..heap::FRAMES + frames].iter().copied())
        .chain(words[heap::TEXT..heap::TEXT + self::words(text_bytes)].iter().copied());
    if sequence == 0 || !is_valid(words[heap::CONTROL], words[heap::CHECKSUM], covered) {
        return Record::Torn;
    }
    let text = bytes_of(&words[heap::TEXT..heap::TEXT + heap::TEXT_WORDS]);
    let frame = |line: &str| {
        let (function, location) = line.split_once('\t').unwrap_or((line, ""));
        Frame { function: function.to_owned(), location: location.to_owned() }
    };
    let name = operations.iter().find(|row| row.index == operation).map(|row| row.name.clone());
    Record::Valid(HeapRow {
        operation,
        operation_name: name.unwrap_or_default(),
        live_bytes: untagged(tag, words[heap::LIVE]).unwrap_or_default(),
        samples: untagged(tag, words[heap::BLOCKS]).unwrap_or_default(),
        allocated_bytes: untagged(tag, words[heap::ALLOCATED]).unwrap_or_default(),
        addresses: words[heap::FRAMES..heap::FRAMES + frames].to_vec(),
        frames: text_of(&text[..text_bytes]).lines().map(frame).collect(),
    })
}

/// Key and value after their lengths (one byte, two bytes).
fn resource(mut bytes: &[u8]) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    while let [key_bytes, low, high, rest @ ..] = bytes {
        if pairs.len() == RESOURCE_ATTRIBUTES_MAX {
            break;
        }
        let value_bytes = usize::from(u16::from_le_bytes([*low, *high]));
        let Some((key, rest)) = rest.split_at_checked(usize::from(*key_bytes)) else { break };
        let Some((value, rest)) = rest.split_at_checked(value_bytes) else { break };
        pairs.push((text_of(key), text_of(value)));
        bytes = rest;
    }
    pairs
}

/// Key and value after their lengths (one byte each).
fn short_pairs(mut bytes: &[u8]) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    while let [key_bytes, value_bytes, rest @ ..] = bytes {
        let Some((key, rest)) = rest.split_at_checked(usize::from(*key_bytes)) else { break };
        let Some((value, rest)) = rest.split_at_checked(usize::from(*value_bytes)) else { break };
        pairs.push((text_of(key), text_of(value)));
        bytes = rest;
    }
    pairs
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn bytes_of(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn words_of<const N: usize>(bytes: &[u8]) -> [u64; N] {
    let mut words = [0; N];
    for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = u64_at(chunk, 0);
    }
    words
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    if let Some(found) = bytes.get(at..at + 8) {
        word.copy_from_slice(found);
    }
    u64::from_le_bytes(word)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u64_at(bytes, at) as u32
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u64_at(bytes, at) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn other_bytes_are_told_apart() {
        assert_eq!(read(b"{}"), Err(NotAJournal::Magic));
        assert!(matches!(read(b"E137JRNL"), Err(NotAJournal::Short { found: 8, .. })));
        let mut newer = vec![0; HEADER_BYTES];
        newer[..8].copy_from_slice(&MAGIC);
        newer[8] = 2;
        assert_eq!(read(&newer), Err(NotAJournal::Version { major: 2 }));
        newer[8] = 1;
        assert!(matches!(read(&newer), Err(NotAJournal::Header(_))));
    }

    /// A header whose checksum fits, so that hostile records are reached.
    fn with_header(counts: [u32; 3], resource: &[u8], records: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8] = 1;
        let mut put = |at: usize, value: u32| bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        put(header::HEADER_BYTES, HEADER_BYTES as u32);
        put(header::SLOT_BYTES, SLOT_BYTES as u32);
        put(header::OPERATION_BYTES, OPERATION_BYTES as u32);
        put(header::HEAP_ROW_BYTES, HEAP_ROW_BYTES as u32);
        put(header::SLOT_COUNT, counts[0]);
        put(header::OPERATION_COUNT, counts[1]);
        put(header::HEAP_ROW_COUNT, counts[2]);
        put(header::RESOURCE_BYTES, resource.len() as u32);
        bytes[header::RESOURCE..header::RESOURCE + resource.len()].copy_from_slice(resource);
        let sum =
            checksum::of(checksum::of_bytes(&bytes[..header::CHECKSUM]), [checksum::of_bytes(resource)]);
        bytes[header::CHECKSUM..header::CHECKSUM + 8].copy_from_slice(&sum.to_le_bytes());
        bytes.extend_from_slice(records);
        bytes
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            counts in [0u32..4, 0u32..4, 0u32..4],
            resource in proptest::collection::vec(any::<u8>(), 0..300),
            records in proptest::collection::vec(any::<u8>(), 0..4096),
            cut in 0usize..9000,
        ) {
            let bytes = with_header(counts, &resource, &records);
            let _ = read(&bytes);
            let _ = read(&bytes[..cut.min(bytes.len())]);
        }

        #[test]
        fn random_records_are_never_taken_for_requests(
            records in proptest::collection::vec(any::<u8>(), SLOT_BYTES * 4),
        ) {
            let journal = read(&with_header([4, 0, 0], &[], &records)).expect("a good header");
            prop_assert!(journal.in_flight.is_empty());
        }
    }
}
