//! What is trimmed reads the same as what came.

use serde_json::Value;

use super::*;

/// Every field that the decoders read, and around them what they do not.
const POD: &str = r#"{
  "metadata": {
    "name": "p", "namespace": "n", "uid": "u", "resourceVersion": "7", "generation": 3,
    "creationTimestamp": "2026-11-22T08:00:00Z", "deletionTimestamp": "2026-11-22T09:00:00Z",
    "deletionGracePeriodSeconds": 30, "labels": {"app": "a", "b": ""},
    "annotations": {"kubernetes.io/config.hash": "h", "resource.opentelemetry.io/service.name": "s",
      "kubectl.kubernetes.io/last-applied-configuration": "{\"password\":\"hunter2\"}"},
    "managedFields": [{"manager": "kubelet", "fieldsV1": {"f:status": {}}}],
    "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "o", "controller": true}]
  },
  "spec": {
    "nodeName": "node-1", "hostname": "h", "hostNetwork": true, "serviceAccountName": "default",
    "containers": [{
      "name": "c", "image": "i", "command": ["java", "-Xmx2g"], "args": ["a\u0000\"\\b"],
      "env": [{"name": "PASSWORD", "value": "hunter2"}, {"name": "GOGC", "value": "50"}, null,
        {"name": "GOMEMLIMIT", "value": "1GiB"}, {"name": "GOMEMLIMIT", "valueFrom": {"secretKeyRef": {"key": "k"}}}],
      "resources": {"limits": {"memory": "208Mi", "cpu": "1"}, "requests": {"memory": 134217728}},
      "livenessProbe": {"httpGet": {"path": "/healthz", "httpHeaders": [{"name": "Authorization", "value": "hunter2"}]}}
    }],
    "initContainers": [{"name": "s", "restartPolicy": "Always", "startupProbe": {}}],
    "ephemeralContainers": [{"name": "e"}],
    "resources": {"limits": {"memory": "1Gi"}},
    "volumes": [{"name": "v", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}}, {"name": "w", "secret": {}}]
  },
  "status": {
    "phase": "Failed", "reason": "Evicted", "message": "short of memory", "podIP": "10.0.0.1",
    "conditions": [
      {"type": "Ready", "status": "True", "lastTransitionTime": "2026-11-22T08:00:05Z"},
      {"type": "DisruptionTarget", "status": "True", "reason": "r", "lastTransitionTime": "2026-11-22T08:00:06Z"}],
    "containerStatuses": [{
      "name": "c", "containerID": "containerd://1", "imageID": "sha256:2", "restartCount": 4, "ready": false,
      "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "m"}},
      "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled", "message": "m",
        "startedAt": "2026-11-22T08:00:00Z", "finishedAt": "2026-11-22T08:30:00Z", "containerID": "containerd://0"}},
      "resources": {"limits": {"memory": "208Mi"}}}],
    "initContainerStatuses": [{"name": "s", "containerID": "containerd://3",
      "state": {"running": {"startedAt": "2026-11-22T08:00:01Z"}}}],
    "ephemeralContainerStatuses": [{"name": "e", "state": {}}]
  }
}"#;

/// As it came, and as it is after trimming.
#[track_caller]
fn both(object: &str, kind: &str, api_version: &str) -> (Observations, Option<Observations>) {
    let mut value: Value = serde_json::from_str(object).unwrap();
    (value["kind"], value["apiVersion"]) = (kind.into(), api_version.into());
    let (usable, came) = read(&value.to_string());
    assert_eq!(usable, Some(1), "{object}");
    let kept = match trim(object, kind, api_version) {
        Ok(trimmed) => {
            assert!(trimmed.json.len() <= object.len() + 64, "{object}");
            let (usable, kept) = read(std::str::from_utf8(&trimmed.json).unwrap());
            assert_eq!(usable, Some(1), "{object}");
            Some(kept)
        }
        Err(NotKept::Irrelevant) => None,
        Err(error) => panic!("{error}: {object}"),
    };
    (came, kept)
}

#[track_caller]
fn check(object: &str, kind: &str, api_version: &str) {
    let (came, kept) = both(object, kind, api_version);
    let Some(kept) = kept else {
        assert_eq!(came.kubernetes.skipped["Event"], 1, "{object}");
        return;
    };
    let (came, kept) = (came.kubernetes, kept.kubernetes);
    assert_eq!(came.pods, kept.pods);
    assert_eq!(came.events, kept.events);
    assert_eq!(came.nodes, kept.nodes);
    assert_eq!(came.workloads, kept.workloads);
}

#[test]
fn real_objects_read_the_same_after_trimming() {
    for line in PODS.lines().chain(EVENTS.lines()) {
        let event: Value = serde_json::from_str(line).unwrap();
        let text = |key: &str| event["object"][key].as_str().unwrap();
        check(&event["object"].to_string(), text("kind"), text("apiVersion"));
    }
    let others: Value = serde_json::from_str(OTHERS).unwrap();
    for object in others["items"].as_array().unwrap() {
        check(&object.to_string(), object["kind"].as_str().unwrap(), object["apiVersion"].as_str().unwrap());
    }
}

#[test]
fn a_pod_that_sets_everything_reads_the_same_and_loses_its_secrets() {
    check(POD, "Pod", "v1");
    let trimmed = trim(POD, "Pod", "v1").unwrap();
    let json = String::from_utf8(trimmed.json).unwrap();
    assert_eq!((trimmed.namespace.as_str(), trimmed.name.as_str(), trimmed.uid.as_str()), ("n", "p", "u"));
    assert_eq!(trimmed.resource_version, "7");
    for gone in ["hunter2", "PASSWORD", "managedFields", "httpGet", "podIP", "cpu"] {
        assert!(!json.contains(gone), "{gone} in {json}");
    }
}

#[test]
fn what_the_decoders_read_is_what_is_kept() {
    let (read, kept) = (include_str!("../wire.rs"), include_str!("../trim.rs"));
    let fields = read.lines().filter_map(|line| line.trim().strip_suffix(',')?.split_once(": "));
    let mut names: Vec<String> = fields.map(|(field, _)| camel_case(field)).collect();
    names.extend(read.split("rename = \"").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()));
    // Renamed, a marker, of the API server's own errors, and of environment variables, which have their own test.
    let others = ["containerId", "imageId", "bootId", "nothing", "code", "value"];
    names.retain(|name| !others.contains(&name.as_str()));
    assert!(names.len() > 80, "the fields were not found: {names:?}");
    for name in names {
        assert!(
            kept.contains(&format!("(\"{name}\", ")) || kept.contains(&format!("\"{name}\",\n")),
            "{name}"
        );
    }
}

fn camel_case(field: &str) -> String {
    let mut words = field.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |name, word| format!("{name}{}{}", word[..1].to_uppercase(), &word[1..]))
}

#[test]
fn versions_that_differ_in_nothing_that_matters_are_equal() {
    let fingerprint = |pod: &str| trim(pod, "Pod", "v1").unwrap().fingerprint;
    let is_same = |from: &str, to: &str| fingerprint(POD) == fingerprint(&POD.replacen(from, to, 1));
    assert!(is_same("\"resourceVersion\": \"7\"", "\"resourceVersion\": \"80\""));
    assert!(is_same("10.0.0.1", "10.0.0.2"));
    assert!(!is_same("\"restartCount\": 4", "\"restartCount\": 5"));
    assert!(!is_same("\"uid\": \"u\"", "\"uid\": \"v\""));
}

#[test]
fn what_is_no_object_or_too_large_is_refused() {
    for text in ["", "7", "[]", "\"Pod\"", "{", "{\"metadata\":{\"name\":\"p\"", "null"] {
        assert!(matches!(trim(text, "Pod", "v1"), Err(NotKept::NotAnObject(_))), "{text}");
    }
    let label = format!("\"{}\":\"\"", "x".repeat(4000));
    let labels =
        |count| format!(r#"{{"metadata":{{"labels":{{{}}}}}}}"#, vec![label.as_str(); count].join(","));
    assert!(trim(&labels(100), "Pod", "v1").is_ok());
    assert!(matches!(trim(&labels(200), "Pod", "v1"), Err(NotKept::TooLarge)));
}

proptest! {
    #[test]
    fn damaged_objects_are_survived_and_what_is_kept_is_json(
        line in 0usize..30, flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        for lines in [PODS, EVENTS] {
            let Some(line) = lines.lines().nth(line) else { continue };
            let mut bytes = line.as_bytes().to_vec();
            for (place, byte) in &flips {
                let place = place.index(bytes.len());
                bytes[place] = *byte;
            }
            let text = String::from_utf8_lossy(&bytes);
            for kind in ["Pod", "Event", "Node", "Job"] {
                if let Ok(trimmed) = trim(&text, kind, "v1") {
                    prop_assert!(serde_json::from_slice::<Value>(&trimmed.json).is_ok());
                }
            }
        }
    }
}
