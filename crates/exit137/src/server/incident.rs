//! An incident as it is remembered: the verdict's document, and beside it what lists show, filter and sort by.

use exit137_core::time::UnixNanos;
use exit137_core::verdict::{Cause, ContainerRef, IncidentVerdict, Kill, Probability};
use serde::{Deserialize, Serialize};

use crate::output::container_name;

/// What is known of an incident without reading its verdict.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Summary {
    /// Stays the same while the verdict is refined: date and time of the first kill, and six letters.
    pub(crate) id: String,
    /// What people call the container.
    pub(crate) title: String,
    /// Namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) namespace: Option<String>,
    /// Kind of the owner.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) workload_kind: Option<String>,
    /// Name of the owner.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) workload: Option<String>,
    /// Container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) container: Option<String>,
    /// Pod of the latest kill.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pod: Option<String>,
    /// Version of the latest kill.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) version: Option<String>,
    /// Name of the cause in the contract.
    pub(crate) cause: String,
    /// How sure of it.
    pub(crate) probability: f64,
    /// In words.
    pub(crate) words: String,
    /// The operation held guilty, or the group of them.
    #[serde(default)]
    pub(crate) operations: Vec<String>,
    /// One sentence.
    pub(crate) headline: String,
    /// What kind of action is advised.
    pub(crate) action: String,
    /// How often it happened: all kills seen so far, also those whose evidence is gone.
    pub(crate) kill_count: u64,
    /// RFC 3339.
    pub(crate) first_at: String,
    /// RFC 3339.
    pub(crate) last_at: String,
    /// Whether nothing is expected to change the verdict on the kills so far.
    pub(crate) settled: bool,
    /// The version since which there was no kill, once that means something.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ended_with: Option<String>,
    /// How often the verdict was made anew.
    pub(crate) revision: u64,
    /// When it was made. RFC 3339.
    pub(crate) updated_at: String,
    /// Version of the program that judged.
    #[serde(default)]
    pub(crate) judged_by: String,
    /// The kills by which a verdict is known to be about the same incident.
    #[serde(default)]
    pub(crate) marks: Vec<KillMark>,
}

/// Who judges now.
pub(crate) const PROGRAM: &str = env!("CARGO_PKG_VERSION");

/// Which kill: enough to know it again when it is told by somebody else.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct KillMark {
    /// Container ID, or the pod's UID where there is none.
    pub(crate) container: String,
    /// Nanoseconds since the epoch; 0 when not known.
    pub(crate) at: i64,
    /// Half width, nanoseconds.
    pub(crate) uncertainty: i64,
}

/// Kills remembered one by one; more are counted.
const MARKS_MAX: usize = 256;

/// Clocks of two witnesses may differ by this much.
const SLACK: i64 = 3_000_000_000;

impl KillMark {
    fn of(kill: &Kill, container: &ContainerRef) -> Self {
        let name = kill.container_id.clone().or_else(|| container.pod_uid.clone()).unwrap_or_default();
        Self { container: name, at: kill.at.at.0, uncertainty: kill.at.uncertainty }
    }

    /// Whether both are the same kill.
    pub(crate) fn matches(&self, other: &Self) -> bool {
        let reach = self.uncertainty.saturating_add(other.uncertainty).saturating_add(SLACK);
        self.container == other.container && self.at.saturating_sub(other.at).saturating_abs() <= reach
    }
}

impl Summary {
    /// What lists show of `verdict`, made at `now`; `before` is what was known of the same incident.
    pub(crate) fn of(verdict: &IncidentVerdict, before: Option<&Self>, now: UnixNanos) -> Self {
        let container = &verdict.container;
        let marks: Vec<KillMark> = verdict.kills.iter().map(|kill| KillMark::of(kill, container)).collect();
        let times = || verdict.kills.iter().filter(|kill| kill.at.is_known()).map(|kill| kill.at.at);
        // Where no source tells the time, it is when we heard of it first, whatever is heard later.
        let first = times().min().unwrap_or_else(|| before.map_or(now, Self::first));
        let last = times().max().unwrap_or_else(|| before.map_or(now, Self::last));
        let operations = verdict.operations.first().map(|claim| claim.names.clone()).unwrap_or_default();
        let mut summary = Self {
            id: before.map_or_else(|| new_id(first, &marks), |before| before.id.clone()),
            title: container_name(container),
            namespace: container.namespace.clone(),
            workload_kind: container.workload.as_ref().map(|workload| workload.kind.clone()),
            workload: container.workload.as_ref().map(|workload| workload.name.clone()),
            container: container.name.clone(),
            pod: container.pod.clone(),
            version: container.version.clone(),
            cause: verdict.cause.name().to_owned(),
            probability: (verdict.probability.0 * 1e4).round() / 1e4,
            words: verdict.probability.words().to_owned(),
            operations: if verdict.cause == Cause::Unknown { Vec::new() } else { operations },
            headline: verdict.headline.clone(),
            action: verdict.advice.action.name().to_owned(),
            kill_count: verdict.kills.len() as u64,
            first_at: first.to_string(),
            last_at: last.to_string(),
            settled: false,
            ended_with: None,
            revision: before.map_or(1, |before| before.revision + 1),
            updated_at: now.to_string(),
            judged_by: PROGRAM.to_owned(),
            marks,
        };
        if let Some(before) = before {
            summary.remember(before);
        }
        summary.marks.sort_by_key(|mark| mark.at);
        let surplus = summary.marks.len().saturating_sub(MARKS_MAX);
        summary.marks.drain(..surplus);
        summary
    }

    /// Kills that were seen before still count when their evidence has aged out.
    fn remember(&mut self, before: &Self) {
        let oldest = self.marks.iter().map(|mark| mark.at).min().unwrap_or(i64::MAX);
        let is_new = |mark: &KillMark| !self.marks.iter().any(|known| known.matches(mark));
        let gone: Vec<KillMark> =
            before.marks.iter().filter(|mark| mark.at < oldest && is_new(mark)).cloned().collect();
        // Of kills beyond those remembered one by one there is only the number.
        let uncounted = before.kill_count.saturating_sub(before.marks.len() as u64);
        self.kill_count += gone.len() as u64 + uncounted;
        if !gone.is_empty() || uncounted > 0 {
            self.first_at.clone_from(&before.first_at);
        }
        self.marks.extend(gone);
    }

    /// Whether one of these kills is one of ours.
    pub(crate) fn shares_kill(&self, marks: &[KillMark]) -> bool {
        self.marks.iter().any(|mark| marks.iter().any(|other| mark.matches(other)))
    }

    /// When it last happened.
    pub(crate) fn last(&self) -> UnixNanos {
        UnixNanos::parse_rfc3339(&self.last_at).unwrap_or_default()
    }

    /// When it first happened.
    pub(crate) fn first(&self) -> UnixNanos {
        UnixNanos::parse_rfc3339(&self.first_at).unwrap_or_default()
    }

    /// `likely (73 %)`.
    pub(crate) fn certainty(&self) -> String {
        let percent = Probability(self.probability).0 * 100.0;
        format!("{} ({percent:.0} %)", self.words)
    }

    /// The cause in words.
    pub(crate) fn cause_title(&self) -> &'static str {
        let cause = Cause::ALL.into_iter().find(|cause| cause.name() == self.cause);
        cause.unwrap_or(Cause::Unknown).title()
    }
}

/// The marks of a verdict's kills.
pub(crate) fn marks_of(verdict: &IncidentVerdict) -> Vec<KillMark> {
    verdict.kills.iter().map(|kill| KillMark::of(kill, &verdict.container)).collect()
}

/// Safe in addresses and file names, sorted by time, and told apart by the container.
fn new_id(first: UnixNanos, marks: &[KillMark]) -> String {
    let hash = marks
        .iter()
        .flat_map(|mark| mark.container.bytes().chain(mark.at.to_le_bytes()))
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    let time = first
        .to_timestamp()
        .map_or_else(|| "undated".to_owned(), |at| at.strftime("%Y%m%d-%H%M%S").to_string());
    format!("{time}-{:06x}", hash & 0xff_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::sample;

    #[test]
    fn kills_whose_evidence_is_gone_still_count() {
        let now = UnixNanos(1_795_400_000_000_000_000);
        let mut verdict = sample::verdict().incidents.remove(0);
        let all = verdict.kills.len() as u64;
        let first = Summary::of(&verdict, None, now);
        assert_eq!((first.kill_count, first.revision), (all, 1));
        verdict.kills.remove(0);
        let later = Summary::of(&verdict, Some(&first), now);
        assert_eq!((later.kill_count, later.revision), (all, 2));
        assert_eq!((&later.id, &later.first_at), (&first.id, &first.first_at));
        assert!(later.shares_kill(&first.marks));
    }

    #[test]
    fn a_time_that_nobody_tells_stays_the_one_of_the_first_hearing() {
        let mut verdict = sample::verdict().incidents.remove(0);
        verdict.kills.iter_mut().for_each(|kill| kill.at = exit137_core::time::Moment::UNKNOWN);
        let heard = UnixNanos(1_795_400_000_000_000_000);
        let first = Summary::of(&verdict, None, heard);
        let later = Summary::of(&verdict, Some(&first), heard + 60_000_000_000);
        assert_eq!((&later.first_at, &later.last_at), (&heard.to_string(), &heard.to_string()));
    }

    #[test]
    fn ids_are_safe_in_addresses_and_files() {
        let verdict = sample::verdict().incidents.remove(0);
        let id = Summary::of(&verdict, None, UnixNanos(0)).id;
        assert!(id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'), "{id}");
    }
}
