//! What was acknowledged survives SIGKILL. A child appends from many threads and says what was acknowledged; the
//! parent kills it at a random moment, opens the store, and looks for every acknowledged piece by its content.
//!
//! `EXIT137_KILLS=100` makes it a hundred kills; fifteen else.

use std::collections::HashSet;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use exit137_core::time::UnixNanos;
use exit137_store::{AppendError, Encoding, Identity, Kind, Piece, Query, Store, StoreOptions};

const FOLDER: &str = "EXIT137_TEST_FOLDER";
const ROUND: &str = "EXIT137_TEST_ROUND";
const THREADS: u64 = 8;

/// Small logs, so that kills fall into sealing, compressing and joining too.
fn open(folder: &Path) -> Store {
    let options =
        StoreOptions { disk_budget_bytes: 4 << 30, memory_budget_bytes: 4 << 20, ..StoreOptions::default() };
    Store::open(folder, options).expect("the store opens")
}

/// What piece `number` of a thread holds: its name, and then bytes that follow from it.
fn content(round: u64, thread: u64, number: u64) -> Vec<u8> {
    let name = round << 48 | thread << 40 | number;
    let mut state = name.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let length = 40 + (state >> 50) as usize;
    let mut bytes = name.to_le_bytes().to_vec();
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
        bytes.extend_from_slice(b"http.request.method");
    }
    bytes
}

fn piece(round: u64, thread: u64, number: u64) -> Piece {
    let bytes = content(round, thread, number);
    Piece {
        container: Identity::of([("k8s.pod.name", format!("pod-{}", number % 40).as_str())]),
        kind: Kind::Spans,
        encoding: Encoding::Protobuf,
        first: UnixNanos(number as i64),
        last: UnixNanos(number as i64 + 1),
        count: 1,
        bytes: bytes.into(),
    }
}

/// Not a test of its own: what the child does until it is killed.
#[test]
fn child() {
    let (Some(folder), Ok(round)) = (std::env::var_os(FOLDER), std::env::var(ROUND)) else {
        return;
    };
    let round: u64 = round.parse().expect("a number");
    let store = open(Path::new(&folder));
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (store, next) = (&store, &next);
            scope.spawn(move || append_for_ever(store, next, round, thread));
        }
        // Saves the catalogue all the time, so that kills fall into that too.
        scope.spawn(|| while store.containers(&Default::default()).is_ok() {});
    });
}

fn append_for_ever(store: &Store, next: &AtomicU64, round: u64, thread: u64) {
    loop {
        let from = next.fetch_add(5, Ordering::Relaxed);
        let pieces = (from..from + 5).map(|number| piece(round, thread, number)).collect();
        match store.append(pieces) {
            Ok(_) => {
                // One write, so that it is in the pipe whole or not at all.
                let mut line = [0; 16];
                line[..8].copy_from_slice(&thread.to_le_bytes());
                line[8..].copy_from_slice(&from.to_le_bytes());
                if std::io::stderr().write_all(&line).is_err() {
                    return;
                }
            }
            Err(AppendError::Busy { .. }) => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
}

fn random_below(limit: u64) -> u64 {
    RandomState::new().build_hasher().finish() % limit
}

#[test]
fn what_was_acknowledged_survives_sigkill() {
    let kills: u64 = std::env::var("EXIT137_KILLS").map_or(15, |kills| kills.parse().expect("a number"));
    let folder = tempfile::tempdir().expect("a folder");
    let mut acknowledged: HashSet<(u64, u64, u64)> = HashSet::new();
    for round in 1..=kills {
        let mut child = Command::new(std::env::current_exe().expect("a path"))
            .args(["--exact", "child", "--nocapture"])
            .env(FOLDER, folder.path())
            .env(ROUND, round.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the child starts");
        let mut pipe = child.stderr.take().expect("a pipe");
        let reader = std::thread::spawn(move || {
            let mut lines = Vec::new();
            pipe.read_to_end(&mut lines).map(|_| lines)
        });
        std::thread::sleep(Duration::from_millis(20 + random_below(400)));
        child.kill().expect("killed");
        child.wait().expect("gone");
        for line in reader.join().expect("read").expect("read").chunks_exact(16) {
            let number = |at: usize| u64::from_le_bytes(line[at..at + 8].try_into().expect("eight bytes"));
            acknowledged.extend((number(8)..number(8) + 5).map(|piece| (round, number(0), piece)));
        }
        check(folder.path(), &acknowledged, round);
    }
    println!("{} pieces were acknowledged before {kills} kills", acknowledged.len());
    // A machine so slow that nothing was acknowledged proves nothing.
    assert!(acknowledged.len() as u64 > kills * 20, "only {} pieces were acknowledged", acknowledged.len());
}

fn check(folder: &Path, acknowledged: &HashSet<(u64, u64, u64)>, round: u64) {
    let store = open(folder);
    let mut missing = acknowledged.clone();
    let summary = store.read(&Query::default(), &mut |found| {
        let name = u64::from_le_bytes(found.bytes[..8].try_into().expect("eight bytes"));
        let key = (name >> 48, name >> 40 & 0xff, name & 0xff_ffff_ffff);
        assert!(found.bytes == content(key.0, key.1, key.2), "round {round}: {key:?} is not as it was");
        missing.remove(&key);
        ControlFlow::Continue(())
    });
    let summary = summary.expect("the store is read");
    assert_eq!(summary.damaged, 0, "round {round}");
    assert!(missing.is_empty(), "round {round}: {} of {} are missing", missing.len(), acknowledged.len());
    assert_eq!(store.problems(), [""; 0], "round {round}");
    let catalogue = store.containers(&Default::default()).expect("the catalogue is read");
    let expected: HashSet<u64> = acknowledged.iter().map(|(.., number)| number % 40).collect();
    assert!(catalogue.len() >= expected.len(), "round {round}: {} containers are known", catalogue.len());
    let counted: u64 = catalogue.iter().map(|container| container.pieces).sum();
    assert_eq!(counted, summary.pieces, "round {round}: each piece is counted once");
}
