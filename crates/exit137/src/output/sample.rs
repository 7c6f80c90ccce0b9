//! A verdict with something in every field, to develop and test the outputs with. Deterministic.

use std::collections::BTreeMap;

use exit137_core::bytes::MIB;
use exit137_core::observation::kubernetes::ContainerRole;
use exit137_core::observation::{SourceCount, SourceKind};
use exit137_core::problem::Problem;
use exit137_core::time::{Moment, SECOND, UnixNanos};
use exit137_core::verdict::{
    Action, Advice, Answer, Cause, ContainerRef, Fact, Gap, InFlight, IncidentVerdict, Interval,
    IntroducedBy, Kill, LeakVerdict, LimitHit, Mark, MarkKind, MemoryKind, NotOom, NotOomReason,
    OperationClaim, Opinion, Probability, RecoveredFrom, SettingFinding, Timeline, TimelineSeries, Verdict,
    VictimProcess, Witness, WorkloadName,
};

const POD: &str = "catalog-api-b6dgpjc8-kf2kt";
const LIMIT: u64 = 224 * MIB;

/// 2026-11-22T08:00:00Z.
fn start() -> UnixNanos {
    UnixNanos(1_795_334_400 * SECOND)
}

fn minute(minutes: f64) -> UnixNanos {
    start() + (minutes * 60.0 * SECOND as f64) as i64
}

/// Two incidents, one leak, twenty failed probes, one eviction.
pub(crate) fn verdict() -> Verdict {
    let count = |files, records| SourceCount { files, records };
    Verdict {
        incidents: vec![leak(), spike()],
        leaks: vec![unkilled_leak()],
        not_oom: (0..20).map(probe).chain([eviction()]).collect(),
        guesses: vec!["the pod of container 5a6b7c8d9e0f was taken from host.name".to_owned()],
        looked_in: BTreeMap::from([
            (SourceKind::Kubernetes, count(4, 212)),
            (SourceKind::KernelLog, count(1, 96)),
            (SourceKind::Metrics, count(1, 18_204)),
            (SourceKind::Traces, count(1, 52_110)),
        ]),
        skipped: BTreeMap::from([("ConfigMap".to_owned(), 3), ("Secret".to_owned(), 1200)]),
        problems: vec![Problem {
            source: "otlp/traces.jsonl:412".to_owned(),
            message: "not OTLP: expected a JSON object, found the end of the line".to_owned(),
        }],
    }
}

fn catalog() -> ContainerRef {
    ContainerRef {
        namespace: Some("shop".to_owned()),
        workload: Some(WorkloadName { kind: "Deployment".to_owned(), name: "catalog-api".to_owned() }),
        pod: Some(POD.to_owned()),
        pod_uid: Some("0d4bd4b5-7a13-4a5c-9d5f-0a8a2ad2a3ce".to_owned()),
        name: Some("catalog-api".to_owned()),
        container_id: Some("3f".repeat(32)),
        role: Some(ContainerRole::Main),
        image: Some("shop/catalog-api:2.3.1".to_owned()),
        version: Some("2.3.1".to_owned()),
        node: Some("node-3".to_owned()),
    }
}

const KILL_MINUTES: [f64; 3] = [17.2, 35.6, 53.498_4];

fn kill(index: usize) -> Kill {
    Kill {
        at: Moment::new(minute(KILL_MINUTES[index]), SECOND / 100),
        pod: Some(POD.to_owned()),
        container_id: Some(format!("{index}f").repeat(32)),
        seen_by: vec![Witness::Kernel, Witness::Kubernetes, Witness::Cgroup],
        limit_hit: Some(LimitHit::Container),
        limit_bytes: Some(LIMIT),
        victim: VictimProcess {
            pid: Some(18_087 + index as u32),
            comm: Some("python".to_owned()),
            main_process: Some(true),
            anon_bytes: Some(213_909_504),
            file_bytes: Some(0),
            shmem_bytes: Some(0),
        },
        container_survived: Some(false),
        life_started_at: Some(minute([0.5, 17.3, 35.7][index])),
        record: Some(format!("kernel/kmsg.log:{}", 40 + index * 31)),
    }
}

/// A life whose floor climbs from `low` to `high` MiB, with the teeth of a collector.
fn climb(from: f64, to: f64, low: f64, high: f64, tooth: f64) -> Vec<(UnixNanos, f64)> {
    let steps = ((to - from) * 4.0) as usize;
    (0..=steps)
        .map(|step| {
            let share = step as f64 / steps as f64;
            let warm = low * (1.0 - (-share * 30.0).exp());
            let floor = warm + (high - low) * share;
            let wave = (step as f64 * 0.9).sin() * tooth + (step % 7) as f64 * tooth / 4.0;
            (minute(from + (to - from) * share), ((floor + wave).clamp(1.0, 223.5) * MIB as f64).round())
        })
        .collect()
}

fn leak_timeline() -> Timeline {
    let lives = [(0.5, 17.2), (17.3, 35.6), (35.7, 53.4)];
    let series = |kind, low: f64, high: f64, tooth| TimelineSeries {
        kind,
        pod: Some(POD.to_owned()),
        lives: lives.iter().map(|&(from, to)| climb(from, to, low, high, tooth)).collect(),
    };
    let mut marks: Vec<Mark> = Vec::new();
    for (index, at) in KILL_MINUTES.into_iter().enumerate() {
        marks.push(Mark { at: minute(at), kind: MarkKind::Kill, label: format!("kill {}", index + 1) });
    }
    for at in [0.5, 17.3, 35.7, 53.6] {
        marks.push(Mark { at: minute(at), kind: MarkKind::Start, label: "started".to_owned() });
    }
    marks.push(Mark { at: minute(0.4), kind: MarkKind::Rollout, label: "rollout of 2.3.1".to_owned() });
    Timeline {
        from: minute(-4.0),
        to: minute(56.0),
        limit: vec![(minute(-4.0), 192 * MIB), (minute(0.4), LIMIT)],
        series: vec![
            series(MemoryKind::Usage, 62.0, 219.0, 2.0),
            series(MemoryKind::WorkingSet, 58.0, 214.0, 2.0),
            series(MemoryKind::Anon, 48.0, 202.0, 1.5),
            series(MemoryKind::File, 9.0, 10.0, 0.5),
            series(MemoryKind::Shmem, 2.0, 2.0, 0.0),
            series(MemoryKind::ProcessRss, 52.0, 206.0, 2.5),
        ],
        in_flight: (0..224)
            .map(|step| {
                let at = f64::from(step) / 4.0;
                (minute(at), (3.0 + 2.5 * (at / 3.0).sin() + f64::from(step % 5)).max(0.0).round())
            })
            .collect(),
        marks,
    }
}

fn opinion(cause: Cause, answer: Answer, probability: f64, summary: &str, evidence: &[&str]) -> Opinion {
    Opinion {
        cause,
        answer,
        probability: Probability(probability),
        summary: summary.to_owned(),
        evidence: evidence.iter().map(|&text| text.to_owned()).collect(),
    }
}

fn opinions() -> Vec<Opinion> {
    vec![
        opinion(
            Cause::Leak,
            Answer::Supported,
            0.97,
            "the floor after each collection rose 157 MiB in each of 3 lives and never came back",
            &[
                "memory after garbage collection rose in 41 of 44 windows, by 8.7 MiB a minute",
                "each of the 3 lives took the same 17 to 18 minutes from start to kill",
                "the growth follows the number of finished GET /search requests (r = 0.98), not the time",
                "against it: the first two minutes of each life look like a warm-up",
            ],
        ),
        opinion(
            Cause::UndersizedLimit,
            Answer::RuledOut,
            0.02,
            "memory did not level off at any height below the limit",
            &["no plateau of five minutes or more in any life"],
        ),
        opinion(
            Cause::OperationSpike,
            Answer::RuledOut,
            0.01,
            "no single request moved memory by more than 3 MiB",
            &[],
        ),
        opinion(
            Cause::ConcurrencySurge,
            Answer::RuledOut,
            0.01,
            "4 requests in flight at the kills, 4 on average",
            &[],
        ),
        opinion(Cause::NodePressure, Answer::RuledOut, 0.001, "the container's own limit was hit", &[]),
        opinion(
            Cause::TmpfsOrPageCache,
            Answer::RuledOut,
            0.001,
            "5 % of the memory at the kill was file pages",
            &[],
        ),
        opinion(
            Cause::ChildProcess,
            Answer::CannotTell,
            0.001,
            "the kernel's task dump is cut off after two processes",
            &[],
        ),
        opinion(Cause::StartupPeak, Answer::RuledOut, 0.001, "killed after 17 minutes of serving", &[]),
    ]
}

fn operations() -> Vec<OperationClaim> {
    vec![
        OperationClaim {
            names: vec!["GET /search".to_owned()],
            service: Some("catalog-api".to_owned()),
            probability: Probability(0.93),
            attributes: BTreeMap::from([("search.kind".to_owned(), "fuzzy".to_owned())]),
            bytes_per_execution: Some(Interval { low: 290_000.0, mid: 327_680.0, high: 371_000.0 }),
            share_of_growth: Some(0.94),
            in_flight_at_kill: 2,
            notes: vec![
                "memory.high_growth names the phase after_load_items most often, 12 times".to_owned(),
            ],
            summary: "each GET /search with search.kind=fuzzy keeps about 320 KiB".to_owned(),
        },
        OperationClaim {
            names: vec!["GET /items/:id".to_owned(), "GET /items/:id/similar".to_owned()],
            service: Some("catalog-api".to_owned()),
            probability: Probability(0.04),
            attributes: BTreeMap::new(),
            bytes_per_execution: None,
            share_of_growth: None,
            in_flight_at_kill: 1,
            notes: Vec::new(),
            summary: "always called together, so the data cannot separate them".to_owned(),
        },
    ]
}

fn in_flight() -> Vec<InFlight> {
    let request = |index: u32, operation: &str, recovered_from, attributes: &[(&str, &str)]| InFlight {
        operation: operation.to_owned(),
        trace_id: Some(0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736 + u128::from(index)),
        span_id: (index != 2).then_some(0x00f0_67aa_0ba9_02b7 + u64::from(index)),
        started_at: (index != 3).then(|| minute(53.49) - i64::from(index) * SECOND / 3),
        kill: 2,
        recovered_from,
        attributes: attributes.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect(),
    };
    vec![
        request(
            0,
            "GET /search",
            RecoveredFrom::Journal,
            &[("url.query", "q=lamp&kind=fuzzy"), ("enduser.id", "u-1192")],
        ),
        request(
            1,
            "GET /search",
            RecoveredFrom::ClientSpan,
            &[("url.full", "http://catalog-api/search?q=oak")],
        ),
        request(2, "GET /items/:id", RecoveredFrom::Orphans, &[]),
        request(3, "POST /basket", RecoveredFrom::Log, &[]),
    ]
}

fn fact(name: &str, value: &str, source: &str) -> Fact {
    Fact { name: name.to_owned(), value: value.to_owned(), source: source.to_owned() }
}

fn leak() -> IncidentVerdict {
    IncidentVerdict {
        container: catalog(),
        kills: (0..3).map(kill).collect(),
        cause: Cause::Leak,
        probability: Probability(0.97),
        headline:
            "catalog-api was OOM-killed 3 times because GET /search keeps memory that it never gives back"
                .to_owned(),
        opinions: opinions(),
        operations: operations(),
        introduced_by: Some(IntroducedBy { version: "2.3.1".to_owned(), previous: Some("2.3.0".to_owned()) }),
        in_flight: in_flight(),
        in_flight_missing: Some(1.4),
        advice: Advice {
            action: Action::FixCode,
            summary:
                "Fix what GET /search retains (about 320 KiB a request since 2.3.1), or roll back to 2.3.0. \
                      A limit of 512 MiB would only buy 50 minutes."
                    .to_owned(),
            limit_bytes: Some(512 * MIB),
            horizon_days: Some(14),
            next_kill_in_seconds: Some(Interval { low: 800.0, mid: 1040.0, high: 1300.0 }),
        },
        gaps: vec![Gap {
            missing: "heap figures of the Python runtime".to_owned(),
            effect: "cannot say which objects are kept".to_owned(),
            remedy: "export process.runtime.cpython.memory, or take a heap dump at 180 MiB".to_owned(),
        }],
        timeline: leak_timeline(),
        facts: vec![
            fact("container status", "OOMKilled, exit code 137, restart count 3", "k8s/pods.json"),
            fact("constraint", "CONSTRAINT_MEMCG", "kernel/kmsg.log:102"),
            fact("memory at the kill", "usage 229376kB, limit 229376kB, failcnt 4121", "kernel/kmsg.log:104"),
            fact("memory.events oom_kill", "0 → 3", "cgroup/samples.jsonl"),
            fact("termination message", "Killed\u{1b}[31m <b>by & for</b> | \u{202e}evil", "k8s/pods.json"),
        ],
        settings: vec![
            SettingFinding {
                setting: "WEB_CONCURRENCY=4".to_owned(),
                place: "env".to_owned(),
                contradicts: true,
                summary: "4 workers of 52 MiB each leave 16 MiB of the limit".to_owned(),
            },
            SettingFinding {
                setting: "MALLOC_ARENA_MAX=2".to_owned(),
                place: "env".to_owned(),
                contradicts: false,
                summary: "bounds the arenas of glibc".to_owned(),
            },
        ],
    }
}

fn spike() -> IncidentVerdict {
    IncidentVerdict {
        container: ContainerRef {
            namespace: Some("fleet".to_owned()),
            workload: Some(WorkloadName { kind: "Deployment".to_owned(), name: "exports".to_owned() }),
            name: Some("exports".to_owned()),
            pod: Some("exports-7c9d-x2x2x".to_owned()),
            role: Some(ContainerRole::Main),
            ..ContainerRef::default()
        },
        kills: vec![Kill {
            at: Moment::new(minute(41.0), 30 * SECOND),
            pod: Some("exports-7c9d-x2x2x".to_owned()),
            container_id: None,
            seen_by: vec![Witness::Kubernetes],
            limit_hit: None,
            limit_bytes: Some(1024 * MIB),
            victim: VictimProcess::default(),
            container_survived: None,
            life_started_at: None,
            record: None,
        }],
        cause: Cause::OperationSpike,
        probability: Probability(0.64),
        headline: "exports was OOM-killed once, most likely by one POST /exports with format=pdf".to_owned(),
        opinions: vec![
            opinion(
                Cause::OperationSpike,
                Answer::Supported,
                0.64,
                "memory rose 900 MiB in two minutes while one POST /exports ran",
                &["POST /exports with format=pdf ran at 4 of 4 earlier peaks"],
            ),
            opinion(Cause::ConcurrencySurge, Answer::CannotTell, 0.3, "no metric counts requests", &[]),
        ],
        operations: Vec::new(),
        introduced_by: None,
        in_flight: Vec::new(),
        in_flight_missing: None,
        advice: Advice {
            action: Action::CollectMore,
            summary: "Export http.server.active_requests to tell one heavy request from many.".to_owned(),
            limit_bytes: None,
            horizon_days: None,
            next_kill_in_seconds: None,
        },
        gaps: vec![Gap {
            missing: "the kernel log of the node".to_owned(),
            effect: "the victim process and the limit that was hit are not known".to_owned(),
            remedy: "journalctl -k -o json > kernel.jsonl".to_owned(),
        }],
        timeline: spike_timeline(),
        facts: Vec::new(),
        settings: Vec::new(),
    }
}

fn spike_timeline() -> Timeline {
    let rise = |minutes: f64| if minutes > 39.0 { (minutes - 39.0) * 450.0 } else { 0.0 };
    let points = |base: f64| {
        (0..160).map(|step| f64::from(step) / 4.0 + 1.0).map(move |minutes| {
            (
                minute(minutes),
                ((base + (minutes * 2.0).sin() * 12.0 + rise(minutes)).min(1020.0) * MIB as f64).round(),
            )
        })
    };
    Timeline {
        from: minute(0.0),
        to: minute(45.0),
        limit: vec![(minute(0.0), 1024 * MIB)],
        series: vec![TimelineSeries {
            kind: MemoryKind::WorkingSet,
            pod: None,
            lives: vec![points(120.0).collect()],
        }],
        in_flight: Vec::new(),
        marks: vec![Mark { at: minute(41.0), kind: MarkKind::Kill, label: "kill".to_owned() }],
    }
}

fn unkilled_leak() -> LeakVerdict {
    let points = |step: u32| {
        (minute(f64::from(step) * 5.0 - 600.0), (f64::from(300 + step) * 1.6 * MIB as f64).round())
    };
    LeakVerdict {
        container: ContainerRef {
            namespace: Some("shop".to_owned()),
            workload: Some(WorkloadName { kind: "StatefulSet".to_owned(), name: "sessions".to_owned() }),
            name: Some("sessions".to_owned()),
            pod: Some("sessions-0".to_owned()),
            ..ContainerRef::default()
        },
        probability: Probability(0.88),
        slope_bytes_per_hour: Interval { low: 15e6, mid: 20.1e6, high: 26e6 },
        time_to_limit_seconds: Some(Interval { low: 30_000.0, mid: 41_000.0, high: 58_000.0 }),
        operations: Vec::new(),
        headline: "sessions grows 19.2 MiB an hour and meets its limit in about 11 hours".to_owned(),
        timeline: Timeline {
            from: minute(-600.0),
            to: minute(60.0),
            limit: vec![(minute(-600.0), 1024 * MIB)],
            series: vec![TimelineSeries {
                kind: MemoryKind::WorkingSet,
                pod: Some("sessions-0".to_owned()),
                lives: vec![(0..130).map(points).collect()],
            }],
            in_flight: Vec::new(),
            marks: Vec::new(),
        },
    }
}

fn probe(index: i64) -> NotOom {
    NotOom {
        container: ContainerRef {
            namespace: Some("shop".to_owned()),
            workload: Some(WorkloadName { kind: "Deployment".to_owned(), name: "cart".to_owned() }),
            name: Some("cart".to_owned()),
            ..ContainerRef::default()
        },
        at: Some(Moment::floored_to_second(minute(2.0) + index * 150 * SECOND)),
        exit_code: 137,
        reason: NotOomReason::Probe,
        summary: "the liveness probe failed and the container was killed; memory stood at 40 % of the limit"
            .to_owned(),
    }
}

fn eviction() -> NotOom {
    NotOom {
        container: ContainerRef {
            namespace: Some("batch".to_owned()),
            pod: Some("report-28812-qq7".to_owned()),
            ..ContainerRef::default()
        },
        at: None,
        exit_code: 137,
        reason: NotOomReason::Eviction,
        summary: "the kubelet evicted the pod: the node was low on ephemeral-storage".to_owned(),
    }
}
