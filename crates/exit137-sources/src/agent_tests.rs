//! What the agent tells and what is read from it are the same.

use super::*;
use exit137_core::kernel::KernelLogReader;

/// A real report, shortened.
const REPORT: &str = "\
4,1,100,-;python invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=984
6,2,101,-;memory: usage 524288kB, limit 524288kB, failcnt 41
6,3,102,-;Memory cgroup stats for /kubepods/pod6f0dc1b2-3a4e-4c6f-9f1a-2b3c4d5e6f70:
6,4,103,-;anon 533360640
6,5,104,-;[  pid  ]   uid  tgid total_vm      rss rss_anon rss_file rss_shmem pgtables_bytes swapents oom_score_adj name
6,6,105,-;[  12044]  1000 12044   921600   130215   130000      215        0  1376256        0           984 python
6,7,106,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=x,mems_allowed=0,oom_memcg=/kubepods/pod6f0dc1b2-3a4e-4c6f-9f1a-2b3c4d5e6f70,task_memcg=/kubepods/pod6f0dc1b2-3a4e-4c6f-9f1a-2b3c4d5e6f70/aa,task=python,pid=12044,uid=1000
3,8,107,-;Memory cgroup out of memory: Killed process 12044 (python) total-vm:3686400kB, anon-rss:520860kB, file-rss:0kB, shmem-rss:0kB, UID:1000 pgtables:1344kB oom_score_adj:984";

fn report() -> OomReport {
    let mut reader = KernelLogReader::new("kmsg");
    for (number, line) in REPORT.lines().enumerate() {
        reader.line(line, number + 1);
    }
    reader.finish().remove(0).reports.remove(0)
}

#[test]
fn a_report_survives_the_way_through_a_log_record() {
    let at = UnixNanos(1_795_340_715_000_000_000);
    let body = KillBody { node: Some("n1".into()), uncertainty_nanos: 5, ..KillBody::of(&report()) };
    let text = serde_json::to_vec(&body).expect("JSON");
    let mut observations = Observations::default();
    let resource = observations.intern_resource(Vec::new());
    assert!(observe(OOM_KILL.as_bytes(), at, resource, &text, &mut observations).expect("is read"));
    let [log] = observations.kernel.as_slice() else { panic!("one log") };
    assert_eq!((log.file.as_str(), log.host.as_deref()), ("exit137 agent on n1", Some("n1")));
    let wall = KernelTime::Wall(Moment::new(at, 5));
    let mut expected = report();
    expected.at = wall;
    expected.victims[0].at = wall;
    // Lines are those of the file that it was read from.
    expected.victims[0].line = 0;
    expected.tasks[0].tgid = expected.tasks[0].pid;
    assert_eq!(log.reports, [expected]);
}

#[test]
fn samples_and_gaps_become_observations_and_strangers_do_not() {
    let mut observations = Observations::default();
    let resource = observations.intern_resource(Vec::new());
    let mut see = |event: &str, body: &str| {
        observe(event.as_bytes(), UnixNanos(1), resource, body.as_bytes(), &mut observations)
    };
    assert!(see(SAMPLE, r#"{"time":"2026-11-22T10:00:00Z","usage":1}"#).expect("is read"));
    assert!(see(GAP, r#"{"records":3}"#).expect("is read"));
    assert!(!see("exit137.other", "{}").expect("is left alone"));
    let error = see(GAP, "3").expect_err("is no gap").to_string();
    assert!(error.starts_with("not the body of exit137.kernel_log.gap: "), "{error}");
    assert_eq!(observations.cgroup_samples.len(), 1);
    assert_eq!(observations.kernel[0].lost_records, 3);
}

/// What the agent tells of a journal is what the journal itself tells.
#[test]
fn a_journals_memory_survives_the_way_through_a_log_record() {
    let packed = include_bytes!("../../exit137/tests/journal/exit137.journal.gz");
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&packed[..]), &mut bytes).expect("gzip");
    let life = crate::journal::read(&bytes).expect("a journal");
    let text = serde_json::to_vec(&JournalBody::of(&life)).expect("JSON");
    let mut told = Observations::default();
    let (key, value) = (told.symbols.intern("k8s.pod.uid"), told.symbols.intern("u"));
    let resource = told.intern_resource(vec![(key, value)]);
    assert!(observe(JOURNAL.as_bytes(), UnixNanos(1), resource, &text, &mut told).expect("is read"));
    let mut read = Observations::default();
    crate::journal::add(&life, "exit137.journal", &mut read);
    let rows = |observations: &Observations| {
        let text = |symbol| observations.symbols.text(symbol).to_owned();
        let life = &observations.journals[0];
        let heap =
            life.heap.iter().map(|row| (text(row.operation), row.place.map(text), row.bytes, row.allocated));
        let mut totals: Vec<_> = life
            .operations
            .iter()
            .map(|row| (text(row.operation), row.finished, row.retained, row.peak))
            .collect();
        totals.sort();
        (life.pid, life.started, life.seen, life.live_bytes, heap.collect::<Vec<_>>(), totals)
    };
    assert_eq!(rows(&told), rows(&read));
    assert!(!told.journals[0].heap.is_empty());
    let attributes = &told.resources[told.journals[0].resource.0 as usize].attributes;
    assert!(attributes.contains(&(key, value)) && attributes.len() > 1);
}
