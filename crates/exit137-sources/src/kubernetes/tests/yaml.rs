//! YAML, sound and hostile.

use super::*;

/// Rewrites JSON as YAML in kubectl's block style, so that real objects can be read both ways.
fn as_yaml(value: &serde_json::Value, indent: usize, out: &mut String) {
    use serde_json::Value;
    let pad = " ".repeat(indent);
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                out.push_str(&format!("\n{pad}{key}:"));
                as_yaml(value, indent + 2, out);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                out.push_str(&format!("\n{pad}-"));
                as_yaml(item, indent + 2, out);
            }
        }
        other => out.push_str(&format!(" {other}")),
    }
}

#[test]
fn yaml_is_read_as_the_json_it_stands_for() {
    let mut yaml = String::new();
    for line in PODS.lines() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        yaml.push_str("\n---");
        as_yaml(&event["object"], 0, &mut yaml);
    }
    let list: serde_json::Value = serde_json::from_str(OTHERS).unwrap();
    yaml.push_str("\n--- # the rest");
    as_yaml(&list, 0, &mut yaml);
    let mut observations = Observations::default();
    assert_eq!(decode_yaml(&yaml, AT, &mut observations), 35);
    assert_eq!(problems(&observations), [""; 0]);

    let mut expected = read_lines(PODS.lines());
    decode_json(OTHERS.as_bytes(), AT, &mut expected).unwrap();
    // Only a watch says that a pod was deleted.
    expected.kubernetes.pods.values_mut().for_each(|pod| pod.deleted = false);
    assert_eq!(observations.kubernetes.pods, expected.kubernetes.pods);
    assert_eq!(observations.kubernetes.nodes, expected.kubernetes.nodes);
    assert_eq!(observations.kubernetes.workloads, expected.kubernetes.workloads);
}

#[test]
fn a_broken_yaml_document_costs_itself_alone() {
    let good = "apiVersion: v1\nkind: Pod\nmetadata:\n  uid: u\nspec:\n  containers:\n  - name: a\n    resources:\n      limits:\n        memory: 128974848\n";
    let bomb = format!(
        "a: &a [x,x,x,x,x,x,x,x,x,x]\n{}",
        ('b'..='i')
            .map(|c| {
                let before = (c as u8 - 1) as char;
                format!("{c}: &{c} [{}]\n", vec![format!("*{before}"); 10].join(","))
            })
            .collect::<String>()
    );
    let long = format!("a: &a \"{}\"\nb: [{}]\n", "x".repeat(1000), vec!["*a"; 200].join(","));
    let deep = "[".repeat(100_000);
    let block = "- ".repeat(100_000);
    let cases = [
        ("a: [1\nb: }\n", "f.json:1"),
        ("kind: Pod\n\tapiVersion: v1\n", "f.json:1"),
        (&bomb, "f.json:"),
        (&long, "f.json:"),
        (&deep, "f.json:"),
        (&block, "f.json:"),
        ("just prose\n", "f.json:"),
        ("a: 1\n", "f.json:"),
    ];
    for (bad, place) in cases {
        let mut observations = Observations::default();
        let text = format!("{good}---\n{bad}---\n# nothing\n...\n--- # more\n{good}");
        let usable = decode_yaml(&text, Location { file: "f.json", line: 1 }, &mut observations);
        let name = &bad[..bad.len().min(40)];
        assert_eq!(usable, 2, "{name}: {:?}", problems(&observations));
        assert_eq!(problems(&observations).len(), 1, "{name}: {:?}", problems(&observations));
        assert!(problems(&observations)[0].starts_with(place), "{name}: {:?}", problems(&observations));
        let containers = &observations.kubernetes.pods["u"].containers;
        assert_eq!(containers[0].limit_bytes, Some(128_974_848));
    }
}

#[test]
fn yaml_is_known_by_its_keys_at_the_margin() {
    let cases = [
        ("apiVersion: v1\nkind: Pod\n", true),
        ("kind: Pod\nmetadata:\n  name: x\napiVersion: v1\n", true),
        ("---\n# a comment\n\napiVersion: v1\nitems:\n- apiVersion: v1\n  kind: Pod\n", true),
        ("\u{feff}%YAML 1.2\n---\r\napiVersion: v1\r\nkind: List\r\n", true),
        ("apiVersion: v1\n", false),
        ("kind: Pod\n", false),
        ("# Title\n\nHere is how to write a Pod:\n\napiVersion: v1\nkind: Pod\n", false),
        ("Dear all,\napiVersion: v1\nkind: Pod\n", false),
        ("- apiVersion: v1\n  kind: Pod\n", false),
        ("{\"apiVersion\": \"v1\", \"kind\": \"Pod\"}", false),
        ("[  1.0] oom-killer: kind: x\napiVersion: v1\nkind: x\n", false),
        ("", false),
    ];
    for (head, expected) in cases {
        assert_eq!(looks_like_yaml(head.as_bytes()), expected, "{head:?}");
    }
}
