//! The registry itself: pods, containers and lives, found by the names that are given or made when they are new.

use super::{Cast, ContainerEntry, ContainerIndex, Life, LifeIndex, PodEntry, PodIndex};
use crate::observation::kubernetes::ContainerRole;

impl<'a> Cast<'a> {
    /// The life of a container known by these names.
    pub(super) fn life_of(&mut self, uid: Option<&str>, id: Option<&str>, name: Option<&str>) -> LifeIndex {
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

    pub(super) fn add_pod(&mut self, pod: PodEntry<'a>) -> PodIndex {
        self.pods.push(pod);
        self.pods.len() - 1
    }

    pub(super) fn pod_with_uid(&mut self, uid: &str) -> PodIndex {
        if let Some(&pod) = self.pods_by_uid.get(uid) {
            return pod;
        }
        let pod = self.add_pod(PodEntry { uid: Some(uid.to_owned()), ..PodEntry::default() });
        self.pods_by_uid.insert(uid.to_owned(), pod);
        pod
    }

    pub(super) fn pod_with_name(&mut self, namespace: Option<&str>, name: &str) -> PodIndex {
        let key = (namespace.map(str::to_owned), name.to_owned());
        if let Some(&pod) = self.pods_by_name.get(&key) {
            return pod;
        }
        // A sender that leaves the namespace out still means the one pod of that name.
        if namespace.is_none() {
            let mut same_name =
                (0..self.pods.len()).filter(|&pod| self.pods[pod].name.as_deref() == Some(name));
            if let (Some(only), None) = (same_name.next(), same_name.next()) {
                return only;
            }
        }
        let entry = PodEntry { namespace: key.0.clone(), name: Some(name.to_owned()), ..PodEntry::default() };
        let pod = self.add_pod(entry);
        self.pods_by_name.insert(key, pod);
        pod
    }

    pub(super) fn add_container(&mut self, pod: PodIndex, name: Option<String>) -> ContainerIndex {
        let entry = ContainerEntry {
            pod,
            name,
            role: None,
            spec: None,
            version: None,
            resources: Vec::new(),
            lives: Vec::new(),
        };
        let container = self.containers.len();
        self.containers.push(entry);
        self.pods[pod].containers.push(container);
        container
    }

    /// The containers of a pod.
    pub fn containers_of(&self, pod: PodIndex) -> impl Iterator<Item = ContainerIndex> + '_ {
        self.pods[pod].containers.iter().copied()
    }

    pub(super) fn container_named(&mut self, pod: PodIndex, name: &str) -> ContainerIndex {
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

    pub(super) fn new_life(&mut self, container: ContainerIndex, container_id: Option<String>) -> LifeIndex {
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

    pub(super) fn life_with_id(&mut self, container: ContainerIndex, id: &str) -> LifeIndex {
        match self.lives_by_id.get(id) {
            Some(&life) => life,
            None => self.new_life(container, Some(id.to_owned())),
        }
    }
}
