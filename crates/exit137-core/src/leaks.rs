//! Leaks without a kill yet: containers whose floor rises steadily towards their limit. A trend test alone cries
//! wolf on most healthy services, so several things must hold at once; a service that merely warms up, fills a
//! bounded cache or follows its load is silent.

use crate::bytes::Bytes;
use crate::causes::beta_nats;
use crate::diagnose::called;
use crate::identity::LifeIndex;
use crate::incident::Scene;
use crate::kills::KillRecord;
use crate::memory::Series;
use crate::operations::operations_of_leak;
use crate::time::{SECOND, UnixNanos};
use crate::timeline::timeline_of;
use crate::trend::trend_of;
use crate::verdict::{Interval, LeakVerdict, Probability};

/// Bins of the floor; a bin holds several points, and its minimum is the floor there.
const BINS: usize = 24;
/// With fewer bins no trend can be told from noise.
const BINS_MIN: usize = 9;
/// Points a bin should have.
const POINTS_PER_BIN: usize = 3;
/// Shorter records show starts, not trends.
const SECONDS_MIN: f64 = 120.0;
/// The first part of a life is warm-up.
const WARM_UP_SHARE: f64 = 0.2;
/// A leak that takes longer than this to matter is left to a longer look.
const HORIZON_SECONDS: f64 = 7.0 * 86_400.0;
/// Slope over its standard error, the error corrected for autocorrelation.
const T_MIN: f64 = 4.0;
/// Growth seen must be at least this share of the level it started from: allocators creep.
const GROWTH_SHARE_MIN: f64 = 0.15;
/// One step that makes up more of the growth than this is a step, not a trend.
const STEP_SHARE_MAX: f64 = 0.4;
/// The last third of a leak rises about as fast as the whole; a filling cache does not.
const LAST_THIRD_MIN: f64 = 0.5;

/// ln(1 / 9): of ten floors that rise for a while, one leaks.
const PRIOR_NATS: f64 = -2.2;
/// More growth than e² times the least says no more.
const GROWTH_NATS_MAX: f64 = 2.0;
/// ln(1 / 5): for each program that leaks, five have a cache that fills while one looks.
const PRIOR_FILLS_NATS: f64 = -1.6;
/// Of a cache half as large as the program, as much speaks against it as of one twice as small speaks for it.
const FILLED_SMALL_NATS: f64 = -1.0;

/// What a steadily rising floor looks like in numbers.
struct Rise {
    /// When the start was over.
    from: UnixNanos,
    /// Bytes per second, with its standard error.
    slope: f64,
    error: f64,
    /// Level at the end.
    level: f64,
    /// Growth over the record.
    growth: f64,
    /// Slope of the last third over the whole slope.
    last_third: f64,
    seconds: f64,
}

/// The leaks among the lives that no kill belongs to.
pub fn leaks_of(scene: &Scene<'_>, kills: &[KillRecord<'_>]) -> Vec<LeakVerdict> {
    let killed: std::collections::HashSet<_> = kills
        .iter()
        .filter_map(|record| record.life)
        .map(|life| scene.cast.family(scene.cast.lives[life].container))
        .collect();
    let mut leaks = Vec::new();
    for container in 0..scene.cast.containers.len() {
        if killed.contains(&scene.cast.family(container)) {
            continue;
        }
        let Some(&life) = scene.cast.containers[container].lives.last() else { continue };
        leaks.extend(leak_of(scene, life));
    }
    leaks.sort_by(|a, b| b.probability.0.total_cmp(&a.probability.0));
    leaks
}

fn leak_of(scene: &Scene<'_>, life: LifeIndex) -> Option<LeakVerdict> {
    let memory = scene.memory.life(life);
    let entry = &scene.cast.lives[life];
    let told = memory.heap_floor.len() >= BINS_MIN * POINTS_PER_BIN && !memory.heap_floor_rough;
    let heap = told.then_some(&memory.heap_floor);
    let series = heap.or_else(|| memory.hard().map(|(_, series)| series))?;
    let rise = rise_of(series, entry.started_at)?;
    let spec = scene.cast.containers[entry.container].spec.and_then(|spec| spec.limit_bytes);
    let limit = entry.limit_bytes.or(memory.limit_bytes).or(spec).map(|limit| limit as f64);
    let time_to_limit = limit.map(|limit| {
        let room = (limit - rise.level).max(0.0);
        let until = |slope: f64| room / slope.max(rise.slope * 0.05);
        Interval {
            low: until(rise.slope + 1.3 * rise.error),
            mid: until(rise.slope),
            high: until(rise.slope - 1.3 * rise.error),
        }
    });
    if time_to_limit.is_some_and(|time| time.mid > HORIZON_SECONDS) {
        return None;
    }
    let calls = scene.work.calls_of(entry.container);
    let warm = rise.from;
    let trend = trend_of(crate::memory::between(series, warm, UnixNanos(i64::MAX)), calls, warm);
    let loose = heap.is_none() && scene.is_collected(entry.container);
    let probability = probability_of(&rise, trend.map_or(0.0, |trend| trend.steady), loose);
    if probability < 0.5 {
        return None;
    }
    let container = scene.cast.describe(entry.container);
    let per_hour = |slope: f64| slope.max(0.0) * 3600.0;
    let when = match time_to_limit {
        Some(time) => format!(
            ", and meets the limit of {} in about {}",
            Bytes(limit.unwrap_or_default() as u64),
            crate::advice::duration(time.mid)
        ),
        None => String::new(),
    };
    let headline = format!(
        "{} {} leaks: memory that is never given back grew by {} in {}{when}",
        called(&container),
        Probability(probability).words().replace("candidate", "possibly"),
        Bytes(rise.growth as u64),
        crate::advice::duration(rise.seconds)
    );
    let end = series.last().map_or(UnixNanos(0), |(at, _)| *at);
    Some(LeakVerdict {
        container,
        probability: Probability(probability),
        slope_bytes_per_hour: Interval {
            low: per_hour(rise.slope - 1.3 * rise.error),
            mid: per_hour(rise.slope),
            high: per_hour(rise.slope + 1.3 * rise.error),
        },
        time_to_limit_seconds: time_to_limit,
        operations: operations_of_leak(scene, entry.container),
        headline,
        timeline: timeline_of(scene, &[entry.container], end),
    })
}

/// A floor that passed every test of [`rise_of`]'s shape leaks, or wandered there, or is a cache that has yet to fill. That it
/// rises for sure speaks against the second only, how it rises against the third.
fn probability_of(rise: &Rise, steady: f64, loose: bool) -> f64 {
    let strength = rise.slope / rise.error.max(rise.slope * 1e-3);
    // A program whose garbage is collected now and then grows several times over before it is: how much says less.
    let most = if loose { GROWTH_NATS_MAX / 2.0 } else { GROWTH_NATS_MAX };
    let growth = (rise.growth_share() / GROWTH_SHARE_MIN).ln().clamp(0.0, most);
    // t = 4 is even odds against a random walk of the same roughness; it gains a nat every three.
    let wandered = PRIOR_NATS
        + ((strength - T_MIN) / 3.0).min(3.0)
        + beta_nats((rise.last_third / 2.0).clamp(0.0, 1.0), 5.0, 4.5)
        + growth;
    // Growth with the load, or ever slower, is no leak however surely it grows; most caches are smaller than what a
    // program needs without them.
    let fills = PRIOR_FILLS_NATS + FILLED_SMALL_NATS + 2.0 * growth + steady.clamp(-4.0, 4.0);
    1.0 / (1.0 + (-wandered).exp() + (-fills).exp())
}

impl Rise {
    fn growth_share(&self) -> f64 {
        self.growth / (self.level - self.growth).max(1.0)
    }
}

fn rise_of(series: &Series, started: Option<UnixNanos>) -> Option<Rise> {
    let first = started.unwrap_or(series.first()?.0).max(series.first()?.0 - 600 * SECOND);
    let last = series.last()?.0;
    let warm = first + (last.since(first) as f64 * WARM_UP_SHARE) as i64;
    let points = crate::memory::between(series, warm, last);
    let seconds = last.seconds_since(warm);
    let bins = (points.len() / POINTS_PER_BIN).min(BINS);
    if seconds < SECONDS_MIN || bins < BINS_MIN {
        return None;
    }
    let mut floor: Vec<(f64, f64)> = Vec::with_capacity(bins);
    let width = last.since(warm) / bins as i64 + 1;
    for bin in 0..bins as i64 {
        let from = warm + width * bin;
        let part = crate::memory::between(points, from, from + (width - 1));
        let lowest = part.iter().map(|(_, value)| *value).fold(f64::INFINITY, f64::min);
        if lowest.is_finite() {
            floor.push(((from + width / 2).seconds_since(warm), lowest));
        }
    }
    if floor.len() < BINS_MIN {
        return None;
    }
    let slope = theil_sen(&floor);
    let error = slope_error(&floor, slope);
    let third = floor.len() / 3;
    let thirds = [
        theil_sen(&floor[..third + 1]),
        theil_sen(&floor[third..2 * third + 1]),
        theil_sen(&floor[2 * third..]),
    ];
    let growth = slope * seconds;
    let base = floor.iter().take(third).map(|(_, value)| *value).fold(f64::INFINITY, f64::min);
    let step = floor.windows(2).map(|pair| pair[1].1 - pair[0].1).fold(0.0, f64::max);
    let steady = slope > 0.0
        && slope / error.max(f64::MIN_POSITIVE) >= T_MIN
        && thirds.iter().all(|third| *third > 0.0)
        && thirds[2] >= LAST_THIRD_MIN * slope
        && thirds[2] >= LAST_THIRD_MIN * thirds[0]
        && growth >= GROWTH_SHARE_MIN * base
        && step <= STEP_SHARE_MAX * growth;
    let level = floor.last()?.1;
    steady.then_some(Rise { from: warm, slope, error, level, growth, last_third: thirds[2] / slope, seconds })
}

/// Median of all pairwise slopes: a fifth of wild points does not move it.
fn theil_sen(points: &[(f64, f64)]) -> f64 {
    let mut slopes: Vec<f64> = Vec::with_capacity(points.len() * points.len() / 2);
    for (index, a) in points.iter().enumerate() {
        slopes.extend(points[index + 1..].iter().filter(|b| b.0 > a.0).map(|b| (b.1 - a.1) / (b.0 - a.0)));
    }
    slopes.sort_by(f64::total_cmp);
    slopes.get(slopes.len() / 2).copied().unwrap_or_default()
}

/// Standard error of a slope whose residuals remember each other: n shrinks to n (1 − ρ) / (1 + ρ).
fn slope_error(points: &[(f64, f64)], slope: f64) -> f64 {
    let n = points.len() as f64;
    let mean = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / n;
    let x_mean = mean(&mut points.iter().map(|point| point.0));
    let y_mean = mean(&mut points.iter().map(|point| point.1));
    let residuals: Vec<f64> = points.iter().map(|(x, y)| y - y_mean - slope * (x - x_mean)).collect();
    let variance = residuals.iter().map(|r| r * r).sum::<f64>() / (n - 2.0).max(1.0);
    let lagged = residuals.windows(2).map(|pair| pair[0] * pair[1]).sum::<f64>() / (n - 1.0);
    let rho = (lagged / variance.max(f64::MIN_POSITIVE)).clamp(0.0, 0.95);
    let effective = (n * (1.0 - rho) / (1.0 + rho)).max(3.0);
    let x_variance = points.iter().map(|(x, _)| (x - x_mean).powi(2)).sum::<f64>() / n;
    (variance / (effective * x_variance.max(f64::MIN_POSITIVE))).sqrt()
}

#[cfg(test)]
mod tests {
    use super::{rise_of, theil_sen};
    use crate::time::{SECOND, UnixNanos};

    fn series(value: impl Fn(f64) -> f64) -> Vec<(UnixNanos, f64)> {
        (0..300).map(|i| (UnixNanos(i * 2 * SECOND), value(i as f64))).collect()
    }

    /// A repeatable saw: garbage that is collected now and then.
    fn saw(i: f64) -> f64 {
        (i * 7.3) % 23.0
    }

    #[test]
    fn only_a_steady_rise_is_one() {
        type Level = fn(f64) -> f64;
        let cases: [(&str, Level, bool); 5] = [
            ("steady", |i| 100.0 + 0.5 * i + saw(i), true),
            ("flat", |i| 100.0 + saw(i), false),
            ("a cache that fills", |i| 100.0 + 80.0 * (1.0 - (-i / 60.0).exp()) + saw(i), false),
            ("one step", |i| if i > 150.0 { 180.0 } else { 100.0 } + saw(i), false),
            ("up and down with the load", |i| 150.0 + 50.0 * (i / 48.0).sin() + saw(i), false),
        ];
        for (name, value, rises) in cases {
            assert_eq!(rise_of(&series(value), None).is_some(), rises, "{name}");
        }
    }

    #[test]
    fn wild_points_do_not_move_the_slope() {
        let points: Vec<(f64, f64)> =
            (0..50).map(|i| (f64::from(i), if i % 7 == 0 { 1e6 } else { 2.0 * f64::from(i) })).collect();
        assert!((theil_sen(&points) - 2.0).abs() < 0.5);
    }
}
