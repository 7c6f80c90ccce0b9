//! The steady need, warm-up included, sits too near the limit. No trend, no culprit: an ordinary busy moment
//! takes the rest.
//!
//! - Supported when memory had levelled off high, and what came on top is of the size seen before.
//! - Ruled out when it stood far below the limit, or was still rising as fast as ever.
//! - Cannot tell when too little of the life was measured.

use super::common::{last_moments, stood_before};
use super::{Examine, Finding, expects, percent};
use crate::bytes::Bytes;
use crate::features::Features;
use crate::incident::{Incident, KillScene};
use crate::verdict::Cause;

pub(super) struct UndersizedLimit;

/// The level before the end is high.
const HEIGHT: (f64, f64) = (9.0, 2.2);
/// Some of the room goes at the end beyond the ordinary swing, not all of it.
const JUMP: (f64, f64) = (1.2, 2.4);
/// Busy, within or somewhat above the ordinary.
const EXCESS: (f64, f64) = (3.2, 2.4);
/// The steady need is the program's own more than that of requests that are over: its base, and caches at their bounds.
const LEFT_BEHIND: (f64, f64) = (1.2, 2.5);
/// A cache at its bound gives back as much as it takes; one that holds all there is gives nothing back either.
const NEVER_FREED: (f64, f64) = (1.5, 1.4);
const FILES: (f64, f64) = (0.8, 9.0);

impl Examine for UndersizedLimit {
    fn cause(&self) -> Cause {
        Cause::UndersizedLimit
    }

    fn prior(&self) -> f64 {
        0.14
    }

    fn examine(&self, _kill: &KillScene<'_>, features: &Features) -> Vec<Finding> {
        let mut findings = Vec::new();
        if let Some(shape) = &features.shape {
            findings.push(expects("height", shape.height, HEIGHT, stood_before(shape)));
            findings.push(expects("jump", shape.jump, JUMP, last_moments(shape)));
        }
        findings.extend(super::common::no_trend(features));
        if let Some(load) = &features.load {
            let text = format!(
                "{} requests were running at the kill; {:.0} is an ordinary high",
                load.at_kill, load.ordinary
            );
            // A collector or a timer may take the rest in a moment in which nothing is asked.
            findings.push(expects("load", load.excess, EXCESS, text).at_least(-1.2));
        }
        findings.extend(super::common::reached(features));
        findings.extend(super::common::left_behind(features, LEFT_BEHIND));
        findings.extend(super::common::never_freed(features, NEVER_FREED));
        findings.extend(super::common::not_special(features, FILES));
        findings
    }

    fn summary(&self, _incident: &Incident<'_>, features: &[Features]) -> String {
        match features.last().and_then(|f| f.shape.as_ref()) {
            Some(shape) => format!(
                "memory had levelled off at {}, {} of the limit, and an ordinary busy moment took the rest",
                Bytes(shape.floor as u64),
                percent(shape.height)
            ),
            None => "the steady need sits too near the limit".to_owned(),
        }
    }
}
