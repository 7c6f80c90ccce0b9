//! Metrics: which points count, as what, and in which unit.

use exit137_core::observation::metric::{
    DistributionPoint, Metric, Point, Quantity, Subject, metric_by_name,
};
use exit137_core::observation::{ResourceId, SourceKind};
use exit137_core::symbol::Symbol;

use super::span::nanos;
use super::{ATTRIBUTES_MAX, IDENTITY_BYTES, Sink, Value};

/// `AggregationTemporality` of OTLP.
pub(crate) const DELTA: u64 = 1;

/// `flags` bit of a point that only says that the series has ended.
const NO_RECORDED_VALUE: u64 = 1;

/// More bounds than any SDK makes; hostile ones make more.
pub(crate) const BUCKETS_MAX: usize = 1024;

/// A metric that is kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MetricDraft {
    metric: Metric,
    /// What to multiply values with to get bytes, for metrics that are bytes.
    scale: f64,
    needs: Needs,
    /// Sum or histogram counts since the point before.
    pub(crate) delta: bool,
}

/// What an attribute must say before a point counts.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Needs {
    Nothing,
    /// One name for `rss` and `vms`; the attribute decides, and without it neither is meant.
    MemoryType,
    /// Named like a memory metric, but memory only if this attribute says so.
    ResourceMemory,
    /// Resident unless the attribute says virtual.
    MaybeVirtual,
}

/// A number at a time, while its fields come in.
#[derive(Debug, Default)]
pub(crate) struct PointDraft {
    pub(crate) start: u64,
    pub(crate) time: u64,
    pub(crate) flags: u64,
    pub(crate) value: Option<f64>,
    pub(crate) attributes: Vec<(Symbol, Symbol)>,
}

/// A distribution at a time, while its fields come in.
#[derive(Debug, Default)]
pub(crate) struct DistributionDraft {
    pub(crate) point: PointDraft,
    pub(crate) count: u64,
    pub(crate) sum: Option<f64>,
    pub(crate) min: Option<f64>,
    pub(crate) max: Option<f64>,
    pub(crate) bounds: Vec<f64>,
    pub(crate) counts: Vec<u64>,
    pub(crate) exponential: Option<Exponential>,
}

/// The buckets of an exponential histogram.
#[derive(Debug, Default)]
pub(crate) struct Exponential {
    pub(crate) scale: i64,
    pub(crate) zero_count: u64,
    pub(crate) zero_threshold: f64,
    pub(crate) positive: (i64, Vec<u64>),
    pub(crate) negative: (i64, Vec<u64>),
}

impl MetricDraft {
    /// `None` for a metric that says nothing about memory or load.
    pub(crate) fn new(name: &[u8], unit: &[u8]) -> Option<Self> {
        let name = std::str::from_utf8(name).ok()?;
        let metric = metric_by_name(name)?;
        let scale = if is_bytes(metric.quantity) { bytes_in(unit) } else { 1.0 };
        Some(Self { metric, scale, needs: needs(name), delta: false })
    }

    /// Whether bucket counts are worth decoding.
    pub(crate) fn wants_buckets(&self) -> bool {
        self.metric.quantity == Quantity::RequestDelta
    }
}

fn needs(name: &str) -> Needs {
    match name {
        "process.runtime.cpython.memory" | "process.runtime.memory" => Needs::MemoryType,
        "process.memory.usage" => Needs::MaybeVirtual,
        _ if name.starts_with("kube_") && name.contains("_resource_") => Needs::ResourceMemory,
        "kube_node_status_allocatable" => Needs::ResourceMemory,
        _ => Needs::Nothing,
    }
}

/// Whether it is an amount of memory.
pub(crate) fn is_bytes(quantity: Quantity) -> bool {
    use Quantity as Q;
    !matches!(
        quantity,
        Q::Restarts
            | Q::Failcnt
            | Q::OomEvents
            | Q::TerminatedAt
            | Q::TerminatedReason
            | Q::Uptime
            | Q::ActiveRequests
            | Q::RequestsFinished
    )
}

/// Bytes in one `unit`. Unknown and missing units are bytes: guessing would be worse. `MB` is no OTLP unit;
/// whoever writes it divided by 1024 twice.
fn bytes_in(unit: &[u8]) -> f64 {
    match unit {
        b"KiBy" | b"KiB" | b"KB" | b"kB" | b"kb" => 1024.0,
        b"MiBy" | b"MiB" | b"MB" | b"mb" => 1_048_576.0,
        b"GiBy" | b"GiB" | b"GB" | b"gb" => 1_073_741_824.0,
        b"kBy" => 1e3,
        b"MBy" => 1e6,
        b"GBy" => 1e9,
        _ => 1.0,
    }
}

impl PointDraft {
    /// For the next point; keeps the buffer.
    pub(crate) fn clear(&mut self) {
        let mut attributes = std::mem::take(&mut self.attributes);
        attributes.clear();
        *self = Self { attributes, ..Self::default() };
    }
}

impl Sink {
    /// An attribute of a data point, a resource or a log record: all keys are kept.
    pub(crate) fn attribute(&mut self, into: &mut Vec<(Symbol, Symbol)>, key: &[u8], value: Value<'_>) {
        if into.len() < ATTRIBUTES_MAX {
            let key = self.observations.symbols.intern_bytes(key);
            let value = self.value(value);
            into.push((key, value));
        }
    }

    fn says(&self, attributes: &[(Symbol, Symbol)], keys: &[&str]) -> Option<&str> {
        let symbols = &self.observations.symbols;
        let (_, value) = attributes.iter().find(|(key, _)| keys.contains(&symbols.text(*key)))?;
        Some(symbols.text(*value))
    }

    /// What a point of `metric` with these attributes is about; `None` when it is not about memory.
    fn meaning(&self, metric: &MetricDraft, attributes: &[(Symbol, Symbol)]) -> Option<Metric> {
        let virtual_size =
            Metric { subject: Subject::Process, quantity: Quantity::Virtual, rank: metric.metric.rank };
        match metric.needs {
            Needs::Nothing => Some(metric.metric),
            Needs::MemoryType => match self.says(attributes, &["type"])? {
                "rss" => Some(metric.metric),
                "vms" => Some(virtual_size),
                _ => None,
            },
            Needs::MaybeVirtual => match self.says(attributes, &["memory.type", "type"]) {
                Some("vms" | "virtual") => Some(virtual_size),
                _ => Some(metric.metric),
            },
            Needs::ResourceMemory => {
                (self.says(attributes, &["resource"]) == Some("memory")).then_some(metric.metric)
            }
        }
    }

    /// Adds a point of a gauge or sum. `Err` says what it lacks.
    pub(crate) fn finish_point(
        &mut self,
        resource: ResourceId,
        metric: &MetricDraft,
        draft: &PointDraft,
    ) -> Result<(), &'static str> {
        if draft.flags & NO_RECORDED_VALUE != 0 {
            return Ok(());
        }
        if metric.delta {
            return Err("cumulative temporality for a level of memory");
        }
        let value = draft.value.ok_or("a data point with a value")?;
        if draft.time == 0 {
            return Err("a data point with a time");
        }
        let Some(meaning) = self.meaning(metric, &draft.attributes) else {
            return Ok(());
        };
        if value.is_finite() {
            self.room.take(size_of::<Point>())?;
            let known = self.observations.metrics.series.len();
            let series = self.observations.metrics.series(resource, meaning, draft.attributes.clone());
            let value = value * metric.scale;
            series.points.push(Point { at: nanos(draft.time), start: nanos(draft.start), value });
            if self.observations.metrics.series.len() > known {
                self.room.take(IDENTITY_BYTES + 2 * size_of_val(draft.attributes.as_slice()))?;
            }
            self.count(SourceKind::Metrics, 1);
        }
        Ok(())
    }

    /// Adds a point of a histogram of any kind or a summary. `Err` says what it lacks.
    pub(crate) fn finish_distribution(
        &mut self,
        resource: ResourceId,
        metric: &MetricDraft,
        draft: &DistributionDraft,
    ) -> Result<(), &'static str> {
        if draft.point.flags & NO_RECORDED_VALUE != 0 {
            return Ok(());
        }
        if draft.point.time == 0 {
            return Err("a data point with a time");
        }
        let scaled =
            |value: Option<f64>| value.filter(|value| value.is_finite()).map(|value| value * metric.scale);
        let mut buckets = if metric.wants_buckets() { draft.buckets() } else { Vec::new() };
        buckets.iter_mut().for_each(|(bound, _)| *bound *= metric.scale);
        let point = DistributionPoint {
            at: nanos(draft.point.time),
            start: nanos(draft.point.start),
            delta: metric.delta,
            count: draft.count,
            sum: scaled(draft.sum),
            min: scaled(draft.min),
            max: scaled(draft.max),
            buckets,
        };
        let attributes = draft.point.attributes.clone();
        let buckets = size_of_val(point.buckets.as_slice());
        let identity = IDENTITY_BYTES + 2 * size_of_val(attributes.as_slice());
        self.room.take(size_of::<DistributionPoint>() + buckets)?;
        let known = self.observations.metrics.distributions.len();
        self.observations.metrics.distribution(resource, metric.metric, attributes).points.push(point);
        if self.observations.metrics.distributions.len() > known {
            self.room.take(identity)?;
        }
        self.count(SourceKind::Metrics, 1);
        Ok(())
    }
}

impl DistributionDraft {
    /// (upper bound, count), ascending; empty when bounds and counts do not fit together.
    fn buckets(&self) -> Vec<(f64, u64)> {
        if let Some(exponential) = &self.exponential {
            return exponential.buckets();
        }
        if self.counts.len() != self.bounds.len() + 1 {
            return Vec::new();
        }
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        bounds.zip(self.counts.iter().copied()).collect()
    }
}

impl Exponential {
    fn buckets(&self) -> Vec<(f64, u64)> {
        // Scales outside this range do not exist in OTLP; the power would overflow.
        let scale = self.scale.clamp(-20, 20) as i32;
        let bound = |index: i64| 2f64.powf(index as f64 * 2f64.powi(-scale));
        let (offset, counts) = &self.negative;
        // Bucket i of the negative range covers [-base^(offset+i+1), -base^(offset+i)).
        let negative = counts.iter().enumerate().rev();
        let negative = negative.map(|(index, &count)| (-bound(offset.saturating_add(index as i64)), count));
        let (offset, counts) = &self.positive;
        let positive = counts.iter().enumerate();
        let positive =
            positive.map(|(index, &count)| (bound(offset.saturating_add(index as i64 + 1)), count));
        let zero = (self.zero_count > 0).then_some((self.zero_threshold, self.zero_count));
        negative.chain(zero).chain(positive).filter(|(_, count)| *count > 0).collect()
    }
}
