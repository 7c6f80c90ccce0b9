//! A gRPC service in a process of its own, killed with SIGKILL while calls run: they are in its journal, and what each call
//! holds, and what the finished ones left behind.
#![allow(missing_docs, clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use exit137_otel::{Allocator, Config, MemoryLayer};
use opentelemetry::global;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SimpleSpanProcessor};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Server};
use tonic::{Request, Response, Status};

#[global_allocator]
static ALLOCATOR: Allocator = Allocator::system();

/// Says to this program that it is the service, and where its journal is.
const SERVICE: &str = "EXIT137_TEST_SERVICE";
const OPERATION: &str = "opentelemetry.proto.collector.trace.v1.TraceService/Export";
const KEPT_BYTES: usize = 64 << 10;
const HELD_BYTES: usize = 1 << 20;
const FINISHED: u64 = 20;
const WAITING: u64 = 5;

static KEPT: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// Keeps something of each call; waits, holding more, when it is told to.
struct Keeper;

#[tonic::async_trait]
impl TraceService for Keeper {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        if request.metadata().contains_key("wait") {
            let held = vec![1u8; HELD_BYTES];
            tokio::time::sleep(Duration::from_secs(600)).await;
            drop(held);
        }
        KEPT.lock().unwrap_or_else(PoisonError::into_inner).push(vec![1; KEPT_BYTES]);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// Not a test of its own: what the other one runs in a process that it kills.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service() {
    let Some(journal) = std::env::var_os(SERVICE).map(PathBuf::from) else { return };
    let mut exit137 = exit137_otel::init_with(&Config::default().with_journal(&journal));
    let processor = exit137.recover_with(SimpleSpanProcessor::new(InMemorySpanExporter::default()));
    global::set_tracer_provider(SdkTracerProvider::builder().with_span_processor(processor).build());
    global::set_text_map_propagator(TraceContextPropagator::new());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    std::fs::write(journal.with_extension("port"), listener.local_addr().unwrap().port().to_string())
        .unwrap();
    let server = Server::builder().layer(MemoryLayer::new()).add_service(TraceServiceServer::new(Keeper));
    server.serve_with_incoming(TcpIncoming::from(listener)).await.unwrap();
}

/// Killed at the end, whatever happens.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "waited for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn start(journal: &Path) -> (Running, u16) {
    let program = std::env::current_exe().unwrap();
    let mut command = Command::new(program);
    let child = command.args(["--exact", "the_service"]).env(SERVICE, journal).spawn().unwrap();
    let port = || std::fs::read_to_string(journal.with_extension("port")).ok()?.parse().ok();
    (Running(child), wait_for("the service", port))
}

fn call(number: u64, wait: bool) -> Request<ExportTraceServiceRequest> {
    let mut request = Request::new(ExportTraceServiceRequest::default());
    let parent = format!("00-{number:032x}-{:016x}-01", number + 1000);
    request.metadata_mut().insert("traceparent", parent.parse().unwrap());
    if wait {
        request.metadata_mut().insert("wait", "yes".parse().unwrap());
    }
    request
}

fn read(journal: &Path) -> exit137_journal::Journal {
    exit137_journal::read(&std::fs::read(journal).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_in_flight_at_sigkill_are_in_the_journal_with_what_they_hold() {
    let folder = std::env::temp_dir().join(format!("exit137-tonic-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let journal = folder.join("j");
    let (mut service, port) = start(&journal);
    let channel = Channel::from_shared(format!("http://127.0.0.1:{port}")).unwrap().connect().await.unwrap();
    let mut client = TraceServiceClient::new(channel);
    for number in 1..=FINISHED {
        client.export(call(number, false)).await.unwrap();
    }
    for number in 1..=WAITING {
        let mut client = client.clone();
        tokio::spawn(async move { client.export(call(100 + number, true)).await });
    }
    wait_for("the calls", || {
        let holding = |request: &exit137_journal::InFlight| request.held_bytes >= Some(HELD_BYTES as u64);
        let calls = read(&journal).in_flight;
        (calls.len() as u64 == WAITING && calls.iter().all(holding)).then_some(())
    });
    service.0.kill().unwrap();
    service.0.wait().unwrap();

    let found = read(&journal);
    assert_eq!((found.in_flight.len() as u64, found.torn), (WAITING, 0));
    let mut traces: Vec<u128> = found.in_flight.iter().map(|request| request.trace_id).collect();
    traces.sort_unstable();
    assert_eq!(traces, (101..=100 + u128::from(WAITING)).collect::<Vec<_>>());
    for request in &found.in_flight {
        assert_eq!(request.operation, OPERATION);
        assert_eq!(u128::from(request.parent_span_id), request.trace_id + 1000);
        let held = request.held_bytes.unwrap() as usize;
        assert!((HELD_BYTES..HELD_BYTES + KEPT_BYTES).contains(&held), "{request:?}");
    }
    let totals = found.operations.iter().find(|row| row.name == OPERATION).unwrap();
    assert_eq!(totals.finished, FINISHED);
    let each = totals.retained_bytes() as f64 / FINISHED as f64;
    assert!((each / KEPT_BYTES as f64 - 1.0).abs() < 0.1, "{each} bytes left behind by each: {totals:?}");
    let _ = std::fs::remove_dir_all(&folder);
}
