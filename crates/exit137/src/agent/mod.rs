//! The node agent: looks at every container, hears every kill, and sends both as OTLP. One thread watches and one sends, without a
//! runtime: what watches for memory must need little of it.
//!
//! ```text
//! watch (cgroups) ──┬─▶ points ──▶ export ─────────┐
//!                   └─▶ counters ─┐                ├─▶ spool ──▶ send
//! kmsg, tracepoint ──▶ reports ───┴▶ ledger ─▶ records
//! ```

mod api_names;
pub(crate) mod config;
mod export;
mod http;
mod journals;
mod kills;
mod ledger;
mod names;
mod otlp;
mod protobuf;
mod rate;
mod records;
mod send;
mod spool;
mod start;
mod tiers;
mod watch;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use exit137_core::time::UnixNanos;
use exit137_sources::node::cgroup::wall_now;
use exit137_sources::node::containers;
use exit137_sources::node::hierarchy::NoHierarchy;
use exit137_sources::node::kmsg::{Heard, Kmsg};
use exit137_sources::node::notify::Tree;
use exit137_sources::node::victims::Victims;
use exit137_sources::node::wall::KernelClock;
use rustix::event::Timespec;
use rustix::event::epoll;
use serde::{Deserialize, Serialize};

use config::Config;
use journals::Journals;
use ledger::{Ledger, Slot};
use names::NameBook;
use otlp::{Attributes, Record};
use spool::{Signal, SpoolError, Writer};
use watch::Watch;

/// What epoll calls that which is no container's alarm.
const KMSG: u64 = u64::MAX;
const VICTIMS: u64 = u64::MAX - 1;
const TREE: u64 = u64::MAX - 2;

/// Records wait this long for others, so that a storm of kills is a few requests and not thousands.
const COMMIT_WAIT: Duration = Duration::from_millis(100);

/// Records of one request: some hundreds of KiB.
const RECORDS_MAX: usize = 256;

/// While something waits to be settled.
const SETTLE_EVERY: Duration = Duration::from_millis(100);

/// Between two searches of the whole tree, in case a notification was lost; without notifications, between two at all.
const SEARCH_EVERY: Duration = Duration::from_secs(60);
const SEARCH_EVERY_UNNOTIFIED: Duration = Duration::from_secs(5);

/// Between two rounds of what seldom matters.
const HOUSEKEEPING_EVERY: Duration = Duration::from_secs(10);

/// Records of the kernel's log read before anything else is looked at.
const KMSG_RECORDS_MAX: usize = 2000;

/// Why the agent cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AgentError {
    #[error(transparent)]
    Hierarchy(#[from] NoHierarchy),
    #[error(transparent)]
    Spool(#[from] SpoolError),
    #[error(transparent)]
    Endpoint(#[from] http::EndpointError),
    #[error("cannot read the token in {}", path.display())]
    Token { path: PathBuf, source: std::io::Error },
    #[error("expected a header like name=value, found \"{0}\"")]
    Header(String),
    #[error("expected an interval of 50ms to 60s, found {0:?}")]
    Interval(Duration),
    #[error("there is no cgroup {0}")]
    Root(String),
    #[error("cannot {what}")]
    System { what: &'static str, source: std::io::Error },
}

/// What the requests so far cover, so that the next start goes on from there.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct State {
    boot_id: String,
    next_sequence: u64,
    /// Reports from `next_sequence` on that were told already.
    told: Vec<u64>,
    /// By cgroup path: inode, and the count of kills that was told.
    counters: BTreeMap<String, (u64, u64)>,
    saved_at: i64,
}

/// Everything that runs.
struct Agent {
    config: Config,
    node: String,
    boot_id: String,
    proc: PathBuf,
    clock: Instant,
    epoll: OwnedFd,
    watch: Watch,
    ledger: Ledger,
    names: NameBook,
    journals: Journals,
    kmsg: Option<Kmsg>,
    victims: Option<Victims>,
    /// cgroup paths of victims, asked for while they lived; the newest last.
    victim_paths: std::collections::VecDeque<(u32, String)>,
    tree: Option<Tree>,
    kernel_clock: KernelClock,
    /// The state that the agent started with; containers that were there before take their counters from it.
    before: Option<State>,
    started_at: UnixNanos,
    /// During the first round: what is found then was there before.
    is_starting: bool,
    /// Sequence numbers of told reports that the position in the log does not cover yet.
    told: Vec<u64>,
    records: Vec<(Attributes, Record)>,
    records_since: Option<Duration>,
    traces: Vec<u8>,
    /// Pods in which something was killed, and when, whose journals are to be read.
    journals_due: Vec<(Duration, String, UnixNanos)>,
    /// What systemd-oomd has killed, by path.
    oomd: std::collections::HashMap<String, u64>,
    writer: Writer,
    sender: Option<JoinHandle<()>>,
    next_export: Duration,
    next_search: Duration,
    next_housekeeping: Duration,
}

/// Runs until it is asked to end.
pub(crate) fn run(config: Config) -> Result<(), AgentError> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&stop))
            .map_err(|source| AgentError::System { what: "listen to signals", source })?;
    }
    let mut agent = Agent::start(config)?;
    while !stop.load(Ordering::Relaxed) {
        agent.turn()?;
    }
    agent.end()
}

impl Agent {
    fn now(&self) -> Duration {
        self.clock.elapsed()
    }

    /// Waits for what comes first, and deals with it.
    fn turn(&mut self) -> Result<(), AgentError> {
        let (rang, tree_changed) = self.wait();
        if let Some(victims) = &mut self.victims {
            for pid in victims.take() {
                self.note_victim(pid);
            }
        }
        let now = self.now();
        for slot in rang {
            self.look(slot, now, true);
        }
        self.hear();
        if tree_changed || now >= self.next_search {
            self.search(now);
        }
        // A little early is better than another wake-up.
        for slot in self.watch.due(now + Duration::from_millis(2)) {
            self.look(slot, now, false);
        }
        let settled = self.ledger.settle(now);
        self.tell(settled);
        self.read_journals(now);
        if now >= self.next_housekeeping {
            self.housekeep(now);
        }
        if now >= self.next_export {
            self.next_export = now + self.config.export_interval.0;
            self.export()?;
        }
        let is_old = self.records_since.is_some_and(|since| now.saturating_sub(since) >= COMMIT_WAIT);
        if is_old || self.records.len() >= RECORDS_MAX {
            self.commit(Vec::new())?;
        }
        Ok(())
    }

    /// The slots that rang, and whether the tree changed.
    fn wait(&mut self) -> (Vec<Slot>, bool) {
        let now = self.now();
        let waiting = self.ledger.is_waiting() || self.kmsg.as_ref().is_some_and(Kmsg::is_waiting);
        let soon = (waiting || !self.journals_due.is_empty()).then(|| now + SETTLE_EVERY);
        let commit = self.records_since.map(|since| since + COMMIT_WAIT);
        let fixed = self.next_export.min(self.next_search).min(self.next_housekeeping);
        let due = [self.watch.next_due(), soon, commit].into_iter().flatten().fold(fixed, Duration::min);
        let wait = due.saturating_sub(now);
        let timeout =
            Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos().max(100_000)) };
        let mut events = Vec::with_capacity(64);
        // A signal ends the wait early, and that is all it is for.
        let _ = epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&timeout));
        let (mut rang, mut tree) = (Vec::new(), false);
        for event in events.iter().map(|event: &epoll::Event| event.data.u64()) {
            match event {
                KMSG | VICTIMS => {}
                TREE => tree = true,
                slot => rang.push(slot),
            }
        }
        (rang, tree)
    }

    /// Where a victim lives, asked for while it does.
    fn note_victim(&mut self, pid: u32) {
        let text =
            std::fs::read_to_string(self.proc.join(pid.to_string()).join("cgroup")).unwrap_or_default();
        let version = self.watch.hierarchy.version;
        let path = exit137_sources::node::hierarchy::path_of(&text, version);
        if let Some(path) = path.filter(|path| *path != "/") {
            self.victim_paths.push_back((pid, path.to_owned()));
            if self.victim_paths.len() > 4096 {
                self.victim_paths.pop_front();
            }
        }
    }

    fn look(&mut self, slot: Slot, now: Duration, rang: bool) {
        let usual = self.config.interval.0;
        let seen = self.watch.look(slot, now, usual, self.config.rest, rang);
        if let Some((from, to, total)) = seen.counter
            && self.ledger.counted(slot, total, from, to, now)
        {
            self.sample(slot, "counter");
        }
        if seen.is_gone {
            self.notice_oomd_of(slot);
        }
        if let Some(reason) = seen.photograph {
            self.watch.photograph(slot, &self.proc);
            self.sample(slot, reason);
        }
    }

    /// Sends the reading of a container, with its processes when they were just photographed.
    fn sample(&mut self, slot: Slot, reason: &'static str) {
        let Some(watched) = self.watch.slots.get(&slot) else { return };
        let photographed = watched.photograph.as_ref().filter(|(at, _)| *at >= watched.reading.at);
        let processes = photographed.map_or(&[][..], |(_, processes)| processes);
        let record = records::sample(self.place(slot), &watched.reading, processes, reason);
        self.push(slot, record);
    }

    fn push(&mut self, slot: Slot, record: Record) {
        let place = self.place(slot);
        let of = records::resource(&self.node, place.identity, place.names);
        self.keep(of, record);
    }

    fn keep(&mut self, of: Attributes, record: Record) {
        let now = self.now();
        self.records_since.get_or_insert(now);
        self.records.push((of, record));
    }

    /// Reads what the kernel has logged.
    fn hear(&mut self) {
        let Some(kmsg) = &mut self.kmsg else { return };
        let before = kmsg.last_at();
        let mut heard = Vec::new();
        let more = kmsg.hear(self.kernel_clock.now(), KMSG_RECORDS_MAX, &mut heard);
        let (last_at, is_fresh) = (kmsg.last_at(), !more && kmsg.last_at() > before && before > 0);
        if is_fresh {
            self.kernel_clock.heard(last_at);
        }
        for heard in heard {
            match heard {
                Heard::Oom(report) => self.report(*report),
                Heard::Lost { records, from_sequence } => {
                    tracing::warn!(
                        "{records} records of the kernel log were overwritten before they could be read"
                    );
                    let of = vec![("k8s.node.name", self.node.as_str().into())];
                    self.keep(of, records::gap(records, from_sequence));
                }
            }
        }
    }

    /// Finds new containers.
    fn search(&mut self, now: Duration) {
        let every = if self.tree.is_some() { SEARCH_EVERY } else { SEARCH_EVERY_UNNOTIFIED };
        let changed = self.tree.as_mut().and_then(Tree::take);
        let whole = now >= self.next_search || changed.is_none();
        if whole {
            self.next_search = now + every;
        }
        let from = if whole { vec![self.config.cgroup_root.clone()] } else { changed.unwrap_or_default() };
        for from in from {
            let found = containers::find(&self.watch.hierarchy, &from);
            if let Some(tree) = &mut self.tree {
                for folder in &found.folders {
                    let _ = tree.watch(&self.watch.hierarchy, folder);
                }
            }
            for container in found.containers {
                self.add(container, now);
            }
        }
    }

    fn add(&mut self, container: containers::Container, now: Duration) {
        let Some(slot) = self.watch.add(container, &self.epoll, now) else { return };
        let Some(watched) = self.watch.slots.get_mut(&slot) else { return };
        watched.names = self.names.find(&watched.container.identity, now);
        let (reading, path) = (watched.reading, &watched.container.path);
        let total = reading.oom_kill.unwrap_or_default();
        let known = self.before.as_ref().and_then(|state| state.counters.get(path));
        let known = known.filter(|(inode, _)| *inode == watched.inode).map(|(_, told)| *told);
        self.ledger.watch(slot, known.unwrap_or(0));
        if known.is_none() && self.before.is_none() && self.is_starting {
            self.ledger.had_past(slot, total, reading.at, now);
        } else if total > known.unwrap_or(0) {
            let saved = self.before.as_ref().map_or(self.started_at, |state| UnixNanos(state.saved_at));
            let from = if known.is_some() { saved } else { saved.max(self.started_at) };
            self.ledger.counted(slot, total, from.min(reading.at), reading.at, now);
        }
        // What its counters begin with.
        self.sample(slot, "found");
    }

    fn housekeep(&mut self, now: Duration) {
        self.next_housekeeping = now + HOUSEKEEPING_EVERY;
        self.kernel_clock.measure();
        self.watch.rearm(&self.epoll);
        for slot in self.watch.forget(now) {
            self.ledger.forget(slot);
        }
        self.notice_oomd();
        let dropped = self.writer.take_dropped();
        if dropped > 0 {
            tracing::warn!("{dropped} requests made room for newer ones: the buffer on disk is full");
        }
    }

    fn export(&mut self) -> Result<(), AgentError> {
        let now = self.now();
        let metrics = export::metrics(&mut self.watch, &mut self.names, &self.node, &self.proc, now);
        self.commit(metrics)
    }

    /// Puts everything on disk, with the state that it belongs to.
    fn commit(&mut self, metrics: Vec<u8>) -> Result<(), AgentError> {
        let mut logs = Vec::new();
        for (of, record) in self.records.drain(..) {
            otlp::logs(&of, std::slice::from_ref(&record), &mut logs);
        }
        self.records_since = None;
        let traces = std::mem::take(&mut self.traces);
        let state = self.state();
        let requests = vec![(Signal::Logs, logs), (Signal::Traces, traces), (Signal::Metrics, metrics)];
        self.writer.commit(requests, &state)?;
        Ok(())
    }

    fn state(&mut self) -> State {
        let heard = self.kmsg.as_ref().map_or(0, |kmsg| kmsg.position().next_sequence);
        let next_sequence = self.ledger.untold().min().map_or(heard, |untold| untold.min(heard));
        self.told.retain(|sequence| *sequence >= next_sequence);
        let counters = self
            .watch
            .alive()
            .map(|(slot, watched)| (watched.container.path.clone(), (watched.inode, self.ledger.told(slot))));
        State {
            boot_id: self.boot_id.clone(),
            next_sequence,
            told: self.told.clone(),
            counters: counters.collect(),
            saved_at: wall_now().0,
        }
    }

    /// Nothing is lost by ending: what waits to be settled is heard again after the next start.
    fn end(mut self) -> Result<(), AgentError> {
        self.export()?;
        self.writer.close();
        if let Some(sender) = self.sender.take() {
            let _ = sender.join();
        }
        Ok(())
    }
}
