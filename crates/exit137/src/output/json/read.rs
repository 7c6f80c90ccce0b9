//! The contract read back: a stored verdict is shown in whatever form today's program has.
//!
//! What an older or newer program wrote is read as far as it is understood: a missing field is what is not known, an
//! unknown one is passed over.

use std::collections::BTreeMap;

use exit137_core::observation::kubernetes::ContainerRole;
use exit137_core::observation::{SourceCount, SourceKind};
use exit137_core::problem::Problem;
use exit137_core::time::{Moment, SECOND};
use exit137_core::verdict as core;
use serde::{Deserialize, Deserializer};

use super::read_timeline::{Timeline, time};

/// Reads a document of schema `exit137.verdict/1`.
pub(crate) fn read(document: &str) -> Result<core::Verdict, serde_json::Error> {
    serde_json::from_str::<Verdict>(document).map(core::Verdict::from)
}

/// `null` is the same as absent.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Option::<T>::deserialize(from).map(Option::unwrap_or_default)
}

/// The value of this name, or the default of the list.
fn named<T: Copy>(name: &str, all: &[(&str, T)], default: T) -> T {
    all.iter().find(|(known, _)| *known == name).map_or(default, |(_, value)| *value)
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Verdict {
    incidents: Vec<Incident>,
    leaks: Vec<Leak>,
    not_oom: Vec<NotOom>,
    problems: Vec<Told>,
    guesses: Vec<String>,
    looked_in: BTreeMap<String, Count>,
    skipped: BTreeMap<String, u64>,
}

#[derive(Deserialize)]
struct Told {
    source: String,
    message: String,
}

#[derive(Deserialize)]
struct Count {
    files: u64,
    records: u64,
}

const SOURCE_KINDS: &[(&str, SourceKind)] = &[
    ("kubernetes", SourceKind::Kubernetes),
    ("kernel_log", SourceKind::KernelLog),
    ("cgroup", SourceKind::Cgroup),
    ("traces", SourceKind::Traces),
    ("metrics", SourceKind::Metrics),
    ("logs", SourceKind::Logs),
    ("journals", SourceKind::Journal),
];

impl From<Verdict> for core::Verdict {
    fn from(verdict: Verdict) -> Self {
        let counts = verdict.looked_in.iter().filter_map(|(name, count)| {
            let (_, kind) = SOURCE_KINDS.iter().find(|(known, _)| known == name)?;
            Some((*kind, SourceCount { files: count.files, records: count.records }))
        });
        Self {
            looked_in: counts.collect(),
            incidents: verdict.incidents.into_iter().map(Into::into).collect(),
            leaks: verdict.leaks.into_iter().map(Into::into).collect(),
            not_oom: verdict.not_oom.into_iter().map(Into::into).collect(),
            guesses: verdict.guesses,
            skipped: verdict.skipped,
            problems: verdict
                .problems
                .into_iter()
                .map(|told| Problem { source: told.source, message: told.message })
                .collect(),
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Container {
    namespace: Option<String>,
    workload: Option<Workload>,
    pod: Option<String>,
    pod_uid: Option<String>,
    name: Option<String>,
    container_id: Option<String>,
    role: Option<String>,
    image: Option<String>,
    version: Option<String>,
    node: Option<String>,
}

#[derive(Deserialize)]
struct Workload {
    kind: String,
    name: String,
}

const ROLES: &[(&str, ContainerRole)] = &[
    ("main", ContainerRole::Main),
    ("init", ContainerRole::Init),
    ("sidecar", ContainerRole::Sidecar),
    ("ephemeral", ContainerRole::Ephemeral),
];

impl From<Container> for core::ContainerRef {
    fn from(container: Container) -> Self {
        Self {
            namespace: container.namespace,
            workload: container
                .workload
                .map(|workload| core::WorkloadName { kind: workload.kind, name: workload.name }),
            pod: container.pod,
            pod_uid: container.pod_uid,
            name: container.name,
            container_id: container.container_id,
            role: container.role.map(|role| named(&role, ROLES, ContainerRole::Main)),
            image: container.image,
            version: container.version,
            node: container.node,
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Incident {
    container: Container,
    headline: String,
    kills: Vec<Kill>,
    cause: Cause,
    opinions: Vec<Opinion>,
    operations: Vec<Operation>,
    introduced_by: Option<IntroducedBy>,
    in_flight: Vec<InFlight>,
    in_flight_missing: Option<f64>,
    advice: Advice,
    gaps: Vec<Gap>,
    facts: Vec<Fact>,
    settings: Vec<Setting>,
    timeline: Option<Timeline>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Cause {
    name: String,
    probability: f64,
}

fn cause(name: &str) -> core::Cause {
    core::Cause::ALL.into_iter().find(|cause| cause.name() == name).unwrap_or(core::Cause::Unknown)
}

impl From<Incident> for core::IncidentVerdict {
    fn from(incident: Incident) -> Self {
        let gap = |gap: Gap| core::Gap { missing: gap.missing, effect: gap.effect, remedy: gap.remedy };
        let fact = |fact: Fact| core::Fact { name: fact.name, value: fact.value, source: fact.source };
        Self {
            container: incident.container.into(),
            headline: incident.headline,
            kills: incident.kills.into_iter().map(Into::into).collect(),
            cause: cause(&incident.cause.name),
            probability: core::Probability(incident.cause.probability),
            opinions: incident.opinions.into_iter().map(Into::into).collect(),
            operations: incident.operations.into_iter().map(Into::into).collect(),
            introduced_by: incident
                .introduced_by
                .map(|by| core::IntroducedBy { version: by.version, previous: by.previous }),
            in_flight: incident.in_flight.into_iter().map(Into::into).collect(),
            in_flight_missing: incident.in_flight_missing,
            advice: incident.advice.into(),
            gaps: incident.gaps.into_iter().map(gap).collect(),
            facts: incident.facts.into_iter().map(fact).collect(),
            settings: incident.settings.into_iter().map(Into::into).collect(),
            timeline: incident.timeline.map(Into::into).unwrap_or_default(),
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Kill {
    at: Option<String>,
    uncertainty_seconds: Option<f64>,
    pod: Option<String>,
    container_id: Option<String>,
    seen_by: Vec<String>,
    limit_hit: Option<String>,
    limit_bytes: Option<u64>,
    victim: Victim,
    container_survived: Option<bool>,
    life_started_at: Option<String>,
    record: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Victim {
    pid: Option<u32>,
    comm: Option<String>,
    main_process: Option<bool>,
    anon_bytes: Option<u64>,
    file_bytes: Option<u64>,
    shmem_bytes: Option<u64>,
}

const WITNESSES: &[(&str, core::Witness)] = &[
    ("kernel", core::Witness::Kernel),
    ("kubernetes", core::Witness::Kubernetes),
    ("cgroup", core::Witness::Cgroup),
    ("metrics", core::Witness::Metrics),
];

const LIMITS: &[(&str, core::LimitHit)] = &[
    ("container", core::LimitHit::Container),
    ("pod", core::LimitHit::Pod),
    ("ancestor", core::LimitHit::Ancestor),
    ("node", core::LimitHit::Node),
];

fn moment(at: Option<&str>, uncertainty_seconds: Option<f64>) -> Option<Moment> {
    Some(Moment::new(time(at?)?, (uncertainty_seconds.unwrap_or_default() * SECOND as f64) as i64))
}

impl From<Kill> for core::Kill {
    fn from(kill: Kill) -> Self {
        let witness =
            |name: &String| WITNESSES.iter().find(|(known, _)| known == name).map(|(_, kind)| *kind);
        let limit = |name: String| LIMITS.iter().find(|(known, _)| *known == name).map(|(_, limit)| *limit);
        Self {
            at: moment(kill.at.as_deref(), kill.uncertainty_seconds).unwrap_or(Moment::UNKNOWN),
            pod: kill.pod,
            container_id: kill.container_id,
            seen_by: kill.seen_by.iter().filter_map(witness).collect(),
            limit_hit: kill.limit_hit.and_then(limit),
            limit_bytes: kill.limit_bytes,
            victim: core::VictimProcess {
                pid: kill.victim.pid,
                comm: kill.victim.comm,
                main_process: kill.victim.main_process,
                anon_bytes: kill.victim.anon_bytes,
                file_bytes: kill.victim.file_bytes,
                shmem_bytes: kill.victim.shmem_bytes,
            },
            container_survived: kill.container_survived,
            life_started_at: kill.life_started_at.as_deref().and_then(time),
            record: kill.record,
        }
    }
}

#[derive(Deserialize)]
struct Opinion {
    cause: String,
    opinion: String,
    #[serde(default)]
    probability: f64,
    #[serde(default)]
    summary: String,
    #[serde(default)]
    evidence: Vec<String>,
}

const ANSWERS: &[(&str, core::Answer)] = &[
    ("supported", core::Answer::Supported),
    ("ruled_out", core::Answer::RuledOut),
    ("cannot_tell", core::Answer::CannotTell),
];

impl From<Opinion> for core::Opinion {
    fn from(opinion: Opinion) -> Self {
        Self {
            cause: cause(&opinion.cause),
            answer: named(&opinion.opinion, ANSWERS, core::Answer::CannotTell),
            probability: core::Probability(opinion.probability),
            summary: opinion.summary,
            evidence: opinion.evidence,
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Operation {
    names: Vec<String>,
    service: Option<String>,
    probability: f64,
    #[serde(deserialize_with = "or_default")]
    attributes: BTreeMap<String, String>,
    bytes_per_execution: Option<Interval>,
    share_of_growth: Option<f64>,
    in_flight_at_kill: u32,
    summary: String,
    notes: Vec<String>,
}

#[derive(Deserialize, Clone, Copy)]
struct Interval {
    low: f64,
    mid: f64,
    high: f64,
}

impl From<Interval> for core::Interval {
    fn from(interval: Interval) -> Self {
        Self { low: interval.low, mid: interval.mid, high: interval.high }
    }
}

impl From<Operation> for core::OperationClaim {
    fn from(operation: Operation) -> Self {
        Self {
            names: operation.names,
            service: operation.service,
            probability: core::Probability(operation.probability),
            attributes: operation.attributes,
            bytes_per_execution: operation.bytes_per_execution.map(Into::into),
            share_of_growth: operation.share_of_growth,
            notes: operation.notes,
            in_flight_at_kill: operation.in_flight_at_kill,
            summary: operation.summary,
        }
    }
}

#[derive(Deserialize)]
struct IntroducedBy {
    version: String,
    previous: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct InFlight {
    operation: String,
    trace_id: Option<String>,
    span_id: Option<String>,
    started_at: Option<String>,
    recovered_from: String,
    #[serde(deserialize_with = "or_default")]
    attributes: BTreeMap<String, String>,
    kill: usize,
}

const RECOVERED_FROM: &[(&str, core::RecoveredFrom)] = &[
    ("journal", core::RecoveredFrom::Journal),
    ("client_span", core::RecoveredFrom::ClientSpan),
    ("orphans", core::RecoveredFrom::Orphans),
    ("log", core::RecoveredFrom::Log),
];

impl From<InFlight> for core::InFlight {
    fn from(request: InFlight) -> Self {
        Self {
            operation: request.operation,
            trace_id: request.trace_id.and_then(|id| u128::from_str_radix(&id, 16).ok()),
            span_id: request.span_id.and_then(|id| u64::from_str_radix(&id, 16).ok()),
            started_at: request.started_at.as_deref().and_then(time),
            kill: request.kill,
            recovered_from: named(&request.recovered_from, RECOVERED_FROM, core::RecoveredFrom::Log),
            attributes: request.attributes,
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Advice {
    action: String,
    summary: String,
    limit_bytes: Option<u64>,
    horizon_days: Option<u32>,
    next_kill_in_seconds: Option<Interval>,
}

const ACTIONS: &[core::Action] = &[
    core::Action::FixCode,
    core::Action::RaiseLimit,
    core::Action::CapConcurrency,
    core::Action::BoundFiles,
    core::Action::IsolateChild,
    core::Action::ResizeNode,
    core::Action::CollectMore,
];

impl From<Advice> for core::Advice {
    fn from(advice: Advice) -> Self {
        let action = ACTIONS.iter().find(|action| action.name() == advice.action);
        Self {
            action: action.copied().unwrap_or(core::Action::CollectMore),
            summary: advice.summary,
            limit_bytes: advice.limit_bytes,
            horizon_days: advice.horizon_days,
            next_kill_in_seconds: advice.next_kill_in_seconds.map(Into::into),
        }
    }
}

#[derive(Deserialize)]
struct Gap {
    missing: String,
    effect: String,
    #[serde(rename = "do")]
    remedy: String,
}

#[derive(Deserialize)]
struct Fact {
    name: String,
    value: String,
    source: String,
}

#[derive(Deserialize)]
struct Setting {
    setting: String,
    place: String,
    contradicts: bool,
    summary: String,
}

impl From<Setting> for core::SettingFinding {
    fn from(finding: Setting) -> Self {
        Self {
            setting: finding.setting,
            place: finding.place,
            contradicts: finding.contradicts,
            summary: finding.summary,
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Leak {
    container: Container,
    headline: String,
    probability: f64,
    slope_bytes_per_hour: Option<Interval>,
    time_to_limit_seconds: Option<Interval>,
    operations: Vec<Operation>,
    timeline: Option<Timeline>,
}

impl From<Leak> for core::LeakVerdict {
    fn from(leak: Leak) -> Self {
        Self {
            container: leak.container.into(),
            probability: core::Probability(leak.probability),
            slope_bytes_per_hour: leak.slope_bytes_per_hour.map(Into::into).unwrap_or_default(),
            time_to_limit_seconds: leak.time_to_limit_seconds.map(Into::into),
            operations: leak.operations.into_iter().map(Into::into).collect(),
            headline: leak.headline,
            timeline: leak.timeline.map(Into::into).unwrap_or_default(),
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct NotOom {
    container: Container,
    at: Option<String>,
    uncertainty_seconds: Option<f64>,
    exit_code: i32,
    reason: String,
    summary: String,
}

const REASONS: &[core::NotOomReason] = &[
    core::NotOomReason::Probe,
    core::NotOomReason::Eviction,
    core::NotOomReason::GracePeriod,
    core::NotOomReason::StartError,
    core::NotOomReason::Unknown,
];

impl From<NotOom> for core::NotOom {
    fn from(end: NotOom) -> Self {
        let reason = REASONS.iter().find(|reason| reason.name() == end.reason);
        Self {
            container: end.container.into(),
            at: moment(end.at.as_deref(), end.uncertainty_seconds),
            exit_code: end.exit_code,
            reason: reason.copied().unwrap_or(core::NotOomReason::Unknown),
            summary: end.summary,
        }
    }
}

#[cfg(test)]
mod tests {
    use exit137_core::time::UnixNanos;

    use super::*;
    use crate::output::{Format, Paper, sample};

    #[test]
    fn what_was_written_is_read_back_whole() {
        let verdict = sample::verdict();
        let written = Format::Json.render(&verdict, &Paper::default());
        let again = read(&written).expect("our own JSON");
        assert_eq!(Format::Json.render(&again, &Paper::default()), written);
        // Whole bytes are enough for words; a drawing may differ by a tenth of a pixel.
        let paper = Paper::default();
        assert_eq!(Format::Markdown.render(&again, &paper), Format::Markdown.render(&verdict, &paper));
        assert!(again.incidents.iter().all(|incident| incident.kills[0].at.at > UnixNanos(0)));
    }

    #[test]
    fn what_is_not_known_is_not_made_up() {
        let verdict = read(r#"{"incidents":[{"cause":{"name":"moon"},"kills":[{"at":null}],"new":1}]}"#);
        let incident = verdict.expect("a verdict").incidents.remove(0);
        assert_eq!(incident.cause, core::Cause::Unknown);
        assert!(!incident.kills[0].at.is_known());
        assert!(read("[1]").is_err());
    }
}
