//! Inputs that were made to break a reader, or broke on their way: no panic, no hang, no unbounded memory.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use exit137_core::observation::Observations;

use super::{Folder, NoProgress, ReadOptions, document, gzip, problems, read, times, zstd};

/// Far more than any of these takes on a machine that does ten other things.
const PATIENCE: Duration = Duration::from_secs(30);

/// Reads one file, and does not take long over it.
#[track_caller]
fn read_soon(name: &str, content: &[u8]) -> Observations {
    let started = Instant::now();
    let observations = Folder::new(&[("input", content)]).read(2);
    assert!(started.elapsed() < PATIENCE, "{name}: {:?}", started.elapsed());
    observations
}

/// As tight as gzip gets.
fn gzip_tightly(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(content).expect("memory");
    encoder.finish().expect("memory")
}

#[test]
fn archives_that_expand_without_measure_are_given_up() {
    let endless = [b"{\"a\":\"".to_vec(), vec![b'x'; 64 << 20]].concat();
    let spans = "{\"resourceSpans\":[]}\n".repeat(3 << 20);
    let zeros = [b"{}\n".to_vec(), vec![0; 64 << 20]].concat();
    for (name, content) in [
        ("zstd", zstd(&endless)),
        ("gzip", gzip_tightly(&zeros)),
        ("gzip in zstd", zstd(&gzip(&endless))),
        ("many small documents", zstd(spans.as_bytes())),
    ] {
        let observations = read_soon(name, &content);
        let expected = "input: cannot read on: expected at most 500 times the size of the compressed file";
        assert!(
            problems(&observations).iter().any(|problem| problem == expected),
            "{name}: {:?}",
            problems(&observations)
        );
    }
}

#[test]
fn a_document_that_never_ends_is_stepped_over() {
    let long = format!("{{\"resourceSpans\":\"{}\"}}", "x".repeat(9 << 20));
    let text = [document(1).as_str(), &long, &document(2)].join("\n");
    let observations = read_soon("long", text.as_bytes());
    assert_eq!(times(&observations), [1, 2]);
    assert_eq!(problems(&observations), ["input:2: expected documents of at most 4 MiB"]);
}

#[test]
fn no_more_is_kept_than_there_is_room_for() {
    let span = |time| {
        format!(
            r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"traceId":"93866a3532a993adca855526b7ca9d6d","startTimeUnixNano":{time}}}]}}]}}]}}
"#
        )
    };
    let traces: String = (1..=100_000).map(span).collect();
    let point = |number| {
        format!(
            r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"name":"go.memory.used","gauge":{{"dataPoints":[{{"timeUnixNano":1,"asInt":1,"attributes":[{{"key":"a{number}","value":{{"intValue":1}}}}]}}]}}}}]}}]}}]}}
"#
        )
    };
    let metrics: String = (0..40_000).map(point).collect();
    for (name, text) in [("spans", traces), ("series", metrics)] {
        let folder = Folder::new(&[("input", text.as_bytes())]);
        let options = ReadOptions { threads: 2, kept_bytes_max: Some(4 << 20) };
        let observations =
            read(std::slice::from_ref(&folder.0), &options, &NoProgress).expect("a readable folder");
        let kept = observations.traces.spans.len() + observations.metrics.series.len();
        assert!((5_000..60_000).contains(&kept), "{name}: {kept}");
        let expected = "fewer records: what fits into memory was kept, the rest is not read";
        assert!(problems(&observations)[0].contains(expected), "{name}: {:?}", problems(&observations));
    }
}

#[test]
fn aliases_and_nesting_are_bounded() {
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: a, uid: b}\n";
    let mut aliases = format!("{pod}a: &a [{}]\n", ["x"; 10].join(","));
    for (this, before) in ('b'..='k').zip('a'..) {
        aliases += &format!("{this}: &{this} [{}]\n", vec![format!("*{before}"); 10].join(","));
    }
    let deep = |open: &str| open.repeat(200_000);
    for (name, text) in [
        ("aliases", aliases),
        ("nested in YAML", format!("{pod}a: {}", deep("["))),
        ("nested maps in YAML", format!("{pod}a: {}", deep("{a: "))),
        ("nested lists in YAML", format!("{pod}a:\n {}", deep("- "))),
        ("nested in an object", format!(r#"{{"apiVersion":"v1","kind":"Pod","metadata":{}"#, deep("["))),
        ("nested in OTLP", format!(r#"{{"resourceSpans":{}"#, deep("[{\"a\":"))),
        ("nested in a journal", format!(r#"{{"MESSAGE":"oom","_TRANSPORT":"kernel","a":{}"#, deep("["))),
        ("nested lists", format!(r#"{{"kind":"List","items":{}"#, deep(r#"[{"kind":"List","items":"#))),
    ] {
        let observations = read_soon(name, text.as_bytes());
        assert!(!problems(&observations).is_empty(), "{name}");
    }
}

#[test]
fn pipes_and_sockets_in_a_folder_are_left_alone() {
    let folder = Folder::new(&[("traces.jsonl", document(1).as_bytes())]);
    let made = Command::new("mkfifo").arg(folder.0.join("pipe")).status();
    assert!(made.is_ok_and(|status| status.success()));
    let _socket = std::os::unix::net::UnixListener::bind(folder.0.join("socket")).expect("a socket");
    std::os::unix::fs::symlink("/dev/zero", folder.0.join("zero")).expect("a link");
    assert_eq!(times(&folder.read(2)), [1]);
}

#[test]
fn a_file_that_cannot_be_read_costs_no_other() {
    let folder = Folder::new(&[("traces.jsonl", document(1).as_bytes())]);
    // Readable by its permissions, but not at its start.
    std::os::unix::fs::symlink("/proc/self/mem", folder.0.join("memory")).expect("a link");
    let observations = folder.read(2);
    assert_eq!(times(&observations), [1]);
    assert!(problems(&observations)[0].starts_with("memory: cannot "), "{:?}", problems(&observations));
}

/// Pieces of recorded kills, in every format.
fn recorded() -> Vec<(String, Vec<u8>)> {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../cases/shop-catalog-leak");
    let names = [
        "k8s/pods.json",
        "k8s/events.json",
        "k8s/pods.watch.jsonl.zst",
        "kernel/kmsg.log",
        "cgroup/samples.jsonl.zst",
        "otlp/metrics.jsonl.zst",
        "otlp/traces.jsonl.zst",
    ];
    let piece = |name: &str| {
        let content = fs::read(cases.join(name)).expect("a recorded file");
        let mut plain =
            if name.ends_with(".zst") { zstd::decode_all(&content[..]).expect("zstd") } else { content };
        plain.truncate(40_000);
        (name.to_owned(), plain)
    };
    let mut pieces: Vec<(String, Vec<u8>)> = names.into_iter().map(piece).collect();
    let compressed: Vec<_> = pieces
        .iter()
        .take(2)
        .flat_map(|(name, content)| {
            [(format!("{name} in gzip"), gzip(content)), (format!("{name} in zstd"), zstd(content))]
        })
        .collect();
    pieces.extend(compressed);
    pieces
}

/// The same numbers in every run.
fn roll(state: &mut u64) -> usize {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) as usize
}

#[test]
fn broken_variants_of_recorded_files_are_read_to_their_end() {
    let pieces = recorded();
    let mut state = 137;
    for (number, (name, content)) in pieces.iter().enumerate() {
        for _ in 0..12 {
            let mut flipped = content.clone();
            for _ in 0..=roll(&mut state) % 8 {
                let at = roll(&mut state) % flipped.len();
                flipped[at] =
                    [0, 0xff, b'"', b'\n', b'{', b'}', b'\\', flipped[at] ^ 1][roll(&mut state) % 8];
            }
            let cut = &content[..roll(&mut state) % content.len()];
            let other = &pieces[roll(&mut state) % pieces.len()].1;
            let joined = [cut, other].concat();
            let twisted = [other, &flipped[flipped.len() / 2..], cut].concat();
            for (how, variant) in
                [("flipped", &flipped[..]), ("cut", cut), ("joined", &joined), ("twisted", &twisted)]
            {
                read_soon(&format!("{number} {name}, {how}"), variant);
            }
        }
    }
}
