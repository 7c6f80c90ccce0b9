//! Of an export of metrics, those that are kept as they came: distributions over requests, and what the settings name. Levels of
//! memory are decoded ([`memory_samples`](super::memory_samples())). Nearly all else that services send says nothing about a
//! kill, and is dropped before it takes room.

use exit137_core::observation::metric::metric_by_name;
use serde_json::Value;

use super::memory_samples::is_sampled;
use super::proto::wire::{Field, Fields};

/// The export with only the metrics that are understood and no levels of memory, or that `keep` wants; `None` when nothing
/// is left of it. What is broken is left out.
pub fn memory_metrics(is_json: bool, body: &[u8], keep: &dyn Fn(&str) -> bool) -> Option<Vec<u8>> {
    let wanted = |name: &str| !is_sampled(name) && (metric_by_name(name).is_some() || keep(name));
    if is_json { json(body, &wanted) } else { protobuf(body, &wanted) }
}

fn json(body: &[u8], wanted: &dyn Fn(&str) -> bool) -> Option<Vec<u8>> {
    let mut document: Value = serde_json::from_slice(body).ok()?;
    let mut resources = take_list(&mut document, ["resourceMetrics", "resource_metrics"]);
    for resource in &mut resources {
        let mut scopes = take_list(resource, ["scopeMetrics", "scope_metrics"]);
        for scope in &mut scopes {
            let mut metrics = take_list(scope, ["metrics", "metrics"]);
            metrics.retain(|metric| metric.get("name").and_then(Value::as_str).is_some_and(wanted));
            *scope = serde_json::json!({ "metrics": metrics });
        }
        scopes.retain(|scope| scope["metrics"].as_array().is_some_and(|metrics| !metrics.is_empty()));
        let who = resource.get_mut("resource").map(Value::take).unwrap_or_default();
        *resource = serde_json::json!({ "resource": who, "scopeMetrics": scopes });
    }
    resources.retain(|resource| resource["scopeMetrics"].as_array().is_some_and(|scopes| !scopes.is_empty()));
    if resources.is_empty() {
        return None;
    }
    serde_json::to_vec(&serde_json::json!({ "resourceMetrics": resources })).ok()
}

/// The list under the first of these names that is there; empty when it is none.
pub(super) fn take_list(value: &mut Value, names: [&str; 2]) -> Vec<Value> {
    let name = names.into_iter().find(|name| value.get(name).is_some());
    let list = name.and_then(|name| value.get_mut(name)?.as_array_mut().map(std::mem::take));
    list.unwrap_or_default()
}

fn protobuf(body: &[u8], wanted: &dyn Fn(&str) -> bool) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    for resource_metrics in lists(body, 1) {
        let mut kept = Vec::new();
        for scope in lists(resource_metrics, 2) {
            let mut metrics = Vec::new();
            for metric in lists(scope, 2) {
                let name = lists(metric, 1).next().and_then(|name| std::str::from_utf8(name).ok());
                if name.is_some_and(wanted) {
                    push(2, metric, &mut metrics);
                }
            }
            if !metrics.is_empty() {
                push(2, &metrics, &mut kept);
            }
        }
        if !kept.is_empty() {
            let mut resource = Vec::with_capacity(kept.len() + 512);
            lists(resource_metrics, 1).for_each(|who| push(1, who, &mut resource));
            resource.extend_from_slice(&kept);
            push(1, &resource, &mut out);
        }
    }
    (!out.is_empty()).then_some(out)
}

/// The length-delimited fields of this number, as far as the message is whole.
pub(super) fn lists(message: &[u8], number: u64) -> impl Iterator<Item = &[u8]> {
    let mut fields = Fields::of(message);
    std::iter::from_fn(move || {
        loop {
            match fields.next() {
                Ok(Some((found, Field::Bytes(bytes)))) if found == number => return Some(bytes),
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return None,
            }
        }
    })
}

/// Appends a length-delimited field.
pub(super) fn push(number: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(number << 3 | 2);
    let mut length = bytes.len();
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
    use prost::Message;

    use super::*;

    const EXPORT: &str = r#"{"resourceMetrics":[
        {"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"cart"}}]},
         "scopeMetrics":[{"scope":{"name":"s"},"metrics":[
            {"name":"process.memory.usage","unit":"By","gauge":{"dataPoints":[{"timeUnixNano":"1000","asInt":"7"}]}},
            {"name":"http.server.request.duration","histogram":{"aggregationTemporality":2,"dataPoints":[{"timeUnixNano":"1000","count":"3"}]}},
            {"name":"http.client.open_connections","gauge":{"dataPoints":[{"timeUnixNano":"1000","asInt":"1"}]}}]}]},
        {"resource":{},"scopeMetrics":[{"metrics":[
            {"name":"queue.length","gauge":{"dataPoints":[{"timeUnixNano":"1000","asInt":"3"}]}}]}]}]}"#;

    fn names(export: &ExportMetricsServiceRequest) -> Vec<&str> {
        let scopes = export.resource_metrics.iter().flat_map(|resource| &resource.scope_metrics);
        scopes.flat_map(|scope| &scope.metrics).map(|metric| metric.name.as_str()).collect()
    }

    #[test]
    fn only_requests_and_what_is_wanted_stay() {
        let all: ExportMetricsServiceRequest = serde_json::from_str(EXPORT).expect("OTLP");
        let kept = memory_metrics(false, &all.encode_to_vec(), &|_| false).expect("something stays");
        let kept = ExportMetricsServiceRequest::decode(&kept[..]).expect("protobuf");
        assert_eq!(names(&kept), ["http.server.request.duration"]);
        assert_eq!(kept.resource_metrics[0].resource, all.resource_metrics[0].resource);
        let wanted = |name: &str| name == "queue.length" || name == "process.memory.usage";
        let json = memory_metrics(true, EXPORT.as_bytes(), &wanted).expect("JSON");
        let kept: ExportMetricsServiceRequest = serde_json::from_slice(&json).expect("OTLP");
        assert_eq!(names(&kept), ["http.server.request.duration", "queue.length"]);
    }

    #[test]
    fn rubbish_leaves_nothing() {
        for body in [&b""[..], b"\xff\xff\xff", b"{}", b"{\"resourceMetrics\":7}", b"\x0a\x7f\x01"] {
            assert_eq!(memory_metrics(false, body, &|_| true), None);
            assert_eq!(memory_metrics(true, body, &|_| true), None);
        }
    }
}
