//! From observations to the verdict: the whole pipe, in order. Cannot fail; what is missing becomes a gap.

use std::collections::BTreeMap;

use crate::advice::{advise, duration};
use crate::bytes::Bytes;
use crate::causes::{leader, opinions};
use crate::clock::KernelClock;
use crate::facts::facts_of;
use crate::features::{Features, features};
use crate::gaps::gaps_of;
use crate::grouping::group;
use crate::identity::Cast;
use crate::incident::{Incident, KillScene, Scene, scene_of_kill};
use crate::kills::{KillRecord, account};
use crate::leaks::leaks_of;
use crate::memory::Memory;
use crate::observation::Observations;
use crate::operations::operations_of;
use crate::recovered::{Recovered, recover};
use crate::settings::settings_of;
use crate::skew::{align, told};
use crate::time::UnixNanos;
use crate::timeline::timeline_of_incident;
use crate::verdict::{Cause, ContainerRef, InFlight, IncidentVerdict, Probability, Verdict};
use crate::work::Work;

/// Judges everything that was observed.
pub fn diagnose(observations: &Observations) -> Verdict {
    let mut cast = Cast::of(observations);
    let clock = KernelClock::of(observations, &mut cast);
    let accounts = account(observations, &mut cast, &clock);
    let memory = Memory::of(observations, &cast);
    let mut work = Work::of(observations, &cast);
    let skews = align(&mut work, observations);
    cast.guesses.extend(skews.into_iter().map(|skew| told(&cast, skew)).collect::<Vec<_>>());
    let work = work;
    let scene = Scene { observations, cast: &cast, memory: &memory, work: &work };
    let scenes = scenes_of_kills(&scene, &accounts.kills);
    let mut incidents: Vec<IncidentVerdict> =
        group(&scene, scenes).into_iter().map(|incident| judge(&incident)).collect();
    incidents.sort_by(|a, b| {
        let key = |i: &IncidentVerdict| {
            (i.container.name.is_some(), i.kills.len(), i.kills.last().map(|kill| kill.at.at))
        };
        key(b).cmp(&key(a)).then_with(|| a.headline.cmp(&b.headline))
    });
    let leaks = leaks_of(&scene, &accounts.kills);
    Verdict {
        incidents,
        leaks,
        not_oom: accounts.not_oom,
        guesses: cast.guesses.iter().cloned().collect(),
        looked_in: observations.counts.clone(),
        skipped: skipped(observations),
        problems: observations.problems.list(),
    }
}

/// Events that say nothing about a kill were looked at; that there are such is no news.
fn skipped(observations: &Observations) -> BTreeMap<String, u64> {
    let of_kind = observations.kubernetes.skipped.iter().filter(|(kind, _)| *kind != "Event");
    of_kind.map(|(kind, count)| (kind.clone(), *count)).collect()
}

pub(crate) fn scenes_of_kills<'a>(scene: &Scene<'a>, kills: &'a [KillRecord<'a>]) -> Vec<KillScene<'a>> {
    let located: Vec<(usize, crate::time::Moment)> = kills
        .iter()
        .filter_map(|record| Some((scene.cast.lives[record.life?].container, record.kill.at)))
        .collect();
    let mut recovered = recover(scene.observations, scene.cast, scene.work, &located).into_iter();
    let mut previous: BTreeMap<usize, UnixNanos> = BTreeMap::new();
    let mut scenes = Vec::with_capacity(kills.len());
    for record in kills {
        let swallowed: Vec<Recovered> = record.life.and_then(|_| recovered.next()).unwrap_or_default();
        let before = record.life.and_then(|life| previous.insert(life, record.kill.at.at));
        scenes.push(scene_of_kill(scene, record, before, swallowed));
    }
    scenes
}

fn judge(incident: &Incident<'_>) -> IncidentVerdict {
    let features: Vec<Features> = incident.kills.iter().map(|kill| features(kill, incident.scene)).collect();
    let opinions = opinions(incident, &features);
    let (cause, probability) = leader(&opinions);
    let container = container_of(incident);
    let operations = operations_of(incident, &features, cause, &opinions);
    let summary =
        opinions.iter().find(|opinion| opinion.cause == cause).map(|opinion| opinion.summary.clone());
    let advice = advise(incident, &features, cause, &operations.claims);
    IncidentVerdict {
        headline: headline(incident, &container, cause, probability, summary.as_deref()),
        kills: incident.kills.iter().map(|kill| stated(kill)).collect(),
        cause,
        probability,
        opinions,
        operations: operations.claims,
        introduced_by: operations.introduced_by,
        in_flight: in_flight_of(incident),
        in_flight_missing: operations.in_flight_missing,
        advice,
        gaps: gaps_of(incident, &features, cause),
        timeline: timeline_of_incident(incident),
        facts: facts_of(incident),
        settings: settings_of(incident.scene, incident.latest().container, incident.latest().limit()),
        container,
    }
}

/// The kill with what only the whole scene knows.
fn stated(kill: &KillScene<'_>) -> crate::verdict::Kill {
    use crate::incident::VictimRole;
    let mut stated = kill.record.kill.clone();
    stated.victim.main_process = match kill.role {
        VictimRole::Main | VictimRole::Worker => Some(true),
        VictimRole::Child => Some(false),
        VictimRole::Twin | VictimRole::Unclear => stated.victim.main_process,
    };
    stated
}

fn container_of(incident: &Incident<'_>) -> ContainerRef {
    let latest = incident.latest();
    let mut container =
        latest.container.map(|container| incident.scene.cast.describe(container)).unwrap_or_default();
    container.container_id = latest.record.kill.container_id.clone().or(container.container_id);
    container
}

/// What a person calls this container.
pub(crate) fn called(container: &ContainerRef) -> String {
    let owner =
        container.workload.as_ref().map(|workload| workload.name.clone()).or_else(|| container.pod.clone());
    let place = match (&container.namespace, owner) {
        (Some(namespace), Some(owner)) => Some(format!("{namespace}/{owner}")),
        (None, Some(owner)) => Some(owner),
        _ => None,
    };
    match (place, &container.name) {
        (Some(place), Some(name)) if place.ends_with(name.as_str()) => place,
        (Some(place), Some(name)) => format!("{place} (container {name})"),
        (Some(place), None) => place,
        (None, Some(name)) => name.clone(),
        (None, None) => match (&container.pod_uid, &container.container_id) {
            (Some(uid), _) => format!("a container of unknown pod {uid}"),
            (None, Some(id)) => format!("unknown container {}", id.get(..12).unwrap_or(id)),
            (None, None) => "a process outside any known container".to_owned(),
        },
    }
}

fn headline(
    incident: &Incident<'_>,
    container: &ContainerRef,
    cause: Cause,
    probability: Probability,
    summary: Option<&str>,
) -> String {
    let who = called(container);
    let kills = incident.kills.len();
    let survived = incident.kills.iter().all(|kill| kill.record.kill.container_survived == Some(true));
    let times = if kills == 1 { "once".to_owned() } else { format!("{kills} times") };
    let event = if survived {
        format!("in {who}, a process was OOM-killed {times} while the container lived on")
    } else {
        format!("{who} was OOM-killed {times}")
    };
    let told = incident.latest().record.kill.limit_hit.is_some();
    let at = if told { "at its limit of" } else { "with a limit of" };
    let limit = incident.latest().limit().map(|limit| format!(" {at} {}", Bytes(limit as u64)));
    let limit = limit.filter(|_| cause != Cause::NodePressure).unwrap_or_default();
    let sentence = match (cause, summary) {
        (Cause::Unknown, _) => format!("{event}{limit}; what was given does not tell why"),
        (_, Some(summary)) => {
            format!("{event}{limit}, {} because of {}: {summary}", probability.words(), cause.title())
        }
        (_, None) => format!("{event}{limit}, {} because of {}", probability.words(), cause.title()),
    };
    let hung = incident.latest().stall.map(|stall| {
        format!("; it had hung there for {}", duration(incident.latest().at().seconds_since(stall.from)))
    });
    let sentence =
        sentence.replacen("candidate because of", "possibly because of", 1) + &hung.unwrap_or_default();
    let mut characters = sentence.chars();
    characters.next().map_or(String::new(), |first| {
        if who.starts_with(first) {
            sentence.clone()
        } else {
            first.to_uppercase().chain(characters).collect()
        }
    })
}

fn in_flight_of(incident: &Incident<'_>) -> Vec<InFlight> {
    let of_kill = |(index, kill): (usize, &KillScene<'_>)| {
        let request = move |request: &Recovered| InFlight {
            operation: request.operation.clone(),
            trace_id: (request.trace_id != 0).then_some(request.trace_id),
            span_id: (request.span_id != 0).then_some(request.span_id),
            started_at: Some(request.started_at),
            kill: index,
            recovered_from: request.from,
            attributes: request.attributes.clone(),
        };
        kill.recovered.iter().map(request).collect::<Vec<_>>()
    };
    incident.kills.iter().enumerate().flat_map(of_kill).collect()
}
