//! A live cluster: what its API server shows, and every change of it, in the form that the decoders of
//! [`kubernetes`](crate::kubernetes) read.
//!
//! Connecting, TLS and credentials are the `kube` crate's. Listing and watching are done here, because objects
//! should pass through as bytes: a typed pod, or a cache of all pods, is what makes watchers die of memory.
//! Rights needed: get, list and watch. What is forbidden is reported as a loss, and the rest goes on.

mod backoff;
mod failure;
mod follow;
mod kind;
mod lines;
mod state;

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use exit137_core::time::UnixNanos;
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use failure::Failure;
use follow::Follower;
pub use kind::Kind;
use state::Shared;
pub use state::{ClusterState, Phase, WatchState};

/// Each namespace costs a connection for each kind. Who has more watches the whole cluster.
const NAMESPACES_MAX: usize = 50;

/// Which cluster, and what of it.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// This file, instead of `$KUBECONFIG`, `~/.kube/config`, or the pod's own service account.
    pub kubeconfig: Option<PathBuf>,
    /// This context of the kubeconfig, instead of its current one.
    pub context: Option<String>,
    /// These namespaces; all when empty.
    pub namespaces: Vec<String>,
    /// Only pods with these labels; owners, events and nodes have others.
    pub label_selector: Option<String>,
    /// Objects asked for at once.
    pub page_size: u32,
    /// How long the API server is asked to keep a watch open.
    pub watch_timeout: Duration,
    /// After how long something forbidden is asked for again.
    pub forbidden_retry: Duration,
    /// After how long everything is passed on anew, changed or not: a store forgets what is old, and an owner that
    /// nobody touches is as old as its last change.
    pub refresh: Duration,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self {
            kubeconfig: None,
            context: None,
            namespaces: Vec::new(),
            label_selector: None,
            page_size: 200,
            watch_timeout: Duration::from_secs(290),
            forbidden_retry: Duration::from_secs(300),
            refresh: Duration::from_secs(6 * 3600),
        }
    }
}

/// What happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChangeType {
    /// It is in a list.
    Seen,
    /// It is new or has changed.
    Modified,
    /// It is gone; the document is its last version.
    Deleted,
    /// No object: the list of this kind is complete.
    Resync,
}

/// One object, as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Kind.
    pub kind: Kind,
    /// Namespace; empty for nodes. In a [`ChangeType::Resync`] the one that was listed, empty for all.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// When we were told.
    pub at: UnixNanos,
    /// What happened to it.
    pub change: ChangeType,
    /// JSON that [`decode_json`](crate::kubernetes::decode_json) reads: the object without what no verdict needs, in
    /// a DELETED watch event if it is gone. Empty in a [`ChangeType::Resync`].
    pub document: Bytes,
}

impl Change {
    fn about(kind: Kind, namespace: Option<String>) -> Self {
        Self {
            kind,
            namespace: namespace.unwrap_or_default(),
            name: String::new(),
            uid: String::new(),
            at: now(),
            change: ChangeType::Seen,
            document: Bytes::new(),
        }
    }
}

/// Why there is no cluster to watch.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// Nothing says where one is.
    #[error(
        "no Kubernetes cluster is configured: expected a kubeconfig ({kubeconfig}) or to run in a pod ({in_cluster})"
    )]
    NotConfigured {
        /// Why there is no kubeconfig.
        kubeconfig: String,
        /// Why it is not a pod.
        in_cluster: String,
    },
    /// The kubeconfig is there, and wrong.
    #[error("cannot use the kubeconfig{}{}: {reason}", of_path(path), of_context(context))]
    Kubeconfig {
        /// The one that was asked for.
        path: Option<PathBuf>,
        /// The context that was asked for.
        context: Option<String>,
        /// What is wrong.
        reason: String,
    },
    /// No client can be made: a certificate or key that is none.
    #[error("cannot connect to the Kubernetes API at {server}: {reason}")]
    Client {
        /// Address.
        server: String,
        /// What is wrong.
        reason: String,
    },
    /// More than we hold connections for.
    #[error(
        "expected at most {NAMESPACES_MAX} namespaces, found {0}: leave them out to watch the whole cluster"
    )]
    TooManyNamespaces(usize),
    /// A name that no namespace has.
    #[error("expected the name of a namespace, found \"{0}\"")]
    NotANamespace(String),
    /// Nobody answers, or something else than an API server.
    #[error("cannot reach the Kubernetes API at {server}: {reason}")]
    Unreachable {
        /// Address.
        server: String,
        /// What happened.
        reason: String,
    },
    /// 401.
    #[error("the Kubernetes API at {server} does not accept our credentials: {reason}")]
    Unauthorized {
        /// Address.
        server: String,
        /// What it said.
        reason: String,
    },
    /// 403.
    #[error("not allowed to {verb} {resource} {}: {reason}", of_namespace(namespace))]
    Forbidden {
        /// What was asked for, as RBAC names it: `list`.
        verb: &'static str,
        /// Of what: `pods`.
        resource: &'static str,
        /// Where; `None` for everywhere.
        namespace: Option<String>,
        /// What the API server said.
        reason: String,
    },
    /// The API server understands us and does not do it.
    #[error("the Kubernetes API refuses to {verb} {resource} {}: {reason}", of_namespace(namespace))]
    Refused {
        /// What was asked for.
        verb: &'static str,
        /// Of what.
        resource: &'static str,
        /// Where; `None` for everywhere.
        namespace: Option<String>,
        /// What it said.
        reason: String,
    },
}

impl ClusterError {
    /// Whether trying again soon would not help.
    pub fn is_lasting(&self) -> bool {
        !matches!(self, Self::Unreachable { .. } | Self::Unauthorized { .. })
    }
}

fn of_path(path: &Option<PathBuf>) -> String {
    path.as_ref().map_or_else(String::new, |path| format!(" {}", path.display()))
}

fn of_context(context: &Option<String>) -> String {
    context.as_ref().map_or_else(String::new, |context| format!(" with context \"{context}\""))
}

fn of_namespace(namespace: &Option<String>) -> String {
    namespace
        .as_ref()
        .map_or_else(|| "in all namespaces".to_owned(), |name| format!("in namespace \"{name}\""))
}

/// A cluster that can be watched.
#[derive(Clone)]
pub struct Cluster {
    client: kube::Client,
    options: ClusterOptions,
    shared: Shared,
}

impl Cluster {
    /// Finds out which cluster is meant and how to connect to it, without connecting: what stays up starts also while
    /// the API server is down.
    ///
    /// # Errors
    ///
    /// When nothing is configured, or something that cannot be used.
    pub async fn configure(options: ClusterOptions) -> Result<Self, ClusterError> {
        let found = options.namespaces.len();
        if found > NAMESPACES_MAX {
            return Err(ClusterError::TooManyNamespaces(found));
        }
        if let Some(name) = options.namespaces.iter().find(|name| !is_namespace(name)) {
            return Err(ClusterError::NotANamespace(name.clone()));
        }
        // TLS has one provider of cryptography in a process. Whoever came first has installed the same one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut config = configuration(&options).await?;
        // We know better when to try again, and tell about it.
        config.default_retry = false;
        let url = &config.cluster_url;
        let (scheme, host) = (url.scheme_str().unwrap_or("https"), url.host().unwrap_or_default());
        // Without what may stand before the host: a password.
        let server = match url.port() {
            Some(port) => format!("{scheme}://{host}:{port}"),
            None => format!("{scheme}://{host}"),
        };
        let client = kube::Client::try_from(config)
            .map_err(|error| ClusterError::Client { server: server.clone(), reason: error.to_string() })?;
        Ok(Self { client, options, shared: Shared::new(server) })
    }

    /// [`Self::configure`], and then asks for one pod to see whether it works.
    ///
    /// # Errors
    ///
    /// When nothing is configured, nobody answers, or we are not allowed to list pods.
    pub async fn connect(options: ClusterOptions) -> Result<Self, ClusterError> {
        let cluster = Self::configure(options).await?;
        cluster.probe().await?;
        Ok(cluster)
    }

    /// Asks for one pod to see whether it works.
    ///
    /// # Errors
    ///
    /// When nobody answers, or we are not allowed to list pods.
    pub async fn probe(&self) -> Result<(), ClusterError> {
        let namespace = self.options.namespaces.first();
        let query = [("limit", "1".to_owned())];
        let answer = follow::ask(&self.client, Kind::Pod, namespace.map(String::as_str), None, &query).await;
        answer.map(drop).map_err(|failure| self.refusal(failure, "list", Kind::Pod, namespace.cloned()))
    }

    /// Writes an event, an object of `v1` in JSON, into a namespace: the only thing that is ever written to a cluster.
    ///
    /// # Errors
    ///
    /// When nobody answers, or we are not allowed to.
    pub async fn create_event(&self, namespace: &str, event: Bytes) -> Result<(), ClusterError> {
        if !is_namespace(namespace) {
            return Err(ClusterError::NotANamespace(namespace.to_owned()));
        }
        let refusal = |failure| self.refusal(failure, "create", Kind::Event, Some(namespace.to_owned()));
        let request = hyper::Request::post(Kind::Event.path(Some(namespace)))
            .header(hyper::header::CONTENT_TYPE, "application/json")
            .body(kube::client::Body::from(event.to_vec()))
            .map_err(|error| refusal(Failure::broken(&error)))?;
        follow::send(&self.client, request).await.map(drop).map_err(refusal)
    }

    fn refusal(
        &self,
        failure: Failure,
        verb: &'static str,
        kind: Kind,
        namespace: Option<String>,
    ) -> ClusterError {
        let server = self.shared.snapshot().server;
        let resource = kind.resource();
        match failure {
            Failure::Forbidden(reason) => ClusterError::Forbidden { verb, resource, namespace, reason },
            Failure::Unauthorized(reason) => ClusterError::Unauthorized { server, reason },
            Failure::Answer { code: 400 | 404 | 409 | 422, message, .. } | Failure::NotServed(message) => {
                ClusterError::Refused { verb, resource, namespace, reason: message }
            }
            other => ClusterError::Unreachable { server, reason: other.to_string() },
        }
    }

    /// Watches these kinds and hands every object and every change to `sink`; when it is full, waits. Goes on through
    /// refusals, outages and restarts of the API server until the other end of `sink` is dropped. To stop it, drop the
    /// future.
    pub async fn watch(&self, kinds: &[Kind], sink: mpsc::Sender<Change>) {
        let watches = self.watches(kinds);
        self.shared.begin(&watches, now());
        let mut tasks = JoinSet::new();
        for (index, watch) in watches.into_iter().enumerate() {
            let place = (self.shared.clone(), index);
            let (client, options) = (self.client.clone(), self.options.clone());
            tasks.spawn(Follower::new(client, watch, options, sink.clone(), place).run());
        }
        drop(sink);
        while tasks.join_next().await.is_some() {}
    }

    /// How it is going.
    pub fn state(&self) -> ClusterState {
        self.shared.snapshot()
    }

    fn watches(&self, kinds: &[Kind]) -> Vec<(Kind, Option<String>)> {
        let namespaces = &self.options.namespaces;
        let everywhere = |kind: Kind| namespaces.is_empty() || !kind.is_namespaced();
        let watches = kinds.iter().flat_map(|&kind| match everywhere(kind) {
            true => vec![(kind, None)],
            false => namespaces.iter().map(|namespace| (kind, Some(namespace.clone()))).collect(),
        });
        watches.collect()
    }
}

/// The kubeconfig, or what a pod is given.
async fn configuration(options: &ClusterOptions) -> Result<kube::Config, ClusterError> {
    let wanted = KubeConfigOptions { context: options.context.clone(), ..KubeConfigOptions::default() };
    let wrong = |error: kube::config::KubeconfigError| ClusterError::Kubeconfig {
        path: options.kubeconfig.clone(),
        context: options.context.clone(),
        reason: error.to_string(),
    };
    if let Some(path) = &options.kubeconfig {
        let kubeconfig = Kubeconfig::read_from(path).map_err(wrong)?;
        return kube::Config::from_custom_kubeconfig(kubeconfig, &wanted).await.map_err(wrong);
    }
    let error = match kube::Config::from_kubeconfig(&wanted).await {
        Ok(config) => return Ok(config),
        Err(error) if options.context.is_some() => return Err(wrong(error)),
        Err(error) => error,
    };
    kube::Config::incluster().map_err(|in_cluster| ClusterError::NotConfigured {
        kubeconfig: error.to_string(),
        in_cluster: in_cluster.to_string(),
    })
}

/// DNS labels; anything else would change the path that is asked for.
fn is_namespace(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !name.is_empty() && name.len() <= 63 && name.bytes().all(is_allowed)
}

fn now() -> UnixNanos {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    UnixNanos(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}
