//! Who was killed, by whatever names are known, and whose records bear on it.
//!
//! A kill may be known by no more than a container ID; the catalogue of what was recorded leads from there to the pod,
//! its workload, the workload's other pods, and the names by which callers speak of it. Too much is no harm: the core
//! joins names itself and is not led astray by what belongs to others. Too little would be.

use std::collections::BTreeSet;

use exit137_core::time::UnixNanos;
use exit137_core::verdict::{ContainerRef, IncidentVerdict};
use exit137_store::{Container, ContainerFilter, ContainerId, DatabaseError, Store};

/// What an owner is called in a resource, by its kind.
pub(super) const WORKLOAD_KEYS: &[&str] = &[
    "k8s.deployment.name",
    "k8s.statefulset.name",
    "k8s.daemonset.name",
    "k8s.cronjob.name",
    "k8s.job.name",
    WORKLOAD,
];

/// The owner of a pod as Kubernetes names it, in what we file ourselves.
pub(super) const WORKLOAD: &str = "exit137.workload.name";

/// Containers that bear on one kill: hundreds of replicas, each restarted often.
const OWN_MAX: u32 = 4000;

/// From one name to the next; pod, workload, other pods are three.
const ROUNDS: usize = 4;

/// Where fewer containers than this are known at all, all of them may be meant.
const FEW: usize = 24;

/// Shorter names occur everywhere by chance.
const NEEDLE_BYTES_MIN: usize = 3;

/// Names that all spans of a cluster hold say nothing.
const NEEDLES_MAX: usize = 64;

/// Who was killed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Subject {
    pub(super) namespace: Option<String>,
    pub(super) workload: Option<String>,
    pub(super) pod: Option<String>,
    pub(super) pod_uid: Option<String>,
    pub(super) container: Option<String>,
    pub(super) container_id: Option<String>,
}

impl From<&ContainerRef> for Subject {
    fn from(container: &ContainerRef) -> Self {
        Self {
            namespace: container.namespace.clone(),
            workload: container.workload.as_ref().map(|workload| workload.name.clone()),
            pod: container.pod.clone(),
            pod_uid: container.pod_uid.clone(),
            container: container.name.clone(),
            container_id: container.container_id.clone(),
        }
    }
}

/// Whose records bear on it.
#[derive(Debug, Default)]
pub(super) struct Scope {
    /// Of the pods that were killed.
    pub(super) killed: Vec<ContainerId>,
    /// Of the workload's other pods, its owners and its nodes.
    pub(super) others: Vec<ContainerId>,
    namespace: Option<String>,
    workloads: BTreeSet<String>,
    services: BTreeSet<String>,
    pods: BTreeSet<String>,
    pod_uids: BTreeSet<String>,
    container_ids: BTreeSet<String>,
    containers: BTreeSet<String>,
    nodes: BTreeSet<String>,
}

impl Scope {
    /// Follows the names of `subject` through what was recorded since `from`.
    pub(super) fn resolve(store: &Store, subject: &Subject, from: UnixNanos) -> Result<Self, DatabaseError> {
        let mut scope = Self { namespace: subject.namespace.clone(), ..Self::default() };
        scope.workloads.extend(subject.workload.clone());
        scope.pods.extend(subject.pod.clone());
        scope.pod_uids.extend(subject.pod_uid.clone());
        scope.container_ids.extend(subject.container_id.clone());
        scope.containers.extend(subject.container.clone());
        let mut found: Vec<Container> = Vec::new();
        for _ in 0..ROUNDS {
            let filter = ContainerFilter {
                attributes: scope.asked(),
                from,
                count: OWN_MAX,
                ..ContainerFilter::default()
            };
            if filter.attributes.is_empty() {
                break;
            }
            let mut matching = store.containers(&filter)?;
            matching.retain(|container| scope.may_be(container));
            let grown = matching.len() > found.len();
            matching.iter().for_each(|container| scope.learn(container));
            found = matching;
            if !grown {
                break;
            }
        }
        if found.is_empty() {
            let all = ContainerFilter { from, count: FEW as u32 + 1, ..ContainerFilter::default() };
            found = Some(store.containers(&all)?).filter(|all| all.len() <= FEW).unwrap_or_default();
        }
        scope.divide(&found, subject);
        Ok(scope)
    }

    /// Attributes of which any makes a container ours.
    fn asked(&self) -> Vec<(String, String)> {
        let mut pairs = Vec::new();
        let mut add = |key: &str, values: &BTreeSet<String>| {
            pairs.extend(values.iter().map(|value| (key.to_owned(), value.clone())));
        };
        add("container.id", &self.container_ids);
        add("k8s.pod.uid", &self.pod_uids);
        add("k8s.pod.name", &self.pods);
        add("host.name", &self.pods);
        WORKLOAD_KEYS.iter().for_each(|key| add(key, &self.workloads));
        add("service.name", &self.workloads);
        // A container that is called like many others (`app`) is joined by its name only where nothing else is known.
        if self.workloads.is_empty() {
            add("service.name", &self.containers);
        }
        add("k8s.node.name", &self.nodes);
        pairs
    }

    fn may_be(&self, container: &Container) -> bool {
        let theirs = container.identity.attribute("k8s.namespace.name");
        self.namespace.as_deref().zip(theirs).is_none_or(|(ours, theirs)| ours == theirs)
            // A node's own object and nothing else that happens to run there.
            && (container.identity.attribute("k8s.node.name").is_none()
                || container.identity.attributes().count() == 1
                || self.is_linked(container))
    }

    /// Whether a name of its own, not the node's, makes it ours.
    fn is_linked(&self, container: &Container) -> bool {
        let has = |key: &str, names: &BTreeSet<String>| {
            container.identity.attribute(key).is_some_and(|value| names.contains(value))
        };
        has("container.id", &self.container_ids)
            || has("k8s.pod.uid", &self.pod_uids)
            || has("k8s.pod.name", &self.pods)
            || has("host.name", &self.pods)
            || WORKLOAD_KEYS.iter().any(|key| has(key, &self.workloads))
            || has("service.name", &self.workloads)
            || has("service.name", &self.containers)
    }

    fn learn(&mut self, container: &Container) {
        if !self.is_linked(container) {
            return;
        }
        let get = |key: &str| container.identity.attribute(key).map(str::to_owned);
        if self.namespace.is_none() {
            self.namespace = get("k8s.namespace.name");
        }
        self.pods.extend(get("k8s.pod.name"));
        self.pod_uids.extend(get("k8s.pod.uid"));
        self.container_ids.extend(get("container.id"));
        self.services.extend(get("service.name"));
        self.nodes.extend(get("k8s.node.name"));
        self.workloads.extend(WORKLOAD_KEYS.iter().find_map(|key| get(key)));
    }

    fn divide(&mut self, found: &[Container], subject: &Subject) {
        let is = |container: &Container, key: &str, value: &Option<String>| {
            value.is_some() && container.identity.attribute(key) == value.as_deref()
        };
        let (killed, others): (Vec<&Container>, Vec<&Container>) = found.iter().partition(|container| {
            is(container, "k8s.pod.uid", &subject.pod_uid)
                || is(container, "container.id", &subject.container_id)
                || is(container, "k8s.pod.name", &subject.pod)
                || is(container, "host.name", &subject.pod)
        });
        let ids = |containers: Vec<&Container>| containers.iter().map(|one| one.identity.id()).collect();
        (self.killed, self.others) = (ids(killed), ids(others));
    }

    /// What kills of one workload's container have in common.
    pub(super) fn key(&self, subject: &Subject) -> String {
        let namespace = self.namespace.as_deref().unwrap_or_default();
        let name = self.workloads.first().or(subject.pod_uid.as_ref()).or(subject.pod.as_ref());
        let name = name.or(subject.container_id.as_ref()).map_or("", String::as_str);
        format!("{namespace}/{name}")
    }

    /// Names by which callers and the kernel speak of it.
    pub(super) fn needles(&self) -> Vec<&[u8]> {
        let names = [&self.services, &self.workloads, &self.pods, &self.pod_uids, &self.container_ids];
        let names = names.into_iter().flatten().map(String::as_bytes);
        names.filter(|name| name.len() >= NEEDLE_BYTES_MIN).take(NEEDLES_MAX).collect()
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<ContainerId> {
        self.killed.iter().chain(&self.others).copied().collect()
    }

    /// Whether an incident is about this workload.
    pub(super) fn is_about(&self, incident: &IncidentVerdict) -> bool {
        let container = &incident.container;
        let has = |names: &BTreeSet<String>, name: Option<&String>| name.is_some_and(|n| names.contains(n));
        let same_place = self
            .namespace
            .as_deref()
            .zip(container.namespace.as_deref())
            .is_none_or(|(ours, theirs)| ours == theirs);
        let ids = incident.kills.iter().filter_map(|kill| kill.container_id.as_ref());
        same_place
            && (has(&self.pod_uids, container.pod_uid.as_ref())
                || has(&self.pods, container.pod.as_ref())
                || has(&self.workloads, container.workload.as_ref().map(|workload| &workload.name))
                || has(&self.container_ids, container.container_id.as_ref())
                || ids.into_iter().any(|id| self.container_ids.contains(id)))
    }
}
