//! How fast, and in how little memory, the whole program explains a kill from a large recording: it reads, it
//! diagnoses, it prints. Beside it, in the same run, `serde_json` only parses the same file into values.
//!
//! ```text
//! cargo bench -p exit137 --bench whole                 # 1 GiB of OTLP/JSON: plain, gzip, zstd
//! cargo bench -p exit137 --bench whole -- spans        # 10 million spans and 24 h of metrics, as protobuf
//! BENCH_MIB=256 BENCH_SPANS=1000000 BENCH_RUNS=3 BENCH_DIR=DIR BENCH_KEEP=1 …
//! ```
//!
//! Ends with an error when a bar is missed: 3 s and 512 MiB for the gibibyte, 10 s for the ten million spans. On a
//! machine that others use too, the processor time says more than the clock.

mod json;
mod measure;
mod proto;
mod recording;
mod shop;

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use measure::{Run, run};
use recording::{Encoding, record};
use shop::HOUR;

pub(crate) type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Of reading and diagnosing a gibibyte.
const SECONDS_MAX: f64 = 3.0;
const MIB_MAX: u64 = 512;

/// Of a diagnosis of ten million spans.
const SPANS_SECONDS_MAX: f64 = 10.0;

/// Spans of a trace, as [`shop`] makes them, take about this much as JSON.
const TRACE_JSON_BYTES: u64 = 4_600;

fn main() -> Outcome<()> {
    // `cargo bench` adds a flag of its own.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["values", path] => measure::parse_into_values(Path::new(path)),
        ["spans"] => spans(),
        [] => gibibyte(),
        other => Err(format!("expected nothing or `spans`, found {other:?}").into()),
    }
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// A folder that goes when the measurement ends, unless it shall be kept.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> io::Result<Self> {
        let parent = std::env::var_os("BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        let path = parent.join(format!("exit137-bench-{}-{name}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if std::env::var_os("BENCH_KEEP").is_some() {
            println!("kept {}", self.0.display());
        } else {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

fn gibibyte() -> Outcome<()> {
    let bytes = setting("BENCH_MIB", 1024) << 20;
    let plain = Folder::new("plain")?;
    let path = plain.0.join("telemetry.jsonl");
    let spans = record(&plain.0, &path, Encoding::Json, bytes.div_ceil(TRACE_JSON_BYTES), 2 * HOUR)?;
    let written = fs::metadata(&path)?.len();
    println!("{} MiB of OTLP/JSON, {spans} spans, {} B a span", written >> 20, written / spans.max(1));
    let (gzip, zstd) = (Folder::new("gzip")?, Folder::new("zstd")?);
    compress(&plain.0, &gzip.0, |out| {
        Ok(flate2::write::GzEncoder::new(out, flate2::Compression::default()))
    })?;
    compress(&plain.0, &zstd.0, |out| Ok(zstd::Encoder::new(out, 3)?.auto_finish()))?;
    let mut missed = Vec::new();
    for (what, folder) in [("plain", &plain), ("gzip", &gzip), ("zstd", &zstd)] {
        let best = best_run(what, &folder.0)?;
        let too_slow = what == "plain" && best.seconds > SECONDS_MAX;
        if too_slow || best.peak_mib > MIB_MAX {
            missed.push(format!("{what}: {best}"));
        }
    }
    measure::values_in_own_process(&path)?;
    if missed.is_empty() { Ok(()) } else { Err(format!("bar missed: {}", missed.join("; ")).into()) }
}

fn spans() -> Outcome<()> {
    let spans = setting("BENCH_SPANS", 10_000_000);
    let folder = Folder::new("spans")?;
    let path = folder.0.join("telemetry.pb");
    let traces = spans.div_ceil(shop::SPANS_A_TRACE);
    let spans = record(&folder.0, &path, Encoding::Proto, traces, 24 * HOUR)?;
    println!("{} MiB of OTLP/protobuf, {spans} spans, 24 h of metrics", fs::metadata(&path)?.len() >> 20);
    let best = best_run("protobuf", &folder.0)?;
    if best.seconds > SPANS_SECONDS_MAX {
        return Err(format!("bar missed: {best}").into());
    }
    Ok(())
}

/// The fastest of some runs: what is slower was disturbed.
fn best_run(what: &str, folder: &Path) -> Outcome<Run> {
    let mut best: Option<Run> = None;
    for _ in 0..setting("BENCH_RUNS", 2).max(1) {
        let run = run(folder)?;
        println!("exit137 diagnose, {what}: {run}");
        if best.as_ref().is_none_or(|best| run.seconds < best.seconds) {
            best = Some(run);
        }
    }
    best.ok_or_else(|| "nothing was run".into())
}

/// Copies a folder, its telemetry compressed.
fn compress<W: Write>(
    from: &Path,
    to: &Path,
    encoder: impl Fn(BufWriter<File>) -> io::Result<W>,
) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let target = to.join(path.file_name().unwrap_or_default());
        if path.extension().is_some_and(|extension| extension == "jsonl") {
            let mut out = encoder(BufWriter::new(File::create(target)?))?;
            io::copy(&mut BufReader::with_capacity(1 << 20, File::open(path)?), &mut out)?;
            out.flush()?;
        } else {
            fs::copy(path, target)?;
        }
    }
    Ok(())
}
