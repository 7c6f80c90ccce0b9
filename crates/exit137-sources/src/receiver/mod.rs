//! OTLP in: what OpenTelemetry SDKs and Collectors send, over HTTP (4318) and gRPC (4317), to a [`Sink`].
//!
//! - A request is taken in whole, decompressed within bounds, and handed on undecoded as an [`Export`]. What is in
//!   it is for the sink to find out ([`split`] tells whose it is), and so is keeping it: the sender gets its OK only
//!   when the sink has answered.
//! - Memory is bounded by options, not by senders: bodies are charged to one budget for all connections while they
//!   arrive, and until the sink has answered. Over budget, new requests wait for a moment and are then asked to
//!   come again, in the protocol's own words. A connection that has sent nothing yet costs a task and a socket.
//! - Time is bounded too: for a first request, for a body, for silence between requests. When the number of
//!   connections is at its limit, one that never had an export accepted makes room, then one that is idle.
//!
//! gRPC is spoken by hand: a unary call is five bytes before the message and trailers after it. One path for both
//! protocols means one place for limits, budget, compression and tokens; and every address speaks both.

mod body;
mod budget;
mod connections;
mod counters;
mod desk;
mod listener;
mod options;
mod reply;
pub mod split;
mod tls;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::sync::watch;

use budget::Budget;
use connections::Connections;
use desk::Desk;

pub use counters::Counters;
pub use options::{ReceiverOptions, Tls, Token};
pub use tls::{Certificates, TlsError};

/// What an export carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Signal {
    /// Spans.
    Traces,
    /// Data points.
    Metrics,
    /// Log records.
    Logs,
}

/// How an export is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// Protobuf, over HTTP or gRPC.
    Protobuf,
    /// OTLP/JSON, over HTTP.
    Json,
}

/// One request, decompressed.
#[derive(Debug, Clone)]
pub struct Export {
    /// What it carries, as the path or the gRPC service says.
    pub signal: Signal,
    /// How `body` is written.
    pub encoding: Encoding,
    /// One `Export*ServiceRequest`, not yet looked at.
    pub body: Bytes,
}

/// What the sender is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// All of it is kept, durably.
    Accepted,
    /// All of it is kept but some records, which must not be sent again.
    Partial {
        /// Spans, data points or log records that were not kept.
        rejected: u64,
        /// Why, for the sender's log.
        message: String,
    },
    /// None of it is kept; it should be sent again.
    Retry {
        /// Not before.
        after: Duration,
        /// Why, for the sender's log.
        message: String,
    },
    /// None of it is kept and it must not be sent again.
    Refused {
        /// Why, for the sender's log.
        message: String,
    },
}

/// Where exports go.
pub trait Sink: Send + Sync + 'static {
    /// Keeps an export, or says why not. Called for many exports at once; its memory is charged to the receiver's
    /// budget until this has answered.
    fn accept(&self, export: Export) -> impl Future<Output = Answer> + Send;
}

/// The addresses that a receiver listens on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// Of the HTTP port, when there is one.
    pub http: Option<SocketAddr>,
    /// Of the gRPC port, when there is one.
    pub grpc: Option<SocketAddr>,
}

/// The receiver cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// An address is taken or not ours.
    #[error("cannot listen on {address} for OTLP over {protocol}")]
    Listen {
        /// The address that was asked for.
        address: SocketAddr,
        /// `HTTP` or `gRPC`.
        protocol: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// TLS cannot be had as the options want it.
    #[error("cannot offer TLS for OTLP")]
    Tls {
        /// Which file is wrong.
        source: TlsError,
    },
}

/// Bound to its addresses; serves once [`Receiver::serve`] is called.
pub struct Receiver {
    options: ReceiverOptions,
    http: Option<TcpListener>,
    grpc: Option<TcpListener>,
    tls: Option<Arc<Certificates>>,
    budget: Arc<Budget>,
    counters: Arc<Counters>,
}

impl Receiver {
    /// Takes the addresses of `options`; a port of 0 takes any that is free.
    ///
    /// # Errors
    /// When an address cannot be had, or a file for TLS is not what it should be.
    pub async fn bind(options: ReceiverOptions) -> Result<Self, BindError> {
        let tls = options.tls.as_ref().map(Certificates::read).transpose();
        let tls = tls.map_err(|source| BindError::Tls { source })?;
        let http = listen(options.http, "HTTP").await?;
        let grpc = listen(options.grpc, "gRPC").await?;
        let budget = Budget::new(options.in_flight_bytes_max);
        Ok(Self { options, http, grpc, tls, budget, counters: Arc::default() })
    }

    /// Where it listens.
    pub fn addresses(&self) -> Addresses {
        let address = |listener: &Option<TcpListener>| listener.as_ref()?.local_addr().ok();
        Addresses { http: address(&self.http), grpc: address(&self.grpc) }
    }

    /// What happens at the door, counted while it serves.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Serves until `shutdown` is done; requests that have begun are then answered, within the grace of the options.
    pub async fn serve(self, sink: impl Sink, shutdown: impl Future<Output = ()> + Send + 'static) {
        let Self { options, http, grpc, tls, budget, counters } = self;
        let grace = options.shutdown_grace;
        let connections = Arc::new(Connections::new(&options, Arc::clone(&counters)));
        let desk = Arc::new(Desk { sink, options, budget, counters });
        let (stop, stopped) = watch::channel(false);
        let mut listeners = tokio::task::JoinSet::new();
        for listener in [http, grpc].into_iter().flatten() {
            let (desk, connections) = (Arc::clone(&desk), Arc::clone(&connections));
            listeners.spawn(listener::serve(listener, tls.clone(), desk, connections, stopped.clone()));
        }
        tokio::select! {
            () = shutdown => {}
            () = listener::watch_silence(&connections) => {}
        }
        let _ = stop.send(true);
        let finish = async {
            // One that was accepted in the last moment hears of it too.
            let mut asking = tokio::time::interval(Duration::from_millis(100));
            loop {
                tokio::select! {
                    _ = asking.tick() => connections.send_all_away(),
                    done = listeners.join_next() => if done.is_none() { return },
                }
            }
        };
        // What is still open after that is dropped with its task.
        let _ = tokio::time::timeout(grace, finish).await;
    }
}

async fn listen(
    address: Option<SocketAddr>,
    protocol: &'static str,
) -> Result<Option<TcpListener>, BindError> {
    let Some(address) = address else { return Ok(None) };
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(Some(listener)),
        Err(source) => Err(BindError::Listen { address, protocol, source }),
    }
}
