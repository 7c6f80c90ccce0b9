//! Counts each kill once. Two witnesses tell of kills: the kernel's log says which process, but leaves out the cgroup when there
//! are many, and can be overwritten; a cgroup's counter says how many, but not who.
//!
//! ```text
//! report with a cgroup ───────────────▶ told, and taken off that cgroup's counter
//! report without one ──▶ pending ─────▶ told, once a counter rose at that time; else without a container
//! counter rose ─────────▶ rise ───────▶ taken by reports; what is left after a while is told from the counter alone
//! ```
//!
//! Pure: it has no clock and opens nothing.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use exit137_core::kernel::OomReport;
use exit137_core::time::{Moment, UnixNanos};

/// Which container, as the caller numbers them; a number is never used twice.
pub(super) type Slot = u64;

/// How the container of a kill is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ContainerBy {
    /// The kernel named its cgroup.
    Report,
    /// The victim's cgroup was asked for while it lived.
    Tracepoint,
    /// The victim was seen in it before.
    Pid,
    /// Its counter, and no other, rose at that time.
    Counter,
    /// Counters of several rose at that time: how many kills each had is exact, which process died in which is not.
    SharedCounters,
}

impl ContainerBy {
    /// As it is sent.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Report => "report",
            Self::Tracepoint => "tracepoint",
            Self::Pid => "pid",
            Self::Counter => "counter",
            Self::SharedCounters => "shared_counters",
        }
    }
}

/// A kill, to be told.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kill {
    /// The kernel's log tells it.
    Reported {
        report: Box<OomReport>,
        at: Moment,
        container: Option<(Slot, ContainerBy)>,
        /// Whether a counter told it too.
        is_counted: bool,
    },
    /// Only a counter tells it: it is one of those between two readings.
    Counted {
        container: Slot,
        from: UnixNanos,
        to: UnixNanos,
        /// The counter's value that stands for it.
        count: u64,
    },
}

/// A counter that rose.
#[derive(Debug, Clone, Copy)]
struct Rise {
    from: UnixNanos,
    to: UnixNanos,
    left: u64,
    noticed: Duration,
    /// From before anybody watched: it says where old reports belong, and is no kill to be told by itself.
    is_past: bool,
}

#[derive(Debug, Default)]
struct Account {
    /// The counter when it was last read.
    total: u64,
    /// Up to here it is told.
    told: u64,
    rises: VecDeque<Rise>,
    /// Told before the counter was read, and when.
    ahead: u64,
    ahead_since: Duration,
    /// A group was killed: the counter counts each member, and the first one twice.
    group_until: Option<UnixNanos>,
}

#[derive(Debug)]
struct Pending {
    report: Box<OomReport>,
    at: Moment,
    heard: Duration,
}

/// The counter of a cgroup is read just after a kill, by another clock.
const SLACK: i64 = 150_000_000;

/// A report without a cgroup waits this long for a counter that is alone.
const ALONE_WAIT: Duration = Duration::from_millis(400);

/// Then it takes one of several, and after this it is told without a container.
const SHARED_WAIT: Duration = Duration::from_millis(1500);
const PENDING_WAIT_MAX: Duration = Duration::from_secs(4);

/// A rise waits this long for its report; a slow console holds up the log for seconds.
const RISE_WAIT_MAX: Duration = Duration::from_secs(5);

/// In v1 a counter counts its own cgroup alone, not those below it: then what is ahead never comes.
const AHEAD_WAIT_MAX: Duration = Duration::from_secs(10);

/// Members of a killed group die within this time.
const GROUP_TIME: i64 = 2_000_000_000;

/// Kills told from one rise: a counter that jumps further is broken.
const COUNTED_MAX: u64 = 10_000;

/// All accounts.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    accounts: BTreeMap<Slot, Account>,
    pending: VecDeque<Pending>,
    /// Kills outside of what is watched are nobody's, so a report that no counter matches is left out.
    only_watched: bool,
    /// No counter can be read, or no log: then nothing is waited for.
    has_log: bool,
}

impl Ledger {
    /// `has_log` says whether reports will come at all.
    pub(super) fn new(only_watched: bool, has_log: bool) -> Self {
        Self { only_watched, has_log, ..Self::default() }
    }

    /// A container to watch. Its counter stood at `told` when it was last accounted for, which is 0 for a new cgroup.
    pub(super) fn watch(&mut self, slot: Slot, told: u64) {
        self.accounts.insert(slot, Account { total: told, told, ..Account::default() });
    }

    /// The counter of `slot` stood at `total` when an agent looked for the first time, at `to`: kills of which only the log may
    /// still tell.
    pub(super) fn had_past(&mut self, slot: Slot, total: u64, to: UnixNanos, now: Duration) {
        if let Some(account) = self.accounts.get_mut(&slot)
            && total > 0
        {
            account.total = total;
            let from = UnixNanos(0);
            account.rises.push_back(Rise { from, to, left: total, noticed: now, is_past: true });
        }
    }

    /// Its cgroup is gone for a while.
    pub(super) fn forget(&mut self, slot: Slot) {
        self.accounts.remove(&slot);
    }

    /// Up to where the counter of `slot` is told: what to begin with after a restart.
    pub(super) fn told(&self, slot: Slot) -> u64 {
        self.accounts.get(&slot).map_or(0, |account| account.told)
    }

    /// The counter of `slot` was read: `from` is when it was last read before. Returns whether it rose.
    pub(super) fn counted(
        &mut self,
        slot: Slot,
        total: u64,
        from: UnixNanos,
        to: UnixNanos,
        now: Duration,
    ) -> bool {
        let Some(account) = self.accounts.get_mut(&slot) else { return false };
        let rose = total.saturating_sub(account.total);
        account.total = account.total.max(total);
        let expected = rose.min(account.ahead);
        account.ahead -= expected;
        let left = rose - expected;
        if left == 0 {
            return rose > 0;
        }
        if account.group_until.is_some_and(|until| from <= until) {
            account.told = account.told.max(account.total);
        } else {
            account.rises.push_back(Rise { from, to, left, noticed: now, is_past: false });
        }
        true
    }

    /// The kernel reported one kill, or one of a group; `found` is the container, when something says so.
    pub(super) fn reported(
        &mut self,
        report: OomReport,
        at: Moment,
        found: Option<(Slot, ContainerBy)>,
        now: Duration,
    ) -> Option<Kill> {
        let report = Box::new(report);
        let known = found.filter(|(slot, _)| self.accounts.contains_key(slot));
        let Some((slot, by)) = known else {
            if report.task_memcg.is_some() {
                // Of something that is not watched, or not any more: its cgroup says who it was.
                let kill = Kill::Reported { report, at, container: None, is_counted: false };
                return (!self.only_watched).then_some(kill);
            }
            self.pending.push_back(Pending { report, at, heard: now });
            return None;
        };
        let is_counted = self.take(slot, &report, at, now);
        Some(Kill::Reported { report, at, container: Some((slot, by)), is_counted })
    }

    /// Takes the victims of `report` off the counter of `slot`. Returns whether it had counted one.
    fn take(&mut self, slot: Slot, report: &OomReport, at: Moment, now: Duration) -> bool {
        let Some(account) = self.accounts.get_mut(&slot) else { return false };
        let mut victims = report.victims.len().max(1) as u64;
        account.told += victims;
        let counted = account.rises.iter().any(|rise| rise.left > 0);
        while victims > 0 {
            // The rise of that time, else the oldest.
            let fits = account.rises.iter().position(|rise| rise.left > 0 && rise.fits(at));
            let Some(rise) = fits.or_else(|| account.rises.iter().position(|rise| rise.left > 0)) else {
                break;
            };
            let part = account.rises[rise].left.min(victims);
            account.rises[rise].left -= part;
            victims -= part;
        }
        if report.group_kill.is_some() {
            account.group_until = Some(at.at + GROUP_TIME);
            account.rises.clear();
            account.told = account.told.max(account.total);
        } else if victims > 0 {
            account.ahead += victims;
            account.ahead_since = now;
        }
        account.rises.retain(|rise| rise.left > 0);
        counted
    }

    /// Whether something waits: call [`Self::settle`] again soon.
    pub(super) fn is_waiting(&self) -> bool {
        !self.pending.is_empty() || self.accounts.values().any(|account| !account.rises.is_empty())
    }

    /// Sequence numbers of reports that are heard but not told.
    pub(super) fn untold(&self) -> impl Iterator<Item = u64> + '_ {
        self.pending.iter().filter_map(|pending| pending.report.sequence)
    }

    /// Everything that has waited long enough. `now` runs evenly from any beginning.
    pub(super) fn settle(&mut self, now: Duration) -> Vec<Kill> {
        let mut kills = Vec::new();
        let mut waiting = VecDeque::new();
        for pending in std::mem::take(&mut self.pending) {
            let waited = now.saturating_sub(pending.heard);
            let mut fitting = self.accounts.iter().filter(|(_, account)| {
                account.rises.iter().any(|rise| rise.left > 0 && rise.fits(pending.at))
            });
            let first = fitting.next().map(|(slot, _)| *slot);
            let is_alone = fitting.next().is_none();
            let by = if is_alone { ContainerBy::Counter } else { ContainerBy::SharedCounters };
            match first {
                Some(slot) if waited >= if is_alone { ALONE_WAIT } else { SHARED_WAIT } => {
                    self.take(slot, &pending.report, pending.at, now);
                    let container = Some((slot, by));
                    kills.push(Kill::Reported {
                        report: pending.report,
                        at: pending.at,
                        container,
                        is_counted: true,
                    });
                }
                None if waited >= PENDING_WAIT_MAX => {
                    if !self.only_watched {
                        let container = None;
                        let Pending { report, at, .. } = pending;
                        kills.push(Kill::Reported { report, at, container, is_counted: false });
                    }
                }
                _ => waiting.push_back(pending),
            }
        }
        self.pending = waiting;
        let wait = if self.has_log { RISE_WAIT_MAX } else { Duration::ZERO };
        for (slot, account) in &mut self.accounts {
            account.settle(*slot, now, wait, &mut kills);
        }
        kills
    }
}

impl Rise {
    fn fits(&self, at: Moment) -> bool {
        let slack = at.uncertainty.saturating_add(SLACK);
        at.at + slack >= self.from && at.at - slack <= self.to
    }
}

impl Account {
    fn settle(&mut self, container: Slot, now: Duration, wait: Duration, kills: &mut Vec<Kill>) {
        while let Some(rise) = self.rises.front().copied() {
            if now.saturating_sub(rise.noticed) < wait {
                break;
            }
            self.rises.pop_front();
            if rise.is_past {
                self.told += rise.left;
                continue;
            }
            for _ in 0..rise.left.min(COUNTED_MAX) {
                self.told += 1;
                kills.push(Kill::Counted { container, from: rise.from, to: rise.to, count: self.told });
            }
            self.told += rise.left.saturating_sub(COUNTED_MAX);
        }
        if self.ahead > 0 && now.saturating_sub(self.ahead_since) >= AHEAD_WAIT_MAX {
            self.told = self.told.saturating_sub(self.ahead);
            self.ahead = 0;
        }
    }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
