//! The connections that are open: who may stay, who has to go when room is needed, who is silent for too long.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::counters::{Counters, count};
use super::listener::{BUFFER_BYTES, SMALL_BUFFER_BYTES};

/// How exactly timeouts are kept.
pub(super) const TICK: Duration = Duration::from_secs(1);

/// One open connection.
#[derive(Debug)]
pub(super) struct Connection {
    number: u64,
    opened: Instant,
    /// Milliseconds after `opened` when the last request ended; 0 before the first.
    ended_ms: AtomicU64,
    /// Requests that are being served.
    busy: AtomicUsize,
    /// Whether an export was taken from it: then it stays when others have to go.
    trusted: AtomicBool,
    /// Told to go.
    pub(super) leave: Notify,
    /// Told to go at once: its room is taken already.
    evicted: AtomicBool,
    /// Whether there were few when it came: then it has large buffers.
    pub(super) is_one_of_few: bool,
    _large: Option<Large>,
}

/// One of the large buffers; given back when dropped.
#[derive(Debug)]
struct Large(Arc<AtomicUsize>);

impl Drop for Large {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Connection {
    /// Marks a request; it ends when the mark is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> Busy {
        self.busy.fetch_add(1, Ordering::Relaxed);
        Busy(Arc::clone(self))
    }

    /// Whether there is no time to say goodbye.
    pub(super) fn is_evicted(&self) -> bool {
        self.evicted.load(Ordering::Relaxed)
    }

    /// Whether a request is being served.
    pub(super) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed) > 0
    }

    /// Since when nothing is being asked for, and whether anything ever was; `None` while busy.
    fn idle_since(&self) -> Option<(Instant, bool)> {
        if self.is_busy() {
            return None;
        }
        let ended = self.ended_ms.load(Ordering::Relaxed);
        Some((self.opened + Duration::from_millis(ended), ended > 0))
    }
}

/// A request that is being served.
#[derive(Debug)]
pub(super) struct Busy(Arc<Connection>);

impl Drop for Busy {
    fn drop(&mut self) {
        let now = u64::try_from(self.0.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.ended_ms.store(now.max(1), Ordering::Relaxed);
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Those that are open, by number: the lower, the older.
#[derive(Debug, Default)]
struct Open {
    /// Nothing was ever taken from them.
    strangers: BTreeMap<u64, Arc<Connection>>,
    senders: HashMap<u64, Arc<Connection>>,
}

impl Open {
    fn len(&self) -> usize {
        self.strangers.len() + self.senders.len()
    }

    fn remove(&mut self, number: u64) {
        if self.strangers.remove(&number).is_none() {
            self.senders.remove(&number);
        }
    }

    /// Who has to go: of the strangers the oldest, as a sender needs moments where a flood stays; else of the
    /// senders who has been idle longest.
    fn take_victim(&mut self) -> Option<Arc<Connection>> {
        if let Some((_, stranger)) = self.strangers.pop_first() {
            return Some(stranger);
        }
        let idle = self.senders.values().filter_map(|sender| Some((sender.idle_since()?.0, sender.number)));
        let (_, number) = idle.min()?;
        self.senders.remove(&number)
    }
}

/// All of them.
#[derive(Debug)]
pub(super) struct Connections {
    max: usize,
    /// So many have large buffers.
    few: usize,
    large: Arc<AtomicUsize>,
    header_timeout: Duration,
    idle_timeout: Duration,
    open: Mutex<Open>,
    next: AtomicU64,
    counters: Arc<Counters>,
}

impl Connections {
    pub(super) fn new(options: &super::ReceiverOptions, counters: Arc<Counters>) -> Self {
        let few = options.connection_bytes_max / 4 / BUFFER_BYTES;
        let many = options.connection_bytes_max / 4 * 3 / SMALL_BUFFER_BYTES;
        Self {
            max: options.connections_max.min(few + many).max(1),
            few,
            large: Arc::default(),
            header_timeout: options.header_timeout,
            idle_timeout: options.idle_timeout,
            open: Mutex::default(),
            next: AtomicU64::new(0),
            counters,
        }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        // Nothing in here panics halfway.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Room for one more; `None` when all that are open are at work for senders who are known.
    pub(super) fn enter(&self) -> Option<Arc<Connection>> {
        let place = |taken: usize| (taken < self.few).then_some(taken + 1);
        let large = self.large.fetch_update(Ordering::Relaxed, Ordering::Relaxed, place).ok();
        let connection = Arc::new(Connection {
            number: self.next.fetch_add(1, Ordering::Relaxed),
            opened: Instant::now(),
            ended_ms: AtomicU64::new(0),
            busy: AtomicUsize::new(0),
            trusted: AtomicBool::new(false),
            leave: Notify::new(),
            evicted: AtomicBool::new(false),
            is_one_of_few: large.is_some(),
            _large: large.map(|_| Large(Arc::clone(&self.large))),
        });
        let mut open = self.open();
        if open.len() >= self.max {
            let victim = open.take_victim()?;
            victim.evicted.store(true, Ordering::Relaxed);
            victim.leave.notify_one();
            count(&self.counters.connections_evicted);
        }
        open.strangers.insert(connection.number, Arc::clone(&connection));
        count(&self.counters.connections);
        self.counters.connections_open.store(open.len() as u64, Ordering::Relaxed);
        Some(connection)
    }

    /// An export was taken from it.
    pub(super) fn trust(&self, connection: &Connection) {
        if !connection.trusted.swap(true, Ordering::Relaxed) {
            let mut open = self.open();
            if let Some(sender) = open.strangers.remove(&connection.number) {
                open.senders.insert(sender.number, sender);
            }
        }
    }

    pub(super) fn leave(&self, connection: &Connection) {
        let mut open = self.open();
        open.remove(connection.number);
        self.counters.connections_open.store(open.len() as u64, Ordering::Relaxed);
    }

    /// Sends away those that were silent for too long.
    pub(super) fn send_silent_away(&self) {
        let now = Instant::now();
        let stays = |connection: &Arc<Connection>| {
            let Some((since, was_asked)) = connection.idle_since() else { return true };
            let timeout = if was_asked { self.idle_timeout } else { self.header_timeout };
            let stays = now.saturating_duration_since(since) < timeout;
            if !stays {
                connection.leave.notify_one();
                count(&self.counters.connections_timed_out);
            }
            stays
        };
        let mut open = self.open();
        open.strangers.retain(|_, connection| stays(connection));
        open.senders.retain(|_, connection| stays(connection));
    }

    /// Asks all to finish what they do and go.
    pub(super) fn send_all_away(&self) {
        let open = self.open();
        for connection in open.strangers.values().chain(open.senders.values()) {
            connection.leave.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::receiver::ReceiverOptions;

    fn connections(max: usize) -> Connections {
        let options = ReceiverOptions { connections_max: max, ..ReceiverOptions::default() };
        Connections::new(&options, Arc::default())
    }

    async fn is_told_to_go(connection: &Connection) -> bool {
        tokio::time::timeout(Duration::from_millis(1), connection.leave.notified()).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn strangers_make_room_before_senders_and_idle_ones_before_busy_ones() {
        let all = connections(3);
        let mut open = Vec::new();
        for _ in 0..3 {
            open.push(all.enter().unwrap());
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        all.trust(&open[0]);
        let busy = open[0].begin();
        all.trust(&open[2]);
        let fourth = all.enter().unwrap();
        assert!(is_told_to_go(&open[1]).await);
        all.trust(&fourth);
        let also_busy = fourth.begin();
        let fifth = all.enter().unwrap();
        assert!(is_told_to_go(&open[2]).await, "it is idle");
        all.trust(&fifth);
        let all_busy = fifth.begin();
        assert!(all.enter().is_none());
        drop((busy, also_busy, all_busy));
        assert!(all.enter().is_some());
    }

    #[test]
    fn buffers_of_all_fit_into_what_they_may_take() {
        let options = ReceiverOptions { connection_bytes_max: 1 << 20, ..ReceiverOptions::default() };
        let all = Connections::new(&options, Arc::default());
        let mut open: Vec<_> = (0..200).map_while(|_| all.enter()).collect();
        assert_eq!(all.max, 4 + 96);
        let large = |open: &[Arc<Connection>]| open.iter().filter(|one| one.is_one_of_few).count();
        assert_eq!(large(&open), 4);
        // Who goes gives its large buffer to the next.
        open.drain(..10).for_each(|gone| all.leave(&gone));
        open.extend(all.enter());
        assert_eq!(large(&open), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_has_an_end() {
        let all = connections(3);
        let fresh = all.enter().unwrap();
        let asked = all.enter().unwrap();
        let busy = all.enter().unwrap();
        tokio::time::advance(Duration::from_secs(9)).await;
        drop(asked.begin());
        let _mark = busy.begin();
        all.send_silent_away();
        assert!(!is_told_to_go(&fresh).await);
        tokio::time::advance(Duration::from_secs(2)).await;
        all.send_silent_away();
        assert!(is_told_to_go(&fresh).await);
        assert!(!is_told_to_go(&asked).await);
        tokio::time::advance(Duration::from_secs(149)).await;
        all.send_silent_away();
        assert!(is_told_to_go(&asked).await);
        assert!(!is_told_to_go(&busy).await);
    }
}
