//! The record protocol, on words that other threads and other processes may read at any time, and whose writer may
//! be killed between any two stores.
//!
//! A record is a control word (sequence number and state), a checksum, and a payload. Writing one: control to
//! `WRITING` under the next number, payload, checksum, control to `VALID`. Who finds `WRITING` with a checksum that fits
//! payload *and* number has a whole record; who finds `VALID` whose checksum does not fit has a torn copy. The checksum
//! covers the number, so what a record was before is never taken for what it is now.

#![cfg_attr(not(any(feature = "writer", loom, test)), allow(dead_code))]

use crate::checksum;
use crate::layout::state;

#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU64, Ordering, fence};

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU64, Ordering, fence};

/// What a control word says.
pub(crate) fn control(sequence: u64, state: u64) -> u64 {
    sequence << 2 | state
}

/// Sequence number and state.
pub(crate) fn split(control: u64) -> (u64, u64) {
    (control >> 2, control & 3)
}

/// Begins a record: from here to [`publish`] the record is nobody else's. `sequence` is the one before.
pub(crate) fn begin(words: &[AtomicU64], sequence: u64) -> u64 {
    let next = sequence + 1;
    words[0].store(control(next, state::WRITING), Ordering::Relaxed);
    // What follows must not be seen before the mark: a reader would take half of it for the old record.
    fence(Ordering::Release);
    next
}

/// Ends what [`begin`] began. `sum` is over the payload, begun with the sequence number.
pub(crate) fn publish(words: &[AtomicU64], sequence: u64, sum: u64) {
    words[1].store(sum, Ordering::Relaxed);
    words[0].store(control(sequence, state::VALID), Ordering::Release);
}

/// The record is over; its payload stays for whoever wants to know.
pub(crate) fn end(words: &[AtomicU64], sequence: u64) {
    words[0].store(control(sequence, state::ENDED), Ordering::Release);
}

/// Whether control, checksum and payload make a record that is in force.
pub(crate) fn is_valid(control: u64, sum: u64, payload: impl IntoIterator<Item = u64>) -> bool {
    let (sequence, state) = split(control);
    matches!(state, state::WRITING | state::VALID) && sum == checksum::of(sequence, payload)
}
