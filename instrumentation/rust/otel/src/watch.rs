//! A thread that wakes four times a second: tells the journal that the process lives, what the background holds, and which
//! stacks hold the most. Nothing that a request does waits for it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Thread;
use std::time::Duration;

use crate::allocator::sampler;
use crate::allocator::thread::THREAD;
use crate::context::{BACKGROUND, context};
use crate::heap::rank::Ranking;
use crate::operations;

const INTERVAL: Duration = Duration::from_millis(250);

/// Stops the thread when dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    stop: Arc<AtomicBool>,
    thread: Option<Thread>,
}

impl Watch {
    pub(crate) fn start(names: bool) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let watch = move || {
            // Names are looked up here, which allocates much: it is counted, and is nobody's.
            THREAD.with(|thread| thread.never_sample());
            let mut ranking = Ranking::default();
            ranking.names.off = !names;
            while !stopped.load(Ordering::Relaxed) {
                // A name that cannot be looked up must not end the heartbeat.
                let _ = catch_unwind(AssertUnwindSafe(|| look(&mut ranking)));
                std::thread::park_timeout(INTERVAL);
            }
        };
        let spawned = std::thread::Builder::new().name("exit137".into()).spawn(watch);
        Self { stop, thread: spawned.ok().map(|handle| handle.thread().clone()) }
    }
}

fn look(ranking: &mut Ranking) {
    THREAD.with(|thread| thread.hand_over());
    sampler::pace();
    let background = context(BACKGROUND).counted();
    let Some(journal) = crate::journal() else { return };
    journal.heartbeat();
    operations::tell_all(&background);
    ranking.refresh(journal);
    journal.set_live(crate::heap::live_bytes(), 0);
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = &self.thread {
            thread.unpark();
        }
    }
}
