//! Kills that only a counter shows: `oom_kill` of a cgroup, or the metrics that mirror the API.

use std::collections::HashMap;

use super::{Accounts, END_AFTER_KILL_MAX, SAME_NODE_SLACK, bare};
use crate::hashing::NumberMap;
use crate::identity::{Cast, ContainerIndex, LifeIndex};
use crate::observation::Observations;
use crate::observation::cgroup::CgroupSample;
use crate::observation::metric::{MetricSeries, Point, Quantity};
use crate::time::{Moment, SECOND, UnixNanos};
use crate::verdict::{LimitHit, Witness};

/// Adds what `oom_kill` counters show. They count from the making of the cgroup, so only an increase is a kill.
pub(super) fn add_cgroup<'a>(
    accounts: &mut Accounts<'a>,
    observations: &'a Observations,
    cast: &mut Cast<'a>,
) {
    let mut by_life: HashMap<LifeIndex, Vec<&CgroupSample>> = HashMap::new();
    for sample in observations.cgroup_samples.iter().filter(|sample| sample.oom_kill.is_some()) {
        let life = match (&sample.container_id, &sample.cgroup_path) {
            (Some(id), _) => cast.life_by_id(id),
            (None, Some(path)) => cast.container_at_path(path),
            (None, None) => None,
        };
        if let Some(life) = life {
            by_life.entry(life).or_default().push(sample);
        }
    }
    let mut lives: Vec<_> = by_life.into_iter().collect();
    lives.sort_unstable_by_key(|(life, _)| *life);
    for (life, mut samples) in lives {
        samples.sort_by_key(|sample| sample.at);
        for pair in samples.windows(2) {
            let (before, after) = (pair[0], pair[1]);
            let rose = after.oom_kill.unwrap_or_default().saturating_sub(before.oom_kill.unwrap_or_default());
            if rose > 0 {
                counted(accounts, life, before, after, rose);
            }
        }
    }
}

/// The counter of `life` rose by `rose` between two samples.
fn counted(
    accounts: &mut Accounts<'_>,
    life: LifeIndex,
    before: &CgroupSample,
    after: &CgroupSample,
    rose: u64,
) {
    let (from, to) = (before.at, after.at);
    // The container went down with it: the counter counts its processes, and that is one kill.
    let died = after.processes == Some(0);
    let mut found: u64 = 0;
    for record in accounts.kills.iter_mut().filter(|record| record.life == Some(life)) {
        let at = record.kill.at;
        if at.at + at.uncertainty + SAME_NODE_SLACK >= from && at.at - at.uncertainty - SAME_NODE_SLACK <= to
        {
            record.seen_by(Witness::Cgroup);
            if died {
                record.kill.container_survived.get_or_insert(false);
            }
            // A group kill raises the counter once a process.
            found += record.pids.len().max(1) as u64;
        }
    }
    let missing = if died { u64::from(found == 0) } else { rose.saturating_sub(found) };
    // A storm of kills between two samples is counted, but not without bound.
    for _ in 0..missing.min(10_000) {
        let width = to.since(from);
        let mut record = bare(Moment::new(from + width / 2, width / 2), Witness::Cgroup, Some(life));
        record.kill.container_survived = Some(!died);
        // Its own limit was met in between, if the counter of such meetings rose too.
        let met = after.failcnt.zip(before.failcnt).is_some_and(|(after, before)| after > before);
        record.kill.limit_hit = met.then_some(LimitHit::Container);
        record.kill.limit_bytes = after.limit.or(before.limit);
        let lost = before
            .procs
            .iter()
            .filter(|process| !after.procs.iter().any(|p| p.pid == process.pid))
            .max_by_key(|p| p.rss);
        if let Some(process) = lost {
            record.kill.victim.pid = Some(process.pid);
            record.kill.victim.comm = Some(process.comm.to_string());
            record.pids = vec![process.pid];
        }
        accounts.kills.push(record);
    }
}

/// Adds kills that only metrics of the API tell: a last termination with reason `OOMKilled`, dated by its own
/// metric or by the step of the restart counter. The level of a gauge alone is no kill: it stays up for days.
pub(super) fn add_metrics<'a>(
    accounts: &mut Accounts<'a>,
    observations: &'a Observations,
    cast: &mut Cast<'a>,
) {
    let telling = telling_series(observations, cast);
    for series in &observations.metrics.series {
        if series.metric.quantity != Quantity::TerminatedReason || !is_oom(observations, series) {
            continue;
        }
        let Some(container) = cast.container_of_resource(series.resource) else { continue };
        if cast.pods[cast.containers[container].pod].kubernetes.is_some() {
            continue;
        }
        let said: Vec<UnixNanos> =
            series.points.iter().filter(|point| point.value > 0.0).map(|point| point.at).collect();
        for at in ends_of(telling.get(&container).map_or(&[], Vec::as_slice)) {
            let near = |time: &UnixNanos| {
                time.since(at.at) >= -at.uncertainty && time.since(at.at) <= at.uncertainty + 300 * SECOND
            };
            if !said.iter().any(near) {
                continue;
            }
            let life = cast.life_at(container, at.at - at.uncertainty);
            let known = accounts.kills.iter_mut().find(|record| {
                let same = record.life.is_some_and(|life| cast.lives[life].container == container);
                same && record.kill.at.may_equal(at, END_AFTER_KILL_MAX)
            });
            match known {
                Some(record) => record.seen_by(Witness::Metrics),
                None => {
                    let mut record = bare(at, Witness::Metrics, life);
                    record.kill.container_survived = Some(false);
                    accounts.kills.push(record);
                }
            }
        }
    }
}

fn is_oom(observations: &Observations, series: &MetricSeries) -> bool {
    series.attributes.iter().any(|(key, value)| {
        matches!(observations.symbols.text(*key), "reason" | "k8s.container.status.reason")
            && observations.symbols.text(*value) == "OOMKilled"
    })
}

/// The series that tell when a container ended, by container.
fn telling_series<'a>(
    observations: &'a Observations,
    cast: &Cast<'_>,
) -> NumberMap<ContainerIndex, Vec<&'a MetricSeries>> {
    let mut telling: NumberMap<ContainerIndex, Vec<&MetricSeries>> = NumberMap::default();
    for series in &observations.metrics.series {
        if matches!(series.metric.quantity, Quantity::TerminatedAt | Quantity::Restarts)
            && let Some(container) = cast.container_of_resource(series.resource)
        {
            telling.entry(container).or_default().push(series);
        }
    }
    telling
}

/// When a container ended, by its metrics.
fn ends_of(telling: &[&MetricSeries]) -> Vec<Moment> {
    let mut ends = Vec::new();
    for series in telling {
        let mut points: Vec<&Point> = series.points.iter().collect();
        points.sort_by_key(|point| point.at);
        match series.metric.quantity {
            Quantity::TerminatedAt => ends.extend(
                points.iter().map(|point| Moment::floored_to_second(UnixNanos::from_seconds(point.value))),
            ),
            Quantity::Restarts => {
                ends.extend(points.windows(2).filter(|pair| pair[1].value > pair[0].value).map(|pair| {
                    let width = pair[1].at.since(pair[0].at);
                    Moment::new(pair[0].at + width / 2, width / 2)
                }))
            }
            _ => {}
        }
    }
    ends.sort_unstable();
    ends.dedup_by(|later, earlier| later.may_equal(*earlier, SECOND));
    ends
}
