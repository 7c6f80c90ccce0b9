//! Spans as JSON.

use exit137_core::observation::ResourceId;
use exit137_core::observation::span::{SpanKind, SpanStatus};

use super::Decoder;
use super::cursor::{Fault, Token};
use super::value::{self, Raw};
use crate::otlp::number;
use crate::otlp::sink::{Value, weight};

impl Decoder<'_, '_> {
    pub(super) fn span(&mut self, resource: ResourceId) -> Result<(), Fault> {
        let start = self.cursor.at();
        self.sink.begin_span();
        if !self.cursor.enter_object()? {
            return Ok(());
        }
        while let Some(key) = self.cursor.key()? {
            match key {
                b"traceId" | b"trace_id" => {
                    self.sink.span.trace_id = self.id("a trace id of 32 hex digits", number::trace_id)?;
                }
                b"spanId" | b"span_id" => {
                    self.sink.span.span_id = self.id("a span id of 16 hex digits", number::span_id)?;
                }
                b"parentSpanId" | b"parent_span_id" => {
                    self.sink.span.parent_span_id =
                        self.id("a parent span id of 16 hex digits", number::span_id)?;
                }
                b"name" => {
                    let name = self.cursor.text()?;
                    let symbols = &mut self.sink.observations.symbols;
                    self.sink.span.name = Some(symbols.intern_bytes(&value::plain(&name)));
                }
                b"kind" => {
                    let kind = self.enumeration(b"SPAN_KIND_", KINDS)?;
                    self.sink.span.kind = SpanKind::from_number(kind);
                }
                b"startTimeUnixNano" | b"start_time_unix_nano" => self.sink.span.start = self.whole()?,
                b"endTimeUnixNano" | b"end_time_unix_nano" => self.sink.span.end = self.whole()?,
                b"attributes" => self.span_attributes()?,
                b"events" => self.events()?,
                b"status" => self.status()?,
                b"traceState" | b"trace_state" => {
                    let state = self.cursor.text()?;
                    self.sink.span.weight = weight(&value::plain(&state)).unwrap_or_default();
                }
                _ => self.cursor.skip()?,
            }
        }
        self.sink.finish_span(resource).map_err(|expected| Fault { expected, at: start })
    }

    fn id<T>(&mut self, expected: &'static str, read: fn(&[u8]) -> Option<T>) -> Result<T, Fault> {
        let at = self.cursor.at();
        let text = self.cursor.text()?;
        read(text.raw).ok_or(Fault { expected, at })
    }

    /// An unsigned number of 64 bits; 0 for `null`.
    pub(super) fn whole(&mut self) -> Result<u64, Fault> {
        let at = self.cursor.at();
        let digits = self.cursor.number_text()?;
        if digits.is_empty() {
            return Ok(0);
        }
        number::unsigned(digits).ok_or(Fault { expected: "a whole number", at })
    }

    /// An enum by number or by name, with or without its prefix.
    pub(super) fn enumeration(&mut self, prefix: &[u8], names: &[&[u8]]) -> Result<u64, Fault> {
        let at = self.cursor.at();
        let raw = match self.cursor.token()? {
            Token::Number(raw) => raw,
            Token::Text(text) => text.raw,
            Token::Null => return Ok(0),
            _ => return Err(Fault { expected: "an enum's number or name", at }),
        };
        if let Some(number) = number::unsigned(raw) {
            return Ok(number);
        }
        let name = raw.strip_prefix(prefix).unwrap_or(raw);
        // Names of later versions mean nothing to us yet, and are no mistake.
        Ok(names.iter().position(|known| known.eq_ignore_ascii_case(name)).unwrap_or(0) as u64)
    }

    fn status(&mut self) -> Result<(), Fault> {
        if !self.cursor.enter_object()? {
            return Ok(());
        }
        while let Some(key) = self.cursor.key()? {
            match key {
                b"code" => {
                    let code = self.enumeration(b"STATUS_CODE_", STATUS_CODES)?;
                    self.sink.span.status = SpanStatus::from_number(code);
                }
                _ => self.cursor.skip()?,
            }
        }
        Ok(())
    }

    fn span_attributes(&mut self) -> Result<(), Fault> {
        if !self.cursor.enter_array()? {
            return Ok(());
        }
        while self.cursor.element()? {
            let (key, raw) = value::pair(&mut self.cursor)?;
            if raw == Raw::Nothing {
                continue;
            }
            if let Some(wanted) = self.sink.wants_span_attribute(&value::plain(&key)) {
                value::with_value(self.cursor, raw, |value| self.sink.span_attribute(wanted, value))?;
            }
        }
        Ok(())
    }

    fn events(&mut self) -> Result<(), Fault> {
        if !self.cursor.enter_array()? {
            return Ok(());
        }
        while self.cursor.element()? {
            if self.cursor.enter_object()? {
                self.event()?;
            }
        }
        Ok(())
    }

    /// Attributes may stand before the name they are to be filed under.
    fn event(&mut self) -> Result<(), Fault> {
        let mut name = None;
        let mut attributes = None;
        while let Some(key) = self.cursor.key()? {
            match key {
                b"name" => name = Some(self.cursor.text()?),
                b"attributes" => {
                    attributes = Some(self.cursor);
                    self.cursor.skip()?;
                }
                _ => self.cursor.skip()?,
            }
        }
        let Some(name) = name.filter(|name| !name.raw.is_empty()) else {
            return Ok(());
        };
        let name = value::plain(&name);
        let before = self.sink.span_attributes_len();
        if let Some(mut cursor) = attributes
            && cursor.enter_array()?
        {
            while cursor.element()? {
                let (key, raw) = value::pair(&mut cursor)?;
                let key = value::plain(&key);
                value::with_value(cursor, raw, |value: Value<'_>| {
                    self.sink.event_attribute(&name, &key, value);
                })?;
            }
        }
        if self.sink.span_attributes_len() == before {
            self.sink.bare_event(&name);
        }
        Ok(())
    }
}

const KINDS: &[&[u8]] = &[b"UNSPECIFIED", b"INTERNAL", b"SERVER", b"CLIENT", b"PRODUCER", b"CONSUMER"];

const STATUS_CODES: &[&[u8]] = &[b"UNSET", b"OK", b"ERROR"];
