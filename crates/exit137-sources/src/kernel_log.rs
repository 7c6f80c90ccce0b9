//! Kernel logs from files: what one looks like, how its lines are read, and the files that say when the
//! machine booted. What the lines mean is the core's.

mod clock;
mod sniff;

use std::collections::BTreeMap;
use std::io::{self, BufRead};

use exit137_core::kernel::{JournalRecord, KernelLogReader};
use exit137_core::observation::{Observations, ResourceId, SourceKind};
use serde::Deserialize;

pub use clock::boot_time;
pub use sniff::{looks_like, looks_like_journal};

/// The kernel cuts records below 2 KiB; the JSON around one in the journal takes a few more.
const LINE_BYTES_MAX: usize = 16 << 10;

/// Reads a kernel log line by line, in any of the formats that [`looks_like`] and [`looks_like_journal`] know.
///
/// # Errors
/// Only when `reader` fails; a bad line becomes a problem in `observations`.
pub fn decode(reader: &mut dyn BufRead, file: &str, observations: &mut Observations) -> io::Result<()> {
    let mut log = KernelLogReader::new(file);
    let mut line = Vec::with_capacity(1024);
    let mut number = 0;
    let outcome = loop {
        let length = match read_line(reader, &mut line) {
            Ok(Some(length)) => length,
            Ok(None) => break Ok(()),
            // What was read before the failure still counts.
            Err(error) => break Err(error),
        };
        number += 1;
        if length > LINE_BYTES_MAX {
            // In a journal those are other programs' entries.
            if line.first() != Some(&b'{') {
                let message = format!("expected a line of at most {LINE_BYTES_MAX} bytes, found {length}");
                observations.problems.add(file, Some(number), message);
            }
            continue;
        }
        let text = String::from_utf8_lossy(&line);
        if !text.starts_with('{') {
            log.line(&text, number);
        } else if let Err(expected) = journal_line(&text, &mut log, number) {
            observations.problems.add(file, Some(number), expected);
        }
    };
    keep(log, file, observations);
    outcome
}

/// Bodies of log records that are lines of a kernel's OOM report; the other lines of one say less.
const RECORD_WORDS: &[&str] =
    &["invoked oom-killer", "oom-kill:constraint", "illed process", "memory: usage", "emory cgroup stats"];

/// Reads what the kernel wrote where a collector sends its log, a record a line: of each resource as one log. The
/// records are in order of time.
pub(crate) fn decode_records(observations: &mut Observations) {
    let mut logs: BTreeMap<ResourceId, KernelLogReader> = BTreeMap::new();
    for (index, record) in observations.logs.iter().enumerate() {
        let body = observations.symbols.text(record.body);
        let is_kernels = record.event_name.is_none() && RECORD_WORDS.iter().any(|words| body.contains(words));
        if let Some(at) = record.at.to_timestamp().filter(|_| is_kernels) {
            let log = logs.entry(record.resource).or_insert_with(|| KernelLogReader::new("log records"));
            let stamp = format!("{at:.6}").replace('.', ",").replace('Z', "+00:00");
            log.line(&format!("{stamp} {}", without_prefix(body)), index + 1);
        }
    }
    for log in logs.into_values() {
        keep(log, "log records", observations);
    }
}

/// The kernel's own words, without what a log daemon put before them: the record has a time of its own.
fn without_prefix(body: &str) -> &str {
    let body = body.split_once("kernel: ").map_or(body, |(_, rest)| rest).trim_start();
    match body.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
        Some((since_boot, rest)) if since_boot.trim().parse::<f64>().is_ok() => rest.trim_start(),
        _ => body,
    }
}

fn keep(log: KernelLogReader, file: &str, observations: &mut Observations) {
    let unread = log.lines_of_other_hosts();
    if unread > 0 {
        observations.problems.add(
            file,
            None,
            format!("too many hosts in one file: {unread} lines were not read"),
        );
    }
    if log.kernel_lines() == 0 {
        return;
    }
    let logs = log.finish();
    let without_kill: u64 = logs.iter().map(|log| log.without_kill).sum();
    if without_kill > 0 {
        let message = format!(
            "{without_kill} OOM reports lack `Killed process`: nothing was killed, or the log is cut"
        );
        observations.problems.add(file, None, message);
    }
    let reports = logs.iter().map(|log| log.reports.len() as u64).sum();
    observations.count(SourceKind::KernelLog, reports, true);
    observations.kernel.extend(logs);
}

/// The next line without its end, and how long it really was; what is over [`LINE_BYTES_MAX`] is skipped.
fn read_line(reader: &mut dyn BufRead, line: &mut Vec<u8>) -> io::Result<Option<usize>> {
    line.clear();
    let mut length = 0;
    let mut any = false;
    loop {
        let available = match reader.fill_buf() {
            Ok(available) => available,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if available.is_empty() {
            return Ok(any.then_some(length));
        }
        any = true;
        let end = memchr::memchr(b'\n', available);
        let part = &available[..end.unwrap_or(available.len())];
        length += part.len();
        let room = LINE_BYTES_MAX.saturating_sub(line.len());
        line.extend_from_slice(&part[..part.len().min(room)]);
        let consumed = part.len() + usize::from(end.is_some());
        reader.consume(consumed);
        if end.is_some() {
            return Ok(Some(length));
        }
    }
}

/// The fields of a journal entry that are read; the journal writes numbers as strings.
#[derive(Deserialize)]
struct JournalEntry {
    #[serde(rename = "MESSAGE", default)]
    message: Message,
    #[serde(rename = "_TRANSPORT")]
    transport: Option<String>,
    #[serde(rename = "__REALTIME_TIMESTAMP")]
    realtime: Option<String>,
    #[serde(rename = "_SOURCE_MONOTONIC_TIMESTAMP")]
    source_monotonic: Option<String>,
    #[serde(rename = "_HOSTNAME")]
    hostname: Option<String>,
    #[serde(rename = "SYSLOG_IDENTIFIER")]
    identifier: Option<String>,
    #[serde(rename = "PRIORITY")]
    priority: Option<String>,
}

/// Text, or its bytes where it is not UTF-8, or nothing where it was too long to print.
#[derive(Deserialize, Default)]
#[serde(untagged)]
enum Message {
    Text(String),
    Bytes(Vec<u8>),
    #[default]
    Absent,
}

fn journal_line(line: &str, log: &mut KernelLogReader, number: usize) -> Result<(), &'static str> {
    let entry: JournalEntry = serde_json::from_str(line)
        .map_err(|_| "expected a journal entry as `journalctl -o json` prints it")?;
    let message = match &entry.message {
        Message::Text(text) => text.into(),
        Message::Bytes(bytes) => String::from_utf8_lossy(bytes),
        Message::Absent => "".into(),
    };
    log.journal_record(
        JournalRecord {
            message: &message,
            transport: entry.transport.as_deref(),
            realtime_micros: parsed(&entry.realtime),
            source_monotonic_micros: parsed(&entry.source_monotonic),
            hostname: entry.hostname.as_deref(),
            identifier: entry.identifier.as_deref(),
            priority: parsed(&entry.priority),
        },
        number,
    );
    Ok(())
}

fn parsed<T: std::str::FromStr>(text: &Option<String>) -> Option<T> {
    text.as_ref()?.parse().ok()
}

#[cfg(test)]
mod tests;
