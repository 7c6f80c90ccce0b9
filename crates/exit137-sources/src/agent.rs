//! The log records that `exit137 agent` sends: how they are written, and how they become observations again. `docs/agent.md`
//! describes them for other readers. What a journal says of memory is also sent by the process that finds it.
//!
//! A record's event name says what it is; its body is JSON, a superset of its attributes. So any backend can filter and count
//! by attributes, and nothing of what the kernel said is lost for a verdict.

use std::collections::BTreeMap;

use exit137_core::kernel::{Charge, Constraint, KernelLog, KernelTime, OomReport, Task, Victim};
use exit137_core::observation::cgroup::CgroupSample;
use exit137_core::observation::journal::{JournalLife, LiveHeap, OperationTotals};
use exit137_core::observation::{Observations, ResourceId, SourceKind};
use exit137_core::symbol::Symbol;
use exit137_core::time::{Moment, UnixNanos};
use serde::{Deserialize, Serialize};

use crate::journal::Life;
use crate::node::processes::Process;

/// Event name of a kill: one record a process, or one a group that was killed as a whole.
pub const OOM_KILL: &str = "exit137.oom_kill";

/// Event name of a cgroup sample; its body is a line of the format that `docs/formats.md` describes.
pub const SAMPLE: &str = "exit137.cgroup.sample";

/// Event name of a gap in the kernel's log.
pub const GAP: &str = "exit137.kernel_log.gap";

/// Event name of a kill by a daemon that watches memory in the kernel's place.
pub const USER_SPACE_KILL: &str = "exit137.user_space_kill";

/// Event name of what a killed process's journal says of its memory.
pub const JOURNAL: &str = "exit137.journal";

/// Of longer tables the largest tasks are sent.
pub const TASKS_MAX: usize = 64;

/// Rows of a journal's tables that are sent, the largest first.
const ROWS_MAX: usize = 128;

/// Members of a killed group that are sent; the number of all is sent too.
const VICTIMS_MAX: usize = 256;

/// The body of [`OOM_KILL`]. What is not known is left out.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct KillBody {
    /// The same for people.
    pub message: String,
    /// The same kill has the same id, whoever tells it and however often.
    pub id: String,
    /// `k8s.node.name`, or the host's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Half the width of what is known of the record's time.
    pub uncertainty_nanos: i64,
    /// `kernel_log`, `tracepoint`, `counter`.
    pub seen_by: Vec<String>,
    /// How the container was found: `report`, `tracepoint`, `pid`, `counter`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_by: Option<String>,
    /// `/dev/kmsg` sequence number of the report's first line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
    /// Who happened to allocate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub invoker: Option<String>,
    /// With names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gfp_mask: Option<String>,
    /// As the kernel writes it, `CONSTRAINT_MEMCG`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub constraint: Option<String>,
    /// cgroup whose limit was hit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oom_memcg: Option<String>,
    /// cgroup of the victim.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_memcg: Option<String>,
    /// Whom the summary line names; the process that died may be another thread of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary_pid: Option<u32>,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary_task: Option<String>,
    /// The node ran out.
    pub global: bool,
    /// The cgroup that was killed as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Of the cgroup that ran out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<ChargeBody>,
    /// The same for swap, or memory and swap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap: Option<ChargeBody>,
    /// The same for kernel memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kmem: Option<ChargeBody>,
    /// Bytes by key as the kernel prints them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub stats: BTreeMap<String, u64>,
    /// The largest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<TaskBody>,
    /// In the order killed; none when only a counter told.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub victims: Vec<VictimBody>,
}

/// Usage and limit in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ChargeBody {
    usage_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit_bytes: Option<u64>,
    failcnt: u64,
}

/// A row of the kernel's table.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskBody {
    pid: u32,
    uid: u32,
    comm: String,
    rss_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    anon_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shmem_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pgtables_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    swap_bytes: Option<u64>,
    oom_score_adj: i32,
}

/// A `Killed process` line.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct VictimBody {
    pid: u32,
    comm: String,
    total_vm_bytes: u64,
    anon_bytes: u64,
    file_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    shmem_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pgtables_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    oom_score_adj: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memcg: Option<bool>,
}

const CONSTRAINTS: [(&str, Constraint); 4] = [
    ("CONSTRAINT_MEMCG", Constraint::Memcg),
    ("CONSTRAINT_NONE", Constraint::None),
    ("CONSTRAINT_CPUSET", Constraint::Cpuset),
    ("CONSTRAINT_MEMORY_POLICY", Constraint::MemoryPolicy),
];

impl KillBody {
    /// What the kernel's report says; who saw it and what people are told is left to the caller.
    pub fn of(report: &OomReport) -> Self {
        let charge = |charge: Charge| ChargeBody {
            usage_bytes: charge.usage,
            limit_bytes: charge.limit,
            failcnt: charge.failcnt,
        };
        let mut tasks: Vec<&Task> = report.tasks.iter().collect();
        tasks.sort_by(|a, b| (b.rss, a.pid).cmp(&(a.rss, b.pid)));
        Self {
            sequence: report.sequence,
            invoker: report.invoker.clone(),
            gfp_mask: report.gfp_mask.clone(),
            constraint: report.constraint.and_then(|constraint| {
                CONSTRAINTS.iter().find(|(_, known)| *known == constraint).map(|(name, _)| (*name).to_owned())
            }),
            oom_memcg: report.oom_memcg.clone(),
            task_memcg: report.task_memcg.clone(),
            summary_pid: report.summary_pid,
            summary_task: report.summary_task.clone(),
            global: report.global,
            group: report.group_kill.clone(),
            memory: report.memory.map(charge),
            swap: report.swap.map(charge),
            kmem: report.kmem.map(charge),
            stats: report.stats.clone(),
            tasks: tasks.into_iter().take(TASKS_MAX).map(task_body).collect(),
            victims: report.victims.iter().take(VICTIMS_MAX).map(victim_body).collect(),
            ..Self::default()
        }
    }

    /// The kernel's report as it was, with its times on the wall clock.
    fn report(self, at: UnixNanos) -> OomReport {
        let wall = KernelTime::Wall(Moment::new(at, self.uncertainty_nanos.max(0)));
        let charge = |body: ChargeBody| Charge {
            usage: body.usage_bytes,
            limit: body.limit_bytes,
            failcnt: body.failcnt,
        };
        let constraint = self.constraint.as_deref();
        let constraint =
            CONSTRAINTS.iter().find(|(name, _)| constraint == Some(name)).map(|(_, known)| *known);
        OomReport {
            invoker: self.invoker,
            gfp_mask: self.gfp_mask,
            constraint,
            oom_memcg: self.oom_memcg,
            task_memcg: self.task_memcg,
            summary_pid: self.summary_pid,
            summary_task: self.summary_task,
            global: self.global,
            group_kill: self.group,
            memory: self.memory.map(charge),
            swap: self.swap.map(charge),
            kmem: self.kmem.map(charge),
            stats: self.stats,
            tasks: self.tasks.into_iter().map(task).collect(),
            victims: self.victims.into_iter().map(|body| victim(body, wall)).collect(),
            ..OomReport::new(
                wall,
                usize::try_from(self.sequence.unwrap_or_default()).unwrap_or(0),
                self.sequence,
            )
        }
    }
}

fn task_body(task: &Task) -> TaskBody {
    TaskBody {
        pid: task.pid,
        uid: task.uid,
        comm: task.name.clone(),
        rss_bytes: task.rss,
        anon_bytes: task.rss_anon,
        file_bytes: task.rss_file,
        shmem_bytes: task.rss_shmem,
        pgtables_bytes: task.pgtables,
        swap_bytes: task.swap,
        oom_score_adj: task.oom_score_adj,
    }
}

fn task(body: TaskBody) -> Task {
    Task {
        pid: body.pid,
        tgid: body.pid,
        uid: body.uid,
        rss: body.rss_bytes,
        rss_anon: body.anon_bytes,
        rss_file: body.file_bytes,
        rss_shmem: body.shmem_bytes,
        pgtables: body.pgtables_bytes,
        swap: body.swap_bytes,
        oom_score_adj: body.oom_score_adj,
        name: body.comm,
    }
}

fn victim_body(victim: &Victim) -> VictimBody {
    VictimBody {
        pid: victim.pid,
        comm: victim.comm.clone(),
        total_vm_bytes: victim.total_vm,
        anon_bytes: victim.anon,
        file_bytes: victim.file,
        shmem_bytes: victim.shmem,
        pgtables_bytes: victim.pgtables,
        uid: victim.uid,
        oom_score_adj: victim.oom_score_adj,
        memcg: victim.memcg,
    }
}

fn victim(body: VictimBody, at: KernelTime) -> Victim {
    Victim {
        at,
        line: 0,
        pid: body.pid,
        comm: body.comm,
        total_vm: body.total_vm_bytes,
        anon: body.anon_bytes,
        file: body.file_bytes,
        shmem: body.shmem_bytes,
        pgtables: body.pgtables_bytes,
        uid: body.uid,
        oom_score_adj: body.oom_score_adj,
        memcg: body.memcg,
    }
}

/// The body of [`GAP`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct GapBody {
    /// Records that were overwritten before they could be read.
    pub records: u64,
}

/// The body of [`JOURNAL`]. The requests in flight are spans of their own.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct JournalBody {
    /// The same for people.
    pub message: String,
    /// Attributes of the process's OpenTelemetry resource.
    resource: BTreeMap<String, String>,
    pid: u32,
    started_unix_nanos: u64,
    seen_unix_nanos: u64,
    live_bytes: u64,
    heap: Vec<HeapBody>,
    operations: Vec<OperationBody>,
}

/// Live bytes that an operation allocated at one place.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
struct HeapBody {
    operation: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<String>,
    live_bytes: u64,
    allocated_bytes: u64,
}

/// What the finished requests of an operation did together.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
struct OperationBody {
    name: String,
    finished: u64,
    retained_bytes: i64,
    peak_bytes: u64,
}

impl JournalBody {
    /// What `life` says of its memory, as far as it does.
    pub fn of(life: &Life) -> Self {
        let heap = life.holders().into_iter().take(ROWS_MAX).map(|holder| HeapBody {
            operation: holder.operation,
            place: holder.place,
            live_bytes: holder.live_bytes,
            allocated_bytes: holder.allocated_bytes,
        });
        let mut operations: Vec<OperationBody> = life
            .operations
            .iter()
            .map(|row| OperationBody {
                name: row.name.clone(),
                finished: row.finished,
                retained_bytes: row.retained_bytes(),
                peak_bytes: row.peak_bytes,
            })
            .collect();
        operations.sort_by(|a, b| (b.retained_bytes, &a.name).cmp(&(a.retained_bytes, &b.name)));
        operations.truncate(ROWS_MAX);
        Self {
            message: String::new(),
            resource: life.resource.iter().cloned().collect(),
            pid: life.pid,
            started_unix_nanos: life.started_unix_nanos,
            seen_unix_nanos: life.seen_unix_nanos,
            live_bytes: life.live_bytes,
            heap: heap.collect(),
            operations,
        }
    }

    /// The largest row of the live heap: operation, place, bytes.
    pub fn largest(&self) -> Option<(&str, Option<&str>, u64)> {
        let row = self.heap.first()?;
        Some((&row.operation, row.place.as_deref(), row.live_bytes))
    }

    /// Bytes of the whole live heap; 0 when it was not sampled.
    pub fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    /// Adds the life that it tells of. What its process does not say of itself, `resource` does.
    fn add(self, resource: ResourceId, observations: &mut Observations) {
        let symbols = &mut observations.symbols;
        let time = |nanos: u64| UnixNanos(i64::try_from(nanos).unwrap_or(i64::MAX));
        let heap = self.heap.into_iter().map(|row| LiveHeap {
            operation: symbols.intern(&row.operation),
            place: row.place.map(|place| symbols.intern(&place)),
            bytes: row.live_bytes,
            allocated: row.allocated_bytes,
        });
        let heap = heap.collect();
        let operations = self.operations.into_iter().map(|row| OperationTotals {
            operation: symbols.intern(&row.name),
            finished: row.finished,
            retained: row.retained_bytes,
            peak: row.peak_bytes,
        });
        let operations = operations.collect();
        let mut attributes: Vec<(Symbol, Symbol)> =
            self.resource.iter().map(|(key, value)| (symbols.intern(key), symbols.intern(value))).collect();
        let more = observations.resources[resource.0 as usize].attributes.iter();
        let is_new = |(key, _): &&(Symbol, Symbol)| attributes.iter().all(|(known, _)| known != key);
        let more: Vec<_> = more.filter(is_new).copied().collect();
        attributes.extend(more);
        let resource = observations.intern_resource(attributes);
        observations.journals.push(JournalLife {
            file: JOURNAL.to_owned(),
            resource,
            pid: self.pid,
            started: time(self.started_unix_nanos),
            seen: time(self.seen_unix_nanos),
            closed: None,
            live_bytes: self.live_bytes,
            heap,
            operations,
        });
        observations.count(SourceKind::Journal, 1, false);
    }
}

/// The body of [`SAMPLE`]: a line of the format of cgroup samples, with what is known of the processes besides.
pub fn sample_body(sample: &CgroupSample, processes: &[Process]) -> String {
    let mut line = serde_json::Map::new();
    let mut set = |key: &str, value: Option<serde_json::Value>| {
        if let Some(value) = value {
            line.insert(key.to_owned(), value);
        }
    };
    let time = sample.at.to_timestamp().map(|time| format!("{time:.9}").into());
    set("time", time);
    let texts = [
        ("pod_uid", &sample.pod_uid),
        ("container", &sample.container),
        ("container_id", &sample.container_id),
        ("cgroup_path", &sample.cgroup_path),
    ];
    for (key, text) in texts {
        set(key, text.as_deref().map(Into::into));
    }
    let numbers = [
        ("limit", sample.limit),
        ("usage", sample.usage),
        ("anon", sample.anon),
        ("file", sample.file),
        ("shmem", sample.shmem),
        ("mapped_file", sample.mapped_file),
        ("inactive_file", sample.inactive_file),
        ("active_file", sample.active_file),
        ("kernel", sample.kernel),
        ("swap", sample.swap),
        ("failcnt", sample.failcnt),
        ("oom", sample.oom),
        ("oom_kill", sample.oom_kill),
        ("processes", sample.processes),
    ];
    for (key, number) in numbers {
        set(key, number.map(Into::into));
    }
    let process = |process: &Process| {
        serde_json::json!({
            "pid": process.pid,
            "ppid": process.parent_pid,
            "comm": process.comm,
            "command": process.command,
            "rss": process.rss(),
            "anon": process.anon,
            "file": process.file,
            "shmem": process.shmem,
            "swap": process.swap,
            "threads": process.threads,
            "age_seconds": process.age_seconds,
        })
    };
    if !processes.is_empty() {
        set("procs", Some(processes.iter().map(process).collect()));
    }
    serde_json::Value::Object(line).to_string()
}

/// A body that is not what its event name promises.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotARecord {
    #[error("not the body of {event}: {source}")]
    Json { event: &'static str, source: serde_json::Error },
    #[error("not the body of {SAMPLE}: {0}")]
    Sample(#[from] crate::cgroup::NotASample),
}

/// Adds what a record of the agent says. `Ok(false)` when `event_name` is not one of its own.
pub(crate) fn observe(
    event_name: &[u8],
    at: UnixNanos,
    resource: ResourceId,
    body: &[u8],
    observations: &mut Observations,
) -> Result<bool, NotARecord> {
    if event_name == OOM_KILL.as_bytes() {
        let body: KillBody =
            serde_json::from_slice(body).map_err(|source| NotARecord::Json { event: OOM_KILL, source })?;
        if body.victims.is_empty() {
            // What only a counter told comes as samples of that counter, before and after.
            return Ok(true);
        }
        let log = log_of(body.node.as_deref(), observations);
        let report = body.report(at);
        let first = log.span.map_or(report.at, |(first, _)| first.min(report.at));
        let last = log.span.map_or(report.at, |(_, last)| last.max(report.at));
        log.span = Some((first, last));
        log.reports.push(report);
        observations.count(SourceKind::KernelLog, 1, false);
    } else if event_name == SAMPLE.as_bytes() {
        observations.cgroup_samples.push(crate::cgroup::decode(body)?);
        observations.count(SourceKind::Cgroup, 1, false);
    } else if event_name == GAP.as_bytes() {
        let gap: GapBody =
            serde_json::from_slice(body).map_err(|source| NotARecord::Json { event: GAP, source })?;
        let log = log_of(None, observations);
        log.lost_records = log.lost_records.saturating_add(gap.records);
    } else if event_name == JOURNAL.as_bytes() {
        let body: JournalBody =
            serde_json::from_slice(body).map_err(|source| NotARecord::Json { event: JOURNAL, source })?;
        body.add(resource, observations);
    } else {
        return Ok(false);
    }
    Ok(true)
}

/// The kernel log of one node, made when it is new. Its name is what a verdict refers to.
fn log_of<'o>(node: Option<&str>, observations: &'o mut Observations) -> &'o mut KernelLog {
    let file = node.map_or_else(|| "exit137 agent".to_owned(), |node| format!("exit137 agent on {node}"));
    let logs = &mut observations.kernel;
    let at = logs.iter().position(|log| log.file == file).unwrap_or_else(|| {
        logs.push(KernelLog { file, host: node.map(str::to_owned), ..KernelLog::default() });
        logs.len() - 1
    });
    &mut logs[at]
}

#[cfg(test)]
#[path = "agent_tests.rs"]
mod tests;
