//! The 64 bytes before each record, and the 64 bytes that an index has for it: `FORMAT.md` has the tables.

use crate::piece::{ContainerId, Encoding, Kind};

/// Size of a record's head and of an index entry.
pub(crate) const HEAD_BYTES: usize = 64;
/// Records start at multiples of this.
pub(crate) const RECORD_ALIGNMENT: u64 = 8;
const MAGIC: [u8; 4] = *b"e137";
/// The kind of a record that holds a container's identity.
pub(crate) const KIND_IDENTITY: u8 = 0;

/// No record is larger.
pub(crate) const BODY_BYTES_MAX: u32 = 64 << 20;
/// No file is longer.
const OFFSET_MAX: u64 = 1 << 60;

const FLAG_ZSTD: u8 = 1;
const FLAG_JOINED: u8 = 2;

/// Whether a checksum is right. A fuzzer would try for ever to find one, so to it all are.
pub(crate) fn agrees(stored: u32, computed: u32) -> bool {
    cfg!(fuzzing) || stored == computed
}

/// What is known of a record without reading its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Of the head, from the start of the file.
    pub offset: u64,
    /// Of the body in the file.
    pub stored_bytes: u32,
    /// Of the body after decompression.
    pub raw_bytes: u32,
    pub container: ContainerId,
    pub first: i64,
    pub last: i64,
    pub count: u32,
    pub pieces: u32,
    /// [`KIND_IDENTITY`] or a [`Kind`].
    pub kind: u8,
    /// 0 in identities and in joined pieces, which each have their own; else an [`Encoding`].
    pub encoding: u8,
    /// Whether the body is compressed.
    pub zstd: bool,
    /// Whether the body is several pieces, each with its own small head.
    pub joined: bool,
}

impl Entry {
    /// From the head to the start of the next record.
    pub fn span(&self) -> u64 {
        (HEAD_BYTES as u64 + u64::from(self.stored_bytes)).next_multiple_of(RECORD_ALIGNMENT)
    }

    /// The order of an index.
    pub fn key(&self) -> (ContainerId, u8, u64) {
        (self.container, self.kind, self.offset)
    }

    /// What the piece holds; `None` for identities and for what a later version wrote.
    pub fn kind(&self) -> Option<Kind> {
        Kind::from_number(self.kind)
    }

    pub fn encoding(&self) -> Option<Encoding> {
        Encoding::from_number(self.encoding)
    }

    fn flags(&self) -> u8 {
        u8::from(self.zstd) * FLAG_ZSTD + u8::from(self.joined) * FLAG_JOINED
    }

    /// The head of the record. Its checksum covers the file's nonce and the offset, so that a record is valid only
    /// where it was written: bytes that a client made look like records are never taken for one.
    pub fn head(&self, nonce: u64, body_crc: u32) -> [u8; HEAD_BYTES] {
        let mut head = [0; HEAD_BYTES];
        head[..4].copy_from_slice(&MAGIC);
        head[8..12].copy_from_slice(&body_crc.to_le_bytes());
        head[12..16].copy_from_slice(&self.stored_bytes.to_le_bytes());
        head[16..20].copy_from_slice(&self.raw_bytes.to_le_bytes());
        head[20..24].copy_from_slice(&[self.kind, self.encoding, self.flags(), 0]);
        head[24..40].copy_from_slice(&self.container.0);
        head[40..48].copy_from_slice(&self.first.to_le_bytes());
        head[48..56].copy_from_slice(&self.last.to_le_bytes());
        head[56..60].copy_from_slice(&self.count.to_le_bytes());
        head[60..64].copy_from_slice(&self.pieces.to_le_bytes());
        let crc = head_crc(&head, nonce, self.offset);
        head[4..8].copy_from_slice(&crc.to_le_bytes());
        head
    }

    /// Reads a head that lies at `offset`, with the checksum of its body; `None` when there is no record.
    pub fn from_head(head: &[u8], nonce: u64, offset: u64) -> Option<(Self, u32)> {
        let head: &[u8; HEAD_BYTES] = head.first_chunk()?;
        if head[..4] != MAGIC || !agrees(u32_at(head, 4), head_crc(head, nonce, offset)) {
            return None;
        }
        let entry = Self {
            offset,
            stored_bytes: u32_at(head, 12),
            raw_bytes: u32_at(head, 16),
            container: container_at(head, 24),
            first: i64_at(head, 40),
            last: i64_at(head, 48),
            count: u32_at(head, 56),
            pieces: u32_at(head, 60),
            kind: head[20],
            encoding: head[21],
            zstd: head[22] & FLAG_ZSTD != 0,
            joined: head[22] & FLAG_JOINED != 0,
        };
        entry.is_plausible().then_some((entry, u32_at(head, 8)))
    }

    /// The entry of an index.
    pub fn to_index(self, nonce: u64) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        bytes[..16].copy_from_slice(&self.container.0);
        bytes[16..20].copy_from_slice(&[self.kind, self.encoding, self.flags(), 0]);
        bytes[20..24].copy_from_slice(&self.count.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.offset.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.stored_bytes.to_le_bytes());
        bytes[36..40].copy_from_slice(&self.raw_bytes.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.first.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.last.to_le_bytes());
        bytes[56..60].copy_from_slice(&self.pieces.to_le_bytes());
        let crc = index_crc(&bytes, nonce);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads an entry of an index; `None` when it is damaged.
    pub fn from_index(bytes: &[u8], nonce: u64) -> Option<Self> {
        let bytes: &[u8; HEAD_BYTES] = bytes.first_chunk()?;
        if !agrees(u32_at(bytes, 60), index_crc(bytes, nonce)) {
            return None;
        }
        let entry = Self {
            offset: i64_at(bytes, 24) as u64,
            stored_bytes: u32_at(bytes, 32),
            raw_bytes: u32_at(bytes, 36),
            container: container_at(bytes, 0),
            first: i64_at(bytes, 40),
            last: i64_at(bytes, 48),
            count: u32_at(bytes, 20),
            pieces: u32_at(bytes, 56),
            kind: bytes[16],
            encoding: bytes[17],
            zstd: bytes[18] & FLAG_ZSTD != 0,
            joined: bytes[18] & FLAG_JOINED != 0,
        };
        entry.is_plausible().then_some(entry)
    }

    /// A checksum is no proof against whoever can write to the folder: nothing here may ask for gigabytes.
    fn is_plausible(&self) -> bool {
        self.stored_bytes <= BODY_BYTES_MAX && self.raw_bytes <= BODY_BYTES_MAX && self.offset < OFFSET_MAX
    }
}

fn head_crc(head: &[u8; HEAD_BYTES], nonce: u64, offset: u64) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&nonce.to_le_bytes());
    crc.update(&offset.to_le_bytes());
    crc.update(&head[8..]);
    crc.finalize()
}

fn index_crc(bytes: &[u8; HEAD_BYTES], nonce: u64) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&nonce.to_le_bytes());
    crc.update(&bytes[..60]);
    crc.finalize()
}

fn u32_at(bytes: &[u8; HEAD_BYTES], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn i64_at(bytes: &[u8; HEAD_BYTES], at: usize) -> i64 {
    i64::from_le_bytes(std::array::from_fn(|index| bytes[at + index]))
}

fn container_at(bytes: &[u8; HEAD_BYTES], at: usize) -> ContainerId {
    ContainerId(std::array::from_fn(|index| bytes[at + index]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(numbers: (u64, u32, u32, i64, i64, u32, u32), kind: u8, zstd: bool, joined: bool) -> Entry {
        let (offset, stored_bytes, raw_bytes, first, last, count, pieces) = numbers;
        let (offset, stored_bytes) = (offset % OFFSET_MAX, stored_bytes % (BODY_BYTES_MAX + 1));
        let raw_bytes = raw_bytes % (BODY_BYTES_MAX + 1);
        let container = ContainerId([kind; 16]);
        Entry {
            offset,
            stored_bytes,
            raw_bytes,
            container,
            first,
            last,
            count,
            pieces,
            kind,
            encoding: 2,
            zstd,
            joined,
        }
    }

    proptest! {
        #[test]
        fn heads_and_entries_are_read_back(
            numbers: (u64, u32, u32, i64, i64, u32, u32), kind: u8, zstd: bool, joined: bool, nonce: u64, crc: u32,
        ) {
            let entry = entry(numbers, kind, zstd, joined);
            prop_assert_eq!(Entry::from_index(&entry.to_index(nonce), nonce), Some(entry));
            let head = entry.head(nonce, crc);
            prop_assert_eq!(Entry::from_head(&head, nonce, entry.offset), Some((entry, crc)));
            prop_assert_eq!(Entry::from_head(&head, nonce, entry.offset ^ 8), None);
            prop_assert_eq!(Entry::from_head(&head, nonce ^ 1, entry.offset), None);
        }

        #[test]
        fn one_flipped_bit_is_seen(numbers: (u64, u32, u32, i64, i64, u32, u32), bit in 0usize..512) {
            let entry = entry(numbers, 1, true, false);
            let (mut head, mut index) = (entry.head(7, 9), entry.to_index(7));
            head[bit / 8] ^= 1 << (bit % 8);
            index[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(Entry::from_head(&head, 7, entry.offset), None);
            prop_assert_eq!(Entry::from_index(&index, 7), None);
        }
    }
}
