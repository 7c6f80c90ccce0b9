//! When something happened, and how exactly that is known.
//!
//! Every source has its own clock: the kernel counts microseconds since boot, Kubernetes cuts off at whole
//! seconds, a metric is as old as its last scrape. A time therefore never travels without its uncertainty,
//! and a time that is not known is absent, never guessed.

use std::fmt;
use std::ops::{Add, Sub};

/// Nanoseconds in one second.
pub const SECOND: i64 = 1_000_000_000;

/// Nanoseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UnixNanos(pub i64);

impl UnixNanos {
    /// From whole and fractional seconds since the epoch; out-of-range values are clamped.
    pub fn from_seconds(seconds: f64) -> Self {
        Self((seconds * SECOND as f64) as i64)
    }

    /// Seconds since the epoch.
    pub fn as_seconds(self) -> f64 {
        self.0 as f64 / SECOND as f64
    }

    /// Reads RFC 3339, with any number of decimals and any offset.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let timestamp: jiff::Timestamp = text.trim().parse().ok()?;
        i64::try_from(timestamp.as_nanosecond()).ok().map(Self)
    }

    /// Signed distance from `earlier` to `self`, in nanoseconds; saturates.
    pub fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Signed distance from `earlier` to `self`, in seconds.
    pub fn seconds_since(self, earlier: Self) -> f64 {
        self.since(earlier) as f64 / SECOND as f64
    }

    /// The civil date and time in UTC, for formatting; `None` outside the years that dates can express.
    pub fn to_timestamp(self) -> Option<jiff::Timestamp> {
        jiff::Timestamp::from_nanosecond(i128::from(self.0)).ok()
    }
}

impl fmt::Display for UnixNanos {
    /// RFC 3339 in UTC with milliseconds: `2026-11-22T08:53:29.904Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_timestamp() {
            Some(timestamp) => write!(f, "{timestamp:.3}"),
            None => write!(f, "{}ns", self.0),
        }
    }
}

impl Add<i64> for UnixNanos {
    type Output = Self;
    fn add(self, nanos: i64) -> Self {
        Self(self.0.saturating_add(nanos))
    }
}

impl Sub<i64> for UnixNanos {
    type Output = Self;
    fn sub(self, nanos: i64) -> Self {
        Self(self.0.saturating_sub(nanos))
    }
}

/// A time with what is known about its exactness: the true time lies within `at ± uncertainty`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment {
    /// The best single value.
    pub at: UnixNanos,
    /// Half the width of the interval, in nanoseconds.
    pub uncertainty: i64,
}

impl Moment {
    /// Of which nothing is known. It may equal any other moment, and is never shown.
    pub const UNKNOWN: Self = Self { at: UnixNanos(0), uncertainty: i64::MAX / 4 };

    /// Whether anything is known of it.
    pub fn is_known(self) -> bool {
        self.uncertainty < Self::UNKNOWN.uncertainty
    }

    /// A time known to within `uncertainty` nanoseconds either way.
    pub fn new(at: UnixNanos, uncertainty: i64) -> Self {
        Self { at, uncertainty }
    }

    /// Kubernetes drops the fraction of a second: 10:00:00.9 is reported as 10:00:00.
    pub fn floored_to_second(at: UnixNanos) -> Self {
        Self { at: at + SECOND / 2, uncertainty: SECOND / 2 }
    }

    /// Whether both can be the same instant, allowing `slack` nanoseconds for clocks that differ.
    pub fn may_equal(self, other: Self, slack: i64) -> bool {
        let reach = self.uncertainty.saturating_add(other.uncertainty).saturating_add(slack);
        self.at.since(other.at).saturating_abs() <= reach
    }
}
