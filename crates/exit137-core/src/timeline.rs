//! What the chart of a verdict shows: memory by kind, the limit, requests in flight, and what happened when.

use crate::identity::{ContainerIndex, LifeIndex};
use crate::incident::{Incident, Scene};
use crate::memory::{Series, between};
use crate::time::{SECOND, UnixNanos};
use crate::verdict::{Mark, MarkKind, MemoryKind, Timeline, TimelineSeries};

/// Points a line keeps in one life; more cannot be told apart on a screen.
const POINTS_MAX: usize = 240;

/// Lives shown; of a container killed a hundred times the last ones are enough.
const LIVES_MAX: usize = 12;

/// Moments at which requests in flight are counted.
const IN_FLIGHT_POINTS: i64 = 240;

/// The chart of an incident: the lives that were killed and what surrounds them.
pub fn timeline_of_incident(incident: &Incident<'_>) -> Timeline {
    let scene = incident.scene;
    let containers = incident.containers();
    let dated = || incident.kills.iter().filter(|kill| kill.record.kill.at.is_known());
    // Without any time there is nothing to draw.
    let Some(last) = dated().map(|kill| kill.at()).max() else { return Timeline::default() };
    let mut timeline = timeline_of(scene, &containers, last);
    let first_shown = timeline.from;
    for kill in dated().filter(|kill| kill.at() >= first_shown) {
        let comm = kill.record.kill.victim.comm.as_deref().unwrap_or("a process");
        timeline.marks.push(Mark {
            at: kill.at(),
            kind: MarkKind::Kill,
            label: format!("{comm} OOM-killed"),
        });
    }
    timeline.marks.sort_by(|a, b| (a.at, a.kind, &a.label).cmp(&(b.at, b.kind, &b.label)));
    timeline
}

/// The chart of these containers up to a little after `focus`.
pub fn timeline_of(scene: &Scene<'_>, containers: &[ContainerIndex], focus: UnixNanos) -> Timeline {
    let mut lives: Vec<LifeIndex> = containers
        .iter()
        .flat_map(|container| scene.cast.containers[*container].lives.iter().copied())
        .collect();
    lives.retain(|life| scene.cast.lives[*life].started_at.is_none_or(|start| start <= focus + 600 * SECOND));
    let skip = lives.len().saturating_sub(LIVES_MAX);
    lives.drain(..skip);
    let mut timeline = Timeline::default();
    let several = containers.len() > 1;
    let kinds = [
        MemoryKind::Usage,
        MemoryKind::WorkingSet,
        MemoryKind::Anon,
        MemoryKind::File,
        MemoryKind::Shmem,
        MemoryKind::Kernel,
        MemoryKind::ProcessRss,
    ];
    for kind in kinds {
        for container in containers {
            let pod = several
                .then(|| scene.cast.pods[scene.cast.containers[*container].pod].name.clone())
                .flatten();
            let own = lives.iter().filter(|life| scene.cast.lives[**life].container == *container);
            let drawn: Vec<Series> =
                own.filter_map(|life| scene.memory.life(*life).by_kind.get(&kind)).map(thin).collect();
            if drawn.iter().any(|life| life.len() > 1) {
                timeline.series.push(TimelineSeries { kind, pod, lives: drawn });
            }
        }
    }
    bound(&mut timeline, scene, &lives, focus);
    add_limit(&mut timeline, scene, &lives);
    add_marks(&mut timeline, scene, containers, &lives);
    add_in_flight(&mut timeline, scene, containers);
    timeline
}

fn bound(timeline: &mut Timeline, scene: &Scene<'_>, lives: &[LifeIndex], focus: UnixNanos) {
    let points = timeline.series.iter().flat_map(|series| &series.lives).flatten().map(|(at, _)| *at);
    let starts = lives.iter().filter_map(|life| scene.cast.lives[*life].started_at);
    let (mut from, mut to) = (focus, focus);
    for at in points.chain(starts) {
        from = from.min(at);
        to = to.max(at);
    }
    // A breath of space after the kill, so that its mark is not the edge.
    let margin = (to.since(from) / 50).max(SECOND);
    (timeline.from, timeline.to) = (from, to + margin);
}

fn add_limit(timeline: &mut Timeline, scene: &Scene<'_>, lives: &[LifeIndex]) {
    for life in lives {
        let entry = &scene.cast.lives[*life];
        let spec = scene.cast.containers[entry.container].spec.and_then(|spec| spec.limit_bytes);
        let limit = entry.limit_bytes.or(scene.memory.life(*life).limit_bytes).or(spec);
        if let Some(limit) = limit {
            timeline.limit.push((entry.started_at.unwrap_or(timeline.from), limit));
        }
    }
    timeline.limit.sort_unstable();
    timeline.limit.dedup_by_key(|(_, limit)| *limit);
}

fn add_marks(timeline: &mut Timeline, scene: &Scene<'_>, containers: &[ContainerIndex], lives: &[LifeIndex]) {
    for life in lives {
        let entry = &scene.cast.lives[*life];
        if let Some(start) = entry.started_at.filter(|_| !entry.start_is_first_sign) {
            timeline.marks.push(Mark {
                at: start,
                kind: MarkKind::Start,
                label: "container started".to_owned(),
            });
        }
        let other =
            entry.termination.filter(|t| t.reason.as_deref() != Some("OOMKilled")).zip(entry.ended_at);
        if let Some((termination, end)) = other {
            let reason = termination.reason.as_deref().unwrap_or("ended");
            let label = format!("{reason}, exit code {}", termination.exit_code);
            timeline.marks.push(Mark { at: end.at, kind: MarkKind::OtherEnd, label });
        }
    }
    let mut owners: Vec<&str> = Vec::new();
    for container in containers {
        let pod = scene.cast.pods[scene.cast.containers[*container].pod].kubernetes;
        owners.extend(pod.and_then(|pod| pod.owner.as_ref()).map(|owner| owner.uid.as_str()));
    }
    owners.sort_unstable();
    owners.dedup();
    for owner in owners {
        let Some(workload) = scene.observations.kubernetes.workloads.get(owner) else { continue };
        let Some(created) = workload.created_at.filter(|at| *at >= timeline.from && *at <= timeline.to)
        else {
            continue;
        };
        let version = workload.version.as_deref().map(|version| format!(" of {version}")).unwrap_or_default();
        timeline.marks.push(Mark {
            at: created,
            kind: MarkKind::Rollout,
            label: format!("rollout{version}"),
        });
    }
}

fn add_in_flight(timeline: &mut Timeline, scene: &Scene<'_>, containers: &[ContainerIndex]) {
    let (from, width) = (timeline.from, timeline.to.since(timeline.from));
    if width <= 0 || containers.iter().all(|container| scene.work.calls_of(*container).is_empty()) {
        return;
    }
    // Starts and ends, counted into moments: linear in calls, however long each one is.
    let slot = |at: UnixNanos| {
        (at.since(from).clamp(0, width) as i128 * IN_FLIGHT_POINTS as i128 / width as i128) as usize
    };
    let mut change = vec![0i64; IN_FLIGHT_POINTS as usize + 2];
    for call in containers.iter().flat_map(|container| scene.work.calls_of(*container)) {
        if call.end >= from && call.start <= timeline.to {
            change[slot(call.start)] += 1;
            change[slot(call.end) + 1] -= 1;
        }
    }
    let mut running = 0i64;
    for (index, change) in change.iter().take(IN_FLIGHT_POINTS as usize).enumerate() {
        running += change;
        timeline.in_flight.push((from + width / IN_FLIGHT_POINTS * index as i64, running as f64));
    }
}

/// Keeps the lowest and the highest of each stretch, so that no peak is lost.
fn thin(series: &Series) -> Series {
    if series.len() <= POINTS_MAX {
        return series.clone();
    }
    let (Some(first), Some(last)) = (series.first(), series.last()) else { return Vec::new() };
    let stretches = (POINTS_MAX / 2) as i64;
    let width = last.0.since(first.0) / stretches + 1;
    let mut thinned: Series = Vec::with_capacity(POINTS_MAX + 2);
    for index in 0..stretches {
        let from = first.0 + width * index;
        let part = between(series, from, from + (width - 1));
        let lowest = part.iter().min_by(|a, b| a.1.total_cmp(&b.1));
        let highest = part.iter().max_by(|a, b| a.1.total_cmp(&b.1));
        let mut pair: Vec<(UnixNanos, f64)> = lowest.into_iter().chain(highest).copied().collect();
        pair.sort_by_key(|(at, _)| *at);
        pair.dedup_by_key(|(at, _)| *at);
        thinned.extend(pair);
    }
    thinned
}

#[cfg(test)]
mod tests {
    use super::thin;
    use crate::time::UnixNanos;

    #[test]
    fn thinning_keeps_the_highest_and_the_lowest() {
        let series: Vec<_> = (0..10_000)
            .map(|i| {
                (
                    UnixNanos(i),
                    if i == 7777 {
                        9e9
                    } else if i == 3333 {
                        -5.0
                    } else {
                        1.0
                    },
                )
            })
            .collect();
        let thinned = thin(&series);
        assert!(thinned.len() <= 242);
        assert!(thinned.iter().any(|(_, v)| *v > 8e9) && thinned.iter().any(|(_, v)| *v < 0.0));
    }
}
