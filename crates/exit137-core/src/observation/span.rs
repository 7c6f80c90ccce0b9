//! Spans, held compactly: a day of a busy service is ten million of them.

use super::ResourceId;
use crate::parallel;
use crate::symbol::Symbol;
use crate::time::UnixNanos;

/// `SpanKind` of OTLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(u8)]
pub enum SpanKind {
    /// 0, or a number that OTLP does not define.
    #[default]
    Unspecified,
    /// 1
    Internal,
    /// 2
    Server,
    /// 3
    Client,
    /// 4
    Producer,
    /// 5
    Consumer,
}

impl SpanKind {
    /// From OTLP's number.
    pub fn from_number(number: u64) -> Self {
        match number {
            1 => Self::Internal,
            2 => Self::Server,
            3 => Self::Client,
            4 => Self::Producer,
            5 => Self::Consumer,
            _ => Self::Unspecified,
        }
    }
}

/// `Status.code` of OTLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(u8)]
pub enum SpanStatus {
    /// 0
    #[default]
    Unset,
    /// 1
    Ok,
    /// 2
    Error,
}

impl SpanStatus {
    /// From OTLP's number.
    pub fn from_number(number: u64) -> Self {
        match number {
            1 => Self::Ok,
            2 => Self::Error,
            _ => Self::Unset,
        }
    }
}

/// One finished span.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Span {
    /// 16 bytes, big endian.
    pub trace_id: u128,
    /// 8 bytes, big endian; 0 is "no id".
    pub span_id: u64,
    /// The parent's span id; 0 for a root.
    pub parent_span_id: u64,
    /// Start by the sender's clock.
    pub start: UnixNanos,
    /// End by the sender's clock.
    pub end: UnixNanos,
    /// Name as exported.
    pub name: Symbol,
    /// Who sent it.
    pub resource: ResourceId,
    /// First of its attributes in [`Traces::attributes`].
    pub attributes_start: u32,
    /// Number of its attributes.
    pub attributes_len: u16,
    /// Kind.
    pub kind: SpanKind,
    /// Status code.
    pub status: SpanStatus,
    /// How many spans this one stands for (1 / sampling probability, from the `ot=th:` or `ot=p:` entry of
    /// `tracestate`); 1 when nothing says otherwise.
    pub weight: f32,
}

/// All spans with their attributes.
#[derive(Debug, Default)]
pub struct Traces {
    /// In no order.
    pub spans: Vec<Span>,
    /// Attributes of all spans: span attributes, and for span events `event.<name>` = attribute text. Values
    /// that are not strings are written as JSON would.
    pub attributes: Vec<(Symbol, Symbol)>,
}

impl Traces {
    /// The attributes of `span`.
    pub fn attributes(&self, span: &Span) -> &[(Symbol, Symbol)] {
        let start = span.attributes_start as usize;
        self.attributes.get(start..start + span.attributes_len as usize).unwrap_or_default()
    }

    /// The value of attribute `key` of `span`.
    pub fn attribute(&self, span: &Span, key: Symbol) -> Option<Symbol> {
        self.attributes(span).iter().find(|(k, _)| *k == key).map(|(_, value)| *value)
    }

    pub(super) fn absorb(
        &mut self,
        mut other: Self,
        symbol: impl Fn(Symbol) -> Symbol + Sync,
        resource: impl Fn(ResourceId) -> ResourceId + Sync,
    ) {
        let offset = self.attributes.len() as u32;
        parallel::for_each(&mut other.attributes, |(key, value)| {
            (*key, *value) = (symbol(*key), symbol(*value));
        });
        parallel::for_each(&mut other.spans, |span| {
            span.name = symbol(span.name);
            span.resource = resource(span.resource);
            span.attributes_start += offset;
        });
        self.attributes.append(&mut other.attributes);
        self.spans.append(&mut other.spans);
    }
}
