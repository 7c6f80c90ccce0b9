//! Journals of instrumented processes: the requests that a kill swallowed, and who held the memory. The bytes are decoded
//! by the crate that specifies them; here they become observations.

use exit137_core::observation::journal::{JournalLife, LiveHeap, OperationTotals, RECOVERED};
use exit137_core::observation::span::{Span, SpanKind, SpanStatus};
use exit137_core::observation::{Observations, ResourceId, SourceKind};
use exit137_core::symbol::Symbol;
use exit137_core::time::UnixNanos;
use exit137_journal::Journal;

pub use exit137_journal::{InFlight, Journal as Life, Kind, NotAJournal, read};

/// The largest journal that is read.
pub const BYTES_MAX: u64 = 64 << 20;

fn time(nanos: u64) -> UnixNanos {
    UnixNanos(i64::try_from(nanos).unwrap_or(i64::MAX))
}

/// Adds what a journal says. A process that ended of its own will left nothing in flight: what its journal lists then was
/// cut off by its end, not by a kill.
pub fn add(journal: &Journal, file: &str, observations: &mut Observations) {
    let mut pairs: Vec<(&str, &str)> =
        journal.resource.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    pairs.sort_unstable();
    let symbols = &mut observations.symbols;
    let attributes = pairs.iter().map(|(key, value)| (symbols.intern(key), symbols.intern(value))).collect();
    let resource = observations.intern_resource(attributes);
    if journal.closed_unix_nanos.is_none() {
        for request in &journal.in_flight {
            add_request(journal, request, resource, observations);
        }
    }
    let heap = journal.holders().into_iter().map(|holder| LiveHeap {
        operation: observations.symbols.intern(&holder.operation),
        place: holder.place.map(|place| observations.symbols.intern(&place)),
        bytes: holder.live_bytes,
        allocated: holder.allocated_bytes,
    });
    let heap = heap.collect();
    let totals = journal.operations.iter().map(|row| OperationTotals {
        operation: observations.symbols.intern(&row.name),
        finished: row.finished,
        retained: row.retained_bytes(),
        peak: row.peak_bytes,
    });
    let life = JournalLife {
        operations: totals.collect(),
        file: file.to_owned(),
        resource,
        pid: journal.pid,
        started: time(journal.started_unix_nanos),
        seen: time(journal.seen_unix_nanos),
        closed: journal.closed_unix_nanos.map(time),
        live_bytes: journal.live_bytes,
        heap,
    };
    observations.journals.push(life);
    if journal.torn > 0 {
        let torn = format!("{} records were being written when the process ended", journal.torn);
        observations.problems.add(file, None, torn);
    }
    observations.count(SourceKind::Journal, 1 + journal.in_flight.len() as u64, false);
}

fn add_request(journal: &Journal, request: &InFlight, resource: ResourceId, observations: &mut Observations) {
    let symbols = &mut observations.symbols;
    let mut attributes: Vec<(Symbol, Symbol)> =
        request.attributes.iter().map(|(key, value)| (symbols.intern(key), symbols.intern(value))).collect();
    attributes.push((symbols.intern(RECOVERED), symbols.intern("true")));
    let numbers = [("exit137.memory.held", request.held_bytes), ("exit137.memory.peak", request.peak_bytes)];
    for (key, value) in numbers {
        attributes.extend(value.map(|value| (symbols.intern(key), symbols.intern(&value.to_string()))));
    }
    let phase = request.phase.as_deref();
    attributes.extend(phase.map(|phase| (symbols.intern("exit137.phase"), symbols.intern(phase))));
    let start = time(request.started_unix_nanos);
    let span = Span {
        trace_id: request.trace_id,
        span_id: request.span_id,
        parent_span_id: request.parent_span_id,
        start,
        end: time(journal.seen_unix_nanos).max(start),
        name: symbols.intern(&request.operation),
        resource,
        attributes_start: observations.traces.attributes.len() as u32,
        attributes_len: attributes.len() as u16,
        kind: match request.kind {
            Kind::Consumer => SpanKind::Consumer,
            Kind::Internal => SpanKind::Internal,
            Kind::Client => SpanKind::Client,
            Kind::Producer => SpanKind::Producer,
            _ => SpanKind::Server,
        },
        status: SpanStatus::Error,
        weight: 1.0,
    };
    observations.traces.attributes.extend(attributes);
    observations.traces.spans.push(span);
}
