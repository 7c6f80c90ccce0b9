//! Joining OpenTelemetry resources to containers, by the order of trust of the facts.

use super::{Cast, ContainerIndex, PodEntry};
use crate::observation::kubernetes::ContainerRole;
use crate::observation::{Observations, ResourceId};
use crate::verdict::WorkloadName;

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
            entry.workload =
                names.deployment.map(|name| WorkloadName { kind: "Deployment".into(), name: name.into() });
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
            self.guesses.insert(format!(
                "telemetry that names only process.pid {pid} was joined to the container that held this PID"
            ));
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
            !on_host && (own == Some(host) || name == host || (host.len() == 63 && name.starts_with(host)))
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
            self.guesses.insert(format!(
                "telemetry that names only service.name {service} was joined to the one pod of that workload"
            ));
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
