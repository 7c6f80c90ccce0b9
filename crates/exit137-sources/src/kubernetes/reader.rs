//! Takes values out of one object's fields, and notes those that are not what the API promises.

use exit137_core::observation::kubernetes::Owner;
use exit137_core::problem::Problems;
use exit137_core::time::UnixNanos;

use super::field::{Field, Flag, List, Number, Scalar, Shape, Text, TextMap};
use super::quantity::parse_bytes;
use super::wire;
use crate::location::Location;

/// Longer messages are cut: Kubernetes allows 4096 bytes for a termination and 1024 for an event.
pub(super) const MESSAGE_BYTES_MAX: usize = 4096;

/// Everything else is a name, an image or a setting.
const TEXT_BYTES_MAX: usize = 4096;

/// Reads one object; knows where it stands and what it is called.
pub(super) struct Reader<'o> {
    pub(super) at: Location<'o>,
    pub(super) kind: &'o str,
    /// `namespace/name`, once known.
    pub(super) name: String,
    pub(super) problems: &'o mut Problems,
}

impl Reader<'_> {
    /// Notes that this object has something wrong.
    pub(super) fn problem(&mut self, message: &str) {
        let (kind, name) = (self.kind, &self.name);
        let space = if name.is_empty() { "" } else { " " };
        self.problems.add(self.at.file, Some(self.at.line), format!("{kind}{space}{name}: {message}"));
    }

    /// The value of the field at `path`.
    pub(super) fn get<'f, 'de, T: Shape<'de>>(&mut self, path: &str, field: &'f Field<T>) -> Option<&'f T> {
        match field {
            Field::Absent => None,
            Field::Is(value) => Some(value),
            Field::Wrong(found) => {
                self.problem(&format!("expected {} in `{path}`, found {found}", T::EXPECTED));
                None
            }
        }
    }

    /// Text that is not empty.
    pub(super) fn text(&mut self, path: &str, field: &Text<'_>) -> Option<String> {
        let text = self.get(path, field)?;
        (!text.is_empty()).then(|| cut(text, TEXT_BYTES_MAX).to_owned())
    }

    pub(super) fn flag(&mut self, path: &str, field: &Flag) -> bool {
        self.get(path, field).copied().unwrap_or_default()
    }

    /// A number of times; negative ones are not.
    pub(super) fn count(&mut self, path: &str, field: &Number) -> Option<u32> {
        let number = *self.get(path, field)?;
        let count = u32::try_from(number).ok();
        if count.is_none() {
            self.problem(&format!("expected a count in `{path}`, found {number}"));
        }
        count
    }

    /// An RFC 3339 time. Go's zero time and the epoch stand for "never".
    pub(super) fn time(&mut self, path: &str, field: &Text<'_>) -> Option<UnixNanos> {
        let text = self.get(path, field)?;
        // The zero time is out of range of nanoseconds since the epoch.
        if text.is_empty() || text.starts_with("0001-01-01T") {
            return None;
        }
        let time = UnixNanos::parse_rfc3339(text);
        if time.is_none() {
            let found = cut(text, 64);
            self.problem(&format!("expected an RFC 3339 time in `{path}`, found \"{found}\""));
        }
        time.filter(|time| time.0 > 0)
    }

    /// A quantity of memory in bytes.
    pub(super) fn bytes(&mut self, path: &str, field: &Field<Scalar<'_>>) -> Option<u64> {
        let text = &self.get(path, field)?.0;
        let bytes = parse_bytes(text);
        if let Err(expected) = bytes {
            let found = cut(text, 64);
            self.problem(&format!("{expected} in `{path}`, found \"{found}\""));
        }
        bytes.ok()
    }

    /// Memory limit and request, in bytes.
    pub(super) fn limit_and_request(
        &mut self,
        field: &Field<wire::Resources<'_>>,
    ) -> (Option<u64>, Option<u64>) {
        let Some(resources) = self.get("resources", field) else { return (None, None) };
        let limit = self.get("resources.limits", &resources.limits);
        let limit = limit.and_then(|list| self.bytes("resources.limits.memory", &list.memory));
        let request = self.get("resources.requests", &resources.requests);
        let request = request.and_then(|list| self.bytes("resources.requests.memory", &list.memory));
        (limit, request)
    }

    /// The items of a list that are what they should be.
    pub(super) fn list<'f, 'de, T: Shape<'de>>(
        &mut self,
        path: &str,
        field: &'f List<T>,
    ) -> impl Iterator<Item = &'f T> + use<'f, 'de, T> {
        let items = match field {
            Field::Is(items) => items.as_slice(),
            other => {
                self.get(path, other);
                &[]
            }
        };
        for item in items.iter().filter(|item| matches!(item, Field::Wrong(_))) {
            self.get(path, item);
        }
        items.iter().filter_map(|item| if let Field::Is(item) = item { Some(item) } else { None })
    }

    /// The entries of a map of texts that `keep` wants.
    pub(super) fn map(
        &mut self,
        path: &str,
        field: &TextMap<'_>,
        keep: impl Fn(&str) -> bool,
    ) -> impl Iterator<Item = (String, String)> {
        let entries = self.get(path, field).map(Vec::as_slice).unwrap_or_default();
        let mut kept = Vec::new();
        for (key, value) in entries.iter().filter(|(key, _)| keep(key)) {
            if let Some(value) = self.get(path, value) {
                kept.push((cut(key, TEXT_BYTES_MAX).to_owned(), cut(value, TEXT_BYTES_MAX).to_owned()));
            }
        }
        kept.into_iter()
    }

    /// The owner that controls the object.
    pub(super) fn owner(&mut self, metadata: &wire::Metadata<'_>) -> Option<Owner> {
        let mut owners = self.list("metadata.ownerReferences", &metadata.owner_references);
        let owner = owners.find(|owner| owner.controller == Field::Is(true))?;
        let path = "metadata.ownerReferences";
        Some(Owner {
            kind: self.text(path, &owner.kind)?,
            name: self.text(path, &owner.name)?,
            uid: self.text(path, &owner.uid).unwrap_or_default(),
        })
    }

    /// `resourceVersion` as a number; 0 when it is not one, which API servers may do.
    pub(super) fn resource_version(&mut self, metadata: &wire::Metadata<'_>) -> u64 {
        let text = self.get("metadata.resourceVersion", &metadata.resource_version);
        text.and_then(|text| text.parse().ok()).unwrap_or(0)
    }
}

/// The first bytes of `text`, at a character boundary.
pub(super) fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}
