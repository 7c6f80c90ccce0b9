//! How fast, and in how little memory, a large OTLP/JSON file is read; beside it `serde_json`, which any reader
//! of such files would otherwise use.
//!
//! ```text
//! cargo bench -p exit137-sources                          # 1 GiB
//! BENCH_MIB=256 BENCH_THREADS=1 cargo bench -p exit137-sources
//! target/release/deps/read-… read PATH…                   # what is read from any files
//! ```
//!
//! Each measurement is a process of its own, so that the peaks of memory are told apart.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use exit137_sources::{NoProgress, ReadOptions, read};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("read") => measure_read(&arguments[1..]),
        Some("serde") => measure_serde(&arguments[1..]),
        _ => measure_all(),
    }
}

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn measure_all() -> Outcome<()> {
    let mib = setting("BENCH_MIB", 1024);
    let folder = std::env::temp_dir().join(format!("exit137-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let path = folder.join("telemetry.jsonl");
    let spans = generate(&path, (mib as u64) << 20)?;
    let bytes = std::fs::metadata(&path)?.len();
    println!("{} MiB, {spans} spans, {} B a span", bytes >> 20, bytes / spans.max(1));
    let program = std::env::current_exe()?;
    if std::env::var_os("BENCH_KEEP").is_some() {
        println!("kept {}", path.display());
        return Ok(());
    }
    let result = ["read", "read", "serde"].into_iter().try_for_each(|what| -> Outcome<()> {
        let status = Command::new(&program).arg(what).arg(&path).status()?;
        if status.success() { Ok(()) } else { Err(format!("{what}: {status}").into()) }
    });
    std::fs::remove_dir_all(&folder)?;
    result
}

fn report(what: &str, started: Instant, bytes: u64) {
    let seconds = started.elapsed().as_secs_f64();
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("unknown").trim();
    println!(
        "{what}: {seconds:.2} s ({:.2} s of processor time), {:.0} MB/s, peak {peak}",
        processor_seconds().unwrap_or_default(),
        bytes as f64 / 1e6 / seconds
    );
}

/// Of all threads, in user and kernel mode. On a machine that others use too it says more than the clock.
fn processor_seconds() -> Option<f64> {
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The program's name, in parentheses, may contain anything; `utime` is the twelfth field after it.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / TICKS_PER_SECOND)
}

fn measure_read(paths: &[String]) -> Outcome<()> {
    let paths: Vec<PathBuf> = paths.iter().map(PathBuf::from).collect();
    let bytes = paths.iter().filter_map(|path| std::fs::metadata(path).ok()).map(|file| file.len()).sum();
    let options = ReadOptions { threads: setting("BENCH_THREADS", 0) };
    let started = Instant::now();
    let observations = read(&paths, &options, &NoProgress)?;
    report("exit137 read", started, bytes);
    println!(
        "  {} spans, {} attributes, {} strings, {} resources, {} series, {} points, {} distributions, {} logs, {} samples",
        observations.traces.spans.len(),
        observations.traces.attributes.len(),
        observations.symbols.len(),
        observations.resources.len(),
        observations.metrics.series.len(),
        observations.metrics.series.iter().map(|series| series.points.len()).sum::<usize>(),
        observations.metrics.distributions.iter().map(|series| series.points.len()).sum::<usize>(),
        observations.logs.len(),
        observations.cgroup_samples.len(),
    );
    for problem in observations.problems.list().iter().take(20) {
        println!("  {}: {}", problem.source, problem.message);
    }
    Ok(())
}

fn measure_serde(paths: &[String]) -> Outcome<()> {
    let started = Instant::now();
    let (mut bytes, mut spans) = (0, 0);
    for path in paths {
        let mut reader = BufReader::with_capacity(1 << 20, File::open(path)?);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line)? > 0 {
            bytes += line.len() as u64;
            let value: serde_json::Value = serde_json::from_slice(&line)?;
            spans += count_spans(&value);
            line.clear();
        }
    }
    report("serde_json::Value, one thread", started, bytes);
    println!("  {spans} spans");
    Ok(())
}

fn count_spans(document: &serde_json::Value) -> usize {
    let none = Vec::new();
    let mut spans = 0;
    for resource in document["resourceSpans"].as_array().unwrap_or(&none) {
        for scope in resource["scopeSpans"].as_array().unwrap_or(&none) {
            spans += scope["spans"].as_array().map_or(0, Vec::len);
        }
    }
    spans
}

/// The same numbers in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.roll() % bound
    }
}

const PODS: u64 = 12;
const ROUTES: &[&str] =
    &["/", "/cart", "/products/{id}", "/orders/{id}/items", "/search", "/export", "/login"];
const SPANS_PER_LINE: u64 = 256;
const START: u64 = 1_795_340_000_000_000_000;

/// Writes batches of spans, and now and then one of metrics; tells how many spans.
fn generate(path: &Path, bytes: u64) -> Outcome<u64> {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let mut dice = Dice(137);
    let (mut written, mut spans, mut now) = (0, 0, START);
    while written < bytes {
        let pod = dice.below(PODS);
        now += 50_000_000;
        let line =
            if dice.below(10) == 0 { metrics(pod, now, &mut dice) } else { traces(pod, now, &mut dice) };
        spans += if line.starts_with("{\"resourceSpans") { SPANS_PER_LINE } else { 0 };
        written += line.len() as u64;
        out.write_all(line.as_bytes())?;
    }
    out.flush()?;
    Ok(spans)
}

fn text(key: &str, value: &str) -> String {
    format!(r#"{{"key":"{key}","value":{{"stringValue":"{value}"}}}}"#)
}

fn int(key: &str, value: u64) -> String {
    format!(r#"{{"key":"{key}","value":{{"intValue":"{value}"}}}}"#)
}

fn resource(pod: u64) -> String {
    let attributes = [
        text("telemetry.sdk.language", "python"),
        text("telemetry.sdk.name", "opentelemetry"),
        text("telemetry.sdk.version", "1.45.1"),
        text("service.instance.id", &format!("20f96e4a-699f-4e1e-a8d9-6a1a3876{pod:04}")),
        text("service.version", "2.3.1"),
        text("service.namespace", "shop"),
        text("deployment.environment.name", "production"),
        text("k8s.namespace.name", "shop"),
        text("k8s.pod.name", &format!("catalog-api-b6dgpjc8-{pod:05}")),
        text("k8s.pod.uid", &format!("bebafea1-eb56-4b3e-bb34-7ce2f19a{pod:04}")),
        text("k8s.node.name", "ip-10-0-59-71.eu-central-1.compute.internal"),
        text("k8s.container.name", "catalog-api"),
        text("k8s.deployment.name", "catalog-api"),
        text("service.name", "catalog-api"),
    ];
    format!(r#"{{"attributes":[{}]}}"#, attributes.join(","))
}

fn traces(pod: u64, now: u64, dice: &mut Dice) -> String {
    let spans: Vec<String> = (0..SPANS_PER_LINE).map(|_| span(now, dice)).collect();
    format!(
        r#"{{"resourceSpans":[{{"resource":{},"scopeSpans":[{{"scope":{{"name":"opentelemetry.instrumentation.flask","version":"0.66b1"}},"spans":[{}]}}]}}]}}
"#,
        resource(pod),
        spans.join(",")
    )
}

fn span(now: u64, dice: &mut Dice) -> String {
    let start = now + dice.below(50_000_000);
    let route = ROUTES[dice.below(ROUTES.len() as u64) as usize];
    let status = if dice.below(100) == 0 { 500 } else { 200 };
    let id = dice.below(1_000_000);
    let path = route.replace("{id}", &id.to_string());
    let attributes = [
        text("http.request.method", "GET"),
        text("url.scheme", "http"),
        text("url.path", &path),
        text("url.full", &format!("http://catalog-api.shop.svc.cluster.local:8080{path}?page={}", id % 50)),
        text("http.route", route),
        int("http.response.status_code", status),
        text("server.address", "catalog-api.shop.svc.cluster.local"),
        int("server.port", 8080),
        text("client.address", "10.0.17.23"),
        int("client.port", 30_000 + dice.below(30_000)),
        text("network.protocol.version", "1.1"),
        text("user_agent.original", "python-requests/2.32.3"),
    ];
    let kind = 2 + dice.below(2);
    format!(
        r#"{{"traceId":"{:016x}{:016x}","spanId":"{:016x}","parentSpanId":"{:016x}","name":"GET {route}","kind":{kind},"startTimeUnixNano":"{start}","endTimeUnixNano":"{}","attributes":[{}],"status":{{}},"flags":256}}"#,
        dice.roll(),
        dice.roll(),
        dice.roll(),
        dice.roll(),
        start + 1_000_000 + dice.below(200_000_000),
        attributes.join(",")
    )
}

fn metrics(pod: u64, now: u64, dice: &mut Dice) -> String {
    let names = [
        "container.memory.available",
        "container.memory.usage",
        "container.memory.working_set",
        "container.memory.rss",
        "container.memory.page_faults",
        "process.cpu.time",
        "system.network.io",
    ];
    let metrics: Vec<String> = names
        .iter()
        .map(|name| {
            let value = dice.below(200_000_000);
            format!(
                r#"{{"name":"{name}","unit":"By","gauge":{{"dataPoints":[{{"startTimeUnixNano":"{START}","timeUnixNano":"{now}","asInt":"{value}"}}]}}}}"#
            )
        })
        .collect();
    format!(
        r#"{{"resourceMetrics":[{{"resource":{},"scopeMetrics":[{{"scope":{{"name":"kubeletstatsreceiver"}},"metrics":[{}]}}]}}]}}
"#,
        resource(pod),
        metrics.join(",")
    )
}
