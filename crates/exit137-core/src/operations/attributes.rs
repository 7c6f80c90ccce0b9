//! One attribute value that narrows a guilty operation down: `export.range = year`, one tenant, one query
//! parameter. Looking at many values finds some by chance, so each pays for the number that was looked at.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::incident::{Incident, Scene};
use crate::observation::span::SpanKind;
use crate::time::SECOND;
use crate::work::{Call, CallSource};

/// Values seen less often than this outside of the kills count as this often.
const SEEN_MIN: f64 = 0.5;
/// How much better a value must explain the kills than the operation alone, in nats, after paying.
const GAIN_MIN: f64 = 0.7;
/// An attribute with more values than this identifies requests, not kinds of them.
const VALUES_MAX: usize = 200;

/// The value that the calls of `operation` running at the kills share and its other calls do not.
pub(super) fn at_kills(incident: &Incident<'_>, operation: u32) -> BTreeMap<String, String> {
    let mut culprits: Vec<Values<'_>> = Vec::new();
    let mut seen: HashSet<u32> = HashSet::new();
    for kill in &incident.kills {
        // Of several running calls of one operation, one that failed with the kill is the likeliest (a child's
        // death ends the request that waits for it), else the oldest.
        let broke = |call: &Call| call.failed && call.end.since(kill.at()).saturating_abs() <= 2 * SECOND;
        let own = kill.in_flight.iter().filter(|call| call.operation == operation);
        let oldest = own.min_by_key(|call| (!(call.source == CallSource::Own && broke(call)), call.start));
        if let Some(call) = oldest {
            culprits.push(values_of(incident.scene, call.span));
            seen.insert(call.span);
        }
    }
    let containers = incident.containers();
    let calls = containers.iter().flat_map(|container| incident.scene.work.calls_of(*container));
    let others =
        calls.filter(|call| call.operation == operation && !call.failed && !seen.contains(&call.span));
    best(&culprits, others.map(|call| values_of(incident.scene, call.span)))
}

/// Key and value, each key once.
pub(super) type Values<'a> = Vec<(&'a str, &'a str)>;

/// Looks at each of the `others` once and keeps only counts: there may be millions.
fn best<'a>(culprits: &[Values<'a>], others: impl Iterator<Item = Values<'a>>) -> BTreeMap<String, String> {
    if culprits.is_empty() {
        return BTreeMap::new();
    }
    let kills = culprits.len() as f64;
    let mut elsewhere: HashMap<(&str, &str), usize> = HashMap::new();
    let mut others_count = 0;
    for values in others {
        others_count += 1;
        values.into_iter().for_each(|pair| *elsewhere.entry(pair).or_default() += 1);
    }
    if others_count == 0 {
        return BTreeMap::new();
    }
    let mut counts: BTreeMap<(&str, &str), f64> = BTreeMap::new();
    for pair in culprits.iter().flatten() {
        *counts.entry(*pair).or_default() += 1.0;
    }
    let mut distinct: HashMap<&str, usize> = HashMap::new();
    let only_at_kills = counts.keys().filter(|pair| !elsewhere.contains_key(*pair));
    for (key, _) in elsewhere.keys().chain(only_at_kills) {
        *distinct.entry(key).or_default() += 1;
    }
    let looked_at = counts.len().max(1) as f64;
    let gain = |pair: &(&str, &str), count: f64| {
        let elsewhere = elsewhere.get(pair).copied().unwrap_or_default() as f64;
        let share = (elsewhere.max(SEEN_MIN) / others_count as f64).min(1.0);
        let missing = kills - count;
        count * -share.ln() + missing * 0.05f64.ln() - looked_at.ln()
    };
    let distinct_max = VALUES_MAX.min(others_count / 3 + 3);
    let best = counts
        .iter()
        .filter(|((key, _), _)| distinct.get(key).is_none_or(|values| *values <= distinct_max))
        .map(|(pair, count)| (gain(pair, *count), *pair))
        .max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1)));
    match best {
        Some((gain, (key, value))) if gain >= GAIN_MIN => {
            BTreeMap::from([(key.to_owned(), value.to_owned())])
        }
        _ => BTreeMap::new(),
    }
}

/// What tells the call of this span from others of its operation: its own attributes that are not of the
/// protocol, the query parameters of its or its caller's URL.
pub(super) fn values_of<'a>(scene: &Scene<'a>, span: u32) -> Values<'a> {
    let observations = scene.observations;
    let mut values = Values::new();
    let Some(span) = observations.traces.spans.get(span as usize) else { return values };
    // A caller's attributes are its own affair; its URL is the callee's.
    let caller = matches!(span.kind, SpanKind::Client | SpanKind::Producer);
    for (key, value) in observations.traces.attributes(span) {
        let (key, value) = (observations.symbols.text(*key), observations.symbols.text(*value));
        match key {
            "url.full" | "http.url" | "url.query" | "http.target" => add_query(&mut values, key, value),
            _ if is_protocol(key) || caller => {}
            _ => set(&mut values, key, value),
        }
    }
    values
}

/// The last value of a key counts.
fn set<'a>(values: &mut Values<'a>, key: &'a str, value: &'a str) {
    match values.iter_mut().find(|(known, _)| *known == key) {
        Some(known) => known.1 = value,
        None => values.push((key, value)),
    }
}

fn add_query<'a>(values: &mut Values<'a>, key: &str, value: &'a str) {
    let query = if key == "url.query" {
        Some(value.trim_start_matches('?'))
    } else {
        value.split_once('?').map(|(_, query)| query)
    };
    for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()).take(32) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        set(values, name, value);
    }
}

/// Attributes that describe the transport or the outcome, not what was asked for.
fn is_protocol(key: &str) -> bool {
    const PREFIXES: &[&str] = &[
        "http.",
        "url.",
        "net.",
        "network.",
        "server.",
        "client.",
        "error.",
        "event.",
        "exit137.",
        "memory.",
        "rpc.",
        "user_agent",
        "peer.",
        "otel.",
        "asgi.",
        "express.",
    ];
    PREFIXES.iter().any(|prefix| key.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::best;

    #[test]
    fn a_value_that_only_the_killers_have_is_named() {
        let culprits = vec![vec![("range", "year"), ("page", "3")], vec![("range", "year"), ("page", "9")]];
        let others = (0..40)
            .map(|i| vec![("range", ["day", "week", "month"][i % 3]), ("page", ["1", "3", "9"][i % 3])]);
        assert_eq!(
            best(&culprits, others).into_iter().collect::<Vec<_>>(),
            [("range".to_owned(), "year".to_owned())]
        );
    }

    #[test]
    fn a_value_that_everyone_has_is_not() {
        let others = (0..40).map(|_| vec![("format", "pdf")]);
        assert!(best(&[vec![("format", "pdf")]], others).is_empty());
    }
}
