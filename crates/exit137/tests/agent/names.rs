//! Names of containers where the kubelet's files cannot be read: the API has them.

use serde_json::{Value, json};

use super::fake_api::FakeApi;
use super::node::Node;

fn pod(name: &str, uid: &str, container_id: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "shop", "uid": uid},
        "spec": {"nodeName": "node-1"},
        "status": {"containerStatuses": [
            {"name": "api", "containerID": format!("containerd://{container_id}"), "restartCount": 2},
        ]},
    })
}

#[test]
fn the_api_names_containers_when_files_do_not() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let api = runtime.block_on(FakeApi::start());
    api.require_token("sesame");
    let mut node = Node::new();
    let pod_uid = "6f0dc1b2-3a4e-4c6f-9f1a-0000000000cc";
    let folder = node.pod(pod_uid, 64);
    let first = node.container_in(&folder, 16);
    // More than a page holds.
    for number in 0..45 {
        let (uid, id) = (format!("00000000-0000-0000-0000-{number:012}"), format!("{number:064}"));
        api.publish("pods", "ADDED", pod(&format!("other-{number}"), &uid, &id));
    }
    api.publish("pods", "ADDED", pod("zzz-0", pod_uid, &first.id));

    let token = node.state.path().join("token");
    std::fs::write(&token, "sesame\n").expect("written");
    // A file system without the kubelet's files.
    let host = tempfile::tempdir().expect("a folder");
    for name in ["sys", "proc"] {
        std::os::unix::fs::symlink(format!("/{name}"), host.path().join(name)).expect("a link");
    }
    let (sysroot, url) = (host.path().display().to_string(), format!("http://{}", api.address));
    let token = token.display().to_string();
    let arguments = ["--sysroot", &sysroot, "--kubernetes-api", &url, "--kubernetes-token-file", &token];
    node.start(&arguments);
    let named = |container, restarts: &str| {
        let kill = node.expect_kills(container, 1).remove(0);
        for (key, expected) in [
            ("k8s.namespace.name", "shop"),
            ("k8s.pod.name", "zzz-0"),
            ("k8s.container.name", "api"),
            ("k8s.container.restart_count", restarts),
        ] {
            assert_eq!(kill.attribute(key), expected);
        }
    };
    first.run("exec tail /dev/zero").wait().expect("ended");
    named(&first, "2");
    let asked = api.asked();
    assert!(asked.iter().all(|asked| asked.resource == "pods" && asked.verb == "list"), "{asked:?}");
    assert!(asked.iter().all(|asked| asked.query["fieldSelector"] == "spec.nodeName=node-1"), "{asked:?}");
    assert!(asked.iter().any(|asked| asked.query.contains_key("continue")), "{asked:?}");
    let said = node.stop_agent();
    assert!(said.lines().any(|line| line.split_whitespace().eq(["names", "yes"])), "{said}");

    // Who may not ask is told so, and does without.
    api.require_token("another");
    let mut node = Node::new();
    node.start(&arguments);
    let said = node.stop_agent();
    assert!(said.contains("does not know the token (401)") && said.contains("lost: names"), "{said}");
}
