//! `/api/v1/`: the same for programs. `docs/openapi.json` describes it, and a test holds both together.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query as FromAddress, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::reply;
use crate::server::incident::Summary;
use crate::server::query::Query;
use crate::server::recorder::Recorder;

/// Described in OpenAPI.
const OPENAPI: &str = include_str!("../../../../../docs/openapi.json");

#[derive(Serialize)]
struct IncidentList<'a> {
    total: usize,
    offset: usize,
    incidents: Vec<Incident<'a>>,
}

/// A summary without what only the recorder needs.
#[derive(Serialize)]
struct Incident<'a> {
    #[serde(flatten)]
    summary: Listed<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verdict: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct Listed<'a> {
    id: &'a str,
    title: &'a str,
    namespace: Option<&'a str>,
    workload: Option<&'a str>,
    workload_kind: Option<&'a str>,
    container: Option<&'a str>,
    pod: Option<&'a str>,
    version: Option<&'a str>,
    cause: Named<'a>,
    operations: &'a [String],
    headline: &'a str,
    action: &'a str,
    kill_count: u64,
    first_at: &'a str,
    last_at: &'a str,
    settled: bool,
    ended_with: Option<&'a str>,
    revision: u64,
    updated_at: &'a str,
}

#[derive(Serialize)]
struct Named<'a> {
    name: &'a str,
    probability: f64,
    words: &'a str,
}

fn listed(summary: &Summary) -> Listed<'_> {
    Listed {
        id: &summary.id,
        title: &summary.title,
        namespace: summary.namespace.as_deref(),
        workload: summary.workload.as_deref(),
        workload_kind: summary.workload_kind.as_deref(),
        container: summary.container.as_deref(),
        pod: summary.pod.as_deref(),
        version: summary.version.as_deref(),
        cause: Named { name: &summary.cause, probability: summary.probability, words: &summary.words },
        operations: &summary.operations,
        headline: &summary.headline,
        action: &summary.action,
        kill_count: summary.kill_count,
        first_at: &summary.first_at,
        last_at: &summary.last_at,
        settled: summary.settled,
        ended_with: summary.ended_with.as_deref(),
        revision: summary.revision,
        updated_at: &summary.updated_at,
    }
}

const NO_INCIDENT: &str = "there is no incident of this name, or it has aged out";

/// `GET /incidents`
pub(super) async fn incidents(
    State(recorder): State<Arc<Recorder>>,
    query: Result<FromAddress<Query>, QueryRejection>,
) -> Response {
    let query = match query {
        Ok(FromAddress(query)) => query,
        Err(rejection) => return reply::complaint(StatusCode::BAD_REQUEST, &rejection.body_text()),
    };
    let all = recorder.incidents();
    match query.answer(all.iter()) {
        Ok(page) => {
            let incidents =
                page.incidents.iter().map(|summary| Incident { summary: listed(summary), verdict: None });
            let list =
                IncidentList { total: page.total, offset: page.offset, incidents: incidents.collect() };
            reply::json(StatusCode::OK, &list)
        }
        Err(error) => reply::complaint(StatusCode::BAD_REQUEST, &error.to_string()),
    }
}

/// `GET /incidents/{id}`
pub(super) async fn incident(State(recorder): State<Arc<Recorder>>, Path(id): Path<String>) -> Response {
    let (Some(summary), Some(document)) = (recorder.summary(&id), recorder.document(&id).await) else {
        return reply::complaint(StatusCode::NOT_FOUND, NO_INCIDENT);
    };
    let verdict = serde_json::from_str::<&RawValue>(&document).ok();
    reply::json(StatusCode::OK, &Incident { summary: listed(&summary), verdict })
}

/// `GET /incidents/{id}/verdict`
pub(super) async fn verdict(State(recorder): State<Arc<Recorder>>, Path(id): Path<String>) -> Response {
    match recorder.document(&id).await {
        Some(document) => reply::json_text(StatusCode::OK, document),
        None => reply::complaint(StatusCode::NOT_FOUND, NO_INCIDENT),
    }
}

/// The part of a verdict that can be drawn.
#[derive(Deserialize)]
struct Drawn<'a> {
    #[serde(borrow)]
    incidents: Vec<WithTimeline<'a>>,
}

#[derive(Deserialize)]
struct WithTimeline<'a> {
    #[serde(borrow)]
    timeline: Option<&'a RawValue>,
}

/// `GET /incidents/{id}/series`
pub(super) async fn series(State(recorder): State<Arc<Recorder>>, Path(id): Path<String>) -> Response {
    let Some(document) = recorder.document(&id).await else {
        return reply::complaint(StatusCode::NOT_FOUND, NO_INCIDENT);
    };
    let drawn = serde_json::from_str::<Drawn<'_>>(&document).ok();
    let timeline = drawn.and_then(|drawn| drawn.incidents.into_iter().next()?.timeline);
    match timeline {
        Some(timeline) => reply::json_text(StatusCode::OK, timeline.get().to_owned()),
        None => reply::complaint(StatusCode::NOT_FOUND, "no memory was recorded around this incident"),
    }
}

/// `POST /incidents/{id}/recompute`
pub(super) async fn recompute(State(recorder): State<Arc<Recorder>>, Path(id): Path<String>) -> Response {
    if recorder.summary(&id).is_none() {
        return reply::complaint(StatusCode::NOT_FOUND, NO_INCIDENT);
    }
    match recorder.recompute(&id).await {
        Ok(summary) => reply::json(StatusCode::OK, &Incident { summary: listed(&summary), verdict: None }),
        Err(error) => reply::complaint(StatusCode::CONFLICT, &error),
    }
}

/// `GET /incidents/{id}/capture`
pub(super) async fn capture(State(recorder): State<Arc<Recorder>>, Path(id): Path<String>) -> Response {
    if recorder.summary(&id).is_none() {
        return reply::complaint(StatusCode::NOT_FOUND, NO_INCIDENT);
    }
    match recorder.capture(&id).await {
        Ok(archive) => {
            let headers = [
                (header::CONTENT_TYPE, "application/x-tar".to_owned()),
                (header::CONTENT_DISPOSITION, format!("attachment; filename=\"exit137-{id}.tar\"")),
            ];
            (headers, archive).into_response()
        }
        Err(error) => reply::complaint(StatusCode::INTERNAL_SERVER_ERROR, &error),
    }
}

/// `GET /containers`
pub(super) async fn containers(State(recorder): State<Arc<Recorder>>) -> Response {
    match recorder.containers().await {
        Some(containers) => reply::json(StatusCode::OK, &containers),
        None => reply::complaint(StatusCode::INTERNAL_SERVER_ERROR, "the catalogue cannot be read"),
    }
}

/// `GET /leaks`
pub(super) async fn leaks(State(recorder): State<Arc<Recorder>>) -> Response {
    reply::json_text(StatusCode::OK, recorder.leaks().json.clone())
}

/// `GET /recorder`
pub(super) async fn recorder(State(recorder): State<Arc<Recorder>>) -> Response {
    match recorder.state().await {
        Some(state) => reply::json(StatusCode::OK, &state),
        None => reply::complaint(StatusCode::INTERNAL_SERVER_ERROR, "the state cannot be read"),
    }
}

/// `GET /openapi.json`
pub(super) async fn openapi() -> Response {
    reply::json_text(StatusCode::OK, OPENAPI.to_owned())
}

/// `GET /readyz`: whether telemetry is taken and kept.
pub(super) async fn ready(State(recorder): State<Arc<Recorder>>) -> Response {
    match recorder.readiness() {
        Ok(()) => "ready\n".into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

/// Any other address below `/api/v1/`.
pub(super) async fn not_found() -> Response {
    reply::complaint(StatusCode::NOT_FOUND, "there is nothing at this address; see /api/v1/openapi.json")
}
