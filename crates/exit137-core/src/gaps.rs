//! What was missing, what that costs the verdict, and how to have it next time.

use crate::features::Features;
use crate::incident::Incident;
use crate::observation::SourceKind;
use crate::verdict::{Cause, Gap};

/// The gaps of one incident, the costliest first.
pub fn gaps_of(incident: &Incident<'_>, features: &[Features], cause: Cause) -> Vec<Gap> {
    let mut gaps = Gaps::default();
    of_memory(&mut gaps, incident, features);
    of_the_kill(&mut gaps, incident);
    of_measurements(&mut gaps, incident);
    of_work(&mut gaps, incident, cause);
    let latest = incident.latest();
    if cause == Cause::Unknown && latest.container.is_none() {
        gaps.add(
            "the container's identity",
            "the kill is counted, but nothing that was given knows its cgroup",
            "give the objects of the namespace and time in which it ran",
        );
    }
    gaps.0
}

#[derive(Default)]
struct Gaps(Vec<Gap>);

impl Gaps {
    fn add(&mut self, missing: &str, effect: &str, remedy: &str) {
        self.0.push(Gap {
            missing: missing.to_owned(),
            effect: effect.to_owned(),
            remedy: remedy.to_owned(),
        });
    }
}

fn of_memory(gaps: &mut Gaps, incident: &Incident<'_>, features: &[Features]) {
    let latest = incident.latest();
    let measured = features.iter().any(|f| f.shape.is_some());
    if !incident.has_memory() {
        gaps.add(
            "memory of this container over time",
            "a leak, a spike and a limit that is too small cannot be told apart",
            "collect container metrics every 15 s or finer (kubeletstats receiver, or cAdvisor), or run a node agent",
        );
    } else if !measured {
        let interval = latest.episode.as_ref().map_or(0.0, |episode| episode.interval);
        gaps.add(
            "enough measurements of memory before the kill",
            &format!(
                "with one value every {interval:.0} s in a life this short, how memory grew cannot be seen"
            ),
            "measure memory every few seconds, or wait for a longer life",
        );
    }
}

/// What the kernel and the API would have told of the kill.
fn of_the_kill(gaps: &mut Gaps, incident: &Incident<'_>) {
    let latest = incident.latest();
    let seen = |kind: SourceKind| incident.scene.observations.counts.contains_key(&kind);
    let kernel = incident.kills.iter().any(|kill| kill.record.report.is_some());
    if !kernel {
        let effect = if seen(SourceKind::KernelLog) {
            "the log that was given tells nothing of this kill, so whose limit was hit and which process died is not known"
        } else {
            "whose limit was hit, which process died and what kind of memory it held is not known; kills that a container survives go unseen"
        };
        gaps.add(
            "the kernel's report of this kill",
            effect,
            "give the node's kernel log: `journalctl -k -o short-iso`, `dmesg --time-format iso` or /dev/kmsg",
        );
    }
    let in_cluster = latest.container.is_some_and(|c| {
        incident.scene.cast.pods[incident.scene.cast.containers[c].pod].kubernetes.is_some()
    });
    if !in_cluster {
        let effect =
            "the container's limit, restarts, image and owner are known only as far as other sources tell";
        gaps.add(
            "Kubernetes objects of this container",
            effect,
            "give `kubectl get pods,events,replicasets,deployments -A -o json`, or a watch of pods",
        );
    }
}

/// Sources of memory that were not there, though another one may have been.
fn of_measurements(gaps: &mut Gaps, incident: &Incident<'_>) {
    if !incident.kills.iter().any(|kill| kill.memory.sampled) {
        gaps.add(
            "samples of the container's cgroup",
            "which process held the memory, its kinds, and what happened between two metric points is not known; nor are kills that only a counter shows",
            "run a node agent that reads the cgroup files every second",
        );
    }
    if !incident.kills.iter().any(|kill| kill.memory.metered) {
        gaps.add(
            "container metrics",
            "the container's own account of its memory, limit and restarts cannot be checked against the other sources",
            "collect the kubeletstats and k8s_cluster receivers of the OpenTelemetry Collector, or cAdvisor",
        );
    }
}

fn of_work(gaps: &mut Gaps, incident: &Incident<'_>, cause: Cause) {
    let latest = incident.latest();
    let traced = latest.container.is_some_and(|c| !incident.scene.work.calls_of(c).is_empty());
    let callers = latest.container.is_some_and(|c| incident.scene.work.with_callers.contains(&c));
    let about_work = matches!(
        cause,
        Cause::Leak
            | Cause::OperationSpike
            | Cause::ConcurrencySurge
            | Cause::UndersizedLimit
            | Cause::Unknown
    );
    if !about_work && !traced {
        gaps.add(
            "traces of this container",
            "which request led to it cannot be named",
            "export traces with the OpenTelemetry SDK of the service",
        );
    } else if !traced {
        gaps.add(
            "traces of this container",
            "no operation can be named, and nothing shows what was running at the kill",
            "export traces with the OpenTelemetry SDK of the service",
        );
    } else if about_work && !callers && crate::live_heap::journal_of(incident.scene, latest).is_none() {
        gaps.add(
            "spans of the callers",
            "a request that runs when SIGKILL comes never exports its span, so what was in flight at the kill is not known",
            "trace the callers too: their client spans show the lost requests",
        );
    }
}
