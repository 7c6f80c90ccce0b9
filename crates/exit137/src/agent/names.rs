//! Which pod and container an ID stands for, by what the kubelet leaves on the node, or by the API where that cannot be read.
//! Looked for again only for those that are unknown, and not more often than every few seconds: a log's link appears a moment
//! after the container.

use std::collections::HashMap;
use std::time::Duration;

use exit137_core::kernel::cgroup_path::CgroupIdentity;
use exit137_sources::node::containers::{Kubelet, Names};

use super::api_names::ApiNames;
use super::config::Config;

/// A container that has no log will not get one soon: the sandbox has none, nor has anything outside of Kubernetes.
const READ_PAUSE: Duration = Duration::from_secs(3);

/// Names of containers and pods that are gone are kept, for kills that are heard late; then all is read anew.
const KNOWN_MAX: usize = 20_000;

/// Names by container ID, and of pods by UID.
pub(super) type Found = (Vec<(String, Names)>, Vec<(String, Names)>);

/// Where names come from.
#[derive(Debug)]
enum Source {
    Files(Kubelet),
    Api(ApiNames),
    None,
}

/// What is known.
#[derive(Debug)]
pub(super) struct NameBook {
    source: Source,
    containers: HashMap<String, Names>,
    pods: HashMap<String, Names>,
    read_at: Option<Duration>,
}

impl NameBook {
    /// Finds out where names can be had; why not, when nowhere. `node` is this node's name in the API.
    pub(super) fn open(config: &Config, node: &str) -> (Self, Result<(), String>) {
        let kubelet = Kubelet::new(&config.sysroot);
        let (source, outcome) = if kubelet.is_readable() {
            (Source::Files(kubelet), Ok(()))
        } else {
            match ApiNames::start(config, node) {
                Ok(names) => (Source::Api(names), Ok(())),
                Err(why) => (Source::None, Err(format!("no /var/log/containers or /var/log/pods; {why}"))),
            }
        };
        (Self { source, containers: HashMap::new(), pods: HashMap::new(), read_at: None }, outcome)
    }

    /// The names of `identity`, as far as they are known at `now`.
    pub(super) fn find(&mut self, identity: &CgroupIdentity, now: Duration) -> Option<Names> {
        if let Some(names) = self.known(identity)
            && (!names.container.is_empty() || identity.container_id.is_none())
        {
            return Some(names);
        }
        let is_time = self.read_at.is_none_or(|at| now.saturating_sub(at) >= READ_PAUSE);
        if is_time {
            self.read_at = Some(now);
        }
        let found = match &mut self.source {
            Source::Files(kubelet) if is_time => Some((kubelet.by_container_id(), kubelet.by_pod_uid())),
            Source::Api(api) => api.answer(is_time),
            Source::Files(_) | Source::None => None,
        };
        if let Some((containers, pods)) = found {
            if self.containers.len() + self.pods.len() > KNOWN_MAX {
                self.containers.clear();
                self.pods.clear();
            }
            self.containers.extend(containers);
            self.pods.extend(pods);
        }
        self.known(identity)
    }

    fn known(&self, identity: &CgroupIdentity) -> Option<Names> {
        let by_id = identity.container_id.as_ref().and_then(|id| self.containers.get(id));
        by_id.or_else(|| self.pods.get(identity.pod_uid.as_ref()?)).cloned()
    }
}
