//! Reading pieces back: which are asked for, and from which records they come.

use std::io;
use std::ops::ControlFlow;
use std::path::Path;

use exit137_core::time::UnixNanos;

use crate::piece::{ContainerId, Found, Kind};
use crate::record::Entry;
use crate::segment::{Damage, Records, Scratch, Segment};

/// Of more containers, reading the whole index costs less than looking for each.
const PROBED_MAX: usize = 16;

/// Which pieces to read.
#[derive(Debug, Clone)]
pub struct Query {
    /// Of these containers; of all when `None`.
    pub containers: Option<Vec<ContainerId>>,
    /// Not of these.
    pub except: Vec<ContainerId>,
    /// Pieces that tell of this time or a later one.
    pub from: UnixNanos,
    /// Pieces that tell of this time or an earlier one.
    pub to: UnixNanos,
    /// Of these kinds; of all when it is empty.
    pub kinds: Vec<Kind>,
    /// Stop after so many bytes. The newest come first.
    pub bytes_max: u64,
}

impl Default for Query {
    fn default() -> Self {
        let (from, to) = (UnixNanos(i64::MIN), UnixNanos(i64::MAX));
        Self { containers: None, except: Vec::new(), from, to, kinds: Vec::new(), bytes_max: u64::MAX }
    }
}

impl Query {
    /// With its containers in order, as [`wants`](Self::wants) needs them.
    pub(crate) fn sorted(&self) -> Self {
        let mut query = self.clone();
        if let Some(containers) = &mut query.containers {
            containers.sort_unstable();
            containers.dedup();
        }
        query.except.sort_unstable();
        query
    }

    pub(crate) fn wants(&self, entry: &Entry) -> bool {
        let Some(kind) = entry.kind() else {
            return false;
        };
        (self.kinds.is_empty() || self.kinds.contains(&kind))
            && self.wants_time(entry.first, entry.last)
            && self.except.binary_search(&entry.container).is_err()
            && self
                .containers
                .as_ref()
                .is_none_or(|containers| containers.binary_search(&entry.container).is_ok())
    }

    pub(crate) fn wants_time(&self, first: i64, last: i64) -> bool {
        first <= self.to.0 && self.from.0 <= last
    }
}

/// What a reading came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReadSummary {
    /// Pieces given.
    pub pieces: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Whether `bytes_max` ended it.
    pub truncated: bool,
    /// Records that should have been read and were damaged.
    pub damaged: u64,
}

/// One call of [`Store::read`].
pub(crate) struct Reading<'a> {
    query: &'a Query,
    each: &'a mut dyn FnMut(Found<'_>) -> ControlFlow<()>,
    pub(crate) summary: ReadSummary,
    scratch: Scratch,
}

impl<'a> Reading<'a> {
    pub(crate) fn new(query: &'a Query, each: &'a mut dyn FnMut(Found<'_>) -> ControlFlow<()>) -> Self {
        Self { query, each, summary: ReadSummary::default(), scratch: Scratch::default() }
    }

    /// The entries of a segment that are asked for, by offset.
    pub(crate) fn wanted(&mut self, segment: &Segment) -> Result<Vec<Entry>, Damage> {
        let buffer = &mut self.scratch.read;
        let mut entries = Vec::new();
        match &self.query.containers {
            Some(containers) if containers.len() <= PROBED_MAX => {
                for container in containers {
                    entries.append(&mut segment.entries_of(*container, buffer)?);
                }
            }
            _ => entries = segment.entries(buffer)?,
        }
        entries.retain(|entry| self.query.wants(entry));
        entries.sort_unstable_by_key(|entry| entry.offset);
        entries.dedup_by_key(|entry| entry.offset);
        Ok(entries)
    }

    /// Gives the pieces of some records; `false` when that is enough.
    pub(crate) fn pieces(
        &mut self,
        records: Records<'_>,
        entries: &[Entry],
        path: &Path,
        problem: &dyn Fn(String),
    ) -> io::Result<bool> {
        let Self { query, each, summary, scratch } = self;
        let mut go_on = true;
        let mut damaged = 0;
        records.each_piece(
            entries,
            scratch,
            &mut |damage| {
                damaged += 1;
                problem(format!("{}: {damage}", path.display()));
            },
            &mut |found| {
                if !query.wants_time(found.first.0, found.last.0) {
                    return true;
                }
                let bytes = found.bytes.len() as u64;
                summary.truncated = summary.bytes + bytes > query.bytes_max;
                go_on = !summary.truncated && each(found).is_continue();
                if !summary.truncated {
                    summary.pieces += 1;
                    summary.bytes += bytes;
                }
                go_on
            },
        )?;
        summary.damaged += damaged;
        Ok(go_on)
    }
}
