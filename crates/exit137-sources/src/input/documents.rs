//! Takes a block of JSON apart into documents and gives each to the source that understands it.

use exit137_core::observation::SourceKind;
use exit137_core::observation::cgroup::CgroupSample;
use memchr::memchr;

use super::blocks::is_line_cut;
use crate::location::Location;
use crate::otlp::json::cursor::{Cursor, Fault};
use crate::otlp::sink::{FULL, Sink};
use crate::{cgroup, kubernetes, otlp};

/// More top-level keys than this do not help to tell what a document is.
const KEYS_MAX: usize = 64;

/// What a pod takes with its containers and their ends; the other objects take less.
const OBJECT_BYTES: usize = 4 << 10;

/// Said once a file.
pub(super) const NOT_RECOGNISED: &str =
    "not recognised: expected OTLP, Kubernetes objects, a kernel log or cgroup samples";

/// What a document is, by its top-level keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Kubernetes,
    Cgroup,
    Journal,
    Unknown,
}

/// Decodes all documents of `block`. Tells whether one was not recognised, by its line.
pub(super) fn decode(block: &[u8], at: Location<'_>, sink: &mut Sink) -> Option<usize> {
    let mut lines = Lines { block, counted: 0, line: at.line };
    let mut extents = Extents::default();
    let mut unknown = None;
    let mut start = 0;
    while let Some(offset) = block[start..].iter().position(|byte| !is_between_documents(*byte)) {
        start += offset;
        let at = Location { file: at.file, line: lines.at(start) };
        if block[start] != b'{' {
            sink.observations.problems.add(at.file, Some(at.line), "expected a JSON object");
            start = next_start(block, start);
            continue;
        }
        let document = &block[start..extents.end(block, start)];
        start = match document_at(document, at, sink, &mut unknown) {
            Ok(length) => start + length,
            Err(broken) => next_start(block, start + broken),
        };
    }
    unknown
}

/// White space, what stands around and between the elements of an array, a byte order mark, and the record
/// separator of JSON text sequences.
fn is_between_documents(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b',' | b'[' | b']' | 0xef | 0xbb | 0xbf | 0x1e)
}

/// Line numbers, counted on from the last one asked for.
struct Lines<'a> {
    block: &'a [u8],
    counted: usize,
    line: usize,
}

impl Lines<'_> {
    fn at(&mut self, at: usize) -> usize {
        self.line += memchr::memchr_iter(b'\n', &self.block[self.counted..at]).count();
        self.counted = at;
        self.line
    }
}

/// Finds up to where documents may reach, looking at no byte twice.
#[derive(Default)]
struct Extents {
    /// The end of the line asked about last, and whether it ends with a bracket.
    line_end: usize,
    closes: bool,
    /// The first unmistakable start of another document after the last place that was asked for.
    next_cut: usize,
}

impl Extents {
    /// A line from `{` to `}` is one document, or several; else the document at `start` ends at the latest where
    /// another unmistakably starts.
    fn end(&mut self, block: &[u8], start: usize) -> usize {
        if self.line_end <= start {
            self.line_end = start + memchr(b'\n', &block[start..]).unwrap_or(block.len() - start);
            self.closes = block[start..self.line_end].trim_ascii_end().ends_with(b"}");
        }
        if self.closes {
            return self.line_end;
        }
        if self.next_cut > start {
            return self.next_cut;
        }
        let mut end = self.line_end;
        while let Some(rest) = block.get(end + 1..) {
            if is_line_cut(block, end + 1) {
                break;
            }
            end += 1 + memchr(b'\n', rest).unwrap_or(rest.len());
        }
        self.next_cut = end.min(block.len());
        self.next_cut
    }
}

/// The next line that starts with a bracket, after a document broke at `broken`.
fn next_start(block: &[u8], broken: usize) -> usize {
    // The text may have broken at the bracket of that line itself.
    let broken = broken.min(block.len());
    let before = block[..broken].trim_ascii_end().len();
    memchr::memmem::find(&block[before..], b"\n{").map_or(block.len(), |at| before + at + 1)
}

/// Decodes one document; tells its length, or where it broke.
fn document_at(
    document: &[u8],
    at: Location<'_>,
    sink: &mut Sink,
    unknown: &mut Option<usize>,
) -> Result<usize, usize> {
    let mut cursor = Cursor::new(document);
    let first_key = cursor.enter_object().and_then(|_| cursor.key());
    if let Ok(Some(key)) = first_key
        && otlp::json::is_top_level_key(key)
    {
        return otlp::json::decode(document, at, sink);
    }
    let mut cursor = Cursor::new(document);
    let kind = match kind(&mut cursor) {
        Ok(kind) => kind,
        Err(fault) => {
            let line = at.line_of(document, fault.at);
            let message = format!("not JSON: expected {}", fault.expected);
            sink.observations.problems.add(at.file, Some(line), message);
            return Err(fault.at);
        }
    };
    let length = cursor.at();
    let document = &document[..length];
    match kind {
        Some(Kind::Kubernetes) => {
            let mut usable = None;
            let before = objects(sink);
            if sink.room.is_full() {
                sink.observations.problems.add(at.file, Some(at.line), format!("expected {FULL}"));
                return Ok(length);
            }
            sink.foreign(|observations| usable = kubernetes::decode_json(document, at, observations).ok());
            let _ = sink.room.take((objects(sink) - before) * OBJECT_BYTES);
            match usable {
                Some(records) => sink.count(SourceKind::Kubernetes, records),
                None => {
                    unknown.get_or_insert(at.line);
                }
            }
        }
        Some(Kind::Cgroup) => match cgroup::decode(document) {
            // What it takes is about what it took to write it.
            Ok(_) if sink.room.take(size_of::<CgroupSample>() + length).is_err() => {
                sink.observations.problems.add(at.file, Some(at.line), format!("expected {FULL}"));
            }
            Ok(sample) => {
                sink.observations.cgroup_samples.push(sample);
                sink.count(SourceKind::Cgroup, 1);
            }
            Err(error) => sink.observations.problems.add(at.file, Some(at.line), error.to_string()),
        },
        Some(Kind::Journal | Kind::Unknown) => {
            unknown.get_or_insert(at.line);
        }
        // OTLP whose first key is another: there is no rule about the order.
        None => return otlp::json::decode(document, at, sink),
    }
    Ok(length)
}

/// How many Kubernetes objects are kept: a watch tells of the same ones again and again.
fn objects(sink: &Sink) -> usize {
    let found = &sink.observations.kubernetes;
    found.pods.len() + found.events.len() + found.nodes.len() + found.workloads.len()
}

/// The kind of the object at the cursor, which then stands behind it; `None` for OTLP.
fn kind(cursor: &mut Cursor<'_>) -> Result<Option<Kind>, Fault> {
    let mut keys: Vec<&[u8]> = Vec::new();
    cursor.enter_object()?;
    while let Some(key) = cursor.key()? {
        if keys.len() < KEYS_MAX {
            keys.push(key);
        }
        cursor.skip()?;
    }
    let has = |key: &str| keys.contains(&key.as_bytes());
    let kind = if keys.iter().any(|key| otlp::json::is_top_level_key(key)) {
        return Ok(None);
    } else if has("kind") && (has("apiVersion") || has("metadata"))
        || has("type") && has("object")
        || has("items") && (has("apiVersion") || has("metadata"))
    {
        Kind::Kubernetes
    } else if has("time") && ["usage", "rss", "anon"].iter().any(|key| has(key)) {
        Kind::Cgroup
    } else if has("MESSAGE") && (has("_TRANSPORT") || has("__REALTIME_TIMESTAMP")) {
        Kind::Journal
    } else {
        Kind::Unknown
    };
    Ok(Some(kind))
}

/// Whether `head` is the start of a journal written as JSON: its records make one kernel log and stay together.
pub(super) fn is_journal(head: &[u8]) -> bool {
    let line = head.trim_ascii_start();
    let line = &line[..memchr(b'\n', line).unwrap_or(line.len())];
    kind(&mut Cursor::new(line)) == Ok(Some(Kind::Journal))
}
