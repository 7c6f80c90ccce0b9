//! Folds the versions of one object into one. Watches overlap with lists, files are read in any order and by
//! several threads: whatever order versions come in, the result is the same.

use std::collections::BTreeMap;

use super::{Event, Kubernetes, Node, Pod, Running, Termination, Workload};
use crate::time::UnixNanos;

/// Container ends kept of one pod. A crash loop at the longest back-off (300 s) takes a week to get there.
pub const TERMINATIONS_MAX: usize = 2048;

/// Times kept of one event, and of one node's memory pressure.
pub const EVENT_TIMES_MAX: usize = 1024;

/// Conditions kept of one pod; a real one has one or two.
const DISRUPTIONS_MAX: usize = 64;

/// Kinds of skipped objects told apart; custom kinds are many, invented ones without end.
const SKIPPED_KINDS_MAX: usize = 256;

/// Kubernetes allows 63 bytes.
const KIND_BYTES_MAX: usize = 80;

impl Kubernetes {
    /// Adds one version of a pod.
    pub fn observe_pod(&mut self, mut pod: Pod) {
        pod.note_versions();
        let known = self.pods.entry(pod.uid.clone()).or_insert_with(|| Pod {
            terminations: Vec::new(),
            running: Vec::new(),
            limit_versions: BTreeMap::new(),
            ..pod.clone()
        });
        known.merge(pod);
    }

    /// Adds one delivery of an event.
    pub fn observe_event(&mut self, event: Event) {
        let first = || Event { times: Vec::new(), ..event.clone() };
        self.events.entry(event.uid.clone()).or_insert_with(first).merge(event);
    }

    /// Adds one version of a node.
    pub fn observe_node(&mut self, node: Node) {
        let first = || Node { memory_pressure_at: Vec::new(), ..node.clone() };
        self.nodes.entry(node.name.clone()).or_insert_with(first).merge(node);
    }

    /// Adds one version of a workload; the newest wins, and of equally new ones the highest revision.
    pub fn observe_workload(&mut self, workload: Workload) {
        let recency = |w: &Workload| (w.resource_version, w.revision);
        match self.workloads.get_mut(&workload.uid) {
            Some(known) if (recency(known), &*known) >= (recency(&workload), &workload) => {}
            Some(known) => *known = workload,
            None => {
                self.workloads.insert(workload.uid.clone(), workload);
            }
        }
    }

    /// Counts objects of `kind` that were read and say nothing here. Kinds beyond a bound count as `other`.
    pub fn skip(&mut self, kind: &str, count: u64) {
        let kind = &kind[..kind.floor_char_boundary(KIND_BYTES_MAX)];
        let full = self.skipped.len() >= SKIPPED_KINDS_MAX && !self.skipped.contains_key(kind);
        let kind = if full { "other" } else { kind };
        *self.skipped.entry(kind.to_owned()).or_default() += count;
    }

    pub(in crate::observation) fn absorb(&mut self, other: Self) {
        other.pods.into_values().for_each(|pod| self.observe_pod(pod));
        other.events.into_values().for_each(|event| self.observe_event(event));
        other.nodes.into_values().for_each(|node| self.observe_node(node));
        other.workloads.into_values().for_each(|workload| self.observe_workload(workload));
        for (kind, count) in other.skipped {
            self.skip(&kind, count);
        }
    }
}

impl Pod {
    /// Writes down which version the facts come from that outlive their version.
    fn note_versions(&mut self) {
        if self.reason_version.is_none() && (self.reason.is_some() || self.message.is_some()) {
            self.reason_version = Some(self.resource_version);
        }
        for running in &self.running {
            // Without a limit any other version knows more.
            let version = if running.limit_bytes.is_some() { self.resource_version } else { 0 };
            self.limit_versions.entry(running.container_id.clone()).or_insert(version);
        }
    }

    /// Folds another version of the same pod in. Both have their versions noted.
    fn merge(&mut self, mut other: Self) {
        for termination in std::mem::take(&mut other.terminations) {
            self.observe_termination(termination);
        }
        for running in std::mem::take(&mut other.running) {
            let version = other.limit_versions.get(&running.container_id).copied().unwrap_or(0);
            self.observe_running(running, version);
        }
        for (container, count) in std::mem::take(&mut other.restart_counts) {
            let known = self.restart_counts.entry(container).or_default();
            *known = (*known).max(count);
        }
        self.deleted |= other.deleted;
        self.ready_at = earliest(self.ready_at, other.ready_at);
        self.created_at = earliest(self.created_at, other.created_at);
        // A later deletion with a shorter grace period replaces the first.
        let deletion = |pod: &Self| (pod.deletion_at.is_none(), pod.deletion_at, pod.deletion_grace_seconds);
        if deletion(&other) < deletion(self) {
            self.deletion_at = other.deletion_at;
            self.deletion_grace_seconds = other.deletion_grace_seconds;
        }
        self.disruptions.append(&mut other.disruptions);
        self.disruptions.sort();
        self.disruptions.dedup();
        self.disruptions.truncate(DISRUPTIONS_MAX);
        let told = |pod: &Self| (pod.reason_version, pod.reason.clone(), pod.message.clone());
        if told(&other) > told(self) {
            (self.reason_version, self.reason, self.message) = told(&other);
        }
        self.keep_latest(other);
    }

    /// Takes everything that only the newest version tells. A node, once set, stays.
    fn keep_latest(&mut self, other: Self) {
        let node = [self.node.take(), other.node.clone()].into_iter().flatten().max();
        if other.latest() > self.latest() {
            *self = Self {
                // What all versions tell together.
                terminations: std::mem::take(&mut self.terminations),
                running: std::mem::take(&mut self.running),
                restart_counts: std::mem::take(&mut self.restart_counts),
                limit_versions: std::mem::take(&mut self.limit_versions),
                disruptions: std::mem::take(&mut self.disruptions),
                reason: self.reason.take(),
                message: self.message.take(),
                reason_version: self.reason_version,
                deleted: self.deleted,
                ready_at: self.ready_at,
                created_at: self.created_at,
                deletion_at: self.deletion_at,
                deletion_grace_seconds: self.deletion_grace_seconds,
                ..other
            };
        }
        self.node = node;
    }

    /// Orders versions by age. All that follows the number only decides between versions without one, so that
    /// the order of reading does not.
    fn latest(&self) -> impl PartialOrd + use<'_> {
        (
            (self.resource_version, &self.phase, &self.waiting, &self.labels, &self.annotations),
            (&self.containers, self.limit_bytes, &self.memory_volumes, self.host_network, &self.hostname),
            (&self.owner, &self.namespace, &self.name),
        )
    }

    /// Notes a running container instance; `version` says how new its limit is.
    fn observe_running(&mut self, running: Running, version: u64) {
        let known = match self.running.iter_mut().find(|known| known.container_id == running.container_id) {
            Some(known) => known,
            None => {
                self.limit_versions.insert(running.container_id.clone(), version);
                let place = self.running.partition_point(|known| age(known) < age(&running));
                self.running.insert(place, running);
                if self.running.len() > TERMINATIONS_MAX {
                    let oldest = self.running.remove(0);
                    self.limit_versions.remove(&oldest.container_id);
                }
                return;
            }
        };
        let known_version = self.limit_versions.entry(running.container_id.clone()).or_default();
        if (version, running.limit_bytes) > (*known_version, known.limit_bytes) {
            *known_version = version;
            known.limit_bytes = running.limit_bytes;
        }
        known.restart_count = known.restart_count.min(running.restart_count);
        if running.image_id > known.image_id {
            known.image_id = running.image_id;
        }
        if running.started_at < known.started_at {
            known.started_at = running.started_at;
            self.running.sort_by(|a, b| age(a).cmp(&age(b)));
        }
    }

    /// Notes the end of a container. One end is told many times, and its reason may improve: containerd first
    /// says `Error`, and `OOMKilled` once its own OOM event has come in.
    pub fn observe_termination(&mut self, termination: Termination) {
        match self.terminations.iter().position(|known| same_end(known, &termination)) {
            Some(place) => {
                let mut known = self.terminations.remove(place);
                known.merge(termination);
                self.insert_termination(known);
            }
            None => self.insert_termination(termination),
        }
    }

    fn insert_termination(&mut self, termination: Termination) {
        let place = self.terminations.partition_point(|known| order(known) < order(&termination));
        self.terminations.insert(place, termination);
        if self.terminations.len() > TERMINATIONS_MAX {
            self.terminations.remove(0);
        }
    }
}

fn age(running: &Running) -> (UnixNanos, &str) {
    (running.started_at, &running.container_id)
}

fn order(end: &Termination) -> (Option<UnixNanos>, &str, &Option<String>, i32, &Option<String>) {
    (end.finished_at, &end.container, &end.container_id, end.exit_code, &end.reason)
}

/// Whether both tell of the same end. A container id settles it. Ends that the kubelet makes up have neither an
/// id nor a time; then one container can have only one of each kind. An end with an id is never the same as
/// one without: two containers could claim it, and which one got it would depend on the order of reading.
fn same_end(a: &Termination, b: &Termination) -> bool {
    match (&a.container_id, &b.container_id) {
        (Some(a), Some(b)) => a == b,
        (None, None) => {
            a.container == b.container
                && a.finished_at == b.finished_at
                && a.exit_code == b.exit_code
                && (a.finished_at.is_some() || a.reason == b.reason)
        }
        _ => false,
    }
}

impl Termination {
    /// Folds another account of the same end in.
    fn merge(&mut self, other: Self) {
        let started_at = earliest(self.started_at, other.started_at);
        let finished_at = earliest(self.finished_at, other.finished_at);
        let restart_count = self.restart_count.min(other.restart_count);
        let role = self.role.min(other.role);
        let told = |end: &Self| {
            let oom_killed = end.reason.as_deref() == Some("OOMKilled");
            // CRI-O says -1 or 255 when it does not know.
            let code_known = !matches!(end.exit_code, -1 | 255);
            let words = (end.reason.clone(), end.message.clone(), end.container.clone());
            (oom_killed, code_known, end.exit_code, words)
        };
        if told(&other) > told(self) {
            *self = other;
        }
        (self.started_at, self.finished_at) = (started_at, finished_at);
        (self.restart_count, self.role) = (restart_count, role);
    }
}

impl Event {
    /// Folds another delivery in; the highest count has the latest message.
    fn merge(&mut self, other: Self) {
        let first_at = earliest(self.first_at, other.first_at);
        let last_at = self.last_at.max(other.last_at);
        let mut times = std::mem::take(&mut self.times);
        other.times.iter().for_each(|&at| insert_time(&mut times, at));
        let told =
            |event: &Self| (event.count, event.message.clone(), event.reason.clone(), event.kind.clone());
        if told(&other) > told(self) {
            *self = other;
        }
        (self.first_at, self.last_at, self.times) = (first_at, last_at, times);
    }
}

impl Node {
    fn merge(&mut self, other: Self) {
        let mut times = std::mem::take(&mut self.memory_pressure_at);
        other.memory_pressure_at.iter().for_each(|&at| insert_time(&mut times, at));
        let latest = |node: &Self| {
            let sizes = (node.capacity_bytes, node.allocatable_bytes);
            (node.resource_version, sizes, node.boot_id.clone(), node.uid.clone())
        };
        if latest(&other) > latest(self) {
            *self = other;
        }
        self.memory_pressure_at = times;
    }
}

fn earliest(a: Option<UnixNanos>, b: Option<UnixNanos>) -> Option<UnixNanos> {
    [a, b].into_iter().flatten().min()
}

/// Keeps `times` sorted, each once, and bounded.
fn insert_time(times: &mut Vec<UnixNanos>, at: UnixNanos) {
    if let Err(place) = times.binary_search(&at) {
        times.insert(place, at);
        if times.len() > EVENT_TIMES_MAX {
            times.remove(0);
        }
    }
}

#[cfg(test)]
mod tests;
