//! What a server lives through: a disk that is full, files that are torn, a clock that jumps, a folder of an earlier version.
//! Each happens to the real program.

use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::clock::Clock;
use crate::server::{Answer, PATIENCE, Server, request};

/// An export of one span with a value of so many bytes that do not compress.
fn export(service: &str, number: u64, bytes: usize) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let value: String = (0..bytes / 2)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            format!("{:02x}", state as u8)
        })
        .collect();
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_nanos();
    serde_json::json!({ "resourceSpans": [{
        "resource": { "attributes": [{ "key": "service.name", "value": { "stringValue": service } }] },
        "scopeSpans": [{ "spans": [{
            "traceId": format!("{number:032x}"), "spanId": format!("{:016x}", number + 1), "name": "GET /", "kind": 2,
            "startTimeUnixNano": now.to_string(), "endTimeUnixNano": (now + 1000).to_string(),
            "attributes": [{ "key": "payload", "value": { "stringValue": value } }] }] }] }] })
    .to_string()
    .into_bytes()
}

fn post(server: &Server, body: &[u8]) -> Answer {
    request(&server.otlp_http, "POST", "/v1/traces", "Content-Type: application/json\r\n", body)
}

/// Spans that the catalogue has of a service.
fn records(server: &Server, service: &str) -> u64 {
    let containers = server.json("/api/v1/containers");
    let of = containers.as_array().expect("a list").iter();
    of.filter(|one| one["attributes"]["service.name"] == service)
        .map(|one| one["records"].as_u64().expect("a number"))
        .sum()
}

/// A small disk of its own; unmounted at the end.
struct Disk(PathBuf);

impl Disk {
    fn mount(at: &Path, mib: u32) -> Self {
        std::fs::create_dir_all(at).expect("made");
        let size = format!("size={mib}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at).status();
        assert!(mounted.expect("mount runs").success(), "tests need root, to mount a small disk");
        Self(at.to_owned())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn on_a_full_disk_senders_are_asked_to_come_again_until_there_is_room() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = Disk::mount(&folder.path().join("disk"), 40);
    let ballast = disk.0.join("ballast");
    std::fs::write(&ballast, vec![1; 20 << 20]).expect("written");
    let data = disk.0.join("data");
    let arguments = ["--no-kubernetes", "--memory-budget", "24MiB", "--disk-budget", "1GiB"];
    let server = Server::start(&data, &arguments);
    let (mut kept, mut number) = (0, 0);
    let refused = loop {
        let answer = post(&server, &export("cart", number, 400 << 10));
        number += 1;
        match answer.status {
            200 => kept += 1,
            _ => break answer,
        }
        assert!(number < 500, "the disk is never full");
    };
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.head.to_lowercase().contains("retry-after:"), "{}", refused.head);
    assert!(refused.text().contains("no room left"), "{}", refused.text());
    // It stays up and goes on answering.
    assert_eq!(server.get("/").status, 200);
    std::fs::remove_file(&ballast).expect("removed");
    let began = Instant::now();
    while post(&server, &export("cart", number, 1 << 10)).status != 200 {
        assert!(began.elapsed() < PATIENCE, "{}", server.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(records(&server, "cart"), kept + 1);
    assert_eq!(server.end(), Some(0));
    let server = Server::start(&data, &arguments);
    assert_eq!(records(&server, "cart"), kept + 1);
}

fn problems(server: &Server) -> String {
    server.json("/api/v1/recorder")["problems"].to_string()
}

fn overwrite(path: &Path, at: u64, bytes: &[u8]) {
    let mut file = std::fs::OpenOptions::new().write(true).open(path).expect("opened");
    file.seek(SeekFrom::Start(at)).expect("there");
    file.write_all(bytes).expect("written");
}

#[test]
fn a_torn_database_and_a_torn_segment_cost_only_themselves() {
    let folder = tempfile::tempdir().expect("a folder");
    let arguments = ["--no-kubernetes"];
    // Two segments: what is sent before a restart lies in one of its own.
    for number in 0..2 {
        let server = Server::start(folder.path(), &arguments);
        for service in ["cart", "search"] {
            assert_eq!(post(&server, &export(service, number, 4000)).status, 200);
        }
        assert_eq!(server.end(), Some(0));
    }
    let database = folder.path().join("exit137.sqlite");
    let length = std::fs::metadata(&database).expect("there").len();
    overwrite(&database, 4096, &vec![0xa5; (length - 4096) as usize]);
    let mut segments: Vec<PathBuf> = std::fs::read_dir(folder.path().join("segments"))
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    segments.sort();
    let torn = segments.last().expect("a segment");
    let length = std::fs::metadata(torn).expect("there").len();
    std::fs::OpenOptions::new().write(true).open(torn).expect("opened").set_len(length / 2).expect("cut");

    let server = Server::start(folder.path(), &arguments);
    assert!(problems(&server).contains("exit137.sqlite"), "{}", problems(&server));
    assert!(folder.path().join("exit137.sqlite.damaged-1").exists());
    let found = records(&server, "cart") + records(&server, "search");
    assert!((2..4).contains(&found), "{found} spans are left");
    assert_eq!(post(&server, &export("cart", 9, 100)).status, 200);
    assert_eq!(records(&server, "cart") + records(&server, "search"), found + 1);
}

#[test]
fn a_clock_that_jumps_makes_nothing_too_old() {
    let folder = tempfile::tempdir().expect("a folder");
    let clock = Clock::new(folder.path());
    let set = |seconds: i64| clock.set(seconds);
    let start =
        || Server::start_with(&folder.path().join("data"), &["--no-kubernetes"], &clock.environment());

    const YEAR: i64 = 365 * 86_400;
    let server = start();
    let mut sent = 0;
    for offset in [0, 10 * YEAR, -20 * YEAR, 3] {
        set(offset);
        for _ in 0..3 {
            sent += 1;
            assert_eq!(post(&server, &export("cart", sent, 100)).status, 200);
        }
        let started = server.json("/api/v1/recorder");
        assert_eq!(started["dropped"], Value::Array(Vec::new()), "{offset}");
    }
    assert_eq!(server.end(), Some(0));
    for offset in [10 * YEAR, -20 * YEAR] {
        set(0);
        let server = start();
        drop(server);
        set(offset);
        let server = start();
        // Longer than the keeper waits between two looks.
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(records(&server, "cart"), sent, "{offset}");
        assert_eq!(server.json("/api/v1/recorder")["dropped"], Value::Array(Vec::new()), "{offset}");
    }
    assert_eq!(sent, 12);
}

#[test]
fn a_folder_of_the_first_schema_is_taken_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let summary = serde_json::json!({
        "id": "2026-11-20-085329-abcdef", "title": "shop/cart", "namespace": "shop", "workload": "cart", "container": "cart",
        "cause": "leak", "probability": 0.9, "words": "very likely", "headline": "shop/cart leaks", "action": "fix_code",
        "kill_count": 3, "first_at": "2026-11-20T08:53:29Z", "last_at": "2026-11-20T09:53:29Z", "settled": true,
        "revision": 4, "updated_at": "2026-11-20T09:54:29Z" });
    let script = format!(
        "import sqlite3, sys\n\
         database = sqlite3.connect(sys.argv[1])\n\
         database.executescript(open(sys.argv[2]).read() + 'PRAGMA user_version = 1;')\n\
         database.execute('''INSERT INTO incident (key, namespace, workload, container, cause, operation, version, probability,\n\
             kills, first_nanos, last_nanos, settled, summary, json) VALUES ('2026-11-20-085329-abcdef', 'shop', 'cart', 'cart',\n\
             'leak', '', '', 0.9, 3, {now}, {now}, 1, ?, '{{}}')''', (sys.argv[3],))\n\
         database.commit()\n",
        now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .expect("after 1970")
            .as_nanos()
    );
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("../exit137-store/src/schema/1.sql");
    let made = Command::new("python3")
        .args(["-c", &script])
        .arg(folder.path().join("exit137.sqlite"))
        .arg(schema)
        .arg(summary.to_string())
        .status();
    assert!(made.expect("python3 runs").success());
    let server = Server::start(folder.path(), &["--no-kubernetes"]);
    let list = server.json("/api/v1/incidents");
    assert_eq!(list["incidents"][0]["title"], "shop/cart", "{list:#}");
    assert_eq!(problems(&server), "[]");
    assert_eq!(server.end(), Some(0));
}
