//! What the sources saw. Nothing here is judged: two sources may contradict each other.
//!
//! Sources fill one [`Observations`] each (or one per thread); [`Observations::absorb`] joins them. The order in
//! which that happens never changes a verdict.

pub mod cgroup;
pub mod journal;
pub mod kubernetes;
pub mod metric;
pub mod span;

use std::collections::{BTreeMap, HashMap};

use crate::kernel::KernelLog;
use crate::problem::Problems;
use crate::symbol::{Symbol, Symbols};
use crate::time::UnixNanos;

use cgroup::CgroupSample;
use journal::JournalLife;
use kubernetes::Kubernetes;
use metric::Metrics;
use span::Traces;

/// An index into [`Observations::resources`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceId(pub u32);

/// Who sent telemetry: the attributes of an OpenTelemetry resource, sorted by key text.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Resource {
    /// Key and value; values that are not strings are written as JSON would.
    pub attributes: Vec<(Symbol, Symbol)>,
}

/// A log record that may bear on a kill.
#[derive(Debug, Clone, PartialEq)]
pub struct LogRecord {
    /// Event time, else observed time.
    pub at: UnixNanos,
    /// Who logged.
    pub resource: ResourceId,
    /// `eventName`, if any.
    pub event_name: Option<Symbol>,
    /// Body as text, cut to the symbol limit.
    pub body: Symbol,
    /// Attributes as text.
    pub attributes: Vec<(Symbol, Symbol)>,
}

/// The wall-clock time at which a machine booted, as one file states it.
#[derive(Debug, Clone, PartialEq)]
pub struct BootTime {
    /// File it came from. It holds for kernel logs in the same folder, else for the only log there is.
    pub file: String,
    /// Pairs of (kernel time in nanoseconds since boot, wall time); one pair (0, boot) for `btime`.
    pub pairs: Vec<(i64, UnixNanos)>,
    /// Half width of the error of a single pair, in nanoseconds (`btime` counts whole seconds).
    pub uncertainty: i64,
}

/// How much of each source was read, for "looked in".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SourceCount {
    /// Files with at least one usable record of this kind.
    pub files: u64,
    /// Usable records.
    pub records: u64,
}

/// A kind of evidence. Named in "looked in", in `seen_by` and in gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SourceKind {
    /// Kubernetes objects and watch events.
    Kubernetes,
    /// The kernel's log.
    KernelLog,
    /// cgroup samples.
    Cgroup,
    /// OpenTelemetry spans.
    Traces,
    /// OpenTelemetry metrics.
    Metrics,
    /// OpenTelemetry log records.
    Logs,
    /// Journals of instrumented processes.
    Journal,
}

/// Everything that was seen.
#[derive(Debug, Default)]
pub struct Observations {
    /// All interned strings.
    pub symbols: Symbols,
    /// All OpenTelemetry resources, each once.
    pub resources: Vec<Resource>,
    resource_ids: HashMap<Resource, ResourceId>,
    /// Spans.
    pub traces: Traces,
    /// Metrics that bear on memory or load.
    pub metrics: Metrics,
    /// Log records that may bear on a kill.
    pub logs: Vec<LogRecord>,
    /// Pods, events, nodes, owners.
    pub kubernetes: Kubernetes,
    /// One entry a kernel log file.
    pub kernel: Vec<KernelLog>,
    /// Statements about when a machine booted.
    pub boot_times: Vec<BootTime>,
    /// Samples of container cgroups.
    pub cgroup_samples: Vec<CgroupSample>,
    /// Lives of processes, from their journals.
    pub journals: Vec<JournalLife>,
    /// What could not be used.
    pub problems: Problems,
    /// What was looked in.
    pub counts: BTreeMap<SourceKind, SourceCount>,
}

impl Observations {
    /// The id of a resource with these attributes, made if it is new.
    pub fn intern_resource(&mut self, mut attributes: Vec<(Symbol, Symbol)>) -> ResourceId {
        attributes.sort_by(|a, b| self.symbols.text(a.0).cmp(self.symbols.text(b.0)));
        attributes.dedup_by_key(|(key, _)| *key);
        let resource = Resource { attributes };
        if let Some(&id) = self.resource_ids.get(&resource) {
            return id;
        }
        let id = ResourceId(self.resources.len() as u32);
        self.resources.push(resource.clone());
        self.resource_ids.insert(resource, id);
        id
    }

    /// The text of attribute `key` of a resource.
    pub fn resource_attribute(&self, id: ResourceId, key: &str) -> Option<&str> {
        let key = self.symbols.find(key)?;
        let resource = self.resources.get(id.0 as usize)?;
        let (_, value) = resource.attributes.iter().find(|(k, _)| *k == key)?;
        Some(self.symbols.text(*value))
    }

    /// Counts `records` usable records of `kind`; `new_file` when they are the first of their file.
    pub fn count(&mut self, kind: SourceKind, records: u64, new_file: bool) {
        let count = self.counts.entry(kind).or_default();
        count.records += records;
        count.files += u64::from(new_file);
    }

    /// Adds everything that `other` saw.
    pub fn absorb(&mut self, other: Self) {
        let symbols = self.symbols.absorb(&other.symbols);
        let symbol = |s: Symbol| symbols.get(s.0 as usize).copied().unwrap_or(s);
        let pair = |(key, value): (Symbol, Symbol)| (symbol(key), symbol(value));
        let resources: Vec<ResourceId> = other
            .resources
            .into_iter()
            .map(|resource| self.intern_resource(resource.attributes.into_iter().map(pair).collect()))
            .collect();
        let resource = |id: ResourceId| resources.get(id.0 as usize).copied().unwrap_or(id);
        self.traces.absorb(other.traces, symbol, resource);
        self.metrics.absorb(other.metrics, symbol, resource);
        self.logs.extend(other.logs.into_iter().map(|record| LogRecord {
            resource: resource(record.resource),
            event_name: record.event_name.map(symbol),
            body: symbol(record.body),
            attributes: record.attributes.into_iter().map(pair).collect(),
            ..record
        }));
        self.kubernetes.absorb(other.kubernetes);
        self.kernel.extend(other.kernel);
        self.boot_times.extend(other.boot_times);
        self.cgroup_samples.extend(other.cgroup_samples);
        self.journals.extend(other.journals.into_iter().map(|life| life.renamed(symbol, resource)));
        self.problems.absorb(other.problems);
        for (kind, count) in other.counts {
            let ours = self.counts.entry(kind).or_default();
            ours.files += count.files;
            ours.records += count.records;
        }
    }
}

impl Metrics {
    fn absorb(
        &mut self,
        other: Self,
        symbol: impl Fn(Symbol) -> Symbol,
        resource: impl Fn(ResourceId) -> ResourceId,
    ) {
        let pairs = |attributes: Vec<(Symbol, Symbol)>| {
            attributes.into_iter().map(|(key, value)| (symbol(key), symbol(value))).collect::<Vec<_>>()
        };
        for series in other.series {
            let ours = self.series(resource(series.resource), series.metric, pairs(series.attributes));
            ours.points.extend(series.points);
        }
        for series in other.distributions {
            let ours = self.distribution(resource(series.resource), series.metric, pairs(series.attributes));
            ours.points.extend(series.points);
        }
    }
}
