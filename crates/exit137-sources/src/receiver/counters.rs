//! What happened at the door, for whoever watches the server.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Answer;
use super::reply::Reason;

/// Counts since the receiver was bound; read at any time.
#[derive(Debug, Default)]
pub struct Counters {
    /// Exports that were kept, some of them in part.
    pub accepted: AtomicU64,
    /// Exports of which some records were not kept.
    pub partial: AtomicU64,
    /// Exports that should come again: the sink had no room.
    pub retried: AtomicU64,
    /// Exports that the sink refused.
    pub refused: AtomicU64,
    /// Requests that were turned away because bodies in flight had used up their memory.
    pub busy: AtomicU64,
    /// Requests without a token that is known.
    pub unauthenticated: AtomicU64,
    /// Requests that were wrong in another way: too long, too slow, of an unknown kind.
    pub invalid: AtomicU64,
    /// Bytes of bodies, as sent.
    pub bytes: AtomicU64,
    /// Connections that were accepted.
    pub connections: AtomicU64,
    /// Connections that are open.
    pub connections_open: AtomicU64,
    /// Connections that were closed to make room for others.
    pub connections_evicted: AtomicU64,
    /// Connections that were closed because nothing came.
    pub connections_timed_out: AtomicU64,
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Counters {
    pub(super) fn arrived(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn answered(&self, answer: &Answer) {
        match answer {
            Answer::Accepted => count(&self.accepted),
            Answer::Partial { .. } => {
                count(&self.accepted);
                count(&self.partial);
            }
            Answer::Retry { .. } => count(&self.retried),
            Answer::Refused { .. } => count(&self.refused),
        }
    }

    pub(super) fn refused(&self, reason: Reason) {
        count(match reason {
            Reason::Busy | Reason::Unavailable => &self.busy,
            Reason::Unauthenticated => &self.unauthenticated,
            _ => &self.invalid,
        });
    }
}
