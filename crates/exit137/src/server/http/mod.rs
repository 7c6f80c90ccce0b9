//! Pages, API and metrics over HTTP. Nothing here decides anything: it shows what the recorder knows.

mod api;
mod guard;
mod metrics;
mod pages;
mod reply;
mod status;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::header;
use axum::middleware;
use axum::routing::{get, post};

use super::recorder::Recorder;

pub(super) use guard::Guard;

/// What a request may carry: a question, never data.
const BODY_BYTES_MAX: usize = 64 << 10;

const STYLE: &str = concat!(include_str!("../../output/html/style.css"), include_str!("server.css"));

/// Every address there is.
pub(super) fn router(recorder: Arc<Recorder>, guard: Arc<Guard>) -> Router {
    let api = Router::new()
        .route("/incidents", get(api::incidents))
        .route("/incidents/{id}", get(api::incident))
        .route("/incidents/{id}/verdict", get(api::verdict))
        .route("/incidents/{id}/series", get(api::series))
        .route("/incidents/{id}/capture", get(api::capture))
        .route("/incidents/{id}/recompute", post(api::recompute))
        .route("/containers", get(api::containers))
        .route("/leaks", get(api::leaks))
        .route("/recorder", get(api::recorder))
        .route("/openapi.json", get(api::openapi))
        .fallback(api::not_found);
    let guarded = Router::new()
        .route("/", get(pages::incidents))
        .route("/incidents/{id}", get(pages::incident))
        .route("/incidents/{id}/capture", get(api::capture))
        .route("/incidents/{id}/recompute", post(pages::recompute))
        .route("/next", get(status::next))
        .route("/recorder", get(status::recorder))
        .route("/metrics", get(metrics::metrics))
        .nest("/api/v1", api)
        .fallback(pages::not_found)
        .layer(middleware::from_fn_with_state(Arc::clone(&guard), guard::check))
        .with_state(Arc::clone(&recorder));
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(api::ready))
        .route("/style.css", get(async || ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], STYLE)))
        .with_state(recorder)
        .merge(guarded)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn(guard::headers))
}
