//! The memory cgroup that the command runs in, made like that of a pod: a folder for the run, and in it one cgroup a
//! life, named by 64 hex digits as a container's is. So every name that the kernel prints is one that is understood.
//!
//! What is made here goes away with the value, whatever happened to the command: a process that is left in it is killed,
//! as one that a container leaves is. A run that was itself killed by SIGKILL leaves its folder; the next run removes it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use exit137_sources::node::hierarchy::{Hierarchy, NoHierarchy, Version};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use super::ids;

/// How folders of runs are named, before the process ID of the run.
const PREFIX: &str = "exit137-run-";

/// A killed process that waits for a disk may take this long to go.
const EMPTY_WAIT_MAX: Duration = Duration::from_secs(5);

/// What the kernel shall enforce.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Limits {
    /// `memory.max`, bytes.
    pub(super) memory: Option<u64>,
    /// Whether a kill takes all processes of the command.
    pub(super) group_kill: bool,
}

/// Why there is no cgroup for the command.
#[derive(Debug, thiserror::Error)]
pub(super) enum EnclosureError {
    #[error(transparent)]
    NoHierarchy(#[from] NoHierarchy),
    #[error("cannot make a memory cgroup in {}", parent.display())]
    Make { parent: PathBuf, hint: &'static str, source: io::Error },
    #[error("cannot write {value} to {}", path.display())]
    Write { path: PathBuf, value: String, source: io::Error },
    #[error(
        "cgroup v1 kills processes one by one: `--group-kill` needs cgroup v2, where memory.oom.group says so"
    )]
    NoGroupKill,
}

impl EnclosureError {
    /// What to do about it.
    pub(super) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Make { hint, .. } => Some(hint),
            _ => None,
        }
    }
}

/// The folder of the run.
#[derive(Debug)]
pub(super) struct Enclosure {
    hierarchy: Hierarchy,
    /// From the hierarchy's root.
    path: String,
    pod_uid: String,
    limits: Limits,
    /// The cgroup that this process was alone in, and left so that it may have children (v2).
    left: Option<PathBuf>,
}

/// The cgroup of one life.
#[derive(Debug)]
pub(super) struct Cell {
    /// From the hierarchy's root.
    pub(super) path: String,
    /// 64 hex digits.
    pub(super) container_id: String,
    folder: PathBuf,
    /// Where a process writes `0` to enter.
    pub(super) entrance: File,
}

impl Enclosure {
    /// Makes the folder of a run below a cgroup where that is allowed, near the own one.
    pub(super) fn make(limits: Limits) -> Result<Self, EnclosureError> {
        let hierarchy = Hierarchy::find(Path::new("/"))?;
        if limits.group_kill && hierarchy.version == Version::V1 {
            return Err(EnclosureError::NoGroupKill);
        }
        let own = own_path(&hierarchy);
        let pod_uid = ids::uuid();
        let name = format!("{PREFIX}{}-pod{pod_uid}", std::process::id());
        let (parent, left) = match hierarchy.version {
            Version::V1 => (make_v1(&hierarchy, &own, &name)?, None),
            Version::V2 => make_v2(&hierarchy, &own, &name)?,
        };
        let path = format!("{}/{name}", parent.trim_end_matches('/'));
        let enclosure = Self { path, pod_uid, limits, left, hierarchy };
        remove_leftovers(&enclosure.hierarchy.folder(&parent));
        if enclosure.hierarchy.version == Version::V2 {
            write(&enclosure.folder().join("cgroup.subtree_control"), "+memory")?;
        }
        Ok(enclosure)
    }

    /// Where the memory cgroups are.
    pub(super) fn hierarchy(&self) -> &Hierarchy {
        &self.hierarchy
    }

    /// The path of the run's folder from the hierarchy's root: in every path that the kernel prints about this run.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// What the lives of this run have in common, as the containers of a pod do.
    pub(super) fn pod_uid(&self) -> &str {
        &self.pod_uid
    }

    fn folder(&self) -> PathBuf {
        self.hierarchy.folder(&self.path)
    }

    /// Makes the cgroup of one more life, with its limits.
    pub(super) fn cell(&self) -> Result<Cell, EnclosureError> {
        let container_id = ids::container_id();
        let folder = self.folder().join(&container_id);
        fs::create_dir(&folder).map_err(|source| EnclosureError::Make {
            parent: self.folder(),
            hint: "is something removing cgroups here?",
            source,
        })?;
        self.set_limits(&folder)?;
        let entrance = folder.join("cgroup.procs");
        let entrance = OpenOptions::new().write(true).open(&entrance).map_err(|source| {
            EnclosureError::Write { path: entrance, value: "a process".to_owned(), source }
        })?;
        Ok(Cell { path: format!("{}/{container_id}", self.path), container_id, folder, entrance })
    }

    fn set_limits(&self, folder: &Path) -> Result<(), EnclosureError> {
        let Some(bytes) = self.limits.memory.map(|bytes| bytes.to_string()) else { return Ok(()) };
        match self.hierarchy.version {
            Version::V1 => {
                write(&folder.join("memory.limit_in_bytes"), &bytes)?;
                // Without accounting of swap the file is missing; the limit may not be below that of memory alone.
                let with_swap = folder.join("memory.memsw.limit_in_bytes");
                if with_swap.exists() {
                    write(&with_swap, &bytes)?;
                }
            }
            Version::V2 => {
                write(&folder.join("memory.max"), &bytes)?;
                let swap = folder.join("memory.swap.max");
                if swap.exists() {
                    write(&swap, "0")?;
                }
                if self.limits.group_kill {
                    write(&folder.join("memory.oom.group"), "1")?;
                }
            }
        }
        Ok(())
    }
}

impl Cell {
    /// Kills what is still running in it, and waits until that is gone.
    pub(super) fn empty(&self) -> bool {
        empty(&self.folder)
    }
}

impl Drop for Cell {
    fn drop(&mut self) {
        remove(&self.folder);
    }
}

impl Drop for Enclosure {
    fn drop(&mut self) {
        let folder = self.folder();
        if let Some(home) = &self.left {
            // A cgroup that passes controllers on takes no processes: first the one, then the other.
            let _ = write(&folder.join("cgroup.subtree_control"), "-memory");
            let supervisor = folder.join(SUPERVISOR);
            let _ = write(&home.join("cgroup.subtree_control"), "-memory");
            let _ = write(&home.join("cgroup.procs"), "0");
            let _ = fs::remove_dir(supervisor);
        }
        remove(&folder);
    }
}

/// The own memory cgroup; the root where that cannot be seen, as in a container without a namespace for cgroups.
fn own_path(hierarchy: &Hierarchy) -> String {
    let own = hierarchy.own_path(Path::new("/")).unwrap_or_default();
    if hierarchy.folder(&own).is_dir() { own } else { "/".to_owned() }
}

const ROOT_HINT: &str = "run it as root: `sudo exit137 run …` (cgroup v1 cannot be given to other users)";

fn make_v1(hierarchy: &Hierarchy, own: &str, name: &str) -> Result<String, EnclosureError> {
    let parent = hierarchy.folder(own);
    match fs::create_dir(parent.join(name)) {
        Ok(()) => Ok(own.to_owned()),
        Err(source) => {
            let hint =
                if source.kind() == io::ErrorKind::ReadOnlyFilesystem { READ_ONLY_HINT } else { ROOT_HINT };
            Err(EnclosureError::Make { parent, hint, source })
        }
    }
}

const READ_ONLY_HINT: &str = "this container may not make cgroups: run exit137 on the host, or give the container a \
    writable /sys/fs/cgroup (`docker run --privileged`)";

/// The cgroup within the run's folder that this process moves into when it has to make room.
const SUPERVISOR: &str = "supervisor";

/// Looks upwards from the own cgroup for one that may have children with the memory controller. Only a cgroup without
/// processes passes controllers on, so that is the own one only if nobody else is in it.
fn make_v2(
    hierarchy: &Hierarchy,
    own: &str,
    name: &str,
) -> Result<(String, Option<PathBuf>), EnclosureError> {
    let mut refusal: Option<(PathBuf, io::Error)> = None;
    let mut refuse = |parent: PathBuf, error: io::Error| {
        // The nearest one says best what is wrong.
        refusal.get_or_insert((parent, error));
    };
    let mut path = own.trim_end_matches('/');
    loop {
        let parent = hierarchy.folder(path);
        let alone = path == own.trim_end_matches('/') && !path.is_empty() && is_alone(&parent);
        if passes_memory_on(&parent) || path.is_empty() && pass_memory_on(&parent).is_ok() {
            match enterable(&parent).and_then(|()| fs::create_dir(parent.join(name))) {
                Ok(()) => return Ok((path.to_owned(), None)),
                Err(error) => refuse(parent, error),
            }
        } else if alone {
            match make_room(&parent, name) {
                Ok(()) => return Ok((path.to_owned(), Some(parent))),
                Err(error) => refuse(parent, error),
            }
        } else {
            refuse(parent, io::Error::from(io::ErrorKind::PermissionDenied));
        }
        match path.rsplit_once('/') {
            Some((above, _)) => path = above,
            None => break,
        }
    }
    let (parent, source) =
        refusal.unwrap_or_else(|| (hierarchy.root.clone(), io::ErrorKind::NotFound.into()));
    Err(EnclosureError::Make { parent, hint: hint_v2(&source), source })
}

fn hint_v2(error: &io::Error) -> &'static str {
    let systemd = Path::new("/run/systemd/system").exists();
    let root = rustix::process::geteuid().is_root();
    match (root, systemd) {
        (false, true) => {
            "have systemd give the command a cgroup of its own: \
             `systemd-run --user --scope -p Delegate=yes exit137 run …`"
        }
        (false, false) => {
            "run it as root: `sudo exit137 run …`, or in a cgroup v2 that was given to this user"
        }
        (true, true) => {
            "have systemd give the command a cgroup of its own: `systemd-run --scope -p Delegate=yes exit137 run …`"
        }
        (true, false) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => READ_ONLY_HINT,
        (true, false) => {
            "the own cgroup holds other processes: move exit137 into a cgroup of its own first, \
             `mkdir /sys/fs/cgroup/mine && echo $$ > /sys/fs/cgroup/mine/cgroup.procs`"
        }
    }
}

fn passes_memory_on(folder: &Path) -> bool {
    let text = fs::read_to_string(folder.join("cgroup.subtree_control")).unwrap_or_default();
    text.split_whitespace().any(|controller| controller == "memory")
}

fn pass_memory_on(folder: &Path) -> io::Result<()> {
    fs::write(folder.join("cgroup.subtree_control"), "+memory")
}

/// Moving a process takes the right to write to this file of the cgroup that holds both places.
fn enterable(folder: &Path) -> io::Result<()> {
    OpenOptions::new().write(true).open(folder.join("cgroup.procs")).map(drop)
}

/// Whether this process has the cgroup for itself, as in a scope that systemd made for it.
fn is_alone(folder: &Path) -> bool {
    let text = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    text.trim() == std::process::id().to_string()
}

/// Moves this process down, so that its cgroup can pass the memory controller on.
fn make_room(home: &Path, name: &str) -> io::Result<()> {
    let folder = home.join(name);
    fs::create_dir(&folder)?;
    let supervisor = folder.join(SUPERVISOR);
    let moved = fs::create_dir(&supervisor)
        .and_then(|()| fs::write(supervisor.join("cgroup.procs"), "0"))
        .and_then(|()| pass_memory_on(home));
    if moved.is_err() {
        let _ = fs::write(home.join("cgroup.procs"), "0");
        let _ = fs::remove_dir(&supervisor);
        let _ = fs::remove_dir(&folder);
    }
    moved
}

fn write(path: &Path, value: &str) -> Result<(), EnclosureError> {
    let written =
        OpenOptions::new().write(true).open(path).and_then(|mut file| file.write_all(value.as_bytes()));
    written.map_err(|source| EnclosureError::Write { path: path.to_owned(), value: value.to_owned(), source })
}

/// Folders of runs that are gone: SIGKILL gives nobody the time to tidy up.
fn remove_leftovers(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next()?.parse().ok());
        let Some(owner) = owner.and_then(Pid::from_raw) else { continue };
        let gone = test_kill_process(owner) == Err(rustix::io::Errno::SRCH);
        // What still runs in there was meant to: it is left alone.
        if gone && !is_populated(&entry.path()) {
            remove_tree(&entry.path());
        }
    }
}

fn is_populated(folder: &Path) -> bool {
    let own = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    let below = || children(folder).iter().any(|child| is_populated(child));
    !own.trim().is_empty() || below()
}

fn children(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

fn remove_tree(folder: &Path) {
    for child in children(folder) {
        remove_tree(&child);
    }
    let _ = fs::remove_dir(folder);
}

/// Empties `folder` and what the command made in it, and removes it.
fn remove(folder: &Path) {
    for child in children(folder) {
        remove(&child);
    }
    if fs::remove_dir(folder).is_err() && folder.exists() {
        empty(folder);
        let _ = fs::remove_dir(folder);
    }
}

/// Kills everything in `folder`; whether it is empty then.
fn empty(folder: &Path) -> bool {
    let since = Instant::now();
    loop {
        let pids = pids(folder);
        let nested = children(folder).iter().all(|child| empty(child));
        if pids.is_empty() && nested {
            return true;
        }
        if since.elapsed() > EMPTY_WAIT_MAX {
            return false;
        }
        // Again each time: a process that forks meanwhile is found in the next round.
        for pid in pids.into_iter().filter_map(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn pids(folder: &Path) -> Vec<i32> {
    let text = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    // 0 is a process of another namespace.
    text.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_is_removed_with_everything_in_it() {
        let enclosure = Enclosure::make(Limits { memory: Some(64 << 20), group_kill: false });
        let enclosure = enclosure.expect("tests run as root, with memory cgroups");
        let folder = enclosure.folder();
        let cell = enclosure.cell().expect("a cgroup");
        assert_eq!(fs::read_to_string(limit_file(&cell)).expect("a limit").trim(), (64 << 20).to_string());
        let mut sleeper = std::process::Command::new("sleep").arg("600").spawn().expect("sleep");
        fs::write(cell.folder.join("cgroup.procs"), sleeper.id().to_string()).expect("moved");
        fs::create_dir(cell.folder.join("nested")).expect("a nested cgroup");
        // Reaped meanwhile, or the cgroup would keep its corpse.
        let reaper = thread::spawn(move || sleeper.wait().expect("its end"));
        drop(cell);
        drop(enclosure);
        assert!(!folder.exists());
        assert!(!reaper.join().expect("an end").success());
    }

    fn limit_file(cell: &Cell) -> PathBuf {
        let v1 = cell.folder.join("memory.limit_in_bytes");
        if v1.exists() { v1 } else { cell.folder.join("memory.max") }
    }

    #[test]
    fn what_a_killed_run_left_is_removed_by_the_next() {
        let enclosure = Enclosure::make(Limits::default()).expect("tests run as root, with memory cgroups");
        let mut gone = std::process::Command::new("true").spawn().expect("true");
        gone.wait().expect("its end");
        let parent = enclosure.folder().parent().expect("a parent").to_owned();
        let leftover = parent.join(format!("{PREFIX}{}-pod{}", gone.id(), ids::uuid()));
        fs::create_dir_all(leftover.join(ids::container_id())).expect("made");
        remove_leftovers(&parent);
        assert!(!leftover.exists());
        assert!(enclosure.folder().exists());
    }
}
