//! Where everything lies. All numbers are little endian; a word is eight bytes. `JOURNAL.md` says the same in prose.

#![cfg_attr(not(feature = "writer"), allow(dead_code, reason = "some of it only the writer needs"))]

/// First bytes of a journal.
pub const MAGIC: [u8; 8] = *b"E137JRNL";
/// A reader refuses another one.
pub const VERSION_MAJOR: u16 = 1;
/// Grows when fields are added where there were zeros, or records become longer.
pub const VERSION_MINOR: u16 = 0;

/// Index of the operation that stands for all work outside of any operation.
pub const BACKGROUND: u16 = 0;
/// Index of the operation that stands for those that found no row.
pub const OTHER: u16 = 1;

pub(crate) const HEADER_BYTES: usize = 4096;
pub(crate) const SLOT_BYTES: usize = 256;
pub(crate) const OPERATION_BYTES: usize = 128;
pub(crate) const HEAP_ROW_BYTES: usize = 512;

/// Byte offsets in the header.
pub(crate) mod header {
    pub const VERSION_MAJOR: usize = 8;
    pub const VERSION_MINOR: usize = 10;
    pub const HEADER_BYTES: usize = 12;
    pub const SLOT_BYTES: usize = 16;
    pub const SLOT_COUNT: usize = 20;
    pub const OPERATION_BYTES: usize = 24;
    pub const OPERATION_COUNT: usize = 28;
    pub const HEAP_ROW_BYTES: usize = 32;
    pub const HEAP_ROW_COUNT: usize = 36;
    pub const FILE_BYTES: usize = 40;
    pub const STARTED: usize = 48;
    pub const LIFE: usize = 56;
    pub const PID: usize = 64;
    pub const RESOURCE_BYTES: usize = 68;
    /// Of the bytes before it, and of the resource.
    pub const CHECKSUM: usize = 72;
    /// From here on single words that change.
    pub const HEARTBEAT: usize = 80;
    pub const CLOSED: usize = 88;
    pub const SAMPLE_BYTES: usize = 96;
    pub const NOT_RECORDED: usize = 104;
    pub const LIVE_BYTES: usize = 112;
    pub const LIVE_BYTES_UNLISTED: usize = 120;
    pub const RESOURCE: usize = 256;
}

/// Word offsets in a slot.
pub(crate) mod slot {
    pub const WORDS: usize = 32;
    pub const CONTROL: usize = 0;
    pub const CHECKSUM: usize = 1;
    pub const START: usize = 2;
    pub const TRACE_ID: usize = 3;
    pub const SPAN_ID: usize = 5;
    pub const PARENT_ID: usize = 6;
    /// tag (16 bits), kind (8), flags (8), name bytes (8), attribute bytes (8), operation (16)
    pub const SHAPE: usize = 7;
    pub const TEXT: usize = 8;
    pub const TEXT_WORDS: usize = 16;
    pub const HELD: usize = 24;
    pub const PEAK: usize = 25;
    pub const ALLOCATED: usize = 26;
    pub const SEEN: usize = 27;
    /// checksum (upper 32 bits), tag (16), bytes (16)
    pub const PHASE: usize = 28;
    pub const PHASE_TEXT: usize = 29;
    pub const PHASE_WORDS: usize = 3;
    pub const NAME_BYTES_MAX: usize = 96;
    pub const PHASE_BYTES_MAX: usize = PHASE_WORDS * 8;
}

/// Word offsets in an operation.
pub(crate) mod operation {
    pub const WORDS: usize = 16;
    pub const CHECKSUM: usize = 0;
    /// name bytes (8 bits), kind (8)
    pub const SHAPE: usize = 1;
    pub const NAME: usize = 2;
    pub const NAME_WORDS: usize = 8;
    pub const STARTED: usize = 10;
    pub const FINISHED: usize = 11;
    pub const ALLOCATED: usize = 12;
    pub const FREED: usize = 13;
    pub const MOVED: usize = 14;
    pub const PEAK: usize = 15;
}

/// Word offsets in a row of the live heap.
pub(crate) mod heap {
    pub const WORDS: usize = 64;
    pub const CONTROL: usize = 0;
    pub const CHECKSUM: usize = 1;
    /// operation (16 bits), tag (16), frames (8), zero (8), text bytes (16)
    pub const SHAPE: usize = 2;
    pub const FRAMES: usize = 3;
    pub const FRAMES_MAX: usize = 16;
    pub const TEXT: usize = 19;
    pub const TEXT_WORDS: usize = 41;
    pub const LIVE: usize = 60;
    pub const BLOCKS: usize = 61;
    pub const ALLOCATED: usize = 62;
}

/// State of a record: the two lowest bits of its control word. The rest is its sequence number.
pub(crate) mod state {
    pub const FREE: u64 = 0;
    pub const WRITING: u64 = 1;
    pub const VALID: u64 = 2;
    pub const ENDED: u64 = 3;
}

/// A number that belongs to one record only carries the record's tag, so that a late writer is not believed.
pub(crate) const TAG_SHIFT: u32 = 48;
pub(crate) const TAGGED_MAX: u64 = (1 << TAG_SHIFT) - 1;

pub(crate) fn tagged(tag: u16, value: u64) -> u64 {
    u64::from(tag) << TAG_SHIFT | value.min(TAGGED_MAX)
}

pub(crate) fn untagged(tag: u16, word: u64) -> Option<u64> {
    (word >> TAG_SHIFT == u64::from(tag)).then_some(word & TAGGED_MAX)
}

/// `SpanKind` of OTLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(u8)]
#[non_exhaustive]
pub enum Kind {
    /// Unspecified, or a number that OTLP does not define.
    #[default]
    Unspecified = 0,
    /// Inside a process.
    Internal = 1,
    /// Answers a request.
    Server = 2,
    /// Makes a request.
    Client = 3,
    /// Sends a message.
    Producer = 4,
    /// Takes a message.
    Consumer = 5,
}

impl Kind {
    /// From OTLP's number.
    pub fn from_number(number: u8) -> Self {
        match number {
            1 => Self::Internal,
            2 => Self::Server,
            3 => Self::Client,
            4 => Self::Producer,
            5 => Self::Consumer,
            _ => Self::Unspecified,
        }
    }
}

/// Words that hold this many bytes.
pub(crate) const fn words(bytes: usize) -> usize {
    bytes.div_ceil(8)
}
