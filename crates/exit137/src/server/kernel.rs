//! Follows a kernel log, the device or a file that grows, and files what it says about the OOM killer.
//!
//! Everything else that kernels write is passed over. A report is some hundred lines that follow each other at once;
//! it is filed as it came, so that a better reader can read it again.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use exit137_core::time::{SECOND, UnixNanos};
use exit137_store::{Encoding, Identity, Kind, Piece};
use memchr::memmem;
use rustix::time::{ClockId, clock_gettime};

use super::hearing;
use super::recorder::{Recorder, now};

/// A record of the device, escaped, fits.
const READ_BYTES: usize = 64 << 10;

/// How often a log is looked at.
const POLL: Duration = Duration::from_millis(100);

/// After this much silence a report is complete: its lines come at once.
const QUIET: Duration = Duration::from_millis(200);

/// A report without end is cut here.
const REPORT_BYTES_MAX: usize = 1 << 20;

/// Lines that begin a report, and one that alone tells of a kill.
const BEGINS: &[&[u8]] = &[b"invoked oom-killer", b"Killed process", b"oom-kill:"];

/// What was read last, so that a restart does not file it again.
const POSITION_FILE: &str = "kernel-log.position";

/// Opens the log at `path` before anything is announced: what is written to it from then on is not missed, nor after a
/// restart.
pub(super) fn open(recorder: &Recorder, path: &Path) -> io::Result<Log> {
    let log = Log::open(path, recorder.folder())?;
    log.remember(recorder.folder());
    Ok(log)
}

/// Follows a log until the recorder ends.
pub(super) fn follow(recorder: &Arc<Recorder>, mut log: Log) -> io::Result<()> {
    let mut report = Report::default();
    let mut waited = false;
    while !recorder.ending.load(Ordering::Relaxed) {
        let read = log.read(&mut |line, live| report.line(line, live && waited))?;
        waited = !read;
        let complete = report.last_line.is_some_and(|at| at.elapsed() >= QUIET);
        if complete || report.lines.len() > REPORT_BYTES_MAX {
            file(recorder, &log, &mut report);
            log.remember(recorder.folder());
        }
        if !read {
            std::thread::sleep(POLL);
        }
    }
    file(recorder, &log, &mut report);
    log.remember(recorder.folder());
    Ok(())
}

/// The lines since a report began.
#[derive(Default)]
struct Report {
    lines: Vec<u8>,
    last_line: Option<Instant>,
    /// Kernel time of a record that was read as soon as it came, with the wall time then.
    pair: Option<(i64, UnixNanos)>,
}

impl Report {
    fn line(&mut self, line: &[u8], just_came: bool) {
        if self.lines.is_empty() && !BEGINS.iter().any(|words| memmem::find(line, words).is_some()) {
            return;
        }
        if just_came && self.pair.is_none() {
            self.pair = device_time(line).map(|since_boot| (since_boot, now()));
        }
        self.lines.extend_from_slice(line);
        self.lines.push(b'\n');
        self.last_line = Some(Instant::now());
    }
}

/// Kernel time of a record of the device, nanoseconds since boot: `6,1234,5678901,-;…` has microseconds.
fn device_time(line: &[u8]) -> Option<i64> {
    let head = line.split(|byte| *byte == b';').next()?;
    let micros = std::str::from_utf8(head.split(|byte| *byte == b',').nth(2)?).ok()?;
    micros.parse::<i64>().ok()?.checked_mul(1000)
}

fn clock(id: ClockId) -> i64 {
    let time = clock_gettime(id);
    time.tv_sec.saturating_mul(SECOND).saturating_add(time.tv_nsec)
}

fn file(recorder: &Arc<Recorder>, log: &Log, report: &mut Report) {
    let report = std::mem::take(report);
    let tells = memmem::find(&report.lines, b"illed process").is_some();
    if report.lines.is_empty() || !tells {
        return;
    }
    let mut clock_text = Vec::new();
    if log.is_device {
        // The device counts from boot. A record that was waited for tells when that was; else the clocks of now do.
        let (since_boot, wall) = report.pair.unwrap_or_else(|| (clock(ClockId::Monotonic), now()));
        clock_text = format!("{} {}\n", seconds(wall.0), seconds(since_boot)).into_bytes();
    }
    let heard = hearing::in_kernel_log(&report.lines, &clock_text);
    let times = || heard.iter().flat_map(|heard| &heard.marks).map(|mark| mark.at).filter(|at| *at > 0);
    let first = times().min().map_or_else(now, UnixNanos);
    let last = times().max().map_or(first, UnixNanos);
    let container = Identity::of([("exit137.kernel_log", log.name.as_str())]);
    let piece = |encoding, bytes: Vec<u8>| Piece {
        container: container.clone(),
        kind: Kind::KernelLog,
        encoding,
        first,
        last,
        count: 1,
        bytes: bytes.into(),
    };
    let mut pieces = vec![piece(Encoding::Text, report.lines)];
    if !clock_text.is_empty() {
        pieces.push(piece(Encoding::Binary, clock_text));
    }
    recorder.keep_surely(pieces);
    recorder.heard(heard);
}

fn seconds(nanos: i64) -> String {
    format!("{}.{:06}", nanos / SECOND, nanos % SECOND / 1000)
}

/// The log and how far it was read.
pub(super) struct Log {
    path: PathBuf,
    file: File,
    is_device: bool,
    /// Of the machine's boot, or of the file: what its lines are filed under.
    name: String,
    /// Sequence number of the last record of the device, or bytes of the file.
    position: u64,
    inode: u64,
    partial: Vec<u8>,
    buffer: Vec<u8>,
}

impl Log {
    fn open(path: &Path, folder: &Path) -> io::Result<Self> {
        let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
        let mut file = File::options().read(true).custom_flags(flags).open(path)?;
        let metadata = file.metadata()?;
        let is_device = metadata.file_type().is_char_device();
        let name = if is_device {
            let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
            format!("boot {}", boot.trim())
        } else {
            path.display().to_string()
        };
        let before = position(&folder.join(POSITION_FILE), &name);
        let inode = metadata.ino();
        // A file that somebody has written for months is followed from its end; what was read before, from there.
        let position = match before {
            Some(position) if is_device || position <= metadata.len() => position,
            _ if is_device => 0,
            _ => metadata.len(),
        };
        if !is_device {
            file.seek(SeekFrom::Start(position))?;
        }
        let (path, buffer) = (path.to_owned(), vec![0; READ_BYTES]);
        Ok(Self { path, file, is_device, name, position, inode, partial: Vec::new(), buffer })
    }

    /// Gives the lines there are; tells whether there were any.
    fn read(&mut self, each: &mut dyn FnMut(&[u8], bool)) -> io::Result<bool> {
        let mut any = false;
        loop {
            match self.file.read(&mut self.buffer) {
                Ok(0) => {
                    self.reopen()?;
                    return Ok(any);
                }
                Ok(length) if self.is_device => {
                    any = true;
                    self.record(length, each);
                }
                Ok(length) => {
                    any = true;
                    self.position += length as u64;
                    self.lines(length, each);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(any),
                // Overwritten before it was read: the next read goes on with the oldest record there is.
                Err(error) if error.raw_os_error() == Some(rustix::io::Errno::PIPE.raw_os_error()) => {
                    tracing::warn!("records of the kernel log were overwritten before they could be read");
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn record(&mut self, length: usize, each: &mut dyn FnMut(&[u8], bool)) {
        let record = self.buffer[..length].trim_ascii_end();
        let line = record.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let sequence = line.split(|byte| *byte == b',').nth(1);
        let sequence = sequence.and_then(|digits| std::str::from_utf8(digits).ok()?.parse::<u64>().ok());
        let Some(sequence) = sequence else { return };
        if sequence >= self.position {
            self.position = sequence + 1;
            each(line, true);
        }
    }

    fn lines(&mut self, length: usize, each: &mut dyn FnMut(&[u8], bool)) {
        self.partial.extend_from_slice(&self.buffer[..length]);
        let mut start = 0;
        while let Some(end) = memchr::memchr(b'\n', &self.partial[start..]) {
            each(&self.partial[start..start + end], false);
            start += end + 1;
        }
        self.partial.drain(..start);
        if self.partial.len() > REPORT_BYTES_MAX {
            self.partial.clear();
        }
    }

    /// A file that was rotated away or cut short is followed anew.
    fn reopen(&mut self) -> io::Result<()> {
        let Ok(metadata) = std::fs::metadata(&self.path) else { return Ok(()) };
        if metadata.ino() != self.inode || metadata.len() < self.position {
            self.file = File::open(&self.path)?;
            (self.inode, self.position) = (metadata.ino(), 0);
            self.partial.clear();
        }
        Ok(())
    }

    fn remember(&self, folder: &Path) {
        let text = format!("{}\n{}\n", self.position - self.partial.len() as u64, self.name);
        if let Err(error) = std::fs::write(folder.join(POSITION_FILE), text) {
            tracing::warn!(%error, "cannot save how far the kernel log was read");
        }
    }
}

/// How far the log of this name was read before.
fn position(path: &Path, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    let (position, rest) = text.split_once('\n')?;
    (rest.trim_end_matches('\n') == name).then(|| position.parse().ok()).flatten()
}
