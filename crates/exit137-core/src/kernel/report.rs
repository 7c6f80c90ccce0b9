//! Puts the kernel's lines about OOM kills together into reports: a state machine for one host.
//!
//! ```text
//! header → limit, usage, statistics, table, summary, verdict → Killed process → group kill → Killed process …
//!   begin_report       one function a kind of line                add_victim
//! ```
//!
//! The kernel writes one report at a time, but other messages may stand in between, and any line can be missing:
//! the log level filters some, the rate limit all but the kill itself, and a log begins and ends anywhere. So
//! no line is waited for. A report ends with the next header, with a kill that does not fit, or with the log.

use std::collections::HashSet;

use crate::kernel::prefix::Record;
use crate::kernel::words::{self, Column, Killed, Resource, Summary};
use crate::kernel::{Constraint, KernelLog, KernelTime, OomReport, Task, Victim};
use crate::time::SECOND;

/// A cgroup has a few dozen tasks; the whole machine's table is only listed in a global OOM.
const TASKS_MAX: usize = 4096;

/// Tasks kept of a whole log: ten thousand tables of a usual size. A report past that keeps its victims alone.
const TASKS_KEPT_MAX: usize = 1_000_000;

/// A node that kills every second for a day; of a log with more, the rest counts as not printed.
const REPORTS_MAX: usize = 86_400;

/// Kernels print about 60 keys.
const STATS_MAX: usize = 128;

/// The kernel cuts lines at 1 KiB; fragments are joined up to this.
const JOINED_BYTES_MAX: usize = 8 << 10;

/// The summary has ten pieces, and each can be a fragment.
const FRAGMENTS_MAX: u32 = 16;

/// The lines of one report follow each other at once; a slow console delays them. A kill without a report comes
/// with the rate limit, so at least ten kills after this one.
const REPORT_PAUSE_MAX: i64 = 2 * SECOND;

/// Reads the lines of one host.
#[derive(Debug)]
pub struct ReportReader {
    log: KernelLog,
    open: Option<Open>,
    sequence: Option<u64>,
    /// Tasks in all reports of the log.
    tasks_kept: usize,
}

/// What a report that may go on has so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unfinished {
    /// Whether it can be complete.
    pub has_victim: bool,
    /// `/dev/kmsg` sequence number of its first line.
    pub sequence: Option<u64>,
}

/// One line as the functions below see it.
struct Line<'a> {
    at: KernelTime,
    number: usize,
    sequence: Option<u64>,
    fragment: bool,
    text: &'a str,
}

/// Where in the report the last line stood; only there a line of numbers means something.
#[derive(Debug, PartialEq)]
enum Section {
    Other,
    Statistics,
    Table(Vec<Column>),
}

/// A report that may go on.
#[derive(Debug)]
struct Open {
    report: OomReport,
    section: Section,
    /// When its last line was written.
    last_at: KernelTime,
    /// Path of `Memory cgroup stats for`: the cgroup that ran out.
    stats_memcg: Option<String>,
    /// `Kill process` of old kernels: whether a memory cgroup ran out.
    verdict_memcg: Option<bool>,
    mem_info: bool,
    /// The chosen victim ended by itself.
    already_exiting: bool,
    /// A line that the kernel prints in pieces and whose end has not come.
    unfinished: Option<String>,
    fragments: u32,
    table_pids: HashSet<u32>,
    table_is_cut: bool,
    victim_pids: HashSet<u32>,
}

impl ReportReader {
    /// For the lines of `host` in `file`.
    pub fn new(file: &str, host: Option<&str>) -> Self {
        let log = KernelLog { file: file.to_owned(), host: host.map(str::to_owned), ..KernelLog::default() };
        Self { log, open: None, sequence: None, tasks_kept: 0 }
    }

    /// The host these lines are of.
    pub fn host(&self) -> Option<&str> {
        self.log.host.as_deref()
    }

    /// Whether neither a report nor a time came from this host.
    pub fn is_empty(&self) -> bool {
        let KernelLog { reports, suppressed, without_kill, span, .. } = &self.log;
        self.open.is_none() && reports.is_empty() && *suppressed == 0 && *without_kill == 0 && span.is_none()
    }

    /// A line was seen, by whomever: notes its time and its place in the stream.
    pub fn place(&mut self, at: KernelTime, sequence: Option<u64>) {
        if at != KernelTime::Unknown {
            let first = self.log.span.map_or(at, |(first, _)| first);
            self.log.span = Some((first, at));
        }
        let Some(sequence) = sequence else {
            return;
        };
        match self.sequence {
            // Sequence numbers begin anew with each boot.
            Some(last) if sequence <= last => self.close(),
            Some(last) => self.log.lost_records = self.log.lost_records.saturating_add(sequence - last - 1),
            None => {}
        }
        self.sequence = Some(sequence);
    }

    /// The kernel's record at line `number` of the file.
    pub fn record(&mut self, record: &Record<'_>, number: usize) {
        self.place(record.at, record.sequence);
        self.dispatch(&Line {
            at: record.at,
            number,
            sequence: record.sequence,
            fragment: record.fragment,
            text: &record.text,
        });
    }

    /// A line without prefix behind a record: more of its text. Only statistics and the ends of cut lines come
    /// that way.
    pub fn continuation(&mut self, text: &str) {
        let text = text.trim_start();
        if !self.fragment(text, false) {
            self.statistics(text);
        }
    }

    /// For who follows a log as it grows: the reports that are complete, each once. With `settled` the last one is too,
    /// since nothing has come for a while.
    pub fn take_reports(&mut self, settled: bool) -> Vec<OomReport> {
        if settled {
            self.close();
        }
        self.tasks_kept = 0;
        std::mem::take(&mut self.log.reports)
    }

    /// The report that may go on, if there is one.
    pub fn unfinished(&self) -> Option<Unfinished> {
        let report = &self.open.as_ref()?.report;
        Some(Unfinished { has_victim: !report.victims.is_empty(), sequence: report.sequence })
    }

    /// Reports of which the kernel printed nothing but the kill, so far (`callbacks suppressed`).
    pub fn suppressed(&self) -> u64 {
        self.log.suppressed
    }

    /// All reports with a victim, and what else the log told.
    pub fn finish(mut self) -> KernelLog {
        self.close();
        self.log
    }

    fn dispatch(&mut self, line: &Line<'_>) {
        let known = self.header(line)
            || self.kill(line)
            || self.fragment(line.text, line.fragment)
            || self.limit(line)
            || self.usage(line)
            || self.statistics_header(line)
            || self.table_header(line)
            || self.summary(line)
            || self.verdict(line)
            || self.group_kill(line)
            || self.no_kill(line)
            || self.row(line.text)
            || self.statistics(line.text)
            || self.rate_limit(line.text);
        if known && let Some(open) = &mut self.open {
            open.last_at = line.at;
        }
        if !known
            && line.text.starts_with("Mem-Info:")
            && let Some(open) = &mut self.open
        {
            open.mem_info = true;
        }
    }

    fn begin_report(&mut self, line: &Line<'_>) -> &mut Open {
        self.close();
        self.open.insert(Open::new(line))
    }

    /// The report that details belong to. Details come before kills, so after a kill they are the next report's.
    fn report_before_kill(&mut self, line: &Line<'_>) -> &mut Open {
        let goes_on =
            self.open.as_ref().is_some_and(|open| open.report.victims.is_empty() && !open.already_exiting);
        if !goes_on {
            self.close();
        }
        self.open.get_or_insert_with(|| Open::new(line))
    }

    fn close(&mut self) {
        let Some(open) = self.open.take() else {
            return;
        };
        let mut report = open.finish();
        if report.victims.is_empty() {
            self.log.without_kill += 1;
        } else if self.log.reports.len() >= REPORTS_MAX {
            self.log.suppressed = self.log.suppressed.saturating_add(1);
        } else {
            if self.tasks_kept + report.tasks.len() > TASKS_KEPT_MAX {
                report.tasks = Vec::new();
            }
            self.tasks_kept += report.tasks.len();
            self.log.reports.push(report);
        }
    }

    fn header(&mut self, line: &Line<'_>) -> bool {
        let Some((invoker, mask)) = words::invoked(line.text) else {
            return false;
        };
        let report = &mut self.begin_report(line).report;
        report.invoker = Some(invoker);
        report.gfp_mask = Some(mask);
        true
    }

    /// The end of a line that another processor's message cut in two. `flagged` by `/dev/kmsg`; elsewhere only
    /// its words tell.
    fn fragment(&mut self, text: &str, flagged: bool) -> bool {
        const ENDS: [&str; 7] = [
            ",cpuset=",
            ",mems_allowed=",
            ",oom_memcg=",
            ",global_oom",
            ",task_memcg=",
            ",task=",
            " killed as a result of limit of ",
        ];
        let Some(open) = &mut self.open else {
            return false;
        };
        let Some(unfinished) = &mut open.unfinished else {
            return false;
        };
        let value = unfinished.ends_with(['=', ' ']) && (flagged || text.starts_with('/'));
        if !value && !ENDS.iter().any(|end| text.starts_with(end)) {
            return false;
        }
        open.fragments += 1;
        if unfinished.len() + text.len() > JOINED_BYTES_MAX || open.fragments > FRAGMENTS_MAX {
            open.unfinished = None;
            return true;
        }
        unfinished.push_str(text);
        let joined = unfinished.clone();
        if let Some(summary) = words::summary(&joined) {
            open.set_summary(summary, &joined);
        } else if let Some((task, domain)) = words::limit_of(&joined) {
            open.set_limit(task, domain, &joined);
        }
        true
    }

    fn limit(&mut self, line: &Line<'_>) -> bool {
        if let Some((task, domain)) = words::limit_of(line.text) {
            self.report_before_kill(line).set_limit(task, domain, line.text);
            return true;
        }
        // The first piece alone; `Tasks in …` of a group kill differs.
        let piece = line.fragment && line.text.starts_with("Task in ");
        if piece {
            self.report_before_kill(line).unfinished = Some(line.text.to_owned());
        }
        piece
    }

    fn usage(&mut self, line: &Line<'_>) -> bool {
        let Some((resource, charge)) = words::charge(line.text) else {
            return false;
        };
        let report = &mut self.report_before_kill(line).report;
        match resource {
            Resource::Memory => report.memory = Some(charge),
            Resource::Swap => report.swap = Some(charge),
            Resource::Kernel => report.kmem = Some(charge),
        }
        true
    }

    fn statistics_header(&mut self, line: &Line<'_>) -> bool {
        let Some((domain, statistics)) = words::stats_of(line.text) else {
            return false;
        };
        let open = self.report_before_kill(line);
        open.section = Section::Statistics;
        if statistics.is_empty() {
            open.report.stats.clear();
            open.stats_memcg = None;
        }
        // Up to 5.0 one such line a cgroup of the subtree follows; the first is the root of it.
        open.stats_memcg = open.stats_memcg.take().or(domain);
        open.add_statistics(statistics.split(' '));
        true
    }

    /// `anon 533360640`; several, where one record holds them all. rsyslog writes their newlines as `#012`.
    fn statistics(&mut self, text: &str) -> bool {
        match &mut self.open {
            Some(open) if open.section == Section::Statistics && open.report.victims.is_empty() => {
                open.add_statistics(text.split('\n').flat_map(|part| part.split("#012")))
            }
            _ => false,
        }
    }

    fn table_header(&mut self, line: &Line<'_>) -> bool {
        if line.text.starts_with("Tasks state (memory values in pages)") {
            self.report_before_kill(line).section = Section::Other;
            return true;
        }
        let Some(columns) = words::table_header(line.text) else {
            return false;
        };
        self.report_before_kill(line).section = Section::Table(columns);
        true
    }

    fn row(&mut self, text: &str) -> bool {
        let Some(open) = &mut self.open else {
            return false;
        };
        let Section::Table(columns) = &open.section else {
            return false;
        };
        let Some(task) = words::table_row(text, columns) else {
            return false;
        };
        open.add_task(task);
        true
    }

    fn summary(&mut self, line: &Line<'_>) -> bool {
        let Some(summary) = words::summary(line.text) else {
            return false;
        };
        let again = self.open.as_ref().is_some_and(|open| open.report.constraint.is_some());
        let open = if again { self.begin_report(line) } else { self.report_before_kill(line) };
        open.set_summary(summary, line.text);
        true
    }

    fn verdict(&mut self, line: &Line<'_>) -> bool {
        let Some(memcg) = words::verdict(line.text) else {
            return false;
        };
        self.report_before_kill(line).verdict_memcg = Some(memcg);
        true
    }

    fn kill(&mut self, line: &Line<'_>) -> bool {
        let Some(killed) = words::killed(line.text) else {
            return false;
        };
        let fits = self.open.as_ref().is_some_and(|open| open.takes(&killed, line.at));
        if !fits {
            self.begin_report(line);
        }
        if let Some(open) = &mut self.open {
            open.add_victim(killed, line);
        }
        true
    }

    fn group_kill(&mut self, line: &Line<'_>) -> bool {
        let Some(group) = words::group_kill(line.text) else {
            return false;
        };
        // It follows the first victim, with or without a report before it.
        if self.open.as_ref().is_some_and(|open| !soon_after(open.last_at, line.at)) {
            self.close();
        }
        let open = self.open.get_or_insert_with(|| Open::new(line));
        open.report.group_kill = Some(group);
        true
    }

    /// The victim ended by itself, or there was none.
    fn no_kill(&mut self, line: &Line<'_>) -> bool {
        if words::already_exiting(line.text) {
            if let Some(open) = self.open.as_mut().filter(|open| open.report.victims.is_empty()) {
                open.already_exiting = true;
            }
            return true;
        }
        let none = line.text.starts_with("Out of memory and no killable processes");
        if none {
            self.close();
        }
        none
    }

    fn rate_limit(&mut self, text: &str) -> bool {
        let count = words::suppressed(text);
        self.log.suppressed = self.log.suppressed.saturating_add(count.unwrap_or(0));
        count.is_some()
    }
}

impl Open {
    fn new(line: &Line<'_>) -> Self {
        Self {
            report: OomReport::new(line.at, line.number, line.sequence),
            section: Section::Other,
            last_at: line.at,
            stats_memcg: None,
            verdict_memcg: None,
            mem_info: false,
            already_exiting: false,
            unfinished: None,
            fragments: 0,
            table_pids: HashSet::new(),
            table_is_cut: false,
            victim_pids: HashSet::new(),
        }
    }

    fn set_limit(&mut self, task: Option<String>, domain: Option<String>, text: &str) {
        let complete = domain.is_some();
        self.report.task_memcg = task.or(self.report.task_memcg.take());
        self.report.oom_memcg = domain.or(self.report.oom_memcg.take());
        self.unfinished = (!complete).then(|| text.to_owned());
    }

    fn set_summary(&mut self, summary: Summary, text: &str) {
        self.section = Section::Other;
        let report = &mut self.report;
        report.constraint = summary.constraint;
        report.global = summary.global;
        report.oom_memcg = summary.oom_memcg;
        report.task_memcg = summary.task_memcg;
        report.summary_task = summary.task;
        report.summary_pid = summary.pid;
        let joinable = !summary.complete && text.len() <= JOINED_BYTES_MAX;
        self.unfinished = joinable.then(|| text.to_owned());
    }

    /// Adds those of `parts` that are statistics; true when there was one. Up to 5.0 each cgroup of the subtree
    /// prints its own share, so equal keys add up.
    fn add_statistics<'a>(&mut self, parts: impl Iterator<Item = &'a str>) -> bool {
        let mut any = false;
        for (key, bytes) in parts.filter_map(|part| words::stat(part.trim())) {
            any = true;
            let stats = &mut self.report.stats;
            if let Some(sum) = stats.get_mut(key) {
                *sum = sum.saturating_add(bytes);
            } else if stats.len() < STATS_MAX {
                stats.insert(key.to_owned(), bytes);
            }
        }
        any
    }

    fn add_task(&mut self, task: Task) {
        if self.report.tasks.len() >= TASKS_MAX {
            self.table_is_cut = true;
            return;
        }
        self.table_pids.insert(task.pid);
        self.report.tasks.push(task);
    }

    /// Whether a kill is part of this report and not one whose own report the rate limit swallowed.
    fn takes(&self, killed: &Killed, at: KernelTime) -> bool {
        let soon = soon_after(self.last_at, at);
        if self.victim_pids.contains(&killed.pid) {
            return soon;
        }
        let listed = self.table_pids.contains(&killed.pid);
        if self.report.group_kill.is_some() {
            return soon && (listed || self.table_is_cut || self.table_pids.is_empty());
        }
        // Old kernels may kill a child of the process that the verdict names.
        let expected = listed || self.report.summary_pid == Some(killed.pid) || self.verdict_memcg.is_some();
        self.report.victims.is_empty() && !self.already_exiting && (expected || soon)
    }

    /// A group kill prints its first victim twice.
    fn add_victim(&mut self, killed: Killed, line: &Line<'_>) {
        self.section = Section::Other;
        self.unfinished = None;
        if !self.victim_pids.insert(killed.pid) {
            return;
        }
        self.report.victims.push(Victim {
            at: line.at,
            line: line.number,
            pid: killed.pid,
            comm: killed.comm,
            total_vm: killed.total_vm,
            anon: killed.anon,
            file: killed.file,
            shmem: killed.shmem,
            pgtables: killed.pgtables,
            uid: killed.uid,
            oom_score_adj: killed.oom_score_adj,
            memcg: killed.memcg.or(self.verdict_memcg),
        });
    }

    fn finish(self) -> OomReport {
        let mut report = self.report;
        if report.constraint.is_none() || report.constraint == Some(Constraint::Memcg) {
            report.oom_memcg = report.oom_memcg.take().or(self.stats_memcg);
        }
        let victims_say = report.victims.iter().find_map(|victim| victim.memcg);
        let memcg = report.constraint == Some(Constraint::Memcg)
            || report.oom_memcg.is_some()
            || victims_say == Some(true);
        // `Mem-Info:` alone can be a failed allocation's that came in between.
        report.global = !memcg && (report.global || victims_say == Some(false) || self.mem_info);
        report
    }
}

/// Whether `later` can belong to a report whose last line was written at `earlier`. Unknown times can.
fn soon_after(earlier: KernelTime, later: KernelTime) -> bool {
    let pause = match (earlier, later) {
        (KernelTime::SinceBoot(earlier), KernelTime::SinceBoot(later)) => later.saturating_sub(earlier),
        (KernelTime::Wall(earlier), KernelTime::Wall(later))
        | (KernelTime::Local { moment: earlier, .. }, KernelTime::Local { moment: later, .. }) => {
            later.at.since(earlier.at)
        }
        _ => 0,
    };
    pause.saturating_abs() <= REPORT_PAUSE_MAX
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
