//! `exit137 journal FILE…`: what a process wrote down about itself, before it was killed or while it runs.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use exit137_core::bytes::Bytes;
use exit137_core::time::UnixNanos;
use exit137_sources::journal::{BYTES_MAX, NotAJournal};

use super::{Outcome, StdoutError};
use crate::output::clean_line;

/// Rows of the live heap that are shown.
const HEAP_SHOWN_MAX: usize = 20;

const LONG_ABOUT: &str = "\
Shows the journal of a process that is instrumented with exit137: the requests that were in flight, how much memory each \
held, and where the live heap was allocated.

The journal outlives the process, SIGKILL included. It can be read while the process runs.";

const AFTER_HELP: &str = "\
Examples:
  exit137 journal /var/run/exit137/exit137.journal
  exit137 diagnose incident/ exit137.journal.previous-*";

/// Show the journal of an instrumented process
#[derive(Debug, Args)]
#[command(long_about = LONG_ABOUT, after_help = AFTER_HELP)]
pub(super) struct Journal {
    /// Journals to show
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,

    /// One JSON object a journal and line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum JournalError {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}", path.display())]
    NotAJournal { path: PathBuf, source: NotAJournal },
    #[error(transparent)]
    Stdout(#[from] StdoutError),
}

impl Journal {
    pub(super) fn run(self) -> Result<Outcome, JournalError> {
        for path in &self.files {
            let journal = read(path)?;
            let text = if self.json { json(&journal) } else { text(path, &journal) };
            super::print(text.as_bytes())?;
        }
        Ok(Outcome::Done)
    }
}

fn read(path: &Path) -> Result<exit137_sources::journal::Life, JournalError> {
    let mut bytes = Vec::new();
    let opened = File::open(path).and_then(|file| file.take(BYTES_MAX).read_to_end(&mut bytes));
    opened.map_err(|source| JournalError::Read { path: path.to_owned(), source })?;
    exit137_sources::journal::read(&bytes)
        .map_err(|source| JournalError::NotAJournal { path: path.to_owned(), source })
}

fn at(nanos: u64) -> String {
    let time = UnixNanos(i64::try_from(nanos).unwrap_or(i64::MAX)).to_timestamp();
    time.map_or_else(|| "an unknown time".to_owned(), |time| format!("{time:.3}"))
}

fn size(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "?".to_owned(), |bytes| Bytes(bytes).to_string())
}

fn text(path: &Path, journal: &exit137_sources::journal::Life) -> String {
    let mut lines = vec![format!(
        "{}: process {}, started {}",
        path.display(),
        journal.pid,
        at(journal.started_unix_nanos)
    )];
    let mut tell = |line: String| lines.push(line);
    match journal.closed_unix_nanos {
        Some(closed) => tell(format!("ended of its own will at {}", at(closed))),
        None => tell(format!("last sign of life at {}", at(journal.seen_unix_nanos))),
    }
    let resource: Vec<String> =
        journal.resource.iter().map(|(key, value)| format!("{key}={value}")).collect();
    tell(format!("resource: {}", resource.join(", ")));
    tell(format!("\n{} requests in flight", journal.in_flight.len()));
    for request in &journal.in_flight {
        let ran = journal.seen_unix_nanos.saturating_sub(request.started_unix_nanos) as f64 / 1e9;
        let phase = request.phase.as_ref().map(|phase| format!(", phase {phase}")).unwrap_or_default();
        let attributes = request.attributes.iter().map(|(key, value)| format!(", {key}={value}"));
        tell(format!(
            "  {} for {ran:.3} s, holds {}, peak {}{phase}, trace {:032x}{}",
            request.operation,
            size(request.held_bytes),
            size(request.peak_bytes),
            request.trace_id,
            attributes.collect::<String>()
        ));
    }
    if journal.not_recorded > 0 {
        tell(format!("  {} more found no room over its life", journal.not_recorded));
    }
    if journal.torn > 0 {
        tell(format!("  {} records were being written and cannot be read", journal.torn));
    }
    if journal.live_bytes > 0 {
        tell(format!("\n{} of the heap live", Bytes(journal.live_bytes)));
    }
    for holder in journal.holders().iter().take(HEAP_SHOWN_MAX) {
        let place = holder.place.as_deref().unwrap_or("an unknown place");
        tell(format!("  {} by {} at {place}", Bytes(holder.live_bytes), holder.operation));
    }
    let mut operations: Vec<_> = journal.operations.iter().filter(|row| row.finished > 0).collect();
    operations.sort_by_key(|row| std::cmp::Reverse(row.retained_bytes()));
    if !operations.is_empty() {
        tell("\nwhat finished requests left behind".to_owned());
    }
    for row in operations {
        let retained = row.retained_bytes();
        let sign = if retained < 0 { "-" } else { "" };
        tell(format!(
            "  {}: {sign}{} by {} requests, at most {} at once",
            row.name,
            Bytes(retained.unsigned_abs()),
            row.finished,
            Bytes(row.peak_bytes)
        ));
    }
    let clean = lines.iter().flat_map(|line| line.split('\n')).map(|line| clean_line(line) + "\n");
    clean.collect()
}

fn json(journal: &exit137_sources::journal::Life) -> String {
    let pairs =
        |pairs: &[(String, String)]| pairs.iter().cloned().collect::<std::collections::BTreeMap<_, _>>();
    let requests = journal.in_flight.iter().map(|request| {
        serde_json::json!({
            "operation": request.operation,
            "trace_id": format!("{:032x}", request.trace_id),
            "span_id": format!("{:016x}", request.span_id),
            "parent_span_id": format!("{:016x}", request.parent_span_id),
            "started_unix_nanos": request.started_unix_nanos,
            "held_bytes": request.held_bytes,
            "peak_bytes": request.peak_bytes,
            "allocated_bytes": request.allocated_bytes,
            "phase": request.phase,
            "attributes": pairs(&request.attributes),
        })
    });
    let heap = journal.heap.iter().map(|row| {
        let frames: Vec<_> = row
            .frames
            .iter()
            .map(|frame| serde_json::json!({ "function": frame.function, "location": frame.location }))
            .collect();
        serde_json::json!({ "operation": row.operation_name, "live_bytes": row.live_bytes, "samples": row.samples, "frames": frames })
    });
    let operations = journal.operations.iter().map(|row| {
        serde_json::json!({
            "name": row.name,
            "started": row.started,
            "finished": row.finished,
            "allocated_bytes": row.allocated_bytes,
            "freed_bytes": row.freed_bytes,
            "retained_bytes": row.retained_bytes(),
            "peak_bytes": row.peak_bytes,
        })
    });
    let document = serde_json::json!({
        "schema": "exit137.journal/1",
        "life": format!("{:016x}", journal.life),
        "pid": journal.pid,
        "started_unix_nanos": journal.started_unix_nanos,
        "seen_unix_nanos": journal.seen_unix_nanos,
        "closed_unix_nanos": journal.closed_unix_nanos,
        "resource": pairs(&journal.resource),
        "live_bytes": journal.live_bytes,
        "not_recorded": journal.not_recorded,
        "torn": journal.torn,
        "in_flight": requests.collect::<Vec<_>>(),
        "heap": heap.collect::<Vec<_>>(),
        "operations": operations.collect::<Vec<_>>(),
    });
    format!("{document}\n")
}
