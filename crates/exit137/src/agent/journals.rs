//! The journals that instrumented processes left in the pod's volumes: after a kill they tell which requests were in flight.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use exit137_core::time::{SECOND, UnixNanos};
use exit137_sources::journal::{BYTES_MAX, Life};
use exit137_sources::node::below;

/// What every journal begins with.
const MAGIC: &[u8; 8] = b"E137JRNL";

/// `emptyDir/NAME/exit137/journal`, one folder deeper than anybody needs.
const DEPTH_MAX: usize = 3;

/// Files looked at in the volumes of one pod: a cache of a million files is not searched.
const FILES_MAX: usize = 2000;

/// A process beats four times a second; it was killed soon after the last beat, and no beat came later.
const BEFORE_KILL: i64 = 5 * SECOND;
const AFTER_KILL: i64 = SECOND / 2;

/// Lives remembered, so that none is told twice.
const LIVES_MAX: usize = 10_000;

/// Reads journals, each life once.
#[derive(Debug, Default)]
pub(super) struct Journals {
    told: HashSet<u64>,
}

impl Journals {
    /// The lives in the volumes of a pod that ended by a kill at about `at`.
    pub(super) fn killed(&mut self, sysroot: &Path, pod_uid: &str, at: UnixNanos) -> Vec<Life> {
        let volumes =
            below(sysroot, "/var/lib/kubelet/pods").join(pod_uid).join("volumes/kubernetes.io~empty-dir");
        let mut left = FILES_MAX;
        let mut found = Vec::new();
        search(&volumes, DEPTH_MAX, &mut left, &mut found);
        if self.told.len() > LIVES_MAX {
            self.told.clear();
        }
        let mut lives: Vec<Life> = found.iter().filter_map(|path| read(path)).collect();
        lives.retain(|life| {
            let seen = UnixNanos(i64::try_from(life.seen_unix_nanos).unwrap_or_default());
            let ended =
                life.closed_unix_nanos.is_none() && (-BEFORE_KILL..=AFTER_KILL).contains(&seen.since(at));
            ended && self.told.insert(life.life)
        });
        lives
    }
}

fn search(folder: &Path, depth: usize, left: &mut usize, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        if *left == 0 {
            return;
        }
        *left -= 1;
        // Links are not followed: a pod may point them anywhere on the node.
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() && depth > 0 {
            search(&entry.path(), depth - 1, left, found);
        } else if kind.is_file()
            && entry.metadata().is_ok_and(|metadata| (4096..=BYTES_MAX).contains(&metadata.len()))
        {
            found.push(entry.path());
        }
    }
}

fn read(path: &Path) -> Option<Life> {
    let mut file = open(path)?;
    let mut bytes = vec![0; MAGIC.len()];
    file.read_exact(&mut bytes).ok()?;
    if bytes != MAGIC {
        return None;
    }
    file.take(BYTES_MAX).read_to_end(&mut bytes).ok()?;
    exit137_sources::journal::read(&bytes).ok()
}

/// Without following a link that took the file's place since it was looked at.
fn open(path: &Path) -> Option<File> {
    use rustix::fs::{CWD, Mode, OFlags, openat};
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty()).ok().map(File::from)
}
