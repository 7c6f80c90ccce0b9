//! What the source article does: resident size before and after each request, read from procfs, and the difference booked on
//! the request's route.

use std::collections::HashMap;
use std::io::Read;
use std::sync::{Mutex, PoisonError};

use axum::body::Body;
use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::Response;

/// Bytes and requests by route.
static DELTAS: Mutex<Option<HashMap<String, (i64, u64)>>> = Mutex::new(None);

/// Resident bytes of this process, from `/proc/self/statm`: the cheapest of the files that tell it.
pub fn resident_bytes() -> i64 {
    let mut text = [0; 128];
    let read = std::fs::File::open("/proc/self/statm").and_then(|mut file| file.read(&mut text)).unwrap_or(0);
    let text = std::str::from_utf8(&text[..read]).unwrap_or_default();
    let pages = text.split_ascii_whitespace().nth(1).and_then(|pages| pages.parse::<i64>().ok());
    pages.unwrap_or(0) * 4096
}

/// Middleware: reads before and after.
pub async fn around(request: Request<Body>, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let before = resident_bytes();
    let response = next.run(request).await;
    let delta = resident_bytes() - before;
    let mut deltas = DELTAS.lock().unwrap_or_else(PoisonError::into_inner);
    let entry = deltas.get_or_insert_default().entry(route.unwrap_or_default()).or_default();
    entry.0 += delta;
    entry.1 += 1;
    response
}

/// `route bytes requests` lines.
pub fn report() -> String {
    let deltas = DELTAS.lock().unwrap_or_else(PoisonError::into_inner);
    let lines = deltas.iter().flatten().map(|(route, (bytes, count))| format!("{route} {bytes} {count}\n"));
    lines.collect()
}
