//! Watches one life: samples its cgroup many times a second, hears the kernel, and keeps what is worth keeping.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use exit137_core::bytes::Bytes;
use exit137_core::observation::cgroup::ProcessSample;
use exit137_core::time::UnixNanos;
use exit137_sources::node::cgroup::{Cgroup, Reading, wall_now};
use exit137_sources::node::processes;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;

use super::kernel::KernelLog;
use super::live::Live;
use super::recorder::Received;

/// Fast enough for a program that fills 200 MiB in half a second to leave a curve.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Without change a sample a second says it all.
const SAMPLE_EVERY_MAX: Duration = Duration::from_secs(1);

/// A step that shows in a chart of the limit.
const STEP_SHARE: f64 = 0.005;

/// Looking at all processes costs more than all the rest.
const PROCESSES_EVERY: Duration = Duration::from_secs(1);

/// Near the limit it is worth it.
const PROCESSES_EVERY_NEAR: Duration = Duration::from_millis(200);

/// A process that the kernel has killed is gone after this, or something else was killed.
const DYING_MAX: Duration = Duration::from_millis(150);

/// Where "near the limit" begins.
const NEAR_SHARE: f64 = 0.85;

const LINE_EVERY: Duration = Duration::from_millis(500);

/// Processes that were seen in the cgroup, so that a kill without a report is known as ours.
const KNOWN_MAX: usize = 100_000;

/// Who is watched.
#[derive(Debug, Clone)]
pub(super) struct Subject {
    pub(super) name: String,
    pub(super) pod_uid: String,
    pub(super) container_id: String,
    pub(super) path: String,
}

/// What all lives share.
#[derive(Debug)]
pub(super) struct Books {
    pub(super) samples: File,
    pub(super) kernel: Option<KernelLog>,
}

/// What a life showed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seen {
    /// Highest usage, bytes.
    pub(super) peak: u64,
    /// Processes that the kernel killed.
    pub(super) kills: u64,
    /// Whether the kernel named the command's own process as a victim.
    pub(super) main_named: bool,
}

/// A life under watch.
#[derive(Debug)]
pub(super) struct Watch {
    stop: Arc<AtomicBool>,
    /// Whether SIGKILL ended the command.
    killed: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<Seen>>,
}

impl Watch {
    /// Begins. `main` is the command's process.
    pub(super) fn begin(
        cgroup: Cgroup,
        subject: Subject,
        main: u32,
        books: Arc<Mutex<Books>>,
        received: Arc<Received>,
        live: Live,
    ) -> io::Result<Self> {
        let (stop, killed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (stopped, was_killed) = (Arc::clone(&stop), Arc::clone(&killed));
        let thread = thread::Builder::new().name("watch".into()).spawn(move || {
            let mut books = books.lock().unwrap_or_else(PoisonError::into_inner);
            let mut watcher = Watcher::new(cgroup, subject, main, &received, live);
            let mut result = Ok(());
            while !stopped.load(Ordering::Acquire) {
                result = result.and(watcher.look(&mut books));
                wait(&books);
            }
            result
                .and(watcher.end(&mut books, was_killed.load(Ordering::Acquire)))
                .map(|()| watcher.seen(&books))
        })?;
        Ok(Self { stop, killed, thread })
    }

    /// Ends it, after the last process is gone. `killed`: whether SIGKILL ended the command itself.
    pub(super) fn end(self, killed: bool) -> io::Result<Seen> {
        self.killed.store(killed, Ordering::Release);
        self.stop.store(true, Ordering::Release);
        // A panic was told by its hook; the life is over in any case.
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the watch over the command failed")))
    }
}

/// Until the next look, or until the kernel says something.
fn wait(books: &Books) {
    let timeout = Timespec { tv_sec: 0, tv_nsec: LOOK_EVERY.as_nanos() as i64 };
    match &books.kernel {
        Some(kernel) => {
            let kmsg = kernel.fd();
            let _ = poll(&mut [PollFd::new(&kmsg, PollFlags::IN)], Some(&timeout));
        }
        None => thread::sleep(LOOK_EVERY),
    }
}

struct Watcher<'a> {
    cgroup: Cgroup,
    subject: Subject,
    main: u32,
    received: &'a Received,
    live: Live,
    reading: Reading,
    peak: u64,
    /// When the last sample went into the record, and its usage.
    written: Option<(Instant, u64)>,
    /// A kill that was counted, and is not in the record yet.
    risen: Option<(Instant, Reading)>,
    photographed: Option<Instant>,
    shown: Option<Instant>,
    known: HashSet<u32>,
    /// The newest reading is not in the record.
    pending: bool,
}

impl<'a> Watcher<'a> {
    fn new(cgroup: Cgroup, subject: Subject, main: u32, received: &'a Received, live: Live) -> Self {
        Self {
            cgroup,
            subject,
            main,
            received,
            live,
            reading: Reading::default(),
            peak: 0,
            written: None,
            risen: None,
            photographed: None,
            shown: None,
            known: HashSet::from([main]),
            pending: false,
        }
    }

    fn look(&mut self, books: &mut Books) -> io::Result<()> {
        let before = self.reading;
        if self.written.is_none() && self.cgroup.read_seldom(&mut self.reading).is_err() {
            return Ok(());
        }
        // Between the end of the last process and ours the cgroup is still there.
        if self.cgroup.read(&mut self.reading).is_err() {
            return Ok(());
        }
        let usage = self.reading.usage.unwrap_or_default();
        self.peak = self.peak.max(usage);
        if before.oom_kill.is_some() && before.oom_kill != self.reading.oom_kill && self.risen.is_none() {
            // What it was like just before the kill.
            if self.pending {
                write_sample(&mut books.samples, &self.subject, &before, None, Vec::new())?;
            }
            self.risen = Some((Instant::now(), self.reading));
        }
        self.pending = true;
        match self.risen {
            Some((at, reading)) if at.elapsed() >= DYING_MAX && self.main_lives() => {
                write_sample(&mut books.samples, &self.subject, &reading, None, Vec::new())?;
                self.risen = None;
            }
            // Whether the command went with it shows in a moment.
            Some(_) => {}
            None if self.is_worth_keeping(usage) => {
                let processes = self.photograph(usage);
                let count = self.cgroup.pids(usize::MAX).ok().map(|pids| pids.len() as u64);
                write_sample(&mut books.samples, &self.subject, &self.reading, count, processes)?;
                self.written = Some((Instant::now(), usage));
                self.pending = false;
            }
            None => {}
        }
        self.hear(books)?;
        self.show(usage);
        Ok(())
    }

    /// Whether the command's own process is there, and not only as what its parent has not been told of yet.
    fn main_lives(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.main)).unwrap_or_default();
        let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
        state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
    }

    fn hear(&self, books: &mut Books) -> io::Result<()> {
        let Some(kernel) = &mut books.kernel else { return Ok(()) };
        kernel.look(&|pid| self.known.contains(&pid))
    }

    fn is_worth_keeping(&self, usage: u64) -> bool {
        let Some((at, written)) = self.written else { return true };
        let whole = self.reading.limit.unwrap_or(written).max(1) as f64;
        usage.abs_diff(written) as f64 > STEP_SHARE * whole || at.elapsed() >= SAMPLE_EVERY_MAX
    }

    /// Who holds what, if it is time to look.
    fn photograph(&mut self, usage: u64) -> Vec<ProcessSample> {
        let near = self.reading.limit.is_some_and(|limit| usage as f64 > NEAR_SHARE * limit as f64);
        let every = if near { PROCESSES_EVERY_NEAR } else { PROCESSES_EVERY };
        if self.photographed.is_some_and(|at| at.elapsed() < every) {
            return Vec::new();
        }
        self.photographed = Some(Instant::now());
        let pids = self.cgroup.pids(processes::PROCESSES_MAX).unwrap_or_default();
        if self.known.len() < KNOWN_MAX {
            self.known.extend(&pids);
        }
        let proc = Path::new("/proc");
        let seen = processes::read(proc, &pids, processes::uptime_seconds(proc));
        seen.iter().map(processes::Process::sample).collect()
    }

    fn show(&mut self, usage: u64) {
        if !self.live.is_on() || self.shown.is_some_and(|at| at.elapsed() < LINE_EVERY) {
            return;
        }
        self.shown = Some(Instant::now());
        let requests = self.received.requests.load(Ordering::Relaxed);
        self.live.show(&line(&self.subject.name, usage, self.reading.limit, requests));
    }

    /// The last sample: the cgroup is empty by now.
    fn end(&mut self, books: &mut Books, killed: bool) -> io::Result<()> {
        // The kernel writes its report before the victim is gone, so all of it is there.
        self.hear(books)?;
        let last = match self.risen {
            // The command went with it: the sample of its end says so.
            Some(_) if killed => None,
            Some((_, reading)) => Some(reading),
            None => self.pending.then_some(self.reading),
        };
        if let Some(reading) = last {
            write_sample(&mut books.samples, &self.subject, &reading, None, Vec::new())?;
        }
        let _ = self.cgroup.read_seldom(&mut self.reading);
        let _ = self.cgroup.read(&mut self.reading);
        self.peak = self.peak.max(self.reading.peak.unwrap_or_default());
        if !killed {
            // A kill that is counted only now took a child: the command lived on, if only for a moment.
            write_sample(&mut books.samples, &self.subject, &self.reading, None, Vec::new())?;
            self.reading.at = wall_now();
        }
        write_sample(&mut books.samples, &self.subject, &self.reading, Some(0), Vec::new())
    }

    fn seen(&self, books: &Books) -> Seen {
        let named = |kernel: &KernelLog| kernel.victims().contains(&self.main);
        Seen {
            peak: self.peak,
            kills: self.reading.oom_kill.unwrap_or_default(),
            main_named: books.kernel.as_ref().is_some_and(named),
        }
    }
}

/// `shop: 143 MiB of 200 MiB (71 %) · 1,204 requests`
fn line(name: &str, usage: u64, limit: Option<u64>, requests: u64) -> String {
    let memory = match limit {
        Some(limit) if limit > 0 => {
            let percent = usage as f64 * 100.0 / limit as f64;
            format!("{} of {} ({percent:.0} %)", Bytes(usage), Bytes(limit))
        }
        _ => format!("{}, no limit", Bytes(usage)),
    };
    let requests = match requests {
        0 => "no requests seen yet".to_owned(),
        1 => "1 request".to_owned(),
        more => format!("{more} requests"),
    };
    format!("exit137 run: {name} holds {memory} · {requests}")
}

/// One line, as `docs/formats.md` describes it.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    pod_uid: &'a str,
    container: &'a str,
    container_id: &'a str,
    cgroup_path: &'a str,
    limit: Option<u64>,
    usage: Option<u64>,
    anon: Option<u64>,
    file: Option<u64>,
    shmem: Option<u64>,
    mapped_file: Option<u64>,
    inactive_file: Option<u64>,
    active_file: Option<u64>,
    kernel: Option<u64>,
    swap: Option<u64>,
    failcnt: Option<u64>,
    oom: Option<u64>,
    oom_kill: Option<u64>,
    processes: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    procs: Vec<ProcessLine>,
}

#[derive(Serialize)]
struct ProcessLine {
    pid: u32,
    ppid: Option<u32>,
    comm: Box<str>,
    rss: u64,
    threads: u32,
}

fn write_sample(
    out: &mut File,
    subject: &Subject,
    reading: &Reading,
    processes: Option<u64>,
    procs: Vec<ProcessSample>,
) -> io::Result<()> {
    let procs = procs.into_iter().map(|process| ProcessLine {
        pid: process.pid,
        ppid: process.parent_pid,
        comm: process.comm,
        rss: process.rss,
        threads: process.threads,
    });
    let line = Line {
        time: rfc3339(reading.at),
        pod_uid: &subject.pod_uid,
        container: &subject.name,
        container_id: &subject.container_id,
        cgroup_path: &subject.path,
        limit: reading.limit,
        usage: reading.usage,
        anon: reading.anon,
        file: reading.file,
        shmem: reading.shmem,
        mapped_file: reading.mapped_file,
        inactive_file: reading.inactive_file,
        active_file: reading.active_file,
        kernel: reading.kernel,
        swap: reading.swap,
        failcnt: reading.failcnt,
        oom: reading.oom,
        oom_kill: reading.oom_kill,
        processes,
        procs: procs.collect(),
    };
    let mut bytes = serde_json::to_vec(&line)?;
    bytes.push(b'\n');
    out.write_all(&bytes)
}

fn rfc3339(at: UnixNanos) -> String {
    at.to_timestamp().map(|time| format!("{time:.6}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::line;

    #[test]
    fn the_live_line_says_memory_limit_and_requests() {
        assert_eq!(
            line("shop", 150 << 20, Some(200 << 20), 12),
            "exit137 run: shop holds 150 MiB of 200 MiB (75 %) · 12 requests"
        );
        assert_eq!(
            line("shop", 150 << 20, None, 0),
            "exit137 run: shop holds 150 MiB, no limit · no requests seen yet"
        );
    }
}
