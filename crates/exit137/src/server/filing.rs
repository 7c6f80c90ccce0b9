//! Under whose name a Kubernetes object is recorded, so that a kill leads to it.

use std::collections::HashMap;

use bytes::Bytes;
use exit137_core::time::UnixNanos;
use exit137_store::{Encoding, Identity, Kind, Piece};
use serde::Deserialize;

use super::subject::WORKLOAD;

/// Owners that are remembered to tell a pod's workload. A cluster has some thousands.
const OWNERS_MAX: usize = 100_000;

/// The few fields by which an object is filed; watch events hold the object inside.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Object {
    object: Option<Box<Object>>,
    kind: String,
    metadata: Metadata,
    spec: Spec,
    involved_object: Reference,
    regarding: Reference,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Metadata {
    name: String,
    namespace: String,
    uid: String,
    labels: HashMap<String, String>,
    owner_references: Vec<Reference>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    node_name: String,
    containers: Vec<Container>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Container {
    image: String,
}

#[derive(Deserialize, Default, Clone)]
#[serde(default)]
struct Reference {
    kind: String,
    name: String,
    namespace: String,
    uid: String,
    controller: bool,
}

/// Files objects, and remembers who owns whom.
#[derive(Default)]
pub(super) struct Files {
    /// By UID.
    owners: HashMap<String, Reference>,
}

impl Files {
    /// The object as a piece; `None` when it is none.
    pub(super) fn piece(&mut self, document: Bytes, at: UnixNanos) -> Option<Piece> {
        let mut object: Object = serde_json::from_slice(&document).ok()?;
        // A watch event is about the object inside it.
        if let Some(inner) = object.object.take() {
            object = *inner;
        }
        if !matches!(object.kind.as_str(), "" | "Pod" | "Event" | "Node") {
            self.remember(&object.metadata);
        }
        let pairs = self.names(&object);
        if pairs.is_empty() {
            return None;
        }
        let container = Identity::of(pairs.iter().map(|(key, value)| (*key, value.as_str())));
        Some(Piece {
            container,
            kind: Kind::Kubernetes,
            encoding: Encoding::Json,
            first: at,
            last: at,
            count: 1,
            bytes: document,
        })
    }

    fn names(&self, object: &Object) -> Vec<(&'static str, String)> {
        let metadata = &object.metadata;
        let mut pairs = Vec::new();
        let mut add = |key: &'static str, value: &str| {
            if !value.is_empty() {
                pairs.push((key, value.to_owned()));
            }
        };
        match object.kind.as_str() {
            "Node" => add("k8s.node.name", &metadata.name),
            "Event" => {
                let about = if object.involved_object.kind.is_empty() {
                    &object.regarding
                } else {
                    &object.involved_object
                };
                if about.kind == "Node" {
                    add("k8s.node.name", &about.name);
                } else {
                    add(
                        "k8s.namespace.name",
                        if about.namespace.is_empty() { &metadata.namespace } else { &about.namespace },
                    );
                    add(if about.kind == "Pod" { "k8s.pod.name" } else { WORKLOAD }, &about.name);
                    add(if about.kind == "Pod" { "k8s.pod.uid" } else { "exit137.object.uid" }, &about.uid);
                }
            }
            "Pod" => {
                add("k8s.namespace.name", &metadata.namespace);
                add("k8s.pod.name", &metadata.name);
                add("k8s.pod.uid", &metadata.uid);
                add("k8s.node.name", &object.spec.node_name);
                // Of a pod that was found gone there is no more than its names.
                if !object.spec.containers.is_empty() {
                    add(WORKLOAD, &self.workload_of(metadata));
                }
                add("service.version", &version_of(object));
            }
            "" => {}
            _ => {
                let top = self.top(&metadata.uid).unwrap_or_else(|| metadata.name.clone());
                add("k8s.namespace.name", &metadata.namespace);
                add("exit137.object.kind", &object.kind);
                add("exit137.object.uid", &metadata.uid);
                add(WORKLOAD, &top);
            }
        }
        pairs
    }

    fn remember(&mut self, metadata: &Metadata) {
        let owner = metadata.owner_references.iter().find(|owner| owner.controller);
        let owner = owner.or(metadata.owner_references.first());
        if let Some(owner) = owner
            && (self.owners.len() < OWNERS_MAX || self.owners.contains_key(&metadata.uid))
        {
            self.owners.insert(metadata.uid.clone(), owner.clone());
        }
    }

    /// The name of the topmost owner that is known of the object with this UID.
    fn top(&self, uid: &str) -> Option<String> {
        let (mut uid, mut name) = (uid, None);
        // Chains are two or three long; a circle would be an error of the cluster.
        for _ in 0..4 {
            let Some(owner) = self.owners.get(uid) else { break };
            (uid, name) = (&owner.uid, Some(owner.name.clone()));
        }
        name
    }

    /// As the core tells a pod's workload: the topmost owner, or what a ReplicaSet's name says of its Deployment.
    fn workload_of(&self, metadata: &Metadata) -> String {
        let owner = metadata.owner_references.iter().find(|owner| owner.controller);
        let Some(owner) = owner.or(metadata.owner_references.first()) else {
            return metadata.name.clone();
        };
        if let Some(top) = self.top(&owner.uid) {
            return top;
        }
        let hash = metadata.labels.get("pod-template-hash");
        let stem = hash.and_then(|hash| owner.name.strip_suffix(hash.as_str())?.strip_suffix('-'));
        match stem {
            Some(stem) if owner.kind == "ReplicaSet" => stem.to_owned(),
            _ => owner.name.clone(),
        }
    }
}

fn version_of(object: &Object) -> String {
    let label = object.metadata.labels.get("app.kubernetes.io/version").cloned();
    let tag = || {
        let name = object.spec.containers.first()?.image.rsplit('/').next()?;
        let tag = name.split('@').next()?.split_once(':')?.1;
        (tag != "latest").then(|| tag.to_owned())
    };
    label.or_else(tag).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filed(files: &mut Files, document: &str) -> Vec<(String, String)> {
        let piece = files.piece(Bytes::from(document.to_owned()), UnixNanos(1)).expect("a piece");
        piece.container.attributes().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    fn value(pairs: &[(String, String)], key: &str) -> Option<String> {
        pairs.iter().find(|(known, _)| known == key).map(|(_, value)| value.clone())
    }

    #[test]
    fn a_pod_is_filed_under_its_workload() {
        let mut files = Files::default();
        let pod = r#"{"kind":"Pod","metadata":{"name":"cart-7d9-x","namespace":"shop","uid":"u1",
            "labels":{"pod-template-hash":"7d9"},
            "ownerReferences":[{"kind":"ReplicaSet","name":"cart-7d9","uid":"r1","controller":true}]},
            "spec":{"nodeName":"n1","containers":[{"image":"registry:5000/shop/cart:1.4.2"}]}}"#;
        let pairs = filed(&mut files, pod);
        assert_eq!(value(&pairs, WORKLOAD).as_deref(), Some("cart"));
        assert_eq!(value(&pairs, "service.version").as_deref(), Some("1.4.2"));
        assert_eq!(value(&pairs, "k8s.node.name").as_deref(), Some("n1"));
        let set = r#"{"kind":"ReplicaSet","metadata":{"name":"cart-7d9","namespace":"shop","uid":"r1",
            "ownerReferences":[{"kind":"Deployment","name":"basket","uid":"d1","controller":true}]}}"#;
        assert_eq!(value(&filed(&mut files, set), WORKLOAD).as_deref(), Some("basket"));
        let gone = format!(r#"{{"type":"DELETED","object":{pod}}}"#);
        assert_eq!(value(&filed(&mut files, &gone), WORKLOAD).as_deref(), Some("basket"));
    }

    #[test]
    fn an_event_is_filed_with_its_pod() {
        let event = r#"{"kind":"Event","metadata":{"name":"e","namespace":"shop"},
            "involvedObject":{"kind":"Pod","name":"cart-7d9-x","namespace":"shop","uid":"u1"}}"#;
        let pairs = filed(&mut Files::default(), event);
        assert_eq!(value(&pairs, "k8s.pod.uid").as_deref(), Some("u1"));
    }

    #[test]
    fn what_is_no_object_is_not_filed() {
        assert!(Files::default().piece(Bytes::from_static(b"{}"), UnixNanos(1)).is_none());
        assert!(Files::default().piece(Bytes::from_static(b"[["), UnixNanos(1)).is_none());
    }
}
