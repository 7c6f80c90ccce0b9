//! Senders that mean harm, against the real server with its default budgets: rubbish over HTTP and gRPC, bombs, endless
//! values, clients that trickle, ten thousand connections, names full of markup. Others are served all the while, and
//! memory stays within 256 MiB. `EXIT137_RUBBISH=10` makes it ten times as many messages.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::server::{Server, request};

const RESIDENT_MIB_MAX: u64 = 256;

/// So many messages of rubbish, times what the environment asks for.
fn times(count: usize) -> std::ops::Range<usize> {
    let factor = std::env::var("EXIT137_RUBBISH").map_or(1, |text| text.parse().expect("a number"));
    0..count * factor
}

/// A generator of rubbish that gives the same each time.
struct Rubbish(u64);

impl Rubbish {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ mixed >> 31) % bound.max(1) as u64) as usize
    }

    /// Flips, cuts and repeats parts of `bytes`.
    fn spoil(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        for _ in 0..1 + self.below(4) {
            let at = self.below(bytes.len());
            match self.below(4) {
                0 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
                1 => bytes.truncate(at.max(1)),
                2 if !bytes.is_empty() => bytes[at] = self.below(256) as u8,
                _ => {
                    let length = self.below(64).min(bytes.len() - at);
                    let piece = bytes[at..at + length].to_vec();
                    bytes.splice(at..at, piece);
                }
            }
        }
        bytes
    }
}

const JSON: [(&str, &str); 3] = [
    (
        "traces",
        r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"cart"}}]},"scopeSpans":[{"spans":[{"traceId":"0102030405060708090a0b0c0d0e0f10","spanId":"0102030405060708","name":"GET /","kind":2,"startTimeUnixNano":"1790000000000000000","endTimeUnixNano":"1790000000000000001","attributes":[{"key":"a","value":{"arrayValue":{"values":[{"intValue":"7"}]}}}]}]}]}]}"#,
    ),
    (
        "metrics",
        r#"{"resourceMetrics":[{"resource":{"attributes":[{"key":"k8s.pod.name","value":{"stringValue":"cart-x"}}]},"scopeMetrics":[{"metrics":[{"name":"process.memory.usage","unit":"By","gauge":{"dataPoints":[{"timeUnixNano":"1790000000000000000","asInt":"7"},{"timeUnixNano":"1790000001000000000","asDouble":8.5}]}},{"name":"k8s.container.restarts","sum":{"isMonotonic":true,"aggregationTemporality":2,"dataPoints":[{"timeUnixNano":"1790000000000000000","asInt":"1"}]}},{"name":"http.server.request.duration","histogram":{"aggregationTemporality":2,"dataPoints":[{"timeUnixNano":"1790000000000000000","count":"3","bucketCounts":["1","2"],"explicitBounds":[0.5]}]}}]}]}]}"#,
    ),
    (
        "logs",
        r#"{"resourceLogs":[{"resource":{"attributes":[{"key":"k8s.pod.name","value":{"stringValue":"cart-x"}}]},"scopeLogs":[{"logRecords":[{"timeUnixNano":"1790000000000000000","body":{"stringValue":"Memory cgroup out of memory: Killed process 7 (python) total-vm:9kB, anon-rss:5kB, file-rss:2kB, shmem-rss:1kB, UID:0 pgtables:1kB oom_score_adj:0"}}]}]}]}"#,
    ),
];

/// The same as protobuf.
fn protobuf(signal: &str, json: &str) -> Vec<u8> {
    use opentelemetry_proto::tonic::collector::{logs, metrics, trace};
    use prost::Message;
    let sound = "OTLP";
    match signal {
        "traces" => {
            serde_json::from_str::<trace::v1::ExportTraceServiceRequest>(json).expect(sound).encode_to_vec()
        }
        "metrics" => serde_json::from_str::<metrics::v1::ExportMetricsServiceRequest>(json)
            .expect(sound)
            .encode_to_vec(),
        _ => serde_json::from_str::<logs::v1::ExportLogsServiceRequest>(json).expect(sound).encode_to_vec(),
    }
}

/// Somebody who means well gets an OK.
fn serves_others(server: &Server) {
    for (signal, json) in JSON {
        server.send(signal, json.as_bytes());
    }
    assert_eq!(server.get("/readyz").status, 200);
}

fn within_budget(server: &Server, after: &str) {
    let peak = server.memory_kib("VmHWM") >> 10;
    assert!(peak <= RESIDENT_MIB_MAX, "{peak} MiB after {after}");
}

fn rubbish_over_http(server: &Server, rubbish: &mut Rubbish) {
    for number in times(900) {
        let (signal, json) = JSON[number % 3];
        let (kind, body) = match number % 2 {
            0 => ("application/json", rubbish.spoil(json.as_bytes())),
            _ => ("application/x-protobuf", rubbish.spoil(&protobuf(signal, json))),
        };
        let path = format!("/v1/{signal}");
        let answer = request(&server.otlp_http, "POST", &path, &format!("Content-Type: {kind}\r\n"), &body);
        assert!(matches!(answer.status, 200 | 400 | 503), "{} for {body:?}", answer.status);
    }
}

fn rubbish_over_grpc(server: &Server, rubbish: &mut Rubbish) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(&server.otlp_grpc).await.expect("connected");
        let shaken = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
        let (mut sender, connection) = shaken.expect("HTTP/2");
        tokio::spawn(connection);
        for number in times(600) {
            let (signal, json) = JSON[number % 3];
            let service = ["trace.v1.Trace", "metrics.v1.Metrics", "logs.v1.Logs"][number % 3];
            let message = rubbish.spoil(&protobuf(signal, json));
            let mut body = vec![0];
            body.extend_from_slice(&(message.len() as u32).to_be_bytes());
            body.extend_from_slice(&message);
            if number % 5 == 0 {
                body = rubbish.spoil(&body);
            }
            let path = format!("http://here/opentelemetry.proto.collector.{service}Service/Export");
            let call =
                Request::post(path).header("content-type", "application/grpc").header("te", "trailers");
            let call = call.body(Full::new(Bytes::from(body))).expect("a request");
            let answer = sender.send_request(call).await.expect("an answer");
            let mut status = answer.headers().get("grpc-status").cloned();
            let trailers = answer.into_body().collect().await.expect("a body").trailers().cloned();
            status = status.or_else(|| trailers?.get("grpc-status").cloned());
            assert!(status.is_some(), "message {number} got no status");
        }
    });
}

fn bombs_and_endless_values(server: &Server) {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(&vec![0; 128 << 20]).expect("compressed");
    let gzip = gzip.finish().expect("compressed");
    let zeros = vec![0; 128 << 20];
    let zstd = zstd::encode_all(&zeros[..], 1).expect("compressed");
    drop(zeros);
    let value = "a".repeat(12 << 20);
    let long = JSON[0].1.replace("cart", &value).into_bytes();
    let name = JSON[1].1.replace("cart-x", &value).into_bytes();
    let deep = format!(r#"{{"resourceSpans":[{{"resource":{}"#, "{\"a\":[".repeat(2 << 20)).into_bytes();
    let all: [(&str, &str, &[u8]); 5] = [
        ("traces", "Content-Encoding: gzip\r\n", &gzip),
        ("traces", "Content-Encoding: zstd\r\n", &zstd),
        ("traces", "", &long),
        ("metrics", "", &name),
        ("traces", "", &deep),
    ];
    std::thread::scope(|scope| {
        for (signal, headers, body) in all.iter().cycle().take(10) {
            scope.spawn(move || {
                let headers = format!("Content-Type: application/json\r\n{headers}");
                let mut answer = [0; 64];
                // Whoever is refused early may not get all of it sent.
                let _ = TcpStream::connect(&server.otlp_http).and_then(|mut stream| {
                    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
                    let length = body.len();
                    write!(
                        stream,
                        "POST /v1/{signal} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {length}\r\n\r\n"
                    )?;
                    stream.write_all(body)?;
                    stream.read(&mut answer)
                });
            });
        }
        serves_others(server);
    });
}

fn many_connections(server: &Server) {
    let limits = std::fs::read_to_string("/proc/self/limits").expect("limits");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("a limit");
    let limit: usize = line.split_whitespace().nth(3).and_then(|text| text.parse().ok()).expect("a number");
    let mut open = Vec::new();
    for number in 0..10_000.min(limit.saturating_sub(300)) {
        let Ok(mut stream) = TcpStream::connect(&server.otlp_http) else { break };
        // Every third begins a request that never ends.
        if number % 3 == 0 {
            let _ = stream.write_all(b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{");
        }
        open.push(stream);
        if number % 2000 == 1999 {
            serves_others(server);
        }
    }
    serves_others(server);
}

fn markup_in_names(server: &Server) {
    let name = r"<script>alert(1)</script>\u001b[31m\u202e";
    for (signal, json) in JSON {
        let json = json.replace("cart-x", name).replace("\"cart\"", &format!("\"{name}\""));
        server.send(signal, json.as_bytes());
    }
    for path in ["/", "/next", "/recorder", "/?q=%3Cscript%3E%1b"] {
        let text = server.get(path).text();
        assert!(!text.contains("<script"), "{path}:\n{text}");
        // What was asked for is shown as it was asked.
        assert!(path.contains("q=") || !text.contains('\u{1b}'), "{path}:\n{text}");
    }
    server.json("/api/v1/containers");
    assert!(!server.log().contains('\u{1b}'));
}

#[test]
fn the_server_stays_up_within_its_budget_and_serves_others_whatever_is_sent() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path(), &["--no-kubernetes"]);
    let mut rubbish = Rubbish(137);
    serves_others(&server);
    rubbish_over_http(&server, &mut rubbish);
    within_budget(&server, "rubbish over HTTP");
    rubbish_over_grpc(&server, &mut rubbish);
    within_budget(&server, "rubbish over gRPC");
    bombs_and_endless_values(&server);
    within_budget(&server, "bombs");
    many_connections(&server);
    within_budget(&server, "ten thousand connections");
    markup_in_names(&server);
    within_budget(&server, "markup");
    assert!(!server.log().contains("panicked"), "{}", server.log());
    assert_eq!(server.end(), Some(0));
}
