//! Fills `corpus/` with seeds made from the recorded kills in `cases/`: each format in small pieces, in all the
//! styles that the decoders know.
//!
//! ```text
//! cargo run --manifest-path fuzz/Cargo.toml --example seeds
//! ```

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use opentelemetry_proto::tonic::metrics::v1::MetricsData;
use opentelemetry_proto::tonic::trace::v1::TracesData;
use prost::Message;
use serde_json::Value;

/// Larger seeds make every run slow and say nothing more.
const SEED_BYTES_MAX: usize = 24 << 10;

/// Lines taken from each file of many.
const LINES_TAKEN: usize = 12;

/// As `fuzz_targets/pipe.rs` splits its input.
const SEPARATOR: &[u8] = b"\x00--next file--\x00";

fn main() -> io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let corpus = Corpus { root: root.join("corpus") };
    let mut cases: Vec<PathBuf> =
        fs::read_dir(root.join("../cases"))?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    cases.sort();
    for case in cases.iter().filter(|case| case.is_dir()) {
        let mut pipe = Vec::new();
        for path in files(case)? {
            let content = content(&path)?;
            let name = path.strip_prefix(case).unwrap_or(&path).to_string_lossy().into_owned();
            let piece = if name.contains("traces") || name.contains("metrics") {
                otlp(&corpus, &content)?
            } else if name.contains("samples.jsonl") {
                cgroup(&corpus, &content)?
            } else if name.contains("kmsg") || name.contains("btime") || name.contains("clock") {
                kernel(&corpus, &content)?
            } else if name.contains(".json") && !name.starts_with("expected") {
                kubernetes(&corpus, &content)?
            } else {
                continue;
            };
            if !pipe.is_empty() {
                pipe.extend_from_slice(SEPARATOR);
            }
            pipe.extend_from_slice(&piece);
        }
        corpus.add("pipe", &pipe)?;
    }
    // What the fuzzer of the crate that specifies journals has found worth keeping.
    for journal in files(&root.join("../instrumentation/rust/journal/fuzz/corpus"))? {
        corpus.add_file("journal", &fs::read(journal)?)?;
    }
    Ok(())
}

struct Corpus {
    root: PathBuf,
}

impl Corpus {
    fn add(&self, target: &str, seed: &[u8]) -> io::Result<()> {
        let folder = self.root.join(target);
        fs::create_dir_all(&folder)?;
        let mut hasher = DefaultHasher::new();
        seed.hash(&mut hasher);
        fs::write(folder.join(format!("seed-{:016x}", hasher.finish())), seed)
    }

    /// A seed of a decoder is one of `read` too, where it may be compressed.
    fn add_file(&self, target: &str, seed: &[u8]) -> io::Result<()> {
        self.add(target, seed)?;
        self.add("read", seed)?;
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(seed)?;
        let gzip = gzip.finish()?;
        let zstd = zstd::encode_all(seed, 3)?;
        // One in four is enough of each: compressed bytes mutate into nothing but errors.
        match seed.len() % 4 {
            0 => self.add("read", &gzip),
            1 => self.add("read", &zstd),
            2 => self.add("read", &zstd::encode_all(&gzip[..], 3)?),
            _ => Ok(()),
        }
    }
}

fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut entries: Vec<PathBuf> =
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    entries.sort();
    for path in entries {
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    Ok(found)
}

fn content(path: &Path) -> io::Result<Vec<u8>> {
    let bytes = fs::read(path)?;
    if path.extension().is_some_and(|extension| extension == "zst") {
        return zstd::decode_all(&bytes[..]);
    }
    let mut plain = Vec::new();
    bytes.as_slice().read_to_end(&mut plain)?;
    Ok(plain)
}

/// Some lines from all over the file.
fn some_lines(content: &[u8], count: usize) -> impl Iterator<Item = &[u8]> {
    let lines: Vec<&[u8]> = content.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
    let step = lines.len().div_ceil(count).max(1);
    lines.into_iter().step_by(step)
}

fn otlp(corpus: &Corpus, content: &[u8]) -> io::Result<Vec<u8>> {
    let mut piece = Vec::new();
    for line in some_lines(content, LINES_TAKEN) {
        let (json, proto) = if let Some(mut traces) = parse::<TracesData>(line, "resourceSpans") {
            for scope in traces.resource_spans.iter_mut().flat_map(|resource| &mut resource.scope_spans) {
                scope.spans.truncate(3);
            }
            corpus.add("otlp_agree", &traces.encode_to_vec())?;
            (serde_json::to_vec(&traces)?, traces.encode_to_vec())
        } else if let Some(mut metrics) = parse::<MetricsData>(line, "resourceMetrics") {
            metrics.resource_metrics.truncate(4);
            (serde_json::to_vec(&metrics)?, metrics.encode_to_vec())
        } else {
            continue;
        };
        if json.len() > SEED_BYTES_MAX {
            continue;
        }
        corpus.add_file("otlp_json", &json)?;
        let mut framed = (proto.len() as u32).to_be_bytes().to_vec();
        framed.extend_from_slice(&proto);
        corpus.add("otlp_proto", &proto)?;
        // The first byte tells signal and encoding: spans, then metrics.
        for (as_proto, as_json) in [(0_u8, 0x81_u8), (1, 0x82)] {
            corpus.add("split", &[&[as_proto][..], &proto].concat())?;
            corpus.add("split", &[&[as_json][..], &json].concat())?;
        }
        corpus.add_file("otlp_proto", &framed)?;
        piece.extend_from_slice(&json);
        piece.push(b'\n');
    }
    corpus.add_file("otlp_json", &piece[..piece.len().min(SEED_BYTES_MAX)])?;
    Ok(piece)
}

fn parse<T: serde::de::DeserializeOwned>(line: &[u8], key: &str) -> Option<T> {
    let value: Value = serde_json::from_slice(line).ok()?;
    value.get(key)?;
    serde_json::from_value(value).ok()
}

fn cgroup(corpus: &Corpus, content: &[u8]) -> io::Result<Vec<u8>> {
    let mut piece = Vec::new();
    for line in some_lines(content, 4 * LINES_TAKEN) {
        corpus.add("cgroup", line)?;
        piece.extend_from_slice(line);
        piece.push(b'\n');
    }
    corpus.add("read", &piece)?;
    Ok(piece)
}

fn kubernetes(corpus: &Corpus, content: &[u8]) -> io::Result<Vec<u8>> {
    let mut piece = Vec::new();
    for document in serde_json::Deserializer::from_slice(content).into_iter::<Value>().step_by(5) {
        let document = document?;
        let json = serde_json::to_vec(&document)?;
        if json.len() > SEED_BYTES_MAX {
            continue;
        }
        corpus.add_file("kubernetes_json", &json)?;
        let mut yaml = String::from("---");
        block(&document, 0, &mut yaml);
        corpus.add_file("kubernetes_yaml", yaml.as_bytes())?;
        if piece.len() < 2 * SEED_BYTES_MAX {
            piece.extend_from_slice(&json);
            piece.push(b'\n');
        }
    }
    Ok(piece)
}

/// `value` as YAML in block style; strings in quotes stay what they are.
fn block(value: &Value, depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                out.push_str(&format!("\n{indent}{key}:"));
                block(value, depth + 1, out);
            }
        }
        Value::Array(list) if !list.is_empty() => {
            for value in list {
                out.push_str(&format!("\n{indent}-"));
                block(value, depth + 1, out);
            }
        }
        scalar => out.push_str(&format!(" {scalar}")),
    }
}

/// Pieces around the OOM reports, in every style a kernel log comes in.
fn kernel(corpus: &Corpus, content: &[u8]) -> io::Result<Vec<u8>> {
    let text = String::from_utf8_lossy(content);
    let lines: Vec<&str> = text.lines().collect();
    let mut piece = String::new();
    let starts = lines.iter().enumerate().filter(|(_, line)| line.contains("invoked oom-killer"));
    for (start, _) in starts.take(8) {
        let report = &lines[start..lines.len().min(start + 80)];
        corpus.add_file("kernel_log", report.join("\n").as_bytes())?;
        for style in [plain, readable, iso, journal, syslog] {
            let styled: Vec<String> = report.iter().map(|line| style(line)).collect();
            corpus.add_file("kernel_log", styled.join("\n").as_bytes())?;
        }
        piece.push_str(&report.join("\n"));
        piece.push('\n');
    }
    if piece.is_empty() {
        piece = lines[..lines.len().min(50)].join("\n");
        corpus.add_file("kernel_log", piece.as_bytes())?;
    }
    Ok(piece.into_bytes())
}

/// Microseconds since boot and the message of a line as `/dev/kmsg` has it.
fn record(line: &str) -> (u64, &str) {
    let Some((head, message)) = line.split_once(';') else { return (0, line) };
    (head.split(',').nth(2).and_then(|micros| micros.parse().ok()).unwrap_or_default(), message)
}

fn plain(line: &str) -> String {
    let (micros, message) = record(line);
    format!("[{:5}.{:06}] {message}", micros / 1_000_000, micros % 1_000_000)
}

fn readable(line: &str) -> String {
    format!("[Sun Nov 22 08:53:{:02} 2026] {}", record(line).0 / 1_000_000 % 60, record(line).1)
}

fn iso(line: &str) -> String {
    format!("2026-11-22T08:53:{:02},904000+00:00 {}", record(line).0 / 1_000_000 % 60, record(line).1)
}

fn journal(line: &str) -> String {
    let (micros, message) = record(line);
    let entry = serde_json::json!({
        "MESSAGE": message,
        "_TRANSPORT": "kernel",
        "__REALTIME_TIMESTAMP": (1_795_337_609_000_000 + micros).to_string(),
        "_SOURCE_MONOTONIC_TIMESTAMP": micros.to_string(),
        "_HOSTNAME": "node-3",
        "PRIORITY": "6",
        "SYSLOG_IDENTIFIER": "kernel",
    });
    entry.to_string()
}

fn syslog(line: &str) -> String {
    let (micros, message) = record(line);
    let second = micros / 1_000_000 % 60;
    format!(
        "Nov 22 08:53:{second:02} node-3 kernel: [{:5}.{:06}] {message}",
        micros / 1_000_000,
        micros % 1_000_000
    )
}
