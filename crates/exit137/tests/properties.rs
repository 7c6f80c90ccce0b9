//! What every verdict keeps, whatever the case: order, other nodes and the clock change nothing, and what is
//! hidden is missed.

mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use exit137_core::diagnose;
use exit137_core::observation::kubernetes::Kubernetes;
use exit137_core::observation::metric::Subject;
use exit137_core::observation::span::Traces;
use exit137_core::observation::{Observations, SourceKind};
use exit137_core::time::SECOND;
use exit137_core::verdict::Verdict;
use exit137_sources::{NoProgress, ReadOptions, read};
use serde_json::Value;
use support::case::{Case, json};
use support::clock::{shift, shift_json};

/// Each with another kernel log style, another cause, another shape of pod.
const CASES: [&str; 4] =
    ["fleet-export-spike", "ticketing-prefork-leak", "loyalty-rollout-leak", "kubernetes-1.36-recording"];

#[track_caller]
fn assert_same(name: &str, expected: &str, actual: &str) {
    if expected != actual {
        let line = expected.lines().zip(actual.lines()).find(|(a, b)| a != b);
        panic!("{name}: {line:?}, {} and {} bytes", expected.len(), actual.len());
    }
}

/// A shuffle that is the same in every run.
fn shuffle<T>(items: &mut [T], seed: u64) {
    let mut state = seed | 1;
    for last in (1..items.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        items.swap(last, (state >> 33) as usize % (last + 1));
    }
}

#[test]
fn the_order_of_observations_changes_nothing() {
    for name in CASES {
        let case = Case::named(name);
        let expected = json(&case.verdict());
        for seed in [1, 2] {
            let mut seen = case.observations(1);
            shuffle(&mut seen.traces.spans, seed);
            shuffle(&mut seen.metrics.series, seed);
            seen.metrics.series.iter_mut().for_each(|series| shuffle(&mut series.points, seed));
            shuffle(&mut seen.metrics.distributions, seed);
            seen.metrics.distributions.iter_mut().for_each(|series| shuffle(&mut series.points, seed));
            shuffle(&mut seen.logs, seed);
            shuffle(&mut seen.cgroup_samples, seed);
            shuffle(&mut seen.kernel, seed);
            shuffle(&mut seen.boot_times, seed);
            assert_same(&format!("{name}, seed {seed}"), &expected, &json(&diagnose(&seen)));
        }
    }
}

#[test]
fn the_number_of_threads_changes_nothing() {
    for name in CASES {
        let case = Case::named(name);
        let expected = json(&diagnose(&case.observations(1)));
        for threads in [2, 3] {
            let actual = json(&diagnose(&case.observations(threads)));
            assert_same(&format!("{name}, {threads} threads"), &expected, &actual);
        }
    }
}

/// The recorded files of a case, without what is written about it.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("the folder can be read");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    let is_ours = |path: &Path| {
        ["README.md", "truth.yaml", "expected"].iter().any(|name| path.file_name() == Some(name.as_ref()))
    };
    let inside = |path: PathBuf| if path.is_dir() { files(&path) } else { vec![path] };
    paths.into_iter().filter(|path| !is_ours(path)).flat_map(inside).collect()
}

fn read_files(files: &[PathBuf]) -> Observations {
    read(files, &ReadOptions::default(), &NoProgress).expect("the files can be read")
}

#[test]
fn the_order_of_files_changes_nothing() {
    for name in CASES {
        let files = files(&Case::named(name).folder);
        let expected = json(&diagnose(&read_files(&files)));
        for backwards in [false, true] {
            let mut parts: Vec<Observations> =
                files.iter().map(|file| read_files(std::slice::from_ref(file))).collect();
            if backwards {
                parts.reverse();
            }
            let mut seen = Observations::default();
            parts.into_iter().for_each(|part| seen.absorb(part));
            assert_same(&format!("{name}, backwards {backwards}"), &expected, &json(&diagnose(&seen)));
        }
    }
}

#[test]
fn shifting_every_clock_shifts_only_the_times() {
    let by = 3 * 3600 * SECOND;
    for name in CASES {
        let case = Case::named(name);
        let document = |verdict: &Verdict, back: i64| {
            let mut document: Value = serde_json::from_str(&json(verdict)).expect("JSON");
            shift_json(&mut document, back);
            serde_json::to_string_pretty(&document).expect("JSON")
        };
        let mut seen = case.observations(0);
        let expected = document(&diagnose(&seen), 0);
        shift(&mut seen, by);
        assert_same(name, &expected, &document(&diagnose(&seen), -by));
    }
}

/// Every part of a verdict that is about one container, as JSON.
fn parts(verdict: &Verdict) -> BTreeSet<String> {
    let document: Value = serde_json::from_str(&json(verdict)).expect("JSON");
    let lists = ["incidents", "leaks", "not_oom"];
    let items = lists.iter().filter_map(|list| document[list].as_array()).flatten();
    items.map(|item| serde_json::to_string_pretty(item).expect("JSON")).collect()
}

#[test]
fn other_nodes_change_nothing() {
    let pairs = [
        ("fleet-export-spike", "media-transcode-child"),
        ("ticketing-prefork-leak", "kubernetes-1.36-recording"),
        ("loyalty-rollout-leak", "ballot-surge"),
        ("playlist-leak-alive", "presence-healthy"),
    ];
    for (one, other) in pairs {
        let (one_files, other_files) = (files(&Case::named(one).folder), files(&Case::named(other).folder));
        let mut expected = parts(&diagnose(&read_files(&one_files)));
        expected.append(&mut parts(&diagnose(&read_files(&other_files))));
        let together = parts(&diagnose(&read_files(&[one_files, other_files].concat())));
        let name = format!("{one} with {other}");
        assert_eq!(expected.len(), together.len(), "{name}");
        for (expected, actual) in expected.iter().zip(&together) {
            assert_same(&name, expected, actual);
        }
    }
}

/// Cases in which something was killed, so that there are incidents to have gaps.
const KILLED: [&str; 10] = [
    "ballot-surge",
    "feed-node-pressure",
    "fleet-export-spike",
    "loyalty-rollout-leak",
    "media-transcode-child",
    "news-undersized",
    "pricing-startup",
    "scan-intake-tmpfs",
    "shop-catalog-leak",
    "ticketing-prefork-leak",
];

/// A way to make a recording poorer, with its name.
type Hiding = (&'static str, fn(&mut Observations));

const HIDINGS: [Hiding; 6] = [
    ("kernel log", |seen| {
        seen.kernel.clear();
        seen.boot_times.clear();
        seen.counts.remove(&SourceKind::KernelLog);
    }),
    ("Kubernetes", |seen| {
        seen.kubernetes = Kubernetes::default();
        seen.counts.remove(&SourceKind::Kubernetes);
    }),
    ("traces", |seen| {
        seen.traces = Traces::default();
        seen.counts.remove(&SourceKind::Traces);
    }),
    ("container metrics", keep_process_metrics),
    ("cgroup samples", |seen| {
        seen.cgroup_samples.clear();
        seen.counts.remove(&SourceKind::Cgroup);
    }),
    ("all but process metrics", |seen| {
        seen.kernel.clear();
        seen.boot_times.clear();
        seen.kubernetes = Kubernetes::default();
        seen.traces = Traces::default();
        seen.cgroup_samples.clear();
        seen.logs.clear();
        keep_process_metrics(seen);
        seen.counts.retain(|kind, _| *kind == SourceKind::Metrics);
    }),
];

fn keep_process_metrics(seen: &mut Observations) {
    let is_kept = |subject| matches!(subject, Subject::Process | Subject::Runtime);
    seen.metrics.series.retain(|series| is_kept(series.metric.subject));
}

/// What the program still owes: a hidden source without a gap. A star stands for all cases.
const GAPS_OWED: [(&str, &str); 0] = [];

/// What the program still owes: a wrong cause that is called very likely.
const MISTAKES_OWED: [(&str, &str); 0] = [];

/// Nothing may be wrong but what is owed, and what is owed must be wrong: else it is owed no more.
#[track_caller]
fn assert_owed(wrong: &BTreeSet<(&str, &str)>, owed: &[(&str, &str)], text: &str) {
    let is_owed = |hidden: &str, case: &str| owed.contains(&(hidden, case)) || owed.contains(&(hidden, "*"));
    assert!(wrong.iter().all(|(hidden, case)| is_owed(hidden, case)), "{text}");
    let is_wrong = |hidden: &str, case: &str| {
        wrong.iter().any(|(name, of)| *name == hidden && (*of == case || case == "*"))
    };
    for (hidden, case) in owed {
        assert!(is_wrong(hidden, case), "no longer owed: {hidden} hidden from {case}");
    }
}

/// The verdict on each case with each source hidden, with the verdict on everything.
struct Poorer {
    name: &'static str,
    hidden: &'static str,
    verdict: Verdict,
    /// The gaps there are when nothing is hidden.
    gaps_before: BTreeSet<String>,
}

static POORER: LazyLock<Vec<Poorer>> = LazyLock::new(|| {
    let of_case = |name: &'static str| {
        let case = Case::named(name);
        let gaps_before = gaps(&case.verdict());
        HIDINGS.map(|(hidden, hide)| {
            let mut seen = case.observations(0);
            hide(&mut seen);
            Poorer { name, hidden, verdict: diagnose(&seen), gaps_before: gaps_before.clone() }
        })
    };
    KILLED.into_iter().flat_map(of_case).collect()
});

fn gaps(verdict: &Verdict) -> BTreeSet<String> {
    let gaps = verdict.incidents.iter().flat_map(|incident| &incident.gaps);
    gaps.map(|gap| gap.missing.clone()).collect()
}

/// A kill that nobody else saw is missing altogether then; where it was looked for says so.
#[test]
fn a_hidden_source_shows_as_a_gap() {
    let mut wrong = BTreeSet::new();
    let mut text = String::new();
    for Poorer { name, hidden, verdict, gaps_before } in POORER.iter() {
        // A batch job of somebody else has no traces to begin with.
        let is_there = (*hidden, *name) != ("traces", "feed-node-pressure");
        if is_there && !verdict.incidents.is_empty() && gaps(verdict).is_subset(gaps_before) {
            wrong.insert((*hidden, *name));
            text += &format!("{name} without {hidden} has no new gap\n");
        }
    }
    assert_owed(&wrong, &GAPS_OWED, &text);
}

#[test]
fn a_hidden_source_leads_to_no_confident_mistake() {
    let mut wrong = BTreeSet::new();
    let mut text = String::new();
    for Poorer { name, hidden, verdict, .. } in POORER.iter() {
        let truth = Case::named(name).truth().expect("a case with a truth");
        for incident in &verdict.incidents {
            if incident.probability.0 >= 0.9 && !truth.allows(incident.cause.name()) {
                wrong.insert((*hidden, *name));
                text += &format!("{name} without {hidden}: {} is {}\n", truth.cause, incident.headline);
            }
        }
    }
    assert_owed(&wrong, &MISTAKES_OWED, &text);
}
