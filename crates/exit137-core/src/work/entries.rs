//! Which spans are calls. There may be millions, so they are looked at in parts, by all cores.

use crate::hashing::{NumberMap, Sieve};
use crate::identity::ContainerIndex;
use crate::observation::span::{Span, SpanKind};
use crate::parallel;

/// Spans that are looked at in one go.
pub(super) const PART: usize = 500_000;

/// The spans that are calls, in order, by their indexes: SERVER and CONSUMER spans of the containers that have any, else
/// root INTERNAL spans.
pub(super) fn calls(spans: &[Span], containers: &[Option<ContainerIndex>]) -> Vec<u32> {
    let container_of = |index: u32| {
        spans
            .get(index as usize)
            .and_then(|span| *containers.get(span.resource.0 as usize)?)
            .unwrap_or_default()
    };
    let (entries, mut roots) = entries_and_roots(spans, containers);
    let mut has_entries = vec![false; containers.iter().flatten().max().map_or(0, |last| last + 1)];
    entries.iter().for_each(|index| has_entries[container_of(*index)] = true);
    roots.retain(|index| !has_entries[container_of(*index)]);
    let outer = outer_entries(spans, &entries, &container_of);
    let mut calls = entries;
    // An entry span inside an entry span is the same call, told by two instrumentations.
    if !outer.is_empty() {
        calls.retain(|index| {
            outer.get(&spans[*index as usize].parent_span_id) != Some(&Some(container_of(*index)))
        });
    }
    if !roots.is_empty() {
        calls.append(&mut roots);
        calls.sort();
    }
    calls
}

/// The entry spans and the root INTERNAL spans of known containers.
fn entries_and_roots(spans: &[Span], containers: &[Option<ContainerIndex>]) -> (Vec<u32>, Vec<u32>) {
    let known = |span: &Span| containers.get(span.resource.0 as usize).is_some_and(Option::is_some);
    let parts: Vec<usize> = (0..spans.len()).step_by(PART).collect();
    let found = parallel::map(&parts, parts.len() > 1, |from| {
        let (mut entries, mut roots) = (Vec::new(), Vec::new());
        for (index, span) in spans.iter().enumerate().skip(*from).take(PART).filter(|(_, span)| known(span)) {
            match span.kind {
                SpanKind::Server | SpanKind::Consumer => entries.push(index as u32),
                SpanKind::Internal if span.parent_span_id == 0 => roots.push(index as u32),
                _ => {}
            }
        }
        (entries, roots)
    });
    let (entries, roots): (Vec<_>, Vec<_>) = found.into_iter().unzip();
    (entries.concat(), roots.concat())
}

/// The entry spans in which others may be, with their containers; `None` for a parent that is none.
fn outer_entries(
    spans: &[Span],
    entries: &[u32],
    container_of: &(impl Fn(u32) -> ContainerIndex + Sync),
) -> NumberMap<u64, Option<ContainerIndex>> {
    let span = |index: &u32| &spans[*index as usize];
    let mut ids = Sieve::for_ids(entries.len());
    entries.iter().for_each(|index| ids.insert(span(index).span_id));
    let parts: Vec<&[u32]> = entries.chunks(PART).collect();
    let parents = parallel::map(&parts, parts.len() > 1, |part| -> Vec<u64> {
        let parents = part.iter().map(|index| span(index).parent_span_id);
        parents.filter(|parent| *parent != 0 && ids.may_hold(*parent)).collect()
    });
    let mut outer: NumberMap<u64, Option<ContainerIndex>> =
        parents.into_iter().flatten().map(|parent| (parent, None)).collect();
    if outer.is_empty() {
        return outer;
    }
    let found = parallel::map(&parts, parts.len() > 1, |part| -> Vec<(u64, ContainerIndex)> {
        let held = part.iter().filter(|index| outer.contains_key(&span(index).span_id));
        held.map(|index| (span(index).span_id, container_of(*index))).collect()
    });
    outer.extend(found.into_iter().flatten().map(|(id, container)| (id, Some(container))));
    outer
}
