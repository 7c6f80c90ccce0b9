//! Which stacks have a row in the journal: the first ones at once, later the largest.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};

use exit137_journal::{HeapRowText, Writer};

use super::{Stack, names, stacks};

/// Rows that were never given out.
static NEXT_ROW: AtomicU32 = AtomicU32::new(0);

/// A newcomer takes a row from somebody else only when it is clearly larger: rows must not wander.
const LARGER_BY: u64 = 4;

/// Stacks that hold less go without names: they are no answer, and reading debug information takes memory.
const NAMED_BYTES: u64 = 2 << 20;

/// So many samples are no chance: such a stack gets its names at once. One sample may stand for megabytes where memory comes and
/// goes, and be gone at the next look; to read debug information for each of those cost more than all else together. So with fewer
/// samples a stack must have held that much at so many looks in a row.
const NAMED_SAMPLES: u64 = 2;
const NAMED_AFTER_LOOKS: u32 = 2;

/// In [`Stack::row`]: being written. No row number is that large.
const CLAIMED: u64 = u32::MAX as u64;

/// Gives a new stack a row of the journal, while there are unused ones. Called from inside an allocation.
pub(super) fn claim_row(stack: &Stack) {
    let Some(journal) = crate::journal() else { return };
    if !stack.is_ready() || NEXT_ROW.load(Ordering::Relaxed) >= journal.heap_rows() {
        return;
    }
    // Only one thread gets the right to write this stack's row; the names come later, from our own thread.
    if stack.row.compare_exchange(0, CLAIMED, Ordering::AcqRel, Ordering::Relaxed).is_err() {
        return;
    }
    let row = NEXT_ROW.fetch_add(1, Ordering::Relaxed);
    if row >= journal.heap_rows() {
        stack.row.store(0, Ordering::Release);
        return;
    }
    let mut addresses = [0; super::FRAMES];
    let mut count = 0;
    for (place, frame) in addresses.iter_mut().zip(&stack.frames) {
        *place = frame.load(Ordering::Relaxed);
        count += usize::from(*place != 0);
    }
    let about = HeapRowText { operation: stack.operation(), addresses: &addresses[..count], text: "" };
    let tag = journal.set_heap_row(row, &about).unwrap_or_default();
    stack.row.store(u64::from(tag) << 32 | u64::from(row + 1), Ordering::Release);
}

fn row_of(stack: &Stack) -> Option<u32> {
    let row = stack.row.load(Ordering::Acquire);
    (row != 0 && row != CLAIMED).then(|| row as u32 - 1)
}

/// What our own thread remembers: which stack each row was named for, and names.
#[derive(Debug, Default)]
pub(crate) struct Ranking {
    named: Vec<u64>,
    /// By key, of the stacks that held [`NAMED_BYTES`] at the last look: at how many looks in a row.
    large: HashMap<u64, u32>,
    pub(crate) names: names::Names,
}

impl Ranking {
    /// Sees to it that the largest stacks have rows, and that rows have names. Called from our own thread only.
    pub(crate) fn refresh(&mut self, journal: &Writer) {
        let mut all: Vec<(&Stack, u64)> = stacks().map(|stack| (stack, stack.live())).collect();
        all.sort_by_key(|(_, live)| std::cmp::Reverse(*live));
        self.named.resize(journal.heap_rows() as usize, 0);
        if NEXT_ROW.load(Ordering::Relaxed) >= journal.heap_rows() {
            self.hand_rows_over(journal, &all);
        }
        let before = std::mem::take(&mut self.large);
        for (stack, _) in all.into_iter().take_while(|(_, live)| *live >= NAMED_BYTES) {
            let key = stack.key.load(Ordering::Relaxed);
            let looks = before.get(&key).map_or(1, |looks| looks.saturating_add(1));
            self.large.insert(key, looks);
            if looks >= NAMED_AFTER_LOOKS || stack.samples() >= NAMED_SAMPLES {
                self.name_row(journal, stack);
            }
        }
        self.names.unload();
    }

    /// From the smallest that have a row to the largest that have none.
    fn hand_rows_over(&mut self, journal: &Writer, all: &[(&Stack, u64)]) {
        let (owners, mut without): (Vec<_>, Vec<_>) =
            all.iter().partition(|(stack, _)| row_of(stack).is_some());
        without.retain(|(stack, live)| *live > 0 && stack.row.load(Ordering::Relaxed) == 0);
        for ((owner, owned), (stack, live)) in owners.iter().rev().zip(without) {
            if live < owned.saturating_mul(LARGER_BY).max(1) {
                break;
            }
            let Some(row) = row_of(owner) else { continue };
            owner.row.store(0, Ordering::Release);
            journal.clear_heap_row(row);
            if let Some(named) = self.named.get_mut(row as usize) {
                *named = 0;
            }
            stack.row.store(u64::from(row + 1), Ordering::Release);
        }
    }

    fn name_row(&mut self, journal: &Writer, stack: &Stack) {
        let Some(row) = row_of(stack) else { return };
        let key = stack.key.load(Ordering::Relaxed);
        let Some(named) = self.named.get_mut(row as usize) else { return };
        if *named == key {
            return;
        }
        *named = key;
        let addresses = stack.addresses();
        let text = self.names.text_of(&addresses);
        let about = HeapRowText { operation: stack.operation(), addresses: &addresses, text: &text };
        let tag = journal.set_heap_row(row, &about).unwrap_or_default();
        stack.row.store(u64::from(tag) << 32 | u64::from(row + 1), Ordering::Release);
        super::tell(stack);
    }
}
