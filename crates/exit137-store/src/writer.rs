//! Appending: callers queue pieces, one thread writes them to the log and answers when the disk has them. While it
//! waits for the disk, the queue grows, and the next sync is for all of it: the busier, the fewer syncs a piece.

use std::collections::{HashSet, VecDeque};
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use crate::catalogue::Mark;
use crate::direct::{self, Appender};
use crate::folder::UNFINISHED;
use crate::piece::{ContainerId, Identity, Piece};
use crate::record::{BODY_BYTES_MAX, Entry, HEAD_BYTES, KIND_IDENTITY, RECORD_ALIGNMENT};
use crate::segment::{FileHead, Records, seal};

/// Why pieces were not taken. None of them was.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AppendError {
    /// More waits to be written than memory allows.
    #[error("{waiting_bytes} bytes wait to be written: the memory budget is used up")]
    Busy {
        /// Bytes in the queue.
        waiting_bytes: u64,
        /// When to try again.
        retry_after: Duration,
    },
    /// No room on the disk, or in the budget.
    #[error("no room left: {what}")]
    Full {
        /// The disk or the budget.
        what: &'static str,
        /// When to try again.
        retry_after: Duration,
    },
    /// One piece is larger than any record.
    #[error("a piece of {bytes} bytes: at most {PIECE_BYTES_MAX} expected")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The disk failed.
    #[error("cannot write the log")]
    Broken(#[source] Arc<io::Error>),
    /// The store is being closed.
    #[error("the store is closed")]
    Closed,
}

/// Says that pieces are on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    /// How many.
    pub pieces: usize,
}

/// What is called with the answer.
pub(crate) type Done = Box<dyn FnOnce(Result<Ack, AppendError>) + Send>;

/// So that it fits into a record when it is joined to others.
const PIECE_BYTES_MAX: usize = BODY_BYTES_MAX as usize / 4 * 3;

/// Written and synced together at most.
const GROUP_BYTES: u64 = 16 << 20;
/// More entries than this are not held in memory for one log: 64 bytes each.
const LOG_ENTRIES_MAX: usize = 1 << 16;
/// When there is no room, there will hardly be any sooner.
const RETRY_FULL: Duration = Duration::from_secs(5);
/// A full queue is written in about this time.
const RETRY_BUSY: Duration = Duration::from_secs(1);

struct Batch {
    pieces: Vec<(Piece, u32)>,
    bytes: u64,
    done: Done,
}

/// What waits to be written.
#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<QueueState>,
    changed: Condvar,
}

#[derive(Default)]
struct QueueState {
    batches: VecDeque<Batch>,
    bytes: u64,
    closed: bool,
    /// Seal the log after what waits, and tell these.
    seal: Vec<SyncSender<()>>,
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues pieces; the checksums are made here, in the caller's thread.
    pub fn push(&self, pieces: Vec<Piece>, bytes_max: u64, done: Done) {
        if let Some(piece) = pieces.iter().find(|piece| piece.bytes.len() > PIECE_BYTES_MAX) {
            let bytes = piece.bytes.len();
            return done(Err(AppendError::TooLarge { bytes }));
        }
        let cost =
            |piece: &Piece| (piece.bytes.len() + piece.container.encoded().len() + 2 * HEAD_BYTES) as u64;
        let bytes = pieces.iter().map(cost).sum();
        let pieces = pieces.into_iter().map(|piece| {
            let crc = crc32fast::hash(&piece.bytes);
            (piece, crc)
        });
        let batch = Batch { pieces: pieces.collect(), bytes, done };
        let refused = {
            let mut state = self.state();
            let waiting_bytes = state.bytes;
            if state.closed {
                AppendError::Closed
            } else if waiting_bytes > 0 && waiting_bytes + bytes > bytes_max {
                AppendError::Busy { waiting_bytes, retry_after: RETRY_BUSY }
            } else {
                state.bytes += bytes;
                state.batches.push_back(batch);
                drop(state);
                return self.changed.notify_all();
            }
        };
        (batch.done)(Err(refused));
    }

    pub fn waiting_bytes(&self) -> u64 {
        self.state().bytes
    }

    /// Asks for the log to be sealed; answered when it is.
    pub fn seal(&self, sealed: SyncSender<()>) {
        self.state().seal.push(sealed);
        self.changed.notify_all();
    }

    fn take_seal(&self) -> Vec<SyncSender<()>> {
        let mut state = self.state();
        if state.batches.is_empty() { std::mem::take(&mut state.seal) } else { Vec::new() }
    }

    /// Takes nothing more; what waits is still written.
    pub fn close(&self) {
        self.state().closed = true;
        self.changed.notify_all();
    }

    /// The next group, empty when there was none for `patience`; `None` after the end.
    fn take(&self, patience: Duration) -> Option<Vec<Batch>> {
        let mut state = self.state();
        if state.batches.is_empty() && state.seal.is_empty() && !state.closed {
            let waited = self.changed.wait_timeout(state, patience);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        if state.batches.is_empty() {
            return (!state.closed).then(Vec::new);
        }
        let mut group = Vec::new();
        let mut bytes = 0;
        while let Some(batch) = state.batches.pop_front() {
            bytes += batch.bytes;
            group.push(batch);
            if bytes >= GROUP_BYTES {
                break;
            }
        }
        Some(group)
    }

    fn written(&self, bytes: u64) {
        self.state().bytes -= bytes;
    }
}

/// The log as readers see it: what is durable.
#[derive(Debug)]
pub(crate) struct OpenLog {
    pub path: PathBuf,
    pub head: FileHead,
    file: File,
    entries: RwLock<Vec<Entry>>,
}

impl OpenLog {
    /// The entries that `wanted` picks, by offset.
    pub fn entries(&self, wanted: &dyn Fn(&Entry) -> bool) -> Vec<Entry> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.iter().filter(|entry| wanted(entry)).copied().collect()
    }

    /// The earliest and the latest time of any piece.
    pub fn window(&self) -> Option<(i64, i64)> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let pieces = || entries.iter().filter(|entry| entry.kind != KIND_IDENTITY);
        let first = pieces().map(|entry| entry.first).min()?;
        Some((first, pieces().map(|entry| entry.last).max()?))
    }

    pub fn records(&self) -> Records<'_> {
        Records { file: &self.file, memory: None, window: None, nonce: self.head.nonce }
    }
}

/// The log as it is written.
struct LogWriter {
    open: Arc<OpenLog>,
    file: Appender,
    /// Containers whose identity is in this log.
    introduced: HashSet<ContainerId>,
    since: Instant,
    entries: usize,
}

/// What the writing thread needs from the rest of the store.
pub(crate) trait Owner: Send + Sync {
    /// A number for a new log, its path, its head and how much space to reserve.
    fn next_log(&self) -> (PathBuf, FileHead, u64);
    /// Readers find pieces in `log` from now on.
    fn opened(&self, log: &Arc<OpenLog>, reserved_bytes: u64);
    /// Pieces are durable: `stored_bytes` in the log, up to `counted`.
    fn appended(&self, pieces: &mut dyn Iterator<Item = &Piece>, stored_bytes: u64, counted: Mark);
    /// `log` is sealed and should be read as a segment; or it cannot be, and stays as it is.
    fn sealed(&self, log: &Arc<OpenLog>);
    /// Why nothing may be written now.
    fn refuses(&self) -> Option<AppendError>;
    /// Seconds on the store's clock.
    fn now_seconds(&self) -> u64;
    /// Something that an operator should know.
    fn problem(&self, what: String);
}

/// Writes until the queue is closed. Runs in a thread of its own.
pub(crate) fn run(queue: &Queue, owner: &dyn Owner, log_bytes: u64, log_age: Duration) {
    let mut log: Option<LogWriter> = None;
    while let Some(group) = queue.take(Duration::from_millis(200)) {
        let bytes = group.iter().map(|batch| batch.bytes).sum();
        if !group.is_empty() {
            let outcome = owner.refuses().map_or(Ok(()), Err).and_then(|()| write(&mut log, &group, owner));
            queue.written(bytes);
            for batch in group {
                let ack = Ack { pieces: batch.pieces.len() };
                (batch.done)(outcome.clone().map(|()| ack));
            }
        }
        let old = |log: &LogWriter| {
            log.entries > 0 && (log.since.elapsed() >= log_age || log.entries >= LOG_ENTRIES_MAX)
                || log.file.position() >= log_bytes
        };
        let asked = queue.take_seal();
        if log.as_ref().is_some_and(|log| old(log) || !asked.is_empty() && log.entries > 0) {
            log.take().into_iter().for_each(|log| end(log, owner));
        }
        for asked in asked {
            // Whoever asked may be gone.
            let _ = asked.send(());
        }
    }
    log.take().into_iter().for_each(|log| end(log, owner));
}

fn write(log: &mut Option<LogWriter>, group: &[Batch], owner: &dyn Owner) -> Result<(), AppendError> {
    if log.is_none() {
        *log = Some(begin(owner).map_err(append_error)?);
    }
    let Some(writer) = log.as_mut() else {
        return Err(AppendError::Closed);
    };
    let before = writer.file.position();
    let mut introduced = Vec::new();
    let mut entries = Vec::new();
    match append(writer, group, &mut introduced, &mut entries) {
        Ok(()) => {
            writer.entries += entries.len();
            let open = &writer.open;
            open.entries.write().unwrap_or_else(PoisonError::into_inner).append(&mut entries);
            let counted = Mark { log: open.head.first_log, offset: writer.file.position() };
            let mut pieces = group.iter().flat_map(|batch| &batch.pieces).map(|(piece, _)| piece);
            owner.appended(&mut pieces, counted.offset - before, counted);
            Ok(())
        }
        Err(error) => {
            writer.introduced.retain(|container| !introduced.contains(container));
            let failed = append_error(error);
            let taken_back = writer.file.take_back();
            // After a failed sync nobody knows what the disk has: this file is not written to again.
            if matches!(failed, AppendError::Broken(_)) || taken_back.is_err() {
                owner.problem(format!(
                    "{}: writing failed: going on in a new log",
                    writer.open.path.display()
                ));
                log.take().into_iter().for_each(|log| end(log, owner));
            }
            Err(failed)
        }
    }
}

fn append(
    log: &mut LogWriter,
    group: &[Batch],
    introduced: &mut Vec<ContainerId>,
    entries: &mut Vec<Entry>,
) -> io::Result<()> {
    let nonce = log.open.head.nonce;
    for (piece, crc) in group.iter().flat_map(|batch| &batch.pieces) {
        let container = piece.container.id();
        if log.introduced.insert(container) {
            introduced.push(container);
            entries.push(append_identity(&mut log.file, nonce, &piece.container)?);
        }
        let entry = Entry {
            offset: log.file.position(),
            stored_bytes: piece.bytes.len() as u32,
            raw_bytes: piece.bytes.len() as u32,
            container,
            first: piece.first.0,
            last: piece.last.0,
            count: piece.count,
            pieces: 1,
            kind: piece.kind as u8,
            encoding: piece.encoding as u8,
            zstd: false,
            joined: false,
        };
        append_record(&mut log.file, nonce, &entry, &piece.bytes, *crc)?;
        entries.push(entry);
    }
    log.file.sync()
}

/// Writes one record at the end of `file`.
pub(crate) fn append_record(
    file: &mut Appender,
    nonce: u64,
    entry: &Entry,
    body: &[u8],
    crc: u32,
) -> io::Result<()> {
    file.append(&entry.head(nonce, crc))?;
    file.append(body)?;
    file.align(RECORD_ALIGNMENT)
}

/// Writes who a container is.
pub(crate) fn append_identity(file: &mut Appender, nonce: u64, identity: &Identity) -> io::Result<Entry> {
    let body = identity.encoded();
    let entry = Entry {
        offset: file.position(),
        stored_bytes: body.len() as u32,
        raw_bytes: body.len() as u32,
        container: identity.id(),
        first: i64::MAX,
        last: i64::MIN,
        count: 0,
        pieces: 0,
        kind: KIND_IDENTITY,
        encoding: 0,
        zstd: false,
        joined: false,
    };
    append_record(file, nonce, &entry, body, crc32fast::hash(body))?;
    Ok(entry)
}

fn begin(owner: &dyn Owner) -> io::Result<LogWriter> {
    let (path, head, reserved_bytes) = owner.next_log();
    // It has its name once its head is durable: a kill before that leaves nothing that looks like a damaged log.
    let unfinished = path.with_added_extension(&UNFINISHED[1..]);
    let mut file = Appender::create(&unfinished, reserved_bytes)?;
    let written = file.append(&head.to_bytes()).and_then(|()| file.sync()).and_then(|()| {
        std::fs::rename(&unfinished, &path)?;
        path.parent().map_or(Ok(()), direct::sync_folder)?;
        direct::open_to_read(&path)
    });
    let reader = written.inspect_err(|_| {
        let _ = std::fs::remove_file(&unfinished).or_else(|_| std::fs::remove_file(&path));
    })?;
    let open = Arc::new(OpenLog { path, head, file: reader, entries: RwLock::default() });
    owner.opened(&open, reserved_bytes);
    Ok(LogWriter { open, file, introduced: HashSet::new(), since: Instant::now(), entries: 0 })
}

/// Seals a log. If that fails it is still readable from memory, and the next start repairs it.
fn end(log: LogWriter, owner: &dyn Owner) {
    let mut entries = log.open.entries(&|_| true);
    match seal(log.file, log.open.head.nonce, &mut entries, owner.now_seconds()) {
        Ok(()) => owner.sealed(&log.open),
        Err(error) => owner.problem(format!("{}: cannot be sealed: {error}", log.open.path.display())),
    }
}

fn append_error(error: io::Error) -> AppendError {
    use io::ErrorKind as K;
    match error.kind() {
        K::StorageFull | K::QuotaExceeded | K::FileTooLarge => {
            AppendError::Full { what: "the disk is full", retry_after: RETRY_FULL }
        }
        _ => AppendError::Broken(Arc::new(error)),
    }
}

/// The answer when the budget is used up and nothing could be dropped in time.
pub(crate) fn over_budget() -> AppendError {
    AppendError::Full { what: "the disk budget is used up", retry_after: RETRY_BUSY }
}
