//! Which pod and container an ID stands for, by what the kubelet leaves on the node. Read again only for those that are unknown,
//! and not more often than every few seconds: a log's link appears a moment after the container.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use exit137_core::kernel::cgroup_path::CgroupIdentity;
use exit137_sources::node::containers::{Kubelet, Names};

/// A container that has no log will not get one soon: the sandbox has none, nor has anything outside of Kubernetes.
const READ_PAUSE: Duration = Duration::from_secs(3);

/// Names of containers and pods that are gone are kept, for kills that are heard late; then all is read anew.
const KNOWN_MAX: usize = 20_000;

/// What is known.
#[derive(Debug)]
pub(super) struct NameBook {
    kubelet: Kubelet,
    containers: HashMap<String, Names>,
    pods: HashMap<String, Names>,
    read_at: Option<Duration>,
}

impl NameBook {
    /// Nothing is read yet.
    pub(super) fn new(sysroot: &Path) -> Self {
        Self {
            kubelet: Kubelet::new(sysroot),
            containers: HashMap::new(),
            pods: HashMap::new(),
            read_at: None,
        }
    }

    /// Whether the kubelet's files can be read.
    pub(super) fn is_readable(&self) -> bool {
        self.kubelet.is_readable()
    }

    /// The names of `identity`, as far as they are known at `now`.
    pub(super) fn find(&mut self, identity: &CgroupIdentity, now: Duration) -> Option<Names> {
        if let Some(names) = self.known(identity)
            && (!names.container.is_empty() || identity.container_id.is_none())
        {
            return Some(names);
        }
        if self.read_at.is_none_or(|at| now.saturating_sub(at) >= READ_PAUSE) {
            self.read_at = Some(now);
            if self.containers.len() + self.pods.len() > KNOWN_MAX {
                self.containers.clear();
                self.pods.clear();
            }
            self.containers.extend(self.kubelet.by_container_id());
            self.pods.extend(self.kubelet.by_pod_uid());
        }
        self.known(identity)
    }

    fn known(&self, identity: &CgroupIdentity) -> Option<Names> {
        let by_id = identity.container_id.as_ref().and_then(|id| self.containers.get(id));
        by_id.or_else(|| self.pods.get(identity.pod_uid.as_ref()?)).cloned()
    }
}
