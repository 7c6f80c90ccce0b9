//! Records that are in memory already, piece by piece: what a recorder hands over when it is asked what happened.
//!
//! The same decoders as for files, without telling what a piece is by its content: whoever recorded it knows. Several
//! workers decode at the same time into one room.

use std::hash::{DefaultHasher, Hash, Hasher};

use exit137_core::observation::Observations;

use super::{documents, put_in_order, work};
use crate::location::Location;
use crate::otlp::sink::{KEPT_BYTES_MAX, Room, Sink};
use crate::{journal, kernel_log, otlp};

/// Decodes pieces into observations.
#[derive(Debug)]
pub struct Pieces {
    sink: Sink,
    room: Room,
    /// Of the next message, for problems.
    number: usize,
}

impl Pieces {
    /// Keeps at most so many bytes of what is decoded; past it records are counted as problems.
    pub fn new(kept_bytes_max: u64) -> Self {
        Self::with_room(Room::of(kept_bytes_max.min(KEPT_BYTES_MAX)))
    }

    fn with_room(room: Room) -> Self {
        Self { sink: Sink::with_room(room.clone()), room, number: 0 }
    }

    /// Another worker's, with a share of the same room.
    #[must_use]
    pub fn worker(&self) -> Self {
        Self::with_room(self.room.clone())
    }

    /// One `Export…ServiceRequest` as protobuf. `file` is named in problems and counted in "looked in".
    pub fn otlp_protobuf(&mut self, file: &str, message: &[u8]) {
        self.begin(file);
        self.number += 1;
        otlp::proto::decode_message(message, self.number, file, &mut self.sink);
    }

    /// JSON documents: OTLP, Kubernetes objects, lists and watch events, cgroup samples.
    pub fn json(&mut self, file: &str, documents: &[u8]) {
        self.begin(file);
        if documents::decode(documents, Location { file, line: 1 }, &mut self.sink).is_some() {
            self.sink.observations.problems.add(file, None, documents::NOT_RECOGNISED);
        }
    }

    /// All lines of one kernel log.
    pub fn kernel_log(&mut self, file: &str, lines: &[u8]) {
        self.begin(file);
        let mut reader = lines;
        // Reading from memory has no way to fail.
        self.sink.foreign(|observations| drop(kernel_log::decode(&mut reader, file, observations)));
    }

    /// When the machine of the kernel log in the same folder booted.
    pub fn boot_time(&mut self, file: &str, text: &[u8]) {
        self.sink.observations.boot_times.extend(kernel_log::boot_time(text, file));
    }

    /// The journal of an instrumented process.
    pub fn journal(&mut self, file: &str, bytes: &[u8]) {
        self.begin(file);
        match journal::read(bytes) {
            Ok(life) => self.sink.foreign(|observations| journal::add(&life, file, observations)),
            Err(error) => self.sink.observations.problems.add(file, None, error.to_string()),
        }
    }

    /// Whether records found no room.
    pub fn is_full(&self) -> bool {
        self.sink.room.is_full()
    }

    /// How many spans were decoded.
    pub fn spans(&self) -> usize {
        self.sink.observations.traces.spans.len()
    }

    /// What all workers found.
    pub fn join(workers: Vec<Self>) -> Observations {
        let mut outcome = work::join(workers.into_iter().map(|worker| worker.sink).collect());
        put_in_order(&mut outcome);
        outcome
    }

    /// Several pieces of one name are one file.
    fn begin(&mut self, file: &str) {
        let mut hasher = DefaultHasher::new();
        file.hash(&mut hasher);
        self.sink.file_number = hasher.finish() as u32;
    }
}

#[cfg(test)]
mod tests {
    use exit137_core::observation::SourceKind;

    use super::*;

    #[test]
    fn pieces_of_one_name_are_one_file() {
        let sample = |second: u8| {
            format!(r#"{{"time":"2026-11-22T10:00:{second:02}Z","container_id":"a","usage":1}}"#)
        };
        // Workers take their share of the room in large parts.
        let mut first = Pieces::new(1 << 30);
        let mut second = first.worker();
        first.json("cgroup.jsonl", sample(2).as_bytes());
        second.json("cgroup.jsonl", sample(1).as_bytes());
        second.json("rubbish", b"{\"a\":1}");
        let found = Pieces::join(vec![first, second]);
        let times: Vec<i64> =
            found.cgroup_samples.iter().map(|sample| sample.at.0 % 60_000_000_000).collect();
        assert_eq!(times, [1_000_000_000, 2_000_000_000]);
        let count = found.counts[&SourceKind::Cgroup];
        assert_eq!((count.files, count.records), (1, 2));
        assert_eq!(found.problems.list().len(), 1);
    }

    #[test]
    fn a_kernel_log_finds_its_boot_time_beside_it() {
        let mut pieces = Pieces::new(1 << 20);
        pieces.boot_time("kernel/clock.txt", b"1795340714.500000 0.010000\n");
        let log = "6,1,2000000,-;python invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0\n\
            6,2,2000001,-;Memory cgroup out of memory: Killed process 7 (python) total-vm:9kB, anon-rss:5kB, \
            file-rss:2kB, shmem-rss:1kB, UID:0 pgtables:1kB oom_score_adj:0\n";
        pieces.kernel_log("kernel/kmsg", log.as_bytes());
        let verdict = exit137_core::diagnose(&Pieces::join(vec![pieces]));
        let kill = &verdict.incidents[0].kills[0];
        assert_eq!(kill.at.at.to_string(), "2026-11-22T09:45:16.490Z");
    }
}
