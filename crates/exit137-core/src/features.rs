//! Numbers that the causes are judged by: shares between 0 and 1 that mean the same for a 50 MiB and a 50 GiB
//! container, for a life of a minute and of a week. A number that the data cannot give is absent.

use crate::incident::{Episode, KillScene, Scene, VictimRole};
use crate::memory::{Series, between};
use crate::time::{SECOND, UnixNanos};
use crate::trend::{middle_of_work, trend_of};
use crate::verdict::LimitHit;
use crate::work::{Call, running_at};

/// The first part of a life loads code, fills pools and connects; it says nothing about what comes after.
const WARM_UP_SHARE: f64 = 0.12;
/// No program warms up for longer.
const WARM_UP_SECONDS_MAX: f64 = 900.0;
/// The last part of a life, in which a sudden demand shows.
const FINAL_SHARE: f64 = 0.06;
/// A single request that takes memory takes it over seconds: the final part is at least this long, if the life
/// is long enough for it.
const FINAL_SECONDS: f64 = 8.0;
/// Fewer points than this show no shape.
const POINTS_MIN: usize = 8;
/// A gap before the kill longer than this share of the episode hides what happened in it.
const BLIND_SHARE_MAX: f64 = 0.2;
/// Growth below this share of the ceiling is within what allocators do on their own.
const GROWTH_SHARE_MIN: f64 = 0.06;

/// What the memory did from start to kill.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    /// Level after warm-up that was never undercut again, bytes.
    pub base: f64,
    /// Level just before the final part that was never undercut again, bytes.
    pub floor: f64,
    /// What the memory was at the kill, bytes.
    pub ceiling: f64,
    /// Part of `ceiling − base` that came in the final part, beyond the trend and beyond what the memory
    /// ordinarily swings: 0 (none) to 1 (all).
    pub jump: f64,
    /// `floor` as a share of the limit.
    pub height: f64,
    /// Part of the growth before the final part, and of a final step like one before, that came in its second half, by
    /// work done where calls are known, else by time: 0.5 for steady growth, near 0 for a cache that has filled. Absent
    /// without growth.
    pub late_growth: Option<f64>,
    /// How much better steady growth with the work (positive), or filling up or the load of the moment (negative),
    /// fits the floor before the final part, in nats, tempered. Absent without growth.
    pub steady: Option<f64>,
    /// `steady` is told by the heap that collections leave, which nothing passing blurs.
    pub told_by_heap: bool,
    /// Growth before the final part, as a share of the ceiling.
    pub growth: f64,
    /// How far above its floor the memory ordinarily went (95th percentile), as a share of the ceiling.
    pub ordinary_swing: f64,
    /// Seconds measured.
    pub seconds: f64,
    /// Points measured.
    pub points: usize,
}

/// The load around a kill.
#[derive(Debug, Clone, PartialEq)]
pub struct Load {
    /// Calls running at the kill.
    pub at_kill: usize,
    /// 95th percentile of calls running before.
    pub ordinary: f64,
    /// `at_kill / (at_kill + ordinary)`: one half for a busy but ordinary moment.
    pub excess: f64,
    /// Share of the most frequent operation among the calls at the kill.
    pub top_share: f64,
    /// Its ordinary share.
    pub top_share_ordinary: f64,
    /// Index of that operation.
    pub top_operation: Option<u32>,
    /// How unusual the most unusual call at the kill was: 1 − share of earlier time in which a call of its
    /// operation that old was running.
    pub rarest: f64,
    /// Index of that call's operation.
    pub rarest_operation: Option<u32>,
}

/// Everything about one kill, as numbers.
#[derive(Debug, Clone, Default)]
pub struct Features {
    /// Memory over time.
    pub shape: Option<Shape>,
    /// Calls.
    pub load: Option<Load>,
    /// File pages that could not be dropped (shmem, dirty, under writeback) as a share of the room between the
    /// program's own base and the limit.
    pub files: Option<f64>,
    /// Share of processes other than the main one and its workers in the processes' memory.
    pub others: Option<f64>,
    /// Victim.
    pub child_killed: Option<bool>,
    /// The node's memory, not a limit of the pod's, was hit.
    pub node: Option<bool>,
    /// Where nothing tells whose limit was hit: how far below the container's own limit its memory still was by the
    /// last measurement, its trend and its ordinary swing, as a share of the limit.
    pub shortfall: Option<f64>,
    /// Growth of the heap that collections leave, as a share of what the memory grew by since the program's own base.
    pub heap_growth: Option<f64>,
    /// A collector decides when memory is given back: the shape of the memory follows what is kept only loosely.
    pub loose: bool,
    /// Calls that finished well in this life before the kill; absent when nothing tells.
    pub served: Option<usize>,
    /// Calls that were running at the kill.
    pub running: usize,
    /// Share of the live heap that requests had left behind which were finished, by the process's own journal.
    pub left_behind: Option<f64>,
    /// Of what was ever allocated at the place that holds most of that, the share that is still live.
    pub never_freed: Option<f64>,
    /// Length of the life, seconds.
    pub life_seconds: Option<f64>,
    /// Whether the container had become ready.
    pub ready: Option<bool>,
}

/// Takes the numbers of one kill.
pub fn features(kill: &KillScene<'_>, scene: &Scene<'_>) -> Features {
    let limit = kill.limit();
    let record = &kill.record.kill;
    let calls = kill.container.map_or(&[][..], |container| scene.work.calls_of(container));
    let life = kill.life.map(|life| &scene.cast.lives[life]);
    let started = life.and_then(|life| life.started_at);
    let shape = kill.episode.as_ref().and_then(|episode| shape(episode, calls, &kill.memory.heap_floor));
    let base = shape.as_ref().filter(|_| kill.role != VictimRole::Worker).map_or(0.0, |shape| shape.base);
    Features {
        load: load(kill, scene, calls),
        shortfall: shortfall(kill, shape.as_ref()),
        files: limit.and_then(|limit| files(kill, (limit - base).max(limit * 0.1))),
        loose: kill.container.is_some_and(|container| scene.is_collected(container)),
        heap_growth: shape.as_ref().and_then(|shape| heap_growth(kill, shape)),
        shape,
        others: others(kill),
        child_killed: match kill.role {
            VictimRole::Child => Some(true),
            VictimRole::Main | VictimRole::Worker => Some(false),
            VictimRole::Twin | VictimRole::Unclear => None,
        },
        node: match record.limit_hit {
            Some(hit) => Some(matches!(hit, LimitHit::Node | LimitHit::Ancestor)),
            None => unlimited(kill, scene).then_some(true),
        },
        served: served(kill, scene, calls, started).max(crate::live_heap::served(scene, kill)),
        running: kill.in_flight.len(),
        left_behind: crate::live_heap::left_behind(scene, kill),
        never_freed: crate::live_heap::never_freed(scene, kill),
        life_seconds: match (kill.role, &kill.episode) {
            (VictimRole::Worker, Some(episode)) => Some(episode.seconds()),
            _ => started.map(|start| kill.at().seconds_since(start)),
        },
        ready: ready(kill, scene),
    }
}

/// The shape of one episode. Where the heap that collections leave is measured too, it tells how what is kept grew.
pub fn shape(episode: &Episode, calls: &[Call], heap: &Series) -> Option<Shape> {
    let seconds = episode.seconds();
    let points = &episode.series;
    if points.len() < POINTS_MIN {
        return None;
    }
    let last = points.last()?.0;
    if episode.to.seconds_since(last) > BLIND_SHARE_MAX * seconds {
        return None;
    }
    let width = (SECOND as f64 * (seconds * WARM_UP_SHARE).min(WARM_UP_SECONDS_MAX)) as i64;
    let warm = warmed_up(calls, episode.from, episode.to, width)?;
    let final_seconds = (seconds * FINAL_SHARE)
        .max(2.5 * episode.interval)
        .max(FINAL_SECONDS.min(seconds * 0.15))
        .min(seconds * BLIND_SHARE_MAX);
    let floor_from = floor_from_right(points);
    let floor_at = |at: UnixNanos| {
        // The last point before counts: between two coarse points memory may have jumped at any time.
        let index = points.partition_point(|(time, _)| *time <= at).saturating_sub(1);
        floor_from.get(index).copied().unwrap_or_default()
    };
    let end = start_of_jump(episode, &floor_at, warm, final_seconds);
    let body = between(points, warm, end);
    if body.len() < POINTS_MIN / 2 {
        return None;
    }
    let (base, floor) = (floor_at(warm), floor_at(end));
    let ceiling = episode.ceiling;
    let room = (ceiling - base).max(ceiling * 0.01);
    let growth = (floor - base) / ceiling;
    let trend = (growth >= GROWTH_SHARE_MIN).then(|| trend_of(body, calls, warm)).flatten();
    let heap = between(heap, warm, end);
    let by_heap = (growth >= GROWTH_SHARE_MIN && heap.len() >= POINTS_MIN)
        .then(|| trend_of(heap, calls, warm))
        .flatten();
    let told_by_heap = by_heap.is_some();
    let trend = by_heap.or(trend);
    let middle = middle_of_work(calls, trend.and_then(|trend| trend.operation), warm, end);
    let (first, mut second) = (floor_at(middle) - base, floor - floor_at(middle));
    // What steady growth alone would have added in the final part.
    let rate = second.max(0.0) / end.seconds_since(middle).max(1.0);
    let known =
        points[..points.partition_point(|(time, _)| *time <= end)].last().map_or(end, |(time, _)| *time);
    let step = largest_step(points, &floor_at, middle_of(warm, end), end, final_seconds);
    let ahead = (rate * episode.to.seconds_since(known)).max(step);
    let mut swings: Vec<f64> = body.iter().map(|(at, value)| (value - floor_at(*at)) / ceiling).collect();
    swings.sort_by(f64::total_cmp);
    let ordinary_swing = swings.get(swings.len() * 95 / 100).copied().unwrap_or_default().max(0.0);
    // A last step like one before belongs to the growth.
    let last_rise = ceiling * (1.0 - ordinary_swing) - floor;
    if last_rise > 0.0 && step >= 0.5 * last_rise {
        second += last_rise;
    }
    Some(Shape {
        base,
        floor,
        ceiling,
        jump: ((ceiling * (1.0 - ordinary_swing) - floor - ahead) / room).clamp(0.0, 1.0),
        height: (floor / ceiling.max(episode.limit.unwrap_or(0.0))).clamp(0.0, 1.0),
        late_growth: (growth >= GROWTH_SHARE_MIN)
            .then(|| (second / (first + second).max(1.0)).clamp(0.0, 1.0)),
        told_by_heap,
        steady: trend.map(|trend| trend.steady),
        growth,
        ordinary_swing,
        seconds,
        points: points.len(),
    })
}

/// When a life has its start behind it: `width` is over, and requests have been served for a moment. What memory
/// does before, while code loads and pools fill, nobody asked for. `None` when the life is mostly start.
pub(crate) fn warmed_up(calls: &[Call], from: UnixNanos, to: UnixNanos, width: i64) -> Option<UnixNanos> {
    /// The first requests load what is loaded lazily.
    const SERVING: i64 = 3 * SECOND;
    let begun = calls.partition_point(|call| call.start < from);
    let served = calls[begun..].iter().find(|call| !call.failed && call.start < to).map(|call| call.end);
    let warm = served.map_or(from + width, |served| (from + width).max(served + SERVING));
    (warm <= from + to.since(from) / 2).then_some(warm)
}

/// When the final part begins: a fixed time before the kill; or earlier, when memory rose steeply in the second
/// half of the life, never came back, and the program held out for a while before the limit was met.
fn start_of_jump(
    episode: &Episode,
    floor_at: &dyn Fn(UnixNanos) -> f64,
    warm: UnixNanos,
    final_seconds: f64,
) -> UnixNanos {
    /// A step takes this much of the room at once.
    const STEP_SHARE: f64 = 0.4;
    let width = (final_seconds * SECOND as f64) as i64;
    let last = episode.to - width;
    let half = episode.from + episode.to.since(episode.from) / 2;
    let room = (episode.ceiling - floor_at(warm)).max(episode.ceiling * 0.01);
    let rise = |at: UnixNanos| floor_at(at + width).min(episode.ceiling) - floor_at(at);
    let steepest = episode
        .series
        .iter()
        .map(|(at, _)| *at)
        .filter(|at| *at >= half && *at + width <= last)
        .max_by(|a, b| rise(*a).total_cmp(&rise(*b)).then(b.cmp(a)));
    let final_rise = episode.ceiling - floor_at(last);
    match steepest {
        Some(at) if rise(at) >= STEP_SHARE * room && rise(at) > 1.5 * final_rise => at,
        _ => last,
    }
}

/// The most that memory rose for good within `seconds` between `from` and `to`. An allocator that fills the holes that it
/// has grows by steps: the last one, which met the limit, is then a step like others.
fn largest_step(
    points: &Series,
    floor_at: &dyn Fn(UnixNanos) -> f64,
    from: UnixNanos,
    to: UnixNanos,
    seconds: f64,
) -> f64 {
    let width = (seconds * SECOND as f64) as i64;
    let starts = between(points, from, to - width);
    starts.iter().map(|(at, _)| floor_at(*at + width) - floor_at(*at)).fold(0.0, f64::max)
}

fn middle_of(from: UnixNanos, to: UnixNanos) -> UnixNanos {
    from + to.since(from) / 2
}

/// For each point, the lowest value from there to the end: what was never given back.
pub fn floor_from_right(points: &[(UnixNanos, f64)]) -> Vec<f64> {
    let mut floors: Vec<f64> = points.iter().map(|(_, value)| *value).collect();
    for index in (0..floors.len().saturating_sub(1)).rev() {
        floors[index] = floors[index].min(floors[index + 1]);
    }
    floors
}

/// Without callers' spans the victim's own of that moment died with it: the number of requests that left something
/// behind is the least that ran, and so is the SDK's own count.
fn load(kill: &KillScene<'_>, scene: &Scene<'_>, calls: &[Call]) -> Option<Load> {
    let container = kill.container?;
    let known = load_of_known(kill, calls);
    if scene.work.with_callers.contains(&container) {
        return known;
    }
    let least = [known, active_requests(kill)].into_iter().flatten();
    // A low one says nothing.
    let telling = least.filter(|load| load.at_kill as f64 > load.ordinary + 1.0);
    telling.max_by_key(|load| load.at_kill)
}

/// The load by the requests that are known to have been running.
fn load_of_known(kill: &KillScene<'_>, calls: &[Call]) -> Option<Load> {
    let to = kill.out_at();
    let earliest = calls.first()?.start;
    let from = earliest.max(to - 6 * 3600 * SECOND);
    let quiet_until = to - 3 * SECOND.max((to.since(from) as f64 * FINAL_SHARE) as i64);
    let samples = sample_times(from, quiet_until);
    if samples.len() < POINTS_MIN {
        return None;
    }
    let mut counts: Vec<f64> = Vec::with_capacity(samples.len());
    let mut by_operation: std::collections::HashMap<u32, (f64, f64)> = std::collections::HashMap::new();
    for at in &samples {
        let running: Vec<&Call> = running_at(calls, *at);
        counts.push(running.len() as f64);
        let mut seen: Vec<u32> = running.iter().map(|call| call.operation).collect();
        seen.sort_unstable();
        for operation in &seen {
            by_operation.entry(*operation).or_default().0 += 1.0;
        }
        seen.dedup();
        for operation in seen {
            by_operation.entry(operation).or_default().1 += 1.0;
        }
    }
    let ordinary = ordinary_high(counts);
    let at_kill = kill.in_flight.len();
    let total: f64 = by_operation.values().map(|(count, _)| count).sum();
    let (top_operation, top) = most_frequent(&kill.in_flight);
    let share_ordinary =
        |operation: u32| by_operation.get(&operation).map_or(0.0, |(count, _)| count / total.max(1.0));
    // Of one operation, the oldest is the most unusual: a surge of thousands needs no look at each.
    let mut oldest: std::collections::BTreeMap<u32, &Call> = std::collections::BTreeMap::new();
    for call in &kill.in_flight {
        let known = oldest.entry(call.operation).or_insert(call);
        if call.start < known.start {
            *known = call;
        }
    }
    let rarest = oldest.values().map(|call| (unusual(call, calls, to, from), call.operation));
    let rarest = rarest.max_by(|a, b| a.0.total_cmp(&b.0));
    Some(Load {
        at_kill,
        ordinary,
        excess: at_kill as f64 / (at_kill as f64 + ordinary).max(1.0),
        top_share: top as f64 / at_kill.max(1) as f64,
        top_share_ordinary: top_operation.map_or(0.0, share_ordinary),
        top_operation,
        rarest: rarest.map_or(0.0, |(unusual, _)| unusual),
        rarest_operation: rarest.map(|(_, operation)| operation),
    })
}

/// The 95th percentile of counts before the kill, without the run-up to it: what piled up in the end is what is to
/// be told from the ordinary.
fn ordinary_high(mut counts: Vec<f64>) -> f64 {
    let mut sorted = counts.clone();
    sorted.sort_by(f64::total_cmp);
    let high = 2.0 * sorted[sorted.len() / 2] + 1.0;
    let before = counts.iter().rposition(|count| *count <= high).map_or(0, |last| last + 1);
    if before >= counts.len() / 2 {
        counts.truncate(before);
    }
    counts.sort_by(f64::total_cmp);
    counts[counts.len() * 95 / 100]
}

/// The SDK's own count of open requests, where callers are not traced. It is as old as the last export.
fn active_requests(kill: &KillScene<'_>) -> Option<Load> {
    let series = &kill.memory.active_requests;
    let before = between(series, UnixNanos(i64::MIN), kill.at());
    let (last, earlier) = before.split_last()?;
    if earlier.len() < POINTS_MIN || kill.at().seconds_since(last.0) > 5.0 {
        return None;
    }
    let ordinary = ordinary_high(earlier.iter().map(|(_, count)| *count).collect());
    let at_kill = last.1.max(0.0);
    Some(Load {
        at_kill: at_kill as usize,
        ordinary,
        excess: at_kill / (at_kill + ordinary).max(1.0),
        top_share: 0.0,
        top_share_ordinary: 0.0,
        top_operation: None,
        rarest: 0.0,
        rarest_operation: None,
    })
}

/// Up to 400 moments, evenly spread.
fn sample_times(from: UnixNanos, to: UnixNanos) -> Vec<UnixNanos> {
    let width = to.since(from);
    if width <= 0 {
        return Vec::new();
    }
    let count = (width / (SECOND / 4)).clamp(1, 400);
    (0..count).map(|index| from + width / count * index).collect()
}

fn most_frequent(calls: &[Call]) -> (Option<u32>, usize) {
    let mut counts: std::collections::BTreeMap<u32, usize> = std::collections::BTreeMap::new();
    for call in calls {
        *counts.entry(call.operation).or_default() += 1;
    }
    let top = counts.into_iter().max_by_key(|(operation, count)| (*count, std::cmp::Reverse(*operation)));
    top.map_or((None, 0), |(operation, count)| (Some(operation), count))
}

/// 1 − share of earlier time in which a call of this operation, at least as old as this one is at the kill, ran.
fn unusual(call: &Call, calls: &[Call], at: UnixNanos, from: UnixNanos) -> f64 {
    let age = at.since(call.start);
    let mut covered = 0i64;
    let mut until = from;
    for other in calls
        .iter()
        .filter(|other| other.operation == call.operation && other.end < at && other.start < call.start)
    {
        // The time during which `other` was at least this old.
        let begin = (other.start + age).max(until);
        if other.end > begin {
            covered += other.end.since(begin);
            until = other.end;
        }
    }
    1.0 - covered as f64 / at.since(from).max(1) as f64
}

fn files(kill: &KillScene<'_>, room: f64) -> Option<f64> {
    let parts = [("shmem", "shmem"), ("file_dirty", "dirty"), ("file_writeback", "writeback")];
    let told: Vec<f64> = parts.iter().filter_map(|(v2, v1)| kill.stat(v2, v1)).collect();
    if !told.is_empty() {
        return Some((told.iter().sum::<f64>() / room).clamp(0.0, 1.0));
    }
    // Without the kernel's word: shmem as sampled, else what the working set holds beyond anonymous memory.
    let at = kill.at();
    let shmem = kill.memory.at(crate::verdict::MemoryKind::Shmem, at);
    let rest = || {
        let working_set = kill.memory.at(crate::verdict::MemoryKind::WorkingSet, at)?;
        let anon = kill.memory.at(crate::verdict::MemoryKind::Anon, at)?;
        Some((working_set - anon).max(0.0))
    };
    shmem.or_else(rest).map(|bytes| (bytes / room).clamp(0.0, 1.0))
}

/// Memory of processes that are not what serves, as a share of all processes' memory at the kill.
fn others(kill: &KillScene<'_>) -> Option<f64> {
    if kill.role == VictimRole::Twin {
        return None;
    }
    let (_, main) = kill.main.as_ref()?;
    let resident = |task: &crate::kernel::Task| task.rss_anon.unwrap_or(task.rss) as f64;
    let (mut own, mut other) = (0.0, 0.0);
    for task in &kill.record.report?.tasks {
        let helper = kill.role == VictimRole::Child && kill.record.pids.contains(&task.pid);
        if (task.name == *main && !helper) || task.name == "pause" {
            own += resident(task);
        } else {
            other += resident(task);
        }
    }
    (own + other > 0.0).then(|| other / (own + other))
}

fn served(
    kill: &KillScene<'_>,
    scene: &Scene<'_>,
    calls: &[Call],
    started: Option<UnixNanos>,
) -> Option<usize> {
    let container = kill.container?;
    let start = started?;
    // A container that sends no telemetry of a service of its own may serve without showing it.
    let instrumented = scene.cast.containers[container]
        .resources
        .iter()
        .any(|id| scene.observations.resource_attribute(*id, "service.name").is_some());
    if calls.is_empty() && (!instrumented || scene.observations.traces.spans.is_empty()) {
        return None;
    }
    if kill.role == VictimRole::Worker {
        return served_by_worker(kill, calls);
    }
    let at = kill.at();
    Some(calls.iter().filter(|call| !call.failed && call.start >= start && call.end <= at).count())
}

/// Its siblings serve while a worker starts: only one that lived for a while has surely had its share.
fn served_by_worker(kill: &KillScene<'_>, calls: &[Call]) -> Option<usize> {
    const STARTED_SECONDS: f64 = 20.0;
    let episode = kill.episode.as_ref().filter(|episode| episode.seconds() >= STARTED_SECONDS)?;
    let workers = kill.memory.processes.len().saturating_sub(1).max(2);
    let own = |call: &&Call| !call.failed && call.start >= episode.from && call.end <= episode.to;
    Some(calls.iter().filter(own).count() / workers)
}

/// What collections leave tells retained memory from garbage that nobody was in a hurry to collect.
fn heap_growth(kill: &KillScene<'_>, shape: &Shape) -> Option<f64> {
    let episode = kill.episode.as_ref()?;
    let points = between(&kill.memory.heap_floor, episode.from, episode.to);
    if points.len() < POINTS_MIN {
        return None;
    }
    let third = points.len() / 3;
    let lowest =
        |points: &[(UnixNanos, f64)]| points.iter().map(|(_, value)| *value).fold(f64::INFINITY, f64::min);
    // The first third's lowest is before the leak or early in it; the last third's is kept whatever happens.
    let grown = lowest(&points[points.len() - third..]) - lowest(&points[..third]);
    Some((grown / (shape.ceiling - shape.base).max(shape.ceiling * 0.1)).clamp(0.0, 1.0))
}

fn shortfall(kill: &KillScene<'_>, shape: Option<&Shape>) -> Option<f64> {
    let (limit, episode) = (kill.limit()?, kill.episode.as_ref()?);
    if kill.record.kill.limit_hit.is_some() {
        return None;
    }
    let kinds = [crate::verdict::MemoryKind::Usage, crate::verdict::MemoryKind::WorkingSet];
    let last = kinds.iter().find_map(|kind| kill.memory.at(*kind, kill.at()))?;
    // Two intervals of growth may pass unseen, one before the kill and one for its inexact time.
    let unseen = 2.0 * episode.interval + kill.record.kill.at.uncertainty as f64 / SECOND as f64;
    let rate = shape.map_or(0.0, |shape| (shape.floor - shape.base).max(0.0) / shape.seconds);
    let swing = shape.map_or(0.0, |shape| shape.ordinary_swing * shape.ceiling);
    Some(((limit - last - rate * unseen - swing) / limit).clamp(0.0, 1.0))
}

/// A container that the API shows without any limit of its own or of its pod can only have met the node's.
fn unlimited(kill: &KillScene<'_>, scene: &Scene<'_>) -> bool {
    let Some(container) = kill.container else { return false };
    let entry = &scene.cast.containers[container];
    let pod = scene.cast.pods[entry.pod].kubernetes;
    let (Some(spec), Some(pod)) = (entry.spec, pod) else { return false };
    spec.limit_bytes.is_none() && pod.limit_bytes.is_none() && kill.limit().is_none()
}

/// Whether the container had become ready: known only when a version of the pod showed it running.
fn ready(kill: &KillScene<'_>, scene: &Scene<'_>) -> Option<bool> {
    let container = kill.container?;
    let entry = &scene.cast.containers[container];
    let pod = scene.cast.pods[entry.pod].kubernetes?;
    match pod.ready_at {
        Some(ready) => (ready <= kill.at()).then_some(true),
        None => {
            pod.running.iter().any(|running| Some(&running.container) == entry.name.as_ref()).then_some(false)
        }
    }
}
