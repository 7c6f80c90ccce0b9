//! What a document is, and what is left of a broken one.

use super::*;

#[test]
fn every_form_of_document_is_told_apart() {
    let pod = r#"{"kind":"Pod","apiVersion":"v1","metadata":{"uid":"u"}}"#;
    let late = r#"{"metadata":{"uid":"u"},"apiVersion":"v1","kind":"Pod"}"#;
    let cases = [
        (pod.to_owned(), true, Some(1)),
        (late.to_owned(), true, Some(1)),
        (format!(r#"{{"type":"ADDED","object":{pod}}}"#), true, Some(1)),
        (format!(r#"{{"object":{pod},"type":"DELETED"}}"#), true, Some(1)),
        (
            r#"{"type":"BOOKMARK","object":{"kind":"Pod","apiVersion":"v1","metadata":{}}}"#.to_owned(),
            true,
            Some(0),
        ),
        (
            r#"{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","code":410}}"#.to_owned(),
            true,
            Some(0),
        ),
        (format!(r#"{{"kind":"List","apiVersion":"v1","items":[{pod},{late}]}}"#), true, Some(2)),
        (format!(r#"{{"apiVersion":"v1","items":[{pod}],"kind":"List","metadata":{{}}}}"#), true, Some(1)),
        (format!(r#"{{"items":[{pod}]}}"#), true, Some(1)),
        (
            r#"{"kind":"PodList","apiVersion":"v1","items":[{"metadata":{"uid":"u"}}]}"#.to_owned(),
            true,
            Some(1),
        ),
        (r#"{"kind":"PodList","apiVersion":"v1","items":[]}"#.to_owned(), true, Some(0)),
        (r#"{"kind":"PodList","apiVersion":"v1","items":null}"#.to_owned(), true, Some(0)),
        (r#"{"kind":"Table","apiVersion":"meta.k8s.io/v1","rows":[]}"#.to_owned(), true, Some(0)),
        (format!("\u{feff}{pod}\n"), false, Some(1)),
        (r#"{"resourceSpans":[{"kind":"x"}]}"#.to_owned(), false, None),
        (r#"{"kind":"Pod"}"#.to_owned(), false, Some(0)),
        (r#"{"items":[{"id":1}]}"#.to_owned(), false, Some(0)),
        (r#"{"type":"Normal"}"#.to_owned(), false, None),
        ("{}".to_owned(), false, None),
        ("[]".to_owned(), false, None),
        ("null".to_owned(), false, None),
        ("".to_owned(), false, None),
        ("plain text".to_owned(), false, None),
        (r#"{"kind":"#.to_owned(), false, None),
    ];
    for (document, hint, usable) in cases {
        assert_eq!(object_kind_hint(document.as_bytes()), hint, "hint of {document}");
        assert_eq!(read(&document).0, usable, "usable of {document}");
    }
}

#[test]
fn the_head_of_a_long_list_is_enough_to_know_it() {
    for document in [OTHERS, PODS.lines().next().unwrap(), EVENTS.lines().next().unwrap()] {
        assert!(object_kind_hint(&document.as_bytes()[..500]));
    }
}

#[test]
fn kinds_are_read_or_counted() {
    let cases = [
        ("v1", "Pod", "pod"),
        ("v1", "Node", "node"),
        ("v1", "Event", "event"),
        ("events.k8s.io/v1", "Event", "event"),
        ("apps/v1", "ReplicaSet", "workload"),
        ("apps/v1", "Deployment", "workload"),
        ("apps/v1", "StatefulSet", "workload"),
        ("apps/v1", "DaemonSet", "workload"),
        ("batch/v1", "Job", "workload"),
        ("batch/v1", "CronJob", "workload"),
        ("extensions/v1beta1", "Deployment", "workload"),
        ("v1", "ConfigMap", "skipped"),
        ("batch.volcano.sh/v1alpha1", "Job", "skipped"),
        ("eventing.example.org/v1", "Event", "skipped"),
    ];
    for (version, kind, expected) in cases {
        let (usable, observations) = read(&format!(
            r#"{{"apiVersion":"{version}","kind":"{kind}","metadata":{{"uid":"u","name":"x"}},"reason":"Killing"}}"#
        ));
        let kubernetes = observations.kubernetes;
        let found = [
            ("pod", kubernetes.pods.len()),
            ("node", kubernetes.nodes.len()),
            ("event", kubernetes.events.len()),
            ("workload", kubernetes.workloads.len()),
            ("skipped", kubernetes.skipped.get(kind).copied().unwrap_or(0) as usize),
        ];
        let found: Vec<_> = found.iter().filter(|(_, count)| *count > 0).map(|(name, _)| *name).collect();
        assert_eq!(found, [expected], "{version} {kind}");
        assert_eq!(usable, Some(u64::from(expected != "skipped")), "{version} {kind}");
    }
}

#[test]
fn manifests_that_no_cluster_has_seen_are_counted() {
    let (usable, observations) =
        read(r#"{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"x"}}"#);
    assert_eq!(usable, Some(0));
    assert_eq!(observations.kubernetes.skipped["Deployment without uid"], 1);
}

#[test]
fn a_bad_item_costs_itself_alone_and_has_its_own_line() {
    let good = |uid: &str| format!(r#"{{"kind":"Pod","apiVersion":"v1","metadata":{{"uid":"{uid}"}}}}"#);
    let list = |items: &[&str], end: &str| {
        format!("{{\"apiVersion\":\"v1\",\n\"kind\":\"List\",\n\"items\":[\n{}\n{end}", items.join(",\n"))
    };
    let (a, b) = (good("a"), good("b"));
    let deep = r#"{"kind":"List","apiVersion":"v1","items":["#.repeat(50) + &"]}".repeat(50);
    let cases = [
        (list(&[&a, "17", &b], "]}"), 2, Some("f.json:11: expected a Kubernetes object: ")),
        (list(&[&a, "null", &b], "]}"), 2, None),
        (
            list(&[&a, "{}", &b], "]}"),
            2,
            Some("f.json:11: expected a Kubernetes object with `kind` and `apiVersion`"),
        ),
        (
            list(&[&a, r#"{"kind":"Pod","apiVersion":"v1","metadata":[]}"#, &b], "]}"),
            2,
            Some("f.json:11: Pod: expected an object in `metadata`"),
        ),
        (list(&[&a, &deep, &b], "]}"), 2, Some("f.json:11: lists in lists are not read so deep")),
        (list(&[&a, &b], ""), 2, Some("f.json:12: the list breaks off, only the items before are read: ")),
        (list(&[&a, &b, r#"{"kind":"Pod","#], ""), 2, Some("f.json:13: the list breaks off")),
        (list(&[&a, &list(&[&b], "]}")], "]}"), 2, None),
    ];
    for (document, usable, problem) in cases {
        let (found, observations) = read(&document);
        assert_eq!(found, Some(usable), "{document}");
        assert_eq!(observations.kubernetes.pods.len(), 2, "{document}");
        let problems = problems(&observations);
        let first = problems.first().map(String::as_str);
        assert!(first.unwrap_or("").starts_with(problem.unwrap_or("")), "{document}\n{problems:?}");
        assert_eq!(problems.len(), usize::from(problem.is_some()), "{problems:?}");
    }
    let (_, observations) = read(
        "{\"kind\":\"PodList\",\"apiVersion\":\"v1\",\"items\":[\n\"text\",{\"metadata\":{\"uid\":\"a\"}}]}",
    );
    assert_eq!(problems(&observations), ["f.json:8: Pod: expected an object, found text"]);
    assert_eq!(observations.kubernetes.pods.len(), 1);
}

#[test]
fn an_ended_watch_and_broken_text_are_said() {
    let status = r#"{"kind":"Status","apiVersion":"v1","message":"too old resource version","reason":"Expired","code":410}"#;
    let cases = [
        (
            format!(r#"{{"type":"ERROR","object":{status}}}"#).into_bytes(),
            "f.json:7: watch: the API server ended it (410, Expired, too old resource version): later changes are missing",
        ),
        (
            br#"{"type":"PATCHED","object":{}}"#.to_vec(),
            "f.json:7: expected a watch event of type ADDED, MODIFIED or DELETED, found \"PATCHED\"",
        ),
        (
            b"{\"kind\":\"Pod\",\"apiVersion\":\"v1\",\"metadata\":{\"uid\":\"u\",\"name\":\"\xff\"}}"
                .to_vec(),
            "f.json:7: expected UTF-8: other bytes were replaced",
        ),
    ];
    for (document, expected) in cases {
        let mut observations = Observations::default();
        decode_json(&document, AT, &mut observations).unwrap();
        assert_eq!(problems(&observations), [expected]);
    }
}
