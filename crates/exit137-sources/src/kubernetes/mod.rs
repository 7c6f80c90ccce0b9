//! Kubernetes objects as the API gives them: single objects, lists (`kubectl get -o json`, `kubectl get --raw`),
//! watch events, and YAML. What is taken from them is in [`exit137_core::observation::kubernetes`].
//!
//! An object with an odd field is still read; an object that cannot be read costs no other one. Both become
//! problems. Kinds that say nothing about a kill are counted and left.

mod document;
mod envelope;
mod event;
mod field;
mod pod;
mod quantity;
mod reader;
mod status;
mod trim;
mod wire;
mod workload;
mod yaml;

pub use document::{NotKubernetes, decode_json};
pub use envelope::object_kind_hint;
pub use quantity::{NotAQuantity, parse_bytes};
pub use trim::{NotKept, Trimmed, trim};
pub use yaml::{decode_yaml, looks_like_yaml};

#[cfg(test)]
mod tests;
