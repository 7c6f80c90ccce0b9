//! What is to be sent, on disk: one file a request, so that nothing is lost while the other side is away or when the agent itself
//! is killed. Bounded: the oldest metrics go first, then the oldest of all.
//!
//! A request and the state that says what it covers are one step: the request is written under a name that is not sent,
//! then the state that names it, then it gets its name. Whoever starts after a kill in between finishes or forgets it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What a request holds; also the end of the path that it is sent to, and of its file's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Signal {
    /// Kills, samples and gaps.
    Logs,
    /// Requests that a kill left in flight.
    Traces,
    /// Memory by time.
    Metrics,
}

impl Signal {
    const ALL: [Self; 3] = [Self::Logs, Self::Traces, Self::Metrics];

    /// As in `/v1/logs`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Logs => "logs",
            Self::Traces => "traces",
            Self::Metrics => "metrics",
        }
    }
}

/// The folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpoolError {
    #[error("cannot {what} {}", path.display())]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    #[error("{} is in use by another agent", path.display())]
    InUse { path: PathBuf },
}

/// A request on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) number: u64,
    pub(crate) signal: Signal,
    pub(crate) bytes: u64,
}

impl Entry {
    fn file_name(&self) -> String {
        format!("{:020}.{}", self.number, self.signal.name())
    }

    fn parse(name: &str, bytes: u64) -> Option<Self> {
        let (number, signal) = name.split_once('.')?;
        let signal = Signal::ALL.into_iter().find(|known| known.name() == signal)?;
        Some(Self { number: number.parse().ok()?, signal, bytes })
    }
}

/// The state file: what the requests so far cover.
#[derive(Debug, Serialize, Deserialize)]
struct StateFile<S> {
    /// Requests up to this number belong to it.
    committed: u64,
    state: S,
}

#[derive(Debug, Default)]
struct Queue {
    /// By number.
    entries: Vec<Entry>,
    bytes: u64,
    dropped: u64,
    closed: bool,
}

/// The folder, shared by who fills it and who sends.
#[derive(Debug)]
pub(crate) struct Spool {
    folder: PathBuf,
    budget_bytes: u64,
    queue: Mutex<Queue>,
    changed: Condvar,
    /// Held for as long as the spool is used.
    _lock: File,
}

/// The end that fills the spool.
#[derive(Debug)]
pub(crate) struct Writer {
    spool: Arc<Spool>,
    next: u64,
}

impl Writer {
    /// Opens the folder and makes it if need be. The state is what the last [`Writer::commit`] stored.
    pub(crate) fn open<S: for<'de> Deserialize<'de>>(
        folder: &Path,
        budget_bytes: u64,
    ) -> Result<(Self, Option<S>), SpoolError> {
        let at = |what: &'static str, path: &Path| {
            let path = path.to_owned();
            move |source| SpoolError::Io { what, path, source }
        };
        fs::create_dir_all(folder).map_err(at("make", folder))?;
        let lock_path = folder.join("lock");
        let lock =
            File::options().create(true).append(true).open(&lock_path).map_err(at("open", &lock_path))?;
        if lock.try_lock().is_err() {
            return Err(SpoolError::InUse { path: folder.to_owned() });
        }
        let state_path = folder.join("state");
        // A file that cannot be read is one from before a crash of the machine: then the log is heard from its beginning.
        let stored: Option<StateFile<S>> =
            fs::read(&state_path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let committed = stored.as_ref().map_or(0, |stored| stored.committed);
        let mut queue = Queue::default();
        for entry in fs::read_dir(folder).map_err(at("read", folder))?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let bytes = entry.metadata().map_or(0, |metadata| metadata.len());
            let pending = name.strip_suffix(".new");
            let Some(found) = Entry::parse(pending.unwrap_or(&name), bytes) else { continue };
            if pending.is_some() {
                if found.number > committed {
                    let _ = fs::remove_file(entry.path());
                    continue;
                }
                fs::rename(entry.path(), folder.join(found.file_name()))
                    .map_err(at("rename", &entry.path()))?;
            }
            queue.entries.push(found);
        }
        queue.entries.sort_by_key(|entry| entry.number);
        queue.bytes = queue.entries.iter().map(|entry| entry.bytes).sum();
        let last = queue.entries.last().map_or(0, |entry| entry.number);
        let spool = Spool {
            folder: folder.to_owned(),
            budget_bytes,
            queue: Mutex::new(queue),
            changed: Condvar::new(),
            _lock: lock,
        };
        let writer = Self { spool: Arc::new(spool), next: committed.max(last) + 1 };
        Ok((writer, stored.map(|stored| stored.state)))
    }

    /// For the thread that sends.
    pub(crate) fn reader(&self) -> Arc<Spool> {
        Arc::clone(&self.spool)
    }

    /// Stores `requests` and `state` as one step: after a kill of the agent either all of it is there, or nothing.
    pub(crate) fn commit<S: Serialize>(
        &mut self,
        requests: Vec<(Signal, Vec<u8>)>,
        state: &S,
    ) -> Result<(), SpoolError> {
        let mut entries = Vec::new();
        for (signal, bytes) in requests.into_iter().filter(|(_, bytes)| !bytes.is_empty()) {
            let entry = Entry { number: self.next, signal, bytes: bytes.len() as u64 };
            let path = self.spool.folder.join(format!("{}.new", entry.file_name()));
            // Minutes of metrics are worth no wait for the disk; kills are.
            write(&path, &bytes, signal != Signal::Metrics)?;
            self.next += 1;
            entries.push(entry);
        }
        let stored = StateFile { committed: self.next - 1, state };
        let text = serde_json::to_vec(&stored).unwrap_or_default();
        let durable = entries.iter().any(|entry| entry.signal != Signal::Metrics);
        let (new, path) = (self.spool.folder.join("state.new"), self.spool.folder.join("state"));
        write(&new, &text, durable)?;
        fs::rename(&new, &path).map_err(|source| SpoolError::Io { what: "rename", path: new, source })?;
        for entry in &entries {
            let name = entry.file_name();
            let new = self.spool.folder.join(format!("{name}.new"));
            fs::rename(&new, self.spool.folder.join(name)).map_err(|source| SpoolError::Io {
                what: "rename",
                path: new,
                source,
            })?;
        }
        self.spool.add(entries);
        Ok(())
    }

    /// Requests that had to make room since the last call.
    pub(crate) fn take_dropped(&self) -> u64 {
        std::mem::take(&mut self.spool.lock().dropped)
    }

    /// Nothing more comes: [`Spool::next`] ends when everything is sent.
    pub(crate) fn close(&self) {
        self.spool.lock().closed = true;
        self.spool.changed.notify_all();
    }
}

fn write(path: &Path, bytes: &[u8], durable: bool) -> Result<(), SpoolError> {
    let written = File::create(path).and_then(|mut file| {
        file.write_all(bytes)?;
        if durable { file.sync_data() } else { Ok(()) }
    });
    written.map_err(|source| SpoolError::Io { what: "write", path: path.to_owned(), source })
}

impl Spool {
    fn lock(&self) -> std::sync::MutexGuard<'_, Queue> {
        // The queue is whole between any two statements.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, entries: Vec<Entry>) {
        let mut queue = self.lock();
        queue.bytes += entries.iter().map(|entry| entry.bytes).sum::<u64>();
        queue.entries.extend(entries);
        while queue.bytes > self.budget_bytes && queue.entries.len() > 1 {
            let metrics = queue.entries.iter().position(|entry| entry.signal == Signal::Metrics);
            let entry = queue.entries.remove(metrics.unwrap_or(0));
            queue.bytes -= entry.bytes;
            queue.dropped += 1;
            let _ = fs::remove_file(self.folder.join(entry.file_name()));
        }
        drop(queue);
        self.changed.notify_all();
    }

    /// The oldest request, kills before all else; waits for one, at most `wait`. `Err(true)` when nothing more will come.
    pub(crate) fn next(&self, wait: Duration) -> Result<(Entry, Vec<u8>), bool> {
        let mut queue = self.lock();
        if queue.entries.is_empty() && !queue.closed {
            queue = match self.changed.wait_timeout(queue, wait) {
                Ok((queue, _)) => queue,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
        let first =
            queue.entries.iter().min_by_key(|entry| (entry.signal == Signal::Metrics, entry.number)).cloned();
        let closed = queue.closed;
        drop(queue);
        let entry = first.ok_or(closed)?;
        match fs::read(self.folder.join(entry.file_name())) {
            Ok(bytes) => Ok((entry, bytes)),
            // It has just made room for others.
            Err(_) => {
                self.remove(&entry);
                Err(false)
            }
        }
    }

    /// `entry` was delivered, or can never be.
    pub(crate) fn remove(&self, entry: &Entry) {
        let mut queue = self.lock();
        if let Some(at) = queue.entries.iter().position(|known| known.number == entry.number) {
            queue.entries.remove(at);
            queue.bytes -= entry.bytes;
        }
        let _ = fs::remove_file(self.folder.join(entry.file_name()));
    }

    /// Whether nothing more comes, so that waiting is not worth it.
    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Waits, at most `wait`, unless the spool is closed.
    pub(crate) fn pause(&self, wait: Duration) {
        let queue = self.lock();
        if !queue.closed {
            let _ = self.changed.wait_timeout_while(queue, wait, |queue| !queue.closed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;

    fn open(folder: &Path) -> (Writer, Option<u32>) {
        Writer::open(folder, 100).expect("opens")
    }

    fn left(writer: Writer) -> Vec<Vec<u8>> {
        let spool = writer.reader();
        let mut all = Vec::new();
        while let Ok((entry, bytes)) = spool.next(NOW) {
            spool.remove(&entry);
            all.push(bytes);
        }
        all
    }

    #[test]
    fn what_was_committed_is_there_after_the_end_and_goes_kills_first() {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut writer, state) = open(folder.path());
        assert_eq!(state, None);
        writer
            .commit(vec![(Signal::Metrics, b"m".to_vec()), (Signal::Logs, b"k".to_vec())], &7)
            .expect("stored");
        drop(writer);
        let (writer, state) = open(folder.path());
        assert_eq!((state, left(writer)), (Some(7), vec![b"k".to_vec(), b"m".to_vec()]));
    }

    #[test]
    fn a_step_that_was_cut_off_is_finished_or_forgotten() {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut writer, _) = open(folder.path());
        writer.commit(vec![(Signal::Logs, b"1".to_vec())], &1).expect("stored");
        drop(writer);
        // Killed after the state was written, and once more before it was.
        let name = |number: u64, end: &str| folder.path().join(format!("{number:020}.logs{end}"));
        fs::rename(name(1, ""), name(1, ".new")).expect("renamed");
        fs::write(name(2, ".new"), b"2").expect("written");
        let (writer, state) = open(folder.path());
        assert_eq!((state, left(writer)), (Some(1), vec![b"1".to_vec()]));
        assert!(!name(2, ".new").exists());
    }

    #[test]
    fn the_oldest_metrics_make_room_first() {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut writer, _) = open(folder.path());
        for (signal, byte) in [(Signal::Logs, b'k'), (Signal::Metrics, b'1'), (Signal::Metrics, b'2')] {
            writer.commit(vec![(signal, vec![byte; 40])], &0).expect("stored");
        }
        assert_eq!(writer.take_dropped(), 1);
        let kept: Vec<u8> = left(writer).iter().map(|bytes| bytes[0]).collect();
        assert_eq!(kept, *b"k2");
    }

    #[test]
    fn two_agents_do_not_share_a_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        let _first = open(folder.path());
        let second = Writer::open::<u32>(folder.path(), 1);
        assert!(matches!(second, Err(SpoolError::InUse { .. })));
    }
}
