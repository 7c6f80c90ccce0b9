//! OTLP as JSON, in the spelling of the specification and in all others met in the field: snake_case names,
//! enums by name, numbers in quotes or not, `null` for anything, unknown fields.
//!
//! A record of the wrong shape is a problem and its siblings are kept. Where the text itself is broken, reading
//! goes on at the next thing that looks like the start of a record or of a resource.

pub(crate) mod cursor;
mod log;
mod metric;
mod trace;
pub(crate) mod value;

use exit137_core::observation::ResourceId;
use exit137_core::symbol::Symbol;
use memchr::memmem;

use self::cursor::{Cursor, Fault};
use self::value::Raw;
use super::sink::Sink;
use crate::location::Location;

/// A text broken in more places than this is not worth more searching, which costs a pass each time.
const RECOVERIES_MAX: u32 = 32;

/// Whether `key`, the first of a document, says that the document is OTLP.
pub(crate) fn is_top_level_key(key: &[u8]) -> bool {
    Signal::of(key).is_some()
}

/// Decodes the one document at the start of `document`; tells how many bytes it has. `Err` is where it broke;
/// what came before is kept and the problem is noted.
pub(crate) fn decode(document: &[u8], at: Location<'_>, sink: &mut Sink) -> Result<usize, usize> {
    let mut decoder = Decoder { document, cursor: Cursor::new(document), at, sink, recoveries: 0 };
    match decoder.document() {
        Ok(()) => Ok(decoder.cursor.at()),
        Err(fault) => {
            decoder.problem(fault);
            Err(fault.at)
        }
    }
}

/// What the records of a resource are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Signal {
    Traces,
    Metrics,
    Logs,
}

impl Signal {
    pub(crate) fn of(key: &[u8]) -> Option<Self> {
        match key {
            b"resourceSpans" | b"resource_spans" => Some(Self::Traces),
            b"resourceMetrics" | b"resource_metrics" => Some(Self::Metrics),
            b"resourceLogs" | b"resource_logs" => Some(Self::Logs),
            _ => None,
        }
    }

    pub(crate) fn is_scopes(self, key: &[u8]) -> bool {
        match self {
            Self::Traces => matches!(key, b"scopeSpans" | b"scope_spans" | b"instrumentationLibrarySpans"),
            Self::Metrics => {
                matches!(key, b"scopeMetrics" | b"scope_metrics" | b"instrumentationLibraryMetrics")
            }
            Self::Logs => matches!(key, b"scopeLogs" | b"scope_logs" | b"instrumentationLibraryLogs"),
        }
    }

    pub(crate) fn is_records(self, key: &[u8]) -> bool {
        match self {
            Self::Traces => key == b"spans",
            Self::Metrics => key == b"metrics",
            Self::Logs => matches!(key, b"logRecords" | b"log_records" | b"logs"),
        }
    }

    /// How a record starts, as nearly all writers put it.
    fn marker(self) -> &'static [u8] {
        match self {
            Self::Traces => b"{\"traceId\":",
            Self::Metrics => b"{\"name\":",
            Self::Logs => b"{\"timeUnixNano\":",
        }
    }
}

struct Decoder<'a, 's> {
    document: &'a [u8],
    cursor: Cursor<'a>,
    at: Location<'s>,
    sink: &'s mut Sink,
    recoveries: u32,
}

impl<'a> Decoder<'a, '_> {
    fn problem(&mut self, fault: Fault) {
        let line = self.at.line_of(self.document, fault.at);
        let message = format!("not OTLP: expected {}", fault.expected);
        self.sink.observations.problems.add(self.at.file, Some(line), message);
    }

    fn document(&mut self) -> Result<(), Fault> {
        if !self.cursor.enter_object()? {
            return Ok(());
        }
        while let Some(key) = self.cursor.key()? {
            match Signal::of(key) {
                Some(signal) => self.resources(signal)?,
                None => self.cursor.skip()?,
            }
        }
        Ok(())
    }

    fn resources(&mut self, signal: Signal) -> Result<(), Fault> {
        if !self.cursor.enter_array()? {
            return Ok(());
        }
        while self.cursor.element()? {
            let start = self.cursor.at();
            if let Err(fault) = self.resource_records(signal) {
                self.step_over(start, fault, b"{\"resource\":", None)?;
            }
        }
        Ok(())
    }

    /// Goes on after a record that could not be used: at its end, or where the text is broken at the next
    /// `marker`, unless something that looks like `limit` comes first.
    fn step_over(
        &mut self,
        start: usize,
        fault: Fault,
        marker: &[u8],
        limit: Option<&[u8]>,
    ) -> Result<(), Fault> {
        self.cursor.rewind(start);
        let Err(broken) = self.cursor.skip() else {
            self.problem(fault);
            return Ok(());
        };
        let at = broken.at.max(fault.at);
        let fault = Fault { expected: fault.expected, at: fault.at.max(start) };
        if self.recoveries == RECOVERIES_MAX {
            return Err(Fault { at, ..fault });
        }
        self.recoveries += 1;
        // A quote that is missing is noticed at the next one, which may be in the next record's start.
        let from = fault.at.saturating_sub(marker.len()).max(start + 1);
        let rest = self.document.get(from..).unwrap_or_default();
        let next = memmem::find(rest, marker);
        let bound = limit.and_then(|limit| memmem::find(&rest[..next.unwrap_or(rest.len())], limit));
        match (next, bound) {
            (Some(next), None) => {
                self.problem(fault);
                self.cursor.rewind(from + next);
                Ok(())
            }
            (_, Some(bound)) => Err(Fault { at: from + bound, ..fault }),
            (None, None) => Err(Fault { at, ..fault }),
        }
    }

    fn resource_records(&mut self, signal: Signal) -> Result<(), Fault> {
        if !self.cursor.enter_object()? {
            return Ok(());
        }
        let mut resource = None;
        let mut deferred = Vec::new();
        let result = self.resource_fields(signal, &mut resource, &mut deferred);
        // Written in another order than usual, or without a resource.
        let end = self.cursor.at();
        for start in deferred {
            let resource = resource.unwrap_or_else(|| self.sink.resource(b"", Vec::new()));
            self.cursor.rewind(start);
            self.scopes(signal, resource)?;
        }
        self.cursor.rewind(end);
        result
    }

    /// Reads scopes as they come if the resource came before, else notes where they are.
    fn resource_fields(
        &mut self,
        signal: Signal,
        resource: &mut Option<ResourceId>,
        deferred: &mut Vec<usize>,
    ) -> Result<(), Fault> {
        while let Some(key) = self.cursor.key()? {
            if key == b"resource" {
                *resource = Some(self.resource()?);
            } else if signal.is_scopes(key) {
                let start = self.cursor.at();
                // The resource may still come, if the text is whole.
                if resource.is_none() && self.cursor.skip().is_ok() {
                    deferred.push(start);
                    continue;
                }
                self.cursor.rewind(start);
                let resource = resource.unwrap_or_else(|| self.sink.resource(b"", Vec::new()));
                self.scopes(signal, resource)?;
            } else {
                self.cursor.skip()?;
            }
        }
        Ok(())
    }

    fn scopes(&mut self, signal: Signal, resource: ResourceId) -> Result<(), Fault> {
        if !self.cursor.enter_array()? {
            return Ok(());
        }
        while self.cursor.element()? {
            if !self.cursor.enter_object()? {
                continue;
            }
            while let Some(key) = self.cursor.key()? {
                if signal.is_records(key) {
                    self.records(signal, resource)?;
                } else {
                    self.cursor.skip()?;
                }
            }
        }
        Ok(())
    }

    fn records(&mut self, signal: Signal, resource: ResourceId) -> Result<(), Fault> {
        if !self.cursor.enter_array()? {
            return Ok(());
        }
        while self.cursor.element()? {
            let start = self.cursor.at();
            let result = match signal {
                Signal::Traces => self.span(resource),
                Signal::Metrics => self.metric(resource),
                Signal::Logs => self.log(resource),
            };
            if let Err(fault) = result {
                self.step_over(start, fault, signal.marker(), Some(b"{\"resource\":"))?;
            }
        }
        Ok(())
    }

    fn resource(&mut self) -> Result<ResourceId, Fault> {
        self.cursor.peek();
        let start = self.cursor.at();
        self.cursor.skip()?;
        let encoded = self.cursor.since(start);
        if let Some(known) = self.sink.known_resource(encoded) {
            return Ok(known);
        }
        let end = self.cursor.at();
        self.cursor.rewind(start);
        let mut attributes = Vec::new();
        if let Err(fault) = self.resource_attributes(&mut attributes) {
            self.problem(fault);
        }
        self.cursor.rewind(end);
        Ok(self.sink.resource(encoded, attributes))
    }

    fn resource_attributes(&mut self, attributes: &mut Vec<(Symbol, Symbol)>) -> Result<(), Fault> {
        if !self.cursor.enter_object()? {
            return Ok(());
        }
        while let Some(key) = self.cursor.key()? {
            match key {
                b"attributes" => self.attributes(attributes)?,
                _ => self.cursor.skip()?,
            }
        }
        Ok(())
    }

    /// All attributes of a list, whatever their keys.
    fn attributes(&mut self, into: &mut Vec<(Symbol, Symbol)>) -> Result<(), Fault> {
        if !self.cursor.enter_array()? {
            return Ok(());
        }
        while self.cursor.element()? {
            let (key, raw) = value::pair(&mut self.cursor)?;
            if raw != Raw::Nothing {
                let key = value::plain(&key);
                value::with_value(self.cursor, raw, |value| self.sink.attribute(into, &key, value))?;
            }
        }
        Ok(())
    }
}
