//! `exit137 serve`: receives, records, watches; and when something is killed, says why.
//!
//! What arrives is recorded before it is looked at; verdicts are made from the record alone, by the same steps as
//! `exit137 diagnose` makes them from files.

pub(crate) mod config;
mod http;
mod log;
#[allow(dead_code)]
pub(crate) mod notify;

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

use config::Config;

/// Why the server did not start, or did not end well.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    /// The filter of log lines is none.
    #[error("expected a log level like info or a filter like info,exit137=debug, found \"{level}\"")]
    LogLevel {
        /// As given.
        level: String,
        /// Why.
        source: tracing_subscriber::filter::ParseError,
    },
    /// No threads.
    #[error("cannot start threads")]
    Threads(#[source] io::Error),
    /// The address is taken, or not ours.
    #[error("cannot listen on {address}")]
    Listen {
        /// As given.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The operating system refuses to tell of signals.
    #[error("cannot wait for signals")]
    Signals(#[source] io::Error),
    /// Pages and API.
    #[error("cannot serve pages")]
    Http(#[source] io::Error),
}

/// Runs until SIGTERM or SIGINT.
pub(crate) fn run(config: Config) -> Result<(), ServeError> {
    log::start(&config.log)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(ServeError::Threads)?;
    runtime.block_on(serve(config))
}

async fn serve(config: Config) -> Result<(), ServeError> {
    for listen in [config.listen, config.otlp.http, config.otlp.grpc] {
        if listen.is_public() && config.tls.is_none() {
            warn!(address = %listen, "listening to the network without TLS");
        }
    }
    let ended = ended()?;
    let Some(address) = config.listen.0 else {
        ended.await;
        return Ok(());
    };
    let listener =
        TcpListener::bind(address).await.map_err(|source| ServeError::Listen { address, source })?;
    info!(%address, "ready");
    axum::serve(listener, http::router()).with_graceful_shutdown(ended).await.map_err(ServeError::Http)?;
    info!("ended");
    Ok(())
}

/// Ready when somebody asks the server to end.
fn ended() -> Result<impl Future<Output = ()>, ServeError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(ServeError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ServeError::Signals)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => info!("ending: SIGTERM"),
            _ = interrupt.recv() => info!("ending: SIGINT"),
        }
    })
}
