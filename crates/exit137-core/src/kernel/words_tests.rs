//! The sentences of an OOM report, kernel by kernel.

use super::*;

/// comm, pid, memcg, anon and shmem in kB, UID, `oom_score_adj`.
type Figures<'a> = (&'a str, u32, Option<bool>, u64, Option<u64>, Option<u32>, Option<i32>);

#[track_caller]
fn check_killed(cases: &[(&str, Option<Figures<'_>>)]) {
    for (line, expected) in cases {
        let found = killed(line);
        let found = found.as_ref().map(|k| {
            (
                k.comm.as_str(),
                k.pid,
                k.memcg,
                k.anon / 1024,
                k.shmem.map(|b| b / 1024),
                k.uid,
                k.oom_score_adj,
            )
        });
        assert_eq!(found, *expected, "{line}");
    }
}

#[test]
fn killed_process_in_every_form() {
    const NEW: &str =
        "total-vm:40kB, anon-rss:30kB, file-rss:20kB, shmem-rss:10kB, UID:7 pgtables:4kB oom_score_adj:-998";
    let memcg = |comm: &str| format!("Memory cgroup out of memory: Killed process 12 ({comm}) {NEW}");
    check_killed(&[
        (
            "Killed process 12 (x) total-vm:40kB, anon-rss:30kB, file-rss:20kB",
            Some(("x", 12, None, 30, None, None, None)),
        ),
        (
            "Killed process 12 (x) total-vm:40kB, anon-rss:30kB, file-rss:20kB, shmem-rss:10kB",
            Some(("x", 12, None, 30, Some(10), None, None)),
        ),
        (
            "Killed process 12 (x), UID 7, total-vm:40kB, anon-rss:30kB, file-rss:20kB, shmem-rss:10kB",
            Some(("x", 12, None, 30, Some(10), Some(7), None)),
        ),
        (
            "Out of memory: Killed process 12 (x) total-vm:40kB, anon-rss:30kB, file-rss:20kB, shmem-rss:10kB",
            Some(("x", 12, Some(false), 30, Some(10), None, None)),
        ),
        (
            "Out of memory (oom_kill_allocating_task): Killed process 12 (x) total-vm:40kB, anon-rss:30kB, file-rss:20kB, shmem-rss:10kB",
            Some(("x", 12, Some(false), 30, Some(10), None, None)),
        ),
        (&memcg("runc:[2:INIT]"), Some(("runc:[2:INIT]", 12, Some(true), 30, Some(10), Some(7), Some(-998)))),
        (&memcg("a) b"), Some(("a) b", 12, Some(true), 30, Some(10), Some(7), Some(-998)))),
        (
            &memcg(") total-vm:1kB"),
            Some((") total-vm:1kB", 12, Some(true), 30, Some(10), Some(7), Some(-998))),
        ),
        (&memcg(""), Some(("", 12, Some(true), 30, Some(10), Some(7), Some(-998)))),
        ("audit: Killed process 12 (x) total-vm:40kB, anon-rss:30kB, file-rss:20kB", None),
        ("Killed process 12 (x) total-vm:40kB, anon-rss:30kB, file-rss:2", None),
        ("Killed process 99999999999 (x) total-vm:40kB, anon-rss:30kB, file-rss:20kB", None),
        ("Killed process", None),
    ]);
}

#[test]
fn headers_of_all_kernels() {
    let cases = [
        ("java invoked oom-killer: gfp_mask=0xd0, order=0, oom_score_adj=984", Some(("java", "0xd0"))),
        (
            "a b invoked oom-killer: gfp_mask=0x14000c0(GFP_KERNEL), nodemask=(null),  order=0, oom_score_adj=0",
            Some(("a b", "0x14000c0(GFP_KERNEL)")),
        ),
        (
            "dd invoked oom-killer: gfp_mask=0x1(GFP_HIGHUSER_MOVABLE|__GFP_WRITE), order=0, oom_score_adj=1",
            Some(("dd", "0x1(GFP_HIGHUSER_MOVABLE|__GFP_WRITE)")),
        ),
        ("someone invoked oom-killer: and wrote about it", None),
    ];
    for (line, expected) in cases {
        let found = invoked(line);
        assert_eq!(found.as_ref().map(|(comm, mask)| (comm.as_str(), mask.as_str())), expected, "{line}");
    }
}

/// oom_memcg, task_memcg, task, pid, complete.
type Told = (&'static str, &'static str, &'static str, u32, bool);

#[test]
fn summaries_are_read_as_far_as_they_got() {
    const ID: &str = "1f00000000000000000000000000000000000000000000000000000000000000";
    let whole = "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=0-1,4,cpuset=x,mems_allowed=0-1,4,oom_memcg=/a,b,task_memcg=/a,b/c d,task=e,pid=1,f,pid=12,uid=0";
    let cases: [(&str, Told); 6] = [
        (whole, ("/a,b", "/a,b/c d", "e,pid=1,f", 12, true)),
        (&whole[..whole.len() - 6], ("/a,b", "/a,b/c d", "e,pid=1,f", 0, false)),
        (&whole[..whole.len() - 13], ("/a,b", "/a,b/c d", "e", 0, false)),
        (&whole[..whole.find(",task=").unwrap()], ("/a,b", "/a,b/c d", "", 0, false)),
        (&whole[..whole.find(",task_memcg").unwrap()], ("", "", "", 0, false)),
        (
            "oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,task_memcg=/x,task=y,pid=3,uid=65534",
            ("", "/x", "y", 3, true),
        ),
    ];
    for (line, expected) in cases {
        let found = summary(line).unwrap();
        let told = (
            found.oom_memcg.as_deref().unwrap_or_default(),
            found.task_memcg.as_deref().unwrap_or_default(),
            found.task.as_deref().unwrap_or_default(),
            found.pid.unwrap_or_default(),
            found.complete,
        );
        assert_eq!(told, expected, "{line}");
        assert_eq!(found.global, line.contains("global_oom"), "{line}");
    }
    let cut_behind_a_container = format!("oom-kill:constraint=CONSTRAINT_MEMCG,oom_memcg=/docker/{ID}");
    assert_eq!(summary(&cut_behind_a_container).unwrap().oom_memcg, Some(format!("/docker/{ID}")));
}

#[test]
fn usage_without_a_limit_is_unlimited() {
    let (resource, limited) = charge("memory: usage 524288kB, limit 524288kB, failcnt 41").unwrap();
    assert_eq!(resource, Resource::Memory);
    assert_eq!(limited, Charge { usage: 512 << 20, limit: Some(512 << 20), failcnt: 41 });
    let (resource, unlimited) =
        charge("memory+swap: usage 4kB, limit 9007199254740988kB, failcnt 0").unwrap();
    assert_eq!(resource, Resource::Swap);
    assert_eq!(unlimited, Charge { usage: 4096, limit: None, failcnt: 0 });
    assert_eq!(charge("disk: usage 4kB, limit 4kB, failcnt 0"), None);
    assert_eq!(charge("memory: usage 4kB, limit"), None);
}

#[test]
fn statistics_lines() {
    let cases = [
        ("anon 533360640", Some(("anon", 533_360_640))),
        ("cache:12KB", Some(("cache", 12 << 10))),
        ("workingset_refault_anon 0", Some(("workingset_refault_anon", 0))),
        ("anon", None),
        ("anon -1", None),
        ("cache:12", None),
        ("usb 1-1: reset", None),
        ("CPU: 1", None),
        ("5 5", None),
    ];
    for (line, expected) in cases {
        assert_eq!(stat(line), expected, "{line}");
    }
}

#[test]
fn tables_are_read_by_their_own_header() {
    let old =
        table_header("[ pid ]   uid  tgid total_vm      rss nr_ptes nr_pmds swapents oom_score_adj name")
            .unwrap();
    let task =
        table_row("[12044]  1000 12044   921600   130215     336       5        2           984 java", &old)
            .unwrap();
    assert_eq!((task.pid, task.tgid, task.uid, task.rss), (12044, 12044, 1000, 130_215 * 4096));
    assert_eq!((task.pgtables, task.swap, task.rss_anon), (Some(336 * 4096), Some(2 * 4096), None));
    assert_eq!((task.oom_score_adj, task.name.as_str()), (984, "java"));

    let wide = table_header("[  pid  ]   uid  tgid total_vm      rss rss_anon rss_file rss_shmem pgtables_bytes swapents oom_score_adj name").unwrap();
    let row = "[    156]     0   157   153531   153345   153340        4         1  1269760        0          -998 a b] ";
    let task = table_row(row, &wide).unwrap();
    assert_eq!((task.pid, task.tgid, task.oom_score_adj), (156, 157, -998));
    assert_eq!(
        (task.rss_anon, task.rss_file, task.rss_shmem),
        (Some(153_340 * 4096), Some(4 * 4096), Some(4096))
    );
    assert_eq!((task.pgtables, task.name.as_str()), (Some(1_269_760), "a b] "));

    assert_eq!(table_row("[    156]     0   157   1535", &wide), None);
    assert_eq!(table_row("[TTM] Zone kernel", &wide), None);
    assert_eq!(table_header("[drm] name"), None);
}

#[test]
fn sentences_of_old_kernels_and_groups() {
    let both = limit_of("Task in /kubepods/pod1/2 killed as a result of limit of /kubepods/pod1").unwrap();
    assert_eq!(both, (Some("/kubepods/pod1/2".to_owned()), Some("/kubepods/pod1".to_owned())));
    let only = limit_of("Memory limit reached of cgroup /a b").unwrap();
    assert_eq!(only, (None, Some("/a b".to_owned())));
    assert_eq!(limit_of("Task in /x"), None);

    assert_eq!(
        verdict("Memory cgroup out of memory: Kill process 62685 (bash) score 0 or sacrifice child"),
        Some(true)
    );
    assert_eq!(verdict("Out of memory: Kill process 62685 (bash) score 0 or sacrifice child"), Some(false));
    assert_eq!(verdict("Memory cgroup out of memory: Killed process 1 (x)"), None);

    let group = group_kill("Tasks in /a/b are going to be killed due to memory.oom.group set");
    assert_eq!(group.as_deref(), Some("/a/b"));
    assert!(already_exiting(
        "Memory cgroup out of memory: OOM victim 3 (x) is already exiting. Skip killing the task"
    ));
    assert_eq!(suppressed("oom_kill_process: 7 callbacks suppressed"), Some(7));
    assert_eq!(suppressed("net_ratelimit: 7 callbacks suppressed"), None);
}

#[test]
fn statistics_headers_of_all_kernels() {
    assert_eq!(stats_of("Memory cgroup stats for /a: b:"), Some((Some("/a: b".to_owned()), "")));
    let old = stats_of("Memory cgroup stats for /a: cache:0KB rss:4KB").unwrap();
    assert_eq!(old, (Some("/a".to_owned()), "cache:0KB rss:4KB"));
    assert_eq!(stats_of("Memory cgroup min protection 0kB -- low protection 0kB"), None);
}
