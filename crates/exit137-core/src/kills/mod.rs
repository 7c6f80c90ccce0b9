//! Kill accounting: all sources fused into one list in which each OOM kill stands once, with who saw it.
//!
//! A kill is identified by its container and its time within the uncertainties, never by the count of a gauge.
//! The kernel's word comes first. The API adds to it: `OOMKilled` sticks to a container whose child was killed
//! hours before it ended, and on cgroup v1 it is put on every container of a pod whose own limit was hit.

mod api;
mod counters;
mod kernel_log;

use crate::clock::KernelClock;
use crate::identity::{Cast, LifeIndex};
use crate::kernel::OomReport;
use crate::observation::Observations;
use crate::time::{Moment, SECOND};
use crate::verdict::{Kill, LimitHit, NotOom, VictimProcess, Witness};

/// A container ends after its process was killed: memory is torn down, the runtime reaps, a file is written.
pub(crate) const END_AFTER_KILL_MAX: i64 = 10 * SECOND;

/// Clocks of one node agree to this much.
pub(crate) const SAME_NODE_SLACK: i64 = SECOND;

/// A kill with what it was made of.
#[derive(Debug, Clone)]
pub struct KillRecord<'a> {
    /// What the verdict says.
    pub kill: Kill,
    /// The life it ended or hurt; `None` when nothing names the container.
    pub life: Option<LifeIndex>,
    /// The kernel's report.
    pub report: Option<&'a OomReport>,
    /// PIDs of all processes that died in it.
    pub pids: Vec<u32>,
}

impl KillRecord<'_> {
    fn seen_by(&mut self, witness: Witness) {
        if !self.kill.seen_by.contains(&witness) {
            self.kill.seen_by.push(witness);
            self.kill.seen_by.sort_unstable();
        }
    }
}

/// All kills, and all SIGKILL ends that were none.
#[derive(Debug, Default)]
pub struct Accounts<'a> {
    /// By time.
    pub kills: Vec<KillRecord<'a>>,
    /// By container and time.
    pub not_oom: Vec<NotOom>,
}

/// Fuses all sources.
pub fn account<'a>(observations: &'a Observations, cast: &mut Cast<'a>, clock: &KernelClock) -> Accounts<'a> {
    let mut accounts = Accounts::default();
    kernel_log::add(&mut accounts, observations, cast, clock);
    counters::add_cgroup(&mut accounts, observations, cast);
    api::add(&mut accounts, observations, cast, clock);
    counters::add_metrics(&mut accounts, observations, cast);
    for record in &mut accounts.kills {
        complete(record, cast);
    }
    settle_survival(&mut accounts.kills);
    accounts.kills.sort_by(|a, b| {
        (a.kill.at.at, a.life, a.kill.victim.pid).cmp(&(b.kill.at.at, b.life, b.kill.victim.pid))
    });
    accounts.not_oom.sort_by(|a, b| {
        let key = |n: &NotOom| {
            (n.container.namespace.clone(), n.container.pod.clone(), n.container.name.clone(), n.at)
        };
        key(a).cmp(&key(b))
    });
    accounts
}

/// Fills in what the container's identity tells.
fn complete(record: &mut KillRecord<'_>, cast: &Cast<'_>) {
    let Some(life) = record.life.map(|life| &cast.lives[life]) else { return };
    let container = &cast.containers[life.container];
    record.kill.pod = cast.pods[container.pod].name.clone();
    record.kill.container_id = record.kill.container_id.take().or_else(|| life.container_id.clone());
    record.kill.life_started_at = life.started_at;
    if record.kill.limit_bytes.is_none() && record.kill.limit_hit != Some(LimitHit::Node) {
        record.kill.limit_bytes =
            life.limit_bytes.or_else(|| container.spec.and_then(|spec| spec.limit_bytes));
    }
    if record.kill.container_survived.is_none() {
        record.kill.container_survived = survived(&record.kill.at, life);
    }
    if record.kill.victim.main_process.is_none() && record.kill.container_survived == Some(false) {
        record.kill.victim.main_process = record.report.is_none().then_some(true);
    }
}

/// Whether a life went on after a kill, if its end is known at all.
fn survived(at: &Moment, life: &crate::identity::Life<'_>) -> Option<bool> {
    let end = life.ended_at?;
    let later = end.at.since(at.at) - end.uncertainty - at.uncertainty;
    // A last cgroup sample before the kill says nothing; a termination or a sample well after it does.
    if later > END_AFTER_KILL_MAX {
        return Some(true);
    }
    life.termination.map(|_| false)
}

/// A container in which another process is killed later has lived on until then; and one that lived on when this
/// program was killed before did not end by the last such kill either, unless the API says so.
fn settle_survival(kills: &mut [KillRecord<'_>]) {
    let mut by_life: std::collections::BTreeMap<LifeIndex, Vec<usize>> = std::collections::BTreeMap::new();
    for (index, record) in kills.iter().enumerate() {
        if let Some(life) = record.life {
            by_life.entry(life).or_default().push(index);
        }
    }
    for mut of_life in by_life.into_values() {
        of_life.sort_by_key(|&index| kills[index].kill.at.at);
        let Some((&last, before)) = of_life.split_last() else { continue };
        for &index in before {
            // Processes of one container that die within moments of each other may die with it.
            let apart = kills[last].kill.at.at.since(kills[index].kill.at.at) > SECOND;
            if apart {
                kills[index].kill.container_survived = Some(true);
                if kills[index].kill.victim.main_process == Some(true) && kills[index].report.is_none() {
                    kills[index].kill.victim.main_process = None;
                }
            }
        }
        let told = kills[last].kill.seen_by.contains(&Witness::Kubernetes);
        let comm = kills[last].kill.victim.comm.clone();
        let survived_before =
            before.iter().any(|&index| kills[index].kill.victim.comm == comm && comm.is_some());
        if !told && survived_before {
            kills[last].kill.container_survived = Some(true);
        }
    }
}

/// A record with nothing but a time.
fn bare<'a>(at: Moment, witness: Witness, life: Option<LifeIndex>) -> KillRecord<'a> {
    KillRecord {
        kill: Kill {
            at,
            pod: None,
            container_id: None,
            seen_by: vec![witness],
            limit_hit: None,
            limit_bytes: None,
            victim: VictimProcess::default(),
            container_survived: None,
            life_started_at: None,
            record: None,
        },
        life,
        report: None,
        pids: Vec::new(),
    }
}
