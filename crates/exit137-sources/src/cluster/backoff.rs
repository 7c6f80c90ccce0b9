//! How long to wait before asking again. Longer after each failure, and never in step with others: when an API
//! server comes back, a fleet of watchers must not arrive at once.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// Before the second attempt.
const DELAY_MIN: Duration = Duration::from_millis(500);

/// An outage that lasts longer is seen to be over at most this much late.
const DELAY_MAX: Duration = Duration::from_secs(30);

/// A server may ask for more patience than ours; more than this it asks by mistake.
const ASKED_DELAY_MAX: Duration = Duration::from_secs(300);

/// Counts failures in a row.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Something worked.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// Something failed: how long to wait, at least as long as the server asked for.
    pub(super) fn next(&mut self, asked: Option<Duration>) -> Duration {
        // Seeded anew by the system each time; good enough to spread, and no dependency.
        let random = RandomState::new().build_hasher().finish();
        let delay = self.delay(random);
        self.failures = self.failures.saturating_add(1);
        delay.max(asked.unwrap_or_default().min(ASKED_DELAY_MAX))
    }

    /// Between half and the whole of the doubled delay.
    fn delay(&self, random: u64) -> Duration {
        let whole = DELAY_MIN.saturating_mul(1 << self.failures.min(16)).min(DELAY_MAX);
        let half = whole / 2;
        half + half.mul_f64(random as f64 / u64::MAX as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_doubles_up_to_a_bound_and_varies_by_half() {
        let delays = |random| -> Vec<u128> {
            (0..9).map(|failures| Backoff { failures }.delay(random).as_millis()).collect()
        };
        assert_eq!(delays(u64::MAX), [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]);
        assert_eq!(delays(0), [250, 500, 1000, 2000, 4000, 8000, 15_000, 15_000, 15_000]);
    }

    #[test]
    fn a_server_that_asks_for_patience_gets_it_within_reason() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.next(Some(Duration::from_secs(60))), Duration::from_secs(60));
        assert_eq!(backoff.next(Some(Duration::from_secs(86_400))), ASKED_DELAY_MAX);
        backoff.reset();
        assert!(backoff.next(None) <= DELAY_MIN);
    }
}
