//! What a store is allowed to use, and how long it remembers.

use std::time::Duration;

use crate::piece::Kind;

const MIB: u64 = 1 << 20;
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// The bounds of a store.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// All files together stay below this. Over it, the oldest of the busiest container goes first.
    pub disk_budget_bytes: u64,
    /// What waits to be written and what is being rewritten together stay below this.
    pub memory_budget_bytes: u64,
    /// How long each kind is kept, in the order of [`Kind::ALL`]; see [`keep`](Self::keep).
    pub ages: [Duration; Kind::ALL.len()],
}

impl Default for StoreOptions {
    fn default() -> Self {
        let age = |kind| match kind {
            Kind::Spans | Kind::Logs | Kind::Metrics => 3 * DAY,
            Kind::Cgroup | Kind::Journal => 7 * DAY,
            Kind::Samples | Kind::Kubernetes | Kind::KernelLog => 30 * DAY,
        };
        Self { disk_budget_bytes: 5 << 30, memory_budget_bytes: 64 * MIB, ages: Kind::ALL.map(age) }
    }
}

impl StoreOptions {
    /// Keeps pieces of `kind` for `age` after they arrived, counted in time that the store was running.
    #[must_use]
    pub fn keep(mut self, kind: Kind, age: Duration) -> Self {
        self.ages[kind.index()] = age;
        self
    }

    /// How long pieces of `kind` are kept.
    pub fn age(&self, kind: Kind) -> Duration {
        self.ages[kind.index()]
    }

    /// A log is sealed at this size. A part of the disk, so that dropping one is a small loss, and of the memory,
    /// because it is read as a whole when it is compressed.
    pub(crate) fn log_bytes(&self) -> u64 {
        (self.disk_budget_bytes / 32).min(self.memory_budget_bytes / 2).clamp(MIB / 4, 32 * MIB)
    }

    /// Small segments are joined up to this size.
    pub(crate) fn segment_bytes(&self) -> u64 {
        (self.disk_budget_bytes / 64).clamp(self.log_bytes(), 4 << 30)
    }

    /// Over this, the oldest of the busiest is dropped; over the budget itself, nothing is taken.
    pub(crate) fn disk_soft_bytes(&self) -> u64 {
        self.disk_budget_bytes - self.disk_budget_bytes / 8
    }

    /// The shortest age of the kinds in `kinds`, a bit for each.
    pub(crate) fn shortest_age(&self, kinds: u32) -> Duration {
        let ages = Kind::ALL.iter().filter(|kind| kinds >> **kind as u8 & 1 == 1).map(|kind| self.age(*kind));
        ages.min().unwrap_or(HOUR)
    }

    /// A log is sealed after this time even if it is small: a part of what is kept for the shortest time.
    pub(crate) fn log_age(&self) -> Duration {
        let shortest = self.ages.iter().min().copied().unwrap_or(HOUR);
        (shortest / 24).clamp(Duration::from_secs(1), Duration::from_secs(600))
    }

    /// What may wait to be written.
    pub(crate) fn queue_bytes(&self) -> u64 {
        self.memory_budget_bytes / 2
    }
}
