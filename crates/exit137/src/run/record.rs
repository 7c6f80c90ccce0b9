//! The record of a run: a folder in the layout that `exit137 diagnose` reads, kept or only borrowed.
//!
//! Telemetry goes in as it came, in segments; past a bound the oldest segment of a signal goes, so that a run of weeks
//! fills no disk.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use exit137_sources::receiver::{Encoding, Export, Signal};
use rustix::process::{Pid, test_kill_process};

use super::ids;

/// A segment is the unit in which telemetry is dropped.
const SEGMENT_BYTES_MAX: u64 = 16 << 20;

/// Segments of one signal and encoding: a gibibyte, two million spans.
const SEGMENTS_MAX: usize = 64;

/// How borrowed folders are named, before the process ID of their run.
const PREFIX: &str = "exit137-run-";

/// Why there is no record.
#[derive(Debug, thiserror::Error)]
pub(super) enum RecordError {
    #[error("cannot make the folder {} for the record", path.display())]
    Make { path: PathBuf, source: io::Error },
    #[error("cannot keep the record in {}: expected a new or an empty folder", path.display())]
    NotEmpty { path: PathBuf },
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

/// The folder. One that nobody asked to keep goes with the value.
#[derive(Debug)]
pub(super) struct Record {
    folder: PathBuf,
    keep: bool,
}

impl Record {
    /// In `kept`, or else in a place for what is temporary.
    pub(super) fn make(kept: Option<&Path>) -> Result<Self, RecordError> {
        let folder = match kept {
            Some(folder) => folder.to_owned(),
            None => {
                let place = std::env::temp_dir();
                remove_leftovers(&place);
                place.join(format!("{PREFIX}{}-{}", std::process::id(), ids::uuid()))
            }
        };
        let make = |path: &Path| {
            fs::create_dir_all(path).map_err(|source| RecordError::Make { path: path.to_owned(), source })
        };
        if kept.is_none() {
            // What a program does is nobody else's business.
            use std::os::unix::fs::DirBuilderExt;
            let made = fs::DirBuilder::new().mode(0o700).create(&folder);
            made.map_err(|source| RecordError::Make { path: folder.clone(), source })?;
        }
        make(&folder)?;
        if fs::read_dir(&folder).is_ok_and(|mut entries| entries.next().is_some()) {
            return Err(RecordError::NotEmpty { path: folder });
        }
        let record = Self { folder, keep: kept.is_some() };
        ["cgroup", "kernel", "otlp", "journals"]
            .iter()
            .try_for_each(|name| make(&record.folder.join(name)))?;
        Ok(record)
    }

    /// Where it is.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where the instrumented processes of a life keep their journals: each in a folder of its own, since the process that
    /// finds its predecessor's journal sends what it tells, and removes it.
    pub(super) fn journals(&self, life: usize) -> Result<PathBuf, RecordError> {
        let path = self.folder.join(format!("journals/{life}"));
        fs::create_dir_all(&path).map_err(|source| RecordError::Make { path: path.clone(), source })?;
        Ok(path)
    }

    /// A new file in it.
    pub(super) fn file(&self, name: &str) -> Result<File, RecordError> {
        let path = self.folder.join(name);
        File::create(&path).map_err(|source| RecordError::Write { path, source })
    }

    /// Where telemetry goes.
    pub(super) fn telemetry(&self) -> Telemetry {
        Telemetry {
            folder: self.folder.join("otlp"),
            segment_bytes_max: SEGMENT_BYTES_MAX,
            segments: Vec::new(),
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if self.keep {
            // A kind of evidence that did not come leaves no trace.
            for entry in fs::read_dir(self.folder.join("journals")).into_iter().flatten().flatten() {
                let _ = fs::remove_dir(entry.path());
            }
            for name in ["cgroup", "kernel", "otlp", "journals"] {
                let _ = fs::remove_dir(self.folder.join(name));
            }
        } else {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

/// Borrowed folders of runs that SIGKILL ended, if they are this user's.
fn remove_leftovers(place: &Path) {
    use std::os::unix::fs::MetadataExt;
    let own = rustix::process::geteuid().as_raw();
    for entry in fs::read_dir(place).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next()?.parse().ok());
        let Some(owner) = owner.and_then(Pid::from_raw) else { continue };
        let gone = test_kill_process(owner) == Err(rustix::io::Errno::SRCH);
        // Of the entry itself: a link to somewhere else is no folder.
        let ours = entry.metadata().is_ok_and(|data| data.is_dir() && data.uid() == own);
        if gone && ours {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Writes exports as they came.
#[derive(Debug)]
pub(super) struct Telemetry {
    folder: PathBuf,
    segment_bytes_max: u64,
    segments: Vec<((Signal, Encoding), Segments)>,
}

#[derive(Debug, Default)]
struct Segments {
    current: Option<File>,
    bytes: u64,
    made: u64,
    paths: VecDeque<PathBuf>,
}

impl Telemetry {
    /// Adds one export; it is with the system when this returns.
    ///
    /// # Errors
    /// When it cannot be written, as on a full disk.
    pub(super) fn add(&mut self, export: &Export) -> io::Result<()> {
        if export.body.is_empty() {
            return Ok(());
        }
        let key = (export.signal, export.encoding);
        let at = match self.segments.iter().position(|(known, _)| *known == key) {
            Some(at) => at,
            None => {
                self.segments.push((key, Segments::default()));
                self.segments.len() - 1
            }
        };
        let framed = frame(export);
        let segments = &mut self.segments[at].1;
        if segments.current.is_none() || segments.bytes >= self.segment_bytes_max {
            segments.begin(&self.folder, key)?;
        }
        segments.write(&framed)
    }
}

/// Protobuf stands behind its length, as the Collector's file exporter writes it; JSON documents end with a line.
fn frame(export: &Export) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(export.body.len() + 4);
    match export.encoding {
        Encoding::Protobuf => {
            let length = u32::try_from(export.body.len()).unwrap_or(u32::MAX);
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(&export.body);
        }
        Encoding::Json => {
            bytes.extend_from_slice(&export.body);
            bytes.push(b'\n');
        }
    }
    bytes
}

impl Segments {
    fn begin(&mut self, folder: &Path, (signal, encoding): (Signal, Encoding)) -> io::Result<()> {
        let signal = match signal {
            Signal::Traces => "traces",
            Signal::Metrics => "metrics",
            Signal::Logs => "logs",
        };
        let ending = match encoding {
            Encoding::Protobuf => "otlp",
            Encoding::Json => "jsonl",
        };
        self.made += 1;
        let path = folder.join(format!("{signal}-{:05}.{ending}", self.made));
        self.current = Some(File::create(&path)?);
        self.bytes = 0;
        self.paths.push_back(path);
        if self.paths.len() > SEGMENTS_MAX
            && let Some(oldest) = self.paths.pop_front()
        {
            let _ = fs::remove_file(oldest);
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(file) = &mut self.current else { return Ok(()) };
        // One write, so that a torn one is at the end of a segment.
        let written = file.write_all(bytes);
        self.bytes += bytes.len() as u64;
        if written.is_err() {
            self.current = None;
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn a_borrowed_record_is_gone_afterwards_and_a_kept_one_is_not() {
        let record = Record::make(None).expect("a folder");
        let folder = record.folder().to_owned();
        assert!(folder.join("otlp").is_dir());
        drop(record);
        assert!(!folder.exists());

        let parent = tempfile::tempdir().expect("a folder");
        let kept = parent.path().join("incident");
        drop(Record::make(Some(&kept)).expect("a folder"));
        assert!(kept.is_dir());
        fs::write(kept.join("old"), "").expect("written");
        let error = Record::make(Some(&kept)).expect_err("it is not empty").to_string();
        assert!(error.ends_with("expected a new or an empty folder"), "{error}");
        assert!(kept.join("old").exists());
    }

    #[test]
    fn what_a_killed_run_borrowed_is_given_back_by_the_next() {
        let place = tempfile::tempdir().expect("a folder");
        let mut gone = std::process::Command::new("true").spawn().expect("true");
        gone.wait().expect("its end");
        let folder = |pid: u32| place.path().join(format!("{PREFIX}{pid}-{}", ids::uuid()));
        let (left, running) = (folder(gone.id()), folder(std::process::id()));
        fs::create_dir_all(left.join("otlp")).expect("made");
        fs::create_dir(&running).expect("made");
        std::os::unix::fs::symlink(&running, folder(gone.id())).expect("linked");
        remove_leftovers(place.path());
        assert!(!left.exists() && running.exists());
    }

    #[test]
    fn old_segments_make_room_for_new_ones() {
        let record = Record::make(None).expect("a folder");
        let mut telemetry = Telemetry { segment_bytes_max: 400, ..record.telemetry() };
        let body = Bytes::from(vec![b' '; 100]);
        let export = |signal| Export { signal, encoding: Encoding::Json, body: body.clone() };
        telemetry.add(&export(Signal::Metrics)).expect("written");
        for _ in 0..4 * SEGMENTS_MAX + 8 {
            telemetry.add(&export(Signal::Logs)).expect("written");
        }
        let names: Vec<String> = fs::read_dir(record.folder().join("otlp"))
            .expect("a folder")
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        assert_eq!(names.len(), SEGMENTS_MAX + 1);
        assert!(!names.contains(&"logs-00001.jsonl".to_owned()));
        assert!(names.contains(&"metrics-00001.jsonl".to_owned()));
    }
}
