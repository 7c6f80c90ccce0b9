//! Single objects made by hand, for every oddity.

use super::*;

#[test]
fn a_field_of_the_wrong_type_costs_that_field_and_is_said() {
    let cases = [
        (r#""spec":7"#, "expected an object in `spec`, found a number"),
        (r#""spec":[1,2]"#, "expected an object in `spec`, found a list"),
        (r#""spec":{"containers":{"a":1}}"#, "expected a list in `spec.containers`, found an object"),
        (
            r#""spec":{"containers":[1,null,{"name":"ok"}]}"#,
            "expected an object in `spec.containers`, found a number",
        ),
        (r#""spec":{"hostname":5}"#, "expected text in `spec.hostname`, found a number"),
        (r#""spec":{"hostNetwork":"yes"}"#, "expected true or false in `spec.hostNetwork`, found text"),
        (
            r#""status":{"containerStatuses":[{"name":"a","restartCount":"3"}]}"#,
            "expected a whole number in `restartCount`, found text",
        ),
        (
            r#""status":{"containerStatuses":[{"name":"a","restartCount":-3}]}"#,
            "expected a count in `restartCount`, found -3",
        ),
        (r#""status":{"containerStatuses":[{}]}"#, "expected a name for each container status"),
        (
            r#""status":{"containerStatuses":[{"name":"a","state":{"terminated":{"reason":"Error"}}}]}"#,
            "expected an exit code in `terminated.exitCode`",
        ),
        (
            r#""status":{"containerStatuses":[{"name":"a","state":{"terminated":{"exitCode":1,"finishedAt":"noon"}}}]}"#,
            "expected an RFC 3339 time in `terminated.finishedAt`, found \"noon\"",
        ),
        (
            r#""spec":{"resources":{"limits":{"memory":"12 MB"}}}"#,
            "expected a quantity of memory such as `208Mi`, `1.5G` or `134217728` in `resources.limits.memory`, \
             found \"12 MB\"",
        ),
    ];
    for (fields, expected) in cases {
        let (usable, observations) = read(&format!(
            r#"{{"kind":"Pod","apiVersion":"v1","metadata":{{"uid":"u","name":"p","namespace":"n"}},{fields}}}"#
        ));
        assert_eq!(usable, Some(1), "{fields}");
        assert_eq!(observations.kubernetes.pods["u"].name, "p", "{fields}");
        let problems = problems(&observations);
        assert_eq!(problems[0], format!("f.json:7: Pod n/p: {expected}"), "{fields}");
    }
}

#[test]
fn null_is_as_good_as_absent_anywhere() {
    let nothing = pod("null", "null");
    assert_eq!(pod("{}", "{}"), nothing);
    let nulls = pod(
        r#"{"nodeName":null,"containers":null,"initContainers":[null],"volumes":[null],"resources":null}"#,
        r#"{"phase":null,"conditions":null,"containerStatuses":[null]}"#,
    );
    assert_eq!(nulls, nothing);
}

#[test]
fn a_spec_tells_what_bears_on_memory_and_no_more() {
    let pod = pod(
        r#"{
          "nodeName": "node-1", "hostNetwork": true, "hostname": "h",
          "resources": {"limits": {"memory": "1Gi"}},
          "initContainers": [
            {"name": "once", "image": "i:1"},
            {"name": "always", "restartPolicy": "Always", "startupProbe": {"exec": {}}}
          ],
          "containers": [{
            "name": "app", "image": "app:2",
            "command": ["java"], "args": ["-Xmx1g", "-jar"],
            "env": [
              {"name": "JAVA_OPTS", "value": "-Xmx2g"}, {"name": "JAVA_OPTS", "value": "-Xmx3g"},
              {"name": "PASSWORD", "value": "secret"}, {"name": "GOGC", "value": "50"},
              {"name": "GOGC", "valueFrom": {"configMapKeyRef": {"key": "k"}}}
            ],
            "resources": {"limits": {"memory": "208Mi", "cpu": "1"}, "requests": {"memory": 134217728}},
            "livenessProbe": null
          }],
          "ephemeralContainers": [{"name": "debug"}],
          "volumes": [
            {"name": "a", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}},
            {"name": "b", "emptyDir": {"medium": "Memory"}},
            {"name": "c", "emptyDir": {}}, {"name": "d", "configMap": {}}
          ]
        }"#,
        "{}",
    );
    assert_eq!(
        (pod.node.as_deref(), pod.hostname.as_deref(), pod.host_network),
        (Some("node-1"), Some("h"), true)
    );
    assert_eq!(pod.limit_bytes, Some(1 << 30));
    let roles: Vec<_> = pod.containers.iter().map(|c| (c.name.as_str(), c.role, c.has_probe)).collect();
    let expected = [
        ("once", ContainerRole::Init, false),
        ("always", ContainerRole::Sidecar, true),
        ("app", ContainerRole::Main, false),
        ("debug", ContainerRole::Ephemeral, false),
    ];
    assert_eq!(roles, expected);
    let app = &pod.containers[2];
    assert_eq!((app.limit_bytes, app.request_bytes), (Some(208 << 20), Some(128 << 20)));
    assert_eq!(app.arguments, ["java", "-Xmx1g", "-jar"]);
    assert_eq!(app.environment, [("JAVA_OPTS".to_owned(), "-Xmx3g".to_owned())]);
    assert_eq!(pod.memory_volumes, [("a".to_owned(), Some(64 << 20)), ("b".to_owned(), None)]);
}

#[test]
fn arguments_are_bounded() {
    let many = vec![format!("\"{}\"", "ä".repeat(400)); 100].join(",");
    let pod = pod(&format!(r#"{{"containers":[{{"name":"a","command":[{many}],"args":[{many}]}}]}}"#), "{}");
    let arguments = &pod.containers[0].arguments;
    assert_eq!(arguments.len(), 64);
    assert!(arguments.iter().all(|argument| argument.len() == 512));
}

#[test]
fn both_states_of_a_container_are_read() {
    let pod = pod(
        r#"{"initContainers":[{"name":"side","restartPolicy":"Always"}]}"#,
        r#"{
          "phase": "Running", "reason": "Evicted", "message": " low on memory ",
          "conditions": [
            {"type": "Ready", "status": "True", "lastTransitionTime": "2026-11-22T08:56:11Z"},
            {"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet", "lastTransitionTime": null},
            {"type": "DisruptionTarget", "status": "False", "reason": "Nothing"}
          ],
          "initContainerStatuses": [{
            "name": "side", "restartCount": 2, "containerID": "containerd://ccc", "imageID": "i@sha256:1",
            "resources": {"limits": {"memory": "32Mi"}},
            "state": {"running": {"startedAt": "2026-11-22T09:00:00Z"}},
            "lastState": {"terminated": {
              "exitCode": 137, "reason": "OOMKilled", "containerID": "cri-o://bbb", "message": "m",
              "startedAt": "1970-01-01T00:00:00Z", "finishedAt": "2026-11-22T08:59:59Z"}}
          }],
          "containerStatuses": [{
            "name": "app", "restartCount": 1,
            "state": {"terminated": {"exitCode": 137, "reason": "ContainerStatusUnknown", "startedAt": null,
                                     "finishedAt": null}},
            "lastState": {}
          }, {"name": "slow", "restartCount": 0, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]
        }"#,
    );
    assert_eq!((pod.phase.as_deref(), pod.reason.as_deref()), (Some("Running"), Some("Evicted")));
    assert_eq!(pod.message.as_deref(), Some("low on memory"));
    assert_eq!(pod.ready_at, time("2026-11-22T08:56:11Z"));
    assert_eq!(pod.disruptions, [("DisruptionTarget".to_owned(), "TerminationByKubelet".to_owned(), None)]);
    assert_eq!(pod.waiting, BTreeMap::from([("slow".to_owned(), "CrashLoopBackOff".to_owned())]));
    let counts = [("app", 1), ("side", 2), ("slow", 0)].map(|(name, count)| (name.to_owned(), count));
    assert_eq!(pod.restart_counts, BTreeMap::from(counts));

    let running = &pod.running[0];
    assert_eq!((running.container_id.as_str(), running.restart_count), ("ccc", 2));
    assert_eq!((running.limit_bytes, running.image_id.as_str()), (Some(32 << 20), "i@sha256:1"));
    assert_eq!(Some(running.started_at), time("2026-11-22T09:00:00Z"));

    let [unknown, killed] = pod.terminations.as_slice() else { panic!("{:?}", pod.terminations) };
    assert_eq!((unknown.container_id.as_deref(), unknown.finished_at), (None, None));
    assert_eq!((killed.role, killed.container_id.as_deref()), (ContainerRole::Sidecar, Some("bbb")));
    assert_eq!((killed.started_at, killed.finished_at), (None, time("2026-11-22T08:59:59Z")));
    assert_eq!((killed.exit_code, killed.message.as_deref()), (137, Some("m")));
}

#[test]
fn metadata_says_who_owns_the_pod_and_how_it_is_called_elsewhere() {
    let (_, observations) = read(
        r#"{"type":"DELETED","object":{"kind":"Pod","apiVersion":"v1","metadata":{
          "uid":"u","name":"etcd-node-1","namespace":"kube-system","resourceVersion":"12",
          "creationTimestamp":"2026-11-22T08:00:00Z","deletionTimestamp":"2026-11-22T09:00:30Z",
          "deletionGracePeriodSeconds":30,"labels":{"app":"etcd"},
          "annotations":{"kubernetes.io/config.hash":"0123","kubernetes.io/config.mirror":"0123",
            "resource.opentelemetry.io/service.name":"etcd","kubectl.kubernetes.io/restartedAt":"t","other":"x"},
          "ownerReferences":[{"kind":"A","name":"a","uid":"1"},
            {"kind":"Node","name":"node-1","uid":"2","controller":true}]}}}"#,
    );
    let pod = &observations.kubernetes.pods["u"];
    assert!(pod.deleted);
    assert_eq!(pod.resource_version, 12);
    assert_eq!(pod.created_at, time("2026-11-22T08:00:00Z"));
    assert_eq!((pod.deletion_at, pod.deletion_grace_seconds), (time("2026-11-22T09:00:30Z"), Some(30)));
    assert_eq!(pod.owner.as_ref().map(|owner| owner.name.as_str()), Some("node-1"));
    let annotations: Vec<_> = pod.annotations.keys().map(String::as_str).collect();
    let expected = [
        "kubectl.kubernetes.io/restartedAt",
        "kubernetes.io/config.hash",
        "kubernetes.io/config.mirror",
        "resource.opentelemetry.io/service.name",
    ];
    assert_eq!(annotations, expected);
}

fn event(fields: &str) -> Option<Event> {
    let (usable, observations) =
        read(&format!(r#"{{"kind":"Event","apiVersion":"v1","metadata":{{"uid":"e"}},{fields}}}"#));
    assert_eq!(usable, Some(1));
    assert_eq!(problems(&observations), [""; 0]);
    let mut kubernetes = observations.kubernetes;
    let event = kubernetes.events.remove("e");
    assert_eq!(kubernetes.skipped.contains_key("Event"), event.is_none());
    event
}

#[test]
fn both_event_groups_say_the_same() {
    let core = event(
        r#""reason":"Unhealthy","type":"Warning","message":"probe failed","count":3,
        "involvedObject":{"kind":"Pod","namespace":"n","name":"p","uid":"u","fieldPath":"spec.containers{app}"},
        "firstTimestamp":"2026-11-22T08:00:00Z","lastTimestamp":"2026-11-22T09:00:00Z","eventTime":null"#,
    );
    let new = event(
        r#""reason":"Unhealthy","type":"Warning","note":"probe failed","deprecatedCount":3,
        "regarding":{"kind":"Pod","namespace":"n","name":"p","uid":"u","fieldPath":"spec.containers{app}"},
        "deprecatedFirstTimestamp":"2026-11-22T08:00:00Z","deprecatedLastTimestamp":"2026-11-22T09:00:00Z""#,
    );
    assert_eq!(core, new);
    let core = core.unwrap();
    assert_eq!((core.count, core.container.as_deref(), core.object_uid.as_str()), (3, Some("app"), "u"));
    assert_eq!((core.first_at, core.last_at), (time("2026-11-22T08:00:00Z"), time("2026-11-22T09:00:00Z")));
}

#[test]
fn the_best_times_of_an_event_are_taken() {
    let cases = [
        (
            r#""eventTime":"2026-11-22T08:00:00.123456Z","firstTimestamp":"2026-11-22T08:00:00Z",
            "series":{"count":9,"lastObservedTime":"2026-11-22T08:30:00.5Z"}"#,
            vec!["2026-11-22T08:00:00.123456Z", "2026-11-22T08:30:00.5Z"],
            9,
        ),
        (r#""firstTimestamp":"2026-11-22T08:00:00Z","lastTimestamp":null"#, vec!["2026-11-22T08:00:00Z"], 1),
        (r#""eventTime":null,"firstTimestamp":null,"count":0"#, vec!["2026-11-22T07:00:00Z"], 1),
    ];
    for (fields, times, count) in cases {
        let (_, observations) = read(&format!(
            r#"{{"kind":"Event","apiVersion":"v1","reason":"Killing",
            "metadata":{{"name":"x","namespace":"n","creationTimestamp":"2026-11-22T07:00:00Z"}},{fields}}}"#
        ));
        let event = &observations.kubernetes.events["n/x"];
        assert_eq!(event.times, times.iter().filter_map(|text| time(text)).collect::<Vec<_>>(), "{fields}");
        assert_eq!(event.count, count, "{fields}");
    }
}

#[test]
fn events_that_say_nothing_about_a_kill_are_counted_only() {
    let cases = [
        ("Killing", "", true),
        ("ResizeCompleted", "", true),
        ("TaintManagerEviction", "", true),
        ("Pulled", "", false),
        ("Scheduled", "", false),
        ("Failed", "Error: failed to create containerd task: OCI runtime create failed", true),
        ("Failed", "container init was OOM-killed (memory limit too low?)", true),
        ("Failed", "Failed to pull image", false),
        ("", "", false),
    ];
    for (reason, message, kept) in cases {
        let found = event(&format!(r#""reason":"{reason}","message":"{message}""#));
        assert_eq!(found.is_some(), kept, "{reason}: {message}");
    }
}

#[test]
fn containers_are_found_in_field_paths() {
    let cases = [
        ("spec.containers{app}", Some("app")),
        ("spec.initContainers{app}", Some("app")),
        ("spec.ephemeralContainers{app}", Some("app")),
        ("spec.containers{}", None),
        ("spec.volumes{app}", None),
        ("spec.containers", None),
        ("", None),
    ];
    for (path, container) in cases {
        let fields = format!(r#""reason":"Killing","involvedObject":{{"fieldPath":"{path}"}}"#);
        assert_eq!(event(&fields).unwrap().container.as_deref(), container, "{path}");
    }
}

#[test]
fn a_cron_job_has_its_template_a_level_deeper() {
    let (_, observations) = read(
        r#"{"kind":"CronJob","apiVersion":"batch/v1","metadata":{"uid":"c"},"spec":{"jobTemplate":{"spec":{
        "template":{"metadata":{"labels":{"app.kubernetes.io/version":"7"}},
        "spec":{"containers":[{"name":"a","image":"i"}]}}}}}}"#,
    );
    let job = &observations.kubernetes.workloads["c"];
    assert_eq!((job.version.as_deref(), job.images.len()), (Some("7"), 1));
}
