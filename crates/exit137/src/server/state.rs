//! How the recorder is doing: for its page and for the API.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use exit137_core::time::UnixNanos;
use exit137_sources::cluster::WatchState;
use exit137_store::{ContainerFilter, DatabaseError};
use serde::Serialize;

use super::notify::{Notifier, ReceiverState};
use super::recorder::Recorder;
use crate::commands::machine;
use crate::output;

/// Containers of one answer.
const CONTAINERS_MAX: u32 = 1000;

const SIGNALS: [&str; 3] = ["traces", "metrics", "logs"];

/// The state.
#[derive(Debug, Serialize)]
pub(super) struct State {
    pub(super) version: &'static str,
    pub(super) started_at: String,
    pub(super) folder: String,
    pub(super) disk_bytes: u64,
    pub(super) disk_budget_bytes: u64,
    pub(super) recorded_from: Option<String>,
    pub(super) recorded_to: Option<String>,
    pub(super) segments: usize,
    pub(super) waiting_bytes: u64,
    pub(super) resident_bytes: Option<u64>,
    pub(super) memory_budget_bytes: u64,
    pub(super) memory_limit_bytes: Option<u64>,
    pub(super) kept_for: Vec<Kept>,
    pub(super) incidents: usize,
    pub(super) verdicts_due: usize,
    pub(super) received: Vec<Received>,
    pub(super) dropped: Vec<Dropped>,
    pub(super) sources: Vec<Source>,
    pub(super) watches: Vec<Watch>,
    pub(super) notifications: Vec<ReceiverState>,
    pub(super) problems: Vec<String>,
}

/// For how long something is kept.
#[derive(Debug, Serialize)]
pub(super) struct Kept {
    pub(super) what: &'static str,
    pub(super) seconds: u64,
}

/// How watching one kind of object goes.
#[derive(Debug, Serialize)]
pub(super) struct Watch {
    pub(super) resource: &'static str,
    pub(super) namespace: Option<String>,
    pub(super) phase: &'static str,
    pub(super) since: String,
    pub(super) objects: usize,
    pub(super) changes: u64,
    pub(super) relists: u64,
    pub(super) last_error: Option<String>,
    pub(super) last_error_at: Option<String>,
}

/// What came in by one signal.
#[derive(Debug, Serialize)]
pub(super) struct Received {
    pub(super) signal: &'static str,
    pub(super) exports: u64,
    pub(super) records: u64,
    pub(super) bytes: u64,
}

/// What is gone.
#[derive(Debug, Serialize)]
pub(super) struct Dropped {
    pub(super) kind: &'static str,
    pub(super) reason: &'static str,
    pub(super) records: u64,
    pub(super) bytes: u64,
    pub(super) first_at: String,
    pub(super) last_at: String,
}

/// What the server listens to.
#[derive(Debug, Serialize)]
pub(super) struct Source {
    pub(super) name: &'static str,
    pub(super) state: String,
}

/// One container of the catalogue.
#[derive(Debug, Serialize)]
pub(super) struct Container {
    pub(super) id: String,
    pub(super) attributes: std::collections::BTreeMap<String, String>,
    pub(super) first_at: String,
    pub(super) last_at: String,
    pub(super) records: u64,
    pub(super) bytes: u64,
}

/// What the empty list of incidents says.
pub(super) struct Told {
    pub(super) received: String,
    pub(super) otlp_http: Option<String>,
    pub(super) otlp_grpc: Option<String>,
    pub(super) kubernetes: String,
    pub(super) kernel_log: String,
}

/// What the process holds in memory, from the kernel.
pub(super) fn resident_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

impl Recorder {
    /// Reads the state, which may take a moment.
    pub(super) async fn state(self: &Arc<Self>) -> Option<State> {
        let recorder = Arc::clone(self);
        tokio::task::spawn_blocking(move || recorder.read_state()).await.ok()?.ok()
    }

    fn read_state(&self) -> Result<State, DatabaseError> {
        let store = self.store.state();
        let shown = |at: Option<UnixNanos>| at.map(|at| at.to_string());
        let dropped = self.store.dropped(None)?.into_iter().map(|one| Dropped {
            kind: one.kind.name(),
            reason: one.reason.name(),
            records: one.items,
            bytes: one.bytes,
            first_at: one.first.to_string(),
            last_at: one.last.to_string(),
        });
        Ok(State {
            version: env!("CARGO_PKG_VERSION"),
            started_at: self.started.to_string(),
            folder: self.folder().display().to_string(),
            disk_bytes: store.disk_bytes,
            disk_budget_bytes: store.disk_budget_bytes,
            recorded_from: shown(store.first),
            recorded_to: shown(store.last),
            segments: store.segments,
            waiting_bytes: store.waiting_bytes,
            resident_bytes: resident_bytes(),
            memory_budget_bytes: self.config.memory_budget.0,
            memory_limit_bytes: machine::memory_limit(),
            kept_for: self.kept_for(),
            incidents: self.incidents().len(),
            verdicts_due: self.docket.len(),
            received: self.received(),
            dropped: dropped.collect(),
            sources: self.list_sources(),
            watches: self.watches(),
            notifications: self.receivers(),
            problems: self.store.problems(),
        })
    }

    fn kept_for(&self) -> Vec<Kept> {
        let keep = &self.config.keep;
        let kinds = [
            ("spans", keep.spans),
            ("memory metrics, samples and journals", keep.metrics),
            ("Kubernetes objects, events, logs and kernel reports", keep.events),
            ("incidents", keep.incidents),
        ];
        kinds.map(|(what, span)| Kept { what, seconds: span.0.as_secs() }).into()
    }

    fn watches(&self) -> Vec<Watch> {
        let watches = self.cluster.get().map(|cluster| cluster.state().watches).unwrap_or_default();
        let watch = |watch: WatchState| Watch {
            resource: watch.kind.resource(),
            phase: watch.phase.words(),
            since: watch.since.to_string(),
            objects: watch.objects,
            changes: watch.changes,
            relists: watch.relists,
            last_error_at: watch.last_error.as_ref().map(|(at, _)| at.to_string()),
            last_error: watch.last_error.map(|(_, error)| output::clean_line(&error)),
            namespace: watch.namespace,
        };
        watches.into_iter().map(watch).collect()
    }

    /// Who is told, and what became of it.
    pub(super) fn receivers(&self) -> Vec<ReceiverState> {
        let notifier = self.notifier.lock().unwrap_or_else(PoisonError::into_inner);
        notifier.as_ref().map(Notifier::state).unwrap_or_default()
    }

    pub(super) fn received(&self) -> Vec<Received> {
        let counters = &self.counters;
        let of = |(index, signal): (usize, &&'static str)| Received {
            signal,
            exports: counters.exports[index].load(Ordering::Relaxed),
            records: counters.records[index].load(Ordering::Relaxed),
            bytes: counters.export_bytes[index].load(Ordering::Relaxed),
        };
        SIGNALS.iter().enumerate().map(of).collect()
    }

    fn list_sources(&self) -> Vec<Source> {
        let told = self.sources();
        let off = || "off".to_owned();
        vec![
            Source { name: "OTLP over HTTP", state: told.otlp_http.unwrap_or_else(off) },
            Source { name: "OTLP over gRPC", state: told.otlp_grpc.unwrap_or_else(off) },
            Source { name: "Kubernetes", state: told.kubernetes },
            Source { name: "kernel log", state: told.kernel_log },
        ]
    }

    /// What is listened to, in words.
    pub(super) fn sources(&self) -> Told {
        let addresses = self.addresses.get();
        let exports: u64 = self.counters.exports.iter().map(|count| count.load(Ordering::Relaxed)).sum();
        let received = match exports {
            0 => "No telemetry has arrived yet.".to_owned(),
            exports => {
                format!("{} of telemetry have arrived.", output::count(exports as usize, "export", "exports"))
            }
        };
        let kubernetes = match (self.cluster.get(), self.no_cluster.get()) {
            (Some(cluster), _) => {
                let state = cluster.state();
                let working = if state.is_ready() { "watching" } else { "not listed yet:" };
                format!("{working} {}", state.server)
            }
            (None, Some(reason)) => reason.clone(),
            (None, None) => "off".to_owned(),
        };
        let kernel_log = match (&self.config.kernel_log, self.no_kernel_log.get()) {
            (Some(path), None) => format!("following {}", path.display()),
            (Some(path), Some(reason)) => format!("{}: {reason}", path.display()),
            (None, _) => "off; --kernel-log /dev/kmsg follows this machine's".to_owned(),
        };
        Told {
            received,
            otlp_http: addresses.and_then(|addresses| addresses.http).map(|address| address.to_string()),
            otlp_grpc: addresses.and_then(|addresses| addresses.grpc).map(|address| address.to_string()),
            kubernetes: output::clean_line(&kubernetes),
            kernel_log: output::clean_line(&kernel_log),
        }
    }

    /// The catalogue, the last heard of first.
    pub(super) async fn containers(self: &Arc<Self>) -> Option<Vec<Container>> {
        let recorder = Arc::clone(self);
        let filter = ContainerFilter { count: CONTAINERS_MAX, ..ContainerFilter::default() };
        let read =
            tokio::task::spawn_blocking(move || recorder.store.containers(&filter)).await.ok()?.ok()?;
        let container = |one: exit137_store::Container| Container {
            id: one.identity.id().to_string(),
            attributes: one.identity.attributes().map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
            first_at: one.first.to_string(),
            last_at: one.last.to_string(),
            records: one.items,
            bytes: one.bytes,
        };
        Some(read.into_iter().map(container).collect())
    }
}
