//! What the kernel's log says about this run: the reports of its own kills, as they were written, and nothing about
//! anybody else.

use std::collections::{HashSet, VecDeque};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

use exit137_core::kernel::KernelTime;
use exit137_core::kernel::prefix::{self, Line};
use exit137_core::time::UnixNanos;
use exit137_sources::node::wall::KernelClock;

use super::record::{Record, RecordError};

/// A record takes at most 8 KiB when every byte is escaped.
const RECORD_BYTES_MAX: usize = 16 << 10;

/// A report with a table of 100,000 processes is cut.
const REPORT_BYTES_MAX: usize = 16 << 20;

/// Reads at one look; the next look comes soon.
const RECORDS_A_LOOK_MAX: usize = 20_000;

/// Records of one run; a storm of kills says the same thing again and again.
const KEPT_BYTES_MAX: u64 = 64 << 20;

/// Victims of this run, so that "reaped" is told for ours alone.
const VICTIMS_MAX: usize = 10_000;

/// Follows `/dev/kmsg` from the start of the run.
#[derive(Debug)]
pub(super) struct KernelLog {
    kmsg: File,
    buffer: Box<[u8; RECORD_BYTES_MAX]>,
    reports: Reports,
    clock: KernelClock,
    out: File,
    times: File,
    kept_bytes: u64,
}

impl KernelLog {
    /// Opens the log at its end; `None` where it may not be read. `path` is that of the run's cgroup.
    pub(super) fn open(path: &str, record: &Record) -> Result<Option<Self>, RecordError> {
        let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let opened = File::options().read(true).custom_flags(nonblocking).open("/dev/kmsg");
        let Ok(mut kmsg) = opened else { return Ok(None) };
        let mut buffer = Box::new([0; RECORD_BYTES_MAX]);
        // Opening is checked by the file's mode, reading by the kernel's own rule.
        let refused = matches!(kmsg.read(&mut buffer[..]), Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied);
        if refused || kmsg.seek(SeekFrom::End(0)).is_err() {
            return Ok(None);
        }
        Ok(Some(Self {
            kmsg,
            buffer,
            reports: Reports::of(path),
            clock: KernelClock::default(),
            out: record.file("kernel/kmsg.log")?,
            times: record.file("kernel/clock.txt")?,
            kept_bytes: 0,
        }))
    }

    /// Readable when the kernel has written something.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.kmsg.as_fd()
    }

    /// Reads what came, and keeps what is about this run or a process that `is_ours` knows.
    pub(super) fn look(&mut self, is_ours: &dyn Fn(u32) -> bool) -> std::io::Result<()> {
        for _ in 0..RECORDS_A_LOOK_MAX {
            let length = match self.kmsg.read(&mut self.buffer[..]) {
                Ok(0) => break,
                Ok(length) => length,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                // Overwritten before it was read (EPIPE), or longer than the buffer (EINVAL): go on with the next one.
                Err(_) => continue,
            };
            let text = String::from_utf8_lossy(&self.buffer[..length]).into_owned();
            let line = text.split('\n').next().unwrap_or_default();
            let Line::Kernel(record) = prefix::split(line) else { continue };
            if let KernelTime::SinceBoot(at) = record.at {
                self.clock.heard(at);
                self.reports.line(line, &record.text, at, is_ours);
            }
        }
        self.keep()
    }

    /// The victims of this run so far.
    pub(super) fn victims(&self) -> &HashSet<u32> {
        &self.reports.victims
    }

    fn keep(&mut self) -> std::io::Result<()> {
        while let Some((at, lines)) = self.reports.ready.pop_front() {
            if self.kept_bytes + lines.len() as u64 > KEPT_BYTES_MAX {
                continue;
            }
            self.kept_bytes += lines.len() as u64;
            self.out.write_all(lines.as_bytes())?;
            let UnixNanos(wall) = self.clock.wall(at).at;
            writeln!(self.times, "{} {}", decimal(wall), decimal(at))?;
        }
        Ok(())
    }
}

/// Seconds with six decimals.
fn decimal(nanos: i64) -> String {
    let micros = nanos.max(0) / 1000;
    format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

/// Tells the reports of this run from those of others.
#[derive(Debug, Default)]
struct Reports {
    /// Part of every path of this run, wherever in the tree the kernel sees it.
    own: String,
    /// The report that is being written, and whether it is ours.
    open: String,
    open_is_ours: bool,
    /// A group of ours is being killed: its members follow without reports of their own.
    group_is_ours: bool,
    victims: HashSet<u32>,
    /// Ours, with the time of their last line.
    ready: VecDeque<(i64, String)>,
}

impl Reports {
    fn of(path: &str) -> Self {
        let own = path.rsplit('/').next().unwrap_or(path).to_owned();
        Self { own, ..Self::default() }
    }

    fn line(&mut self, line: &str, text: &str, at: i64, is_ours: &dyn Fn(u32) -> bool) {
        let begins = text.contains(" invoked oom-killer: ");
        if begins {
            self.open.clear();
            self.open_is_ours = false;
            self.group_is_ours = false;
        }
        let in_report = begins || !self.open.is_empty();
        // Whose limit it was does not make it ours: who died does.
        let died_here = text.split_once("task_memcg=").is_some_and(|(_, rest)| rest.contains(&self.own));
        self.open_is_ours |= in_report && died_here;
        if let Some(victim) = pid_after(text, "Killed process ") {
            let told = std::mem::take(&mut self.open_is_ours) || self.group_is_ours;
            let ours = told || is_ours(victim) || self.victims.contains(&victim);
            if ours && self.victims.len() < VICTIMS_MAX {
                self.victims.insert(victim);
            }
            let mut lines = std::mem::take(&mut self.open);
            self.push(&mut lines, line);
            if ours {
                self.ready.push_back((at, lines));
            }
            return;
        }
        if text.contains(" are going to be killed due to memory.oom.group set") {
            self.group_is_ours = text.contains(&self.own);
            if self.group_is_ours {
                self.ready.push_back((at, format!("{line}\n")));
            }
            return;
        }
        if let Some(reaped) = pid_after(text, "oom_reaper: reaped process ") {
            if self.victims.contains(&reaped) {
                self.ready.push_back((at, format!("{line}\n")));
            }
            return;
        }
        if in_report {
            let mut open = std::mem::take(&mut self.open);
            self.push(&mut open, line);
            self.open = open;
        }
    }

    fn push(&self, lines: &mut String, line: &str) {
        if lines.len() + line.len() < REPORT_BYTES_MAX {
            lines.push_str(line);
            lines.push('\n');
        }
    }
}

fn pid_after(text: &str, words: &str) -> Option<u32> {
    let (_, rest) = text.split_once(words)?;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(lines: &[&str], ours: &[u32]) -> Vec<String> {
        let mut reports = Reports::of("/exit137-run-1-pod");
        for line in lines {
            reports.line(line, line, 1, &|pid| ours.contains(&pid));
        }
        reports
            .ready
            .into_iter()
            .flat_map(|(_, lines)| lines.lines().map(str::to_owned).collect::<Vec<_>>())
            .collect()
    }

    const OURS: &str = "oom-kill:constraint=CONSTRAINT_MEMCG,oom_memcg=/x,task_memcg=/docker/5f/exit137-run-1-pod/7e,task=sh,pid=7";
    const THEIRS: &str =
        "oom-kill:constraint=CONSTRAINT_MEMCG,oom_memcg=/exit137-run-1-pod/7e,task_memcg=/y,task=sh,pid=9";

    #[test]
    fn only_kills_of_this_run_are_kept() {
        let log = [
            "sh invoked oom-killer: gfp_mask=0xcc0",
            "[      9]     0     9 table",
            THEIRS,
            "Memory cgroup out of memory: Killed process 9 (sh)",
            "oom_reaper: reaped process 9 (sh), now",
            "sh invoked oom-killer: gfp_mask=0xcc1",
            "[      7]     0     7 table",
            OURS,
            "Memory cgroup out of memory: Killed process 7 (sh)",
            "Memory cgroup out of memory: Killed process 11 (sh)",
            "eth0: link up",
            "oom_reaper: reaped process 7 (sh), now",
        ];
        let expected = [log[5], log[6], log[7], log[8], log[11]];
        assert_eq!(kept(&log, &[]), expected);
    }

    #[test]
    fn a_kill_without_a_report_is_known_by_its_process() {
        let line = "Memory cgroup out of memory: Killed process 12 (sh)";
        assert_eq!(kept(&[line], &[12]), [line]);
        assert!(kept(&[line], &[13]).is_empty());
    }

    #[test]
    fn the_members_of_a_killed_group_belong_to_it() {
        let log = [
            "sh invoked oom-killer: gfp_mask=0xcc1",
            OURS,
            "Memory cgroup out of memory: Killed process 7 (sh)",
            "Tasks in /exit137-run-1-pod/7e are going to be killed due to memory.oom.group set",
            "Memory cgroup out of memory: Killed process 8 (cat)",
            "sh invoked oom-killer: gfp_mask=0xcc1",
            THEIRS,
            "Memory cgroup out of memory: Killed process 9 (sh)",
            "Tasks in /y are going to be killed due to memory.oom.group set",
            "Memory cgroup out of memory: Killed process 10 (cat)",
        ];
        assert_eq!(kept(&log, &[]), log[..5]);
    }
}
