//! What the agent knows, as OTLP requests. Field numbers are those of the protocol's own files; tests decode the result with the
//! protocol's generated types.

use exit137_core::observation::journal::RECOVERED;
use exit137_core::time::UnixNanos;
use exit137_sources::journal::Life;

use super::protobuf::Message;

/// An attribute's value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    /// Text.
    Text(String),
    /// A whole number.
    Int(i64),
    /// Yes or no.
    Bool(bool),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// Attributes in the order in which they are written.
pub(crate) type Attributes = Vec<(&'static str, Value)>;

/// A log record.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Record {
    pub(crate) at: UnixNanos,
    pub(crate) observed: UnixNanos,
    pub(crate) event_name: &'static str,
    /// A kill is an error, all else is information.
    pub(crate) is_error: bool,
    pub(crate) body: String,
    pub(crate) attributes: Attributes,
}

/// `SEVERITY_NUMBER_ERROR` and `SEVERITY_NUMBER_INFO`.
const SEVERITIES: [(u64, &str); 2] = [(9, "INFO"), (17, "ERROR")];

/// `AGGREGATION_TEMPORALITY_CUMULATIVE`
const CUMULATIVE: u64 = 2;

/// How a metric's points are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A level.
    Gauge,
    /// Counts up since the cgroup was made.
    Counter,
}

/// A metric's points, (time, value) each.
pub(crate) struct Metric<'a, P: Iterator<Item = (UnixNanos, u64)>> {
    pub(crate) name: &'a str,
    pub(crate) unit: &'a str,
    pub(crate) shape: Shape,
    pub(crate) points: P,
}

fn unix(time: UnixNanos) -> u64 {
    u64::try_from(time.0).unwrap_or_default()
}

fn value(message: &mut Message, value: &Value) {
    match value {
        Value::Text(text) => message.bytes(1, text.as_bytes()),
        Value::Bool(truth) => message.varint(2, u64::from(*truth)),
        Value::Int(number) => message.varint(3, *number as u64),
    }
}

fn attribute(message: &mut Message, field: u32, key: &str, of: &Value) {
    message.message(field, |pair| {
        pair.bytes(1, key.as_bytes());
        pair.message(2, |any| value(any, of));
    });
}

fn resource(message: &mut Message, attributes: &[(&'static str, Value)]) {
    message.message(1, |resource| {
        for (key, of) in attributes {
            attribute(resource, 1, key, of);
        }
    });
}

fn scope(message: &mut Message) {
    message.message(1, |scope| {
        scope.bytes(1, b"exit137.agent");
        scope.bytes(2, env!("CARGO_PKG_VERSION").as_bytes());
    });
}

/// One `ResourceMetrics`, to which metrics are added.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    metrics: Message,
}

impl Metrics {
    /// Adds a metric; one without points is left out.
    pub(crate) fn add<P: Iterator<Item = (UnixNanos, u64)>>(&mut self, metric: Metric<'_, P>) {
        let mut data = Message::default();
        for (at, number) in metric.points {
            data.message(1, |point| {
                point.fixed64(3, unix(at));
                point.fixed64(6, number);
            });
        }
        if data.0.is_empty() {
            return;
        }
        let field = match metric.shape {
            Shape::Gauge => 5,
            Shape::Counter => {
                data.varint(2, CUMULATIVE);
                data.varint(3, 1);
                7
            }
        };
        self.metrics.message(2, |message| {
            message.bytes(1, metric.name.as_bytes());
            message.bytes(3, metric.unit.as_bytes());
            message.bytes(field, &data.0);
        });
    }

    /// Appends the metrics to `request`, an `ExportMetricsServiceRequest`.
    pub(crate) fn finish(self, of: &[(&'static str, Value)], request: &mut Vec<u8>) {
        if self.metrics.0.is_empty() {
            return;
        }
        let mut message = Message(std::mem::take(request));
        message.message(1, |resource_metrics| {
            resource(resource_metrics, of);
            resource_metrics.message(2, |scope_metrics| {
                scope(scope_metrics);
                scope_metrics.0.extend_from_slice(&self.metrics.0);
            });
        });
        *request = message.0;
    }
}

/// Appends one `ResourceLogs` to `request`, an `ExportLogsServiceRequest`.
pub(crate) fn logs(of: &[(&'static str, Value)], records: &[Record], request: &mut Vec<u8>) {
    let mut message = Message(std::mem::take(request));
    message.message(1, |resource_logs| {
        resource(resource_logs, of);
        resource_logs.message(2, |scope_logs| {
            scope(scope_logs);
            for of in records {
                scope_logs.message(2, |message| record(message, of));
            }
        });
    });
    *request = message.0;
}

fn record(message: &mut Message, of: &Record) {
    let (number, text) = SEVERITIES[usize::from(of.is_error)];
    message.fixed64(1, unix(of.at));
    message.varint(2, number);
    message.bytes(3, text.as_bytes());
    message.message(5, |body| body.bytes(1, of.body.as_bytes()));
    for (key, value) in &of.attributes {
        attribute(message, 6, key, value);
    }
    message.fixed64(11, unix(of.observed));
    message.bytes(12, of.event_name.as_bytes());
}

/// Appends the requests that `life` left in flight to `request`, an `ExportTraceServiceRequest`: spans under the same trace
/// and span ids, with status error. Returns how many.
pub(crate) fn spans(life: &Life, more: &[(&'static str, Value)], request: &mut Vec<u8>) -> usize {
    if life.in_flight.is_empty() || life.closed_unix_nanos.is_some() {
        return 0;
    }
    let mut message = Message(std::mem::take(request));
    message.message(1, |resource_spans| {
        resource_spans.message(1, |resource| {
            for (key, text) in &life.resource {
                attribute(resource, 1, key, &Value::Text(text.clone()));
            }
            let known = |key: &str| life.resource.iter().any(|(known, _)| known == key);
            for (key, value) in more.iter().filter(|(key, _)| !known(key)) {
                attribute(resource, 1, key, value);
            }
        });
        resource_spans.message(2, |scope_spans| {
            scope(scope_spans);
            for request in &life.in_flight {
                scope_spans.message(2, |span| span_of(span, request, life.seen_unix_nanos));
            }
        });
    });
    *request = message.0;
    life.in_flight.len()
}

/// `SPAN_KIND_…` of a journal's kinds, which are the protocol's numbers.
fn span_of(span: &mut Message, request: &exit137_sources::journal::InFlight, seen: u64) {
    use exit137_sources::journal::Kind;
    span.bytes(1, &request.trace_id.to_be_bytes());
    span.bytes(2, &request.span_id.to_be_bytes());
    if request.parent_span_id != 0 {
        span.bytes(4, &request.parent_span_id.to_be_bytes());
    }
    span.bytes(5, request.operation.as_bytes());
    let kind = match request.kind {
        Kind::Internal => 1,
        Kind::Client => 3,
        Kind::Producer => 4,
        Kind::Consumer => 5,
        _ => 2,
    };
    span.varint(6, kind);
    span.fixed64(7, request.started_unix_nanos);
    span.fixed64(8, seen.max(request.started_unix_nanos));
    for (key, text) in &request.attributes {
        attribute(span, 9, key, &Value::Text(text.clone()));
    }
    attribute(span, 9, RECOVERED, &Value::Bool(true));
    let numbers = [("exit137.memory.held", request.held_bytes), ("exit137.memory.peak", request.peak_bytes)];
    for (key, bytes) in numbers {
        if let Some(bytes) = bytes {
            attribute(span, 9, key, &Value::Int(i64::try_from(bytes).unwrap_or(i64::MAX)));
        }
    }
    if let Some(phase) = &request.phase {
        attribute(span, 9, "exit137.phase", &Value::from(phase.as_str()));
    }
    span.message(15, |status| {
        status.bytes(2, b"the process was killed while it served this request");
        status.varint(3, 2);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
    use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
    use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
    use opentelemetry_proto::tonic::metrics::v1::{metric::Data, number_data_point::Value as Number};
    use prost::Message as _;

    #[test]
    fn the_protocols_own_types_read_the_metrics() {
        let mut metrics = Metrics::default();
        let points = [(UnixNanos(5), 7), (UnixNanos(6), u64::from(u32::MAX) * 300)];
        metrics.add(Metric { name: "a", unit: "By", shape: Shape::Gauge, points: points.into_iter() });
        metrics.add(Metric { name: "none", unit: "By", shape: Shape::Gauge, points: std::iter::empty() });
        metrics.add(Metric {
            name: "b",
            unit: "{kill}",
            shape: Shape::Counter,
            points: points[..1].iter().copied(),
        });
        let mut request = Vec::new();
        metrics.finish(&[("container.id", Value::from("x"))], &mut request);
        let read = ExportMetricsServiceRequest::decode(request.as_slice()).expect("is read");
        let of_resource = &read.resource_metrics[0];
        let attributes = &of_resource.resource.as_ref().expect("a resource").attributes;
        assert_eq!(attributes[0].key, "container.id");
        let metrics = &of_resource.scope_metrics[0].metrics;
        let Some(Data::Gauge(gauge)) = &metrics[0].data else { panic!("a gauge") };
        assert_eq!((metrics.len(), metrics[0].name.as_str(), metrics[0].unit.as_str()), (2, "a", "By"));
        let seen: Vec<_> =
            gauge.data_points.iter().map(|point| (point.time_unix_nano, point.value)).collect();
        assert_eq!(seen, [(5, Some(Number::AsInt(7))), (6, Some(Number::AsInt(4_294_967_295 * 300)))]);
        let Some(Data::Sum(sum)) = &metrics[1].data else { panic!("a sum") };
        assert_eq!((sum.is_monotonic, sum.aggregation_temporality), (true, 2));
    }

    #[test]
    fn the_protocols_own_types_read_the_logs() {
        let record = Record {
            at: UnixNanos(5),
            observed: UnixNanos(6),
            event_name: "exit137.oom_kill",
            is_error: true,
            body: "{}".into(),
            attributes: vec![("number", Value::Int(-3)), ("truth", Value::Bool(true))],
        };
        let mut request = Vec::new();
        logs(&[("k8s.node.name", Value::from("n"))], &[record.clone(), record], &mut request);
        let read = ExportLogsServiceRequest::decode(request.as_slice()).expect("is read");
        let records = &read.resource_logs[0].scope_logs[0].log_records;
        let first = &records[0];
        assert_eq!((records.len(), first.time_unix_nano, first.observed_time_unix_nano), (2, 5, 6));
        assert_eq!((first.severity_number, first.event_name.as_str()), (17, "exit137.oom_kill"));
        let values: Vec<_> = first.attributes.iter().filter_map(|pair| pair.value.clone()?.value).collect();
        assert_eq!(values, [Any::IntValue(-3), Any::BoolValue(true)]);
        assert_eq!(first.body.clone().and_then(|body| body.value), Some(Any::StringValue("{}".into())));
    }
}
