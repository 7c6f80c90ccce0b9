//! Pages over TLS: handshakes happen aside, so that a client that stalls in one holds up nobody.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use exit137_sources::receiver::Certificates;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::server::TlsStream;

/// Handshakes at a time, and connections that wait to be served.
const HANDSHAKES_MAX: usize = 64;

/// A client that takes longer is not one.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Between two tries when the system has no more sockets.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Connections whose handshake is done.
pub(super) struct TlsListener {
    ready: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
    address: SocketAddr,
}

impl TlsListener {
    /// Shakes hands with whoever connects to `listener`.
    pub(super) fn new(listener: TcpListener, certificates: Arc<Certificates>) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let (sender, ready) = mpsc::channel(HANDSHAKES_MAX);
        tokio::spawn(async move {
            let permits = Arc::new(Semaphore::new(HANDSHAKES_MAX));
            while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
                let Ok((stream, from)) = listener.accept().await else {
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                    continue;
                };
                if sender.is_closed() {
                    return;
                }
                let (acceptor, sender) = (certificates.acceptor(), sender.clone());
                tokio::spawn(async move {
                    let done = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await;
                    if let Ok(Ok(stream)) = done {
                        let _ = sender.send((stream, from)).await;
                    }
                    drop(permit);
                });
            }
        });
        Ok(Self { ready, address })
    }
}

impl axum::serve::Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.ready.recv().await {
            Some(connection) => connection,
            // The task above ends only when nobody listens any more.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}
