//! Ordinary requests, too many at once. Each holds its share while it runs; together they hold the limit.
//!
//! - Supported when far more requests than usual were running at the kill and the memory came with them.
//! - Ruled out when the load was ordinary, or a steady rise explains the kill.
//! - Cannot tell when nothing shows what was running: the victim's own spans of that moment died with it.

use super::common::{last_moments, stood_before};
use super::{Examine, Finding, expects};
use crate::features::Features;
use crate::incident::{Incident, KillScene};
use crate::verdict::Cause;

pub(super) struct ConcurrencySurge;

const JUMP: (f64, f64) = (3.0, 1.2);
/// Far from the limit before: it takes many to get there.
const HEIGHT: (f64, f64) = (2.5, 3.0);
/// Several times the ordinary high.
const EXCESS: (f64, f64) = (7.0, 1.6);
/// Requests that run hold the heap.
const LEFT_BEHIND: (f64, f64) = (1.1, 4.0);
const FILES: (f64, f64) = (0.8, 10.0);

impl Examine for ConcurrencySurge {
    fn cause(&self) -> Cause {
        Cause::ConcurrencySurge
    }

    fn prior(&self) -> f64 {
        0.12
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
        }
        findings.extend(super::common::left_behind(features, LEFT_BEHIND));
        findings.extend(super::common::elsewhere(features, FILES));
        findings
    }

    fn summary(&self, _incident: &Incident<'_>, features: &[Features]) -> String {
        match features.iter().rev().find_map(|f| f.load.as_ref()) {
            Some(load) => format!(
                "{} requests were running at once, where {:.0} is an ordinary high",
                load.at_kill, load.ordinary
            ),
            None => "more requests than usual were running at once".to_owned(),
        }
    }
}
