//! Files of every kind in every wrapping, in any order, broken in any place.

mod hostile;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use exit137_core::observation::{Observations, SourceKind};

use super::{NoProgress, Progress, ReadError, ReadOptions, read};

/// A folder that goes when the test ends.
struct Folder(PathBuf);

impl Folder {
    fn new(files: &[(&str, &[u8])]) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("exit137-read-{}-{number}", std::process::id()));
        for (name, content) in files {
            let file = path.join(name);
            fs::create_dir_all(file.parent().expect("a parent")).expect("a folder");
            fs::write(file, content).expect("a file");
        }
        Self(path)
    }

    fn read(&self, threads: usize) -> Observations {
        read(std::slice::from_ref(&self.0), &ReadOptions { threads, ..ReadOptions::default() }, &NoProgress)
            .expect("a readable folder")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn problems(observations: &Observations) -> Vec<String> {
    let problems = observations.problems.list();
    problems.into_iter().map(|problem| format!("{}: {}", problem.source, problem.message)).collect()
}

/// A document with one span that starts at `time`.
fn document(time: usize) -> String {
    let name = "n".repeat(700);
    format!(
        r#"{{"resourceSpans":[{{"resource":{{}},"scopeSpans":[{{"spans":[{{"traceId":"93866a3532a993adca855526b7ca9d6d","spanId":"{time:016x}","name":"{name}","startTimeUnixNano":"{time}","endTimeUnixNano":"{time}"}}]}}]}}]}}"#
    )
}

fn pretty(time: usize) -> String {
    let value: serde_json::Value = serde_json::from_str(&document(time)).expect("JSON");
    serde_json::to_string_pretty(&value).expect("JSON")
}

fn times(observations: &Observations) -> Vec<i64> {
    let mut times: Vec<i64> = observations.traces.spans.iter().map(|span| span.start.0).collect();
    times.sort_unstable();
    times
}

/// Enough documents for several blocks.
const MANY: usize = 3_000;

#[test]
fn documents_may_follow_each_other_in_any_way() {
    let lines: Vec<String> = (1..=MANY).map(document).collect();
    let indented: Vec<String> = (1..=MANY / 4).map(pretty).collect();
    let mixed: Vec<String> =
        (1..=MANY / 4).map(|time| if time % 3 == 0 { pretty(time) } else { document(time) }).collect();
    for (name, text, count) in [
        ("one a line", lines.join("\n"), MANY),
        ("one a line, with carriage returns", lines.join("\r\n"), MANY),
        ("one a line, with empty lines", format!("\n\n{}\n\n", lines.join("\n\n")), MANY),
        ("two a line", lines.chunks(2).map(|pair| pair.join(" ")).collect::<Vec<_>>().join("\n"), MANY),
        ("without any line break", lines.join(""), MANY),
        ("indented", indented.join("\n"), MANY / 4),
        ("an array on one line", format!("[{}]", lines.join(",")), MANY),
        ("an array, one element a line", format!("[\n{}\n]\n", lines.join(",\n")), MANY),
        ("an indented array", format!("[\n{}\n]\n", indented.join(",\n")), MANY / 4),
        ("some indented, some not", mixed.join("\n"), MANY / 4),
        ("with a byte order mark", format!("\u{feff}{}", lines.join("\n")), MANY),
        ("a text sequence", lines.iter().map(|line| format!("\x1e{line}\n")).collect(), MANY),
    ] {
        let folder = Folder::new(&[("traces", text.as_bytes())]);
        for threads in [1, 3] {
            let observations = folder.read(threads);
            assert_eq!(problems(&observations), Vec::<String>::new(), "{name}");
            assert!(
                times(&observations).into_iter().eq(1..=count as i64),
                "{name}: not all spans, or some twice"
            );
            let counted = observations.counts[&SourceKind::Traces];
            assert_eq!((counted.files, counted.records), (1, count as u64), "{name}");
        }
    }
}

#[test]
fn a_broken_document_costs_no_other() {
    let good = [document(1), document(2), document(3)];
    let bad = document(9);
    for (name, broken) in [
        ("cut off in a string", &bad[..bad.len() - 30]),
        ("cut off after a bracket", &bad[..bad.find("[{\"resource\"").expect("present") + 1]),
        ("cut off after a comma", &bad[..bad.find("\"scopeSpans\"").expect("present")]),
        ("no JSON", "oops {"),
        ("half a line", "\"resourceSpans\":[]}"),
        ("zeros", "\0\0\0\0"),
        ("a bracket too many", &bad.replace("}]}]}", "}]]}]}")),
        ("another document", "{\"hello\":1}"),
    ] {
        let text = [good[0].as_str(), broken, &good[1], &good[2]].join("\n");
        let observations = Folder::new(&[("traces.jsonl", text.as_bytes())]).read(2);
        let mut kept = times(&observations);
        kept.retain(|time| *time != 9);
        assert_eq!(kept, [1, 2, 3], "{name}: {:?}", problems(&observations));
        assert!(!problems(&observations).is_empty(), "{name}");
        for problem in problems(&observations) {
            assert!(problem.starts_with("traces.jsonl:2: "), "{name}: {problem}");
        }
    }
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content).expect("memory");
    encoder.finish().expect("memory")
}

fn zstd(content: &[u8]) -> Vec<u8> {
    zstd::encode_all(content, 1).expect("memory")
}

#[test]
fn compression_is_seen_in_the_content() {
    let text = (1..=MANY).map(|time| document(time) + "\n").collect::<String>();
    let (first, second) = text.as_bytes().split_at(text.len() / 3);
    for (name, content) in [
        ("gzip", gzip(text.as_bytes())),
        ("two gzip members", [gzip(first), gzip(second)].concat()),
        ("zstd", zstd(text.as_bytes())),
        ("two zstd frames", [zstd(first), zstd(second)].concat()),
        ("gzip in zstd", zstd(&gzip(text.as_bytes()))),
    ] {
        let observations = Folder::new(&[("traces.bin", &content)]).read(2);
        assert_eq!(problems(&observations), Vec::<String>::new(), "{name}");
        assert_eq!(observations.traces.spans.len(), MANY, "{name}");
    }
    let whole = gzip(text.as_bytes());
    let observations = Folder::new(&[("traces.gz", &whole[..whole.len() / 2])]).read(2);
    assert!(observations.traces.spans.len() > MANY / 4, "{}", observations.traces.spans.len());
    assert!(problems(&observations).iter().any(|problem| problem.starts_with("traces.gz: cannot read on: ")));
}

#[test]
fn rubbish_is_read_in_the_time_its_length_takes() {
    let half = "{\"resourceSpans\":[{\"scopeSpans\":[{\"spans\":[";
    for rubbish in ["\n{", "{", "{\"a\":[", "\n{\"a\":\"\n", "[\n", "}\n{", "{}", half, &format!("\n{half}")]
    {
        // The first line hides from the choice of framing what follows.
        let text = "{}\n".to_owned() + &rubbish.repeat((2 << 20) / rubbish.len());
        let started = std::time::Instant::now();
        Folder::new(&[("rubbish", text.as_bytes())]).read(1);
        // Reading any of them anew from each of its parts would take minutes.
        assert!(started.elapsed().as_secs() < 20, "{rubbish:?}: {:?}", started.elapsed());
    }
}

#[test]
fn any_number_of_threads_reads_the_same() {
    let mut files: Vec<(String, Vec<u8>)> =
        (0..20).map(|number| (format!("traces/{number}.jsonl"), document(number + 1).into_bytes())).collect();
    let large = (100..100 + MANY).map(|time| document(time) + "\n").collect::<String>();
    files.push(("large.jsonl".to_owned(), large.into_bytes()));
    let borrowed: Vec<(&str, &[u8])> =
        files.iter().map(|(name, content)| (name.as_str(), &content[..])).collect();
    let folder = Folder::new(&borrowed);
    let expected = times(&folder.read(1));
    assert_eq!(expected.len(), MANY + 20);
    for threads in [2, 3, 8] {
        let observations = folder.read(threads);
        assert_eq!(times(&observations), expected, "{threads}");
        assert_eq!(observations.counts[&SourceKind::Traces].files, 21, "{threads}");
    }
}

#[test]
fn what_is_unknown_is_named_once_and_companions_are_not() {
    let folder = Folder::new(&[
        ("README.md", b"# words"),
        ("truth.yaml", b"cause: leak"),
        ("expected/verdict.json", b"{\"verdict\":1}"),
        (".hidden", b"?"),
        ("empty", b""),
        ("other.json", b"{\"a\":1}\n{\"b\":2}\n"),
        ("notes", b"plain words"),
    ]);
    let expected = "not recognised: expected OTLP, Kubernetes objects, a kernel log or cgroup samples";
    assert_eq!(
        problems(&folder.read(1)),
        [format!("notes: {expected}"), format!("other.json:1: {expected}")]
    );
    let named = read(&[folder.0.join("README.md")], &ReadOptions::default(), &NoProgress).expect("readable");
    assert_eq!(problems(&named).len(), 1);
}

#[test]
fn a_cgroup_sample_and_a_span_may_share_a_file() {
    let sample = r#"{"time":"2026-11-22T10:00:00Z","usage":5,"procs":[]}"#;
    let text = format!("{sample}\n{}\n{sample}\n", document(1));
    let observations = Folder::new(&[("mixed", text.as_bytes())]).read(1);
    assert_eq!(problems(&observations), Vec::<String>::new());
    assert_eq!((observations.cgroup_samples.len(), observations.traces.spans.len()), (2, 1));
}

#[test]
fn links_that_lead_back_are_followed_once() {
    let folder = Folder::new(&[("a/traces.jsonl", document(1).as_bytes())]);
    std::os::unix::fs::symlink(&folder.0, folder.0.join("a/back")).expect("a link");
    std::os::unix::fs::symlink("nowhere", folder.0.join("broken")).expect("a link");
    let observations = folder.read(1);
    assert_eq!(times(&observations), [1]);
    assert!(problems(&observations)[0].starts_with("broken: cannot open: "), "{:?}", problems(&observations));
}

#[test]
fn what_is_named_must_exist() {
    let missing = Path::new("no/such/file").to_owned();
    let error = read(&[missing], &ReadOptions::default(), &NoProgress).expect_err("nothing there");
    let ReadError::Open { ref source, .. } = error;
    assert_eq!(error.to_string(), "cannot open no/such/file");
    assert_eq!(source.kind(), std::io::ErrorKind::NotFound);
}

#[test]
fn progress_reaches_its_total() {
    #[derive(Default)]
    struct Counter(AtomicU64, AtomicU64);
    impl Progress for Counter {
        fn total(&self, bytes: u64) {
            self.0.store(bytes, Ordering::Relaxed);
        }
        fn advance(&self, bytes: u64) {
            self.1.fetch_add(bytes, Ordering::Relaxed);
        }
    }
    let text = (1..=MANY).map(|time| document(time) + "\n").collect::<String>();
    let folder = Folder::new(&[("a.jsonl", text.as_bytes()), ("b.gz", &gzip(text.as_bytes()))]);
    let counter = Counter::default();
    read(std::slice::from_ref(&folder.0), &ReadOptions::default(), &counter).expect("readable");
    assert_eq!(counter.0.into_inner(), counter.1.into_inner());
}
