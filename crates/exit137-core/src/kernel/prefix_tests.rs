//! One line of each format, and lines that only look like one.

use super::*;
use crate::time::{Moment, SECOND};

const TEXT: &str = "Out of memory and no killable processes...";

/// Who wrote it, when, where, and what is left, in one line.
fn told(line: &str) -> String {
    match split(&without_colours(line)) {
        Line::Kernel(record) => {
            let host = record.host.unwrap_or("-");
            let text = if record.text == TEXT { "TEXT" } else { &record.text };
            format!("{} {host} {text}", time(record.at))
        }
        Line::UserSpace(record) => format!("user space {}", record.host.unwrap_or("-")),
        Line::Bare(_) => "bare".to_owned(),
        Line::Dictionary => "dictionary".to_owned(),
    }
}

fn time(at: KernelTime) -> String {
    let moment = |moment: Moment| format!("{}±{}ms", moment.at, moment.uncertainty / 1_000_000);
    match at {
        KernelTime::SinceBoot(nanos) => format!("boot+{}.{:06}", nanos / SECOND, nanos % SECOND / 1000),
        KernelTime::Wall(wall) => format!("wall {}", moment(wall)),
        KernelTime::Local { moment: local, has_year } => {
            format!("local{} {}", if has_year { "" } else { " yearless" }, moment(local))
        }
        KernelTime::Unknown => "unknown".to_owned(),
    }
}

/// `TEXT` in `line` stands for the kernel's words.
#[track_caller]
fn check(cases: &[(&str, &str)]) {
    for (line, expected) in cases {
        assert_eq!(told(&line.replace("TEXT", TEXT)), *expected, "{line}");
    }
}

#[test]
fn kmsg_records_are_split_and_unescaped() {
    check(&[
        ("3,19748,1973738663,-;TEXT", "boot+1973.738663 - TEXT"),
        ("6,1,5,-,caller=T123;TEXT", "boot+0.000005 - TEXT"),
        ("6,1,5,c,more=x;,task=x", "boot+0.000005 - ,task=x"),
        ("6,1,5,-;anon 1\\x0afile 2\\x5cx", "boot+0.000005 - anon 1\nfile 2\\x"),
        ("6,1,5,-;half an escape \\x0", "boot+0.000005 - half an escape \\x0"),
        ("6,1,5,-;caf\\xc3\\xa9 \\xff", "boot+0.000005 - café \u{fffd}"),
        (" SUBSYSTEM=memory", "dictionary"),
        (" DEVICE=+pci:0000:00", "dictionary"),
        ("6,1,5", "bare"),
        ("1,2,3,name;x", "bare"),
    ]);
}

#[test]
fn what_user_space_wrote_is_told_apart() {
    check(&[
        ("12,19748,1973738663,-;TEXT", "user space -"),
        ("<12>[ 1895.102216] TEXT", "user space -"),
        ("user  :notice: [ 1895.102216] TEXT", "user space -"),
        ("Nov 22 09:41:39 n1 app[12]: TEXT", "user space n1"),
        ("Nov 22 09:41:39 n1 kernel-fan: TEXT", "user space n1"),
        ("2026-11-22T09:41:39+0000 n1 kernel[7]: TEXT", "user space n1"),
        ("<14>1 2026-11-22T09:41:39Z n1 app 1 - - TEXT", "user space n1"),
        ("<13>1 2026-11-22T09:41:39Z n1 kernel - - - TEXT", "user space n1"),
    ]);
}

#[test]
fn dmesg_in_every_time_format() {
    check(&[
        ("[ 1895.102216] TEXT", "boot+1895.102216 - TEXT"),
        ("[    0.000000] TEXT", "boot+0.000000 - TEXT"),
        ("[ 1895.102216] [ T1234] TEXT", "boot+1895.102216 - TEXT"),
        ("[ 1895.102216][    C0] TEXT", "boot+1895.102216 - TEXT"),
        ("[ 1895.102216 <    0.000017>] TEXT", "boot+1895.102216 - TEXT"),
        ("<4>[ 1895.102216] TEXT", "boot+1895.102216 - TEXT"),
        ("<4>TEXT", "unknown - TEXT"),
        ("kern  :warn  : [ 1895.102216] TEXT", "boot+1895.102216 - TEXT"),
        ("kern  :err   : [Sun Nov 22 09:41:39 2026] TEXT", "local 2026-11-22T09:41:39.500Z±500ms - TEXT"),
        ("[Sun Nov 22 09:41:39 2026] TEXT", "local 2026-11-22T09:41:39.500Z±500ms - TEXT"),
        ("[Sun Nov  2 09:41:39 2026] TEXT", "local 2026-11-02T09:41:39.500Z±500ms - TEXT"),
        ("2026-11-22T09:46:24,537605+00:00 TEXT", "wall 2026-11-22T09:46:24.537Z±10ms - TEXT"),
        ("2026-11-22T15:16:24,537605+05:30 TEXT", "wall 2026-11-22T09:46:24.537Z±10ms - TEXT"),
        ("[Nov22 09:41] TEXT", "unknown - TEXT"),
        ("[  +0.000017] TEXT", "unknown - TEXT"),
        ("[<    0.000017>] TEXT", "unknown - TEXT"),
        ("\u{1b}[32m[ 1895.102216] \u{1b}[0m\u{1b}[31mTEXT\u{1b}[0m", "boot+1895.102216 - TEXT"),
        ("[ 1895.102216] [  25119]     0 25119", "boot+1895.102216 - [  25119]     0 25119"),
    ]);
}

#[test]
fn journalctl_in_every_short_format() {
    check(&[
        ("Nov 22 09:41:39 n1 kernel: TEXT", "local yearless 1970-11-22T09:41:39.500Z±500ms n1 TEXT"),
        ("Nov 22 09:41:39 kernel: TEXT", "local yearless 1970-11-22T09:41:39.500Z±500ms - TEXT"),
        ("Nov  2 09:41:39.537605 n1 kernel: TEXT", "local yearless 1970-11-02T09:41:39.537Z±0ms n1 TEXT"),
        ("2026-11-22T09:41:39+0000 n1 kernel: TEXT", "wall 2026-11-22T09:41:39.500Z±500ms n1 TEXT"),
        ("2026-11-22T09:41:39+00:00 n1 kernel: TEXT", "wall 2026-11-22T09:41:39.500Z±500ms n1 TEXT"),
        ("2026-11-22T09:41:39.537605-0100 n1 kernel: TEXT", "wall 2026-11-22T10:41:39.537Z±10ms n1 TEXT"),
        ("[ 1895.102216] n1 kernel: TEXT", "boot+1895.102216 n1 TEXT"),
        ("1795340714.537605 n1 kernel: TEXT", "wall 2026-11-22T09:45:14.537Z±10ms n1 TEXT"),
        ("Sun 2026-11-22 09:41:39 UTC n1 kernel: TEXT", "wall 2026-11-22T09:41:39.500Z±500ms n1 TEXT"),
        ("Sun 2026-11-22 09:41:39 CET n1 kernel: TEXT", "local 2026-11-22T09:41:39.500Z±500ms n1 TEXT"),
        ("-- Journal begins at Sun 2026-11-22 09:41:39 UTC. --", "bare"),
    ]);
}

#[test]
fn syslog_files_keep_the_outer_time() {
    check(&[
        (
            "Nov 22 09:41:39 n1 kernel: [ 1895.102216] TEXT",
            "local yearless 1970-11-22T09:41:39.500Z±500ms n1 TEXT",
        ),
        (
            "2026-11-22T09:41:39.537605+00:00 n1 kernel: [ 1895.102216] TEXT",
            "wall 2026-11-22T09:41:39.537Z±10ms n1 TEXT",
        ),
        ("<4>Nov 22 09:41:39 n1 kernel: TEXT", "local yearless 1970-11-22T09:41:39.500Z±500ms n1 TEXT"),
        (
            "<4>1 2026-11-22T09:41:39.537605Z n1 kernel - - - [ 1895.102216] TEXT",
            "wall 2026-11-22T09:41:39.537Z±10ms n1 TEXT",
        ),
        ("Feb 29 09:41:39 n1 kernel: TEXT", "unknown n1 TEXT"),
    ]);
}

#[test]
fn lines_without_prefix_stay_whole() {
    check(&[
        ("TEXT", "bare"),
        ("[  25119]     0 25119    21049    10501", "bare"),
        ("[  pid  ]   uid  tgid total_vm", "bare"),
        (" [<ffffffff8116d3ce>] ? find_lock_task_mm+0x2e/0x80", "bare"),
        ("[<ffffffff8116d3ce>] ? find_lock_task_mm+0x2e/0x80", "bare"),
        ("name: value", "bare"),
        ("2026-11-22,5,6", "bare"),
        ("{\"a\": 1}", "bare"),
        ("", "bare"),
    ]);
}
