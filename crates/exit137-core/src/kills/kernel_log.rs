//! Kills as the kernel log tells them: one a `Killed process` line, or one a group.

use std::collections::HashMap;

use super::{Accounts, KillRecord, bare};
use crate::clock::KernelClock;
use crate::identity::{Cast, LifeIndex};
use crate::kernel::cgroup_path::{container_of, limit_owner};
use crate::kernel::{OomReport, Victim};
use crate::observation::Observations;
use crate::time::{Moment, SECOND};
use crate::verdict::{LimitHit, VictimProcess, Witness};

pub(super) fn add<'a>(
    accounts: &mut Accounts<'a>,
    observations: &'a Observations,
    cast: &mut Cast<'a>,
    clock: &KernelClock,
) {
    // The same log may be given twice, in two styles: one process dies once. PIDs are reused, so time decides too.
    let mut seen: HashMap<(u32, String), Vec<Moment>> = HashMap::new();
    for (number, log) in observations.kernel.iter().enumerate() {
        for report in &log.reports {
            let victims: &[Victim] = if report.group_kill.is_some() {
                &report.victims[..report.victims.len().min(1)]
            } else {
                &report.victims
            };
            for victim in victims {
                let at = clock.wall(number, victim.at).or_else(|| clock.wall(number, report.at));
                let moments = seen.entry((victim.pid, victim.comm.clone())).or_default();
                if at.is_some_and(|at| moments.iter().any(|known| known.may_equal(at, SECOND))) {
                    continue;
                }
                moments.extend(at);
                // Without a time, a kill is placed nowhere; it still counts.
                let at = at.unwrap_or(Moment::UNKNOWN);
                let mut record = record_of(report, victim, at, cast);
                record.kill.record = Some(format!("{}:{}", log.file, victim.line));
                accounts.kills.push(record);
            }
        }
    }
}

fn record_of<'a>(report: &'a OomReport, victim: &Victim, at: Moment, cast: &mut Cast<'a>) -> KillRecord<'a> {
    let life = life_of(report, victim, at, cast);
    let mut record = bare(at, Witness::Kernel, life);
    let kill = &mut record.kill;
    kill.container_id = report.task_memcg.as_deref().and_then(|path| container_of(path).container_id);
    kill.limit_hit = limit_hit(report, victim);
    kill.limit_bytes =
        report.memory.and_then(|charge| charge.limit).filter(|_| kill.limit_hit != Some(LimitHit::Node));
    kill.victim = VictimProcess {
        pid: Some(victim.pid),
        comm: Some(victim.comm.clone()),
        main_process: None,
        anon_bytes: Some(victim.anon),
        file_bytes: Some(victim.file),
        shmem_bytes: victim.shmem,
    };
    record.pids = report.victims.iter().map(|victim| victim.pid).collect();
    record.report = Some(report);
    record
}

fn limit_hit(report: &OomReport, victim: &Victim) -> Option<LimitHit> {
    if report.global || victim.memcg == Some(false) {
        return Some(LimitHit::Node);
    }
    match (&report.oom_memcg, &report.task_memcg) {
        (Some(oom), Some(task)) => Some(limit_owner(oom, task)),
        _ => None,
    }
}

/// The container of a kill: by the victim's cgroup; when the report was rate-limited away, by its PID, then by
/// the only container whose end fits.
fn life_of(report: &OomReport, victim: &Victim, at: Moment, cast: &mut Cast<'_>) -> Option<LifeIndex> {
    if let Some(path) = &report.task_memcg {
        return cast.container_at_path(path);
    }
    if let Some(life) = cast.life_with_pid(victim.pid) {
        let fits = cast.lives[life].started_at.is_none_or(|start| start <= at.at + at.uncertainty + SECOND);
        if fits {
            return Some(life);
        }
    }
    let ended = |life: &LifeIndex| {
        let life = &cast.lives[*life];
        let oom =
            life.termination.is_some_and(|t| t.reason.as_deref() == Some("OOMKilled") && t.exit_code == 137);
        oom && life.ended_at.is_some_and(|end| end.may_equal(at, 2 * SECOND))
    };
    let mut fitting = (0..cast.lives.len()).filter(ended);
    let only = fitting.next().filter(|_| fitting.next().is_none())?;
    let pid = victim.pid;
    cast.guesses.insert(format!("the kernel named no cgroup for killed PID {pid}; it was joined to the one container that ended OOMKilled at that moment"));
    Some(only)
}
