//! Runs the program, and the plain JSON library beside it, each in a process of its own; tells the time, the
//! processor time and the peak of memory of each.

use std::fmt;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Outcome;

/// How often the peak is looked at. It only grows, so what is missed is what the last moments added.
const LOOK: Duration = Duration::from_millis(2);

/// What one run took.
pub(crate) struct Run {
    pub(crate) seconds: f64,
    /// In user and kernel mode, all threads.
    pub(crate) processor_seconds: f64,
    pub(crate) peak_mib: u64,
    /// What it said.
    pub(crate) said: String,
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seconds, processor_seconds, peak_mib, said } = self;
        write!(f, "{seconds:.2} s ({processor_seconds:.2} s of processor time), peak {peak_mib} MiB: {said}")
    }
}

/// Lets the program diagnose `folder`, and checks that it names the culprit.
pub(crate) fn run(folder: &Path) -> Outcome<Run> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_exit137"));
    command.args(["diagnose", "--quiet", "--output", "json"]).arg(folder);
    let (mut run, output) = watch(&mut command)?;
    let verdict: Value = serde_json::from_str(&output)?;
    let incident = &verdict["incidents"][0];
    let found = (&incident["cause"]["name"], &incident["operations"][0]["names"][0]);
    if found != (&Value::from("leak"), &Value::from("GET /search")) {
        return Err(format!("expected the leak of GET /search, found {found:?}").into());
    }
    run.said = format!("leak of GET /search, {} kill", incident["kills"].as_array().map_or(0, Vec::len));
    Ok(run)
}

fn watch(command: &mut Command) -> Outcome<(Run, String)> {
    let before = children_processor_seconds();
    let started = Instant::now();
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let mut out = child.stdout.take().ok_or("no standard output")?;
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        out.read_to_string(&mut text).map(|_| text)
    });
    let mut peak_kib = 0;
    let status = loop {
        peak_kib = peak(&child).unwrap_or_default().max(peak_kib);
        if let Some(status) = child.try_wait()? {
            break status;
        }
        std::thread::sleep(LOOK);
    };
    let seconds = started.elapsed().as_secs_f64();
    let output = reader.join().map_err(|_| "reading standard output failed")??;
    if !status.success() {
        return Err(format!("{command:?}: {status}").into());
    }
    let processor_seconds = children_processor_seconds() - before;
    let run = Run { seconds, processor_seconds, peak_mib: peak_kib >> 10, said: String::new() };
    Ok((run, output))
}

/// The largest resident set so far, KiB.
fn peak(child: &Child) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Processor time of all children that have ended.
fn children_processor_seconds() -> f64 {
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The program's name, in parentheses, may contain anything; `cutime` is the fourteenth field after it.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace().skip(13).take(2);
    fields.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / TICKS_PER_SECOND
}

/// The plain JSON library, in a process that does nothing else.
pub(crate) fn values_in_own_process(path: &Path) -> Outcome<()> {
    let mut command = Command::new(std::env::current_exe()?);
    let (run, said) = watch(command.arg("values").arg(path))?;
    println!("serde_json::Value, one thread: {}", Run { said: said.trim().to_owned(), ..run });
    Ok(())
}

/// Parses each line into values and counts the spans.
pub(crate) fn parse_into_values(path: &Path) -> Outcome<()> {
    let mut reader = BufReader::with_capacity(1 << 20, File::open(path)?);
    let mut line = Vec::new();
    let mut spans = 0;
    while reader.read_until(b'\n', &mut line)? > 0 {
        spans += count_spans(&serde_json::from_slice(&line)?);
        line.clear();
    }
    println!("{spans} spans counted, nothing else");
    Ok(())
}

fn count_spans(document: &Value) -> usize {
    let list = |value: &Value| value.as_array().map_or(0, Vec::len);
    let scopes = |resource: &Value| {
        let scopes = resource["scopeSpans"].as_array().map(Vec::as_slice).unwrap_or_default();
        scopes.iter().map(|scope| list(&scope["spans"])).sum::<usize>()
    };
    let resources = document["resourceSpans"].as_array().map(Vec::as_slice).unwrap_or_default();
    resources.iter().map(scopes).sum()
}
