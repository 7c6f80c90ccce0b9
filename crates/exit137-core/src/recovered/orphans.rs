//! Requests known only by their finished children: the parent's span never arrived.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::{ORPHAN_AGE_MAX, Recovered, attributes_of};
use crate::hashing::NumberMap;
use crate::identity::{Cast, ContainerIndex};
use crate::observation::Observations;
use crate::observation::span::{Span, SpanKind};
use crate::symbol::Symbol;
use crate::time::{Moment, SECOND, UnixNanos};
use crate::verdict::RecoveredFrom;
use crate::work::{Call, CallSource, Work};

/// Finished calls that are looked into: more tell nothing new of what an operation does.
const CALLS_MAX: usize = 200_000;

/// From here on, what a lost request had done tells whose it was.
const TELLING_MIN: f64 = 0.8;

/// How often an operation may do what it was never seen to do.
const UNSEEN: f64 = 0.02;

/// Attributes beside the name that tell what a child span did; values with literals in them match nothing and do no harm.
const DETAILS: [&str; 4] = ["db.query.text", "db.statement", "db.collection.name", "http.route"];

/// Finished children of a victim whose parent never arrived: fingerprints of a request that had not ended. One a
/// trace, by kill.
pub(super) fn orphans(
    observations: &Observations,
    cast: &Cast<'_>,
    work: &Work,
    kills: &[(ContainerIndex, Moment)],
) -> Vec<Vec<Recovered>> {
    if kills.is_empty() {
        return Vec::new();
    }
    let mut kills_of: NumberMap<ContainerIndex, Vec<(UnixNanos, usize)>> = NumberMap::default();
    for (number, (container, at)) in kills.iter().enumerate() {
        kills_of.entry(*container).or_default().push((at.at, number));
    }
    kills_of.values_mut().for_each(|times| times.sort_unstable());
    let kill_after = |span: &Span| {
        let times = kills_of.get(&cast.container_of_resource(span.resource)?)?;
        let next = times.partition_point(|(at, _)| *at + SECOND < span.end);
        times.get(next).filter(|(at, _)| at.since(span.end) <= ORPHAN_AGE_MAX).map(|(_, number)| *number)
    };
    let mut last_seen: Vec<UnixNanos> = vec![UnixNanos(i64::MIN); kills.len()];
    let mut missing: NumberMap<(u128, u64), (usize, Vec<u32>)> = NumberMap::default();
    for (index, span) in observations.traces.spans.iter().enumerate() {
        let inner = matches!(span.kind, SpanKind::Internal | SpanKind::Client | SpanKind::Producer);
        let Some(kill) = kill_after(span) else { continue };
        last_seen[kill] = last_seen[kill].max(span.end);
        if inner && span.parent_span_id != 0 {
            missing
                .entry((span.trace_id, span.parent_span_id))
                .or_insert((kill, Vec::new()))
                .1
                .push(index as u32);
        }
    }
    for span in &observations.traces.spans {
        missing.remove(&(span.trace_id, span.span_id));
    }
    let insides = Insides::of(observations, work, missing.values().map(|(kill, _)| kills[*kill].0));
    let lost = missing.into_iter().filter_map(|(lost, (kill, children))| {
        let (container, at) = kills[kill];
        let operation = insides.operation_with(observations, container, &children);
        Some((kill, recovered(observations, work, lost, &children, operation, (last_seen[kill], at.at))?))
    });
    let mut lost: Vec<(usize, Recovered)> = lost.collect();
    // A trace may miss several parents of one request: the outermost began first.
    lost.sort_by_key(|(kill, request)| (*kill, request.trace_id, request.started_at, request.span_id));
    lost.dedup_by_key(|(kill, request)| (*kill, request.trace_id));
    let mut by_kill: Vec<Vec<Recovered>> = vec![Vec::new(); kills.len()];
    for (kill, request) in lost {
        by_kill[kill].push(request);
    }
    by_kill
}

fn recovered(
    observations: &Observations,
    work: &Work,
    (trace_id, span_id): (u128, u64),
    children: &[u32],
    operation: Option<u32>,
    (last_seen, killed): (UnixNanos, UnixNanos),
) -> Option<Recovered> {
    let span = |index: &u32| observations.traces.spans.get(*index as usize);
    let started_at = children.iter().filter_map(span).map(|span| span.start).min()?;
    let (index, last) = children
        .iter()
        .filter_map(|index| Some((*index, span(index)?)))
        .max_by_key(|(_, span)| (span.end, span.span_id))?;
    // It may have ended unseen once the process had sent its last batch: it is only known to have run until then, and
    // is taken to be as old as it was.
    let unknown = killed.since(last_seen.max(started_at)).max(0);
    let call = operation.map(|operation| Call {
        start: started_at + unknown,
        end: killed.max(started_at + unknown),
        operation,
        span: index,
        source: CallSource::Children,
        failed: true,
        weight: last.weight.max(1.0),
    });
    let named = operation.and_then(|operation| work.operations.get(operation as usize)).cloned();
    let seen = observations.symbols.text(last.name);
    Some(Recovered {
        operation: named.unwrap_or_else(|| format!("unfinished request, last seen in {seen}")),
        call,
        trace_id,
        span_id,
        started_at,
        from: RecoveredFrom::Orphans,
        attributes: attributes_of(observations, last),
    })
}

/// What the finished calls of each operation did inside: by that, a request that had only begun is told.
struct Insides {
    details: Vec<Symbol>,
    by_container: NumberMap<ContainerIndex, BTreeMap<u32, Inside>>,
}

/// The finished calls of one operation, and in how many of them each child span was.
#[derive(Default)]
struct Inside {
    calls: f64,
    with: HashMap<Child, f64>,
}

/// What a child span did: its name, and what tells it from others of that name.
type Child = (Symbol, Option<Symbol>);

impl Insides {
    fn of(
        observations: &Observations,
        work: &Work,
        containers: impl Iterator<Item = ContainerIndex>,
    ) -> Self {
        let details = DETAILS.iter().filter_map(|key| observations.symbols.find(key)).collect();
        let mut insides = Self { details, by_container: NumberMap::default() };
        let mut parents: NumberMap<u64, (ContainerIndex, u32)> = NumberMap::default();
        let containers: BTreeSet<ContainerIndex> = containers.collect();
        for container in containers {
            let own = work.calls_of(container).iter().rev().filter(|call| call.source == CallSource::Own);
            for call in own.take(CALLS_MAX) {
                let Some(span) = observations.traces.spans.get(call.span as usize) else { continue };
                parents.insert(span.span_id, (container, call.operation));
                let operations = insides.by_container.entry(container).or_default();
                operations.entry(call.operation).or_default().calls += 1.0;
            }
        }
        let mut counted: HashSet<(u64, Child)> = HashSet::new();
        for span in observations.traces.spans.iter().filter(|span| span.parent_span_id != 0) {
            let Some((container, operation)) = parents.get(&span.parent_span_id) else { continue };
            let child = insides.child(observations, span);
            if counted.insert((span.parent_span_id, child)) {
                let operations = insides.by_container.entry(*container).or_default();
                *operations.entry(*operation).or_default().with.entry(child).or_default() += 1.0;
            }
        }
        insides
    }

    fn child(&self, observations: &Observations, span: &Span) -> Child {
        (span.name, self.details.iter().find_map(|key| observations.traces.attribute(span, *key)))
    }

    /// The operation whose calls do these things, if it is plain: Bayes over what was done and what is frequent.
    fn operation_with(
        &self,
        observations: &Observations,
        container: ContainerIndex,
        children: &[u32],
    ) -> Option<u32> {
        let operations = self.by_container.get(&container)?;
        let spans = children.iter().filter_map(|index| observations.traces.spans.get(*index as usize));
        let done: HashSet<Child> = spans.map(|span| self.child(observations, span)).collect();
        let weight = |inside: &Inside| {
            let share =
                |child: &Child| inside.with.get(child).copied().unwrap_or(0.0) / inside.calls.max(1.0);
            inside.calls * done.iter().map(|child| share(child).max(UNSEEN)).product::<f64>()
        };
        let all: f64 = operations.values().map(weight).sum();
        let (operation, best) = operations
            .iter()
            .map(|(operation, inside)| (*operation, weight(inside)))
            .max_by(|a, b| a.1.total_cmp(&b.1))?;
        // What nobody was ever seen to do tells nothing.
        let known =
            done.iter().any(|child| operations.values().any(|inside| inside.with.contains_key(child)));
        (known && best >= TELLING_MIN * all).then_some(operation)
    }
}
