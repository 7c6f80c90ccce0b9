//! The memory of one life over time, joined from cgroup samples, container metrics and process metrics.
//!
//! Sources measure different things at different times. They are kept apart by kind; [`LifeMemory::hard`] picks
//! the one series that best shows what cannot be reclaimed, which is what an OOM kill is about.

use std::collections::{BTreeMap, HashMap};

use crate::hashing::NumberMap;
use crate::identity::{Cast, ContainerIndex, LifeIndex};
use crate::observation::Observations;
use crate::observation::metric::{Quantity, Subject};
use crate::time::{SECOND, UnixNanos};
use crate::verdict::MemoryKind;

/// A series needs this many points before another, coarser kind is preferred over it.
const POINTS_MIN: usize = 4;

/// Time and bytes, sorted by time, one point a time.
pub type Series = Vec<(UnixNanos, f64)>;

/// One process over time.
#[derive(Debug, Clone, Default)]
pub struct ProcessSeries {
    /// Host PID, or 0 when the process is known by its telemetry alone.
    pub pid: u32,
    /// `comm`.
    pub comm: String,
    /// Resident set.
    pub rss: Series,
}

/// The memory of one life.
#[derive(Debug, Clone, Default)]
pub struct LifeMemory {
    /// By kind.
    pub by_kind: BTreeMap<MemoryKind, Series>,
    /// By process: from cgroup samples, else one an SDK instance.
    pub processes: Vec<ProcessSeries>,
    /// Heap left after collections, where a runtime tells it.
    pub heap_floor: Series,
    /// [`Self::heap_floor`] is worked out from when the next collection begins. What was in use for a moment when the last one
    /// ran is in it.
    pub heap_floor_rough: bool,
    /// Heap in use, garbage included, where a runtime tells it.
    pub heap_used: Series,
    /// Requests being served, where the SDK counts them.
    pub active_requests: Series,
    /// Pools, spaces and routes as they report themselves, before they are added up.
    parts: BTreeMap<(Quantity, u32), Series>,
    /// Limit by metrics.
    pub limit_bytes: Option<u64>,
    /// Whether the container's cgroup was sampled.
    pub sampled: bool,
    /// Whether metrics of the container, not only of its processes, tell of it.
    pub metered: bool,
}

impl LifeMemory {
    /// The series that shows best what could not be reclaimed, and its kind.
    pub fn hard(&self) -> Option<(MemoryKind, &Series)> {
        // Anonymous memory first: page cache is given back before anyone is killed.
        const ORDER: [MemoryKind; 4] =
            [MemoryKind::Anon, MemoryKind::WorkingSet, MemoryKind::ProcessRss, MemoryKind::Usage];
        let present = |least: usize| {
            ORDER.iter().find_map(|kind| {
                self.by_kind.get(kind).filter(|series| series.len() >= least).map(|series| (*kind, series))
            })
        };
        present(POINTS_MIN).or_else(|| present(1))
    }

    /// The last value of `kind` at or before `at`.
    pub fn at(&self, kind: MemoryKind, at: UnixNanos) -> Option<f64> {
        value_at(self.by_kind.get(&kind)?, at)
    }
}

/// The last value at or before `at`.
pub fn value_at(series: &Series, at: UnixNanos) -> Option<f64> {
    let after = series.partition_point(|(time, _)| *time <= at);
    series.get(after.checked_sub(1)?).map(|(_, value)| *value)
}

/// The part of a sorted series within `from..=to`.
pub fn between(series: &[(UnixNanos, f64)], from: UnixNanos, to: UnixNanos) -> &[(UnixNanos, f64)] {
    let start = series.partition_point(|(time, _)| *time < from);
    let end = series.partition_point(|(time, _)| *time <= to);
    &series[start..end.max(start)]
}

/// The median distance of points, in seconds.
pub fn interval_seconds(series: &[(UnixNanos, f64)]) -> Option<f64> {
    let mut gaps: Vec<i64> = series.windows(2).map(|pair| pair[1].0.since(pair[0].0)).collect();
    gaps.sort_unstable();
    gaps.get(gaps.len() / 2).map(|gap| *gap as f64 / SECOND as f64)
}

/// The memory of every life.
#[derive(Debug, Default)]
pub struct Memory {
    lives: HashMap<LifeIndex, LifeMemory>,
    /// Where in [`LifeMemory::processes`] each PID of a life is: a server that forks has thousands of them.
    processes: NumberMap<(LifeIndex, u32), usize>,
    /// Node memory by node name: (available, working set, allocatable).
    pub nodes: BTreeMap<String, NodeMemory>,
}

/// The memory of a node.
#[derive(Debug, Clone, Default)]
pub struct NodeMemory {
    /// Bytes available.
    pub available: Series,
    /// Bytes that pods may use.
    pub allocatable_bytes: Option<f64>,
}

static NOTHING: LifeMemory = LifeMemory::EMPTY;

impl LifeMemory {
    /// Nothing measured.
    pub const EMPTY: Self = Self {
        by_kind: BTreeMap::new(),
        processes: Vec::new(),
        heap_floor: Vec::new(),
        heap_floor_rough: false,
        heap_used: Vec::new(),
        active_requests: Vec::new(),
        parts: BTreeMap::new(),
        limit_bytes: None,
        sampled: false,
        metered: false,
    };
}

impl Memory {
    /// Joins all memory that was observed.
    pub fn of(observations: &Observations, cast: &Cast<'_>) -> Self {
        let mut memory = Self::default();
        memory.add_cgroup_samples(observations, cast);
        memory.add_metrics(observations, cast);
        memory.processes.clear();
        for life in memory.lives.values_mut() {
            life.by_kind.values_mut().for_each(sort);
            life.add_up_parts();
            life.processes.iter_mut().for_each(|process| sort(&mut process.rss));
            life.processes.sort_by_key(|process| (process.pid, process.rss.first().map(|(at, _)| *at)));
        }
        for node in memory.nodes.values_mut() {
            sort(&mut node.available);
        }
        memory
    }

    /// The memory of `life`; empty when nothing measured it.
    pub fn life(&self, life: LifeIndex) -> &LifeMemory {
        self.lives.get(&life).unwrap_or(&NOTHING)
    }

    fn add_cgroup_samples(&mut self, observations: &Observations, cast: &Cast<'_>) {
        let by_names = containers_by_names(cast);
        for sample in &observations.cgroup_samples {
            let life = sample.container_id.as_deref().and_then(|id| cast.life_by_id(id));
            let life = life.or_else(|| {
                let name = sample.container.as_deref().or(sample.cgroup_path.as_deref());
                cast.life_at(*by_names.get(&(sample.pod_uid.as_deref(), name))?, sample.at)
            });
            let Some(life) = life else { continue };
            let memory = self.lives.entry(life).or_default();
            memory.sampled = true;
            let inactive = sample.inactive_file.unwrap_or_default();
            let file = sample.file.map(|file| file.saturating_sub(sample.shmem.unwrap_or_default()));
            let kinds = [
                (MemoryKind::Usage, sample.usage),
                (MemoryKind::WorkingSet, sample.usage.map(|usage| usage.saturating_sub(inactive))),
                (MemoryKind::Anon, sample.anon),
                (MemoryKind::File, file),
                (MemoryKind::Shmem, sample.shmem),
                (MemoryKind::Kernel, sample.kernel),
            ];
            for (kind, value) in kinds {
                if let Some(value) = value {
                    memory.by_kind.entry(kind).or_default().push((sample.at, value as f64));
                }
            }
            for process in &sample.procs {
                let known = self.process(life, process.pid);
                known.rss.push((sample.at, process.rss as f64));
                // `exec` gives a process its name: the latest sample tells it.
                if known.rss.first().is_some_and(|first| first.0 <= sample.at) {
                    known.comm = process.comm.to_string();
                }
            }
        }
    }

    /// The series of a process, made if it is new.
    fn process(&mut self, life: LifeIndex, pid: u32) -> &mut ProcessSeries {
        let processes = &mut self.lives.entry(life).or_default().processes;
        let index = *self.processes.entry((life, pid)).or_insert_with(|| {
            processes.push(ProcessSeries { pid, ..ProcessSeries::default() });
            processes.len() - 1
        });
        &mut processes[index]
    }

    fn add_metrics(&mut self, observations: &Observations, cast: &Cast<'_>) {
        // One value may arrive under two names while a fleet migrates: the lower rank wins, they are never added.
        let mut best: HashMap<(u32, Subject, Quantity), u8> = HashMap::new();
        for series in &observations.metrics.series {
            let key = (series.resource.0, series.metric.subject, series.metric.quantity);
            let rank = best.entry(key).or_insert(series.metric.rank);
            *rank = (*rank).min(series.metric.rank);
        }
        for (number, series) in (0..).zip(&observations.metrics.series) {
            let key = (series.resource.0, series.metric.subject, series.metric.quantity);
            if best.get(&key) != Some(&series.metric.rank) {
                continue;
            }
            if series.metric.subject == Subject::Node {
                self.add_node(observations, series);
                continue;
            }
            let Some(container) = cast.container_of_resource(series.resource) else { continue };
            let id = observations
                .resource_attribute(series.resource, "container.id")
                .and_then(|id| cast.life_by_id(id));
            for point in &series.points {
                // Collectors keep a container.id attribute apart for each run; an SDK's points are placed by time.
                let Some(life) = id.or_else(|| cast.life_at(container, point.at)) else { continue };
                if (series.metric.subject, series.metric.quantity) == (Subject::Process, Quantity::Rss) {
                    // PIDs of SDKs are of the container's namespace: mark them by resource, above any PID.
                    let pid = u32::MAX - series.resource.0;
                    self.process(life, pid).rss.push((point.at, point.value));
                    continue;
                }
                let memory = self.lives.entry(life).or_default();
                memory.metered |= series.metric.subject == Subject::Container;
                memory.add_point(number, series, (point.at, point.value));
            }
        }
        for life in self.lives.values_mut() {
            life.add_process_sum();
        }
    }

    fn add_node(&mut self, observations: &Observations, series: &crate::observation::metric::MetricSeries) {
        let name = observations.resource_attribute(series.resource, "k8s.node.name").unwrap_or("node");
        let node = self.nodes.entry(name.to_owned()).or_default();
        match series.metric.quantity {
            Quantity::Available => {
                node.available.extend(series.points.iter().map(|point| (point.at, point.value)))
            }
            Quantity::Allocatable => {
                node.allocatable_bytes = series.points.iter().map(|point| point.value).next_back()
            }
            _ => {}
        }
    }
}

/// Containers by what a cgroup sample calls them: the pod's UID, and a name or path. The first of a name counts.
fn containers_by_names<'c>(
    cast: &'c Cast<'_>,
) -> HashMap<(Option<&'c str>, Option<&'c str>), ContainerIndex> {
    let mut containers = HashMap::new();
    for (container, entry) in cast.containers.iter().enumerate() {
        let names = (cast.pods[entry.pod].uid.as_deref(), entry.name.as_deref());
        containers.entry(names).or_insert(container);
    }
    containers
}

impl LifeMemory {
    fn add_point(
        &mut self,
        number: u32,
        series: &crate::observation::metric::MetricSeries,
        point: (UnixNanos, f64),
    ) {
        let metric = series.metric;
        let kind = match (metric.subject, metric.quantity) {
            // cgroup samples are finer and of the same files: one source a kind, never a mixture.
            (Subject::Container, _) if self.sampled && metric.quantity != Quantity::Limit => return,
            (Subject::Container, Quantity::Rss) => MemoryKind::Anon,
            (Subject::Container, Quantity::Usage) => MemoryKind::Usage,
            (Subject::Container, Quantity::WorkingSet) => MemoryKind::WorkingSet,
            (Subject::Container, Quantity::Cache) => MemoryKind::File,
            (Subject::Container, Quantity::Limit | Quantity::LimitDesired) => {
                if point.1 > 0.0 && point.1 < 2f64.powi(62) {
                    self.limit_bytes = Some(point.1 as u64);
                }
                return;
            }
            (
                Subject::Runtime,
                Quantity::HeapAfterCollection | Quantity::HeapUsed | Quantity::HeapGoal | Quantity::HeapLimit,
            )
            | (Subject::Process, Quantity::ActiveRequests) => {
                self.parts.entry((metric.quantity, number)).or_default().push(point);
                return;
            }
            _ => return,
        };
        self.by_kind.entry(kind).or_default().push(point);
    }

    /// Pools of one heap, and routes of one server, are told apart by attributes and belong together.
    fn add_up_parts(&mut self) {
        let mut by_quantity: BTreeMap<Quantity, Vec<Series>> = BTreeMap::new();
        for ((quantity, _), mut series) in std::mem::take(&mut self.parts) {
            sort(&mut series);
            by_quantity.entry(quantity).or_default().push(series);
        }
        let (mut goals, mut limits) = (Series::new(), Series::new());
        for (quantity, parts) in by_quantity {
            let sum = match parts.as_slice() {
                [only] => only.clone(),
                many => sum_of(many),
            };
            match quantity {
                Quantity::HeapAfterCollection => self.heap_floor = sum,
                Quantity::HeapUsed => self.heap_used = sum,
                Quantity::HeapGoal => goals = sum,
                Quantity::HeapLimit => limits = sum,
                _ => self.active_requests = sum,
            }
        }
        if self.heap_floor.is_empty() {
            self.heap_floor = Self::live_by_goal(&goals, &limits);
            self.heap_floor_rough = true;
        }
    }

    /// What collections left alive, by the size at which the next one begins: twice as much, unless the program's own limit
    /// leaves less room than that. Then it tells nothing of what lives.
    fn live_by_goal(goals: &Series, limits: &Series) -> Series {
        /// Share of its limit from which on a goal may be bounded by it.
        const BOUND_SHARE: f64 = 0.7;
        let bound = limits.iter().map(|(_, limit)| limit * BOUND_SHARE).fold(f64::INFINITY, f64::min);
        if goals.iter().any(|(_, goal)| *goal >= bound) {
            return Series::new();
        }
        goals.iter().map(|(at, goal)| (*at, goal / 2.0)).collect()
    }

    /// Sums the processes that report themselves: each counts from its first to its last report, with the last
    /// value it gave.
    fn add_process_sum(&mut self) {
        let mut own: Vec<Series> = self
            .processes
            .iter()
            .filter(|process| process.comm.is_empty())
            .map(|process| process.rss.clone())
            .collect();
        own.iter_mut().for_each(sort);
        let sum = match own.as_slice() {
            [] => return,
            [only] => only.clone(),
            many => sum_of(many),
        };
        self.by_kind.insert(MemoryKind::ProcessRss, sum);
    }
}

/// The sum of processes that report at different moments: at the moments of the one that reports longest, each
/// other one counts with its nearest value, if it reports within one interval of that moment.
fn sum_of(processes: &[Series]) -> Series {
    let Some(longest) =
        processes.iter().max_by_key(|series| (series.len(), series.first().map(|(at, _)| *at)))
    else {
        return Vec::new();
    };
    let interval = (interval_seconds(longest).unwrap_or(1.0) * SECOND as f64) as i64;
    let last = processes.iter().filter_map(|series| series.last()).map(|(at, _)| *at).max();
    let mut moments: Vec<UnixNanos> = longest.iter().map(|(at, _)| *at).collect();
    // Others may outlive it: a master whose workers come and go reports to the end.
    while let (Some(&at), Some(last)) = (moments.last(), last) {
        if interval <= 0 || at + interval > last || moments.len() > 100_000 {
            break;
        }
        moments.push(at + interval);
    }
    let near = |series: &Series, at: UnixNanos| {
        let after = series.partition_point(|(time, _)| *time <= at);
        let candidates = [series.get(after.wrapping_sub(1)), series.get(after)];
        let nearest =
            candidates.into_iter().flatten().min_by_key(|(time, _)| time.since(at).saturating_abs())?;
        (nearest.0.since(at).saturating_abs() <= interval).then_some(nearest.1)
    };
    moments.into_iter().map(|at| (at, processes.iter().filter_map(|series| near(series, at)).sum())).collect()
}

fn sort(series: &mut Series) {
    series.retain(|(_, value)| value.is_finite());
    series.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
    series.dedup_by_key(|(at, _)| *at);
}
