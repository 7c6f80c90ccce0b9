//! The requests that a kill swallowed. OpenTelemetry exports a span when it ends, so the request that ran when
//! SIGKILL came is exactly the one without a span. A journal that the process kept, its caller's span, and its own finished
//! children remain.

mod messages;
mod orphans;

use std::collections::{BTreeMap, HashSet};

use crate::bytes::Bytes;
use crate::identity::{Cast, ContainerIndex};
use crate::observation::Observations;
use crate::observation::span::Span;
use crate::time::{Moment, SECOND, UnixNanos};
use crate::verdict::RecoveredFrom;
use crate::work::{Call, CallSource, Work};

/// A caller notices a dead connection at once, a proxy between them a little later.
const CALLER_NOTICES_MAX: i64 = 5 * SECOND;

/// A caller that waits for its own time-out: the call is still unanswered then, and ends in an error.
const CALLER_TIMEOUT_MAX: i64 = 120 * SECOND;

/// How long before the kill a lost request's last finished child may lie.
const ORPHAN_AGE_MAX: i64 = 30 * SECOND;

/// A process that fights for memory stands still at times: its last sign of life may be older than its kill by this.
const LAST_SIGN_AGE_MAX: i64 = 20 * SECOND;

/// More requests in flight at one kill than this are counted, not listed.
const LISTED_MAX: usize = 2000;

/// One recovered request.
#[derive(Debug, Clone)]
pub struct Recovered {
    /// Best name.
    pub operation: String,
    /// The call it is, when its caller's span is known.
    pub call: Option<Call>,
    /// Trace.
    pub trace_id: u128,
    /// The caller's span (the lost span's own id is not known to it), or the lost span's id for orphans.
    pub span_id: u64,
    /// Start.
    pub started_at: UnixNanos,
    /// How it is known.
    pub from: RecoveredFrom,
    /// URL, query, peer.
    pub attributes: BTreeMap<String, String>,
}

/// Attributes that tell one request from another.
const TELLING: &[&str] = &[
    "url.full",
    "http.url",
    "url.path",
    "http.target",
    "url.query",
    "messaging.destination.name",
    "messaging.message.id",
    "rpc.method",
    "rpc.service",
    "error.type",
];

/// The requests that each of these containers was serving when it was killed at that moment, in the given order.
pub fn recover(
    observations: &Observations,
    cast: &Cast<'_>,
    work: &Work,
    kills: &[(ContainerIndex, Moment)],
) -> Vec<Vec<Recovered>> {
    let mut orphans = orphans::orphans(observations, cast, work, kills);
    let kill_before = |container: ContainerIndex, at: Moment| {
        kills
            .iter()
            .filter(|(other, _)| *other == container)
            .map(|(_, kill)| kill.at)
            .filter(|kill| *kill < at.at)
            .max()
    };
    let requests_of = |(number, (container, at)): (usize, &(ContainerIndex, Moment))| {
        let mut found = from_journal(observations, work, *container, *at);
        found.extend(from_callers(observations, work, *container, *at));
        found.extend(messages::from_publishers(
            observations,
            work,
            *container,
            *at,
            kill_before(*container, *at),
        ));
        // A trace whose caller got its answer is finished: only the span's last batch was lost.
        let known: HashSet<u128> = traces_called(observations, work, *container, *at);
        let orphans = std::mem::take(&mut orphans[number]);
        found.extend(orphans.into_iter().filter(|orphan| !known.contains(&orphan.trace_id)));
        found.sort_by_key(|request| (request.started_at, request.span_id));
        found.truncate(LISTED_MAX);
        found
    };
    kills.iter().enumerate().map(requests_of).collect()
}

/// Traces whose caller's span is known, around a kill.
fn traces_called(
    observations: &Observations,
    work: &Work,
    container: ContainerIndex,
    at: Moment,
) -> HashSet<u128> {
    let calls = work.calls_of(container);
    let begun = calls.partition_point(|call| call.start <= at.at + SECOND);
    let near = calls[..begun]
        .iter()
        .filter(|call| call.source == CallSource::Caller && call.end >= at.at - 2 * ORPHAN_AGE_MAX);
    near.filter_map(|call| observations.traces.spans.get(call.span as usize))
        .map(|span| span.trace_id)
        .collect()
}

fn attributes_of(observations: &Observations, span: &Span) -> BTreeMap<String, String> {
    let text = |symbol| observations.symbols.text(symbol);
    let pairs = observations.traces.attributes(span).iter().map(|(key, value)| (text(*key), text(*value)));
    pairs
        .filter(|(key, _)| TELLING.contains(key))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// What the process itself had written down. Nothing else knows of a request that nobody traced, and nothing else is as
/// sure: it had begun and had not ended.
fn from_journal(
    observations: &Observations,
    work: &Work,
    container: ContainerIndex,
    at: Moment,
) -> Vec<Recovered> {
    let unsure = at.uncertainty.min(2 * SECOND) + SECOND;
    let calls = work.calls_of(container);
    let begun = calls.partition_point(|call| call.start <= at.at + unsure);
    let running = calls[..begun].iter().filter(|call| {
        let silence = at.at.since(call.end);
        call.source == CallSource::Journal && silence <= LAST_SIGN_AGE_MAX + unsure && silence >= -unsure
    });
    running
        .filter_map(|call| {
            let span = observations.traces.spans.get(call.span as usize)?;
            Some(Recovered {
                operation: work.operations.get(call.operation as usize)?.clone(),
                call: Some(*call),
                trace_id: span.trace_id,
                span_id: span.span_id,
                started_at: span.start,
                from: RecoveredFrom::Journal,
                attributes: told_by_journal(observations, span),
            })
        })
        .collect()
}

/// All attributes: a journal keeps few. What it says of memory is told in words.
fn told_by_journal(observations: &Observations, span: &Span) -> BTreeMap<String, String> {
    let text = |symbol| observations.symbols.text(symbol);
    let pairs = observations.traces.attributes(span).iter().map(|(key, value)| (text(*key), text(*value)));
    let bytes = |value: &str| value.parse().ok().map(|bytes: u64| Bytes(bytes).to_string());
    pairs
        .filter_map(|(key, value)| match key {
            "exit137.memory.held" => Some(("held".to_owned(), bytes(value)?)),
            "exit137.memory.peak" => Some(("peak".to_owned(), bytes(value)?)),
            "exit137.phase" => Some(("phase".to_owned(), value.to_owned())),
            _ if key.starts_with("exit137.") => None,
            _ => Some((key.to_owned(), value.to_owned())),
        })
        .collect()
}

/// Callers' spans that began before the kill, ended in an error soon after it, and were never answered. A
/// refused connection begins after the kill and is none of them.
fn from_callers(
    observations: &Observations,
    work: &Work,
    container: ContainerIndex,
    at: Moment,
) -> Vec<Recovered> {
    let unsure = at.uncertainty.min(2 * SECOND);
    let slack = unsure + SECOND / 5;
    let calls = work.calls_of(container);
    // What began within the uncertainty of the kill may have begun after it, and met a closed door.
    let begun = calls.partition_point(|call| call.start <= at.at - unsure);
    let lost = calls[..begun].iter().filter(|call| {
        let lag = call.end.since(at.at);
        call.source == CallSource::Caller
            && call.failed
            && lag >= -slack
            && (lag <= CALLER_NOTICES_MAX
                || lag <= CALLER_TIMEOUT_MAX && call.end.since(call.start) > CALLER_NOTICES_MAX)
    });
    lost.filter_map(|call| {
        let span = observations.traces.spans.get(call.span as usize)?;
        Some(Recovered {
            operation: work.operations.get(call.operation as usize)?.clone(),
            call: Some(*call),
            trace_id: span.trace_id,
            span_id: span.span_id,
            started_at: span.start,
            from: RecoveredFrom::ClientSpan,
            attributes: attributes_of(observations, span),
        })
    })
    .collect()
}
