//! Where the memory controller of this machine is mounted, and in which version.

use std::path::{Path, PathBuf};

use super::below;

/// The two interfaces of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// `memory.usage_in_bytes`; a hierarchy for each controller.
    V1,
    /// `memory.current`; one hierarchy.
    V2,
}

/// The tree of memory cgroups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Which files there are.
    pub version: Version,
    /// Where the root cgroup is mounted.
    pub root: PathBuf,
}

/// There is no memory controller to be seen.
#[derive(Debug, thiserror::Error)]
#[error(
    "no memory cgroups below {}: expected cgroup v2 with the memory controller, or cgroup v1 in {}/memory",
    root.display(), root.display()
)]
pub struct NoHierarchy {
    /// Where they were looked for.
    pub root: PathBuf,
}

impl Hierarchy {
    /// Looks in the usual places, then in the list of mounts. On a machine with both, the version that has the memory
    /// controller counts.
    ///
    /// # Errors
    /// When neither version has a memory controller.
    pub fn find(sysroot: &Path) -> Result<Self, NoHierarchy> {
        let usual = below(sysroot, "/sys/fs/cgroup");
        let candidates = [usual.clone(), usual.join("memory"), usual.join("unified")];
        let mounted = || mounts(sysroot).into_iter().filter_map(|root| Self::at(&root));
        candidates
            .iter()
            .find_map(|root| Self::at(root))
            .or_else(|| mounted().next())
            .ok_or(NoHierarchy { root: usual })
    }

    /// What is mounted at `root`, if it has the memory controller.
    pub fn at(root: &Path) -> Option<Self> {
        let controllers = std::fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
        let version = if controllers.split_whitespace().any(|name| name == "memory") {
            Version::V2
        } else if root.join("memory.usage_in_bytes").exists() {
            Version::V1
        } else {
            return None;
        };
        Some(Self { version, root: root.to_owned() })
    }

    /// The folder of the cgroup with this path from the root.
    pub fn folder(&self, path: &str) -> PathBuf {
        below(&self.root, path)
    }

    /// The path from the root of the cgroup that this process is in, as `/proc/self/cgroup` says it.
    pub fn own_path(&self, sysroot: &Path) -> Option<String> {
        let text = std::fs::read_to_string(below(sysroot, "/proc/self/cgroup")).ok()?;
        path_of(&text, self.version).map(str::to_owned)
    }
}

/// The memory cgroup in the text of `/proc/PID/cgroup`.
pub fn path_of(text: &str, version: Version) -> Option<&str> {
    text.lines().find_map(|line| {
        let (number, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let fits = match version {
            Version::V1 => controllers.split(',').any(|name| name == "memory"),
            Version::V2 => number == "0" && controllers.is_empty(),
        };
        fits.then_some(path)
    })
}

/// Where cgroups are mounted: those of v1 with the memory controller, then v2.
fn mounts(sysroot: &Path) -> Vec<PathBuf> {
    let text = std::fs::read_to_string(below(sysroot, "/proc/mounts")).unwrap_or_default();
    let mut found: Vec<(bool, PathBuf)> = Vec::new();
    for line in text.lines() {
        let mut fields = line.split(' ').skip(1);
        let (Some(target), Some(kind), Some(options)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let memory = kind == "cgroup" && options.split(',').any(|option| option == "memory");
        if memory || kind == "cgroup2" {
            found.push((!memory, below(sysroot, target)));
        }
    }
    found.sort();
    found.into_iter().map(|(_, root)| root).collect()
}

#[cfg(test)]
mod tests {
    use super::{Hierarchy, Version, path_of};

    #[test]
    fn the_version_with_the_memory_controller_counts() {
        type Tree = (&'static [(&'static str, &'static str)], Option<(Version, &'static str)>);
        let trees: [Tree; 4] = [
            (
                &[("sys/fs/cgroup/cgroup.controllers", "cpu memory pids\n")],
                Some((Version::V2, "sys/fs/cgroup")),
            ),
            (
                &[
                    ("sys/fs/cgroup/unified/cgroup.controllers", "\n"),
                    ("sys/fs/cgroup/memory/memory.usage_in_bytes", "1\n"),
                ],
                Some((Version::V1, "sys/fs/cgroup/memory")),
            ),
            (
                &[
                    ("proc/mounts", "cg /dev/cg cgroup rw,memory,hugetlb 0 0\n"),
                    ("dev/cg/memory.usage_in_bytes", "1\n"),
                ],
                Some((Version::V1, "dev/cg")),
            ),
            (&[("sys/fs/cgroup/cgroup.controllers", "cpu pids\n")], None),
        ];
        for (files, expected) in trees {
            let tree = crate::node::tests::tree(files);
            let found = Hierarchy::find(tree.path()).ok();
            let expected =
                expected.map(|(version, root)| Hierarchy { version, root: tree.path().join(root) });
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_process_says_which_memory_cgroup_it_is_in() {
        let hybrid = "8:pids:/p\n4:hugetlb,memory:/m\n1:name=systemd:/s\n0::/u\n";
        assert_eq!(path_of(hybrid, Version::V1), Some("/m"));
        assert_eq!(path_of(hybrid, Version::V2), Some("/u"));
        assert_eq!(path_of("", Version::V2), None);
    }
}
