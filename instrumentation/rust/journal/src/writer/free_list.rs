//! Which slots are free: a stack that threads push to and pop from without a lock.

use crate::record::Ordering;

#[cfg(not(loom))]
use std::sync::atomic::{AtomicU32, AtomicU64};

#[cfg(loom)]
use loom::sync::atomic::{AtomicU32, AtomicU64};

/// Numbers from 0 up. The head carries a count beside the number: a number that went and came back between a
/// thread's look and its exchange is noticed.
#[derive(Debug)]
pub(crate) struct FreeList {
    /// Count in the upper half, number + 1 in the lower; 0 there for "none".
    head: AtomicU64,
    /// What lies below each number, + 1.
    next: Box<[AtomicU32]>,
}

impl FreeList {
    pub(crate) fn new(count: u32) -> Self {
        // The lowest number on top: few requests touch few pages.
        let next = (0..count).map(|n| AtomicU32::new(if n + 1 < count { n + 2 } else { 0 })).collect();
        Self { head: AtomicU64::new(u64::from(count > 0)), next }
    }

    pub(crate) fn pop(&self) -> Option<u32> {
        let mut head = self.head.load(Ordering::Acquire);
        loop {
            let number = (head as u32).checked_sub(1)?;
            // May be stale when another thread pops the same number; then the exchange fails.
            let below = self.next.get(number as usize)?.load(Ordering::Relaxed);
            let new = (head >> 32).wrapping_add(1) << 32 | u64::from(below);
            match self.head.compare_exchange_weak(head, new, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Some(number),
                Err(now) => head = now,
            }
        }
    }

    pub(crate) fn push(&self, number: u32) {
        let Some(next) = self.next.get(number as usize) else { return };
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            next.store(head as u32, Ordering::Relaxed);
            let new = (head >> 32).wrapping_add(1) << 32 | u64::from(number + 1);
            match self.head.compare_exchange_weak(head, new, Ordering::AcqRel, Ordering::Relaxed) {
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
        let free = FreeList::new(3);
        assert_eq!([free.pop(), free.pop(), free.pop(), free.pop()], [Some(0), Some(1), Some(2), None]);
        free.push(1);
        assert_eq!([free.pop(), free.pop()], [Some(1), None]);
        assert_eq!(FreeList::new(0).pop(), None);
    }
}
