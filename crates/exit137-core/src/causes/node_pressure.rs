//! The node ran out of memory; the container was inside its own limit and was chosen to die.
//!
//! - Supported when the kernel names no cgroup limit, or one above the pod; or when the container stood far below
//!   its own limit.
//! - Ruled out when the container's or its pod's limit was hit.
//! - Cannot tell when only the API saw the kill: it does not say whose limit it was.

use super::{Examine, Finding, expects, fact, percent};
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
            (Some(true), Some(LimitHit::Ancestor)) => findings.push(fact(
                "limit",
                0.9,
                0.02,
                "a limit above the pod was hit: all pods of the node together".to_owned(),
            )),
            (Some(true), _) => {
                findings.push(fact("limit", 0.95, 0.01, "the whole node ran out of memory".to_owned()))
            }
            (Some(false), _) => findings.push(fact(
                "limit",
                0.01,
                0.9,
                "the limit that was hit is the container's or its pod's".to_owned(),
            )),
            (None, _) => {}
        }
        if let Some(share) = features.shortfall {
            let text = format!("the container was still {} of its own limit short of it", percent(share));
            findings.push(expects("shortfall", share, (1.4, 2.0), text));
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
