//! What the fake cluster holds, who asked, and what is to go wrong.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;

/// Which requests a fault meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum On {
    List,
    /// A LIST that goes on with a token.
    ListContinued,
    Watch,
    Create,
}

/// What goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// An error instead of an answer.
    Answer { code: u16, retry_after_seconds: Option<u64> },
    /// A watch that says 410 in its first event.
    GoneInWatch,
    /// The connection breaks in the middle of the next line.
    CutLine,
    /// A watch, or a list, that says nothing.
    Silence,
    /// A proxy's words instead of Kubernetes'.
    Garbage,
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Asked {
    /// As RBAC names it.
    pub(crate) verb: &'static str,
    pub(crate) group: String,
    pub(crate) resource: String,
    pub(crate) namespace: Option<String>,
    pub(crate) query: BTreeMap<String, String>,
}

/// Objects made while they are listed.
#[derive(Clone, Copy)]
pub(super) struct Synthetic {
    pub(super) count: usize,
    pub(super) make: fn(usize) -> String,
}

#[derive(Clone)]
pub(super) struct Logged {
    pub(super) version: u64,
    pub(super) event_type: String,
    pub(super) object: Value,
}

#[derive(Default)]
pub(super) struct Resource {
    pub(super) version: u64,
    /// Watches from before this version get a 410.
    pub(super) compacted: u64,
    pub(super) told: u64,
    pub(super) objects: BTreeMap<(String, String), Value>,
    pub(super) log: Vec<Logged>,
    /// What lists that are not finished go on with, by version.
    pub(super) snapshots: HashMap<u64, Arc<Vec<Value>>>,
    pub(super) synthetic: Option<Synthetic>,
}

pub(super) struct Cluster {
    pub(super) resources: BTreeMap<String, Resource>,
    pub(super) faults: Vec<(String, On, Fault)>,
    pub(super) asked: Vec<Asked>,
    pub(super) token: Option<String>,
    pub(super) down: bool,
    pub(super) bookmark_every: Duration,
}

impl Cluster {
    pub(super) fn resource(&mut self, name: &str) -> &mut Resource {
        self.resources.entry(name.to_owned()).or_default()
    }

    /// The first fault that meets such a request, once.
    pub(super) fn fault(&mut self, resource: &str, on: On) -> Option<Fault> {
        let meets = |(name, when, _): &(String, On, Fault)| name == resource && *when == on;
        let index = self.faults.iter().position(meets)?;
        Some(self.faults.remove(index).2)
    }

    pub(super) fn publish(&mut self, name: &str, event_type: &str, mut object: Value) {
        let resource = self.resource(name);
        let metadata = &mut object["metadata"];
        let given = metadata["resourceVersion"].as_str().and_then(|version| version.parse().ok());
        let version = given.filter(|version| *version > resource.version).unwrap_or(resource.version + 1);
        metadata["resourceVersion"] = version.to_string().into();
        let text = |key: &str| metadata[key].as_str().unwrap_or_default().to_owned();
        let key = (text("namespace"), text("name"));
        match event_type {
            "DELETED" => drop(resource.objects.remove(&key)),
            _ => drop(resource.objects.insert(key, object.clone())),
        }
        resource.version = version;
        resource.log.push(Logged { version, event_type: event_type.to_owned(), object });
    }
}

pub(super) struct Store {
    cluster: Mutex<Cluster>,
    /// Bumped with each change.
    changes: watch::Sender<u64>,
    /// Bumped to end all watches.
    connections: watch::Sender<u64>,
}

impl Default for Store {
    fn default() -> Self {
        let cluster = Cluster {
            resources: BTreeMap::new(),
            faults: Vec::new(),
            asked: Vec::new(),
            token: None,
            down: false,
            bookmark_every: Duration::from_secs(5),
        };
        Self {
            cluster: Mutex::new(cluster),
            changes: watch::Sender::default(),
            connections: watch::Sender::default(),
        }
    }
}

impl Store {
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut Cluster) -> T) -> T {
        act(&mut self.cluster.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn wake(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    pub(super) fn disconnect(&self) {
        self.connections.send_modify(|count| *count += 1);
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub(super) fn connections(&self) -> watch::Receiver<u64> {
        self.connections.subscribe()
    }
}

/// Whether an object is in this namespace and has these labels (`a=b,c=d`).
pub(super) fn is_selected(object: &Value, namespace: Option<&str>, selector: Option<&str>) -> bool {
    let metadata = &object["metadata"];
    let in_namespace = namespace.is_none_or(|namespace| metadata["namespace"] == namespace);
    let mut wanted = selector.unwrap_or_default().split(',').filter_map(|pair| pair.split_once('='));
    in_namespace && wanted.all(|(key, value)| metadata["labels"][key] == value)
}
