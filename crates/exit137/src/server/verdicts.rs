//! Makes the verdicts that are due, and decides which incident each is about.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use exit137_core::time::{SECOND, UnixNanos};
use exit137_core::verdict::{IncidentVerdict, Verdict};
use exit137_store::{DatabaseError, IncidentFilter, Page, Store};
use tracing::{info, warn};

use super::config::Config;
use super::evidence::Window;
use super::gaps;
use super::incident::{KillMark, PROGRAM, Summary, marks_of};
use super::judge::{self, Case, JudgeError};
use super::recorder::{Recorder, now};
use super::subject::{Scope, Subject};
use super::tell;
use crate::output::{Format, Paper};

/// Kills of one workload with one cause that come within this time of each other are one incident, also when the
/// evidence of the earlier ones is gone.
const SAME_WITHIN: i64 = 7 * 86_400 * SECOND;

/// After a kill, what tells about it still has times a little later.
const AFTER: i64 = 120 * SECOND;

/// Makes verdicts until the docket is closed.
pub(super) fn run(recorder: &Arc<Recorder>) {
    while let Some(due) = recorder.docket.next() {
        let began = Instant::now();
        match examine(recorder, &due.subject, &due.kills, Why::Kill { is_last: due.is_last }) {
            Ok(changed) if changed.is_empty() && due.is_last => {
                info!(of = due.key, "no OOM kill is found in what is recorded");
            }
            Ok(_) => {}
            Err(error) => {
                recorder.counters.verdict_failures.fetch_add(1, Ordering::Relaxed);
                warn!(of = due.key, error = crate::commands::chain(&error), "no verdict");
            }
        }
        let settle = recorder.config.verdict.settle.0;
        recorder.docket.again(due, began.elapsed(), settle);
    }
}

/// Why something is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// A kill was heard of.
    Kill {
        /// Whether nothing more is waited for.
        is_last: bool,
    },
    /// Somebody asked for it.
    Asked,
    /// This program is newer than the one that judged.
    Newer,
}

/// Judges everything recorded about a subject, and publishes what it comes to.
pub(super) fn examine(
    recorder: &Recorder,
    subject: &Subject,
    kills: &[UnixNanos],
    why: Why,
) -> Result<Vec<Summary>, JudgeError> {
    let began = Instant::now();
    let window = window(recorder, kills);
    let scope = Scope::resolve(&recorder.store, subject, window.from)?;
    let case = case(recorder, &scope, &window);
    let mut verdict = judge::judge(&case)?;
    let millis = began.elapsed().as_millis() as u64;
    recorder.counters.verdicts.fetch_add(1, Ordering::Relaxed);
    recorder.counters.verdict_millis.fetch_add(millis, Ordering::Relaxed);
    let incidents = std::mem::take(&mut verdict.incidents);
    let mut published = Vec::new();
    for mut incident in incidents {
        // A verdict from what is left must not replace one from all there was.
        let is_again = !matches!(why, Why::Kill { .. });
        if is_again && judge::is_partial(&incident) && !was_partial(recorder, &incident)? {
            continue;
        }
        gaps::reword(&mut incident.gaps);
        let summary = publish(recorder, incident, &verdict, why)?;
        info!(
            id = summary.id,
            of = summary.title,
            cause = summary.cause,
            certainty = summary.probability,
            operation = summary.operations.first().map_or("", String::as_str),
            kills = summary.kill_count,
            settled = summary.settled,
            millis,
            "verdict"
        );
        published.push(summary);
    }
    Ok(published)
}

/// Whether the verdict that is known was made from less than there once was, too.
fn was_partial(recorder: &Recorder, incident: &IncidentVerdict) -> Result<bool, DatabaseError> {
    let (before, _) = same(&recorder.incidents(), incident, &marks_of(incident));
    let Some(before) = before else { return Ok(true) };
    let stored = recorder.store.incident(&before.id)?;
    Ok(stored.is_none_or(|stored| stored.json.contains(judge::AGED_OUT)))
}

/// The part of the past that kills at these times are explained from.
pub(super) fn window(recorder: &Recorder, kills: &[UnixNanos]) -> Window {
    let now = now();
    let last = kills.iter().max().copied().unwrap_or(now).min(now);
    Window {
        from: recorder.horizon(last),
        to: last + AFTER,
        kills: if kills.is_empty() { vec![now] } else { kills.to_vec() },
        callers: i64::try_from(recorder.config.verdict.callers_window.0.as_nanos()).unwrap_or(i64::MAX),
        bytes_max: judge::span_bytes_max(judge::kept_bytes_max(recorder.config.verdict.memory)),
    }
}

pub(super) fn case<'a>(recorder: &'a Recorder, scope: &'a Scope, window: &'a Window) -> Case<'a> {
    Case {
        store: &recorder.store,
        scope,
        window,
        kept_bytes_max: judge::kept_bytes_max(recorder.config.verdict.memory),
        disk_budget: recorder.config.disk_budget,
        room: &recorder.room,
    }
}

fn publish(
    recorder: &Recorder,
    incident: IncidentVerdict,
    whole: &Verdict,
    why: Why,
) -> Result<Summary, JudgeError> {
    let marks = marks_of(&incident);
    let (before, gone) = same(&recorder.incidents(), &incident, &marks);
    let mut summary = Summary::of(&incident, before.as_ref(), now());
    summary.settled = match why {
        Why::Kill { is_last } => is_last,
        Why::Asked | Why::Newer => before.is_none_or(|before| before.settled),
    };
    let document = Verdict {
        incidents: vec![incident],
        leaks: Vec::new(),
        not_oom: whole.not_oom.clone(),
        guesses: whole.guesses.clone(),
        looked_in: whole.looked_in.clone(),
        skipped: whole.skipped.clone(),
        problems: whole.problems.clone(),
    };
    let json = Format::Json.render(&document, &Paper::default());
    save(&recorder.store, &summary, json.clone())?;
    for id in &gone {
        recorder.store.delete_incident(id)?;
    }
    recorder.replace(summary.clone(), &gone);
    match why {
        // What a better rule says of last week is on the pages, and wakes nobody.
        Why::Newer => tell::remember(recorder, &summary, &json),
        Why::Kill { .. } | Why::Asked => tell::of(recorder, &summary, &json),
    }
    Ok(summary)
}

/// What was known of the incident before, and other incidents that turn out to be the same.
fn same(all: &[Summary], incident: &IncidentVerdict, marks: &[KillMark]) -> (Option<Summary>, Vec<String>) {
    let container = &incident.container;
    let first = marks.iter().map(|mark| mark.at).filter(|at| *at > 0).min().unwrap_or(0);
    let goes_on = |known: &Summary| {
        known.cause == incident.cause.name()
            && known.ended_with.is_none()
            && known.workload.is_some()
            && known.workload.as_ref() == container.workload.as_ref().map(|workload| &workload.name)
            && known.namespace == container.namespace
            && known.container == container.name
            && (first - known.last().0).abs() <= SAME_WITHIN
    };
    let mut matching: Vec<&Summary> =
        all.iter().filter(|known| known.shares_kill(marks) || goes_on(known)).collect();
    // The oldest stays: its address was given out first.
    matching.sort_by(|a, b| (&a.first_at, &a.id).cmp(&(&b.first_at, &b.id)));
    let mut matching = matching.into_iter();
    let before = matching.next().cloned();
    (before, matching.map(|known| known.id.clone()).collect())
}

fn save(store: &Store, summary: &Summary, json: String) -> Result<(), DatabaseError> {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    store.put_incident(&exit137_store::Incident {
        key: summary.id.clone(),
        namespace: text(&summary.namespace),
        workload: text(&summary.workload),
        container: text(&summary.container),
        cause: summary.cause.clone(),
        operation: summary.operations.first().cloned().unwrap_or_default(),
        version: text(&summary.version),
        probability: summary.probability,
        kills: u32::try_from(summary.kill_count).unwrap_or(u32::MAX),
        first: summary.first(),
        last: summary.last(),
        settled: summary.settled,
        // Plain strings and numbers always have a JSON form.
        summary: serde_json::to_string(summary).unwrap_or_default(),
        json,
    })
}

/// The incidents that the store remembers.
pub(super) fn remembered(store: &Store) -> Result<Vec<Summary>, DatabaseError> {
    let all = Page { count: u32::MAX, ..Page::default() };
    let list = store.incidents(&IncidentFilter::default(), all)?;
    Ok(list.page.iter().filter_map(|incident| serde_json::from_str(&incident.summary).ok()).collect())
}

/// The subject of an incident that is known.
pub(super) fn subject_of(summary: &Summary) -> (Subject, Vec<UnixNanos>) {
    let is_id = |name: &String| name.len() == 64;
    let subject = Subject {
        namespace: summary.namespace.clone(),
        workload: summary.workload.clone(),
        pod: summary.pod.clone(),
        pod_uid: summary.marks.last().map(|mark| mark.container.clone()).filter(|name| !is_id(name)),
        container: summary.container.clone(),
        container_id: summary.marks.last().map(|mark| mark.container.clone()).filter(is_id),
    };
    let kills = summary.marks.iter().filter(|mark| mark.at > 0).map(|mark| UnixNanos(mark.at));
    (subject, kills.collect())
}

/// Takes up what a server that ended, however it ended, had not settled.
pub(super) fn resume(recorder: &Recorder) {
    let open: Vec<Summary> =
        recorder.incidents().iter().filter(|summary| !summary.settled).cloned().collect();
    for summary in open {
        let (subject, _) = subject_of(&summary);
        recorder.due(subject, &summary.marks);
    }
}

/// Incidents that an older program judged, the latest first, as far back as all evidence of them may be there.
pub(super) fn outdated(recorder: &Recorder) -> Vec<String> {
    let Config { keep, verdict, .. } = &recorder.config;
    let kept = keep.spans.0.min(keep.metrics.0).saturating_sub(verdict.horizon.0);
    let oldest = now() - i64::try_from(kept.as_nanos()).unwrap_or(i64::MAX);
    let all = recorder.incidents();
    let is_old = |summary: &&Summary| summary.judged_by != PROGRAM && summary.settled;
    let mut old: Vec<&Summary> =
        all.iter().filter(is_old).filter(|summary| summary.first() > oldest).collect();
    old.sort_by_key(|summary| summary.last());
    old.into_iter().map(|summary| summary.id.clone()).collect()
}

/// Judges an incident again that an older program judged.
pub(super) fn renew(recorder: &Recorder, id: &str) -> Result<(), JudgeError> {
    let Some(summary) = recorder.summary(id) else { return Ok(()) };
    let (subject, kills) = subject_of(&summary);
    examine(recorder, &subject, &kills, Why::Newer).map(drop)
}

/// Incidents whose end is looked for at once; each look asks the catalogue some milliseconds.
const ENDS_AT_ONCE: usize = 300;

/// Notes which incidents ended: a version that came after the last kill has lived longer without one than the ones
/// before it did. `turn` goes round, so that all have theirs however many there are.
pub(super) fn note_ends(recorder: &Recorder, turn: &mut usize) -> Result<(), DatabaseError> {
    let open: Vec<Summary> = {
        let all = recorder.incidents();
        all.iter().filter(|summary| summary.ended_with.is_none() && summary.settled).cloned().collect()
    };
    let from = if *turn < open.len() { *turn } else { 0 };
    *turn = from + ENDS_AT_ONCE;
    for mut summary in open.into_iter().skip(from).take(ENDS_AT_ONCE) {
        if let Some(version) = ended_with(recorder, &summary)? {
            info!(id = summary.id, version, "no kill since a new version");
            summary.ended_with = Some(version);
            if let Some(stored) = recorder.store.incident(&summary.id)? {
                save(&recorder.store, &summary, stored.json.clone())?;
                tell::of(recorder, &summary, &stored.json);
                recorder.replace(summary, &[]);
            }
        }
    }
    Ok(())
}

/// Forgets incidents that are older than they are kept.
pub(super) fn forget_old(recorder: &Recorder) -> Result<(), DatabaseError> {
    let keep = i64::try_from(recorder.config.keep.incidents.0.as_nanos()).unwrap_or(i64::MAX);
    let oldest = now() - keep;
    let old: Vec<String> = {
        let all = recorder.incidents();
        all.iter().filter(|summary| summary.last() < oldest).map(|summary| summary.id.clone()).collect()
    };
    for id in &old {
        recorder.store.delete_incident(id)?;
    }
    recorder.forget(&old);
    Ok(())
}

/// A new version has to live this much longer than those that were killed.
const LONGER: f64 = 1.5;

/// And at least so long.
const LONGER_MIN: i64 = 300 * SECOND;

fn ended_with(recorder: &Recorder, summary: &Summary) -> Result<Option<String>, DatabaseError> {
    let Some(workload) = &summary.workload else { return Ok(None) };
    let subject = Subject {
        namespace: summary.namespace.clone(),
        workload: Some(workload.clone()),
        ..Subject::default()
    };
    let scope = Scope::resolve(&recorder.store, &subject, recorder.horizon(summary.last()))?;
    let last = summary.last();
    // How long it took from one kill to the next, or from the first sign to the kill.
    let times: Vec<i64> = summary.marks.iter().map(|mark| mark.at).filter(|at| *at > 0).collect();
    let between = times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
    let mut versions: Vec<(UnixNanos, UnixNanos, String)> = Vec::new();
    for id in scope.all() {
        let Some(container) = recorder.store.container(id)? else { continue };
        let Some(version) = container.identity.attribute("service.version") else { continue };
        versions.push((container.first, container.last, version.to_owned()));
    }
    let old: Vec<String> =
        versions.iter().filter(|(first, ..)| *first <= last).map(|(.., version)| version.clone()).collect();
    let needed = ((between as f64 * LONGER) as i64).max(LONGER_MIN);
    let newer = versions.into_iter().filter(|(first, heard, version)| {
        *first > last && !old.contains(version) && heard.since(*first) >= needed
    });
    Ok(newer.min().map(|(.., version)| version))
}
