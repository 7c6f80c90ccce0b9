//! Loads a receiver of OTLP with spans as SDKs send them, and measures what that costs it.
//!
//!     cargo run --release -p exit137 --example load -- --http 127.0.0.1:4318 --pid $(pidof exit137) --seconds 20
//!
//! Prints spans a second, and with `--pid` spans per CPU-second of that process and its memory. A request that is to
//! be sent again is sent again. With `--acknowledged FILE`, writes a line for every request that got its OK, so that
//! a test can look for exactly those spans: `spans.rs` makes the same bytes from the same numbers.

mod grpc;
mod http;
mod process;
mod spans;

use std::fs::File;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use clap::Parser;
use process::Usage;
use spans::Requests;

#[derive(Debug, Parser)]
struct Options {
    /// OTLP over HTTP goes to this address
    #[arg(long, value_name = "ADDRESS", required_unless_present = "grpc", conflicts_with = "grpc")]
    http: Option<SocketAddr>,
    /// OTLP over gRPC goes to this address
    #[arg(long, value_name = "ADDRESS")]
    grpc: Option<SocketAddr>,
    /// For so long
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Stop after so many spans
    #[arg(long, value_name = "N", default_value_t = u64::MAX)]
    spans: u64,
    /// Spans a second, all connections together; as many as possible without
    #[arg(long, value_name = "N")]
    rate: Option<u64>,
    /// Processes that send, each with a resource of its own
    #[arg(long, value_name = "N", default_value_t = 10)]
    resources: u64,
    /// Spans in a request
    #[arg(long, value_name = "N", default_value_t = 512)]
    batch: usize,
    /// Connections, with one request at a time each
    #[arg(long, value_name = "N", default_value_t = 4)]
    connections: u64,
    /// Compress every request with gzip
    #[arg(long)]
    gzip: bool,
    /// The process that receives
    #[arg(long)]
    pid: Option<u32>,
    /// Write `BASE REQUEST PROCESS` for every request that got its OK
    #[arg(long, value_name = "FILE")]
    acknowledged: Option<PathBuf>,
    /// Spread the spans over so many seconds of the past; needs --spans
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0)]
    past: f64,
    /// Seconds to wait at the end before the cost is read, for work that is left over
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0)]
    settle: f64,
}

/// What one request came to.
pub enum Outcome {
    /// Kept.
    Accepted,
    /// To be sent again.
    Later,
}

/// What all connections share.
pub struct Run {
    options: Options,
    base_nanos: u64,
    step_nanos: u64,
    began: Instant,
    next: AtomicU64,
    accepted: AtomicU64,
    later: AtomicU64,
    acknowledged: Option<Mutex<File>>,
}

impl Run {
    /// The next request's number; `None` at the end. Waits when there is a rate.
    fn next(&self) -> Option<u64> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let spans = number * self.options.batch as u64;
        if let Some(rate) = self.options.rate {
            let due = Duration::from_secs_f64(spans as f64 / rate as f64);
            std::thread::sleep(due.saturating_sub(self.began.elapsed()));
        }
        let is_over = spans >= self.options.spans || self.is_over();
        (!is_over).then_some(number)
    }

    fn is_over(&self) -> bool {
        self.began.elapsed().as_secs_f64() >= self.options.seconds
    }

    fn requests(&self) -> Requests {
        Requests::new(self.options.batch, self.base_nanos, self.step_nanos)
    }

    fn process(&self, number: u64) -> u64 {
        number % self.options.resources
    }

    fn note(&self, number: u64, outcome: &Outcome) -> io::Result<()> {
        match outcome {
            Outcome::Later => {
                self.later.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(20));
            }
            Outcome::Accepted => {
                self.accepted.fetch_add(1, Ordering::Relaxed);
                if let Some(file) = &self.acknowledged {
                    let line = format!("{} {number} {}\n", self.base_nanos, self.process(number));
                    let mut file = file.lock().map_err(|_| io::Error::other("another thread panicked"))?;
                    file.write_all(line.as_bytes())?;
                }
            }
        }
        Ok(())
    }

    /// What one connection does.
    fn connection(&self) -> io::Result<()> {
        match (self.options.http, self.options.grpc) {
            (Some(address), _) => {
                let mut client = http::Client::connect(address, self.options.gzip)?;
                self.send(|body| client.post(body))
            }
            (None, Some(address)) => {
                let mut client = grpc::Client::connect(address, self.options.gzip)?;
                self.send(|body| client.post(body))
            }
            (None, None) => Ok(()),
        }
    }

    /// Sends request after request until the end.
    fn send(&self, mut post: impl FnMut(&[u8]) -> io::Result<Outcome>) -> io::Result<()> {
        let mut requests = self.requests();
        while let Some(number) = self.next() {
            let body = requests.request(number, self.process(number));
            loop {
                let outcome = post(body)?;
                self.note(number, &outcome)?;
                if matches!(outcome, Outcome::Accepted) || self.is_over() {
                    break;
                }
            }
        }
        Ok(())
    }
}

/// Compressed with gzip when asked for.
pub fn packed(body: &[u8], gzip: bool) -> io::Result<Vec<u8>> {
    if !gzip {
        return Ok(body.to_vec());
    }
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(body)?;
    encoder.finish()
}

fn load(options: Options) -> io::Result<()> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_err(io::Error::other)?;
    let acknowledged = options.acknowledged.as_ref().map(File::create).transpose()?.map(Mutex::new);
    let past_nanos = (options.past * 1e9) as u64;
    let requests = (options.spans / options.batch.max(1) as u64).max(1);
    let run = Run {
        base_nanos: (now.as_nanos() as u64).saturating_sub(past_nanos),
        step_nanos: (past_nanos / requests).max(1_000),
        began: Instant::now(),
        next: AtomicU64::new(0),
        accepted: AtomicU64::new(0),
        later: AtomicU64::new(0),
        acknowledged,
        options,
    };
    let before = run.options.pid.map(Usage::of).transpose()?;
    let mut first_failure = Ok(());
    std::thread::scope(|scope| {
        let connections: Vec<_> =
            (0..run.options.connections).map(|_| scope.spawn(|| run.connection())).collect();
        for connection in connections {
            let end = connection.join().unwrap_or_else(|_| Err(io::Error::other("a connection panicked")));
            if first_failure.is_ok() {
                first_failure = end;
            }
        }
    });
    let seconds = run.began.elapsed().as_secs_f64();
    let mut requests = run.requests();
    let spans = run.accepted.load(Ordering::Relaxed) * requests.spans() as u64;
    let span_bytes = requests.request(0, 0).len() / requests.spans();
    let later = run.later.load(Ordering::Relaxed);
    println!(
        "{spans} spans of {span_bytes} bytes in {seconds:.1} s: {:.0} spans/s, {:.0} MB/s; {later} requests sent again",
        spans as f64 / seconds,
        (spans * span_bytes as u64) as f64 / 1e6 / seconds,
    );
    if let (Some(pid), Some(before)) = (run.options.pid, before) {
        std::thread::sleep(Duration::from_secs_f64(run.options.settle));
        let after = Usage::of(pid)?;
        let (user, system) =
            (after.user_seconds - before.user_seconds, after.system_seconds - before.system_seconds);
        println!(
            "receiver: {user:.2} s user, {system:.2} s system: {:.0} spans/CPU-s; {} MiB resident, {} MiB at most",
            spans as f64 / (user + system),
            after.resident_bytes >> 20,
            after.resident_bytes_max >> 20,
        );
    }
    first_failure
}

fn main() -> ExitCode {
    match load(Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
