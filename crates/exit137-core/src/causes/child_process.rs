//! A process that the program started (a converter, a browser, a compiler) grew and was killed, or took the
//! memory for which the program was killed. The program may live on, and Kubernetes may see nothing.
//!
//! - Supported when the victim is not the main program, or other processes held most of the memory.
//! - Ruled out when the main program was killed and held the memory itself.
//! - Cannot tell without the kernel's report or samples of processes.

use super::{Examine, Finding, expects, fact, odds, percent};
use crate::features::Features;
use crate::incident::{Incident, KillScene};
use crate::verdict::Cause;

pub(super) struct ChildProcess;

const OTHERS: (f64, f64) = (2.2, 1.2);
/// A child that fills a tmpfs is the files' fault.
const FILES: (f64, f64) = (0.8, 8.0);

impl Examine for ChildProcess {
    fn cause(&self) -> Cause {
        Cause::ChildProcess
    }

    fn prior(&self) -> f64 {
        0.08
    }

    fn examine(&self, kill: &KillScene<'_>, features: &Features) -> Vec<Finding> {
        let mut findings = Vec::new();
        let comm = kill.record.kill.victim.comm.as_deref().unwrap_or("a process");
        match features.child_killed {
            Some(true) => findings.push(odds(
                "victim",
                0.9,
                0.05,
                format!("the kernel killed {comm}, which is not the main program"),
            )),
            // The kernel takes the largest process, which need not be one of those that left no room.
            Some(false) => findings.push(odds(
                "victim",
                if features.others.is_some_and(|share| share > 0.5) { 0.4 } else { 0.1 },
                0.9,
                format!("the kernel killed {comm}, the program itself"),
            )),
            None if kill.role == crate::incident::VictimRole::Twin => findings.push(odds(
                "victim",
                0.6,
                0.2,
                format!(
                    "the kernel killed a second process {comm}: a helper, or the only worker of a server"
                ),
            )),
            None => {}
        }
        if let Some(share) = features.others {
            findings.push(expects(
                "others",
                share,
                OTHERS,
                format!(
                    "other processes than the main program held {} of the processes' memory",
                    percent(share)
                ),
            ));
        }
        if let Some(share) = features.files {
            findings.push(expects(
                "files",
                share,
                FILES,
                format!(
                    "files in memory (tmpfs, dirty pages) took {} of the room above the program's base",
                    percent(share)
                ),
            ));
        }
        if features.node == Some(true) {
            findings.push(fact(
                "limit",
                0.001,
                0.2,
                "the limit that was hit is the node's, not the container's".to_owned(),
            ));
        }
        findings
    }

    fn summary(&self, incident: &Incident<'_>, _features: &[Features]) -> String {
        let latest = incident.latest();
        let comm = latest.record.kill.victim.comm.as_deref().unwrap_or("a child process");
        let main = latest.role == crate::incident::VictimRole::Main;
        match latest.record.kill.container_survived {
            _ if main => format!(
                "processes beside the main program held most of the memory; the kernel killed {comm} for it"
            ),
            Some(true) => {
                format!("the child process {comm} grew and was killed; the program itself lived on")
            }
            _ => format!("the child process {comm} grew and was killed"),
        }
    }
}
