//! Marks inside a request, and the attributes that they leave on its span.

use opentelemetry::trace::{SpanRef, TraceContextExt};
use opentelemetry::{Context, KeyValue};

use crate::allocator::LARGE_BYTES;
use crate::allocator::thread::{HAND_OVER_BYTES, THREAD};
use crate::config;
use crate::context::{BACKGROUND, context};
use crate::request::Usage;

/// Bytes of a megabyte, as `_mb` attributes count it.
const MB: f64 = 1024.0 * 1024.0;

/// Marks the end of a phase of the current request: `memory_phase!("after_load_items")`. The span gets
/// `memory.after_load_items.before_mb` (held at the mark before, or 0), `.after_mb` (held now) and `.delta_mb`, and the event
/// `memory.high_growth` when the phase added more than the threshold. After a kill the journal tells the last mark.
/// Outside of a request it does nothing.
#[macro_export]
macro_rules! memory_phase {
    ($label:expr) => {
        $crate::phase($label)
    };
}

/// What [`memory_phase!`](crate::memory_phase) does.
pub fn phase(label: &str) {
    let id = THREAD.with(|thread| {
        thread.hand_over();
        thread.context()
    });
    if id == BACKGROUND {
        return;
    }
    let context = context(id);
    let held = context.counted().held();
    let before = context.enter_phase(held);
    if let (Some(mark), Some(journal)) = (context.mark(), crate::journal()) {
        journal.set_phase(mark, label);
    }
    Context::map_current(|current| {
        let span = current.span();
        if span.is_recording() {
            describe_growth(&span, label, before, held);
        }
    });
}

/// The source article's attributes for one label.
fn describe_growth(span: &SpanRef<'_>, label: &str, before: i64, after: i64) {
    let delta = after.saturating_sub(before);
    span.set_attributes([
        KeyValue::new(format!("memory.{label}.before_mb"), mb(before)),
        KeyValue::new(format!("memory.{label}.after_mb"), mb(after)),
        KeyValue::new(format!("memory.{label}.delta_mb"), mb(delta)),
    ]);
    tell_high_growth(span, label, delta);
}

fn mb(bytes: i64) -> f64 {
    bytes as f64 / MB
}

fn tell_high_growth(span: &SpanRef<'_>, label: &str, delta: i64) {
    if delta > 0 && delta as u64 >= config::high_growth_bytes() {
        let attributes = vec![
            KeyValue::new("memory.delta_mb", mb(delta)),
            KeyValue::new("memory.phase", label.to_owned()),
        ];
        span.add_event("memory.high_growth", attributes);
    }
}

/// From here on `memory.request.*` says more than 0.0 MB. Most requests retain nothing, and attributes that say so cost more
/// than all the counting: they are made, encoded, sent and stored.
const REQUEST_MB_FROM: u64 = 100 << 10;

/// A request hands the response's head to the connection and frees what was read before it began: below this nothing is known of
/// what one request retained. Blocks from this size on have an owner, so that what they add up to is known.
const RETAINED_FROM: u64 = LARGE_BYTES as u64;

/// Less is nothing to tell of one request, and a peak below is not known: see [`Usage::peak`].
const TOLD_FROM: u64 = HAND_OVER_BYTES as u64;

/// What a request has used, as attributes of its span; `also` goes with them. Only what is news: without `.allocated` it was less
/// than [`TOLD_FROM`], and without `.retained` the request freed what it allocated, give or take [`RETAINED_FROM`].
pub(crate) fn describe_request(span: &SpanRef<'_>, usage: &Usage, also: Option<KeyValue>) {
    let allocated = usage.allocated >= TOLD_FROM;
    let peak = usage.peak >= TOLD_FROM;
    let retained = usage.retained.unsigned_abs() >= RETAINED_FROM;
    let allocated = allocated.then(|| KeyValue::new("exit137.memory.allocated", usage.allocated as i64));
    let peak = peak.then(|| KeyValue::new("exit137.memory.peak", usage.peak as i64));
    let freed = retained.then(|| KeyValue::new("exit137.memory.freed", usage.freed));
    let retained = retained.then(|| KeyValue::new("exit137.memory.retained", usage.retained));
    // All under one lock.
    span.set_attributes([also, allocated, peak, freed, retained].into_iter().flatten());
    if usage.retained.unsigned_abs() >= REQUEST_MB_FROM {
        span.set_attributes([
            KeyValue::new("memory.request.before_mb", 0.0),
            KeyValue::new("memory.request.after_mb", mb(usage.retained)),
            KeyValue::new("memory.request.delta_mb", mb(usage.retained)),
        ]);
        tell_high_growth(span, "request", usage.retained);
    }
}
