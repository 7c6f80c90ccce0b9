//! Doors for the fuzzers in `fuzz/`: a file of a data folder that anybody may have written. Built only with the
//! feature `fuzzing`; nothing else may lean on it.

use std::path::Path;
use std::sync::Arc;

use crate::direct::Aligned;
use crate::folder;
use crate::merge::{Merged, Plan, merge};
use crate::segment::{Scratch, Segment};
use crate::{Identity, read_samples, recovery};

/// Reads a sealed segment in every way there is: its index, the records of one container, all pieces, and rewritten with
/// thinned samples. How many pieces it has.
pub fn segment(folder: &Path, bytes: &[u8]) -> u64 {
    let path = folder.join("000000000001-000000000001.0.seg");
    if std::fs::write(&path, bytes).is_err() {
        return 0;
    }
    let pieces = Segment::open(&path, &mut Aligned::default()).map_or(0, |segment| whole(folder, segment));
    let _ = std::fs::remove_file(&path);
    pieces
}

fn whole(folder: &Path, segment: Segment) -> u64 {
    let mut scratch = Scratch::default();
    let Ok(mut entries) = segment.entries(&mut scratch.read) else { return 0 };
    for entry in entries.iter().take(3) {
        let _ = segment.entries_of(entry.container, &mut scratch.read);
    }
    entries.sort_unstable_by_key(|entry| entry.offset);
    let mut pieces = 0;
    let read = segment.records().each_piece(&entries, &mut scratch, &mut |_| (), &mut |found| {
        let _ = read_samples(found.bytes, &mut |_| ());
        let _ = Identity::decode(found.bytes);
        pieces += 1;
        true
    });
    let plan = Plan { drop: &|_, _| None, thin_seconds: 60, nonce: 7 };
    if read.is_ok()
        && let Ok(Merged { segment: Some(merged), .. }) = merge(&[Arc::new(segment)], folder, &plan)
    {
        let _ = std::fs::remove_file(merged.path);
    }
    pieces
}

/// Reads a log that nobody sealed, and opens the folder as a start does: it is sealed then, or put aside. How many
/// records it has.
pub fn log(folder: &Path, bytes: &[u8]) -> usize {
    let path = folder.join("000000000001-000000000001.0.seg");
    if std::fs::write(&path, bytes).is_err() {
        return 0;
    }
    let found = std::fs::File::open(&path).ok().and_then(|file| recovery::scan(&file).ok());
    let records = found.map_or(0, |found| found.entries.len());
    // One that has an index already is opened by that.
    let is_sealed = Segment::open(&path, &mut Aligned::default()).is_ok();
    let mut problems = Vec::new();
    let opened = folder::open_segments(folder, &mut problems);
    if let Ok(opened) = opened {
        for segment in opened.segments {
            let sealed = segment.entries(&mut Aligned::default());
            let kept = sealed.map_or(records, |entries| entries.len());
            assert!(is_sealed || kept == records, "sealing keeps all records: {kept} of {records}");
        }
    }
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let _ = std::fs::remove_file(entry.path());
    }
    records
}
