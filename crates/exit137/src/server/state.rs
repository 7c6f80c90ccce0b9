//! How the recorder is doing: for its page, for the API, and for `/metrics`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};

use exit137_core::time::UnixNanos;
use exit137_store::{ContainerFilter, DatabaseError};
use serde::Serialize;

use super::notify::{Notifier, ReceiverState};
use super::recorder::{Recorder, now};
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
    pub(super) incidents: usize,
    pub(super) verdicts_due: usize,
    pub(super) received: Vec<Received>,
    pub(super) dropped: Vec<Dropped>,
    pub(super) sources: Vec<Source>,
    pub(super) problems: Vec<String>,
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

/// A metric about the server.
pub(super) struct Metric {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) kind: &'static str,
    /// Labels with their braces, and the value.
    pub(super) values: Vec<(String, f64)>,
}

/// What the process holds in memory, from the kernel.
fn resident_bytes() -> Option<u64> {
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
            incidents: self.incidents().len(),
            verdicts_due: self.docket.len(),
            received: self.received(),
            dropped: dropped.collect(),
            sources: self.list_sources(),
            problems: self.store.problems(),
        })
    }

    fn received(&self) -> Vec<Received> {
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
            Source { name: "notifications", state: self.told() },
        ]
    }

    /// Who was told, in words.
    fn told(&self) -> String {
        let notifier = self.notifier.lock().unwrap_or_else(PoisonError::into_inner);
        let receivers = notifier.as_ref().map(Notifier::state).unwrap_or_default();
        let one = |receiver: &ReceiverState| {
            let ReceiverState { name, delivered, failed, dropped, retries, waiting } = receiver;
            format!(
                "{name}: {delivered} delivered, {failed} failed, {dropped} dropped, {retries} retries, {waiting} waiting"
            )
        };
        let lines: Vec<String> = receivers.iter().map(one).collect();
        if lines.is_empty() { "off".to_owned() } else { lines.join("; ") }
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

    /// The server about itself.
    pub(super) async fn metrics(self: &Arc<Self>) -> Vec<Metric> {
        let mut metrics = self.metrics_of_telemetry();
        metrics.extend(self.metrics_of_verdicts());
        metrics.push(gauge(
            "exit137_uptime_seconds",
            "Time since the start.",
            now().seconds_since(self.started),
        ));
        let budget = self.config.memory_budget.0 as f64;
        metrics.push(gauge("exit137_memory_budget_bytes", "What the server may hold in memory.", budget));
        if let Some(bytes) = resident_bytes() {
            metrics.push(gauge("process_resident_memory_bytes", "Resident memory.", bytes as f64));
        }
        if let Some(state) = self.state().await {
            let bytes = |name, help, bytes: u64| gauge(name, help, bytes as f64);
            metrics.push(bytes("exit137_disk_bytes", "What the recording takes on disk.", state.disk_bytes));
            metrics.push(bytes("exit137_disk_budget_bytes", "What it may take.", state.disk_budget_bytes));
            metrics.push(bytes(
                "exit137_waiting_bytes",
                "Bytes that wait to be written.",
                state.waiting_bytes,
            ));
            metrics.push(dropped(&state));
        }
        metrics
    }

    fn metrics_of_telemetry(&self) -> Vec<Metric> {
        let received = self.received();
        let by_signal = |name, help, value: &dyn Fn(&Received) -> u64| {
            let label = |one: &Received| (format!("{{signal=\"{}\"}}", one.signal), value(one) as f64);
            Metric { name, help, kind: "counter", values: received.iter().map(label).collect() }
        };
        let counters = &self.counters;
        vec![
            by_signal("exit137_otlp_exports_total", "Exports received.", &|one| one.exports),
            by_signal("exit137_otlp_records_total", "Spans, points and log records received.", &|one| {
                one.records
            }),
            by_signal("exit137_otlp_bytes_total", "Bytes received, decompressed.", &|one| one.bytes),
            counter(
                "exit137_otlp_rejected_records_total",
                "Records that could not be used.",
                &counters.rejected,
            ),
            counter("exit137_otlp_retried_exports_total", "Exports to be sent again.", &counters.refused),
            counter("exit137_kubernetes_changes_total", "Kubernetes objects recorded.", &counters.changes),
        ]
    }

    fn metrics_of_verdicts(&self) -> Vec<Metric> {
        let counters = &self.counters;
        let seconds = counters.verdict_millis.load(Ordering::Relaxed) as f64 / 1000.0;
        let took = Metric {
            kind: "counter",
            ..gauge("exit137_verdict_seconds_total", "Time that verdicts took.", seconds)
        };
        vec![
            counter("exit137_kills_seen_total", "OOM kills that a source told of.", &counters.kills_heard),
            counter("exit137_verdicts_total", "Verdicts made.", &counters.verdicts),
            took,
            counter("exit137_verdict_failures_total", "Verdicts that failed.", &counters.verdict_failures),
            gauge("exit137_verdicts_due", "Verdicts that wait to be made.", self.docket.len() as f64),
            gauge("exit137_incidents", "Incidents remembered.", self.incidents().len() as f64),
        ]
    }
}

fn gauge(name: &'static str, help: &'static str, value: f64) -> Metric {
    Metric { name, help, kind: "gauge", values: vec![(String::new(), value)] }
}

fn counter(name: &'static str, help: &'static str, value: &AtomicU64) -> Metric {
    Metric { kind: "counter", ..gauge(name, help, value.load(Ordering::Relaxed) as f64) }
}

fn dropped(state: &State) -> Metric {
    let mut sums: std::collections::BTreeMap<(&str, &str), u64> = std::collections::BTreeMap::new();
    for one in &state.dropped {
        *sums.entry((one.kind, one.reason)).or_default() += one.records;
    }
    let label = |((kind, reason), count): ((&str, &str), u64)| {
        (format!("{{kind=\"{kind}\",reason=\"{reason}\"}}"), count as f64)
    };
    Metric {
        name: "exit137_dropped_records_total",
        help: "Records that were recorded and are gone.",
        kind: "counter",
        values: sums.into_iter().map(label).collect(),
    }
}
