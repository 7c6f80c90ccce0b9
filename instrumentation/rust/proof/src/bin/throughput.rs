//! Throughput and processor time a request of one service, four ways: without instrumentation, with the article's two reads,
//! with plain OpenTelemetry tracing, and with exit137. Load comes from `wrk`; spans go as OTLP over a socket to a receiver that
//! counts them.
//!
//! A machine is never quiet. So all ways run side by side and are asked in turns of a second, in one order and then in the
//! opposite one, so that a machine that grows slower is slower for all. All processes are started anew for each round, because a process is as
//! fast as its memory lies: a round is what is compared, way by way, and what is told is the median of the rounds and between
//! which of them it lies with 95 % confidence, whatever the distribution.
//!
//! `throughput --rounds 30 --path /work`. With `--network no` the processes call themselves as hyper would call them, some
//! thousand times in a turn, and send what they tell: there the kernel's work for sockets, which varies by more than what is
//! looked for, is left out, one thread does all the work, and a round has many short turns, of which the median counts.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

use proof::in_process::REQUESTS;
use proof::sink::{Count, Sink};
use proof::{argument, number, orders, processor_nanos};

/// Name, program, arguments.
const WAYS: [(&str, &str, &[&str]); 4] = [
    ("none", "plain", &["--mode", "none"]),
    ("article", "plain", &["--mode", "article"]),
    ("plain OpenTelemetry", "plain", &["--mode", "otel"]),
    ("exit137", "counted", &[]),
];
const NONE: usize = 0;
const ARTICLE: usize = 1;
const PLAIN: usize = 2;
const OURS: usize = 3;

/// Who is asked in a round, and in the next. Who differ least are asked most.
const ORDERS: [[usize; 6]; 2] =
    [[NONE, ARTICLE, PLAIN, OURS, OURS, PLAIN], [OURS, PLAIN, PLAIN, OURS, ARTICLE, NONE]];

/// For processes that call themselves: with more, tasks wander between threads and free each other's memory, now in one process
/// and now in another, and the C library's locks then cost more than all that is compared.
const ONE_WORKER: (&str, &str) = ("TOKIO_WORKER_THREADS", "1");

/// Connections that ask at once.
const CONNECTIONS: &str = "-c32";

fn program(name: &str) -> std::io::Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name(name))
}

fn journal(way: usize) -> PathBuf {
    std::env::temp_dir().join(format!("exit137-throughput-{}-{way}", std::process::id()))
}

/// One way's process, killed when this is dropped.
struct Service {
    child: Child,
    answers: BufReader<ChildStdout>,
    port: u16,
}

impl Service {
    fn start(number: usize, collector: u16, store: u16, more: &[&str]) -> std::io::Result<Self> {
        let way = &WAYS[number];
        let mut child = Command::new(program(way.1)?)
            .args(way.2)
            .args(["--collector", &collector.to_string(), "--store", &store.to_string(), "--journal"])
            .arg(journal(number))
            .args(more)
            .envs((!more.is_empty()).then_some(ONE_WORKER))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().ok_or(std::io::ErrorKind::BrokenPipe)?;
        let mut service = Self { child, answers: BufReader::new(stdout), port: 0 };
        service.port = service.line()?.trim().parse().unwrap_or(0);
        Ok(service)
    }

    fn line(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        Ok(line)
    }

    /// Has it call itself; processor microseconds a request.
    fn ask(&mut self) -> std::io::Result<f64> {
        let before = processor_nanos(self.child.id());
        if let Some(stdin) = &mut self.child.stdin {
            stdin.write_all(b"\n")?;
        }
        self.line()?;
        let spent = processor_nanos(self.child.id()).saturating_sub(before);
        Ok(spent as f64 / 1000.0 / REQUESTS as f64)
    }

    /// Asks for a second.
    fn load(&self, path: &str) -> std::io::Result<Load> {
        let before = processor_nanos(self.child.id());
        let url = format!("http://127.0.0.1:{}{path}", self.port);
        let output = Command::new("wrk").args(["-t1", CONNECTIONS, "-d1s", &url]).output()?;
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
        Ok(Load { requests, seconds: requests / number(rate).max(1.0), micros: spent as f64 / 1000.0 })
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What one way did: requests, seconds, processor microseconds.
#[derive(Debug, Clone, Copy, Default)]
struct Load {
    requests: f64,
    seconds: f64,
    micros: f64,
}

impl Load {
    fn add(&mut self, more: Self) {
        self.requests += more.requests;
        self.seconds += more.seconds;
        self.micros += more.micros;
    }

    /// Requests a second.
    fn rate(&self) -> f64 {
        self.requests / self.seconds.max(f64::MIN_POSITIVE)
    }

    /// Processor microseconds a request.
    fn each(&self) -> f64 {
        self.micros / self.requests.max(1.0)
    }
}

type Rounds = Vec<[Load; WAYS.len()]>;

/// The median, and the two values between which it lies with a confidence of 95 % or more (or all values, when they are fewer than
/// six): by the binomial distribution of how many values lie below it.
fn median(values: impl Iterator<Item = f64>) -> (f64, f64, f64) {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let (count, mut cut) = (values.len(), 0);
    let (mut chance, mut below) = (0.5f64.powi(count as i32), 0.0);
    while cut < count / 2 && below + chance <= 0.025 {
        below += chance;
        cut += 1;
        chance *= (count - cut + 1) as f64 / cut as f64;
    }
    // That fewer than `cut` values lie below the median has a chance of 2.5 % at most; and so for above.
    let at = |place: usize| values.get(place).copied().unwrap_or(f64::NAN);
    let cut = cut.saturating_sub(1);
    (
        f64::midpoint(at(count.saturating_sub(1) / 2), at(count / 2)),
        at(cut),
        at(count.saturating_sub(1 + cut)),
    )
}

fn spread(values: impl Iterator<Item = f64>, unit: &str) -> String {
    let (middle, low, high) = median(values);
    format!("{middle:+.2} {unit} ({low:+.2} to {high:+.2})")
}

/// What part of the article's cost ours is.
fn share(ours: impl Iterator<Item = f64>, article: impl Iterator<Item = f64>) -> String {
    let (ours, article) = (median(ours).0, median(article).0);
    if ours > 0.0 && article > 0.0 { format!("1/{:.0}", article / ours) } else { "not to be seen".to_owned() }
}

fn without_network(path: &str) -> std::io::Result<()> {
    let store = orders::start_store()?;
    let sinks = WAYS.iter().map(|_| Sink::start()).collect::<Result<Vec<_>, _>>()?;
    let mut rounds: Vec<[f64; 4]> = Vec::new();
    for _ in 0..number("--rounds", 12) {
        let start = |(way, sink): (usize, &Sink)| Service::start(way, sink.port, store, &["--ask", path]);
        let mut services = sinks.iter().enumerate().map(start).collect::<Result<Vec<_>, _>>()?;
        let mut turns: Vec<[f64; WAYS.len()]> = Vec::new();
        for turn in 0..number("--turns", 40) {
            let mut row = [0.0; WAYS.len()];
            for step in 0..WAYS.len() {
                let way = if turn % 2 == 0 { step } else { WAYS.len() - 1 - step };
                row[way] = services[way].ask()?;
            }
            turns.push(row);
        }
        // What is only done once is done by then.
        let warm = turns.get(turns.len() / 4..).unwrap_or_default();
        let of = |what: fn(&[f64; WAYS.len()]) -> f64| median(warm.iter().map(what)).0;
        rounds.push([
            of(|row| row[PLAIN]),
            of(|row| row[OURS] - row[PLAIN]),
            of(|row| row[PLAIN] - row[NONE]),
            of(|row| row[ARTICLE] - row[NONE]),
        ]);
    }
    let column = |number: usize| rounds.iter().map(move |row| row[number]);
    println!(
        "| {path}, without a network | plain OpenTelemetry {} and adds {}; exit137 adds {} | the article's reads add {} | {} (bar 1/50) |",
        spread(column(0), "µs"),
        spread(column(2), "µs"),
        spread(column(1), "µs"),
        spread(column(3), "µs"),
        share(column(1), column(3)),
    );
    Ok(())
}

fn with_network(path: &str) -> std::io::Result<()> {
    let store = orders::start_store()?;
    let sinks = WAYS.iter().map(|_| Sink::start()).collect::<Result<Vec<_>, _>>()?;
    let (mut rounds, mut all): (Rounds, [f64; WAYS.len()]) = (Vec::new(), [0.0; WAYS.len()]);
    for round in 0..number("--rounds", 5) {
        let start = |(number, sink): (usize, &Sink)| Service::start(number, sink.port, store, &[]);
        let services = sinks.iter().enumerate().map(start).collect::<Result<Vec<_>, _>>()?;
        for (way, service) in services.iter().enumerate() {
            all[way] += service.load(path)?.requests;
        }
        let mut row = [Load::default(); WAYS.len()];
        for way in ORDERS[round as usize % ORDERS.len()] {
            let next = services[way].load(path)?;
            all[way] += next.requests;
            row[way].add(next);
        }
        rounds.push(row);
    }
    let counts: Vec<Count> = sinks.iter().map(Sink::count).collect();
    tell(path, &rounds, &all, &counts);
    Ok(())
}

fn tell(path: &str, rounds: &Rounds, requests: &[f64; WAYS.len()], counts: &[Count]) {
    for (way, (name, ..)) in WAYS.iter().enumerate() {
        let Count { spans, attributes, bytes } = counts[way];
        let each = |number: u64| number as f64 / spans.max(1) as f64;
        println!(
            "{path} {name:<20} {:>7.0} requests/s, processor {:>6.2} µs a request (medians); {:.3} spans a request arrived, each {:.1} attributes, {:.0} bytes",
            median(rounds.iter().map(|row| row[way].rate())).0,
            median(rounds.iter().map(|row| row[way].each())).0,
            spans as f64 / requests[way].max(1.0),
            each(attributes),
            each(bytes),
        );
    }
    let more = |way: usize, than: usize| rounds.iter().map(move |row| row[way].each() - row[than].each());
    let against =
        |of: fn(&Load) -> f64| rounds.iter().map(move |row| (of(&row[OURS]) / of(&row[PLAIN]) - 1.0) * 100.0);
    println!("{path} processor time that plain OpenTelemetry adds: {}", spread(more(PLAIN, NONE), "µs"));
    println!(
        "{path} exit137 against plain OpenTelemetry, {} rounds: throughput {}; processor time {}",
        rounds.len(),
        spread(against(Load::rate), "%"),
        spread(against(Load::each), "%"),
    );
    println!(
        "| {path}, in a whole service | exit137 adds {} | the article's reads add {} | {} (bar 1/50) |",
        spread(more(OURS, PLAIN), "µs"),
        spread(more(ARTICLE, NONE), "µs"),
        share(more(OURS, PLAIN), more(ARTICLE, NONE)),
    );
}

fn main() -> std::io::Result<()> {
    let path = argument("--path").unwrap_or_else(|| "/work".to_owned());
    match argument("--network").as_deref() {
        Some("no") => without_network(&path),
        _ => with_network(&path),
    }
}
