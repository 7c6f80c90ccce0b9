//! What a thread counts by itself, and hands over now and then.

use std::cell::Cell;

use super::LARGE_BYTES;
use crate::context::{BACKGROUND, ContextId, context};

/// What a thread may allocate before it hands over: a request's bytes and peak are known to this, for each thread that
/// works for it.
pub(crate) const HAND_OVER_BYTES: i64 = 64 << 10;

thread_local! {
    // Constant and without a destructor: reaching it is an offset from a register, never an allocation.
    pub(crate) static THREAD: Thread = const { Thread::new() };
}

/// Counters of one thread. Whoever reads them is the thread itself.
pub(crate) struct Thread {
    /// Bytes until somebody must look: the next sample, or the next hand-over.
    left: Cell<i64>,
    /// `left` at the last hand-over: the difference was allocated since.
    granted: Cell<i64>,
    /// Bytes freed since the last hand-over; below zero when others are to be credited.
    freed: Cell<i64>,
    /// For whom it works.
    context: Cell<ContextId>,
    /// Where on its stack the work for that request begins; 0 when that is not known.
    boundary: Cell<usize>,
    /// Counted for the background and not handed over yet: all threads share that context, so it is written seldom.
    parked: Cell<(i64, i64)>,
    /// Bytes until the next sample; 0 when that was never drawn.
    pub(super) until_sample: Cell<i64>,
    /// Average bytes between samples when that was drawn; 0 for no sampling.
    pub(super) drawn_from: Cell<u64>,
    /// State of the random numbers; 0 when never seeded.
    pub(super) random: Cell<u64>,
    /// Inside the sampler, or a thread of ours: counted, but not sampled.
    pub(super) busy: Cell<bool>,
}

impl Thread {
    const fn new() -> Self {
        Self {
            left: Cell::new(0),
            granted: Cell::new(0),
            freed: Cell::new(0),
            context: Cell::new(BACKGROUND),
            boundary: Cell::new(0),
            parked: Cell::new((0, 0)),
            until_sample: Cell::new(0),
            drawn_from: Cell::new(0),
            random: Cell::new(0),
            busy: Cell::new(false),
        }
    }

    /// Counts an allocation. True when somebody must look.
    #[inline(always)]
    pub(super) fn count_allocated(&self, bytes: usize) -> bool {
        self.left.set(self.left.get().wrapping_sub(bytes as i64));
        self.must_look(bytes)
    }

    /// Whether somebody must look at a block of this size that was just counted.
    #[inline(always)]
    pub(super) fn must_look(&self, bytes: usize) -> bool {
        self.is_due() || bytes >= LARGE_BYTES
    }

    /// Whether as much was allocated as may be before the next look.
    #[inline(always)]
    pub(super) fn is_due(&self) -> bool {
        self.left.get() < 0
    }

    #[inline(always)]
    pub(super) fn count_freed(&self, bytes: usize) {
        self.freed.set(self.freed.get().wrapping_add(bytes as i64));
    }

    /// Takes back what [`Thread::count_allocated`] counted: there was no room.
    pub(super) fn uncount_allocated(&self, bytes: usize) {
        self.left.set(self.left.get().wrapping_add(bytes as i64));
    }

    /// Takes back what [`Thread::count_freed`] counted: somebody else is credited.
    pub(super) fn uncount_freed(&self, bytes: usize) {
        self.freed.set(self.freed.get().wrapping_sub(bytes as i64));
    }

    pub(crate) fn context(&self) -> ContextId {
        self.context.get()
    }

    /// Stack frames further out than this address are the runtime's, not the request's; 0 when that is not known.
    pub(crate) fn boundary(&self) -> usize {
        self.boundary.get()
    }

    /// Sets [`Thread::boundary`], and returns what it was.
    pub(crate) fn set_boundary(&self, address: usize) -> usize {
        self.boundary.replace(address)
    }

    /// Works for somebody else from now on. Returns for whom it worked.
    pub(crate) fn switch(&self, to: ContextId) -> ContextId {
        let from = self.context.get();
        if from != to {
            if from == BACKGROUND {
                self.park();
            } else {
                self.hand_over();
            }
            self.context.set(to);
        }
        from
    }

    /// Allocations of this thread are not sampled any more.
    pub(crate) fn never_sample(&self) {
        self.busy.set(true);
    }

    /// Adds what was counted to the context.
    pub(crate) fn hand_over(&self) {
        let (mut allocated, mut freed) = self.take();
        let to = self.context.get();
        if to == BACKGROUND {
            let parked = self.parked.replace((0, 0));
            allocated = allocated.wrapping_add(parked.0);
            freed = freed.wrapping_add(parked.1);
        }
        if allocated != 0 || freed != 0 {
            context(to).add(to, allocated, freed);
        }
    }

    /// Leaves the background.
    fn park(&self) {
        let (allocated, freed) = self.take();
        self.count_for_background(allocated, freed);
    }

    /// Adds to what is counted for the background, which is handed over when it is much.
    pub(super) fn count_for_background(&self, allocated: i64, freed: i64) {
        let parked = self.parked.get();
        let (allocated, freed) = (parked.0.wrapping_add(allocated), parked.1.wrapping_add(freed));
        if allocated.max(freed) < HAND_OVER_BYTES {
            return self.parked.set((allocated, freed));
        }
        self.parked.set((0, 0));
        context(BACKGROUND).add(BACKGROUND, allocated, freed);
    }

    /// What was counted since the last time: bytes allocated, and freed.
    fn take(&self) -> (i64, i64) {
        let allocated = self.granted.get().wrapping_sub(self.left.get());
        if self.until_sample.get() > 0 {
            self.until_sample.set(self.until_sample.get().wrapping_sub(allocated));
        }
        self.grant();
        (allocated, self.freed.replace(0))
    }

    /// Sets how much may be allocated until somebody must look.
    pub(super) fn grant(&self) {
        let until_sample = self.until_sample.get();
        // Not yet drawn, or due: the next allocation looks.
        let left = if until_sample > 0 { until_sample.min(HAND_OVER_BYTES) } else { 0 };
        self.left.set(left);
        self.granted.set(left);
    }
}
