//! YAML as `kubectl get -o yaml` writes it, one or many documents. Each is rewritten as JSON, so that there is
//! one reader for both.

use std::fmt::{self, Write as _};

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_saphyr::options::AliasLimits;
use serde_saphyr::{Budget, Options};

use exit137_core::observation::Observations;

use super::document::decode_converted;
use crate::location::Location;

/// A list of ten thousand pods is about this large; parsers of YAML are slow.
const DOCUMENT_BYTES_MAX: usize = 128 << 20;

/// Kubernetes objects are some 12 deep, and their schemas some 30.
const DEPTH_MAX: usize = 64;

/// Nothing that Kubernetes writes has aliases; a few in a hand-edited file do no harm.
const ALIASES_MAX: usize = 256;

/// Aliases can repeat long text, so the result is bounded as well: by this many times the document.
const EXPANSION_MAX: usize = 4;

/// Whether the head of a file looks like YAML of a Kubernetes object or list: keys at the left margin, and among
/// them `apiVersion` and `kind` (or `items`: a list says its kind at the end).
pub fn looks_like_yaml(head: &[u8]) -> bool {
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    let (mut version, mut kind) = (false, false);
    for line in head.split(|&byte| byte == b'\n') {
        let marginal = line.first().is_some_and(|first| !first.is_ascii_whitespace());
        if !marginal || line[0] == b'#' || line.starts_with(b"---") || line.starts_with(b"%YAML") {
            continue;
        }
        if line.starts_with(b"- ") {
            // Items of a list need not be indented, but something must have opened it.
            if !(version || kind) {
                return false;
            }
            continue;
        }
        let key_len = line.iter().position(|byte| !byte.is_ascii_alphanumeric()).unwrap_or(line.len());
        let (key, rest) = line.split_at(key_len);
        if key.is_empty()
            || rest.first() != Some(&b':')
            || rest.get(1).is_some_and(|b| !b.is_ascii_whitespace())
        {
            return false;
        }
        version |= key == b"apiVersion";
        kind |= key == b"kind" || key == b"items";
        if version && kind {
            return true;
        }
    }
    false
}

/// Reads all YAML documents of `text`, which begins at `at`. Returns how many usable objects they held, counted
/// as [`decode_json`](super::decode_json) does. Documents that cannot be read become problems.
pub fn decode_yaml(text: &str, at: Location<'_>, observations: &mut Observations) -> u64 {
    let mut usable = 0;
    for (line, document) in documents(text) {
        let at = Location { line: at.line + line, ..at };
        let is_content = |line: &str| !line.trim().is_empty() && !line.trim_start().starts_with(['#', '%']);
        if !document.lines().any(is_content) {
            continue;
        }
        let json = match to_json(document) {
            Ok(json) => json,
            Err((line, message)) => {
                observations.problems.add(at.file, Some(at.line + line), message);
                continue;
            }
        };
        match decode_converted(&json, at, observations) {
            Ok(records) => usable += records,
            Err(not_kubernetes) => {
                observations.problems.add(at.file, Some(at.line), not_kubernetes.to_string());
            }
        }
    }
    usable
}

/// Splits at `---` and `...`, which end a document wherever they stand at the left margin. Done here because a
/// parser gives up on all documents after a broken one. Each comes with its first line, counted from 0.
fn documents(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut rest = Some(text);
    let mut line = 0;
    std::iter::from_fn(move || {
        let text = rest?;
        let first = line;
        let mut len = 0;
        for part in text.split_inclusive('\n') {
            line += 1;
            len += part.len();
            let marker = part.trim_end();
            if marker == "---" || marker == "..." || marker.starts_with("--- ") {
                // What follows a marker on its line belongs to the next document.
                let content = if marker.starts_with("--- ") { len - part.len() + 3 } else { len };
                if content != len {
                    line -= 1;
                }
                rest = Some(&text[content..]);
                return Some((first, &text[..len - part.len()]));
            }
        }
        rest = None;
        Some((first, text))
    })
}

/// One YAML document as JSON, or the line (from 0) and what is wrong.
fn to_json(document: &str) -> Result<String, (usize, String)> {
    if document.len() > DOCUMENT_BYTES_MAX {
        let message =
            format!("a YAML document of more than {DOCUMENT_BYTES_MAX} bytes is not read; use JSON");
        return Err((0, message));
    }
    // Every event and node takes at least one byte, except those that aliases repeat.
    let size_max = document.len() * 2 + 4096;
    let mut budget = Budget::default();
    budget.max_depth = DEPTH_MAX;
    budget.max_documents = 1;
    budget.max_aliases = ALIASES_MAX;
    budget.max_events = size_max;
    budget.max_nodes = size_max;
    budget.max_total_scalar_bytes = DOCUMENT_BYTES_MAX;
    let mut alias_limits = AliasLimits::default();
    alias_limits.max_total_replayed_events = size_max;
    let mut options = Options::default();
    options.budget = Some(budget);
    options.alias_limits = alias_limits;
    options.with_snippet = false;
    let mut json = Json { text: String::new(), bytes_max: document.len() * EXPANSION_MAX + 4096 };
    let read = serde_saphyr::with_deserializer_from_str_with_options(document, options, |deserializer| {
        Value { json: &mut json, depth: 0 }.deserialize(deserializer)
    });
    match read {
        Ok(()) => Ok(json.text),
        Err(error) => {
            let line = error.location().map_or(0, |location| location.line().saturating_sub(1) as usize);
            Err((line, format!("expected YAML: {error}")))
        }
    }
}

/// JSON in the making.
struct Json {
    text: String,
    bytes_max: usize,
}

/// Writes whatever it is given as JSON.
struct Value<'j> {
    json: &'j mut Json,
    depth: usize,
}

impl Json {
    fn push<E: serde::de::Error>(&mut self, text: impl fmt::Display) -> Result<(), E> {
        // Writing to a String does not fail.
        let _ = write!(self.text, "{text}");
        if self.text.len() > self.bytes_max {
            return Err(E::custom("aliases expand it too far"));
        }
        Ok(())
    }

    fn push_text<E: serde::de::Error>(&mut self, text: &str) -> Result<(), E> {
        self.push(serde_json::Value::from(text))
    }
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.depth > DEPTH_MAX {
            return Err(D::Error::custom("nested too deep"));
        }
        deserializer.deserialize_any(self)
    }
}

/// A key: always text in JSON.
struct Key<'j>(&'j mut Json);

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text as a key")
    }
    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        self.0.push_text(text)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value that JSON has")
    }
    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        self.json.push("null")
    }
    fn visit_none<E: serde::de::Error>(self) -> Result<(), E> {
        self.json.push("null")
    }
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<(), E> {
        self.json.push(value)
    }
    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<(), E> {
        self.json.push(value)
    }
    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<(), E> {
        self.json.push(value)
    }
    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<(), E> {
        // Infinity and "not a number" become null.
        self.json.push(serde_json::Value::from(value))
    }
    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        self.json.push_text(text)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Self { json, depth } = self;
        json.push('[')?;
        let start = json.text.len();
        loop {
            let item = json.text.len();
            if item > start {
                json.push(',')?;
            }
            if list.next_element_seed(Value { json, depth: depth + 1 })?.is_none() {
                json.text.truncate(item);
                return json.push(']');
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { json, depth } = self;
        json.push('{')?;
        let start = json.text.len();
        loop {
            let entry = json.text.len();
            if entry > start {
                json.push(',')?;
            }
            if map.next_key_seed(Key(json))?.is_none() {
                json.text.truncate(entry);
                return json.push('}');
            }
            json.push(':')?;
            map.next_value_seed(Value { json, depth: depth + 1 })?;
        }
    }
}
