//! Writes the recording of a kill: telemetry in batches as they leave each process, the pods, the kernel's log.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use super::Outcome;
use super::shop::{LIMIT, Names, PODS, SECOND, START, Shop, Span, VICTIM, names, resource};
use super::{json, proto};

/// Spans that an SDK sends at once.
const BATCH: usize = 256;

/// How often the collector looks at the containers.
const SCRAPE: u64 = 15 * SECOND;

#[derive(Clone, Copy)]
pub(crate) enum Encoding {
    Json,
    Proto,
}

/// Writes the telemetry of this many requests to `path`, and what goes with it to `folder`. Tells how many spans.
pub(crate) fn record(
    folder: &Path,
    path: &Path,
    encoding: Encoding,
    traces: u64,
    duration: u64,
) -> Outcome<u64> {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let mut shop = Shop::new(traces, duration);
    let mut batches: Vec<Vec<Span>> = (0..PODS).map(|_| Vec::new()).collect();
    let (mut count, mut scraped) = (0, START);
    let spans_of = |pod: usize, batch: &[Span]| match encoding {
        Encoding::Json => json::spans(&resource(pod, true), batch),
        Encoding::Proto => proto::spans(&resource(pod, true), batch),
    };
    while let Some(at) = shop.next_at() {
        while scraped <= at {
            for pod in 0..PODS {
                let (resource, gauges) = (resource(pod, false), shop.gauges(pod));
                out.write_all(&match encoding {
                    Encoding::Json => json::gauges(&resource, START, scraped, &gauges),
                    Encoding::Proto => proto::gauges(&resource, START, scraped, &gauges),
                })?;
            }
            scraped += SCRAPE;
        }
        for span in shop.request(at) {
            let pod = span.pod;
            batches[pod].push(span);
            if batches[pod].len() == BATCH {
                count += BATCH as u64;
                out.write_all(&spans_of(pod, &std::mem::take(&mut batches[pod])))?;
            }
        }
    }
    for (pod, batch) in batches.iter().enumerate().filter(|(_, batch)| !batch.is_empty()) {
        count += batch.len() as u64;
        out.write_all(&spans_of(pod, batch))?;
    }
    out.flush()?;
    let killed_at = rfc3339(shop.killed_at());
    fs::write(folder.join("pods.json"), pods(&killed_at))?;
    fs::write(folder.join("kernel.log"), kernel_log(&killed_at))?;
    Ok(count)
}

/// Whole seconds: only starts and ends of the recording are written.
fn rfc3339(nanos: u64) -> String {
    let seconds = nanos / SECOND - 1_795_305_600;
    let (day, seconds) = (22 + seconds / 86_400, seconds % 86_400);
    format!("2026-11-{day}T{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

fn pods(killed_at: &str) -> String {
    let started_at = rfc3339(START);
    let pod = |pod: usize| {
        let Names { workload, pod: name, uid, container_id } = names(pod);
        let running = format!(r#""state":{{"running":{{"startedAt":"{started_at}Z"}}}},"restartCount":0"#);
        let killed = format!(
            r#""state":{{"terminated":{{"exitCode":137,"reason":"OOMKilled","startedAt":"{started_at}Z","finishedAt":"{killed_at}Z","containerID":"containerd://{container_id}"}}}},"restartCount":0"#
        );
        let state = if pod == VICTIM { killed } else { running };
        format!(
            r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"{name}","namespace":"shop","uid":"{uid}","ownerReferences":[{{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"{workload}-b6dgpjc8","uid":"31b53239-c4fc-400c-9164-2ca17cda1415","controller":true}}],"labels":{{"pod-template-hash":"b6dgpjc8"}}}},"spec":{{"nodeName":"ip-10-0-59-71.eu-central-1.compute.internal","containers":[{{"name":"{workload}","image":"registry.example.net/shop/{workload}:2.3.1","resources":{{"limits":{{"memory":"{LIMIT}"}}}}}}]}},"status":{{"phase":"Running","startTime":"{started_at}Z","containerStatuses":[{{"name":"{workload}",{state},"image":"registry.example.net/shop/{workload}:2.3.1","containerID":"containerd://{container_id}"}}]}}}}"#
        )
    };
    let pods: Vec<String> = (0..PODS).map(pod).collect();
    format!(r#"{{"apiVersion":"v1","kind":"List","items":[{}]}}"#, pods.join(","))
}

fn kernel_log(killed_at: &str) -> String {
    let Names { uid, container_id, .. } = names(VICTIM);
    let (limit, resident) = (LIMIT >> 10, (LIMIT - (3 << 20)) >> 10);
    let pod = format!("/kubepods/burstable/pod{uid}");
    let lines = [
        "python invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=991".to_owned(),
        format!("memory: usage {limit}kB, limit {limit}kB, failcnt 249"),
        format!("Memory cgroup stats for {pod}/{container_id}:"),
        format!("anon {}", resident << 10),
        "file 0".to_owned(),
        "shmem 0".to_owned(),
        "Tasks state (memory values in pages):".to_owned(),
        "[  pid  ]   uid  tgid total_vm      rss rss_anon rss_file rss_shmem pgtables_bytes swapents oom_score_adj name".to_owned(),
        format!("[  12709]     0 12709   300000   {0}   {0}     0         0  2400000        0           991 python", resident >> 2),
        format!("oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset={container_id},mems_allowed=0,oom_memcg={pod}/{container_id},task_memcg={pod}/{container_id},task=python,pid=12709,uid=0"),
        format!("Memory cgroup out of memory: Killed process 12709 (python) total-vm:1200000kB, anon-rss:{resident}kB, file-rss:0kB, shmem-rss:0kB, UID:0 pgtables:2400kB oom_score_adj:991"),
    ];
    lines.iter().map(|line| format!("{killed_at},004000+00:00 {line}\n")).collect()
}
