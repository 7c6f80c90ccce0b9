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
    let mut culprits: Vec<HashMap<String, String>> = Vec::new();
    let mut others: Vec<HashMap<String, String>> = Vec::new();
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
    for container in incident.containers() {
        let calls = incident.scene.work.calls_of(container).iter();
        let rest =
            calls.filter(|call| call.operation == operation && !call.failed && !seen.contains(&call.span));
        others.extend(rest.map(|call| values_of(incident.scene, call.span)));
    }
    best(&culprits, &others)
}

fn best(
    culprits: &[HashMap<String, String>],
    others: &[HashMap<String, String>],
) -> BTreeMap<String, String> {
    let kills = culprits.len() as f64;
    if culprits.is_empty() || others.is_empty() {
        return BTreeMap::new();
    }
    let mut counts: BTreeMap<(&str, &str), f64> = BTreeMap::new();
    for (key, value) in culprits.iter().flatten() {
        *counts.entry((key, value)).or_default() += 1.0;
    }
    let looked_at = counts.len().max(1) as f64;
    let gain = |key: &str, value: &str, count: f64| {
        let elsewhere =
            others.iter().filter(|values| values.get(key).is_some_and(|v| v == value)).count() as f64;
        let share = (elsewhere.max(SEEN_MIN) / others.len() as f64).min(1.0);
        let missing = kills - count;
        count * -share.ln() + missing * 0.05f64.ln() - looked_at.ln()
    };
    let ranked = counts
        .iter()
        .filter(|((key, _), _)| distinct(key, culprits, others) <= VALUES_MAX.min(others.len() / 3 + 3));
    let best = ranked
        .map(|((key, value), count)| (gain(key, value, *count), *key, *value))
        .max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(a.1)));
    match best {
        Some((gain, key, value)) if gain >= GAIN_MIN => BTreeMap::from([(key.to_owned(), value.to_owned())]),
        _ => BTreeMap::new(),
    }
}

fn distinct(key: &str, culprits: &[HashMap<String, String>], others: &[HashMap<String, String>]) -> usize {
    let values: HashSet<&String> =
        culprits.iter().chain(others).filter_map(|values| values.get(key)).collect();
    values.len()
}

/// What tells the call of this span from others of its operation: its own attributes that are not of the
/// protocol, the query parameters of its or its caller's URL.
pub(super) fn values_of(scene: &Scene<'_>, span: u32) -> HashMap<String, String> {
    let observations = scene.observations;
    let mut values = HashMap::new();
    let Some(span) = observations.traces.spans.get(span as usize) else { return values };
    // A caller's attributes are its own affair; its URL is the callee's.
    let caller = matches!(span.kind, SpanKind::Client | SpanKind::Producer);
    for (key, value) in observations.traces.attributes(span) {
        let (key, value) = (observations.symbols.text(*key), observations.symbols.text(*value));
        match key {
            "url.full" | "http.url" | "url.query" | "http.target" => add_query(&mut values, key, value),
            _ if is_protocol(key) || caller => {}
            _ => {
                values.insert(key.to_owned(), value.to_owned());
            }
        }
    }
    values
}

fn add_query(values: &mut HashMap<String, String>, key: &str, value: &str) {
    let query = if key == "url.query" {
        Some(value.trim_start_matches('?'))
    } else {
        value.split_once('?').map(|(_, query)| query)
    };
    for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()).take(32) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        values.insert(name.to_owned(), value.to_owned());
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
    use std::collections::HashMap;

    fn values(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn a_value_that_only_the_killers_have_is_named() {
        let culprits =
            vec![values(&[("range", "year"), ("page", "3")]), values(&[("range", "year"), ("page", "9")])];
        let others: Vec<_> = (0..40)
            .map(|i| values(&[("range", ["day", "week", "month"][i % 3]), ("page", ["1", "3", "9"][i % 3])]))
            .collect();
        assert_eq!(
            best(&culprits, &others).into_iter().collect::<Vec<_>>(),
            [("range".to_owned(), "year".to_owned())]
        );
    }

    #[test]
    fn a_value_that_everyone_has_is_not() {
        let culprits = vec![values(&[("format", "pdf")])];
        let others: Vec<_> = (0..40).map(|_| values(&[("format", "pdf")])).collect();
        assert!(best(&culprits, &others).is_empty());
    }
}
