//! Who holds memory while it runs: for kills at which nothing tells what was running. At every measurement, the memory
//! beyond its slow movement is held against the number of running calls of each operation; what lifts it on an ordinary
//! day is what a surge or one large request of it would have lifted to the limit.

use std::collections::{BTreeMap, HashMap};

use super::Suspect;
use super::floor::{Floor, LEVELS_MIN, Question, View, Witness, floors_of};
use super::regression::{Fit, Stretch, fit_each};
use crate::bytes::Bytes;
use crate::identity::ContainerIndex;
use crate::time::UnixNanos;
use crate::work::Call;

/// Operations seen less often than this cannot be judged.
const CALLS_MIN: usize = 6;
/// Operations compared, the most frequent first.
const OPERATIONS_MAX: usize = 60;
/// No level is measured better than this, bytes.
const NOISE_FLOOR: f64 = 300_000.0;
/// Neighbouring measurements see the same calls.
const TEMPER: f64 = 0.5;
/// Nobody saw what ran at the kill: who holds memory on an ordinary day need not be who did then.
const TRUST: f64 = 0.6;
/// Of all kills, those in which none of the operations that are known holds what filled the memory.
const PRIOR_NONE: f64 = 0.3;

/// Ranks operations by what their running calls hold.
pub(super) fn suspects(question: &Question<'_>) -> Vec<Suspect> {
    let floors = floors_of(question, Witness::Memory, View::Every, LEVELS_MIN);
    let mut calls: BTreeMap<u32, HashMap<ContainerIndex, Running>> = BTreeMap::new();
    for &container in &question.containers {
        for call in question.scene.work.calls_of(container) {
            calls.entry(call.operation).or_default().entry(container).or_default().add(call);
        }
    }
    let frequency =
        |running: &HashMap<ContainerIndex, Running>| running.values().map(|r| r.starts.len()).sum::<usize>();
    let mut compared: Vec<(u32, HashMap<ContainerIndex, Running>)> =
        calls.into_iter().filter(|(_, running)| frequency(running) >= CALLS_MIN).collect();
    compared.sort_by_key(|(operation, running)| (std::cmp::Reverse(frequency(running)), *operation));
    compared.truncate(OPERATIONS_MAX);
    for running in compared.iter_mut().flat_map(|(_, running)| running.values_mut()) {
        running.ends.sort_unstable();
    }
    let stretches: Vec<Stretch> = floors.iter().map(|floor| stretch_of(floor, &compared)).collect();
    if stretches.is_empty() || compared.is_empty() {
        return Vec::new();
    }
    let name = |operation: u32| question.scene.work.operations[operation as usize].clone();
    let mut suspects: Vec<Suspect> = compared
        .iter()
        .zip(weighed(&stretches))
        .map(|((operation, _), (fit, probability))| suspect(*operation, name(*operation), fit, probability))
        .collect();
    suspects.sort_by(|a, b| b.probability.total_cmp(&a.probability).then_with(|| a.names.cmp(&b.names)));
    suspects
}

/// What a running call of each operation holds, and how probable it is that it is what fills the memory.
fn weighed(stretches: &[Stretch]) -> Vec<(Fit, f64)> {
    let mut fits = fit_each(stretches, NOISE_FLOOR);
    let none = fits.pop().map_or(0.0, |fit| fit.log_likelihood);
    let each = (1.0 - PRIOR_NONE) / fits.len().max(1) as f64;
    let weight = |fit: &Fit| each * (TEMPER * (fit.log_likelihood - none)).min(30.0).exp();
    let sum: f64 = PRIOR_NONE + fits.iter().map(weight).sum::<f64>();
    fits.into_iter().map(|fit| (fit, TRUST * weight(&fit) / sum)).collect()
}

fn suspect(operation: u32, name: String, fit: Fit, probability: f64) -> Suspect {
    let spread = 1.28 * fit.error;
    let summary = if fit.slope > 0.0 {
        let held = Bytes(fit.slope as u64);
        format!("nothing tells what was running; on an ordinary day each running {name} holds about {held}")
    } else {
        format!("nothing tells what was running; {name} is often called")
    };
    Suspect {
        names: vec![name],
        operation: Some(operation),
        probability,
        bytes: (fit.slope > 0.0).then_some(((fit.slope - spread).max(0.0), fit.slope, fit.slope + spread)),
        summary,
        ..Suspect::default()
    }
}

/// The starts and ends of the calls of one operation, sorted.
#[derive(Default)]
struct Running {
    starts: Vec<UnixNanos>,
    ends: Vec<UnixNanos>,
}

impl Running {
    fn add(&mut self, call: &Call) {
        self.starts.push(call.start);
        self.ends.push(call.end);
    }

    fn at(&self, at: UnixNanos) -> f64 {
        self.starts.partition_point(|start| *start <= at) as f64
            - self.ends.partition_point(|end| *end <= at) as f64
    }
}

/// Levels with the running calls of each operation. What is kept moves the level slowly: the seconds take that out.
fn stretch_of(floor: &Floor, compared: &[(u32, HashMap<ContainerIndex, Running>)]) -> Stretch {
    let of = |running: &HashMap<ContainerIndex, Running>| {
        let running = running.get(&floor.container);
        floor.levels.iter().map(|(at, _)| running.map_or(0.0, |running| running.at(*at))).collect()
    };
    Stretch {
        level: floor.levels.iter().map(|(_, level)| *level).collect(),
        explanations: compared.iter().map(|(_, running)| of(running)).collect(),
        passing: vec![floor.levels.iter().map(|(at, _)| at.seconds_since(floor.from)).collect()],
    }
}

#[cfg(test)]
mod tests {
    use super::{PRIOR_NONE, Stretch, TRUST, weighed};

    /// The running calls of three operations at 120 measurements.
    fn running() -> Vec<Vec<f64>> {
        [(7, 3), (11, 2), (13, 5)]
            .map(|(every, of)| (0..120).map(|i| f64::from((i * of) % every == 0)).collect())
            .to_vec()
    }

    #[test]
    fn who_lifts_the_memory_while_it_runs_is_the_suspect() {
        let explanations = running();
        let level = (0..120).map(|i| 5e7 + 4e6 * explanations[1][i] + 1e4 * ((i * 37) % 11) as f64).collect();
        let found = weighed(&[Stretch { level, explanations, ..Stretch::default() }]);
        assert!((found[1].0.slope - 4e6).abs() < 2e5, "{found:?}");
        assert!(found[1].1 > 0.9 * TRUST, "{found:?}");
    }

    #[test]
    fn memory_that_nobody_moves_makes_nobody_a_suspect() {
        let level = (0..120).map(|i| 5e7 + 1e4 * ((i * 37) % 11) as f64).collect();
        let found = weighed(&[Stretch { level, explanations: running(), ..Stretch::default() }]);
        let each = TRUST * (1.0 - PRIOR_NONE) / 3.0;
        assert!(found.iter().all(|(_, probability)| (probability - each).abs() < 0.02), "{found:?}");
    }
}
