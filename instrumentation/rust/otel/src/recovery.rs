//! What the last life left in flight, told to OpenTelemetry: spans with the ids they would have had, and a log record.

mod memory;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use exit137_journal::{InFlight, Journal, Kind, Previous};
use opentelemetry::logs::{AnyValue, LogRecord, Logger, LoggerProvider, Severity};
use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{Context, InstrumentationScope, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanEvents, SpanLinks, SpanProcessor};

use crate::{Instrumentation, parents};

/// Spans given to the processor before it is asked to send them: less than the queue of a batch processor holds.
const BATCH: usize = 256;

/// What one earlier life left.
#[derive(Debug)]
pub struct Recovered {
    previous: Previous,
    journal: Journal,
}

impl Recovered {
    /// Everything that its journal says.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Whether it was killed, rather than ended of its own will.
    pub fn was_killed(&self) -> bool {
        self.journal.closed_unix_nanos.is_none()
    }

    /// The spans of the requests that were in flight: same ids, status error, `exit137.recovered` = true, ended at the
    /// last sign of life.
    pub fn spans(&self) -> Vec<SpanData> {
        let journal = &self.journal;
        let traced = journal.in_flight.iter().filter(|request| request.trace_id != 0 && request.sampled);
        traced.map(|request| span_of(journal, request)).collect()
    }

    /// One sentence.
    pub fn summary(&self) -> String {
        let journal = &self.journal;
        let requests = journal.in_flight.len();
        let mut text = format!("process {} was killed with {requests} requests in flight", journal.pid);
        if journal.live_bytes > 0 {
            text += &format!("; {} MiB live", journal.live_bytes >> 20);
        }
        if let Some(holder) = journal.holders().first() {
            let place = holder.place.as_ref().map(|place| format!(" at {place}")).unwrap_or_default();
            let live = holder.live_bytes >> 20;
            text += &format!(", {live} of it allocated by {}{place}", holder.operation);
        }
        text
    }

    /// Removes the journal: it has been told.
    pub fn forget(self) {
        self.previous.forget();
    }
}

fn time(nanos: u64) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_nanos(nanos)).unwrap_or(UNIX_EPOCH)
}

fn span_of(journal: &Journal, request: &InFlight) -> SpanData {
    let context = SpanContext::new(
        TraceId::from(request.trace_id),
        SpanId::from(request.span_id),
        TraceFlags::SAMPLED,
        false,
        TraceState::default(),
    );
    let kind = match request.kind {
        Kind::Server => SpanKind::Server,
        Kind::Client => SpanKind::Client,
        Kind::Producer => SpanKind::Producer,
        Kind::Consumer => SpanKind::Consumer,
        _ => SpanKind::Internal,
    };
    let end = journal.seen_unix_nanos.max(request.started_unix_nanos);
    let mut attributes: Vec<KeyValue> =
        request.attributes.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone())).collect();
    attributes.push(KeyValue::new("exit137.recovered", true));
    attributes.push(KeyValue::new("exit137.life", format!("{:016x}", journal.life)));
    attributes.push(KeyValue::new("exit137.last_seen", request.seen_unix_nanos as i64));
    let numbers = [
        ("exit137.memory.allocated", request.allocated_bytes),
        ("exit137.memory.held", request.held_bytes),
        ("exit137.memory.peak", request.peak_bytes),
    ];
    let known = numbers.into_iter().filter_map(|(key, value)| Some(KeyValue::new(key, value? as i64)));
    attributes.extend(known);
    if let Some(phase) = &request.phase {
        attributes.push(KeyValue::new("exit137.phase", phase.clone()));
    }
    SpanData {
        span_context: context,
        parent_span_id: SpanId::from(request.parent_span_id),
        parent_span_is_remote: request.parent_span_id != 0,
        span_kind: kind,
        name: Cow::Owned(request.operation.clone()),
        start_time: time(request.started_unix_nanos),
        end_time: time(end),
        attributes,
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::error("the process was killed while this request was in flight"),
        instrumentation_scope: InstrumentationScope::builder("exit137")
            .with_version(env!("CARGO_PKG_VERSION"))
            .build(),
    }
}

impl Instrumentation {
    /// What earlier lives left and nobody has told yet, oldest first. Each is given out once.
    pub fn take_recovered(&mut self) -> Vec<Recovered> {
        let read = |previous: Previous| match previous.read() {
            Ok(journal) if journal.closed_unix_nanos.is_none() => Some(Recovered { previous, journal }),
            // Ended of its own will, or damaged: there is nothing to tell.
            _ => {
                previous.forget();
                None
            }
        };
        std::mem::take(&mut self.previous).into_iter().filter_map(read).collect()
    }

    /// Emits two log records for each earlier life that was killed: `exit137.recovered`, with how many requests were in flight
    /// and who held the most; and `exit137.journal`, with who held the memory altogether, which is what a verdict needs. To be
    /// called before [`Instrumentation::recover_with`].
    pub fn log_recovered<P: LoggerProvider>(&self, provider: &P) {
        let logger = provider.logger("exit137");
        let lives = self.previous.iter().filter_map(|previous| {
            Some(Recovered { previous: previous.clone(), journal: previous.read().ok()? })
        });
        for previous in lives.filter(Recovered::was_killed) {
            tell_recovered(&logger, &previous);
            tell_memory(&logger, &previous);
        }
    }

    /// A processor that first passes on the spans of requests that earlier lives left in flight, and then everything as
    /// it comes. Once they have been sent, the journals of those lives are removed; until then the next start tries again.
    pub fn recover_with<P: SpanProcessor + 'static>(&mut self, processor: P) -> RecoveringProcessor<P> {
        RecoveringProcessor { inner: Arc::new(processor), recovered: self.take_recovered() }
    }
}

/// A record of a killed life, dated at its last sign of life.
fn record_of<L: Logger>(logger: &L, event_name: &'static str, journal: &Journal) -> L::LogRecord {
    let mut record = logger.create_log_record();
    record.set_event_name(event_name);
    record.set_timestamp(time(journal.seen_unix_nanos));
    record
}

fn tell_recovered(logger: &impl Logger, life: &Recovered) {
    let journal = &life.journal;
    let mut record = record_of(logger, "exit137.recovered", journal);
    record.set_severity_number(Severity::Error);
    record.set_severity_text("ERROR");
    record.set_body(AnyValue::from(life.summary()));
    record.add_attribute("exit137.in_flight", journal.in_flight.len() as i64);
    record.add_attribute("exit137.heap.live", journal.live_bytes as i64);
    record.add_attribute("exit137.life", format!("{:016x}", journal.life));
    record.add_attribute("exit137.not_recorded", journal.not_recorded as i64);
    if let Some(request) = journal.in_flight.iter().max_by_key(|request| request.held_bytes) {
        record.add_attribute("exit137.largest.operation", request.operation.clone());
        record.add_attribute("exit137.largest.held", request.held_bytes.unwrap_or_default() as i64);
        record.set_trace_context(
            TraceId::from(request.trace_id),
            SpanId::from(request.span_id),
            Some(TraceFlags::SAMPLED),
        );
    }
    logger.emit(record);
}

fn tell_memory(logger: &impl Logger, life: &Recovered) {
    let journal = &life.journal;
    let mut record = record_of(logger, "exit137.journal", journal);
    record.set_severity_number(Severity::Info);
    record.set_severity_text("INFO");
    record.set_body(AnyValue::from(memory::json(journal, &life.summary())));
    record.add_attribute("exit137.journal.pid", i64::from(journal.pid));
    record.add_attribute("exit137.journal.live_bytes", journal.live_bytes as i64);
    record.add_attribute("exit137.journal.in_flight", journal.in_flight.len() as i64);
    logger.emit(record);
}

/// See [`Instrumentation::recover_with`].
#[derive(Debug)]
pub struct RecoveringProcessor<P> {
    inner: Arc<P>,
    recovered: Vec<Recovered>,
}

impl<P: SpanProcessor + 'static> RecoveringProcessor<P> {
    /// In a thread of its own: sending takes as long as it takes.
    fn pass_on(&mut self) {
        let recovered = std::mem::take(&mut self.recovered);
        if recovered.is_empty() {
            return;
        }
        let inner = Arc::clone(&self.inner);
        let pass_on = move || {
            for life in recovered {
                let spans = life.spans();
                let mut sent = true;
                for batch in spans.chunks(BATCH) {
                    batch.iter().for_each(|span| inner.on_end(span.clone()));
                    sent &= inner.force_flush().is_ok();
                }
                if sent {
                    life.forget();
                }
            }
        };
        // Without a thread they are told at the next start.
        let _ = std::thread::Builder::new().name("exit137-recover".into()).spawn(pass_on);
    }
}

impl<P: SpanProcessor + 'static> SpanProcessor for RecoveringProcessor<P> {
    fn on_start(&self, span: &mut Span, cx: &Context) {
        let id = opentelemetry::trace::Span::span_context(span).span_id();
        parents::remember(id, cx.span().span_context().span_id());
        self.inner.on_start(span, cx);
    }

    fn on_end(&self, span: SpanData) {
        self.inner.on_end(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        // Nobody else has it before the provider is built, which is when this is called.
        if let Some(inner) = Arc::get_mut(&mut self.inner) {
            inner.set_resource(resource);
        }
        self.pass_on();
    }
}
