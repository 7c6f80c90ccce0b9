//! A Kubernetes API server as far as a watcher can tell: LIST with pages, WATCH with bookmarks, versions that are
//! forgotten, creation of events; and everything that goes wrong in between, when told to.
//!
//! It holds what is published: by a test, or from a recording (see [`recording`]). It is a real HTTP server on the
//! loopback interface.

// Each test binary uses a part of it.
#![allow(dead_code)]

mod answer;
pub(crate) mod recording;
mod store;
mod tls;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub(crate) use store::{Asked, Fault, On};
use store::{Store, Synthetic};

/// Runs until it is dropped.
pub(crate) struct FakeApi {
    pub(crate) address: SocketAddr,
    store: Arc<Store>,
    server: JoinHandle<()>,
}

impl Drop for FakeApi {
    fn drop(&mut self) {
        self.server.abort();
        self.store.disconnect();
    }
}

impl FakeApi {
    /// An empty cluster on a free port.
    pub(crate) async fn start() -> Self {
        Self::listen("127.0.0.1:0").await
    }

    /// An empty cluster.
    pub(crate) async fn listen(address: &str) -> Self {
        let listener = TcpListener::bind(address).await.expect("the address is free");
        let address = listener.local_addr().expect("it has an address");
        let store = Arc::new(Store::default());
        let router = answer::router(Arc::clone(&store));
        let server = tokio::spawn(async move {
            // Ends with the task.
            let _ = axum::serve(listener, router).await;
        });
        Self { address, store, server }
    }

    /// An empty cluster on a free port that speaks TLS and wants a certificate of its clients. Writes a kubeconfig that
    /// leads there, and the certificates beside it.
    pub(crate) async fn start_tls(kubeconfig: &Path) -> Self {
        let folder = kubeconfig.parent().expect("a folder");
        let api = Self::listen_tls(folder, true).await;
        let address = api.address;
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: fake\n\
             clusters:\n- name: fake\n  cluster:\n    server: https://{address}\n    certificate-authority: ca.crt\n\
             users:\n- name: fake\n  user:\n    client-certificate: client.crt\n    client-key: client.key\n\
             contexts:\n- name: fake\n  context:\n    cluster: fake\n    user: fake\n"
        );
        std::fs::write(kubeconfig, text).expect("the kubeconfig can be written");
        api
    }

    /// An empty cluster on a free port that speaks TLS and wants this token. Writes into `secrets` what a pod is given to
    /// reach it.
    pub(crate) async fn start_in_cluster(secrets: &Path, token: &str) -> Self {
        let api = Self::listen_tls(secrets, false).await;
        api.require_token(token);
        for (name, text) in [("token", token), ("namespace", "shop")] {
            std::fs::write(secrets.join(name), text).expect("the secret can be written");
        }
        api
    }

    async fn listen_tls(certificates: &Path, asks_for_theirs: bool) -> Self {
        let config = tls::certificates(certificates, asks_for_theirs);
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("the address is free");
        let address = listener.local_addr().expect("it has an address");
        let store = Arc::new(Store::default());
        let router = answer::router(Arc::clone(&store));
        let server = tokio::spawn(async move {
            let _ = axum::serve(tls::TlsListener { listener, acceptor }, router).await;
        });
        Self { address, store, server }
    }

    /// Requests without this token are answered with 401 from now on.
    pub(crate) fn require_token(&self, token: &str) {
        self.store.with(|cluster| cluster.token = Some(token.to_owned()));
    }

    /// Writes a kubeconfig that leads here.
    pub(crate) fn write_kubeconfig(&self, path: &Path, token: &str) {
        let address = self.address;
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: fake\n\
             clusters:\n- name: fake\n  cluster:\n    server: http://{address}\n\
             users:\n- name: fake\n  user:\n    token: {token}\n\
             contexts:\n- name: fake\n  context:\n    cluster: fake\n    user: fake\n"
        );
        std::fs::write(path, text).expect("the kubeconfig can be written");
    }

    /// Adds, changes or (`DELETED`) removes an object of `resource`, and tells all watches of it. Its
    /// `resourceVersion` is kept if it is larger than all before, else one is given.
    pub(crate) fn publish(&self, resource: &str, event_type: &str, object: Value) {
        self.store.with(|cluster| cluster.publish(resource, event_type, object));
        self.store.wake();
    }

    /// Makes `count` objects be listed that are made one by one while they are sent.
    pub(crate) fn publish_synthetic(&self, resource: &str, count: usize, make: fn(usize) -> String) {
        self.store.with(|cluster| cluster.resource(resource).synthetic = Some(Synthetic { count, make }));
    }

    /// Lets the next request of this kind go wrong.
    pub(crate) fn fail_next(&self, resource: &str, on: On, fault: Fault) {
        self.store.with(|cluster| cluster.faults.push((resource.to_owned(), on, fault)));
    }

    /// Forgets faults that were not met; the number of them.
    pub(crate) fn faults_left(&self) -> usize {
        self.store.with(|cluster| cluster.faults.len())
    }

    /// Ends all watches, as an API server does that is restarted.
    pub(crate) fn disconnect(&self) {
        self.store.disconnect();
    }

    /// From now on (until `false`) breaks every connection without an answer.
    pub(crate) fn set_down(&self, down: bool) {
        self.store.with(|cluster| cluster.down = down);
        if down {
            self.store.disconnect();
        }
    }

    /// Forgets the history of a resource: watches from before get a 410.
    pub(crate) fn compact(&self, resource: &str) {
        self.store.with(|cluster| {
            let resource = cluster.resource(resource);
            resource.compacted = resource.version;
            resource.log.clear();
        });
    }

    /// Bookmarks are sent after so much silence.
    pub(crate) fn bookmark_every(&self, silence: Duration) {
        self.store.with(|cluster| cluster.bookmark_every = silence);
    }

    /// The version that a resource has reached.
    pub(crate) fn version(&self, resource: &str) -> u64 {
        self.store.with(|cluster| cluster.resource(resource).version)
    }

    /// The latest version that any watch or list of the resource was told.
    pub(crate) fn told(&self, resource: &str) -> u64 {
        self.store.with(|cluster| cluster.resource(resource).told)
    }

    /// Every request so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.store.with(|cluster| cluster.asked.clone())
    }

    /// Objects of a resource as they are now.
    pub(crate) fn objects(&self, resource: &str) -> Vec<Value> {
        self.store.with(|cluster| cluster.resource(resource).objects.values().cloned().collect())
    }
}
