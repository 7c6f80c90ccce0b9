//! Being woken by a cgroup: when something in it was killed, and (v1) when its usage passes a threshold. And being woken by
//! the tree when a cgroup was made or removed.

use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;

use super::cgroup::Cgroup;
use super::hierarchy::Hierarchy;

/// v1: an event counter that rises when the cgroup ran out of memory, and when its usage passes one of `thresholds`.
///
/// # Errors
/// When `cgroup.event_control` may not be written: only root may, and only where cgroups are mounted writable.
pub fn alarm(cgroup: &Cgroup, thresholds: &[u64]) -> Result<OwnedFd, Errno> {
    let alarm = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let control = openat(cgroup.folder(), "cgroup.event_control", flags, Mode::empty())?;
    let number = alarm.as_raw_fd();
    let oom = format!("{number} {}", cgroup.events().as_raw_fd());
    rustix::io::write(&control, oom.as_bytes())?;
    for bytes in thresholds {
        let line = format!("{number} {} {bytes}", cgroup.usage().as_raw_fd());
        rustix::io::write(&control, line.as_bytes())?;
    }
    Ok(alarm)
}

/// Empties an alarm, so that it can ring again.
pub fn quiet(alarm: BorrowedFd<'_>) {
    let mut count = [0; 8];
    let _ = rustix::io::read(alarm, &mut count);
}

/// Tells in which folders of the cgroup tree something was made or removed.
#[derive(Debug)]
pub struct Tree {
    inotify: OwnedFd,
    folders: HashMap<i32, String>,
}

impl Tree {
    /// Watches nothing yet.
    ///
    /// # Errors
    /// When the user's inotify instances are used up.
    pub fn new() -> Result<Self, Errno> {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        Ok(Self { inotify, folders: HashMap::new() })
    }

    /// Watches `path`, a path from the root of `hierarchy`. Watching twice is the same as once.
    ///
    /// # Errors
    /// When there are too many watches, or the folder is gone.
    pub fn watch(&mut self, hierarchy: &Hierarchy, path: &str) -> Result<(), Errno> {
        let flags = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::ONLYDIR;
        let watch = inotify::add_watch(&self.inotify, hierarchy.folder(path), flags)?;
        self.folders.insert(watch, path.to_owned());
        Ok(())
    }

    /// Can be polled for reading.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }

    /// The watched folders in which something changed, each once; `None` when so much changed that it was not recorded.
    pub fn take(&mut self) -> Option<Vec<String>> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.inotify, &mut buffer);
        let (mut changed, mut is_whole) = (Vec::new(), true);
        while let Ok(event) = reader.next() {
            if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                is_whole = false;
            } else if event.events().contains(ReadFlags::IGNORED) {
                self.folders.remove(&event.wd());
            } else if let Some(folder) = self.folders.get(&event.wd()) {
                changed.push(folder.clone());
            }
        }
        changed.sort();
        changed.dedup();
        is_whole.then_some(changed)
    }
}
