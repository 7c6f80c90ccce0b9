//! Which verdicts are due. A kill is judged at once with what is there, and again while spans of its last seconds, of
//! its callers, and the API's own words come in; then it is settled.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use exit137_core::time::UnixNanos;

use super::incident::KillMark;
use super::subject::Subject;

/// When it is judged again, after the kill was heard of: SDKs send every 5 s, collectors wait again, and some wait for
/// half a minute. The last is the settings' `settle`.
const AGAIN: &[Duration] = &[
    Duration::from_millis(250),
    Duration::from_millis(1500),
    Duration::from_secs(4),
    Duration::from_secs(8),
    Duration::from_secs(14),
    Duration::from_secs(30),
];

/// A verdict that took long is not made anew before ten times as long has passed.
const REST: u32 = 10;

/// Workloads that are waited for. When a node dies, hundreds of kills come at once; more than this are none.
const WAITING_MAX: usize = 10_000;

/// Kills of one workload around which callers are searched.
const KILLS_MAX: usize = 16;

/// What is to be judged.
#[derive(Debug, Clone)]
pub(super) struct Due {
    pub(super) key: String,
    pub(super) subject: Subject,
    /// Known times of the kills.
    pub(super) kills: Vec<UnixNanos>,
    /// Whether nothing more is waited for.
    pub(super) is_last: bool,
    /// When it was first heard of.
    pub(super) heard: Instant,
}

#[derive(Debug)]
struct Waiting {
    subject: Subject,
    kills: Vec<UnixNanos>,
    heard: Instant,
    due: Instant,
    is_last: bool,
}

/// The list of what is due.
#[derive(Debug, Default)]
pub(super) struct Docket {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: HashMap<String, Waiting>,
    closed: bool,
}

impl Docket {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A kill of `subject` was heard of. An old one is judged once: nothing late will come.
    pub(super) fn add(&self, key: String, subject: Subject, marks: &[KillMark], is_old: bool) {
        let mut state = self.lock();
        if state.waiting.len() >= WAITING_MAX && !state.waiting.contains_key(&key) {
            tracing::warn!(waiting = WAITING_MAX, "too many kills at once: one is not judged");
            return;
        }
        let now = Instant::now();
        let entry = state.waiting.entry(key).or_insert_with(|| Waiting {
            subject: subject.clone(),
            kills: Vec::new(),
            heard: now,
            due: now + AGAIN[0],
            is_last: is_old,
        });
        entry.kills.extend(marks.iter().filter(|mark| mark.at > 0).map(|mark| UnixNanos(mark.at)));
        entry.kills.sort_unstable();
        entry.kills.dedup();
        let surplus = entry.kills.len().saturating_sub(KILLS_MAX);
        entry.kills.drain(..surplus);
        // Who knows the pod's name knows more than who knows its container ID.
        if entry.subject.pod.is_none() && subject.pod.is_some() {
            entry.subject = subject;
        }
        if !is_old {
            (entry.heard, entry.is_last) = (now, false);
            entry.due = entry.due.min(now + AGAIN[0]);
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Waits for what is due next; `None` when the docket was closed.
    pub(super) fn next(&self) -> Option<Due> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            let now = Instant::now();
            let first = state.waiting.iter().min_by_key(|(_, waiting)| waiting.due);
            let wait = match first {
                Some((key, waiting)) if waiting.due <= now => {
                    let (subject, kills) = (waiting.subject.clone(), waiting.kills.clone());
                    let (is_last, heard) = (waiting.is_last, waiting.heard);
                    let due = Due { key: key.clone(), subject, kills, is_last, heard };
                    // Kills that are heard of while it is judged begin it anew.
                    state.waiting.remove(&due.key);
                    return Some(due);
                }
                Some((_, waiting)) => waiting.due - now,
                None => Duration::from_secs(3600),
            };
            state = self.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Judged, in `took`; it is due again unless it was the last time.
    pub(super) fn again(&self, due: Due, took: Duration, settle: Duration) {
        if due.is_last {
            return;
        }
        let earliest = Instant::now() + took * REST;
        let next = AGAIN.iter().map(|after| due.heard + *after).find(|at| *at > earliest);
        let last = due.heard + settle;
        let next = next.filter(|at| *at < last);
        let mut state = self.lock();
        state.waiting.entry(due.key).or_insert(Waiting {
            subject: due.subject,
            kills: due.kills,
            heard: due.heard,
            due: next.unwrap_or(last),
            is_last: next.is_none(),
        });
        drop(state);
        self.changed.notify_one();
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.lock().waiting.len()
    }

    /// Nothing more is due.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(at: i64) -> KillMark {
        KillMark { container: "c".to_owned(), at, uncertainty: 0 }
    }

    #[test]
    fn kills_of_one_workload_are_judged_together_until_they_settle() {
        let docket = Docket::default();
        docket.add("shop/cart".to_owned(), Subject::default(), &[mark(2)], false);
        docket.add("shop/cart".to_owned(), Subject::default(), &[mark(1), mark(2)], false);
        let due = docket.next().expect("due");
        assert_eq!((due.kills.as_slice(), due.is_last), (&[UnixNanos(1), UnixNanos(2)][..], false));
        docket.again(due, Duration::ZERO, Duration::from_millis(300));
        let due = docket.next().expect("due again");
        assert!(due.is_last);
        docket.again(due, Duration::ZERO, Duration::from_millis(300));
        assert_eq!(docket.len(), 0);
        docket.close();
        assert!(docket.next().is_none());
    }

    #[test]
    fn an_old_kill_is_judged_once() {
        let docket = Docket::default();
        docket.add("a".to_owned(), Subject::default(), &[mark(5)], true);
        assert!(docket.next().expect("due").is_last);
    }
}
