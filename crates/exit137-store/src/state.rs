//! How full a store is, and how far back it reaches: for the page of the recorder and for `/metrics`.

use exit137_core::time::UnixNanos;

/// The state of a store.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// What the files of segments take.
    pub disk_bytes: u64,
    /// What they may take.
    pub disk_budget_bytes: u64,
    /// Sealed segments.
    pub segments: usize,
    /// The earliest time that any piece tells of.
    pub first: Option<UnixNanos>,
    /// The latest.
    pub last: Option<UnixNanos>,
    /// Bytes appended since the store was opened.
    pub appended_bytes: u64,
    /// Bytes that wait to be written.
    pub waiting_bytes: u64,
}
