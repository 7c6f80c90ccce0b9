//! The service: eight routes that look alike. One keeps some kilobytes of each request for ever, one takes many megabytes
//! and gives them back.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::Body;
use axum::extract::{MatchedPath, Path, Request};
use axum::middleware::Next;
use axum::response::Response;
use axum::routing::get;
use opentelemetry::propagation::Extractor;
use opentelemetry::trace::{SpanKind, TraceContextExt, Tracer};
use opentelemetry::{Context, KeyValue, global};

use crate::{Random, article, number, orders};

/// Routes of the service.
pub const ROUTES: [&str; 8] =
    ["/search", "/cart", "/items/{id}", "/login", "/orders", "/profile", "/reviews", "/export"];

/// What is never given back.
static KEPT: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());
static SERVED: AtomicU64 = AtomicU64::new(0);
static STORE: OnceLock<u16> = OnceLock::new();

/// Which route does what.
#[derive(Debug, Clone, Copy)]
pub struct Roles {
    /// Keeps memory.
    pub leaking: usize,
    /// Takes much and gives it back.
    pub decoy: usize,
    /// Kilobytes that are kept of each request of the leaking route.
    pub leak_kib: u64,
}

impl Roles {
    /// Two different routes, by seed.
    pub fn of_seed(seed: u64) -> Self {
        let mut random = Random::new(seed);
        for _ in 0..8 {
            random.below(2);
        }
        let leaking = random.below(ROUTES.len() as u64) as usize;
        let decoy = (leaking + 1 + random.below(ROUTES.len() as u64 - 1) as usize) % ROUTES.len();
        Self { leaking, decoy, leak_kib: 48 + random.below(48) }
    }
}

/// The service with these roles.
pub fn router(roles: Roles) -> Router {
    let mut router = Router::new();
    for (number, route) in ROUTES.iter().enumerate() {
        router = router.route(route, get(move || async move { answer(number, roles).await }));
    }
    router
        .route("/slow", get(slow))
        .route("/hello", get(|| async { "hello" }))
        .route("/work", get(|| async { work().await }))
        .route("/order/{id}", get(order))
        .route("/article", get(|| async { article::report() }))
}

/// From the store at `--store PORT`.
async fn order(Path(id): Path<u32>) -> Result<String, String> {
    let port = STORE.get_or_init(|| number("--store", 0) as u16);
    orders::answer(*port, id).await.map_err(|error| error.to_string())
}

/// What every route does: some hundred small blocks and a few larger ones, held across waits.
async fn answer(number: usize, roles: Roles) -> String {
    let mut random = Random::new(SERVED.fetch_add(1, Ordering::Relaxed) + 77);
    let rows = load_rows(&mut random);
    tokio::time::sleep(Duration::from_micros(random.below(3000))).await;
    let text = render(&rows, &mut random);
    if number == roles.leaking {
        keep(&rows, roles.leak_kib as usize);
    }
    if number == roles.decoy && random.below(4) == 0 {
        big_report(&mut random).await;
    }
    tokio::task::yield_now().await;
    // A task of the same request, on whatever thread.
    let child = exit137_otel::InCurrentScope::in_current_scope(async move { text.len() });
    let length = tokio::spawn(child).await.unwrap_or(0);
    format!("{{\"rows\":{},\"length\":{length}}}", rows.len())
}

fn load_rows(random: &mut Random) -> Vec<String> {
    (0..50 + random.below(100))
        .map(|row| format!("row {row} {}", "x".repeat(random.below(200) as usize)))
        .collect()
}

fn render(rows: &[String], random: &mut Random) -> String {
    let mut text = String::new();
    for row in rows.iter().take(random.below(100) as usize + 10) {
        text.push_str(row);
    }
    text
}

/// The leak: one kilobyte or so at a time.
#[inline(never)]
fn keep(rows: &[String], kib: usize) {
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    for row in rows.iter().cycle().take(kib) {
        let mut entry = vec![b'k'; 1024];
        let part = row.len().min(1024);
        entry[..part].copy_from_slice(&row.as_bytes()[..part]);
        kept.push(entry);
    }
}

/// The decoy: megabytes, for a moment.
#[inline(never)]
async fn big_report(random: &mut Random) {
    let mut pages: Vec<Vec<u8>> = Vec::new();
    for _ in 0..2 + random.below(4) {
        pages.push(vec![1; 1 << 20]);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tokio::time::sleep(Duration::from_millis(random.below(8))).await;
}

/// A light and ordinary request, for measuring cost: twenty kilobytes in some hundred blocks, one wait.
async fn work() -> String {
    let rows: Vec<String> = (0..100).map(|row| format!("row {row} {}", "x".repeat(150))).collect();
    tokio::task::yield_now().await;
    let total: usize = rows.iter().map(String::len).sum();
    format!("{{\"rows\":{},\"total\":{total}}}", rows.len())
}

/// Sends its head and a first piece at once, the rest later: the caller knows that it has begun and has not ended.
async fn slow() -> Response {
    let wait = 200 + Random::new(SERVED.fetch_add(1, Ordering::Relaxed)).below(1800);
    let body =
        Body::new(TwoPieces { first: true, wait: Box::pin(tokio::time::sleep(Duration::from_millis(wait))) });
    Response::new(body)
}

struct TwoPieces {
    first: bool,
    wait: std::pin::Pin<Box<tokio::time::Sleep>>,
}

impl axum::body::HttpBody for TwoPieces {
    type Data = axum::body::Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>> {
        if std::mem::take(&mut self.first) {
            return std::task::Poll::Ready(Some(Ok(http_body::Frame::data("begun\n".into()))));
        }
        self.wait.as_mut().poll(cx).map(|()| None)
    }
}

use std::future::Future as _;

struct Headers<'a>(&'a axum::http::HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(axum::http::HeaderName::as_str).collect()
    }
}

/// Middleware: plain OpenTelemetry tracing, one SERVER span a request, as contrib's layers make it.
pub async fn traced(request: Request<Body>, next: Next) -> Response {
    let caller = global::get_text_map_propagator(|it| it.extract(&Headers(request.headers())));
    let route =
        request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned()).unwrap_or_default();
    let tracer = global::tracer("proof");
    let builder = tracer
        .span_builder(format!("{} {route}", request.method()))
        .with_kind(SpanKind::Server)
        .with_start_time(SystemTime::now())
        .with_attributes(vec![
            KeyValue::new("http.request.method", request.method().to_string()),
            KeyValue::new("url.path", request.uri().path().to_owned()),
            KeyValue::new("http.route", route),
        ]);
    let context = caller.with_span(tracer.build_with_context(builder, &caller));
    let response = WithSpan { future: Box::pin(next.run(request)), context: context.clone() }.await;
    context
        .span()
        .set_attribute(KeyValue::new("http.response.status_code", i64::from(response.status().as_u16())));
    context.span().end();
    response
}

struct WithSpan<F> {
    future: std::pin::Pin<Box<F>>,
    context: Context,
}

impl<F: std::future::Future> std::future::Future for WithSpan<F> {
    type Output = F::Output;

    fn poll(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<F::Output> {
        let _attached = self.context.clone().attach();
        self.future.as_mut().poll(cx)
    }
}

/// Serves until killed; prints the port first.
pub async fn serve(router: Router) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?.port());
    axum::serve(listener, router).await
}
