//! Senders that mean harm, through real sockets: the receiver stays up, stays small, and serves others.
//!
//! One test at a time, as they look at the memory of the whole process.
#![cfg(feature = "live")]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as they do")]

mod support;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use exit137_sources::receiver::split::split;
use exit137_sources::receiver::{Answer, Export, ReceiverOptions, Sink};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use support::Running;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, MutexGuard};

static ALONE: Mutex<()> = Mutex::const_new(());

async fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().await
}

/// Splits what it gets, keeps nothing.
#[derive(Clone, Copy)]
struct Splitter;

impl Sink for Splitter {
    async fn accept(&self, export: Export) -> Answer {
        let found = split(export.signal, export.encoding, &export.body);
        match found.expected {
            None => Answer::Accepted,
            Some(expected) => Answer::Partial { rejected: found.rejected, message: expected.into() },
        }
    }
}

fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<usize>().unwrap() << 10
}

/// Files and sockets that this process may have open.
fn descriptors_max() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap_or(usize::MAX)
}

fn request(headers: &str, body: &[u8]) -> Vec<u8> {
    let head =
        format!("POST /v1/traces HTTP/1.1\r\nhost: here\r\n{headers}content-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

const PROTOBUF: &str = "content-type: application/x-protobuf\r\n";

/// The status line of the reply to one request on a connection of its own; empty when it was closed.
async fn ask(address: SocketAddr, request: &[u8]) -> String {
    let Ok(mut stream) = TcpStream::connect(address).await else { return String::new() };
    let (mut reading, mut writing) = stream.split();
    let mut reply = Vec::new();
    // A reply may come before all was sent.
    let sending = async {
        let _ = writing.write_all(request).await;
        std::future::pending::<()>().await;
    };
    let receiving = async {
        let mut chunk = [0; 1024];
        while !reply.contains(&b'\n') {
            match reading.read(&mut chunk).await {
                Ok(0) | Err(_) => break,
                Ok(length) => reply.extend_from_slice(&chunk[..length]),
            }
        }
    };
    tokio::select! {
        () = sending => {}
        () = receiving => {}
    }
    String::from_utf8_lossy(&reply).lines().next().unwrap_or_default().to_owned()
}

/// An honest sender is served.
async fn serves_others(running: &Running) {
    assert_eq!(ask(running.http, &request(PROTOBUF, b"")).await, "HTTP/1.1 200 OK");
    assert_eq!(ask(running.grpc, &request(PROTOBUF, b"")).await, "HTTP/1.1 200 OK");
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_connections_that_say_nothing_keep_nobody_out() {
    let _alone = alone().await;
    let connections_max = (descriptors_max() / 6).min(1000);
    let options = ReceiverOptions { connections_max, ..ReceiverOptions::default() };
    let running = Running::start(Splitter, options).await;
    let before = resident_bytes();
    let mut held = Vec::new();
    for number in 0..10_000 {
        let mut stream = TcpStream::connect(running.http).await.unwrap();
        // A third says nothing, a third begins a head, a third begins a body.
        match number % 3 {
            0 => {}
            1 => stream.write_all(b"POST /v1/tra").await.unwrap_or_default(),
            _ => {
                let head = b"POST /v1/traces HTTP/1.1\r\ncontent-type: application/x-protobuf\r\ncontent-length: 1000000\r\n\r\nx";
                stream.write_all(head).await.unwrap_or_default();
            }
        }
        held.push(stream);
        // Our own end of those that were sent away long ago: descriptors are scarce.
        if held.len() > descriptors_max() / 2 {
            held.drain(..connections_max);
        }
        if number % 2000 == 1999 {
            serves_others(&running).await;
        }
    }
    let counters = &running.counters;
    assert!(counters.connections_open.load(Ordering::Relaxed) <= connections_max as u64);
    assert!(counters.connections_evicted.load(Ordering::Relaxed) > 7000);
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "grew by {grown} bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_trickle_are_cut_off_and_hold_up_nobody() {
    let _alone = alone().await;
    let options = ReceiverOptions {
        body_timeout: Duration::from_millis(1500),
        header_timeout: Duration::from_secs(1),
        in_flight_bytes_max: 4 << 20,
        ..ReceiverOptions::default()
    };
    let running = Running::start(Splitter, options).await;
    let address = running.http;
    let slow: Vec<_> = (0..500)
        .map(|number| {
            tokio::spawn(async move {
                let mut stream = TcpStream::connect(address).await.unwrap();
                let head = format!(
                    "POST /v1/traces HTTP/1.1\r\ncontent-type: application/x-protobuf\r\ncontent-length: {}\r\n\r\n",
                    19_000_000
                );
                let head = if number % 2 == 0 { head } else { "POST /v1/traces HT".into() };
                stream.write_all(head.as_bytes()).await.unwrap();
                let (mut reading, mut writing) = stream.split();
                let mut reply = String::new();
                let trickle = async {
                    loop {
                        let _ = writing.write_all(b"x").await;
                        tokio::time::sleep(Duration::from_millis(200)).await;
                    }
                };
                tokio::select! {
                    () = trickle => {}
                    _ = reading.read_to_string(&mut reply) => {}
                }
                reply
            })
        })
        .collect();
    // What was announced but does not come takes nothing from others.
    serves_others(&running).await;
    for slow in slow {
        let reply = slow.await.unwrap();
        // The reply is lost to one that is still sending when the connection is closed.
        assert!(reply.is_empty() || reply.starts_with("HTTP/1.1 4"), "{reply}");
    }
    // On a busy machine a head may come so slowly that it is cut off itself, which is no invalid request.
    let cut_off = running.counters.invalid.load(Ordering::Relaxed);
    assert!((200..=250).contains(&cut_off), "{cut_off} of 250 bodies that had begun were cut off");
    serves_others(&running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bombs_go_off_within_the_budget() {
    let _alone = alone().await;
    let options = ReceiverOptions {
        decompressed_bytes_max: 16 << 20,
        in_flight_bytes_max: 32 << 20,
        ..ReceiverOptions::default()
    };
    let running = Running::start(Splitter, options).await;
    let mut gzip = Vec::new();
    let zeros = std::io::repeat(0).take(1 << 30);
    let mut encoder = flate2::read::GzEncoder::new(zeros, flate2::Compression::fast());
    encoder.read_to_end(&mut gzip).unwrap();
    let zstd = zstd::encode_all(std::io::repeat(0).take(1 << 30), 1).unwrap();
    // A frame that wants a window of two gibibytes.
    let mut wide = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    wide.window_log(31).unwrap();
    wide.write_all(&[7; 100_000]).unwrap();
    let wide = wide.finish().unwrap();
    let requests = [("gzip", gzip), ("zstd", zstd), ("zstd", wide)]
        .map(|(name, body)| Arc::new(request(&format!("{PROTOBUF}content-encoding: {name}\r\n"), &body)));
    let before = resident_bytes();
    let address = running.http;
    let bombs: Vec<_> = (0..60)
        .map(|number| {
            let request = Arc::clone(&requests[number % 3]);
            tokio::spawn(async move { ask(address, &request).await })
        })
        .collect();
    serves_others(&running).await;
    for bomb in bombs {
        let status = bomb.await.unwrap();
        let expected = ["HTTP/1.1 413", "HTTP/1.1 429", "HTTP/1.1 400", "HTTP/1.1 415"];
        assert!(expected.iter().any(|expected| status.starts_with(expected)), "{status:?}");
    }
    serves_others(&running).await;
    // The budget, as much again for what the allocator keeps, and what connections read at a time.
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 128 << 20, "grew by {grown} bytes");
}

/// A generator of rubbish that gives the same each time.
struct Rubbish(u64);

impl Rubbish {
    fn next(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    /// Flips, cuts and repeats parts of `bytes`.
    fn spoil(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        for _ in 0..1 + self.below(4) {
            let at = self.below(bytes.len());
            match self.below(4) {
                0 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
                1 => bytes.truncate(at.max(1)),
                2 if !bytes.is_empty() => bytes[at] = self.next() as u8,
                _ => {
                    let piece = bytes[at..].iter().take(self.below(64)).copied().collect::<Vec<_>>();
                    bytes.splice(at..at, piece);
                }
            }
        }
        bytes
    }
}

fn some_spans() -> Vec<u8> {
    let span = |number| Span {
        trace_id: vec![number; 16],
        span_id: vec![number; 8],
        name: "GET /<script>\u{1b}[2J".into(),
        start_time_unix_nano: 1_790_000_000_000_000_000,
        end_time_unix_nano: 1_790_000_000_000_000_001,
        ..Span::default()
    };
    let scope = ScopeSpans { spans: (1..20).map(span).collect(), ..ScopeSpans::default() };
    let records = ResourceSpans { scope_spans: vec![scope], ..ResourceSpans::default() };
    ExportTraceServiceRequest { resource_spans: vec![records] }.encode_to_vec()
}

/// HTTP/2 as a gRPC client begins it: preface, settings, the head of a call (literal, without compression), data.
fn grpc_call(message: &[u8]) -> Vec<u8> {
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend_from_slice(&[kind, flags, 0, 0, 0, stream]);
        frame.extend_from_slice(payload);
        frame
    };
    let mut head = Vec::new();
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/opentelemetry.proto.collector.trace.v1.TraceService/Export"),
        (":authority", "here"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ] {
        head.extend_from_slice(&[0, name.len() as u8]);
        head.extend_from_slice(name.as_bytes());
        head.push(value.len() as u8);
        head.extend_from_slice(value.as_bytes());
    }
    let mut body = vec![0];
    body.extend_from_slice(&(message.len() as u32).to_be_bytes());
    body.extend_from_slice(message);
    [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        frame(4, 0, 0, b""),
        frame(1, 4, 1, &head),
        frame(0, 1, 1, &body),
    ]
    .concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn rubbish_over_http_and_grpc_ends_with_its_connection() {
    let _alone = alone().await;
    let options = ReceiverOptions {
        header_timeout: Duration::from_millis(100),
        body_timeout: Duration::from_millis(100),
        ..ReceiverOptions::default()
    };
    let running = Running::start(Splitter, options).await;
    let export = &some_spans();
    let whole = grpc_call(export);
    // The call itself is right: what follows tries variations of it.
    let mut stream = TcpStream::connect(running.grpc).await.unwrap();
    stream.write_all(&whole).await.unwrap();
    let mut chunk = [0; 512];
    while running.counters.accepted.load(Ordering::Relaxed) == 0 {
        assert!(stream.read(&mut chunk).await.unwrap() > 0, "closed before its answer");
    }
    let mut rubbish = Rubbish(137);
    let json = br#"{"resourceSpans":[{"resource":{"attributes":[{"key":"a","value":{"stringValue":"<script>\u001b[2J"}}]},"scopeSpans":[{"spans":[{"name":"x","startTimeUnixNano":"1"}]}]}]}"#;
    let mut sent = Vec::new();
    for number in 0..1200 {
        let (address, bytes) = match number % 4 {
            0 => (running.grpc, rubbish.spoil(&whole)),
            1 => (running.http, rubbish.spoil(&request(PROTOBUF, export))),
            2 => (running.http, request(PROTOBUF, &rubbish.spoil(export))),
            _ => (running.http, request("content-type: application/json\r\n", &rubbish.spoil(json))),
        };
        sent.push(tokio::spawn(async move {
            // What is cut off waits for the rest until the receiver loses patience.
            let _ = tokio::time::timeout(Duration::from_secs(5), ask(address, &bytes)).await;
        }));
        if sent.len() == 300 {
            for sent in sent.drain(..) {
                sent.await.unwrap();
            }
            serves_others(&running).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn long_values_and_deep_nesting_are_taken_or_refused_but_never_fatal() {
    let _alone = alone().await;
    let running = Running::start(Splitter, ReceiverOptions::default()).await;
    let long = format!(
        r#"{{"resourceSpans":[{{"resource":{{"attributes":[{{"key":"service.name","value":{{"stringValue":"{}"}}}}]}},"scopeSpans":[{{"spans":[{{}}]}}]}}]}}"#,
        "a".repeat(8 << 20)
    );
    let deep = format!(r#"{{"resourceSpans":[{{"resource":{}"#, "{\"a\":[".repeat(2 << 20));
    let groups = vec![0x0b; 4 << 20];
    for (headers, body) in [
        ("content-type: application/json\r\n", long.as_bytes()),
        ("content-type: application/json\r\n", deep.as_bytes()),
        (PROTOBUF, &groups),
    ] {
        assert_eq!(ask(running.http, &request(headers, body)).await, "HTTP/1.1 200 OK");
    }
    // Heads are bounded too.
    let many = format!("{PROTOBUF}{}", "x-padding: 0123456789abcdef\r\n".repeat(10_000));
    let status = ask(running.http, &request(&many, b"")).await;
    assert!(status.is_empty() || status.starts_with("HTTP/1.1 431"), "{status}");
    serves_others(&running).await;
}
