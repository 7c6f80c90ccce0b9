//! How each watch is doing, for readiness, for the pages and for the log.

use std::sync::{Arc, Mutex, PoisonError};

use exit137_core::time::UnixNanos;

use super::kind::Kind;

/// Where one watch stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Not tried yet.
    Starting,
    /// Reading what is there.
    Listing,
    /// Told of every change.
    Watching,
    /// Something failed; it is tried again.
    Retrying,
    /// The API server does not let us; it is asked again from time to time.
    Forbidden,
}

impl Phase {
    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Listing => "listing",
            Self::Watching => "watching",
            Self::Retrying => "retrying",
            Self::Forbidden => "forbidden",
        }
    }
}

/// One watch: one kind, in one namespace or in all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchState {
    /// What is watched.
    pub kind: Kind,
    /// Where; `None` for everywhere.
    pub namespace: Option<String>,
    /// Where it stands.
    pub phase: Phase,
    /// Since when.
    pub since: UnixNanos,
    /// Whether everything was listed once: what happened before the start is known.
    pub listed: bool,
    /// The `resourceVersion` that was reached.
    pub version: Option<String>,
    /// When the API server last said anything, bookmarks included.
    pub heard_at: Option<UnixNanos>,
    /// What last went wrong, and when. Kept after it is over.
    pub last_error: Option<(UnixNanos, String)>,
    /// Objects known.
    pub objects: usize,
    /// Changes passed on.
    pub changes: u64,
    /// Versions that differed in nothing that matters, and events that say nothing about a kill.
    pub irrelevant: u64,
    /// Objects that could not be read.
    pub unreadable: u64,
    /// Times that everything had to be listed again because the watch had fallen behind.
    pub relists: u64,
}

impl WatchState {
    /// "pods" or "pods in shop".
    pub fn name(&self) -> String {
        let resource = self.kind.resource();
        self.namespace
            .as_ref()
            .map_or_else(|| resource.to_owned(), |namespace| format!("{resource} in {namespace}"))
    }
}

/// A copy of how all watches are doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterState {
    /// The API server's address.
    pub server: String,
    /// Each watch, pods first.
    pub watches: Vec<WatchState>,
}

impl ClusterState {
    /// Whether pods were listed everywhere: then no kill that the API still shows is missed.
    pub fn is_ready(&self) -> bool {
        let mut pods = self.watches.iter().filter(|watch| watch.kind == Kind::Pod).peekable();
        pods.peek().is_some() && pods.all(|watch| watch.listed)
    }

    /// What is not seen, and what that costs: one sentence for each watch that is not working.
    pub fn losses(&self) -> Vec<String> {
        let broken = |watch: &&WatchState| matches!(watch.phase, Phase::Retrying | Phase::Forbidden);
        let sentence = |watch: &WatchState| {
            let (name, phase, loss) = (watch.name(), watch.phase.words(), watch.kind.loss());
            let error = watch.last_error.as_ref().map_or(String::new(), |(_, error)| format!(": {error}"));
            format!("{name}: {phase}{error}; until it works, {loss}")
        };
        self.watches.iter().filter(broken).map(sentence).collect()
    }
}

/// The state as the watches change it.
#[derive(Debug, Clone)]
pub(super) struct Shared(Arc<Mutex<ClusterState>>);

impl Shared {
    pub(super) fn new(server: String) -> Self {
        Self(Arc::new(Mutex::new(ClusterState { server, watches: Vec::new() })))
    }

    pub(super) fn snapshot(&self) -> ClusterState {
        self.with(|state| state.clone())
    }

    /// Starts over with these watches.
    pub(super) fn begin(&self, watches: &[(Kind, Option<String>)], now: UnixNanos) {
        let watches = watches.iter().map(|(kind, namespace)| WatchState {
            kind: *kind,
            namespace: namespace.clone(),
            phase: Phase::Starting,
            since: now,
            listed: false,
            version: None,
            heard_at: None,
            last_error: None,
            objects: 0,
            changes: 0,
            irrelevant: 0,
            unreadable: 0,
            relists: 0,
        });
        let watches = watches.collect();
        self.with(|state| state.watches = watches);
    }

    /// Changes the watch with this index.
    pub(super) fn update(&self, index: usize, change: impl FnOnce(&mut WatchState)) {
        self.with(|state| state.watches.get_mut(index).map(change));
    }

    fn with<T>(&self, act: impl FnOnce(&mut ClusterState) -> T) -> T {
        // Nothing between lock and unlock can leave it half changed.
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
