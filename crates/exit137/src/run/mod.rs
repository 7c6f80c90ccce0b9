//! `exit137 run`: any program under a memory limit, explained when the kernel kills it.
//!
//! One life after the other: `enclosure` makes the cgroup, `child` starts the command in it, `watch` samples it, and
//! `recorder` takes its telemetry (`environment` tells the command where). All of it becomes a record (`record`), which
//! `verdict` judges as `exit137 diagnose` would.

mod child;
mod enclosure;
mod environment;
mod ids;
mod kernel;
mod live;
mod record;
mod recorder;
mod requests;
mod verdict;
mod watch;

use std::ffi::OsString;
use std::fmt::Write;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use exit137_core::bytes::Bytes;
use exit137_core::verdict::Verdict;
use exit137_sources::ReadError;
use exit137_sources::node::NodeError;
use exit137_sources::node::cgroup::Cgroup;
use rustix::process::Pid;

use child::{End, Signals, StartError};
use enclosure::{Enclosure, EnclosureError, Limits};
use environment::Identity;
use live::Live;
use record::{Record, RecordError};
use recorder::{Recorder, RecorderError};
use watch::{Books, Seen, Subject, Watch};

/// What to run, and how.
#[derive(Debug)]
pub struct Plan {
    /// The command and its arguments.
    pub command: Vec<OsString>,
    /// Limit in bytes.
    pub memory: Option<u64>,
    /// Whether a kill takes all processes of the command.
    pub group_kill: bool,
    /// What the command is called in the verdict, and to OpenTelemetry.
    pub name: String,
    /// Lives to wait for before the verdict: after a kill, the command is started again.
    pub lives: u32,
    /// Where to keep the record.
    pub save: Option<PathBuf>,
    /// Whether to show a live line on a terminal.
    pub live: bool,
    /// Whether to say nothing but the verdict.
    pub quiet: bool,
}

/// How it went.
#[derive(Debug)]
pub struct Outcome {
    /// What the program's own exit code was; 128 and the signal's number for a command that a signal ended.
    pub code: u8,
    /// Why the kernel killed, if it did.
    pub verdict: Option<Verdict>,
}

/// Why nothing was run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No cgroup, no record, no recorder.
    #[error(transparent)]
    Setup(Box<dyn std::error::Error + Send + Sync>),
    /// The command cannot be started.
    #[error(transparent)]
    Start(Box<dyn std::error::Error + Send + Sync>),
    /// There is no such command.
    #[error(transparent)]
    NotFound(Box<dyn std::error::Error + Send + Sync>),
    /// The record cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl RunError {
    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Setup(error) => error.downcast_ref::<EnclosureError>()?.hint(),
            _ => None,
        }
    }
}

macro_rules! setup {
    ($($error:ty),*) => { $(impl From<$error> for RunError {
        fn from(error: $error) -> Self { Self::Setup(error.into()) }
    })* };
}

setup!(EnclosureError, RecordError, RecorderError, NodeError, WatchError);

impl From<StartError> for RunError {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Execute { ref source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Self::NotFound(error.into())
            }
            StartError::Execute { .. } => Self::Start(error.into()),
            StartError::Enter(_) | StartError::Signals(_) => Self::Setup(error.into()),
        }
    }
}

/// The watch over the command could not begin or could not go on.
#[derive(Debug, thiserror::Error)]
#[error("cannot watch the command")]
struct WatchError(#[source] io::Error);

/// Runs the command, for as many lives as it takes.
///
/// # Errors
/// When the command cannot be run in a cgroup of its own. How the command itself fares is no error.
pub fn run(plan: &Plan) -> Result<Outcome, RunError> {
    let record = Record::make(plan.save.as_deref())?;
    let live = Live::new(plan.live);
    let signals = Signals::pass(live.clone())?;
    let limits = Limits { memory: plan.memory, group_kill: plan.group_kill };
    let enclosure = Enclosure::make(limits)?;
    let mut recorder = Recorder::start(record.telemetry())?;
    let kernel = kernel::KernelLog::open(enclosure.path(), &record)?;
    let books = Books { samples: record.file("cgroup/samples.jsonl")?, kernel };
    let stage = Stage {
        plan,
        enclosure: &enclosure,
        record: &record,
        recorder: &recorder,
        books: Arc::new(Mutex::new(books)),
        signals: &signals,
        live,
    };
    let lives = stage.play();
    stage.live.hide();
    drop(stage);
    recorder.finish();
    drop(enclosure);
    let lives = lives?;
    let outcome = conclude(plan, &lives, record, &recorder, &signals)?;
    Ok(outcome)
}

/// How one life went.
#[derive(Debug, Clone, Copy)]
struct Life {
    end: End,
    seen: Seen,
}

impl Life {
    /// Whether the kernel's OOM killer ended the command itself.
    fn is_oom(&self) -> bool {
        // The counter is missing before Linux 4.13, and the log may not be readable.
        self.end.is_killed() && (self.seen.kills > 0 || self.seen.main_named)
    }
}

/// Everything that a life needs.
struct Stage<'a> {
    plan: &'a Plan,
    enclosure: &'a Enclosure,
    record: &'a Record,
    recorder: &'a Recorder,
    books: Arc<Mutex<Books>>,
    signals: &'a Signals,
    live: Live,
}

impl Stage<'_> {
    fn play(&self) -> Result<Vec<Life>, RunError> {
        let mut lives = Vec::new();
        loop {
            let life = self.live_once(lives.len() + 1)?;
            lives.push(life);
            let more = life.is_oom() && (lives.len() as u32) < self.plan.lives;
            if !more || self.signals.ending().is_some() {
                return Ok(lives);
            }
            if !self.plan.quiet {
                self.live.hide();
                let (number, of) = (lives.len(), self.plan.lives);
                eprintln!("exit137 run: OOM-killed, life {number} of {of}; starting again");
            }
        }
    }

    fn live_once(&self, number: usize) -> Result<Life, RunError> {
        let Plan { command, name, .. } = self.plan;
        let cell = self.enclosure.cell()?;
        let cgroup = Cgroup::open(self.enclosure.hierarchy(), &cell.path)?;
        let journals = self.record.journals(number)?;
        let identity = Identity {
            name,
            container_id: &cell.container_id,
            pod_uid: self.enclosure.pod_uid(),
            journals: &journals,
        };
        let variable = |name: &str| std::env::var(name).ok();
        let changes = environment::changes(variable, self.recorder.addresses(), identity);
        if number == 1 && changes.replaced_endpoint && !self.plan.quiet {
            eprintln!("exit137 run: telemetry goes into this run's record, not to the endpoint that was set");
        }
        let mut child = child::start(command, &changes, &cell.entrance)?;
        let main = child.id();
        let watched = Watch::begin(
            cgroup,
            self.subject(&cell),
            main,
            Arc::clone(&self.books),
            Arc::clone(self.recorder.received()),
            self.live.clone(),
        );
        self.signals.aim(Some(Pid::from_child(&child)));
        let end = child::wait(&mut child, self.signals).map_err(WatchError)?;
        // What the command left behind ends with it, as in a container.
        cell.empty();
        let seen = watched.and_then(|watch| watch.end(end.is_killed())).map_err(WatchError)?;
        Ok(Life { end, seen })
    }

    fn subject(&self, cell: &enclosure::Cell) -> Subject {
        Subject {
            name: self.plan.name.clone(),
            pod_uid: self.enclosure.pod_uid().to_owned(),
            container_id: cell.container_id.clone(),
            path: cell.path.clone(),
        }
    }
}

/// The verdict, or a quiet word.
fn conclude(
    plan: &Plan,
    lives: &[Life],
    record: Record,
    recorder: &Recorder,
    signals: &Signals,
) -> Result<Outcome, RunError> {
    let code = lives.last().map_or(0, |life| life.end.code());
    if let Some(reason) = recorder.received().failure() {
        eprintln!("exit137 run: some telemetry is not in the record: {reason}");
    }
    if plan.save.is_some() {
        note(plan, lives, record.folder());
    }
    let kills: u64 = lives.iter().map(|life| life.seen.kills).sum();
    let traced = recorder.received().traces.load(std::sync::atomic::Ordering::Relaxed) > 0;
    let verdict = if kills > 0 {
        Some(verdict::of(record.folder(), &plan.command, traced)?)
    } else {
        if !plan.quiet {
            eprintln!("exit137 run: {}", no_kill(plan, lives));
        }
        None
    };
    // What was borrowed is given back before anything slow or long is printed.
    let saved = plan.save.is_some().then(|| record.folder().to_owned());
    drop(record);
    signals.over();
    if let (Some(folder), false) = (&saved, plan.quiet) {
        eprintln!("exit137 run: the record is in {}: `exit137 diagnose` reads it", folder.display());
    }
    Ok(Outcome { code, verdict })
}

/// `no OOM kill; memory peaked at 143 MiB of 200 MiB (72 %)`
fn no_kill(plan: &Plan, lives: &[Life]) -> String {
    let peak = lives.iter().map(|life| life.seen.peak).max().unwrap_or_default();
    match plan.memory {
        Some(limit) if limit > 0 => {
            let percent = peak as f64 * 100.0 / limit as f64;
            format!("no OOM kill; memory peaked at {} of {} ({percent:.0} %)", Bytes(peak), Bytes(limit))
        }
        _ => format!("no OOM kill; memory peaked at {}, without a limit", Bytes(peak)),
    }
}

/// What people want to know of a record a week later. Its reader leaves such a file alone.
fn note(plan: &Plan, lives: &[Life], folder: &Path) {
    let words: Vec<_> = plan.command.iter().map(|word| word.to_string_lossy()).collect();
    let limit = plan.memory.map_or_else(|| "none".to_owned(), |bytes| Bytes(bytes).to_string());
    let mut text = format!(
        "# {}\n\nRecorded by `exit137 run`; `exit137 diagnose` reads this folder.\n\n- command: `{}`\n- limit: {limit}\n",
        plan.name,
        words.join(" ")
    );
    for (number, life) in lives.iter().enumerate() {
        let (number, code, kills, peak) =
            (number + 1, life.end.code(), life.seen.kills, Bytes(life.seen.peak));
        let _ =
            writeln!(text, "- life {number}: exit code {code}, {kills} processes OOM-killed, peak {peak}");
    }
    // The record is whole without it.
    let _ = fs::write(folder.join("README.md"), text);
}
