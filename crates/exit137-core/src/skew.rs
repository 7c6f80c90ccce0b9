//! Clocks that disagree: a service whose clock is off sends spans that lie outside of its callers' spans. They are
//! moved by what it is off, because memory, kills and callers are told by other clocks.

use std::collections::HashMap;

use crate::identity::{Cast, ContainerIndex};
use crate::observation::Observations;
use crate::observation::span::SpanKind;
use crate::time::{SECOND, UnixNanos};
use crate::work::{CallSource, Work};

/// Clocks that are kept by NTP differ by less; a request takes no longer on its way.
const SKEW_MIN: i64 = SECOND / 2;
/// Pairs of a caller's span and the span that answered it, at least.
const PAIRS_MIN: usize = 10;
/// Pairs looked at for one container.
const PAIRS_MAX: usize = 2_000;

/// Moves the calls of services whose clock is off; tells which by how much, in nanoseconds ahead of their callers.
pub(crate) fn align(work: &mut Work, observations: &Observations) -> Vec<(ContainerIndex, i64)> {
    let spans = &observations.traces.spans;
    let mut answers: HashMap<u64, (ContainerIndex, UnixNanos, UnixNanos)> = HashMap::new();
    for (container, calls) in &work.calls {
        let own = calls.iter().filter(|call| call.source == CallSource::Own);
        let linked = own.filter_map(|call| Some((spans.get(call.span as usize)?.parent_span_id, call)));
        for (parent, call) in linked.filter(|(parent, _)| *parent != 0).take(PAIRS_MAX) {
            answers.insert(parent, (*container, call.start, call.end));
        }
    }
    let mut offsets: HashMap<ContainerIndex, Vec<i64>> = HashMap::new();
    for span in spans.iter().filter(|span| span.kind == SpanKind::Client) {
        let Some((container, start, end)) = answers.get(&span.span_id) else { continue };
        // Half of what the caller waited more is the way there: what is left is the clocks'.
        let (early, late) = (start.since(span.start), end.since(span.end));
        offsets.entry(*container).or_default().push(early / 2 + late / 2);
    }
    let mut skews: Vec<(ContainerIndex, i64)> = offsets
        .into_iter()
        .filter(|(_, offsets)| offsets.len() >= PAIRS_MIN)
        .map(|(container, mut offsets)| {
            offsets.sort_unstable();
            (container, offsets[offsets.len() / 2])
        })
        .filter(|(_, skew)| skew.saturating_abs() >= SKEW_MIN)
        .collect();
    skews.sort_unstable();
    for (container, skew) in &skews {
        let Some(calls) = work.calls.get_mut(container) else { continue };
        for call in calls.iter_mut().filter(|call| call.source == CallSource::Own) {
            call.start = call.start - *skew;
            call.end = call.end - *skew;
        }
        calls.sort_unstable_by_key(|call| (call.start, call.end, call.span));
    }
    skews
}

/// What was done about it, in words.
pub(crate) fn told(cast: &Cast<'_>, (container, skew): (ContainerIndex, i64)) -> String {
    let seconds = skew as f64 / SECOND as f64;
    let how = if seconds > 0.0 { "ahead of" } else { "behind" };
    format!(
        "the clock of {} is {:.1} s {how} its callers'; its spans were moved by as much",
        crate::diagnose::called(&cast.describe(container)),
        seconds.abs()
    )
}
