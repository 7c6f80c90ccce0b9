//! Kernel time to wall time on the node itself, without inventing any.
//!
//! The kernel stamps its log with a clock of its own, which no program can read directly, and which runs away from
//! `CLOCK_MONOTONIC` by parts of a millisecond to seconds a day, for it is not corrected by NTP. Two things bound the
//! distance: tracefs tells that very clock where it may be read, and a record that is read while it is waited for was
//! written just before.

use std::path::{Path, PathBuf};

use exit137_core::time::{Moment, SECOND, UnixNanos};
use rustix::time::{ClockId, clock_gettime};

/// Without a measurement: 50 millionths of the time since boot, what a bad quartz drifts.
const DRIFT_MAX: i64 = 20_000;

/// Both clocks are read one after the other, and the wall clock may be slewed in between.
const READING_ERROR: i64 = SECOND / 1000;

/// A reader that is woken at once reads a few milliseconds later, on a busy node more.
const WAKE_UP_ERROR: i64 = 5 * SECOND / 1000;

/// What a measurement may have drifted before the next one, which comes every minute or so.
const MEASURED_ERROR: i64 = 2 * SECOND / 1000;

/// The kernel's log clock, against the wall clock.
#[derive(Debug, Clone, Default)]
pub struct KernelClock {
    /// How far `CLOCK_MONOTONIC` is ahead of the log's clock, nanoseconds, and how well that is known.
    ahead: i64,
    ahead_error: Option<i64>,
    trace: Option<PathBuf>,
}

/// Nanoseconds of a clock of this machine.
fn nanos(clock: ClockId) -> i64 {
    let time = clock_gettime(clock);
    time.tv_sec.saturating_mul(SECOND).saturating_add(time.tv_nsec)
}

impl KernelClock {
    /// Reads the clock in `instance`, a tracefs instance whose `trace_clock` is `perf`: the one that stamps the log.
    pub fn measured_in(instance: &Path) -> Self {
        let mut clock = Self { trace: Some(instance.join("per_cpu/cpu0/stats")), ..Self::default() };
        clock.measure();
        clock
    }

    /// Reads tracefs again. Once a minute is enough.
    pub fn measure(&mut self) {
        let Some(path) = &self.trace else { return };
        let before = nanos(ClockId::Monotonic);
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let after = nanos(ClockId::Monotonic);
        let now = text.lines().find_map(|line| line.strip_prefix("now ts:")).and_then(seconds);
        if let Some(now) = now {
            self.ahead = before + (after - before) / 2 - now;
            self.ahead_error = Some(MEASURED_ERROR.saturating_add(after - before));
        }
    }

    /// A record was waited for and read as soon as it came; `at` is its time since boot. The shortest way that any record
    /// took tells how far the clocks are apart.
    pub fn heard(&mut self, at: i64) {
        let ahead = nanos(ClockId::Monotonic) - at;
        if self.trace.is_none() && (self.ahead_error.is_none() || ahead < self.ahead) {
            self.ahead = ahead;
            self.ahead_error = Some(WAKE_UP_ERROR);
        }
    }

    /// The log's clock now, as well as is known.
    pub fn now(&self) -> i64 {
        nanos(ClockId::Monotonic) - self.ahead
    }

    /// The wall time of `at`, nanoseconds since boot on the log's clock.
    pub fn wall(&self, at: i64) -> Moment {
        let now = nanos(ClockId::Monotonic);
        let wall_now = nanos(ClockId::Realtime);
        let since_boot = at.max(1);
        // Both clocks began at boot and drift evenly: long ago they were closer together.
        let share = (since_boot as f64 / now.saturating_sub(self.ahead).max(1) as f64).min(1.0);
        let ahead = (self.ahead as f64 * share) as i64;
        let error = match self.ahead_error {
            Some(error) => error,
            None => since_boot / DRIFT_MAX,
        };
        let wall = UnixNanos(wall_now) - (now - at - ahead);
        Moment::new(wall, error.saturating_add(READING_ERROR))
    }
}

/// `  1234.567890` as nanoseconds.
fn seconds(text: &str) -> Option<i64> {
    let (whole, decimals) = text.trim().split_once('.')?;
    let micros: i64 = decimals.get(..6)?.parse().ok()?;
    whole.parse::<i64>().ok()?.checked_mul(SECOND)?.checked_add(micros * 1000)
}

#[cfg(test)]
mod tests {
    use super::{KernelClock, nanos, seconds};
    use exit137_core::time::SECOND;
    use rustix::time::ClockId;

    #[test]
    fn an_early_record_is_nearer_to_the_monotonic_clock() {
        let now = nanos(ClockId::Monotonic);
        let clock = KernelClock { ahead: 8_000_000, ahead_error: Some(0), trace: None };
        let boot = nanos(ClockId::Realtime) - now;
        let error_of = |at: i64, ahead: i64| (clock.wall(at).at.0 - (boot + at + ahead)).abs();
        // The clocks are read again inside, so a little later, but both alike.
        assert!(error_of(now - 8_000_000, 8_000_000) < SECOND / 100);
        assert!(error_of(now / 2, 4_000_000) < SECOND / 100);
    }

    #[test]
    fn unmeasured_the_uncertainty_grows_with_the_time_since_boot() {
        let clock = KernelClock::default();
        let day = 86_400 * SECOND;
        assert!(clock.wall(day).uncertainty > 4 * SECOND);
        assert!(clock.wall(SECOND).uncertainty < SECOND / 100);
    }

    #[test]
    fn tracefs_tells_microseconds() {
        assert_eq!(seconds(" 13376.621642"), Some(13_376_621_642_000));
        assert_eq!(seconds("0x1f"), None);
    }
}
