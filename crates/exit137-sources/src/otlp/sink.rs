//! Where decoded telemetry goes: what is kept of it, in what form, is decided here once for JSON and protobuf.

mod log;
pub(super) mod metric;
mod room;
mod span;

use std::collections::{BTreeSet, HashMap};

use exit137_core::observation::{Observations, ResourceId, SourceKind};
use exit137_core::symbol::Symbol;

use super::keys::{self, KeyClass};
use super::number;

pub(crate) use log::{LOGS_MAX, LogDraft, has_event_reason, may_be_relevant};
pub(crate) use metric::{BUCKETS_MAX, DELTA, DistributionDraft, Exponential, MetricDraft, PointDraft};
pub(crate) use room::{FULL, KEPT_BYTES_MAX, Room};
pub(crate) use span::{SpanDraft, weight};

/// Longer values are bodies, not identity.
const VALUE_BYTES_MAX: usize = 256;

/// Of a span, a data point or a log record.
const ATTRIBUTES_MAX: usize = 64;

/// Of a resource: those of a Kubernetes pod with all its labels fit.
const RESOURCE_ATTRIBUTES_MAX: usize = 256;

/// Bytes of encoded resources remembered, so that one that comes with every batch is decoded once.
const RESOURCE_CACHE_BYTES_MAX: usize = 4 << 20;

/// An attribute's value as its encoding delivers it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Value<'a> {
    Text(&'a [u8]),
    Bool(bool),
    Int(i64),
    Double(f64),
    Bytes(&'a [u8]),
}

/// The key of a span attribute.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key {
    symbol: Symbol,
    class: KeyClass,
}

/// Collects what one worker decodes.
#[derive(Debug, Default)]
pub(crate) struct Sink {
    pub(crate) observations: Observations,
    /// Which kinds were found in which file (by number).
    pub(crate) found: BTreeSet<(u32, SourceKind)>,
    /// The number of the file being read.
    pub(crate) file_number: u32,
    /// Room for what is kept.
    pub(crate) room: Room,
    /// By the key's symbol number.
    keys: Vec<Option<Key>>,
    resources: HashMap<Box<[u8]>, ResourceId>,
    resources_bytes: usize,
    pub(crate) span: SpanDraft,
    shared_attributes: span::SharedAttributes,
    /// Key and value that a span of such a name had last at each place.
    usual: span::Usual,
}

/// What a resource or a series takes beside its attributes: it is there twice, once to be found.
const IDENTITY_BYTES: usize = 256;

impl Sink {
    /// Collects into a part of this room.
    pub(crate) fn with_room(room: Room) -> Self {
        Self { room, ..Self::default() }
    }

    /// Counts one usable record.
    pub(crate) fn count(&mut self, kind: SourceKind, records: u64) {
        if records > 0 {
            self.observations.count(kind, records, false);
            self.found.insert((self.file_number, kind));
        }
    }

    /// Lets another source add to the observations. Which kinds it found in the file is seen from its counts.
    pub(crate) fn foreign(&mut self, add: impl FnOnce(&mut Observations)) {
        let before = self.observations.counts.clone();
        add(&mut self.observations);
        for (kind, count) in &mut self.observations.counts {
            let before = before.get(kind).copied().unwrap_or_default();
            if *count != before {
                // One file may come in many pieces: files are counted at the end.
                count.files = before.files;
                self.found.insert((self.file_number, *kind));
            }
        }
    }

    /// What is known of a span attribute's key.
    fn key(&mut self, key: &[u8]) -> Key {
        let symbol = self.observations.symbols.intern_bytes(key);
        let number = symbol.0 as usize;
        if let Some(Some(known)) = self.keys.get(number) {
            return *known;
        }
        let class = keys::classify(self.observations.symbols.text(symbol));
        let key = Key { symbol, class };
        if self.keys.len() <= number {
            self.keys.resize(number + 1, None);
        }
        self.keys[number] = Some(key);
        key
    }

    /// The symbol of a value's text.
    pub(crate) fn value(&mut self, value: Value<'_>) -> Symbol {
        let symbols = &mut self.observations.symbols;
        match value {
            Value::Text(text) => symbols.intern_bytes(cut(text)),
            Value::Bool(true) => symbols.intern("true"),
            Value::Bool(false) => symbols.intern("false"),
            Value::Int(number) => symbols.intern(&number.to_string()),
            Value::Double(number) => symbols.intern(&number::double_text(number)),
            Value::Bytes(bytes) => {
                let mut text = Vec::new();
                number::push_base64(&bytes[..bytes.len().min(VALUE_BYTES_MAX)], &mut text);
                symbols.intern_bytes(cut(&text))
            }
        }
    }

    /// The resource that was encoded as `encoded` before.
    pub(crate) fn known_resource(&self, encoded: &[u8]) -> Option<ResourceId> {
        self.resources.get(encoded).copied()
    }

    /// A resource with these attributes; the next time it comes as `encoded` it is known.
    pub(crate) fn resource(&mut self, encoded: &[u8], mut attributes: Vec<(Symbol, Symbol)>) -> ResourceId {
        attributes.truncate(RESOURCE_ATTRIBUTES_MAX);
        let size = IDENTITY_BYTES + 2 * size_of_val(attributes.as_slice());
        if self.room.take(size).is_err() {
            // Its records find no room either.
            attributes.clear();
        }
        let id = self.observations.intern_resource(attributes);
        if self.resources_bytes + encoded.len() > RESOURCE_CACHE_BYTES_MAX {
            self.resources.clear();
            self.resources_bytes = 0;
        }
        if encoded.len() <= RESOURCE_CACHE_BYTES_MAX {
            self.resources_bytes += encoded.len();
            self.resources.insert(encoded.into(), id);
        }
        id
    }
}

/// At most [`VALUE_BYTES_MAX`] bytes, whole characters.
fn cut(text: &[u8]) -> &[u8] {
    if text.len() <= VALUE_BYTES_MAX {
        return text;
    }
    let is_inside = |byte: u8| byte & 0xc0 == 0x80;
    let mut end = VALUE_BYTES_MAX;
    while end > VALUE_BYTES_MAX - 4 && is_inside(text[end]) {
        end -= 1;
    }
    &text[..end]
}

/// Arrays and maps as compact JSON, cut when they get long.
#[derive(Debug, Default)]
pub(crate) struct JsonText {
    out: Vec<u8>,
}

impl JsonText {
    /// Whether nothing more will be kept.
    pub(crate) fn is_full(&self) -> bool {
        self.out.len() > VALUE_BYTES_MAX
    }

    /// The text so far.
    pub(crate) fn text(&self) -> &[u8] {
        &self.out
    }

    /// Writes `raw` as it is: brackets and separators.
    pub(crate) fn push_raw(&mut self, raw: &[u8]) {
        if !self.is_full() {
            self.out.extend_from_slice(raw);
        }
    }

    /// Writes a separator unless it would be the first thing in its bracket.
    pub(crate) fn separate(&mut self, first: &mut bool) {
        if !std::mem::take(first) {
            self.push_raw(b",");
        }
    }

    /// Writes a string with quotes and escapes.
    pub(crate) fn push_text(&mut self, text: &[u8]) {
        if self.is_full() {
            return;
        }
        let text = String::from_utf8_lossy(cut(text));
        // A string always has a JSON form.
        self.out.extend_from_slice(serde_json::to_string(&text).unwrap_or_default().as_bytes());
    }

    /// Writes a scalar.
    pub(crate) fn push_value(&mut self, value: Value<'_>) {
        match value {
            Value::Text(text) => self.push_text(text),
            Value::Bool(truth) => self.push_raw(if truth { b"true" } else { b"false" }),
            Value::Int(number) => self.push_raw(number.to_string().as_bytes()),
            Value::Double(number) if number.is_finite() => {
                self.push_raw(number::double_text(number).as_bytes());
            }
            Value::Double(number) => self.push_text(number::double_text(number).as_bytes()),
            Value::Bytes(bytes) => {
                let mut text = Vec::new();
                number::push_base64(&bytes[..bytes.len().min(VALUE_BYTES_MAX)], &mut text);
                self.push_text(&text);
            }
        }
    }
}
