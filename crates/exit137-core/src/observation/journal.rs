//! What a process wrote down about itself in a journal that outlived it: who held its memory. The requests that it left in
//! flight are spans like others, marked [`RECOVERED`].

use super::ResourceId;
use crate::symbol::Symbol;
use crate::time::UnixNanos;

/// The attribute, `true`, of a span that its own process never ended: it was recovered from a journal.
pub const RECOVERED: &str = "exit137.recovered";

/// Live heap that one operation allocated at one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveHeap {
    /// Operation; `background` is all work outside of requests.
    pub operation: Symbol,
    /// `file:line`, or the function when nothing better is known.
    pub place: Option<Symbol>,
    /// Bytes, estimated from samples.
    pub bytes: u64,
    /// Bytes ever allocated there, estimated from samples.
    pub allocated: u64,
}

/// What the finished requests of one operation did together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationTotals {
    /// Operation.
    pub operation: Symbol,
    /// Requests that ended.
    pub finished: u64,
    /// Bytes that they left behind; negative when they freed more than they allocated.
    pub retained: i64,
    /// The most that one request held.
    pub peak: u64,
}

/// One life of one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalLife {
    /// File it came from.
    pub file: String,
    /// Who it was.
    pub resource: ResourceId,
    /// Its PID as it saw it.
    pub pid: u32,
    /// Start.
    pub started: UnixNanos,
    /// Last sign of life.
    pub seen: UnixNanos,
    /// When it ended of its own will, if it did.
    pub closed: Option<UnixNanos>,
    /// Live heap altogether, bytes; 0 when it was not sampled.
    pub live_bytes: u64,
    /// Live heap by operation and place, largest first.
    pub heap: Vec<LiveHeap>,
    /// Operations, in no order.
    pub operations: Vec<OperationTotals>,
}

impl JournalLife {
    /// The same with the symbols and resources of other observations.
    pub(super) fn renamed(
        mut self,
        symbol: impl Fn(Symbol) -> Symbol,
        resource: impl Fn(ResourceId) -> ResourceId,
    ) -> Self {
        self.resource = resource(self.resource);
        for row in &mut self.heap {
            row.operation = symbol(row.operation);
            row.place = row.place.map(&symbol);
        }
        for totals in &mut self.operations {
            totals.operation = symbol(totals.operation);
        }
        self
    }
}
