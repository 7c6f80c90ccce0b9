//! Pages, API and metrics over HTTP.

use axum::Router;
use axum::routing::get;

/// Every address there is.
pub(super) fn router() -> Router {
    Router::new().route("/healthz", get(async || "ok\n"))
}
