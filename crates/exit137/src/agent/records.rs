//! From what was seen to log records: the words, names and attributes that `docs/agent.md` describes.

use exit137_core::bytes::Bytes;
use exit137_core::kernel::OomReport;
use exit137_core::kernel::cgroup_path::{CgroupIdentity, container_of, limit_owner};
use exit137_core::time::{Moment, UnixNanos};
use exit137_core::verdict::LimitHit;
use exit137_sources::agent::{
    GAP, GapBody, JOURNAL, JournalBody, KillBody, OOM_KILL, SAMPLE, USER_SPACE_KILL, sample_body,
};
use exit137_sources::journal::Life;
use exit137_sources::node::cgroup::{Reading, wall_now};
use exit137_sources::node::containers::Names;
use exit137_sources::node::processes::Process;

use super::ledger::ContainerBy;
use super::otlp::{Attributes, Record, Value};

/// Who and where, for every record and metric of one container.
pub(super) fn resource(node: &str, identity: &CgroupIdentity, names: Option<&Names>) -> Attributes {
    let mut attributes = vec![("k8s.node.name", Value::from(node))];
    let mut set = |key: &'static str, text: Option<&str>| {
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            attributes.push((key, Value::from(text)));
        }
    };
    set("k8s.pod.uid", identity.pod_uid.as_deref());
    set("container.id", identity.container_id.as_deref());
    set("container.runtime.name", identity.runtime.as_deref());
    set("k8s.namespace.name", names.map(|names| names.namespace.as_str()));
    set("k8s.pod.name", names.map(|names| names.pod.as_str()));
    set("k8s.container.name", names.map(|names| names.container.as_str()));
    if let Some(count) = names.and_then(|names| names.restart_count) {
        attributes.push(("k8s.container.restart_count", Value::Int(i64::from(count))));
    }
    attributes
}

/// `shop/api-0/api`, or as much of it as is known.
fn title(identity: &CgroupIdentity, names: Option<&Names>) -> String {
    match names {
        Some(names) if names.container.is_empty() => format!("{}/{}", names.namespace, names.pod),
        Some(names) => format!("{}/{}/{}", names.namespace, names.pod, names.container),
        None => match (&identity.container_id, &identity.pod_uid) {
            (Some(id), _) => format!("container {}", &id[..id.len().min(12)]),
            (None, Some(uid)) => format!("pod {uid}"),
            (None, None) => "an unknown container".to_owned(),
        },
    }
}

/// Where a kill belongs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) node: &'a str,
    pub(super) boot_id: &'a str,
    pub(super) identity: &'a CgroupIdentity,
    pub(super) names: Option<&'a Names>,
    /// The container's cgroup.
    pub(super) path: Option<&'a str>,
}

/// The record of a kill that the kernel's log tells. One of a group, or of one process.
pub(super) fn reported(
    place: Place<'_>,
    report: &OomReport,
    at: Moment,
    by: Option<ContainerBy>,
    is_counted: bool,
) -> Record {
    let mut body = KillBody::of(report);
    let victim = report.victims.first();
    body.id = format!("{}:{}", place.boot_id, victim.map_or(0, |victim| victim.line));
    body.node = Some(place.node.to_owned());
    body.uncertainty_nanos = at.uncertainty;
    body.seen_by = vec!["kernel_log".to_owned()];
    if by == Some(ContainerBy::Tracepoint) {
        body.seen_by.push("tracepoint".to_owned());
    }
    if is_counted {
        body.seen_by.push("counter".to_owned());
    }
    body.container_by = by.map(|by| by.name().to_owned());
    // What the kernel left out, a reader should not have to find again.
    body.task_memcg = body.task_memcg.or_else(|| place.path.map(str::to_owned));
    let limit_hit = limit_hit(report);
    let limit = report.memory.and_then(|charge| charge.limit).filter(|_| limit_hit != Some("node"));
    body.message = message(place, report, limit, limit_hit);
    let mut attributes: Attributes = vec![
        ("exit137.kill.id", Value::Text(body.id.clone())),
        ("exit137.kill.seen_by", Value::Text(body.seen_by.join(","))),
        ("exit137.kill.uncertainty_nanos", Value::Int(at.uncertainty)),
        ("exit137.kill.group", Value::Bool(report.group_kill.is_some())),
        ("exit137.kill.processes", Value::Int(report.victims.len() as i64)),
    ];
    let mut set =
        |key: &'static str, value: Option<Value>| attributes.extend(value.map(|value| (key, value)));
    set("exit137.kill.container_by", by.map(|by| Value::from(by.name())));
    set("exit137.kill.limit_hit", limit_hit.map(Value::from));
    set("exit137.kill.limit_bytes", limit.map(whole));
    set("exit137.kill.oom_memcg", report.oom_memcg.as_deref().map(Value::from));
    set("exit137.kill.task_memcg", body.task_memcg.as_deref().map(Value::from));
    if let Some(victim) = victim {
        set("process.pid", Some(Value::Int(i64::from(victim.pid))));
        set("process.executable.name", Some(Value::from(victim.comm.as_str())));
        set("exit137.victim.anon_bytes", Some(whole(victim.anon)));
        set("exit137.victim.file_bytes", Some(whole(victim.file)));
        set("exit137.victim.shmem_bytes", victim.shmem.map(whole));
        set("exit137.victim.oom_score_adj", victim.oom_score_adj.map(|adj| Value::Int(i64::from(adj))));
    }
    record(OOM_KILL, at.at, true, serde_json::to_string(&body).unwrap_or_default(), attributes)
}

/// The record of a kill that only a counter tells.
pub(super) fn counted(place: Place<'_>, from: UnixNanos, to: UnixNanos, count: u64, inode: u64) -> Record {
    let at = Moment::new(from + to.since(from) / 2, to.since(from) / 2);
    let id = format!("{}:{inode}:{count}", place.boot_id);
    let seconds = to.seconds_since(from);
    let message = format!(
        "a process of {} was OOM-killed within these {seconds:.1} s; the kernel log does not say which",
        title(place.identity, place.names)
    );
    let body = KillBody {
        message,
        id: id.clone(),
        node: Some(place.node.to_owned()),
        uncertainty_nanos: at.uncertainty,
        seen_by: vec!["counter".to_owned()],
        container_by: Some(ContainerBy::Counter.name().to_owned()),
        task_memcg: place.path.map(str::to_owned),
        ..KillBody::default()
    };
    let attributes = vec![
        ("exit137.kill.id", Value::Text(id)),
        ("exit137.kill.seen_by", Value::from("counter")),
        ("exit137.kill.container_by", Value::from(ContainerBy::Counter.name())),
        ("exit137.kill.uncertainty_nanos", Value::Int(at.uncertainty)),
        ("exit137.kill.group", Value::Bool(false)),
        ("exit137.kill.processes", Value::Int(1)),
        ("exit137.kill.task_memcg", Value::from(place.path.unwrap_or_default())),
    ];
    record(OOM_KILL, at.at, true, serde_json::to_string(&body).unwrap_or_default(), attributes)
}

/// A reading, with the processes if they were photographed, and why it is sent.
pub(super) fn sample(
    place: Place<'_>,
    reading: &Reading,
    processes: &[Process],
    reason: &'static str,
) -> Record {
    let mut sample = reading.sample();
    sample.pod_uid = place.identity.pod_uid.clone();
    sample.container_id = place.identity.container_id.clone();
    sample.container = place.names.map(|names| names.container.clone()).filter(|name| !name.is_empty());
    sample.cgroup_path = place.path.map(str::to_owned);
    sample.processes = (!processes.is_empty()).then_some(processes.len() as u64);
    let attributes = vec![
        ("exit137.sample.reason", Value::from(reason)),
        ("exit137.sample.usage_bytes", whole(reading.usage.unwrap_or_default())),
        ("exit137.sample.processes", Value::Int(processes.len() as i64)),
    ];
    record(SAMPLE, reading.at, false, sample_body(&sample, processes), attributes)
}

/// Records of the kernel's log were overwritten before they were read.
pub(super) fn gap(records: u64, from_sequence: u64) -> Record {
    let body = serde_json::to_string(&GapBody { records }).unwrap_or_default();
    let attributes = vec![
        ("exit137.kernel_log.lost_records", whole(records)),
        ("exit137.kernel_log.from_sequence", whole(from_sequence)),
    ];
    record(GAP, wall_now(), true, body, attributes)
}

/// A daemon killed what was in a cgroup.
pub(super) fn user_space_kill(place: Place<'_>, kills: u64) -> Record {
    let what = title(place.identity, place.names);
    let body =
        format!("systemd-oomd killed {kills} processes of {what}: its memory pressure or swap was too high");
    let attributes = vec![
        ("exit137.user_space_kill.by", Value::from("systemd-oomd")),
        ("exit137.user_space_kill.cgroup", Value::from(place.path.unwrap_or_default())),
        ("exit137.user_space_kill.processes", whole(kills)),
    ];
    record(USER_SPACE_KILL, wall_now(), true, body, attributes)
}

/// What the journal of a killed process says of its memory.
pub(super) fn journal(life: &Life) -> Record {
    let mut body = JournalBody::of(life);
    let live = body.live_bytes();
    let largest = body.largest().map(|(operation, place, bytes)| {
        let place = place.map(|place| format!(" at {place}")).unwrap_or_default();
        format!("; {} of it allocated by {operation}{place}", Bytes(bytes))
    });
    body.message = match (live, largest) {
        (0, _) => format!("journal of killed process {}: its heap was not sampled", life.pid),
        (_, largest) => format!(
            "journal of killed process {}: {} live on the heap{}",
            life.pid,
            Bytes(live),
            largest.unwrap_or_default()
        ),
    };
    let attributes = vec![
        ("exit137.journal.pid", whole(u64::from(life.pid))),
        ("exit137.journal.live_bytes", whole(live)),
        ("exit137.journal.in_flight", whole(life.in_flight.len() as u64)),
    ];
    let at = UnixNanos(i64::try_from(life.seen_unix_nanos).unwrap_or(i64::MAX));
    record(JOURNAL, at, false, serde_json::to_string(&body).unwrap_or_default(), attributes)
}

fn record(
    event_name: &'static str,
    at: UnixNanos,
    is_error: bool,
    body: String,
    attributes: Attributes,
) -> Record {
    Record { at, observed: wall_now(), event_name, is_error, body, attributes }
}

fn whole(number: u64) -> Value {
    Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
}

fn limit_hit(report: &OomReport) -> Option<&'static str> {
    let is_node = report.global || report.victims.first().is_some_and(|victim| victim.memcg == Some(false));
    if is_node {
        return Some("node");
    }
    let (oom, task) = (report.oom_memcg.as_ref()?, report.task_memcg.as_ref()?);
    Some(match limit_owner(oom, task) {
        LimitHit::Container => "container",
        LimitHit::Pod => "pod",
        LimitHit::Ancestor => "ancestor",
        LimitHit::Node => "node",
    })
}

fn message(place: Place<'_>, report: &OomReport, limit: Option<u64>, limit_hit: Option<&str>) -> String {
    let own = report.task_memcg.as_deref().map(container_of);
    let what = title(own.as_ref().unwrap_or(place.identity), place.names);
    let Some(victim) = report.victims.first() else { return format!("an OOM kill in {what}") };
    let whose = match (limit_hit, limit) {
        (Some("node"), _) => "the node ran out of memory".to_owned(),
        (Some(whose), Some(limit)) => format!("the {whose}'s limit of {} was met", Bytes(limit)),
        _ => "a memory limit was met".to_owned(),
    };
    let others = match report.victims.len() {
        0 | 1 => String::new(),
        more => format!(" and {} more", more - 1),
    };
    format!(
        "OOM-killed process {} ({}){others} of {what}, which held {} of anonymous memory: {whose}",
        victim.pid,
        victim.comm,
        Bytes(victim.anon)
    )
}
