//! Splitting JSON: a part is a document of its own around the text that came for one resource.

use std::borrow::Cow;

use super::{Part, Reach, Split, VALUE_BYTES_MAX, is_identity};
use crate::otlp::json::cursor::{Cursor, Fault};
use crate::otlp::json::{Signal as Names, value};
use crate::otlp::number;
use crate::otlp::sink::Value;
use crate::receiver::{Encoding, Signal};

pub(super) fn split(signal: Signal, body: &[u8]) -> Split<'_> {
    let mut split = Split::default();
    if let Err(fault) = document(signal, Cursor::new(body), &mut split) {
        split.reject(1, fault.expected);
    }
    split
}

fn names(signal: Signal) -> Names {
    match signal {
        Signal::Traces => Names::Traces,
        Signal::Metrics => Names::Metrics,
        Signal::Logs => Names::Logs,
    }
}

/// What stands around the records of one resource.
fn opening(signal: Signal) -> &'static [u8] {
    match signal {
        Signal::Traces => b"{\"resourceSpans\":[",
        Signal::Metrics => b"{\"resourceMetrics\":[",
        Signal::Logs => b"{\"resourceLogs\":[",
    }
}

fn document<'a>(signal: Signal, mut cursor: Cursor<'a>, split: &mut Split<'a>) -> Result<(), Fault> {
    if !cursor.enter_object()? {
        return Ok(());
    }
    while let Some(key) = cursor.key()? {
        if Names::of(key) != Some(names(signal)) {
            cursor.skip()?;
            continue;
        }
        if !cursor.enter_array()? {
            continue;
        }
        while cursor.element()? {
            let inside = cursor;
            let start = cursor.at();
            cursor.skip()?;
            let text = cursor.since(start);
            match resource_records(signal, inside, text) {
                Ok((part, rejected)) => {
                    if rejected > 0 {
                        split.reject(rejected, "an object");
                    }
                    split.push(part);
                }
                Err(fault) => split.reject(1, fault.expected),
            }
        }
    }
    Ok(())
}

/// The records of the resource at the cursor, whose text is `text`; with the number of those that are no objects.
fn resource_records<'a>(
    signal: Signal,
    mut cursor: Cursor<'a>,
    text: &[u8],
) -> Result<(Part<'a>, u64), Fault> {
    let mut resource: &[u8] = b"";
    let mut found = Found::default();
    if cursor.enter_object()? {
        while let Some(key) = cursor.key()? {
            if key == b"resource" {
                cursor.peek();
                let start = cursor.at();
                cursor.skip()?;
                resource = cursor.since(start);
            } else if names(signal).is_scopes(key) {
                scopes(signal, &mut cursor, &mut found)?;
            } else {
                cursor.skip()?;
            }
        }
    }
    let bytes = [opening(signal), text, b"]}"].concat();
    let Reach { first, last } = found.reach;
    let bytes = Cow::Owned(bytes);
    let part = Part { encoding: Encoding::Json, resource, bytes, records: found.records, first, last };
    Ok((part, found.rejected))
}

#[derive(Debug, Default)]
struct Found {
    records: u64,
    reach: Reach,
    rejected: u64,
}

fn scopes(signal: Signal, cursor: &mut Cursor<'_>, found: &mut Found) -> Result<(), Fault> {
    each(cursor, |cursor| {
        fields(cursor, |cursor, key| {
            if !names(signal).is_records(key) {
                return cursor.skip();
            }
            each(cursor, |cursor| {
                if cursor.peek() != Some(b'{') {
                    found.rejected += 1;
                    return cursor.skip();
                }
                match signal {
                    Signal::Traces => span(cursor, found),
                    Signal::Metrics => metric(cursor, found),
                    Signal::Logs => log(cursor, found),
                }
            })
        })
    })
}

/// Calls `one` at each element of an array; `null` has none.
fn each<'a>(
    cursor: &mut Cursor<'a>,
    mut one: impl FnMut(&mut Cursor<'a>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    if cursor.enter_array()? {
        while cursor.element()? {
            one(cursor)?;
        }
    }
    Ok(())
}

/// Calls `one` at each value of an object; `null` has none.
fn fields<'a>(
    cursor: &mut Cursor<'a>,
    mut one: impl FnMut(&mut Cursor<'a>, &'a [u8]) -> Result<(), Fault>,
) -> Result<(), Fault> {
    if cursor.enter_object()? {
        while let Some(key) = cursor.key()? {
            one(cursor, key)?;
        }
    }
    Ok(())
}

/// A time; 0 for what is none, which the decoder will say.
fn nanos(cursor: &mut Cursor<'_>) -> Result<u64, Fault> {
    let before = *cursor;
    if let Ok(text) = cursor.number_text() {
        return Ok(number::unsigned(text).unwrap_or_default());
    }
    *cursor = before;
    cursor.skip().map(|()| 0)
}

fn span(cursor: &mut Cursor<'_>, found: &mut Found) -> Result<(), Fault> {
    found.records += 1;
    fields(cursor, |cursor, key| match key {
        b"startTimeUnixNano" | b"start_time_unix_nano" | b"endTimeUnixNano" | b"end_time_unix_nano" => {
            found.reach.add(nanos(cursor)?);
            Ok(())
        }
        _ => cursor.skip(),
    })
}

fn metric(cursor: &mut Cursor<'_>, found: &mut Found) -> Result<(), Fault> {
    fields(cursor, |cursor, key| {
        let is_kind = matches!(
            key,
            b"gauge"
                | b"sum"
                | b"histogram"
                | b"exponentialHistogram"
                | b"exponential_histogram"
                | b"summary"
        );
        if !is_kind || cursor.peek() != Some(b'{') {
            return cursor.skip();
        }
        fields(cursor, |cursor, key| {
            if !matches!(key, b"dataPoints" | b"data_points") {
                return cursor.skip();
            }
            each(cursor, |cursor| {
                if cursor.peek() != Some(b'{') {
                    found.rejected += 1;
                    return cursor.skip();
                }
                found.records += 1;
                fields(cursor, |cursor, key| match key {
                    b"timeUnixNano" | b"time_unix_nano" => {
                        found.reach.add(nanos(cursor)?);
                        Ok(())
                    }
                    _ => cursor.skip(),
                })
            })
        })
    })
}

fn log(cursor: &mut Cursor<'_>, found: &mut Found) -> Result<(), Fault> {
    found.records += 1;
    let (mut time, mut observed) = (0, 0);
    fields(cursor, |cursor, key| {
        match key {
            b"timeUnixNano" | b"time_unix_nano" => time = nanos(cursor)?,
            b"observedTimeUnixNano" | b"observed_time_unix_nano" => observed = nanos(cursor)?,
            _ => cursor.skip()?,
        }
        Ok(())
    })?;
    found.reach.add(if time == 0 { observed } else { time });
    Ok(())
}

/// What can be read of a resource's identity.
pub(super) fn identity(resource: &[u8]) -> Vec<(String, String)> {
    let mut attributes = Vec::new();
    let mut cursor = Cursor::new(resource);
    // What comes before a fault is used.
    let _ = fields(&mut cursor, |cursor, key| {
        if key != b"attributes" {
            return cursor.skip();
        }
        each(cursor, |cursor| {
            let (key, raw) = value::pair(cursor)?;
            let key = value::plain(&key);
            if !is_identity(&key) {
                return Ok(());
            }
            let key = String::from_utf8_lossy(&key).into_owned();
            value::with_value(*cursor, raw, |value| match value {
                Value::Text(text) if !text.is_empty() && text.len() <= VALUE_BYTES_MAX => {
                    attributes.push((key, String::from_utf8_lossy(text).into_owned()));
                }
                Value::Int(number) => attributes.push((key, number.to_string())),
                _ => {}
            })
        })
    });
    attributes
}
