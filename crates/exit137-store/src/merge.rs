//! Rewriting segments: neighbours become one, in which each container's pieces lie together, joined and compressed;
//! what is given up is left out. The old files go only when the new one is on the disk under its name.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::btree_map;
use std::io;
use std::path::Path;
use std::sync::Arc;

use exit137_core::time::UnixNanos;

use crate::catalogue::{Dropped, Reason};
use crate::direct::{self, Aligned, Appender, Window};
use crate::folder::{UNFINISHED, name};
use crate::piece::{ContainerId, Encoding, Found, Identity, Kind};
use crate::record::{Entry, HEAD_BYTES, KIND_IDENTITY};
use crate::samples::{encode, read_samples, thin};
use crate::segment::{Damage, FileHead, Records, Scratch, Segment, joined_head, seal};
use crate::writer::{append_identity, append_record};

/// Pieces are joined until they have so many bytes: more compresses hardly better, and one piece of it costs as
/// much to read as all.
const JOIN_BYTES: usize = 256 << 10;
/// What is read ahead, of all files that are joined and of each.
const AHEAD_BYTES: usize = 4 << 20;
const AHEAD_BYTES_MIN: usize = 64 << 10;
const AHEAD_BYTES_MAX: usize = 1 << 20;
/// A record of this size is copied as it is.
const COPY_BYTES: u32 = 128 << 10;
/// The quickest level of zstd that still finds what repeats in telemetry: `docs/decisions/store.md` has the figures.
const ZSTD_LEVEL: i32 = 1;
/// More is not worth the time to read it back.
const WORTH_PERCENT: usize = 90;

/// What becomes of the pieces.
pub(crate) struct Plan<'a> {
    /// Why an entry is left out.
    pub drop: &'a dyn Fn(&Entry, &Segment) -> Option<Reason>,
    /// Thin samples to intervals of so many seconds; 0 for not.
    pub thin_seconds: u32,
    /// For the checksums of the new file.
    pub nonce: u64,
}

/// What a rewriting came to.
pub(crate) struct Merged {
    /// `None` when nothing was left.
    pub segment: Option<Segment>,
    /// What was left out.
    pub dropped: Tally,
    /// Damaged records and indexes.
    pub damage: Vec<String>,
}

/// What was dropped, by container, kind and reason.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    rows: BTreeMap<(Option<ContainerId>, Kind, Reason), Dropped>,
}

impl Tally {
    pub fn add(&mut self, entry: &Entry, reason: Reason) {
        let Some(kind) = entry.kind() else {
            return;
        };
        self.merge(Dropped {
            container: Some(entry.container),
            kind,
            reason,
            first: UnixNanos(entry.first),
            last: UnixNanos(entry.last),
            pieces: u64::from(entry.pieces),
            items: u64::from(entry.count),
            bytes: entry.span(),
        });
    }

    /// Adds what another one counted.
    pub fn absorb(&mut self, other: Self) {
        other.rows.into_values().for_each(|row| self.merge(row));
    }

    fn merge(&mut self, row: Dropped) {
        match self.rows.entry((row.container, row.kind, row.reason)) {
            btree_map::Entry::Vacant(new) => drop(new.insert(row)),
            btree_map::Entry::Occupied(mut known) => {
                let sum = known.get_mut();
                sum.first = sum.first.min(row.first);
                sum.last = sum.last.max(row.last);
                sum.pieces += row.pieces;
                sum.items += row.items;
                sum.bytes += row.bytes;
            }
        }
    }

    /// One row a container, or, of more than `most` containers, one row for all.
    pub fn rows(&self, most: usize) -> Vec<Dropped> {
        if self.rows.len() <= most {
            return self.rows.values().cloned().collect();
        }
        let mut whole = Self::default();
        self.rows.values().for_each(|row| whole.merge(Dropped { container: None, ..row.clone() }));
        whole.rows.into_values().collect()
    }
}

/// Makes one segment of neighbours. It is on the disk under its name when this returns; the old ones still are.
pub(crate) fn merge(inputs: &[Arc<Segment>], folder: &Path, plan: &Plan<'_>) -> io::Result<Merged> {
    let mut merge = Merge { inputs, plan, dropped: Tally::default(), damage: Vec::new() };
    let entries = merge.entries();
    if entries.iter().all(|(_, entry)| entry.kind == KIND_IDENTITY) {
        return Ok(Merged { segment: None, dropped: merge.dropped, damage: merge.damage });
    }
    let head = FileHead {
        nonce: plan.nonce,
        first_log: inputs.iter().map(|input| input.head.first_log).min().unwrap_or(0),
        last_log: inputs.iter().map(|input| input.head.last_log).max().unwrap_or(0),
        generation: inputs.iter().map(|input| input.head.generation).max().unwrap_or(0).saturating_add(1),
        oldest_seconds: inputs.iter().map(|input| input.head.oldest_seconds).min().unwrap_or(0),
        thinned_seconds: plan.thin_seconds,
    };
    let newest_seconds = inputs.iter().map(|input| input.end.newest_seconds).max().unwrap_or(0);
    let path = folder.join(name(&head));
    let unfinished = path.with_added_extension(&UNFINISHED[1..]);
    let written = merge.write(&unfinished, head, newest_seconds, &entries).and_then(|()| {
        std::fs::rename(&unfinished, &path)?;
        direct::sync_folder(folder)
    });
    written.inspect_err(|_| drop(std::fs::remove_file(&unfinished)))?;
    let segment = Segment::open(&path, &mut Aligned::default()).map_err(io::Error::other)?;
    Ok(Merged { segment: Some(segment), dropped: merge.dropped, damage: merge.damage })
}

struct Merge<'a> {
    inputs: &'a [Arc<Segment>],
    plan: &'a Plan<'a>,
    dropped: Tally,
    damage: Vec<String>,
}

impl Merge<'_> {
    /// What stays, with the number of its segment, in the order in which it is written.
    fn entries(&mut self) -> Vec<(usize, Entry)> {
        let mut kept = Vec::new();
        let mut buffer = Aligned::default();
        for (number, input) in self.inputs.iter().enumerate() {
            let entries = input.entries(&mut buffer).unwrap_or_else(|damage| {
                self.damage.push(format!("{}: {damage}", input.path.display()));
                crate::recovery::scan(input.records().file).map(|found| found.entries).unwrap_or_default()
            });
            for entry in entries {
                match (self.plan.drop)(&entry, input) {
                    Some(reason) => self.dropped.add(&entry, reason),
                    None => kept.push((number, entry)),
                }
            }
        }
        kept.sort_unstable_by_key(|(number, entry)| (entry.container, entry.kind, *number, entry.offset));
        kept
    }

    fn write(
        &mut self,
        path: &Path,
        head: FileHead,
        newest_seconds: u64,
        entries: &[(usize, Entry)],
    ) -> io::Result<()> {
        // A rest of an attempt that failed may be there.
        let _ = std::fs::remove_file(path);
        let ahead = (AHEAD_BYTES / self.inputs.len().max(1)).clamp(AHEAD_BYTES_MIN, AHEAD_BYTES_MAX);
        let open = |_| (Aligned::default(), RefCell::new(Window::new(ahead)));
        let mut loaded: Vec<(Aligned, RefCell<Window>)> = self.inputs.iter().map(open).collect();
        let mut sources = Vec::new();
        for (input, (buffer, window)) in self.inputs.iter().zip(&mut loaded) {
            // In a log the pieces of all containers are mixed, elsewhere they lie in the order in which they are
            // written: thousands of small reads, or a few large ones.
            let mixed = input.head.generation == 0;
            sources.push(if mixed {
                input.records_in(input.load(buffer)?)
            } else {
                input.records_ahead(window)
            });
        }
        let mut file = Appender::create(path, 0)?;
        file.append(&head.to_bytes())?;
        let zstd = zstd::bulk::Compressor::new(ZSTD_LEVEL)?;
        let mut output =
            Output { file, nonce: head.nonce, entries: Vec::new(), joined: Joined::default(), zstd };
        let mut scratch = Scratch::default();
        for container in entries.chunk_by(|a, b| a.1.container == b.1.container) {
            let first_piece = container.partition_point(|(_, entry)| entry.kind == KIND_IDENTITY);
            let (identities, pieces) = container.split_at(first_piece);
            if pieces.is_empty() {
                continue;
            }
            self.identity(identities, &sources, &mut scratch, &mut output)?;
            for kind in pieces.chunk_by(|a, b| a.1.kind == b.1.kind) {
                if kind[0].1.kind() == Some(Kind::Samples) && self.plan.thin_seconds > 0 {
                    self.thin(kind, &sources, &mut scratch, &mut output)?;
                } else {
                    self.join(kind, &sources, &mut scratch, &mut output)?;
                }
            }
        }
        let Output { file, nonce, mut entries, .. } = output;
        seal(file, nonce, &mut entries, newest_seconds)
    }

    /// Writes who the container is, from the first segment that can tell.
    fn identity(
        &mut self,
        entries: &[(usize, Entry)],
        sources: &[Records<'_>],
        scratch: &mut Scratch,
        output: &mut Output<'_>,
    ) -> io::Result<()> {
        for (number, entry) in entries {
            let mut identity = None;
            let mut damage = self.note_damage(*number);
            sources[*number].each_stored(&[*entry], &mut scratch.read, &mut damage, &mut |_, body, _| {
                identity = Identity::decode(body);
                true
            })?;
            if let Some(identity) = identity {
                let entry = append_identity(&mut output.file, output.nonce, &identity)?;
                output.entries.push(entry);
                break;
            }
        }
        Ok(())
    }

    fn note_damage(&mut self, number: usize) -> impl FnMut(Damage) {
        let path = self.inputs[number].path.display().to_string();
        move |damage| self.damage.push(format!("{path}: {damage}"))
    }

    fn join(
        &mut self,
        entries: &[(usize, Entry)],
        sources: &[Records<'_>],
        scratch: &mut Scratch,
        output: &mut Output<'_>,
    ) -> io::Result<()> {
        let mut failed = None;
        for (number, entries) in by_input(entries) {
            let mut damage = self.note_damage(number);
            for run in entries.chunk_by(|a, b| copied(a) == copied(b)) {
                if copied(&run[0]) {
                    sources[number].each_stored(
                        run,
                        &mut scratch.read,
                        &mut damage,
                        &mut |entry, body, crc| {
                            failed = output.copy(entry, body, crc).err();
                            failed.is_none()
                        },
                    )?;
                } else {
                    sources[number].each_piece(run, scratch, &mut damage, &mut |found| {
                        failed = output.join(&found).err();
                        failed.is_none()
                    })?;
                }
                failed.take().map_or(Ok(()), Err)?;
            }
        }
        output.flush()
    }

    fn thin(
        &mut self,
        entries: &[(usize, Entry)],
        sources: &[Records<'_>],
        scratch: &mut Scratch,
        output: &mut Output<'_>,
    ) -> io::Result<()> {
        let mut series = BTreeMap::new();
        for (number, entries) in by_input(entries) {
            let mut damage = self.note_damage(number);
            let mut failed = None;
            sources[number].each_piece(&entries, scratch, &mut damage, &mut |found| {
                let mut rows = Vec::new();
                let sound = found.encoding == Encoding::Samples
                    && read_samples(found.bytes, &mut |sample| {
                        rows.push((sample.series.to_owned(), sample.at.0, sample.value));
                    })
                    .is_some();
                if !sound {
                    // Whatever it is, it is not ours to thin.
                    failed = output.join(&found).err();
                    return failed.is_none();
                }
                for (name, at, value) in rows {
                    let rows: &mut Vec<(i64, f64)> = series.entry(name).or_default();
                    rows.push((at, value));
                }
                true
            })?;
            failed.map_or(Ok(()), Err)?;
        }
        let count = |series: &BTreeMap<String, Vec<(i64, f64)>>| series.values().map(Vec::len).sum::<usize>();
        let before = count(&series);
        thin(&mut series, i64::from(self.plan.thin_seconds) * exit137_core::time::SECOND);
        let gone = (before - count(&series)) as u32;
        if gone > 0 {
            let first = entries.iter().map(|(_, entry)| entry.first).min().unwrap_or(i64::MAX);
            let last = entries.iter().map(|(_, entry)| entry.last).max().unwrap_or(i64::MIN);
            let thinned = Entry { count: gone, pieces: 0, stored_bytes: 0, first, last, ..entries[0].1 };
            self.dropped.add(&thinned, Reason::Thinned);
        }
        let times = || series.values().flatten().map(|(at, _)| UnixNanos(*at));
        let (Some(first), Some(last)) = (times().min(), times().max()) else {
            return output.flush();
        };
        let (container, count) = (entries[0].1.container, count(&series) as u32);
        let (kind, encoding, bytes) = (Kind::Samples, Encoding::Samples, encode(&mut series));
        output.join(&Found { container, kind, encoding, first, last, count, bytes: &bytes })?;
        output.flush()
    }
}

/// Large records are copied as they are, small ones are joined.
fn copied(entry: &Entry) -> bool {
    entry.raw_bytes >= COPY_BYTES && entry.zstd
}

/// Entries by segment, each in order of their offsets.
fn by_input(entries: &[(usize, Entry)]) -> impl Iterator<Item = (usize, Vec<Entry>)> {
    entries.chunk_by(|a, b| a.0 == b.0).map(|run| (run[0].0, run.iter().map(|(_, entry)| *entry).collect()))
}

/// Pieces of one container and kind that become one record.
#[derive(Default)]
struct Joined {
    body: Vec<u8>,
    /// Of the last piece: all that is needed when it stays alone.
    entry: Option<Entry>,
}

struct Output<'a> {
    file: Appender,
    nonce: u64,
    entries: Vec<Entry>,
    joined: Joined,
    zstd: zstd::bulk::Compressor<'a>,
}

impl Output<'_> {
    fn copy(&mut self, entry: &Entry, body: &[u8], crc: u32) -> io::Result<()> {
        self.flush()?;
        let entry = Entry { offset: self.file.position(), ..*entry };
        append_record(&mut self.file, self.nonce, &entry, body, crc)?;
        self.entries.push(entry);
        Ok(())
    }

    fn join(&mut self, found: &Found<'_>) -> io::Result<()> {
        let Joined { body, entry } = &mut self.joined;
        body.extend_from_slice(&joined_head(found));
        body.extend_from_slice(found.bytes);
        let all = entry.get_or_insert(Entry {
            offset: 0,
            stored_bytes: 0,
            raw_bytes: 0,
            container: found.container,
            first: found.first.0,
            last: found.last.0,
            count: 0,
            pieces: 0,
            kind: found.kind as u8,
            encoding: 0,
            zstd: false,
            joined: true,
        });
        all.first = all.first.min(found.first.0);
        all.last = all.last.max(found.last.0);
        all.count = all.count.saturating_add(found.count);
        all.pieces += 1;
        if body.len() >= JOIN_BYTES { self.flush() } else { Ok(()) }
    }

    /// Writes what was joined.
    fn flush(&mut self) -> io::Result<()> {
        let Some(mut entry) = self.joined.entry.take() else {
            return Ok(());
        };
        let body = std::mem::take(&mut self.joined.body);
        let compressed = self.zstd.compress(&body)?;
        entry.zstd = compressed.len() * 100 <= body.len() * WORTH_PERCENT;
        let stored = if entry.zstd { &compressed } else { &body };
        entry.offset = self.file.position();
        entry.raw_bytes = body.len() as u32;
        entry.stored_bytes = stored.len() as u32;
        append_record(&mut self.file, self.nonce, &entry, stored, crc32fast::hash(stored))?;
        self.entries.push(entry);
        self.joined.body = body;
        self.joined.body.clear();
        Ok(())
    }
}

/// Roughly what rewriting holds in memory for the indexes of these segments.
pub(crate) fn index_bytes(inputs: &[Arc<Segment>]) -> u64 {
    inputs.iter().map(|input| input.end.entries * (HEAD_BYTES as u64 + 24)).sum()
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::*;
    use crate::piece::Piece;
    use crate::reading::Query;
    use crate::samples::Sample;
    use crate::store::Store;
    use crate::{StoreOptions, folder};

    #[test]
    fn thinning_leaves_extremes_and_what_it_does_not_know() {
        let place = tempfile::tempdir().unwrap();
        let store = Store::open(place.path(), StoreOptions::default()).unwrap();
        let identity = Identity::of([("k8s.pod.name", "a")]);
        let samples: Vec<Sample<'_>> = (0..60)
            .map(|second| Sample {
                series: "rss",
                at: UnixNanos(second * exit137_core::time::SECOND),
                value: if second == 7 { 900.0 } else { 100.0 + second as f64 },
            })
            .collect();
        let strange = Piece {
            encoding: Encoding::Protobuf,
            bytes: vec![9; 500].into(),
            ..Piece::of_samples(identity.clone(), &samples)
        };
        store.append(vec![Piece::of_samples(identity, &samples), strange.clone()]).unwrap();
        drop(store);

        let folder = place.path().join("segments");
        let opened = folder::open_segments(&folder, &mut Vec::new()).unwrap();
        let plan = Plan { drop: &|_, _| None, thin_seconds: 60, nonce: 5 };
        let merged = merge(&opened.segments, &folder, &plan).unwrap();
        assert_eq!(merged.segment.map(|segment| segment.head.thinned_seconds), Some(60));
        let dropped = merged.dropped.rows(10);
        assert_eq!((dropped.len(), dropped[0].reason, dropped[0].items), (1, Reason::Thinned, 57));

        let store = Store::open(place.path(), StoreOptions::default()).unwrap();
        let (mut rows, mut others) = (Vec::new(), Vec::new());
        store
            .read(&Query::default(), &mut |found| {
                match found.encoding {
                    Encoding::Samples => {
                        read_samples(found.bytes, &mut |sample| rows.push((sample.at.0, sample.value)))
                            .unwrap();
                    }
                    _ => others.push(found.bytes.to_vec()),
                }
                ControlFlow::Continue(())
            })
            .unwrap();
        let second = exit137_core::time::SECOND;
        assert_eq!(rows, [(0, 100.0), (7 * second, 900.0), (59 * second, 159.0)]);
        assert_eq!(others, [strange.bytes.to_vec()]);
        assert_eq!(store.problems(), [""; 0]);
    }
}
