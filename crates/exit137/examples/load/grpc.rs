//! gRPC over one HTTP/2 connection.

use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::runtime::Runtime;

use crate::{Outcome, packed};

/// Our own window: replies are a few bytes.
pub struct Client {
    runtime: Runtime,
    sender: SendRequest<Full<Bytes>>,
    address: SocketAddr,
    gzip: bool,
}

impl Client {
    pub fn connect(address: SocketAddr, gzip: bool) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let sender = runtime.block_on(async {
            let stream = tokio::net::TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let io = TokioIo::new(stream);
            let (sender, connection) = handshake(TokioExecutor::new(), io).await.map_err(io::Error::other)?;
            tokio::spawn(connection);
            Ok::<_, io::Error>(sender)
        })?;
        Ok(Self { runtime, sender, address, gzip })
    }

    pub fn post(&mut self, body: &[u8]) -> io::Result<Outcome> {
        let message = packed(body, self.gzip)?;
        let mut framed = vec![u8::from(self.gzip)];
        framed.extend_from_slice(&(message.len() as u32).to_be_bytes());
        framed.extend_from_slice(&message);
        let path = "opentelemetry.proto.collector.trace.v1.TraceService/Export";
        let mut request = Request::post(format!("http://{}/{path}", self.address))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        if self.gzip {
            request = request.header("grpc-encoding", "gzip");
        }
        let request = request.body(Full::new(Bytes::from(framed))).map_err(io::Error::other)?;
        let sending = self.sender.send_request(request);
        let (headers, trailers) = self.runtime.block_on(async {
            let response = sending.await.map_err(io::Error::other)?;
            let headers = response.headers().clone();
            let body = response.into_body().collect().await.map_err(io::Error::other)?;
            Ok::<_, io::Error>((headers, body.trailers().cloned().unwrap_or_default()))
        })?;
        let status = trailers.get("grpc-status").or(headers.get("grpc-status"));
        match status.map(|status| status.as_bytes()) {
            Some(b"0") => Ok(Outcome::Accepted),
            Some(b"8" | b"14") => Ok(Outcome::Later),
            _ => Err(io::Error::other(format!(
                "expected gRPC status 0, 8 or 14, got {headers:?} {trailers:?}"
            ))),
        }
    }
}
