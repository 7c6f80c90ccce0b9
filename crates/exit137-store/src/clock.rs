//! The clock by which pieces age. The wall clock may jump, and telemetry may claim any year; neither may make
//! everything expire. So age is time that the store was running, by the monotonic clock, and of the time between
//! two runs as much as is plausible.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A server that was away for longer was not away: its clock was wrong.
const AWAY_SECONDS_MAX: u64 = 30 * 24 * 3600;

/// Counts seconds since the store was made, more or less; never backwards.
#[derive(Debug)]
pub(crate) struct Clock {
    base_seconds: u64,
    since: Instant,
}

impl Clock {
    /// Goes on from `last_seconds`, which was reached when the wall clock showed `last_wall_seconds`.
    pub fn resume(last_seconds: u64, last_wall_seconds: Option<u64>, wall_seconds: u64) -> Self {
        let away = last_wall_seconds.and_then(|last| wall_seconds.checked_sub(last));
        let away = away.filter(|away| *away <= AWAY_SECONDS_MAX).unwrap_or(0);
        Self { base_seconds: last_seconds.saturating_add(away), since: Instant::now() }
    }

    pub fn now_seconds(&self) -> u64 {
        self.base_seconds.saturating_add(self.running().as_secs())
    }

    pub fn running(&self) -> Duration {
        self.since.elapsed()
    }
}

/// What the wall clock shows; 0 before 1970.
pub(crate) fn wall_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(last: u64, last_wall: Option<u64>, wall: u64, expected: u64) {
        assert_eq!(Clock::resume(last, last_wall, wall).base_seconds, expected);
    }

    #[test]
    fn time_away_counts() {
        check(1000, Some(1_800_000_000), 1_800_000_060, 1060);
    }

    #[test]
    fn a_wall_clock_that_jumped_ages_nothing() {
        check(1000, Some(1_800_000_000), 4_000_000_000, 1000);
        check(1000, Some(1_800_000_000), 12, 1000);
        check(1000, None, 1_800_000_000, 1000);
    }
}
