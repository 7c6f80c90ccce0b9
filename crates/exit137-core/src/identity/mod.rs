//! Who is who. A container has many names: pod UID and container name, container ID, cgroup path, `k8s.*`
//! resource attributes, `host.name`, `service.instance.id`, a PID. [`Cast`] joins them transitively, and notes
//! in words each join that it had to guess.
//!
//! A *life* is one run of a container. Telemetry rarely says which life it comes from, so resources are joined to
//! containers, and time picks the life.

use std::collections::{BTreeSet, HashMap};

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
    containers_by_resource: HashMap<ResourceId, ContainerIndex>,
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

    fn add_kubernetes_pod(&mut self, pod: &'a Pod, observations: &Observations) {
        let index = self.pods.len();
        self.pods.push(PodEntry {
            uid: Some(pod.uid.clone()),
            namespace: Some(pod.namespace.clone()),
            name: Some(pod.name.clone()),
            node: pod.node.clone(),
            workload: Some(workload_of(pod, observations)),
            kubernetes: Some(pod),
        });
        self.pods_by_uid.insert(pod.uid.clone(), index);
        // Static pods: the cgroup carries the configuration's hash, not the mirror pod's UID.
        if let Some(hash) = pod.annotations.get("kubernetes.io/config.hash") {
            self.pods_by_uid.insert(hash.clone(), index);
        }
        self.pods_by_name.insert((Some(pod.namespace.clone()), pod.name.clone()), index);
        for spec in &pod.containers {
            let container = self.add_container(index, Some(spec.name.clone()));
            let entry = &mut self.containers[container];
            entry.role = Some(spec.role);
            entry.spec = Some(spec);
            entry.version =
                pod.labels.get("app.kubernetes.io/version").cloned().or_else(|| image_tag(&spec.image));
        }
        for running in &pod.running {
            let container = self.container_named(index, &running.container);
            let life = self.life_with_id(container, &running.container_id);
            let life = &mut self.lives[life];
            life.started_at = Some(running.started_at);
            life.limit_bytes = running.limit_bytes;
        }
        for termination in &pod.terminations {
            let container = self.container_named(index, &termination.container);
            self.containers[container].role.get_or_insert(termination.role);
            let life = match &termination.container_id {
                Some(id) => self.life_with_id(container, id),
                None => self.new_life(container, None),
            };
            let life = &mut self.lives[life];
            life.started_at = life.started_at.or(termination.started_at);
            life.ended_at = termination.finished_at.map(Moment::floored_to_second);
            life.termination = Some(termination);
        }
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

    /// The life of a container known by these names.
    fn life_of(&mut self, uid: Option<&str>, id: Option<&str>, name: Option<&str>) -> LifeIndex {
        if let Some(&life) = id.and_then(|id| self.lives_by_id.get(id)) {
            if let (Some(name), None) = (name, &self.containers[self.lives[life].container].name) {
                self.containers[self.lives[life].container].name = Some(name.to_owned());
            }
            return life;
        }
        let pod = match uid {
            Some(uid) => self.pod_with_uid(uid),
            None => self.add_pod(PodEntry::default()),
        };
        let container = match name {
            Some(name) => self.container_named(pod, name),
            None => self.container_without_name(pod, id),
        };
        match id {
            Some(id) => self.life_with_id(container, id),
            None => self.containers[container]
                .lives
                .last()
                .copied()
                .unwrap_or_else(|| self.new_life(container, None)),
        }
    }

    fn add_pod(&mut self, pod: PodEntry<'a>) -> PodIndex {
        self.pods.push(pod);
        self.pods.len() - 1
    }

    fn pod_with_uid(&mut self, uid: &str) -> PodIndex {
        if let Some(&pod) = self.pods_by_uid.get(uid) {
            return pod;
        }
        let pod = self.add_pod(PodEntry { uid: Some(uid.to_owned()), ..PodEntry::default() });
        self.pods_by_uid.insert(uid.to_owned(), pod);
        pod
    }

    fn pod_with_name(&mut self, namespace: Option<&str>, name: &str) -> PodIndex {
        let key = (namespace.map(str::to_owned), name.to_owned());
        if let Some(&pod) = self.pods_by_name.get(&key) {
            return pod;
        }
        // A sender that leaves the namespace out still means the one pod of that name.
        let same_name: Vec<PodIndex> =
            (0..self.pods.len()).filter(|&pod| self.pods[pod].name.as_deref() == Some(name)).collect();
        if let ([only], true) = (same_name.as_slice(), namespace.is_none()) {
            return *only;
        }
        let entry = PodEntry { namespace: key.0.clone(), name: Some(name.to_owned()), ..PodEntry::default() };
        let pod = self.add_pod(entry);
        self.pods_by_name.insert(key, pod);
        pod
    }

    fn add_container(&mut self, pod: PodIndex, name: Option<String>) -> ContainerIndex {
        let entry = ContainerEntry {
            pod,
            name,
            role: None,
            spec: None,
            version: None,
            resources: Vec::new(),
            lives: Vec::new(),
        };
        self.containers.push(entry);
        self.containers.len() - 1
    }

    /// The containers of a pod.
    pub fn containers_of(&self, pod: PodIndex) -> impl Iterator<Item = ContainerIndex> + '_ {
        (0..self.containers.len()).filter(move |&container| self.containers[container].pod == pod)
    }

    fn container_named(&mut self, pod: PodIndex, name: &str) -> ContainerIndex {
        let named = self.containers_of(pod).find(|&c| self.containers[c].name.as_deref() == Some(name));
        if let Some(container) = named {
            return container;
        }
        let nameless = self.containers_of(pod).find(|&c| self.containers[c].name.is_none());
        if let Some(container) = nameless {
            self.containers[container].name = Some(name.to_owned());
            return container;
        }
        self.add_container(pod, Some(name.to_owned()))
    }

    /// The container of a pod when only the pod, and maybe an unknown container ID, is given. With the API at
    /// hand, an ID that the API never showed is not blamed on a container that it did show: it may be the pause
    /// container, or a run that was too quick to be seen.
    fn container_without_name(&mut self, pod: PodIndex, id: Option<&str>) -> ContainerIndex {
        let mains: Vec<ContainerIndex> = self
            .containers_of(pod)
            .filter(|&c| {
                !matches!(self.containers[c].role, Some(ContainerRole::Init | ContainerRole::Ephemeral))
            })
            .collect();
        match mains.as_slice() {
            [only] => {
                let only = *only;
                if self.pods[pod].kubernetes.is_some() && id.is_some() {
                    self.guess_container(pod, only, "it is the pod's only container");
                }
                only
            }
            [] => self.add_container(pod, None),
            _ => self.container_most_restarted(pod).unwrap_or_else(|| self.add_container(pod, None)),
        }
    }

    /// Of several containers, the one that keeps dying is the likeliest home of an unseen run.
    fn container_most_restarted(&mut self, pod: PodIndex) -> Option<ContainerIndex> {
        let ends = |cast: &Self, c: ContainerIndex| {
            let killed = |life: &&LifeIndex| {
                cast.lives[**life].termination.is_some_and(|t| t.reason.as_deref() == Some("OOMKilled"))
            };
            cast.containers[c].lives.iter().filter(killed).count()
        };
        let mut ranked: Vec<(usize, ContainerIndex)> =
            self.containers_of(pod).map(|c| (ends(self, c), c)).collect();
        ranked.sort_unstable_by(|a, b| b.cmp(a));
        let &(most, container) = ranked.first()?;
        let second = ranked.get(1).map_or(0, |(count, _)| *count);
        if most == 0 || second > 0 {
            return None;
        }
        self.guess_container(
            pod,
            container,
            "it is the only one of its pod that the API says was OOM-killed",
        );
        Some(container)
    }

    fn guess_container(&mut self, pod: PodIndex, container: ContainerIndex, why: &str) {
        let pod = self.pods[pod].name.clone().or_else(|| self.pods[pod].uid.clone()).unwrap_or_default();
        let name = self.containers[container].name.clone().unwrap_or_default();
        self.guesses.insert(format!("a container ID of pod {pod} that the API never showed was taken for a run of container {name}: {why}"));
    }

    fn new_life(&mut self, container: ContainerIndex, container_id: Option<String>) -> LifeIndex {
        let life = self.lives.len();
        if let Some(id) = &container_id {
            self.lives_by_id.insert(id.clone(), life);
        }
        self.lives.push(Life {
            container,
            container_id,
            started_at: None,
            start_is_first_sign: false,
            ended_at: None,
            termination: None,
            limit_bytes: None,
        });
        self.containers[container].lives.push(life);
        life
    }

    fn life_with_id(&mut self, container: ContainerIndex, id: &str) -> LifeIndex {
        match self.lives_by_id.get(id) {
            Some(&life) => life,
            None => self.new_life(container, Some(id.to_owned())),
        }
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

/// The topmost owner that is known; a Deployment is told from its ReplicaSet's name when the ReplicaSet itself
/// was not seen.
fn workload_of(pod: &Pod, observations: &Observations) -> WorkloadName {
    let Some(owner) = &pod.owner else {
        return WorkloadName { kind: "Pod".to_owned(), name: pod.name.clone() };
    };
    let mut top = WorkloadName { kind: owner.kind.clone(), name: owner.name.clone() };
    let mut uid = owner.uid.clone();
    // Bounded: owner chains are two or three long, and hostile ones may be circular.
    for _ in 0..4 {
        let Some(next) =
            observations.kubernetes.workloads.get(&uid).and_then(|workload| workload.owner.as_ref())
        else {
            break;
        };
        top = WorkloadName { kind: next.kind.clone(), name: next.name.clone() };
        uid = next.uid.clone();
    }
    if top.kind == "ReplicaSet"
        && let Some(hash) = pod.labels.get("pod-template-hash")
        && let Some(name) = top.name.strip_suffix(hash.as_str()).and_then(|name| name.strip_suffix('-'))
    {
        return WorkloadName { kind: "Deployment".to_owned(), name: name.to_owned() };
    }
    top
}

fn image_tag(image: &str) -> Option<String> {
    let name = image.rsplit('/').next()?;
    let tag = name.split('@').next()?.split_once(':')?.1;
    (tag != "latest").then(|| tag.to_owned())
}

mod telemetry {
    //! Joining OpenTelemetry resources to containers, by the order of trust of the facts.

    use super::{Cast, ContainerIndex, ContainerRole, Observations, PodEntry, ResourceId, WorkloadName};

    /// The attributes that name a container.
    struct Names<'o> {
        container_id: Option<&'o str>,
        uid: Option<&'o str>,
        namespace: Option<&'o str>,
        pod: Option<&'o str>,
        container: Option<&'o str>,
        instance: Option<&'o str>,
        host: Option<&'o str>,
        service: Option<&'o str>,
        deployment: Option<&'o str>,
        version: Option<&'o str>,
        node: Option<&'o str>,
        cgroup: Option<&'o str>,
        pid: Option<u32>,
    }

    impl<'a> Cast<'a> {
        pub(super) fn add_resources(&mut self, observations: &'a Observations) {
            let ids: Vec<ResourceId> = (0..observations.resources.len() as u32).map(ResourceId).collect();
            let names = |id: ResourceId| {
                let attribute = |key| observations.resource_attribute(id, key);
                Names {
                    container_id: attribute("container.id"),
                    uid: attribute("k8s.pod.uid"),
                    namespace: attribute("k8s.namespace.name"),
                    pod: attribute("k8s.pod.name"),
                    container: attribute("k8s.container.name"),
                    instance: attribute("service.instance.id"),
                    host: attribute("host.name"),
                    service: attribute("service.name"),
                    deployment: attribute("k8s.deployment.name"),
                    version: attribute("service.version"),
                    node: attribute("k8s.node.name"),
                    cgroup: attribute("process.cgroup"),
                    // PID 1 is what every container calls its own first process.
                    pid: attribute("process.pid").and_then(|pid| pid.parse().ok()).filter(|&pid| pid > 1),
                }
            };
            // Those with good names first: the poor ones are then matched against everything that is known.
            let (good, poor): (Vec<_>, Vec<_>) = ids.into_iter().partition(|&id| {
                let names = names(id);
                names.container_id.is_some_and(|id| self.lives_by_id.contains_key(id))
                    || names.uid.is_some()
                    || names.pod.is_some()
            });
            for id in good.into_iter().chain(poor) {
                let names = names(id);
                if let Some(container) = self.container_of_names(&names) {
                    self.containers_by_resource.insert(id, container);
                    self.containers[container].resources.push(id);
                    self.complete(container, &names);
                }
            }
        }

        /// Fills what the API did not say.
        fn complete(&mut self, container: ContainerIndex, names: &Names<'_>) {
            let pod = self.containers[container].pod;
            let entry = &mut self.pods[pod];
            let fill = |slot: &mut Option<String>, value: Option<&str>| {
                if slot.is_none() {
                    *slot = value.map(str::to_owned);
                }
            };
            fill(&mut entry.namespace, names.namespace);
            fill(&mut entry.name, names.pod);
            fill(&mut entry.uid, names.uid);
            fill(&mut entry.node, names.node);
            if entry.workload.is_none() {
                entry.workload = names
                    .deployment
                    .map(|name| WorkloadName { kind: "Deployment".into(), name: name.into() });
            }
            fill(&mut self.containers[container].version, names.version);
        }

        fn container_of_names(&mut self, names: &Names<'_>) -> Option<ContainerIndex> {
            if let Some(life) = names.container_id.and_then(|id| self.life_by_id(id)) {
                return Some(self.lives[life].container);
            }
            let nameless = names.uid.is_none() && names.pod.is_none() && names.container.is_none();
            if nameless && let Some(life) = names.cgroup.and_then(|path| self.container_at_path(path)) {
                return Some(self.lives[life].container);
            }
            if nameless
                && names.service.is_none()
                && let Some(life) = names.pid.and_then(|pid| self.life_with_pid(pid))
            {
                let pid = names.pid.unwrap_or_default();
                self.guesses.insert(format!("telemetry that names only process.pid {pid} was joined to the container that held this PID"));
                return Some(self.lives[life].container);
            }
            let pod = self.pod_of_names(names)?;
            let container = match names.container {
                Some(name) => self.container_named(pod, name),
                None => self.main_container(pod, names)?,
            };
            // Detectors in nested cgroups find the sandbox's ID; one that nothing else knows makes a life only
            // where nothing better names lives.
            if let (Some(id), None) = (names.container_id, self.pods[pod].kubernetes) {
                self.life_with_id(container, id);
            }
            Some(container)
        }

        fn pod_of_names(&mut self, names: &Names<'_>) -> Option<usize> {
            if let Some(uid) = names.uid {
                let pod = self.pod_with_uid(uid);
                if let (Some(name), None) = (names.pod, &self.pods[pod].name) {
                    let key = (names.namespace.map(str::to_owned), name.to_owned());
                    self.pods_by_name.entry(key).or_insert(pod);
                }
                return Some(pod);
            }
            if let Some(name) = names.pod {
                return Some(self.pod_with_name(names.namespace, name));
            }
            if let Some(pod) = names.instance.and_then(|instance| self.pod_of_instance(instance)) {
                return Some(pod);
            }
            if let Some(host) = names.host
                && let Some(pod) = self.only_pod_named(host)
            {
                self.guesses.insert(format!(
                    "telemetry that names only host.name {host} was joined to the pod of that name"
                ));
                return Some(pod);
            }
            self.pod_of_service(names)
        }

        /// `service.instance.id` as the operator writes it: `namespace.pod.container`.
        fn pod_of_instance(&self, instance: &str) -> Option<usize> {
            self.pods.iter().position(|pod| {
                let (Some(namespace), Some(name)) = (&pod.namespace, &pod.name) else { return false };
                let rest = instance.strip_prefix(namespace.as_str()).and_then(|rest| rest.strip_prefix('.'));
                let rest = rest.and_then(|rest| rest.strip_prefix(name.as_str()));
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            })
        }

        /// A host name is a pod name, cut to 63 characters, unless the pod says otherwise.
        fn only_pod_named(&self, host: &str) -> Option<usize> {
            let named = |pod: &PodEntry<'_>| {
                let Some(name) = &pod.name else { return false };
                let own = pod.kubernetes.and_then(|pod| pod.hostname.as_deref());
                let on_host = pod.kubernetes.is_some_and(|pod| pod.host_network);
                !on_host
                    && (own == Some(host) || name == host || (host.len() == 63 && name.starts_with(host)))
            };
            let mut pods = (0..self.pods.len()).filter(|&pod| named(&self.pods[pod]));
            pods.next().filter(|_| pods.next().is_none())
        }

        /// The last resort: the service is called like the workload or the container. Otherwise the host or the
        /// service stands for a pod of its own.
        fn pod_of_service(&mut self, names: &Names<'_>) -> Option<usize> {
            let service = names.service?;
            let called_so = |cast: &Self, pod: usize| {
                cast.pods[pod].workload.as_ref().is_some_and(|workload| workload.name == service)
                    || cast.containers_of(pod).any(|c| cast.containers[c].name.as_deref() == Some(service))
            };
            let candidates: Vec<usize> = (0..self.pods.len()).filter(|&pod| called_so(self, pod)).collect();
            if let [only] = candidates.as_slice() {
                self.guesses.insert(format!("telemetry that names only service.name {service} was joined to the one pod of that workload"));
                return Some(*only);
            }
            let stand_in = names.host.unwrap_or(service).to_owned();
            Some(self.pod_with_name(names.namespace, &stand_in))
        }

        fn main_container(&mut self, pod: usize, names: &Names<'_>) -> Option<ContainerIndex> {
            let containers: Vec<ContainerIndex> = self.containers_of(pod).collect();
            let called = |name: &str| {
                containers.iter().copied().find(|&c| self.containers[c].name.as_deref() == Some(name))
            };
            if let Some(container) = names.service.and_then(called) {
                return Some(container);
            }
            let mains: Vec<ContainerIndex> = containers
                .iter()
                .copied()
                .filter(|&c| matches!(self.containers[c].role, None | Some(ContainerRole::Main)))
                .collect();
            match mains.as_slice() {
                [only] => Some(*only),
                [] => Some(self.add_container(pod, None)),
                // Pod-level metrics and nameless telemetry of a pod with several containers stay unjoined.
                _ => None,
            }
        }
    }
}
