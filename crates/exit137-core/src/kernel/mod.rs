//! The kernel's own words about an OOM kill, as types. `report` reads them from log lines.
//!
//! Three different names appear in one report: `oom_memcg` is whose limit was hit, `task_memcg` is where the
//! victim lived, and the invoker merely happened to allocate.

pub mod cgroup_path;
pub mod prefix;
mod reader;
pub mod report;
pub mod stamp;
mod words;

use std::collections::BTreeMap;

use crate::time::Moment;

pub use reader::{JournalRecord, KernelLogReader};

/// A time in a kernel log, as the log gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum KernelTime {
    /// Nanoseconds of the kernel's local clock since boot (`/dev/kmsg`, plain `dmesg`).
    SinceBoot(i64),
    /// Wall clock with zone (`--time-format iso`, `journalctl -o short-iso`, `-o json`).
    Wall(Moment),
    /// Wall clock of an unknown zone, read as if it were UTC (`dmesg -T`, `journalctl -o short`, syslog). The
    /// moment's uncertainty covers the resolution only. `has_year` is false for `Nov 22 09:41:39`; the year is
    /// then 1970.
    Local {
        /// As if UTC.
        moment: Moment,
        /// Whether the text named a year.
        has_year: bool,
    },
    /// The line had no time at all.
    Unknown,
}

/// `constraint=` of the summary line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Constraint {
    /// `CONSTRAINT_MEMCG`: a memory cgroup's limit.
    Memcg,
    /// `CONSTRAINT_NONE`: the whole machine.
    None,
    /// `CONSTRAINT_CPUSET`
    Cpuset,
    /// `CONSTRAINT_MEMORY_POLICY`
    MemoryPolicy,
}

/// A process of the task table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Task {
    /// PID in the initial namespace.
    pub pid: u32,
    /// Thread group.
    pub tgid: u32,
    /// User.
    pub uid: u32,
    /// Resident set, bytes.
    pub rss: u64,
    /// Anonymous part, bytes (kernels with the wide table).
    pub rss_anon: Option<u64>,
    /// File part, bytes.
    pub rss_file: Option<u64>,
    /// Shared memory part, bytes.
    pub rss_shmem: Option<u64>,
    /// Page tables, bytes.
    pub pgtables: Option<u64>,
    /// Swap entries, bytes.
    pub swap: Option<u64>,
    /// `oom_score_adj`.
    pub oom_score_adj: i32,
    /// `comm`.
    pub name: String,
}

/// A process that the kernel killed: one `Killed process` line.
#[derive(Debug, Clone, PartialEq)]
pub struct Victim {
    /// When the line was written.
    pub at: KernelTime,
    /// Line in its file, from 1.
    pub line: usize,
    /// PID in the initial namespace (maybe of a thread).
    pub pid: u32,
    /// `comm`.
    pub comm: String,
    /// Bytes.
    pub total_vm: u64,
    /// Bytes.
    pub anon: u64,
    /// Bytes.
    pub file: u64,
    /// Bytes; old kernels do not say.
    pub shmem: Option<u64>,
    /// Bytes.
    pub pgtables: Option<u64>,
    /// User.
    pub uid: Option<u32>,
    /// `oom_score_adj`.
    pub oom_score_adj: Option<i32>,
    /// `Some(true)` for `Memory cgroup out of memory`, `Some(false)` for `Out of memory`.
    pub memcg: Option<bool>,
}

/// Usage and limit of one resource (`memory`, `memory+swap`, `swap`, `kmem`), bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Charge {
    /// Charged now.
    pub usage: u64,
    /// `None` when unlimited.
    pub limit: Option<u64>,
    /// Times the limit was met.
    pub failcnt: u64,
}

/// One OOM event: everything between `invoked oom-killer` and the last `Killed process` of it. Any part may be
/// missing: the kernel prints header, table and summary at most ten times in 5 s for the whole machine.
#[derive(Debug, Clone, PartialEq)]
pub struct OomReport {
    /// When its first line was written.
    pub at: KernelTime,
    /// First line in its file, from 1.
    pub line: usize,
    /// `/dev/kmsg` sequence number of its first line.
    pub sequence: Option<u64>,
    /// `comm` of the process that happened to allocate.
    pub invoker: Option<String>,
    /// `gfp_mask` with names, e.g. `0xcc0(GFP_KERNEL)`.
    pub gfp_mask: Option<String>,
    /// Constraint.
    pub constraint: Option<Constraint>,
    /// cgroup whose limit was hit; `None` for a global OOM or when not printed.
    pub oom_memcg: Option<String>,
    /// cgroup of the victim.
    pub task_memcg: Option<String>,
    /// `pid=` of the summary line.
    pub summary_pid: Option<u32>,
    /// `task=` of the summary line.
    pub summary_task: Option<String>,
    /// The node's memory ran out (`global_oom`, `Mem-Info`, `Out of memory:`).
    pub global: bool,
    /// `memory: usage … limit …` of `oom_memcg`.
    pub memory: Option<Charge>,
    /// `swap:` or `memory+swap:`.
    pub swap: Option<Charge>,
    /// `kmem:`.
    pub kmem: Option<Charge>,
    /// `Memory cgroup stats`, bytes by key as printed (v1: `rss`, `cache`, `total_rss` …; v2: `anon`, `file` …).
    pub stats: BTreeMap<String, u64>,
    /// `Tasks state`.
    pub tasks: Vec<Task>,
    /// `Tasks in P are going to be killed due to memory.oom.group set`.
    pub group_kill: Option<String>,
    /// In the order killed, each PID once.
    pub victims: Vec<Victim>,
}

impl OomReport {
    /// An empty report that begins at `line`.
    pub fn new(at: KernelTime, line: usize, sequence: Option<u64>) -> Self {
        Self {
            at,
            line,
            sequence,
            invoker: None,
            gfp_mask: None,
            constraint: None,
            oom_memcg: None,
            task_memcg: None,
            summary_pid: None,
            summary_task: None,
            global: false,
            memory: None,
            swap: None,
            kmem: None,
            stats: BTreeMap::new(),
            tasks: Vec::new(),
            group_kill: None,
            victims: Vec::new(),
        }
    }
}

/// What one kernel log told.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct KernelLog {
    /// File it came from.
    pub file: String,
    /// Host name, where the lines carry one.
    pub host: Option<String>,
    /// In the order of the file; only reports with at least one victim.
    pub reports: Vec<OomReport>,
    /// Reports whose log shows no kill: nothing could be killed, or the log is cut.
    pub without_kill: u64,
    /// `N callbacks suppressed`: reports that were not printed.
    pub suppressed: u64,
    /// Missing `/dev/kmsg` sequence numbers inside the file.
    pub lost_records: u64,
    /// First and last time in the file, if any line had one.
    pub span: Option<(KernelTime, KernelTime)>,
}
