//! What a JSON document is, told from its top-level keys alone: an object, a list or a watch event.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::field::{Field, Text};

/// The top level of a document, as far as it could be read.
#[derive(Debug, Default)]
pub(super) struct Envelope<'a> {
    /// `kind`.
    pub(super) kind: Option<Cow<'a, str>>,
    /// `apiVersion`.
    pub(super) api_version: Option<Cow<'a, str>>,
    /// `type` of a watch event; also events have one.
    pub(super) event_type: Option<Cow<'a, str>>,
    /// `object` of a watch event.
    pub(super) object: Option<&'a RawValue>,
    /// `items` of a list; those before a break when the document breaks off.
    pub(super) items: Option<Vec<&'a RawValue>>,
}

impl<'a> Envelope<'a> {
    /// Reads as far as it takes to know what `text` is. The error, if any, says where the document breaks; what
    /// came before is kept.
    pub(super) fn read(text: &'a str) -> (Self, Option<serde_json::Error>) {
        let mut envelope = Self::default();
        let mut json = serde_json::Deserializer::from_str(text);
        let result = Keys { envelope: &mut envelope, hint: false }.deserialize(&mut json);
        let error = result.err().filter(|_| !envelope.is_object());
        (envelope, error)
    }

    /// Whether this is one object of a known kind: then the rest need not be looked at here.
    fn is_object(&self) -> bool {
        let kind = self.kind.as_deref().unwrap_or_default();
        let has_items = self.items.is_some() || kind.ends_with("List");
        !kind.is_empty() && self.api_version.is_some() && !has_items
    }
}

/// Whether a JSON document, or the head of one, is a Kubernetes object, a list of them or a watch event. Looks at
/// top-level keys until they tell, so it costs little for Kubernetes and for OTLP.
pub fn object_kind_hint(document: &[u8]) -> bool {
    let mut envelope = Envelope::default();
    let mut json = serde_json::Deserializer::from_slice(document);
    // Whether it breaks off is not asked: a head does.
    let _ = Keys { envelope: &mut envelope, hint: true }.deserialize(&mut json);
    let named = envelope.kind.is_some() && envelope.api_version.is_some();
    let watched = envelope.event_type.is_some() && envelope.object.is_some();
    named || watched || envelope.items.is_some()
}

/// Why reading stopped early, for those who look at the error.
const TOLD: &str = "what it is was told";

struct Keys<'e, 'a> {
    envelope: &'e mut Envelope<'a>,
    /// Stop at the first certain sign.
    hint: bool,
}

impl<'de: 'a, 'a> DeserializeSeed<'de> for Keys<'_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de: 'a, 'a> Visitor<'de> for Keys<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a Kubernetes object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let envelope = self.envelope;
        while let Some(key) = map.next_key::<Text<'a>>()? {
            let Field::Is(key) = key else { continue };
            match key.as_ref() {
                "kind" => text_into(&mut envelope.kind, &mut map)?,
                "apiVersion" => text_into(&mut envelope.api_version, &mut map)?,
                "type" => text_into(&mut envelope.event_type, &mut map)?,
                "object" => {
                    if self.hint && envelope.event_type.is_none() {
                        // Either order of the two keys is allowed; its value cannot be borrowed twice.
                        envelope.object = map.next_value::<Option<&RawValue>>()?;
                    } else if self.hint {
                        envelope.object = Some(RawValue::NULL);
                        return Err(A::Error::custom(TOLD));
                    } else {
                        envelope.object = map.next_value::<Option<&RawValue>>()?;
                    }
                }
                "items" if self.hint => map.next_value_seed(FirstItem(envelope))?,
                "items" => {
                    let items = envelope.items.insert(Vec::new());
                    map.next_value_seed(Items(items))?;
                }
                "resourceSpans" | "resourceMetrics" | "resourceLogs" if self.hint => {
                    return Err(A::Error::custom(TOLD));
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
            let enough = self.hint && envelope.kind.is_some() && envelope.api_version.is_some();
            if enough || envelope.is_object() {
                return Err(A::Error::custom(TOLD));
            }
        }
        Ok(())
    }
}

fn text_into<'de: 'a, 'a, A: MapAccess<'de>>(
    into: &mut Option<Cow<'a, str>>,
    map: &mut A,
) -> Result<(), A::Error> {
    if let Field::Is(text) = map.next_value::<Text<'a>>()? {
        *into = Some(text);
    }
    Ok(())
}

/// Collects the items of a list, and keeps them when a later one breaks.
struct Items<'e, 'a>(&'e mut Vec<&'a RawValue>);

impl<'de: 'a, 'a> DeserializeSeed<'de> for Items<'_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de: 'a, 'a> Visitor<'de> for Items<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of Kubernetes objects in `items`")
    }

    /// An empty list may be null.
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(item) = list.next_element()? {
            self.0.push(item);
        }
        Ok(())
    }
}

/// Looks whether the first item of a list is an object with a kind, then stops.
struct FirstItem<'e, 'a>(&'e mut Envelope<'a>);

impl<'de: 'a, 'a> DeserializeSeed<'de> for FirstItem<'_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de: 'a, 'a> Visitor<'de> for FirstItem<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of Kubernetes objects in `items`")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let mut first = Envelope::default();
        let read = list.next_element_seed(Keys { envelope: &mut first, hint: true });
        let named = first.kind.is_some() && first.api_version.is_some();
        if named {
            self.0.items = Some(Vec::new());
        }
        read?;
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
}
