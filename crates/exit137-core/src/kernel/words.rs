//! The sentences of an OOM report, one function a sentence. They look for anchors instead of splitting at
//! commas: paths, node lists and process names may hold commas, blanks and parentheses.

use crate::kernel::{Charge, Constraint, Task};

/// Page size of the table's page counts. The log does not say it; 64 KiB pages exist on arm64 only.
const PAGE: u64 = 4096;

/// No limit is printed as the largest page counter, about 2^53 kB.
const UNLIMITED_KB_MIN: u64 = 1 << 52;

/// `comm` has 15 bytes; decoding can triple them.
const COMM_BYTES_MAX: usize = 64;

/// `PATH_MAX` of Linux.
const PATH_BYTES_MAX: usize = 4096;

const GFP_BYTES_MAX: usize = 256;

const KEY_BYTES_MAX: usize = 64;

/// The longest table header has 11 columns.
const COLUMNS_MAX: usize = 16;

/// `text` cut to `bytes_max`, at a character boundary.
pub(super) fn cut(text: &str, bytes_max: usize) -> String {
    text[..text.floor_char_boundary(bytes_max)].to_owned()
}

fn path(text: &str) -> String {
    cut(text, PATH_BYTES_MAX)
}

/// Digits directly behind `name`, and what follows them.
fn value<'a>(text: &'a str, name: &str) -> Option<(u64, &'a str)> {
    super::stamp::number(text.strip_prefix(name)?)
}

fn kilobytes<'a>(text: &'a str, name: &str) -> Option<(u64, &'a str)> {
    let (number, rest) = value(text, name)?;
    Some((number.saturating_mul(1024), rest.strip_prefix("kB")?))
}

/// `<comm> invoked oom-killer: gfp_mask=…`: who allocated, and how.
pub(super) fn invoked(text: &str) -> Option<(String, String)> {
    let (comm, rest) = text.split_once(" invoked oom-killer: gfp_mask=")?;
    let mask = rest.split_once(", ").map_or(rest, |(mask, _)| mask);
    Some((cut(comm, COMM_BYTES_MAX), cut(mask, GFP_BYTES_MAX)))
}

/// Up to 4.20: `Task in P killed as a result of limit of P2` or `Memory limit reached of cgroup P2`. The line is
/// printed in pieces, so either end can be missing.
pub(super) fn limit_of(text: &str) -> Option<(Option<String>, Option<String>)> {
    if let Some(domain) = text.strip_prefix("Memory limit reached of cgroup ") {
        return Some((None, Some(path(domain.trim_end())).filter(|domain| !domain.is_empty())));
    }
    let (task, domain) = text.strip_prefix("Task in ")?.split_once(" killed as a result of limit of")?;
    let domain = domain.trim();
    Some((Some(path(task)), (!domain.is_empty()).then(|| path(domain))))
}

/// Which resource a usage line is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resource {
    Memory,
    /// `swap` on cgroup v2, `memory+swap` before and on v1.
    Swap,
    Kernel,
}

/// `memory: usage 40960kB, limit 40960kB, failcnt 0`
pub(super) fn charge(text: &str) -> Option<(Resource, Charge)> {
    let (name, rest) = text.split_once(": ")?;
    let resource = match name {
        "memory" => Resource::Memory,
        "swap" | "memory+swap" => Resource::Swap,
        "kmem" => Resource::Kernel,
        _ => return None,
    };
    let (usage, rest) = kilobytes(rest, "usage ")?;
    let (limit, rest) = kilobytes(rest, ", limit ")?;
    let (failcnt, _) = value(rest, ", failcnt ")?;
    let limit = (limit < UNLIMITED_KB_MIN.saturating_mul(1024)).then_some(limit);
    Some((resource, Charge { usage, limit, failcnt }))
}

/// `Memory cgroup stats for P:`: the path, and what follows it on the line (all of it, up to 5.0).
pub(super) fn stats_of(text: &str) -> Option<(Option<String>, &str)> {
    let rest = text.strip_prefix("Memory cgroup stats for ")?.trim_end();
    if let Some(domain) = rest.strip_suffix(':') {
        return Some((Some(path(domain)), ""));
    }
    // The path may hold ": " itself, the statistics behind it never do.
    let Some((domain, stats)) = rest.rsplit_once(": ") else {
        return Some((None, ""));
    };
    Some((Some(path(domain)), stats))
}

/// `anon 533360640`, `cache:0KB`: a key and its bytes (or events).
pub(super) fn stat(text: &str) -> Option<(&str, u64)> {
    let (key, number) = text.split_once([' ', ':'])?;
    let named = key.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    let lettered = key.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
    if !named || !lettered || key.len() > KEY_BYTES_MAX {
        return None;
    }
    if let Some(kilobytes) = number.strip_suffix("KB") {
        return Some((key, digits(kilobytes)?.saturating_mul(1024)));
    }
    if text.as_bytes().get(key.len()) == Some(&b':') {
        return None;
    }
    Some((key, digits(number)?))
}

fn digits(text: &str) -> Option<u64> {
    super::stamp::number(text).filter(|(_, rest)| rest.is_empty()).map(|(number, _)| number)
}

/// A column of the task table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
    Uid,
    Tgid,
    Rss,
    RssAnon,
    RssFile,
    RssShmem,
    /// Bytes.
    PgtablesBytes,
    /// Pages, `nr_ptes` of old kernels.
    Ptes,
    Swap,
    OomScoreAdj,
    Other,
}

/// `[  pid  ]   uid  tgid total_vm … name`: the columns between pid and name.
pub(super) fn table_header(text: &str) -> Option<Vec<Column>> {
    let (pid, rest) = text.strip_prefix('[')?.split_once(']')?;
    let rest = rest.trim_end().strip_suffix("name")?;
    if pid.trim() != "pid" {
        return None;
    }
    let columns: Vec<Column> = rest.split_ascii_whitespace().take(COLUMNS_MAX).map(column).collect();
    (!columns.is_empty()).then_some(columns)
}

fn column(name: &str) -> Column {
    match name {
        "uid" => Column::Uid,
        "tgid" => Column::Tgid,
        "rss" => Column::Rss,
        "rss_anon" => Column::RssAnon,
        "rss_file" => Column::RssFile,
        "rss_shmem" => Column::RssShmem,
        "pgtables_bytes" => Column::PgtablesBytes,
        "nr_ptes" => Column::Ptes,
        "swapents" => Column::Swap,
        "oom_score_adj" => Column::OomScoreAdj,
        _ => Column::Other,
    }
}

/// A row of the task table. The name is the rest of the line, blanks included.
pub(super) fn table_row(text: &str, columns: &[Column]) -> Option<Task> {
    let (pid, mut rest) = text.strip_prefix('[')?.split_once(']')?;
    let mut task = Task { pid: pid.trim().parse().ok()?, ..Task::default() };
    for column in columns {
        let trimmed = rest.trim_start_matches(' ');
        let end = trimmed.find(' ').unwrap_or(trimmed.len());
        fill(&mut task, *column, trimmed[..end].parse().ok()?);
        rest = &trimmed[end..];
    }
    task.name = cut(rest.strip_prefix(' ').unwrap_or(rest), COMM_BYTES_MAX);
    Some(task)
}

fn fill(task: &mut Task, column: Column, number: i64) {
    let count = u64::try_from(number).unwrap_or(0);
    let pages = count.saturating_mul(PAGE);
    let id = u32::try_from(number).unwrap_or(u32::MAX);
    match column {
        Column::Uid => task.uid = id,
        Column::Tgid => task.tgid = id,
        Column::Rss => task.rss = pages,
        Column::RssAnon => task.rss_anon = Some(pages),
        Column::RssFile => task.rss_file = Some(pages),
        Column::RssShmem => task.rss_shmem = Some(pages),
        Column::PgtablesBytes => task.pgtables = Some(count),
        Column::Ptes => task.pgtables = Some(pages),
        Column::Swap => task.swap = Some(pages),
        Column::OomScoreAdj => task.oom_score_adj = i32::try_from(number).unwrap_or(0),
        Column::Other => {}
    }
}

/// The summary line, as far as it got. A value that may have been cut off in the middle is left out, but for
/// `task_memcg`, whose end is checked when a container is read from it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Summary {
    pub(super) constraint: Option<Constraint>,
    pub(super) global: bool,
    pub(super) oom_memcg: Option<String>,
    pub(super) task_memcg: Option<String>,
    pub(super) task: Option<String>,
    pub(super) pid: Option<u32>,
    /// Nothing is missing at its end.
    pub(super) complete: bool,
}

/// `oom-kill:constraint=…`, cut from the right.
pub(super) fn summary(text: &str) -> Option<Summary> {
    let rest = text.strip_prefix("oom-kill:constraint=")?;
    let constraint = match rest.split(',').next().unwrap_or_default() {
        "CONSTRAINT_MEMCG" => Some(Constraint::Memcg),
        "CONSTRAINT_NONE" => Some(Constraint::None),
        "CONSTRAINT_CPUSET" => Some(Constraint::Cpuset),
        "CONSTRAINT_MEMORY_POLICY" => Some(Constraint::MemoryPolicy),
        _ => None,
    };
    let (head, victim) = match rest.split_once(",task_memcg=") {
        Some((head, victim)) => (head, Some(victim)),
        None => (rest, None),
    };
    let domain = head.split_once(",oom_memcg=").map(|(_, domain)| domain);
    // Without what follows, the path may end anywhere, and a cut path names a cgroup further up.
    let whole =
        |domain: &&str| victim.is_some() || super::cgroup_path::container_of(domain).container_id.is_some();
    let mut summary = Summary {
        constraint,
        global: domain.is_none() && (head.ends_with(",global_oom") || head.contains(",global_oom,")),
        oom_memcg: domain.filter(whole).map(path),
        ..Summary::default()
    };
    if let Some(victim) = victim {
        victim_of_summary(victim, &mut summary);
    }
    Some(summary)
}

/// `<path>,task=<comm>,pid=<n>,uid=<n>`
fn victim_of_summary(text: &str, summary: &mut Summary) {
    let Some((memcg, rest)) = text.split_once(",task=") else {
        summary.task_memcg = Some(path(text)).filter(|memcg| !memcg.is_empty());
        return;
    };
    summary.task_memcg = Some(path(memcg));
    // Both names can be part of `comm`, which stands before them.
    let (rest, uid) = match rest.rsplit_once(",uid=") {
        Some((rest, uid)) => (rest, Some(uid)),
        None => (rest, None),
    };
    let Some((comm, pid)) = rest.rsplit_once(",pid=") else {
        return;
    };
    summary.task = Some(cut(comm, COMM_BYTES_MAX));
    summary.pid = uid.and_then(|_| pid.parse().ok());
    summary.complete = uid.is_some_and(|uid| !uid.is_empty());
}

/// Whose memory ran out, by the words in front of `Kill` and `Killed`: true for a memory cgroup's.
fn message(text: &str) -> Option<(bool, &str)> {
    const MEMCG: &str = "Memory cgroup out of memory: ";
    const GLOBAL: [&str; 2] = ["Out of memory: ", "Out of memory (oom_kill_allocating_task): "];
    if let Some(rest) = text.strip_prefix(MEMCG) {
        return Some((true, rest));
    }
    GLOBAL.iter().find_map(|global| text.strip_prefix(global)).map(|rest| (false, rest))
}

/// Up to 5.2: `<M>: Kill process 62685 (bash) score 0 or sacrifice child`; true for a memory cgroup's memory.
/// The process killed in the end can be a child of this one.
pub(super) fn verdict(text: &str) -> Option<bool> {
    let (memcg, rest) = message(text)?;
    value(rest, "Kill process ")?;
    Some(memcg)
}

/// `<M>: OOM victim 12 (x) is already exiting. Skip killing the task`
pub(super) fn already_exiting(text: &str) -> bool {
    message(text).is_some_and(|(_, rest)| {
        value(rest, "OOM victim ").is_some_and(|(_, rest)| rest.contains(" is already exiting. "))
    })
}

/// What a `Killed process` line says. Bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Killed {
    pub(super) memcg: Option<bool>,
    pub(super) pid: u32,
    pub(super) comm: String,
    pub(super) total_vm: u64,
    pub(super) anon: u64,
    pub(super) file: u64,
    pub(super) shmem: Option<u64>,
    pub(super) pgtables: Option<u64>,
    pub(super) uid: Option<u32>,
    pub(super) oom_score_adj: Option<i32>,
}

/// `Killed process 12 (x) total-vm:…` in every form. The words in front are the kernel's or none: the rest
/// could be anybody quoting it.
pub(super) fn killed(text: &str) -> Option<Killed> {
    let (memcg, rest) = match message(text) {
        Some((memcg, rest)) => (Some(memcg), rest),
        None => (None, text),
    };
    let (pid, rest) = value(rest, "Killed process ")?;
    // `comm` may look like the rest of the line, but it stands before it.
    let sizes_at = rest.rfind("total-vm:")?;
    let (comm, early_uid) = comm_and_uid(&rest[..sizes_at])?;
    let (total_vm, rest) = kilobytes(&rest[sizes_at..], "total-vm:")?;
    let (anon, rest) = kilobytes(rest, ", anon-rss:")?;
    let (file, rest) = kilobytes(rest, ", file-rss:")?;
    let (shmem, rest) = kilobytes(rest, ", shmem-rss:").map_or((None, rest), |(b, rest)| (Some(b), rest));
    let (late_uid, rest) = value(rest, ", UID:").map_or((None, rest), |(uid, rest)| (Some(uid), rest));
    let (pgtables, rest) = kilobytes(rest, " pgtables:").map_or((None, rest), |(b, rest)| (Some(b), rest));
    let adjusted = rest.strip_prefix(" oom_score_adj:").and_then(|adj| adj.trim_end().parse().ok());
    Some(Killed {
        memcg,
        pid: u32::try_from(pid).ok()?,
        comm,
        total_vm,
        anon,
        file,
        shmem,
        pgtables,
        uid: late_uid.or(early_uid).and_then(|uid| u32::try_from(uid).ok()),
        oom_score_adj: adjusted,
    })
}

/// ` (comm) ` or ` (comm), UID 0, `
fn comm_and_uid(text: &str) -> Option<(String, Option<u64>)> {
    let text = text.strip_prefix(" (")?;
    if let Some(comm) = text.strip_suffix(") ") {
        return Some((cut(comm, COMM_BYTES_MAX), None));
    }
    let (comm, uid) = text.strip_suffix(", ")?.rsplit_once("), UID ")?;
    Some((cut(comm, COMM_BYTES_MAX), Some(digits(uid)?)))
}

/// `Tasks in P are going to be killed due to memory.oom.group set`
pub(super) fn group_kill(text: &str) -> Option<String> {
    let (group, _) =
        text.strip_prefix("Tasks in ")?.split_once(" are going to be killed due to memory.oom.group set")?;
    Some(path(group))
}

/// `oom_kill_process: 7 callbacks suppressed`
pub(super) fn suppressed(text: &str) -> Option<u64> {
    let (count, rest) = value(text, "oom_kill_process: ")?;
    rest.starts_with(" callbacks suppressed").then_some(count)
}

#[cfg(test)]
#[path = "words_tests.rs"]
mod tests;
