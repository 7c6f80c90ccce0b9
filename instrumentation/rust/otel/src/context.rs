//! For whom a thread works: one context a running request, and one for everything else. They live in a table of fixed
//! size; the allocator reaches them without allocating.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use exit137_journal::{Mark, thread_number};

use crate::operations;

/// Requests that are counted at once, those included whose spawned tasks still run.
const CONTEXTS: usize = if cfg!(miri) { 16 } else { 4096 };

/// Which context. A number that was given back is given out under another generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ContextId {
    index: u32,
    generation: u32,
}

/// All that runs outside of any request.
pub(crate) const BACKGROUND: ContextId = ContextId { index: 0, generation: 0 };

impl ContextId {
    pub(crate) fn to_bits(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    pub(crate) const fn from_bits(bits: u64) -> Self {
        Self { index: bits as u32, generation: (bits >> 32) as u32 }
    }
}

/// Aligned so that two requests on two cores do not share a cache line.
#[repr(align(128))]
pub(crate) struct Context {
    /// Generation (upper half) and holders (lower half).
    lease: AtomicU64,
    operation: AtomicU32,
    /// Index + 1 of the free one below, while it is free.
    below: AtomicU32,
    allocated: AtomicU64,
    /// Wraps below zero when somebody else's credit comes first.
    freed: AtomicU64,
    peak: AtomicU64,
    /// Its slot in the journal, or [`NO_MARK`].
    mark: AtomicU64,
    /// What it held when it entered its last phase.
    held_at_phase: AtomicU64,
    /// What it had allocated when the journal was last told.
    told: AtomicU64,
}

/// Less than this is told to the journal together with what comes next.
const TOLD_FROM: u64 = 1024;

const NO_MARK: u64 = u64::MAX;

#[allow(clippy::declare_interior_mutable_const, reason = "only to fill the static")]
const EMPTY: Context = Context {
    lease: AtomicU64::new(0),
    operation: AtomicU32::new(0),
    below: AtomicU32::new(0),
    allocated: AtomicU64::new(0),
    freed: AtomicU64::new(0),
    peak: AtomicU64::new(0),
    mark: AtomicU64::new(NO_MARK),
    held_at_phase: AtomicU64::new(0),
    told: AtomicU64::new(0),
};

static TABLE: [Context; CONTEXTS] = [EMPTY; CONTEXTS];

/// Stacks of free contexts. A thread prefers one of them: what it gave back it takes again, warm, and in nobody's way.
const STACKS: usize = 8;

/// A count against mix-ups (upper half), index + 1 of the topmost (lower half).
#[repr(align(128))]
struct Free(AtomicU64);

static FREE: [Free; STACKS] = [const { Free(AtomicU64::new(0)) }; STACKS];
/// Indices from here on were never used. 0 is the background.
static UNUSED: AtomicU32 = AtomicU32::new(1);

/// What was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counted {
    pub allocated: u64,
    pub freed: u64,
    pub peak: u64,
}

impl Counted {
    /// Allocated and not freed; negative when it freed what others had allocated.
    pub(crate) fn held(self) -> i64 {
        self.allocated.wrapping_sub(self.freed) as i64
    }
}

/// The context with this number; the background for numbers that do not exist.
pub(crate) fn context(id: ContextId) -> &'static Context {
    TABLE.get(id.index as usize).unwrap_or(&TABLE[0])
}

impl Context {
    /// Adds what a thread counted. What comes after the request was given back is the background's.
    pub(crate) fn add(&self, id: ContextId, allocated: i64, freed: i64) {
        if id.index != 0 && (self.lease.load(Ordering::Relaxed) >> 32) as u32 != id.generation {
            return context(BACKGROUND).add(BACKGROUND, allocated, freed);
        }
        let (allocated, freed) = (allocated as u64, freed as u64);
        let all = self.allocated.fetch_add(allocated, Ordering::Relaxed).wrapping_add(allocated);
        let gone = self.freed.fetch_add(freed, Ordering::Relaxed).wrapping_add(freed);
        let held = (all.wrapping_sub(gone) as i64).max(0) as u64;
        let mut peak = self.peak.load(Ordering::Relaxed);
        if held > peak {
            peak = self.peak.fetch_max(held, Ordering::Relaxed).max(held);
        }
        let mark = self.mark.load(Ordering::Relaxed);
        // What is freed without anything being allocated may be much.
        let news = all.wrapping_sub(self.told.load(Ordering::Relaxed)) >= TOLD_FROM || freed >= TOLD_FROM;
        if mark != NO_MARK && news {
            self.told.store(all, Ordering::Relaxed);
            if let Some(journal) = crate::journal() {
                journal.set_memory(Mark::from_bits(mark), held, peak, all);
            }
        }
    }

    /// The operation of its request.
    pub(crate) fn operation(&self, id: ContextId) -> u16 {
        let current = (self.lease.load(Ordering::Relaxed) >> 32) as u32 == id.generation;
        if current { self.operation.load(Ordering::Relaxed) as u16 } else { exit137_journal::BACKGROUND }
    }

    /// Its slot in the journal.
    pub(crate) fn mark(&self) -> Option<Mark> {
        let bits = self.mark.load(Ordering::Relaxed);
        (bits != NO_MARK).then(|| Mark::from_bits(bits))
    }

    /// Remembers what it holds, and tells what it held at the phase before.
    pub(crate) fn enter_phase(&self, held: i64) -> i64 {
        self.held_at_phase.swap(held as u64, Ordering::Relaxed) as i64
    }

    /// What was counted so far.
    pub(crate) fn counted(&self) -> Counted {
        Counted {
            allocated: self.allocated.load(Ordering::Relaxed),
            freed: self.freed.load(Ordering::Relaxed),
            peak: self.peak.load(Ordering::Relaxed),
        }
    }
}

/// Somebody freed a large block of the request `owner`'s.
pub(crate) fn credit_owner(owner: ContextId, operation: u16, bytes: u64) {
    match Lease::of(owner) {
        Some(lease) => {
            context(lease.id).freed.fetch_add(bytes, Ordering::Relaxed);
        }
        None if operation == exit137_journal::BACKGROUND => {
            context(BACKGROUND).freed.fetch_add(bytes, Ordering::Relaxed);
        }
        None => operations::freed_late(operation, bytes),
    }
}

/// A share in a context. The last one to go gives it back.
#[derive(Debug)]
pub(crate) struct Lease {
    id: ContextId,
}

impl Lease {
    /// A new context; `None` when all are taken.
    pub(crate) fn new(operation: u16) -> Option<Self> {
        let index = pop().or_else(|| {
            let next = UNUSED.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| {
                ((next as usize) < CONTEXTS).then_some(next + 1)
            });
            next.ok()
        })?;
        let context = TABLE.get(index as usize)?;
        let generation = ((context.lease.load(Ordering::Relaxed) >> 32) as u32).wrapping_add(1);
        context.operation.store(u32::from(operation), Ordering::Relaxed);
        for counter in
            [&context.allocated, &context.freed, &context.peak, &context.held_at_phase, &context.told]
        {
            counter.store(0, Ordering::Relaxed);
        }
        context.mark.store(NO_MARK, Ordering::Relaxed);
        context.lease.store(u64::from(generation) << 32 | 1, Ordering::Release);
        Some(Self { id: ContextId { index, generation } })
    }

    /// A share in a context that somebody else holds; `None` when it was given back.
    pub(crate) fn of(id: ContextId) -> Option<Self> {
        if id == BACKGROUND {
            return None;
        }
        let take = |lease: u64| {
            let lives = (lease >> 32) as u32 == id.generation && lease as u32 > 0;
            lives.then_some(lease + 1)
        };
        let taken = context(id).lease.fetch_update(Ordering::Acquire, Ordering::Relaxed, take);
        // Not `then_some`: a lease that was made and not taken would be given back.
        taken.is_ok().then(|| Self { id })
    }

    pub(crate) fn id(&self) -> ContextId {
        self.id
    }

    pub(crate) fn set_mark(&self, mark: Option<Mark>) {
        context(self.id).mark.store(mark.map_or(NO_MARK, Mark::to_bits), Ordering::Relaxed);
    }
}

impl Clone for Lease {
    fn clone(&self) -> Self {
        // There is one holder at least, so this one cannot be given back meanwhile.
        context(self.id).lease.fetch_add(1, Ordering::Relaxed);
        Self { id: self.id }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let context = context(self.id);
        if context.lease.fetch_sub(1, Ordering::AcqRel) as u32 != 1 {
            return;
        }
        let operation = context.operation.load(Ordering::Relaxed) as u16;
        operations::add(operation, &context.counted());
        push(self.id.index);
    }
}

fn pop() -> Option<u32> {
    let preferred = thread_number();
    (0..STACKS).find_map(|step| pop_from(&FREE[preferred.wrapping_add(step) % STACKS].0))
}

fn pop_from(stack: &AtomicU64) -> Option<u32> {
    let mut head = stack.load(Ordering::Acquire);
    loop {
        let index = (head as u32).checked_sub(1)?;
        let below = TABLE.get(index as usize)?.below.load(Ordering::Relaxed);
        let new = (head >> 32).wrapping_add(1) << 32 | u64::from(below);
        match stack.compare_exchange_weak(head, new, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return Some(index),
            Err(now) => head = now,
        }
    }
}

fn push(index: u32) {
    let stack = &FREE[thread_number() % STACKS].0;
    let mut head = stack.load(Ordering::Relaxed);
    loop {
        TABLE[index as usize % CONTEXTS].below.store(head as u32, Ordering::Relaxed);
        let new = (head >> 32).wrapping_add(1) << 32 | u64::from(index + 1);
        match stack.compare_exchange_weak(head, new, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => return,
            Err(now) => head = now,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_lives_as_long_as_its_last_holder() {
        let lease = Lease::new(7).expect("room");
        let id = lease.id();
        let other = lease.clone();
        drop(lease);
        context(id).add(id, 100, 30);
        assert_eq!(context(id).counted().held(), 70);
        assert_eq!(context(id).operation(id), 7);
        drop(other);
        assert!(Lease::of(id).is_none());
        let next = Lease::new(8).expect("room");
        context(id).add(id, 1 << 40, 0);
        assert_ne!(next.id(), id);
        assert_eq!(context(next.id()).counted().allocated, 0, "late bytes are not its");
    }

    #[test]
    fn peaks_are_kept() {
        let lease = Lease::new(7).expect("room");
        let (id, context) = (lease.id(), context(lease.id()));
        context.add(id, 100, 0);
        context.add(id, 0, 90);
        context.add(id, 20, 0);
        assert_eq!(context.counted().peak, 100);
    }
}
