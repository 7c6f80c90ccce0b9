//! A recording of a real cluster, to be played: `<resource>.list.json` and `<resource>.watch.jsonl`, compressed or not.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::FakeApi;

/// One event of a recorded watch.
#[derive(Debug, Clone)]
pub(crate) struct Played {
    pub(crate) resource: String,
    pub(crate) event_type: String,
    pub(crate) object: Value,
    version: u64,
}

/// What was recorded.
#[derive(Debug, Default)]
pub(crate) struct Recording {
    /// Objects by resource, as they were at the end.
    pub(crate) lists: BTreeMap<String, Vec<Value>>,
    /// All watches together, in the order in which things happened: a cluster counts all its changes with one counter.
    pub(crate) events: Vec<Played>,
}

impl Recording {
    /// Reads a folder.
    pub(crate) fn read(folder: &Path) -> Self {
        let mut recording = Self::default();
        for entry in std::fs::read_dir(folder).expect("the folder is there").flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let plain = name.strip_suffix(".zst").unwrap_or(&name);
            let (list, watch) = (plain.strip_suffix(".list.json"), plain.strip_suffix(".watch.jsonl"));
            if list.is_none() && watch.is_none() {
                continue;
            }
            let bytes = std::fs::read(entry.path()).expect("the file can be read");
            let packed = name.ends_with(".zst");
            let bytes = if packed { zstd::decode_all(bytes.as_slice()).expect("zstd") } else { bytes };
            if let Some(resource) = list {
                let mut list: Value = serde_json::from_slice(&bytes).expect("a list in JSON");
                let items = list["items"].as_array_mut().map(std::mem::take).unwrap_or_default();
                recording.lists.insert(resource.to_owned(), items);
            }
            if let Some(resource) = watch {
                let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
                recording.events.extend(lines.map(|line| Played::read(resource, line)));
            }
        }
        // Stable: within a resource the order is already right.
        recording.events.sort_by_key(|event| event.version);
        recording
    }

    /// Publishes what is only known as a list, as there are no changes of it.
    pub(crate) fn publish_unwatched(&self, api: &FakeApi) {
        for (resource, objects) in &self.lists {
            if self.events.iter().all(|event| event.resource != *resource) {
                objects.iter().for_each(|object| api.publish(resource, "ADDED", object.clone()));
            }
        }
    }

    /// Publishes everything as it was at the end.
    pub(crate) fn publish_lists(&self, api: &FakeApi) {
        for (resource, objects) in &self.lists {
            objects.iter().for_each(|object| api.publish(resource, "ADDED", object.clone()));
        }
    }
}

impl Played {
    fn read(resource: &str, line: &[u8]) -> Self {
        let mut event: Value = serde_json::from_slice(line).expect("a watch event in JSON");
        let object = event["object"].take();
        let version = object["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok());
        let event_type = event["type"].as_str().unwrap_or_default().to_owned();
        Self { resource: resource.to_owned(), event_type, object, version: version.unwrap_or(0) }
    }

    pub(crate) fn publish(&self, api: &FakeApi) {
        api.publish(&self.resource, &self.event_type, self.object.clone());
    }
}
