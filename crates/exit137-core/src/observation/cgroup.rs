//! Samples of a container's cgroup, as a node agent takes them. The file format is described in
//! `docs/formats.md`; v1 and v2 files map onto the same fields (`facts`: `rss` of v1 is `anon` of v2).

use crate::time::UnixNanos;

/// One process of a cgroup at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessSample {
    /// PID in the host's namespace.
    pub pid: u32,
    /// PID of the parent, if sampled.
    pub parent_pid: Option<u32>,
    /// `comm`, at most 15 bytes.
    pub comm: Box<str>,
    /// Resident set, file pages included, bytes.
    pub rss: u64,
    /// Threads.
    pub threads: u32,
}

/// One reading of a cgroup. A value that was not sampled is `None`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CgroupSample {
    /// When it was read, by the node's wall clock.
    pub at: UnixNanos,
    /// Pod UID, with dashes.
    pub pod_uid: Option<String>,
    /// Container name.
    pub container: Option<String>,
    /// 64 hex digits.
    pub container_id: Option<String>,
    /// Path from the hierarchy's root.
    pub cgroup_path: Option<String>,
    /// Limit in bytes; `None` when there is none or it was not read.
    pub limit: Option<u64>,
    /// Everything charged, bytes.
    pub usage: Option<u64>,
    /// Anonymous memory (v1 `rss`, v2 `anon`), bytes.
    pub anon: Option<u64>,
    /// Page cache, `shmem` included (v1 `cache`, v2 `file`), bytes.
    pub file: Option<u64>,
    /// tmpfs and shared memory, bytes.
    pub shmem: Option<u64>,
    /// File pages mapped by processes, bytes.
    pub mapped_file: Option<u64>,
    /// File pages not recently used, bytes.
    pub inactive_file: Option<u64>,
    /// File pages recently used, bytes.
    pub active_file: Option<u64>,
    /// Kernel memory, bytes.
    pub kernel: Option<u64>,
    /// Swapped out, bytes.
    pub swap: Option<u64>,
    /// Times the limit was met (v1 `failcnt`, v2 `events.max`).
    pub failcnt: Option<u64>,
    /// OOM path entered for this cgroup's limit (v2 `events.oom`).
    pub oom: Option<u64>,
    /// Processes of this cgroup killed by the OOM killer, since the cgroup was made.
    pub oom_kill: Option<u64>,
    /// Number of processes.
    pub processes: Option<u64>,
    /// The processes, largest first, maybe not all.
    pub procs: Vec<ProcessSample>,
}
