//! Messages that were sent and whose work never ended: a consumer's span is exported when the work is over, so the
//! message that killed the consumer has only its PRODUCER span.

use super::{Recovered, attributes_of};
use crate::hashing::NumberMap;
use crate::identity::ContainerIndex;
use crate::observation::Observations;
use crate::observation::span::SpanKind;
use crate::time::{Moment, SECOND, UnixNanos};
use crate::verdict::RecoveredFrom;
use crate::work::{Call, CallSource, Work};

/// A message that was sent longer before the kill waits for something else.
const AGE_MAX: i64 = 120 * SECOND;

/// Messages told of one kill: workers that take many at once are rare.
const TOLD_MAX: usize = 20;

/// The messages that this container was working on: sent before the kill, never done, and either overtaken by a later
/// message that was taken up before the kill, or the next in turn. The rest may still have been waiting. What was sent
/// before the container's previous kill is told only if nothing was done since: else its span was lost with that kill.
pub(super) fn from_publishers(
    observations: &Observations,
    work: &Work,
    container: ContainerIndex,
    at: Moment,
    previous: Option<UnixNanos>,
) -> Vec<Recovered> {
    let span_of = |call: &Call| observations.traces.spans.get(call.span as usize);
    let calls = work.calls_of(container);
    let done_since = |kill: UnixNanos| {
        calls.iter().any(|call| call.source == CallSource::Own && call.start > kill && call.end <= at.at)
    };
    let from = previous.filter(|kill| done_since(*kill)).unwrap_or(UnixNanos(i64::MIN)).max(at.at - AGE_MAX);
    let recent = |call: &&Call| call.start <= at.at && call.start >= from;
    let sent = |call: &&Call| {
        call.source == CallSource::Caller
            && !call.failed
            && span_of(call).is_some_and(|span| span.kind == SpanKind::Producer)
    };
    let mut waiting: Vec<&Call> = calls.iter().filter(recent).filter(sent).collect();
    if waiting.is_empty() {
        return Vec::new();
    }
    waiting.sort_by_key(|call| (call.start, call.span));
    let newest = newest_taken_up(observations, calls, at.at);
    let overtaken = waiting.iter().filter(|call| newest.is_some_and(|newest| call.start < newest)).count();
    let taken_up = waiting.into_iter().take(overtaken.max(1)).take(TOLD_MAX);
    taken_up
        .filter_map(|call| {
            let span = span_of(call)?;
            Some(Recovered {
                operation: work.operations.get(call.operation as usize)?.clone(),
                call: Some(Call { end: at.at.max(call.start), ..*call }),
                trace_id: span.trace_id,
                span_id: span.span_id,
                started_at: span.start,
                from: RecoveredFrom::ClientSpan,
                attributes: attributes_of(observations, span),
            })
        })
        .collect()
}

/// When the newest of the messages was sent that were taken up, by the spans of their consumers, before the kill.
fn newest_taken_up(observations: &Observations, calls: &[Call], at: UnixNanos) -> Option<UnixNanos> {
    let spans = &observations.traces.spans;
    let own = |call: &&Call| call.source == CallSource::Own && call.start <= at && call.start >= at - AGE_MAX;
    let mut taken: NumberMap<u64, ()> = NumberMap::default();
    for call in calls.iter().filter(own) {
        if let Some(span) = spans.get(call.span as usize).filter(|span| span.kind == SpanKind::Consumer) {
            taken.insert(span.parent_span_id, ());
        }
    }
    let sent = spans.iter().filter(|span| span.kind == SpanKind::Producer);
    sent.filter(|span| taken.contains_key(&span.span_id)).map(|span| span.start).max()
}
