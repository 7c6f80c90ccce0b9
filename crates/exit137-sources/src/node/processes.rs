//! The processes of a cgroup at one moment: who holds what.

use std::path::Path;

use exit137_core::observation::cgroup::ProcessSample;

/// Of larger cgroups the first ones are looked at; a photograph must not take longer than what it shows.
pub const PROCESSES_MAX: usize = 256;

/// A command line that says more is an attack or a class path.
const COMMAND_BYTES_MAX: usize = 256;

/// Clock ticks a second in `/proc`: fixed for user space on every architecture that Kubernetes runs on.
const TICKS_PER_SECOND: u64 = 100;

/// One process.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Process {
    /// PID, as `/proc` numbers it.
    pub pid: u32,
    /// PID of the parent.
    pub parent_pid: u32,
    /// `comm`.
    pub comm: String,
    /// Command line, cut; empty when it may not be read.
    pub command: String,
    /// Anonymous part of the resident set, bytes.
    pub anon: u64,
    /// File part, bytes.
    pub file: u64,
    /// Shared memory part, bytes.
    pub shmem: u64,
    /// Swapped out, bytes.
    pub swap: u64,
    /// Threads.
    pub threads: u32,
    /// Seconds since it started.
    pub age_seconds: u64,
}

impl Process {
    /// The whole resident set, bytes.
    pub fn rss(&self) -> u64 {
        self.anon.saturating_add(self.file).saturating_add(self.shmem)
    }

    /// As an observation.
    pub fn sample(&self) -> ProcessSample {
        ProcessSample {
            pid: self.pid,
            parent_pid: Some(self.parent_pid),
            comm: self.comm.as_str().into(),
            rss: self.rss(),
            threads: self.threads,
        }
    }
}

/// The processes among `pids` that are still there, the largest first. `uptime_seconds` is since boot.
pub fn read(proc: &Path, pids: &[u32], uptime_seconds: u64) -> Vec<Process> {
    let mut processes: Vec<Process> =
        pids.iter().take(PROCESSES_MAX).filter_map(|pid| one(proc, *pid, uptime_seconds)).collect();
    processes.sort_by(|a, b| (b.rss(), a.pid).cmp(&(a.rss(), b.pid)));
    processes
}

fn one(proc: &Path, pid: u32, uptime_seconds: u64) -> Option<Process> {
    let folder = proc.join(pid.to_string());
    // Names are bytes that any program chooses.
    let status = String::from_utf8_lossy(&std::fs::read(folder.join("status")).ok()?).into_owned();
    let mut process = Process { pid, ..Process::default() };
    for line in status.lines() {
        let Some((key, value)) = line.split_once(':') else { continue };
        let value = value.trim();
        let number =
            || value.split(' ').next().and_then(|digits| digits.parse::<u64>().ok()).unwrap_or_default();
        let bytes = || number().saturating_mul(1024);
        match key {
            "Name" => process.comm = value.to_owned(),
            "PPid" => process.parent_pid = u32::try_from(number()).unwrap_or_default(),
            "Threads" => process.threads = u32::try_from(number()).unwrap_or_default(),
            "RssAnon" => process.anon = bytes(),
            "RssFile" => process.file = bytes(),
            "RssShmem" => process.shmem = bytes(),
            "VmSwap" => process.swap = bytes(),
            _ => {}
        }
    }
    process.command = command(&folder.join("cmdline"));
    process.age_seconds =
        started_seconds(&folder.join("stat")).map_or(0, |at| uptime_seconds.saturating_sub(at));
    Some(process)
}

fn command(path: &Path) -> String {
    use std::io::Read;
    let mut bytes = Vec::with_capacity(COMMAND_BYTES_MAX);
    let file = std::fs::File::open(path);
    let _ = file.and_then(|file| file.take(COMMAND_BYTES_MAX as u64).read_to_end(&mut bytes));
    let text = String::from_utf8_lossy(&bytes).replace('\0', " ");
    text.trim_end().to_owned()
}

/// Field 22 of `stat`, seconds after boot. The name in field 2 may hold anything, parentheses too.
fn started_seconds(path: &Path) -> Option<u64> {
    let bytes = std::fs::read(path).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let ticks: u64 = text.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
    Some(ticks / TICKS_PER_SECOND)
}

/// Seconds since boot.
pub fn uptime_seconds(proc: &Path) -> u64 {
    let text = std::fs::read_to_string(proc.join("uptime")).unwrap_or_default();
    text.split(['.', ' ']).next().and_then(|whole| whole.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{read, uptime_seconds};
    use std::path::Path;

    #[test]
    fn this_very_process_is_seen_as_it_is() {
        let (proc, own) = (Path::new("/proc"), std::process::id());
        let seen = read(proc, &[own, u32::MAX], uptime_seconds(proc));
        let [process] = seen.as_slice() else { panic!("one process, found {seen:?}") };
        assert_eq!(process.pid, own);
        assert_eq!(process.parent_pid, std::os::unix::process::parent_id());
        assert!(process.anon > 0 && process.threads > 0 && process.age_seconds < 3600, "{process:?}");
        let binary = std::env::args().next().expect("a name");
        assert!(process.command.starts_with(binary.get(..200).unwrap_or(&binary)), "{}", process.command);
    }
}
