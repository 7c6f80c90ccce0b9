//! File pages charged to the container: a memory-backed volume, /dev/shm, pages written faster than the disk
//! takes them. They show in no process, and a memory-backed volume outlives the container.
//!
//! - Supported when shared memory and dirty pages hold a large part of the limit at the kill.
//! - Ruled out when they hold next to nothing.
//! - Cannot tell when neither the kernel's statistics nor samples split the memory.

use super::{Examine, Finding, expects, odds, percent};
use crate::bytes::Bytes;
use crate::features::Features;
use crate::incident::{Incident, KillScene};
use crate::verdict::Cause;

pub(super) struct TmpfsOrPageCache;

/// The more of the limit, the surer.
const FILES: (f64, f64) = (2.5, 1.0);

impl Examine for TmpfsOrPageCache {
    fn cause(&self) -> Cause {
        Cause::TmpfsOrPageCache
    }

    fn prior(&self) -> f64 {
        0.07
    }

    fn examine(&self, kill: &KillScene<'_>, features: &Features) -> Vec<Finding> {
        let mut findings = Vec::new();
        if let Some(share) = features.files {
            findings.push(expects(
                "files",
                share,
                FILES,
                format!("files in memory (tmpfs, dirty pages) held {} of the limit", percent(share)),
            ));
            let report = kill.record.report;
            let writing = report
                .and_then(|report| report.gfp_mask.as_deref())
                .is_some_and(|mask| mask.contains("__GFP_WRITE"));
            if writing {
                findings.push(odds(
                    "writing",
                    0.5,
                    0.05,
                    "the allocation that failed was for writing a file".to_owned(),
                ));
            }
        }
        if features.node == Some(true) {
            findings.push(odds(
                "limit",
                0.03,
                0.6,
                "the limit that was hit is the node's, not the container's".to_owned(),
            ));
        }
        findings
    }

    fn summary(&self, incident: &Incident<'_>, features: &[Features]) -> String {
        let share = super::mean(features, |f| f.files).unwrap_or_default();
        let limit = incident.latest().limit().unwrap_or_default();
        format!(
            "files held in memory took about {}, {} of the limit",
            Bytes((share * limit) as u64),
            percent(share)
        )
    }
}
