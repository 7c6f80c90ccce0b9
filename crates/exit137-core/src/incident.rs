//! An incident: the kills of one workload's container that have one cause, with everything that bears on them.

use crate::identity::{Cast, ContainerIndex, LifeIndex};
use crate::kernel::Task;
use crate::kills::KillRecord;
use crate::memory::{LifeMemory, Memory, Series, between};
use crate::observation::Observations;
use crate::recovered::Recovered;
use crate::stall::{Stall, stall_of};
use crate::time::{SECOND, UnixNanos};
use crate::verdict::{LimitHit, MemoryKind};
use crate::work::{Call, CallSource, Work};

/// What all incidents share.
pub struct Scene<'a> {
    /// What was seen.
    pub observations: &'a Observations,
    /// Who is who.
    pub cast: &'a Cast<'a>,
    /// Memory of every life.
    pub memory: &'a Memory,
    /// Calls of every container.
    pub work: &'a Work,
}

impl Scene<'_> {
    /// Whether a collector decides when the container's program gives memory back. Programs that count references
    /// or free by hand give it back at once.
    pub fn is_collected(&self, container: ContainerIndex) -> bool {
        const COLLECTED: [&str; 8] = ["nodejs", "webjs", "java", "go", "dotnet", "ruby", "erlang", "scala"];
        let of = |resource: &_| self.observations.resource_attribute(*resource, "telemetry.sdk.language");
        let mut languages = self.cast.containers[container].resources.iter().filter_map(of);
        languages.any(|language| COLLECTED.contains(&language))
    }
}

/// The stretch of memory that ended in a kill: from the start of the life, or from the kill before in the same
/// life, to the kill; or to when the program began to hang at its limit.
#[derive(Debug, Clone)]
pub struct Episode {
    /// Begin.
    pub from: UnixNanos,
    /// The kill, or the begin of the stall before it.
    pub to: UnixNanos,
    /// Measured points up to there.
    pub series: Series,
    /// What `series` would have read at the kill.
    pub ceiling: f64,
    /// The limit that was hit.
    pub limit: Option<f64>,
    /// Seconds between points.
    pub interval: f64,
}

impl Episode {
    /// Length in seconds.
    pub fn seconds(&self) -> f64 {
        self.to.seconds_since(self.from).max(0.001)
    }
}

/// Whether the victim was what serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VictimRole {
    /// The container's first process, or the whole container.
    Main,
    /// One of several equal processes that serve under a master.
    Worker,
    /// Something that the program started for a while.
    Child,
    /// A lone second process with the name of the first: a server's only worker, or a helper.
    Twin,
    /// Not known.
    Unclear,
}

/// One kill with what bears on it.
pub struct KillScene<'a> {
    /// The account of it.
    pub record: &'a KillRecord<'a>,
    /// Container; `None` when unknown.
    pub container: Option<ContainerIndex>,
    /// Life.
    pub life: Option<LifeIndex>,
    /// Memory of that life.
    pub memory: &'a LifeMemory,
    /// The stretch that ended here; `None` when nothing measured it.
    pub episode: Option<Episode>,
    /// The time that the program hung at its limit before.
    pub stall: Option<Stall>,
    /// Who was killed.
    pub role: VictimRole,
    /// PID and `comm` of the container's first process.
    pub main: Option<(u32, String)>,
    /// Calls running when the memory was out, recovered ones included.
    pub in_flight: Vec<Call>,
    /// Requests that the kill swallowed.
    pub recovered: Vec<Recovered>,
}

impl KillScene<'_> {
    /// When.
    pub fn at(&self) -> UnixNanos {
        self.record.kill.at.at
    }

    /// When the memory was out: the kill, or the begin of the stall before it.
    pub fn out_at(&self) -> UnixNanos {
        self.stall.map_or(self.at(), |stall| stall.from)
    }

    /// Bytes of the limit that was hit, in `usage` terms.
    pub fn limit(&self) -> Option<f64> {
        let kill = &self.record.kill;
        kill.limit_bytes.or(self.memory.limit_bytes).map(|limit| limit as f64)
    }

    /// A key of the kernel's memory statistics at the kill, under its v2 or v1 name, for the whole subtree.
    pub fn stat(&self, v2: &str, v1: &str) -> Option<f64> {
        let stats = &self.record.report?.stats;
        let total = stats.get(&format!("total_{v1}"));
        total.or_else(|| stats.get(v2)).or_else(|| stats.get(v1)).map(|bytes| *bytes as f64)
    }
}

/// The kills of one workload with one cause.
pub struct Incident<'a> {
    /// What all share.
    pub scene: &'a Scene<'a>,
    /// By time, at least one.
    pub kills: Vec<KillScene<'a>>,
}

impl<'a> Incident<'a> {
    /// The latest kill.
    pub fn latest(&self) -> &KillScene<'a> {
        // Incidents are made from groups of at least one kill.
        &self.kills[self.kills.len() - 1]
    }

    /// The kills' containers, each once.
    pub fn containers(&self) -> Vec<ContainerIndex> {
        let mut containers: Vec<ContainerIndex> =
            self.kills.iter().filter_map(|kill| kill.container).collect();
        containers.sort_unstable();
        containers.dedup();
        containers
    }

    /// Whether any kill has memory measured before it.
    pub fn has_memory(&self) -> bool {
        self.kills.iter().any(|kill| kill.episode.is_some())
    }
}

/// Gathers what bears on one kill. `previous` is the kill before it in the same life.
pub fn scene_of_kill<'a>(
    scene: &Scene<'a>,
    record: &'a KillRecord<'a>,
    previous: Option<UnixNanos>,
    recovered: Vec<Recovered>,
) -> KillScene<'a> {
    let life = record.life;
    let container = life.map(|life| scene.cast.lives[life].container);
    static EMPTY: LifeMemory = LifeMemory::EMPTY;
    let memory = life.map_or(&EMPTY, |life| scene.memory.life(life));
    let tasks = record.report.map_or(&[][..], |report| &report.tasks);
    let alive = record.kill.victim.pid.filter(|_| record.kill.container_survived == Some(true));
    let main = main_process(tasks, memory, alive);
    let role = role_of_victim(record, memory, scene, life, main.as_ref());
    let mut in_flight: Vec<Call> = Vec::new();
    if let Some(container) = container {
        // What began within the uncertainty of the kill may have begun after it, and met a closed door.
        let sure = record.kill.at.at - record.kill.at.uncertainty.min(2 * SECOND);
        let began_before = |call: &&Call| call.start <= sure || call.source != CallSource::Caller;
        in_flight.extend(scene.work.in_flight(container, record.kill.at.at).filter(began_before));
        // The kill's time is not exact: a caller's span that ended just before it by the clocks was running too.
        let known: std::collections::HashSet<u32> = in_flight.iter().map(|call| call.span).collect();
        in_flight.extend(
            recovered.iter().filter_map(|request| request.call).filter(|call| !known.contains(&call.span)),
        );
    }
    let mut kill = KillScene {
        record,
        container,
        life,
        memory,
        episode: None,
        stall: None,
        role,
        main,
        in_flight,
        recovered,
    };
    kill.episode = episode_of(&kill, scene, previous);
    leave_out_stall(&mut kill, scene);
    kill
}

/// Ends the episode where the program began to hang, and forgets the calls that came after.
fn leave_out_stall(kill: &mut KillScene<'_>, scene: &Scene<'_>) {
    let (Some(episode), Some(container)) = (&mut kill.episode, kill.container) else { return };
    let calls = scene.work.calls_of(container);
    let Some(stall) = stall_of(&episode.series, episode.ceiling, calls, episode.from, episode.to) else {
        return;
    };
    episode.to = stall.from;
    episode.series.retain(|(at, _)| *at <= stall.from);
    kill.in_flight.retain(|call| call.start <= stall.from);
    kill.stall = Some(stall);
}

fn episode_of(kill: &KillScene<'_>, scene: &Scene<'_>, previous: Option<UnixNanos>) -> Option<Episode> {
    let to = kill.at();
    let (kind, series) = kill.memory.hard()?;
    let first = series.first().map(|(at, _)| *at)?;
    let mut from = kill.life.and_then(|life| scene.cast.lives[life].started_at).unwrap_or(first);
    if let Some(previous) = previous {
        // The kernel frees a victim's memory within seconds of the kill.
        from = from.max(previous + 2 * SECOND);
    }
    let points: Series = between(series, from, to).to_vec();
    let last = points.last()?.1;
    let ceiling = ceiling_of(kill, kind).unwrap_or(last).max(last);
    let interval = crate::memory::interval_seconds(&points).unwrap_or(to.seconds_since(from));
    Some(Episode { from, to, series: points, ceiling, limit: kill.limit(), interval })
}

/// What a series of this kind would have read at the moment of the kill.
fn ceiling_of(kill: &KillScene<'_>, kind: MemoryKind) -> Option<f64> {
    let victim = &kill.record.kill.victim;
    let resident = victim.anon_bytes.map(|anon| {
        (anon + victim.file_bytes.unwrap_or_default() + victim.shmem_bytes.unwrap_or_default()) as f64
    });
    let own_limit = kill.record.kill.limit_hit != Some(LimitHit::Node)
        && kill.record.kill.limit_hit != Some(LimitHit::Ancestor);
    match kind {
        // The statistics are of the cgroup whose limit was hit: right for the container when it has the pod alone.
        MemoryKind::Anon if own_limit => kill.stat("anon", "rss").or_else(|| kill.limit()),
        // The victim is not all there is of several processes.
        MemoryKind::ProcessRss if kill.role == VictimRole::Main => resident.or_else(|| kill.limit()),
        _ if own_limit => kill.limit(),
        _ => resident,
    }
}

fn role_of_victim(
    record: &KillRecord<'_>,
    memory: &LifeMemory,
    scene: &Scene<'_>,
    life: Option<LifeIndex>,
    main: Option<&(u32, String)>,
) -> VictimRole {
    let kill = &record.kill;
    if record.report.is_some_and(|report| report.group_kill.is_some()) {
        return VictimRole::Main;
    }
    let ended = kill.container_survived == Some(false);
    if ended && kill.victim.main_process != Some(false) {
        return VictimRole::Main;
    }
    let Some(comm) = kill.victim.comm.as_deref() else {
        return if kill.container_survived == Some(true) { VictimRole::Child } else { VictimRole::Unclear };
    };
    let tasks = record.report.map_or(&[][..], |report| &report.tasks);
    let Some(main) = main else {
        return if kill.container_survived == Some(true) { VictimRole::Child } else { VictimRole::Unclear };
    };
    if Some(main.0) == kill.victim.pid {
        return VictimRole::Main;
    }
    if main.1 != comm {
        return VictimRole::Child;
    }
    // Same program as the main process: a worker if it served for long, a helper if it was born for one task.
    let age = kill.victim.pid.and_then(|pid| {
        let process = memory.processes.iter().find(|process| process.pid == pid)?;
        Some(kill.at.at.seconds_since(process.rss.first()?.0))
    });
    let life_age =
        life.and_then(|life| scene.cast.lives[life].started_at).map(|start| kill.at.at.seconds_since(start));
    // Servers that fork workers mostly fork several.
    let siblings = tasks
        .iter()
        .filter(|task| task.name == comm && Some(task.pid) != kill.victim.pid && task.pid != main.0)
        .count();
    match (age, life_age) {
        (Some(age), Some(life)) if age < 0.05 * life && age < 30.0 => VictimRole::Child,
        (None, _) if siblings == 0 => VictimRole::Twin,
        _ => VictimRole::Worker,
    }
}

/// The container's first process: the oldest one sampled, else the lowest PID of the task table that is not the
/// pod's pause process. PIDs start over from time to time, but a process whose death the container survived
/// (`not`) was never its first.
fn main_process(tasks: &[Task], memory: &LifeMemory, not: Option<u32>) -> Option<(u32, String)> {
    let sampled = memory
        .processes
        .iter()
        .filter(|process| !process.comm.is_empty() && Some(process.pid) != not)
        .min_by_key(|process| (process.rss.first().map(|(at, _)| *at), process.pid));
    if let Some(process) = sampled {
        return Some((process.pid, process.comm.clone()));
    }
    let first = tasks
        .iter()
        .filter(|task| task.name != "pause" && task.oom_score_adj > -998 && Some(task.pid) != not)
        .min_by_key(|task| task.tgid)?;
    Some((first.pid, first.name.clone()))
}
