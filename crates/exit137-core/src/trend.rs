//! What a rising level follows: the work done (a leak), the fill of something bounded (a cache), or the load of the
//! moment. Work is that of all calls, or of one operation's: what a rare operation keeps rises when it is called.

use std::collections::BTreeMap;

use crate::operations::floor::lowest;
use crate::operations::regression::{Stretch, fit_each};
use crate::time::UnixNanos;
use crate::work::{Call, running_at};

/// Shares of the work within which something bounded fills.
const FILLS: [f64; 4] = [0.12, 0.25, 0.5, 1.0];
/// Neighbouring levels are not independent.
const TEMPER: f64 = 0.5;
/// The best of several is not that good, in tempered nats.
const CHOICE_NATS: f64 = 0.5;
/// Fewer calls than this do not tell work from time.
const CALLS_MIN: usize = 40;
/// Fewer calls of one operation than this do not tell its work.
const OPERATION_CALLS_MIN: usize = 8;
/// Operations looked at, the most frequent first.
const OPERATIONS_MAX: usize = 30;
/// Fewer levels than this show no curve.
const LEVELS_MIN: usize = 10;
/// No level is measured better than this, bytes.
const NOISE_FLOOR: f64 = 300_000.0;

/// What a level follows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Trend {
    /// How much better steady growth with work explains the level than filling up or the load, in nats.
    pub steady: f64,
    /// The operation whose work explains it best, if better than all work does.
    pub operation: Option<u32>,
}

/// Explanations of one kind, with the price of having chosen among them.
struct Candidates {
    operation: Option<u32>,
    price: f64,
    linear: usize,
    fills: std::ops::Range<usize>,
}

/// Compares growth in step with work against `1 − exp(−work / k)`, what a cache of limited size does (each request
/// adds what is not there yet), and against the requests running at the time, or asked lately.
pub(crate) fn trend_of(body: &[(UnixNanos, f64)], calls: &[Call], from: UnixNanos) -> Option<Trend> {
    let levels = lowest(body);
    let last = levels.last().filter(|_| levels.len() >= LEVELS_MIN)?.0;
    let times: Vec<UnixNanos> = levels.iter().map(|(at, _)| *at).collect();
    let done = |call: &&Call| !call.failed && call.end >= from && call.end <= last;
    let mut ends: Vec<UnixNanos> = calls.iter().filter(done).map(|call| call.end).collect();
    ends.sort_unstable();
    let told_by_calls = ends.len() >= CALLS_MIN;
    let work = if told_by_calls { share_done(&ends, &times) } else { share_of_time(&times, from) };
    let mut explanations: Vec<Vec<f64>> = Vec::new();
    let mut candidates = vec![explain(&mut explanations, None, 0.0, work)];
    if told_by_calls {
        let frequent = frequent(calls.iter().filter(done));
        let price = (frequent.len().max(1) as f64).ln();
        for (operation, ends) in frequent {
            candidates.push(explain(&mut explanations, Some(operation), price, share_done(&ends, &times)));
        }
    }
    let loads = explanations.len();
    if told_by_calls {
        explanations.push(times.iter().map(|at| running_at(calls, *at).len() as f64).collect());
        let recent = (last.since(from) / 12).max(1);
        let finished = |at: UnixNanos| ends.partition_point(|end| *end <= at) as f64;
        explanations.push(times.iter().map(|at| finished(*at) - finished(*at - recent)).collect());
    }
    let all = explanations.len();
    let stretch = Stretch {
        level: levels.iter().map(|(_, level)| *level).collect(),
        explanations,
        passing: Vec::new(),
    };
    let fits = fit_each(&[stretch], NOISE_FLOOR);
    let nats = |index: usize| TEMPER * fits[index].log_likelihood;
    let best = |indices: std::ops::Range<usize>| indices.map(nats).fold(f64::NEG_INFINITY, f64::max);
    let steadiest = candidates
        .iter()
        .map(|candidate| (nats(candidate.linear) - candidate.price, candidate.operation))
        .max_by(|a, b| a.0.total_cmp(&b.0))?;
    let filling = candidates.iter().map(|candidate| best(candidate.fills.clone()) - candidate.price);
    let other = filling.fold(best(loads..all), f64::max);
    Some(Trend { steady: steadiest.0 - other + CHOICE_NATS, operation: steadiest.1 })
}

fn explain(
    explanations: &mut Vec<Vec<f64>>,
    operation: Option<u32>,
    price: f64,
    work: Vec<f64>,
) -> Candidates {
    let linear = explanations.len();
    let fill = |fill: &f64| work.iter().map(|work| 1.0 - (-work / fill).exp()).collect();
    let fills: Vec<Vec<f64>> = FILLS.iter().map(fill).collect();
    explanations.push(work);
    explanations.extend(fills);
    Candidates { operation, price, linear, fills: linear + 1..explanations.len() }
}

/// The ends of the calls of each frequent operation, sorted.
fn frequent<'a>(calls: impl Iterator<Item = &'a Call>) -> Vec<(u32, Vec<UnixNanos>)> {
    let mut by_operation: BTreeMap<u32, Vec<UnixNanos>> = BTreeMap::new();
    for call in calls {
        by_operation.entry(call.operation).or_default().push(call.end);
    }
    let mut ranked: Vec<(u32, Vec<UnixNanos>)> =
        by_operation.into_iter().filter(|(_, ends)| ends.len() >= OPERATION_CALLS_MIN).collect();
    ranked.sort_by_key(|(operation, ends)| (std::cmp::Reverse(ends.len()), *operation));
    ranked.truncate(OPERATIONS_MAX);
    ranked.iter_mut().for_each(|(_, ends)| ends.sort_unstable());
    ranked
}

fn share_done(ends: &[UnixNanos], times: &[UnixNanos]) -> Vec<f64> {
    times.iter().map(|at| ends.partition_point(|end| end <= at) as f64 / ends.len() as f64).collect()
}

fn share_of_time(times: &[UnixNanos], from: UnixNanos) -> Vec<f64> {
    let all = times.last().map_or(0.0, |last| last.seconds_since(from)).max(0.001);
    times.iter().map(|at| at.seconds_since(from) / all).collect()
}

/// When half of the work between `from` and `to` was done, of `operation` or of all; half of the time when there are
/// too few calls to say.
pub(crate) fn middle_of_work(
    calls: &[Call],
    operation: Option<u32>,
    from: UnixNanos,
    to: UnixNanos,
) -> UnixNanos {
    let least = if operation.is_some() { OPERATION_CALLS_MIN } else { CALLS_MIN };
    let counts = |call: &&Call| {
        !call.failed
            && call.end >= from
            && call.end <= to
            && operation.is_none_or(|operation| call.operation == operation)
    };
    let mut ends: Vec<UnixNanos> = calls.iter().filter(counts).map(|call| call.end).collect();
    if ends.len() < least {
        return from + to.since(from) / 2;
    }
    ends.sort_unstable();
    ends[ends.len() / 2]
}
