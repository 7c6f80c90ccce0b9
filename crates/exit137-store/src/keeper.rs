//! The thread that keeps the store in order while others append and read.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use crate::store::Inner;

/// Between two looks.
const TICK: Duration = Duration::from_millis(200);
/// The database is told of containers this often.
const SAVE_TICKS: u32 = 25;

/// Runs until the other end of `ended` is dropped.
pub(crate) fn run(inner: &Inner, ended: &Receiver<()>) {
    for tick in 1u32.. {
        if ended.recv_timeout(TICK) != Err(RecvTimeoutError::Timeout) {
            return;
        }
        if tick % SAVE_TICKS == 0
            && let Err(error) = inner.save_catalogue().and_then(|()| inner.save_clock())
        {
            tracing::warn!(%error, "the catalogue was not saved; trying again");
        }
    }
}
