//! The server about itself, as numbers for `/metrics`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use exit137_sources::cluster::{Phase, WatchState};
use exit137_sources::receiver::Counters;

use super::notify::ReceiverState;
use super::recorder::{Recorder, now};
use super::state::{Received, State, resident_bytes};
use crate::commands::machine;

/// A metric about the server.
pub(super) struct Metric {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) kind: &'static str,
    /// Labels with their braces, and the value.
    pub(super) values: Vec<(String, f64)>,
}

impl Recorder {
    /// The server about itself.
    pub(super) async fn metrics(self: &Arc<Self>) -> Vec<Metric> {
        let mut metrics = self.metrics_of_telemetry();
        metrics.extend(self.door.get().into_iter().flat_map(|door| metrics_at_the_door(door)));
        metrics.extend(self.metrics_of_verdicts());
        metrics.extend(self.metrics_of_notifications());
        metrics.extend(self.metrics_of_the_watch());
        metrics.push(gauge(
            "exit137_uptime_seconds",
            "Time since the start.",
            now().seconds_since(self.started),
        ));
        let budget = self.config.memory_budget.0 as f64;
        metrics.push(gauge("exit137_memory_budget_bytes", "What the server may hold in memory.", budget));
        if let Some(limit) = machine::memory_limit() {
            metrics.push(gauge(
                "exit137_memory_limit_bytes",
                "Where the kernel kills the server itself.",
                limit as f64,
            ));
        }
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

    fn metrics_of_notifications(&self) -> Vec<Metric> {
        let receivers = self.receivers();
        if receivers.is_empty() {
            return Vec::new();
        }
        let by_receiver = |name, help, kind, value: &dyn Fn(&ReceiverState) -> u64| {
            let label = |one: &ReceiverState| (format!("{{receiver=\"{}\"}}", one.name), value(one) as f64);
            Metric { name, help, kind, values: receivers.iter().map(label).collect() }
        };
        let counter = |name, help, value| by_receiver(name, help, "counter", value);
        vec![
            counter("exit137_notifications_delivered_total", "Notices that arrived.", &|one| one.delivered),
            counter("exit137_notifications_failed_total", "Notices refused or given up.", &|one| one.failed),
            counter("exit137_notifications_dropped_total", "Notices that found no room.", &|one| one.dropped),
            counter("exit137_notification_retries_total", "Further attempts to tell.", &|one| one.retries),
            by_receiver("exit137_notifications_waiting", "Notices on their way.", "gauge", &|one| {
                one.waiting as u64
            }),
        ]
    }

    fn metrics_of_the_watch(&self) -> Vec<Metric> {
        let watches = self.cluster.get().map(|cluster| cluster.state().watches).unwrap_or_default();
        if watches.is_empty() {
            return Vec::new();
        }
        let by_watch = |name, help, kind, value: &dyn Fn(&WatchState) -> u64| {
            let label = |one: &WatchState| {
                // Neither can hold a quote: resources are ours, and namespaces are DNS labels.
                let namespace = one.namespace.as_deref().unwrap_or_default();
                let labels = format!("{{resource=\"{}\",namespace=\"{namespace}\"}}", one.kind.resource());
                (labels, value(one) as f64)
            };
            Metric { name, help, kind, values: watches.iter().map(label).collect() }
        };
        vec![
            by_watch("exit137_kubernetes_watching", "1 while changes of it are seen.", "gauge", &|one| {
                u64::from(one.phase == Phase::Watching)
            }),
            by_watch("exit137_kubernetes_objects", "Objects known.", "gauge", &|one| one.objects as u64),
            by_watch(
                "exit137_kubernetes_relists_total",
                "Times that all had to be listed again.",
                "counter",
                &|one| one.relists,
            ),
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

fn metrics_at_the_door(door: &Counters) -> Vec<Metric> {
    let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
    let results = [
        ("accepted", &door.accepted),
        ("partial", &door.partial),
        ("retry", &door.retried),
        ("refused", &door.refused),
        ("busy", &door.busy),
        ("unauthenticated", &door.unauthenticated),
        ("invalid", &door.invalid),
    ];
    let label = |(result, counter): (&str, &AtomicU64)| (format!("{{result=\"{result}\"}}"), value(counter));
    let ends = [("evicted", &door.connections_evicted), ("silent", &door.connections_timed_out)];
    let reason = |(reason, counter): (&str, &AtomicU64)| (format!("{{reason=\"{reason}\"}}"), value(counter));
    vec![
        Metric {
            name: "exit137_otlp_requests_total",
            help: "Requests by what became of them; partial ones are among the accepted.",
            kind: "counter",
            values: results.map(label).into(),
        },
        counter("exit137_otlp_sent_bytes_total", "Bytes of requests as sent, compressed.", &door.bytes),
        counter("exit137_otlp_connections_total", "Connections of senders.", &door.connections),
        Metric {
            name: "exit137_otlp_connections_closed_total",
            help: "Connections closed by the server: to make room for others, or because nothing came.",
            kind: "counter",
            values: ends.map(reason).into(),
        },
        gauge("exit137_otlp_connections_open", "Connections that are open.", value(&door.connections_open)),
    ]
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
