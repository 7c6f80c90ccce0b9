//! cgroup samples: one JSON object a line, a format of our own that `docs/formats.md` describes.

use std::borrow::Cow;

use exit137_core::observation::cgroup::{CgroupSample, ProcessSample};
use exit137_core::time::UnixNanos;
use serde::Deserialize;

/// Processes of one sample; the largest come first.
const PROCESSES_MAX: usize = 256;

/// Why a line is no sample.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotASample {
    /// A field has the wrong type.
    #[error("not a cgroup sample: {0}")]
    Fields(#[from] serde_json::Error),
    /// `time` cannot be read.
    #[error("not a cgroup sample: expected an RFC 3339 time, found \"{0}\"")]
    Time(String),
}

/// One line. Fields that are not listed are ignored, and every field but `time` may be missing or `null`.
#[derive(Debug, Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    time: Cow<'a, str>,
    pod_uid: Option<String>,
    container: Option<String>,
    container_id: Option<String>,
    cgroup_path: Option<String>,
    limit: Option<f64>,
    usage: Option<f64>,
    anon: Option<f64>,
    /// `anon` by its name in v1.
    rss: Option<f64>,
    file: Option<f64>,
    /// `file` by its name in v1.
    cache: Option<f64>,
    shmem: Option<f64>,
    mapped_file: Option<f64>,
    inactive_file: Option<f64>,
    active_file: Option<f64>,
    kernel: Option<f64>,
    swap: Option<f64>,
    failcnt: Option<f64>,
    /// `failcnt` by its name in v2.
    max: Option<f64>,
    oom: Option<f64>,
    oom_kill: Option<f64>,
    processes: Option<f64>,
    procs: Option<Vec<Process<'a>>>,
}

#[derive(Debug, Deserialize)]
struct Process<'a> {
    pid: u32,
    ppid: Option<u32>,
    #[serde(borrow)]
    comm: Option<Cow<'a, str>>,
    rss: Option<f64>,
    threads: Option<u32>,
}

/// Reads one sample.
pub(crate) fn decode(document: &[u8]) -> Result<CgroupSample, NotASample> {
    let line: Line<'_> = serde_json::from_slice(document)?;
    let at = UnixNanos::parse_rfc3339(&line.time).ok_or_else(|| NotASample::Time(line.time.to_string()))?;
    let mut procs: Vec<ProcessSample> = line.procs.unwrap_or_default().into_iter().map(process).collect();
    procs.sort_by(|a, b| (b.rss, a.pid).cmp(&(a.rss, b.pid)));
    procs.truncate(PROCESSES_MAX);
    Ok(CgroupSample {
        at,
        pod_uid: line.pod_uid,
        container: line.container,
        container_id: line.container_id,
        cgroup_path: line.cgroup_path,
        limit: whole(line.limit).filter(|limit| *limit < UNLIMITED),
        usage: whole(line.usage),
        anon: whole(line.anon.or(line.rss)),
        file: whole(line.file.or(line.cache)),
        shmem: whole(line.shmem),
        mapped_file: whole(line.mapped_file),
        inactive_file: whole(line.inactive_file),
        active_file: whole(line.active_file),
        kernel: whole(line.kernel),
        swap: whole(line.swap),
        failcnt: whole(line.failcnt.or(line.max)),
        oom: whole(line.oom),
        oom_kill: whole(line.oom_kill),
        processes: whole(line.processes),
        procs,
    })
}

/// cgroup v1 writes "no limit" as the largest number of whole pages.
const UNLIMITED: u64 = 1 << 62;

/// Counters of 64 bits may come as `1.2e9`; those below 2⁵³ bytes, all real ones, stay exact.
fn whole(value: Option<f64>) -> Option<u64> {
    value.filter(|value| *value >= 0.0).map(|value| value as u64)
}

fn process(process: Process<'_>) -> ProcessSample {
    ProcessSample {
        pid: process.pid,
        parent_pid: process.ppid,
        comm: process.comm.unwrap_or_default().into(),
        rss: whole(process.rss).unwrap_or_default(),
        threads: process.threads.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(text: &str) -> CgroupSample {
        decode(text.as_bytes()).expect(text)
    }

    #[test]
    fn both_cgroup_versions_fill_the_same_fields() {
        let v1 = sample(
            r#"{"time":"2026-11-22T09:45:15.341309Z","pod_uid":"bebafea1-eb56-4b3e-bb34-7ce2f19a11b3",
            "container":"api","limit":218103808,"usage":24657920,"rss":24342528,"cache":49152,"failcnt":3,
            "pgfault":10900,"procs":[{"pid":7,"comm":"sh","rss":1},{"pid":9,"ppid":7,"comm":"python","rss":5,"threads":2}]}"#,
        );
        assert_eq!(v1.at.0, 1_795_340_715_341_309_000);
        assert_eq!((v1.anon, v1.file, v1.failcnt), (Some(24_342_528), Some(49_152), Some(3)));
        let pids: Vec<_> = v1.procs.iter().map(|process| (process.pid, process.parent_pid)).collect();
        assert_eq!(pids, [(9, Some(7)), (7, None)]);
        let v2 =
            sample(r#"{"time":"2026-11-22T10:00:00+01:00","anon":1,"file":2,"max":3,"oom":1,"limit":null}"#);
        assert_eq!((v2.anon, v2.file, v2.failcnt, v2.oom), (Some(1), Some(2), Some(3), Some(1)));
        assert_eq!(v2.limit, None);
    }

    #[test]
    fn the_largest_number_of_v1_is_no_limit() {
        let unlimited = sample(r#"{"time":"2026-11-22T10:00:00Z","limit":9223372036854771712,"usage":1}"#);
        assert_eq!(unlimited.limit, None);
    }

    #[test]
    fn what_is_no_sample_says_why() {
        for (text, expected) in [
            (r#"{"usage":1}"#, "missing field `time`"),
            (r#"{"time":"yesterday","usage":1}"#, "expected an RFC 3339 time, found \"yesterday\""),
            (r#"{"time":"2026-11-22T10:00:00Z","usage":"much"}"#, "invalid type"),
        ] {
            let error = decode(text.as_bytes()).expect_err(text).to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
