//! Excerpts of a real cluster's streams, whole, shuffled and damaged.

use super::*;

#[test]
fn nodes_and_workloads_of_a_real_cluster_are_read() {
    let (usable, observations) = read(OTHERS);
    assert_eq!(usable, Some(5));
    assert_eq!(problems(&observations), [""; 0]);
    let kubernetes = observations.kubernetes;
    let node = &kubernetes.nodes["node-1"];
    assert_eq!((node.capacity_bytes, node.allocatable_bytes), (Some(25_276_063_744), Some(580_001_792)));
    assert_eq!(node.boot_id.as_deref(), Some("563904e5-761d-4343-a132-bdc321ef6d40"));
    assert_eq!(node.memory_pressure_at, [time("2026-11-22T08:59:51Z").unwrap()]);
    let workload = |name: &str| kubernetes.workloads.values().find(|workload| workload.name == name).unwrap();
    let old = workload("checkout-cbb856d54");
    assert_eq!(
        (old.kind.as_str(), old.revision, old.version.as_deref()),
        ("ReplicaSet", Some(1), Some("1.4.2"))
    );
    assert_eq!(old.template_hash.as_deref(), Some("cbb856d54"));
    assert_eq!(old.owner.as_ref().map(|owner| owner.uid.as_str()), Some(workload("checkout").uid.as_str()));
    let images = ["app", "proxy"].map(|name| (name.to_owned(), "localhost/box:1".to_owned()));
    assert_eq!(old.images, images);
    assert_eq!(workload("nightly-report").kind, "Job");
}

/// Each kind of end in pod `name`, and how often.
fn ends(observations: &Observations, name: &str) -> Vec<String> {
    let pod = observations.kubernetes.pods.values().find(|pod| pod.name == name).unwrap();
    let mut counts = BTreeMap::new();
    for end in &pod.terminations {
        let reason = end.reason.as_deref().unwrap_or_default();
        let kind = format!("{} {:?} {reason}/{}", end.container, end.role, end.exit_code);
        *counts.entry(kind).or_insert(0) += 1;
    }
    counts.into_iter().map(|(kind, count)| format!("{count} x {kind}")).collect()
}

#[test]
fn the_ends_of_a_real_cluster_are_each_counted_once() {
    let observations = read_lines(PODS.lines().chain(PODS.lines()));
    assert_eq!(problems(&observations), [""; 0]);
    let cases: [(&str, &[&str]); 6] = [
        ("checkout-cbb856d54-blpbb", &["5 x app Main OOMKilled/137", "1 x proxy Main Error/137"]),
        (
            "uploader",
            &[
                "1 x app Main ContainerStatusUnknown/137",
                "1 x app Main OOMKilled/137",
                "4 x app Main StartError/128",
            ],
        ),
        (
            "catalog",
            &[
                "1 x app Main Error/137",
                "1 x log-shipper Sidecar ContainerStatusUnknown/137",
                "5 x log-shipper Sidecar OOMKilled/137",
            ],
        ),
        ("nightly-report-9xffd", &["1 x report Main OOMKilled/137"]),
        ("thumbnailer", &["1 x app Main OOMKilled/137"]),
        ("steady", &["1 x app Main ContainerStatusUnknown/137"]),
    ];
    for (name, expected) in cases {
        assert_eq!(ends(&observations, name), expected, "{name}");
    }
    let pod = |name: &str| observations.kubernetes.pods.values().find(|pod| pod.name == name).unwrap();
    assert!(pod("checkout-cbb856d54-blpbb").deleted);
    assert_eq!(pod("uploader").memory_volumes, [("scratch".to_owned(), None)]);
    assert_eq!(pod("steady").reason.as_deref(), Some("Evicted"));
    assert_eq!(pod("steady").disruptions.len(), 1);
    assert_eq!(pod("thumbnailer").restart_counts["app"], 0);
}

#[test]
fn events_of_a_real_cluster_are_sifted() {
    let observations = read_lines(EVENTS.lines());
    assert_eq!(problems(&observations), [""; 0]);
    let kubernetes = observations.kubernetes;
    let mut reasons: Vec<_> = kubernetes.events.values().map(|event| event.reason.as_str()).collect();
    reasons.sort_unstable();
    reasons.dedup();
    let expected = [
        "BackOff",
        "Evicted",
        "EvictionThresholdMet",
        "Failed",
        "Killing",
        "NodeHasInsufficientMemory",
        "NodeHasSufficientMemory",
        "ScalingReplicaSet",
        "Started",
        "Unhealthy",
    ];
    assert_eq!(reasons, expected);
    assert!(kubernetes.skipped["Event"] > 0);
    assert!(kubernetes.events.values().all(|event| event.last_at.is_some() && !event.object_name.is_empty()));
}

proptest! {
    #[test]
    fn the_order_of_a_real_watch_changes_nothing(order in Just((0..30usize).collect::<Vec<_>>()).prop_shuffle()) {
        let lines: Vec<&str> = PODS.lines().collect();
        prop_assert_eq!(lines.len(), order.len());
        let shuffled = read_lines(order.iter().map(|&index| lines[index]));
        let straight = read_lines(lines);
        prop_assert_eq!(shuffled.kubernetes.pods, straight.kubernetes.pods);
    }

    #[test]
    fn any_bytes_are_survived(bytes: Vec<u8>, text in "[\\[\\]{}:,\"a-z0-9 \n&*|>-]{0,200}") {
        for input in [bytes.as_slice(), text.as_bytes()] {
            let mut observations = Observations::default();
            let _ = decode_json(input, AT, &mut observations);
            let _ = object_kind_hint(input);
            let _ = looks_like_yaml(input);
            decode_yaml(&String::from_utf8_lossy(input), AT, &mut observations);
        }
    }

    #[test]
    fn flipped_bytes_of_real_objects_are_survived(
        line in 0usize..30, flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let documents = [PODS.lines().nth(line), EVENTS.lines().nth(line), Some(OTHERS)];
        for document in documents.into_iter().flatten() {
            let mut bytes = document.as_bytes().to_vec();
            for (place, byte) in &flips {
                let place = place.index(bytes.len());
                bytes[place] = *byte;
            }
            let mut observations = Observations::default();
            let _ = decode_json(&bytes, AT, &mut observations);
            decode_yaml(&String::from_utf8_lossy(&bytes), AT, &mut observations);
        }
    }
}
