//! Kills that only a metric tells of: a counter that rises, or a last termination that is new. The point itself says
//! neither that it was an OOM kill nor whose; it says that it is time to look.

use std::collections::HashMap;

use exit137_core::observation::metric::Quantity;
use exit137_core::time::UnixNanos;
use exit137_sources::Pieces;
use exit137_store::Identity;
use memchr::memmem;

use super::hearing::Heard;
use super::incident::KillMark;
use super::subject::Subject;

/// Parts of the names of metrics that count or date ends of containers.
const NAMES: &[&[u8]] = &[b"oom_events", b"last_terminated", b"restart", b"status.reason"];

/// Series remembered. A cluster of 5,000 workloads has some ten thousand.
const SERIES_MAX: usize = 100_000;

/// What one export may take.
const KEPT_BYTES_MAX: u64 = 16 << 20;

/// A point may be as late as two collections.
const UNCERTAINTY: i64 = 60_000_000_000;

/// Whether an export may count or date ends of containers.
pub(super) fn may_count(bytes: &[u8]) -> bool {
    NAMES.iter().any(|name| memmem::find(bytes, name).is_some())
}

/// The last value of each series.
#[derive(Debug, Default)]
pub(super) struct Counts {
    last: HashMap<(String, Quantity, String), f64>,
}

impl Counts {
    /// Whose ends the export counts for the first time.
    pub(super) fn news(&mut self, is_json: bool, export: &[u8], identity: &Identity) -> Vec<Heard> {
        let mut pieces = Pieces::new(KEPT_BYTES_MAX);
        match is_json {
            true => pieces.json("heard", export),
            false => pieces.otlp_protobuf("heard", export),
        }
        let found = Pieces::join(vec![pieces]);
        let mut heard = Vec::new();
        for series in &found.metrics.series {
            let quantity = series.metric.quantity;
            let text = |key: &str| {
                let symbol = found.symbols.find(key)?;
                let (_, value) = series.attributes.iter().find(|(known, _)| *known == symbol)?;
                Some(found.symbols.text(*value).to_owned())
            };
            let all: Vec<&str> =
                series.attributes.iter().map(|(_, value)| found.symbols.text(*value)).collect();
            let is_kill = quantity != Quantity::TerminatedReason || all.contains(&"OOMKilled");
            if !counts(quantity) || !is_kill {
                continue;
            }
            for point in &series.points {
                let key = (identity.id().to_string(), quantity, all.join("\u{1f}"));
                if !self.rises(key, quantity, point.value) {
                    continue;
                }
                // Prometheus-like metrics name the container in labels, others in the resource.
                let name = |label: &str, attribute: &str| {
                    text(label).or_else(|| identity.attribute(attribute).map(str::to_owned))
                };
                let subject = Subject {
                    namespace: name("namespace", "k8s.namespace.name"),
                    workload: None,
                    pod: name("pod", "k8s.pod.name"),
                    pod_uid: name("uid", "k8s.pod.uid"),
                    container: name("container", "k8s.container.name"),
                    container_id: identity.attribute("container.id").map(str::to_owned),
                };
                heard.push(Heard { marks: vec![mark(&subject, point.at)], subject });
            }
        }
        heard.retain(|heard| heard.subject != Subject::default());
        heard
    }

    /// Whether a value is more than the last one. The first of a counter tells nothing; of a reason, everything.
    fn rises(&mut self, key: (String, Quantity, String), quantity: Quantity, value: f64) -> bool {
        if self.last.len() >= SERIES_MAX && !self.last.contains_key(&key) {
            return false;
        }
        let before = self.last.insert(key, value);
        let first = if quantity == Quantity::TerminatedReason { 0.0 } else { value };
        value > before.unwrap_or(first)
    }
}

fn counts(quantity: Quantity) -> bool {
    use Quantity as Q;
    matches!(quantity, Q::OomEvents | Q::Restarts | Q::TerminatedAt | Q::TerminatedReason)
}

fn mark(subject: &Subject, at: UnixNanos) -> KillMark {
    let container = subject.container_id.clone().or_else(|| subject.pod_uid.clone());
    KillMark { container: container.unwrap_or_default(), at: at.0, uncertainty: UNCERTAINTY }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn export(name: &str, value: u64, second: u64) -> String {
        format!(
            r#"{{"resourceMetrics":[{{"resource":{{"attributes":[{{"key":"k8s.pod.name","value":{{"stringValue":"cart-x"}}}}]}},
            "scopeMetrics":[{{"metrics":[{{"name":"{name}","sum":{{"dataPoints":[
            {{"timeUnixNano":"{second}000000000","asInt":"{value}"}}],"isMonotonic":true,"aggregationTemporality":2}}}}]}}]}}]}}"#
        )
    }

    #[test]
    fn only_a_counter_that_rises_tells_of_a_kill() {
        let identity = Identity::of([("k8s.pod.name", "cart-x")]);
        let mut counts = Counts::default();
        let mut told = |value, second| {
            let export = export("container_oom_events_total", value, second);
            assert!(may_count(export.as_bytes()));
            counts.news(true, export.as_bytes(), &identity).len()
        };
        assert_eq!(
            [told(3, 1000), told(3, 1010), told(4, 1020), told(0, 1030), told(1, 1040)],
            [0, 0, 1, 0, 1]
        );
    }

    #[test]
    fn memory_counts_nothing() {
        let identity = Identity::of([("k8s.pod.name", "cart-x")]);
        let export = export("process.memory.usage", 5, 1000);
        assert!(!may_count(export.as_bytes()));
        assert!(Counts::default().news(true, export.as_bytes(), &identity).is_empty());
    }
}
