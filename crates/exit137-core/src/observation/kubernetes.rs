//! What the Kubernetes API says, folded as it arrives: a watch of a day is large, what it teaches is not.
//! Here are the facts; how versions of one object become one is in `merge`.

mod merge;

pub use merge::{EVENT_TIMES_MAX, TERMINATIONS_MAX};

use std::collections::BTreeMap;

use crate::time::UnixNanos;

/// Where in the pod a container stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ContainerRole {
    /// `spec.containers`.
    Main,
    /// `spec.initContainers`, run to completion.
    Init,
    /// `spec.initContainers` with `restartPolicy: Always` (native sidecar).
    Sidecar,
    /// `spec.ephemeralContainers`.
    Ephemeral,
}

/// One container as the pod's spec describes it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ContainerSpec {
    /// Name, unique in the pod.
    pub name: String,
    /// Role.
    pub role: ContainerRole,
    /// Image as written.
    pub image: String,
    /// Memory limit in bytes.
    pub limit_bytes: Option<u64>,
    /// Memory request in bytes.
    pub request_bytes: Option<u64>,
    /// Environment with literal values; only names that set up a runtime's memory or workers
    /// (see [`is_runtime_setting`]).
    pub environment: Vec<(String, String)>,
    /// `command` and `args`, in order.
    pub arguments: Vec<String>,
    /// Whether it has a liveness or startup probe.
    pub has_probe: bool,
}

/// Environment variables that bear on a runtime's memory. Others may hold secrets and are dropped.
pub fn is_runtime_setting(name: &str) -> bool {
    const EXACT: &[&str] = &[
        "JAVA_OPTS",
        "JAVA_TOOL_OPTIONS",
        "JDK_JAVA_OPTIONS",
        "_JAVA_OPTIONS",
        "CATALINA_OPTS",
        "GOMEMLIMIT",
        "GOGC",
        "NODE_OPTIONS",
        "DOTNET_GCHeapHardLimit",
        "COMPlus_GCHeapHardLimit",
        "DOTNET_GCHeapHardLimitPercent",
        "DOTNET_GCServer",
        "DOTNET_gcServer",
        "MALLOC_ARENA_MAX",
        "MALLOC_CONF",
        "WEB_CONCURRENCY",
        "GUNICORN_CMD_ARGS",
        "UVICORN_WORKERS",
        "PUMA_WORKERS",
        "WORKERS",
        "OMP_NUM_THREADS",
        "RUBY_GC_HEAP_GROWTH_FACTOR",
        "PHP_MEMORY_LIMIT",
        "UV_THREADPOOL_SIZE",
    ];
    EXACT.contains(&name)
}

/// The end of one run of a container.
#[derive(Debug, Clone, PartialEq)]
pub struct Termination {
    /// Container name.
    pub container: String,
    /// Role by the list it was found in and the spec.
    pub role: ContainerRole,
    /// 64 hex digits of the container that ended (`terminated.containerID` without its scheme).
    pub container_id: Option<String>,
    /// Exit code; 128 + signal.
    pub exit_code: i32,
    /// `OOMKilled`, `Error`, `Completed`, `StartError`, `ContainerStatusUnknown`, …
    pub reason: Option<String>,
    /// Message.
    pub message: Option<String>,
    /// Whole seconds, floored.
    pub started_at: Option<UnixNanos>,
    /// Whole seconds, floored.
    pub finished_at: Option<UnixNanos>,
    /// `restartCount` of the status in which it was first seen.
    pub restart_count: u32,
}

/// A container instance that was seen running.
#[derive(Debug, Clone, PartialEq)]
pub struct Running {
    /// Container name.
    pub container: String,
    /// 64 hex digits.
    pub container_id: String,
    /// Whole seconds, floored.
    pub started_at: UnixNanos,
    /// `restartCount` while it ran.
    pub restart_count: u32,
    /// `status…resources.limits.memory` in force while it ran, bytes.
    pub limit_bytes: Option<u64>,
    /// `imageID`.
    pub image_id: String,
}

/// An owner reference.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner {
    /// `ReplicaSet`, `Job`, …
    pub kind: String,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
}

/// A pod, with everything that any version of the object showed.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Pod {
    /// UID.
    pub uid: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Node, once scheduled.
    pub node: Option<String>,
    /// Controlling owner.
    pub owner: Option<Owner>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations that bear on identity (`kubernetes.io/config.hash`, `resource.opentelemetry.io/…`).
    pub annotations: BTreeMap<String, String>,
    /// Creation.
    pub created_at: Option<UnixNanos>,
    /// `metadata.deletionTimestamp`: when the grace period is over.
    pub deletion_at: Option<UnixNanos>,
    /// `metadata.deletionGracePeriodSeconds`.
    pub deletion_grace_seconds: Option<i64>,
    /// Seen in a DELETED watch event.
    pub deleted: bool,
    /// Containers of the spec, init and ephemeral ones included.
    pub containers: Vec<ContainerSpec>,
    /// Pod-level memory limit (`spec.resources`), bytes.
    pub limit_bytes: Option<u64>,
    /// Memory-backed volumes: name and `sizeLimit` in bytes.
    pub memory_volumes: Vec<(String, Option<u64>)>,
    /// `spec.hostNetwork`.
    pub host_network: bool,
    /// `spec.hostname`.
    pub hostname: Option<String>,
    /// Latest phase.
    pub phase: Option<String>,
    /// Latest `status.reason` that was set, e.g. `Evicted`.
    pub reason: Option<String>,
    /// `status.message` of the version that `reason` comes from.
    pub message: Option<String>,
    /// `status.conditions` with status True that tell why it ended (`DisruptionTarget`): type, reason, time.
    pub disruptions: Vec<(String, String, Option<UnixNanos>)>,
    /// When it first became Ready.
    pub ready_at: Option<UnixNanos>,
    /// Container ends, each once, oldest first; at most [`TERMINATIONS_MAX`], the latest.
    pub terminations: Vec<Termination>,
    /// Container instances seen running, each once.
    pub running: Vec<Running>,
    /// Highest `restartCount` by container name.
    pub restart_counts: BTreeMap<String, u32>,
    /// Waiting reason by container in the latest version (`CrashLoopBackOff`).
    pub waiting: BTreeMap<String, String>,
    /// Opaque `resourceVersion` of the version that `phase`, `reason` and `waiting` come from, as a number when
    /// it is one: a list read after a watch must not be overwritten by the watch's older versions.
    pub resource_version: u64,
    /// `resourceVersion` that `reason` and `message` come from. Whoever makes a `Pod` leaves it `None`.
    pub reason_version: Option<u64>,
    /// `resourceVersion` that the limit of each of `running` comes from, by container id. Whoever makes a `Pod`
    /// leaves it empty.
    pub limit_versions: BTreeMap<String, u64>,
}

/// An event, from either API group.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Event {
    /// UID of the Event object; repeated deliveries of one event are folded (highest count wins).
    pub uid: String,
    /// `Killing`, `Unhealthy`, `Evicted`, `SystemOOM`, `OOMKilling`, `BackOff`, …
    pub reason: String,
    /// `Normal` or `Warning`.
    pub kind: String,
    /// Message or note.
    pub message: String,
    /// Kind of the object it is about.
    pub object_kind: String,
    /// Namespace of the object.
    pub object_namespace: String,
    /// Name of the object.
    pub object_name: String,
    /// UID of the object.
    pub object_uid: String,
    /// `spec.containers{name}` → `name`.
    pub container: Option<String>,
    /// First time.
    pub first_at: Option<UnixNanos>,
    /// Last time.
    pub last_at: Option<UnixNanos>,
    /// How often.
    pub count: u32,
    /// Times of single occurrences as deliveries showed them (`lastTimestamp` of each version), oldest first; at
    /// most [`EVENT_TIMES_MAX`], the latest.
    pub times: Vec<UnixNanos>,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Node {
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// `status.capacity.memory`, bytes.
    pub capacity_bytes: Option<u64>,
    /// `status.allocatable.memory`, bytes.
    pub allocatable_bytes: Option<u64>,
    /// `status.nodeInfo.bootID`.
    pub boot_id: Option<String>,
    /// Times at which `MemoryPressure` turned True.
    pub memory_pressure_at: Vec<UnixNanos>,
    /// `resourceVersion` as a number; 0 when it is none.
    pub resource_version: u64,
}

/// An owner of pods: ReplicaSet, Deployment, StatefulSet, DaemonSet, Job, CronJob.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Workload {
    /// Kind.
    pub kind: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// Controlling owner.
    pub owner: Option<Owner>,
    /// Creation.
    pub created_at: Option<UnixNanos>,
    /// `deployment.kubernetes.io/revision`.
    pub revision: Option<u64>,
    /// `pod-template-hash` or `controller-revision-hash`.
    pub template_hash: Option<String>,
    /// Image of each container of the template.
    pub images: Vec<(String, String)>,
    /// `app.kubernetes.io/version` of the template.
    pub version: Option<String>,
    /// `resourceVersion` as a number; 0 when it is none.
    pub resource_version: u64,
}

/// Everything the API showed.
#[derive(Debug, Clone, Default)]
pub struct Kubernetes {
    /// By UID.
    pub pods: BTreeMap<String, Pod>,
    /// By UID.
    pub events: BTreeMap<String, Event>,
    /// By name.
    pub nodes: BTreeMap<String, Node>,
    /// By UID.
    pub workloads: BTreeMap<String, Workload>,
    /// Objects that say nothing here, by kind; see [`Kubernetes::skip`].
    pub skipped: BTreeMap<String, u64>,
}
