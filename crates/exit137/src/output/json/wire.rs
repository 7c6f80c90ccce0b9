//! The structs of the JSON contract, converted by hand: renaming a field of the core breaks no reader.

use std::collections::BTreeMap;

use exit137_core::time::{Moment, SECOND, UnixNanos};
use exit137_core::verdict as core;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::output::words;

#[derive(Serialize)]
pub(super) struct Verdict<'a> {
    schema: &'static str,
    incidents: Vec<Incident<'a>>,
    leaks: Vec<Leak<'a>>,
    not_oom: Vec<NotOom<'a>>,
    problems: Vec<Problem<'a>>,
    guesses: &'a [String],
    looked_in: BTreeMap<&'static str, SourceCount>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    skipped: &'a BTreeMap<String, u64>,
}

#[derive(Serialize)]
struct SourceCount {
    files: u64,
    records: u64,
}

#[derive(Serialize)]
struct Problem<'a> {
    source: &'a str,
    message: &'a str,
}

impl<'a> From<&'a core::Verdict> for Verdict<'a> {
    fn from(verdict: &'a core::Verdict) -> Self {
        Self {
            schema: "exit137.verdict/1",
            incidents: verdict.incidents.iter().map(Incident::from).collect(),
            leaks: verdict.leaks.iter().map(Leak::from).collect(),
            not_oom: verdict.not_oom.iter().map(NotOom::from).collect(),
            problems: verdict
                .problems
                .iter()
                .map(|problem| Problem { source: &problem.source, message: &problem.message })
                .collect(),
            guesses: &verdict.guesses,
            skipped: &verdict.skipped,
            looked_in: verdict
                .looked_in
                .iter()
                .map(|(&kind, count)| {
                    let count = SourceCount { files: count.files, records: count.records };
                    (words::source_kind_name(kind), count)
                })
                .collect(),
        }
    }
}

#[derive(Serialize)]
pub(super) struct Container<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    workload: Option<Workload<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pod: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pod_uid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    container_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<&'a str>,
}

#[derive(Serialize)]
struct Workload<'a> {
    kind: &'a str,
    name: &'a str,
}

impl<'a> From<&'a core::ContainerRef> for Container<'a> {
    fn from(container: &'a core::ContainerRef) -> Self {
        Self {
            namespace: container.namespace.as_deref(),
            workload: container
                .workload
                .as_ref()
                .map(|workload| Workload { kind: &workload.kind, name: &workload.name }),
            pod: container.pod.as_deref(),
            pod_uid: container.pod_uid.as_deref(),
            name: container.name.as_deref(),
            container_id: container.container_id.as_deref(),
            role: container.role.map(words::role),
            image: container.image.as_deref(),
            version: container.version.as_deref(),
            node: container.node.as_deref(),
        }
    }
}

#[derive(Serialize)]
struct Incident<'a> {
    container: Container<'a>,
    headline: &'a str,
    kills: Vec<Kill<'a>>,
    cause: Cause,
    opinions: Vec<Opinion<'a>>,
    operations: Vec<Operation<'a>>,
    introduced_by: Option<IntroducedBy<'a>>,
    in_flight: Vec<InFlight<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    in_flight_missing: Option<f64>,
    advice: Advice<'a>,
    gaps: Vec<Gap<'a>>,
    facts: Vec<Fact<'a>>,
    settings: Vec<Setting<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeline: Option<Timeline<'a>>,
}

impl<'a> From<&'a core::IncidentVerdict> for Incident<'a> {
    fn from(incident: &'a core::IncidentVerdict) -> Self {
        Self {
            container: Container::from(&incident.container),
            headline: &incident.headline,
            kills: incident.kills.iter().map(Kill::from).collect(),
            cause: Cause::from(incident),
            opinions: incident.opinions.iter().map(Opinion::from).collect(),
            operations: incident.operations.iter().map(Operation::from).collect(),
            introduced_by: incident.introduced_by.as_ref().map(|introduced| IntroducedBy {
                version: &introduced.version,
                previous: introduced.previous.as_deref(),
            }),
            in_flight: incident.in_flight.iter().map(InFlight::from).collect(),
            in_flight_missing: incident.in_flight_missing.and_then(|missing| rounded(missing, 10.0)),
            advice: Advice::from(&incident.advice),
            gaps: incident
                .gaps
                .iter()
                .map(|gap| Gap { missing: &gap.missing, effect: &gap.effect, remedy: &gap.remedy })
                .collect(),
            facts: incident
                .facts
                .iter()
                .map(|fact| Fact { name: &fact.name, value: &fact.value, source: &fact.source })
                .collect(),
            settings: incident.settings.iter().map(Setting::from).collect(),
            // Where no time is known there is none.
            timeline: (incident.timeline.from < incident.timeline.to)
                .then(|| Timeline::from(&incident.timeline)),
        }
    }
}

#[derive(Serialize)]
pub(super) struct Cause {
    name: &'static str,
    probability: f64,
    words: &'static str,
}

impl From<&core::IncidentVerdict> for Cause {
    fn from(incident: &core::IncidentVerdict) -> Self {
        Self {
            name: incident.cause.name(),
            probability: probability(incident.probability),
            words: incident.probability.words(),
        }
    }
}

#[derive(Serialize)]
struct Kill<'a> {
    at: Option<String>,
    uncertainty_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pod: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    container_id: Option<&'a str>,
    seen_by: Vec<&'static str>,
    limit_hit: Option<&'static str>,
    limit_bytes: Option<u64>,
    victim: Victim<'a>,
    container_survived: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    life_started_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    record: Option<&'a str>,
}

#[derive(Serialize)]
struct Victim<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    comm: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    main_process: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    anon_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shmem_bytes: Option<u64>,
}

impl<'a> From<&'a core::Kill> for Kill<'a> {
    fn from(kill: &'a core::Kill) -> Self {
        Self {
            at: kill.at.is_known().then(|| kill.at.at.to_string()),
            uncertainty_seconds: kill.at.is_known().then(|| uncertainty_seconds(kill.at)),
            pod: kill.pod.as_deref(),
            container_id: kill.container_id.as_deref(),
            seen_by: kill.seen_by.iter().copied().map(words::witness).collect(),
            limit_hit: kill.limit_hit.map(|limit| match limit {
                core::LimitHit::Container => "container",
                core::LimitHit::Pod => "pod",
                core::LimitHit::Ancestor => "ancestor",
                core::LimitHit::Node => "node",
            }),
            limit_bytes: kill.limit_bytes,
            victim: Victim {
                pid: kill.victim.pid,
                comm: kill.victim.comm.as_deref(),
                main_process: kill.victim.main_process,
                anon_bytes: kill.victim.anon_bytes,
                file_bytes: kill.victim.file_bytes,
                shmem_bytes: kill.victim.shmem_bytes,
            },
            container_survived: kill.container_survived,
            life_started_at: kill.life_started_at.map(|at| at.to_string()),
            record: kill.record.as_deref(),
        }
    }
}

#[derive(Serialize)]
struct Opinion<'a> {
    cause: &'static str,
    opinion: &'static str,
    probability: f64,
    summary: &'a str,
    evidence: &'a [String],
}

impl<'a> From<&'a core::Opinion> for Opinion<'a> {
    fn from(opinion: &'a core::Opinion) -> Self {
        Self {
            cause: opinion.cause.name(),
            opinion: match opinion.answer {
                core::Answer::Supported => "supported",
                core::Answer::RuledOut => "ruled_out",
                core::Answer::CannotTell => "cannot_tell",
            },
            probability: probability(opinion.probability),
            summary: &opinion.summary,
            evidence: &opinion.evidence,
        }
    }
}

#[derive(Serialize)]
pub(super) struct Operation<'a> {
    names: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<&'a str>,
    probability: f64,
    words: &'static str,
    attributes: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_per_execution: Option<Interval>,
    #[serde(skip_serializing_if = "Option::is_none")]
    share_of_growth: Option<f64>,
    in_flight_at_kill: u32,
    summary: &'a str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    notes: &'a [String],
}

impl<'a> From<&'a core::OperationClaim> for Operation<'a> {
    fn from(operation: &'a core::OperationClaim) -> Self {
        Self {
            names: &operation.names,
            service: operation.service.as_deref(),
            probability: probability(operation.probability),
            words: operation.probability.words(),
            attributes: &operation.attributes,
            bytes_per_execution: operation.bytes_per_execution.and_then(Interval::of),
            share_of_growth: operation.share_of_growth.and_then(|share| rounded(share, 1e4)),
            in_flight_at_kill: operation.in_flight_at_kill,
            summary: &operation.summary,
            notes: &operation.notes,
        }
    }
}

/// Whole bytes or seconds: a fraction of either says nothing.
#[derive(Serialize)]
struct Interval {
    low: i64,
    mid: i64,
    high: i64,
}

impl Interval {
    /// `None` where a bound is not a number.
    fn of(interval: core::Interval) -> Option<Self> {
        let whole = |value: f64| value.is_finite().then_some(value.round() as i64);
        Some(Self { low: whole(interval.low)?, mid: whole(interval.mid)?, high: whole(interval.high)? })
    }
}

#[derive(Serialize)]
struct IntroducedBy<'a> {
    version: &'a str,
    previous: Option<&'a str>,
}

#[derive(Serialize)]
struct InFlight<'a> {
    operation: &'a str,
    trace_id: Option<String>,
    span_id: Option<String>,
    started_at: Option<String>,
    recovered_from: &'static str,
    attributes: &'a BTreeMap<String, String>,
    kill: usize,
}

impl<'a> From<&'a core::InFlight> for InFlight<'a> {
    fn from(request: &'a core::InFlight) -> Self {
        Self {
            operation: &request.operation,
            trace_id: request.trace_id.map(|id| format!("{id:032x}")),
            span_id: request.span_id.map(|id| format!("{id:016x}")),
            started_at: request.started_at.map(|at| at.to_string()),
            recovered_from: match request.recovered_from {
                core::RecoveredFrom::Journal => "journal",
                core::RecoveredFrom::ClientSpan => "client_span",
                core::RecoveredFrom::Orphans => "orphans",
                core::RecoveredFrom::Log => "log",
            },
            attributes: &request.attributes,
            kill: request.kill,
        }
    }
}

#[derive(Serialize)]
struct Advice<'a> {
    action: &'static str,
    summary: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    horizon_days: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_kill_in_seconds: Option<Interval>,
}

impl<'a> From<&'a core::Advice> for Advice<'a> {
    fn from(advice: &'a core::Advice) -> Self {
        Self {
            action: advice.action.name(),
            summary: &advice.summary,
            limit_bytes: advice.limit_bytes,
            horizon_days: advice.horizon_days,
            next_kill_in_seconds: advice.next_kill_in_seconds.and_then(Interval::of),
        }
    }
}

#[derive(Serialize)]
struct Gap<'a> {
    missing: &'a str,
    effect: &'a str,
    #[serde(rename = "do")]
    remedy: &'a str,
}

#[derive(Serialize)]
struct Fact<'a> {
    name: &'a str,
    value: &'a str,
    source: &'a str,
}

#[derive(Serialize)]
struct Setting<'a> {
    setting: &'a str,
    place: &'a str,
    contradicts: bool,
    summary: &'a str,
}

impl<'a> From<&'a core::SettingFinding> for Setting<'a> {
    fn from(finding: &'a core::SettingFinding) -> Self {
        Self {
            setting: &finding.setting,
            place: &finding.place,
            contradicts: finding.contradicts,
            summary: &finding.summary,
        }
    }
}

#[derive(Serialize)]
struct Timeline<'a> {
    from: String,
    to: String,
    /// Steps: from this time on, this many bytes.
    limit: Box<RawValue>,
    series: Vec<Series<'a>>,
    in_flight: Box<RawValue>,
    marks: Vec<Mark<'a>>,
}

#[derive(Serialize)]
struct Series<'a> {
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pod: Option<&'a str>,
    lives: Vec<Box<RawValue>>,
}

#[derive(Serialize)]
struct Mark<'a> {
    at: String,
    kind: &'static str,
    label: &'a str,
}

impl<'a> From<&'a core::Timeline> for Timeline<'a> {
    fn from(timeline: &'a core::Timeline) -> Self {
        Self {
            from: timeline.from.to_string(),
            to: timeline.to.to_string(),
            limit: points(timeline.limit.iter().map(|&(at, bytes)| (at, bytes as f64)), 1.0),
            series: timeline
                .series
                .iter()
                .map(|series| Series {
                    kind: series.kind.name(),
                    pod: series.pod.as_deref(),
                    lives: series.lives.iter().map(|life| points(life.iter().copied(), 1.0)).collect(),
                })
                .collect(),
            in_flight: points(timeline.in_flight.iter().copied(), 100.0),
            marks: timeline
                .marks
                .iter()
                .map(|mark| Mark {
                    at: mark.at.to_string(),
                    kind: words::mark_kind(mark.kind),
                    label: &mark.label,
                })
                .collect(),
        }
    }
}

/// `[["2026-11-22T08:00:00.000Z", 1048576], …]` on one line: one line a point would bury the verdict.
fn points(points: impl Iterator<Item = (UnixNanos, f64)>, precision: f64) -> Box<RawValue> {
    let points: Vec<(String, serde_json::Number)> = points
        .filter_map(|(at, value)| Some((at.to_string(), number(rounded(value, precision)?)?)))
        .collect();
    serde_json::value::to_raw_value(&points).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// `12`, not `12.0`.
fn number(value: f64) -> Option<serde_json::Number> {
    if value.fract() == 0.0 && value.abs() < 9e15 {
        return Some(serde_json::Number::from(value as i64));
    }
    serde_json::Number::from_f64(value)
}

#[derive(Serialize)]
pub(super) struct Leak<'a> {
    container: Container<'a>,
    headline: &'a str,
    probability: f64,
    words: &'static str,
    slope_bytes_per_hour: Option<Interval>,
    time_to_limit_seconds: Option<Interval>,
    operations: Vec<Operation<'a>>,
    timeline: Timeline<'a>,
}

impl<'a> From<&'a core::LeakVerdict> for Leak<'a> {
    fn from(leak: &'a core::LeakVerdict) -> Self {
        Self {
            container: Container::from(&leak.container),
            headline: &leak.headline,
            probability: probability(leak.probability),
            words: leak.probability.words(),
            slope_bytes_per_hour: Interval::of(leak.slope_bytes_per_hour),
            time_to_limit_seconds: leak.time_to_limit_seconds.and_then(Interval::of),
            operations: leak.operations.iter().map(Operation::from).collect(),
            timeline: Timeline::from(&leak.timeline),
        }
    }
}

#[derive(Serialize)]
struct NotOom<'a> {
    container: Container<'a>,
    at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uncertainty_seconds: Option<f64>,
    exit_code: i32,
    reason: &'static str,
    summary: &'a str,
}

impl<'a> From<&'a core::NotOom> for NotOom<'a> {
    fn from(end: &'a core::NotOom) -> Self {
        Self {
            container: Container::from(&end.container),
            at: end.at.map(|moment| moment.at.to_string()),
            uncertainty_seconds: end.at.map(uncertainty_seconds),
            exit_code: end.exit_code,
            reason: end.reason.name(),
            summary: &end.summary,
        }
    }
}

fn uncertainty_seconds(moment: Moment) -> f64 {
    moment.uncertainty as f64 / SECOND as f64
}

/// Four digits: more would claim a precision that no estimate here has.
fn probability(probability: core::Probability) -> f64 {
    rounded(probability.0, 1e4).unwrap_or(0.0).clamp(0.0, 1.0)
}

fn rounded(value: f64, precision: f64) -> Option<f64> {
    value.is_finite().then(|| (value * precision).round() / precision).filter(|value| value.is_finite())
}
