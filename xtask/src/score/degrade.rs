//! Degraded copies of a record, made in memory: what the same kill would have left behind with less telemetry.

use std::collections::{BTreeMap, HashSet};

use clap::ValueEnum;
use exit137_core::observation::metric::{Point, Subject};
use exit137_core::observation::{Observations, ResourceId, SourceKind};
use exit137_core::time::{SECOND, UnixNanos};

use super::truth::Truth;

/// How far the application's clock is moved.
const SKEW: i64 = 3 * SECOND;

/// What is taken away or made worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Kind {
    /// Metrics every 15 s
    #[value(name = "metrics-15s")]
    Metrics15s,
    /// Metrics every 60 s
    #[value(name = "metrics-60s")]
    Metrics60s,
    /// Metrics and cgroup samples every 15 s: no finer reading of memory anywhere
    #[value(name = "memory-15s")]
    Memory15s,
    /// Metrics and cgroup samples every 60 s
    #[value(name = "memory-60s")]
    Memory60s,
    /// One trace of ten, by its id
    #[value(name = "spans-10-percent")]
    Spans10Percent,
    /// The application's clock is 3 s ahead
    ClockSkew,
    /// No process metrics, no cgroup samples
    ContainerOnly,
    /// No container metrics, no cgroup samples
    ProcessOnly,
    /// Nothing from before the life that ended in the last kill
    OneLife,
    /// Each of the above, one after another
    All,
}

impl Kind {
    /// All of them but `All`.
    pub fn every() -> impl Iterator<Item = Self> {
        Self::value_variants().iter().copied().filter(|kind| *kind != Self::All)
    }

    /// As on the command line.
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// Makes the copy of both: what is gone from the record is no longer asked of its answer.
    pub fn apply(self, seen: &mut Observations, truth: &mut Truth) {
        match self {
            Self::Metrics15s => thin_metrics(seen, 15 * SECOND),
            Self::Metrics60s => thin_metrics(seen, 60 * SECOND),
            Self::Memory15s => {
                thin_metrics(seen, 15 * SECOND);
                thin_cgroup_samples(seen, 15 * SECOND);
            }
            Self::Memory60s => {
                thin_metrics(seen, 60 * SECOND);
                thin_cgroup_samples(seen, 60 * SECOND);
            }
            Self::Spans10Percent => {
                seen.traces.spans.retain(|span| {
                    mixed(span.trace_id as u64 ^ (span.trace_id >> 64) as u64).is_multiple_of(10)
                });
            }
            Self::ClockSkew => skew(seen, truth),
            Self::ContainerOnly => {
                keep_metrics(seen, |subject| !matches!(subject, Subject::Process | Subject::Runtime));
                drop_cgroup_samples(seen);
            }
            Self::ProcessOnly => {
                keep_metrics(seen, |subject| matches!(subject, Subject::Process | Subject::Runtime));
                drop_cgroup_samples(seen);
            }
            Self::OneLife => keep_last_life(seen, truth),
            Self::All => {}
        }
    }
}

/// Spreads the bits, so that ids that were counted up are chosen like random ones (the end of SplitMix64).
pub fn mixed(bits: u64) -> u64 {
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// Keeps the first point in each `step` of each series.
fn thin_metrics(seen: &mut Observations, step: i64) {
    let place = |at: UnixNanos| at.0.div_euclid(step);
    for series in &mut seen.metrics.series {
        let mut kept: HashSet<(i64, UnixNanos)> = HashSet::new();
        series.points.sort_by_key(|point| point.at);
        series.points.retain(|point| kept.insert((place(point.at), point.start)));
    }
    for series in &mut seen.metrics.distributions {
        let mut kept: HashSet<(i64, UnixNanos)> = HashSet::new();
        series.points.sort_by_key(|point| point.at);
        // What counts since the point before would lose counts.
        series.points.retain(|point| point.delta || kept.insert((place(point.at), point.start)));
    }
}

/// Keeps the first sample in each `step` of each container.
fn thin_cgroup_samples(seen: &mut Observations, step: i64) {
    let place = |at: UnixNanos| at.0.div_euclid(step);
    let mut kept: BTreeMap<Option<String>, i64> = BTreeMap::new();
    seen.cgroup_samples.sort_by_key(|sample| sample.at);
    seen.cgroup_samples.retain(|sample| {
        let id = sample.container_id.clone().or_else(|| sample.cgroup_path.clone());
        kept.insert(id, place(sample.at)) != Some(place(sample.at))
    });
}

fn keep_metrics(seen: &mut Observations, keep: impl Fn(Subject) -> bool) {
    seen.metrics.series.retain(|series| keep(series.metric.subject));
    seen.metrics.distributions.retain(|series| keep(series.metric.subject));
}

fn drop_cgroup_samples(seen: &mut Observations) {
    seen.cgroup_samples.clear();
    seen.counts.remove(&SourceKind::Cgroup);
}

/// Sets the clock of the program that was killed ahead: its spans, metrics and logs, not its callers'.
fn skew(seen: &mut Observations, truth: &Truth) {
    let resources = resources_of_application(seen, truth);
    let ahead = |time: &mut UnixNanos| {
        // Zero stands for "not known".
        if time.0 != 0 {
            *time = *time + SKEW;
        }
    };
    for span in seen.traces.spans.iter_mut().filter(|span| resources.contains(&span.resource)) {
        ahead(&mut span.start);
        ahead(&mut span.end);
    }
    let own = |subject: Subject| matches!(subject, Subject::Process | Subject::Runtime);
    let shift = |point: &mut Point| {
        ahead(&mut point.at);
        ahead(&mut point.start);
    };
    for series in &mut seen.metrics.series {
        if own(series.metric.subject) && resources.contains(&series.resource) {
            series.points.iter_mut().for_each(shift);
        }
    }
    for series in &mut seen.metrics.distributions {
        if resources.contains(&series.resource) {
            for point in &mut series.points {
                ahead(&mut point.at);
                ahead(&mut point.start);
            }
        }
    }
    seen.logs.iter_mut().filter(|log| resources.contains(&log.resource)).for_each(|log| ahead(&mut log.at));
}

/// Senders that are called like the killed container or its pod; without a kill, those that measure themselves.
fn resources_of_application(seen: &Observations, truth: &Truth) -> HashSet<ResourceId> {
    let kills = truth.kills();
    if kills.is_empty() {
        let own = seen.metrics.series.iter().filter(|series| series.metric.subject == Subject::Process);
        return own.map(|series| series.resource).collect();
    }
    let is_killed = |id: &ResourceId| {
        let says = |key| seen.resource_attribute(*id, key);
        kills.iter().any(|kill| {
            let (pod, container) = (kill.pod.as_deref(), kill.container.as_deref());
            let pods = [says("k8s.pod.name"), says("host.name")];
            let containers = [says("k8s.container.name"), says("service.name")];
            pods.iter().any(|said| said.is_some() && *said == pod)
                || containers.iter().any(|said| said.is_some() && *said == container)
        })
    };
    (0..seen.resources.len() as u32).map(ResourceId).filter(is_killed).collect()
}

/// Drops what happened before the life that the last kill ended. Lives of the truth's other pods go too.
fn keep_last_life(seen: &mut Observations, truth: &mut Truth) {
    let Some(cut) = start_of_last_life(seen, truth) else { return };
    let (before, after): (Vec<_>, Vec<_>) =
        truth.kills().iter().cloned().partition(|kill| kill.at().is_some_and(|at| at < cut));
    let gone: HashSet<u32> = before.iter().filter_map(|kill| kill.host_pid).collect();
    truth.kills = Some(after);
    // A version that came before is no longer there to be compared with.
    truth.introduced_by = None;
    seen.traces.spans.retain(|span| span.end >= cut);
    for series in &mut seen.metrics.series {
        series.points.retain(|point| point.at >= cut);
    }
    seen.metrics.series.retain(|series| !series.points.is_empty());
    for series in &mut seen.metrics.distributions {
        series.points.retain(|point| point.at >= cut);
    }
    seen.logs.retain(|log| log.at >= cut);
    seen.cgroup_samples.retain(|sample| sample.at >= cut);
    for log in &mut seen.kernel {
        log.reports.retain(|report| !report.victims.iter().any(|victim| gone.contains(&victim.pid)));
    }
    let kubernetes = &mut seen.kubernetes;
    for pod in kubernetes.pods.values_mut() {
        let ended: HashSet<String> = pod
            .terminations
            .iter()
            .filter(|end| end.finished_at.is_some_and(|at| at < cut))
            .filter_map(|end| end.container_id.clone())
            .collect();
        pod.terminations.retain(|end| end.finished_at.is_none_or(|at| at >= cut));
        pod.running.retain(|running| !ended.contains(&running.container_id));
    }
    kubernetes.events.retain(|_, event| event.last_at.is_none_or(|at| at >= cut));
}

/// As the API tells it (whole seconds, cut off); `None` when nothing came before.
fn start_of_last_life(seen: &Observations, truth: &Truth) -> Option<UnixNanos> {
    let last = truth.kills().iter().max_by_key(|kill| kill.at())?;
    let id = last.container_id.as_deref()?;
    let pods = || seen.kubernetes.pods.values();
    let running = pods().flat_map(|pod| &pod.running).find(|running| running.container_id == id);
    let ended = pods().flat_map(|pod| &pod.terminations).find(|end| end.container_id.as_deref() == Some(id));
    running.map(|running| running.started_at).or(ended?.started_at)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Kind, SKEW, mixed};
    use crate::score::record::Record;
    use crate::score::truth::Truth;
    use exit137_core::observation::Observations;
    use exit137_core::observation::metric::{Point, metric_by_name};
    use exit137_core::observation::span::{Span, SpanKind, SpanStatus};
    use exit137_core::time::{SECOND, UnixNanos};

    fn seen() -> Observations {
        let mut seen = Observations::default();
        let (key, value) = (seen.symbols.intern("service.name"), seen.symbols.intern("shop"));
        let resource = seen.intern_resource(vec![(key, value)]);
        for name in ["process.memory.usage", "container.memory.working_set"] {
            let metric = metric_by_name(name).expect("a metric that is kept");
            let points =
                (1..=60).map(|i| Point { at: UnixNanos(i * SECOND), start: UnixNanos(0), value: 1.0 });
            seen.metrics.series(resource, metric, Vec::new()).points.extend(points);
        }
        let name = seen.symbols.intern("GET /a");
        seen.traces.spans.extend((1..=1000).map(|i| Span {
            trace_id: i,
            span_id: i as u64,
            parent_span_id: 0,
            start: UnixNanos(SECOND),
            end: UnixNanos(2 * SECOND),
            name,
            resource,
            attributes_start: 0,
            attributes_len: 0,
            kind: SpanKind::Server,
            status: SpanStatus::Ok,
            weight: 1.0,
        }));
        seen
    }

    fn degraded(kind: Kind) -> Observations {
        let mut seen = seen();
        let mut truth: Truth =
            serde_saphyr::from_str("cause: leak\nkills: [{time: x, container: shop}]").expect("YAML");
        kind.apply(&mut seen, &mut truth);
        seen
    }

    #[test]
    fn metrics_are_thinned_to_one_a_step() {
        let points = |kind| degraded(kind).metrics.series.iter().map(|s| s.points.len()).collect::<Vec<_>>();
        assert_eq!(points(Kind::Metrics15s), [5, 5]);
        assert_eq!(points(Kind::Metrics60s), [2, 2]);
        assert_eq!(points(Kind::ContainerOnly), [60]);
    }

    #[test]
    fn who_leaks_is_named_where_memory_was_read_only_every_15_s() {
        let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cases");
        for (case, culprit) in
            [("courier-queue-leak", "parcels process"), ("loyalty-rollout-leak", "GET /offers")]
        {
            let mut record = Record::open(&cases.join(case)).expect("a case");
            let mut seen = record.observations().expect("readable inputs");
            Kind::Memory15s.apply(&mut seen, &mut record.truth);
            let verdict = exit137_core::diagnose(&seen);
            let first = verdict.incidents.first().and_then(|incident| incident.operations.first());
            assert_eq!(first.map(|claim| claim.names.as_slice()), Some(&[culprit.to_owned()][..]), "{case}");
        }
    }

    #[test]
    fn a_tenth_of_the_traces_stays_and_nothing_says_so() {
        let kept = degraded(Kind::Spans10Percent).traces.spans;
        assert!((70..130).contains(&kept.len()), "{}", kept.len());
        assert!(kept.iter().all(|span| span.weight == 1.0 && mixed(span.trace_id as u64).is_multiple_of(10)));
    }

    #[test]
    fn only_the_application_s_clock_is_moved() {
        let seen = degraded(Kind::ClockSkew);
        let first: Vec<i64> = seen.metrics.series.iter().map(|series| series.points[0].at.0).collect();
        assert_eq!(first, [SECOND + SKEW, SECOND]);
        assert_eq!(seen.traces.spans[0].start.0, SECOND + SKEW);
        assert_eq!(seen.metrics.series[0].points[0].start.0, 0);
    }
}
