//! Splitting protobuf: the bytes of a part are those that came, tag and length included.

use std::borrow::Cow;

use super::{Part, Reach, Split, VALUE_BYTES_MAX, is_identity};
use crate::otlp::proto::wire::{Field, Fields, Malformed};
use crate::otlp::proto::{key_value, with_value};
use crate::otlp::sink::Value;
use crate::receiver::{Encoding, Signal};

/// Field 1, a message: what stands before each resource's records.
const TAG_RECORDS: u8 = 0x0a;

/// Field 2, a message: scopes in a resource's records, records in a scope.
const TAG_INNER: u8 = 0x12;

pub(super) fn split(signal: Signal, body: &[u8]) -> Split<'_> {
    let mut split = Split::default();
    let mut fields = Fields::of(body);
    loop {
        let start = body.len() - fields.rest().len();
        match fields.next() {
            Ok(Some((1, Field::Bytes(records)))) => {
                let whole = &body[start..body.len() - fields.rest().len()];
                resource_records(signal, whole, records, &mut split);
            }
            // Nothing else is defined.
            Ok(Some(_)) => {}
            Ok(None) => return split,
            Err(Malformed) => {
                split.reject(1, "the records of a resource");
                return split;
            }
        }
    }
}

/// What was found in the records of one resource.
#[derive(Debug, Default)]
struct Found {
    records: u64,
    reach: Reach,
    rejected: u64,
    expected: Option<&'static str>,
}

impl Found {
    fn reject(&mut self, records: u64, expected: &'static str) {
        self.rejected += records.max(1);
        self.expected.get_or_insert(expected);
    }
}

fn resource_records<'a>(signal: Signal, whole: &'a [u8], message: &'a [u8], split: &mut Split<'a>) {
    let mut resource: &[u8] = b"";
    let mut found = Found::default();
    let mut fields = Fields::of(message);
    loop {
        match fields.next() {
            Ok(Some((1, Field::Bytes(bytes)))) => resource = bytes,
            Ok(Some((2, Field::Bytes(scope)))) => scope_records(signal, scope, &mut found),
            Ok(Some(_)) => {}
            Ok(None) => break,
            Err(Malformed) => {
                found.reject(1, "the records of a scope");
                break;
            }
        }
    }
    let mut bytes = Cow::Borrowed(whole);
    if let Some(expected) = found.expected {
        split.reject(found.rejected, expected);
        let mut good = Vec::with_capacity(message.len());
        copy_good(signal, message, Level::Resource, &mut good);
        let mut rebuilt = Vec::with_capacity(good.len() + 8);
        put_message(TAG_RECORDS, &good, &mut rebuilt);
        bytes = Cow::Owned(rebuilt);
    }
    let Reach { first, last } = found.reach;
    split.push(Part { encoding: Encoding::Protobuf, resource, bytes, records: found.records, first, last });
}

fn scope_records(signal: Signal, message: &[u8], found: &mut Found) {
    let mut fields = Fields::of(message);
    loop {
        match fields.next() {
            Ok(Some((2, Field::Bytes(bytes)))) => match record(signal, bytes, &mut found.reach) {
                Ok(records) => found.records += records,
                Err(Malformed) => found.reject(1, expected(signal)),
            },
            Ok(Some(_)) => {}
            Ok(None) => return,
            Err(Malformed) => return found.reject(1, expected(signal)),
        }
    }
}

fn expected(signal: Signal) -> &'static str {
    match signal {
        Signal::Traces => "a span",
        Signal::Metrics => "a metric",
        Signal::Logs => "a log record",
    }
}

/// How many records are in a span, a metric or a log record: one, but as many as it has points in a metric.
#[inline]
fn record(signal: Signal, message: &[u8], reach: &mut Reach) -> Result<u64, Malformed> {
    match signal {
        Signal::Traces => span(message, reach).map(|()| 1),
        Signal::Metrics => metric(message, reach),
        Signal::Logs => log(message, reach).map(|()| 1),
    }
}

/// Start and end stand before the attributes, because writers keep the order of the fields; what follows them, nine
/// tenths of a span, is not touched.
#[inline]
fn span(message: &[u8], reach: &mut Reach) -> Result<(), Malformed> {
    // A span that turns out to be broken says nothing about time.
    let mut start = 0;
    let mut fields = Fields::of(message);
    while let Some((number, field)) = fields.next()? {
        match (number, field) {
            (7, Field::Fixed64(nanos)) => start = nanos,
            (8, Field::Fixed64(end)) => {
                reach.add(end);
                break;
            }
            _ => {}
        }
    }
    reach.add(start);
    Ok(())
}

fn metric(message: &[u8], reach: &mut Reach) -> Result<u64, Malformed> {
    let mut points = 0;
    // Counted only when all of it is well.
    let mut own = *reach;
    let mut fields = Fields::of(message);
    while let Some((number, field)) = fields.next()? {
        // Gauge, sum, histogram, exponential histogram, summary: all begin with their points.
        let (5 | 7 | 9 | 10 | 11, Field::Bytes(kind)) = (number, field) else { continue };
        let mut inner = Fields::of(kind);
        while let Some((number, field)) = inner.next()? {
            let (1, Field::Bytes(point)) = (number, field) else { continue };
            points += 1;
            let mut fields = Fields::of(point);
            while let Some((number, field)) = fields.next()? {
                if let (3, Field::Fixed64(time)) = (number, field) {
                    own.add(time);
                    break;
                }
            }
        }
    }
    *reach = own;
    Ok(points)
}

fn log(message: &[u8], reach: &mut Reach) -> Result<(), Malformed> {
    let (mut time, mut observed) = (0, 0);
    let mut fields = Fields::of(message);
    while let Some((number, field)) = fields.next()? {
        match (number, field) {
            (1, Field::Fixed64(nanos)) => time = nanos,
            (11, Field::Fixed64(nanos)) => observed = nanos,
            _ => {}
        }
    }
    reach.add(if time == 0 { observed } else { time });
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Level {
    Resource,
    Scope,
}

/// Copies a message without what is wrong in it: the way that is taken only when something is.
fn copy_good(signal: Signal, message: &[u8], level: Level, out: &mut Vec<u8>) {
    let mut fields = Fields::of(message);
    loop {
        let start = message.len() - fields.rest().len();
        let Ok(Some((number, field))) = fields.next() else { return };
        let raw = &message[start..message.len() - fields.rest().len()];
        match (level, number, field) {
            (Level::Resource, 2, Field::Bytes(scope)) => {
                let mut good = Vec::with_capacity(scope.len());
                copy_good(signal, scope, Level::Scope, &mut good);
                put_message(TAG_INNER, &good, out);
            }
            (Level::Scope, 2, Field::Bytes(bytes))
                if record(signal, bytes, &mut Reach::default()).is_err() => {}
            _ => out.extend_from_slice(raw),
        }
    }
}

fn put_message(tag: u8, message: &[u8], out: &mut Vec<u8>) {
    out.push(tag);
    let mut length = message.len();
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(message);
}

/// What can be read of a resource's identity.
pub(super) fn identity(resource: &[u8]) -> Vec<(String, String)> {
    let mut attributes = Vec::new();
    let mut fields = Fields::of(resource);
    while let Ok(Some((number, field))) = fields.next() {
        let (1, Field::Bytes(pair)) = (number, field) else { continue };
        let Ok((key, value)) = key_value(pair) else { continue };
        if !is_identity(key) {
            continue;
        }
        let key = String::from_utf8_lossy(key);
        // A value that cannot be read is none.
        let _ = with_value(value, |value| match value {
            Value::Text(text) if !text.is_empty() && text.len() <= VALUE_BYTES_MAX => {
                attributes.push((key.into_owned(), String::from_utf8_lossy(text).into_owned()));
            }
            Value::Int(number) => attributes.push((key.into_owned(), number.to_string())),
            _ => {}
        });
    }
    attributes
}
