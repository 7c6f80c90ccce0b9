//! The embedded recorder: an OTLP receiver on a loopback port of its own, which writes what comes into the record.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use exit137_sources::receiver::{
    Answer, BindError, Encoding, Export, Receiver, ReceiverOptions, Signal, Sink,
};
use tokio::sync::oneshot;

use super::environment::Addresses;
use super::record::Telemetry;
use super::requests;

/// When the disk is full: an SDK tries again a few times, then drops.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Why nothing listens.
#[derive(Debug, thiserror::Error)]
pub(super) enum RecorderError {
    #[error("cannot start the recorder for the command's telemetry")]
    Start(#[source] io::Error),
    #[error(transparent)]
    Bind(#[from] BindError),
}

/// What came so far.
#[derive(Debug, Default)]
pub(super) struct Received {
    /// Spans of requests, and of messages that were worked on.
    pub(super) requests: AtomicU64,
    /// Exports with spans.
    pub(super) traces: AtomicU64,
    failed: Mutex<Option<io::Error>>,
}

impl Received {
    /// Why something that came is not in the record.
    pub(super) fn failure(&self) -> Option<String> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(ToString::to_string)
    }
}

/// The receiver, in a thread of its own.
#[derive(Debug)]
pub(super) struct Recorder {
    addresses: Addresses,
    received: Arc<Received>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Recorder {
    /// Listens on free ports of this machine alone.
    pub(super) fn start(telemetry: Telemetry) -> Result<Self, RecorderError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(RecorderError::Start)?;
        let loopback = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let options = ReceiverOptions { http: loopback, grpc: loopback, ..ReceiverOptions::default() };
        let receiver = runtime.block_on(Receiver::bind(options))?;
        let bound = receiver.addresses();
        let (Some(http), Some(grpc)) = (bound.http, bound.grpc) else {
            return Err(RecorderError::Start(io::ErrorKind::AddrNotAvailable.into()));
        };
        let received = Arc::new(Received::default());
        let sink = IntoRecord { telemetry: Mutex::new(telemetry), received: Arc::clone(&received) };
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new()
            .name("recorder".into())
            .spawn(move || {
                runtime.block_on(receiver.serve(sink, async move {
                    let _ = stopped.await;
                }));
            })
            .map_err(RecorderError::Start)?;
        let addresses = Addresses { http, grpc };
        Ok(Self { addresses, received, stop: Some(stop), thread: Some(thread) })
    }

    pub(super) fn addresses(&self) -> Addresses {
        self.addresses
    }

    pub(super) fn received(&self) -> &Arc<Received> {
        &self.received
    }

    /// Answers what has begun, and stops.
    pub(super) fn finish(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic in there was told by its hook, and what came before is in the record.
            let _ = thread.join();
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.finish();
    }
}

struct IntoRecord {
    telemetry: Mutex<Telemetry>,
    received: Arc<Received>,
}

impl Sink for IntoRecord {
    async fn accept(&self, export: Export) -> Answer {
        if export.signal == Signal::Traces {
            let requests = match export.encoding {
                Encoding::Protobuf => requests::in_protobuf(&export.body),
                Encoding::Json => requests::in_json(&export.body),
            };
            self.received.requests.fetch_add(requests, Ordering::Relaxed);
            self.received.traces.fetch_add(1, Ordering::Relaxed);
        }
        let written = self.telemetry.lock().unwrap_or_else(PoisonError::into_inner).add(&export);
        match written {
            Ok(()) => Answer::Accepted,
            Err(error) => {
                let message = format!("exit137 cannot keep it: {error}");
                self.received.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                Answer::Retry { after: RETRY_AFTER, message }
            }
        }
    }
}
