//! The store as the server sees it: opens the folder, hands pieces to the writing thread, and reads them back from
//! wherever they lie.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, mpsc};
use std::thread::JoinHandle;

use exit137_core::time::UnixNanos;

use crate::catalogue::{self, Container, ContainerFilter, Dropped, Mark, Pending};
use crate::clock::{Clock, wall_seconds};
use crate::database::{self, DatabaseError};
use crate::direct::Aligned;
use crate::incidents::{self, Incident, IncidentFilter, Incidents, Page};
use crate::options::StoreOptions;
use crate::piece::{ContainerId, Found, Piece};
use crate::reading::{Query, ReadSummary, Reading};
use crate::record::Entry;
use crate::segment::{FileHead, Segment};
use crate::state::State;
use crate::writer::{self, Ack, AppendError, OpenLog, Owner, Queue, over_budget};
use crate::{folder, siphash};

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("{}: already in use by process {pid}: one server a data folder", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
        /// Who has it, as far as is known.
        pid: String,
    },
    /// The folder or a file in it.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The database.
    #[error("{}: cannot be used", path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// Why.
        source: DatabaseError,
    },
}

/// Problems are for people: the last ones are enough.
const PROBLEMS_MAX: usize = 100;

/// The files that are read from.
#[derive(Default)]
pub(crate) struct Live {
    /// Sealed, by the number of their first log.
    pub segments: Vec<Arc<Segment>>,
    /// The log that is written, and such as could not be sealed.
    pub logs: Vec<Arc<OpenLog>>,
}

/// What threads share.
pub(crate) struct Inner {
    pub folder: PathBuf,
    pub options: StoreOptions,
    pub queue: Queue,
    pub live: RwLock<Live>,
    pub database: Mutex<rusqlite::Connection>,
    pub pending: Mutex<Pending>,
    pub clock: Clock,
    /// Of all files of segments, as reserved or as long as they are.
    segment_bytes: AtomicU64,
    /// Of the database and what lies beside it, as last seen.
    database_bytes: AtomicU64,
    /// Bytes appended since the store was opened.
    pub appended_bytes: AtomicU64,
    problems: Mutex<Vec<String>>,
    next_log: AtomicU64,
    nonces: AtomicU64,
}

/// The flight recorder's memory. Closing waits until everything accepted is on the disk.
pub struct Store {
    inner: Arc<Inner>,
    writer: Option<JoinHandle<()>>,
    keeper: Option<JoinHandle<()>>,
    /// Dropped to end the keeper.
    keeping: Option<mpsc::Sender<mpsc::SyncSender<()>>>,
    /// Held as long as the store is open.
    _lock: File,
}

impl Store {
    /// Opens the store in `folder`, made if it is not there. What a kill left unfinished is finished; what is
    /// damaged is put aside and is in [`problems`](Self::problems).
    pub fn open(folder: &Path, options: StoreOptions) -> Result<Self, OpenError> {
        let segments = folder.join("segments");
        let io = |what, path: &Path| {
            let path = path.to_owned();
            move |source| OpenError::Io { what, path, source }
        };
        std::fs::create_dir_all(&segments).map_err(io("make the folder", &segments))?;
        let lock = lock(folder)?;
        let mut problems = Vec::new();
        let path = folder.join(folder::DATABASE);
        let database = folder::open_database(&path, &mut problems)
            .map_err(|source| OpenError::Database { path: path.clone(), source })?;
        let opened = folder::open_segments(&segments, &mut problems).map_err(io("read", &segments))?;

        let clock_error = |source| OpenError::Database { path: path.clone(), source };
        let fact = |name| database::fact(&database, name).map_err(clock_error);
        let reached = opened.newest_seconds.max(fact("clock_seconds")?.unwrap_or(0));
        let catalogued = catalogue::saved(&database).map_err(clock_error)?;
        let clock = Clock::resume(reached, fact("wall_seconds")?, wall_seconds());
        let inner = Arc::new(Inner {
            folder: folder.to_owned(),
            options,
            queue: Queue::default(),
            segment_bytes: AtomicU64::new(opened.segments.iter().map(|segment| segment.length).sum()),
            database_bytes: AtomicU64::new(0),
            appended_bytes: AtomicU64::new(0),
            live: RwLock::new(Live { segments: opened.segments, logs: Vec::new() }),
            database: Mutex::new(database),
            pending: Mutex::default(),
            clock,
            problems: Mutex::default(),
            next_log: AtomicU64::new(opened.next_log),
            nonces: AtomicU64::new(siphash::seed()),
        });
        problems.into_iter().for_each(|problem| inner.problem(problem));
        inner.catalogue_after(catalogued);
        Self::start(inner, lock).map_err(io("start a thread for", folder))
    }

    fn start(inner: Arc<Inner>, lock: File) -> io::Result<Self> {
        let writing = Arc::clone(&inner);
        let writer = std::thread::Builder::new().name("store-writer".to_owned()).spawn(move || {
            let (bytes, age) = (writing.options.log_bytes(), writing.options.log_age());
            writer::run(&writing.queue, &*writing, bytes, age);
        })?;
        let (keeping, ended) = mpsc::channel();
        let kept = Arc::clone(&inner);
        let keeper = std::thread::Builder::new()
            .name("store-keeper".to_owned())
            .spawn(move || crate::keeper::run(&kept, &ended))?;
        Ok(Self { inner, writer: Some(writer), keeper: Some(keeper), keeping: Some(keeping), _lock: lock })
    }

    /// Keeps pieces: returns when they are on the disk, all or none. Many callers at once share a sync.
    pub fn append(&self, pieces: Vec<Piece>) -> Result<Ack, AppendError> {
        let (sender, receiver) = mpsc::sync_channel(1);
        self.append_then(pieces, move |answer| drop(sender.send(answer)));
        receiver.recv().unwrap_or(Err(AppendError::Closed))
    }

    /// Keeps pieces without waiting: `done` is called once, with what [`append`](Self::append) would have returned,
    /// from the writing thread. It must not block.
    pub fn append_then(
        &self,
        pieces: Vec<Piece>,
        done: impl FnOnce(Result<Ack, AppendError>) + Send + 'static,
    ) {
        self.inner.queue.push(pieces, self.inner.options.queue_bytes(), Box::new(done));
    }

    /// Seals the log, and returns when everything that can be dropped, compressed or joined now is. The store does
    /// this by itself when there is time; before its folder is copied or measured, there may be none.
    pub fn settle(&self) {
        let (answer, answered) = mpsc::sync_channel(1);
        self.inner.queue.seal(answer.clone());
        if answered.recv().is_ok() && self.keeping.as_ref().is_some_and(|keeper| keeper.send(answer).is_ok())
        {
            // The only way that it fails is the end of the thread, which is said elsewhere.
            let _ = answered.recv();
        }
    }

    /// Calls `each` with every piece that `query` asks for, those that arrived last first, until it breaks off. Pieces are whole:
    /// one that reaches into the window may reach out of it too.
    pub fn read(
        &self,
        query: &Query,
        each: &mut dyn FnMut(Found<'_>) -> ControlFlow<()>,
    ) -> io::Result<ReadSummary> {
        let query = &query.sorted();
        let (segments, logs) = {
            let live = self.inner.live.read().unwrap_or_else(PoisonError::into_inner);
            let touched = |segment: &&Arc<Segment>| segment.touches(query.from.0, query.to.0);
            (live.segments.iter().filter(touched).cloned().collect::<Vec<_>>(), live.logs.clone())
        };
        let problem = &|what: String| self.inner.problem(what);
        let mut reading = Reading::new(query, each);
        for log in logs.iter().rev() {
            let entries = log.entries(&|entry| query.wants(entry));
            if !reading.pieces(log.records(), &entries, &log.path, problem)? {
                return Ok(reading.summary);
            }
        }
        for segment in segments.iter().rev() {
            let entries = match reading.wanted(segment) {
                Ok(entries) => entries,
                Err(damage) => {
                    reading.summary.damaged += 1;
                    problem(format!("{}: {damage}", segment.path.display()));
                    continue;
                }
            };
            if !reading.pieces(segment.records(), &entries, &segment.path, problem)? {
                break;
            }
        }
        Ok(reading.summary)
    }

    /// Containers that pieces were received from.
    pub fn containers(&self, filter: &ContainerFilter) -> Result<Vec<Container>, DatabaseError> {
        self.inner.save_catalogue()?;
        self.inner.with_database(|database| catalogue::list(database, filter))
    }

    /// One container by its id.
    pub fn container(&self, id: ContainerId) -> Result<Option<Container>, DatabaseError> {
        self.inner.save_catalogue()?;
        self.inner.with_database(|database| catalogue::one(database, id))
    }

    /// What was dropped so far: of these containers, and of whole segments, whoever was in them.
    pub fn dropped(&self, containers: Option<&[ContainerId]>) -> Result<Vec<Dropped>, DatabaseError> {
        self.inner.with_database(|database| catalogue::dropped(database, containers))
    }

    /// Saves an incident in place of the one with the same key.
    pub fn put_incident(&self, incident: &Incident) -> Result<(), DatabaseError> {
        self.inner.with_database(|database| incidents::put(database, incident))
    }

    /// Forgets an incident: it turned out to be another one, or is too old.
    pub fn delete_incident(&self, key: &str) -> Result<(), DatabaseError> {
        self.inner.with_database(|database| incidents::delete(database, key))
    }

    /// One incident, with its JSON.
    pub fn incident(&self, key: &str) -> Result<Option<Incident>, DatabaseError> {
        self.inner.with_database(|database| incidents::one(database, key))
    }

    /// A page of the incidents that pass a filter.
    pub fn incidents(&self, filter: &IncidentFilter, page: Page) -> Result<Incidents, DatabaseError> {
        self.inner.with_database(|database| incidents::list(database, filter, page))
    }

    /// How full it is, and how far back it reaches.
    pub fn state(&self) -> State {
        let inner = &self.inner;
        let live = inner.live.read().unwrap_or_else(PoisonError::into_inner);
        let mut state = State {
            disk_bytes: inner.disk_bytes(),
            disk_budget_bytes: inner.options.disk_budget_bytes,
            segments: live.segments.len(),
            appended_bytes: inner.appended_bytes.load(Ordering::Relaxed),
            waiting_bytes: inner.queue.waiting_bytes(),
            ..State::default()
        };
        let sealed = live.segments.iter().map(|segment| (segment.end.first, segment.end.last));
        let open = live.logs.iter().filter_map(|log| log.window());
        for (first, last) in sealed.chain(open).filter(|(first, last)| first <= last) {
            state.first = Some(state.first.map_or(UnixNanos(first), |known| known.min(UnixNanos(first))));
            state.last = Some(state.last.map_or(UnixNanos(last), |known| known.max(UnixNanos(last))));
        }
        state
    }

    /// What went wrong since the store was opened: the last hundred.
    pub fn problems(&self) -> Vec<String> {
        self.inner.problems.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.inner.queue.close();
        self.keeping = None;
        for thread in [self.writer.take(), self.keeper.take()].into_iter().flatten() {
            if thread.join().is_err() {
                tracing::error!("a thread of the store ended in a panic");
            }
        }
        if let Err(error) = self.inner.save_catalogue().and_then(|()| self.inner.save_clock()) {
            tracing::warn!(%error, "the catalogue was not saved; the next start makes it anew");
        }
    }
}

/// Takes the folder for this process. The lock is the kernel's: a killed server leaves none behind.
fn lock(folder: &Path) -> Result<File, OpenError> {
    let path = folder.join("lock");
    let io = |what| {
        let path = path.clone();
        move |source| OpenError::Io { what, path, source }
    };
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
    let file = file.as_mut().map_err(|error| io::Error::from(error.kind())).map_err(io("open"))?;
    match rustix::fs::flock(&*file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut pid = String::new();
            let known = file.take(20).read_to_string(&mut pid).is_ok() && !pid.trim().is_empty();
            let pid = if known { pid.trim().to_owned() } else { "that did not say which".to_owned() };
            return Err(OpenError::InUse { path: folder.to_owned(), pid });
        }
        Err(error) => return Err(io("lock")(error.into())),
    }
    // For the message above. That it cannot be written (a full disk) is no reason not to start.
    let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    file.try_clone().map_err(io("open"))
}

impl Inner {
    /// Works with the database. When it turns out to be damaged, this fails, and the next call finds a new one.
    pub(crate) fn with_database<T>(
        &self,
        work: impl FnOnce(&mut rusqlite::Connection) -> Result<T, DatabaseError>,
    ) -> Result<T, DatabaseError> {
        let mut database = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        let result = work(&mut database);
        if result.as_ref().is_err_and(DatabaseError::is_damage) {
            let mut problems = Vec::new();
            if let Err(error) = folder::renew_database(&self.database_path(), &mut database, &mut problems) {
                problems.push(format!("{error}: no new database"));
            }
            self.pending().begun += 1;
            drop(database);
            problems.into_iter().for_each(|problem| self.problem(problem));
            self.catalogue_after(Mark::default());
        }
        result
    }

    fn database_path(&self) -> PathBuf {
        self.folder.join(folder::DATABASE)
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the database which containers pieces were received from.
    pub(crate) fn save_catalogue(&self) -> Result<(), DatabaseError> {
        let (containers, counted, begun) = {
            let mut pending = self.pending();
            (pending.take(), pending.counted, pending.begun)
        };
        if containers.is_empty() {
            return Ok(());
        }
        let is_old = || self.pending().begun != begun;
        let saved = self.with_database(|database| {
            if is_old() {
                return Ok(());
            }
            catalogue::save(database, &containers, counted, self.clock.now_seconds())
        });
        let mut pending = self.pending();
        match &saved {
            _ if pending.begun != begun => {}
            Ok(()) => pending.saved = pending.saved.max(counted),
            Err(_) => pending.put_back(containers),
        }
        saved
    }

    /// Whether the database knows all pieces of these segments; else a rewritten one would not tell which it knows.
    pub(crate) fn knows(&self, segments: &[Arc<Segment>]) -> bool {
        let saved = self.pending().saved;
        segments.iter().all(|segment| segment.head.last_log < saved.log)
    }

    /// Forgets containers of which nothing can be left.
    pub(crate) fn forget_containers(&self) -> Result<(), DatabaseError> {
        let longest = self.options.ages.iter().max().map_or(0, |age| age.as_secs());
        // A segment is as young as its newest piece, and is looked at now and then.
        let slack = 2 * self.options.log_age().as_secs();
        match self.clock.now_seconds().checked_sub(longest.saturating_add(slack)) {
            Some(before) => self.with_database(|database| catalogue::forget(database, before)),
            None => Ok(()),
        }
    }

    pub(crate) fn save_clock(&self) -> Result<(), DatabaseError> {
        let facts = [("clock_seconds", self.clock.now_seconds()), ("wall_seconds", wall_seconds())];
        self.with_database(|database| {
            facts.iter().try_for_each(|(name, number)| database::put_fact(database, name, *number))
        })
    }

    /// Notes whose pieces the segments hold that the database was not told of: a kill came before, or it is new.
    fn catalogue_after(&self, saved: Mark) {
        // Nothing is counted by others meanwhile.
        let mut pending = self.pending();
        let (segments, logs) = {
            let live = self.live.read().unwrap_or_else(PoisonError::into_inner);
            (live.segments.clone(), live.logs.clone())
        };
        pending.take();
        let sealed = segments.iter().map(|segment| segment.head.last_log).max().unwrap_or(0);
        (pending.counted, pending.saved) = (pending.counted.max(Mark::after(sealed)), saved);
        for segment in segments {
            let head = &segment.head;
            let from = match head.first_log.cmp(&saved.log) {
                std::cmp::Ordering::Greater => 0,
                // Only in a log do offsets stay what they were; segments are made of logs that are known.
                std::cmp::Ordering::Equal if head.generation == 0 => saved.offset,
                _ => continue,
            };
            let entries = segment.entries(&mut Aligned::default());
            let noted = entries
                .and_then(|entries| folder::catalogue(&entries, segment.records(), from, &mut pending));
            if let Err(damage) = noted {
                self.problem(format!("{}: {damage}", segment.path.display()));
            }
        }
        for log in logs {
            let counted = pending.counted;
            let is_counted = |entry: &Entry| Mark { log: log.head.first_log, offset: entry.offset } < counted;
            let entries = log.entries(&is_counted);
            if let Err(damage) = folder::catalogue(&entries, log.records(), 0, &mut pending) {
                self.problem(format!("{}: {damage}", log.path.display()));
            }
        }
    }

    /// A nonce that no other file of this store has.
    pub(crate) fn nonce(&self) -> u64 {
        self.nonces.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed)
    }

    /// Of all files.
    pub(crate) fn disk_bytes(&self) -> u64 {
        self.segment_bytes.load(Ordering::Relaxed) + self.database_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn count_database_bytes(&self) {
        let names = ["exit137.sqlite", "exit137.sqlite-wal", "exit137.sqlite-shm"];
        let sizes = names.iter().filter_map(|name| std::fs::metadata(self.folder.join(name)).ok());
        self.database_bytes.store(sizes.map(|file| file.len()).sum(), Ordering::Relaxed);
    }

    /// The sealed segments, the oldest first.
    pub(crate) fn segments(&self) -> Vec<Arc<Segment>> {
        self.live.read().unwrap_or_else(PoisonError::into_inner).segments.clone()
    }

    /// Whether a log that is not sealed has a number in this range.
    pub(crate) fn log_between(&self, first: u64, last: u64) -> bool {
        let live = self.live.read().unwrap_or_else(PoisonError::into_inner);
        live.logs.iter().any(|log| (first..=last).contains(&log.head.first_log))
    }

    /// Puts one segment in the place of others.
    pub(crate) fn replace_segments(&self, old: &[Arc<Segment>], new: Option<Arc<Segment>>) {
        let mut live = self.live.write().unwrap_or_else(PoisonError::into_inner);
        live.segments.retain(|segment| !old.iter().any(|old| Arc::ptr_eq(old, segment)));
        let added = new.as_ref().map_or(0, |segment| segment.length);
        live.segments.extend(new);
        live.segments.sort_by_key(|segment| segment.head.first_log);
        self.segment_bytes.fetch_add(added, Ordering::Relaxed);
        let removed = old.iter().map(|segment| segment.length).sum();
        self.segment_bytes.fetch_sub(removed, Ordering::Relaxed);
    }

    pub(crate) fn segments_folder(&self) -> PathBuf {
        self.folder.join("segments")
    }
}

impl Owner for Inner {
    fn next_log(&self) -> (PathBuf, FileHead, u64) {
        let number = self.next_log.fetch_add(1, Ordering::Relaxed);
        let head = FileHead {
            nonce: self.nonce(),
            first_log: number,
            last_log: number,
            generation: 0,
            oldest_seconds: self.now_seconds(),
            thinned_seconds: 0,
        };
        (self.segments_folder().join(folder::name(&head)), head, self.options.log_bytes())
    }

    fn opened(&self, log: &Arc<OpenLog>, reserved_bytes: u64) {
        self.segment_bytes.fetch_add(reserved_bytes, Ordering::Relaxed);
        self.live.write().unwrap_or_else(PoisonError::into_inner).logs.push(Arc::clone(log));
    }

    fn appended(&self, pieces: &mut dyn Iterator<Item = &Piece>, stored_bytes: u64, counted: Mark) {
        self.appended_bytes.fetch_add(stored_bytes, Ordering::Relaxed);
        let mut pending = self.pending();
        for piece in pieces {
            let bytes = piece.bytes.len() as u64;
            pending.add(&piece.container, piece.first.0, piece.last.0, 1, u64::from(piece.count), bytes);
        }
        pending.counted = counted;
    }

    fn sealed(&self, log: &Arc<OpenLog>) {
        match Segment::open(&log.path, &mut Aligned::default()) {
            Ok(segment) => {
                let mut live = self.live.write().unwrap_or_else(PoisonError::into_inner);
                self.segment_bytes.fetch_add(segment.length, Ordering::Relaxed);
                self.segment_bytes.fetch_sub(self.options.log_bytes(), Ordering::Relaxed);
                live.logs.retain(|open| !Arc::ptr_eq(open, log));
                live.segments.push(Arc::new(segment));
                live.segments.sort_by_key(|segment| segment.head.first_log);
            }
            Err(damage) => self.problem(format!("{}: {damage}", log.path.display())),
        }
    }

    fn refuses(&self) -> Option<AppendError> {
        (self.disk_bytes() > self.options.disk_budget_bytes).then(over_budget)
    }

    fn now_seconds(&self) -> u64 {
        self.clock.now_seconds()
    }

    fn problem(&self, what: String) {
        tracing::warn!("{what}");
        let mut problems = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        if problems.len() == PROBLEMS_MAX {
            problems.remove(0);
        }
        problems.push(what);
    }
}
