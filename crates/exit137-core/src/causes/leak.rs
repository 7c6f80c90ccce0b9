//! Memory is retained and never given back, in step with work or time, until it meets the limit.
//! The program needs a fix; a larger limit only delays the next kill.
//!
//! - Supported when the level that is never undercut keeps rising to the end, and no sudden demand is needed.
//! - Ruled out when that level is flat, has levelled off, or nearly all of the room went in a final jump.
//! - Cannot tell when too little of the life was measured to see a shape.

use super::common::{last_moments, stood_before};
use super::{Examine, Finding, expects, likelihood, mean, odds, percent};
use crate::bytes::Bytes;
use crate::features::Features;
use crate::incident::{Incident, KillScene};
use crate::verdict::Cause;

pub(super) struct Leak;

/// Little of the room goes in the final part: the trend alone nearly gets there.
const JUMP: (f64, f64) = (1.0, 4.0);
/// Growth is as strong in the second half of the work as in the first.
const LATE_GROWTH: (f64, f64) = (5.0, 4.5);
/// The trend itself has come near the limit.
const HEIGHT: (f64, f64) = (4.5, 1.4);
/// The load at the kill is any load; a collector that runs out of room makes requests pile up.
const EXCESS: (f64, f64) = (1.7, 2.0);
/// What the collector left alive is most of the growth; pools and buffers outside the heap are the rest.
const HEAP_GROWN: (f64, f64) = (3.0, 1.8);
/// Requests that are over hold the heap.
const LEFT_BEHIND: (f64, f64) = (6.0, 1.2);
/// Nothing that was kept was ever given back.
const NEVER_FREED: (f64, f64) = (6.0, 1.0);
/// Files, other processes: their ordinary shares.
const FILES: (f64, f64) = (0.8, 10.0);

impl Examine for Leak {
    fn cause(&self) -> Cause {
        Cause::Leak
    }

    fn prior(&self) -> f64 {
        0.26
    }

    fn examine(&self, _kill: &KillScene<'_>, features: &Features) -> Vec<Finding> {
        let mut findings = Vec::new();
        if let Some(shape) = &features.shape {
            let floor = Bytes(shape.floor as u64);
            findings.push(expects("jump", shape.jump, JUMP, last_moments(shape)));
            findings.push(expects("height", shape.height, HEIGHT, stood_before(shape)));
            if let Some(steady) = shape.steady {
                findings
                    .push(likelihood("curve", steady / 2.0, super::common::curve(steady)).loosely(features));
            }
            let late = match shape.late_growth {
                Some(late) => expects(
                    "late growth",
                    late,
                    LATE_GROWTH,
                    format!(
                        "memory that was never given back grew from {} to {floor}, {} of it in the second half of the work",
                        Bytes(shape.base as u64),
                        percent(late)
                    ),
                ),
                None => odds(
                    "late growth",
                    0.06,
                    1.0,
                    format!("the level that memory always came back to stayed flat at {floor}"),
                ),
            };
            findings.push(late.loosely(features));
        }
        if let Some(share) = features.heap_growth {
            findings.push(expects("heap", share, HEAP_GROWN, super::common::heap_text(share)));
        }
        if let Some(load) = &features.load {
            findings.push(expects(
                "load",
                load.excess,
                EXCESS,
                format!(
                    "{} requests were running at the kill; {:.0} is an ordinary high",
                    load.at_kill, load.ordinary
                ),
            ));
        }
        findings.extend(super::common::reached(features));
        findings.extend(super::common::left_behind(features, LEFT_BEHIND));
        findings.extend(super::common::never_freed(features, NEVER_FREED));
        findings.extend(super::common::not_special(features, FILES));
        findings
    }

    fn summary(&self, incident: &Incident<'_>, features: &[Features]) -> String {
        let grown = mean(features, |f| f.shape.as_ref().map(|shape| shape.floor - shape.base));
        let kills = incident.kills.len();
        let again =
            if kills > 1 { format!(", and again after each restart ({kills} kills)") } else { String::new() };
        match grown {
            Some(grown) => format!(
                "retained memory grew by about {} and was never given back until it met the limit{again}",
                Bytes(grown.max(0.0) as u64)
            ),
            None => format!("retained memory grew until it met the limit{again}"),
        }
    }
}
