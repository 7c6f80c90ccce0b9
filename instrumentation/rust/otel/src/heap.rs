//! The live heap by operation and stack, from samples. The table is of fixed size; what finds no room in it is counted
//! under one last entry. Its largest entries are in the journal, and their numbers change there as they change here.
#![allow(unsafe_code)]

pub(crate) mod names;
pub(crate) mod pprof;
pub(crate) mod rank;

use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU32, AtomicU64, Ordering};

use crate::allocator::thread::THREAD;

/// Different stacks, by operation.
const STACKS: usize = if cfg!(miri) { 16 } else { 4096 };
/// Return addresses that are kept of a stack, innermost first. Each costs a hundred nanoseconds and more to find, and what
/// lies further out is the runtime of async services.
pub(crate) const FRAMES: usize = 16;
/// Innermost addresses that are ours: the allocator's hook and the unwinder's caller.
const OWN_FRAMES_MAX: usize = 8;
/// Places that are tried one after the other.
const PROBES: usize = 64;

/// One stack of one operation.
pub(crate) struct Stack {
    /// Of operation and addresses; 0 while free.
    key: AtomicU64,
    /// Whether the fields below are complete.
    ready: AtomicU8,
    operation: AtomicU32,
    frames: [AtomicU64; FRAMES],
    live: AtomicI64,
    samples: AtomicI64,
    allocated: AtomicU64,
    allocations: AtomicU64,
    /// Row in the journal + 1 (lower half) and the row's tag (upper half); 0 for none.
    row: AtomicU64,
}

#[allow(clippy::declare_interior_mutable_const, reason = "only to fill the static")]
const EMPTY: Stack = Stack {
    key: AtomicU64::new(0),
    ready: AtomicU8::new(0),
    operation: AtomicU32::new(0),
    frames: [const { AtomicU64::new(0) }; FRAMES],
    live: AtomicI64::new(0),
    samples: AtomicI64::new(0),
    allocated: AtomicU64::new(0),
    allocations: AtomicU64::new(0),
    row: AtomicU64::new(0),
};

static TABLE: [Stack; STACKS] = [EMPTY; STACKS];
/// Live bytes altogether, estimated.
static LIVE: AtomicI64 = AtomicI64::new(0);

/// Live bytes of one operation at one place.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LiveHeap {
    /// Operation.
    pub operation: String,
    /// Bytes, estimated.
    pub live_bytes: u64,
    /// Samples they are estimated from.
    pub samples: u64,
    /// Bytes ever allocated there, estimated.
    pub allocated_bytes: u64,
    /// Return addresses, innermost first.
    pub addresses: Vec<u64>,
}

/// Writes down a sampled allocation of the calling thread that stands for `weight` bytes. Returns the stack's index + 1.
pub(crate) fn record(operation: u16, weight: u64) -> u16 {
    let mut frames = [0u64; FRAMES];
    let depth = unwind(&mut frames, THREAD.with(|thread| thread.boundary()));
    let index = find(operation, &frames[..depth]);
    let stack = &TABLE[index];
    stack.live.fetch_add(weight as i64, Ordering::Relaxed);
    stack.samples.fetch_add(1, Ordering::Relaxed);
    stack.allocated.fetch_add(weight, Ordering::Relaxed);
    stack.allocations.fetch_add(1, Ordering::Relaxed);
    LIVE.fetch_add(weight as i64, Ordering::Relaxed);
    if stack.row.load(Ordering::Relaxed) == 0 {
        rank::claim_row(stack);
    }
    tell(stack);
    index as u16 + 1
}

/// A sampled block was freed.
pub(crate) fn forget(stack: u16, weight: u64) {
    let Some(stack) = usize::from(stack).checked_sub(1).and_then(|index| TABLE.get(index)) else { return };
    stack.live.fetch_sub(weight as i64, Ordering::Relaxed);
    stack.samples.fetch_sub(1, Ordering::Relaxed);
    LIVE.fetch_sub(weight as i64, Ordering::Relaxed);
    tell(stack);
}

/// Writes a stack's numbers into its row.
fn tell(stack: &Stack) {
    let row = stack.row.load(Ordering::Acquire);
    if row == 0 {
        return;
    }
    if let Some(journal) = crate::journal() {
        let positive = |number: &AtomicI64| number.load(Ordering::Relaxed).max(0) as u64;
        let allocated = stack.allocated.load(Ordering::Relaxed);
        let (tag, row) = ((row >> 32) as u16, row as u32 - 1);
        journal.set_heap_live(row, tag, positive(&stack.live), positive(&stack.samples), allocated);
        journal.set_live(live_bytes(), 0);
    }
}

/// Live bytes altogether, estimated from samples.
pub(crate) fn live_bytes() -> u64 {
    LIVE.load(Ordering::Relaxed).max(0) as u64
}

/// Return addresses of the caller, innermost first, without those of this crate's hooks, as far as the stack's `boundary`: what
/// lies further out polled the request, and is the same for all of them.
#[inline(never)]
fn unwind(frames: &mut [u64; FRAMES], boundary: usize) -> usize {
    let (mut seen, mut kept, mut inside) = (0, 0, false);
    // Ours are inlined into each other more or less, so they are left out by name, when names are looked up. What is
    // sure is that the two innermost are the unwinder's caller and this.
    let mut take = |frame: &backtrace::Frame| {
        seen += 1;
        // It is passed once, from the inside: part of the work may run on a stack of its own.
        let further_out = frame.sp() as usize > boundary;
        if inside && further_out {
            return false;
        }
        inside |= !further_out;
        if seen > 2 {
            frames[kept] = frame.ip() as u64;
            kept += 1;
        }
        kept < FRAMES && seen < FRAMES + OWN_FRAMES_MAX
    };
    // SAFETY: `trace_unsynchronized` asks that no two threads unwind at once where unwinding is not thread-safe. Here it
    // is libgcc's or LLVM's `_Unwind_Backtrace`, which is; `trace`, its safe sibling, takes a lock that may wait for a
    // thread that is allocating under it.
    unsafe { backtrace::trace_unsynchronized(|frame| take(frame)) };
    kept
}

fn key_of(operation: u16, frames: &[u64]) -> u64 {
    let begin = u64::from(operation).wrapping_add(0x4531_3337);
    let sum = frames
        .iter()
        .fold(begin, |sum, frame| (sum ^ frame).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29));
    sum.max(1)
}

/// The index of a stack, made if it is new; the last index when there is no room.
fn find(operation: u16, frames: &[u64]) -> usize {
    let key = key_of(operation, frames);
    for probe in 0..PROBES {
        let index = (key as usize).wrapping_add(probe) % (STACKS - 1);
        let stack = &TABLE[index];
        let known = stack.key.load(Ordering::Acquire);
        if known == key {
            return index;
        }
        if known == 0 {
            match stack.key.compare_exchange(0, key, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    stack.operation.store(u32::from(operation), Ordering::Relaxed);
                    for (place, frame) in stack.frames.iter().zip(frames) {
                        place.store(*frame, Ordering::Relaxed);
                    }
                    stack.ready.store(1, Ordering::Release);
                    return index;
                }
                Err(now) if now == key => return index,
                Err(_) => {}
            }
        }
    }
    let last = &TABLE[STACKS - 1];
    last.operation.store(u32::from(exit137_journal::OTHER), Ordering::Relaxed);
    last.ready.store(1, Ordering::Release);
    STACKS - 1
}

impl Stack {
    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire) != 0
    }

    pub(crate) fn operation(&self) -> u16 {
        self.operation.load(Ordering::Relaxed) as u16
    }

    pub(crate) fn addresses(&self) -> Vec<u64> {
        let frames = self.frames.iter().map(|frame| frame.load(Ordering::Relaxed));
        frames.take_while(|frame| *frame != 0).collect()
    }

    pub(crate) fn live(&self) -> u64 {
        self.live.load(Ordering::Relaxed).max(0) as u64
    }

    pub(crate) fn samples(&self) -> u64 {
        self.samples.load(Ordering::Relaxed).max(0) as u64
    }
}

/// All stacks that are complete.
pub(crate) fn stacks() -> impl Iterator<Item = &'static Stack> {
    TABLE.iter().filter(|stack| stack.is_ready())
}

/// The live heap by operation and stack, largest first. Empty without sampling.
pub fn live_heap() -> Vec<LiveHeap> {
    let row = |stack: &Stack| LiveHeap {
        operation: crate::operations::name(stack.operation()).to_owned(),
        live_bytes: stack.live(),
        samples: stack.samples(),
        allocated_bytes: stack.allocated.load(Ordering::Relaxed),
        addresses: stack.addresses(),
    };
    let mut rows: Vec<LiveHeap> = stacks().map(row).filter(|row| row.live_bytes > 0).collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.live_bytes));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_stack_of_two_operations_is_two_entries() {
        let first = find(90, &[1, 2, 3]);
        assert_eq!(find(90, &[1, 2, 3]), first);
        assert_ne!(find(91, &[1, 2, 3]), first);
        assert_eq!(TABLE[first].addresses(), [1, 2, 3]);
    }

    #[test]
    fn what_is_recorded_and_forgotten_is_gone() {
        let stack = record(92, 500);
        let index = usize::from(stack) - 1;
        assert_eq!(TABLE[index].live(), 500);
        forget(stack, 500);
        assert_eq!(TABLE[index].live(), 0);
        forget(0, 1);
    }
}
