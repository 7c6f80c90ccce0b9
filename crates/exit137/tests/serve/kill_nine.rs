//! What the server acknowledged is there after SIGKILL: many clients export, the server is killed at a random moment, and
//! every span of every export that got its OK is looked for in the store, by its bytes.
//!
//! `EXIT137_KILLS=100` makes it a hundred kills; three else (the store alone is killed more often in its own tests).
//! `EXIT137_FILL_GIB=5` lets so much lie in the folder before. How soon it was ready again is printed.

use std::collections::HashSet;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use exit137_core::time::UnixNanos;
use exit137_store::{Encoding, Identity, Kind, Piece, Query, Store, StoreOptions};

use crate::server::{PATIENCE, Server};

const CLIENTS: usize = 8;
const SPANS: u64 = 20;
/// Where the number of a span lies in its bytes: after tag and length of the trace id.
const NUMBER_AT: usize = 2;

fn field(number: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![number << 3 | 2];
    let mut length = body.len();
    while length >= 0x80 {
        bytes.push(length as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
    bytes.extend_from_slice(body);
    bytes
}

fn attribute(key: &str, value: &str) -> Vec<u8> {
    [field(1, key.as_bytes()), field(2, &field(1, value.as_bytes()))].concat()
}

/// Span `number`, as the protocol writes it; everything in it follows from the number.
fn span(number: u64) -> Vec<u8> {
    let mark = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
    let time = 1_800_000_000_000_000_000 + number * 1000;
    let mut bytes = field(1, &[number.to_le_bytes(), mark].concat());
    bytes.extend(field(2, &mark));
    bytes.extend(field(5, b"GET /reports/:id"));
    bytes.extend([0x30, 2, 0x39].iter().chain(&time.to_le_bytes()).copied());
    bytes.extend([0x41].iter().chain(&(time + 500).to_le_bytes()).copied());
    bytes.extend(field(9, &attribute("url.path", &format!("/reports/{number}"))));
    bytes
}

/// An export of `SPANS` spans from `first` on, half of them of one container, half of another.
fn export(first: u64) -> Vec<u8> {
    let half = |from: u64, pod: &str| {
        let resource = field(1, &field(1, &attribute("k8s.pod.name", pod)));
        let spans: Vec<u8> = (from..from + SPANS / 2).flat_map(|number| field(2, &span(number))).collect();
        field(1, &[resource, field(2, &spans)].concat())
    };
    [half(first, &format!("cart-{}", first % 7)), half(first + SPANS / 2, "search-0")].concat()
}

/// Whether the export got its OK before the server was gone.
fn send(address: &str, body: &[u8]) -> bool {
    let mut answer = Vec::new();
    let sent = TcpStream::connect(address).and_then(|mut stream| {
        let length = body.len();
        let head = format!(
            "POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(&[head.as_bytes(), body].concat())?;
        stream.read_to_end(&mut answer)
    });
    sent.is_ok() && answer.starts_with(b"HTTP/1.1 200 ")
}

/// With the disk budget of the server, so that nothing is dropped.
fn open(folder: &Path) -> Store {
    let options = StoreOptions { disk_budget_bytes: 10 << 30, ..StoreOptions::default() };
    Store::open(folder, options).expect("the store opens")
}

/// Puts so much into the folder, from a thousand containers, that a start has something to open.
fn fill(folder: &Path, gib: u64) {
    const PIECE_BYTES: u64 = 256 << 10;
    let store = open(folder);
    let mut state = 1u64;
    let bytes = (0..PIECE_BYTES / 8).flat_map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    let bytes = bytes::Bytes::from(bytes.collect::<Vec<u8>>());
    for number in 0..(gib << 30) / PIECE_BYTES {
        let pod = format!("filler-{}", number % 1000);
        let piece = Piece {
            container: Identity::of([("k8s.pod.name", pod.as_str())]),
            kind: Kind::Logs,
            encoding: Encoding::Protobuf,
            first: UnixNanos(1_800_000_000_000_000_000),
            last: UnixNanos(1_800_000_000_000_000_001),
            count: 1,
            bytes: bytes.clone(),
        };
        store.append(vec![piece]).expect("appended");
    }
}

/// How long it takes from the start of the program until it says that it is ready.
fn ready_after(folder: &Path) -> (Server, Duration) {
    let began = Instant::now();
    let server = Server::start(folder, &["--no-kubernetes"]);
    while server.get("/readyz").status != 200 {
        assert!(began.elapsed() < PATIENCE, "{}", server.log());
    }
    (server, began.elapsed())
}

fn under_load(folder: &Path, next: &AtomicU64, acknowledged: &Mutex<HashSet<u64>>) -> Duration {
    let (mut server, ready) = ready_after(folder);
    let address = server.otlp_http.clone();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let first = next.fetch_add(SPANS, Ordering::Relaxed);
                    if send(&address, &export(first)) {
                        acknowledged.lock().expect("no panic").extend(first..first + SPANS);
                    }
                }
            });
        }
        let random = RandomState::new().build_hasher().finish();
        std::thread::sleep(Duration::from_millis(200 + random % 800));
        server.kill();
        over.store(true, Ordering::Relaxed);
    });
    ready
}

/// All numbers of spans that the store holds; each span is there byte by byte.
fn stored(folder: &Path) -> HashSet<u64> {
    let store = open(folder);
    let mut numbers = HashSet::new();
    let query = Query { kinds: vec![Kind::Spans], ..Query::default() };
    let summary = store.read(&query, &mut |found| {
        let name = field(5, b"GET /reports/:id");
        for at in memchr::memmem::find_iter(found.bytes, &name) {
            // The name follows both ids.
            let start = at - (2 + 16) - (2 + 8);
            let number = found.bytes[start + NUMBER_AT..][..8].try_into().map(u64::from_le_bytes);
            let number = number.expect("eight bytes");
            let expected = span(number);
            assert!(found.bytes[start..].starts_with(&expected), "span {number} is not as it was sent");
            numbers.insert(number);
        }
        ControlFlow::Continue(())
    });
    assert_eq!(summary.expect("the store is read").damaged, 0);
    assert_eq!(store.problems(), [""; 0]);
    numbers
}

#[test]
fn an_acknowledged_export_survives_sigkill() {
    let number = |name, default| std::env::var(name).map_or(default, |text| text.parse().expect("a number"));
    let kills: u64 = number("EXIT137_KILLS", 3);
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    fill(folder.path(), number("EXIT137_FILL_GIB", 0));
    let mut ready = Vec::new();
    let (next, acknowledged) = (AtomicU64::new(0), Mutex::new(HashSet::new()));
    for kill in 1..=kills {
        ready.push(under_load(folder.path(), &next, &acknowledged));
        let stored = stored(folder.path());
        let acknowledged = acknowledged.lock().expect("no panic");
        let missing = acknowledged.difference(&stored).count();
        assert_eq!(missing, 0, "kill {kill}: of {} acknowledged spans", acknowledged.len());
        println!(
            "kill {kill}: ready after {:?}, {} spans are there",
            ready[ready.len() - 1],
            acknowledged.len()
        );
    }
    let acknowledged = acknowledged.lock().expect("no panic").len() as u64;
    ready.sort();
    println!(
        "{acknowledged} spans were acknowledged before {kills} kills; ready after {:?}, at most {:?}",
        ready[ready.len() / 2],
        ready[ready.len() - 1]
    );
    assert!(acknowledged > kills * SPANS, "only {acknowledged} spans were acknowledged");
}
