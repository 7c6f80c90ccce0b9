//! From a listening socket to requests at the desk.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Sink;
use super::connections::{Connection, Connections, TICK};
use super::desk::Desk;
use super::tls::Certificates;

/// After "too many open files" and the like.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// For one that was sent away to say goodbye.
const FAREWELL: Duration = Duration::from_secs(1);

/// What a connection reads at a time, and keeps: so much that a body takes few system calls.
pub(super) const BUFFER_BYTES: usize = 64 << 10;

/// The same when there are many connections: the least that HTTP/1 is read with.
pub(super) const SMALL_BUFFER_BYTES: usize = 8 << 10;

/// What is on its way in one HTTP/2 stream, and in all streams of a connection, before we have read it.
const HTTP2_STREAM_WINDOW_BYTES: u32 = 256 << 10;
const HTTP2_CONNECTION_WINDOW_BYTES: u32 = 512 << 10;

/// The same when there are many connections.
const HTTP2_SMALL_WINDOW_BYTES: u32 = 64 << 10;

/// The least that the protocol allows.
const HTTP2_SMALL_FRAME_BYTES: u32 = 16 << 10;
const HTTP2_STREAMS_MAX: u32 = 64;
const HEADERS_BYTES_MAX: u32 = 16 << 10;

/// Serves every connection to `listener` until `stop` says so; then waits until they are done.
pub(super) async fn serve<S: Sink>(
    listener: TcpListener,
    tls: Option<Arc<Certificates>>,
    desk: Arc<Desk<S>>,
    connections: Arc<Connections>,
    mut stop: watch::Receiver<bool>,
) {
    let mut tasks = JoinSet::new();
    let mut stopped = pin!(async move {
        let _ = stop.wait_for(|stop| *stop).await;
    });
    loop {
        tokio::select! {
            () = &mut stopped => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    // Dropping it is the only thing left to do for it when all others are busy.
                    let Some(connection) = connections.enter() else { continue };
                    tasks.spawn(converse(stream, tls.clone(), Arc::clone(&desk), Arc::clone(&connections), connection));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = tasks.join_next() => {}
        }
    }
    drop(listener);
    while tasks.join_next().await.is_some() {}
}

async fn converse<S: Sink>(
    stream: TcpStream,
    tls: Option<Arc<Certificates>>,
    desk: Arc<Desk<S>>,
    connections: Arc<Connections>,
    connection: Arc<Connection>,
) {
    let ready = async {
        // Replies are a few bytes that nothing follows.
        stream.set_nodelay(true).ok()?;
        // Buffers are made when there is something to read: idle connections are the cheapest attack.
        stream.readable().await.ok()?;
        Some(stream)
    };
    if let Some(Some(stream)) = unless_sent_away(&connection, ready).await {
        match tls {
            None => talk(stream, desk, &connections, &connection).await,
            Some(tls) => {
                if let Some(Ok(stream)) = unless_sent_away(&connection, tls.acceptor().accept(stream)).await {
                    talk(stream, desk, &connections, &connection).await;
                }
            }
        }
    }
    connections.leave(&connection);
}

async fn unless_sent_away<T>(connection: &Connection, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        () = connection.leave.notified() => None,
        done = work => Some(done),
    }
}

async fn talk<S: Sink>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    desk: Arc<Desk<S>>,
    connections: &Arc<Connections>,
    connection: &Arc<Connection>,
) {
    let (all, own) = (Arc::clone(connections), Arc::clone(connection));
    let service = service_fn(move |request: Request<Incoming>| {
        let (desk, connections, connection) = (Arc::clone(&desk), Arc::clone(&all), Arc::clone(&own));
        async move {
            let busy = connection.begin();
            let (reply, taken) = desk.serve(request).await;
            if taken {
                connections.trust(&connection);
            }
            drop(busy);
            Ok::<_, Infallible>(reply)
        }
    });
    let builder = builder(connection.is_one_of_few);
    let mut serving = pin!(builder.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        // How a connection ended is of no interest: what was not answered comes again.
        _ = &mut serving => return,
        () = connection.leave.notified() => {}
    }
    if connection.is_evicted() {
        return;
    }
    serving.as_mut().graceful_shutdown();
    // A request that has begun is answered; its own timeouts bound it.
    while tokio::time::timeout(FAREWELL, serving.as_mut()).await.is_err() && connection.is_busy() {}
}

fn builder(is_one_of_few: bool) -> auto::Builder<TokioExecutor> {
    let (buffer, stream, all, frame) = if is_one_of_few {
        let frame = BUFFER_BYTES as u32;
        (BUFFER_BYTES, HTTP2_STREAM_WINDOW_BYTES, HTTP2_CONNECTION_WINDOW_BYTES, frame)
    } else {
        let window = HTTP2_SMALL_WINDOW_BYTES;
        (SMALL_BUFFER_BYTES, window, window, HTTP2_SMALL_FRAME_BYTES)
    };
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // Silence is measured for all protocols in one place.
        .header_read_timeout(None)
        .max_buf_size(buffer);
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(stream)
        .initial_connection_window_size(all)
        .max_frame_size(frame)
        .max_concurrent_streams(HTTP2_STREAMS_MAX)
        .max_header_list_size(HEADERS_BYTES_MAX);
    builder
}

/// Looks for silent connections, for ever.
pub(super) async fn watch_silence(connections: &Connections) {
    let mut ticks = tokio::time::interval(TICK);
    loop {
        ticks.tick().await;
        connections.send_silent_away();
    }
}
