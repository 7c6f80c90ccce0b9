//! What is found in the folder at the start: finishes what a kill left unfinished, and puts aside what is damaged.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::catalogue::Pending;
use crate::database::{self, DatabaseError};
use crate::direct::{self, Aligned, Appender};
use crate::piece::Identity;
use crate::record::{Entry, KIND_IDENTITY};
use crate::recovery::{self, Recovered};
use crate::segment::{Damage, FileHead, Records, Segment, seal};

/// The name of a segment's file.
pub(crate) fn name(head: &FileHead) -> String {
    format!("{:012}-{:012}.{}.seg", head.first_log, head.last_log, head.generation)
}

/// The name of the database's file.
pub(crate) const DATABASE: &str = "exit137.sqlite";

/// A file with such a name is of no use any more.
pub(crate) const UNFINISHED: &str = ".new";

/// The segments of a folder.
pub(crate) struct Opened {
    pub segments: Vec<Arc<Segment>>,
    pub next_log: u64,
    pub newest_seconds: u64,
}

/// Opens all segments. Sealed ones cost two reads each; logs that a kill left behind are read and sealed.
pub(crate) fn open_segments(folder: &Path, problems: &mut Vec<String>) -> io::Result<Opened> {
    let mut buffer = Aligned::default();
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.ends_with(UNFINISHED) {
            std::fs::remove_file(&path)?;
        } else if name.ends_with(".seg") {
            match open_segment(&path, &mut buffer, problems) {
                Ok(segment) => found.push(segment),
                Err(damage) => put_aside(&path, &damage, problems),
            }
        }
    }
    let segments = without_replaced(found, problems);
    let next_log = segments.iter().map(|segment| segment.head.last_log.saturating_add(1)).max().unwrap_or(1);
    let newest_seconds = segments.iter().map(|segment| segment.end.newest_seconds).max().unwrap_or(0);
    Ok(Opened { segments, next_log, newest_seconds })
}

fn open_segment(path: &Path, buffer: &mut Aligned, problems: &mut Vec<String>) -> Result<Segment, Damage> {
    match Segment::open(path, buffer) {
        Err(Damage::NoIndex) => {
            repair(path, problems)?;
            Segment::open(path, buffer)
        }
        opened => opened,
    }
}

/// Reads a file without an index, and gives it one.
fn repair(path: &Path, problems: &mut Vec<String>) -> Result<(), Damage> {
    let file = direct::open_to_read(path)?;
    let Recovered { head, mut entries, end, damaged_bytes } = recovery::scan(&file)?;
    if damaged_bytes > 0 {
        problems.push(format!("{}: {damaged_bytes} bytes are damaged and are left out", path.display()));
    }
    seal(Appender::resume(path, end)?, head.nonce, &mut entries, head.oldest_seconds)?;
    Ok(())
}

/// Whose pieces these are, of those at `from` and after it: for a catalogue that does not know them.
pub(crate) fn catalogue(
    entries: &[Entry],
    records: Records<'_>,
    from: u64,
    pending: &mut Pending,
) -> Result<(), Damage> {
    let mut buffer = Aligned::default();
    let mut introductions: Vec<Entry> =
        entries.iter().filter(|entry| entry.kind == KIND_IDENTITY).copied().collect();
    introductions.sort_unstable_by_key(|entry| entry.offset);
    let mut identities = HashMap::new();
    records.each_stored(&introductions, &mut buffer, &mut |_| (), &mut |entry, body, _| {
        if let Some(identity) = Identity::decode(body) {
            identities.insert(entry.container, identity);
        }
        true
    })?;
    for entry in entries.iter().filter(|entry| entry.kind().is_some() && entry.offset >= from) {
        if let Some(identity) = identities.get(&entry.container) {
            pending.add(
                identity,
                entry.first,
                entry.last,
                entry.pieces,
                u64::from(entry.count),
                u64::from(entry.raw_bytes),
            );
        }
    }
    Ok(())
}

/// A kill between "the new segment is there" and "the old ones are gone" leaves both: the newer generation counts.
fn without_replaced(mut found: Vec<Segment>, problems: &mut Vec<String>) -> Vec<Arc<Segment>> {
    found.sort_by_key(|segment| std::cmp::Reverse(segment.head.generation));
    let mut kept: Vec<Arc<Segment>> = Vec::new();
    for segment in found {
        let covers = |other: &Arc<Segment>| {
            other.head.first_log <= segment.head.first_log && segment.head.last_log <= other.head.last_log
        };
        if kept.iter().any(covers) {
            if let Err(error) = std::fs::remove_file(&segment.path) {
                problems.push(format!("{}: cannot be removed: {error}", segment.path.display()));
            }
        } else {
            kept.push(Arc::new(segment));
        }
    }
    kept.sort_by_key(|segment| segment.head.first_log);
    kept
}

/// Renames what cannot be used, so that it is neither read again nor lost.
fn put_aside(path: &Path, why: &dyn std::error::Error, problems: &mut Vec<String>) {
    let aside = free_name(path);
    let renamed = std::fs::rename(path, &aside);
    let place =
        if renamed.is_ok() { format!("kept as {}", aside.display()) } else { "left where it is".to_owned() };
    let source = why.source().map(|source| format!(": {source}")).unwrap_or_default();
    problems.push(format!("{}: {why}{source}; {place}", path.display()));
}

fn free_name(path: &Path) -> PathBuf {
    let name = |number: u32| path.with_added_extension(format!("damaged-{number}"));
    (1..).map(name).find(|name| !name.exists()).unwrap_or_else(|| name(0))
}

/// Opens the database; a damaged one is put aside, and a new one made.
pub(crate) fn open_database(
    path: &Path,
    problems: &mut Vec<String>,
) -> Result<rusqlite::Connection, DatabaseError> {
    match database::open(path) {
        Err(error) if error.is_damage() => {
            put_database_aside(path, &error, problems);
            database::open(path)
        }
        opened => opened,
    }
}

/// Puts a database aside that turned out to be damaged, and opens a new one in its place.
pub(crate) fn renew_database(
    path: &Path,
    database: &mut rusqlite::Connection,
    problems: &mut Vec<String>,
) -> Result<(), DatabaseError> {
    // Closes the damaged one first.
    *database = database::open(Path::new(":memory:"))?;
    let damage = io::Error::other("the database is damaged");
    put_database_aside(path, &damage, problems);
    *database = database::open(path)?;
    Ok(())
}

fn put_database_aside(path: &Path, why: &dyn std::error::Error, problems: &mut Vec<String>) {
    put_aside(path, why, problems);
    for ending in ["-wal", "-shm"] {
        let mut beside = path.as_os_str().to_owned();
        beside.push(ending);
        // Most often there is none.
        let _ = std::fs::remove_file(PathBuf::from(beside));
    }
}
