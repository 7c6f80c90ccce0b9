//! From paths to observations: finds the files, tells what each is, and keeps all cores busy.
//!
//! Files are opened one a worker, the largest first. A file of JSON is cut into blocks of whole documents, and
//! workers without a file of their own help with those: so one large file is read as fast as many small ones.
//! Each worker fills its own observations; they are joined at the end.

mod blocks;
mod documents;
mod framed;
mod pieces;
mod stream;
mod walk;
mod work;

use std::io;
use std::path::PathBuf;

use exit137_core::observation::Observations;
use exit137_core::problem::Problems;

use crate::otlp::sink::{KEPT_BYTES_MAX, LOGS_MAX, Room};

pub use pieces::Pieces;

/// How to read.
#[derive(Debug, Clone, Default)]
pub struct ReadOptions {
    /// Worker threads; 0 for as many as there are cores. The observations are the same for any number.
    pub threads: usize,
    /// What may be kept of what is read, in bytes; at most, and by default, 4 GiB. Past it records are counted
    /// as problems.
    pub kept_bytes_max: Option<u64>,
}

/// Told how far reading has come. Called from all workers.
pub trait Progress: Sync {
    /// Bytes to read altogether, as far as that is known. Called once, before all else.
    fn total(&self, bytes: u64);
    /// This many more were read.
    fn advance(&self, bytes: u64);
}

/// For when nobody is watching.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoProgress;

impl Progress for NoProgress {
    fn total(&self, _bytes: u64) {}
    fn advance(&self, _bytes: u64) {}
}

/// Why nothing was read. What is wrong inside an input is a problem of the observations instead.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Something that the user named cannot be opened.
    #[error("cannot open {}", path.display())]
    Open {
        /// As the user typed it.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Reads all `paths`: files, folders with all that is in them, or `-` for standard input.
pub fn read(
    paths: &[PathBuf],
    options: &ReadOptions,
    progress: &dyn Progress,
) -> Result<Observations, ReadError> {
    let mut problems = Problems::default();
    let entries = walk::entries(paths, &mut problems)?;
    let mut outcome = read_entries(&entries, options, progress)?;
    outcome.problems.absorb(problems);
    Ok(outcome)
}

/// Reads files whose content is in memory already.
#[cfg(feature = "fuzzing")]
pub(crate) fn read_memory(
    files: Vec<(PathBuf, std::sync::Arc<[u8]>)>,
    options: &ReadOptions,
    progress: &dyn Progress,
) -> Observations {
    let entry = |(path, content): (PathBuf, std::sync::Arc<[u8]>)| walk::Entry {
        name: path.display().to_string(),
        bytes: content.len() as u64,
        origin: walk::Origin::Memory(content),
        named: true,
    };
    let entries: Vec<walk::Entry> = files.into_iter().map(entry).collect();
    // Nothing needs to be opened, so nothing can fail to.
    read_entries(&entries, options, progress).unwrap_or_default()
}

fn read_entries(
    entries: &[walk::Entry],
    options: &ReadOptions,
    progress: &dyn Progress,
) -> Result<Observations, ReadError> {
    progress.total(entries.iter().map(|entry| entry.bytes).sum());
    let threads = match options.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    };
    let room = Room::of(options.kept_bytes_max.unwrap_or(KEPT_BYTES_MAX).min(KEPT_BYTES_MAX));
    let mut outcome = work::read_all(entries, threads, &room, progress)?;
    put_in_order(&mut outcome);
    Ok(outcome)
}

/// Which worker read what is chance; it must not show where order could.
fn put_in_order(observations: &mut Observations) {
    let symbols = &observations.symbols;
    observations.logs.sort_by(|a, b| (a.at, symbols.text(a.body)).cmp(&(b.at, symbols.text(b.body))));
    observations.logs.truncate(LOGS_MAX);
    crate::kernel_log::decode_records(observations);
    observations.cgroup_samples.sort_by(|a, b| (a.at, &a.container_id).cmp(&(b.at, &b.container_id)));
    observations.kernel.sort_by(|a, b| a.file.cmp(&b.file));
    observations.boot_times.sort_by(|a, b| a.file.cmp(&b.file));
    observations.journals.sort_by(|a, b| (a.started, &a.file).cmp(&(b.started, &b.file)));
    for series in &mut observations.metrics.series {
        series.points.sort_by(|a, b| (a.at, a.start).cmp(&(b.at, b.start)).then(a.value.total_cmp(&b.value)));
    }
    for series in &mut observations.metrics.distributions {
        series.points.sort_by_key(|point| (point.at, point.start, point.count));
    }
}

#[cfg(test)]
mod tests;
