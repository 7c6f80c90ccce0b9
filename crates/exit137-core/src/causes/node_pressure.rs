//! The node ran out of memory; the container was inside its own limit and was chosen to die.
//!
//! - Supported when the kernel names no cgroup limit, or one above the pod; or when the container stood far below
//!   its own limit.
//! - Ruled out when the container's or its pod's limit was hit.
//! - Cannot tell when only the API saw the kill: it does not say whose limit it was.

use super::{Examine, Finding, expects, odds, percent};
use crate::features::Features;
use crate::incident::{Incident, KillScene};
use crate::verdict::{Cause, LimitHit};

pub(super) struct NodePressure;

impl Examine for NodePressure {
    fn cause(&self) -> Cause {
        Cause::NodePressure
    }

    fn prior(&self) -> f64 {
        0.06
    }

    fn examine(&self, kill: &KillScene<'_>, features: &Features) -> Vec<Finding> {
        let mut findings = Vec::new();
        match (features.node, kill.record.kill.limit_hit) {
            (Some(true), Some(LimitHit::Ancestor)) => findings.push(odds(
                "limit",
                0.9,
                0.025,
                "a limit above the pod was hit: all pods of the node together".to_owned(),
            )),
            (Some(true), _) => {
                findings.push(odds("limit", 0.95, 0.025, "the whole node ran out of memory".to_owned()))
            }
            (Some(false), _) => findings.push(odds(
                "limit",
                0.025,
                0.9,
                "the limit that was hit is the container's or its pod's".to_owned(),
            )),
            (None, _) => {}
        }
        if features.node.is_none()
            && let Some(limit) = kill.limit()
            && let Some(usage) = last_usage(kill)
        {
            let share = (usage / limit).min(1.0);
            findings.push(expects(
                "own share",
                share,
                (1.6, 2.4),
                format!("the container was last measured at {} of its own limit", percent(share)),
            ));
        }
        findings
    }

    fn summary(&self, incident: &Incident<'_>, _features: &[Features]) -> String {
        match incident.latest().record.kill.limit_hit {
            Some(LimitHit::Ancestor) => "all pods of the node together met the limit above them; this container was inside its own".to_owned(),
            _ => "the node ran out of memory and the kernel chose this container, which was inside its own limit".to_owned(),
        }
    }
}

fn last_usage(kill: &KillScene<'_>) -> Option<f64> {
    let at = kill.at();
    let kinds = [
        crate::verdict::MemoryKind::Usage,
        crate::verdict::MemoryKind::WorkingSet,
        crate::verdict::MemoryKind::Anon,
    ];
    kinds.iter().find_map(|kind| kill.memory.at(*kind, at))
}
