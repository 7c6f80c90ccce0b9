//! Who is next: looks at all workloads for leaks that have not killed yet, one after the other, in between.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use exit137_core::time::{SECOND, UnixNanos};
use exit137_core::verdict::{LeakVerdict, Verdict};
use exit137_store::{ContainerFilter, Kind};
use tracing::warn;

use super::evidence::Window;
use super::judge::{self, JudgeError};
use super::recorder::{LeakBoard, Recorder, now};
use super::subject::{Scope, Subject, WORKLOAD_KEYS};
use super::verdicts;
use crate::output::{Format, Paper};

/// Containers looked at in one examination.
const CONTAINERS_MAX: u32 = 20_000;

/// Between two looks at the clock.
const TICK: Duration = Duration::from_millis(500);

/// Incidents are looked over for their ends this often.
const ENDS_EVERY: Duration = Duration::from_secs(60);

/// Whoever tells nothing of its memory for longer is gone. Collectors ask once a minute.
const SILENT_MAX: i64 = 600 * SECOND;

/// Spans of a workload that leaks: enough to say who does it.
const SPAN_BYTES_MAX: u64 = 256 << 20;

/// The document of the contract.
pub(super) fn document(verdict: &Verdict) -> String {
    Format::Json.render(verdict, &Paper::default())
}

/// Examines until the server ends.
pub(super) fn run(recorder: &Arc<Recorder>) {
    let every = recorder.config.verdict.leaks_every.0;
    let (mut leaks_due, mut ends_due) = (Instant::now() + every.min(ENDS_EVERY), Instant::now());
    let (mut outdated, mut turn) = (verdicts::outdated(recorder), 0);
    while !recorder.ending.load(Ordering::Relaxed) {
        std::thread::sleep(TICK);
        let now = Instant::now();
        // Only while no kill waits.
        if recorder.docket.len() == 0
            && let Some(id) = outdated.pop()
            && let Err(error) = verdicts::renew(recorder, &id)
        {
            warn!(id, error = crate::commands::chain(&error), "cannot judge again");
        }
        if now >= ends_due {
            if let Err(error) =
                verdicts::note_ends(recorder, &mut turn).and_then(|()| verdicts::forget_old(recorder))
            {
                warn!(%error, "cannot look over the incidents");
            }
            ends_due = Instant::now() + ENDS_EVERY;
        }
        if now >= leaks_due && !every.is_zero() {
            if let Err(error) = examine(recorder) {
                warn!(error = crate::commands::chain(&error), "cannot look for leaks");
            }
            leaks_due = Instant::now() + every;
        }
    }
}

/// Looks at every workload that was heard of within the horizon.
fn examine(recorder: &Recorder) -> Result<(), JudgeError> {
    let at = now();
    let filter =
        ContainerFilter { from: recorder.horizon(at), count: CONTAINERS_MAX, ..ContainerFilter::default() };
    let mut subjects: BTreeSet<(Option<String>, String)> = BTreeSet::new();
    for container in recorder.store.containers(&filter)? {
        let get = |key: &str| container.identity.attribute(key).map(str::to_owned);
        let name = WORKLOAD_KEYS.iter().find_map(|key| get(key)).or_else(|| get("service.name"));
        subjects.extend(name.map(|name| (get("k8s.namespace.name"), name)));
    }
    let mut leaks: Vec<LeakVerdict> = Vec::new();
    let workloads = subjects.len();
    for (namespace, workload) in subjects {
        if recorder.ending.load(Ordering::Relaxed) {
            return Ok(());
        }
        let subject = Subject { namespace, workload: Some(workload), ..Subject::default() };
        leaks.extend(leaks_of(recorder, &subject)?);
    }
    leaks.retain(|leak| is_alive(leak, at));
    let soonest = |leak: &LeakVerdict| leak.time_to_limit_seconds.map_or(f64::INFINITY, |time| time.mid);
    leaks.sort_by(|a, b| soonest(a).total_cmp(&soonest(b)));
    let verdict = Verdict { leaks, ..Verdict::default() };
    let json = document(&verdict);
    recorder.show_leaks(LeakBoard { verdict, json, examined_at: Some(at), workloads });
    Ok(())
}

/// Whether its memory was heard of lately: who is gone is not next, and who was rolled back neither.
fn is_alive(leak: &LeakVerdict, at: UnixNanos) -> bool {
    let lives = leak.timeline.series.iter().flat_map(|series| &series.lives);
    let ends = lives.filter_map(|life| life.last().map(|(at, _)| *at));
    ends.max().is_some_and(|last| at.since(last) <= SILENT_MAX)
}

/// Memory alone says whether it leaks; only then are spans asked who does it.
fn leaks_of(recorder: &Recorder, subject: &Subject) -> Result<Vec<LeakVerdict>, JudgeError> {
    let whole = Window { kills: Vec::new(), ..verdicts::window(recorder, &[]) };
    let mut window = Window { bytes_max: 0, ..whole.clone() };
    let scope = Scope::resolve(&recorder.store, subject, window.from)?;
    if scope.all().is_empty() || !has_memory(recorder, &scope, &window)? {
        return Ok(Vec::new());
    }
    let memory = judge::leaks(&verdicts::case(recorder, &scope, &window))?;
    if memory.is_empty() {
        return Ok(memory);
    }
    window.bytes_max = SPAN_BYTES_MAX.min(whole.bytes_max);
    let whole = judge::leaks(&verdicts::case(recorder, &scope, &window))?;
    Ok(if whole.is_empty() { memory } else { whole })
}

/// Whether there is any memory to look at.
fn has_memory(recorder: &Recorder, scope: &Scope, window: &Window) -> Result<bool, JudgeError> {
    let query = exit137_store::Query {
        containers: Some(scope.all()),
        from: window.from,
        to: window.to,
        kinds: vec![Kind::Metrics, Kind::Samples, Kind::Cgroup],
        ..exit137_store::Query::default()
    };
    let mut any = false;
    recorder.store.read(&query, &mut |_| {
        any = true;
        std::ops::ControlFlow::Break(())
    })?;
    Ok(any)
}
