//! Who did it: which operation's executions explain the memory. The cause is settled first; it decides what is
//! asked. Of a leak: whose finishes explain the growth of the floor. Of a spike, a surge or a child: who was
//! running at the kills, weighted by how rare that is.

mod attributes;
pub(crate) mod floor;
mod growth;
mod held;
mod notes;
mod presence;
pub(crate) mod regression;
mod tally;
mod values;
mod versions;

use std::collections::BTreeMap;

use floor::Question;

use crate::features::Features;
use crate::identity::ContainerIndex;
use crate::incident::Scene;
use crate::incident::{Incident, VictimRole};
use crate::live_heap;
use crate::verdict::{Cause, Interval, IntroducedBy, MemoryKind, OperationClaim, Opinion, Probability};

/// Reserved name: memory grows with time, whatever is asked of the service.
pub(crate) const BACKGROUND: &str = "background";
/// Reserved name: every request keeps something.
pub(crate) const EVERY_REQUEST: &str = "every request";

/// Claims below this are not worth a line.
const PROBABILITY_MIN: f64 = 0.02;
/// Who comes next after one that is: whoever looks for the culprit wants to know where to look then.
const NEXT: std::ops::Range<usize> = 1..3;
const PROBABILITY_NEXT_MIN: f64 = 0.002;
/// A cause less probable than this is not asked whom it would blame.
const CAUSE_CONSIDERED_MIN: f64 = 0.02;
/// Beside a claim that is very likely, others need as much to be told.
const BESIDE_CERTAIN_MIN: f64 = 0.2;
/// From here on, more is told of an operation.
const NOTED_MIN: f64 = 0.3;
/// Claims listed.
const CLAIMS_MAX: usize = 5;

/// What is said of the operations of an incident.
#[derive(Debug, Default)]
pub struct Operations {
    /// Ranked.
    pub claims: Vec<OperationClaim>,
    /// Version that brought the fault.
    pub introduced_by: Option<IntroducedBy>,
    /// Requests in flight at the kills that nothing recovered, by Little's law.
    pub in_flight_missing: Option<f64>,
}

/// One operation, or a group that cannot be told apart, with how sure it is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Suspect {
    /// Names, reserved ones included.
    pub names: Vec<String>,
    /// Index of the (first) operation; `None` for reserved names.
    pub operation: Option<u32>,
    /// Probability.
    pub probability: f64,
    /// Bytes kept or held by one execution: low, mid, high.
    pub bytes: Option<(f64, f64, f64)>,
    /// Attribute values that narrow it down.
    pub attributes: BTreeMap<String, String>,
    /// Share of the growth explained.
    pub share: Option<f64>,
    /// One sentence.
    pub summary: String,
}

/// Ranks the operations of an incident. Each cause that may be right says whom it would blame, and its word counts as
/// much as it is probable: an operation is guilty only if the cause is right too.
pub fn operations_of(
    incident: &Incident<'_>,
    features: &[Features],
    cause: Cause,
    opinions: &[Opinion],
) -> Operations {
    // Who held the memory is measured where the process kept a journal: it does not hang on the cause.
    let suspects = match live_heap::suspects(incident, cause) {
        Some(measured) => measured.into_iter().map(|suspect| (cause, suspect)).collect(),
        None => suspects_by_cause(incident, cause, opinions),
    };
    let service = service_of(incident);
    let mut claims: Vec<OperationClaim> = suspects
        .into_iter()
        .enumerate()
        .take_while(|(rank, (_, suspect))| is_told(*rank, suspect))
        .take(CLAIMS_MAX)
        .map(|(_, (cause, suspect))| claim(incident, cause, suspect, service.clone()))
        .collect();
    claims.sort_by(|a, b| b.probability.0.total_cmp(&a.probability.0).then_with(|| a.names.cmp(&b.names)));
    // Beside one that is all but certain, the rest is no help to anyone.
    if claims.first().is_some_and(|claim| claim.probability.0 >= 0.9) {
        claims.retain(|claim| claim.probability.0 >= BESIDE_CERTAIN_MIN);
    }
    Operations {
        introduced_by: (cause == Cause::Leak).then(|| versions::introduced_by(incident)).flatten(),
        in_flight_missing: presence::missing_by_littles_law(incident, features),
        claims,
    }
}

fn is_told(rank: usize, suspect: &Suspect) -> bool {
    suspect.probability >= if NEXT.contains(&rank) { PROBABILITY_NEXT_MIN } else { PROBABILITY_MIN }
}

/// The suspects of every cause that is not far-fetched, the likeliest first. One that several causes blame is blamed
/// for what their words come to together, and told as the weightiest of them tells it.
fn suspects_by_cause(incident: &Incident<'_>, leading: Cause, opinions: &[Opinion]) -> Vec<(Cause, Suspect)> {
    let mut blamed: Vec<(Cause, f64, Suspect)> = Vec::new();
    for opinion in opinions {
        let (cause, of_cause) = (opinion.cause, opinion.probability.0);
        if cause != leading && of_cause < CAUSE_CONSIDERED_MIN {
            continue;
        }
        for mut suspect in suspects_of(incident, cause) {
            suspect.probability *= of_cause;
            if cause != leading {
                suspect.summary = format!("if the cause is {} instead: {}", cause.title(), suspect.summary);
            }
            match blamed.iter_mut().find(|(_, _, known)| known.names == suspect.names) {
                Some((by, weight, known)) => {
                    let sum = known.probability + suspect.probability;
                    if suspect.probability > *weight {
                        (*by, *weight, *known) = (cause, suspect.probability, suspect);
                    }
                    known.probability = sum;
                }
                None => blamed.push((cause, suspect.probability, suspect)),
            }
        }
    }
    blamed
        .sort_by(|a, b| b.2.probability.total_cmp(&a.2.probability).then_with(|| a.2.names.cmp(&b.2.names)));
    blamed.into_iter().map(|(cause, _, suspect)| (cause, suspect)).collect()
}

/// Whom a cause would blame, if it was right.
fn suspects_of(incident: &Incident<'_>, cause: Cause) -> Vec<Suspect> {
    match cause {
        Cause::Leak => growth::suspects(&question_of(incident, None)),
        Cause::TmpfsOrPageCache => growth::suspects(&question_of(incident, Some(MemoryKind::Shmem))),
        Cause::OperationSpike | Cause::ConcurrencySurge if nothing_seen(incident) => {
            held::suspects(&question_of(incident, None))
        }
        Cause::OperationSpike => presence::suspects_of_spike(incident),
        Cause::ChildProcess if incident.latest().role == VictimRole::Child => {
            presence::suspects_of_spike(incident)
        }
        Cause::ConcurrencySurge => presence::suspects_of_surge(incident),
        _ => Vec::new(),
    }
}

/// Whether no request is known that was running at a kill.
fn nothing_seen(incident: &Incident<'_>) -> bool {
    incident.kills.iter().all(|kill| kill.in_flight.is_empty())
}

fn claim(incident: &Incident<'_>, cause: Cause, suspect: Suspect, service: Option<String>) -> OperationClaim {
    let latest = incident.latest();
    let running =
        |operation: u32| latest.in_flight.iter().filter(|call| call.operation == operation).count() as u32;
    let attributes = match (cause, suspect.operation) {
        (Cause::OperationSpike | Cause::ChildProcess, Some(operation)) => {
            attributes::at_kills(incident, operation)
        }
        _ => suspect.attributes,
    };
    let told = suspect.operation.filter(|_| suspect.probability >= NOTED_MIN);
    OperationClaim {
        notes: told.map_or_else(Vec::new, |operation| notes::notes_on(incident, operation, cause)),
        in_flight_at_kill: suspect.operation.map_or(0, running),
        bytes_per_execution: suspect.bytes.map(|(low, mid, high)| crate::verdict::Interval {
            low,
            mid,
            high,
        }),
        share_of_growth: suspect.share,
        probability: Probability(suspect.probability.clamp(0.0, 1.0)),
        summary: suspect.summary,
        names: suspect.names,
        attributes,
        service,
    }
}

fn question_of<'a>(incident: &Incident<'a>, kind: Option<MemoryKind>) -> Question<'a> {
    let cuts = incident.kills.iter().filter_map(|kill| Some((kill.life?, kill.at()))).collect();
    Question { scene: incident.scene, containers: incident.containers(), cuts, kind }
}

/// Who is behind the growth of a container that was not killed.
pub fn operations_of_leak(scene: &Scene<'_>, container: ContainerIndex) -> Vec<OperationClaim> {
    let question = Question { scene, containers: vec![container], cuts: Vec::new(), kind: None };
    let service = service_of_container(scene, container);
    let suspects = growth::suspects(&question).into_iter();
    suspects
        .enumerate()
        .take_while(|(rank, suspect)| is_told(*rank, suspect))
        .take(CLAIMS_MAX)
        .map(|(_, suspect)| OperationClaim {
            notes: Vec::new(),
            attributes: suspect.attributes,
            in_flight_at_kill: 0,
            bytes_per_execution: suspect.bytes.map(|(low, mid, high)| Interval { low, mid, high }),
            share_of_growth: suspect.share,
            probability: Probability(suspect.probability.clamp(0.0, 1.0)),
            summary: suspect.summary,
            names: suspect.names,
            service: service.clone(),
        })
        .collect()
}

fn service_of(incident: &Incident<'_>) -> Option<String> {
    service_of_container(incident.scene, incident.latest().container?)
}

fn service_of_container(scene: &Scene<'_>, container: ContainerIndex) -> Option<String> {
    let name = |resource| scene.observations.resource_attribute(resource, "service.name");
    scene.cast.containers[container].resources.iter().find_map(|resource| name(*resource)).map(str::to_owned)
}
