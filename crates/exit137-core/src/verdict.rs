//! What exit137 answers: incidents, leaks, ends that were no OOM kill. Plain values, no wire format; the
//! outputs turn them into JSON, text and pages.

use std::collections::BTreeMap;

use crate::observation::SourceCount;
use crate::observation::SourceKind;
use crate::observation::kubernetes::ContainerRole;
use crate::problem::Problem;
use crate::time::{Moment, UnixNanos};

/// Why a kill happened. The list is the contract of the JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// Retained memory grows with work or time.
    Leak,
    /// One or very few executions of one operation need far more than the rest.
    OperationSpike,
    /// Ordinary executions, too many at once.
    ConcurrencySurge,
    /// The steady need sits too near the limit.
    UndersizedLimit,
    /// Killed while starting.
    StartupPeak,
    /// File pages charged to the container.
    TmpfsOrPageCache,
    /// A process other than the main one grew and was killed.
    ChildProcess,
    /// The node ran out.
    NodePressure,
    /// Not enough to tell.
    Unknown,
}

impl Cause {
    /// Every cause, `Unknown` last.
    pub const ALL: [Self; 9] = [
        Self::Leak,
        Self::OperationSpike,
        Self::ConcurrencySurge,
        Self::UndersizedLimit,
        Self::StartupPeak,
        Self::TmpfsOrPageCache,
        Self::ChildProcess,
        Self::NodePressure,
        Self::Unknown,
    ];

    /// Name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Leak => "leak",
            Self::OperationSpike => "operation_spike",
            Self::ConcurrencySurge => "concurrency_surge",
            Self::UndersizedLimit => "undersized_limit",
            Self::StartupPeak => "startup_peak",
            Self::TmpfsOrPageCache => "tmpfs_or_page_cache",
            Self::ChildProcess => "child_process",
            Self::NodePressure => "node_pressure",
            Self::Unknown => "unknown",
        }
    }

    /// A few words for people: "a memory leak".
    pub fn title(self) -> &'static str {
        match self {
            Self::Leak => "a memory leak",
            Self::OperationSpike => "one operation's memory spike",
            Self::ConcurrencySurge => "too many requests at once",
            Self::UndersizedLimit => "a limit too small for the steady need",
            Self::StartupPeak => "memory needed while starting",
            Self::TmpfsOrPageCache => "files held in memory",
            Self::ChildProcess => "a child process",
            Self::NodePressure => "the node running out of memory",
            Self::Unknown => "an unknown cause",
        }
    }
}

/// How sure, as a probability and in words.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Probability(pub f64);

impl Probability {
    /// "very likely" from .9, "likely" from .7, "candidate" below.
    pub fn words(self) -> &'static str {
        match self.0 {
            p if p >= 0.9 => "very likely",
            p if p >= 0.7 => "likely",
            _ => "candidate",
        }
    }
}

/// Low, middle and high of an estimate (an 80 % interval unless said otherwise).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Interval {
    /// 10th percentile.
    pub low: f64,
    /// Median.
    pub mid: f64,
    /// 90th percentile.
    pub high: f64,
}

/// The workload that owns a pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkloadName {
    /// `Deployment`, `StatefulSet`, `Job`, `Pod`, …
    pub kind: String,
    /// Name.
    pub name: String,
}

/// Which container: everything that is known, nothing that is not.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ContainerRef {
    /// Namespace.
    pub namespace: Option<String>,
    /// Owner.
    pub workload: Option<WorkloadName>,
    /// Pod name.
    pub pod: Option<String>,
    /// Pod UID.
    pub pod_uid: Option<String>,
    /// Container name.
    pub name: Option<String>,
    /// Container ID, when nothing better is known.
    pub container_id: Option<String>,
    /// Role in the pod.
    pub role: Option<ContainerRole>,
    /// Image.
    pub image: Option<String>,
    /// Version.
    pub version: Option<String>,
    /// Node.
    pub node: Option<String>,
}

/// Whose memory limit was hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LimitHit {
    /// The container's own.
    Container,
    /// The pod's.
    Pod,
    /// A cgroup above the pod.
    Ancestor,
    /// The machine's memory.
    Node,
}

/// The process that was killed.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct VictimProcess {
    /// Host PID.
    pub pid: Option<u32>,
    /// `comm`.
    pub comm: Option<String>,
    /// Whether it was the container's main process, or a worker of it.
    pub main_process: Option<bool>,
    /// Bytes.
    pub anon_bytes: Option<u64>,
    /// Bytes.
    pub file_bytes: Option<u64>,
    /// Bytes.
    pub shmem_bytes: Option<u64>,
}

/// Who saw a kill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Witness {
    /// The kernel log.
    Kernel,
    /// The API's container status.
    Kubernetes,
    /// A cgroup counter.
    Cgroup,
    /// A metric that counts or dates kills.
    Metrics,
}

/// One OOM kill, told once however many saw it.
#[derive(Debug, Clone, PartialEq)]
pub struct Kill {
    /// When.
    pub at: Moment,
    /// Pod name.
    pub pod: Option<String>,
    /// Container ID.
    pub container_id: Option<String>,
    /// Who saw it.
    pub seen_by: Vec<Witness>,
    /// Whose limit.
    pub limit_hit: Option<LimitHit>,
    /// The limit in bytes.
    pub limit_bytes: Option<u64>,
    /// Who was killed.
    pub victim: VictimProcess,
    /// Whether the container lived on.
    pub container_survived: Option<bool>,
    /// Start of the life that ended (or was hurt).
    pub life_started_at: Option<UnixNanos>,
    /// `file:line` of the raw record, if the kernel told it.
    pub record: Option<String>,
}

/// Three answers, not two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Answer {
    /// The evidence speaks for it.
    Supported,
    /// The evidence speaks against it.
    RuledOut,
    /// The evidence does not say.
    CannotTell,
}

/// What one cause's examination says.
#[derive(Debug, Clone, PartialEq)]
pub struct Opinion {
    /// Which cause.
    pub cause: Cause,
    /// The answer.
    pub answer: Answer,
    /// Posterior probability.
    pub probability: Probability,
    /// One sentence.
    pub summary: String,
    /// What speaks for and against it, in words and numbers, strongest first.
    pub evidence: Vec<String>,
}

/// An operation held guilty, or a group that the data cannot separate.
#[derive(Debug, Clone, PartialEq)]
pub struct OperationClaim {
    /// Span names; more than one is a group.
    pub names: Vec<String>,
    /// `service.name`.
    pub service: Option<String>,
    /// How sure.
    pub probability: Probability,
    /// Attribute values that narrow it down.
    pub attributes: BTreeMap<String, String>,
    /// Bytes that one execution costs (leak: keeps).
    pub bytes_per_execution: Option<Interval>,
    /// Share of the growth explained.
    pub share_of_growth: Option<f64>,
    /// What else is known: the phase inside it, how far its lost requests had come, measurements that mislead.
    pub notes: Vec<String>,
    /// Executions in flight at the (latest) kill.
    pub in_flight_at_kill: u32,
    /// One sentence.
    pub summary: String,
}

/// The version that brought the fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntroducedBy {
    /// First faulty version.
    pub version: String,
    /// Last healthy one.
    pub previous: Option<String>,
}

/// How a request that was in flight at the kill became known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecoveredFrom {
    /// A crash-surviving journal.
    Journal,
    /// The caller's span.
    ClientSpan,
    /// Children whose parent never arrived.
    Orphans,
    /// A log line.
    Log,
}

/// A request that the kill swallowed.
#[derive(Debug, Clone, PartialEq)]
pub struct InFlight {
    /// Best name: the operation if it can be told, else what the caller called.
    pub operation: String,
    /// 16 bytes.
    pub trace_id: Option<u128>,
    /// 8 bytes.
    pub span_id: Option<u64>,
    /// When it began.
    pub started_at: Option<UnixNanos>,
    /// The kill that ended it: index into the incident's kills.
    pub kill: usize,
    /// How it is known.
    pub recovered_from: RecoveredFrom,
    /// Attributes that identify the request (URL, query, peer).
    pub attributes: BTreeMap<String, String>,
}

/// What kind of action is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Change the program.
    FixCode,
    /// A larger limit.
    RaiseLimit,
    /// Bound how many run at once.
    CapConcurrency,
    /// Bound or move files held in memory.
    BoundFiles,
    /// Bound or move the child process.
    IsolateChild,
    /// More memory on the node, or honest requests.
    ResizeNode,
    /// Collect what is missing.
    CollectMore,
}

impl Action {
    /// Name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::FixCode => "fix_code",
            Self::RaiseLimit => "raise_limit",
            Self::CapConcurrency => "cap_concurrency",
            Self::BoundFiles => "bound_files",
            Self::IsolateChild => "isolate_child",
            Self::ResizeNode => "resize_node",
            Self::CollectMore => "collect_more",
        }
    }
}

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub struct Advice {
    /// The one action.
    pub action: Action,
    /// In words, with the numbers.
    pub summary: String,
    /// A limit to set, if a limit is (part of) the answer.
    pub limit_bytes: Option<u64>,
    /// For how long the limit is meant to hold, days.
    pub horizon_days: Option<u32>,
    /// If nothing changes.
    pub next_kill_in_seconds: Option<Interval>,
}

/// Evidence that is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// What.
    pub missing: String,
    /// What that costs the verdict.
    pub effect: String,
    /// How to have it next time.
    pub remedy: String,
}

/// Which memory a line of the chart shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MemoryKind {
    /// Everything charged.
    Usage,
    /// Usage without inactive file pages.
    WorkingSet,
    /// Anonymous memory of the container.
    Anon,
    /// Page cache without shmem.
    File,
    /// tmpfs and shared memory.
    Shmem,
    /// Kernel memory.
    Kernel,
    /// Resident set of the processes, as they report it.
    ProcessRss,
}

impl MemoryKind {
    /// Name in JSON and legends.
    pub fn name(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::WorkingSet => "working_set",
            Self::Anon => "anon",
            Self::File => "file",
            Self::Shmem => "shmem",
            Self::Kernel => "kernel",
            Self::ProcessRss => "process_rss",
        }
    }
}

/// One line of the chart.
#[derive(Debug, Clone, PartialEq)]
pub struct TimelineSeries {
    /// Which memory.
    pub kind: MemoryKind,
    /// Pod, when the incident spans several.
    pub pod: Option<String>,
    /// Time and bytes, sorted, at most a few hundred. A gap between lives is two points apart, never a line:
    /// each inner list is one life.
    pub lives: Vec<Vec<(UnixNanos, f64)>>,
}

/// What a mark on the time axis means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MarkKind {
    /// An OOM kill.
    Kill,
    /// A container start.
    Start,
    /// A new version began.
    Rollout,
    /// Another end of a container.
    OtherEnd,
}

/// A mark on the time axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Mark {
    /// When.
    pub at: UnixNanos,
    /// What.
    pub kind: MarkKind,
    /// For people.
    pub label: String,
}

/// What the chart shows.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Timeline {
    /// First moment shown.
    pub from: UnixNanos,
    /// Last moment shown.
    pub to: UnixNanos,
    /// Limit over time, as steps: from this time on, this many bytes.
    pub limit: Vec<(UnixNanos, u64)>,
    /// Lines.
    pub series: Vec<TimelineSeries>,
    /// Requests in flight (known spans and recovered ones), sampled.
    pub in_flight: Vec<(UnixNanos, f64)>,
    /// Kills, starts, rollouts.
    pub marks: Vec<Mark>,
}

/// A raw fact with its source: `container status`, `OOMKilled, exit code 137 (kubernetes)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// What.
    pub name: String,
    /// Value.
    pub value: String,
    /// Where it was read.
    pub source: String,
}

/// A runtime setting, and what it means against the limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingFinding {
    /// As written: `-Xmx2g`.
    pub setting: String,
    /// Where: `env JAVA_TOOL_OPTIONS`, `process.command_args`.
    pub place: String,
    /// Whether it contradicts the limit.
    pub contradicts: bool,
    /// What follows.
    pub summary: String,
}

/// The verdict on the kills of one workload with one cause.
#[derive(Debug, Clone, PartialEq)]
pub struct IncidentVerdict {
    /// The container of the latest kill.
    pub container: ContainerRef,
    /// In order of time.
    pub kills: Vec<Kill>,
    /// The most probable cause.
    pub cause: Cause,
    /// How sure.
    pub probability: Probability,
    /// One sentence: what was killed and why.
    pub headline: String,
    /// On every cause, most probable first.
    pub opinions: Vec<Opinion>,
    /// Ranked.
    pub operations: Vec<OperationClaim>,
    /// Version that brought it.
    pub introduced_by: Option<IntroducedBy>,
    /// Recovered requests.
    pub in_flight: Vec<InFlight>,
    /// How many more were in flight by Little's law, if it can be said.
    pub in_flight_missing: Option<f64>,
    /// What to do.
    pub advice: Advice,
    /// What was missing.
    pub gaps: Vec<Gap>,
    /// The chart.
    pub timeline: Timeline,
    /// Raw facts.
    pub facts: Vec<Fact>,
    /// Runtime settings against the limit.
    pub settings: Vec<SettingFinding>,
}

/// A container that leaks and was not killed yet.
#[derive(Debug, Clone, PartialEq)]
pub struct LeakVerdict {
    /// Which.
    pub container: ContainerRef,
    /// How sure that it leaks.
    pub probability: Probability,
    /// Growth of the floor, bytes per hour.
    pub slope_bytes_per_hour: Interval,
    /// Until the limit is met; `None` without a limit.
    pub time_to_limit_seconds: Option<Interval>,
    /// Who does it.
    pub operations: Vec<OperationClaim>,
    /// One sentence.
    pub headline: String,
    /// The chart.
    pub timeline: Timeline,
}

/// Why a SIGKILL that was no OOM kill was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NotOomReason {
    /// A liveness or startup probe failed.
    Probe,
    /// The kubelet evicted the pod.
    Eviction,
    /// The pod was deleted and did not end in time.
    GracePeriod,
    /// It never started.
    StartError,
    /// Nothing tells.
    Unknown,
}

impl NotOomReason {
    /// Name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Probe => "probe",
            Self::Eviction => "eviction",
            Self::GracePeriod => "grace_period",
            Self::StartError => "start_error",
            Self::Unknown => "unknown",
        }
    }
}

/// A SIGKILL end that was not an OOM kill.
#[derive(Debug, Clone, PartialEq)]
pub struct NotOom {
    /// Which.
    pub container: ContainerRef,
    /// When; `None` when the API gave no time.
    pub at: Option<Moment>,
    /// Exit code.
    pub exit_code: i32,
    /// Why.
    pub reason: NotOomReason,
    /// One sentence.
    pub summary: String,
}

/// The whole answer.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Verdict {
    /// Worst first: most kills, then latest.
    pub incidents: Vec<IncidentVerdict>,
    /// Leaks without a kill.
    pub leaks: Vec<LeakVerdict>,
    /// Other SIGKILL ends.
    pub not_oom: Vec<NotOom>,
    /// Joins that were guessed, in words.
    pub guesses: Vec<String>,
    /// What was looked in.
    pub looked_in: BTreeMap<SourceKind, SourceCount>,
    /// Kubernetes objects of kinds that are not looked at, by kind.
    pub skipped: BTreeMap<String, u64>,
    /// Input that could not be used.
    pub problems: Vec<Problem>,
}
