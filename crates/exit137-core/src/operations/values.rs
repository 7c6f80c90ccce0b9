//! Which calls of an operation: attribute values that its calls differ by, as explanations of their own. A leak in
//! `format=pdf` alone is explained by those calls better than by all calls of the operation.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::attributes::values_of;
use super::tally::Finish;
use crate::hashing::NumberMap;
use crate::incident::Scene;

/// A value of fewer calls cannot be judged.
const CALLS_MIN: usize = 6;
/// A value of nearly all calls separates nothing.
const SHARE_MAX: f64 = 0.9;
/// A key with more values than this, or than a fifth of the calls, identifies requests, not kinds of them.
const DISTINCT_MIN: usize = 12;
/// Values tried for one operation, the most frequent first.
const PER_OPERATION_MAX: usize = 24;
/// Calls whose attributes are looked at; an operation with more is judged as a whole.
const CALLS_MAX: usize = 200_000;

/// One value of one attribute of one operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Value {
    /// Index of the operation in the tallies' names.
    pub operation: u32,
    /// Attribute or query parameter.
    pub key: String,
    /// Its value.
    pub value: String,
}

/// The values worth trying, and which spans have them.
#[derive(Debug, Default)]
pub(super) struct Values {
    /// In the order of operations.
    pub list: Vec<Value>,
    of_span: NumberMap<u32, Vec<u32>>,
}

impl Values {
    /// Looks through the finished calls of these operations.
    pub(super) fn of<'a>(
        scene: &Scene<'_>,
        finishes: impl Iterator<Item = &'a Finish>,
        operations: &[u32],
    ) -> Self {
        let mut spans: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for finish in finishes.filter(|finish| operations.contains(&finish.operation)) {
            if let Some(span) = finish.span {
                spans.entry(finish.operation).or_default().push(span);
            }
        }
        let mut values = Self::default();
        for (operation, spans) in spans {
            if spans.len() <= CALLS_MAX {
                values.add(scene, operation, &spans);
            }
        }
        values
    }

    /// Indices into [`Self::list`] of the values that the call of `span` has.
    pub(super) fn of_span(&self, span: Option<u32>) -> &[u32] {
        span.and_then(|span| self.of_span.get(&span)).map_or(&[], Vec::as_slice)
    }

    fn add(&mut self, scene: &Scene<'_>, operation: u32, spans: &[u32]) {
        let mut having: BTreeMap<(&str, &str), Vec<u32>> = BTreeMap::new();
        for span in spans {
            for pair in values_of(scene, *span) {
                having.entry(pair).or_default().push(*span);
            }
        }
        let mut distinct: HashMap<&str, usize> = HashMap::new();
        for (key, _) in having.keys() {
            *distinct.entry(key).or_default() += 1;
        }
        let kind = |key: &str| distinct.get(key).is_some_and(|n| *n <= DISTINCT_MIN.max(spans.len() / 5));
        let mut ranked: Vec<(&(&str, &str), &Vec<u32>)> = having
            .iter()
            .filter(|((key, _), having)| {
                kind(key)
                    && having.len() >= CALLS_MIN
                    && (having.len() as f64) <= SHARE_MAX * spans.len() as f64
            })
            .collect();
        // A span attribute before a query parameter that says the same: it is the service's own word.
        ranked.sort_by_key(|((key, value), having)| {
            (std::cmp::Reverse(having.len()), !key.contains('.'), *key, *value)
        });
        let mut told: HashSet<(&str, usize)> = HashSet::new();
        for ((key, value), having) in ranked {
            if told.len() >= PER_OPERATION_MAX || !told.insert((*value, having.len())) {
                continue;
            }
            let index = self.list.len() as u32;
            self.list.push(Value { operation, key: (*key).to_owned(), value: (*value).to_owned() });
            for span in having {
                self.of_span.entry(*span).or_default().push(index);
            }
        }
    }
}
