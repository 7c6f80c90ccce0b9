//! A field of a JSON object that forgives: absent, null and of the wrong type are all values, so that one odd
//! field never costs the object around it. Nothing is buffered; text is borrowed from the document.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// What was found where a `T` was expected.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) enum Field<T> {
    /// Nothing, or null.
    #[default]
    Absent,
    /// Another JSON type, named.
    Wrong(&'static str),
    /// What was expected.
    Is(T),
}

/// Text of the document, or what its escapes stand for.
pub(super) type Text<'a> = Field<Cow<'a, str>>;

impl Text<'_> {
    /// Whether it is exactly `expected`.
    pub(super) fn is_text(&self, expected: &str) -> bool {
        matches!(self, Self::Is(text) if text == expected)
    }
}

/// A whole number.
pub(super) type Number = Field<i64>;

/// A truth value.
pub(super) type Flag = Field<bool>;

/// A list; each item forgives by itself.
pub(super) type List<T> = Field<Vec<Field<T>>>;

/// An object used as a map from text to text.
pub(super) type TextMap<'a> = Field<Vec<(Cow<'a, str>, Text<'a>)>>;

/// Text, or a number as text: `memory: 134217728` is as good as `memory: "134217728"`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scalar<'a>(pub(super) Cow<'a, str>);

/// A JSON type that a [`Field`] can hold. What is not overridden is of the wrong type.
pub(super) trait Shape<'de>: Sized {
    /// For messages: `text`, `a list`.
    const EXPECTED: &'static str;

    fn from_text(_: Cow<'de, str>) -> Option<Self> {
        None
    }
    fn from_bool(_: bool) -> Option<Self> {
        None
    }
    fn from_integer(_: i128) -> Option<Self> {
        None
    }
    fn from_float(_: f64) -> Option<Self> {
        None
    }
    /// Takes the whole list, also when it returns `None`.
    fn from_list<A: SeqAccess<'de>>(mut list: A) -> Result<Option<Self>, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }
    /// Takes the whole map, also when it returns `None`.
    fn from_map<A: MapAccess<'de>>(mut map: A) -> Result<Option<Self>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}

impl<'de: 'a, 'a> Shape<'de> for Cow<'a, str> {
    const EXPECTED: &'static str = "text";

    fn from_text(text: Cow<'de, str>) -> Option<Self> {
        Some(text)
    }
}

impl<'de: 'a, 'a> Shape<'de> for Scalar<'a> {
    const EXPECTED: &'static str = "text";

    fn from_text(text: Cow<'de, str>) -> Option<Self> {
        Some(Self(text))
    }
    fn from_integer(number: i128) -> Option<Self> {
        Some(Self(number.to_string().into()))
    }
    fn from_float(number: f64) -> Option<Self> {
        Some(Self(number.to_string().into()))
    }
}

impl<'de> Shape<'de> for i64 {
    const EXPECTED: &'static str = "a whole number";

    fn from_integer(number: i128) -> Option<Self> {
        number.try_into().ok()
    }
    fn from_float(number: f64) -> Option<Self> {
        let whole = number as i64;
        (whole as f64 == number).then_some(whole)
    }
}

impl<'de> Shape<'de> for bool {
    const EXPECTED: &'static str = "true or false";

    fn from_bool(value: bool) -> Option<Self> {
        Some(value)
    }
}

impl<'de, T: Shape<'de>> Shape<'de> for Vec<Field<T>> {
    const EXPECTED: &'static str = "a list";

    fn from_list<A: SeqAccess<'de>>(mut list: A) -> Result<Option<Self>, A::Error> {
        let mut items = Self::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Some(items))
    }
}

impl<'de: 'a, 'a> Shape<'de> for Vec<(Cow<'a, str>, Text<'a>)> {
    const EXPECTED: &'static str = "an object";

    fn from_map<A: MapAccess<'de>>(mut map: A) -> Result<Option<Self>, A::Error> {
        let mut entries = Self::new();
        while let Some((key, value)) = map.next_entry::<Text<'a>, Text<'a>>()? {
            // Keys are always text in JSON.
            if let Field::Is(key) = key {
                entries.push((key, value));
            }
        }
        Ok(Some(entries))
    }
}

/// For objects with derived fields, each of which is a [`Field`]: they cannot fail but by broken syntax.
pub(super) fn record<'de, T, A>(map: A) -> Result<Option<T>, A::Error>
where
    T: Deserialize<'de>,
    A: MapAccess<'de>,
{
    T::deserialize(MapAccessDeserializer::new(map)).map(Some)
}

impl<'de, T: Shape<'de>> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FieldVisitor(PhantomData))
    }
}

struct FieldVisitor<T>(PhantomData<T>);

fn or_wrong<T>(value: Option<T>, found: &'static str) -> Field<T> {
    value.map_or(Field::Wrong(found), Field::Is)
}

impl<'de, T: Shape<'de>> Visitor<'de> for FieldVisitor<T> {
    type Value = Field<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }
    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Field::Absent)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(or_wrong(T::from_bool(value), "true or false"))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(or_wrong(T::from_integer(value.into()), "a number"))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(or_wrong(T::from_integer(value.into()), "a number"))
    }
    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(or_wrong(T::from_float(value), "a number"))
    }
    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(or_wrong(T::from_text(Cow::Borrowed(text)), "text"))
    }
    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(or_wrong(T::from_text(Cow::Owned(text.to_owned())), "text"))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
        Ok(or_wrong(T::from_list(list)?, "a list"))
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        Ok(or_wrong(T::from_map(map)?, "an object"))
    }
}
