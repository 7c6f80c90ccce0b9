//! From a report to a record: which container it was, what it looked like before, and what its journal knew.

use std::collections::BTreeMap;
use std::time::Duration;

use exit137_core::kernel::cgroup_path::{CgroupIdentity, container_of};
use exit137_core::kernel::{KernelTime, OomReport};
use exit137_core::time::{Moment, UnixNanos};

use super::ledger::{ContainerBy, Kill, Slot};
use super::records::{self, Place};
use super::{Agent, otlp};

/// After a kill, its process no longer beats; a new one has had no time to overwrite what it left.
const JOURNAL_WAIT: Duration = Duration::from_secs(1);

/// What systemd-oomd leaves on a cgroup: how many processes it has killed there.
const OOMD_KILLS: &str = "user.oomd_kill";

static NOBODY: CgroupIdentity = CgroupIdentity { pod_uid: None, container_id: None, runtime: None };

impl Agent {
    /// Where a container is, in words that a record has.
    pub(super) fn place(&self, slot: Slot) -> Place<'_> {
        let watched = self.watch.slots.get(&slot);
        Place {
            node: &self.node,
            boot_id: &self.boot_id,
            identity: watched.map_or(&NOBODY, |watched| &watched.container.identity),
            names: watched.and_then(|watched| watched.names.as_ref()),
            path: watched.map(|watched| watched.container.path.as_str()),
        }
    }

    /// The kernel reported kills: one of a group, or one each.
    pub(super) fn report(&mut self, report: OomReport) {
        if report.sequence.is_some_and(|sequence| self.before_covers(sequence)) {
            return;
        }
        let parts = if report.group_kill.is_some() { vec![report] } else { one_each(report) };
        for part in parts {
            let at = self.wall(&part);
            let found = self.container_of(&part);
            let now = self.now();
            if let Some((slot, _)) = found {
                // The counter first, so that the kill is known to be counted; and before the cgroup is gone.
                self.look(slot, now, false);
            }
            let kill = self.ledger.reported(part, at, found, now);
            self.tell(kill);
        }
    }

    /// Whether an earlier run told this report, although its position in the log lies before it.
    fn before_covers(&self, sequence: u64) -> bool {
        let same_boot = self.before.as_ref().filter(|state| state.boot_id == self.boot_id);
        same_boot.is_some_and(|state| state.told.contains(&sequence))
    }

    fn wall(&self, report: &OomReport) -> Moment {
        match report.victims.first().map_or(report.at, |victim| victim.at) {
            KernelTime::SinceBoot(at) => self.kernel_clock.wall(at),
            KernelTime::Wall(moment) | KernelTime::Local { moment, .. } => moment,
            KernelTime::Unknown => Moment::UNKNOWN,
        }
    }

    fn container_of(&mut self, report: &OomReport) -> Option<(Slot, ContainerBy)> {
        if let Some(path) = &report.task_memcg {
            return self.watch.at_path(path).map(|slot| (slot, ContainerBy::Report));
        }
        let pid = report.victims.first()?.pid;
        let noted = self.victim_paths.iter().rposition(|(victim, _)| *victim == pid);
        let path = noted.and_then(|at| self.victim_paths.remove(at)).map(|(_, path)| path);
        if let Some(slot) = path.and_then(|path| self.watch.at_path(&path)) {
            return Some((slot, ContainerBy::Tracepoint));
        }
        self.watch.with_pid(pid).map(|slot| (slot, ContainerBy::Pid))
    }

    /// Turns kills into records.
    pub(super) fn tell(&mut self, kills: impl IntoIterator<Item = Kill>) {
        for kill in kills {
            match kill {
                Kill::Reported { report, at, container, is_counted } => {
                    self.told.extend(report.sequence);
                    self.tell_reported(&report, at, container, is_counted);
                }
                Kill::Counted { container, from, to, count } => {
                    let inode = self.watch.slots.get(&container).map_or(0, |watched| watched.inode);
                    let record = records::counted(self.place(container), from, to, count, inode);
                    let middle = record.at;
                    self.tell_counter(container, from, count - 1);
                    self.tell_counter(container, to, count);
                    self.push(container, record);
                    self.want_journal(container, middle);
                }
            }
        }
    }

    fn tell_reported(
        &mut self,
        report: &OomReport,
        at: Moment,
        container: Option<(Slot, ContainerBy)>,
        is_counted: bool,
    ) {
        let Some((slot, by)) = container else {
            let identity = report.task_memcg.as_deref().map_or_else(CgroupIdentity::default, container_of);
            let names = self.names.find(&identity, self.now());
            let place = Place {
                node: &self.node,
                boot_id: &self.boot_id,
                identity: &identity,
                names: names.as_ref(),
                path: report.task_memcg.as_deref(),
            };
            let record = records::reported(place, report, at, None, is_counted);
            let of = records::resource(&self.node, &identity, names.as_ref());
            return self.keep(of, record);
        };
        let record = records::reported(self.place(slot), report, at, Some(by), is_counted);
        self.push(slot, record);
        self.want_journal(slot, at.at);
    }

    /// The counter of a container as it stood at one moment, for who counts kills by it.
    fn tell_counter(&mut self, slot: Slot, at: UnixNanos, count: u64) {
        let reading = exit137_sources::node::cgroup::Reading {
            at,
            oom_kill: Some(count),
            ..exit137_sources::node::cgroup::Reading::default()
        };
        let record = records::sample(self.place(slot), &reading, &[], "counter");
        self.push(slot, record);
    }

    fn want_journal(&mut self, slot: Slot, at: UnixNanos) {
        let pod = self.place(slot).identity.pod_uid.clone();
        let Some(pod) = pod else { return };
        // One reading tells of all kills of that second.
        let is_wanted = |(_, wanted, time): &(Duration, String, UnixNanos)| {
            *wanted == pod && at.since(*time).abs() < 1_000_000_000
        };
        if !self.journals_due.iter().any(is_wanted) {
            self.journals_due.push((self.now() + JOURNAL_WAIT, pod, at));
        }
    }

    /// Sends the requests that killed processes left in flight.
    pub(super) fn read_journals(&mut self, now: Duration) {
        let due: Vec<_> = self.journals_due.extract_if(.., |(due, ..)| *due <= now).collect();
        for (_, pod, at) in due {
            let identity = CgroupIdentity { pod_uid: Some(pod.clone()), ..CgroupIdentity::default() };
            for life in self.journals.killed(&self.config.sysroot, &pod, at) {
                let names = self.names.find(&identity, now);
                let more = records::resource(&self.node, &identity, names.as_ref());
                let requests = otlp::spans(&life, &more, &mut self.traces);
                self.keep(more, records::journal(&life));
                if requests > 0 {
                    tracing::info!(
                        "{requests} requests were in flight when a process of pod {pod} was killed"
                    );
                }
            }
        }
    }

    /// Looks for the marks that systemd-oomd leaves on the cgroups it empties: those of containers, and of what they are in.
    pub(super) fn notice_oomd(&mut self) {
        let mut marks: BTreeMap<String, u64> = BTreeMap::new();
        for (_, watched) in self.watch.alive() {
            let path = &watched.container.path;
            marks.extend(oomd_kills(watched.cgroup.folder()).map(|kills| (path.clone(), kills)));
            let Some((parent, _)) = path.rsplit_once('/') else { continue };
            if !marks.contains_key(parent)
                && let Ok(folder) = std::fs::File::open(self.watch.hierarchy.folder(parent))
            {
                marks.extend(oomd_kills(&folder).map(|kills| (parent.to_owned(), kills)));
            }
        }
        self.oomd.retain(|path, _| marks.contains_key(path));
        for (path, kills) in marks {
            self.note_oomd(&path, kills);
        }
    }

    /// A container is gone: its mark can still be read, and never again.
    pub(super) fn notice_oomd_of(&mut self, slot: Slot) {
        let Some(watched) = self.watch.slots.get(&slot) else { return };
        let path = watched.container.path.clone();
        if let Some(kills) = oomd_kills(watched.cgroup.folder()) {
            self.note_oomd(&path, kills);
        }
    }

    fn note_oomd(&mut self, path: &str, kills: u64) {
        // What was there before the agent looked first is the past.
        let known = self.oomd.insert(path.to_owned(), kills);
        let more = kills.saturating_sub(known.unwrap_or(if self.is_starting { kills } else { 0 }));
        if more == 0 {
            return;
        }
        let identity = container_of(path);
        let names = self.names.find(&identity, self.now());
        let place = Place {
            node: &self.node,
            boot_id: &self.boot_id,
            identity: &identity,
            names: names.as_ref(),
            path: Some(path),
        };
        let record = records::user_space_kill(place, more);
        let of = records::resource(&self.node, &identity, names.as_ref());
        self.keep(of, record);
    }
}

/// How many processes systemd-oomd says it has killed in a cgroup.
fn oomd_kills(folder: impl std::os::fd::AsFd) -> Option<u64> {
    let mut value = [0; 32];
    let length = rustix::fs::fgetxattr(folder, OOMD_KILLS, &mut value[..]).ok()?;
    std::str::from_utf8(value.get(..length)?).ok()?.trim_end_matches('\0').parse().ok()
}

/// A report of several kills that are not one group, as reports of one kill each. The first has the table.
fn one_each(report: OomReport) -> Vec<OomReport> {
    let mut parts = Vec::new();
    let bare =
        OomReport { tasks: Vec::new(), stats: Default::default(), victims: Vec::new(), ..report.clone() };
    let mut first = Some(OomReport { victims: Vec::new(), ..report.clone() });
    for victim in report.victims {
        let mut part = first.take().unwrap_or_else(|| bare.clone());
        part.victims = vec![victim];
        parts.push(part);
    }
    parts
}
