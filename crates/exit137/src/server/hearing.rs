//! What a single record tells of kills. It is judged by the core like everything else, just with nothing beside it; so
//! there is one opinion on what a kill is.

use exit137_core::verdict::Verdict;
use exit137_sources::Pieces;
use memchr::memmem;

use super::incident::{KillMark, marks_of};
use super::subject::Subject;

/// What one record may take. A pod with all its containers takes some kilobytes.
const KEPT_BYTES_MAX: u64 = 64 << 20;

/// A record without any of these tells of no kill.
const WORDS: &[&[u8]] = &[b"OOMKilled", b"137", b"illed process", b"oom-kill", b"OOMKilling", b"exit137."];

/// A kill that was told, and whose it is.
#[derive(Debug, Clone)]
pub(super) struct Heard {
    pub(super) subject: Subject,
    pub(super) marks: Vec<KillMark>,
}

/// Whether it is worth decoding.
pub(super) fn may_tell(bytes: &[u8]) -> bool {
    WORDS.iter().any(|word| memmem::find(bytes, word).is_some())
}

/// Kills in a document of Kubernetes, or in OTLP log records.
pub(super) fn in_json(document: &[u8]) -> Vec<Heard> {
    let mut pieces = Pieces::new(KEPT_BYTES_MAX);
    pieces.json("heard", document);
    told(pieces)
}

/// Kills in OTLP log records.
pub(super) fn in_protobuf(message: &[u8]) -> Vec<Heard> {
    let mut pieces = Pieces::new(KEPT_BYTES_MAX);
    pieces.otlp_protobuf("heard", message);
    told(pieces)
}

/// Kills in lines of a kernel log; `clock` says when the machine booted.
pub(super) fn in_kernel_log(lines: &[u8], clock: &[u8]) -> Vec<Heard> {
    let mut pieces = Pieces::new(KEPT_BYTES_MAX);
    if !clock.is_empty() {
        pieces.boot_time("heard/clock.txt", clock);
    }
    pieces.kernel_log("heard/kernel.log", lines);
    told(pieces)
}

fn told(pieces: Pieces) -> Vec<Heard> {
    let verdict: Verdict = exit137_core::diagnose(&Pieces::join(vec![pieces]));
    let heard = verdict.incidents.iter().map(|incident| {
        let mut subject = Subject::from(&incident.container);
        if subject.container_id.is_none() {
            subject.container_id = incident.kills.iter().find_map(|kill| kill.container_id.clone());
        }
        Heard { subject, marks: marks_of(incident) }
    });
    // A process outside any container is nobody's.
    heard.filter(|heard| heard.subject != Subject::default()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_report_names_the_container() {
        let log = "[   10.000000] python invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0\n\
            [   10.000001] oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,\
            oom_memcg=/kubepods/burstable/pod6f1f0c1e-8d9c-4f3a-9b76-000000000001/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef,\
            task_memcg=/kubepods/burstable/pod6f1f0c1e-8d9c-4f3a-9b76-000000000001/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef,\
            task=python,pid=7,uid=0\n\
            [   10.000002] Memory cgroup out of memory: Killed process 7 (python) total-vm:9kB, anon-rss:5kB, \
            file-rss:2kB, shmem-rss:1kB, UID:0 pgtables:1kB oom_score_adj:0\n";
        let heard = in_kernel_log(log.as_bytes(), b"1795340714.500000 0.010000\n");
        assert_eq!(heard.len(), 1, "{heard:?}");
        assert_eq!(heard[0].subject.pod_uid.as_deref(), Some("6f1f0c1e-8d9c-4f3a-9b76-000000000001"));
        assert_eq!(heard[0].marks.len(), 1);
        assert!(may_tell(log.as_bytes()));
        assert!(!may_tell(b"all is well"));
    }

    #[test]
    fn rubbish_tells_nothing() {
        assert!(in_json(b"OOMKilled 137 {{{").is_empty());
        assert!(in_protobuf(b"Killed process").is_empty());
        assert!(in_kernel_log(b"Killed process\n", b"").is_empty());
    }
}
