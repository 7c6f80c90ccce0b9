//! What is remembered: pieces. A piece is some bytes that one source sent about one container, kept as they
//! came. The store knows whose they are, of which kind and from when; it never looks inside.

use std::fmt;

use bytes::Bytes;
use exit137_core::time::UnixNanos;

use crate::siphash::siphash128;

/// What a piece holds. The numbers are in the files: never reuse one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Spans, as OTLP.
    Spans = 1,
    /// Metrics that were configured to be kept as they came, as OTLP.
    Metrics = 2,
    /// Log records, as OTLP.
    Logs = 3,
    /// Samples of memory, decoded on arrival.
    Samples = 4,
    /// Kubernetes objects and events.
    Kubernetes = 5,
    /// Lines of a kernel log.
    KernelLog = 6,
    /// Samples of cgroups.
    Cgroup = 7,
    /// Journals of instrumented processes.
    Journal = 8,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 8] = [
        Self::Spans,
        Self::Metrics,
        Self::Logs,
        Self::Samples,
        Self::Kubernetes,
        Self::KernelLog,
        Self::Cgroup,
        Self::Journal,
    ];

    /// As in JSON and on pages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Spans => "spans",
            Self::Metrics => "metrics",
            Self::Logs => "logs",
            Self::Samples => "samples",
            Self::Kubernetes => "kubernetes",
            Self::KernelLog => "kernel_log",
            Self::Cgroup => "cgroup",
            Self::Journal => "journal",
        }
    }

    /// What a busy container produces without bound, and what is given up first when the disk budget is used up.
    pub fn is_bulk(self) -> bool {
        matches!(self, Self::Spans | Self::Logs)
    }

    pub(crate) fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }

    pub(crate) fn index(self) -> usize {
        self as usize - 1
    }
}

/// How the bytes of a piece read. The numbers are in the files: never reuse one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Encoding {
    /// An OTLP `Export…ServiceRequest` as protobuf. Several of them, joined, are one again.
    Protobuf = 1,
    /// JSON: an OTLP request, a Kubernetes object.
    Json = 2,
    /// Lines of text.
    Text = 3,
    /// The store's own form of samples.
    Samples = 4,
    /// Bytes of a format that is told by [`Kind`].
    Binary = 5,
}

impl Encoding {
    pub(crate) fn from_number(number: u8) -> Option<Self> {
        let all = [Self::Protobuf, Self::Json, Self::Text, Self::Samples, Self::Binary];
        all.into_iter().find(|encoding| *encoding as u8 == number)
    }
}

/// Which container, by what it calls itself: the hash of its identity's attributes. Equal attributes have equal
/// ids in every store, so a lost catalogue can be made anew from the pieces.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerId(pub [u8; 16]);

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl ContainerId {
    /// Reads what `Display` writes.
    pub fn parse(text: &str) -> Option<Self> {
        let mut id = [0; 16];
        if text.len() != 32 || !text.is_ascii() {
            return None;
        }
        for (byte, digits) in id.iter_mut().zip(text.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        }
        Some(Self(id))
    }
}

/// The attributes by which a container is known: `k8s.pod.uid`, `container.id`, `service.name` and whatever else the
/// source chose to identify it by. The order in which they are given does not matter.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    id: ContainerId,
    /// Each attribute as key and value, each with its length (u16) before it; sorted by key.
    encoded: Bytes,
}

/// More than real resources need to be told apart; what lies beyond is cut off.
const ATTRIBUTES_MAX: usize = 32;
/// Kubernetes names are at most 253 bytes long.
const TEXT_BYTES_MAX: usize = 512;

impl Identity {
    /// From attributes. A value longer than 512 bytes counts with its first 512; of a key that comes twice, the
    /// first; more than 32 attributes count as the first 32 by name.
    pub fn of<'a>(attributes: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut sorted: Vec<(&str, &str)> = attributes.into_iter().collect();
        sorted.sort_by_key(|(key, _)| *key);
        sorted.dedup_by_key(|(key, _)| *key);
        sorted.truncate(ATTRIBUTES_MAX);
        let mut encoded = Vec::with_capacity(256);
        for text in sorted.iter().flat_map(|(key, value)| [cut(key), cut(value)]) {
            encoded.extend_from_slice(&(text.len() as u16).to_le_bytes());
            encoded.extend_from_slice(text.as_bytes());
        }
        Self { id: ContainerId(siphash128(&encoded)), encoded: encoded.into() }
    }

    /// What it is filed under.
    pub fn id(&self) -> ContainerId {
        self.id
    }

    /// Its attributes by name.
    pub fn attributes(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut rest: &[u8] = &self.encoded;
        std::iter::from_fn(move || Some((take_text(&mut rest)?, take_text(&mut rest)?)))
    }

    /// The value of one attribute.
    pub fn attribute(&self, key: &str) -> Option<&str> {
        self.attributes().find(|(known, _)| *known == key).map(|(_, value)| value)
    }

    pub(crate) fn encoded(&self) -> &Bytes {
        &self.encoded
    }

    /// Reads what a file holds; `None` when it is not what `of` would have written.
    pub(crate) fn decode(encoded: &[u8]) -> Option<Self> {
        let mut rest = encoded;
        let mut attributes = Vec::new();
        while !rest.is_empty() {
            attributes.push((take_text(&mut rest)?, take_text(&mut rest)?));
        }
        let identity = Self::of(attributes);
        (*identity.encoded == *encoded).then_some(identity)
    }
}

fn cut(text: &str) -> &str {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

fn take_text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let (length, after) = rest.split_first_chunk::<2>()?;
    let (text, after) = after.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
    *rest = after;
    std::str::from_utf8(text).ok()
}

/// Some bytes to remember.
#[derive(Debug, Clone)]
pub struct Piece {
    /// About whom.
    pub container: Identity,
    /// What they hold.
    pub kind: Kind,
    /// How they read.
    pub encoding: Encoding,
    /// The earliest time that they tell of, by the sender's clock.
    pub first: UnixNanos,
    /// The latest.
    pub last: UnixNanos,
    /// How many things are in them: spans, samples, objects. For people; what is dropped is counted in it.
    pub count: u32,
    /// The bytes.
    pub bytes: Bytes,
}

/// A piece as it is read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found<'a> {
    /// About whom.
    pub container: ContainerId,
    /// What the bytes hold.
    pub kind: Kind,
    /// How they read.
    pub encoding: Encoding,
    /// The earliest time that they tell of.
    pub first: UnixNanos,
    /// The latest.
    pub last: UnixNanos,
    /// How many things are in them.
    pub count: u32,
    /// The bytes, exactly as they were appended.
    pub bytes: &'a [u8],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_attributes_does_not_matter() {
        let one = Identity::of([("service.name", "cart"), ("container.id", "ab")]);
        let two = Identity::of([("container.id", "ab"), ("service.name", "cart")]);
        assert_eq!(one, two);
        assert_ne!(one.id(), Identity::of([("container.id", "ac"), ("service.name", "cart")]).id());
        assert_eq!(one.attributes().collect::<Vec<_>>(), [("container.id", "ab"), ("service.name", "cart")]);
    }

    #[test]
    fn what_separates_key_and_value_cannot_be_forged() {
        assert_ne!(Identity::of([("a", "bc")]).id(), Identity::of([("ab", "c")]).id());
        assert_ne!(Identity::of([("a", "b"), ("c", "d")]).id(), Identity::of([("a", "b\u{1}c\u{1}d")]).id());
    }

    #[test]
    fn long_values_are_cut_between_characters() {
        let identity = Identity::of([("k", "é".repeat(400).as_str())]);
        assert_eq!(identity.attribute("k").map(str::len), Some(512));
        assert_eq!(Identity::decode(identity.encoded()), Some(identity));
    }

    #[test]
    fn rubbish_is_no_identity() {
        assert_eq!(Identity::decode(&[1, 0, b'a']), None);
        assert_eq!(Identity::decode(&[9, 0, b'a']), None);
        // Unsorted: written by nobody.
        assert_eq!(Identity::decode(&[1, 0, b'b', 0, 0, 1, 0, b'a', 0, 0]), None);
    }

    #[test]
    fn an_id_is_read_back_from_its_text() {
        let id = Identity::of([("a", "b")]).id();
        assert_eq!(ContainerId::parse(&id.to_string()), Some(id));
        assert_eq!(ContainerId::parse("xyz"), None);
    }
}
