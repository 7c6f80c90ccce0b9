//! What a node tells those who stay on it: its containers' cgroups, their processes, and the kernel's log as it grows.
//!
//! Everything here opens and reads, and decides nothing. It needs neither a thread nor a runtime of its own, and after a
//! cgroup was opened, reading it again allocates nothing: an agent reads thousands of them all day. A `sysroot` stands in
//! front of every path, for a host's file system that is mounted elsewhere, and for tests.

pub mod cgroup;
pub mod containers;
pub mod hierarchy;
pub mod kmsg;
pub mod notify;
pub mod processes;
pub mod victims;
pub mod wall;

use std::io;
use std::path::{Path, PathBuf};

/// A file of the node that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}", path.display())]
pub struct NodeError {
    /// Which.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

impl NodeError {
    fn at(path: impl Into<PathBuf>, source: impl Into<io::Error>) -> Self {
        Self { path: path.into(), source: source.into() }
    }
}

/// `path`, which begins at the root, below `sysroot`.
pub fn below(sysroot: &Path, path: &str) -> PathBuf {
    sysroot.join(path.trim_start_matches('/'))
}

/// The identity of this boot; sequence numbers of the kernel's log mean nothing in another.
///
/// # Errors
/// When the file of the kernel's random numbers cannot be read.
pub fn boot_id(sysroot: &Path) -> Result<String, NodeError> {
    let path = below(sysroot, "/proc/sys/kernel/random/boot_id");
    let text = std::fs::read_to_string(&path).map_err(|source| NodeError::at(&path, source))?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// A folder that is removed at the end of the test, with these files in it.
    pub(crate) fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let tree = tempfile::tempdir().expect("a temporary folder");
        for (path, content) in files {
            write(tree.path(), path, content);
        }
        tree
    }

    pub(crate) fn write(root: &Path, path: &str, content: &str) {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
        std::fs::write(path, content).expect("a file");
    }
}
