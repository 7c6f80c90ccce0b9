//! What the parts of the server share: the store, the incidents, what is due, and how it all goes.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use exit137_core::time::{SECOND, UnixNanos};
use exit137_core::verdict::Verdict;
use exit137_sources::cluster::Cluster;
use exit137_sources::receiver::Addresses;
use exit137_store::{AppendError, Piece, Store};
use tracing::{info, warn};

use super::config::Config;
use super::docket::Docket;
use super::hearing::Heard;
use super::incident::{KillMark, Summary};
use super::notify::Notifier;
use super::subject::{Scope, Subject};

/// Between two tries to keep what must be kept.
const KEEP_AGAIN: Duration = Duration::from_millis(200);

/// How long a refused export makes the server count as not ready.
const UNREADY_MAX: i64 = 10 * SECOND;

/// What went through since the start.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) exports: [AtomicU64; 3],
    pub(super) export_bytes: [AtomicU64; 3],
    pub(super) records: [AtomicU64; 3],
    pub(super) rejected: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) kills_heard: AtomicU64,
    pub(super) verdicts: AtomicU64,
    pub(super) verdict_millis: AtomicU64,
    pub(super) verdict_failures: AtomicU64,
    pub(super) changes: AtomicU64,
    /// When an export was last refused, in nanoseconds; 0 when one was kept since.
    pub(super) refused_at: AtomicI64,
}

/// Who leaks, as found last.
#[derive(Debug, Default)]
pub(super) struct LeakBoard {
    pub(super) verdict: Verdict,
    /// The same as a document of the contract.
    pub(super) json: String,
    pub(super) examined_at: Option<UnixNanos>,
    pub(super) workloads: usize,
}

/// The recorder.
pub(super) struct Recorder {
    pub(super) config: Config,
    pub(super) store: Store,
    pub(super) started: UnixNanos,
    /// Set when the server ends.
    pub(super) ending: AtomicBool,
    pub(super) counters: Counters,
    pub(super) docket: Docket,
    /// For what is decoded for a verdict.
    pub(super) room: Mutex<()>,
    pub(super) addresses: OnceLock<Addresses>,
    /// What happens at the receivers' door.
    pub(super) door: OnceLock<Arc<exit137_sources::receiver::Counters>>,
    /// Where pages are served.
    pub(super) pages: OnceLock<std::net::SocketAddr>,
    pub(super) cluster: OnceLock<Cluster>,
    /// Why no cluster is watched.
    pub(super) no_cluster: OnceLock<String>,
    /// Why no kernel log is followed any more.
    pub(super) no_kernel_log: OnceLock<String>,
    /// Who tells people; until the server ends.
    pub(super) notifier: Mutex<Option<Notifier>>,
    incidents: RwLock<Vec<Summary>>,
    leaks: RwLock<Arc<LeakBoard>>,
}

/// The time.
pub(super) fn now() -> UnixNanos {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    UnixNanos(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

impl Recorder {
    /// With what the store knows from before.
    pub(super) fn new(config: Config, store: Store, incidents: Vec<Summary>) -> Self {
        let none = LeakBoard { json: super::next::document(&Verdict::default()), ..LeakBoard::default() };
        Self {
            config,
            store,
            started: now(),
            ending: AtomicBool::new(false),
            counters: Counters::default(),
            docket: Docket::default(),
            room: Mutex::default(),
            addresses: OnceLock::new(),
            door: OnceLock::new(),
            pages: OnceLock::new(),
            cluster: OnceLock::new(),
            no_cluster: OnceLock::new(),
            no_kernel_log: OnceLock::new(),
            notifier: Mutex::default(),
            incidents: RwLock::new(incidents),
            leaks: RwLock::new(Arc::new(none)),
        }
    }

    /// Where everything is kept.
    pub(super) fn folder(&self) -> &Path {
        &self.config.data_dir
    }

    /// All incidents, in no order.
    pub(super) fn incidents(&self) -> RwLockReadGuard<'_, Vec<Summary>> {
        self.incidents.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// One incident.
    pub(super) fn summary(&self, id: &str) -> Option<Summary> {
        self.incidents().iter().find(|summary| summary.id == id).cloned()
    }

    /// Puts an incident in place of what was known of it, and takes those away that turned out to be the same.
    pub(super) fn replace(&self, summary: Summary, gone: &[String]) {
        let mut all = self.incidents.write().unwrap_or_else(PoisonError::into_inner);
        all.retain(|known| known.id != summary.id && !gone.contains(&known.id));
        all.push(summary);
    }

    /// Takes incidents away.
    pub(super) fn forget(&self, ids: &[String]) {
        let mut all = self.incidents.write().unwrap_or_else(PoisonError::into_inner);
        all.retain(|known| !ids.contains(&known.id));
    }

    /// Who leaks.
    pub(super) fn leaks(&self) -> Arc<LeakBoard> {
        Arc::clone(&self.leaks.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Shows a new examination.
    pub(super) fn show_leaks(&self, board: LeakBoard) {
        *self.leaks.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(board);
    }

    /// Keeps what nobody sends again; waits for room. Gives up only when the server ends.
    pub(super) fn keep_surely(&self, pieces: Vec<Piece>) {
        loop {
            match self.store.append(pieces.clone()) {
                Ok(_) => return,
                Err(AppendError::Closed) => return,
                Err(error) => warn!(%error, "cannot record what was seen; trying again"),
            }
            if self.ending.load(Ordering::Relaxed) {
                return;
            }
            std::thread::sleep(KEEP_AGAIN);
        }
    }

    /// Kills were told: their verdicts are due, unless they are known and settled.
    pub(super) fn heard(&self, all: Vec<Heard>) {
        for heard in all {
            let known = self.incidents().iter().any(|summary| {
                summary.settled
                    && heard.marks.iter().all(|mark| summary.shares_kill(std::slice::from_ref(mark)))
            });
            if known {
                continue;
            }
            self.counters.kills_heard.fetch_add(heard.marks.len() as u64, Ordering::Relaxed);
            let kills = heard.marks.len();
            let (of, old) = self.due(heard.subject, &heard.marks);
            info!(of, kills, old, "a kill was seen");
        }
    }

    /// A verdict on these kills is due: whose, and whether they are too old for anything late to come.
    pub(super) fn due(&self, subject: Subject, marks: &[KillMark]) -> (String, bool) {
        let settle = self.config.verdict.settle.0.as_nanos() as i64;
        let latest = marks.iter().map(|mark| mark.at).max().unwrap_or(0);
        let is_old = latest > 0 && now().0 - latest > settle;
        let key = self.key(&subject, if latest > 0 { UnixNanos(latest) } else { now() });
        self.docket.add(key.clone(), subject, marks, is_old);
        (key, is_old)
    }

    fn key(&self, subject: &Subject, at: UnixNanos) -> String {
        match Scope::resolve(&self.store, subject, self.horizon(at)) {
            Ok(scope) => scope.key(subject),
            Err(error) => {
                warn!(%error, "cannot look up who was killed");
                format!("{:?}", (&subject.namespace, &subject.pod_uid, &subject.container_id))
            }
        }
    }

    /// How far back lives are looked at.
    pub(super) fn horizon(&self, at: UnixNanos) -> UnixNanos {
        at - i64::try_from(self.config.verdict.horizon.0.as_nanos()).unwrap_or(i64::MAX)
    }

    /// What a person should know on every page.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Some(reason) = self.no_kernel_log.get() {
            warnings.push(format!("The kernel log is not followed: {reason}"));
        }
        if let Some(cluster) = self.cluster.get() {
            warnings.extend(cluster.state().losses());
        }
        warnings
    }

    /// Whether telemetry is taken and kept; else why not.
    pub(super) fn readiness(&self) -> Result<(), String> {
        if self.ending.load(Ordering::Relaxed) {
            return Err("ending".to_owned());
        }
        if self.addresses.get().is_none() {
            return Err("not listening for telemetry yet".to_owned());
        }
        let refused = self.counters.refused_at.load(Ordering::Relaxed);
        // Not for longer: who is not ready is sent nothing, and would never learn that there is room again.
        if refused > 0 && now().0 - refused < UNREADY_MAX {
            return Err("telemetry cannot be kept at the moment; senders are asked to come again".to_owned());
        }
        Ok(())
    }
}
