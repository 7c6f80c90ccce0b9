//! The core of exit137: from observations to a verdict. Pure: no file, no clock, no async; it cannot fail.
//!
//! ```text
//! Observations → identity, time → kills → incidents → causes → operations → advice → verdict
//! ```

mod advice;
pub mod baselines;
pub mod bytes;
mod causes;
mod clock;
mod diagnose;
mod facts;
mod features;
mod gaps;
mod grouping;
mod hashing;
mod identity;
mod incident;
pub mod kernel;
mod kills;
mod leaks;
mod live_heap;
mod memory;
pub mod observation;
mod operations;
mod parallel;
pub mod problem;
mod recovered;
mod settings;
mod skew;
mod stall;
pub mod symbol;
pub mod time;
mod timeline;
mod trend;
pub mod verdict;
mod work;

pub use diagnose::diagnose;
