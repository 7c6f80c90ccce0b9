//! Findings that several causes share: what an ordinary kill of the main process at the container's own limit
//! looks like from the side.

use super::{Finding, expects, fact, likelihood, odds, percent};
use crate::bytes::Bytes;
use crate::features::{Features, Shape};

/// Share of processes other than the main one, where nothing is wrong with children.
const OTHERS: (f64, f64) = (0.7, 5.0);

/// What growth there was, was early.
const EARLY_GROWTH: (f64, f64) = (1.2, 7.0);
/// The heap after collections hardly grew.
const HEAP_STEADY: (f64, f64) = (0.9, 3.5);

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

/// A steady rise ends at the limit, not short of it.
pub(super) fn reached(features: &Features) -> Option<Finding> {
    let share = features.shortfall?;
    let text = format!(
        "the container was still {} of its own limit short of it, and nothing tells whose limit was hit",
        percent(share)
    );
    Some(expects("shortfall", share, (1.0, 60.0), text).aside())
}

/// Before the end nothing rose for long: what growth there was came early, as a start and a filling cache bring it.
pub(super) fn no_trend(features: &Features) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(shape) = &features.shape {
        let floor = Bytes(shape.floor as u64);
        if let Some(steady) = shape.steady {
            findings.push(likelihood("curve", -steady / 2.0, curve(steady)).loosely(features));
        }
        let late = match shape.late_growth {
            Some(late) => expects(
                "late growth",
                late,
                EARLY_GROWTH,
                format!("of what memory grew by, {} came in the second half of the work", percent(late)),
            ),
            None => odds("late growth", 2.0, 1.0, format!("memory stayed level at {floor}")),
        };
        findings.push(late.loosely(features));
    }
    if let Some(share) = features.heap_growth {
        findings.push(expects("heap", share, HEAP_STEADY, heap_text(share)));
    }
    findings
}

/// The same for a demand that comes at the end: it may take longer to build up than the last moments are long, and
/// then its beginning looks like late growth.
pub(super) fn no_trend_before(features: &Features) -> Vec<Finding> {
    const BUILDING_UP: f64 = -0.3;
    let bounded = |finding: Finding| match finding.name {
        "late growth" | "curve" => Finding { nats: finding.nats.max(BUILDING_UP), ..finding },
        _ => finding,
    };
    no_trend(features).into_iter().map(bounded).collect()
}

/// What memory did in the last moments, in words.
pub(super) fn last_moments(shape: &Shape) -> String {
    let (floor, ceiling) = (Bytes(shape.floor as u64), Bytes(shape.ceiling as u64));
    let how = match shape.jump {
        jump if jump < 0.15 => "about as it had moved before".to_owned(),
        jump => format!("which took {} of the room it had", percent(jump)),
    };
    format!("in the last moments memory went from {floor} to {ceiling}, {how}")
}

/// Where it stood before, in words.
pub(super) fn stood_before(shape: &Shape) -> String {
    let floor = Bytes(shape.floor as u64);
    format!("before the last moments it stood at {floor}, {} of the limit", percent(shape.height))
}

/// How the floor rose, in words.
pub(super) fn curve(steady: f64) -> String {
    let how = if steady > 0.0 {
        "in step with the work"
    } else {
        "fast at first and slower later as a cache fills, or with the requests of the moment"
    };
    format!("the memory that was kept rose {how}")
}

/// What the heap after collections tells, in words.
pub(super) fn heap_text(share: f64) -> String {
    format!("what the collector left alive in the heap makes up {} of the growth", percent(share))
}

/// Whose the live heap was: of requests that were over, or of those still running. Only a journal tells.
pub(super) fn left_behind(features: &Features, expected: (f64, f64)) -> Option<Finding> {
    let share = features.left_behind?;
    let text = format!(
        "by the process's own journal, requests that were over had left {} of its live heap behind",
        percent(share)
    );
    Some(expects("left behind", share, expected, text))
}

/// Whether anything that finished requests left behind was ever given back.
pub(super) fn never_freed(features: &Features, expected: (f64, f64)) -> Option<Finding> {
    let share = features.never_freed?;
    let text = format!(
        "of all that was ever allocated at the place that holds the most, {} is still live",
        percent(share)
    );
    Some(expects("never freed", share, expected, text))
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
