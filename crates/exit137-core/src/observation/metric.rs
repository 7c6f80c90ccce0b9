//! Which metrics bear on memory, and what each means. Names come from the OpenTelemetry semantic conventions,
//! the older names still emitted, the Collector receivers, and their Prometheus spellings
//! (`docs/formats.md` lists them). Everything else is dropped on arrival.

use std::collections::HashMap;

use super::ResourceId;
use crate::symbol::Symbol;
use crate::time::UnixNanos;

/// Whose memory a metric describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// One process.
    Process,
    /// A language runtime's own heap.
    Runtime,
    /// One container.
    Container,
    /// A whole pod.
    Pod,
    /// A node.
    Node,
}

/// What a metric counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Quantity {
    /// Everything charged (usage).
    Usage,
    /// Usage without inactive file pages.
    WorkingSet,
    /// Resident set: anonymous memory of a container, the whole resident set of a process.
    Rss,
    /// Virtual size.
    Virtual,
    /// Page cache.
    Cache,
    /// Swap.
    Swap,
    /// Bytes left below the limit.
    Available,
    /// The limit in force.
    Limit,
    /// The limit wished for (spec).
    LimitDesired,
    /// The request.
    Request,
    /// Highest usage so far.
    Peak,
    /// Live heap in use now (sawtooth).
    HeapUsed,
    /// Heap reserved from the system.
    HeapCommitted,
    /// The heap's own maximum.
    HeapLimit,
    /// Heap left after the last collection: the floor itself.
    HeapAfterCollection,
    /// Size of the heap at which it is collected next: in Go twice what the last collection left.
    HeapGoal,
    /// Allocatable memory of a node.
    Allocatable,
    /// Container restarts so far.
    Restarts,
    /// Times the limit was met.
    Failcnt,
    /// OOM kills counted (cAdvisor).
    OomEvents,
    /// Unix time of the last termination (kube-state-metrics).
    TerminatedAt,
    /// 1 when the last termination had the reason in attribute `reason` (kube-state-metrics, k8s_cluster).
    TerminatedReason,
    /// Seconds since the container started.
    Uptime,
    /// Requests being served now.
    ActiveRequests,
    /// Count of finished requests (from a duration histogram).
    RequestsFinished,
    /// Memory grown by one request (`request.memory.delta`).
    RequestDelta,
}

/// A metric that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Metric {
    /// Whose.
    pub subject: Subject,
    /// What.
    pub quantity: Quantity,
    /// The lower wins when one value arrives under two names (`…/dup` migrations).
    pub rank: u8,
}

/// Looks a metric up by its name as emitted. `None` for metrics that say nothing about memory or load.
pub fn metric_by_name(name: &str) -> Option<Metric> {
    NAMES.binary_search_by(|(known, ..)| known.cmp(&name)).ok().map(|index| {
        let (_, subject, quantity, rank) = NAMES[index];
        Metric { subject, quantity, rank }
    })
}

use Quantity as Q;
use Subject as S;

/// Sorted by name. A table: one line a name.
#[rustfmt::skip]
const NAMES: &[(&str, Subject, Quantity, u8)] = &[
    ("container.memory.available", S::Container, Q::Available, 0),
    ("container.memory.file", S::Container, Q::Cache, 0),
    ("container.memory.rss", S::Container, Q::Rss, 0),
    ("container.memory.total_cache", S::Container, Q::Cache, 1),
    ("container.memory.usage", S::Container, Q::Usage, 0),
    ("container.memory.usage.limit", S::Container, Q::Limit, 2),
    ("container.memory.usage.max", S::Container, Q::Peak, 0),
    ("container.memory.usage.total", S::Container, Q::WorkingSet, 2),
    ("container.memory.working_set", S::Container, Q::WorkingSet, 0),
    ("container.uptime", S::Container, Q::Uptime, 0),
    ("container_memory_cache", S::Container, Q::Cache, 3),
    ("container_memory_failcnt", S::Container, Q::Failcnt, 0),
    ("container_memory_max_usage_bytes", S::Container, Q::Peak, 1),
    ("container_memory_rss", S::Container, Q::Rss, 3),
    ("container_memory_swap", S::Container, Q::Swap, 3),
    ("container_memory_usage_bytes", S::Container, Q::Usage, 3),
    ("container_memory_working_set_bytes", S::Container, Q::WorkingSet, 3),
    ("container_oom_events_total", S::Container, Q::OomEvents, 0),
    ("container_spec_memory_limit_bytes", S::Container, Q::Limit, 3),
    ("dotnet.gc.last_collection.heap.size", S::Runtime, Q::HeapAfterCollection, 0),
    ("dotnet.gc.last_collection.memory.committed_size", S::Runtime, Q::HeapCommitted, 0),
    ("dotnet.process.memory.working_set", S::Process, Q::Rss, 2),
    ("go.memory.gc.goal", S::Runtime, Q::HeapGoal, 0),
    ("go.memory.limit", S::Runtime, Q::HeapLimit, 0),
    ("go.memory.used", S::Runtime, Q::HeapUsed, 0),
    ("go_memstats_alloc_bytes", S::Runtime, Q::HeapUsed, 3),
    ("http.server.active_requests", S::Process, Q::ActiveRequests, 0),
    ("http.server.duration", S::Process, Q::RequestsFinished, 1),
    ("http.server.request.duration", S::Process, Q::RequestsFinished, 0),
    ("http_server_active_requests", S::Process, Q::ActiveRequests, 1),
    ("jvm.memory.committed", S::Runtime, Q::HeapCommitted, 0),
    ("jvm.memory.limit", S::Runtime, Q::HeapLimit, 0),
    ("jvm.memory.used", S::Runtime, Q::HeapUsed, 0),
    ("jvm.memory.used_after_last_gc", S::Runtime, Q::HeapAfterCollection, 0),
    ("k8s.container.memory.limit", S::Container, Q::LimitDesired, 1),
    ("k8s.container.memory.limit.current", S::Container, Q::Limit, 0),
    ("k8s.container.memory.limit.desired", S::Container, Q::LimitDesired, 0),
    ("k8s.container.memory.request", S::Container, Q::Request, 1),
    ("k8s.container.memory.request.current", S::Container, Q::Request, 0),
    ("k8s.container.memory.request.desired", S::Container, Q::Request, 2),
    ("k8s.container.memory_limit", S::Container, Q::LimitDesired, 2),
    ("k8s.container.memory_request", S::Container, Q::Request, 3),
    ("k8s.container.restart.count", S::Container, Q::Restarts, 0),
    ("k8s.container.restarts", S::Container, Q::Restarts, 1),
    ("k8s.container.status.reason", S::Container, Q::TerminatedReason, 0),
    ("k8s.node.allocatable_memory", S::Node, Q::Allocatable, 1),
    ("k8s.node.memory.allocatable", S::Node, Q::Allocatable, 0),
    ("k8s.node.memory.available", S::Node, Q::Available, 0),
    ("k8s.node.memory.rss", S::Node, Q::Rss, 0),
    ("k8s.node.memory.usage", S::Node, Q::Usage, 0),
    ("k8s.node.memory.working_set", S::Node, Q::WorkingSet, 0),
    ("k8s.pod.memory.available", S::Pod, Q::Available, 0),
    ("k8s.pod.memory.rss", S::Pod, Q::Rss, 0),
    ("k8s.pod.memory.usage", S::Pod, Q::Usage, 0),
    ("k8s.pod.memory.working_set", S::Pod, Q::WorkingSet, 0),
    ("kube_node_status_allocatable", S::Node, Q::Allocatable, 3),
    ("kube_pod_container_resource_limits", S::Container, Q::LimitDesired, 3),
    ("kube_pod_container_resource_requests", S::Container, Q::Request, 4),
    ("kube_pod_container_status_last_terminated_reason", S::Container, Q::TerminatedReason, 1),
    ("kube_pod_container_status_last_terminated_timestamp", S::Container, Q::TerminatedAt, 0),
    ("kube_pod_container_status_restarts_total", S::Container, Q::Restarts, 2),
    ("nodejs_heap_size_used_bytes", S::Runtime, Q::HeapUsed, 3),
    ("process.memory.physical_usage", S::Process, Q::Rss, 1),
    ("process.memory.usage", S::Process, Q::Rss, 0),
    ("process.memory.virtual", S::Process, Q::Virtual, 0),
    ("process.memory.virtual_usage", S::Process, Q::Virtual, 1),
    ("process.runtime.cpython.memory", S::Process, Q::Rss, 3),
    ("process.runtime.dotnet.gc.heap.size", S::Runtime, Q::HeapAfterCollection, 1),
    ("process.runtime.go.mem.heap_alloc", S::Runtime, Q::HeapUsed, 1),
    ("process.runtime.go.mem.heap_sys", S::Runtime, Q::HeapCommitted, 2),
    ("process.runtime.jvm.memory.committed", S::Runtime, Q::HeapCommitted, 3),
    ("process.runtime.jvm.memory.limit", S::Runtime, Q::HeapLimit, 1),
    ("process.runtime.jvm.memory.usage", S::Runtime, Q::HeapUsed, 2),
    ("process.runtime.jvm.memory.usage_after_last_gc", S::Runtime, Q::HeapAfterCollection, 2),
    ("process.runtime.memory", S::Process, Q::Rss, 4),
    ("process_memory_usage_bytes", S::Process, Q::Rss, 5),
    ("process_resident_memory_bytes", S::Process, Q::Rss, 6),
    ("process_virtual_memory_bytes", S::Process, Q::Virtual, 3),
    ("request.memory.delta", S::Process, Q::RequestDelta, 0),
    ("rpc.server.call.duration", S::Process, Q::RequestsFinished, 2),
    ("rpc.server.duration", S::Process, Q::RequestsFinished, 3),
    ("v8js.heap.size", S::Runtime, Q::HeapUsed, 4),
    ("v8js.memory.heap.limit", S::Runtime, Q::HeapLimit, 2),
    ("v8js.memory.heap.space.physical_size", S::Runtime, Q::HeapCommitted, 4),
    ("v8js.memory.heap.used", S::Runtime, Q::HeapUsed, 0),
];

/// One value at one time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// When it was measured, by the sender's clock.
    pub at: UnixNanos,
    /// Start of the series as stated; a change means a new process. `UnixNanos(0)` when unknown.
    pub start: UnixNanos,
    /// In the metric's own unit (bytes, counts, seconds).
    pub value: f64,
}

/// One time series of a gauge or sum.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricSeries {
    /// Who sent it.
    pub resource: ResourceId,
    /// What it is.
    pub metric: Metric,
    /// Data-point attributes as text, sorted by symbol.
    pub attributes: Vec<(Symbol, Symbol)>,
    /// In no order; points without a recorded value are left out.
    pub points: Vec<Point>,
}

/// One histogram, exponential histogram or summary at one time, in one shape.
#[derive(Debug, Clone, PartialEq)]
pub struct DistributionPoint {
    /// When it was measured.
    pub at: UnixNanos,
    /// Start of what is counted; `UnixNanos(0)` when unknown.
    pub start: UnixNanos,
    /// Whether each point counts only since the one before.
    pub delta: bool,
    /// Number of values.
    pub count: u64,
    /// Their sum, if sent.
    pub sum: Option<f64>,
    /// Smallest value, if sent.
    pub min: Option<f64>,
    /// Largest value, if sent.
    pub max: Option<f64>,
    /// (upper bound, values at or below it and above the bound before); the last bound may be infinite.
    /// Kept only for `request.memory.delta`.
    pub buckets: Vec<(f64, u64)>,
}

/// One time series of distributions.
#[derive(Debug, Clone, PartialEq)]
pub struct DistributionSeries {
    /// Who sent it.
    pub resource: ResourceId,
    /// What it is.
    pub metric: Metric,
    /// Data-point attributes as text, sorted by symbol.
    pub attributes: Vec<(Symbol, Symbol)>,
    /// In no order.
    pub points: Vec<DistributionPoint>,
}

type SeriesKey = (ResourceId, Metric, Vec<(Symbol, Symbol)>);

/// All metrics kept.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Gauges and sums.
    pub series: Vec<MetricSeries>,
    /// Histograms of all kinds.
    pub distributions: Vec<DistributionSeries>,
    series_index: HashMap<SeriesKey, usize>,
    distributions_index: HashMap<SeriesKey, usize>,
}

impl Metrics {
    /// The series with this identity, made if it is new.
    pub fn series(
        &mut self,
        resource: ResourceId,
        metric: Metric,
        mut attributes: Vec<(Symbol, Symbol)>,
    ) -> &mut MetricSeries {
        attributes.sort_unstable();
        let key = (resource, metric, attributes);
        let index = *self.series_index.entry(key.clone()).or_insert_with(|| {
            self.series.push(MetricSeries { resource, metric, attributes: key.2, points: Vec::new() });
            self.series.len() - 1
        });
        &mut self.series[index]
    }

    /// The distribution series with this identity, made if it is new.
    pub fn distribution(
        &mut self,
        resource: ResourceId,
        metric: Metric,
        mut attributes: Vec<(Symbol, Symbol)>,
    ) -> &mut DistributionSeries {
        attributes.sort_unstable();
        let key = (resource, metric, attributes);
        let index = *self.distributions_index.entry(key.clone()).or_insert_with(|| {
            self.distributions.push(DistributionSeries {
                resource,
                metric,
                attributes: key.2,
                points: Vec::new(),
            });
            self.distributions.len() - 1
        });
        &mut self.distributions[index]
    }
}

#[cfg(test)]
mod tests {
    use super::NAMES;

    #[test]
    fn the_table_is_sorted_so_that_it_can_be_searched() {
        assert!(NAMES.is_sorted_by(|a, b| a.0 < b.0));
    }
}
