//! Where services send their telemetry in a measurement: takes OTLP over HTTP on a real socket, counts spans and their
//! attributes, and keeps nothing.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What has arrived.
#[derive(Debug, Default)]
pub struct Arrived {
    spans: AtomicU64,
    attributes: AtomicU64,
    bytes: AtomicU64,
}

/// Spans, their attributes, and bytes of requests with spans.
#[derive(Debug, Clone, Copy, Default)]
pub struct Count {
    /// Spans.
    pub spans: u64,
    /// Attributes of them.
    pub attributes: u64,
    /// Bytes of the requests that they came in.
    pub bytes: u64,
}

/// A receiver that lives as long as the program.
#[derive(Debug)]
pub struct Sink {
    /// Where it listens.
    pub port: u16,
    arrived: Arc<Arrived>,
}

impl Sink {
    /// Starts one.
    ///
    /// # Errors
    /// When there is no port.
    pub fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let arrived = Arc::new(Arrived::default());
        let shared = Arc::clone(&arrived);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let arrived = Arc::clone(&shared);
                // A connection ends with its service.
                std::thread::spawn(move || drop(answer_all(&stream, &arrived)));
            }
        });
        Ok(Self { port, arrived })
    }

    /// What has arrived so far.
    pub fn count(&self) -> Count {
        let load = |number: &AtomicU64| number.load(Ordering::Relaxed);
        let Arrived { spans, attributes, bytes } = &*self.arrived;
        Count { spans: load(spans), attributes: load(attributes), bytes: load(bytes) }
    }
}

fn answer_all(mut stream: &TcpStream, arrived: &Arrived) -> std::io::Result<()> {
    let mut reader = BufReader::with_capacity(256 << 10, stream);
    let (mut line, mut body) = (String::new(), Vec::new());
    loop {
        let (mut length, mut traces, mut first) = (0u64, false, true);
        loop {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let text = line.trim_end().to_ascii_lowercase();
            if std::mem::take(&mut first) {
                traces = text.contains("/v1/traces");
            }
            if let Some(value) = text.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
            if text.is_empty() {
                break;
            }
        }
        body.clear();
        (&mut reader).take(length).read_to_end(&mut body)?;
        if traces {
            count_spans(&body, arrived);
        }
        stream.write_all(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n",
        )?;
    }
}

/// `resource_spans` (1) → `scope_spans` (2) → `spans` (2) → `attributes` (9).
fn count_spans(body: &[u8], arrived: &Arrived) {
    let (mut spans, mut attributes) = (0, 0);
    for resource in fields(body).filter(|field| field.0 == 1) {
        for scope in fields(resource.1).filter(|field| field.0 == 2) {
            for span in fields(scope.1).filter(|field| field.0 == 2) {
                spans += 1;
                attributes += fields(span.1).filter(|field| field.0 == 9).count() as u64;
            }
        }
    }
    arrived.spans.fetch_add(spans, Ordering::Relaxed);
    arrived.attributes.fetch_add(attributes, Ordering::Relaxed);
    arrived.bytes.fetch_add(body.len() as u64, Ordering::Relaxed);
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    Some(value)
}

/// Numbers and contents of a message's fields; contents only of those that have a length.
fn fields(mut bytes: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    std::iter::from_fn(move || {
        let key = varint(&mut bytes)?;
        let length = match key & 7 {
            0 => {
                varint(&mut bytes)?;
                0
            }
            1 => 8,
            2 => varint(&mut bytes)? as usize,
            5 => 4,
            _ => return None,
        };
        let (content, rest) = bytes.split_at_checked(length)?;
        bytes = rest;
        Some((key >> 3, content))
    })
}
