//! What else is known of a guilty operation: the phase inside it that takes the memory, how far its lost requests had
//! come, and what the service's own measurements say, which are known to mislead.

use std::collections::{BTreeMap, HashMap};

use crate::bytes::{Bytes, MIB};
use crate::incident::Incident;
use crate::time::{SECOND, UnixNanos};
use crate::verdict::Cause;
use crate::work::Call;

/// Calls whose attributes are looked at; more tell nothing new.
const CALLS_MAX: usize = 50_000;
/// A phase that takes less than this part of what all phases take is not where the memory goes.
const PHASE_SHARE_MIN: f64 = 0.5;
/// Fewer measured calls than this are chance.
const MEASURED_MIN: usize = 5;

/// Sentences about `operation`, the most telling first.
pub(super) fn notes_on(incident: &Incident<'_>, operation: u32, cause: Cause) -> Vec<String> {
    let measured = measured_of(incident);
    let mut notes: Vec<String> = Vec::new();
    notes.extend(measured.get(&operation).and_then(phase));
    if cause == Cause::Leak {
        notes.extend(contradiction(incident, &measured, operation));
    } else {
        notes.extend(last_seen(incident, operation));
    }
    notes
}

/// What the spans of one operation say of memory: by label, how often and how much in all, in MiB.
#[derive(Debug, Default)]
struct Measured {
    by_label: BTreeMap<String, (usize, f64)>,
    /// Phases named by `memory.high_growth` events.
    high_growth: BTreeMap<String, usize>,
}

impl Measured {
    fn total(&self) -> f64 {
        self.by_label.values().map(|(_, sum)| *sum).fold(0.0, f64::max)
    }
}

fn measured_of(incident: &Incident<'_>) -> BTreeMap<u32, Measured> {
    let observations = incident.scene.observations;
    let mut measured: BTreeMap<u32, Measured> = BTreeMap::new();
    let calls = incident.containers().into_iter().flat_map(|c| incident.scene.work.calls_of(c));
    for call in calls.take(CALLS_MAX) {
        let Some(span) = observations.traces.spans.get(call.span as usize) else { continue };
        for (key, value) in observations.traces.attributes(span) {
            let key = observations.symbols.text(*key);
            let label = key.strip_prefix("memory.").and_then(|rest| rest.strip_suffix(".delta_mb"));
            if let Some(label) = label
                && let Ok(delta) = observations.symbols.text(*value).parse::<f64>()
                && delta.is_finite()
            {
                let sums = measured.entry(call.operation).or_default();
                let sum = sums.by_label.entry(label.to_owned()).or_default();
                *sum = (sum.0 + 1, sum.1 + delta);
            } else if key == "event.memory.high_growth.memory.phase" {
                let phase = observations.symbols.text(*value).to_owned();
                *measured.entry(call.operation).or_default().high_growth.entry(phase).or_default() += 1;
            }
        }
    }
    measured
}

/// The phase that takes most, where the service measures several.
fn phase(measured: &Measured) -> Option<String> {
    let growing = measured.by_label.iter().filter(|(_, (count, sum))| *count >= MEASURED_MIN && *sum > 0.0);
    let total: f64 = growing.clone().map(|(_, (_, sum))| *sum).sum();
    let largest = growing.clone().max_by(|a, b| a.1.1.total_cmp(&b.1.1));
    if let Some((label, (count, sum))) = largest
        && measured.by_label.len() > 1
        && *sum >= PHASE_SHARE_MIN * total
    {
        let each = Bytes((sum / *count as f64 * MIB as f64) as u64);
        return Some(format!(
            "by its own measurements most of it comes in the phase {label}, about {each} a call"
        ));
    }
    let (phase, count) = measured.high_growth.iter().max_by_key(|(_, count)| **count)?;
    (*count >= MEASURED_MIN)
        .then(|| format!("memory.high_growth names the phase {phase} most often, {count} times"))
}

/// Whether the service's own before-and-after measurements blame another operation.
fn contradiction(
    incident: &Incident<'_>,
    measured: &BTreeMap<u32, Measured>,
    operation: u32,
) -> Option<String> {
    let (blamed, most) = measured.iter().max_by(|a, b| a.1.total().total_cmp(&b.1.total()))?;
    if *blamed == operation || most.total() <= 0.0 {
        return None;
    }
    let name = incident.scene.work.operations.get(*blamed as usize)?;
    Some(format!(
        "the service's own measurements before and after each request blame {name}; they also count what ran beside it and what it gives back"
    ))
}

/// How far the lost requests had come: the last thing that each had finished.
fn last_seen(incident: &Incident<'_>, operation: u32) -> Option<String> {
    let observations = incident.scene.observations;
    let lost = |call: &&Call| call.operation == operation;
    let mut traces: HashMap<u128, (usize, UnixNanos)> = HashMap::new();
    for kill in &incident.kills {
        let Some(container) = kill.container else { continue };
        for call in kill.in_flight.iter().filter(lost) {
            if let Some(span) = observations.traces.spans.get(call.span as usize) {
                traces.insert(span.trace_id, (container, kill.at()));
            }
        }
    }
    if traces.is_empty() {
        return None;
    }
    let mut last: BTreeMap<u128, (UnixNanos, &str, UnixNanos)> = BTreeMap::new();
    for span in &observations.traces.spans {
        let Some((container, at)) = traces.get(&span.trace_id) else { continue };
        let inside = incident.scene.cast.container_of_resource(span.resource) == Some(*container);
        let entry = matches!(
            span.kind,
            crate::observation::span::SpanKind::Server | crate::observation::span::SpanKind::Consumer
        );
        if inside && !entry && span.end <= *at + SECOND {
            let seen = last.entry(span.trace_id).or_insert((span.end, "", *at));
            if span.end >= seen.0 {
                *seen = (span.end, observations.symbols.text(span.name), *at);
            }
        }
    }
    let (end, name, at) = last.values().max_by_key(|(end, name, at)| (at.since(*end), *name))?;
    let before = at.seconds_since(*end).max(0.0);
    Some(format!(
        "the lost request had last finished `{name}`, {before:.1} s before the kill: the memory went in what it did then"
    ))
}

#[cfg(test)]
mod tests {
    use super::{Measured, phase};

    fn measured(labels: &[(&str, usize, f64)]) -> Measured {
        let by_label =
            labels.iter().map(|(label, count, sum)| ((*label).to_owned(), (*count, *sum))).collect();
        Measured { by_label, ..Measured::default() }
    }

    #[test]
    fn the_phase_that_takes_most_is_named() {
        let note = phase(&measured(&[("load_items", 10, 300.0), ("render", 10, 20.0)]));
        assert_eq!(
            note.as_deref(),
            Some("by its own measurements most of it comes in the phase load_items, about 30 MiB a call")
        );
    }

    #[test]
    fn a_request_measured_as_a_whole_has_no_phase() {
        assert_eq!(phase(&measured(&[("request", 10, 300.0)])), None);
    }

    #[test]
    fn two_equal_phases_are_not_told_apart() {
        assert_eq!(phase(&measured(&[("a", 10, 100.0), ("b", 10, 90.0), ("c", 10, 95.0)])), None);
    }
}
