//! The containers that are watched: what each looks like, how often it is looked at, and what it said since the last export.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::time::Duration;

use exit137_core::kernel::cgroup_path::is_pod_level;
use exit137_core::time::UnixNanos;
use exit137_sources::node::cgroup::{Cgroup, Reading, Unreadable};
use exit137_sources::node::containers::{Container, Names};
use exit137_sources::node::hierarchy::{Hierarchy, Version};
use exit137_sources::node::notify;
use exit137_sources::node::processes::{self, Process};
use rustix::event::epoll::{self, EventData, EventFlags};

use super::ledger::Slot;
use super::rate::{Next, Rate};

/// What the seldom-read files say is read again after this.
const SELDOM: Duration = Duration::from_secs(10);

/// PIDs remembered of one container, so that a kill whose cgroup the kernel does not name finds its container.
const PIDS_MAX: usize = 64;

/// A container that is gone is remembered for kills that are heard late.
pub(super) const REMEMBERED: Duration = Duration::from_secs(60);

/// Points of one container between two exports: ten minutes at the usual rate, half a minute near the limit.
const POINTS_MAX: usize = 600;

/// v1 alone: the kernel rings when usage passes these shares of the limit, however long ago the last look was.
const ALARMS_PERMILLE: [u64; 3] = [850, 900, 950];

/// A container at its limit rings all the time.
const RING_PAUSE: Duration = Duration::from_millis(20);

/// One look, as it is exported.
#[derive(Debug, Clone, Copy)]
pub(super) struct Point {
    pub(super) at: UnixNanos,
    pub(super) usage: u64,
    pub(super) working_set: u64,
    pub(super) anon: u64,
    pub(super) file: u64,
    pub(super) shmem: u64,
    pub(super) kernel: u64,
}

/// A cgroup above containers that has a limit of its own.
#[derive(Debug)]
struct Level {
    cgroup: Cgroup,
    reading: Reading,
    read_at: Duration,
    is_gone: bool,
}

/// A container.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) container: Container,
    pub(super) names: Option<Names>,
    pub(super) cgroup: Cgroup,
    pub(super) reading: Reading,
    pub(super) points: Vec<Point>,
    pub(super) gone_at: Option<Duration>,
    /// The directory: a cgroup of the same path that was made later is another.
    pub(super) inode: u64,
    pub(super) processes: u64,
    /// The last photograph.
    pub(super) photograph: Option<(UnixNanos, Vec<Process>)>,
    pids: Vec<u32>,
    levels: Vec<String>,
    rate: Rate,
    due: Duration,
    looked_at: Duration,
    /// Usage when its parts were read.
    stat_usage: Option<u64>,
    seldom_at: Option<Duration>,
    alarm: Option<OwnedFd>,
    alarm_limit: Option<u64>,
}

/// What a look found.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seen {
    pub(super) photograph: Option<&'static str>,
    /// The counter before, when it was read, and now.
    pub(super) counter: Option<(UnixNanos, UnixNanos, u64)>,
    /// The cgroup was removed since the look before.
    pub(super) is_gone: bool,
}

/// All containers.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) hierarchy: Hierarchy,
    pub(super) slots: HashMap<Slot, Watched>,
    by_path: HashMap<String, Slot>,
    levels: HashMap<String, Option<Level>>,
    next_slot: Slot,
    /// Whether cgroups can be asked to ring.
    pub(super) rings: bool,
}

impl Watch {
    /// Nothing is watched yet. Slots begin at `first_slot`.
    pub(super) fn new(hierarchy: Hierarchy, first_slot: Slot) -> Self {
        let (slots, by_path, levels) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self { hierarchy, slots, by_path, levels, next_slot: first_slot, rings: true }
    }

    /// Watches `container`, unless it is watched. The alarm rings in `epoll` under the slot's number.
    pub(super) fn add(&mut self, container: Container, epoll: &OwnedFd, now: Duration) -> Option<Slot> {
        if let Some(slot) = self.by_path.get(&container.path) {
            let watched = self.slots.get(slot)?;
            if watched.gone_at.is_none() && inode(&self.hierarchy, &container.path) == Some(watched.inode) {
                return None;
            }
        }
        let cgroup = Cgroup::open(&self.hierarchy, &container.path).ok()?;
        let inode = inode(&self.hierarchy, &container.path)?;
        let reading = cgroup.read_all().ok()?;
        let slot = self.next_slot;
        self.next_slot += 1;
        let levels = self.open_levels(&container.path);
        let mut watched = Watched {
            names: None,
            cgroup,
            reading,
            points: Vec::new(),
            gone_at: None,
            inode,
            processes: 0,
            photograph: None,
            pids: Vec::new(),
            levels,
            rate: Rate::default(),
            due: now,
            looked_at: Duration::ZERO,
            stat_usage: None,
            seldom_at: None,
            alarm: None,
            alarm_limit: None,
            container,
        };
        self.rings &= watched.ring(self.hierarchy.version, epoll, slot);
        self.by_path.insert(watched.container.path.clone(), slot);
        self.slots.insert(slot, watched);
        Some(slot)
    }

    /// The cgroups above `path` that have a limit.
    fn open_levels(&mut self, path: &str) -> Vec<String> {
        let mut found = Vec::new();
        let mut above = path;
        while let Some((parent, _)) = above.rsplit_once('/') {
            if parent.is_empty() {
                break;
            }
            let hierarchy = &self.hierarchy;
            let level =
                self.levels.entry(parent.to_owned()).or_insert_with(|| Level::open(hierarchy, parent));
            if level.is_some() {
                found.push(parent.to_owned());
            }
            above = parent;
        }
        found
    }

    /// The next time at which a container is due.
    pub(super) fn next_due(&self) -> Option<Duration> {
        self.alive().map(|(_, watched)| watched.due).min()
    }

    /// All that are due by `until`.
    pub(super) fn due(&self, until: Duration) -> Vec<Slot> {
        self.alive().filter(|(_, watched)| watched.due <= until).map(|(slot, _)| slot).collect()
    }

    /// Those whose cgroup is there.
    pub(super) fn alive(&self) -> impl Iterator<Item = (Slot, &Watched)> {
        self.slots
            .iter()
            .filter(|(_, watched)| watched.gone_at.is_none())
            .map(|(slot, watched)| (*slot, watched))
    }

    /// Looks at one container. `rang` says that it called for it.
    pub(super) fn look(
        &mut self,
        slot: Slot,
        now: Duration,
        usual: Duration,
        may_rest: bool,
        rang: bool,
    ) -> Seen {
        let Some(watched) = self.slots.get_mut(&slot) else { return Seen::default() };
        if rang && let Some(alarm) = &watched.alarm {
            notify::quiet(std::os::fd::AsFd::as_fd(alarm));
        }
        if rang && now.saturating_sub(watched.looked_at) < RING_PAUSE {
            watched.due = watched.due.min(watched.looked_at + RING_PAUSE);
            return Seen::default();
        }
        watched.looked_at = now;
        let before = watched.reading;
        match watched.read(now) {
            Ok(()) => {}
            Err(Unreadable::Gone) => {
                watched.gone_at = Some(now);
                watched.alarm = None;
                return Seen { is_gone: true, ..Seen::default() };
            }
            Err(Unreadable::Other(_)) => {
                watched.due = now + usual;
                return Seen::default();
            }
        }
        watched.keep_point();
        let (mut hard, mut limit) = (watched.reading.hard(), watched.reading.limit);
        for level in &watched.levels {
            if let Some(Some(level)) = self.levels.get_mut(level)
                && let Some((used, of)) = level.look(now)
                && limit.is_none_or(|limit| fuller((used, of), (hard, limit)))
            {
                (hard, limit) = (used, Some(of));
            }
        }
        let Next { interval, photograph } = watched.rate.look(now, hard, limit, usual, may_rest);
        // Those with the same interval are looked at together: one wake-up for all.
        let step = interval.as_nanos().max(1);
        watched.due = Duration::from_nanos(((now.as_nanos() / step + 1) * step) as u64);
        let total = watched.reading.oom_kill.filter(|_| watched.reading.oom_kill != before.oom_kill);
        let counter = total.map(|total| (before.at, watched.reading.at, total));
        Seen { photograph, counter, is_gone: false }
    }

    /// The alarm of a v1 container whose limit changed must know the new one.
    pub(super) fn rearm(&mut self, epoll: &OwnedFd) {
        for (slot, watched) in &mut self.slots {
            if watched.gone_at.is_none()
                && watched.alarm.is_some()
                && watched.alarm_limit != watched.reading.limit
            {
                watched.ring(self.hierarchy.version, epoll, *slot);
            }
        }
    }

    /// Photographs the processes of a container.
    pub(super) fn photograph(&mut self, slot: Slot, proc: &std::path::Path) {
        let Some(watched) = self.slots.get_mut(&slot) else { return };
        let pids = watched.cgroup.pids(processes::PROCESSES_MAX).unwrap_or_default();
        let seen = processes::read(proc, &pids, processes::uptime_seconds(proc));
        watched.processes = pids.len() as u64;
        watched.remember(&pids);
        watched.photograph = Some((exit137_sources::node::cgroup::wall_now(), seen));
    }

    /// The container at a cgroup path as the kernel prints it, which may have more in front than we see.
    pub(super) fn at_path(&self, path: &str) -> Option<Slot> {
        let path = path.strip_suffix(" (deleted)").unwrap_or(path);
        if let Some(slot) = self.by_path.get(path) {
            return Some(*slot);
        }
        let identity = exit137_core::kernel::cgroup_path::container_of(path);
        let id = identity.container_id?;
        let same = |watched: &Watched| watched.container.identity.container_id.as_ref() == Some(&id);
        self.slots.iter().filter(|(_, watched)| same(watched)).map(|(slot, _)| *slot).max()
    }

    /// The container in which `pid` was seen last.
    pub(super) fn with_pid(&self, pid: u32) -> Option<Slot> {
        let has = |watched: &Watched| watched.pids.contains(&pid);
        self.slots.iter().filter(|(_, watched)| has(watched)).map(|(slot, _)| *slot).max()
    }

    /// Forgets containers that are gone for long, and tells which.
    pub(super) fn forget(&mut self, now: Duration) -> Vec<Slot> {
        let old = |watched: &Watched| watched.gone_at.is_some_and(|at| now.saturating_sub(at) >= REMEMBERED);
        let slots: Vec<Slot> =
            self.slots.iter().filter(|(_, watched)| old(watched)).map(|(slot, _)| *slot).collect();
        for slot in &slots {
            if let Some(watched) = self.slots.remove(slot)
                && self.by_path.get(&watched.container.path) == Some(slot)
            {
                self.by_path.remove(&watched.container.path);
            }
        }
        if !slots.is_empty() {
            let used: Vec<&String> = self.slots.values().flat_map(|watched| &watched.levels).collect();
            let used: std::collections::HashSet<String> = used.into_iter().cloned().collect();
            self.levels.retain(|path, _| used.contains(path));
        }
        slots
    }

    /// Readings of pods, by path.
    pub(super) fn pods(&mut self) -> Vec<(String, Reading)> {
        let pods = self.levels.iter_mut().filter(|(path, _)| is_pod_level(path));
        pods.filter_map(|(path, level)| {
            let level = level.as_mut()?;
            Some((path.clone(), level.cgroup.read_all().ok()?))
        })
        .collect()
    }
}

/// Whether the first of two (used, limit) is nearer to its limit.
fn fuller(a: (u64, u64), b: (u64, u64)) -> bool {
    u128::from(a.0) * u128::from(b.1) > u128::from(b.0) * u128::from(a.1)
}

fn inode(hierarchy: &Hierarchy, path: &str) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(hierarchy.folder(path)).ok().map(|metadata| metadata.ino())
}

impl Level {
    /// Of pods always, of others only with a limit.
    fn open(hierarchy: &Hierarchy, path: &str) -> Option<Self> {
        let cgroup = Cgroup::open(hierarchy, path).ok()?;
        let reading = cgroup.read_all().ok()?;
        let wanted = reading.limit.is_some() || is_pod_level(path);
        wanted.then_some(Self { cgroup, reading, read_at: Duration::ZERO, is_gone: false })
    }

    /// What cannot be reclaimed, and the limit. Read once a round, however many containers ask.
    fn look(&mut self, now: Duration) -> Option<(u64, u64)> {
        let limit = self.reading.limit?;
        if self.is_gone {
            return None;
        }
        if self.read_at != now {
            self.read_at = now;
            match self.cgroup.usage_bytes() {
                Ok(usage) => self.reading.usage = Some(usage),
                Err(_) => self.is_gone = true,
            }
            // What is file pages is asked for only where it matters.
            if self.reading.hard().saturating_mul(4) > limit.saturating_mul(3) {
                let _ = self.cgroup.read(&mut self.reading);
            }
        }
        Some((self.reading.hard(), limit))
    }
}

impl Watched {
    fn read(&mut self, now: Duration) -> Result<(), Unreadable> {
        let due = self.seldom_at.is_none_or(|at| now.saturating_sub(at) >= SELDOM);
        if due {
            self.cgroup.read_seldom(&mut self.reading)?;
            let pids = self.cgroup.pids(PIDS_MAX)?;
            self.processes = pids.len() as u64;
            self.remember(&pids);
            self.seldom_at = Some(now);
        }
        self.cgroup.glance(&mut self.reading)?;
        // The same usage to the byte is made of the same pages, as a rule; what differs shows within ten seconds.
        if due || self.reading.usage != self.stat_usage {
            self.cgroup.statistics(&mut self.reading)?;
            self.stat_usage = self.reading.usage;
        }
        Ok(())
    }

    fn remember(&mut self, pids: &[u32]) {
        self.pids.clear();
        self.pids.extend(pids.iter().take(PIDS_MAX));
    }

    fn keep_point(&mut self) {
        let reading = &self.reading;
        if self.points.len() >= POINTS_MAX {
            return;
        }
        self.points.push(Point {
            at: reading.at,
            usage: reading.usage.unwrap_or_default(),
            working_set: reading.working_set().unwrap_or_default(),
            anon: reading.anon.unwrap_or_default(),
            file: reading.file.unwrap_or_default(),
            shmem: reading.shmem.unwrap_or_default(),
            kernel: reading.kernel.unwrap_or_default(),
        });
    }

    /// Asks the cgroup to ring. `false` when it cannot be asked.
    fn ring(&mut self, version: Version, epoll: &OwnedFd, slot: Slot) -> bool {
        let data = EventData::new_u64(slot);
        match version {
            Version::V2 => {
                let flags = EventFlags::PRI | EventFlags::ET;
                epoll::add(epoll, self.cgroup.events(), data, flags).is_ok()
            }
            Version::V1 => {
                let limit = self.reading.limit;
                let thresholds: Vec<u64> = limit.map_or(Vec::new(), |limit| {
                    ALARMS_PERMILLE.iter().map(|permille| limit / 1000 * permille).collect()
                });
                let Ok(alarm) = notify::alarm(&self.cgroup, &thresholds) else { return false };
                let rings = epoll::add(epoll, &alarm, data, EventFlags::IN).is_ok();
                (self.alarm, self.alarm_limit) = (Some(alarm), limit);
                rings
            }
        }
    }
}
