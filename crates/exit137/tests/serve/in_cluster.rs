//! In a pod: the service account's token and authority are files, the API server's address is in the environment, and
//! the kubelet writes a new token now and then.

use std::path::Path;
use std::time::SystemTime;

use exit137_core::time::UnixNanos;
use serde_json::{Value, json};

use crate::clock::Clock;
use crate::fake_api::FakeApi;
use crate::server::Server;

/// A pod whose container was killed just now.
fn killed(name: &str) -> Value {
    let seconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock").as_secs_f64();
    let now = UnixNanos::from_seconds(seconds).to_string()[..19].to_owned() + "Z";
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-of-{name}")},
        "spec": {"nodeName": "node-1", "containers": [{"name": "app", "image": "registry.example/shop/app:1.0",
            "resources": {"limits": {"memory": "128Mi"}}}]},
        "status": {"phase": "Running", "containerStatuses": [{"containerID": format!("containerd://new-{name}"),
            "name": "app", "image": "registry.example/shop/app:1.0", "ready": true, "restartCount": 1,
            "state": {"running": {"startedAt": now}},
            "lastState": {"terminated": {"containerID": format!("containerd://old-{name}"), "exitCode": 137,
                "reason": "OOMKilled", "finishedAt": now}}}]}})
}

#[test]
fn in_a_pod_the_service_account_is_used_and_its_new_token_taken_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let secrets = folder.path().join("serviceaccount");
    std::fs::create_dir(&secrets).expect("made");
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    let api = runtime.block_on(FakeApi::start_in_cluster(&secrets, "first-token"));
    api.publish("pods", "ADDED", killed("cart-0"));
    let (host, port) = (api.address.ip().to_string(), api.address.port().to_string());
    let clock = Clock::new(folder.path());
    let environment = [
        &clock.environment()[..],
        &[("KUBERNETES_SERVICE_HOST", Path::new(&host)), ("KUBERNETES_SERVICE_PORT", Path::new(&port))],
    ]
    .concat();
    // A kubeconfig that may lie in the home folder is not meant.
    let environment = [&environment[..], &[("HOME", folder.path())]].concat();
    let server = Server::start_in_pod(&folder.path().join("data"), &secrets, &[], &environment);
    let found = |pod: &'static str| {
        server.wait_for(pod, move |incident| (incident["pod"] == pod).then_some(()));
    };
    found("cart-0");

    api.require_token("second-token");
    std::fs::write(secrets.join("token"), "second-token").expect("written");
    api.disconnect();
    // A token is read again after most of a minute.
    clock.set(61);
    api.publish("pods", "ADDED", killed("search-0"));
    found("search-0");
}
