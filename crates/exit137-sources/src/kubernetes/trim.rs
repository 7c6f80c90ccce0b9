//! Objects without what no verdict reads: a tenth of what an API server sends, and none of its secrets. Whoever
//! watches a cluster keeps these; the decoders read them back to the same observations.
//!
//! Environment variables stay only if they set a runtime's memory, annotations only if they name the pod elsewhere.

use std::fmt;
use std::hash::Hasher;
use std::ops::Range;

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

use exit137_core::observation::kubernetes::is_runtime_setting;

use super::field::{Field, List, Text};
use super::reader::{MESSAGE_BYTES_MAX, cut};
use super::{event, pod, wire, workload};

/// An API server stores no object of more than 1.5 MiB; what is kept of one is a tenth. More is made to fill us.
const TRIMMED_BYTES_MAX: usize = 512 << 10;

/// What is kept of a value.
enum Keep {
    /// Everything.
    Whole,
    /// These fields; in a list, of each item.
    Fields(&'static [(&'static str, Keep)]),
    /// The entries of a map whose key is wanted.
    Entries(fn(&str) -> bool),
    /// That it is there.
    Presence,
    /// Environment variables of a container.
    Environment,
    /// `resourceVersion`: kept, but not what makes two versions differ.
    Version,
}

use Keep::{Entries, Environment, Fields, Presence, Version, Whole};

const OWNERS: Keep = Fields(&[("kind", Whole), ("name", Whole), ("uid", Whole), ("controller", Whole)]);

const METADATA: Keep = Fields(&[
    ("name", Whole),
    ("namespace", Whole),
    ("uid", Whole),
    ("resourceVersion", Version),
    ("creationTimestamp", Whole),
    ("deletionTimestamp", Whole),
    ("deletionGracePeriodSeconds", Whole),
    ("labels", Whole),
    ("annotations", Entries(is_wanted)),
    ("ownerReferences", OWNERS),
]);

const MEMORY: Keep = Fields(&[("memory", Whole)]);

const RESOURCES: Keep = Fields(&[("limits", MEMORY), ("requests", MEMORY)]);

const CONTAINERS: Keep = Fields(&[
    ("name", Whole),
    ("image", Whole),
    ("restartPolicy", Whole),
    ("command", Whole),
    ("args", Whole),
    ("env", Environment),
    ("resources", RESOURCES),
    ("livenessProbe", Presence),
    ("startupProbe", Presence),
]);

const POD_SPEC: Keep = Fields(&[
    ("nodeName", Whole),
    ("hostname", Whole),
    ("hostNetwork", Whole),
    ("containers", CONTAINERS),
    ("initContainers", CONTAINERS),
    ("ephemeralContainers", CONTAINERS),
    ("resources", RESOURCES),
    ("volumes", Fields(&[("name", Whole), ("emptyDir", Fields(&[("medium", Whole), ("sizeLimit", Whole)]))])),
]);

const CONDITIONS: Keep =
    Fields(&[("type", Whole), ("status", Whole), ("reason", Whole), ("lastTransitionTime", Whole)]);

const STATE: Keep = Fields(&[
    ("waiting", Fields(&[("reason", Whole)])),
    ("running", Fields(&[("startedAt", Whole)])),
    (
        "terminated",
        Fields(&[
            ("exitCode", Whole),
            ("reason", Whole),
            ("message", Whole),
            ("startedAt", Whole),
            ("finishedAt", Whole),
            ("containerID", Whole),
        ]),
    ),
]);

const STATUSES: Keep = Fields(&[
    ("name", Whole),
    ("containerID", Whole),
    ("imageID", Whole),
    ("restartCount", Whole),
    ("state", STATE),
    ("lastState", STATE),
    ("resources", RESOURCES),
]);

const POD: Keep = Fields(&[
    ("metadata", METADATA),
    ("spec", POD_SPEC),
    (
        "status",
        Fields(&[
            ("phase", Whole),
            ("reason", Whole),
            ("message", Whole),
            ("conditions", CONDITIONS),
            ("containerStatuses", STATUSES),
            ("initContainerStatuses", STATUSES),
            ("ephemeralContainerStatuses", STATUSES),
        ]),
    ),
]);

const NODE: Keep = Fields(&[
    ("metadata", METADATA),
    (
        "status",
        Fields(&[
            ("capacity", MEMORY),
            ("allocatable", MEMORY),
            ("conditions", CONDITIONS),
            ("nodeInfo", Fields(&[("bootID", Whole)])),
        ]),
    ),
]);

const IMAGES: Keep = Fields(&[("name", Whole), ("image", Whole)]);

const TEMPLATE: Keep = Fields(&[
    ("metadata", Fields(&[("labels", Whole)])),
    ("spec", Fields(&[("initContainers", IMAGES), ("containers", IMAGES)])),
]);

const WORKLOAD: Keep = Fields(&[
    ("metadata", METADATA),
    (
        "spec",
        Fields(&[
            ("template", TEMPLATE),
            ("jobTemplate", Fields(&[("spec", Fields(&[("template", TEMPLATE)]))])),
        ]),
    ),
    ("status", Fields(&[("updateRevision", Whole)])),
]);

const REFERENCE: Keep =
    Fields(&[("kind", Whole), ("namespace", Whole), ("name", Whole), ("uid", Whole), ("fieldPath", Whole)]);

const EVENT: Keep = Fields(&[
    ("metadata", METADATA),
    ("reason", Whole),
    ("type", Whole),
    ("message", Whole),
    ("note", Whole),
    ("involvedObject", REFERENCE),
    ("regarding", REFERENCE),
    ("count", Whole),
    ("deprecatedCount", Whole),
    ("eventTime", Whole),
    ("firstTimestamp", Whole),
    ("deprecatedFirstTimestamp", Whole),
    ("lastTimestamp", Whole),
    ("deprecatedLastTimestamp", Whole),
    ("series", Fields(&[("count", Whole), ("lastObservedTime", Whole)])),
]);

fn is_wanted(annotation: &str) -> bool {
    pod::is_identity(annotation) || workload::is_revision(annotation)
}

/// One object, as small as a verdict allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trimmed {
    /// `metadata.namespace`; empty for a node.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`; empty for a manifest.
    pub uid: String,
    /// `metadata.resourceVersion`.
    pub resource_version: String,
    /// The object in JSON, with its kind.
    pub json: Vec<u8>,
    /// Equal for two versions that differ in nothing that is kept.
    pub fingerprint: u64,
}

/// Why nothing of an object is kept.
#[derive(Debug, thiserror::Error)]
pub enum NotKept {
    /// An event that says nothing about a kill.
    #[error("an event that says nothing about a kill")]
    Irrelevant,
    /// Not an object in JSON.
    #[error("expected a Kubernetes object in JSON")]
    NotAnObject(#[source] serde_json::Error),
    /// Larger than any object that a cluster makes.
    #[error("expected at most {TRIMMED_BYTES_MAX} bytes that matter")]
    TooLarge,
}

/// Trims one object. `kind` and `api_version` are what it was asked for: the items of a list do not say it.
///
/// # Errors
///
/// When nothing of it is worth keeping, or it cannot be read.
pub fn trim(object: &str, kind: &str, api_version: &str) -> Result<Trimmed, NotKept> {
    let head: Field<wire::Head<'_>> = serde_json::from_str(object).map_err(NotKept::NotAnObject)?;
    let Field::Is(head) = head else {
        return Err(NotKept::NotAnObject(serde_json::Error::custom("expected an object")));
    };
    let keep = match kind {
        "Pod" => &POD,
        "Node" => &NODE,
        "Event" if !event::is_relevant(&head.reason, &head.message, &head.note) => {
            return Err(NotKept::Irrelevant);
        }
        "Event" => &EVENT,
        _ => &WORKLOAD,
    };
    let mut out = Out { json: Vec::with_capacity(1024), version: 0..0 };
    out.json.extend_from_slice(b"{\"apiVersion\":");
    out.text(api_version);
    out.json.extend_from_slice(b",\"kind\":");
    out.text(kind);
    let mut source = serde_json::Deserializer::from_str(object);
    Value { keep, out: &mut out, opened: true }.deserialize(&mut source).map_err(|error| {
        if out.json.len() > TRIMMED_BYTES_MAX { NotKept::TooLarge } else { NotKept::NotAnObject(error) }
    })?;
    let metadata = if let Field::Is(metadata) = head.metadata { metadata } else { wire::Metadata::default() };
    let owned = |text: Text<'_>| match text {
        Field::Is(text) => cut(&text, MESSAGE_BYTES_MAX).to_owned(),
        _ => String::new(),
    };
    Ok(Trimmed {
        namespace: owned(metadata.namespace),
        name: owned(metadata.name),
        uid: owned(metadata.uid),
        resource_version: owned(metadata.resource_version),
        fingerprint: out.fingerprint(),
        json: out.json,
    })
}

/// The JSON that is made.
struct Out {
    json: Vec<u8>,
    /// Where `resourceVersion` stands in it.
    version: Range<usize>,
}

impl Out {
    fn text(&mut self, text: &str) {
        // Writing text into memory cannot fail.
        let _ = serde_json::to_writer(&mut self.json, cut(text, MESSAGE_BYTES_MAX));
    }

    fn write(&mut self, value: impl fmt::Display) {
        self.json.extend_from_slice(value.to_string().as_bytes());
    }

    fn fingerprint(&self) -> u64 {
        let mut hasher = std::hash::DefaultHasher::new();
        hasher.write(&self.json[..self.version.start]);
        hasher.write(&self.json[self.version.end..]);
        hasher.finish()
    }
}

/// Writes the next value as far as it is kept.
struct Value<'o> {
    keep: &'static Keep,
    out: &'o mut Out,
    /// The object's first fields are written already.
    opened: bool,
}

impl Value<'_> {
    fn inner(&mut self, keep: &'static Keep) -> Value<'_> {
        Value { keep, out: self.out, opened: false }
    }

    fn room<E: serde::de::Error>(&self) -> Result<(), E> {
        if self.out.json.len() > TRIMMED_BYTES_MAX { Err(E::custom("too large")) } else { Ok(()) }
    }

    fn scalar(self, value: impl fmt::Display) {
        self.out.write(value);
    }
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.keep {
            Environment => {
                let list = List::<wire::Environment<'de>>::deserialize(deserializer)?;
                environment(&list, self.out);
                Ok(())
            }
            Version => {
                let start = self.out.json.len();
                let out = self.out;
                deserializer.deserialize_any(Value { keep: &Whole, out: &mut *out, opened: false })?;
                out.version = start..out.json.len();
                Ok(())
            }
            _ => deserializer.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        self.scalar("null");
        Ok(())
    }
    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.scalar(value);
        Ok(())
    }
    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.scalar(value);
        Ok(())
    }
    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.scalar(value);
        Ok(())
    }
    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        // Never infinite: JSON has no word for it.
        self.scalar(value);
        Ok(())
    }
    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        self.out.text(value);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        self.out.json.push(b'[');
        let mut first = true;
        loop {
            let before = self.out.json.len();
            if !first {
                self.out.json.push(b',');
            }
            if list.next_element_seed(self.inner(self.keep))?.is_none() {
                self.out.json.truncate(before);
                break;
            }
            first = false;
            self.room()?;
        }
        self.out.json.push(b']');
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let mut first = !self.opened;
        if !self.opened {
            self.out.json.push(b'{');
        }
        while let Some(key) = map.next_key::<Text<'de>>()? {
            let Field::Is(key) = key else { continue };
            let wanted = match self.keep {
                Whole => Some(&Whole),
                Fields(fields) => fields.iter().find(|(name, _)| *name == key).map(|(_, keep)| keep),
                Entries(wanted) => wanted(&key).then_some(&Whole),
                Presence | Environment | Version => None,
            };
            let Some(keep) = wanted else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if !std::mem::take(&mut first) {
                self.out.json.push(b',');
            }
            self.out.text(&key);
            self.out.json.push(b':');
            map.next_value_seed(self.inner(keep))?;
            self.room()?;
        }
        self.out.json.push(b'}');
        Ok(())
    }
}

/// Those that set a runtime's memory, and what is no variable at all, which the decoder will tell of.
fn environment(list: &List<wire::Environment<'_>>, out: &mut Out) {
    let Field::Is(list) = list else { return out.write("null") };
    out.write("[");
    let mut first = true;
    for variable in list {
        let Field::Is(wire::Environment { name: Field::Is(name), value }) = variable else { continue };
        if !is_runtime_setting(name) {
            continue;
        }
        if !std::mem::take(&mut first) {
            out.write(",");
        }
        out.write("{\"name\":");
        out.text(name);
        if let Field::Is(value) = value {
            out.write(",\"value\":");
            out.text(value);
        }
        out.write("}");
    }
    out.write("]");
}
