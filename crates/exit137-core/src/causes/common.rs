//! Findings that several causes share: what an ordinary kill of the main process at the container's own limit
//! looks like from the side.

use super::{Finding, expects, fact, odds, percent};
use crate::features::Features;

/// Share of processes other than the main one, where nothing is wrong with children.
const OTHERS: (f64, f64) = (0.7, 5.0);

/// Findings on files, children, the node and the start, for causes that are none of these.
pub(super) fn not_special(features: &Features, files: (f64, f64)) -> Vec<Finding> {
    let mut findings = ordinary_place(features, files);
    if let Some(served) = features.served {
        // A program that serves has left its start behind.
        let under = match (served, features.running) {
            (3.., _) => 1.0,
            (_, 3..) => 0.6,
            _ => 0.12,
        };
        findings.push(odds(
            "served",
            under,
            0.8,
            format!("only {served} requests had been served in this life"),
        ));
    }
    if features.served.is_none() && features.ready == Some(false) {
        findings.push(odds("served", 0.25, 0.8, "the pod was never seen ready".to_owned()));
    }
    findings.into_iter().map(Finding::aside).collect()
}

/// The same without the start.
pub(super) fn elsewhere(features: &Features, files: (f64, f64)) -> Vec<Finding> {
    ordinary_place(features, files).into_iter().map(Finding::aside).collect()
}

fn ordinary_place(features: &Features, files: (f64, f64)) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(share) = features.files {
        let text = format!(
            "files in memory (tmpfs, dirty pages) took {} of the room above the program's base",
            percent(share)
        );
        findings.push(expects("files", share, files, text));
    }
    match features.child_killed {
        Some(true) => findings.push(odds(
            "victim",
            0.05,
            0.5,
            "the kernel killed a child process, not the program that serves".to_owned(),
        )),
        Some(false) => {
            findings.push(odds("victim", 1.0, 0.9, "the kernel killed the program itself".to_owned()))
        }
        None => {}
    }
    if let Some(share) = features.others {
        let text =
            format!("other processes than the main program held {} of the processes' memory", percent(share));
        findings.push(expects("others", share, OTHERS, text));
    }
    match features.node {
        Some(true) => findings.push(fact(
            "limit",
            0.001,
            0.2,
            "the limit that was hit is the node's, not the container's".to_owned(),
        )),
        Some(false) => findings.push(odds(
            "limit",
            1.0,
            0.9,
            "the limit that was hit is the container's or its pod's".to_owned(),
        )),
        None => {}
    }
    findings
}
