//! Exports with other values in their attributes: everything else stays as it was sent, byte for byte. For taking out
//! what must not leave a house.

use serde_json::Value;

use super::proto::wire::{Field, Fields};

/// What a value is to be replaced with; `None` when it stays. The key is empty for bodies of log records and for
/// messages of a span's status.
pub type Replace<'a> = dyn Fn(&str, &str) -> Option<String> + 'a;

/// Deeper values are left out.
const DEPTH_MAX: usize = 32;

/// Which fields of a message lead to values, by number.
enum Shape {
    Message(&'static [(u64, Shape)]),
    /// A key and its value.
    Pair,
    /// A value without a key.
    Any,
    /// Text without a key.
    Text,
}

use Shape::{Any, Message, Pair, Text};

const RESOURCE: Shape = Message(&[(1, Pair)]);
const SPAN: Shape = Message(&[
    (9, Pair),
    (11, Message(&[(3, Pair)])),
    (13, Message(&[(4, Pair)])),
    (15, Message(&[(2, Text)])),
]);
const POINT: Shape = Message(&[(7, Pair)]);
const METRIC: Shape = Message(&[
    (5, Message(&[(1, POINT)])),
    (7, Message(&[(1, POINT)])),
    (9, Message(&[(1, Message(&[(9, Pair)]))])),
    (10, Message(&[(1, Message(&[(1, Pair)]))])),
    (11, Message(&[(1, POINT)])),
]);
const LOG: Shape = Message(&[(5, Any), (6, Pair)]);
const TRACES: Shape = Message(&[(1, Message(&[(1, RESOURCE), (2, Message(&[(2, SPAN)]))]))]);
const METRICS: Shape = Message(&[(1, Message(&[(1, RESOURCE), (2, Message(&[(2, METRIC)]))]))]);
const LOGS: Shape = Message(&[(1, Message(&[(1, RESOURCE), (2, Message(&[(2, LOG)]))]))]);

/// What an export carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carries {
    /// Spans.
    Traces,
    /// Metrics.
    Metrics,
    /// Log records.
    Logs,
}

/// The export, as protobuf, with other values. What is broken is left out.
pub fn rewrite_protobuf(carries: Carries, message: &[u8], replace: &Replace<'_>) -> Vec<u8> {
    let shape = match carries {
        Carries::Traces => &TRACES,
        Carries::Metrics => &METRICS,
        Carries::Logs => &LOGS,
    };
    rewrite(shape, message, replace, 0)
}

fn rewrite(shape: &Shape, bytes: &[u8], replace: &Replace<'_>, depth: usize) -> Vec<u8> {
    match shape {
        _ if depth > DEPTH_MAX => Vec::new(),
        Message(known) => each(bytes, &|number, field| {
            let (_, inner) = known.iter().find(|(one, _)| *one == number)?;
            Some(rewrite(inner, field, replace, depth + 1))
        }),
        Pair => {
            let key = key_of(bytes);
            each(bytes, &|number, field| (number == 2).then(|| value(key, field, replace, depth + 1)))
        }
        Any => value("", bytes, replace, depth + 1),
        Text => text("", bytes, replace),
    }
}

fn key_of(pair: &[u8]) -> &str {
    let mut key = "";
    let mut fields = Fields::of(pair);
    while let Ok(Some((number, field))) = fields.next() {
        if let (1, Field::Bytes(text)) = (number, field) {
            key = std::str::from_utf8(text).unwrap_or_default();
        }
    }
    key
}

fn text(key: &str, bytes: &[u8], replace: &Replace<'_>) -> Vec<u8> {
    let replaced = std::str::from_utf8(bytes).ok().and_then(|text| replace(key, text));
    replaced.map_or_else(|| bytes.to_vec(), String::into_bytes)
}

/// An `AnyValue`: text is replaced, lists are gone into.
fn value(key: &str, bytes: &[u8], replace: &Replace<'_>, depth: usize) -> Vec<u8> {
    if depth > DEPTH_MAX {
        return Vec::new();
    }
    each(bytes, &|number, field| match number {
        1 => Some(text(key, field, replace)),
        5 => Some(each(field, &|_, element| Some(value(key, element, replace, depth + 1)))),
        6 => Some(each(field, &|_, pair| Some(rewrite(&Pair, pair, replace, depth + 1)))),
        _ => None,
    })
}

/// Other bytes for the field of this number, unless it stays.
type Change<'a> = dyn Fn(u64, &[u8]) -> Option<Vec<u8>> + 'a;

/// A copy of a message, in which `change` may give length-delimited fields other bytes.
fn each(bytes: &[u8], change: &Change<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut fields = Fields::of(bytes);
    while let Ok(Some((number, field))) = fields.next() {
        match field {
            Field::Bytes(field) => {
                let changed = change(number, field);
                let field = changed.as_deref().unwrap_or(field);
                varint(number << 3 | 2, &mut out);
                varint(field.len() as u64, &mut out);
                out.extend_from_slice(field);
            }
            Field::Varint(value) => {
                varint(number << 3, &mut out);
                varint(value, &mut out);
            }
            Field::Fixed64(value) => {
                varint(number << 3 | 1, &mut out);
                out.extend_from_slice(&value.to_le_bytes());
            }
            Field::Fixed32(value) => {
                varint(number << 3 | 5, &mut out);
                out.extend_from_slice(&value.to_le_bytes());
            }
        }
    }
    out
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The JSON document with other values: of attributes by their key, of any other text with an empty key. Text under one
/// of the `names` stays. `None` for what is no JSON.
pub fn rewrite_json(document: &[u8], names: &[&str], replace: &Replace<'_>) -> Option<Vec<u8>> {
    let mut value: Value = serde_json::from_slice(document).ok()?;
    walk(&mut value, "", names, replace);
    serde_json::to_vec(&value).ok()
}

fn walk(value: &mut Value, key: &str, names: &[&str], replace: &Replace<'_>) {
    match value {
        Value::String(text) => {
            if let Some(replaced) = replace(key, text) {
                *text = replaced;
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|element| walk(element, key, names, replace)),
        Value::Object(fields) => {
            // `{"key": "url.full", "value": {"stringValue": …}}`
            let own = fields.get("key").and_then(Value::as_str).map(str::to_owned);
            for (name, inner) in fields.iter_mut() {
                if name == "value"
                    && let Some(own) = &own
                {
                    walk(inner, own, names, replace);
                } else if !names.contains(&name.as_str()) {
                    walk(inner, key, names, replace);
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use prost::Message as _;

    use super::*;

    const EXPORT: &str = r#"{"resourceSpans":[{"resource":{"attributes":[
        {"key":"service.name","value":{"stringValue":"cart"}}]},"scopeSpans":[{"scope":{"name":"s","version":"1"},"spans":[
        {"traceId":"0102030405060708090a0b0c0d0e0f10","spanId":"0102030405060708","name":"GET /","kind":2,
         "startTimeUnixNano":"1000","endTimeUnixNano":"2000","status":{"code":2,"message":"no such secret"},
         "attributes":[{"key":"user","value":{"stringValue":"a secret"}},{"key":"n","value":{"intValue":"7"}},
           {"key":"list","value":{"arrayValue":{"values":[{"stringValue":"plain"},{"stringValue":"secret"}]}}},
           {"key":"map","value":{"kvlistValue":{"values":[{"key":"deep","value":{"stringValue":"secret"}}]}}}],
         "events":[{"timeUnixNano":"1500","name":"e","attributes":[{"key":"k","value":{"stringValue":"secret"}}]}]}]}]}]}"#;

    fn hide(_: &str, text: &str) -> Option<String> {
        text.contains("secret").then(|| text.replace("secret", "much longer than it was before"))
    }

    #[test]
    fn values_change_and_nothing_else() {
        let export: ExportTraceServiceRequest = serde_json::from_str(EXPORT).expect("OTLP");
        let bytes = export.encode_to_vec();
        assert_eq!(rewrite_protobuf(Carries::Traces, &bytes, &|_, _| None), bytes);
        let expected = EXPORT.replace("secret", "much longer than it was before");
        let expected: ExportTraceServiceRequest = serde_json::from_str(&expected).expect("OTLP");
        let rewritten = rewrite_protobuf(Carries::Traces, &bytes, &hide);
        assert_eq!(ExportTraceServiceRequest::decode(&rewritten[..]).expect("protobuf"), expected);
        let json = rewrite_json(EXPORT.as_bytes(), &["name"], &hide).expect("JSON");
        let json: ExportTraceServiceRequest = serde_json::from_slice(&json).expect("OTLP");
        assert_eq!(json, expected);
    }

    #[test]
    fn a_value_is_judged_by_its_key() {
        let by_key = |key: &str, _: &str| (key == "deep" || key == "k").then(|| "x".to_owned());
        let json = rewrite_json(EXPORT.as_bytes(), &[], &by_key).expect("JSON");
        let text = String::from_utf8(json).expect("UTF-8");
        assert_eq!(text.matches("\"stringValue\":\"x\"").count(), 2, "{text}");
    }
}
