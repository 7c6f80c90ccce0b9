//! Which slots are free: stacks that threads push to and pop from without a lock. A thread prefers one of them, so that threads
//! on different cores do not pass the same line of cache, and the same slots, to and fro with every request.

use crate::record::Ordering;

#[cfg(not(loom))]
use std::sync::atomic::{AtomicU32, AtomicU64};

#[cfg(loom)]
use loom::sync::atomic::{AtomicU32, AtomicU64};

/// Stacks; loom looks at all interleavings, of which two have enough.
pub(crate) const STACKS: usize = if cfg!(loom) { 2 } else { 8 };

/// A stack's head, alone on its lines of the cache: a count in the upper half, number + 1 in the lower; 0 there for "none". By
/// the count a number is noticed that went and came back between a thread's look and its exchange.
#[derive(Debug)]
#[repr(align(128))]
struct Head(AtomicU64);

/// Numbers from 0 up.
#[derive(Debug)]
pub(crate) struct FreeList {
    heads: [Head; STACKS],
    /// What lies below each number, + 1.
    next: Box<[AtomicU32]>,
}

impl FreeList {
    pub(crate) fn new(count: u32) -> Self {
        // Neighbours on one stack, the lowest on top: few requests touch few pages.
        let each = count.div_ceil(STACKS as u32).max(1);
        let is_last = |n: u32| n + 1 == count || (n + 1) % each == 0;
        let next = (0..count).map(|n| AtomicU32::new(if is_last(n) { 0 } else { n + 2 })).collect();
        let head = |stack: usize| {
            let first = stack as u32 * each;
            Head(AtomicU64::new(if first < count { u64::from(first + 1) } else { 0 }))
        };
        Self { heads: std::array::from_fn(head), next }
    }

    /// A free number, from the stack `preferred` if that has one. When numbers come back at the same moment, one may be
    /// overlooked.
    pub(crate) fn pop(&self, preferred: usize) -> Option<u32> {
        (0..STACKS).find_map(|step| self.pop_from(&self.heads[preferred.wrapping_add(step) % STACKS].0))
    }

    fn pop_from(&self, stack: &AtomicU64) -> Option<u32> {
        let mut head = stack.load(Ordering::Acquire);
        loop {
            let number = (head as u32).checked_sub(1)?;
            // May be stale when another thread pops the same number; then the exchange fails.
            let below = self.next.get(number as usize)?.load(Ordering::Relaxed);
            let new = (head >> 32).wrapping_add(1) << 32 | u64::from(below);
            match stack.compare_exchange_weak(head, new, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Some(number),
                Err(now) => head = now,
            }
        }
    }

    /// Gives a number back, to the stack `preferred`.
    pub(crate) fn push(&self, preferred: usize, number: u32) {
        let Some(next) = self.next.get(number as usize) else { return };
        let stack = &self.heads[preferred % STACKS].0;
        let mut head = stack.load(Ordering::Relaxed);
        loop {
            next.store(head as u32, Ordering::Relaxed);
            let new = (head >> 32).wrapping_add(1) << 32 | u64::from(number + 1);
            match stack.compare_exchange_weak(head, new, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::FreeList;

    #[test]
    fn every_number_is_handed_out_once() {
        for count in [0, 1, 3, 8, 9, 100] {
            let free = FreeList::new(count);
            let mut all: Vec<u32> = std::iter::from_fn(|| free.pop(5)).collect();
            all.sort_unstable();
            assert_eq!(all, (0..count).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_thread_gets_back_what_it_gave_and_else_what_others_gave() {
        let free = FreeList::new(3);
        while free.pop(0).is_some() {}
        free.push(1, 1);
        free.push(2, 2);
        assert_eq!([free.pop(2), free.pop(2), free.pop(2)], [Some(2), Some(1), None]);
    }
}
