//! Leaks: whose finished calls explain the growth of the floor. Every operation, the time ("background") and all
//! calls together ("every request") are compared on equal terms, one at a time, over all lives at once.

use std::collections::{BTreeMap, HashMap};

use super::attributes::values_of;
use super::regression::{Fit, Stretch, fit_beside, fit_each, partial_correlation};
use super::{BACKGROUND, EVERY_REQUEST, Suspect};
use crate::incident::Incident;
use crate::memory::{Series, between};
use crate::time::{SECOND, UnixNanos};
use crate::work::Call;

/// Likelihoods of neighbouring levels are not independent: they count by half (measured: an untempered posterior
/// is wrong far more often than it says).
const TEMPER: f64 = 0.5;
/// Prior of a leak that no request causes, and of one that every request causes.
const PRIOR_BACKGROUND: f64 = 0.15;
const PRIOR_EVERY: f64 = 0.10;
/// Operations finished less often than this cannot be judged.
const FINISHES_MIN: f64 = 6.0;
/// Operations compared; the rest are rare.
const OPERATIONS_MAX: usize = 60;
/// Share of falling in all movement of the level up to which it counts as a floor.
const FALLING_SHARE_MAX: f64 = 0.25;
/// Levels per stretch at least.
const LEVELS_MIN: usize = 10;
/// Calls that always come together cannot be told apart.
const INSEPARABLE: f64 = 0.95;
/// The first part of a life is warm-up.
const WARM_UP_SHARE: f64 = 0.1;
/// Gain of a second culprit that makes it one, in tempered nats.
const SECOND_CULPRIT_NATS: f64 = 6.0;
/// Gain of an attribute value over its operation, after paying for the number looked at, in tempered nats.
const VALUE_NATS: f64 = 3.0;
/// No level is measured better than this.
const NOISE_FLOOR: f64 = 300_000.0;

/// One stretch of a life between kills, reduced to floor levels with their times.
struct Floor {
    container: usize,
    from: UnixNanos,
    levels: Series,
}

/// Ranks the explanations of the growth.
pub(super) fn suspects(incident: &Incident<'_>) -> Vec<Suspect> {
    let floors = floors_of(incident);
    let finished = finished_of(incident, &floors);
    let operations: Vec<u32> = frequent(&finished);
    if floors.is_empty() {
        return Vec::new();
    }
    let by_operation = |call: &Call| operations.iter().position(|operation| *operation == call.operation);
    let stretches = stretches_of(&floors, &finished, operations.len(), &by_operation);
    let fits = fit_each(&stretches, NOISE_FLOOR);
    let (background, every) = (operations.len(), operations.len() + 1);
    let prior = |hypothesis: usize| match hypothesis {
        h if h == background => PRIOR_BACKGROUND,
        h if h == every => PRIOR_EVERY,
        _ => (1.0 - PRIOR_BACKGROUND - PRIOR_EVERY) / operations.len().max(1) as f64,
    };
    let growth = growth_of(&stretches);
    let weight = |hypothesis: usize| {
        prior(hypothesis).ln()
            + TEMPER * fits[hypothesis].log_likelihood
            + plausible(&stretches, hypothesis, &fits[hypothesis], growth)
    };
    let mut weights: Vec<(f64, usize)> =
        (0..=every).map(|hypothesis| (weight(hypothesis), hypothesis)).collect();
    weights.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let highest = weights.first().map_or(0.0, |(weight, _)| *weight);
    let sum: f64 = weights.iter().map(|(weight, _)| (weight - highest).exp()).sum();
    let work = incident.scene.work;
    let name = |hypothesis: usize| match hypothesis {
        h if h == background => BACKGROUND.to_owned(),
        h if h == every => EVERY_REQUEST.to_owned(),
        h => work.operations[operations[h] as usize].clone(),
    };
    let share =
        |hypothesis: usize| explained(&stretches, hypothesis, fits[hypothesis].slope) / growth.max(1.0);
    let mut ranked: Vec<Ranked> = weights
        .iter()
        .map(|(weight, hypothesis)| {
            let mut suspect = suspect(name(*hypothesis), &fits[*hypothesis], share(*hypothesis));
            suspect.probability = (weight - highest).exp() / sum;
            suspect.operation = operations.get(*hypothesis).copied();
            Ranked { hypothesis: *hypothesis, suspect }
        })
        .collect();
    join_inseparable(&mut ranked, &stretches, operations.len());
    add_second(&mut ranked, &stretches, &fits, operations.len());
    ranked.into_iter().map(|ranked| ranked.suspect).collect()
}

/// A suspect with its column in the regression.
struct Ranked {
    hypothesis: usize,
    suspect: Suspect,
}

fn suspect(name: String, fit: &Fit, share: f64) -> Suspect {
    let each = crate::bytes::Bytes(fit.slope.max(0.0) as u64);
    let summary = match name.as_str() {
        BACKGROUND => format!(
            "memory grows with time, about {} an hour, whatever is asked of the service",
            crate::bytes::Bytes((fit.slope * 3600.0).max(0.0) as u64)
        ),
        EVERY_REQUEST => format!("each request keeps about {each}, whichever it is"),
        _ => format!(
            "each {name} keeps about {each}; its calls explain {:.0} % of the growth",
            share.clamp(0.0, 9.99) * 100.0
        ),
    };
    let spread = 1.28 * fit.error;
    let bytes =
        (name != BACKGROUND).then_some(((fit.slope - spread).max(0.0), fit.slope, fit.slope + spread));
    Suspect { names: vec![name], operation: None, probability: 0.0, bytes, share: Some(share), summary }
}

/// Growth explained over all stretches.
fn explained(stretches: &[Stretch], hypothesis: usize, slope: f64) -> f64 {
    let rise = |stretch: &Stretch| {
        let column = &stretch.explanations[hypothesis];
        column.last().zip(column.first()).map_or(0.0, |(last, first)| last - first)
    };
    slope * stretches.iter().map(rise).sum::<f64>()
}

fn growth_of(stretches: &[Stretch]) -> f64 {
    stretches
        .iter()
        .filter_map(|stretch| Some(stretch.level.last()? - stretch.level.first()?))
        .sum::<f64>()
        .max(0.0)
}

/// A culprit explains about all of the growth: half of it or twice as much is a sign that it only comes along.
fn plausible(stretches: &[Stretch], hypothesis: usize, fit: &Fit, growth: f64) -> f64 {
    let share = explained(stretches, hypothesis, fit.slope) / growth.max(1.0);
    let off = share.max(0.02).ln() / 0.6;
    (-0.5 * off * off).max(-6.0)
}

/// The stretches of all lives of the killed version, cut at kills.
fn floors_of(incident: &Incident<'_>) -> Vec<Floor> {
    let cast = incident.scene.cast;
    let mut floors = Vec::new();
    for container in incident.containers() {
        for &life in &cast.containers[container].lives {
            let memory = incident.scene.memory.life(life);
            let heap = (memory.heap_floor.len() >= LEVELS_MIN).then_some(&memory.heap_floor);
            let Some(series) = heap.or_else(|| memory.hard().map(|(_, series)| series)) else { continue };
            let (Some(first), Some(last)) = (series.first(), series.last()) else { continue };
            let mut cuts: Vec<UnixNanos> =
                incident.kills.iter().filter(|kill| kill.life == Some(life)).map(|kill| kill.at()).collect();
            cuts.push(last.0 + 1);
            let mut from = cast.lives[life].started_at.unwrap_or(first.0).max(first.0 - 60 * SECOND);
            for cut in cuts {
                let warm = from + (cut.since(from) as f64 * WARM_UP_SHARE) as i64;
                let levels = floor_levels(between(series, warm, cut - 1));
                if levels.len() >= LEVELS_MIN {
                    floors.push(Floor { container, from, levels });
                }
                from = cut + 2 * SECOND;
            }
        }
    }
    floors
}

/// The lowest point of each bin; bins as narrow as they can be while the level mostly rises.
fn floor_levels(points: &[(UnixNanos, f64)]) -> Series {
    let mut levels: Series = points.to_vec();
    for width in [1usize, 2, 3, 5, 8, 12, 20, 32] {
        let binned: Series = points
            .chunks(width)
            .filter_map(|bin| bin.iter().min_by(|a, b| a.1.total_cmp(&b.1)).copied())
            .collect();
        if binned.len() < LEVELS_MIN.max(14) {
            break;
        }
        levels = binned;
        let (mut up, mut down) = (0.0, 0.0);
        for pair in levels.windows(2) {
            let step = pair[1].1 - pair[0].1;
            if step > 0.0 { up += step } else { down -= step }
        }
        if down <= FALLING_SHARE_MAX * (up + down) {
            break;
        }
    }
    levels
}

/// Calls that ended well, by container, by end.
type Finished = HashMap<usize, Vec<Call>>;

fn finished_of(incident: &Incident<'_>, floors: &[Floor]) -> Finished {
    let mut finished = Finished::new();
    for floor in floors {
        finished.entry(floor.container).or_insert_with(|| {
            let mut calls: Vec<Call> = incident
                .scene
                .work
                .calls_of(floor.container)
                .iter()
                .filter(|call| !call.failed)
                .copied()
                .collect();
            calls.sort_unstable_by_key(|call| call.end);
            calls
        });
    }
    finished
}

fn frequent(finished: &Finished) -> Vec<u32> {
    let mut counts: BTreeMap<u32, f64> = BTreeMap::new();
    for call in finished.values().flatten() {
        *counts.entry(call.operation).or_default() += f64::from(call.weight);
    }
    let mut ranked: Vec<(u32, f64)> =
        counts.into_iter().filter(|(_, count)| *count >= FINISHES_MIN).collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    ranked.into_iter().take(OPERATIONS_MAX).map(|(operation, _)| operation).collect()
}

/// Levels with the cumulative finishes of each column, the seconds, and all finishes.
fn stretches_of(
    floors: &[Floor],
    finished: &Finished,
    columns: usize,
    column_of: &dyn Fn(&Call) -> Option<usize>,
) -> Vec<Stretch> {
    let stretch = |floor: &Floor| {
        let calls = finished.get(&floor.container).map_or(&[][..], Vec::as_slice);
        let mut next = calls.partition_point(|call| call.end < floor.from);
        let mut sums = vec![0.0; columns];
        let mut all = 0.0;
        let mut stretch = Stretch { level: Vec::new(), explanations: vec![Vec::new(); columns + 2] };
        for (at, level) in &floor.levels {
            while let Some(call) = calls.get(next).filter(|call| call.end <= *at) {
                if let Some(column) = column_of(call) {
                    sums[column] += f64::from(call.weight);
                }
                all += f64::from(call.weight);
                next += 1;
            }
            stretch.level.push(*level);
            for (column, sum) in sums.iter().enumerate() {
                stretch.explanations[column].push(*sum);
            }
            stretch.explanations[columns].push(at.seconds_since(floor.from));
            stretch.explanations[columns + 1].push(all);
        }
        stretch
    };
    floors.iter().map(stretch).collect()
}

/// Operations that come together with the leader in every life are one group with it.
fn join_inseparable(ranked: &mut Vec<Ranked>, stretches: &[Stretch], operations: usize) {
    let Some(leader) = ranked.first().filter(|leader| leader.hypothesis < operations) else { return };
    let (leader, probability) = (leader.hypothesis, leader.suspect.probability);
    let together = |other: &Ranked| {
        other.hypothesis < operations
            && other.hypothesis != leader
            && other.suspect.probability > 0.2 * probability
            // The time is the column after the operations.
            && partial_correlation(stretches, leader, other.hypothesis, operations) > INSEPARABLE
    };
    let (joined, rest): (Vec<Ranked>, Vec<Ranked>) = std::mem::take(ranked).into_iter().partition(together);
    *ranked = rest;
    let Some(first) = ranked.first_mut().filter(|_| !joined.is_empty()) else { return };
    for other in joined {
        first.suspect.probability += other.suspect.probability;
        first.suspect.names.extend(other.suspect.names);
    }
    let names = first.suspect.names.join(" and ");
    first.suspect.summary = format!(
        "{names} always come together here and cannot be told apart; a time in which only one of them is called would tell"
    );
}

/// A second culprit stands beside the first when it adds more than any chance finding would.
fn add_second(ranked: &mut [Ranked], stretches: &[Stretch], fits: &[Fit], operations: usize) {
    let Some(first) = ranked.first().filter(|first| first.hypothesis < operations) else { return };
    let (leader, highest) = (first.hypothesis, first.suspect.probability);
    let beside = fit_beside(stretches, leader, NOISE_FLOOR);
    let gain = |hypothesis: usize| TEMPER * (beside[hypothesis].log_likelihood - fits[leader].log_likelihood);
    for other in ranked.iter_mut().skip(1).filter(|other| other.hypothesis < operations) {
        let gain = gain(other.hypothesis);
        if gain >= SECOND_CULPRIT_NATS && beside[other.hypothesis].slope > 0.0 {
            // Enough to be told, never above the first.
            let probability = (1.0 - (-gain / 4.0).exp()).min(highest) * 0.9;
            other.suspect.probability = other.suspect.probability.max(probability);
        }
    }
    ranked.sort_by(|a, b| b.suspect.probability.total_cmp(&a.suspect.probability));
}

/// The attribute value of `operation` that explains the growth better than all its calls do.
pub(super) fn best_value(incident: &Incident<'_>, operation: u32) -> BTreeMap<String, String> {
    let floors = floors_of(incident);
    let finished = finished_of(incident, &floors);
    let mut calls_with: BTreeMap<(String, String), f64> = BTreeMap::new();
    let mut values_by_span: HashMap<u32, HashMap<String, String>> = HashMap::new();
    for call in finished.values().flatten().filter(|call| call.operation == operation) {
        let values = values_of(incident, call);
        for (key, value) in &values {
            *calls_with.entry((key.clone(), value.clone())).or_default() += 1.0;
        }
        values_by_span.insert(call.span, values);
    }
    let all = values_by_span.len() as f64;
    // A value that nearly all or hardly any calls have separates nothing.
    let candidates: Vec<(String, String)> = calls_with
        .into_iter()
        .filter(|(_, count)| *count >= 4.0 && *count <= 0.9 * all)
        .map(|(pair, _)| pair)
        .take(200)
        .collect();
    if candidates.is_empty() || floors.is_empty() {
        return BTreeMap::new();
    }
    let fit_of = |wanted: Option<&(String, String)>| {
        let column = |call: &Call| {
            let has = || {
                values_by_span
                    .get(&call.span)
                    .zip(wanted)
                    .is_some_and(|(values, (key, value))| values.get(key) == Some(value))
            };
            (call.operation == operation && (wanted.is_none() || has())).then_some(0)
        };
        let stretches = stretches_of(&floors, &finished, 1, &column);
        fit_each(&stretches, NOISE_FLOOR)[0].log_likelihood
    };
    let plain = fit_of(None);
    let price = (candidates.len() as f64).ln();
    let gains = candidates.iter().map(|pair| (TEMPER * (fit_of(Some(pair)) - plain) - price, pair));
    match gains.max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(a.1))) {
        Some((gain, (key, value))) if gain >= VALUE_NATS => BTreeMap::from([(key.clone(), value.clone())]),
        _ => BTreeMap::new(),
    }
}
