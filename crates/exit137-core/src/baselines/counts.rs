//! Two baselines that only count: the most frequent operation, and the one most in flight at the kill.

use std::collections::BTreeMap;

use super::{Family, Named};
use crate::time::UnixNanos;
use crate::work::Call;

/// Operations by how often they were called.
pub(super) fn most_frequent(family: &Family<'_, '_>) -> Vec<Named> {
    let calls = family.containers.iter().flat_map(|&container| family.scene.work.calls_of(container));
    family.ranked(counted(calls))
}

/// Operations by how many of their calls ran at the kills, recovered ones included; without a kill, at the end
/// of the record.
pub(super) fn most_in_flight(family: &Family<'_, '_>) -> Vec<Named> {
    if !family.kills.is_empty() {
        return family.ranked(counted(family.kills.iter().flat_map(|kill| &kill.in_flight)));
    }
    let calls = |container| family.scene.work.calls_of(container);
    let starts = family.containers.iter().filter_map(|&container| Some(calls(container).last()?.start));
    // The last start, not the last end: at the last end nothing runs any more.
    let Some(end): Option<UnixNanos> = starts.max() else { return Vec::new() };
    let running = family.containers.iter().flat_map(|&container| family.scene.work.in_flight(container, end));
    family.ranked(counted(running))
}

fn counted<'c>(calls: impl Iterator<Item = &'c Call>) -> BTreeMap<u32, f64> {
    let mut counts = BTreeMap::new();
    for call in calls {
        *counts.entry(call.operation).or_default() += f64::from(call.weight);
    }
    counts
}
