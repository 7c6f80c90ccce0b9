//! The receiver through real sockets: what the protocol wants, and what nobody should do.
#![cfg(feature = "live")]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as they do")]

mod support;

use std::io::Write;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use exit137_sources::receiver::{Answer, Encoding, ReceiverOptions, Signal, Token};
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use support::{Keeper, Running};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A reply, read whole.
#[derive(Debug)]
struct Reply {
    status: StatusCode,
    headers: hyper::HeaderMap,
    body: Bytes,
    trailers: hyper::HeaderMap,
}

async fn whole(response: Response<hyper::body::Incoming>) -> Reply {
    let (parts, body) = response.into_parts();
    let collected = body.collect().await.unwrap();
    let trailers = collected.trailers().cloned().unwrap_or_default();
    Reply { status: parts.status, headers: parts.headers, body: collected.to_bytes(), trailers }
}

fn post(path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let mut request = Request::post(path).header("host", "here");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::new(body.into())).unwrap()
}

async fn http(running: &Running, request: Request<Full<Bytes>>) -> Reply {
    let stream = TcpStream::connect(running.http).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    whole(sender.send_request(request).await.unwrap()).await
}

const TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

async fn grpc(running: &Running, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Reply {
    let stream = TcpStream::connect(running.grpc).await.unwrap();
    let io = TokioIo::new(stream);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let mut request = post(&format!("http://{}{path}", running.grpc), headers, body);
    let headers = request.headers_mut();
    headers.insert("content-type", "application/grpc".parse().unwrap());
    headers.insert("te", "trailers".parse().unwrap());
    headers.remove("host");
    whole(sender.send_request(request).await.unwrap()).await
}

fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
    let mut framed = vec![flag];
    framed.extend_from_slice(&(message.len() as u32).to_be_bytes());
    framed.extend_from_slice(message);
    framed
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

const PROTOBUF: (&str, &str) = ("content-type", "application/x-protobuf");
const JSON: (&str, &str) = ("content-type", "application/json; charset=utf-8");

#[tokio::test(flavor = "multi_thread")]
async fn every_signal_arrives_as_it_was_sent_by_every_way() {
    let keeper = Keeper::answering(Answer::Accepted);
    let running = Running::start(keeper.clone(), ReceiverOptions::default()).await;
    let long = b"0123456789".repeat(100_000);
    let zstd = zstd::encode_all(&long[..], 1).unwrap();
    for (path, headers, body) in [
        ("/v1/traces", vec![PROTOBUF], b"one".to_vec()),
        ("/v1/metrics", vec![JSON, ("content-encoding", "gzip")], gzip(b"two")),
        ("/v1/logs", vec![PROTOBUF, ("content-encoding", "zstd")], zstd.clone()),
        ("/v1/traces", vec![PROTOBUF], Vec::new()),
        ("/v1/traces", vec![PROTOBUF], long.clone()),
    ] {
        let reply = http(&running, post(path, &headers, body)).await;
        assert_eq!(reply.status, StatusCode::OK, "{path}: {reply:?}");
        let expected: &[u8] = if headers.contains(&JSON) { b"{}" } else { b"" };
        assert_eq!(reply.body, expected);
        assert_eq!(reply.headers["content-type"], headers[0].1.split(';').next().unwrap());
    }
    for (headers, body) in [
        (vec![], framed(0, b"three")),
        (vec![("grpc-encoding", "gzip")], framed(1, &gzip(b"four"))),
        (vec![("grpc-encoding", "gzip")], framed(0, b"five")),
        (vec![("grpc-encoding", "zstd")], framed(1, &zstd)),
        (vec![], framed(0, &long)),
    ] {
        let reply = grpc(&running, TRACES, &headers, body).await;
        assert_eq!(reply.status, StatusCode::OK);
        assert_eq!(reply.trailers["grpc-status"], "0");
        assert_eq!(reply.body, &[0; 5][..]);
    }
    let exports = keeper.exports.lock().unwrap();
    let seen: Vec<_> =
        exports.iter().map(|export| (export.signal, export.encoding, &export.body[..])).collect();
    let expected = [
        (Signal::Traces, Encoding::Protobuf, &b"one"[..]),
        (Signal::Metrics, Encoding::Json, b"two"),
        (Signal::Logs, Encoding::Protobuf, &long),
        (Signal::Traces, Encoding::Protobuf, b""),
        (Signal::Traces, Encoding::Protobuf, &long),
        (Signal::Traces, Encoding::Protobuf, b"three"),
        (Signal::Traces, Encoding::Protobuf, b"four"),
        (Signal::Traces, Encoding::Protobuf, b"five"),
        (Signal::Traces, Encoding::Protobuf, &long),
        (Signal::Traces, Encoding::Protobuf, &long),
    ];
    assert!(seen == expected, "{} exports", seen.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_otlp_is_told_what_is_expected() {
    let keeper = Keeper::answering(Answer::Accepted);
    let options =
        ReceiverOptions { body_bytes_max: 1000, decompressed_bytes_max: 5000, ..Default::default() };
    let running = Running::start(keeper.clone(), options).await;
    for (path, headers, body, status, expected) in [
        ("/v1/trace", vec![PROTOBUF], vec![], 404, "/v1/traces"),
        ("/v1/traces", vec![("content-type", "text/plain")], vec![], 415, "application/json"),
        ("/v1/traces", vec![], vec![], 415, "application/json"),
        ("/v1/traces", vec![PROTOBUF, ("content-encoding", "br")], vec![], 415, "zstd"),
        ("/v1/traces", vec![PROTOBUF, ("content-encoding", "gzip")], b"plain".to_vec(), 400, "gzip"),
        ("/v1/traces", vec![PROTOBUF], vec![0; 1001], 413, "1000 bytes"),
        ("/v1/traces", vec![JSON, ("content-encoding", "gzip")], gzip(&[b'x'; 5001]), 413, "5000 bytes when"),
    ] {
        let reply = http(&running, post(path, &headers, body)).await;
        assert_eq!(reply.status.as_u16(), status, "{path} {headers:?}");
        let body = String::from_utf8_lossy(&reply.body);
        assert!(body.contains(expected), "{path} {headers:?}: {body}");
        assert_eq!(headers.contains(&JSON), body.starts_with("{\"code\":3,"), "{body}");
    }
    let get = Request::get("/v1/traces").header("host", "here").body(Full::default()).unwrap();
    assert_eq!(http(&running, get).await.status, StatusCode::METHOD_NOT_ALLOWED);

    for (path, headers, body, code, expected) in [
        ("/grpc.health.v1.Health/Check", vec![], framed(0, b""), "12", "Export"),
        (TRACES, vec![("grpc-encoding", "br")], framed(1, b""), "12", "zstd"),
        (TRACES, vec![], framed(1, b"x"), "3", "grpc-encoding"),
        (TRACES, vec![], framed(0, b"x")[..5].to_vec(), "3", "one gRPC message"),
        (TRACES, vec![], b"abc".to_vec(), "3", "one gRPC message"),
        (TRACES, vec![], framed(0, &[0; 1001]), "3", "1000 bytes"),
    ] {
        let reply = grpc(&running, path, &headers, body).await;
        assert_eq!(reply.status, StatusCode::OK);
        assert_eq!(reply.headers["grpc-status"], code, "{path} {headers:?}");
        let message = reply.headers["grpc-message"].to_str().unwrap();
        assert!(message.contains(expected), "{path} {headers:?}: {message}");
    }
    assert!(keeper.exports.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_the_sink_reach_the_sender() {
    let partial = Answer::Partial { rejected: 7, message: "aged out".into() };
    let running = Running::start(Keeper::answering(partial), ReceiverOptions::default()).await;
    let reply = http(&running, post("/v1/logs", &[JSON], "{}")).await;
    assert_eq!(reply.status, StatusCode::OK);
    assert_eq!(reply.body, r#"{"partialSuccess":{"errorMessage":"aged out","rejectedLogRecords":"7"}}"#);
    let reply = grpc(&running, TRACES, &[], framed(0, b"")).await;
    assert_eq!(reply.body, framed(0, b"\x0a\x0c\x08\x07\x12\x08aged out"));

    let retry = Answer::Retry { after: Duration::from_secs(3), message: "disk full".into() };
    let running = Running::start(Keeper::answering(retry), ReceiverOptions::default()).await;
    let reply = http(&running, post("/v1/logs", &[JSON], "{}")).await;
    assert_eq!((reply.status.as_u16(), reply.headers["retry-after"].to_str().unwrap()), (503, "3"));
    assert_eq!(reply.body, r#"{"code":14,"message":"disk full"}"#);
    let reply = grpc(&running, TRACES, &[], framed(0, b"")).await;
    assert_eq!(reply.headers["grpc-status"], "14");
    assert!(reply.headers.contains_key("grpc-status-details-bin"));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_token_nothing_is_read() {
    let keeper = Keeper::answering(Answer::Accepted);
    let options =
        ReceiverOptions { tokens: vec![Token::new("a"), Token::new("s3cret")], ..Default::default() };
    let running = Running::start(keeper.clone(), options).await;
    for (authorization, status) in [
        ("Bearer s3cret", 200),
        ("bearer a", 200),
        ("Bearer s3cre", 401),
        ("Bearer ", 401),
        ("Basic s3cret", 401),
        ("s3cret", 401),
    ] {
        let reply = http(&running, post("/v1/logs", &[JSON, ("authorization", authorization)], "{}")).await;
        assert_eq!(reply.status.as_u16(), status, "{authorization}");
        assert_eq!(reply.headers.contains_key("www-authenticate"), status == 401);
    }
    assert_eq!(grpc(&running, TRACES, &[], framed(0, b"")).await.headers["grpc-status"], "16");
    let reply = grpc(&running, TRACES, &[("authorization", "Bearer a")], framed(0, b"")).await;
    assert_eq!(reply.trailers["grpc-status"], "0");
    assert_eq!(keeper.exports.lock().unwrap().len(), 3);
    assert_eq!(running.counters.unauthenticated.load(Ordering::Relaxed), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_send_only_from_origins_that_were_named() {
    let ask = |origin: &str| {
        let request = Request::options("/v1/traces").header("host", "here").header("origin", origin);
        request.header("access-control-request-method", "POST").body(Full::default()).unwrap()
    };
    let keeper = Keeper::answering(Answer::Accepted);
    let closed = Running::start(keeper.clone(), ReceiverOptions::default()).await;
    let reply = http(&closed, ask("https://shop.example")).await;
    assert_eq!(reply.status, StatusCode::METHOD_NOT_ALLOWED);
    assert!(!reply.headers.contains_key("access-control-allow-origin"));

    let options = ReceiverOptions { cors_origins: vec!["https://shop.example".into()], ..Default::default() };
    let open = Running::start(keeper, options).await;
    let reply = http(&open, ask("https://shop.example")).await;
    assert_eq!(reply.status, StatusCode::NO_CONTENT);
    assert_eq!(reply.headers["access-control-allow-origin"], "https://shop.example");
    let reply = http(&open, ask("https://evil.example")).await;
    assert!(!reply.headers.contains_key("access-control-allow-origin"));
    let reply = http(&open, post("/v1/logs", &[JSON, ("origin", "https://shop.example")], "{}")).await;
    assert_eq!(reply.headers["access-control-allow-origin"], "https://shop.example");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_has_begun_is_answered_before_the_end() {
    let keeper = Keeper::answering(Answer::Accepted);
    let running = Running::start(keeper.clone(), ReceiverOptions::default()).await;
    let mut stream = TcpStream::connect(running.http).await.unwrap();
    let head = "POST /v1/traces HTTP/1.1\r\nhost: here\r\ncontent-type: application/x-protobuf\r\n\
                content-length: 4\r\nexpect: 100-continue\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    // Comes once the body is being waited for.
    let mut reply = vec![0; "HTTP/1.1 100 Continue\r\n\r\n".len()];
    stream.read_exact(&mut reply).await.unwrap();
    assert!(reply.starts_with(b"HTTP/1.1 100"));
    stream.write_all(b"ab").await.unwrap();
    let address = running.http;
    let stopping = tokio::spawn(running.stop());
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    stream.write_all(b"cd").await.unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.unwrap();
    assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
    stopping.await.unwrap();
    assert_eq!(keeper.exports.lock().unwrap()[0].body, "abcd");
}
