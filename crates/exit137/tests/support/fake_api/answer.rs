//! How the fake cluster answers.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Query, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use super::store::{Asked, Fault, Logged, On, Store, Synthetic, is_selected};

/// One part of a body; an error breaks the connection.
type Part = Result<Bytes, io::Error>;

pub(super) fn router(store: Arc<Store>) -> Router {
    Router::new().fallback(answer).with_state(store)
}

async fn answer(
    State(store): State<Arc<Store>>,
    Query(query): Query<BTreeMap<String, String>>,
    request: Request,
) -> Response {
    if store.with(|cluster| cluster.down) {
        return broken();
    }
    let Some(mut asked) = asked(request.method(), request.uri().path(), query) else {
        return status(404, None);
    };
    let on = match (asked.verb, asked.query.contains_key("continue")) {
        ("watch", _) => On::Watch,
        ("create", _) => On::Create,
        (_, true) => On::ListContinued,
        (_, false) => On::List,
    };
    let token = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let expected = store.with(|cluster| cluster.token.clone());
    if expected.is_some_and(|expected| token != Some(&format!("Bearer {expected}"))) {
        return status(401, None);
    }
    let fault = store.with(|cluster| {
        cluster.asked.push(asked.clone());
        cluster.fault(&asked.resource, on)
    });
    match (fault, on) {
        (Some(Fault::Answer { code, retry_after_seconds }), _) => status(code, retry_after_seconds),
        (Some(Fault::Garbage), _) => "<html>Sign in</html>\n".into_response(),
        (fault, On::Watch) => watch(store, asked, fault),
        (Some(Fault::Silence), _) => body_of(|_| std::future::pending()),
        (Some(Fault::CutLine), _) => body_of(|parts| async move {
            let _ = parts.send(Ok(Bytes::from_static(b"{\"kind\":\"PodList\",\"it"))).await;
            let _ = parts.send(Err(io::ErrorKind::ConnectionReset.into())).await;
        }),
        (_, On::Create) => create(&store, &mut asked, request.into_body()).await,
        _ => list(&store, &asked),
    }
}

/// `/api/v1/namespaces/shop/pods` and its like.
fn asked(method: &Method, path: &str, query: BTreeMap<String, String>) -> Option<Asked> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (group, rest) = match parts.as_slice() {
        ["api", "v1", rest @ ..] => ("", rest),
        ["apis", group, "v1", rest @ ..] => (*group, rest),
        _ => return None,
    };
    let (namespace, resource) = match rest {
        ["namespaces", namespace, resource] => (Some((*namespace).to_owned()), *resource),
        [resource] => (None, *resource),
        _ => return None,
    };
    let watches = query.get("watch").is_some_and(|value| value == "1" || value == "true");
    let verb = match (method, watches) {
        (&Method::GET, true) => "watch",
        (&Method::GET, false) => "list",
        (&Method::POST, _) => "create",
        _ => return None,
    };
    Some(Asked { verb, group: group.to_owned(), resource: resource.to_owned(), namespace, query })
}

fn list(store: &Store, asked: &Asked) -> Response {
    let limit = asked.query.get("limit").and_then(|limit| limit.parse().ok()).unwrap_or(usize::MAX);
    let token = asked.query.get("continue").and_then(|token| {
        let (version, from) = token.split_once('-')?;
        Some((version.parse().ok()?, from.parse().ok()?))
    });
    let (namespace, selector) = (asked.namespace.as_deref(), asked.query.get("labelSelector"));
    store.with(|cluster| {
        let resource = cluster.resource(&asked.resource);
        if let Some(synthetic) = resource.synthetic {
            return synthetic_page(synthetic, token.map_or(0, |(_, from)| from), limit);
        }
        let (version, from) = token.unwrap_or((resource.version, 0));
        if token.is_none() {
            let selected = |object: &&Value| is_selected(object, namespace, selector.map(String::as_str));
            let objects = resource.objects.values().filter(selected).cloned().collect();
            resource.snapshots.insert(version, Arc::new(objects));
        }
        if version < resource.compacted {
            return status(410, None);
        }
        let Some(snapshot) = resource.snapshots.get(&version) else { return status(410, None) };
        let mut kind = String::new();
        let items: Vec<Value> = snapshot.iter().skip(from).take(limit).cloned().collect();
        let items: Vec<Value> = items.into_iter().map(|item| without_kind(item, &mut kind)).collect();
        let next = from + items.len();
        let token = if next < snapshot.len() { format!("{version}-{next}") } else { String::new() };
        resource.told = resource.told.max(version);
        let items = if items.is_empty() { Value::Null } else { Value::Array(items) };
        json_of(&json!({
            "kind": format!("{kind}List"), "apiVersion": "v1",
            "metadata": {"resourceVersion": version.to_string(), "continue": token},
            "items": items,
        }))
    })
}

/// The items of a list do not say what they are.
fn without_kind(mut item: Value, kind: &mut String) -> Value {
    if let Some(fields) = item.as_object_mut() {
        fields.remove("apiVersion");
        if let Some(Value::String(own)) = fields.remove("kind") {
            *kind = own;
        }
    }
    item
}

/// Sent object by object, so that the server holds one at a time.
fn synthetic_page(synthetic: Synthetic, from: usize, limit: usize) -> Response {
    let Synthetic { count, make } = synthetic;
    let end = from.saturating_add(limit).min(count);
    body_of(move |parts| async move {
        let token = if end < count { format!("1-{end}") } else { String::new() };
        let head = format!(
            "{{\"kind\":\"PodList\",\"apiVersion\":\"v1\",\"metadata\":{{\"resourceVersion\":\"1\",\"continue\":\"{token}\"}},\
             \"items\":["
        );
        let _ = parts.send(Ok(head.into())).await;
        for index in from..end {
            let comma = if index == from { "" } else { "," };
            if parts.send(Ok(format!("{comma}{}", make(index)).into())).await.is_err() {
                return;
            }
        }
        let _ = parts.send(Ok("]}".into())).await;
    })
}

fn watch(store: Arc<Store>, asked: Asked, fault: Option<Fault>) -> Response {
    body_of(move |parts| async move {
        let number = |key: &str| asked.query.get(key).and_then(|value| value.parse::<u64>().ok());
        let mut version = number("resourceVersion").unwrap_or(0);
        let mut fault = fault;
        match fault {
            Some(Fault::Silence) => return std::future::pending().await,
            Some(Fault::GoneInWatch) => return send(&parts, &gone()).await,
            _ => {}
        }
        let end = Instant::now() + Duration::from_secs(number("timeoutSeconds").unwrap_or(300));
        let (mut changes, mut connections) = (store.changes(), store.connections());
        let bookmarks = asked.query.get("allowWatchBookmarks").is_some_and(|value| value == "true");
        loop {
            let Some(news) = news(&store, &asked, version) else { return send(&parts, &gone()).await };
            for logged in news {
                let line = json!({"type": logged.event_type, "object": logged.object});
                if fault.take() == Some(Fault::CutLine) {
                    let line = line.to_string();
                    let _ = parts.send(Ok(Bytes::copy_from_slice(&line.as_bytes()[..line.len() / 2]))).await;
                    let _ = parts.send(Err(io::ErrorKind::ConnectionReset.into())).await;
                    return;
                }
                send(&parts, &line).await;
                version = logged.version;
                store.with(|cluster| {
                    let resource = cluster.resource(&asked.resource);
                    resource.told = resource.told.max(version);
                });
            }
            let silence = store.with(|cluster| cluster.bookmark_every);
            tokio::select! {
                _ = changes.changed() => {}
                _ = connections.changed() => return,
                () = sleep_until(end) => return,
                () = parts.closed() => return,
                () = sleep(silence), if bookmarks => send(&parts, &bookmark(version)).await,
            }
        }
    })
}

/// What is to be told after this version; `None` when it is forgotten.
fn news(store: &Store, asked: &Asked, version: u64) -> Option<Vec<Logged>> {
    let (namespace, selector) = (asked.namespace.as_deref(), asked.query.get("labelSelector"));
    store.with(|cluster| {
        let resource = cluster.resource(&asked.resource);
        let selected =
            |logged: &&Logged| is_selected(&logged.object, namespace, selector.map(String::as_str));
        let log = resource.log.iter().filter(|logged| logged.version > version);
        (version >= resource.compacted).then(|| log.filter(selected).cloned().collect())
    })
}

async fn send(parts: &mpsc::Sender<Part>, line: &Value) {
    let _ = parts.send(Ok(format!("{line}\n").into())).await;
}

fn gone() -> Value {
    json!({"type": "ERROR", "object": {"kind": "Status", "apiVersion": "v1", "status": "Failure",
        "message": "too old resource version", "reason": "Expired", "code": 410}})
}

fn bookmark(version: u64) -> Value {
    json!({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": version.to_string()}}})
}

async fn create(store: &Store, asked: &mut Asked, body: Body) -> Response {
    let body = to_bytes(body, 1 << 20).await.unwrap_or_default();
    let Ok(mut object) = serde_json::from_slice::<Value>(&body) else { return status(400, None) };
    object["metadata"]["namespace"] = asked.namespace.clone().unwrap_or_default().into();
    store.with(|cluster| {
        let metadata = &mut object["metadata"];
        let number = cluster.resource(&asked.resource).version + 1;
        metadata["uid"] = format!("created-{number}").into();
        if let Some(prefix) = metadata["generateName"].as_str() {
            metadata["name"] = format!("{prefix}{number}").into();
        }
        cluster.publish(&asked.resource, "ADDED", object.clone());
    });
    store.wake();
    (StatusCode::CREATED, json_of(&object)).into_response()
}

fn status(code: u16, retry_after_seconds: Option<u64>) -> Response {
    let code = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let message = format!("the fake says {}", code.canonical_reason().unwrap_or_default());
    let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code.as_u16(),
        "message": message, "reason": code.canonical_reason().unwrap_or_default().replace(' ', "")});
    let mut response = (code, json_of(&body)).into_response();
    if let Some(seconds) = retry_after_seconds {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

fn json_of(value: &Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}

/// A connection that breaks before anything useful was said.
fn broken() -> Response {
    body_of(|parts| async move {
        let _ = parts.send(Err(io::ErrorKind::ConnectionReset.into())).await;
    })
}

/// A body whose parts are sent by a task of its own.
fn body_of<F: Future<Output = ()> + Send + 'static>(
    sender: impl FnOnce(mpsc::Sender<Part>) -> F + Send + 'static,
) -> Response {
    let (parts, receiver) = mpsc::channel(16);
    tokio::spawn(sender(parts));
    let stream = stream::unfold(receiver, |mut receiver| async move {
        let part = receiver.recv().await?;
        Some((part, receiver))
    });
    let mut response = Body::from_stream(stream).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}
