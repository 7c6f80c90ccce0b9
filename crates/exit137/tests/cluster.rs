//! Watches a cluster through a real HTTP API that misbehaves: a recording of a real cluster, and one fault at a time.

#[path = "support/fake_api/mod.rs"]
mod fake_api;
mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use exit137_core::observation::Observations;
use exit137_core::verdict::Verdict;
use exit137_sources::cluster::{Change, ChangeType, Cluster, ClusterError, ClusterOptions, Kind, Phase};
use exit137_sources::kubernetes::decode_json;
use exit137_sources::location::Location;
use exit137_sources::{NoProgress, ReadOptions, read};
use fake_api::recording::Recording;
use fake_api::{Asked, FakeApi, Fault, On};
use serde_json::{Value, json};
use support::case::Case;
use tokio::sync::mpsc;

/// Only there so that a broken watch fails instead of hanging.
const PATIENCE: Duration = Duration::from_secs(120);

/// A watch of a fake cluster, and what it told.
struct Watched {
    cluster: Cluster,
    changes: mpsc::Receiver<Change>,
    told: Vec<Change>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Options that lead to this cluster.
fn options(api: &FakeApi) -> ClusterOptions {
    let folder = support::scratch(&format!("cluster-{}", api.address.port()));
    let kubeconfig = folder.join("kubeconfig");
    api.write_kubeconfig(&kubeconfig, "secret");
    let forbidden_retry = Duration::from_millis(200);
    ClusterOptions {
        kubeconfig: Some(kubeconfig),
        page_size: 4,
        forbidden_retry,
        ..ClusterOptions::default()
    }
}

impl Watched {
    async fn start(options: ClusterOptions, kinds: &[Kind]) -> Self {
        let cluster = Cluster::configure(options).await.expect("a kubeconfig");
        let (sink, changes) = mpsc::channel(4);
        let (watched, kinds) = (cluster.clone(), kinds.to_vec());
        let task = tokio::spawn(async move { watched.watch(&kinds, sink).await });
        Self { cluster, changes, told: Vec::new(), task }
    }

    /// Takes what is told until `done`.
    async fn until(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let began = Instant::now();
        loop {
            let is_done = done(self);
            while let Ok(change) = self.changes.try_recv() {
                self.told.push(change);
            }
            if is_done {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "{what}: {:#?}", self.cluster.state());
            if let Ok(change) = tokio::time::timeout(Duration::from_millis(20), self.changes.recv()).await {
                self.told.extend(change);
            }
        }
    }

    /// Takes what is told until each watch has reached the version of its resource.
    async fn catch_up(&mut self, api: &FakeApi) {
        self.until("catching up", |watched| {
            let state = watched.cluster.state();
            !state.watches.is_empty()
                && state.watches.iter().all(|watch| {
                    let version = api.version(watch.kind.resource()).to_string();
                    watch.phase == Phase::Watching && watch.version.as_ref() == Some(&version)
                })
        })
        .await;
    }

    /// What the decoders make of it.
    fn observations(&self) -> Observations {
        let mut observations = Observations::default();
        for (index, change) in self.told.iter().filter(|change| !change.document.is_empty()).enumerate() {
            let at = Location { file: "cluster", line: index + 1 };
            decode_json(&change.document, at, &mut observations).expect("Kubernetes");
        }
        observations
    }

    /// Names of what is told, each as often as it was.
    fn names(&self, change: ChangeType) -> Vec<&str> {
        self.told.iter().filter(|told| told.change == change).map(|told| told.name.as_str()).collect()
    }
}

fn pod(name: &str) -> Value {
    json!({"kind": "Pod", "apiVersion": "v1", "spec": {}, "metadata": {"name": name, "namespace": "shop",
        "uid": format!("uid-{name}"), "labels": {"app": "a"}}})
}

async fn cluster_of_pods(count: usize) -> FakeApi {
    let api = FakeApi::start().await;
    (0..count).for_each(|index| api.publish("pods", "ADDED", pod(&format!("p{index:03}"))));
    api
}

/// Everything but the API's objects, which the watch adds.
fn case_without_kubernetes(case: &Case) -> Observations {
    let folder = support::scratch("cluster-kernel");
    for name in ["kmsg.raw.zst", "clock.txt.zst"] {
        std::fs::copy(case.folder.join(name), folder.join(name)).expect("a part of the case");
    }
    read(&[folder], &ReadOptions::default(), &NoProgress).expect("a part of the case")
}

#[tokio::test]
async fn a_recorded_cluster_gives_the_same_verdict_live_as_from_files() {
    let case = Case::named("kubernetes-1.36-recording");
    let recording = Recording::read(&case.folder);
    let api = FakeApi::start().await;
    api.require_token("secret");
    api.bookmark_every(Duration::from_millis(50));
    recording.publish_unwatched(&api);
    let mut watched = Watched::start(options(&api), &Kind::ALL).await;
    watched.catch_up(&api).await;
    let unavailable = Fault::Answer { code: 503, retry_after_seconds: Some(0) };
    let faults = [
        (On::Watch, Fault::CutLine),
        (On::Watch, Fault::Garbage),
        (On::Watch, unavailable.clone()),
        (On::Watch, Fault::Answer { code: 429, retry_after_seconds: Some(1) }),
    ];
    let batch = recording.events.len().div_ceil(14);
    for (index, events) in recording.events.chunks(batch).enumerate() {
        if index % 2 == 1 {
            let (on, fault) = &faults[index / 2 % faults.len()];
            api.fail_next("pods", *on, fault.clone());
            api.fail_next("events", *on, fault.clone());
            api.disconnect();
        }
        events.iter().for_each(|event| event.publish(&api));
        watched.until("meeting the fault", |_| api.faults_left() == 0).await;
        watched.catch_up(&api).await;
        if index % 4 == 2 {
            // Between two batches nothing is lost, but all must be listed again, and that fails at first.
            let expired = Fault::Answer { code: 410, retry_after_seconds: None };
            api.fail_next("events", On::Watch, expired.clone());
            api.fail_next("pods", On::Watch, Fault::GoneInWatch);
            api.fail_next("pods", On::List, unavailable.clone());
            api.fail_next("pods", On::ListContinued, expired);
            api.disconnect();
            watched.until("meeting every fault", |_| api.faults_left() == 0).await;
            watched.catch_up(&api).await;
        }
    }
    let mut observations = case_without_kubernetes(&case);
    observations.kubernetes = watched.observations().kubernetes;
    let (mut live, files) = (exit137_core::diagnose(&observations), case.verdict());
    assert_eq!(kills(&live), 247);
    // A watch reads no files, and does not hand on what it would skip.
    live.looked_in.clone_from(&files.looked_in);
    live.skipped.clone_from(&files.skipped);
    let (live, files) = (support::case::json(&live), support::case::json(&files));
    let mut lines = live.lines().zip(files.lines()).enumerate();
    assert_eq!(lines.find(|(_, (live, files))| live != files), None);
    assert_eq!(live, files);
    let problems = watched.observations().problems;
    assert!(problems.list().is_empty(), "{:?}", problems.list());
}

fn kills(verdict: &Verdict) -> usize {
    verdict.incidents.iter().map(|incident| incident.kills.len()).sum()
}

#[tokio::test]
async fn kills_from_before_the_start_are_found() {
    let case = Case::named("kubernetes-1.36-recording");
    let api = FakeApi::start().await;
    Recording::read(&case.folder).publish_lists(&api);
    let mut watched = Watched::start(options(&api), &Kind::ALL).await;
    watched.catch_up(&api).await;
    assert!(watched.cluster.state().is_ready());
    let live = exit137_core::diagnose(&watched.observations());
    let lists = ["pods.list.json.zst", "events.list.json.zst", "nodes.list.json", "replicasets.list.json"];
    let lists = lists.into_iter().chain(["deployments.list.json", "jobs.list.json"]);
    let lists: Vec<_> = lists.map(|name| case.folder.join(name)).collect();
    let files = exit137_core::diagnose(&read(&lists, &ReadOptions::default(), &NoProgress).unwrap());
    assert_eq!(live.incidents, files.incidents);
    let mut killed: Vec<_> = live.incidents.iter().flat_map(|incident| &incident.kills).collect();
    killed.sort_by_key(|kill| kill.at.at);
    let killed: Vec<_> = killed.iter().filter_map(|kill| kill.pod.as_deref()).collect();
    // The last end of each container, where that was a kill; `thumbnailer`'s says so hours late.
    let expected = [
        "nightly-report-9xffd",
        "nightly-report-rhbzt",
        "nightly-report-t9s7j",
        "uploader",
        "migrator",
        "catalog",
        "thumbnailer",
    ];
    assert_eq!(killed, expected);
}

#[tokio::test]
async fn pages_that_expire_are_asked_for_again_and_nothing_is_told_twice() {
    let api = cluster_of_pods(23).await;
    api.fail_next("pods", On::ListContinued, Fault::Answer { code: 410, retry_after_seconds: None });
    let mut watched = Watched::start(options(&api), &[Kind::Pod]).await;
    watched.catch_up(&api).await;
    let expected: Vec<String> = (0..23).map(|index| format!("p{index:03}")).collect();
    assert_eq!(watched.names(ChangeType::Seen), expected);
    let pages = api.asked().iter().filter(|asked| asked.verb == "list").count();
    assert_eq!(pages, 2 + 6);
    let state = watched.cluster.state();
    assert_eq!((state.watches[0].objects, state.watches[0].relists), (23, 1));
    assert_eq!(watched.names(ChangeType::Resync).len(), 1);
}

#[tokio::test]
async fn a_change_is_told_once_and_a_deletion_with_the_last_version() {
    let api = cluster_of_pods(1).await;
    let mut watched = Watched::start(options(&api), &[Kind::Pod]).await;
    watched.catch_up(&api).await;
    api.publish("pods", "MODIFIED", pod("p000"));
    let mut changed = pod("p000");
    changed["status"] = json!({"phase": "Running"});
    api.publish("pods", "MODIFIED", changed.clone());
    api.publish("pods", "DELETED", changed);
    watched.catch_up(&api).await;
    assert_eq!(watched.names(ChangeType::Modified), ["p000"]);
    assert_eq!(watched.names(ChangeType::Deleted), ["p000"]);
    let pods = watched.observations().kubernetes.pods;
    assert!(pods["uid-p000"].deleted);
    assert_eq!(pods["uid-p000"].phase.as_deref(), Some("Running"));
    let state = watched.cluster.state();
    assert_eq!((state.watches[0].objects, state.watches[0].irrelevant), (0, 1));
}

#[tokio::test]
async fn what_is_forbidden_is_told_as_a_loss_and_the_rest_goes_on() {
    let api = cluster_of_pods(1).await;
    api.fail_next("nodes", On::List, Fault::Answer { code: 403, retry_after_seconds: None });
    let forbidden_retry = Duration::from_secs(2);
    let options = ClusterOptions { forbidden_retry, ..options(&api) };
    let mut watched = Watched::start(options, &[Kind::Node, Kind::Pod]).await;
    watched
        .until("being told no", |watched| {
            let state = watched.cluster.state();
            state.is_ready() && state.watches[0].phase == Phase::Forbidden
        })
        .await;
    let losses = watched.cluster.state().losses();
    let expected = "nodes: forbidden: the API server forbids it: the fake says Forbidden; until it works, whether the \
                    node ran out of memory is not known from the API";
    assert_eq!(losses, [expected]);
    assert_eq!(watched.names(ChangeType::Seen), ["p000"]);
    // Someone grants the right.
    watched.catch_up(&api).await;
    assert_eq!(watched.cluster.state().losses(), [""; 0]);
}

#[tokio::test]
async fn an_outage_is_waited_out_and_what_happened_meanwhile_is_told() {
    let api = cluster_of_pods(2).await;
    let mut watched = Watched::start(options(&api), &[Kind::Pod]).await;
    watched.catch_up(&api).await;
    api.set_down(true);
    api.publish("pods", "ADDED", pod("meanwhile"));
    api.publish("pods", "ADDED", pod("short-lived"));
    api.publish("pods", "DELETED", pod("short-lived"));
    api.publish("pods", "DELETED", pod("p001"));
    // The way from the version that is known to the latest one is forgotten, so all must be listed.
    api.compact("pods");
    watched.until("noticing", |watched| watched.cluster.state().watches[0].phase == Phase::Retrying).await;
    assert!(watched.cluster.state().losses()[0].starts_with("pods: retrying: "));
    api.set_down(false);
    watched.catch_up(&api).await;
    assert_eq!(watched.names(ChangeType::Seen), ["p000", "p001", "meanwhile"]);
    assert_eq!(watched.cluster.state().watches[0].relists, 1);
    // Who is not in the list any more is gone, and what was known before stays known.
    watched.until("p001 gone", |watched| watched.names(ChangeType::Deleted) == ["p001"]).await;
    let pods = watched.observations().kubernetes.pods;
    assert!(pods["uid-p001"].deleted && !pods["uid-p000"].deleted);
    assert_eq!(pods["uid-p001"].node, pods["uid-p000"].node);
    assert_eq!(watched.cluster.state().watches[0].objects, 2);
}

#[tokio::test]
async fn a_connection_that_falls_silent_is_given_up() {
    let api = cluster_of_pods(1).await;
    api.fail_next("pods", On::Watch, Fault::Silence);
    let watch_timeout = Duration::from_secs(1);
    let mut watched = Watched::start(ClusterOptions { watch_timeout, ..options(&api) }, &[Kind::Pod]).await;
    watched.until("the first watch", |_| api.faults_left() == 0).await;
    api.publish("pods", "ADDED", pod("after"));
    watched.catch_up(&api).await;
    assert_eq!(watched.names(ChangeType::Modified), ["after"]);
    let error = watched.cluster.state().watches[0].last_error.clone().unwrap().1;
    assert_eq!(error, "nothing heard for 2 s");
}

#[tokio::test]
async fn a_slow_reader_gets_everything_and_bookmarks_keep_a_quiet_watch_young() {
    let api = cluster_of_pods(1).await;
    api.bookmark_every(Duration::from_millis(10));
    let mut watched = Watched::start(options(&api), &[Kind::Pod, Kind::Node]).await;
    watched.catch_up(&api).await;
    let expected: Vec<String> = (0..500).map(|index| format!("q{index:03}")).collect();
    expected.iter().for_each(|name| api.publish("pods", "ADDED", pod(name)));
    tokio::time::sleep(Duration::from_millis(100)).await;
    // Nobody has read, so only a few can have been sent into the channel.
    assert!(watched.names(ChangeType::Modified).is_empty());
    watched.catch_up(&api).await;
    assert_eq!(watched.names(ChangeType::Modified), expected);
    // Events in the whole cluster have moved on, nodes have not: without bookmarks their version would be too old.
    api.publish(
        "nodes",
        "ADDED",
        json!({"kind": "Node", "apiVersion": "v1", "metadata": {"name": "n", "uid": "n"}}),
    );
    watched.catch_up(&api).await;
    assert_eq!(watched.cluster.state().watches[1].relists, 0);
}

#[tokio::test]
async fn namespaces_and_labels_are_asked_for_and_nothing_else() {
    let api = cluster_of_pods(1).await;
    let mut other = pod("other");
    other["metadata"]["labels"] = json!({"app": "b"});
    api.publish("pods", "ADDED", other);
    let namespaces = vec!["shop".to_owned(), "bank".to_owned()];
    let label_selector = Some("app=a".to_owned());
    let options = ClusterOptions { namespaces, label_selector, ..options(&api) };
    let mut watched = Watched::start(options, &[Kind::Pod, Kind::Event]).await;
    watched.catch_up(&api).await;
    watched
        .until("all watches", |_| api.asked().iter().filter(|asked| asked.verb == "watch").count() == 4)
        .await;
    assert_eq!(watched.names(ChangeType::Seen), ["p000"]);
    let asked: BTreeSet<_> = api
        .asked()
        .into_iter()
        .map(|asked| (asked.resource, asked.namespace.unwrap(), asked.query.get("labelSelector").cloned()))
        .collect();
    let row = |resource: &str, namespace: &str, selector: Option<&str>| {
        (resource.to_owned(), namespace.to_owned(), selector.map(str::to_owned))
    };
    let expected = [
        row("events", "bank", None),
        row("events", "shop", None),
        row("pods", "bank", Some("app=a")),
        row("pods", "shop", Some("app=a")),
    ];
    assert_eq!(asked, BTreeSet::from(expected));
}

#[tokio::test]
async fn the_manifests_grant_what_is_asked_for_and_no_more() {
    let table: [(&str, &[&str], &[Kind]); 2] = [
        ("clusterrole.yaml", &[], &Kind::ALL),
        // A role in a namespace cannot grant anything on nodes.
        ("role.yaml", &["shop"], &Kind::ALL.map(|kind| if kind == Kind::Node { Kind::Pod } else { kind })),
    ];
    for (manifest, namespaces, kinds) in table {
        let api = cluster_of_pods(1).await;
        let namespaces = namespaces.iter().map(|name| (*name).to_owned()).collect();
        let mut watched = Watched::start(ClusterOptions { namespaces, ..options(&api) }, kinds).await;
        let is_watch = |asked: &&Asked| asked.verb == "watch";
        watched.until("all watches", |_| api.asked().iter().filter(is_watch).count() >= kinds.len()).await;
        let asked = api.asked().into_iter().map(|asked| (asked.group, asked.resource, asked.verb.to_owned()));
        let mut asked: BTreeSet<_> = asked.collect();
        // `get` is never asked for; it comes with every read-only role, and `why` reads single pods with it.
        let more: Vec<_> = asked.iter().map(|(g, r, _)| (g.clone(), r.clone(), "get".to_owned())).collect();
        asked.extend(more);
        assert_eq!(granted(manifest), asked, "{manifest}");
    }
}

/// Group, resource and verb of each right in a manifest.
fn granted(manifest: &str) -> BTreeSet<(String, String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/rbac").join(manifest);
    let text = std::fs::read_to_string(&path).expect("a manifest");
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text).expect("a manifest");
    let role = documents.iter().find(|document| document["rules"].is_array()).expect("a manifest");
    let texts = |list: &Value| -> Vec<String> {
        list.as_array()
            .expect("a manifest")
            .iter()
            .map(|item| item.as_str().expect("a manifest").to_owned())
            .collect()
    };
    let mut granted = BTreeSet::new();
    for rule in role["rules"].as_array().expect("a manifest") {
        for group in texts(&rule["apiGroups"]) {
            for resource in texts(&rule["resources"]) {
                let verbs = texts(&rule["verbs"]).into_iter();
                granted.extend(verbs.map(|verb| (group.clone(), resource.clone(), verb)));
            }
        }
    }
    granted
}

#[tokio::test]
async fn a_cluster_is_reached_over_tls_with_a_certificate_and_not_without() {
    let folder = support::scratch("cluster-tls");
    let kubeconfig = folder.join("kubeconfig");
    let api = FakeApi::start_tls(&kubeconfig).await;
    api.publish("pods", "ADDED", pod("p000"));
    let options = ClusterOptions { kubeconfig: Some(kubeconfig.clone()), ..ClusterOptions::default() };
    let mut watched = Watched::start(options.clone(), &[Kind::Pod]).await;
    watched.catch_up(&api).await;
    assert_eq!(watched.names(ChangeType::Seen), ["p000"]);
    assert_eq!(watched.cluster.state().server, format!("https://{}", api.address));
    // Another cluster's certificates beside the same address.
    let text = std::fs::read_to_string(&kubeconfig).unwrap();
    let other = support::scratch("cluster-tls-other").join("kubeconfig");
    drop(FakeApi::start_tls(&other).await);
    std::fs::write(&other, text).unwrap();
    let said = refusal(ClusterOptions { kubeconfig: Some(other), ..options }).await;
    assert!(
        said.starts_with(&format!("cannot reach the Kubernetes API at https://{}: ", api.address)),
        "{said}"
    );
    assert!(said.contains("certificate"), "{said}");
}

async fn refusal(options: ClusterOptions) -> String {
    match Cluster::connect(options).await {
        Ok(_) => "connected".to_owned(),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn what_stands_between_us_and_a_cluster_is_said() {
    let api = cluster_of_pods(1).await;
    let good = options(&api);
    assert_eq!(refusal(good.clone()).await, "connected");
    let forbidden = Fault::Answer { code: 403, retry_after_seconds: None };
    api.fail_next("pods", On::List, forbidden);
    assert_eq!(
        refusal(good.clone()).await,
        "not allowed to list pods in all namespaces: the fake says Forbidden"
    );
    api.require_token("another");
    let server = format!("http://{}", api.address);
    assert_eq!(
        refusal(good.clone()).await,
        format!("the Kubernetes API at {server} does not accept our credentials: the fake says Unauthorized")
    );
    let context = ClusterOptions { context: Some("nowhere".to_owned()), ..good.clone() };
    let said = refusal(context).await;
    assert!(said.contains("with context \"nowhere\": "), "{said}");
    let missing = ClusterOptions { kubeconfig: Some("no/such/kubeconfig".into()), ..good.clone() };
    let said = refusal(missing).await;
    assert!(said.starts_with("cannot use the kubeconfig no/such/kubeconfig: "), "{said}");
    let slashes = ClusterOptions { namespaces: vec!["../secrets".to_owned()], ..good.clone() };
    assert_eq!(refusal(slashes).await, "expected the name of a namespace, found \"../secrets\"");
    let many = ClusterOptions { namespaces: vec!["a".to_owned(); 51], ..good.clone() };
    assert!(matches!(Cluster::connect(many).await, Err(ClusterError::TooManyNamespaces(51))));
    drop(api);
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    drop(silent);
    let path = good.kubeconfig.clone().unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace(&server, &format!("http://{address}"))).unwrap();
    let said = refusal(good).await;
    assert!(said.starts_with(&format!("cannot reach the Kubernetes API at http://{address}: ")), "{said}");
    assert!(said.contains("onnection refused"), "{said}");
}
