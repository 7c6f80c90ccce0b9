//! What the Kubernetes API adds: kills that only it saw, and SIGKILL ends that were no OOM kill.

use std::collections::{HashMap, HashSet};

use super::{Accounts, END_AFTER_KILL_MAX, SAME_NODE_SLACK, bare};
use crate::clock::KernelClock;
use crate::hashing::NumberMap;
use crate::identity::{Cast, LifeIndex, PodIndex};
use crate::observation::Observations;
use crate::observation::kubernetes::{ContainerSpec, Event, Pod, Termination};
use crate::time::{Moment, SECOND, UnixNanos};
use crate::verdict::{LimitHit, NotOom, NotOomReason, Witness};

/// 128 + SIGKILL.
const EXIT_SIGKILL: i32 = 137;

/// The kubelet deletes before it tells, and clocks of the control plane and the node differ.
const TOLD_BEFORE: i64 = 3 * SECOND;

pub(super) fn add<'a>(
    accounts: &mut Accounts<'a>,
    observations: &'a Observations,
    cast: &mut Cast<'a>,
    clock: &KernelClock,
) {
    let known = Known::of(accounts, observations, cast, clock);
    let ends: Vec<LifeIndex> =
        (0..cast.lives.len()).filter(|&life| cast.lives[life].termination.is_some()).collect();
    for life in ends {
        let Some(termination) = cast.lives[life].termination else { continue };
        let pod = cast.pods[cast.containers[cast.lives[life].container].pod].kubernetes;
        let explained = match kill_claimed(termination) {
            Some(claim) => settle_claim(accounts, &known, cast, life, termination, claim),
            None => false,
        };
        let sigkill =
            termination.exit_code == EXIT_SIGKILL || termination.reason.as_deref() == Some("StartError");
        if sigkill
            && !explained
            && let Some(pod) = pod
        {
            let container = cast.lives[life].container;
            accounts.not_oom.push(not_oom(
                known.events.get(pod.uid.as_str()).map_or(&[], Vec::as_slice),
                pod,
                cast.containers[container].spec,
                cast.describe(container),
                termination,
            ));
        }
    }
    add_node_events(accounts, observations);
}

/// What is asked of every end, looked up before: a large cluster has a hundred thousand of them.
struct Known<'o> {
    observations: &'o Observations,
    clock: &'o KernelClock,
    /// Kills by the life they hurt.
    kills: NumberMap<LifeIndex, Vec<usize>>,
    /// Kills by a pod's own limit, by pod.
    by_pod_limit: NumberMap<PodIndex, Vec<usize>>,
    /// UIDs of the pods that each kernel log names.
    uids: Vec<HashSet<String>>,
    /// Events by the UID of what they are about.
    events: HashMap<&'o str, Vec<&'o Event>>,
}

impl<'o> Known<'o> {
    fn of(
        accounts: &Accounts<'_>,
        observations: &'o Observations,
        cast: &Cast<'_>,
        clock: &'o KernelClock,
    ) -> Self {
        let mut kills: NumberMap<LifeIndex, Vec<usize>> = NumberMap::default();
        let mut by_pod_limit: NumberMap<PodIndex, Vec<usize>> = NumberMap::default();
        for (index, record) in accounts.kills.iter().enumerate() {
            let Some(life) = record.life else { continue };
            kills.entry(life).or_default().push(index);
            if record.kill.limit_hit == Some(LimitHit::Pod) {
                let pod = cast.containers[cast.lives[life].container].pod;
                by_pod_limit.entry(pod).or_default().push(index);
            }
        }
        let uids = observations.kernel.iter().map(|log| {
            let paths = log.reports.iter().filter_map(|report| report.task_memcg.as_deref());
            paths.filter_map(|path| crate::kernel::cgroup_path::container_of(path).pod_uid).collect()
        });
        let mut events: HashMap<&str, Vec<&Event>> = HashMap::new();
        for event in observations.kubernetes.events.values() {
            events.entry(&event.object_uid).or_default().push(event);
        }
        Self { observations, clock, kills, by_pod_limit, uids: uids.collect(), events }
    }
}

/// What a termination says about the OOM killer.
#[derive(Clone, Copy, PartialEq)]
enum Claim {
    /// The container ended by it.
    EndedBy,
    /// Some process of it was killed at some time of its life.
    SomeProcess,
}

fn kill_claimed(termination: &Termination) -> Option<Claim> {
    let message = termination.message.as_deref().unwrap_or_default();
    match termination.reason.as_deref() {
        Some("OOMKilled") if termination.exit_code == EXIT_SIGKILL => Some(Claim::EndedBy),
        Some("OOMKilled") => Some(Claim::SomeProcess),
        // runc and crun say so when even the container's first process could not be charged.
        Some("StartError")
            if message.contains("OOM-killed") || message.contains("memory limit could be too low") =>
        {
            Some(Claim::EndedBy)
        }
        _ => None,
    }
}

/// Joins a claim to kills that are known; makes a kill of it if nobody else saw one. Returns whether the end is
/// explained by an OOM kill.
fn settle_claim<'a>(
    accounts: &mut Accounts<'a>,
    known: &Known<'_>,
    cast: &Cast<'a>,
    life: LifeIndex,
    termination: &Termination,
    claim: Claim,
) -> bool {
    let end = termination.finished_at.map(Moment::floored_to_second);
    let mut in_life = false;
    let mut at_end = None;
    let of_life = known.kills.get(&life).map_or(&[][..], Vec::as_slice);
    for &index in of_life {
        let record = &accounts.kills[index];
        in_life = true;
        let fits = end.is_some_and(|end| {
            let lag = end.at.since(record.kill.at.at);
            let slack = end.uncertainty + record.kill.at.uncertainty + SAME_NODE_SLACK;
            lag >= -slack && lag <= END_AFTER_KILL_MAX + slack
        });
        // What the container survived before does not end it now.
        let survived_before = of_life.iter().map(|earlier| &accounts.kills[*earlier]).any(|earlier| {
            earlier.kill.victim.comm.is_some()
                && earlier.kill.victim.comm == record.kill.victim.comm
                && record.kill.at.at.since(earlier.kill.at.at) > END_AFTER_KILL_MAX
        });
        if fits && !survived_before {
            at_end = Some(index);
        }
    }
    if let Some(index) = at_end {
        accounts.kills[index].seen_by(Witness::Kubernetes);
        // A log that tells no time leaves it to the API.
        if let (false, Some(end)) = (accounts.kills[index].kill.at.is_known(), end) {
            accounts.kills[index].kill.at = end;
        }
        if claim == Claim::EndedBy && accounts.kills[index].kill.container_survived.is_none() {
            accounts.kills[index].kill.container_survived = Some(false);
        }
        return claim == Claim::EndedBy;
    }
    // The mark sticks: processes were killed earlier in this life, and the end has another reason.
    if in_life || marked_with_the_pod(accounts, known, cast, life) || kernel_denies(known, cast, life, end) {
        return false;
    }
    let at = match (claim, termination.started_at, end) {
        (Claim::EndedBy, _, Some(end)) => end,
        (Claim::SomeProcess, Some(start), Some(end)) => {
            let width = end.at.since(start);
            Moment::new(start + width / 2, width / 2)
        }
        _ => return false,
    };
    let mut record = bare(at, Witness::Kubernetes, Some(life));
    record.kill.container_survived = Some(claim == Claim::SomeProcess);
    record.kill.victim.main_process = Some(claim == Claim::EndedBy);
    accounts.kills.push(record);
    claim == Claim::EndedBy
}

/// On cgroup v1 a pod's own limit, when hit, marks every container of the pod. The one that was hit is known.
fn marked_with_the_pod(accounts: &Accounts<'_>, known: &Known<'_>, cast: &Cast<'_>, life: LifeIndex) -> bool {
    let pod = cast.containers[cast.lives[life].container].pod;
    let of_pod = known.by_pod_limit.get(&pod).map_or(&[][..], Vec::as_slice);
    of_pod.iter().map(|index| &accounts.kills[*index]).any(|record| {
        record.life.is_some_and(|other| other != life)
            && cast.lives[life].started_at.is_none_or(|start| start <= record.kill.at.at)
            && cast.lives[life].ended_at.is_none_or(|end| end.at + SECOND >= record.kill.at.at)
    })
}

/// A kernel log of the same node that has reports from before and after the end, lost nothing, and tells no
/// kill of this container, weighs more than a mark that is known to be wrong at times.
fn kernel_denies(known: &Known<'_>, cast: &Cast<'_>, life: LifeIndex, end: Option<Moment>) -> bool {
    let Some(end) = end else { return false };
    let (observations, clock) = (known.observations, known.clock);
    let pod = cast.containers[cast.lives[life].container].pod;
    let same_node = |number: usize| {
        let log = &observations.kernel[number];
        // A host name in the log must be the pod's node; a log without one is the node's if it names its pods.
        match (&log.host, &cast.pods[pod].node) {
            (Some(host), Some(node)) => node == host || node.starts_with(&format!("{host}.")),
            _ => cast.pods[pod].uid.as_ref().is_some_and(|uid| known.uids[number].contains(uid)),
        }
    };
    (0..observations.kernel.len()).filter(|&number| same_node(number)).any(|number| {
        let log = &observations.kernel[number];
        let Some((first, last)) = log.span else { return false };
        let covers = clock.wall(number, first).is_some_and(|first| first.at <= end.at)
            && clock.wall(number, last).is_some_and(|last| last.at >= end.at);
        covers && log.suppressed == 0 && log.lost_records == 0
    })
}

fn not_oom(
    events: &[&Event],
    pod: &Pod,
    spec: Option<&ContainerSpec>,
    container: crate::verdict::ContainerRef,
    termination: &Termination,
) -> NotOom {
    let finished = termination.finished_at;
    let events = || events.iter().copied();
    let of_container =
        |event: &&Event| event.container.as_deref().is_none_or(|name| name == termination.container);
    let evicted_at =
        events().filter(|event| event.reason == "Evicted").filter_map(|event| event.first_at).min();
    let evicted = pod.reason.as_deref() == Some("Evicted") || evicted_at.is_some();
    let after = |time: Option<UnixNanos>| match (finished, time) {
        (Some(finished), Some(time)) => finished + SECOND >= time - TOLD_BEFORE,
        // No time was told because the container was gone when the kubelet looked.
        (None, _) => true,
        (Some(_), None) => false,
    };
    let deletion_asked =
        pod.deletion_at.map(|at| at - pod.deletion_grace_seconds.unwrap_or(0).saturating_mul(SECOND));
    let probed = events().filter(of_container).any(|event| event.reason == "Unhealthy")
        || events()
            .filter(of_container)
            .any(|event| event.reason == "Killing" && event.message.contains("probe"));
    let (reason, why) = if termination.reason.as_deref() == Some("StartError") {
        let message = termination.message.as_deref().unwrap_or("no message");
        (NotOomReason::StartError, format!("it could not be started: {message}"))
    } else if evicted && (after(evicted_at) || (evicted_at.is_none() && is_last_end(pod, termination))) {
        let message = pod.message.as_deref().unwrap_or("the node was low on a resource");
        (NotOomReason::Eviction, format!("the kubelet evicted the pod: {}", message.trim()))
    } else if deletion_asked.is_some() && after(deletion_asked) {
        let grace = pod.deletion_grace_seconds.map_or("its".to_owned(), |seconds| format!("a {seconds} s"));
        (
            NotOomReason::GracePeriod,
            format!("the pod was deleted and the container did not end within {grace} grace period"),
        )
    } else if probed {
        (
            NotOomReason::Probe,
            "a liveness or startup probe failed and the container did not end in time".to_owned(),
        )
    } else if let (Some(true), Some("Error")) =
        (spec.map(|spec| spec.has_probe), termination.reason.as_deref())
    {
        (
            NotOomReason::Unknown,
            "nothing says who sent SIGKILL; it has a probe, whose events may have expired".to_owned(),
        )
    } else {
        (NotOomReason::Unknown, "nothing that was given says who sent SIGKILL".to_owned())
    };
    let code = termination.exit_code;
    let told = termination.reason.as_deref().unwrap_or("no reason");
    NotOom {
        container,
        at: finished.map(Moment::floored_to_second),
        exit_code: code,
        reason,
        summary: format!("ended with exit code {code} ({told}), and not by an OOM kill: {why}"),
    }
}

/// Without the event, only the last end of a container can be the eviction's.
fn is_last_end(pod: &Pod, termination: &Termination) -> bool {
    let ends = pod.terminations.iter().filter(|other| other.container == termination.container);
    ends.filter_map(|other| other.finished_at).max() == termination.finished_at
}

/// The kubelet's `SystemOOM` event: the node ran out. It marks the kill it tells of, and stands for one where
/// nothing else saw it.
fn add_node_events(accounts: &mut Accounts<'_>, observations: &Observations) {
    for event in observations.kubernetes.events.values().filter(|event| event.reason == "SystemOOM") {
        let pid: Option<u32> = event.message.rsplit("pid: ").next().and_then(|pid| pid.trim().parse().ok());
        let Some(at) = event.first_at.map(Moment::floored_to_second) else { continue };
        let known = accounts.kills.iter_mut().find(|record| {
            let same_pid = pid.is_some() && record.pids.contains(&pid.unwrap_or_default());
            same_pid || (record.report.is_none() && record.kill.at.may_equal(at, 3 * SECOND))
        });
        match known {
            Some(record) => {
                record.kill.limit_hit = Some(LimitHit::Node);
                record.seen_by(Witness::Kubernetes);
            }
            None => {
                let mut record = bare(at, Witness::Kubernetes, None);
                record.kill.limit_hit = Some(LimitHit::Node);
                record.kill.victim.pid = pid;
                record.kill.victim.comm = victim_name(&event.message);
                accounts.kills.push(record);
            }
        }
    }
}

fn victim_name(message: &str) -> Option<String> {
    let rest = message.split_once("victim process: ")?.1;
    Some(rest.rsplit_once(", pid:")?.0.to_owned())
}
