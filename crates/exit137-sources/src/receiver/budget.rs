//! One budget for the bodies of all connections.
//!
//! A body is charged as it arrives, never as it was announced: announcing costs nothing. New requests enter while the
//! budget is at most half used, else they wait for a moment; bodies that are on their way use the other half.
//! Whoever finds no room is asked to come again, which gives back what it held: nobody waits while holding, so
//! nothing can lock up.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

/// Waiting longer serves nobody: the sender's own timeout is 10 s, and it retries better than we queue.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// What waits has flow-control windows filled with what is not charged yet.
const WAITING_MAX: usize = 64;

/// There is no room now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Exhausted;

/// The bytes that all bodies may take.
#[derive(Debug)]
pub(super) struct Budget {
    max: usize,
    used: AtomicUsize,
    waiting: AtomicUsize,
    freed: Notify,
}

impl Budget {
    pub(super) fn new(max: usize) -> Arc<Self> {
        let (used, waiting) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(Self { max, used, waiting, freed: Notify::new() })
    }

    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    fn is_open(&self) -> bool {
        self.used() <= self.max / 2
    }

    /// Lets one more body in, at once or after a short wait.
    pub(super) async fn enter(self: &Arc<Self>) -> Result<Charge, Exhausted> {
        if !self.is_open() {
            let _place = Place::take(self)?;
            tokio::time::timeout(WAIT_MAX, self.wait_until_open()).await.map_err(|_| Exhausted)?;
        }
        Ok(Charge { budget: Arc::clone(self), bytes: 0 })
    }

    async fn wait_until_open(&self) {
        loop {
            let freed = self.freed.notified();
            if self.is_open() {
                return;
            }
            freed.await;
        }
    }
}

/// A place among those who wait.
struct Place<'b>(&'b Budget);

impl<'b> Place<'b> {
    fn take(budget: &'b Budget) -> Result<Self, Exhausted> {
        let place = Self(budget);
        let before = budget.waiting.fetch_add(1, Ordering::Relaxed);
        if before >= WAITING_MAX { Err(Exhausted) } else { Ok(place) }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What one request holds; given back when dropped.
#[derive(Debug)]
pub(super) struct Charge {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Charge {
    /// Charges `bytes` more.
    pub(super) fn grow(&mut self, bytes: usize) -> Result<(), Exhausted> {
        let max = self.budget.max;
        let fits = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= max);
        let used = &self.budget.used;
        used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).map_err(|_| Exhausted)?;
        self.bytes += bytes;
        Ok(())
    }

    /// Gives `bytes` back.
    pub(super) fn shrink(&mut self, bytes: usize) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.budget.used.fetch_sub(bytes, Ordering::Relaxed);
        if self.budget.waiting.load(Ordering::Relaxed) > 0 && self.budget.is_open() {
            self.budget.freed.notify_waiters();
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.shrink(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn bodies_wait_for_half_the_budget_and_never_get_more_than_all_of_it() {
        let budget = Budget::new(100);
        let mut first = budget.enter().await.unwrap();
        assert_eq!(first.grow(101), Err(Exhausted));
        first.grow(51).unwrap();
        // Over half: nobody enters, but who is in may go on.
        assert!(matches!(budget.enter().await, Err(Exhausted)));
        first.grow(49).unwrap();
        assert_eq!(first.grow(1), Err(Exhausted));
        let waiting = tokio::spawn({
            let budget = Arc::clone(&budget);
            async move { budget.enter().await.is_ok() }
        });
        tokio::task::yield_now().await;
        drop(first);
        assert!(waiting.await.unwrap(), "room was given back while it waited");
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_many_wait() {
        let budget = Budget::new(100);
        let mut first = budget.enter().await.unwrap();
        first.grow(100).unwrap();
        let waiting: Vec<_> = (0..WAITING_MAX)
            .map(|_| {
                let budget = Arc::clone(&budget);
                tokio::spawn(async move { budget.enter().await.is_ok() })
            })
            .collect();
        while budget.waiting.load(Ordering::Relaxed) < WAITING_MAX {
            tokio::task::yield_now().await;
        }
        assert!(matches!(Place::take(&budget), Err(Exhausted)));
        drop(first);
        for waiting in waiting {
            assert!(waiting.await.unwrap());
        }
        assert_eq!(budget.waiting.load(Ordering::Relaxed), 0);
    }
}
