//! Whether a file is a kernel log, by its first lines. Names say nothing: `kmsg.log`, `messages`, `node-3.txt`.

use exit137_core::kernel::KernelTime;
use exit137_core::kernel::prefix::{self, Line};

/// More is not looked at.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// One line with a prefix can be chance; one that speaks of an OOM kill cannot.
const PREFIXED_LINES_MIN: usize = 2;

/// Prose that quotes a log has more lines of its own.
const LOG_LINES_PERCENT_MIN: usize = 60;

/// Whether `head`, the beginning of a file, is of a kernel log: lines with a prefix that only kernel logs have,
/// or an OOM report without prefixes. JSON, YAML, CSV and prose that quotes a few lines are none.
pub fn looks_like(head: &[u8]) -> bool {
    let (mut lines, mut kernel, mut syslog, mut other, mut oom, mut plain) = (0, 0, 0, 0, 0, 0);
    let text = String::from_utf8_lossy(&head[..head.len().min(HEAD_BYTES_MAX)]);
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        lines += 1;
        let line = prefix::without_colours(line);
        match prefix::split(&line) {
            Line::Kernel(record) => {
                kernel += 1;
                oom += usize::from(is_oom(&record.text));
            }
            Line::UserSpace(record) if is_syslog(&line, record.at) => syslog += 1,
            Line::UserSpace(_) | Line::Dictionary => other += 1,
            Line::Bare(text) if is_oom(text.trim_start()) => oom += 1,
            Line::Bare(text) => plain += usize::from(is_report_detail(text)),
        }
    }
    let bare_oom = oom > 0 && kernel == 0;
    let log_lines = kernel + syslog + other + plain + if bare_oom { oom } else { 0 };
    // A system log may begin with hundreds of lines in which the kernel says nothing.
    let prefixed = kernel + syslog > 0 && kernel + syslog + other >= PREFIXED_LINES_MIN;
    (oom > 0 || prefixed) && log_lines * 100 >= lines * LOG_LINES_PERCENT_MIN
}

/// Whether `head` is of a journal saved with `journalctl -o json`.
pub fn looks_like_journal(head: &[u8]) -> bool {
    let end = memchr::memchr(b'\n', head).unwrap_or(head.len());
    let first = String::from_utf8_lossy(&head[..end.min(HEAD_BYTES_MAX)]);
    first.starts_with('{') && first.contains("\"__REALTIME_TIMESTAMP\"") && first.contains("\"MESSAGE\"")
}

/// `Nov 22 09:41:39 host …` is only used by syslog; after an ISO date the tag must tell: `host name[pid]: …`.
fn is_syslog(line: &str, at: KernelTime) -> bool {
    let tag = || line.split(' ').nth(2).is_some_and(|tag| tag.ends_with("]:"));
    matches!(at, KernelTime::Local { has_year: false, .. }) || tag()
}

fn is_oom(text: &str) -> bool {
    const BEGINNINGS: [&str; 5] = [
        "oom-kill:constraint=",
        "Memory cgroup out of memory: Kill",
        "Out of memory: Kill",
        "Memory cgroup stats for /",
        "oom_reaper: reaped process ",
    ];
    let killed = text.starts_with("Killed process ") && text.contains(" total-vm:");
    killed
        || text.contains(" invoked oom-killer: gfp_mask=")
        || BEGINNINGS.iter().any(|b| text.starts_with(b))
}

/// What stands around those lines when a log was saved without prefixes: stacks, statistics, tables.
fn is_report_detail(text: &str) -> bool {
    const BEGINNINGS: [&str; 15] = [
        "CPU:",
        "Call Trace",
        "Hardware name:",
        "RIP:",
        "RSP:",
        "Code:",
        "RAX:",
        "RDX:",
        "RBP:",
        "R10:",
        "R13:",
        "memory:",
        "memory+swap:",
        "swap:",
        "kmem:",
    ];
    let text = text.trim();
    let statistic = text.split_once(' ').is_some_and(|(key, number)| {
        key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
            && number.bytes().all(|byte| byte.is_ascii_digit())
    });
    let row =
        text.strip_prefix('[').is_some_and(|row| row.trim_start().starts_with(|c: char| c.is_ascii_digit()));
    let frame = text.contains("+0x") || matches!(text, "<TASK>" | "</TASK>");
    statistic
        || row
        || frame
        || text.starts_with("[ ")
        || text.starts_with("Task")
        || BEGINNINGS.iter().any(|b| text.starts_with(b))
}
