//! Whole reports of several kernels, cut, interleaved and rate-limited.

use proptest::prelude::*;

use crate::kernel::{Charge, Constraint, JournalRecord, KernelLog, KernelLogReader, KernelTime, OomReport};

const DMESG_ISO: &str = include_str!("../../tests/data/kernel/dmesg-iso.log");
const JOURNAL: &str = include_str!("../../tests/data/kernel/journal-short-iso.log");
const KMSG_CUT: &str = include_str!("../../tests/data/kernel/kmsg-cut-at-both-ends.log");
const KMSG_CHILD: &str = include_str!("../../tests/data/kernel/kmsg-child-process.log");

const SIZES: &str =
    "total-vm:40kB, anon-rss:30kB, file-rss:20kB, shmem-rss:10kB, UID:7 pgtables:4kB oom_score_adj:9";
const HEADER: &str = "java invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=9";
const SUMMARY: &str = "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=c,mems_allowed=0,oom_memcg=/pod,task_memcg=/pod/c,task=java,pid=12,uid=7";

fn read(text: &str) -> Vec<KernelLog> {
    let mut reader = KernelLogReader::new("kernel.log");
    for (index, line) in text.lines().enumerate() {
        reader.line(line, index + 1);
    }
    reader.finish()
}

#[track_caller]
fn read_one(text: &str) -> KernelLog {
    let [log] = read(text).try_into().expect("one host");
    log
}

/// `{kill N}` becomes a kill line of a memory cgroup, `{header}` and `{summary}` the constants.
fn filled(text: &str) -> String {
    let mut text = text.replace("{header}", HEADER).replace("{summary}", SUMMARY);
    while let Some((before, rest)) = text.split_once("{kill ") {
        let (pid, after) = rest.split_once('}').expect("closed");
        text = format!("{before}Memory cgroup out of memory: Killed process {pid} (java) {SIZES}{after}");
    }
    text
}

fn pids(log: &KernelLog) -> Vec<Vec<u32>> {
    log.reports.iter().map(|report| report.victims.iter().map(|victim| victim.pid).collect()).collect()
}

/// What identifies a kill.
fn kills(logs: &[KernelLog]) -> Vec<(u32, String)> {
    let victims = logs.iter().flat_map(|log| &log.reports).flat_map(|report| &report.victims);
    victims.map(|victim| (victim.pid, victim.comm.clone())).collect()
}

#[track_caller]
fn check(text: &str, expected: &[&[u32]]) -> KernelLog {
    let log = read_one(&filled(text));
    assert_eq!(pids(&log), expected, "{text}");
    log
}

#[test]
fn a_report_of_dmesg_with_everything_in_it() {
    let log = read_one(DMESG_ISO);
    let [report] = &log.reports[..] else { panic!("one report") };
    assert_eq!((report.line, report.invoker.as_deref()), (1, Some("python")));
    assert_eq!(report.gfp_mask.as_deref(), Some("0xcc0(GFP_KERNEL)"));
    assert_eq!(report.constraint, Some(Constraint::Memcg));
    assert_eq!(
        report.oom_memcg.as_deref(),
        Some("/kubepods/burstable/podbebafea1-eb56-4b3e-bb34-7ce2f19a11b3")
    );
    assert!(report.task_memcg.as_deref().is_some_and(|path| {
        path.ends_with("/8638a21d44af0de5d0e86b6b8f5416bae4062b80eb96fdf8af20c06f46c52abf")
    }));
    assert_eq!((report.summary_pid, report.summary_task.as_deref()), (Some(12675), Some("python")));
    assert_eq!(report.memory, Some(Charge { usage: 218_103_808, limit: Some(218_103_808), failcnt: 249 }));
    assert_eq!(report.swap.map(|swap| swap.limit), Some(None));
    assert_eq!(report.stats.get("total_rss"), Some(&216_788_992));
    assert_eq!(report.stats.get("hierarchical_memory_limit"), Some(&218_103_808));
    let table: Vec<_> =
        report.tasks.iter().map(|task| (task.pid, task.name.as_str(), task.rss_anon)).collect();
    assert!(table.contains(&(12675, "python", Some(211_568 * 1024))), "{table:?}");
    let victim = &report.victims[0];
    assert_eq!((victim.line, victim.pid, victim.comm.as_str()), (80, 12675, "python"));
    assert_eq!((victim.anon, victim.file, victim.shmem), (211_568 << 10, 28_252 << 10, Some(0)));
    assert_eq!((victim.uid, victim.oom_score_adj, victim.pgtables), (Some(0), Some(991), Some(716 << 10)));
    assert_eq!((victim.memcg, report.global), (Some(true), false));
}

#[test]
fn the_same_report_in_other_formats() {
    let journal = read_one(JOURNAL);
    assert_eq!(journal.host.as_deref(), Some("ip-10-0-47-212"));
    assert_eq!(pids(&journal), [[10682]]);
    assert!(matches!(journal.span, Some((KernelTime::Wall(_), KernelTime::Wall(_)))));

    let child = read_one(KMSG_CHILD);
    let report = &child.reports[0];
    assert_eq!((report.sequence, report.at), (Some(53885), KernelTime::SinceBoot(5_038_484_286_000)));
    assert_eq!(report.victims[0].comm, "ffmpeg");
    assert!(report.tasks.len() > 1);
}

#[test]
fn a_log_cut_at_both_ends_keeps_what_it_shows() {
    let log = read_one(KMSG_CUT);
    assert_eq!(pids(&log), [[25141], [25119]]);
    assert_eq!((log.without_kill, log.lost_records), (1, 0));
    let [first, second] = &log.reports[..] else { panic!("two reports") };
    assert_eq!((first.invoker.as_deref(), first.line), (None, 26));
    assert_eq!(first.stats.get("total_shmem"), Some(&65_347_584));
    assert_eq!((second.invoker.as_deref(), second.sequence), (Some("sh"), Some(19749)));
}

#[test]
fn kernels_before_5_name_both_cgroups_in_a_sentence() {
    let log = read_one(
        "[ 1.0] bash invoked oom-killer: gfp_mask=0x14000c0(GFP_KERNEL), nodemask=(null), order=0, oom_score_adj=0
[ 1.0] bash cpuset=x mems_allowed=0
[ 1.0] Task in /kubepods/pod1/2 killed as a result of limit of /kubepods/pod1
[ 1.0] memory: usage 524288kB, limit 524288kB, failcnt 0
[ 1.0] memory+swap: usage 524288kB, limit 9007199254740988kB, failcnt 0
[ 1.0] kmem: usage 8kB, limit 9007199254740988kB, failcnt 0
[ 1.0] Memory cgroup stats for /kubepods/pod1: cache:0KB rss:0KB rss_huge:0KB
[ 1.0] Memory cgroup stats for /kubepods/pod1/2: cache:503316KB rss:12KB rss_huge:0KB
[ 1.0] [ pid ]   uid  tgid total_vm      rss nr_ptes swapents oom_score_adj name
[ 1.0] [62685]     0 62685     2958      700      12        0             0 bash
[ 1.0] Memory cgroup out of memory: Kill process 62685 (bash) score 0 or sacrifice child
[ 1.0] Killed process 62769 (cp) total-vm:9kB, anon-rss:8kB, file-rss:7kB, shmem-rss:0kB",
    );
    let report = &log.reports[0];
    assert_eq!(report.oom_memcg.as_deref(), Some("/kubepods/pod1"));
    assert_eq!(report.task_memcg.as_deref(), Some("/kubepods/pod1/2"));
    assert_eq!((report.constraint, report.summary_pid, report.global), (None, None, false));
    assert_eq!(report.stats.get("cache"), Some(&(503_316 << 10)));
    assert_eq!(report.stats.get("rss"), Some(&(12 << 10)));
    assert_eq!(report.tasks[0].pgtables, Some(12 * 4096));
    let victim = &report.victims[0];
    assert_eq!((victim.pid, victim.comm.as_str(), victim.memcg), (62769, "cp", Some(true)));
}

#[test]
fn statistics_come_in_one_record_or_many() {
    let expected = [("anon".to_owned(), 5), ("file".to_owned(), 6), ("kernel".to_owned(), 7)];
    let forms = [
        "6,1,1,-;Memory cgroup stats for /pod:\n6,2,1,-;anon 5\\x0afile 6\\x0akernel 7\n6,3,1,-;{kill 12}",
        "6,1,1,-;Memory cgroup stats for /pod:\n6,2,1,-;anon 5\n6,3,1,-;file 6\n6,4,1,-;kernel 7\n6,5,1,-;{kill 12}",
        "[ 1.0] Memory cgroup stats for /pod:\n[ 1.0] anon 5\n       file 6\n       kernel 7\n[ 1.0] {kill 12}",
        "Nov 22 09:41:39 n kernel: Memory cgroup stats for /pod:\nNov 22 09:41:39 n kernel: anon 5#012file 6#012kernel 7\nNov 22 09:41:39 n kernel: {kill 12}",
        "Memory cgroup stats for /pod:\nanon 5\nfile 6\nkernel 7\n{kill 12}",
    ];
    for form in forms {
        let log = check(form, &[&[12]]);
        assert_eq!(Vec::from_iter(log.reports[0].stats.clone()), expected, "{form}");
        assert_eq!(log.reports[0].oom_memcg.as_deref(), Some("/pod"), "{form}");
    }
}

#[test]
fn a_group_kill_is_one_report_with_each_pid_once() {
    const GROUP: &str = "Tasks in /pod/c are going to be killed due to memory.oom.group set";
    let log = check(
        &format!("{{header}}\n{{summary}}\n{{kill 12}}\n{GROUP}\n{{kill 12}}\n{{kill 13}}\n{{kill 14}}"),
        &[&[12, 13, 14]],
    );
    assert_eq!(log.reports[0].group_kill.as_deref(), Some("/pod/c"));
    // The first victim ended by itself, the rest of its group did not.
    let gone = "Memory cgroup out of memory: OOM victim 12 (java) is already exiting. Skip killing the task";
    check(&format!("{{header}}\n{{summary}}\n{gone}\n{GROUP}\n{{kill 13}}\n{{kill 14}}"), &[&[13, 14]]);
    // Later, or not in the table: another kill, whose own report the rate limit swallowed.
    check(
        &format!(
            "[ 1.0] {{header}}\n[ 1.0] {{kill 12}}\n[ 1.0] {GROUP}\n[ 1.1] {{kill 13}}\n[ 5.0] {{kill 14}}"
        ),
        &[&[12, 13], &[14]],
    );
    let table = "[  pid  ]   uid  tgid total_vm      rss pgtables_bytes swapents oom_score_adj name\n[     12]     7    12        1        1     4096        0             9 java";
    check(&format!("{{header}}\n{table}\n{{kill 12}}\n{GROUP}\n{{kill 12}}\n{{kill 13}}"), &[&[12], &[13]]);
}

#[test]
fn kills_beyond_the_rate_limit_are_reports_of_their_own() {
    let log = check(
        "[ 1.0] {header}\n[ 1.0] {summary}\n[ 1.0] {kill 12}\n[ 1.1] {kill 13}\n[ 1.2] {kill 14}\n[ 9.0] oom_kill_process: 2 callbacks suppressed",
        &[&[12], &[13], &[14]],
    );
    assert_eq!(log.suppressed, 2);
    assert_eq!(log.reports[1].oom_memcg, None);
    // A report without a kill does not take the next one, long after.
    let log = check("[ 1.0] {header}\n[ 1.0] {summary}\n[ 60.0] {kill 99}", &[&[99]]);
    assert_eq!((log.without_kill, log.reports[0].invoker.as_deref()), (1, None));
    let log = check("{header}\n{summary}\nOut of memory and no killable processes...\n{kill 99}", &[&[99]]);
    assert_eq!(log.without_kill, 1);
    let gone = "Memory cgroup out of memory: OOM victim 12 (java) is already exiting. Skip killing the task";
    check(&format!("{{header}}\n{{summary}}\n{gone}\n{{kill 99}}"), &[&[99]]);
}

#[test]
fn a_thread_may_be_killed_in_place_of_the_named_process() {
    let log = check("[ 1.0] {header}\n[ 1.0] {summary}\n[ 1.0] {kill 77}", &[&[77]]);
    assert_eq!(log.reports[0].summary_pid, Some(12));
}

#[test]
fn the_whole_machine_may_run_out() {
    let killed = format!("Out of memory: Killed process 12 (java) {SIZES}");
    let summary = "oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,task_memcg=/pod/c,task=java,pid=12,uid=7";
    for text in [
        format!("{HEADER}\nMem-Info:\n{summary}\n{killed}"),
        format!("{HEADER}\nMem-Info:\nKilled process 12 (java) {SIZES}"),
        killed.clone(),
    ] {
        let log = check(&text, &[&[12]]);
        assert!(log.reports[0].global, "{text}");
        assert_eq!(log.reports[0].oom_memcg, None);
    }
    let log = check("{header}\nMem-Info:\n{summary}\n{kill 12}", &[&[12]]);
    assert!(!log.reports[0].global, "another task's failed allocation prints Mem-Info, too");
}

#[test]
fn a_summary_that_another_processor_cut_is_joined() {
    let (head, tail) = SUMMARY.split_at(SUMMARY.find(",task_memcg=").expect("there"));
    let (value_head, value_tail) = SUMMARY.split_at(SUMMARY.find("/pod/c").expect("there"));
    let whole = check("{header}\n{summary}\n{kill 12}", &[&[12]]);
    for text in [
        format!(
            "6,1,1,-;{HEADER}\n6,2,1,-;{head}\n6,3,1,-;usb 1-1: reset\n6,4,1,c;{tail}\n6,5,1,-;{{kill 12}}"
        ),
        format!("6,1,1,-;{HEADER}\n6,2,1,c;{value_head}\n6,4,1,+;{value_tail}\n6,5,1,-;{{kill 12}}"),
        format!("[ 1.0] {HEADER}\n[ 1.0] {head}\n[ 1.0] usb 1-1: reset\n[ 1.0] {tail}\n[ 1.0] {{kill 12}}"),
    ] {
        let log = check(&text, &[&[12]]);
        let told =
            |report: &OomReport| (report.oom_memcg.clone(), report.task_memcg.clone(), report.summary_pid);
        assert_eq!(told(&log.reports[0]), told(&whole.reports[0]), "{text}");
    }
    let pieces = "4,1,1,c;Task in \n4,2,1,+;/pod/c\n4,3,1,+; killed as a result of limit of \n4,4,1,+;/pod\n3,5,1,-;{kill 12}";
    let log = check(pieces, &[&[12]]);
    assert_eq!(log.reports[0].oom_memcg.as_deref(), Some("/pod"));
    assert_eq!(log.reports[0].task_memcg.as_deref(), Some("/pod/c"));
}

#[test]
fn forged_lines_are_not_read() {
    check("12,1,1,-;{header}\n11,2,1,-;{kill 12}", &[]);
    check("Nov 22 09:41:39 n app[1]: {header}\nNov 22 09:41:39 n app[1]: {kill 12}\n    {kill 13}", &[]);
    check("[ 1.0] audit: op={kill 12}", &[]);
    check("[ 1.0] booted\n{kill 12}", &[]);
    let mut reader = KernelLogReader::new("journal");
    let message = filled("{kill 12}");
    let record = JournalRecord { message: &message, identifier: Some("kernel"), ..JournalRecord::default() };
    reader.journal_record(JournalRecord { transport: Some("syslog"), ..record }, 1);
    reader.journal_record(JournalRecord { transport: None, ..record }, 2);
    assert_eq!(kills(&reader.finish()), []);
}

#[test]
fn journal_entries_count_when_the_kernel_wrote_them() {
    let mut reader = KernelLogReader::new("journal");
    for (number, message) in [HEADER, SUMMARY, &filled("{kill 12}")].into_iter().enumerate() {
        let record = JournalRecord {
            message,
            transport: Some("kernel"),
            realtime_micros: Some(1_795_340_714_537_605),
            hostname: Some("n1"),
            ..JournalRecord::default()
        };
        reader.journal_record(record, number + 1);
    }
    let logs = reader.finish();
    assert_eq!(logs[0].host.as_deref(), Some("n1"));
    assert_eq!(pids(&logs[0]), [[12]]);
    let KernelTime::Wall(at) = logs[0].reports[0].at else { panic!("wall time") };
    assert_eq!(at.at.to_string(), "2026-11-22T09:45:14.537Z");
}

#[test]
fn hosts_in_one_file_do_not_mix() {
    let line = |host: &str, text: &str| format!("Nov 22 09:41:39 {host} kernel: {text}\n");
    let other = HEADER.replace("java", "node");
    let text = [
        line("a", HEADER),
        line("b", &other),
        line("a", SUMMARY),
        line("b", "{kill 13}"),
        line("a", "{kill 12}"),
    ];
    let logs = read(&filled(&text.concat()));
    let told: Vec<_> =
        logs.iter().map(|log| (log.host.as_deref(), pids(log), log.reports[0].invoker.as_deref())).collect();
    assert_eq!(told, [(Some("a"), vec![vec![12]], Some("java")), (Some("b"), vec![vec![13]], Some("node"))]);
}

#[test]
fn gaps_in_the_sequence_are_counted_until_the_next_boot() {
    let log = check(
        "6,5,1,-;a\n6,6,2,-;b\n12,7,2,-;c\n6,10,3,-;{header}\n6,1,1,-;boot\n6,3,2,-;{kill 12}",
        &[&[12]],
    );
    assert_eq!((log.lost_records, log.without_kill), (2 + 1, 1));
    assert_eq!(log.span, Some((KernelTime::SinceBoot(1000), KernelTime::SinceBoot(2000))));
    assert_eq!(check("", &[]).span, None);
}

#[test]
fn a_log_without_prefixes_survives_a_line_that_looks_like_one() {
    check("{header}\n{kill 12}\n[ 1.5] chance\n{kill 13}", &[&[12], &[13]]);
    let logs = read(&filled(
        "-- Journal begins at Sun 2026-11-22 09:41:39 UTC. --\nNov 22 09:41:39 n kernel: {kill 12}",
    ));
    assert_eq!(logs.iter().map(|log| log.host.as_deref()).collect::<Vec<_>>(), [Some("n")]);
}

#[test]
fn what_is_kept_is_bounded() {
    let mut text = String::from("{header}\nMemory cgroup stats for /pod:\n");
    (0..500).for_each(|key| text.push_str(&format!("key_{key} 1\n")));
    text.push_str("[  pid  ]   uid  tgid total_vm      rss pgtables_bytes swapents oom_score_adj name\n");
    (0..5000).for_each(|pid| {
        text.push_str(&format!(
            "[{pid:>7}]     7    12        1        1     4096        0             9 java\n"
        ))
    });
    text.push_str(&format!(
        "oom-kill:constraint=CONSTRAINT_MEMCG,oom_memcg=/{},task_memcg=/x,task=y,pid=1,uid=0\n{{kill 4999}}",
        "p".repeat(9000)
    ));
    let log = check(&text, &[&[4999]]);
    let report = &log.reports[0];
    assert_eq!((report.stats.len(), report.tasks.len()), (128, 4096));
    assert_eq!(report.oom_memcg.as_deref().map(str::len), Some(4096));
}

/// Lines that stand between the kernel's without being part of a report.
const FOREIGN: [&str; 6] = [
    "usb 1-1: reset high-speed USB device number 2",
    " ? srso_alias_return_thunk+0x5/0xfbef5",
    "oom_reaper: reaped process 12675 (python), now anon-rss:0kB, file-rss:0kB, shmem-rss:0kB",
    "Memory cgroup min protection 0kB -- low protection 0kB",
    "IPv6: ADDRCONF(NETDEV_CHANGE): veth1: link becomes ready",
    "[drm] ring test passed",
];

#[test]
fn a_flood_of_reports_is_bounded() {
    let mut reader = KernelLogReader::new("kernel.log");
    for second in 0..86_410u32 {
        let at = second * 10;
        reader.line(&format!("[{at}.5] {HEADER}"), 1);
        reader.line(&filled(&format!("[{at}.6] {{kill 12}}")), 2);
    }
    let [log] = reader.finish().try_into().expect("one host");
    assert_eq!((log.reports.len(), log.suppressed), (86_400, 10));
}

proptest! {
    #[test]
    fn any_text_is_read_without_panic(text in "(?s).{0,400}") {
        read(&text);
    }

    #[test]
    fn any_mutation_of_a_log_is_read_without_panic(at in 0..KMSG_CUT.len(), len in 0..40usize, new in "(?s).{0,12}") {
        let from = KMSG_CUT.floor_char_boundary(at);
        let to = KMSG_CUT.floor_char_boundary((at + len).min(KMSG_CUT.len()));
        let logs = read(&[&KMSG_CUT[..from], &new, &KMSG_CUT[to..]].concat());
        prop_assert!(kills(&logs).len() <= 3);
    }

    #[test]
    fn a_log_cut_short_shows_the_first_of_its_kills(at in 0..KMSG_CUT.len()) {
        let all = kills(&read(KMSG_CUT));
        let some = kills(&read(&KMSG_CUT[..KMSG_CUT.floor_char_boundary(at)]));
        prop_assert!(all.starts_with(&some), "{some:?}");
    }

    #[test]
    fn foreign_lines_change_nothing(places in prop::collection::vec((0..80usize, 0..FOREIGN.len()), 0..20)) {
        let mut lines: Vec<String> = DMESG_ISO.lines().map(str::to_owned).collect();
        for (place, foreign) in places {
            let line = format!("2026-11-22T09:46:24,537700+00:00 {}", FOREIGN[foreign]);
            // Not after the kill: the span would change.
            lines.insert(place.clamp(1, lines.len() - 1), line);
        }
        let mut found = read_one(&lines.join("\n"));
        let mut expected = read_one(DMESG_ISO);
        for log in [&mut found, &mut expected] {
            log.reports.iter_mut().flat_map(|report| &mut report.victims).for_each(|victim| victim.line = 0);
        }
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn every_line_has_at_most_one_kill(count in 1..30u32, seconds in prop::collection::vec(0..9u32, 30)) {
        let mut text = String::new();
        for pid in 0..count {
            text.push_str(&filled(&format!("[ {}.5] {{kill {pid}}}\n", seconds[pid as usize])));
        }
        prop_assert_eq!(kills(&read(&text)).len(), count as usize);
    }
}
