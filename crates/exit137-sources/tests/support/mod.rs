//! A receiver on free ports, and what came out of it.
#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a helper of tests fails by panicking, as they do")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use exit137_sources::receiver::{Answer, Counters, Export, Receiver, ReceiverOptions, Sink};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Gives every export the same answer, after keeping it.
#[derive(Clone)]
pub struct Keeper {
    pub exports: Arc<Mutex<Vec<Export>>>,
    pub answer: Answer,
}

impl Keeper {
    pub fn answering(answer: Answer) -> Self {
        Self { exports: Arc::default(), answer }
    }
}

impl Sink for Keeper {
    async fn accept(&self, export: Export) -> Answer {
        self.exports.lock().unwrap().push(export);
        self.answer.clone()
    }
}

/// A receiver that runs.
pub struct Running {
    pub http: SocketAddr,
    pub grpc: SocketAddr,
    pub counters: Arc<Counters>,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<()>,
}

impl Running {
    /// Starts one on free ports of this machine.
    pub async fn start(sink: impl Sink, mut options: ReceiverOptions) -> Self {
        let free = "127.0.0.1:0".parse().unwrap();
        (options.http, options.grpc) = (Some(free), Some(free));
        let receiver = Receiver::bind(options).await.unwrap();
        let addresses = receiver.addresses();
        let counters = receiver.counters();
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(receiver.serve(sink, async {
            let _ = stopped.await;
        }));
        let (http, grpc) = (addresses.http.unwrap(), addresses.grpc.unwrap());
        Self { http, grpc, counters, stop: Some(stop), serving }
    }

    /// Stops it and waits until it has.
    pub async fn stop(mut self) {
        drop(self.stop.take());
        self.serving.await.unwrap();
    }
}
