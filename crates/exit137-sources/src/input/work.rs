//! The workers and what they share.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use exit137_core::observation::{Observations, SourceKind};

use super::blocks::{Blocks, Buffer, DOCUMENT_BYTES_MAX, Next};
use super::documents::{self, NOT_RECOGNISED};
use super::stream::{self, Stream};
use super::walk::{Entry, Origin};
use super::{Progress, ReadError};
use crate::location::Location;
use crate::otlp::proto::Messages;
use crate::otlp::sink::{Room, Sink};
use crate::{journal, kernel_log, kubernetes, otlp};

/// YAML is read as a whole; a list of all pods of a large cluster fits.
const YAML_BYTES_MAX: usize = 64 << 20;

const STREAM_BUFFER_BYTES: usize = 256 << 10;

/// Reads all `entries` with this many threads, and keeps what there is room for.
pub(super) fn read_all(
    entries: &[Entry],
    threads: usize,
    room: &Room,
    progress: &dyn Progress,
) -> Result<Observations, ReadError> {
    let mut order: Vec<usize> = (0..entries.len()).collect();
    order.sort_by_key(|&number| (entries[number].bytes, usize::MAX - number));
    let queue = Queue {
        entries,
        progress,
        state: Mutex::new(State { waiting: order, ..State::default() }),
        changed: Condvar::new(),
    };
    let sinks: Vec<Sink> = std::thread::scope(|scope| {
        let helpers: Vec<_> = (1..threads).map(|_| scope.spawn(|| work(&queue, room.clone()))).collect();
        let mut sinks = vec![work(&queue, room.clone())];
        // A worker that panicked has lost its records; the panic must not be lost too.
        sinks.extend(helpers.into_iter().map(|helper| match helper.join() {
            Ok(sink) => sink,
            Err(panic) => std::panic::resume_unwind(panic),
        }));
        sinks
    });
    let state = queue.state.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some((number, source)) = state.failed.into_iter().next()
        && let Origin::Path(path) = &entries[number].origin
    {
        return Err(ReadError::Open { path: path.clone(), source });
    }
    let mut outcome = join(sinks);
    for (number, line) in state.unrecognised {
        let entry = &entries[number];
        if entry.named || !is_companion(&entry.name) {
            outcome.problems.add(&entry.name, line, NOT_RECOGNISED);
        }
    }
    Ok(outcome)
}

/// What all workers found, as one.
pub(super) fn join(mut sinks: Vec<Sink>) -> Observations {
    // The largest takes the others in: less is moved, and each of them is gone before the next.
    sinks.sort_by_key(|sink| sink.observations.traces.spans.len());
    let mut found: BTreeSet<(u32, SourceKind)> = BTreeSet::new();
    let mut outcome = Observations::default();
    if let Some(mut largest) = sinks.pop() {
        found.append(&mut largest.found);
        outcome = largest.observations;
    }
    for mut sink in sinks {
        found.append(&mut sink.found);
        outcome.absorb(sink.observations);
    }
    found.into_iter().for_each(|(_, kind)| outcome.count(kind, 0, true));
    outcome
}

/// Files that lie beside a recording and tell people about it.
fn is_companion(name: &str) -> bool {
    let name = name.rsplit('/').next().unwrap_or(name);
    let starts = ["README", "LICENSE", "NOTICE", "verdict."];
    let ends = [".md", ".txt", ".yaml", ".yml", ".html"];
    starts.iter().any(|start| name.starts_with(start)) || ends.iter().any(|end| name.ends_with(end))
}

struct Queue<'a> {
    entries: &'a [Entry],
    progress: &'a dyn Progress,
    state: Mutex<State<'a>>,
    /// A file was opened, or its last block was taken.
    changed: Condvar,
}

#[derive(Default)]
struct State<'a> {
    /// Entries nobody has opened, the next one last.
    waiting: Vec<usize>,
    /// Workers that are opening a file, which may need help.
    opening: usize,
    shared: Vec<Arc<Shared<'a>>>,
    /// Named entries that could not be opened.
    failed: BTreeMap<usize, io::Error>,
    /// Entries with something unknown in them, with the first such line.
    unrecognised: BTreeMap<usize, Option<usize>>,
}

/// A file that several workers read.
struct Shared<'a> {
    number: usize,
    pieces: Pieces<'a>,
}

/// What such a file is cut into.
enum Pieces<'a> {
    Documents(Mutex<Blocks<'a>>),
    Messages(Mutex<Messages<BufReader<Stream<'a>>>>),
}

/// What a worker has in hand, kept between pieces.
#[derive(Default)]
struct Hands {
    documents: Buffer,
    messages: Vec<u8>,
}

enum Task<'a> {
    Open(usize),
    Help(Arc<Shared<'a>>),
}

/// A lock that is not afraid of a panic elsewhere: that panic ends the reading anyway.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> Queue<'a> {
    fn take(&self) -> Option<Task<'a>> {
        let mut state = lock(&self.state);
        loop {
            if let Some(number) = state.waiting.pop() {
                state.opening += 1;
                return Some(Task::Open(number));
            }
            if let Some(shared) = state.shared.last() {
                return Some(Task::Help(Arc::clone(shared)));
            }
            if state.opening == 0 {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn opened(&self, shared: Option<Arc<Shared<'a>>>) {
        let mut state = lock(&self.state);
        state.opening -= 1;
        state.shared.extend(shared);
        self.changed.notify_all();
    }

    fn finished(&self, number: usize) {
        lock(&self.state).shared.retain(|shared| shared.number != number);
    }

    fn unrecognised(&self, number: usize, line: Option<usize>) {
        let mut state = lock(&self.state);
        let first = state.unrecognised.entry(number).or_insert(line);
        *first = (*first).min(line);
    }
}

fn work(queue: &Queue<'_>, room: Room) -> Sink {
    let mut sink = Sink::with_room(room);
    let mut hands = Hands::default();
    while let Some(task) = queue.take() {
        match task {
            Task::Open(number) => open(queue, number, &mut sink, &mut hands),
            Task::Help(shared) => read_pieces(queue, &shared, &mut sink, &mut hands),
        }
    }
    sink
}

fn open(queue: &Queue<'_>, number: usize, sink: &mut Sink, hands: &mut Hands) {
    let entry = &queue.entries[number];
    sink.file_number = number as u32;
    let blocks = match stream::open(entry, queue.progress) {
        Ok(stream) => Blocks::open(stream),
        Err(error) => {
            if entry.named && matches!(entry.origin, Origin::Path(_)) {
                lock(&queue.state).failed.insert(number, error);
            } else {
                sink.observations.problems.add(&entry.name, None, format!("cannot open: {error}"));
            }
            return queue.opened(None);
        }
    };
    match pieces(blocks) {
        Ok(pieces) => {
            let shared = Arc::new(Shared { number, pieces });
            queue.opened(Some(Arc::clone(&shared)));
            read_pieces(queue, &shared, sink, hands);
        }
        Err(blocks) => {
            queue.opened(None);
            if let Err(error) = read_whole(queue, number, blocks, sink) {
                sink.observations.problems.add(&entry.name, None, format!("cannot read on: {error}"));
            }
        }
    }
}

/// Cuts a file of many documents or messages; `Err` is a file that one worker reads as a whole.
fn pieces(blocks: Blocks<'_>) -> Result<Pieces<'_>, Blocks<'_>> {
    if otlp::proto::is_framed(blocks.head()) {
        let reader = BufReader::with_capacity(STREAM_BUFFER_BYTES, blocks.into_stream());
        return Ok(Pieces::Messages(Mutex::new(Messages::of(reader))));
    }
    if !otlp::proto::looks_like(blocks.head()) && is_json(blocks.head()) {
        return Ok(Pieces::Documents(Mutex::new(blocks)));
    }
    Err(blocks)
}

fn is_json(head: &[u8]) -> bool {
    let start = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    let start = start.trim_ascii_start().strip_prefix(b"\x1e").unwrap_or(start.trim_ascii_start());
    match start.first() {
        // A journal's records are read in order, as one kernel log.
        Some(b'{') => !documents::is_journal(start),
        // The lines of a kernel log may start with a time in brackets.
        Some(b'[') => !kernel_log::looks_like(head),
        _ => false,
    }
}

fn read_pieces(queue: &Queue<'_>, shared: &Shared<'_>, sink: &mut Sink, hands: &mut Hands) {
    let file = queue.entries[shared.number].name.as_str();
    sink.file_number = shared.number as u32;
    let failure = match &shared.pieces {
        Pieces::Documents(blocks) => {
            read_documents(queue, shared.number, blocks, sink, &mut hands.documents);
            queue.finished(shared.number);
            lock(blocks).failure()
        }
        Pieces::Messages(messages) => {
            loop {
                let next = lock(messages).next(&mut hands.messages);
                let Some(first) = next else { break };
                otlp::proto::decode_block(&hands.messages, first, file, sink);
            }
            queue.finished(shared.number);
            lock(messages).failure()
        }
    };
    if let Some(error) = failure {
        sink.observations.problems.add(file, None, format!("cannot read on: {error}"));
    }
}

fn read_documents(
    queue: &Queue<'_>,
    number: usize,
    blocks: &Mutex<Blocks<'_>>,
    sink: &mut Sink,
    buffer: &mut Buffer,
) {
    let file = queue.entries[number].name.as_str();
    loop {
        let next = lock(blocks).next(buffer);
        match next {
            Next::Block(line) => {
                let unknown = documents::decode(buffer.bytes(), Location { file, line }, sink);
                if unknown.is_some() {
                    queue.unrecognised(number, unknown);
                }
            }
            Next::TooLarge(line) => {
                let message = format!("expected documents of at most {} MiB", DOCUMENT_BYTES_MAX >> 20);
                sink.observations.problems.add(file, Some(line), message);
            }
            Next::End => break,
        }
    }
}

/// Reads a file that is not JSON.
fn read_whole(queue: &Queue<'_>, number: usize, mut blocks: Blocks<'_>, sink: &mut Sink) -> io::Result<()> {
    let file = queue.entries[number].name.as_str();
    if exit137_journal::is_journal(blocks.head()) {
        let mut bytes = Vec::new();
        let read = blocks.into_stream().take(journal::BYTES_MAX).read_to_end(&mut bytes);
        match exit137_journal::read(&bytes) {
            Ok(life) => sink.foreign(|observations| journal::add(&life, file, observations)),
            Err(error) => sink.observations.problems.add(file, None, error.to_string()),
        }
        return read.map(drop);
    }
    if blocks.is_small()
        && let Some(boot_time) = kernel_log::boot_time(blocks.head(), file)
    {
        sink.observations.boot_times.push(boot_time);
        return Ok(());
    }
    if blocks.head().is_empty() {
        if queue.entries[number].named {
            sink.observations.problems.add(file, None, "expected records, found nothing at all");
        }
        return blocks.failure().map_or(Ok(()), Err);
    }
    if kernel_log::looks_like(blocks.head()) || documents::is_journal(blocks.head()) {
        let mut result = Ok(());
        let mut reader = BufReader::with_capacity(STREAM_BUFFER_BYTES, blocks.into_stream());
        sink.foreign(|observations| result = kernel_log::decode(&mut reader, file, observations));
        return result;
    }
    if kubernetes::looks_like_yaml(blocks.head()) {
        let mut bytes = Vec::new();
        let read = blocks.into_stream().take(YAML_BYTES_MAX as u64).read_to_end(&mut bytes);
        let text = String::from_utf8_lossy(&bytes);
        let mut records = 0;
        sink.foreign(|observations| {
            records = kubernetes::decode_yaml(&text, Location { file, line: 1 }, observations);
        });
        sink.count(SourceKind::Kubernetes, records);
        return read.map(drop);
    }
    if otlp::proto::looks_like(blocks.head()) {
        let mut reader = BufReader::with_capacity(STREAM_BUFFER_BYTES, blocks.into_stream());
        return otlp::proto::decode(&mut reader, file, sink);
    }
    queue.unrecognised(number, None);
    Ok(())
}
