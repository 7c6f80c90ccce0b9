//! Files of lives: ours, those of processes that are alive, and what dead ones left. A live writer holds a lock on
//! its file, which the kernel lets go of at SIGKILL. A new file appears under its name only when it is complete.

use std::collections::hash_map::RandomState;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, Hasher};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::CreateError;
use super::map::{self, Map};

/// Processes that share one path.
const SIBLINGS_MAX: usize = 64;

/// Lives that are kept for a later export. A crash loop whose exporter never works keeps the latest ones.
const PREVIOUS_MAX: usize = 16;

/// A journal is never larger than what 65,536 of everything need.
const FILE_BYTES_MAX: u64 = 64 << 20;

const PREVIOUS: &str = ".previous-";
const NEW: &str = ".new-";

/// What an earlier life left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Previous {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl Previous {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it says.
    ///
    /// # Errors
    /// When it is damaged.
    pub fn read(&self) -> Result<crate::Journal, crate::NotAJournal> {
        crate::read(&self.bytes)
    }

    /// Removes it: it has been told to somebody who keeps it.
    pub fn forget(self) {
        // A file that cannot be removed is told again at the next start, which does no harm: the ids are the same.
        let _ = fs::remove_file(&self.path);
    }
}

/// A number that nobody else has.
pub(super) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut name: OsString = path.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    path.with_file_name(name)
}

/// Files beside `path` whose names begin like it, sorted.
fn family(path: &Path) -> Vec<PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let ours = |path: &PathBuf| {
        path.file_name().is_some_and(|other| other.to_string_lossy().starts_with(name.as_str()))
    };
    let mut paths: Vec<PathBuf> = entries.filter(ours).collect();
    paths.sort();
    paths
}

fn has(path: &Path, part: &str) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().contains(part))
}

/// Renames the files of dead writers.
pub(super) fn retire_the_dead(path: &Path) {
    for file in family(path) {
        let Some(opened) = open_journal(&file) else { continue };
        if has(&file, PREVIOUS) || !map::lock(&opened) {
            continue;
        }
        if has(&file, NEW) {
            // Its writer died before it was complete.
            let _ = fs::remove_file(&file);
            continue;
        }
        // By time, so that the oldest goes first.
        let nanos = super::Clock::now();
        let _ = fs::rename(&file, sibling(path, &format!("{PREVIOUS}{nanos:020}")));
    }
}

fn open_journal(path: &Path) -> Option<File> {
    // O_NONBLOCK: a fifo under that name must not stop the program.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).ok()?;
    file.metadata().is_ok_and(|metadata| metadata.is_file()).then_some(file)
}

/// What dead lives left beside `path`, oldest first.
pub fn previous_lives(path: &Path) -> Vec<Previous> {
    let mut files: Vec<PathBuf> = family(path).into_iter().filter(|file| has(file, PREVIOUS)).collect();
    let surplus = files.len().saturating_sub(PREVIOUS_MAX);
    for file in files.drain(..surplus) {
        let _ = fs::remove_file(file);
    }
    let read = |path: PathBuf| {
        let mut bytes = Vec::new();
        open_journal(&path)?.take(FILE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
        crate::is_journal(&bytes).then_some(Previous { path, bytes })
    };
    files.into_iter().filter_map(read).collect()
}

/// Makes a file with `head` at its start and gives it the first name that is free.
pub(super) fn publish(path: &Path, bytes: usize, head: &[u8]) -> Result<(Map, PathBuf), CreateError> {
    let failed = |source| CreateError::File { path: path.to_owned(), source };
    let temporary = sibling(path, &format!("{NEW}{:016x}", random()));
    let made = make(&temporary, bytes, head);
    let map = match made {
        Ok(map) => map,
        Err(error) => {
            let _ = fs::remove_file(&temporary);
            return Err(failed(error));
        }
    };
    for number in 0..SIBLINGS_MAX {
        let name = if number == 0 { path.to_owned() } else { sibling(path, &format!(".{number}")) };
        // Unlike a rename, a link never takes the name of somebody who was quicker.
        match fs::hard_link(&temporary, &name) {
            Ok(()) => {
                let _ = fs::remove_file(&temporary);
                return Ok((map, name));
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            // A file system without links.
            Err(_) if !name.exists() => {
                fs::rename(&temporary, &name).map_err(failed)?;
                return Ok((map, name));
            }
            Err(_) => {}
        }
    }
    let _ = fs::remove_file(&temporary);
    Err(CreateError::Taken { path: path.to_owned() })
}

fn make(path: &Path, bytes: usize, head: &[u8]) -> io::Result<Map> {
    let mut options = OpenOptions::new();
    // It tells which requests ran: for the owner only.
    options.read(true).write(true).create_new(true).mode(0o600).custom_flags(libc::O_CLOEXEC);
    let file = options.open(path)?;
    map::lock(&file);
    Map::new(file, bytes, head)
}
