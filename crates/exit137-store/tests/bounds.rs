//! What a store does at its bounds: the budget, the age, a full disk; and with damage.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use exit137_core::time::UnixNanos;
use exit137_store::{
    Ack, AppendError, ContainerFilter, Encoding, Identity, Incident, Kind, Piece, Query, ReadSummary, Reason,
    Sample, Store, StoreOptions, read_samples,
};

const MIB: u64 = 1 << 20;

fn identity(container: &str) -> Identity {
    Identity::of([("k8s.pod.name", container)])
}

/// Bytes that do not compress, and differ for each number.
fn noise(number: u64, length: usize) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes
}

fn piece(container: &str, kind: Kind, number: u64, length: usize) -> Piece {
    Piece {
        container: identity(container),
        kind,
        encoding: Encoding::Protobuf,
        first: UnixNanos(number as i64),
        last: UnixNanos(number as i64),
        count: 3,
        bytes: noise(number, length).into(),
    }
}

fn options(disk_budget_bytes: u64) -> StoreOptions {
    StoreOptions { disk_budget_bytes, memory_budget_bytes: 4 * MIB, ..StoreOptions::default() }
}

fn open(folder: &Path, disk_budget_bytes: u64) -> Store {
    Store::open(folder, options(disk_budget_bytes)).expect("the store opens")
}

/// Appends, waiting as long as it is told to.
fn append(store: &Store, pieces: &[Piece]) -> Ack {
    loop {
        match store.append(pieces.to_vec()) {
            Ok(ack) => return ack,
            Err(AppendError::Full { .. } | AppendError::Busy { .. }) => store.settle(),
            Err(error) => panic!("{error}"),
        }
    }
}

/// The numbers of the pieces of a container, sorted; each is checked by its content.
fn numbers(store: &Store, container: &str) -> (Vec<u64>, ReadSummary) {
    let mut numbers = Vec::new();
    let query = Query { containers: Some(vec![identity(container).id()]), ..Query::default() };
    let summary = store.read(&query, &mut |found| {
        assert!(found.bytes == noise(found.first.0 as u64, found.bytes.len() / 8 * 8), "not as it was");
        numbers.push(found.first.0 as u64);
        ControlFlow::Continue(())
    });
    numbers.sort_unstable();
    (numbers, summary.expect("the store is read"))
}

fn folder_bytes(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry"));
    entries
        .map(|entry| match entry.metadata() {
            Ok(file) if file.is_dir() => folder_bytes(&entry.path()),
            Ok(file) => file.len(),
            Err(_) => 0,
        })
        .sum()
}

#[test]
fn over_the_budget_the_oldest_of_the_busiest_goes_first_and_is_counted() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), 16 * MIB);
    for number in 0..600 {
        let mut pieces = vec![piece("busy", Kind::Spans, number, 100_000)];
        if number % 10 == 0 {
            pieces.push(piece("quiet", Kind::Spans, number, 2_000));
            pieces.push(piece("busy", Kind::Kubernetes, 10_000 + number, 100));
        }
        append(&store, &pieces);
        if number % 50 == 0 {
            assert!(folder_bytes(folder.path()) <= 18 * MIB, "{} bytes", folder_bytes(folder.path()));
        }
    }
    store.settle();
    assert!(folder_bytes(folder.path()) <= 16 * MIB, "{} bytes", folder_bytes(folder.path()));
    assert!(store.state().disk_bytes <= 16 * MIB);

    let (quiet, _) = numbers(&store, "quiet");
    assert_eq!(quiet, (0..600).step_by(10).collect::<Vec<_>>(), "nothing of the quiet one is gone");
    let (busy, _) = numbers(&store, "busy");
    let lasting = busy.iter().filter(|number| **number >= 10_000).count();
    assert_eq!(lasting, 60, "only bulk is given up");
    let kept: Vec<u64> = busy.into_iter().filter(|number| *number < 10_000).collect();
    assert!(kept.len() > 60 && kept.last() == Some(&599), "the newest are kept: {kept:?}");
    let gaps = kept.windows(2).filter(|pair| pair[1] != pair[0] + 1).count();
    assert_eq!(gaps, 0, "the oldest went");

    let dropped = store.dropped(Some(&[identity("busy").id()])).expect("read");
    assert_eq!(dropped.len(), 1, "{dropped:?}");
    assert_eq!((dropped[0].kind, dropped[0].reason), (Kind::Spans, Reason::Budget));
    assert_eq!(dropped[0].pieces + kept.len() as u64, 600, "every one is kept or counted");
    assert_eq!(dropped[0].items, dropped[0].pieces * 3);
    assert_eq!((dropped[0].first, dropped[0].last), (UnixNanos(0), UnixNanos(kept[0] as i64 - 1)));
    assert_eq!(store.dropped(Some(&[identity("quiet").id()])).expect("read"), []);
    assert_eq!(store.problems(), [""; 0]);
}

#[test]
fn what_is_too_old_goes_and_lasting_kinds_stay() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = options(64 * MIB).keep(Kind::Spans, Duration::from_secs(1));
    let store = Store::open(folder.path(), options).expect("the store opens");
    // Its own times are of no account: telemetry may claim any year.
    let mut late = piece("a", Kind::Spans, 1, 1000);
    late.last = UnixNanos(i64::MAX);
    append(&store, &[late, piece("a", Kind::Kubernetes, 2, 1000)]);
    for _ in 0..600 {
        store.settle();
        if !store.dropped(None).expect("read").is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(numbers(&store, "a").0, [2]);
    let dropped = store.dropped(None).expect("read");
    let dropped: Vec<_> = dropped.iter().map(|one| (one.kind, one.reason, one.pieces)).collect();
    assert_eq!(dropped, [(Kind::Spans, Reason::Age, 1)]);
}

#[test]
fn a_container_of_which_nothing_is_left_is_forgotten() {
    let folder = tempfile::tempdir().expect("a folder");
    let second = Duration::from_secs(1);
    let options = Kind::ALL.into_iter().fold(options(64 * MIB), |options, kind| options.keep(kind, second));
    let store = Store::open(folder.path(), options).expect("the store opens");
    append(&store, &[piece("a", Kind::Spans, 1, 1000)]);
    let known = || store.containers(&Default::default()).expect("read").len();
    assert_eq!(known(), 1);
    for _ in 0..600 {
        if known() == 0 {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(known(), 0);
    // Who is heard of again is known again.
    append(&store, &[piece("a", Kind::Spans, 2, 1000)]);
    assert_eq!(known(), 1);
    assert_eq!(store.problems(), [""; 0]);
}

/// A file system of its own, unmounted at the end.
struct Disk(PathBuf);

impl Disk {
    fn mount(folder: &Path, megabytes: u32) -> Self {
        let size = format!("size={megabytes}m");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder);
        let mounted = mount.status().expect("mount is run");
        assert!(mounted.success(), "this test mounts a small file system: run it as root");
        Self(folder.to_owned())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_is_said_and_outlived() {
    let folder = tempfile::tempdir().expect("a folder");
    let _disk = Disk::mount(folder.path(), 24);
    let ballast = folder.path().join("somebody-else");
    File::create(&ballast).and_then(|mut file| file.write_all(&vec![7; 8 << 20])).expect("written");
    let store = open(&folder.path().join("data"), 1 << 30);
    let mut taken = Vec::new();
    let mut refused = None;
    for number in 0..400 {
        match store.append(vec![piece("a", Kind::Spans, number, 100_000)]) {
            Ok(_) => taken.push(number),
            Err(error) => {
                refused = Some(error);
                break;
            }
        }
    }
    let refused = refused.expect("400 times 100 kB do not fit");
    assert!(matches!(refused, AppendError::Full { .. }), "{refused}");
    assert_eq!(refused.to_string(), "no room left: the disk is full");
    assert!(taken.len() > 50, "{taken:?}");
    assert_eq!(numbers(&store, "a").0, taken, "what was taken is there");

    std::fs::remove_file(&ballast).expect("removed");
    for number in 1000..1020 {
        let _: Ack =
            store.append(vec![piece("a", Kind::Spans, number, 100_000)]).expect("there is room again");
        taken.push(number);
    }
    assert_eq!(numbers(&store, "a").0, taken);
    drop(store);
    let store = open(&folder.path().join("data"), 1 << 30);
    assert_eq!(numbers(&store, "a").0, taken);
}

/// The segments, by age.
fn segments(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder.join("segments")).expect("a folder");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths
}

#[test]
fn a_damaged_segment_costs_what_is_damaged() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), 64 * MIB);
    for number in 0..50 {
        append(
            &store,
            &[piece("a", Kind::Spans, number, 10_000), piece("b", Kind::Spans, 100 + number, 1000)],
        );
    }
    store.settle();
    drop(store);
    let path = &segments(folder.path())[0];
    let length = std::fs::metadata(path).expect("a file").len();
    let file = OpenOptions::new().write(true).open(path).expect("opens");
    // In the middle of a record, in the index, and the end.
    file.write_all_at(&[0xff; 20], length / 2).expect("written");
    let store = open(folder.path(), 64 * MIB);
    let (b, _) = numbers(&store, "b");
    let (a, summary) = numbers(&store, "a");
    assert!(b.len() + a.len() >= 50 && b.len() + a.len() < 100, "{} and {} of 50 each", a.len(), b.len());
    assert!(summary.damaged + numbers(&store, "b").1.damaged > 0);
    assert!(store.problems()[0].contains("has a wrong checksum"), "{:?}", store.problems());
    drop(store);

    let (before_a, before_b) = (a, b);
    file.write_all_at(&[0xff; 64], length - 64).expect("written");
    let store = open(folder.path(), 64 * MIB);
    assert_eq!(numbers(&store, "a").0, before_a, "without its end, the records are found again");
    assert_eq!(numbers(&store, "b").0, before_b);
    drop(store);

    file.write_all_at(&[0xff; 64], 0).expect("written");
    let store = open(folder.path(), 64 * MIB);
    assert_eq!(numbers(&store, "a").0, [0u64; 0]);
    assert!(store.problems()[0].contains("not a segment"), "{:?}", store.problems());
    append(&store, &[piece("a", Kind::Spans, 7, 1000)]);
    assert_eq!(numbers(&store, "a").0, [7]);
    assert!(segments(folder.path()).iter().any(|path| path.to_string_lossy().ends_with(".damaged-1")));
}

#[test]
fn a_damaged_database_is_put_aside_and_the_catalogue_made_anew() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), 64 * MIB);
    append(&store, &[piece("a", Kind::Spans, 1, 1000), piece("b", Kind::Spans, 2, 1000)]);
    store.put_incident(&Incident { key: "i".to_owned(), ..Incident::default() }).expect("saved");
    drop(store);
    std::fs::write(folder.path().join("exit137.sqlite"), noise(1, 50_000)).expect("written");
    let store = open(folder.path(), 64 * MIB);
    assert_eq!(store.problems().len(), 1, "{:?}", store.problems());
    assert!(store.problems()[0].contains("kept as"), "{:?}", store.problems());
    assert!(folder.path().join("exit137.sqlite.damaged-1").exists());
    let known = store.containers(&ContainerFilter::default()).expect("read");
    let names: BTreeMap<_, _> =
        known.iter().map(|known| (known.identity.attribute("k8s.pod.name"), known.pieces)).collect();
    assert_eq!(names, BTreeMap::from([(Some("a"), 1), (Some("b"), 1)]));
    assert_eq!(numbers(&store, "a").0, [1]);
    assert_eq!(store.incident("i").expect("read"), None);
}

#[test]
fn a_database_that_is_damaged_while_it_is_used_is_replaced() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), 64 * MIB);
    append(&store, &[piece("a", Kind::Spans, 1, 1000)]);
    // More than SQLite holds in memory.
    let json = "x".repeat(20_000);
    for number in 0..1000 {
        let incident = Incident { key: number.to_string(), json: json.clone(), ..Incident::default() };
        store.put_incident(&incident).expect("saved");
    }
    for name in ["exit137.sqlite", "exit137.sqlite-wal"] {
        let path = folder.path().join(name);
        let length = std::fs::metadata(&path).expect("a file").len() as usize;
        let file = OpenOptions::new().write(true).open(path).expect("opens");
        file.write_all_at(&noise(2, length.saturating_sub(4096)), 4096).expect("written");
    }
    let read = (0..1000).map(|number| store.incident(&number.to_string()));
    let error = read.filter_map(Result::err).next().expect("the damage is seen");
    assert_eq!(error.to_string(), "reading an incident in the database");
    store.put_incident(&Incident { key: "new".to_owned(), ..Incident::default() }).expect("saved");
    assert_eq!(store.incidents(&Default::default(), Default::default()).expect("read").total, 1);
    assert_eq!(store.containers(&ContainerFilter::default()).expect("read").len(), 1);
    assert!(store.problems()[0].contains("the database is damaged; kept as"), "{:?}", store.problems());
}

#[test]
fn the_largest_piece_is_kept_and_a_larger_one_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), 1 << 30);
    let most = 48 << 20;
    append(&store, &[piece("a", Kind::Spans, 1, 100_000), piece("a", Kind::Spans, 2, most)]);
    let error = store.append(vec![piece("a", Kind::Spans, 3, most + 8)]).expect_err("too large");
    assert_eq!(error.to_string(), "a piece of 50331656 bytes: at most 50331648 expected");
    assert_eq!(numbers(&store, "a").0, [1, 2]);
    store.settle();
    assert_eq!(numbers(&store, "a").0, [1, 2]);
    assert_eq!(store.problems(), [""; 0]);
}

#[test]
fn samples_are_found_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), 64 * MIB);
    for at in 0..20 {
        let sample = Sample { series: "container.memory.rss", at: UnixNanos(at), value: at as f64 };
        append(&store, &[Piece::of_samples(identity("a"), &[sample])]);
    }
    store.settle();
    let mut values = Vec::new();
    let query =
        Query { kinds: vec![Kind::Samples], from: UnixNanos(5), to: UnixNanos(7), ..Query::default() };
    let summary = store.read(&query, &mut |found| {
        assert!(read_samples(found.bytes, &mut |sample| values.push((sample.at.0, sample.value))).is_some());
        ControlFlow::Continue(())
    });
    assert_eq!(summary.expect("read").pieces, 3);
    values.sort_by_key(|(at, _)| *at);
    assert_eq!(values, [(5, 5.0), (6, 6.0), (7, 7.0)]);
}
