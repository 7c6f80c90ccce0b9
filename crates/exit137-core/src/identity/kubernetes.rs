//! What the Kubernetes API says of pods, containers and lives: the best names there are.

use super::{Cast, PodEntry};
use crate::observation::Observations;
use crate::observation::kubernetes::Pod;
use crate::time::Moment;
use crate::verdict::WorkloadName;

impl<'a> Cast<'a> {
    pub(super) fn add_kubernetes_pod(&mut self, pod: &'a Pod, observations: &Observations) {
        let index = self.pods.len();
        self.pods.push(PodEntry {
            uid: Some(pod.uid.clone()),
            namespace: Some(pod.namespace.clone()),
            name: Some(pod.name.clone()),
            node: pod.node.clone(),
            workload: Some(workload_of(pod, observations)),
            kubernetes: Some(pod),
            ..PodEntry::default()
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
