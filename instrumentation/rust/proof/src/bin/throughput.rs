//! Throughput and processor time a request of one service, six ways: without instrumentation, with the article's two reads,
//! with plain OpenTelemetry tracing, with the counting allocator besides, with each request measured besides (journal, allocator and
//! counts, as the article's reads measure it: nothing of it goes out), and with exit137 as it is meant to be. Load comes from `wrk`; spans go as
//! OTLP over a socket to a receiver that counts them.
//!
//! A machine is never quiet. So all ways run side by side and are asked in turns, a second each, and again in the opposite
//! order, so that a machine that grows slower is slower for all. Each turn's results are
//! compared with those of plain OpenTelemetry in the same turn, and what is told is the median of these comparisons. All
//! processes are started anew for each round, because a process is as fast as its memory lies.
//!
//! `throughput --rounds 5 --turns 6 --seconds 1 --path /work`; `--network no` leaves the load out, and calls the service as
//! hyper would.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use proof::sink::{Count, Sink};
use proof::{argument, number, orders, processor_nanos};

/// Name, program, arguments.
const WAYS: [(&str, &str, &[&str]); 6] = [
    ("none", "plain", &["--mode", "none"]),
    ("article", "plain", &["--mode", "article"]),
    ("plain OpenTelemetry", "plain", &["--mode", "otel"]),
    ("plain OpenTelemetry, counting allocator", "counted", &["--layer", "no"]),
    ("plain OpenTelemetry, measured requests", "counted", &["--layer", "alone"]),
    ("exit137", "counted", &[]),
];
const NONE: usize = 0;
const ARTICLE: usize = 1;
const PLAIN: usize = 2;
const ALLOCATOR: usize = 3;
const MEASURED: usize = 4;
const OURS: usize = 5;

/// Who is asked in a turn, forwards in one and backwards in the next.
const ORDER: [usize; 12] =
    [NONE, ARTICLE, ARTICLE, NONE, ALLOCATOR, MEASURED, PLAIN, OURS, OURS, PLAIN, MEASURED, ALLOCATOR];

/// Connections that ask at once.
const CONNECTIONS: &str = "-c32";

fn program(name: &str) -> std::io::Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name(name))
}

fn journal(way: usize) -> PathBuf {
    std::env::temp_dir().join(format!("exit137-throughput-{}-{way}", std::process::id()))
}

/// Processor nanoseconds a request without a network: the least that a process of each way needed, in turns.
fn without_network(path: &str, turns: u64) -> std::io::Result<()> {
    let mut least = [f64::INFINITY; WAYS.len()];
    for _ in 0..turns {
        for (number, (way, least)) in WAYS.iter().zip(&mut least).enumerate() {
            let mut command = Command::new(program(way.1)?);
            command.args(way.2).args(["--path", path, "--rounds", "5", "--journal"]).arg(journal(number));
            let text = String::from_utf8_lossy(&command.output()?.stdout).into_owned();
            *least = least.min(text.trim().parse().unwrap_or(f64::INFINITY));
        }
    }
    for (way, nanos) in WAYS.iter().zip(least) {
        println!("{path} without a network: {:<40} {nanos:>7.0} ns of processor time a request", way.0);
    }
    println!(
        "{path} without a network: the article adds {:.0} ns; to plain OpenTelemetry measuring adds {:.0} ns, exit137 {:.0} ns",
        least[ARTICLE] - least[NONE],
        least[MEASURED] - least[PLAIN],
        least[OURS] - least[PLAIN],
    );
    Ok(())
}

/// One way's process, killed when this is dropped.
struct Service {
    child: Child,
    port: u16,
}

impl Service {
    fn start(number: usize, collector: u16, store: u16) -> std::io::Result<Self> {
        let way = &WAYS[number];
        let mut child = Command::new(program(way.1)?)
            .args(way.2)
            .args(["--collector", &collector.to_string(), "--store", &store.to_string(), "--journal"])
            .arg(journal(number))
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        Ok(Self { child, port: line.trim().parse().unwrap_or(0) })
    }

    /// Asks for some seconds.
    fn load(&self, path: &str, seconds: &str) -> std::io::Result<Turn> {
        let before = processor_nanos(self.child.id());
        let url = format!("http://127.0.0.1:{}{path}", self.port);
        let output =
            Command::new("wrk").args(["-t1", CONNECTIONS, &format!("-d{seconds}"), &url]).output()?;
        let spent = processor_nanos(self.child.id()).saturating_sub(before);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() || text.contains("Non-2xx") {
            return Err(std::io::Error::other(format!("wrk on {url}: {text}")));
        }
        let count = text.lines().find_map(|line| line.trim().split_once(" requests in "));
        let rate = text.lines().find_map(|line| line.strip_prefix("Requests/sec:"));
        let number =
            |text: Option<&str>| text.and_then(|text| text.trim().parse::<f64>().ok()).unwrap_or(0.0);
        let requests = number(count.map(|(count, _)| count));
        Ok(Turn { requests, rate: number(rate), micros: spent as f64 / 1000.0 / requests.max(1.0) })
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What one way did in one turn: requests, requests a second, processor microseconds a request.
#[derive(Debug, Clone, Copy, Default)]
struct Turn {
    requests: f64,
    rate: f64,
    micros: f64,
}

impl Turn {
    /// Both together, of the same length.
    fn and(self, next: Self) -> Self {
        if self.requests == 0.0 {
            return next;
        }
        let requests = self.requests + next.requests;
        let micros = (self.micros * self.requests + next.micros * next.requests) / requests;
        Self { requests, rate: f64::midpoint(self.rate, next.rate), micros }
    }
}

/// The value that a share of the others is below.
fn quantile(mut values: Vec<f64>, share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(((values.len().max(1) - 1) as f64 * share).round() as usize).copied().unwrap_or(f64::NAN)
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    quantile(values.collect(), 0.5)
}

/// A median, and the two quartiles around it.
fn spread(values: impl Iterator<Item = f64>, unit: &str) -> String {
    let values: Vec<f64> = values.collect();
    let [low, middle, high] = [0.25, 0.5, 0.75].map(|share| quantile(values.clone(), share));
    format!("{middle:+.2} {unit} ({low:+.2} to {high:+.2})")
}

type Turns = Vec<[Turn; WAYS.len()]>;

fn with_network(path: &str) -> std::io::Result<()> {
    let seconds = format!("{}s", number("--seconds", 1));
    let store = orders::start_store()?;
    let sinks = WAYS.iter().map(|_| Sink::start()).collect::<Result<Vec<_>, _>>()?;
    let (mut turns, mut all): (Turns, [f64; WAYS.len()]) = (Vec::new(), [0.0; WAYS.len()]);
    for _ in 0..number("--rounds", 5) {
        let start = |(number, sink): (usize, &Sink)| Service::start(number, sink.port, store);
        let services = sinks.iter().enumerate().map(start).collect::<Result<Vec<_>, _>>()?;
        for (way, service) in services.iter().enumerate() {
            all[way] += service.load(path, "1s")?.requests;
        }
        for turn in 0..number("--turns", 6) {
            let mut row = [Turn::default(); WAYS.len()];
            for step in 0..ORDER.len() {
                let way = ORDER[if turn % 2 == 0 { step } else { ORDER.len() - 1 - step }];
                let next = services[way].load(path, &seconds)?;
                all[way] += next.requests;
                row[way] = row[way].and(next);
            }
            turns.push(row);
        }
    }
    let counts: Vec<Count> = sinks.iter().map(Sink::count).collect();
    tell(path, &turns, &all, &counts);
    tell_readings(path, &turns);
    Ok(())
}

fn tell(path: &str, turns: &Turns, requests: &[f64; WAYS.len()], counts: &[Count]) {
    for (way, (name, ..)) in WAYS.iter().enumerate() {
        let Count { spans, attributes, bytes } = counts[way];
        let each = |number: u64| number as f64 / spans.max(1) as f64;
        println!(
            "{path} {name:<40} {:>7.0} requests/s, processor {:>6.2} µs a request (medians); {:.3} spans a request arrived, each {:.1} attributes, {:.0} bytes",
            median(turns.iter().map(|row| row[way].rate)),
            median(turns.iter().map(|row| row[way].micros)),
            spans as f64 / requests[way].max(1.0),
            each(attributes),
            each(bytes),
        );
    }
    let more = |way: usize, than: usize| turns.iter().map(move |row| row[way].micros - row[than].micros);
    println!("{path} processor time that the article adds: {}", spread(more(ARTICLE, NONE), "µs"));
    println!("{path} that plain OpenTelemetry adds: {}", spread(more(PLAIN, NONE), "µs"));
    println!("{path} that measuring requests adds to it: {}", spread(more(MEASURED, PLAIN), "µs"));
    println!("{path} that exit137 adds to plain OpenTelemetry: {}", spread(more(OURS, PLAIN), "µs"));
    for way in [ALLOCATOR, MEASURED, OURS] {
        let against = |of: fn(&Turn) -> f64| {
            turns.iter().map(move |row| (of(&row[way]) / of(&row[PLAIN]) - 1.0) * 100.0)
        };
        println!(
            "{path} {} against plain OpenTelemetry, turn by turn: throughput {}; processor time {}",
            WAYS[way].0,
            spread(against(|turn| turn.rate), "%"),
            spread(against(|turn| turn.micros), "%"),
        );
    }
}

/// What a request costs more, in the two readings: what is measured (as the article measures: nothing goes out), and all of it, with
/// what is exported. Both in whole services in the same turns; `cost` measures the first one alone in a loop.
fn tell_readings(path: &str, turns: &Turns) {
    let more = |way: usize, than: usize| median(turns.iter().map(|row| row[way].micros - row[than].micros));
    let article = more(ARTICLE, NONE);
    for (what, way) in [("measuring a request", MEASURED), ("all of it, exported", OURS)] {
        let ours = more(way, PLAIN);
        println!(
            "| {path}, in a whole service: {what} | {ours:.2} µs | the article's reads {article:.2} µs | 1/{:.0} (bar 1/50) |",
            article / ours.max(0.001)
        );
    }
}

fn main() -> std::io::Result<()> {
    let path = argument("--path").unwrap_or_else(|| "/work".to_owned());
    match argument("--network").as_deref() {
        Some("no") => without_network(&path, number("--rounds", 5)),
        _ => with_network(&path),
    }
}
