//! Splits an export at its resources without decoding what they did.
//!
//! Almost no span is ever looked at: only a container that dies pays for decoding. What filing needs is found on the
//! way over the bytes: which resource, how many records, and from when to when they reach. A part is a whole export
//! of one resource, in the encoding in which it came, and borrowed from the body unless something had to be cut out.
//!
//! - **Protobuf** is walked down to the fields of a record that say when it was; all others are stepped over. A record
//!   that is no protobuf message is cut out and counted; the rest of its resource stays.
//! - **JSON** stays JSON: turning it into protobuf would cost as much as decoding it, and a bug there would falsify
//!   evidence. Text that is broken cannot be trusted from there on: what comes after the break is rejected.
//!
//! What is wrong deeper inside a record shows when it is decoded, as a problem with one record.

mod json;
mod proto;

use std::borrow::Cow;

use bytes::Bytes;
use exit137_core::time::UnixNanos;

use super::{Encoding, Signal};

/// The records of one resource.
#[derive(Debug, Clone, PartialEq)]
pub struct Part<'a> {
    /// How `resource` and `bytes` are written.
    pub encoding: Encoding,
    /// The resource as written: equal bytes are equal resources, so that what is made of one can be remembered.
    /// [`identity`] reads it. Empty when the sender named none.
    pub resource: &'a [u8],
    /// A whole `Export*ServiceRequest` with this resource alone. In protobuf, several of them one after another are
    /// one request again.
    pub bytes: Cow<'a, [u8]>,
    /// Spans, data points or log records.
    pub records: u64,
    /// The earliest start of a span, or time of a point or a log record, when any has one.
    pub first: Option<UnixNanos>,
    /// The latest end or time.
    pub last: Option<UnixNanos>,
}

impl Part<'_> {
    /// Its bytes without copying them: they keep `body`, from which they were split, in memory.
    pub fn into_bytes(self, body: &Bytes) -> Bytes {
        match self.bytes {
            Cow::Borrowed(bytes) => body.slice_ref(bytes),
            Cow::Owned(bytes) => Bytes::from(bytes),
        }
    }
}

/// An export in parts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Split<'a> {
    /// In the order of the export; a resource can come more than once. Resources without records are left out.
    pub parts: Vec<Part<'a>>,
    /// Records that cannot be used. At least one when something was lost, as what is broken cannot be counted.
    pub rejected: u64,
    /// What was expected where the first of them stands: completes "expected …".
    pub expected: Option<&'static str>,
}

impl<'a> Split<'a> {
    fn reject(&mut self, records: u64, expected: &'static str) {
        self.rejected = self.rejected.saturating_add(records.max(1));
        self.expected.get_or_insert(expected);
    }

    fn push(&mut self, part: Part<'a>) {
        if part.records > 0 {
            self.parts.push(part);
        }
    }
}

/// Splits one `Export*ServiceRequest`.
pub fn split(signal: Signal, encoding: Encoding, body: &[u8]) -> Split<'_> {
    match encoding {
        Encoding::Protobuf => proto::split(signal, body),
        Encoding::Json => json::split(signal, body),
    }
}

/// The attributes of a resource that say who it is, sorted by key; see [`is_identity`].
pub fn identity(encoding: Encoding, resource: &[u8]) -> Vec<(String, String)> {
    let mut attributes = match encoding {
        Encoding::Protobuf => proto::identity(resource),
        Encoding::Json => json::identity(resource),
    };
    attributes.sort_unstable();
    attributes.dedup_by(|later, first| later.0 == first.0);
    attributes
}

/// Longer names are none: Kubernetes allows 253 characters, a cgroup path a few hundred.
const VALUE_BYTES_MAX: usize = 1024;

/// `replicationcontroller` is the longest of Kubernetes' own.
const KIND_BYTES_MAX: usize = 32;

/// Whether an attribute says which container, process or service a resource is, or where it runs.
pub fn is_identity(key: &[u8]) -> bool {
    match key {
        b"container.id" | b"container.name" | b"host.name" | b"host.id" | b"process.pid"
        | b"process.cgroup" => true,
        b"service.name" | b"service.namespace" | b"service.instance.id" | b"service.version" => true,
        // Names and uids of everything that Kubernetes has; not the labels and annotations of pods.
        _ => key.strip_prefix(b"k8s.").is_some_and(|rest| {
            let kind = rest.strip_suffix(b".name").or(rest.strip_suffix(b".uid"));
            kind.is_some_and(|kind| kind.len() <= KIND_BYTES_MAX && !kind.contains(&b'.'))
        }),
    }
}

/// From when to when.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Reach {
    first: Option<UnixNanos>,
    last: Option<UnixNanos>,
}

impl Reach {
    /// Zero is OTLP's way of not saying; times past 2262 are no times.
    #[inline]
    fn add(&mut self, nanos: u64) {
        let Ok(nanos @ 1..) = i64::try_from(nanos) else { return };
        let at = UnixNanos(nanos);
        self.first = Some(self.first.map_or(at, |first| first.min(at)));
        self.last = Some(self.last.map_or(at, |last| last.max(at)));
    }
}

#[cfg(test)]
mod tests;
