//! Killed while starting, before serving: loading a model, filling a cache, compiling.
//!
//! - Supported when nothing had been served and memory rose from the first moment, best in life after life.
//! - Ruled out when requests had been served.
//! - Cannot tell when nothing shows whether it served.

use super::{Examine, Finding, expects, likelihood, odds};
use crate::bytes::Bytes;
use crate::features::Features;
use crate::incident::{Incident, KillScene};
use crate::verdict::Cause;

pub(super) struct StartupPeak;

const FILES: (f64, f64) = (0.8, 8.0);
/// A start takes minutes at most; a long life without service is something else.
const START_SECONDS: f64 = 600.0;

impl Examine for StartupPeak {
    fn cause(&self) -> Cause {
        Cause::StartupPeak
    }

    fn prior(&self) -> f64 {
        0.09
    }

    fn examine(&self, _kill: &KillScene<'_>, features: &Features) -> Vec<Finding> {
        let mut findings = super::common::elsewhere(features, FILES);
        if let Some(shape) = &features.shape {
            let ceiling = crate::bytes::Bytes(shape.ceiling as u64);
            let text = format!("memory rose to {ceiling} from the first moment on");
            findings.push(expects("height", shape.height, (2.0, 1.2), text).aside());
            if let Some(steady) = shape.steady.filter(|steady| *steady > 0.0) {
                // Loading rises as evenly as a leak does.
                findings.push(likelihood("curve", steady / 2.0, "memory rose evenly".to_owned()).aside());
            }
        }
        match features.served {
            Some(0) => {
                findings.push(odds("served", 0.9, 0.06, "no request had been served in this life".to_owned()))
            }
            Some(served @ 1..3) => findings.push(odds(
                "served",
                0.1,
                0.1,
                format!("{served} requests had been served in this life"),
            )),
            Some(served) => findings.push(odds(
                "served",
                0.025,
                1.0,
                format!("{served} requests had been served in this life"),
            )),
            None => {}
        }
        if let Some(seconds) = features.life_seconds {
            // A share of the time that a start may take.
            let share = seconds / (seconds + START_SECONDS);
            findings.push(expects("life", share, (0.9, 2.2), format!("the life lasted {seconds:.0} s")));
        }
        match features.ready {
            Some(true) if features.served.is_none() => {
                findings.push(odds("ready", 0.15, 1.0, "the pod had been ready before".to_owned()));
            }
            Some(false) if features.served.unwrap_or(0) == 0 => {
                findings.push(odds("ready", 0.9, 0.22, "the pod was never seen ready".to_owned()));
            }
            _ => {}
        }
        findings
    }

    fn summary(&self, incident: &Incident<'_>, features: &[Features]) -> String {
        let seconds = super::mean(features, |f| f.life_seconds);
        let limit =
            incident.latest().limit().map(|limit| format!(" of {}", Bytes(limit as u64))).unwrap_or_default();
        let served = features.last().and_then(|f| f.served).unwrap_or_default();
        let before = if served == 0 { "before it served anything" } else { "before it had served much" };
        match seconds {
            Some(seconds) => format!(
                "killed about {seconds:.0} s after its start, {before}: starting needs more than the limit{limit}"
            ),
            None => format!("killed {before}: starting needs more than the limit{limit}"),
        }
    }
}
