//! A collector that keeps what it is sent, and can be told to refuse.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use prost::Message;

/// (path, body) of each request that was answered with 200.
type Requests = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

pub struct Collector {
    pub endpoint: String,
    requests: Requests,
    status: Arc<AtomicU16>,
}

/// A log record of the agent, flat.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    pub name: String,
    pub body: String,
    pub at_unix_nanos: u64,
    /// Of the record and of its resource.
    pub attributes: BTreeMap<String, String>,
}

impl Event {
    #[track_caller]
    pub fn attribute(&self, key: &str) -> &str {
        self.attributes.get(key).unwrap_or_else(|| panic!("no {key} in {self:?}"))
    }
}

impl Collector {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let (requests, status) = (Requests::default(), Arc::new(AtomicU16::new(200)));
        let (kept, answer) = (Arc::clone(&requests), Arc::clone(&status));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (kept, answer) = (Arc::clone(&kept), Arc::clone(&answer));
                std::thread::spawn(move || serve(stream, &kept, &answer));
            }
        });
        Self { endpoint, requests, status }
    }

    /// What is answered from now on.
    pub fn answer(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    /// Whether requests are taken.
    pub fn takes(&self) -> bool {
        self.status.load(Ordering::SeqCst) == 200
    }

    fn bodies(&self, path: &str) -> Vec<Vec<u8>> {
        let requests = self.requests.lock().expect("no panic elsewhere");
        requests.iter().filter(|(to, _)| to == path).map(|(_, body)| body.clone()).collect()
    }

    /// All events with this name.
    pub fn events(&self, name: &str) -> Vec<Event> {
        let mut events = Vec::new();
        for body in self.bodies("/v1/logs") {
            let request = ExportLogsServiceRequest::decode(body.as_slice()).expect("OTLP");
            for of_resource in request.resource_logs {
                let resource = of_resource.resource.map(|resource| resource.attributes).unwrap_or_default();
                for record in of_resource.scope_logs.into_iter().flat_map(|scope| scope.log_records) {
                    events.push(Event {
                        attributes: texts(resource.iter().chain(&record.attributes)),
                        name: record.event_name,
                        body: text(record.body.as_ref()),
                        at_unix_nanos: record.time_unix_nano,
                    });
                }
            }
        }
        events.retain(|event| event.name == name);
        events
    }

    /// Names of metrics with the number of their points, of the container with this ID.
    pub fn points(&self, container_id: &str) -> BTreeMap<String, usize> {
        let mut points = BTreeMap::new();
        for body in self.bodies("/v1/metrics") {
            let request = ExportMetricsServiceRequest::decode(body.as_slice()).expect("OTLP");
            for of_resource in request.resource_metrics {
                let resource = of_resource.resource.map(|resource| resource.attributes).unwrap_or_default();
                if texts(resource.iter()).get("container.id").map(String::as_str) != Some(container_id) {
                    continue;
                }
                for metric in of_resource.scope_metrics.into_iter().flat_map(|scope| scope.metrics) {
                    let seen = match metric.data {
                        Some(Data::Gauge(gauge)) => gauge.data_points.len(),
                        Some(Data::Sum(sum)) => sum.data_points.len(),
                        _ => 0,
                    };
                    *points.entry(metric.name).or_default() += seen;
                }
            }
        }
        points
    }

    /// Names of spans.
    pub fn spans(&self) -> Vec<String> {
        let requests = self.bodies("/v1/traces").into_iter();
        let decoded = requests.map(|body| ExportTraceServiceRequest::decode(body.as_slice()).expect("OTLP"));
        let spans = decoded.flat_map(|request| request.resource_spans).flat_map(|of| of.scope_spans);
        spans.flat_map(|scope| scope.spans).map(|span| span.name).collect()
    }

    /// Every request as a file that `exit137 diagnose` reads.
    pub fn save(&self, folder: &Path) {
        let requests = self.requests.lock().expect("no panic elsewhere");
        for (number, (path, body)) in requests.iter().enumerate() {
            let name = format!("{number:05}-{}.binpb", path.rsplit('/').next().unwrap_or_default());
            std::fs::write(folder.join(name), body).expect("written");
        }
    }
}

fn serve(stream: TcpStream, kept: &Requests, status: &AtomicU16) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut length = 0;
        loop {
            line.clear();
            reader.read_line(&mut line).expect("a header");
            match line.trim_end().split_once(": ") {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.parse().expect("a length");
                }
                Some(_) => {}
                None => break,
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).expect("the body");
        let answer = status.load(Ordering::SeqCst);
        if answer == 200 {
            kept.lock().expect("no panic elsewhere").push((path, body));
        }
        let head = format!("HTTP/1.1 {answer} X\r\nContent-Length: 0\r\n\r\n");
        if reader.get_mut().write_all(head.as_bytes()).is_err() {
            return;
        }
    }
}

fn texts<'a>(pairs: impl Iterator<Item = &'a KeyValue>) -> BTreeMap<String, String> {
    pairs.map(|pair| (pair.key.clone(), text(pair.value.as_ref()))).collect()
}

fn text(value: Option<&AnyValue>) -> String {
    match value.and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(truth)) => truth.to_string(),
        other => format!("{other:?}"),
    }
}
