//! The tracepoint `oom:mark_victim`: the kernel names a victim before it is dead, when its cgroup can still be asked for, and
//! names also those that the log leaves out. It is read from a tracefs instance of our own, so nobody else's tracing is touched.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::NodeError;

/// Per processor. An event takes a hundred bytes, and is read at once.
const BUFFER_KIB: &str = "64";

/// Of instances: the process that made one comes after it, so that what a killed agent left behind can be removed.
const PREFIX: &str = "exit137-";

/// Our instance; removed when dropped.
#[derive(Debug)]
pub struct Victims {
    instance: PathBuf,
    pipe: File,
    /// The beginning of a line whose end has not been read.
    rest: Vec<u8>,
}

impl Victims {
    /// Makes the instance. Its clock is the one that stamps the kernel's log.
    ///
    /// # Errors
    /// When tracefs is not mounted, or may not be written.
    pub fn open(sysroot: &Path) -> Result<Self, NodeError> {
        let places =
            ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"].map(|path| super::below(sysroot, path));
        let instances = places.iter().map(|place| place.join("instances")).find(|path| path.is_dir());
        let instances =
            instances.ok_or_else(|| NodeError::at(places[0].join("instances"), io::ErrorKind::NotFound))?;
        remove_abandoned(&instances);
        let instance = instances.join(format!("{PREFIX}{}", std::process::id()));
        std::fs::create_dir(&instance).map_err(|source| NodeError::at(&instance, source))?;
        let made = Self::enable(&instance);
        if made.is_err() {
            let _ = std::fs::remove_dir(&instance);
        }
        Ok(Self { pipe: made?, instance, rest: Vec::new() })
    }

    fn enable(instance: &Path) -> Result<File, NodeError> {
        let set = |file: &str, value: &str| {
            let path = instance.join(file);
            std::fs::write(&path, value).map_err(|source| NodeError::at(&path, source))
        };
        set("trace_clock", "perf")?;
        set("buffer_size_kb", BUFFER_KIB)?;
        // Wake for the first event, not when half the buffer is full. Kernels before 5.0 always do.
        let _ = set("buffer_percent", "0");
        set("events/oom/mark_victim/enable", "1")?;
        let path = instance.join("trace_pipe");
        let nonblock = rustix::fs::OFlags::NONBLOCK.bits() as i32;
        let opened = File::options().read(true).custom_flags(nonblock).open(&path);
        opened.map_err(|source| NodeError::at(&path, source))
    }

    /// The folder of the instance.
    pub fn instance(&self) -> &Path {
        &self.instance
    }

    /// Can be polled for reading.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }

    /// PIDs of the victims since the last call, oldest first.
    pub fn take(&mut self) -> Vec<u32> {
        let mut pids = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(length) = self.pipe.read(&mut buffer) {
            if length == 0 {
                break;
            }
            self.rest.extend_from_slice(&buffer[..length]);
            pids.extend(whole_lines(&mut self.rest));
        }
        pids
    }
}

impl Drop for Victims {
    fn drop(&mut self) {
        let _ = std::fs::write(self.instance.join("events/oom/mark_victim/enable"), "0");
        // While the pipe is open the instance is busy.
        if let Ok(null) = File::open("/dev/null") {
            self.pipe = null;
        }
        let _ = std::fs::remove_dir(&self.instance);
    }
}

/// Removes instances whose process is gone.
fn remove_abandoned(instances: &Path) {
    let Ok(entries) = std::fs::read_dir(instances) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let pid =
            name.to_str().and_then(|name| name.strip_prefix(PREFIX)).and_then(|pid| pid.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            let _ = std::fs::remove_dir(entry.path());
        }
    }
}

fn whole_lines(rest: &mut Vec<u8>) -> Vec<u32> {
    let end = memchr::memrchr(b'\n', rest).map_or(0, |at| at + 1);
    let pids = rest[..end].split(|byte| *byte == b'\n').filter_map(pid_of).collect();
    rest.drain(..end);
    // No line of the kernel is as long.
    if rest.len() > 4096 {
        rest.clear();
    }
    pids
}

/// `<...>-12 [001] d..1. 13376.621642: mark_victim: pid=34 comm=python …`, where the name in front may hold anything.
fn pid_of(line: &[u8]) -> Option<u32> {
    const WORDS: &[u8] = b": mark_victim: pid=";
    let at = memchr::memmem::find(line, WORDS)? + WORDS.len();
    let digits = line[at..].split(|byte| !byte.is_ascii_digit()).next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::whole_lines;

    #[test]
    fn victims_are_read_from_lines_as_they_come() {
        let mut rest = b"     sh-12    [001] d..1.  1.621642: mark_victim: pid=34 comm=a) b total-vm=1kB\n <...>-1 [000]".to_vec();
        assert_eq!(whole_lines(&mut rest), [34]);
        rest.extend_from_slice(b" ..... 2.0: mark_victim: pid=35\nCPU:1 [LOST 3 EVENTS]\n");
        assert_eq!(whole_lines(&mut rest), [35]);
        assert!(rest.is_empty());
    }
}
