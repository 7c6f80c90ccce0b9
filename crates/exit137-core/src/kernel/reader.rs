//! Reads the lines of one kernel log file, which may hold several hosts.

use crate::kernel::prefix::{self, Line, Record};
use crate::kernel::report::ReportReader;
use crate::kernel::{KernelLog, KernelTime, stamp};

/// A file collects a cluster's nodes at most; past this, lines of further hosts are not read.
const HOSTS_MAX: usize = 1024;

/// One entry of `journalctl -o json`, its JSON already decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct JournalRecord<'a> {
    /// `MESSAGE`
    pub message: &'a str,
    /// `_TRANSPORT`: only `kernel` is what the kernel wrote; journald sets it, so nobody can forge it.
    pub transport: Option<&'a str>,
    /// `__REALTIME_TIMESTAMP`, µs since 1970: when journald received it.
    pub realtime_micros: Option<u64>,
    /// `_SOURCE_MONOTONIC_TIMESTAMP`, µs since boot on the kernel's clock.
    pub source_monotonic_micros: Option<u64>,
    /// `_HOSTNAME`
    pub hostname: Option<&'a str>,
    /// `SYSLOG_IDENTIFIER`
    pub identifier: Option<&'a str>,
    /// `PRIORITY`
    pub priority: Option<u8>,
}

/// Fed with lines, it gives one [`KernelLog`] a host. Never fails: a line it does not know is no OOM line.
#[derive(Debug)]
pub struct KernelLogReader {
    file: String,
    hosts: Vec<ReportReader>,
    /// Whose line came last, if the kernel wrote it: a line without prefix continues it.
    last: Option<usize>,
    /// Some line had a prefix, so lines without one are continuations.
    prefixed: bool,
    /// Lines of the kernel, in any format.
    kernel_lines: u64,
    lines_of_other_hosts: u64,
}

impl KernelLogReader {
    /// For a file whose name goes into the result.
    pub fn new(file: &str) -> Self {
        Self {
            file: file.to_owned(),
            hosts: Vec::new(),
            last: None,
            prefixed: false,
            kernel_lines: 0,
            lines_of_other_hosts: 0,
        }
    }

    /// Line `number` (from 1), without its line end.
    pub fn line(&mut self, line: &str, number: usize) {
        let line = prefix::without_colours(line.trim_end_matches(['\r', '\n']));
        match prefix::split(&line) {
            Line::Kernel(record) => {
                self.note_prefix();
                self.kernel(&record, number);
            }
            Line::UserSpace(record) => {
                self.note_prefix();
                self.user_space(&record);
            }
            Line::Bare(text) => self.bare(text, number),
            Line::Dictionary => {}
        }
    }

    /// An entry of the journal, at line `number` of the file.
    pub fn journal_record(&mut self, record: JournalRecord<'_>, number: usize) {
        self.note_prefix();
        if record.transport != Some("kernel") {
            self.last = None;
            return;
        }
        let wall = record.realtime_micros.and_then(stamp::wall_micros);
        let since_boot = || {
            let micros = i64::try_from(record.source_monotonic_micros?).ok()?;
            Some(KernelTime::SinceBoot(micros.saturating_mul(1000)))
        };
        let record = Record {
            // The receipt is milliseconds late; the kernel's clock would need a boot time and drifts.
            at: wall.or_else(since_boot).unwrap_or(KernelTime::Unknown),
            host: record.hostname,
            sequence: None,
            fragment: false,
            level: record.priority,
            text: record.message.into(),
        };
        self.kernel(&record, number);
    }

    /// How many lines were the kernel's, OOM or not.
    pub fn kernel_lines(&self) -> u64 {
        self.kernel_lines
    }

    /// Lines not read because the file holds too many hosts.
    pub fn lines_of_other_hosts(&self) -> u64 {
        self.lines_of_other_hosts
    }

    /// One log a host, in the order in which they appeared; a file that says nothing gives an empty one.
    pub fn finish(mut self) -> Vec<KernelLog> {
        // Lines such as `-- Journal begins at …` belong to no host.
        self.hosts.retain(|host| !host.is_empty());
        if self.hosts.is_empty() {
            self.hosts.push(ReportReader::new(&self.file, None));
        }
        self.hosts.into_iter().map(ReportReader::finish).collect()
    }

    /// A chance likeness of a prefix must not silence a log without prefixes that has told of kills already.
    fn note_prefix(&mut self) {
        self.prefixed = self.prefixed || self.hosts.iter().all(ReportReader::is_empty);
    }

    fn kernel(&mut self, record: &Record<'_>, number: usize) {
        self.kernel_lines += 1;
        self.last = self.host(record.host);
        if let Some(host) = self.last.and_then(|at| self.hosts.get_mut(at)) {
            host.record(record, number);
        }
    }

    /// It fills a place in the sequence, and its continuation lines are not the kernel's either.
    fn user_space(&mut self, record: &Record<'_>) {
        self.last = None;
        if record.sequence.is_none() {
            return;
        }
        if let Some(host) = self.host(record.host).and_then(|at| self.hosts.get_mut(at)) {
            host.place(record.at, record.sequence);
        }
    }

    fn bare(&mut self, text: &str, number: usize) {
        if self.prefixed {
            if let Some(host) = self.last.and_then(|at| self.hosts.get_mut(at)) {
                host.continuation(text);
            }
            return;
        }
        let text = text.trim_start();
        if text.is_empty() {
            return;
        }
        let at = KernelTime::Unknown;
        let record =
            Record { at, host: None, sequence: None, fragment: false, level: None, text: text.into() };
        self.kernel(&record, number);
    }

    fn host(&mut self, name: Option<&str>) -> Option<usize> {
        let is_it = |host: &ReportReader| host.host() == name;
        if let Some(at) = self.last.filter(|at| self.hosts.get(*at).is_some_and(is_it)) {
            return Some(at);
        }
        if let Some(at) = self.hosts.iter().position(is_it) {
            return Some(at);
        }
        if self.hosts.len() >= HOSTS_MAX {
            self.lines_of_other_hosts += 1;
            return None;
        }
        self.hosts.push(ReportReader::new(&self.file, name));
        Some(self.hosts.len() - 1)
    }
}
