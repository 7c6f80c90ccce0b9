//! What folding must keep, on small pods made by hand and by chance.

use proptest::prelude::*;

use super::*;
use crate::observation::kubernetes::ContainerRole;

fn end(container_id: Option<&str>, finished: i64, exit_code: i32, reason: &str) -> Termination {
    Termination {
        container: "app".to_owned(),
        role: ContainerRole::Main,
        container_id: container_id.map(str::to_owned),
        exit_code,
        reason: Some(reason.to_owned()),
        message: None,
        started_at: None,
        finished_at: (finished > 0).then_some(UnixNanos(finished)),
        restart_count: 0,
    }
}

fn running(container_id: &str, limit_bytes: Option<u64>) -> Running {
    Running {
        container: "app".to_owned(),
        container_id: container_id.to_owned(),
        started_at: UnixNanos(1),
        restart_count: 0,
        limit_bytes,
        image_id: String::new(),
    }
}

fn version(resource_version: u64, change: impl FnOnce(&mut Pod)) -> Pod {
    let mut pod = Pod { uid: "uid".to_owned(), resource_version, ..Pod::default() };
    change(&mut pod);
    pod
}

fn fold(versions: impl IntoIterator<Item = Pod>) -> Pod {
    let mut kubernetes = Kubernetes::default();
    versions.into_iter().for_each(|pod| kubernetes.observe_pod(pod));
    kubernetes.pods.remove("uid").unwrap_or_default()
}

#[test]
fn one_end_told_many_times_is_one() {
    let told = |ends: &[Termination]| {
        let versions = ends.iter().map(|end| version(1, |pod| pod.terminations.push(end.clone())));
        let reasons = fold(versions).terminations.into_iter().map(|end| end.reason.unwrap_or_default());
        reasons.collect::<Vec<_>>()
    };
    let a = Some("a");
    let cases: &[(&str, &[Termination], &[&str])] = &[
        ("the reason improves", &[end(a, 5, 137, "Error"), end(a, 5, 137, "OOMKilled")], &["OOMKilled"]),
        ("and never worsens", &[end(a, 5, 137, "OOMKilled"), end(a, 5, 137, "Error")], &["OOMKilled"]),
        ("an exit code found late", &[end(a, 5, 255, "Unknown"), end(a, 5, 1, "Error")], &["Error"]),
        ("two containers", &[end(a, 5, 1, "Error"), end(Some("b"), 5, 1, "Error")], &["Error", "Error"]),
        ("without an id, the time tells", &[end(None, 5, 1, "Error"), end(None, 5, 1, "Error")], &["Error"]),
        ("two times", &[end(None, 6, 1, "B"), end(None, 5, 1, "A")], &["A", "B"]),
        (
            "made up by the kubelet, two kinds",
            &[end(None, 0, 137, "ContainerStatusUnknown"), end(None, 0, 137, "RestartingAllContainers")],
            &["ContainerStatusUnknown", "RestartingAllContainers"],
        ),
        (
            "an end without an id joins no other",
            &[end(None, 5, 1, "C"), end(a, 5, 1, "A"), end(Some("b"), 5, 1, "B")],
            &["C", "A", "B"],
        ),
    ];
    for (name, ends, expected) in cases {
        assert_eq!(told(ends), *expected, "{name}");
    }
}

#[test]
fn the_limit_of_a_running_container_is_the_newest_seen_while_it_ran() {
    let versions = [
        version(1, |pod| pod.running.push(running("a", Some(100)))),
        version(2, |pod| pod.running.push(running("a", Some(200)))),
        version(3, |pod| pod.running.push(running("a", None))),
        version(4, |_| {}),
    ];
    for order in [[0, 1, 2, 3], [3, 0, 1, 2], [1, 3, 0, 2], [3, 2, 1, 0]] {
        let pod = fold(order.map(|index: usize| versions[index].clone()));
        assert_eq!(pod.running[0].limit_bytes, Some(200), "{order:?}");
    }
}

#[test]
fn the_last_reason_that_was_given_stays_with_its_message() {
    let said = |version_number, reason: &str| {
        version(version_number, |pod| {
            pod.reason = Some(reason.to_owned());
            pod.message = Some(format!("because of {reason}"));
        })
    };
    let versions = [said(1, "NodeLost"), said(2, "Evicted"), version(3, |_| {})];
    for order in [[0, 1, 2], [2, 0, 1], [1, 2, 0]] {
        let pod = fold(order.map(|index: usize| versions[index].clone()));
        assert_eq!(pod.reason.as_deref(), Some("Evicted"), "{order:?}");
        assert_eq!(pod.message.as_deref(), Some("because of Evicted"), "{order:?}");
        assert_eq!(pod.resource_version, 3);
    }
}

#[test]
fn a_second_deletion_shortens_the_grace_period() {
    let deleted = |version_number, at, grace| {
        version(version_number, |pod| {
            pod.deletion_at = Some(UnixNanos(at));
            pod.deletion_grace_seconds = Some(grace);
        })
    };
    for versions in [[deleted(1, 30, 30), deleted(2, 5, 1)], [deleted(2, 5, 1), deleted(1, 30, 30)]] {
        let pod = fold(versions);
        assert_eq!((pod.deletion_at, pod.deletion_grace_seconds), (Some(UnixNanos(5)), Some(1)));
    }
}

#[test]
fn endless_ends_and_kinds_are_bounded() {
    let mut kubernetes = Kubernetes::default();
    for number in 0..TERMINATIONS_MAX as i64 + 10 {
        let id = format!("{number:08}");
        kubernetes.observe_pod(version(1, |pod| {
            pod.terminations.push(end(Some(&id), number + 1, 1, "Error"));
            pod.running.push(Running { started_at: UnixNanos(number), ..running(&id, None) });
        }));
        kubernetes.skip(&format!("Kind{number}"), 1);
    }
    let pod = &kubernetes.pods["uid"];
    assert_eq!(pod.terminations.len(), TERMINATIONS_MAX);
    assert_eq!(pod.terminations[0].container_id.as_deref(), Some("00000010"), "the oldest went");
    assert_eq!(pod.running.len(), TERMINATIONS_MAX);
    assert_eq!(pod.limit_versions.len(), TERMINATIONS_MAX);
    assert_eq!(kubernetes.skipped.len(), SKIPPED_KINDS_MAX + 1);
    assert_eq!(kubernetes.skipped.values().sum::<u64>(), TERMINATIONS_MAX as u64 + 10);
}

#[test]
fn an_event_keeps_every_time_and_the_message_of_the_highest_count() {
    let delivery = |count, at, message: &str| Event {
        uid: "e".to_owned(),
        message: message.to_owned(),
        first_at: Some(UnixNanos(1)),
        last_at: Some(UnixNanos(at)),
        count,
        times: vec![UnixNanos(at), UnixNanos(1)],
        ..Event::default()
    };
    let deliveries = [delivery(1, 1, "first"), delivery(2, 20, "second"), delivery(3, 30, "third")];
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let mut kubernetes = Kubernetes::default();
        order.iter().for_each(|&index: &usize| kubernetes.observe_event(deliveries[index].clone()));
        let event = &kubernetes.events["e"];
        assert_eq!((event.count, event.message.as_str()), (3, "third"));
        assert_eq!(event.times, [1, 20, 30].map(UnixNanos));
        assert_eq!((event.first_at, event.last_at), (Some(UnixNanos(1)), Some(UnixNanos(30))));
    }
}

#[test]
fn the_newest_version_of_a_workload_and_of_a_node_wins() {
    let mut kubernetes = Kubernetes::default();
    for (resource_version, revision, size) in [(5, 1, 50), (9, 2, 90), (7, 2, 70)] {
        kubernetes.observe_workload(Workload {
            uid: "w".to_owned(),
            revision: Some(revision),
            version: Some(size.to_string()),
            resource_version,
            ..Workload::default()
        });
        kubernetes.observe_node(Node {
            name: "n".to_owned(),
            capacity_bytes: Some(size),
            memory_pressure_at: vec![UnixNanos(resource_version as i64)],
            resource_version,
            ..Node::default()
        });
    }
    assert_eq!(kubernetes.workloads["w"].version.as_deref(), Some("90"));
    assert_eq!(kubernetes.nodes["n"].capacity_bytes, Some(90));
    assert_eq!(kubernetes.nodes["n"].memory_pressure_at, [5, 7, 9].map(UnixNanos));
}

prop_compose! {
    /// Few names and numbers, so that versions collide in every way.
    fn any_end()(
        container in "[ab]", id in prop::option::of("[xyz]"), code in prop::sample::select(vec![-1, 0, 137, 255]),
        reason in prop::option::of(prop::sample::select(vec!["Error", "OOMKilled", "StartError"])),
        finished in prop::option::of(1i64..3), started in prop::option::of(1i64..3), restarts in 0u32..3,
    ) -> Termination {
        // A runtime never gives one id to two containers.
        let container_id = id.map(|id| format!("{container}{id}"));
        Termination {
            container,
            role: ContainerRole::Main,
            container_id,
            exit_code: code,
            reason: reason.map(str::to_owned),
            message: None,
            started_at: started.map(UnixNanos),
            finished_at: finished.map(UnixNanos),
            restart_count: restarts,
        }
    }
}

prop_compose! {
    fn any_version()(
        resource_version in 0u64..4, terminations in prop::collection::vec(any_end(), 0..3),
        run in prop::option::of(("[xyz]", prop::option::of(1u64..3), 1i64..3)),
        reason in prop::option::of("[ab]"), message in prop::option::of("[ab]"), phase in prop::option::of("[ab]"),
        deletion in prop::option::of(1i64..3), grace in prop::option::of(1i64..3), deleted: bool,
        ready in prop::option::of(1i64..3), node in prop::option::of("[ab]"), label in "[ab]",
    ) -> Pod {
        version(resource_version, |pod| {
            pod.terminations = terminations;
            pod.running.extend(run.map(|(id, limit, started)| {
                Running { started_at: UnixNanos(started), ..running(&id, limit) }
            }));
            (pod.reason, pod.message, pod.phase) = (reason, message, phase);
            (pod.deletion_at, pod.deletion_grace_seconds) = (deletion.map(UnixNanos), grace);
            (pod.deleted, pod.ready_at, pod.node) = (deleted, ready.map(UnixNanos), node);
            pod.labels.insert("l".to_owned(), label);
        })
    }
}

proptest! {
    #[test]
    fn the_order_of_versions_changes_nothing(
        (versions, shuffled) in prop::collection::vec(any_version(), 0..6)
            .prop_flat_map(|versions| (Just(versions.clone()), Just(versions).prop_shuffle())),
        split in 0usize..6,
    ) {
        let whole = fold(versions);
        prop_assert_eq!(&fold(shuffled.clone()), &whole);
        // Two threads, joined.
        let (ours, theirs) = shuffled.split_at(split.min(shuffled.len()));
        let mut left = Kubernetes::default();
        ours.iter().for_each(|pod| left.observe_pod(pod.clone()));
        let mut right = Kubernetes::default();
        theirs.iter().for_each(|pod| right.observe_pod(pod.clone()));
        left.absorb(right);
        prop_assert_eq!(&left.pods.remove("uid").unwrap_or_default(), &whole);
    }
}
