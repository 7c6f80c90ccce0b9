//! What all requests of one operation did together. Operations are few; those beyond the table's end are one.

use std::borrow::Cow;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use exit137_journal::{BACKGROUND, Kind, OTHER, Totals};

use crate::context::Counted;

/// Operations with a row of their own; a power of two. Names are meant to be few; a service that puts ids into them ends
/// up in [`OTHER`].
pub(crate) const ROWS: usize = 128;

struct Row {
    name: OnceLock<Box<str>>,
    kind: AtomicU64,
}

/// What some threads counted for one operation. Whoever wants to know adds all of them up.
#[repr(align(64))]
struct Counters {
    started: AtomicU64,
    finished: AtomicU64,
    allocated: AtomicU64,
    freed: AtomicU64,
    /// Estimated: its small blocks that others freed, less others' that it freed.
    moved: AtomicI64,
    peak: AtomicU64,
}

/// Threads share counters with every eighth other: with all of them, the line would go from core to core with each request.
const SHARES: usize = 8;

#[allow(clippy::declare_interior_mutable_const, reason = "only to fill the statics")]
const UNKNOWN: Row = Row { name: OnceLock::new(), kind: AtomicU64::new(0) };

#[allow(clippy::declare_interior_mutable_const, reason = "only to fill the statics")]
const NOTHING: Counters = Counters {
    started: AtomicU64::new(0),
    finished: AtomicU64::new(0),
    allocated: AtomicU64::new(0),
    freed: AtomicU64::new(0),
    moved: AtomicI64::new(0),
    peak: AtomicU64::new(0),
};

static TABLE: [Row; ROWS] = [UNKNOWN; ROWS];
static COUNTERS: [[Counters; ROWS]; SHARES] = [const { [NOTHING; ROWS] }; SHARES];

/// An end of a request is told to the journal at once when it left so much behind or took it away, else with the next of so
/// many that end. All are told by our own thread four times a second.
const TOLD_AT_ONCE_BYTES: u64 = 64 << 10;
const TOLD_EACH: u64 = 16;

/// For adding a row; nobody waits for it who finds the name.
static ADDING: Mutex<()> = Mutex::new(());

const RESERVED: usize = 2;

/// What is known of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OperationTotals {
    /// Name; `background` is all work outside of requests, `other` are those that found no row.
    pub name: String,
    /// Requests begun.
    pub started: u64,
    /// Requests ended.
    pub finished: u64,
    /// Bytes allocated by those that ended.
    pub allocated: u64,
    /// Bytes freed by those that ended, and their large blocks freed by whomever.
    pub freed: u64,
    /// Bytes of its small blocks that others freed, less others' that it freed: estimated from samples.
    pub moved: i64,
    /// The most that one request held.
    pub peak: u64,
}

impl OperationTotals {
    /// Bytes that its requests have left behind; negative when they freed more than they allocated.
    pub fn retained(&self) -> i64 {
        (self.allocated.wrapping_sub(self.freed) as i64).saturating_sub(self.moved)
    }
}

fn hash(name: &str) -> usize {
    let word = |bytes: &[u8]| {
        let mut word = [0; 8];
        word[..bytes.len()].copy_from_slice(bytes);
        u64::from_le_bytes(word)
    };
    let chunks = name.as_bytes().chunks_exact(8);
    let last = word(chunks.remainder());
    let words = chunks.map(word).chain([last]);
    let mix = |sum: u64, word: u64| (sum ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    words.fold(name.len() as u64, mix) as usize
}

/// Rows in which a name may be, in the order of trying.
fn places(name: &str) -> impl Iterator<Item = usize> {
    let first = hash(name);
    (0..ROWS - RESERVED).map(move |step| RESERVED + first.wrapping_add(step) % (ROWS - RESERVED))
}

/// The index of an operation, made if it is new. Finding one takes no lock and no allocation.
pub(crate) fn index_of(name: &str, kind: Kind) -> u16 {
    for place in places(name) {
        match TABLE[place].name.get() {
            Some(known) if **known == *name => return place as u16,
            Some(_) => {}
            None => return add_row(name, kind),
        }
    }
    OTHER
}

/// An operation under a name that need not be made anew for each request: borrowed unless the table is full.
#[cfg_attr(not(feature = "tower"), allow(dead_code, reason = "the layer asks"))]
pub(crate) fn known(name: &str, kind: Kind) -> (u16, Cow<'static, str>) {
    let index = index_of(name, kind);
    match TABLE[usize::from(index) % ROWS].name.get() {
        Some(known) if **known == *name => (index, Cow::Borrowed(known)),
        _ => (index, Cow::Owned(name.to_owned())),
    }
}

fn add_row(name: &str, kind: Kind) -> u16 {
    let _adding = ADDING.lock().unwrap_or_else(PoisonError::into_inner);
    for place in places(name) {
        let row = &TABLE[place];
        match row.name.get() {
            Some(known) if **known == *name => return place as u16,
            Some(_) => {}
            None => {
                row.kind.store(kind as u64, Ordering::Relaxed);
                if let Some(journal) = crate::journal() {
                    journal.register_operation(place as u16, name, kind);
                }
                let _ = row.name.set(name.into());
                return place as u16;
            }
        }
    }
    OTHER
}

/// Tells a journal that was just made what is known already.
pub(crate) fn register_all(journal: &exit137_journal::Writer) {
    let _adding = ADDING.lock().unwrap_or_else(PoisonError::into_inner);
    let _ = TABLE[usize::from(BACKGROUND)].name.set("background".into());
    let _ = TABLE[usize::from(OTHER)].name.set("other".into());
    for (index, row) in TABLE.iter().enumerate() {
        if let Some(name) = row.name.get() {
            let kind = Kind::from_number(row.kind.load(Ordering::Relaxed) as u8);
            journal.register_operation(index as u16, name, kind);
        }
    }
}

/// The name of an operation.
pub(crate) fn name(index: u16) -> &'static str {
    match index {
        BACKGROUND => "background",
        _ => TABLE.get(usize::from(index)).and_then(|row| row.name.get()).map_or("other", |name| name),
    }
}

/// What this thread counts for an operation.
fn counters(index: u16) -> &'static Counters {
    let share = &COUNTERS[exit137_journal::thread_number() % SHARES];
    share.get(usize::from(index)).unwrap_or(&share[usize::from(OTHER)])
}

/// A request has begun.
pub(crate) fn started(index: u16) {
    counters(index).started.fetch_add(1, Ordering::Relaxed);
}

/// A request has ended.
pub(crate) fn finished(index: u16) {
    counters(index).finished.fetch_add(1, Ordering::Relaxed);
}

/// A request and all that it spawned have ended.
pub(crate) fn add(index: u16, counted: &Counted) {
    let ours = counters(index);
    ours.allocated.fetch_add(counted.allocated, Ordering::Relaxed);
    ours.freed.fetch_add(counted.freed, Ordering::Relaxed);
    if counted.peak > ours.peak.load(Ordering::Relaxed) {
        ours.peak.fetch_max(counted.peak, Ordering::Relaxed);
    }
    let much = counted.held().unsigned_abs() >= TOLD_AT_ONCE_BYTES;
    if much || ours.finished.load(Ordering::Relaxed) % TOLD_EACH == 0 {
        tell(index);
    }
}

/// A large block of a request that is over was freed.
pub(crate) fn freed_late(index: u16, bytes: u64) {
    counters(index).freed.fetch_add(bytes, Ordering::Relaxed);
}

/// About so many bytes of small blocks of `owner` were freed by `by`.
pub(crate) fn moved(owner: u16, by: u16, bytes: i64) {
    if owner != by {
        counters(owner).moved.fetch_add(bytes, Ordering::Relaxed);
        counters(by).moved.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Writes the totals of an operation to the journal.
fn tell(index: u16) {
    if let Some(journal) = crate::journal() {
        journal.set_totals(index, &totals_of(index));
    }
}

/// Writes what only changes now and then: called from our own thread.
pub(crate) fn tell_all(background: &Counted) {
    // Nothing else is booked here: the background has a context of its own.
    let ours = &COUNTERS[0][usize::from(BACKGROUND)];
    ours.allocated.store(background.allocated, Ordering::Relaxed);
    ours.freed.store(background.freed, Ordering::Relaxed);
    ours.peak.store(background.peak, Ordering::Relaxed);
    for (index, row) in TABLE.iter().enumerate() {
        if row.name.get().is_some() {
            tell(index as u16);
        }
    }
}

fn totals_of(index: u16) -> Totals {
    let mut totals = Totals::default();
    for share in &COUNTERS {
        let part = &share[usize::from(index) % ROWS];
        let add = |sum: &mut u64, more: &AtomicU64| *sum = sum.wrapping_add(more.load(Ordering::Relaxed));
        add(&mut totals.started, &part.started);
        add(&mut totals.finished, &part.finished);
        add(&mut totals.allocated, &part.allocated);
        add(&mut totals.freed, &part.freed);
        totals.moved = totals.moved.wrapping_add(part.moved.load(Ordering::Relaxed));
        totals.peak = totals.peak.max(part.peak.load(Ordering::Relaxed));
    }
    totals
}

/// All operations seen so far, the most retaining first.
pub fn operations() -> Vec<OperationTotals> {
    let mut all: Vec<OperationTotals> = TABLE
        .iter()
        .enumerate()
        .filter_map(|(index, row)| {
            let name = row.name.get()?.to_string();
            let Totals { started, finished, allocated, freed, moved, peak } = totals_of(index as u16);
            Some(OperationTotals { name, started, finished, allocated, freed, moved, peak })
        })
        .collect();
    all.sort_by_key(|totals| std::cmp::Reverse(totals.retained()));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_index() {
        let index = index_of("GET /one", Kind::Server);
        assert_eq!(index, index_of("GET /one", Kind::Server));
        assert_eq!(name(index), "GET /one");
        assert_ne!(index, index_of("GET /two", Kind::Server));
    }

    #[test]
    fn what_moves_from_one_is_missing_at_the_other() {
        let (a, b) = (index_of("moves a", Kind::Server), index_of("moves b", Kind::Server));
        moved(a, b, 10);
        moved(a, a, 1000);
        let found =
            |name: &str| operations().into_iter().find(|totals| totals.name == name).expect(name).moved;
        assert_eq!((found("moves a"), found("moves b")), (10, -10));
    }
}
