//! Filling a journal. Everything that happens for each request is a few stores into mapped memory.

pub(crate) mod free_list;
mod lives;
mod map;
mod text;

use std::cell::Cell;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;

use crate::checksum;
use crate::layout::{
    HEADER_BYTES, HEAP_ROW_BYTES, Kind, MAGIC, OPERATION_BYTES, SLOT_BYTES, VERSION_MAJOR, VERSION_MINOR,
    header, heap, operation, slot, state, tagged, words,
};
use crate::record::{self, AtomicU64, Ordering};

use free_list::FreeList;
pub use lives::{Previous, previous_lives};
use map::Map;
use text::{Text, cut};

/// Why there is no journal. The program runs on without.
#[derive(Debug)]
#[non_exhaustive]
pub enum CreateError {
    /// The file cannot be made, or has no room.
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// As many processes as one path serves are alive.
    Taken {
        /// Which path.
        path: PathBuf,
    },
}

impl std::fmt::Display for CreateError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File { path, .. } => write!(f, "cannot make the journal {}", path.display()),
            Self::Taken { path } => {
                write!(f, "{} and its siblings belong to processes that are alive", path.display())
            }
        }
    }
}

impl std::error::Error for CreateError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::File { source, .. } => Some(source),
            Self::Taken { .. } => None,
        }
    }
}

/// How large, and for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// Requests in flight at once that find room; 256 bytes each. At most 65,536.
    pub slots: u32,
    /// Operations with totals of their own; 128 bytes each.
    pub operations: u32,
    /// Rows of the live heap; 512 bytes each.
    pub heap_rows: u32,
    /// Attributes of the OpenTelemetry resource, most telling first: what does not fit is left out.
    pub resource: Vec<(String, String)>,
    /// Average bytes that one heap sample stands for; 0 when the heap is not sampled.
    pub sample_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { slots: 512, operations: 128, heap_rows: 128, resource: Vec::new(), sample_bytes: 0 }
    }
}

/// What is known of a request when it begins. Long text is cut, attributes that find no room are left out.
#[derive(Debug, Clone, Copy, Default)]
pub struct Request<'a> {
    /// Big endian; zeros when not traced.
    pub trace_id: [u8; 16],
    /// Big endian; zeros when not traced.
    pub span_id: [u8; 8],
    /// Big endian; zeros for a root.
    pub parent_span_id: [u8; 8],
    /// Low-cardinality name, 96 bytes at most.
    pub name: &'a str,
    /// Kind of the span.
    pub kind: Kind,
    /// Nanoseconds since 1970.
    pub start_unix_nanos: u64,
    /// Whether the span is sampled.
    pub sampled: bool,
    /// Index from [`Writer::register_operation`].
    pub operation: u16,
    /// Chosen attributes. They share 128 bytes with the name.
    pub attributes: &'a [(&'a str, &'a str)],
}

/// A slot in use. Whoever holds it may end it.
#[derive(Debug, PartialEq, Eq)]
pub struct Ticket {
    slot: u32,
    sequence: u64,
    tag: u16,
}

/// A slot in use, for those who only say how much it holds: they may come late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    slot: u32,
    tag: u16,
}

impl Ticket {
    /// For those who only say how much it holds.
    pub fn mark(&self) -> Mark {
        Mark { slot: self.slot, tag: self.tag }
    }
}

impl Mark {
    /// As one number.
    pub fn to_bits(self) -> u64 {
        u64::from(self.slot) << 16 | u64::from(self.tag)
    }

    /// From [`Mark::to_bits`].
    pub fn from_bits(bits: u64) -> Self {
        Self { slot: (bits >> 16) as u32, tag: bits as u16 }
    }
}

/// An operation's totals since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Requests begun.
    pub started: u64,
    /// Requests ended.
    pub finished: u64,
    /// Bytes allocated.
    pub allocated: u64,
    /// Bytes freed.
    pub freed: u64,
    /// Bytes of its that others freed, less bytes of others that it freed.
    pub moved: i64,
    /// The most that one request held.
    pub peak: u64,
}

/// What a row of the live heap is about.
#[derive(Debug, Clone, Copy, Default)]
pub struct HeapRowText<'a> {
    /// Index of the operation.
    pub operation: u16,
    /// Return addresses, innermost first; 16 at most.
    pub addresses: &'a [u64],
    /// `function<TAB>file:line` lines, innermost first; 328 bytes at most.
    pub text: &'a str,
}

/// A number of the calling thread, from 0 up: what threads share is laid out by it, so that they do not get in each other's way.
#[doc(hidden)]
pub fn thread_number() -> usize {
    /// The next one's number + 1.
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    thread_local! {
        // Constant and without a destructor: reaching it is an offset from a register, never an allocation.
        static NUMBER: Cell<usize> = const { Cell::new(0) };
    }
    NUMBER.with(|number| {
        if number.get() == 0 {
            number.set(NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        }
        number.get().wrapping_sub(1)
    })
}

/// The time, cheaply.
#[derive(Debug, Clone, Copy)]
pub struct Clock;

impl Clock {
    /// Nanoseconds since 1970, exact.
    pub fn now() -> u64 {
        map::unix_nanos(libc::CLOCK_REALTIME)
    }

    /// Nanoseconds since 1970, some milliseconds old at most, in a quarter of the time.
    pub fn about_now() -> u64 {
        map::unix_nanos(map::CLOCK_ABOUT)
    }
}

/// A journal being written. All methods may be called from all threads.
#[derive(Debug)]
pub struct Writer {
    map: Map,
    path: PathBuf,
    slots: u32,
    operations: u32,
    heap_rows: u32,
    free: FreeList,
}

/// Makes the journal at `path`, and finds what earlier lives left there. When `path` belongs to a process that is
/// alive, the name gets a number. A folder gets a file of its own for this program.
///
/// # Errors
/// When the file cannot be made, or has no room.
pub fn create(path: &Path, options: &Options) -> Result<(Writer, Vec<Previous>), CreateError> {
    let path = if path.is_dir() { path.join("exit137.journal") } else { path.to_owned() };
    lives::retire_the_dead(&path);
    let previous = previous_lives(&path);
    let header = header_of(options);
    let bytes = HEADER_BYTES
        + options.slots.min(65_536) as usize * SLOT_BYTES
        + options.operations.min(65_536) as usize * OPERATION_BYTES
        + options.heap_rows.min(65_536) as usize * HEAP_ROW_BYTES;
    let (map, path) = lives::publish(&path, bytes, &header)?;
    let writer = Writer {
        map,
        path,
        slots: options.slots.min(65_536),
        operations: options.operations.min(65_536),
        heap_rows: options.heap_rows.min(65_536),
        free: FreeList::new(options.slots.min(65_536)),
    };
    writer.heartbeat();
    Ok((writer, previous))
}

fn header_of(options: &Options) -> Vec<u8> {
    let mut bytes = vec![0; HEADER_BYTES];
    let resource = text::resource(&options.resource, HEADER_BYTES - header::RESOURCE);
    let counts = [options.slots, options.operations, options.heap_rows].map(|count| count.min(65_536));
    let sizes = [SLOT_BYTES, OPERATION_BYTES, HEAP_ROW_BYTES].map(|size| size as u32);
    let file_bytes: u64 = HEADER_BYTES as u64
        + counts.iter().zip(sizes).map(|(n, size)| u64::from(*n) * u64::from(size)).sum::<u64>();
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0, &MAGIC);
    put(header::VERSION_MAJOR, &VERSION_MAJOR.to_le_bytes());
    put(header::VERSION_MINOR, &VERSION_MINOR.to_le_bytes());
    put(header::HEADER_BYTES, &(HEADER_BYTES as u32).to_le_bytes());
    for (at, value) in [
        (header::SLOT_BYTES, sizes[0]),
        (header::SLOT_COUNT, counts[0]),
        (header::OPERATION_BYTES, sizes[1]),
        (header::OPERATION_COUNT, counts[1]),
        (header::HEAP_ROW_BYTES, sizes[2]),
        (header::HEAP_ROW_COUNT, counts[2]),
        (header::PID, std::process::id()),
        (header::RESOURCE_BYTES, resource.len() as u32),
    ] {
        put(at, &value.to_le_bytes());
    }
    put(header::FILE_BYTES, &file_bytes.to_le_bytes());
    put(header::STARTED, &Clock::now().to_le_bytes());
    put(header::LIFE, &lives::random().to_le_bytes());
    put(header::RESOURCE, &resource);
    put(header::SAMPLE_BYTES, &options.sample_bytes.to_le_bytes());
    let sum = checksum::of(checksum::of_bytes(&bytes[..header::CHECKSUM]), [checksum::of_bytes(&resource)]);
    bytes[header::CHECKSUM..header::CHECKSUM + 8].copy_from_slice(&sum.to_le_bytes());
    bytes
}

impl Writer {
    /// Where the journal is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Records that a request has begun. `None` when all slots are taken, which is counted.
    pub fn start(&self, request: &Request<'_>) -> Option<Ticket> {
        let Some(number) = self.free.pop(thread_number()) else {
            self.header_word(header::NOT_RECORDED).fetch_add(1, Ordering::Relaxed);
            return None;
        };
        let words = self.slot_words(number);
        let (before, _) = record::split(words[slot::CONTROL].load(Ordering::Relaxed));
        let sequence = record::begin(words, before);
        // Never 0: a word of zeros must not pass for a number.
        let tag = (sequence % 65_535) as u16 + 1;
        for at in [slot::HELD, slot::PEAK, slot::ALLOCATED, slot::PHASE] {
            words[at].store(0, Ordering::Relaxed);
        }
        words[slot::SEEN].store(request.start_unix_nanos, Ordering::Relaxed);
        let sum = write_request(words, sequence, tag, request);
        record::publish(words, sequence, sum);
        Some(Ticket { slot: number, sequence, tag })
    }

    /// Writes what became known late: the same request under another name, with other ids, or with attributes. The
    /// numbers and the phase stay.
    pub fn rewrite(&self, ticket: &mut Ticket, request: &Request<'_>) {
        let words = self.slot_words(ticket.slot);
        ticket.sequence = record::begin(words, ticket.sequence);
        let sum = write_request(words, ticket.sequence, ticket.tag, request);
        record::publish(words, ticket.sequence, sum);
    }

    /// Records that a request has ended.
    pub fn end(&self, ticket: Ticket) {
        let words = self.slot_words(ticket.slot);
        words[slot::SEEN].store(Clock::about_now(), Ordering::Relaxed);
        record::end(words, ticket.sequence);
        self.free.push(thread_number(), ticket.slot);
    }

    /// Records how much a request holds, held at most, and has allocated, in bytes. May come late: a number for a
    /// request that is over is not believed.
    pub fn set_memory(&self, mark: Mark, held: u64, peak: u64, allocated: u64) {
        if mark.slot >= self.slots {
            return;
        }
        let words = self.slot_words(mark.slot);
        words[slot::HELD].store(tagged(mark.tag, held), Ordering::Relaxed);
        words[slot::PEAK].store(tagged(mark.tag, peak), Ordering::Relaxed);
        words[slot::ALLOCATED].store(tagged(mark.tag, allocated), Ordering::Relaxed);
        words[slot::SEEN].store(Clock::about_now(), Ordering::Relaxed);
    }

    /// Records the phase that a request has entered; 24 bytes are kept.
    pub fn set_phase(&self, mark: Mark, label: &str) {
        if mark.slot >= self.slots {
            return;
        }
        let words = self.slot_words(mark.slot);
        let mut text = Text::<{ slot::PHASE_WORDS }>::default();
        text.push(cut(label, slot::PHASE_BYTES_MAX).as_bytes());
        let low = u64::from(mark.tag) << 16 | text.len() as u64;
        let packed = text.words();
        words[slot::PHASE].store(0, Ordering::Relaxed);
        for (at, word) in packed.iter().enumerate() {
            words[slot::PHASE_TEXT + at].store(*word, Ordering::Relaxed);
        }
        let sum = checksum::of(low, packed) >> 32 << 32;
        words[slot::PHASE].store(sum | low, Ordering::Release);
        words[slot::SEEN].store(Clock::about_now(), Ordering::Relaxed);
    }

    /// Names the operation with this index. To be called once for an index, by one thread.
    pub fn register_operation(&self, index: u16, name: &str, kind: Kind) -> bool {
        let Some(words) = self.operation_words(index) else { return false };
        let mut text = Text::<{ operation::NAME_WORDS }>::default();
        text.push(cut(name, operation::NAME_WORDS * 8).as_bytes());
        let shape = u64::from_le_bytes([text.len() as u8, kind as u8, 0, 0, 0, 0, 0, 0]);
        let packed = text.words();
        words[operation::SHAPE].store(shape, Ordering::Relaxed);
        for (at, word) in packed.iter().enumerate() {
            words[operation::NAME + at].store(*word, Ordering::Relaxed);
        }
        let sum = checksum::of(u64::from(index), std::iter::once(shape).chain(packed));
        words[operation::CHECKSUM].store(sum, Ordering::Release);
        true
    }

    /// Records an operation's totals as they are now.
    pub fn set_totals(&self, index: u16, totals: &Totals) {
        let Some(words) = self.operation_words(index) else { return };
        for (at, value) in [
            (operation::STARTED, totals.started),
            (operation::FINISHED, totals.finished),
            (operation::ALLOCATED, totals.allocated),
            (operation::FREED, totals.freed),
            (operation::MOVED, totals.moved as u64),
            (operation::PEAK, totals.peak),
        ] {
            words[at].store(value, Ordering::Relaxed);
        }
    }

    /// How many rows the live heap has.
    pub fn heap_rows(&self) -> u32 {
        self.heap_rows
    }

    /// Says what a row of the live heap is about, and returns the tag for its numbers. One thread at a time.
    pub fn set_heap_row(&self, row: u32, about: &HeapRowText<'_>) -> Option<u16> {
        let words = self.heap_words(row)?;
        let (before, _) = record::split(words[heap::CONTROL].load(Ordering::Relaxed));
        let sequence = record::begin(words, before);
        let tag = (sequence % 65_535) as u16 + 1;
        let addresses = &about.addresses[..about.addresses.len().min(heap::FRAMES_MAX)];
        let mut text = Text::<{ heap::TEXT_WORDS }>::default();
        text.push(cut(about.text, heap::TEXT_WORDS * 8).as_bytes());
        let shape = u64::from(about.operation)
            | u64::from(tag) << 16
            | (addresses.len() as u64) << 32
            | (text.len() as u64) << 48;
        let mut sum = checksum::add(checksum::begin(sequence), shape);
        words[heap::SHAPE].store(shape, Ordering::Relaxed);
        for (at, address) in addresses.iter().enumerate() {
            words[heap::FRAMES + at].store(*address, Ordering::Relaxed);
            sum = checksum::add(sum, *address);
        }
        for (at, word) in text.words().iter().take(self::words(text.len())).enumerate() {
            words[heap::TEXT + at].store(*word, Ordering::Relaxed);
            sum = checksum::add(sum, *word);
        }
        record::publish(words, sequence, sum);
        Some(tag)
    }

    /// Empties a row of the live heap. One thread at a time.
    pub fn clear_heap_row(&self, row: u32) {
        if let Some(words) = self.heap_words(row) {
            let (sequence, _) = record::split(words[heap::CONTROL].load(Ordering::Relaxed));
            words[heap::CONTROL].store(record::control(sequence, state::FREE), Ordering::Release);
        }
    }

    /// Records how much of the heap is live there: bytes, samples, and bytes ever allocated.
    pub fn set_heap_live(&self, row: u32, tag: u16, live: u64, samples: u64, allocated: u64) {
        if let Some(words) = self.heap_words(row) {
            words[heap::LIVE].store(tagged(tag, live), Ordering::Relaxed);
            words[heap::BLOCKS].store(tagged(tag, samples), Ordering::Relaxed);
            words[heap::ALLOCATED].store(tagged(tag, allocated), Ordering::Relaxed);
        }
    }

    /// Records the live heap altogether, and what no row lists, in bytes.
    pub fn set_live(&self, bytes: u64, unlisted: u64) {
        self.header_word(header::LIVE_BYTES).store(bytes, Ordering::Relaxed);
        self.header_word(header::LIVE_BYTES_UNLISTED).store(unlisted, Ordering::Relaxed);
    }

    /// The process lives.
    pub fn heartbeat(&self) {
        self.header_word(header::HEARTBEAT).store(Clock::now(), Ordering::Relaxed);
    }

    /// The process ends of its own will: what is in flight now was not killed.
    pub fn close(&self) {
        self.header_word(header::CLOSED).store(Clock::now(), Ordering::Release);
    }

    fn header_word(&self, at: usize) -> &AtomicU64 {
        &self.map.words(at, 1)[0]
    }

    fn slot_words(&self, number: u32) -> &[AtomicU64] {
        self.map.words(HEADER_BYTES + number as usize * SLOT_BYTES, slot::WORDS)
    }

    fn operation_words(&self, index: u16) -> Option<&[AtomicU64]> {
        let at = HEADER_BYTES + self.slots as usize * SLOT_BYTES + usize::from(index) * OPERATION_BYTES;
        (u32::from(index) < self.operations).then(|| self.map.words(at, operation::WORDS))
    }

    fn heap_words(&self, row: u32) -> Option<&[AtomicU64]> {
        let at = HEADER_BYTES
            + self.slots as usize * SLOT_BYTES
            + self.operations as usize * OPERATION_BYTES
            + row as usize * HEAP_ROW_BYTES;
        (row < self.heap_rows).then(|| self.map.words(at, heap::WORDS))
    }
}

/// Stores the payload of a request and returns its checksum.
fn write_request(words: &[AtomicU64], sequence: u64, tag: u16, request: &Request<'_>) -> u64 {
    let mut text = Text::<{ slot::TEXT_WORDS }>::default();
    let name = cut(request.name, slot::NAME_BYTES_MAX).as_bytes();
    text.push(name);
    text.align();
    let attributes_from = text.len();
    for (key, value) in request.attributes {
        text.push_pair(key, value);
    }
    let attribute_bytes = text.len() - attributes_from;
    let tag = tag.to_le_bytes();
    let operation = request.operation.to_le_bytes();
    let shape = [
        tag[0],
        tag[1],
        request.kind as u8,
        u8::from(request.sampled),
        name.len() as u8,
        attribute_bytes as u8,
        operation[0],
        operation[1],
    ];
    let half = |from: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&request.trace_id[from..from + 8]);
        u64::from_le_bytes(bytes)
    };
    let fixed = [
        request.start_unix_nanos,
        half(0),
        half(8),
        u64::from_le_bytes(request.span_id),
        u64::from_le_bytes(request.parent_span_id),
        u64::from_le_bytes(shape),
    ];
    let mut sum = checksum::begin(sequence);
    let mut places = words[slot::START..].iter();
    let mut put = |word: u64| {
        if let Some(place) = places.next() {
            place.store(word, Ordering::Relaxed);
        }
        sum = checksum::add(sum, word);
    };
    fixed.into_iter().for_each(&mut put);
    text.words().into_iter().take(self::words(text.len())).for_each(&mut put);
    sum
}
