//! Spikes, surges and children: who was running at the kills.
//!
//! Over all kills, an operation scores −ln(p) when it was running and ln(ε / (1 − p)) when it was not, where p is
//! the share of ordinary time in which it runs (for that long), and ε the chance that a running request was not
//! recovered. What always runs says nothing by running; what seldom runs says much. "Unseen" competes: something
//! that left no trace.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::Suspect;
use super::tally::traced_share;
use crate::features::Features;
use crate::identity::ContainerIndex;
use crate::incident::{Incident, KillScene};
use crate::time::{SECOND, UnixNanos};
use crate::verdict::RecoveredFrom;
use crate::work::{Call, CallSource};

/// Chance that a request that ran at the kill was not recovered.
const UNSEEN_CHANCE: f64 = 0.05;
/// A share of time cannot be known better than this from one record.
const SHARE_MIN: f64 = 0.003;
/// Prior that the guilty request left no trace at all, where callers or a journal tell of what ran.
const PRIOR_UNSEEN: f64 = 0.12;
/// The same where only what lost requests had finished inside tells of them: most do nothing that is seen.
const PRIOR_UNSEEN_ALONE: f64 = 0.6;
/// An age that a call of this operation reaches more often than this is not unusual.
const USUAL_SHARE: f64 = 0.2;
/// ln 3: what being the oldest is worth.
const OLDEST_NATS: f64 = 1.1;
/// The little that an operation may have taken by what was measured may be wrong.
const TAKEABLE_MIN: f64 = 0.05;
/// Scores of kills are not independent of the choice of p.
const TEMPER: f64 = 0.8;

/// Ranks what was running at the kills by rarity.
pub(super) fn suspects_of_spike(incident: &Incident<'_>) -> Vec<Suspect> {
    let work = incident.scene.work;
    let mut candidates: HashSet<u32> = HashSet::new();
    for kill in &incident.kills {
        candidates.extend(kill.in_flight.iter().map(|call| call.operation));
    }
    let calls = calls_by_operation(incident, &candidates);
    let mut kill_times: Vec<UnixNanos> = incident.kills.iter().map(KillScene::out_at).collect();
    kill_times.sort_unstable();
    let mut scores: Vec<(f64, u32, usize)> = candidates
        .into_iter()
        .map(|operation| {
            let (score, present) = score_of(incident, &calls, &kill_times, operation);
            (score * TEMPER, operation, present)
        })
        .collect();
    scores.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let operations = scores.len().max(1) as f64;
    let running = || incident.kills.iter().flat_map(|kill| &kill.in_flight);
    let alone = running().all(|call| call.source == CallSource::Children);
    let traced = incident.latest().container.and_then(|container| traced_share(incident.scene, container));
    let prior = if alone { PRIOR_UNSEEN_ALONE } else { PRIOR_UNSEEN }.max(1.0 - traced.unwrap_or(1.0));
    let weights: Vec<f64> =
        scores.iter().map(|(score, ..)| (1.0 - prior) / operations * score.min(30.0).exp()).collect();
    // A lost request that nobody can name is as suspicious as the most suspicious that has a name.
    let nameless =
        scores.first().filter(|_| alone && has_nameless(incident)).map_or(0.0, |(score, ..)| *score);
    let unseen = prior * nameless.clamp(0.0, 30.0).exp();
    let sum: f64 = weights.iter().sum::<f64>() + unseen;
    let kills = incident.kills.len();
    scores
        .iter()
        .zip(weights)
        .map(|((_, operation, present), weight)| {
            let name = work.operations[*operation as usize].clone();
            let summary =
                format!("{name} was running at {present} of {kills} kills, which is rare at other times");
            Suspect {
                names: vec![name],
                operation: Some(*operation),
                probability: weight / sum,
                bytes: held(incident, *operation),
                summary,
                ..Suspect::default()
            }
        })
        .collect()
}

/// Whether at most kills something was lost that cannot be told by what it had done.
fn has_nameless(incident: &Incident<'_>) -> bool {
    let nameless = |kill: &&KillScene<'_>| {
        kill.recovered.iter().any(|lost| lost.from == RecoveredFrom::Orphans && lost.call.is_none())
    };
    2 * incident.kills.iter().filter(nameless).count() > incident.kills.len()
}

/// The calls of each container and operation, by start: looked for once, and asked for at every kill.
type Calls<'a> = HashMap<(ContainerIndex, u32), Vec<&'a Call>>;

fn calls_by_operation<'a>(incident: &Incident<'a>, operations: &HashSet<u32>) -> Calls<'a> {
    let mut calls = Calls::new();
    for container in incident.containers() {
        let own = incident.scene.work.calls_of(container).iter();
        for call in own.filter(|call| operations.contains(&call.operation)) {
            calls.entry((container, call.operation)).or_default().push(call);
        }
    }
    calls
}

/// Score over all kills, and at how many it was running.
fn score_of(
    incident: &Incident<'_>,
    calls: &Calls<'_>,
    kill_times: &[UnixNanos],
    operation: u32,
) -> (f64, usize) {
    let mut total = 0.0;
    let mut present = 0;
    for kill in &incident.kills {
        let Some(container) = kill.container else { continue };
        let calls = calls.get(&(container, operation)).map_or(&[][..], Vec::as_slice);
        let running: Vec<&Call> = kill.in_flight.iter().filter(|call| call.operation == operation).collect();
        // The oldest running call against how often a call that old runs.
        let age = running.iter().map(|call| kill.out_at().since(call.start)).max();
        let share = share_of_time(incident, kill, calls, kill_times, age.unwrap_or(0));
        match age {
            Some(age) => {
                present += 1;
                total -= share.ln();
                // A program that runs out of memory slows down, and everything that came after the culprit waits for
                // it: the culprit is mostly the oldest of what is unusually old.
                let oldest = kill.in_flight.iter().map(|call| kill.out_at().since(call.start)).max();
                if share < USUAL_SHARE {
                    total += if oldest == Some(age) { OLDEST_NATS } else { -OLDEST_NATS };
                }
                total += takeable(kill, &running).max(TAKEABLE_MIN).ln();
            }
            None => total += (UNSEEN_CHANCE / (1.0 - share).max(UNSEEN_CHANCE)).ln(),
        }
    }
    (total, present)
}

/// Part of the final rise that these calls can have taken: memory that was gone before a call began is not its own.
fn takeable(kill: &KillScene<'_>, running: &[&Call]) -> f64 {
    let Some(episode) = kill.episode.as_ref() else { return 1.0 };
    let rise_since = |call: &Call| {
        crate::memory::value_at(&episode.series, call.start).map(|before| (episode.ceiling - before).max(0.0))
    };
    let most = |calls: &mut dyn Iterator<Item = &Call>| calls.filter_map(rise_since).reduce(f64::max);
    match (most(&mut running.iter().copied()), most(&mut kill.in_flight.iter())) {
        (Some(own), Some(all)) if all > 0.0 => own / all,
        _ => 1.0,
    }
}

/// Share of the time outside the moments of kills in which a call of at least this age was running.
fn share_of_time(
    incident: &Incident<'_>,
    kill: &KillScene<'_>,
    calls: &[&Call],
    kill_times: &[UnixNanos],
    age: i64,
) -> f64 {
    let container = kill.container.unwrap_or_default();
    let all = incident.scene.work.calls_of(container);
    let (Some(first), Some(last)) = (all.first(), all.last()) else { return 1.0 };
    let width = last.end.since(first.start).max(SECOND);
    let running_at_a_kill = |call: &Call| {
        let next = kill_times.partition_point(|at| *at < call.start);
        kill_times.get(next).is_some_and(|at| call.end + SECOND >= *at)
    };
    let mut spans: Vec<(UnixNanos, UnixNanos)> = calls
        .iter()
        .filter(|call| !call.failed && !running_at_a_kill(call))
        .map(|call| (call.start + age, call.end))
        .filter(|(from, to)| to > from)
        .collect();
    spans.sort_unstable();
    let mut covered = 0i64;
    let mut until = UnixNanos(i64::MIN);
    for (from, to) in spans {
        let begin = from.max(until);
        if to > begin {
            covered += to.since(begin);
            until = to;
        }
    }
    // One more call that lasted twice as long may have gone unseen: a short record cannot show how rare that is.
    ((covered + age) as f64 / width as f64).clamp(SHARE_MIN, 1.0)
}

/// What the latest jump came to, if one call of this operation took it: at least, since the limit cut it off.
fn held(incident: &Incident<'_>, operation: u32) -> Option<(f64, f64, f64)> {
    let latest = incident.latest();
    let running = latest.in_flight.iter().filter(|call| call.operation == operation).count();
    let episode = latest.episode.as_ref()?;
    let start =
        latest.in_flight.iter().filter(|call| call.operation == operation).map(|call| call.start).min()?;
    let before = crate::memory::value_at(&episode.series, start)?;
    let each = (episode.ceiling - before).max(0.0) / running.max(1) as f64;
    (each > 0.0).then_some((each, each, each * 2.0))
}

/// Ranks operations by how many more of them than usual were running at the kills.
pub(super) fn suspects_of_surge(incident: &Incident<'_>) -> Vec<Suspect> {
    let work = incident.scene.work;
    let mut excess: BTreeMap<u32, (f64, usize)> = BTreeMap::new();
    for kill in &incident.kills {
        let Some(container) = kill.container else { continue };
        let mut running: BTreeMap<u32, usize> = BTreeMap::new();
        for call in &kill.in_flight {
            *running.entry(call.operation).or_default() += 1;
        }
        for (operation, count) in running {
            let usual = usual_concurrency(incident, container, operation);
            let entry = excess.entry(operation).or_default();
            entry.0 += (count as f64 - usual).max(0.0);
            entry.1 += count;
        }
    }
    let total: f64 = excess.values().map(|(excess, _)| excess).sum();
    let mut suspects: Vec<Suspect> = excess
        .into_iter()
        .filter(|(_, (more, _))| *more > 0.0)
        .map(|(operation, (more, count))| {
            let name = work.operations[operation as usize].clone();
            let share = more / total.max(1.0);
            Suspect {
                summary: format!("{count} {name} were running at the kills, {more:.0} more than usual"),
                names: vec![name],
                operation: Some(operation),
                // The share of the surge, sharpened: half of it is a coin's toss, nearly all of it is certain.
                probability: share.powi(2) / (share.powi(2) + (1.0 - share).powi(2) + 0.04),
                share: Some(share),
                ..Suspect::default()
            }
        })
        .collect();
    suspects.sort_by(|a, b| b.probability.total_cmp(&a.probability));
    suspects
}

/// Mean number of calls of an operation running at a time, over the container's own record.
fn usual_concurrency(incident: &Incident<'_>, container: usize, operation: u32) -> f64 {
    let calls = incident.scene.work.calls_of(container);
    let (Some(first), Some(last)) = (calls.first(), calls.last()) else { return 0.0 };
    let width = last.start.since(first.start).max(SECOND);
    // A request that waits on a dying server tells of the surge, not of the usual.
    let busy: i64 = calls
        .iter()
        .filter(|call| call.operation == operation && !call.failed)
        .map(|call| call.end.since(call.start).min(30 * SECOND))
        .sum();
    busy as f64 / width as f64
}

/// Requests that should have been running at the kills but were not recovered: arrival rate × mean duration,
/// minus those that are known. Told only where callers are not traced, else they are all known.
pub(super) fn missing_by_littles_law(incident: &Incident<'_>, _features: &[Features]) -> Option<f64> {
    let latest = incident.latest();
    let container = latest.container?;
    let calls = incident.scene.work.calls_of(container);
    if incident.scene.work.with_callers.contains(&container) || calls.len() < 30 {
        return None;
    }
    let window = 60 * SECOND;
    let recent: Vec<&Call> = calls
        .iter()
        .filter(|call| call.end <= latest.out_at() && call.end >= latest.out_at() - window)
        .collect();
    let first = recent.iter().map(|call| call.start).min()?;
    let last = recent.iter().map(|call| call.end).max()?;
    let busy: i64 = recent.iter().map(|call| call.end.since(call.start)).sum();
    let expected = busy as f64 / last.since(first).max(SECOND) as f64;
    Some((expected - latest.recovered.len() as f64).max(0.0))
}
