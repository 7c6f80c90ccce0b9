//! Objects made by hand for every oddity, and excerpts of a real cluster's streams (Kubernetes 1.36, containerd).

use std::collections::BTreeMap;

use exit137_core::observation::Observations;
use exit137_core::observation::kubernetes::{ContainerRole, Event, Pod};
use exit137_core::time::UnixNanos;
use proptest::prelude::*;

use super::*;
use crate::location::Location;

mod documents;
mod objects;
mod recording;
mod trim;
mod yaml;

const PODS: &str = include_str!("../../tests/data/kubernetes/pods.watch.jsonl");
const EVENTS: &str = include_str!("../../tests/data/kubernetes/events.watch.jsonl");
const OTHERS: &str = include_str!("../../tests/data/kubernetes/others.list.json");

const AT: Location<'_> = Location { file: "f.json", line: 7 };

/// Reads one document; the number is of usable records, `None` when it is not Kubernetes at all.
fn read(document: &str) -> (Option<u64>, Observations) {
    let mut observations = Observations::default();
    let usable = decode_json(document.as_bytes(), AT, &mut observations).ok();
    (usable, observations)
}

fn read_lines<'a>(lines: impl IntoIterator<Item = &'a str>) -> Observations {
    let mut observations = Observations::default();
    for (index, line) in lines.into_iter().enumerate() {
        let at = Location { file: "watch.jsonl", line: index + 1 };
        decode_json(line.as_bytes(), at, &mut observations).expect("the recording is sound");
    }
    observations
}

fn problems(observations: &Observations) -> Vec<String> {
    let listed = observations.problems.list().into_iter();
    listed.map(|problem| format!("{}: {}", problem.source, problem.message)).collect()
}

#[track_caller]
fn pod(spec: &str, status: &str) -> Pod {
    let (usable, mut observations) = read(&format!(
        r#"{{"kind":"Pod","apiVersion":"v1","metadata":{{"uid":"u","name":"p","namespace":"n"}},"spec":{spec},"status":{status}}}"#
    ));
    assert_eq!(usable, Some(1));
    assert_eq!(problems(&observations), [""; 0]);
    observations.kubernetes.pods.remove("u").expect("the pod was read")
}

fn time(text: &str) -> Option<UnixNanos> {
    UnixNanos::parse_rfc3339(text)
}
