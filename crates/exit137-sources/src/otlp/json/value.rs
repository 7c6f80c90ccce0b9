//! `KeyValue` and `AnyValue` as JSON.

use std::borrow::Cow;

use super::cursor::{Cursor, Fault, Text, Token, unescape};
use crate::otlp::number;
use crate::otlp::sink::{JsonText, Value};

/// A value as it stands in the text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Raw<'a> {
    Nothing,
    Text(Text<'a>),
    Bool(bool),
    Int(&'a [u8]),
    Double(&'a [u8]),
    /// An array or a map of values; where its `{"arrayValue"` starts.
    Composite(usize),
}

/// The next `{"key": …, "value": …}`.
#[inline]
pub(crate) fn pair<'a>(cursor: &mut Cursor<'a>) -> Result<(Text<'a>, Raw<'a>), Fault> {
    let start = cursor.at();
    if let Some(pair) = usual_pair(cursor)? {
        return Ok(pair);
    }
    cursor.rewind(start);
    let mut key = Text { raw: b"", escaped: false };
    let mut value = Raw::Nothing;
    if cursor.enter_object()? {
        while let Some(field) = cursor.key()? {
            match field {
                b"key" => key = cursor.text()?,
                b"value" => value = any(cursor)?,
                _ => cursor.skip()?,
            }
        }
    }
    Ok((key, value))
}

/// The form that nearly every attribute has, without the steps that are needed for all others. `None`, with the
/// cursor anywhere, when it is another form.
#[inline]
fn usual_pair<'a>(cursor: &mut Cursor<'a>) -> Result<Option<(Text<'a>, Raw<'a>)>, Fault> {
    if !cursor.eat_exactly(b"{\"key\":") {
        return Ok(None);
    }
    let key = cursor.text()?;
    if !cursor.eat_exactly(b",\"value\":{\"") {
        return Ok(None);
    }
    let value = if cursor.eat_exactly(b"stringValue\":") {
        Raw::Text(cursor.text()?)
    } else if cursor.eat_exactly(b"intValue\":") {
        Raw::Int(cursor.number_text()?)
    } else {
        return Ok(None);
    };
    Ok(cursor.eat_exactly(b"}}").then_some((key, value)))
}

/// An `AnyValue`. A bare scalar is accepted too.
pub(crate) fn any<'a>(cursor: &mut Cursor<'a>) -> Result<Raw<'a>, Fault> {
    cursor.peek();
    let start = cursor.at();
    match cursor.token()? {
        Token::Null => return Ok(Raw::Nothing),
        Token::Bool(truth) => return Ok(Raw::Bool(truth)),
        Token::Number(raw) => return Ok(Raw::Double(raw)),
        Token::Text(text) => return Ok(Raw::Text(text)),
        Token::Container(_) => {}
    }
    let mut value = Raw::Nothing;
    cursor.enter_object()?;
    while let Some(field) = cursor.key()? {
        value = match field {
            b"stringValue" | b"string_value" | b"bytesValue" | b"bytes_value" => Raw::Text(cursor.text()?),
            b"boolValue" | b"bool_value" => boolean(cursor)?,
            b"intValue" | b"int_value" => Raw::Int(cursor.number_text()?),
            b"doubleValue" | b"double_value" => Raw::Double(cursor.number_text()?),
            b"arrayValue" | b"array_value" | b"kvlistValue" | b"kvlist_value" => {
                cursor.skip()?;
                Raw::Composite(start)
            }
            _ => {
                cursor.skip()?;
                value
            }
        };
    }
    Ok(value)
}

fn boolean<'a>(cursor: &mut Cursor<'a>) -> Result<Raw<'a>, Fault> {
    match cursor.token()? {
        Token::Bool(truth) => Ok(Raw::Bool(truth)),
        Token::Text(Text { raw: b"true", .. }) => Ok(Raw::Bool(true)),
        Token::Text(Text { raw: b"false", .. }) => Ok(Raw::Bool(false)),
        Token::Null => Ok(Raw::Nothing),
        _ => cursor.fault("true or false"),
    }
}

/// A string without its escapes.
pub(crate) fn plain<'a>(text: &Text<'a>) -> Cow<'a, [u8]> {
    if !text.escaped {
        return Cow::Borrowed(text.raw);
    }
    let mut out = Vec::with_capacity(text.raw.len());
    unescape(text.raw, &mut out);
    Cow::Owned(out)
}

/// Calls `take` with the value, unless there is none.
#[inline]
pub(crate) fn with_value(
    mut cursor: Cursor<'_>,
    raw: Raw<'_>,
    take: impl FnOnce(Value<'_>),
) -> Result<(), Fault> {
    let wrong = |expected| Fault { expected, at: cursor.at() };
    match raw {
        Raw::Nothing => {}
        Raw::Text(text @ Text { escaped: false, .. }) => take(Value::Text(text.raw)),
        Raw::Text(text) => take(Value::Text(&plain(&text))),
        Raw::Bool(truth) => take(Value::Bool(truth)),
        Raw::Int(digits) if is_canonical(digits) => take(Value::Text(digits)),
        Raw::Int(b"") | Raw::Double(b"") => {}
        Raw::Int(digits) => {
            take(Value::Int(number::signed(digits).ok_or_else(|| wrong("a whole number"))?));
        }
        Raw::Double(digits) => {
            take(Value::Double(number::float(digits).ok_or_else(|| wrong("a number"))?));
        }
        Raw::Composite(start) => {
            cursor.rewind(start);
            let mut out = JsonText::default();
            render(&mut cursor, &mut out)?;
            take(Value::Text(out.text()));
        }
    }
    Ok(())
}

/// Whether a number is already written as it will be.
fn is_canonical(digits: &[u8]) -> bool {
    let whole = digits.len() <= 18 && digits.iter().all(u8::is_ascii_digit);
    whole && (digits.len() == 1 || digits.first().is_some_and(|first| *first != b'0'))
}

/// An `AnyValue` as plain JSON. How deep it goes was checked when it was first stepped over.
fn render(cursor: &mut Cursor<'_>, out: &mut JsonText) -> Result<(), Fault> {
    let before = *cursor;
    let raw = any(cursor)?;
    let Raw::Composite(_) = raw else {
        if raw == Raw::Nothing {
            out.push_raw(b"null");
        }
        return with_value(before, raw, |value| match (raw, value) {
            (Raw::Int(_), Value::Text(digits)) => out.push_raw(digits),
            (_, value) => out.push_value(value),
        });
    };
    let mut inner = before;
    inner.enter_object()?;
    while let Some(field) = inner.key()? {
        match field {
            b"arrayValue" | b"array_value" => render_list(&mut inner, out, b"[", b"]", render)?,
            b"kvlistValue" | b"kvlist_value" => render_list(&mut inner, out, b"{", b"}", render_pair)?,
            _ => inner.skip()?,
        }
    }
    Ok(())
}

/// The `values` of an array or a map between brackets.
fn render_list(
    cursor: &mut Cursor<'_>,
    out: &mut JsonText,
    open: &[u8],
    close: &[u8],
    one: fn(&mut Cursor<'_>, &mut JsonText) -> Result<(), Fault>,
) -> Result<(), Fault> {
    out.push_raw(open);
    if cursor.enter_object()? {
        while let Some(field) = cursor.key()? {
            if field != b"values" || out.is_full() {
                cursor.skip()?;
                continue;
            }
            let mut first = true;
            if !cursor.enter_array()? {
                continue;
            }
            while cursor.element()? {
                if out.is_full() {
                    cursor.skip()?;
                    continue;
                }
                out.separate(&mut first);
                one(cursor, out)?;
            }
        }
    }
    out.push_raw(close);
    Ok(())
}

fn render_pair(cursor: &mut Cursor<'_>, out: &mut JsonText) -> Result<(), Fault> {
    cursor.peek();
    let start = *cursor;
    let (key, _) = pair(cursor)?;
    out.push_text(&plain(&key));
    out.push_raw(b":");
    let mut again = start;
    let mut has_value = false;
    again.enter_object()?;
    while let Some(field) = again.key()? {
        if field == b"value" && !has_value {
            has_value = true;
            render(&mut again, out)?;
        } else {
            again.skip()?;
        }
    }
    if !has_value {
        out.push_raw(b"null");
    }
    Ok(())
}
