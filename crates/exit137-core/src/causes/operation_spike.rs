//! One execution, or very few, of one operation needs far more than the rest: an export of everything, a file
//! read whole. Ordinary requests of the same operation are harmless.
//!
//! - Supported when most of the room went in a final jump while the load was ordinary, best with a rare or
//!   long-running request in flight.
//! - Ruled out when a steady rise explains the kill.
//! - Cannot tell when the last moments were not measured.

use super::common::{last_moments, stood_before};
use super::{Examine, Finding, expects, odds, percent};
use crate::bytes::Bytes;
use crate::features::Features;
use crate::incident::{Incident, KillScene};
use crate::verdict::Cause;

pub(super) struct OperationSpike;

/// Most of the room goes in the final part.
const JUMP: (f64, f64) = (4.0, 1.15);
/// The level before is anything but close to the limit.
const HEIGHT: (f64, f64) = (2.0, 3.0);
/// The number of requests is ordinary: it is not about many.
const EXCESS: (f64, f64) = (2.0, 3.2);
/// Something unusual is running.
const RAREST: (f64, f64) = (6.0, 1.0);
/// Requests that run hold the heap.
const LEFT_BEHIND: (f64, f64) = (1.1, 4.0);
const FILES: (f64, f64) = (0.8, 10.0);

impl Examine for OperationSpike {
    fn cause(&self) -> Cause {
        Cause::OperationSpike
    }

    fn prior(&self) -> f64 {
        0.14
    }

    fn examine(&self, _kill: &KillScene<'_>, features: &Features) -> Vec<Finding> {
        let mut findings = Vec::new();
        if let Some(shape) = &features.shape {
            findings.push(expects("jump", shape.jump, JUMP, last_moments(shape)));
            findings.push(expects("height", shape.height, HEIGHT, stood_before(shape)));
        }
        findings.extend(super::common::no_trend_before(features));
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
            if load.rarest_operation.is_some() {
                findings.push(expects(
                    "rarest",
                    load.rarest,
                    RAREST,
                    format!(
                        "a request was running that otherwise runs that long in {} of the time",
                        percent(1.0 - load.rarest)
                    ),
                ));
            } else if load.top_operation.is_none() && load.at_kill == 0 {
                findings.push(odds(
                    "rarest",
                    0.15,
                    1.0,
                    "no request is known to have been running".to_owned(),
                ));
            }
        }
        findings.extend(super::common::left_behind(features, LEFT_BEHIND));
        findings.extend(super::common::not_special(features, FILES));
        findings
    }

    fn summary(&self, _incident: &Incident<'_>, features: &[Features]) -> String {
        match features.last().and_then(|f| f.shape.as_ref()) {
            Some(shape) => format!(
                "memory stood at {} and jumped to {} in the last moments, with no more requests running than usual",
                Bytes(shape.floor as u64),
                Bytes(shape.ceiling as u64)
            ),
            None => "something unusually large was running at the kill".to_owned(),
        }
    }
}
