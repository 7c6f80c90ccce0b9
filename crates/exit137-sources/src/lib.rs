//! Reads files into observations.
//!
//! Placeholder until the readers are merged: it opens every path and reads nothing.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use exit137_core::observation::Observations;

/// Told how far the reading is.
pub trait Progress: Sync {
    /// How many bytes there are to read.
    fn total(&self, bytes: u64);
    /// So many more bytes were read.
    fn advance(&self, bytes: u64);
}

/// How to read.
#[derive(Debug, Clone, Default)]
pub struct ReadOptions {
    /// How many threads; `None` for one a core.
    pub threads: Option<usize>,
}

/// Why nothing could be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A path that was given cannot be opened.
    #[error("cannot open {}", path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Reads every path.
pub fn read(
    paths: &[PathBuf],
    _options: &ReadOptions,
    progress: &dyn Progress,
) -> Result<Observations, ReadError> {
    progress.total(0);
    for path in paths.iter().filter(|path| path.as_os_str() != "-") {
        File::open(path).map_err(|source| ReadError::Open { path: path.clone(), source })?;
    }
    Ok(Observations::default())
}
