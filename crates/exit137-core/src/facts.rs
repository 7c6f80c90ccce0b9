//! The raw facts behind a verdict, with where each was read: for whoever wants to check.

use crate::bytes::Bytes;
use crate::incident::{Incident, KillScene};
use crate::kernel::OomReport;
use crate::verdict::{Fact, LimitHit};

/// Processes of the task table that are worth listing.
const TASKS_LISTED: usize = 5;

/// The facts of the latest kill.
pub fn facts_of(incident: &Incident<'_>) -> Vec<Fact> {
    let kill = incident.latest();
    let mut facts = Vec::new();
    if let Some(report) = kill.record.report {
        let source = kill.record.kill.record.clone().unwrap_or_else(|| "kernel log".to_owned());
        add_report(&mut facts, report, &source);
    }
    facts.extend(crate::live_heap::facts(incident));
    add_limit(&mut facts, incident, kill);
    add_stall(&mut facts, kill);
    if let Some(life) = kill.life {
        let life = &incident.scene.cast.lives[life];
        if let Some(termination) = life.termination {
            let reason = termination.reason.as_deref().unwrap_or("no reason");
            push(
                &mut facts,
                "container status",
                format!("{reason}, exit code {}", termination.exit_code),
                "Kubernetes API",
            );
        }
        let entry = &incident.scene.cast.containers[life.container];
        if let Some(pod) = incident.scene.cast.pods[entry.pod].kubernetes {
            let restarts = entry.name.as_ref().and_then(|name| pod.restart_counts.get(name));
            if let Some(restarts) = restarts {
                push(&mut facts, "restart count", restarts.to_string(), "Kubernetes API");
            }
            if let Some(waiting) = entry.name.as_ref().and_then(|name| pod.waiting.get(name)) {
                push(&mut facts, "now waiting", waiting.clone(), "Kubernetes API");
            }
        }
    }
    facts
}

fn push(facts: &mut Vec<Fact>, name: &str, value: String, source: &str) {
    facts.push(Fact { name: name.to_owned(), value, source: source.to_owned() });
}

fn add_report(facts: &mut Vec<Fact>, report: &OomReport, source: &str) {
    for victim in report.victims.iter().take(TASKS_LISTED) {
        let resident = format!(
            "anonymous {}, file {}, shared {}",
            Bytes(victim.anon),
            Bytes(victim.file),
            Bytes(victim.shmem.unwrap_or(0))
        );
        push(facts, "killed process", format!("{} (PID {}): {resident}", victim.comm, victim.pid), source);
    }
    if let Some(invoker) = &report.invoker {
        push(
            facts,
            "allocation that failed",
            format!("by {invoker}, {}", report.gfp_mask.as_deref().unwrap_or("unknown mask")),
            source,
        );
    }
    let charges = [("memory", report.memory), ("swap", report.swap), ("kernel memory", report.kmem)];
    for (name, charge) in charges {
        let Some(charge) = charge else { continue };
        let Some(limit) = charge.limit else { continue };
        push(
            facts,
            name,
            format!(
                "{} of {} charged, limit met {} times before",
                Bytes(charge.usage),
                Bytes(limit),
                charge.failcnt
            ),
            source,
        );
    }
    let cgroups =
        [("cgroup whose limit was hit", &report.oom_memcg), ("cgroup of the victim", &report.task_memcg)];
    for (name, path) in cgroups {
        if let Some(path) = path {
            push(facts, name, path.clone(), source);
        }
    }
    add_kinds(facts, report, source);
    add_tasks(facts, report, source);
}

fn add_kinds(facts: &mut Vec<Fact>, report: &OomReport, source: &str) {
    let parts: Vec<String> = [
        ("anon", "rss"),
        ("file", "cache"),
        ("shmem", "shmem"),
        ("kernel", "kernel"),
        ("file_dirty", "dirty"),
    ]
    .iter()
    .filter_map(|(v2, v1)| {
        let bytes = report
            .stats
            .get(&format!("total_{v1}"))
            .or_else(|| report.stats.get(*v2))
            .or_else(|| report.stats.get(*v1))?;
        Some(format!("{v2} {}", Bytes(*bytes)))
    })
    .collect();
    if !parts.is_empty() {
        push(facts, "charged memory by kind", parts.join(", "), source);
    }
}

fn add_tasks(facts: &mut Vec<Fact>, report: &OomReport, source: &str) {
    let mut tasks: Vec<_> = report.tasks.iter().collect();
    tasks.sort_by_key(|task| std::cmp::Reverse(task.rss));
    let listed: Vec<String> = tasks
        .iter()
        .take(TASKS_LISTED)
        .map(|task| format!("{} (PID {}) {}", task.name, task.pid, Bytes(task.rss)))
        .collect();
    if !listed.is_empty() {
        let more = tasks.len().saturating_sub(TASKS_LISTED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        push(facts, "largest processes", format!("{}{more}", listed.join(", ")), source);
    }
}

fn add_stall(facts: &mut Vec<Fact>, kill: &KillScene<'_>) {
    let Some(stall) = kill.stall else { return };
    let seconds = kill.at().seconds_since(stall.from);
    let requests = if stall.finished == 1 { "request" } else { "requests" };
    let value = format!(
        "for {seconds:.0} s before the kill: {} {requests} finished, {:.0} are ordinary",
        stall.finished, stall.ordinary
    );
    push(facts, "hung at its limit", value, "traces");
}

fn add_limit(facts: &mut Vec<Fact>, incident: &Incident<'_>, kill: &KillScene<'_>) {
    let what = match kill.record.kill.limit_hit {
        Some(LimitHit::Container) => "the container's own",
        Some(LimitHit::Pod) => {
            // The pod also holds the pause process, so with one container its cgroup is always met first.
            let alone = kill.container.is_some_and(|container| {
                let pod = incident.scene.cast.containers[container].pod;
                incident.scene.cast.containers_of(pod).count() == 1
            });
            if alone {
                "the pod's, which is the container's own when the pod has one container"
            } else {
                "the pod's"
            }
        }
        Some(LimitHit::Ancestor) => "of a cgroup above the pod",
        Some(LimitHit::Node) => "none: the node ran out of memory",
        None => "not told by any source",
    };
    push(facts, "limit that was hit", what.to_owned(), "kernel log");
}
