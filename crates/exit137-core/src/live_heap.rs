//! Who held the memory at a kill, by the process's own account: its journal lists the live heap by operation and place.

use std::collections::BTreeMap;

use crate::bytes::MIB;
use crate::incident::{Incident, KillScene, Scene};
use crate::observation::journal::JournalLife;
use crate::operations::{BACKGROUND, Suspect};
use crate::time::SECOND;
use crate::verdict::{Cause, Fact};

/// A journal whose last sign of life lies further from the kill belongs to another life.
const AGE_MAX: i64 = 30 * SECOND;

/// With less live heap than this, samples tell nothing.
const LIVE_MIN: u64 = 8 * MIB;

/// Places that are told as facts.
const PLACES_TOLD: usize = 3;

/// Requests of an operation that must have ended for a mean to be told.
const FINISHED_MIN: u64 = 6;

/// With a smaller share of the heap, what finished requests left behind is beside the point.
const LEFT_SHARE_MIN: f64 = 0.3;

/// What else may have filled the container: the heap is only what went through the allocator.
const TRUST: f64 = 0.97;

/// The journal of the process that this kill ended.
pub(crate) fn journal_of<'a>(scene: &Scene<'a>, kill: &KillScene<'_>) -> Option<&'a JournalLife> {
    let container = kill.container?;
    let at = kill.record.kill.at;
    let unsure = at.uncertainty.min(2 * SECOND) + SECOND;
    let belongs = |life: &&JournalLife| {
        let silence = at.at.since(life.seen);
        life.closed.is_none()
            && scene.cast.container_of_resource(life.resource) == Some(container)
            && life.started <= at.at + unsure
            && (-unsure..=AGE_MAX + unsure).contains(&silence)
    };
    // Workers of one container keep one journal each: the victim's, else the one that held the most.
    let victim = kill.record.kill.victim.pid;
    let fitting = scene.observations.journals.iter().filter(belongs);
    fitting.max_by_key(|life| (Some(life.pid) == victim, life.live_bytes, life.seen))
}

/// Share of the live heap that finished requests had left behind at a kill.
pub(crate) fn left_behind(scene: &Scene<'_>, kill: &KillScene<'_>) -> Option<f64> {
    let life = journal_of(scene, kill).filter(|life| life.live_bytes >= LIVE_MIN)?;
    let text = |symbol| scene.observations.symbols.text(symbol);
    let requests = life.operations.iter().filter(|totals| text(totals.operation) != BACKGROUND);
    let left: u64 = requests.map(|totals| u64::try_from(totals.retained).unwrap_or_default()).sum();
    Some((left as f64 / life.live_bytes as f64).min(1.0))
}

/// Of all that was ever allocated at the place that holds most for requests that are over, the share that is still live. Near
/// 1, nothing that was put there ever went away: a leak, or a cache that never met its bound. A cache at its bound frees as much
/// as it takes. Absent unless requests that are over hold a good part of the heap.
pub(crate) fn never_freed(scene: &Scene<'_>, kill: &KillScene<'_>) -> Option<f64> {
    left_behind(scene, kill).filter(|share| *share >= LEFT_SHARE_MIN)?;
    let life = journal_of(scene, kill)?;
    let leaving = |operation| {
        let mut totals = life.operations.iter().filter(|totals| totals.operation == operation);
        totals.any(|totals| totals.finished >= FINISHED_MIN && totals.retained > 0)
    };
    let text = |symbol| scene.observations.symbols.text(symbol);
    let rows = life.heap.iter().filter(|row| text(row.operation) != BACKGROUND && leaving(row.operation));
    let largest = rows.max_by_key(|row| row.bytes).filter(|row| row.bytes >= LIVE_MIN)?;
    Some((largest.bytes as f64 / largest.allocated.max(1) as f64).min(1.0))
}

/// Requests that ended in the life that this kill ended, by its own count.
pub(crate) fn served(scene: &Scene<'_>, kill: &KillScene<'_>) -> Option<usize> {
    let life = journal_of(scene, kill)?;
    let text = |symbol| scene.observations.symbols.text(symbol);
    let requests = life.operations.iter().filter(|totals| text(totals.operation) != BACKGROUND);
    usize::try_from(requests.map(|totals| totals.finished).sum::<u64>()).ok()
}

/// `212 MiB live, 188 of it allocated by `GET /search` at `src/cache.rs:41``.
fn sentence(scene: &Scene<'_>, life: &JournalLife, row: usize) -> Option<String> {
    let row = life.heap.get(row)?;
    let text = |symbol| scene.observations.symbols.text(symbol);
    let place = row.place.map(|place| format!(" at `{}`", text(place))).unwrap_or_default();
    Some(format!(
        "{} MiB live, {} of it allocated by `{}`{place}",
        life.live_bytes / MIB,
        row.bytes / MIB,
        text(row.operation)
    ))
}

/// The largest parts of the live heap at the latest kill.
pub(crate) fn facts(incident: &Incident<'_>) -> Vec<Fact> {
    let Some(life) = journal_of(incident.scene, incident.latest()) else { return Vec::new() };
    let sentences = (0..PLACES_TOLD).filter_map(|row| sentence(incident.scene, life, row));
    let fact = |value| Fact { name: "live heap".to_owned(), value, source: life.file.clone() };
    sentences.map(fact).collect()
}

/// What each operation is to be blamed with, in bytes, and all of it together.
struct Blame<'a> {
    by_operation: BTreeMap<&'a str, Held>,
    total: u64,
    /// Finished requests left most of the heap behind, rather than requests in flight holding it.
    kept: bool,
}

#[derive(Default)]
struct Held {
    live: u64,
    /// Its largest place: a row of the live heap.
    row: Option<usize>,
    /// Left behind by its finished requests.
    left: u64,
    finished: u64,
}

impl Held {
    fn bytes(&self, kept: bool, background: bool) -> u64 {
        if kept && !background { self.left } else { self.live }
    }
}

fn blame<'a>(scene: &Scene<'a>, life: &'a JournalLife, cause: Cause) -> Blame<'a> {
    let text = |symbol| scene.observations.symbols.text(symbol);
    let mut by_operation: BTreeMap<&str, Held> = BTreeMap::new();
    for (row, heap) in life.heap.iter().enumerate() {
        let held = by_operation.entry(text(heap.operation)).or_default();
        held.live += heap.bytes;
        // Rows are sorted: the first of an operation is its largest place.
        held.row.get_or_insert(row);
    }
    for totals in &life.operations {
        let held = by_operation.entry(text(totals.operation)).or_default();
        held.left = u64::try_from(totals.retained).unwrap_or_default();
        held.finished = totals.finished;
    }
    let left: u64 =
        by_operation.iter().filter(|(name, _)| **name != BACKGROUND).map(|(_, held)| held.left).sum();
    let sudden = matches!(cause, Cause::OperationSpike | Cause::ConcurrencySurge);
    let kept = !sudden && left > life.live_bytes / 2;
    let sum = by_operation.iter().map(|(name, held)| held.bytes(kept, *name == BACKGROUND)).sum::<u64>();
    let total = if kept { sum } else { sum.max(life.live_bytes) };
    Blame { by_operation, total: total.max(1), kept }
}

/// Operations by their share of the memory that was held, if that is known.
pub(crate) fn suspects(incident: &Incident<'_>, cause: Cause) -> Option<Vec<Suspect>> {
    // A child, files, or the node: not this heap.
    let other = matches!(cause, Cause::ChildProcess | Cause::TmpfsOrPageCache | Cause::NodePressure);
    let life = journal_of(incident.scene, incident.latest()).filter(|_| !other)?;
    if life.live_bytes < LIVE_MIN || life.heap.is_empty() {
        return None;
    }
    let blame = blame(incident.scene, life, cause);
    let suspect = |(name, held): (&&str, &Held)| {
        let share = held.bytes(blame.kept, *name == BACKGROUND) as f64 / blame.total as f64;
        let mean = held.left as f64 / held.finished.max(1) as f64;
        let known = held.finished >= FINISHED_MIN && held.left > 0;
        let place = held.row.and_then(|row| sentence(incident.scene, life, row));
        let left = format!("{} finished requests left {} MiB behind", held.finished, held.left / MIB);
        let parts = [Some(left).filter(|_| blame.kept && known), place];
        Suspect {
            names: vec![(*name).to_owned()],
            operation: incident
                .scene
                .work
                .operations
                .iter()
                .position(|known| known == name)
                .map(|n| n as u32),
            // Sharpened: half of the heap is a coin's toss, nearly all of it is nearly certain.
            probability: TRUST * share.powi(2) / (share.powi(2) + (1.0 - share).powi(2)),
            bytes: known.then_some((mean * 0.8, mean, mean * 1.2)),
            share: Some(share),
            attributes: BTreeMap::new(),
            summary: parts.into_iter().flatten().collect::<Vec<_>>().join("; "),
        }
    };
    let mut suspects: Vec<Suspect> = blame.by_operation.iter().map(suspect).collect();
    suspects.sort_by(|a, b| b.probability.total_cmp(&a.probability).then_with(|| a.names.cmp(&b.names)));
    Some(suspects)
}
