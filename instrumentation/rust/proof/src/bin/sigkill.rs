//! SIGKILL at random moments under 200 concurrent requests: what the callers know to be in flight, against the journal.
//!
//! `sigkill --kills 100`

use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use proof::{Random, number};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const CONNECTIONS: u64 = 200;

/// What callers know, by trace id.
#[derive(Default)]
struct Known {
    /// Sent, and not answered to the end.
    open: HashSet<u128>,
    /// Of those, the ones whose answer has begun.
    begun: HashSet<u128>,
}

type Shared = Arc<Mutex<Known>>;

fn with<T>(known: &Shared, change: impl FnOnce(&mut Known) -> T) -> T {
    change(&mut known.lock().unwrap_or_else(PoisonError::into_inner))
}

/// One connection: requests that begin to be answered at once and end later.
async fn call(port: u16, seed: u64, known: Shared) -> std::io::Result<()> {
    let mut random = Random::new(seed);
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    loop {
        let trace = u128::from(random.below(u64::MAX)) << 64
            | u128::from(seed) << 32
            | u128::from(random.below(1 << 30) + 1);
        let request = format!(
            "GET /slow HTTP/1.1\r\nhost: x\r\ntraceparent: 00-{trace:032x}-00000000000000bb-01\r\n\r\n"
        );
        with(&known, |known| known.open.insert(trace));
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        // Chunked: it has ended with an empty chunk.
        while !answer.ends_with(b"0\r\n\r\n") {
            if stream.read_buf(&mut answer).await? == 0 {
                return Ok(());
            }
            if answer.windows(5).any(|window| window == b"begun") {
                with(&known, |known| known.begun.insert(trace));
            }
        }
        with(&known, |known| {
            known.open.remove(&trace);
            known.begun.remove(&trace);
        });
    }
}

#[derive(Debug, Default)]
struct Score {
    in_flight: usize,
    recovered: usize,
    invented: usize,
    torn: usize,
    wrong: usize,
}

async fn kill_once(seed: u64, score: &mut Score) -> std::io::Result<()> {
    let journal = std::env::temp_dir().join(format!("exit137-kill-{}-{seed}", std::process::id()));
    let program = std::env::current_exe()?.with_file_name("counted");
    let mut child = Command::new(program).arg("--journal").arg(&journal).stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout).read_line(&mut line)?;
    }
    let port: u16 = line.trim().parse().unwrap_or(0);
    let known = Shared::default();
    let callers: Vec<_> =
        (0..CONNECTIONS).map(|n| tokio::spawn(call(port, seed * 1000 + n + 1, Arc::clone(&known)))).collect();
    // Until all of them have begun once.
    for _ in 0..500 {
        if with(&known, |known| known.begun.len()) as u64 >= CONNECTIONS * 8 / 10 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(Duration::from_micros(Random::new(seed).below(500_000))).await;
    child.kill()?;
    child.wait()?;
    for caller in callers {
        let _ = caller.await;
    }
    let bytes = std::fs::read(&journal)?;
    let found = exit137_journal::read(&bytes).map_err(|error| std::io::Error::other(error.to_string()))?;
    let recovered: HashSet<u128> = found.in_flight.iter().map(|request| request.trace_id).collect();
    with(&known, |known| {
        score.in_flight += known.begun.len();
        score.recovered += known.begun.intersection(&recovered).count();
        score.invented += recovered.difference(&known.open).count();
    });
    score.torn += found.torn;
    score.wrong += found.in_flight.iter().filter(|request| request.operation != "GET /slow").count();
    let _ = std::fs::remove_file(&journal);
    Ok(())
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let kills = number("--kills", 100);
    let mut score = Score::default();
    for seed in 1..=kills {
        kill_once(seed, &mut score).await?;
    }
    let share = score.recovered as f64 / score.in_flight.max(1) as f64 * 100.0;
    println!(
        "{kills} kills under {CONNECTIONS} connections: {score:?}: {share:.2} % of what callers saw begin and not end"
    );
    let good = share >= 99.0 && score.invented == 0 && score.wrong == 0;
    if good { Ok(()) } else { Err(std::io::Error::other("below the bar")) }
}
