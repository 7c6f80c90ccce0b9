//! OTLP as protobuf: what the Collector's file exporter writes with `format: proto` (each message after its
//! length, four bytes, big endian), and a single message as a file.
//!
//! A message does not say which signal it carries: the three are alike down to their records. Those differ in
//! the types of their fields, and the first record tells.

mod framing;
mod record;
pub(crate) mod wire;

use std::io::{self, BufRead, Read};

use exit137_core::observation::ResourceId;
use exit137_core::symbol::Symbol;

use self::framing::LENGTH_BYTES;
use self::wire::{Field, Fields, Malformed};
use super::sink::{FULL, JsonText, Sink, Value};

pub(crate) use framing::{Messages, decode_block};

/// A longer message is a wrong length.
const MESSAGE_BYTES_MAX: usize = 256 << 20;

/// Values inside values.
const DEPTH_MAX: usize = 64;

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Signal {
    Traces,
    Metrics,
    Logs,
}

/// Whether a file that starts like this holds OTLP messages.
pub(crate) fn looks_like(head: &[u8]) -> bool {
    is_framed(head) || is_message(head)
}

/// Whether lengths stand before the messages.
pub(crate) fn is_framed(head: &[u8]) -> bool {
    let Some((length, message)) = head.split_first_chunk::<LENGTH_BYTES>() else {
        return false;
    };
    let length = u32::from_be_bytes(*length) as usize;
    // The first bytes of a message read as a length are one of 160 MiB and more; then the message is likelier.
    (2..=MESSAGE_BYTES_MAX).contains(&length)
        && is_message(&message[..message.len().min(length)])
        && !is_message(head)
}

/// Follows the first fields down: message, records of a resource, resource or scope, what is in there. Only the
/// head of the file is known, so an inner length may reach past it, but not past the outer one.
fn is_message(head: &[u8]) -> bool {
    // At each level the tags (number and wire type) that can come first.
    const LEVELS: &[&[u8]] = &[&[0x0a], &[0x0a, 0x12], &[0x0a, 0x12, 0x10, 0x1a]];
    let mut rest = head;
    let mut outer = u64::MAX;
    for tags in LEVELS {
        let Some((tag, after)) = rest.split_first() else {
            return false;
        };
        if !tags.contains(tag) {
            return false;
        }
        if *tag == 0x10 {
            return true;
        }
        let Some(used) = after.iter().take(5).position(|byte| *byte < 0x80) else {
            return false;
        };
        let length = after[..=used].iter().rev().fold(0, |length, byte| length << 7 | u64::from(byte & 0x7f));
        if length + used as u64 + 2 > outer {
            return false;
        }
        rest = &after[used + 1..];
        outer = length;
        if length == 0 {
            // An empty resource says nothing; then the fields after it must fit.
            return Fields::of(head).next().is_ok();
        }
    }
    true
}

/// Reads all messages.
pub(crate) fn decode(reader: &mut dyn BufRead, file: &str, sink: &mut Sink) -> io::Result<()> {
    let mut message = Vec::new();
    if !is_framed(reader.fill_buf()?) {
        Read::take(reader, MESSAGE_BYTES_MAX as u64).read_to_end(&mut message)?;
        Message { file, number: 1, sink }.decode(&message);
        return Ok(());
    }
    let mut messages = Messages::of(reader);
    while let Some(number) = messages.next(&mut message) {
        decode_block(&message, number, file, sink);
    }
    messages.failure().map_or(Ok(()), Err)
}

/// Decodes one message; `number` tells it from others in problems.
pub(crate) fn decode_message(message: &[u8], number: usize, file: &str, sink: &mut Sink) {
    Message { file, number, sink }.decode(message);
}

/// One message being decoded.
struct Message<'s> {
    file: &'s str,
    number: usize,
    sink: &'s mut Sink,
}

impl Message<'_> {
    fn problem(&mut self, expected: &str) {
        // A record that found no room is as sound as those before it.
        let expected = if self.sink.room.is_full() { FULL } else { expected };
        let problem = format!("message {}: not OTLP: expected {expected}", self.number);
        self.sink.observations.problems.add(self.file, None, problem);
    }

    fn decode(&mut self, message: &[u8]) {
        let mut fields = Fields::of(message);
        loop {
            match fields.next() {
                Ok(Some((1, Field::Bytes(records)))) => {
                    if self.resource_records(records).is_err() {
                        self.problem("the records of a resource");
                    }
                }
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(Malformed) => {
                    self.problem("a protobuf message");
                    break;
                }
            }
        }
    }

    fn resource_records(&mut self, message: &[u8]) -> Result<(), Malformed> {
        let mut encoded: &[u8] = b"";
        let mut fields = Fields::of(message);
        // What follows is used as far as it is whole; the resource comes first as a rule.
        while let Ok(Some((number, field))) = fields.next() {
            if let (1, Field::Bytes(bytes)) = (number, field) {
                encoded = bytes;
            }
        }
        let resource = self.resource(encoded);
        let mut fields = Fields::of(message);
        while let Some((number, field)) = fields.next()? {
            if let (2, Field::Bytes(scope)) = (number, field) {
                self.scope_records(resource, scope)?;
            }
        }
        Ok(())
    }

    fn resource(&mut self, encoded: &[u8]) -> ResourceId {
        if let Some(known) = self.sink.known_resource(encoded) {
            return known;
        }
        let mut attributes = Vec::new();
        let mut fields = Fields::of(encoded);
        loop {
            match fields.next() {
                Ok(Some((1, Field::Bytes(pair)))) => {
                    if self.attribute(pair, &mut attributes).is_err() {
                        self.problem("an attribute of a resource");
                    }
                }
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(Malformed) => {
                    self.problem("a resource");
                    break;
                }
            }
        }
        self.sink.resource(encoded, attributes)
    }

    fn scope_records(&mut self, resource: ResourceId, message: &[u8]) -> Result<(), Malformed> {
        let mut signal = None;
        let mut fields = Fields::of(message);
        while let Some((number, field)) = fields.next()? {
            let (2, Field::Bytes(record)) = (number, field) else {
                continue;
            };
            let signal = *signal.get_or_insert_with(|| signal_of(record));
            let (result, expected) = match signal {
                Signal::Traces => (self.span(resource, record), "a span"),
                Signal::Metrics => (self.metric(resource, record), "a metric"),
                Signal::Logs => (self.log(resource, record), "a log record"),
            };
            if result.is_err() {
                self.problem(expected);
            }
        }
        Ok(())
    }

    /// Any attribute, whatever its key.
    fn attribute(&mut self, pair: &[u8], into: &mut Vec<(Symbol, Symbol)>) -> Result<(), Malformed> {
        let (key, value) = key_value(pair)?;
        with_value(value, |value| self.sink.attribute(into, key, value))
    }
}

/// Spans, metrics and log records number their fields differently; the first field that can belong to only one
/// of them decides.
fn signal_of(record: &[u8]) -> Signal {
    let mut fields = Fields::of(record);
    let mut has_trace_id = false;
    while let Ok(Some((number, field))) = fields.next() {
        match (number, field) {
            (1 | 11, Field::Fixed64(_)) | (2, Field::Varint(_)) | (8, Field::Fixed32(_)) => {
                return Signal::Logs;
            }
            (7 | 8, Field::Fixed64(_)) | (6, Field::Varint(_)) | (16, Field::Fixed32(_)) => {
                return Signal::Traces;
            }
            (1, Field::Bytes(bytes)) => has_trace_id = bytes.len() == 16,
            (2, Field::Bytes(bytes)) if has_trace_id && bytes.len() == 8 => return Signal::Traces,
            (12, Field::Bytes(_)) if !has_trace_id => return Signal::Metrics,
            _ => {}
        }
    }
    Signal::Metrics
}

/// The key and the encoded value of a `KeyValue`.
pub(crate) fn key_value(pair: &[u8]) -> Result<(&[u8], Option<&[u8]>), Malformed> {
    let (mut key, mut value) = (&b""[..], None);
    let mut fields = Fields::of(pair);
    while let Some((number, field)) = fields.next()? {
        match (number, field) {
            (1, Field::Bytes(bytes)) => key = bytes,
            (2, Field::Bytes(bytes)) => value = Some(bytes),
            _ => {}
        }
    }
    Ok((key, value))
}

/// Calls `take` with the value of an `AnyValue`, unless there is none.
pub(crate) fn with_value(encoded: Option<&[u8]>, take: impl FnOnce(Value<'_>)) -> Result<(), Malformed> {
    match scalar(encoded.unwrap_or_default())? {
        Any::Nothing => {}
        Any::Scalar(value) => take(value),
        Any::Array(_) | Any::Map(_) => {
            let mut out = JsonText::default();
            render(encoded.unwrap_or_default(), &mut out, 0)?;
            take(Value::Text(out.text()));
        }
    }
    Ok(())
}

enum Any<'a> {
    Nothing,
    Scalar(Value<'a>),
    Array(&'a [u8]),
    Map(&'a [u8]),
}

fn scalar(encoded: &[u8]) -> Result<Any<'_>, Malformed> {
    let mut value = Any::Nothing;
    let mut fields = Fields::of(encoded);
    while let Some((number, field)) = fields.next()? {
        value = match (number, field) {
            (1, Field::Bytes(text)) => Any::Scalar(Value::Text(text)),
            (2, Field::Varint(truth)) => Any::Scalar(Value::Bool(truth != 0)),
            (3, Field::Varint(number)) => Any::Scalar(Value::Int(number as i64)),
            (4, Field::Fixed64(bits)) => Any::Scalar(Value::Double(f64::from_bits(bits))),
            (5, Field::Bytes(list)) => Any::Array(list),
            (6, Field::Bytes(list)) => Any::Map(list),
            (7, Field::Bytes(bytes)) => Any::Scalar(Value::Bytes(bytes)),
            _ => value,
        };
    }
    Ok(value)
}

/// An `AnyValue` as plain JSON.
fn render(encoded: &[u8], out: &mut JsonText, depth: usize) -> Result<(), Malformed> {
    if depth == DEPTH_MAX {
        return Err(Malformed);
    }
    let (list, is_map) = match scalar(encoded)? {
        Any::Nothing => {
            out.push_raw(b"null");
            return Ok(());
        }
        Any::Scalar(value) => {
            out.push_value(value);
            return Ok(());
        }
        Any::Array(list) => (list, false),
        Any::Map(list) => (list, true),
    };
    out.push_raw(if is_map { b"{" } else { b"[" });
    let mut first = true;
    let mut fields = Fields::of(list);
    while let Some((number, field)) = fields.next()? {
        let (1, Field::Bytes(value), false) = (number, field, out.is_full()) else {
            continue;
        };
        out.separate(&mut first);
        if is_map {
            let (key, value) = key_value(value)?;
            out.push_text(key);
            out.push_raw(b":");
            render(value.unwrap_or_default(), out, depth + 1)?;
        } else {
            render(value, out, depth + 1)?;
        }
    }
    out.push_raw(if is_map { b"}" } else { b"]" });
    Ok(())
}
