//! What remembering costs: CPU time per span appended, with few containers and with many; reading a container's million
//! spans back; what each level of compression costs and saves; and the same pieces as blobs in SQLite.
//!
//! `cargo bench -p exit137-store`. The figures in `docs/decisions/store.md` come from here. CPU time, not wall time: it
//! can be compared when other things run beside.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use exit137_core::time::UnixNanos;
use exit137_store::{
    ContainerFilter, Encoding, Identity, Incident, IncidentFilter, Kind, Page, Piece, Query, Sort, Store,
    StoreOptions,
};

const BATCH_SPANS: usize = 512;
const SPANS: usize = 1_000_000;

/// User and system time of this process, all threads.
fn cpu() -> Duration {
    let clock = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(clock.tv_sec as u64, clock.tv_nsec as u32)
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb) >> 1
    }
}

fn field(bytes: &mut Vec<u8>, number: u8, body: &[u8]) {
    bytes.push(number << 3 | 2);
    if body.len() >= 0x80 {
        bytes.push(body.len() as u8 | 0x80);
        bytes.push((body.len() >> 7) as u8);
    } else {
        bytes.push(body.len() as u8);
    }
    bytes.extend_from_slice(body);
}

/// A span as the protocol writes it: random ids and times, and the attributes of a web framework.
fn span(random: &mut Random, at: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(600);
    let ids: Vec<u8> = (0..4).flat_map(|_| random.next().to_le_bytes()).collect();
    field(&mut bytes, 1, &ids[..16]);
    field(&mut bytes, 2, &ids[16..24]);
    field(&mut bytes, 4, &ids[24..]);
    field(&mut bytes, 5, b"GET /reports/:id");
    bytes.extend_from_slice(&[0x30, 2, 0x39]);
    bytes.extend_from_slice(&at.to_le_bytes());
    bytes.push(0x41);
    bytes.extend_from_slice(&(at + random.next() % 50_000_000).to_le_bytes());
    let id = random.next() % 100_000;
    let attributes = [
        ("http.request.method", "GET".to_owned()),
        ("http.route", "/reports/:id".to_owned()),
        ("url.path", format!("/reports/{id}")),
        ("url.scheme", "http".to_owned()),
        ("server.address", "reports.shop.svc.cluster.local".to_owned()),
        ("network.peer.address", format!("10.42.{}.{}", id % 16, id % 251)),
        ("network.peer.port", format!("{}", 30_000 + id % 30_000)),
        ("user_agent.original", "python-requests/2.32.3".to_owned()),
        ("http.response.status_code", "200".to_owned()),
        ("network.protocol.version", "1.1".to_owned()),
        ("thread.name", format!("worker-{}", id % 16)),
        ("tenant.id", format!("tenant-{}", id % 400)),
    ];
    for (key, value) in attributes {
        let mut any = Vec::new();
        field(&mut any, 1, value.as_bytes());
        let mut attribute = Vec::new();
        field(&mut attribute, 1, key.as_bytes());
        field(&mut attribute, 2, &any);
        field(&mut bytes, 9, &attribute);
    }
    bytes
}

fn body(seed: u64, spans: usize) -> Bytes {
    let mut random = Random(seed);
    let mut bytes = Vec::new();
    for index in 0..spans as u64 {
        let span = span(&mut random, 1_800_000_000_000_000_000 + (seed * 512 + index) * 1_000_000);
        field(&mut bytes, 2, &span);
    }
    bytes.into()
}

fn piece(container: usize, bytes: Bytes, spans: usize) -> Piece {
    let pod = format!("reports-6f9c7d5b8-{container:05}");
    let uid = format!("0b5f6a3e-1f6e-4a0c-9f6d-{container:012}");
    let identity = [
        ("k8s.pod.name", pod.as_str()),
        ("k8s.pod.uid", &uid),
        ("k8s.namespace.name", "shop"),
        ("k8s.container.name", "reports"),
        ("service.name", "reports"),
        ("service.version", "2.3.1"),
    ];
    let (first, last) = (UnixNanos(1_800_000_000_000_000_000), UnixNanos(1_800_000_001_000_000_000));
    let container = Identity::of(identity);
    Piece {
        container,
        kind: Kind::Spans,
        encoding: Encoding::Protobuf,
        first,
        last,
        count: spans as u32,
        bytes,
    }
}

/// Tells a run of this program to fill a store and to be killed.
const FILL: &str = "EXIT137_BENCH_FILL";

fn main() {
    if let Some(folder) = std::env::var_os(FILL) {
        return fill(Path::new(&folder));
    }
    let folder = tempfile::tempdir().expect("a folder");
    incidents(&folder.path().join("incidents"));
    if let Ok(gibibytes) = std::env::var("EXIT137_GIB") {
        return start(&folder.path().join("start"), gibibytes.parse().expect("a number"));
    }
    let bodies: Vec<Bytes> = (0..64).map(|seed| body(seed, BATCH_SPANS)).collect();
    let bytes: usize = bodies.iter().map(Bytes::len).sum();
    println!("{} bytes a span", bytes / 64 / BATCH_SPANS);
    compression(&bodies);
    for (containers, callers) in [(10, 2), (10, 32), (10_000, 32)] {
        append(&folder.path().join(format!("{containers}-{callers}")), &bodies, containers, callers);
    }
    let one = folder.path().join("one");
    append(&one, &bodies, 1, 32);
    read(&one, "as received");
    let store = Store::open(&one, options()).expect("opens");
    let before = (cpu(), store.state().disk_bytes);
    store.settle();
    let seconds = (cpu() - before.0).as_secs_f64();
    println!(
        "compress all: {:.0} ns CPU a span, {} MiB become {} MiB",
        seconds / SPANS as f64 * 1e9,
        before.1 >> 20,
        store.state().disk_bytes >> 20
    );
    drop(store);
    read(&one, "compressed");
    blobs(&folder.path().join("blobs.sqlite"), &bodies);
}

fn options() -> StoreOptions {
    StoreOptions::default()
}

fn large() -> StoreOptions {
    StoreOptions { disk_budget_bytes: 20 << 30, ..options() }
}

/// Appends for ever, from a thousand containers and many threads.
fn fill(folder: &Path) {
    let bodies: Vec<Bytes> = (0..64).map(|seed| body(seed, BATCH_SPANS)).collect();
    let (store, next) = (Store::open(folder, large()).expect("opens"), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..32 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let piece = piece(number % 1000, bodies[number % bodies.len()].clone(), BATCH_SPANS);
                    store.append(vec![piece]).expect("appended");
                }
            });
        }
    });
}

/// How long opening takes after a kill under load.
fn start(folder: &Path, gibibytes: u64) {
    let program = std::env::current_exe().expect("a path");
    let mut child = std::process::Command::new(program).env(FILL, folder).spawn().expect("starts");
    let size = || -> u64 {
        let files = std::fs::read_dir(folder.join("segments")).into_iter().flatten().flatten();
        files.filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum()
    };
    while size() < gibibytes << 30 {
        std::thread::sleep(Duration::from_millis(50));
    }
    child.kill().expect("killed");
    child.wait().expect("gone");
    for what in ["after a kill", "again"] {
        let began = (cpu(), Instant::now());
        let store = Store::open(folder, large()).expect("opens");
        let (seconds, wall) = ((cpu() - began.0).as_secs_f64(), began.1.elapsed().as_secs_f64());
        let (gib, segments) = (size() as f64 / (1u64 << 30) as f64, store.state().segments);
        println!(
            "open {gib:.1} GiB, {segments} segments, {what}: {seconds:.2} s CPU, {wall:.2} s by the clock"
        );
        let began = Instant::now();
        let known = store.containers(&ContainerFilter { count: 100_000, ..ContainerFilter::default() });
        println!(
            "  {} containers are known {:.2} s later",
            known.expect("read").len(),
            began.elapsed().as_secs_f64()
        );
    }
}

/// A page of ten thousand incidents with verdicts of ten kilobytes.
fn incidents(folder: &Path) {
    let store = Store::open(folder, options()).expect("opens");
    for number in 0..10_000u32 {
        let incident = Incident {
            key: format!("incident-{number}"),
            namespace: format!("team-{}", number % 50),
            workload: format!("service-{}", number % 900),
            cause: "leak".to_owned(),
            operation: format!("GET /reports/{}", number % 77),
            kills: number % 13,
            last: UnixNanos(i64::from(number)),
            json: "{\"a\":\"0123456789\"}".repeat(500),
            ..Incident::default()
        };
        store.put_incident(&incident).expect("saved");
    }
    let texts = [
        ("all, by the last kill", "", Sort::Last),
        ("all, by workload", "", Sort::Workload),
        ("a text in them", "reports/76", Sort::Kills),
    ];
    for (what, text, sort) in texts {
        let began = (cpu(), Instant::now());
        let filter = IncidentFilter { text: text.to_owned(), ..IncidentFilter::default() };
        let found = store.incidents(&filter, Page { sort, ..Page::default() }).expect("read");
        let (cpu, wall) = ((cpu() - began.0).as_secs_f64() * 1e3, began.1.elapsed().as_secs_f64() * 1e3);
        println!("a page of {} incidents, {what}: {cpu:.1} ms CPU, {wall:.1} ms by the clock", found.total);
    }
}

fn append(folder: &Path, bodies: &[Bytes], containers: usize, callers: usize) {
    let store = Store::open(folder, options()).expect("opens");
    let next = AtomicUsize::new(0);
    let began = (cpu(), Instant::now());
    std::thread::scope(|scope| {
        for _ in 0..callers {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number * BATCH_SPANS >= SPANS {
                        return;
                    }
                    let piece =
                        piece(number % containers, bodies[number % bodies.len()].clone(), BATCH_SPANS);
                    store.append(vec![piece]).expect("appended");
                }
            });
        }
    });
    let (seconds, wall) = ((cpu() - began.0).as_secs_f64(), began.1.elapsed().as_secs_f64());
    println!(
        "append, {containers} containers, {callers} callers: {:.0} ns CPU a span; {:.2} M spans/s by the clock",
        seconds / SPANS as f64 * 1e9,
        SPANS as f64 / wall / 1e6
    );
}

fn read(folder: &Path, how: &str) {
    let store = Store::open(folder, options()).expect("opens");
    let container = piece(0, Bytes::new(), 0).container.id();
    for _ in 0..2 {
        let began = (cpu(), Instant::now());
        let mut spans = 0;
        let query = Query { containers: Some(vec![container]), ..Query::default() };
        let summary = store.read(&query, &mut |found| {
            spans += found.count;
            ControlFlow::Continue(())
        });
        let bytes = summary.expect("read").bytes;
        let (seconds, wall) = ((cpu() - began.0).as_secs_f64(), began.1.elapsed().as_secs_f64());
        println!(
            "read {spans} spans ({} MiB) {how}: {seconds:.2} s CPU, {wall:.2} s by the clock",
            bytes >> 20
        );
    }
}

fn compression(bodies: &[Bytes]) {
    let bytes: usize = bodies.iter().map(Bytes::len).sum();
    for level in [-10, -7, -5, -3, -1, 1, 3] {
        let mut zstd = zstd::bulk::Compressor::new(level).expect("zstd");
        let began = cpu();
        let packed: Vec<Vec<u8>> = bodies.iter().map(|body| zstd.compress(body).expect("packed")).collect();
        let seconds = (cpu() - began).as_secs_f64();
        let small: usize = packed.iter().map(Vec::len).sum();
        let mut back = zstd::bulk::Decompressor::new().expect("zstd");
        let began = cpu();
        for (packed, body) in packed.iter().zip(bodies) {
            assert_eq!(back.decompress(packed, body.len()).expect("unpacked").len(), body.len());
        }
        let unpack = (cpu() - began).as_secs_f64();
        let spans = (bodies.len() * BATCH_SPANS) as f64;
        println!(
            "zstd {level}: {:.1} times smaller, {:.0} ns CPU a span to pack, {:.0} to unpack",
            bytes as f64 / small as f64,
            seconds / spans * 1e9,
            unpack / spans * 1e9
        );
    }
}

/// The simplest other way: each piece a row, each group of 32 a transaction.
fn blobs(path: &Path, bodies: &[Bytes]) {
    let mut database = rusqlite::Connection::open(path).expect("opens");
    database
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
             CREATE TABLE piece (container INTEGER, first INTEGER, bytes BLOB);
             CREATE INDEX piece_container ON piece (container, first);",
        )
        .expect("a schema");
    let (began, spans) = ((cpu(), Instant::now()), SPANS / 4);
    let batches: Vec<usize> = (0..spans / BATCH_SPANS).collect();
    for group in batches.chunks(32) {
        let transaction = database.transaction().expect("begins");
        for number in group {
            let row = (*number as i64 % 10, *number as i64, &*bodies[number % bodies.len()]);
            transaction.execute("INSERT INTO piece VALUES (?1, ?2, ?3)", row).expect("inserted");
        }
        transaction.commit().expect("commits");
    }
    let (seconds, wall) = ((cpu() - began.0).as_secs_f64(), began.1.elapsed().as_secs_f64());
    println!(
        "SQLite blobs, groups of 32: {:.0} ns CPU a span; {:.2} M spans/s by the clock",
        seconds / spans as f64 * 1e9,
        spans as f64 / wall / 1e6
    );
    let size = || std::fs::metadata(path).map_or(0, |file| file.len()) >> 20;
    let before = size();
    database.execute("DELETE FROM piece WHERE first < ?1", [(batches.len() / 2) as i64]).expect("deleted");
    database.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).expect("checkpoint");
    println!("SQLite blobs, half deleted: {before} MiB become {} MiB", size());
}
