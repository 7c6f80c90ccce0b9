//! How much may be kept. What is read is bounded by nothing (a few kilobytes of a hostile archive are gigabytes of
//! tiny spans), so what stays of it must be.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Some 25 million spans with their attributes: a day of a busy shop.
pub(crate) const KEPT_BYTES_MAX: u64 = 4 << 30;

/// What a worker takes at once, so that workers seldom meet.
const SHARE_BYTES: u64 = 1 << 20;

/// Completes "expected …".
pub(crate) const FULL: &str = "fewer records: what fits into memory was kept, the rest is not read";

/// A worker's share of the room that all have together.
#[derive(Debug, Clone)]
pub(crate) struct Room {
    common: Arc<AtomicU64>,
    own: u64,
    is_full: bool,
}

impl Default for Room {
    fn default() -> Self {
        Self::of(KEPT_BYTES_MAX)
    }
}

impl Room {
    pub(crate) fn of(bytes: u64) -> Self {
        Self { common: Arc::new(AtomicU64::new(bytes)), own: 0, is_full: false }
    }

    /// Takes room for a record of this size. `Err` when there is none left.
    #[inline]
    pub(crate) fn take(&mut self, bytes: usize) -> Result<(), &'static str> {
        let bytes = bytes as u64;
        if self.own < bytes {
            self.refill(bytes)?;
        }
        self.own -= bytes;
        Ok(())
    }

    /// Whether a record found no room.
    pub(crate) fn is_full(&self) -> bool {
        self.is_full
    }

    #[cold]
    fn refill(&mut self, bytes: u64) -> Result<(), &'static str> {
        let share = bytes.max(SHARE_BYTES);
        // The last share may be a smaller one.
        let take = |left: u64| (left >= bytes).then(|| left.saturating_sub(share));
        let Ok(before) = self.common.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) else {
            self.is_full = true;
            return Err(FULL);
        };
        self.own += before.min(share);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Room, SHARE_BYTES};

    #[test]
    fn workers_share_one_room() {
        let mut first = Room::of(3 * SHARE_BYTES + 10);
        let mut second = first.clone();
        assert!(first.take(2 * SHARE_BYTES as usize).is_ok());
        assert!(second.take(1).is_ok() && second.take(1).is_ok());
        assert!(first.take(10).is_ok(), "what is left is less than a share");
        assert!(first.take(1).is_err());
        assert!(second.take(SHARE_BYTES as usize - 2).is_ok());
        assert!(second.take(1).is_err());
    }
}
