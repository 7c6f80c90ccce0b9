//! Which kinds are watched, where the API server serves them, and what is lost without one.

/// A kind of object that is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Pods: who was killed, when, with which limit.
    Pod,
    /// Events: why the kubelet ended a container, which rollout came when.
    Event,
    /// Nodes: how much memory there is, and when it was short.
    Node,
    /// Owners of pods.
    ReplicaSet,
    /// Owners of ReplicaSets.
    Deployment,
    /// Owners of pods.
    StatefulSet,
    /// Owners of pods.
    DaemonSet,
    /// Owners of pods.
    Job,
    /// Owners of Jobs.
    CronJob,
}

impl Kind {
    /// All of them, the most needed first.
    pub const ALL: [Self; 9] = [
        Self::Pod,
        Self::Event,
        Self::Node,
        Self::ReplicaSet,
        Self::Deployment,
        Self::StatefulSet,
        Self::DaemonSet,
        Self::Job,
        Self::CronJob,
    ];

    /// `kind` in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pod => "Pod",
            Self::Event => "Event",
            Self::Node => "Node",
            Self::ReplicaSet => "ReplicaSet",
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
            Self::Job => "Job",
            Self::CronJob => "CronJob",
        }
    }

    /// As paths and RBAC rules name it: `pods`.
    pub fn resource(self) -> &'static str {
        match self {
            Self::Pod => "pods",
            Self::Event => "events",
            Self::Node => "nodes",
            Self::ReplicaSet => "replicasets",
            Self::Deployment => "deployments",
            Self::StatefulSet => "statefulsets",
            Self::DaemonSet => "daemonsets",
            Self::Job => "jobs",
            Self::CronJob => "cronjobs",
        }
    }

    /// API group; empty for the core.
    pub fn group(self) -> &'static str {
        match self {
            Self::Pod | Self::Event | Self::Node => "",
            Self::ReplicaSet | Self::Deployment | Self::StatefulSet | Self::DaemonSet => "apps",
            Self::Job | Self::CronJob => "batch",
        }
    }

    /// `apiVersion` in JSON.
    pub fn api_version(self) -> &'static str {
        match self.group() {
            "apps" => "apps/v1",
            "batch" => "batch/v1",
            _ => "v1",
        }
    }

    /// Whether its objects live in namespaces.
    pub fn is_namespaced(self) -> bool {
        self != Self::Node
    }

    /// The path that lists it, in one namespace or in all.
    pub(super) fn path(self, namespace: Option<&str>) -> String {
        let root = if self.group().is_empty() { "/api" } else { "/apis" };
        let (version, resource) = (self.api_version(), self.resource());
        match namespace {
            Some(namespace) => format!("{root}/{version}/namespaces/{namespace}/{resource}"),
            None => format!("{root}/{version}/{resource}"),
        }
    }

    /// What a verdict cannot say when this kind cannot be read.
    pub fn loss(self) -> &'static str {
        match self {
            Self::Pod => "kills are not seen in the Kubernetes API, and limits and owners are not known",
            Self::Event => "a probe's or an eviction's SIGKILL cannot be told from others",
            Self::Node => "whether the node ran out of memory is not known from the API",
            Self::ReplicaSet | Self::Deployment => {
                "rollouts are not known, nor which Deployment a pod belongs to"
            }
            Self::StatefulSet | Self::DaemonSet => "its rollouts and versions are not known",
            Self::Job | Self::CronJob => "which CronJob a pod belongs to is not known",
        }
    }
}
