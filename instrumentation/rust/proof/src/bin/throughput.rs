//! Throughput and processor time a request of one service, four ways, in turns: without instrumentation, with the article's
//! two reads, with plain OpenTelemetry tracing, and with exit137. Load comes from `wrk`.
//!
//! `throughput --rounds 5 --seconds 4 --path /work`; `--network no` leaves the load out, and calls the service as hyper would.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use proof::{argument, number, processor_nanos};

/// Name, program, arguments.
const WAYS: [(&str, &str, &[&str]); 5] = [
    ("none", "plain", &["--mode", "none"]),
    ("article", "plain", &["--mode", "article"]),
    ("plain OpenTelemetry", "plain", &["--mode", "otel"]),
    ("allocator alone, plain OpenTelemetry", "counted", &["--layer", "no"]),
    ("exit137", "counted", &[]),
];

fn start(program: &str, arguments: &[&str]) -> std::io::Result<(Child, u16)> {
    let journal = std::env::temp_dir().join(format!("exit137-throughput-{}", std::process::id()));
    let program = std::env::current_exe()?.with_file_name(program);
    let mut child =
        Command::new(program).args(arguments).arg("--journal").arg(journal).stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout).read_line(&mut line)?;
    }
    Ok((child, line.trim().parse().unwrap_or(0)))
}

/// Processor nanoseconds a request without a network: the least that a process of each way needed, in turns.
fn without_network(path: &str, turns: u64) -> std::io::Result<()> {
    let mut least = [f64::INFINITY; WAYS.len()];
    for _ in 0..turns {
        for (way, least) in WAYS.iter().zip(&mut least) {
            let journal = std::env::temp_dir().join(format!("exit137-in-process-{}", std::process::id()));
            let program = std::env::current_exe()?.with_file_name(way.1);
            let mut command = Command::new(program);
            command.args(way.2).args(["--path", path, "--rounds", "5", "--journal"]).arg(journal);
            let text = String::from_utf8_lossy(&command.output()?.stdout).into_owned();
            *least = least.min(text.trim().parse().unwrap_or(f64::INFINITY));
        }
    }
    for (way, nanos) in WAYS.iter().zip(least) {
        println!("{path} without a network: {:<38} {nanos:>7.0} ns of processor time a request", way.0);
    }
    let [none, article, otel, _, ours] = least;
    println!(
        "{path} without a network: the article adds {:.0} ns, exit137 to plain OpenTelemetry {:.0} ns: 1/{:.1}",
        article - none,
        ours - otel,
        (article - none) / (ours - otel)
    );
    Ok(())
}

/// Requests a second and processor microseconds a request.
fn measure(way: &(&str, &str, &[&str]), seconds: u64, path: &str) -> std::io::Result<(f64, f64)> {
    let (mut child, port) = start(way.1, way.2)?;
    let load = |seconds: u64| -> std::io::Result<(f64, f64)> {
        let url = format!("http://127.0.0.1:{port}{path}");
        let output = Command::new("wrk").args(["-t1", "-c32", &format!("-d{seconds}s"), &url]).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let count = text.lines().find_map(|line| line.trim().split_once(" requests in "));
        let rate = text.lines().find_map(|line| line.strip_prefix("Requests/sec:"));
        let number =
            |text: Option<&str>| text.and_then(|text| text.trim().parse::<f64>().ok()).unwrap_or(0.0);
        Ok((number(count.map(|(count, _)| count)), number(rate)))
    };
    load(1)?;
    let before = processor_nanos(child.id());
    let (count, rate) = load(seconds)?;
    let spent = processor_nanos(child.id()) - before;
    child.kill()?;
    child.wait()?;
    Ok((rate, spent as f64 / 1000.0 / count.max(1.0)))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() -> std::io::Result<()> {
    let (rounds, seconds) = (number("--rounds", 5), number("--seconds", 4));
    let path = argument("--path").unwrap_or_else(|| "/work".to_owned());
    without_network(&path, rounds)?;
    if argument("--network").as_deref() == Some("no") {
        return Ok(());
    }
    let mut results: BTreeMap<&str, Vec<(f64, f64)>> = BTreeMap::new();
    for _ in 0..rounds {
        for way in &WAYS {
            results.entry(way.0).or_default().push(measure(way, seconds, &path)?);
        }
    }
    let mut cost = BTreeMap::new();
    for (name, ..) in &WAYS {
        let all = &results[name];
        let rates = median(all.iter().map(|(rate, _)| *rate).collect());
        let micros: Vec<f64> = all.iter().map(|(_, micros)| *micros).collect();
        let least = micros.iter().copied().fold(f64::INFINITY, f64::min);
        println!(
            "{name:<38} {rates:>9.0} requests/s (median)   processor {:.2} µs a request (median), {least:.2} (least)",
            median(micros.clone())
        );
        cost.insert(*name, (median(micros), least, rates));
    }
    let (none, article, otel, ours) =
        (cost["none"], cost["article"], cost["plain OpenTelemetry"], cost["exit137"]);
    println!(
        "the article adds {:.2} µs, exit137 to plain OpenTelemetry {:.2} µs (medians); {:.2} and {:.2} (least)",
        article.0 - none.0,
        ours.0 - otel.0,
        article.1 - none.1,
        ours.1 - otel.1
    );
    println!(
        "throughput against plain OpenTelemetry: {:+.1} %; processor time: {:+.1} %",
        (ours.2 / otel.2 - 1.0) * 100.0,
        (ours.0 / otel.0 - 1.0) * 100.0
    );
    Ok(())
}
