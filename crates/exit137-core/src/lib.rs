//! The core of exit137: from observations to a verdict. Pure: no file, no clock, no async; it cannot fail.
//!
//! ```text
//! Observations → identity, time → kills → incidents → causes → verdict
//! ```

pub mod bytes;
pub mod kernel;
pub mod observation;
pub mod problem;
pub mod symbol;
pub mod time;
pub mod verdict;

/// Placeholder until the diagnosis is merged.
pub fn diagnose(observations: &observation::Observations) -> verdict::Verdict {
    verdict::Verdict {
        looked_in: observations.counts.clone(),
        problems: observations.problems.list(),
        ..verdict::Verdict::default()
    }
}
