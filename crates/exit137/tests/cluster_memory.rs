//! A large cluster is watched in little memory. A test binary of its own, because it measures the whole process.

#[path = "support/fake_api/mod.rs"]
mod fake_api;
mod support;

use exit137_sources::cluster::{ChangeType, Cluster, ClusterOptions, Kind};
use fake_api::FakeApi;
use tokio::sync::mpsc;

const PODS: usize = 50_000;

/// What the process may grow by while 50,000 pods of some 10 KB pass through it, the fake API server included, which
/// makes them one by one. As typed objects they would take more than a gibibyte.
const GROWTH_MAX_KIB: u64 = 64 << 10;

/// A pod with what real ones carry around: managed fields, environment, volumes.
fn pod(index: usize) -> String {
    let managed = "\"f:metadata\":{\"f:labels\":{\".\":{}}},".repeat(150);
    let environment = "{\"name\":\"FEATURE\",\"value\":\"some setting of ordinary length\"},".repeat(60);
    format!(
        "{{\"metadata\":{{\"name\":\"pod-{index}\",\"namespace\":\"shop\",\"uid\":\"{index:032x}\",\"resourceVersion\":\"1\",\
         \"labels\":{{\"app\":\"shop\"}},\"managedFields\":[{{\"fieldsV1\":{{{managed}\"f:x\":{{}}}}}}]}},\
         \"spec\":{{\"nodeName\":\"node-1\",\"containers\":[{{\"name\":\"app\",\"image\":\"shop:1\",\
         \"env\":[{environment}{{\"name\":\"GOGC\",\"value\":\"50\"}}],\
         \"resources\":{{\"limits\":{{\"memory\":\"256Mi\"}}}}}}]}},\
         \"status\":{{\"phase\":\"Running\",\"containerStatuses\":[{{\"name\":\"app\",\"restartCount\":0,\
         \"state\":{{\"running\":{{\"startedAt\":\"2026-11-22T08:00:00Z\"}}}}}}]}}}}"
    )
}

/// The most that this process was ever resident, in KiB.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).expect("the peak of memory")
}

#[tokio::test]
async fn fifty_thousand_pods_pass_through_little_memory() {
    assert!(pod(0).len() > 8_000);
    let api = FakeApi::start().await;
    api.publish_synthetic("pods", PODS, pod);
    let kubeconfig = support::scratch("cluster-memory").join("kubeconfig");
    api.write_kubeconfig(&kubeconfig, "secret");
    let options = ClusterOptions { kubeconfig: Some(kubeconfig), ..ClusterOptions::default() };
    let cluster = Cluster::connect(options).await.unwrap();
    let before = peak_kib();
    let (sink, mut changes) = mpsc::channel(64);
    let watched = cluster.clone();
    let task = tokio::spawn(async move { watched.watch(&[Kind::Pod], sink).await });
    let (mut seen, mut bytes) = (0, 0);
    while let Some(change) = changes.recv().await {
        if change.change == ChangeType::Resync {
            break;
        }
        seen += 1;
        bytes += change.document.len();
    }
    task.abort();
    let growth = peak_kib() - before;
    println!("{seen} pods, {} bytes kept of each {}, grew by {growth} KiB", bytes / PODS, pod(0).len());
    assert_eq!(seen, PODS);
    assert_eq!(cluster.state().watches[0].objects, PODS);
    assert!(bytes / PODS < 600, "{} bytes kept of each pod", bytes / PODS);
    assert!(growth < GROWTH_MAX_KIB, "grew by {growth} KiB");
}
