//! The log records that `exit137 agent` sends: how they are written, and how they become observations again. `docs/agent.md`
//! describes them for other readers.
//!
//! A record's event name says what it is; its body is JSON, a superset of its attributes. So any backend can filter and count
//! by attributes, and nothing of what the kernel said is lost for a verdict.

use std::collections::BTreeMap;

use exit137_core::kernel::{Charge, Constraint, KernelLog, KernelTime, OomReport, Task, Victim};
use exit137_core::observation::cgroup::CgroupSample;
use exit137_core::observation::{Observations, SourceKind};
use exit137_core::time::{Moment, UnixNanos};
use serde::{Deserialize, Serialize};

use crate::node::processes::Process;

/// Event name of a kill: one record a process, or one a group that was killed as a whole.
pub const OOM_KILL: &str = "exit137.oom_kill";

/// Event name of a cgroup sample; its body is a line of the format that `docs/formats.md` describes.
pub const SAMPLE: &str = "exit137.cgroup.sample";

/// Event name of a gap in the kernel's log.
pub const GAP: &str = "exit137.kernel_log.gap";

/// Event name of a kill by a daemon that watches memory in the kernel's place.
pub const USER_SPACE_KILL: &str = "exit137.user_space_kill";

/// Of longer tables the largest tasks are sent.
pub const TASKS_MAX: usize = 64;

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
mod tests {
    use super::*;
    use exit137_core::kernel::KernelLogReader;

    /// A real report, shortened.
    const REPORT: &str = "\
4,1,100,-;python invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=984
6,2,101,-;memory: usage 524288kB, limit 524288kB, failcnt 41
6,3,102,-;Memory cgroup stats for /kubepods/pod6f0dc1b2-3a4e-4c6f-9f1a-2b3c4d5e6f70:
6,4,103,-;anon 533360640
6,5,104,-;[  pid  ]   uid  tgid total_vm      rss rss_anon rss_file rss_shmem pgtables_bytes swapents oom_score_adj name
6,6,105,-;[  12044]  1000 12044   921600   130215   130000      215        0  1376256        0           984 python
6,7,106,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=x,mems_allowed=0,oom_memcg=/kubepods/pod6f0dc1b2-3a4e-4c6f-9f1a-2b3c4d5e6f70,task_memcg=/kubepods/pod6f0dc1b2-3a4e-4c6f-9f1a-2b3c4d5e6f70/aa,task=python,pid=12044,uid=1000
3,8,107,-;Memory cgroup out of memory: Killed process 12044 (python) total-vm:3686400kB, anon-rss:520860kB, file-rss:0kB, shmem-rss:0kB, UID:1000 pgtables:1344kB oom_score_adj:984";

    fn report() -> OomReport {
        let mut reader = KernelLogReader::new("kmsg");
        for (number, line) in REPORT.lines().enumerate() {
            reader.line(line, number + 1);
        }
        reader.finish().remove(0).reports.remove(0)
    }

    #[test]
    fn a_report_survives_the_way_through_a_log_record() {
        let at = UnixNanos(1_795_340_715_000_000_000);
        let body = KillBody { node: Some("n1".into()), uncertainty_nanos: 5, ..KillBody::of(&report()) };
        let text = serde_json::to_vec(&body).expect("JSON");
        let mut observations = Observations::default();
        assert!(observe(OOM_KILL.as_bytes(), at, &text, &mut observations).expect("is read"));
        let [log] = observations.kernel.as_slice() else { panic!("one log") };
        assert_eq!((log.file.as_str(), log.host.as_deref()), ("exit137 agent on n1", Some("n1")));
        let wall = KernelTime::Wall(Moment::new(at, 5));
        let mut expected = report();
        expected.at = wall;
        expected.victims[0].at = wall;
        // Lines are those of the file that it was read from.
        expected.victims[0].line = 0;
        expected.tasks[0].tgid = expected.tasks[0].pid;
        assert_eq!(log.reports, [expected]);
    }

    #[test]
    fn samples_and_gaps_become_observations_and_strangers_do_not() {
        let mut observations = Observations::default();
        let mut see = |event: &str, body: &str| {
            observe(event.as_bytes(), UnixNanos(1), body.as_bytes(), &mut observations)
        };
        assert!(see(SAMPLE, r#"{"time":"2026-11-22T10:00:00Z","usage":1}"#).expect("is read"));
        assert!(see(GAP, r#"{"records":3}"#).expect("is read"));
        assert!(!see("exit137.other", "{}").expect("is left alone"));
        let error = see(GAP, "3").expect_err("is no gap").to_string();
        assert!(error.starts_with("not the body of exit137.kernel_log.gap: "), "{error}");
        assert_eq!(observations.cgroup_samples.len(), 1);
        assert_eq!(observations.kernel[0].lost_records, 3);
    }
}
