//! What real senders send arrives: the OpenTelemetry SDKs of Python and Node, and a collector in between.
//!
//! They come from their registries, once, into a folder beside other caches of this project.
#![cfg(feature = "live")]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as they do")]

mod support;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use exit137_sources::receiver::split::{identity, split};
use exit137_sources::receiver::{Answer, Encoding, Export, ReceiverOptions, Signal, Tls, Token};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use prost::Message;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use support::{Keeper, Running};

/// Change the number when the list changes: the folder is made anew then.
const PYTHON: (&str, &[&str]) = (
    "senders-python-1",
    &["opentelemetry-sdk==1.45.2", "opentelemetry-exporter-otlp==1.45.2", "rotel==0.0.1a15"],
);
const NODE: (&str, &[&str]) = (
    "senders-node-1",
    &[
        "@opentelemetry/sdk-trace-node@2.12.0",
        "@opentelemetry/sdk-metrics@2.12.1",
        "@opentelemetry/resources@2.12.1",
        "@opentelemetry/exporter-trace-otlp-http@0.223.1",
        "@opentelemetry/exporter-trace-otlp-proto@0.223.1",
        "@opentelemetry/exporter-trace-otlp-grpc@0.223.1",
        "@opentelemetry/exporter-metrics-otlp-http@0.223.0",
    ],
);

fn cache() -> PathBuf {
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or(home);
    cache.expect("neither XDG_CACHE_HOME nor HOME is set").join("exit137")
}

/// A folder that is made once and then renamed into place, so that one that is half made is never used.
fn made_once(name: &str, make: impl FnOnce(&Path)) -> PathBuf {
    let folder = cache().join(name);
    if !folder.exists() {
        let unfinished = cache().join(format!("{name}.{}", std::process::id()));
        std::fs::create_dir_all(&unfinished).unwrap();
        make(&unfinished);
        // Another run may have been faster; either will do.
        if std::fs::rename(&unfinished, &folder).is_err() {
            std::fs::remove_dir_all(&unfinished).unwrap();
        }
    }
    folder
}

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} ended with {}:\n{text}", output.status);
    output
}

/// The packages, as a path for `PYTHONPATH`: a folder that was renamed is no virtual environment any more.
fn python() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        made_once(PYTHON.0, |folder| {
            let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--pre", "--target"];
            run(Command::new("python3").args(pip).arg(folder).args(PYTHON.1));
        })
    })
}

fn node() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        made_once(NODE.0, |folder| {
            let npm = ["install", "--silent", "--no-audit", "--no-fund", "--prefix"];
            run(Command::new("npm").args(npm).arg(folder).args(NODE.1));
        })
    })
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/senders").join(name)
}

/// Runs a sender. What it complains of is a failure, as SDKs end well when nothing arrived.
async fn send(mut command: Command, protocol: &str, name: &str, endpoint: String, settings: &[(&str, &str)]) {
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint).envs(settings.iter().copied());
    command.arg(protocol).arg(name);
    let output = tokio::task::spawn_blocking(move || run(&mut command)).await.unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(!complaints.contains("ailed to export"), "{name}: {complaints}");
}

fn python_sender() -> Command {
    let mut command = Command::new("python3");
    // Its HTTP client prefers these to what the exporter is told.
    command.env_remove("REQUESTS_CA_BUNDLE").env_remove("CURL_CA_BUNDLE");
    command.env("PYTHONPATH", python()).arg(script("send.py"));
    command
}

fn node_sender() -> Command {
    let mut command = Command::new("node");
    command.env("NODE_PATH", node().join("node_modules")).arg(script("send.js"));
    command
}

/// Every span of a sender of this name: its own name, and its attribute `number`.
fn spans(exports: &[Export], name: &str) -> BTreeSet<(String, i64)> {
    let mut seen = BTreeSet::new();
    for export in exports.iter().filter(|export| export.signal == Signal::Traces) {
        for part in split(export.signal, export.encoding, &export.body).parts {
            let identity = identity(part.encoding, part.resource);
            let service = identity.iter().find(|(key, _)| key == "service.name").unwrap();
            if service.1 != name {
                continue;
            }
            assert!(identity.contains(&("k8s.pod.uid".into(), format!("uid-of-{name}"))), "{identity:?}");
            assert!(part.first.is_some() && part.first <= part.last);
            let request = match part.encoding {
                Encoding::Protobuf => ExportTraceServiceRequest::decode(&part.bytes[..]).unwrap(),
                Encoding::Json => serde_json::from_slice(&part.bytes).unwrap(),
            };
            let scopes = request.resource_spans.into_iter().flat_map(|records| records.scope_spans);
            let spans: Vec<_> = scopes.flat_map(|scope| scope.spans).collect();
            assert_eq!(spans.len() as u64, part.records);
            for span in spans {
                let number = span.attributes.iter().find(|pair| pair.key == "number").unwrap();
                let Some(Value::IntValue(number)) = number.value.clone().unwrap().value else {
                    panic!("{span:?}")
                };
                assert!(seen.insert((span.name, number)), "twice");
            }
        }
    }
    seen
}

fn three_spans(name: &str) -> BTreeSet<(String, i64)> {
    (0..3).map(|number| (format!("{name} {number}"), number)).collect()
}

/// Whether the metric and the log record of a sender came.
fn metric_and_log(exports: &[Export], name: &str) -> (bool, bool) {
    let (mut metric, mut log) = (false, false);
    for Export { signal, encoding, body } in exports {
        match (signal, encoding) {
            (Signal::Metrics, Encoding::Protobuf) => {
                let request = ExportMetricsServiceRequest::decode(&body[..]).unwrap();
                metric |= format!("{request:?}").contains(&format!("\"{name}.count\""));
            }
            (Signal::Metrics, Encoding::Json) => {
                metric |= String::from_utf8_lossy(body).contains(&format!("\"{name}.count\""));
            }
            (Signal::Logs, Encoding::Protobuf) => {
                let request = ExportLogsServiceRequest::decode(&body[..]).unwrap();
                log |= format!("{request:?}").contains(&format!("\"{name} says\""));
            }
            _ => {}
        }
    }
    (metric, log)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_pythons_sdk_sends_arrives_over_http_and_grpc_compressed_or_not() {
    let keeper = Keeper::answering(Answer::Accepted);
    let running = Running::start(keeper.clone(), ReceiverOptions::default()).await;
    for (protocol, address, compression) in [
        ("http", running.http, ""),
        ("http", running.http, "gzip"),
        ("http", running.http, "deflate"),
        ("grpc", running.grpc, ""),
        ("grpc", running.grpc, "gzip"),
    ] {
        let name = format!("python-{protocol}-{compression}");
        let compressed = ("OTEL_EXPORTER_OTLP_COMPRESSION", compression);
        let settings: &[_] = if compression.is_empty() { &[] } else { &[compressed] };
        send(python_sender(), protocol, &name, format!("http://{address}"), settings).await;
        let exports = keeper.exports.lock().unwrap();
        assert_eq!(spans(&exports, &name), three_spans(&name));
        assert_eq!(metric_and_log(&exports, &name), (true, true), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nodes_sdk_sends_arrives_as_json_and_protobuf_and_over_grpc() {
    let keeper = Keeper::answering(Answer::Accepted);
    let running = Running::start(keeper.clone(), ReceiverOptions::default()).await;
    for (protocol, address, compression) in [
        ("json", running.http, "none"),
        ("json", running.http, "gzip"),
        ("proto", running.http, "gzip"),
        ("grpc", running.grpc, "gzip"),
    ] {
        let name = format!("node-{protocol}-{compression}");
        let settings = [("OTEL_EXPORTER_OTLP_COMPRESSION", compression)];
        send(node_sender(), protocol, &name, format!("http://{address}"), &settings).await;
        let exports = keeper.exports.lock().unwrap();
        assert_eq!(spans(&exports, &name), three_spans(&name));
        assert_eq!(metric_and_log(&exports, &name).0, protocol == "json", "{name}");
        let json = exports.iter().any(|export| export.encoding == Encoding::Json);
        assert!(json, "the HTTP exporter writes JSON");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_and_tokens_work_with_pythons_sdk() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let write = |name: &str, pem: String| std::fs::write(path(name), pem).unwrap();
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new([]).unwrap();
    // Without a name of its own, what it signs looks as if it had signed itself.
    authority.distinguished_name.push(DnType::CommonName, "authority");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    write("ca.pem", authority.self_signed(&authority_key).unwrap().pem());
    let authority = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["localhost".to_owned()]).unwrap();
    // The same serves as the client's.
    write("cert.pem", certificate.signed_by(&key, &authority).unwrap().pem());
    write("key.pem", key.serialize_pem());
    for client_ca in [None, Some(path("ca.pem"))] {
        let keeper = Keeper::answering(Answer::Accepted);
        let mtls = client_ca.is_some();
        let tls = Tls { certificate: path("cert.pem"), key: path("key.pem"), client_ca };
        let options = ReceiverOptions {
            tls: Some(tls),
            tokens: vec![Token::new("s3cret")],
            ..ReceiverOptions::default()
        };
        let running = Running::start(keeper.clone(), options).await;
        for (protocol, port) in [("http", running.http.port()), ("grpc", running.grpc.port())] {
            let name = format!("tls-{protocol}-{mtls}");
            let paths = ["ca.pem", "cert.pem", "key.pem"].map(|name| path(name).display().to_string());
            let [ca, cert, key] = &paths;
            let mut settings = vec![
                ("OTEL_EXPORTER_OTLP_CERTIFICATE", ca.as_str()),
                ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20s3cret"),
            ];
            if mtls {
                settings.push(("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", cert));
                settings.push(("OTEL_EXPORTER_OTLP_CLIENT_KEY", key));
            }
            send(python_sender(), protocol, &name, format!("https://localhost:{port}"), &settings).await;
            let exports = keeper.exports.lock().unwrap();
            assert_eq!(spans(&exports, &name), three_spans(&name));
            assert_eq!(metric_and_log(&exports, &name), (true, true), "{name}");
        }
    }
}

/// A collector that passes on what it gets.
struct Rotel {
    process: Child,
    address: SocketAddr,
}

impl Rotel {
    fn start(exporter: &[&str]) -> Self {
        let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (http, grpc) = (free(), free());
        let mut command = Command::new(python().join("rotel/rotel-agent"));
        command.args(["start", "--batch-timeout", "100ms", "--otlp-http-endpoint", &http.to_string()]);
        command.args(["--otlp-grpc-endpoint", &grpc.to_string()]).args(exporter);
        let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        while std::net::TcpStream::connect(http).is_err() {
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { process, address: http }
    }
}

impl Drop for Rotel {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_collector_passes_on_arrives() {
    let keeper = Keeper::answering(Answer::Accepted);
    let running = Running::start(keeper.clone(), ReceiverOptions::default()).await;
    for (protocol, address) in [("http", running.http), ("grpc", running.grpc)] {
        let endpoint = format!("http://{address}");
        let rotel = Rotel::start(&[
            "--exporter",
            "otlp",
            "--otlp-exporter-endpoint",
            &endpoint,
            "--otlp-exporter-protocol",
            protocol,
        ]);
        let name = format!("rotel-{protocol}");
        send(python_sender(), "http", &name, format!("http://{}", rotel.address), &[]).await;
        let has_all = || {
            let exports = keeper.exports.lock().unwrap();
            spans(&exports, &name) == three_spans(&name) && metric_and_log(&exports, &name) == (true, true)
        };
        // It batches, then passes on.
        let arriving = async {
            while !has_all() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), arriving).await.expect("nothing comes any more");
    }
}
