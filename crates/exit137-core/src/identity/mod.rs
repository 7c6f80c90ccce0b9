//! Who is who. A container has many names: pod UID and container name, container ID, cgroup path, `k8s.*`
//! resource attributes, `host.name`, `service.instance.id`, a PID. [`Cast`] joins them transitively, and notes
//! in words each join that it had to guess.
//!
//! `kubernetes` and `telemetry` bring in the names of those two sources, `registry` keeps them.
//!
//! A *life* is one run of a container. Telemetry rarely says which life it comes from, so resources are joined to
//! containers, and time picks the life.

mod kubernetes;
mod registry;
mod telemetry;

use std::collections::{BTreeSet, HashMap};

use crate::hashing::NumberMap;
use crate::kernel::cgroup_path::container_of;
use crate::observation::cgroup::CgroupSample;
use crate::observation::kubernetes::{ContainerRole, ContainerSpec, Pod, Termination};
use crate::observation::{Observations, ResourceId};
use crate::time::{Moment, SECOND, UnixNanos};
use crate::verdict::{ContainerRef, WorkloadName};

/// Index into [`Cast::pods`].
pub type PodIndex = usize;
/// Index into [`Cast::containers`].
pub type ContainerIndex = usize;
/// Index into [`Cast::lives`].
pub type LifeIndex = usize;

/// A pod, or whatever else holds containers when Kubernetes is not there.
#[derive(Debug, Default)]
pub struct PodEntry<'a> {
    /// UID.
    pub uid: Option<String>,
    /// Namespace.
    pub namespace: Option<String>,
    /// Name.
    pub name: Option<String>,
    /// Node.
    pub node: Option<String>,
    /// Owner, as far up as it is known.
    pub workload: Option<WorkloadName>,
    /// What the API said.
    pub kubernetes: Option<&'a Pod>,
    containers: Vec<ContainerIndex>,
}

/// A container of a pod, over all its lives.
#[derive(Debug)]
pub struct ContainerEntry<'a> {
    /// Its pod.
    pub pod: PodIndex,
    /// Name; `None` when only IDs are known.
    pub name: Option<String>,
    /// Role.
    pub role: Option<ContainerRole>,
    /// What the API said.
    pub spec: Option<&'a ContainerSpec>,
    /// `service.version`, label or image tag.
    pub version: Option<String>,
    /// Telemetry of it.
    pub resources: Vec<ResourceId>,
    /// Its lives, by start.
    pub lives: Vec<LifeIndex>,
}

/// One run of a container.
#[derive(Debug, Clone)]
pub struct Life<'a> {
    /// Whose.
    pub container: ContainerIndex,
    /// 64 hex digits.
    pub container_id: Option<String>,
    /// Start; from the API, else the first sign of it.
    pub started_at: Option<UnixNanos>,
    /// Whether `started_at` is only the first sign of the life.
    pub start_is_first_sign: bool,
    /// End as the API or the last sign tells.
    pub ended_at: Option<Moment>,
    /// What the API said of the end.
    pub termination: Option<&'a Termination>,
    /// Limit in force while it ran.
    pub limit_bytes: Option<u64>,
}

/// All names, joined.
#[derive(Debug, Default)]
pub struct Cast<'a> {
    /// Pods.
    pub pods: Vec<PodEntry<'a>>,
    /// Containers.
    pub containers: Vec<ContainerEntry<'a>>,
    /// Lives.
    pub lives: Vec<Life<'a>>,
    /// Joins that were guessed.
    pub guesses: BTreeSet<String>,
    pods_by_uid: HashMap<String, PodIndex>,
    pods_by_name: HashMap<(Option<String>, String), PodIndex>,
    lives_by_id: HashMap<String, LifeIndex>,
    lives_by_pid: HashMap<u32, LifeIndex>,
    containers_by_resource: NumberMap<ResourceId, ContainerIndex>,
}

impl<'a> Cast<'a> {
    /// Joins everything that `observations` names.
    pub fn of(observations: &'a Observations) -> Self {
        let mut cast = Self::default();
        for pod in observations.kubernetes.pods.values() {
            cast.add_kubernetes_pod(pod, observations);
        }
        for sample in &observations.cgroup_samples {
            cast.add_cgroup_sample(sample);
        }
        cast.add_kernel_reports(observations);
        cast.add_resources(observations);
        cast.settle_lives();
        cast
    }

    fn add_cgroup_sample(&mut self, sample: &CgroupSample) {
        let path = sample.cgroup_path.as_deref().map(container_of).unwrap_or_default();
        let uid = sample.pod_uid.clone().or(path.pod_uid);
        let id = sample.container_id.clone().or(path.container_id);
        if uid.is_none() && id.is_none() && sample.container.is_none() && sample.cgroup_path.is_none() {
            return;
        }
        // A cgroup outside Kubernetes is its own pod, named by its path.
        let name =
            sample.container.clone().or_else(|| id.is_none().then(|| sample.cgroup_path.clone()).flatten());
        let life = self.life_of(uid.as_deref(), id.as_deref(), name.as_deref());
        self.sign_of_life(life, sample.at);
        for process in &sample.procs {
            self.lives_by_pid.insert(process.pid, life);
        }
        let life = &mut self.lives[life];
        life.limit_bytes = life.limit_bytes.or(sample.limit);
    }

    fn add_kernel_reports(&mut self, observations: &Observations) {
        for report in observations.kernel.iter().flat_map(|log| &log.reports) {
            let Some(life) = report.task_memcg.as_deref().and_then(|path| self.container_at_path(path))
            else {
                continue;
            };
            for victim in &report.victims {
                self.lives_by_pid.entry(victim.pid).or_insert(life);
            }
        }
    }

    /// The life that last held host PID `pid`, by cgroup samples or kernel reports.
    pub fn life_with_pid(&self, pid: u32) -> Option<LifeIndex> {
        self.lives_by_pid.get(&pid).copied()
    }

    /// The life that a cgroup path belongs to, made if it is new; `None` when the path names no container.
    pub fn container_at_path(&mut self, path: &str) -> Option<LifeIndex> {
        let identity = container_of(path);
        if identity.pod_uid.is_none() && identity.container_id.is_none() {
            return None;
        }
        Some(self.life_of(identity.pod_uid.as_deref(), identity.container_id.as_deref(), None))
    }

    /// The life with this container ID.
    pub fn life_by_id(&self, id: &str) -> Option<LifeIndex> {
        self.lives_by_id.get(id).copied()
    }

    fn sign_of_life(&mut self, life: LifeIndex, at: UnixNanos) {
        let life = &mut self.lives[life];
        if life.started_at.is_none() || (life.start_is_first_sign && life.started_at > Some(at)) {
            life.started_at = Some(at);
            life.start_is_first_sign = true;
        }
        if life.termination.is_none() {
            let later = life.ended_at.is_none_or(|end| end.at < at);
            if later {
                life.ended_at = Some(Moment::new(at, 0));
            }
        }
    }

    /// Puts each container's lives in order of time.
    fn settle_lives(&mut self) {
        for container in 0..self.containers.len() {
            let mut lives = std::mem::take(&mut self.containers[container].lives);
            let key = |life: &LifeIndex| {
                let life = &self.lives[*life];
                (life.started_at.or(life.ended_at.map(|end| end.at)), life.container_id.clone())
            };
            lives.sort_by_cached_key(key);
            self.containers[container].lives = lives;
        }
    }

    /// The container that a resource's telemetry comes from.
    pub fn container_of_resource(&self, resource: ResourceId) -> Option<ContainerIndex> {
        self.containers_by_resource.get(&resource).copied()
    }

    /// The life of `container` at `at`: the last one that had begun.
    pub fn life_at(&self, container: ContainerIndex, at: UnixNanos) -> Option<LifeIndex> {
        let lives = &self.containers[container].lives;
        let begun = |life: &&LifeIndex| {
            // Starts from the API are floored to the second, so allow one.
            self.lives[**life].started_at.is_none_or(|start| start <= at + SECOND)
        };
        lives.iter().rev().find(begun).or(lives.first()).copied()
    }

    /// Everything known about `container`, for people.
    pub fn describe(&self, container: ContainerIndex) -> ContainerRef {
        let entry = &self.containers[container];
        let pod = &self.pods[entry.pod];
        ContainerRef {
            namespace: pod.namespace.clone(),
            workload: pod.workload.clone(),
            pod: pod.name.clone(),
            pod_uid: pod.uid.clone(),
            name: entry.name.clone(),
            container_id: entry.lives.last().and_then(|&life| self.lives[life].container_id.clone()),
            role: entry.role,
            image: entry.spec.map(|spec| spec.image.clone()),
            version: entry.version.clone(),
            node: pod.node.clone(),
        }
    }

    /// Name of the workload and container for grouping: replicas of one workload share it.
    pub fn family(&self, container: ContainerIndex) -> (Option<String>, String, Option<String>) {
        let entry = &self.containers[container];
        let pod = &self.pods[entry.pod];
        let owner = match (&pod.workload, &pod.name, &pod.uid) {
            (Some(workload), ..) => format!("{}/{}", workload.kind, workload.name),
            (None, Some(name), _) => format!("Pod/{name}"),
            (None, None, Some(uid)) => format!("uid/{uid}"),
            _ => format!("unnamed/{container}"),
        };
        (pod.namespace.clone(), owner, entry.name.clone())
    }
}
