//! Memory metrics on arrival: decoded into series of samples, which a recorder can thin out with age; and what it kept of
//! them as an export again, for a verdict or a capture. Decoding goes through the same code as everywhere, so that a sample
//! means what its point meant.

use exit137_core::observation::Observations;
use exit137_core::observation::metric::{MetricSeries, Quantity, metric_by_name};
use exit137_core::symbol::Symbol;
use exit137_core::time::UnixNanos;
use serde_json::Value;

use super::memory_metrics::{lists, push, take_list};
use super::sink::metric::is_bytes;
use super::sink::{Room, Sink};
use super::{json, proto};
use crate::location::Location;

/// What one export may come to: some hundred thousand points.
const KEPT_BYTES_MAX: u64 = 16 << 20;

/// Values of one metric that belong together.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SampleSeries {
    /// The resource's attributes as text, sorted by key.
    pub resource: Vec<(String, String)>,
    /// The metric's name as it was sent.
    pub metric: String,
    /// The points' attributes as text.
    pub attributes: Vec<(String, String)>,
    /// When the series began, as its sender says; 0 when it does not.
    pub start: UnixNanos,
    /// Times and values: bytes, for what is measured in bytes, whatever the unit on the way was.
    pub samples: Vec<(UnixNanos, f64)>,
}

/// The memory metrics of an export.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MemorySamples {
    /// In no order.
    pub series: Vec<SampleSeries>,
    /// Points that say nothing usable.
    pub unusable: u64,
    /// What the first of them should have been: completes "expected …".
    pub expected: Option<String>,
}

/// Whether points of this metric are samples of a level: all that bear on memory but distributions over requests.
pub(super) fn is_sampled(name: &str) -> bool {
    let distribution = |quantity| matches!(quantity, Quantity::RequestsFinished | Quantity::RequestDelta);
    metric_by_name(name).is_some_and(|metric| !distribution(metric.quantity))
}

/// Decodes the memory metrics of an export of metrics, and nothing else of it.
pub fn memory_samples(is_json: bool, export: &[u8]) -> MemorySamples {
    let mut decoder =
        Decoder { sink: Sink::with_room(Room::of(KEPT_BYTES_MAX)), found: MemorySamples::default() };
    match is_json {
        true => decoder.json(export),
        false => decoder.protobuf(export),
    }
    decoder.found
}

struct Decoder {
    sink: Sink,
    found: MemorySamples,
}

impl Decoder {
    fn protobuf(&mut self, export: &[u8]) {
        for records in lists(export, 1) {
            let mut who = Vec::new();
            lists(records, 1).for_each(|resource| push(1, resource, &mut who));
            for metric in lists(records, 2).flat_map(|scope| lists(scope, 2)) {
                let name = lists(metric, 1).next().and_then(|name| std::str::from_utf8(name).ok());
                let Some(name) = name.filter(|name| is_sampled(name)) else { continue };
                let (mut scope, mut records, mut alone) = (Vec::new(), who.clone(), Vec::new());
                push(2, metric, &mut scope);
                push(2, &scope, &mut records);
                push(1, &records, &mut alone);
                proto::decode_message(&alone, 0, "", &mut self.sink);
                self.collect(name);
            }
        }
    }

    fn json(&mut self, export: &[u8]) {
        let Ok(mut document) = serde_json::from_slice::<Value>(export) else { return };
        for mut records in take_list(&mut document, ["resourceMetrics", "resource_metrics"]) {
            let who = records.get_mut("resource").map(Value::take).unwrap_or_default();
            for mut scope in take_list(&mut records, ["scopeMetrics", "scope_metrics"]) {
                for metric in take_list(&mut scope, ["metrics", "metrics"]) {
                    let name = metric.get("name").and_then(Value::as_str).map(str::to_owned);
                    let Some(name) = name.filter(|name| is_sampled(name)) else { continue };
                    let scopes = serde_json::json!([{ "metrics": [metric] }]);
                    let alone = serde_json::json!({
                        "resourceMetrics": [{ "resource": who, "scopeMetrics": scopes }]
                    });
                    let at = Location { file: "", line: 1 };
                    // A fault is a problem, which is counted below.
                    let _ = json::decode(alone.to_string().as_bytes(), at, &mut self.sink);
                    self.collect(&name);
                }
            }
        }
    }

    /// Takes what was decoded of one metric.
    fn collect(&mut self, metric: &str) {
        let observations = &mut self.sink.observations;
        let problems = std::mem::take(&mut observations.problems).list();
        self.found.unusable += problems.len() as u64;
        if let Some(problem) = problems.first() {
            let message = problem.message.split_once("expected ").map_or(&*problem.message, |(_, what)| what);
            self.found.expected.get_or_insert_with(|| message.to_owned());
        }
        for series in std::mem::take(&mut observations.metrics).series {
            by_start(observations, metric, series, &mut self.found.series);
        }
    }
}

fn by_start(observations: &Observations, metric: &str, series: MetricSeries, out: &mut Vec<SampleSeries>) {
    let text = |symbol: Symbol| observations.symbols.text(symbol).to_owned();
    let texts = |pairs: &[(Symbol, Symbol)]| -> Vec<(String, String)> {
        pairs.iter().map(|(key, value)| (text(*key), text(*value))).collect()
    };
    let resource = observations.resources.get(series.resource.0 as usize);
    let resource = resource.map(|resource| texts(&resource.attributes)).unwrap_or_default();
    let mut points = series.points;
    points.sort_by_key(|point| point.start);
    for points in points.chunk_by(|a, b| a.start == b.start) {
        out.push(SampleSeries {
            resource: resource.clone(),
            metric: metric.to_owned(),
            attributes: texts(&series.attributes),
            start: points[0].start,
            samples: points.iter().map(|point| (point.at, point.value)).collect(),
        });
    }
}

/// These series as one `ExportMetricsServiceRequest`.
pub fn encode_samples(series: &[SampleSeries]) -> Vec<u8> {
    let mut export = Vec::new();
    for of_resource in series.chunk_by(|a, b| a.resource == b.resource) {
        let mut records = Vec::new();
        push(1, &pairs(1, &of_resource[0].resource), &mut records);
        let mut scope = Vec::new();
        for one in of_resource {
            push(2, &metric(one), &mut scope);
        }
        push(2, &scope, &mut records);
        push(1, &records, &mut export);
    }
    export
}

fn metric(series: &SampleSeries) -> Vec<u8> {
    let attributes = pairs(7, &series.attributes);
    let mut gauge = Vec::with_capacity(series.samples.len() * (attributes.len() + 32));
    let mut point = Vec::new();
    for (at, value) in &series.samples {
        point.clear();
        point.extend_from_slice(&attributes);
        for (tag, bytes) in [(0x11, series.start.0.to_le_bytes()), (0x19, at.0.to_le_bytes())] {
            point.push(tag);
            point.extend_from_slice(&bytes);
        }
        point.push(0x21);
        point.extend_from_slice(&value.to_le_bytes());
        push(1, &point, &mut gauge);
    }
    let mut metric = Vec::with_capacity(gauge.len() + 64);
    push(1, series.metric.as_bytes(), &mut metric);
    if metric_by_name(&series.metric).is_some_and(|metric| is_bytes(metric.quantity)) {
        push(3, b"By", &mut metric);
    }
    push(5, &gauge, &mut metric);
    metric
}

/// Attributes with text as values, each in field `number`.
fn pairs(number: u8, attributes: &[(String, String)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, text) in attributes {
        let (mut value, mut pair) = (Vec::new(), Vec::new());
        push(1, text.as_bytes(), &mut value);
        push(1, key.as_bytes(), &mut pair);
        push(2, &value, &mut pair);
        push(number, &pair, &mut out);
    }
    out
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
    use prost::Message;

    use super::*;
    use crate::Pieces;

    const EXPORT: &str = r#"{"resourceMetrics":[
        {"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"cart"}},
                                   {"key":"process.pid","value":{"intValue":"7"}}]},
         "scopeMetrics":[{"scope":{"name":"s"},"metrics":[
            {"name":"process.memory.usage","unit":"MiBy","gauge":{"dataPoints":[
                {"timeUnixNano":"1000","startTimeUnixNano":"5","asInt":"7","attributes":[{"key":"type","value":{"stringValue":"vms"}}]},
                {"timeUnixNano":"2000","startTimeUnixNano":"5","asDouble":8.5,"attributes":[{"key":"type","value":{"stringValue":"vms"}}]},
                {"timeUnixNano":"2000","startTimeUnixNano":"6","asInt":"9"}]}},
            {"name":"jvm.memory.used","unit":"By","sum":{"aggregationTemporality":2,"dataPoints":[
                {"timeUnixNano":"1000","asInt":"1","attributes":[{"key":"jvm.memory.pool.name","value":{"stringValue":"G1 Old"}}]}]}},
            {"name":"container.memory.rss","gauge":{"dataPoints":[{"asInt":"1"}]}},
            {"name":"http.server.request.duration","histogram":{"aggregationTemporality":2,"dataPoints":[{"timeUnixNano":"1000","count":"3"}]}},
            {"name":"http.client.open_connections","gauge":{"dataPoints":[{"timeUnixNano":"1000","asInt":"1"}]}}]}]}]}"#;

    fn export() -> Vec<u8> {
        let all: ExportMetricsServiceRequest = serde_json::from_str(EXPORT).expect("OTLP");
        all.encode_to_vec()
    }

    #[test]
    fn samples_of_json_and_protobuf_are_the_same_and_have_bytes_as_unit() {
        let json = memory_samples(true, EXPORT.as_bytes());
        let protobuf = memory_samples(false, &export());
        assert_eq!((&json.series, json.unusable), (&protobuf.series, protobuf.unusable));
        let names: Vec<&str> = json.series.iter().map(|series| series.metric.as_str()).collect();
        assert_eq!(names, ["process.memory.usage", "process.memory.usage", "jvm.memory.used"]);
        let first = &json.series[0];
        assert_eq!((first.start, first.samples[0]), (UnixNanos(5), (UnixNanos(1000), 7.0 * 1_048_576.0)));
        assert_eq!(first.samples.len(), 2);
        assert_eq!((json.unusable, json.expected.as_deref()), (1, Some("a data point with a time")));
    }

    #[test]
    fn what_is_written_again_is_read_as_what_was_sent() {
        let found = |message: &[u8]| {
            let mut pieces = Pieces::new(1 << 30);
            pieces.otlp_protobuf("metrics", message);
            let found = Pieces::join(vec![pieces]);
            let mut lines: Vec<String> = Vec::new();
            for series in &found.metrics.series {
                let resource = &found.resources[series.resource.0 as usize].attributes;
                let text = |pairs: &[(Symbol, Symbol)]| -> Vec<(String, String)> {
                    let text = |symbol: &Symbol| found.symbols.text(*symbol).to_owned();
                    pairs.iter().map(|(key, value)| (text(key), text(value))).collect()
                };
                for point in &series.points {
                    let who = text(resource);
                    lines.push(format!(
                        "{:?} {who:?} {:?} {point:?}",
                        series.metric,
                        text(&series.attributes)
                    ));
                }
            }
            lines.sort();
            lines
        };
        let samples = memory_samples(false, &export());
        let again = encode_samples(&samples.series);
        assert_eq!(found(&again), found(&export()));
        assert_eq!(found(&again).len(), 4);
        assert_eq!(memory_samples(false, &again).series, samples.series);
    }

    #[test]
    fn rubbish_has_no_samples() {
        for body in [&b""[..], b"\xff\xff\xff", b"{}", b"{\"resourceMetrics\":7}", b"\x0a\x7f\x01"] {
            assert!(memory_samples(false, body).series.is_empty());
            assert!(memory_samples(true, body).series.is_empty());
        }
    }
}
