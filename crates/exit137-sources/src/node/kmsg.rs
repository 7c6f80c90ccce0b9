//! Follows `/dev/kmsg`, the kernel's log: each record once, across restarts of the reader too, and what was overwritten
//! before it could be read is told as a gap.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use exit137_core::kernel::prefix::{self, Line};
use exit137_core::kernel::report::ReportReader;
use exit137_core::kernel::{KernelTime, OomReport};
use exit137_core::time::SECOND;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

use super::NodeError;

/// A record takes at most 2 KiB in recent kernels, four times that when every byte is escaped. One that does not fit into
/// the buffer is lost.
const RECORD_BYTES_MAX: usize = 16 << 10;

/// The lines of a report follow each other at once, unless a slow console holds up who writes them. Without a kill yet, a
/// report is waited for this long.
const UNFINISHED_WAIT_MAX: i64 = 3 * SECOND;

/// After a kill only the members of a killed group can follow.
const FINISHED_WAIT_MAX: i64 = SECOND / 5;

/// How far a log has been read: good for this boot alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// `/proc/sys/kernel/random/boot_id`
    pub boot_id: String,
    /// Sequence number of the next record.
    pub next_sequence: u64,
}

/// What comes out of the log.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    /// Processes were killed; times are since boot.
    Oom(Box<OomReport>),
    /// Records that were overwritten before they could be read: kills may be among them.
    Lost {
        /// How many.
        records: u64,
        /// Sequence number of the first one.
        from_sequence: u64,
    },
}

/// The log, and the report that it is in the middle of.
#[derive(Debug)]
pub struct Kmsg {
    file: OwnedFd,
    boot_id: String,
    /// Sequence number of the next record; `None` before the first one of a log that nobody followed before.
    expected: Option<u64>,
    reader: ReportReader,
    buffer: Box<[u8; RECORD_BYTES_MAX]>,
    /// Kernel time of the last record of any kind, nanoseconds since boot.
    last_at: i64,
}

impl Kmsg {
    /// Opens the log at `path`. From `resume`, when that is of this boot, only what came since is heard; else everything
    /// that the kernel still has.
    ///
    /// # Errors
    /// When the log may not be read: that takes `CAP_SYSLOG` where `kernel.dmesg_restrict` is 1, and in a container its
    /// device must be allowed.
    pub fn open(path: &Path, boot_id: &str, resume: Option<&Position>) -> Result<Self, NodeError> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = openat(CWD, path, flags, Mode::empty()).map_err(|error| NodeError::at(path, error))?;
        // Opening is checked by the file's mode, reading by the kernel's own rule.
        let mut buffer = Box::new([0; RECORD_BYTES_MAX]);
        match rustix::io::read(&file, &mut buffer[..]) {
            Err(error @ (Errno::PERM | Errno::ACCESS | Errno::INVAL | Errno::ISDIR)) => {
                return Err(NodeError::at(path, error));
            }
            _ => rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0))
                .map_err(|error| NodeError::at(path, error))?,
        };
        let resume = resume.filter(|position| position.boot_id == boot_id);
        Ok(Self {
            file,
            boot_id: boot_id.to_owned(),
            expected: resume.map(|position| position.next_sequence),
            reader: ReportReader::new("/dev/kmsg", None),
            buffer,
            last_at: 0,
        })
    }

    /// Only what the kernel writes from now on.
    ///
    /// # Errors
    /// When the log cannot be moved in.
    pub fn skip_to_end(&mut self) -> Result<(), NodeError> {
        rustix::fs::seek(&self.file, rustix::fs::SeekFrom::End(0))
            .map_err(|error| NodeError::at("/dev/kmsg", error))?;
        Ok(())
    }

    /// Can be polled for reading.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Up to where everything was heard: where to resume. Records of a report that is not complete are not among it.
    pub fn position(&self) -> Position {
        let unfinished = self.reader.unfinished().and_then(|report| report.sequence);
        let next_sequence = unfinished.or(self.expected).unwrap_or_default();
        Position { boot_id: self.boot_id.clone(), next_sequence }
    }

    /// Kernel time of the newest record, nanoseconds since boot.
    pub fn last_at(&self) -> i64 {
        self.last_at
    }

    /// Whether a report has begun and is not complete: call [`Self::hear`] again soon.
    pub fn is_waiting(&self) -> bool {
        self.reader.unfinished().is_some()
    }

    /// Reports that the kernel did not print, but for their kills, since the log was opened.
    pub fn suppressed(&self) -> u64 {
        self.reader.suppressed()
    }

    /// Reads what there is, at most `records_max` of it, and adds what it means to `heard`. `now` is kernel time, in
    /// nanoseconds since boot. Returns whether there may be more.
    pub fn hear(&mut self, now: i64, records_max: usize, heard: &mut Vec<Heard>) -> bool {
        let mut more = true;
        for _ in 0..records_max {
            match rustix::io::read(&self.file, &mut self.buffer[..]) {
                Ok(0) | Err(Errno::AGAIN) => {
                    more = false;
                    break;
                }
                Ok(length) => self.record(length, heard),
                // Overwritten while we were away; the sequence number of the next record says how many.
                Err(Errno::PIPE | Errno::INTR) => {}
                // A record that did not fit is gone, and shows as a gap as well.
                Err(Errno::INVAL) => {}
                Err(_) => {
                    more = false;
                    break;
                }
            }
        }
        let has_victim = self.reader.unfinished().is_some_and(|report| report.has_victim);
        let wait = if has_victim { FINISHED_WAIT_MAX } else { UNFINISHED_WAIT_MAX };
        self.complete(!more && now.saturating_sub(self.last_at) >= wait, heard);
        more
    }

    fn complete(&mut self, settled: bool, heard: &mut Vec<Heard>) {
        heard
            .extend(self.reader.take_reports(settled).into_iter().map(|report| Heard::Oom(Box::new(report))));
    }

    fn record(&mut self, length: usize, heard: &mut Vec<Heard>) {
        let text = String::from_utf8_lossy(&self.buffer[..length]);
        // What follows the first line is the device that it is about.
        let line = text.split('\n').next().unwrap_or_default();
        let (sequence, at, kernel) = match prefix::split(line) {
            Line::Kernel(record) => (record.sequence, record.at, Some(record)),
            Line::UserSpace(record) => (record.sequence, record.at, None),
            Line::Bare(_) | Line::Dictionary => return,
        };
        let Some(sequence) = sequence else { return };
        match self.expected {
            Some(expected) if sequence < expected => return,
            Some(expected) if sequence > expected => {
                heard.push(Heard::Lost { records: sequence - expected, from_sequence: expected });
            }
            _ => {}
        }
        self.expected = Some(sequence + 1);
        if let KernelTime::SinceBoot(at) = at {
            self.last_at = at;
        }
        match kernel {
            Some(record) => self.reader.record(&record, usize::try_from(sequence).unwrap_or(usize::MAX)),
            // Anybody may write the words of a kill here; only its place counts.
            None => self.reader.place(at, Some(sequence)),
        }
        self.complete(false, heard);
    }
}

#[cfg(test)]
#[path = "kmsg_tests.rs"]
mod tests;
