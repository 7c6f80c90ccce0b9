//! Kernel time to wall time. A kernel log counts from boot, or tells a local time without its zone; Kubernetes
//! and telemetry tell UTC. The offset comes from a boot time if one was recorded, else from events that both
//! sides saw (the end of a container with the same ID); it is never invented.

use crate::identity::Cast;
use crate::kernel::cgroup_path::container_of;
use crate::kernel::{KernelLog, KernelTime};
use crate::observation::{BootTime, Observations};
use crate::time::{Moment, SECOND, UnixNanos};

/// Zones differ by multiples of a quarter of an hour.
const ZONE_STEP: i64 = 15 * 60 * SECOND;

/// A container's end is told after the kill: the runtime reaps, then floors to the second.
const END_AFTER_KILL: i64 = SECOND / 2;

/// How the times of one log become wall times.
#[derive(Debug, Clone)]
enum Offset {
    /// (kernel time, wall time) pairs by kernel time, and the error of one.
    Pairs(Vec<(i64, UnixNanos)>, i64),
    /// Added to the log's own time; and its error.
    Shift(i64, i64),
    /// The log's time cannot be placed.
    Unknown,
}

/// Converts the times of every kernel log.
#[derive(Debug, Default)]
pub struct KernelClock {
    offsets: Vec<Offset>,
}

impl KernelClock {
    /// Finds each log's offset; notes in `cast` when it was estimated.
    pub fn of(observations: &Observations, cast: &mut Cast<'_>) -> Self {
        let offsets = observations.kernel.iter().map(|log| offset_of(log, observations, cast)).collect();
        Self { offsets }
    }

    /// The wall time of a time in log number `log`.
    pub fn wall(&self, log: usize, time: KernelTime) -> Option<Moment> {
        if let KernelTime::Wall(moment) = time {
            return Some(moment);
        }
        match (self.offsets.get(log)?, time) {
            (Offset::Pairs(pairs, error), KernelTime::SinceBoot(since)) => {
                Some(Moment::new(interpolate(pairs, since), *error))
            }
            (Offset::Shift(shift, error), KernelTime::SinceBoot(since)) => {
                Some(Moment::new(UnixNanos(since) + *shift, *error))
            }
            (Offset::Shift(shift, error), KernelTime::Local { moment, .. }) => {
                Some(Moment::new(moment.at + *shift, moment.uncertainty.saturating_add(*error)))
            }
            _ => None,
        }
    }
}

fn interpolate(pairs: &[(i64, UnixNanos)], since: i64) -> UnixNanos {
    let after = pairs.partition_point(|(kernel, _)| *kernel <= since);
    let (before, next) = (pairs.get(after.wrapping_sub(1)), pairs.get(after));
    match (before, next) {
        (Some((k0, w0)), Some((k1, w1))) if k1 > k0 => {
            let share = (since - k0) as f64 / (k1 - k0) as f64;
            *w0 + (share * w1.since(*w0) as f64) as i64
        }
        (Some((k, w)), _) | (None, Some((k, w))) => *w + since.saturating_sub(*k),
        (None, None) => UnixNanos(since),
    }
}

fn offset_of(log: &KernelLog, observations: &Observations, cast: &mut Cast<'_>) -> Offset {
    let first = log.reports.first().map(|report| report.at).or(log.span.map(|(first, _)| first));
    match first {
        Some(KernelTime::SinceBoot(_)) => match boot_time_for(log, &observations.boot_times) {
            Some(boot) => {
                let mut pairs = boot.pairs.clone();
                pairs.sort_unstable();
                Offset::Pairs(pairs, boot.uncertainty)
            }
            None => estimate(log, cast, "has no boot time; it was placed"),
        },
        Some(KernelTime::Local { has_year, .. }) => {
            let matched = estimate(log, cast, "tells local time without its zone; it was placed");
            match matched {
                Offset::Shift(shift, _) if has_year => Offset::Shift(round_to(shift, ZONE_STEP), 0),
                Offset::Shift(shift, error) => Offset::Shift(shift, error),
                _ if has_year => {
                    cast.guesses
                        .insert(format!("the times of {} name no zone and were read as UTC", log.file));
                    Offset::Shift(0, 0)
                }
                other => other,
            }
        }
        _ => Offset::Unknown,
    }
}

/// The boot time recorded beside the log, else the only one there is.
fn boot_time_for<'b>(log: &KernelLog, boot_times: &'b [BootTime]) -> Option<&'b BootTime> {
    let folder = |file: &str| file.rfind(['/', '\\']).map_or(String::new(), |end| file[..end].to_owned());
    // More pairs follow the kernel clock's drift; one pair does not.
    let beside = boot_times.iter().filter(|boot| folder(&boot.file) == folder(&log.file));
    beside.max_by_key(|boot| boot.pairs.len()).or(match boot_times {
        [only] => Some(only),
        _ => None,
    })
}

/// Places a log by containers whose end was told by someone with a wall clock: the median of what they say.
fn estimate(log: &KernelLog, cast: &mut Cast<'_>, what: &str) -> Offset {
    let mut shifts: Vec<i64> = Vec::new();
    for report in &log.reports {
        let id = report.task_memcg.as_deref().and_then(|path| container_of(path).container_id);
        let Some(life) = id.and_then(|id| cast.life_by_id(&id)) else { continue };
        let Some(end) = cast.lives[life].ended_at else { continue };
        // Only the last kill of a life can have ended it.
        let Some(last) = report.victims.last() else { continue };
        let own = match last.at {
            KernelTime::SinceBoot(since) => since,
            KernelTime::Local { moment, .. } => moment.at.0,
            _ => continue,
        };
        shifts.push((end.at - END_AFTER_KILL).0.saturating_sub(own));
    }
    shifts.sort_unstable();
    let Some(&median) = shifts.get(shifts.len() / 2) else { return Offset::Unknown };
    let mut spread: Vec<i64> =
        shifts.iter().map(|shift| shift.saturating_sub(median).saturating_abs()).collect();
    spread.sort_unstable();
    let error = spread.get(spread.len() / 2).copied().unwrap_or_default().max(2 * SECOND);
    let count = shifts.len();
    cast.guesses.insert(format!(
        "kernel log {} {what} by {count} container ends that Kubernetes or cgroup samples date",
        log.file
    ));
    Offset::Shift(median, error)
}

fn round_to(value: i64, step: i64) -> i64 {
    value.saturating_add(step / 2).div_euclid(step).saturating_mul(step)
}

#[cfg(test)]
mod tests {
    use super::{interpolate, round_to};
    use crate::time::UnixNanos;

    #[test]
    fn between_two_pairs_the_kernel_clock_runs_evenly() {
        let pairs = [(0, UnixNanos(1000)), (100, UnixNanos(1200))];
        for (since, wall) in [(0, 1000), (50, 1100), (100, 1200), (150, 1250), (-10, 990)] {
            assert_eq!(interpolate(&pairs, since), UnixNanos(wall));
        }
    }

    #[test]
    fn zones_are_rounded_to_quarters_of_an_hour() {
        assert_eq!([round_to(-7199, 900), round_to(3601, 900), round_to(10, 900)], [-7200, 3600, 0]);
    }
}
