//! Spans: which attributes stay, how many calls a sampled span stands for, and lists of attributes that recur.

use exit137_core::observation::span::{Span, SpanKind, SpanStatus};
use exit137_core::observation::{ResourceId, SourceKind};
use exit137_core::symbol::Symbol;
use exit137_core::time::UnixNanos;

use super::{ATTRIBUTES_MAX, Key, Sink, Value, cut};
use crate::otlp::keys::KeyClass;

/// A span while its fields come in, in any order.
#[derive(Debug, Default)]
pub(crate) struct SpanDraft {
    pub(crate) trace_id: u128,
    pub(crate) span_id: u64,
    pub(crate) parent_span_id: u64,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) name: Option<Symbol>,
    pub(crate) kind: SpanKind,
    pub(crate) status: SpanStatus,
    /// 0 when `tracestate` says nothing.
    pub(crate) weight: f32,
    attributes: Vec<(Symbol, Symbol)>,
    /// How many attributes came so far, dropped ones included.
    place: usize,
    /// One bit an attribute: whether it stays only on spans that cross a process boundary.
    boundary_only: u64,
}

impl SpanDraft {
    fn clear(&mut self) {
        let mut attributes = std::mem::take(&mut self.attributes);
        attributes.clear();
        *self = Self { attributes, ..Self::default() };
    }

    fn crosses_boundary(&self) -> bool {
        !matches!(self.kind, SpanKind::Internal | SpanKind::Unspecified)
    }
}

impl Sink {
    /// Forgets what a broken span left behind.
    pub(crate) fn begin_span(&mut self) {
        self.span.clear();
    }

    /// Whether an attribute with this key would be kept; the key if so.
    #[inline]
    pub(crate) fn wants_span_attribute(&mut self, key: &[u8]) -> Option<Key> {
        if self.span.attributes.len() >= ATTRIBUTES_MAX {
            return None;
        }
        let key = self.usual_key(key);
        (key.class != KeyClass::Drop).then_some(key)
    }

    /// Spans of a kind bring the same keys in the same order: comparing is cheaper than looking up.
    #[inline]
    fn usual_key(&mut self, key: &[u8]) -> Key {
        let place = self.span.place;
        self.span.place += 1;
        let usual = self.usual.of(self.span.name);
        if let Some((known, _)) = usual.get(place)
            && self.observations.symbols.bytes(known.symbol) == key
        {
            return *known;
        }
        let key = self.key(key);
        let usual = self.usual.of(self.span.name);
        if place < usual.len() {
            usual[place].0 = key;
        } else if place < ATTRIBUTES_MAX {
            usual.push((key, key.symbol));
        }
        key
    }

    /// Keeps an attribute that [`Sink::wants_span_attribute`] wanted last.
    pub(crate) fn span_attribute(&mut self, key: Key, value: Value<'_>) {
        let place = self.span.attributes.len();
        if place >= ATTRIBUTES_MAX {
            return;
        }
        // Many values are the same from span to span too.
        let at = self.span.place.wrapping_sub(1);
        let usual = self.usual.of(self.span.name).get(at);
        let value = match (value, usual) {
            (Value::Text(text), Some((_, usual))) if self.observations.symbols.bytes(*usual) == cut(text) => {
                *usual
            }
            _ => self.value(value),
        };
        if let Some((_, usual)) = self.usual.of(self.span.name).get_mut(at) {
            *usual = value;
        }
        self.span.boundary_only |= u64::from(key.class == KeyClass::BoundaryOnly) << place;
        self.span.attributes.push((key.symbol, value));
    }

    /// Keeps an attribute of a span event under the key `event.<name>.<key>`.
    pub(crate) fn event_attribute(&mut self, event: &[u8], key: &[u8], value: Value<'_>) {
        if self.wants_span_attribute(key).is_none() {
            return;
        }
        let name = [b"event.", event, b".", key].concat();
        let symbol = self.observations.symbols.intern_bytes(&name);
        self.span_attribute(Key { symbol, class: KeyClass::Keep }, value);
    }

    /// Notes a span event that has no attributes worth keeping.
    pub(crate) fn bare_event(&mut self, event: &[u8]) {
        let symbol = self.observations.symbols.intern_bytes(&[b"event.", event].concat());
        self.span_attribute(Key { symbol, class: KeyClass::Keep }, Value::Text(b""));
    }

    /// How many attributes the span has so far.
    pub(crate) fn span_attributes_len(&self) -> usize {
        self.span.attributes.len()
    }

    /// Adds the span. `Err` says what it lacks.
    pub(crate) fn finish_span(&mut self, resource: ResourceId) -> Result<(), &'static str> {
        let draft = &mut self.span;
        if draft.start == 0 && draft.end == 0 {
            return Err("a span with a start or end time");
        }
        if draft.boundary_only != 0 && !draft.crosses_boundary() {
            let mut bits = draft.boundary_only;
            draft.attributes.retain(|_| {
                let drop = bits & 1 == 1;
                bits >>= 1;
                !drop
            });
        }
        self.room.take(size_of::<Span>() + size_of_val(draft.attributes.as_slice()))?;
        let start = if draft.start == 0 { draft.end } else { draft.start };
        let name = match draft.name {
            Some(name) => name,
            None => self.observations.symbols.intern(""),
        };
        let draft = &self.span;
        let traces = &mut self.observations.traces;
        let attributes_start = self.shared_attributes.place(&mut traces.attributes, &draft.attributes);
        traces.spans.push(Span {
            trace_id: draft.trace_id,
            span_id: draft.span_id,
            parent_span_id: draft.parent_span_id,
            start: nanos(start),
            end: nanos(draft.end.max(start)),
            name,
            resource,
            attributes_start,
            attributes_len: draft.attributes.len() as u16,
            kind: draft.kind,
            status: draft.status,
            weight: if draft.weight > 0.0 { draft.weight } else { 1.0 },
        });
        self.count(SourceKind::Traces, 1);
        Ok(())
    }
}

/// OTLP's unsigned time; nothing real is past the year 2262.
pub(crate) fn nanos(time: u64) -> UnixNanos {
    UnixNanos(i64::try_from(time).unwrap_or(i64::MAX))
}

/// How many spans one sampled span stands for, by the `ot` entry of its `tracestate`: `th` is the rejection
/// threshold out of 2⁵⁶ (trailing zeros left out), `p` the older power of two.
pub(crate) fn weight(tracestate: &[u8]) -> Option<f32> {
    const ALL: u64 = 1 << 56;
    let text = std::str::from_utf8(tracestate).ok()?;
    let entry = text.split(',').find_map(|entry| entry.trim().strip_prefix("ot="))?;
    entry.split(';').find_map(|field| match field.split_once(':')? {
        ("th", digits) if (1..=14).contains(&digits.len()) => {
            let threshold = u64::from_str_radix(digits, 16).ok()? << (4 * (14 - digits.len()));
            Some((ALL as f64 / (ALL - threshold) as f64) as f32)
        }
        // 63 stands for "probability zero": such a span stands for nobody but itself.
        ("p", power) => power.parse().ok().filter(|power| *power < 63).map(|power: i32| 2f32.powi(power)),
        _ => None,
    })
}

/// What spans brought last, by their name: those of one batch take turns.
#[derive(Debug, Default)]
pub(crate) struct Usual {
    sets: Vec<Vec<(Key, Symbol)>>,
}

const USUAL_SETS: usize = 64;

impl Usual {
    /// That of a span with this name; names that share a set only make each other slower.
    #[inline]
    fn of(&mut self, name: Option<Symbol>) -> &mut Vec<(Key, Symbol)> {
        if self.sets.is_empty() {
            self.sets.resize(USUAL_SETS, Vec::new());
        }
        &mut self.sets[name.map_or(0, |name| name.0 as usize % USUAL_SETS)]
    }
}

/// Lists of attributes recur from span to span. The last ones seen are remembered (by hash, one a place), and
/// spans with the same list share it.
#[derive(Debug, Default)]
pub(crate) struct SharedAttributes {
    places: Vec<(u32, u16)>,
}

const PLACES: usize = 1 << 13;

impl SharedAttributes {
    fn place(&mut self, all: &mut Vec<(Symbol, Symbol)>, list: &[(Symbol, Symbol)]) -> u32 {
        if list.is_empty() {
            return 0;
        }
        if self.places.is_empty() {
            self.places.resize(PLACES, (0, 0));
        }
        let hash = list.iter().fold(0u64, |hash, (key, value)| {
            let pair = u64::from(key.0) << 32 | u64::from(value.0);
            (hash.rotate_left(5) ^ pair).wrapping_mul(0x517c_c1b7_2722_0a95)
        });
        let place = &mut self.places[(hash >> 40) as usize % PLACES];
        let (start, length) = (place.0 as usize, place.1 as usize);
        if length == list.len() && all.get(start..start + length) == Some(list) {
            return place.0;
        }
        *place = (all.len() as u32, list.len() as u16);
        all.extend_from_slice(list);
        place.0
    }
}

#[cfg(test)]
mod tests {
    use super::weight;

    #[test]
    fn tracestate_says_how_many_spans_one_stands_for() {
        for (tracestate, expected) in [
            ("ot=th:0", Some(1.0)),
            ("ot=th:8", Some(2.0)),
            ("rojo=00f067aa0ba902b7, ot=rv:abcdef;th:c", Some(4.0)),
            ("ot=p:3;r:5", Some(8.0)),
            ("ot=p:63", None),
            ("ot=th:", None),
            ("ot=th:xyz", None),
            ("ot=th:123456789012345", None),
            ("other=th:8", None),
            ("", None),
        ] {
            assert_eq!(weight(tracestate.as_bytes()), expected, "{tracestate}");
        }
        let nearly_all_rejected = weight(b"ot=th:ffffffffffffff").expect("a threshold");
        assert!(nearly_all_rejected.is_finite() && nearly_all_rejected > 1e16);
    }
}
