//! `/metrics`: the server about itself, in the text format of Prometheus.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use crate::server::recorder::Recorder;

/// `GET /metrics`
pub(super) async fn metrics(State(recorder): State<Arc<Recorder>>) -> Response {
    let mut text = String::with_capacity(8 << 10);
    for metric in recorder.metrics().await {
        // Writing into a String cannot fail.
        let _ =
            writeln!(text, "# HELP {} {}\n# TYPE {} {}", metric.name, metric.help, metric.name, metric.kind);
        for (labels, value) in &metric.values {
            let _ = writeln!(text, "{}{labels} {value}", metric.name);
        }
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}
