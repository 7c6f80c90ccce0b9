//! The thread that keeps the store within its bounds while others append and read: drops what is too old or too
//! much, compresses logs when there is time, thins samples, joins small segments.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use crate::budget::{fair_share, keepable};
use crate::catalogue::{self, Reason};
use crate::direct::Aligned;
use crate::merge::{Merged, Plan, Tally, index_bytes, merge};
use crate::piece::{ContainerId, Kind};
use crate::record::Entry;
use crate::segment::Segment;
use crate::store::Inner;
use crate::writer::Owner;

/// Between two looks.
const TICK: Duration = Duration::from_millis(100);
/// The database is told of containers this often, or less when telling it takes more than one part in `SAVE_PARTS` of
/// the time: thousands of containers should not cost more than a few.
const SAVE_MIN: Duration = Duration::from_secs(5);
const SAVE_PARTS: u32 = 400;
/// What was not told is read from the segments again after a kill.
const SAVE_MAX: Duration = Duration::from_secs(60);
/// Above this, a log is more likely dropped than read: compressing it would cost more than receiving it did.
const CALM_BYTES_PER_SECOND: u64 = 64 << 20;
/// So many logs are compressed in any case: each takes an open file.
const LOGS_MAX: usize = 256;
/// Segments are joined when so many small neighbours have gathered.
const JOIN_COUNT: usize = 4;
/// Rewriting a segment must free at least this part of it.
const FREED_PERCENT_MIN: u64 = 25;
/// The database is told this often of what was dropped: a kill in between may lose so much of the counts.
const NOTE_EVERY: Duration = Duration::from_secs(1);
/// Beyond so many containers, what was dropped is noted for all together.
const DROPPED_ROWS_MAX: usize = 200;
/// After so many seconds, samples are thinned to intervals of so many seconds. From the longest.
const THINNING: [(u64, u32); 2] = [(7 * 24 * 3600, 600), (24 * 3600, 60)];

/// Runs until the other end of `asked` is dropped. Whoever asks is answered when nothing is left to do.
pub(crate) fn run(inner: &Inner, asked: &Receiver<SyncSender<()>>) {
    let mut keeper = Keeper::new(inner);
    let mut pause = TICK;
    loop {
        match asked.recv_timeout(pause) {
            Err(RecvTimeoutError::Timeout) => pause = keeper.tick(),
            Err(RecvTimeoutError::Disconnected) => return keeper.note_dropped(),
            Ok(answer) => {
                while matches!(keeper.work(true), Ok(Some(_))) {}
                keeper.note_dropped();
                // Whoever asked may be gone.
                let _ = answer.send(());
            }
        }
    }
}

struct Keeper<'a> {
    inner: &'a Inner,
    /// Bytes of bulk kinds that each container has in sealed segments.
    usage: HashMap<ContainerId, u64>,
    /// The segments that are counted in `usage`, by their nonces.
    counted: HashSet<u64>,
    /// What the database was not told of yet.
    dropped: Tally,
    noted: Instant,
    save_due: Instant,
    forgotten: Instant,
    measured: (Instant, u64),
    bytes_per_second: u64,
}

impl<'a> Keeper<'a> {
    fn new(inner: &'a Inner) -> Self {
        let now = Instant::now();
        let (usage, counted) = (HashMap::new(), HashSet::new());
        // Until it is measured, as busy as can be.
        let bytes_per_second = CALM_BYTES_PER_SECOND;
        let save_due = now + SAVE_MIN;
        let dropped = Tally::default();
        Self {
            inner,
            usage,
            counted,
            dropped,
            noted: now,
            save_due,
            forgotten: now,
            measured: (now, 0),
            bytes_per_second,
        }
    }

    /// Does the one thing that is most urgent; how long to wait for the next.
    fn tick(&mut self) -> Duration {
        let began = Instant::now();
        if began >= self.save_due {
            self.save();
            self.save_due = Instant::now() + (SAVE_PARTS * began.elapsed()).clamp(SAVE_MIN, SAVE_MAX);
        }
        if self.forgotten.elapsed() >= self.inner.options.log_age() {
            self.forgotten = Instant::now();
            if let Err(error) = self.inner.forget_containers() {
                self.inner
                    .problem(format!("{error}: containers of long ago are not forgotten; trying again"));
            }
        }
        if self.noted.elapsed() >= NOTE_EVERY {
            self.note_dropped();
        }
        self.measure();
        let began = Instant::now();
        match self.work(false) {
            Ok(Some(urgent)) => {
                if urgent {
                    Duration::ZERO
                } else {
                    began.elapsed().min(TICK)
                }
            }
            Ok(None) => TICK,
            Err(error) => {
                self.inner.problem(format!("keeping the store in order: {error}; trying again"));
                10 * TICK
            }
        }
    }

    fn save(&self) {
        self.inner.count_database_bytes();
        if let Err(error) = self.inner.save_catalogue().and_then(|()| self.inner.save_clock()) {
            self.inner.problem(format!("{error}: the catalogue was not saved; trying again"));
        }
    }

    /// How quickly pieces come in, over the last seconds.
    fn measure(&mut self) {
        let (since, before) = self.measured;
        let elapsed = since.elapsed();
        if elapsed >= Duration::from_secs(1) {
            let now = self.inner.appended_bytes.load(Ordering::Relaxed);
            let rate = (now - before) as f64 / elapsed.as_secs_f64();
            // Up at once, down by and by: a pause in a flood is no calm.
            self.bytes_per_second = rate.max((self.bytes_per_second as f64 + rate) / 2.0) as u64;
            self.measured = (Instant::now(), now);
        }
    }

    /// `None` when there was nothing to do, else whether there is a hurry. `calm`: as if nothing came in.
    fn work(&mut self, calm: bool) -> io::Result<Option<bool>> {
        let segments = self.inner.segments();
        if self.inner.disk_bytes() > self.inner.options.disk_soft_bytes() && !segments.is_empty() {
            match self.shed(&segments) {
                // No room even to rewrite: what is left is to unlink.
                Err(error) if error.kind() == io::ErrorKind::StorageFull => self.drop_oldest(&segments)?,
                shed => shed?,
            }
            return Ok(Some(true));
        }
        let now = self.inner.now_seconds();
        if let Some(segment) = segments.iter().find(|segment| self.due(segment, now)) {
            self.rewrite(std::slice::from_ref(segment), &|_, _| None)?;
            return Ok(Some(false));
        }
        let mut logs = segments.iter().filter(|segment| segment.head.generation == 0);
        let pressing = logs.clone().count() > LOGS_MAX;
        if calm || self.bytes_per_second < CALM_BYTES_PER_SECOND || pressing {
            if let Some(log) = logs.next() {
                self.rewrite(std::slice::from_ref(log), &|_, _| None)?;
                return Ok(Some(pressing));
            }
            if let Some(range) = joinable(&segments, self.inner) {
                self.rewrite(&segments[range], &|_, _| None)?;
                return Ok(Some(false));
            }
        }
        Ok(None)
    }

    /// Whether a kind in it is too old, or its samples should be thinned.
    fn due(&self, segment: &Segment, now: u64) -> bool {
        let kinds = Kind::ALL.iter().filter(|kind| segment.end.kinds >> **kind as u8 & 1 == 1);
        let mut kinds = kinds.map(|kind| (*kind, self.expired(*kind, segment, now)));
        let samples = segment.end.kinds >> Kind::Samples as u8 & 1 == 1;
        kinds.any(|(_, expired)| expired) || samples && thinning(segment, now) > segment.head.thinned_seconds
    }

    fn expired(&self, kind: Kind, segment: &Segment, now: u64) -> bool {
        segment.end.newest_seconds.saturating_add(self.inner.options.age(kind).as_secs()) < now
    }

    /// Makes one segment of neighbours, without what is too old and what `drop` names.
    fn rewrite(
        &mut self,
        inputs: &[Arc<Segment>],
        drop: &dyn Fn(&Entry, &Segment) -> Option<Reason>,
    ) -> io::Result<()> {
        let now = self.inner.now_seconds();
        let aged = |entry: &Entry, segment: &Segment| {
            let expired = entry.kind().is_some_and(|kind| self.expired(kind, segment, now));
            if expired { Some(Reason::Age) } else { drop(entry, segment) }
        };
        self.let_know(inputs);
        let newest = inputs.iter().max_by_key(|input| input.end.newest_seconds);
        let plan = Plan {
            drop: &aged,
            thin_seconds: newest.map_or(0, |input| thinning(input, now)),
            nonce: self.inner.nonce(),
        };
        let Merged { segment, dropped, damage } = merge(inputs, &self.inner.segments_folder(), &plan)?;
        damage.into_iter().for_each(|damage| self.inner.problem(damage));
        self.replace(inputs, segment, dropped)
    }

    /// Tells the database whose pieces these segments hold, before they are gone or others hold them.
    fn let_know(&self, segments: &[Arc<Segment>]) {
        if !self.inner.knows(segments)
            && let Err(error) = self.inner.save_catalogue()
        {
            // Room is made nevertheless; at worst the catalogue counts too little.
            self.inner.problem(format!("{error}: the catalogue was not saved; trying again"));
        }
    }

    /// Readers find `new` instead of `old` from now on.
    fn replace(&mut self, old: &[Arc<Segment>], new: Option<Segment>, dropped: Tally) -> io::Result<()> {
        for segment in old {
            self.uncount(segment);
        }
        self.inner.replace_segments(old, new.map(Arc::new));
        self.dropped.absorb(dropped);
        // The order matters: were they gone before the new one counted, a kill in between would lose them.
        old.iter().try_for_each(|segment| std::fs::remove_file(&segment.path))
    }

    /// Tells the database what was dropped since it was last told.
    fn note_dropped(&mut self) {
        self.noted = Instant::now();
        let rows = self.dropped.rows(DROPPED_ROWS_MAX);
        if rows.is_empty() {
            return;
        }
        match self.inner.with_database(|database| catalogue::note_dropped(database, &rows)) {
            Ok(()) => self.dropped = Tally::default(),
            Err(error) => {
                self.inner.problem(format!("{error}: what was dropped is not counted; trying again"))
            }
        }
    }

    /// Frees space: the oldest of the containers that hold more than their share.
    fn shed(&mut self, segments: &[Arc<Segment>]) -> io::Result<()> {
        for segment in segments {
            self.count(segment);
        }
        let soft = self.inner.options.disk_soft_bytes();
        let over = self.inner.disk_bytes().saturating_sub(soft);
        let need = over + self.inner.options.log_bytes();
        let share = fair_share(self.usage.values().copied().collect(), need);
        let mut excess: HashMap<ContainerId, u64> = HashMap::new();
        for (container, bytes) in self.usage.iter().filter(|(_, bytes)| **bytes > share) {
            excess.insert(*container, *bytes - share);
        }
        for segment in segments {
            let Some(busy) = self.busy(segment, &excess) else {
                continue;
            };
            let drop = |entry: &Entry, _: &Segment| {
                let bulk = entry.kind().is_some_and(Kind::is_bulk);
                (bulk && busy.contains(&entry.container)).then_some(Reason::Budget)
            };
            return self.rewrite(std::slice::from_ref(segment), &drop);
        }
        self.drop_oldest(segments)
    }

    /// The containers whose bulk should leave this segment; `None` when that would free too little of it.
    fn busy(&self, segment: &Segment, excess: &HashMap<ContainerId, u64>) -> Option<HashSet<ContainerId>> {
        let entries = segment.entries(&mut Aligned::default()).ok()?;
        let mut bytes = 0;
        let mut busy = HashSet::new();
        for entry in keepable(&entries).filter(|entry| excess.contains_key(&entry.container)) {
            bytes += entry.span();
            busy.insert(entry.container);
        }
        (bytes > 0 && bytes * 100 >= segment.length * FREED_PERCENT_MIN).then_some(busy)
    }

    /// Nobody holds more than others, or nothing but lasting kinds is left: all of the oldest segment goes.
    fn drop_oldest(&mut self, segments: &[Arc<Segment>]) -> io::Result<()> {
        let bulky = |segment: &&Arc<Segment>| {
            Kind::ALL.iter().any(|kind| kind.is_bulk() && segment.end.kinds >> *kind as u8 & 1 == 1)
        };
        let Some(oldest) = segments.iter().find(bulky).or(segments.first()) else {
            return Ok(());
        };
        self.let_know(std::slice::from_ref(oldest));
        let mut dropped = Tally::default();
        for entry in oldest.entries(&mut Aligned::default()).unwrap_or_default() {
            dropped.add(&entry, Reason::Budget);
        }
        self.replace(std::slice::from_ref(oldest), None, dropped)
    }

    fn count(&mut self, segment: &Segment) {
        if !self.counted.insert(segment.head.nonce) {
            return;
        }
        for entry in keepable(&segment.entries(&mut Aligned::default()).unwrap_or_default()) {
            *self.usage.entry(entry.container).or_default() += entry.span();
        }
    }

    fn uncount(&mut self, segment: &Segment) {
        if !self.counted.remove(&segment.head.nonce) {
            return;
        }
        for entry in keepable(&segment.entries(&mut Aligned::default()).unwrap_or_default()) {
            if let Some(bytes) = self.usage.get_mut(&entry.container) {
                *bytes = bytes.saturating_sub(entry.span());
                if *bytes == 0 {
                    self.usage.remove(&entry.container);
                }
            }
        }
    }
}

/// The interval to which the samples of a segment of this age are thinned.
fn thinning(segment: &Segment, now: u64) -> u32 {
    let age = now.saturating_sub(segment.end.newest_seconds);
    let step = THINNING.iter().find(|(after, _)| age >= *after).map_or(0, |(_, every)| *every);
    step.max(segment.head.thinned_seconds)
}

/// Small neighbours that should be one: alike in age, so that what expires together lies together.
fn joinable(segments: &[Arc<Segment>], inner: &Inner) -> Option<std::ops::Range<usize>> {
    let size = inner.options.segment_bytes();
    let small = |segment: &Segment| segment.head.generation > 0 && segment.length <= size / JOIN_COUNT as u64;
    for start in 0..segments.len() {
        let mut end = start;
        let (mut bytes, mut kinds) = (0, 0);
        while let Some(segment) = segments.get(end).filter(|segment| small(segment)) {
            bytes += segment.length;
            kinds |= segment.end.kinds;
            let span = segment.end.newest_seconds.saturating_sub(segments[start].head.oldest_seconds);
            let alike = span <= inner.options.shortest_age(kinds).as_secs() / 8
                && segment.head.thinned_seconds == segments[start].head.thinned_seconds;
            let fits = bytes <= size
                && index_bytes(&segments[start..=end]) <= inner.options.memory_budget_bytes / 4
                && !inner.log_between(segments[start].head.first_log, segment.head.last_log);
            if !(alike && fits) {
                break;
            }
            end += 1;
        }
        if end - start >= JOIN_COUNT {
            return Some(start..end);
        }
    }
    None
}
