//! From a subject to a verdict: gathers what is recorded, decodes it on all cores, and asks the core.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use exit137_core::observation::Observations;
use exit137_core::time::UnixNanos;
use exit137_core::verdict::{Gap, IncidentVerdict, LeakVerdict, Verdict};
use exit137_sources::Pieces;
use exit137_store::{DatabaseError, Encoding, Kind, Reason, Store};

use super::evidence::{self, Gathered, Piece, Window};
use super::subject::Scope;
use crate::commands::machine::memory_available;
use crate::config::Size;

/// Decoders at most: more would take the machine from those who send.
const WORKERS_MAX: usize = 4;

/// Bytes handed to a decoder at once.
const BATCH_BYTES: usize = 256 << 10;

/// Batches that wait.
const BATCHES_MAX: usize = 8;

/// A span takes a third of its bytes on the wire as observation.
const BYTES_READ_PER_BYTE_KEPT: u64 = 3;

/// What it costs when records are gone.
pub(super) const AGED_OUT: &str =
    "evidence has aged out: what happened earlier in this life cannot be looked at any more";

/// Whether the verdict is made from less than there once was.
pub(super) fn is_partial(incident: &IncidentVerdict) -> bool {
    incident.gaps.iter().any(|gap| gap.effect == AGED_OUT)
}
/// The core needs as much again as it is given.
const KEPT_PART: u64 = 2;

/// Of what the machine has left, a verdict takes at most this part.
const AVAILABLE_PART: u64 = 2;

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JudgeError {
    #[error("cannot read the catalogue")]
    Catalogue(#[from] DatabaseError),
    #[error("cannot read what is recorded")]
    Read(#[from] io::Error),
}

/// What to judge.
pub(super) struct Case<'a> {
    pub(super) store: &'a Store,
    pub(super) scope: &'a Scope,
    pub(super) window: &'a Window,
    /// What decoded records may take.
    pub(super) kept_bytes_max: u64,
    pub(super) disk_budget: Size,
    /// Held while decoded records are in memory: one verdict at a time has room.
    pub(super) room: &'a Mutex<()>,
}

/// What decoded records may take, when a verdict may take so much. A tool about OOM kills must not be one, whatever the
/// settings say.
pub(super) fn kept_bytes_max(memory: Size) -> u64 {
    let available = memory_available().map_or(u64::MAX, |bytes| bytes / AVAILABLE_PART);
    memory.0.min(available) / KEPT_PART
}

/// How many bytes of spans to read.
pub(super) fn span_bytes_max(kept_bytes_max: u64) -> u64 {
    kept_bytes_max.saturating_mul(BYTES_READ_PER_BYTE_KEPT)
}

/// The verdict on everything recorded about the subject, and on nothing else.
pub(super) fn judge(case: &Case<'_>) -> Result<Verdict, JudgeError> {
    let room = case.room.lock().unwrap_or_else(PoisonError::into_inner);
    let (observations, gathered) = observe(case)?;
    let mut verdict = exit137_core::diagnose(&observations);
    drop(observations);
    drop(room);
    verdict.incidents.retain(|incident| case.scope.is_about(incident));
    let lost = lost(case, gathered)?;
    for incident in &mut verdict.incidents {
        let gaps: Vec<Gap> =
            lost.iter().filter(|(last, _)| concerns(incident, *last)).map(|(_, gap)| gap.clone()).collect();
        incident.gaps.extend(gaps);
    }
    Ok(verdict)
}

/// What leaks and was not killed yet.
pub(super) fn leaks(case: &Case<'_>) -> Result<Vec<LeakVerdict>, JudgeError> {
    let _room = case.room.lock().unwrap_or_else(PoisonError::into_inner);
    let (observations, _) = observe(case)?;
    Ok(exit137_core::diagnose(&observations).leaks)
}

/// Whether what was dropped up to `last` lies in the lives that an incident is about.
fn concerns(incident: &IncidentVerdict, last: UnixNanos) -> bool {
    let started = incident.kills.iter().filter_map(|kill| kill.life_started_at).min();
    started.is_none_or(|started| last >= started)
}

/// Decodes everything that is recorded.
pub(super) fn observe(case: &Case<'_>) -> Result<(Observations, Gathered), JudgeError> {
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(WORKERS_MAX);
    let first = Pieces::new(case.kept_bytes_max);
    let (sender, receiver) = sync_channel::<Batch>(BATCHES_MAX);
    let receiver = Arc::new(Mutex::new(receiver));
    std::thread::scope(|scope| {
        let hands: Vec<_> = (0..workers)
            .map(|_| {
                let (receiver, pieces) = (Arc::clone(&receiver), first.worker());
                scope.spawn(move || decode(&receiver, pieces))
            })
            .collect();
        let mut feed = Feed { sender, batch: None, kernel: Kernel::default(), pieces: first };
        let gathered = evidence::gather(case.store, case.scope, case.window, &mut |piece| feed.add(piece));
        let own = feed.finish();
        let decoded = hands.into_iter().map(|hand| match hand.join() {
            Ok(pieces) => pieces,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        let all: Vec<Pieces> = decoded.chain([own]).collect();
        let is_full = all.iter().any(Pieces::is_full);
        let observations = Pieces::join(all);
        gathered.map(|gathered| (observations, Gathered { is_full, ..gathered }))
    })
    .map_err(JudgeError::from)
}

/// Records of one kind in one encoding.
struct Batch {
    kind: Kind,
    encoding: Encoding,
    bytes: Vec<u8>,
}

/// The name of the file in which such records would be captured; problems name it.
pub(super) fn file_of(kind: Kind, encoding: Encoding) -> &'static str {
    match (kind, encoding) {
        (Kind::Spans, Encoding::Json) => "otlp/traces.jsonl",
        (Kind::Spans, _) => "otlp/traces.binpb",
        (Kind::Metrics | Kind::Samples, Encoding::Json) => "otlp/metrics.jsonl",
        (Kind::Metrics | Kind::Samples, _) => "otlp/metrics.binpb",
        (Kind::Logs, Encoding::Json) => "otlp/logs.jsonl",
        (Kind::Logs, _) => "otlp/logs.binpb",
        (Kind::Kubernetes, _) => "k8s/objects.jsonl",
        (Kind::Cgroup, _) => "cgroup/samples.jsonl",
        (Kind::KernelLog, Encoding::Binary) => "clock.txt",
        (Kind::KernelLog, _) => "kernel.log",
        (Kind::Journal, _) => "journal",
    }
}

fn decode(receiver: &Mutex<Receiver<Batch>>, mut pieces: Pieces) -> Pieces {
    loop {
        let next = receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(batch) = next else { return pieces };
        let file = file_of(batch.kind, batch.encoding);
        match batch.encoding {
            Encoding::Json => pieces.json(file, &batch.bytes),
            _ => pieces.otlp_protobuf(file, &batch.bytes),
        }
    }
}

/// The lines of a kernel log so far.
#[derive(Default)]
struct Kernel {
    folder: String,
    lines: Vec<u8>,
}

/// Collects pieces into batches; what is small is decoded on the spot.
struct Feed {
    sender: SyncSender<Batch>,
    batch: Option<Batch>,
    kernel: Kernel,
    pieces: Pieces,
}

impl Feed {
    fn add(&mut self, piece: Piece<'_>) {
        match (piece.kind, piece.encoding) {
            (Kind::KernelLog, encoding) => self.kernel(piece, encoding),
            (Kind::Journal, _) => self.pieces.journal("journal", piece.bytes),
            // Joined, protobuf messages of one signal are one message again, and JSON documents a sequence.
            (kind, encoding @ (Encoding::Protobuf | Encoding::Json)) => {
                self.append(kind, encoding, piece.bytes)
            }
            (Kind::Cgroup, encoding) => self.append(Kind::Cgroup, encoding, piece.bytes),
            _ => {}
        }
    }

    fn append(&mut self, kind: Kind, encoding: Encoding, bytes: &[u8]) {
        let fits = |batch: &Batch| {
            batch.kind == kind && batch.encoding == encoding && batch.bytes.len() < BATCH_BYTES
        };
        if !self.batch.as_ref().is_some_and(fits) {
            self.flush();
            self.batch = Some(Batch { kind, encoding, bytes: Vec::with_capacity(BATCH_BYTES + bytes.len()) });
        }
        if let Some(batch) = &mut self.batch {
            batch.bytes.extend_from_slice(bytes);
            if encoding == Encoding::Json {
                batch.bytes.push(b'\n');
            }
        }
    }

    fn flush(&mut self) {
        if let Some(batch) = self.batch.take() {
            // The decoders live as long as the feed.
            let _ = self.sender.send(batch);
        }
    }

    fn kernel(&mut self, piece: Piece<'_>, encoding: Encoding) {
        let folder = format!("kernel/{}", piece.container);
        if folder != self.kernel.folder {
            self.end_kernel_log();
            self.kernel.folder = folder;
        }
        if encoding == Encoding::Binary {
            let file = format!("{}/{}", self.kernel.folder, file_of(Kind::KernelLog, encoding));
            self.pieces.boot_time(&file, piece.bytes);
        } else {
            self.kernel.lines.extend_from_slice(piece.bytes);
        }
    }

    fn end_kernel_log(&mut self) {
        let kernel = std::mem::take(&mut self.kernel);
        if !kernel.lines.is_empty() {
            self.pieces.kernel_log(&format!("{}/kernel.log", kernel.folder), &kernel.lines);
        }
    }

    fn finish(mut self) -> Pieces {
        self.flush();
        self.end_kernel_log();
        self.pieces
    }
}

/// What there was once, or is too much: up to when, and how it is told.
fn lost(case: &Case<'_>, gathered: Gathered) -> Result<Vec<(UnixNanos, Gap)>, JudgeError> {
    let mut told = Vec::new();
    let own = case.scope.all();
    for dropped in case.store.dropped(Some(&own))? {
        let concerns = dropped.last >= case.window.from && dropped.first <= case.window.to;
        if !concerns || dropped.reason == Reason::Thinned {
            continue;
        }
        let remedy = match dropped.reason {
            Reason::Age => "keep them longer: the ages under [keep] in the settings".to_owned(),
            Reason::Budget => format!("raise --disk-budget, now {}", case.disk_budget),
            _ => "see the problems on the recorder's page: a file was damaged".to_owned(),
        };
        let gap = Gap {
            missing: format!("{} recorded before {} are gone", kind_words(dropped.kind), dropped.last),
            effect: AGED_OUT.to_owned(),
            remedy,
        };
        told.push((dropped.last, gap));
    }
    if gathered.truncated || gathered.is_full {
        let read = Size(gathered.span_bytes >> 20 << 20);
        let gap = Gap {
            missing: match gathered.is_full {
                true => format!("not all of the latest {read} of spans before the kill fit into memory"),
                false => format!("only the latest {read} of spans before the kill were looked at"),
            },
            effect: "calls that were left out count for nothing in the verdict".to_owned(),
            remedy: "raise `memory` under [verdict] in the settings, if the machine has more".to_owned(),
        };
        told.push((UnixNanos(i64::MAX), gap));
    }
    if gathered.damaged > 0 {
        let gap = Gap {
            missing: format!("{} recorded pieces are damaged", gathered.damaged),
            effect: "what was in them is not part of the verdict".to_owned(),
            remedy: "check the disk; the recorder's page says which file it is".to_owned(),
        };
        told.push((UnixNanos(i64::MAX), gap));
    }
    Ok(told)
}

fn kind_words(kind: Kind) -> &'static str {
    match kind {
        Kind::Spans => "spans",
        Kind::Metrics | Kind::Samples => "memory metrics",
        Kind::Logs => "log records",
        Kind::Kubernetes => "Kubernetes objects",
        Kind::KernelLog => "kernel log lines",
        Kind::Cgroup => "cgroup samples",
        Kind::Journal => "journals",
    }
}
