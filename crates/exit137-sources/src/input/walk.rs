//! Which files to read: what was named, and what lies in the folders that were named.

use std::collections::HashSet;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use exit137_core::problem::Problems;

use super::ReadError;

/// A chain of folders longer than this is a mistake.
const FOLDERS_DEEP_MAX: usize = 64;

/// A folder with more files than this is not a recording of an incident.
const FILES_MAX: usize = 100_000;

/// Where an input comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// `-`.
    StandardInput,
    /// A file, pipe or device.
    Path(PathBuf),
    /// Bytes that are here already.
    #[cfg(feature = "fuzzing")]
    Memory(std::sync::Arc<[u8]>),
}

/// One input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) origin: Origin,
    /// As problems name it.
    pub(super) name: String,
    /// Bytes on disk; 0 when that cannot be known.
    pub(super) bytes: u64,
    /// Named by the user, not found in a folder: then it must be usable.
    pub(super) named: bool,
}

/// All inputs, those of each folder in the order of their names.
pub(super) fn entries(paths: &[PathBuf], problems: &mut Problems) -> Result<Vec<Entry>, ReadError> {
    let mut walk = Walk { entries: Vec::new(), seen: HashSet::new(), problems };
    for path in paths {
        let open = |source| ReadError::Open { path: path.clone(), source };
        if path.as_os_str() == "-" {
            walk.entries.push(Entry {
                origin: Origin::StandardInput,
                name: "-".to_owned(),
                bytes: 0,
                named: true,
            });
            continue;
        }
        let metadata = fs::metadata(path).map_err(open)?;
        if metadata.is_dir() {
            // Two folders may hold files of the same name: then the folder's name tells them apart.
            let prefix = if paths.len() == 1 { Path::new("") } else { path };
            walk.seen.insert((metadata.dev(), metadata.ino()));
            let before = walk.entries.len();
            walk.folder(path, prefix, 0).map_err(open)?;
            if walk.entries.len() == before {
                walk.problems.add(
                    &path.display().to_string(),
                    None,
                    "expected files in this folder, found none",
                );
            }
        } else {
            if metadata.is_file() {
                File::open(path).map_err(open)?;
            }
            walk.file(path, path, &metadata, true);
        }
    }
    Ok(walk.entries)
}

struct Walk<'a> {
    entries: Vec<Entry>,
    /// Folders by device and inode: a symbolic link may lead back to one.
    seen: HashSet<(u64, u64)>,
    problems: &'a mut Problems,
}

impl Walk<'_> {
    fn file(&mut self, path: &Path, name: &Path, metadata: &Metadata, named: bool) {
        self.entries.push(Entry {
            origin: Origin::Path(path.to_owned()),
            name: name.display().to_string(),
            bytes: if metadata.is_file() { metadata.len() } else { 0 },
            named,
        });
    }

    fn folder(&mut self, path: &Path, name: &Path, depth: usize) -> io::Result<()> {
        let mut children = Vec::new();
        for child in fs::read_dir(path)? {
            let child = child?.file_name();
            if !child.as_encoded_bytes().starts_with(b".") {
                children.push(child);
            }
        }
        children.sort();
        for child in children {
            let (path, name) = (path.join(&child), name.join(&child));
            if let Err(error) = self.child(&path, &name, depth) {
                self.problems.add(&name.display().to_string(), None, format!("cannot open: {error}"));
            }
        }
        Ok(())
    }

    fn child(&mut self, path: &Path, name: &Path, depth: usize) -> io::Result<()> {
        let metadata = fs::metadata(path)?;
        if metadata.is_dir() {
            if depth == FOLDERS_DEEP_MAX {
                return Err(io::Error::other("folders are nested too deep"));
            }
            if self.seen.insert((metadata.dev(), metadata.ino())) {
                self.folder(path, name, depth + 1)?;
            }
        } else if metadata.is_file() {
            if self.entries.len() == FILES_MAX {
                return Err(io::Error::other("too many files"));
            }
            self.file(path, name, &metadata, false);
        }
        // Pipes and devices are read only when they are named: opening one may wait for ever.
        Ok(())
    }
}
