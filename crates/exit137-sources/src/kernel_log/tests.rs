//! Kernel logs as files: what is one, which lines are bad, when the machine booted.

use std::io::{BufReader, Read};

use exit137_core::kernel::KernelTime;
use exit137_core::time::{SECOND, UnixNanos};
use proptest::prelude::*;

use super::*;

const HEADER: &str = "java invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=984";
const KILL: &str = "Memory cgroup out of memory: Killed process 12 (java) total-vm:4kB, anon-rss:3kB, file-rss:2kB, shmem-rss:1kB, UID:0 pgtables:1kB oom_score_adj:984";

fn decoded(input: &[u8]) -> Observations {
    let mut observations = Observations::default();
    // A small buffer, so that lines span several fills.
    decode(&mut BufReader::with_capacity(64, input), "kmsg.log", &mut observations)
        .expect("memory can be read");
    observations
}

fn kills(observations: &Observations) -> Vec<(Option<&str>, u32)> {
    let reports =
        observations.kernel.iter().flat_map(|log| log.reports.iter().map(move |report| (log, report)));
    reports.flat_map(|(log, report)| report.victims.iter().map(|v| (log.host.as_deref(), v.pid))).collect()
}

fn problems(observations: &Observations) -> Vec<String> {
    observations
        .problems
        .list()
        .into_iter()
        .map(|problem| format!("{}: {}", problem.source, problem.message))
        .collect()
}

#[test]
fn a_log_becomes_observations() {
    let log = format!("[ 1.0] {HEADER}\r\n[ 1.0] {KILL}\r\n[ 2.0] \u{1b}[31m{}", KILL.replace("12", "13"));
    let seen = decoded(log.as_bytes());
    assert_eq!(kills(&seen), [(None, 12), (None, 13)]);
    let count = seen.counts[&SourceKind::KernelLog];
    assert_eq!((count.files, count.records), (1, 2));
    assert_eq!(problems(&seen), [""; 0]);
}

#[test]
fn a_file_without_the_kernel_is_no_kernel_log() {
    for log in ["", "\n\n", "Nov 22 09:41:39 n app[1]: started\n", "12,1,1,-;user\n"] {
        let seen = decoded(log.as_bytes());
        assert!(seen.kernel.is_empty() && seen.counts.is_empty(), "{log}");
    }
}

#[test]
fn a_bad_line_does_not_lose_the_file() {
    let long = "x".repeat(100_000);
    let log = format!("[ 1.0] {long}\n[ 1.0] {KILL}\n{{\"MESSAGE\": 5}}\n[ 1.0] {HEADER}\n");
    let seen = decoded(&[log.as_bytes(), b"\xff\xfe\x00\n"].concat());
    assert_eq!(kills(&seen), [(None, 12)]);
    let expected = [
        "kmsg.log: 1 OOM reports lack `Killed process`: nothing was killed, or the log is cut",
        "kmsg.log:1: expected a line of at most 16384 bytes, found 100007",
        "kmsg.log:3: expected a journal entry as `journalctl -o json` prints it",
    ];
    assert_eq!(problems(&seen), expected);
}

#[test]
fn a_reader_that_fails_keeps_what_came_before() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("disk on fire"))
        }
    }
    let mut observations = Observations::default();
    let log = format!("[ 1.0] {KILL}\n");
    let mut reader = BufReader::new(log.as_bytes().chain(Broken));
    let outcome = decode(&mut reader, "kmsg.log", &mut observations);
    assert_eq!(outcome.expect_err("broken").to_string(), "disk on fire");
    assert_eq!(kills(&observations), [(None, 12)]);
}

#[test]
fn journal_entries_are_read_from_json() {
    let entry = |message: &str, transport: &str| {
        format!(
            r#"{{"__REALTIME_TIMESTAMP":"1795340714537605","_SOURCE_MONOTONIC_TIMESTAMP":"5","_HOSTNAME":"n1","PRIORITY":"3","SYSLOG_IDENTIFIER":"kernel","_TRANSPORT":"{transport}","MESSAGE":{message}}}"#
        )
    };
    let quoted = format!("\"{KILL}\"");
    let bytes = format!("{:?}", KILL.replace("12", "13").as_bytes());
    let log = [
        entry(&quoted, "kernel"),
        entry(&bytes, "kernel"),
        entry(&quoted, "syslog"),
        entry("null", "kernel"),
    ];
    let log = log.join("\n");
    assert!(looks_like_journal(log.as_bytes()));
    assert!(!looks_like(log.as_bytes()));
    let seen = decoded(log.as_bytes());
    assert_eq!(kills(&seen), [(Some("n1"), 12), (Some("n1"), 13)]);
    assert!(matches!(seen.kernel[0].reports[0].at, KernelTime::Wall(_)));
    assert_eq!(problems(&seen), [""; 0]);
}

#[test]
fn kernel_logs_are_told_by_their_content() {
    let two = |prefix: &str| format!("{prefix}usb 1-1: reset\n{prefix}eth0: link up\n");
    let syslog = "Nov 22 09:41:39 n1 kubelet[1]: x\nNov 22 09:41:39 n1 systemd[1]: y\n";
    let logs = [
        two("6,1,1,-;"),
        two("[ 1895.102216] "),
        two("[Sun Nov 22 09:41:39 2026] "),
        two("2026-11-22T09:46:24,537605+00:00 "),
        two("2026-11-22T09:46:24+0000 n1 kernel: "),
        two("Nov 22 09:41:39 n1 kernel: "),
        two("\u{1b}[32m[ 1895.102216] \u{1b}[0m"),
        syslog.to_owned(),
        syslog.replace("Nov 22 09:41:39", "2026-11-22T09:41:39.537605+00:00"),
        format!("{KILL}\n"),
        format!("[ 1.0] {KILL}"),
        format!(
            "{HEADER}\nCPU: 1 PID: 5 Comm: java\nCall Trace:\n dump_stack+0x59/0x90\nmemory: usage 4kB, limit 4kB, failcnt 0\nanon 4096\n[     12]     0    12 java\n{KILL}\n"
        ),
    ];
    for log in logs {
        assert!(looks_like(log.as_bytes()), "{log}");
    }
    let others = [
        String::new(),
        format!("{{\"log\":\"{KILL}\"}}\n{{\"log\":\"{HEADER}\"}}\n"),
        format!(
            "# Post mortem\n\nThe kernel wrote:\n\n    {KILL}\n\nand so the pod was restarted.\nWe raised the limit.\n"
        ),
        format!("cause: leak\nevidence:\n  - {KILL}\nkills: 1\n"),
        "time,pod,bytes\n2026-11-22T09:41:39Z,a,5\n2026-11-22T09:42:39Z,a,6\n".to_owned(),
        "1,2,3,4\n5,6,7,8\n".to_owned(),
        "2026-11-22T09:41:39.123Z INFO server: started\n2026-11-22T09:41:40.123Z INFO server: ready\n"
            .to_owned(),
        "[info] started\n[warn] slow\n".to_owned(),
        "1795337765.731221346 2079.07\n1795337766.742938225 2080.07\n".to_owned(),
        "btime 1795340714\n".to_owned(),
        "\u{0}\u{1}\u{2}".to_owned(),
    ];
    for other in others {
        assert!(!looks_like(other.as_bytes()), "{other}");
    }
}

#[test]
fn files_that_say_when_the_machine_booted() {
    let seconds = |seconds: i64| UnixNanos(seconds * SECOND);
    let whole = "cpu  1 2 3\ncpu0 1 2 3\nintr 5\nbtime 1795340714\nprocesses 9\n";
    for text in ["btime 1795340714\n", "btime 1795340714", whole] {
        let boot = boot_time(text.as_bytes(), "stat").expect(text);
        let middle = seconds(1_795_340_714) + SECOND / 2;
        assert_eq!((boot.pairs, boot.uncertainty), (vec![(0, middle)], SECOND * 6 / 10));
    }
    let clock = "# wall clock seconds, seconds since boot\n1795337765.731221346 2079.07\n\n1795337766.742938225 2080.07\n1795337767.74";
    let boot = boot_time(clock.as_bytes(), "clock.txt").expect("two columns");
    assert_eq!(boot.pairs.len(), 2);
    assert_eq!(boot.pairs[0], (2_079_070_000_000, UnixNanos(1_795_337_765_731_221_346)));
    assert_eq!((boot.file.as_str(), boot.uncertainty), ("clock.txt", SECOND / 100));

    for text in [
        "",
        "btime x\n",
        "btime 5\n",
        "note\nbtime 1795340714\n",
        "1 2\n3 4\n",
        "1795337765 2079\n",
        "1795337765.7 2079.07\n1795437766.7 2080.07\n",
        "1795337765.7 2079.07\nname\n",
    ] {
        assert_eq!(boot_time(text.as_bytes(), "x"), None, "{text}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        decoded(&bytes);
        looks_like(&bytes);
        looks_like_journal(&bytes);
        boot_time(&bytes, "x");
    }

    #[test]
    fn any_text_with_the_shape_of_clocks_is_read_without_panic(text in "(btime |cpu |#)?[0-9. \n-]{0,60}") {
        boot_time(text.as_bytes(), "x");
    }

    #[test]
    fn line_ends_and_buffers_do_not_matter(pieces in prop::collection::vec("[ -~]{0,80}", 0..20), size in 1..200usize) {
        let text = pieces.join("\n");
        let mut reader = BufReader::with_capacity(size, text.as_bytes());
        let mut line = Vec::new();
        let mut lines = Vec::new();
        while let Some(length) = read_line(&mut reader, &mut line).expect("memory can be read") {
            prop_assert_eq!(length, line.len());
            lines.push(String::from_utf8_lossy(&line).into_owned());
        }
        let expected: Vec<&str> = text.lines().collect();
        prop_assert_eq!(lines, expected);
    }
}
