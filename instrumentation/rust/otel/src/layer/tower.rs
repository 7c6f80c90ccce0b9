//! A tower layer for HTTP services: axum, tonic, hyper.

use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context as TaskContext, Poll};
use std::time::SystemTime;

use exit137_journal::Kind;
use http::{HeaderMap, Request as HttpRequest, Response};
use http_body::{Body, Frame, SizeHint};
use opentelemetry::global::{BoxedSpan, BoxedTracer};
use opentelemetry::propagation::Extractor;
use opentelemetry::trace::{Span as _, SpanBuilder, SpanKind, Status, TraceContextExt, Tracer};
use opentelemetry::{Context, KeyValue, global};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::request::{Begin, Entered, Request, Usage};
use crate::{metrics, operations, phase};

/// Counts memory for each request, puts it into the journal, and describes it on its span.
///
/// When a span is active, that span is the request's. Otherwise this layer makes a SERVER span of its own, as a child of the
/// caller's by the global propagator, so that no other layer is needed for tracing.
///
/// `Router::new().route(…).layer(MemoryLayer::new())`; with tonic, `Server::builder().layer(MemoryLayer::new())`.
#[derive(Debug, Clone, Default)]
pub struct MemoryLayer {
    /// Not made in [`Layer::layer`]: axum calls that for each request.
    shared: Arc<Shared>,
}

impl MemoryLayer {
    /// With defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// A request header that the journal keeps, so that it is known after a kill: a tenant, a request id. Lower case.
    #[must_use]
    pub fn with_header(self, name: &'static str) -> Self {
        let headers = self.shared.headers.iter().copied().chain([name]).collect();
        Self { shared: Arc::new(Shared { headers, tracer: OnceLock::new() }) }
    }
}

impl<S> Layer<S> for MemoryLayer {
    type Service = MemoryService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        MemoryService { inner, shared: Arc::clone(&self.shared) }
    }
}

/// See [`MemoryLayer`].
#[derive(Debug, Clone)]
pub struct MemoryService<S> {
    inner: S,
    shared: Arc<Shared>,
}

/// What all requests of one layer have in common.
#[derive(Debug, Default)]
struct Shared {
    headers: Vec<&'static str>,
    /// Of the global provider, from the first span that it really made: a service may set its provider late.
    tracer: OnceLock<BoxedTracer>,
}

impl Shared {
    fn start(&self, builder: SpanBuilder, caller: &Context) -> BoxedSpan {
        if let Some(tracer) = self.tracer.get() {
            return tracer.build_with_context(builder, caller);
        }
        let tracer = global::tracer("exit137");
        let span = tracer.build_with_context(builder, caller);
        // Without a provider a span is nothing but its parent.
        let context = span.span_context();
        if context.is_valid() && context.span_id() != caller.span().span_context().span_id() {
            let _ = self.tracer.set(tracer);
        }
        span
    }
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

/// The low-cardinality path of a request, if its framework knows one, and whether it is an RPC's.
fn route_of<B>(request: &HttpRequest<B>) -> (Option<&str>, bool) {
    let grpc = is_grpc(request.headers());
    #[cfg(feature = "axum")]
    if let Some(matched) = request.extensions().get::<axum::extract::MatchedPath>() {
        return (Some(matched.as_str()), grpc);
    }
    (grpc.then(|| request.uri().path()), grpc)
}

/// What the request is called. The texts are borrowed from the table of operations: nothing is allocated for them, unless
/// the table is full.
#[derive(Debug, Clone)]
struct Named {
    operation: Cow<'static, str>,
    index: u16,
    grpc: bool,
    /// Bytes of the operation up to its route; `None` without one.
    route_at: Option<usize>,
}

/// Names up to this length are put together on the stack.
const NAME_BYTES: usize = 192;

impl Named {
    fn of<B>(request: &HttpRequest<B>) -> Self {
        let method = request.method().as_str();
        let (route, grpc) = route_of(request);
        let found = |name: &str| operations::known(name, Kind::Server);
        let ((index, operation), route_at) = match route {
            Some(route) if grpc => (found(route.trim_start_matches('/')), Some(0)),
            None => (found(method), None),
            Some(route) => {
                let at = method.len() + 1;
                let mut text = [b' '; NAME_BYTES];
                let known = match text.get_mut(..at + route.len()) {
                    Some(text) => {
                        text[..at - 1].copy_from_slice(method.as_bytes());
                        text[at..].copy_from_slice(route.as_bytes());
                        std::str::from_utf8(text).map_or_else(|_| found(method), found)
                    }
                    None => found(&format!("{method} {route}")),
                };
                (known, Some(at))
            }
        };
        Self { operation, index, grpc, route_at }
    }

    /// Part of the operation's name.
    #[inline(always)]
    fn part(&self, range: std::ops::Range<usize>) -> Cow<'static, str> {
        match &self.operation {
            Cow::Borrowed(name) => Cow::Borrowed(name.get(range).unwrap_or_default()),
            Cow::Owned(name) => Cow::Owned(name.get(range).unwrap_or_default().to_owned()),
        }
    }

    /// The route; empty without one.
    #[inline]
    fn route(&self) -> Cow<'static, str> {
        let end = self.operation.len();
        self.part(self.route_at.unwrap_or(end)..end)
    }

    #[inline]
    fn method(&self) -> Cow<'static, str> {
        self.part(0..self.route_at.map_or(self.operation.len(), |at| at.saturating_sub(1)))
    }
}

/// What is known of a running request besides its memory.
#[derive(Debug)]
struct Running {
    request: Option<Request>,
    /// Holds the request's span.
    context: Context,
    /// Whether the span is ours, and so ends with the body.
    own_span: bool,
    name: Named,
    /// What was answered; `None` while that is not known.
    status: Option<u16>,
    /// What the connection was given to send: it is no longer the request's.
    handed_on: u64,
    described: bool,
}

/// Attributes that are kept for after a kill, at most.
const KEPT_MAX: usize = 8;

impl Running {
    fn begin<B>(request: &HttpRequest<B>, shared: &Shared) -> Self {
        let name = Named::of(request);
        let start = SystemTime::now();
        let own_span = !Context::map_current(|current| current.span().span_context().is_valid());
        let (context, parent) = if own_span {
            let caller = global::get_text_map_propagator(|it| it.extract(&Headers(request.headers())));
            let parent = caller.span().span_context().span_id();
            let span = shared.start(span_of(request, &name, start), &caller);
            (caller.with_span(span), parent)
        } else {
            let current = Context::current();
            let parent = crate::parents::parent_of(current.span().span_context().span_id());
            (current, parent)
        };
        let headers = shared.headers.iter();
        let kept = headers.filter_map(|name| Some((*name, request.headers().get(*name)?.to_str().ok()?)));
        let path = ("url.path", request.uri().path());
        let all = kept
            .chain((!name.grpc).then_some(path))
            .chain(request.uri().query().map(|query| ("url.query", query)));
        let (mut attributes, mut count) = ([("", ""); KEPT_MAX], 0);
        for (place, pair) in attributes.iter_mut().zip(all) {
            *place = pair;
            count += 1;
        }
        let begin = Begin {
            operation: &name.operation,
            kind: SpanKind::Server,
            span: context.span().span_context().clone(),
            parent,
            start: Some(start),
            attributes: &attributes[..count],
        };
        let begun = Request::begin_as(name.index, &begin);
        Self { request: Some(begun), context, own_span, name, status: None, handed_on: 0, described: false }
    }

    /// Until the guard is dropped, the thread works for this request, from the frame with something at this address.
    fn enter(&self, frame: usize) -> Option<Entered<'_>> {
        self.request.as_ref().map(|request| request.enter_from(frame))
    }

    fn usage(&self) -> Usage {
        let mut usage = self.request.as_ref().map(Request::usage).unwrap_or_default();
        if usage.retained > 0 {
            // What is on its way to the caller is not retained; a body that was never allocated frees nothing.
            usage.retained = usage.retained.saturating_sub_unsigned(self.handed_on).max(0);
        }
        usage
    }

    fn describe(&mut self) {
        if !std::mem::replace(&mut self.described, true) {
            let usage = self.usage();
            let status =
                self.status.map(|status| KeyValue::new("http.response.status_code", i64::from(status)));
            phase::describe_request(&self.context.span(), &usage, status.filter(|_| self.own_span));
            metrics::record(self.name.index, || self.name.route(), usage.retained);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.describe();
        self.request = None;
        if self.own_span {
            self.context.span().end();
        }
    }
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(http::header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

fn span_of<B>(request: &HttpRequest<B>, name: &Named, start: SystemTime) -> SpanBuilder {
    // Room for the status, too: the list of an ordinary request does not grow later.
    let mut attributes = Vec::with_capacity(5);
    if name.grpc {
        attributes.push(KeyValue::new("rpc.system.name", "grpc"));
        attributes.push(KeyValue::new("rpc.method", name.operation.clone()));
    } else {
        attributes.push(KeyValue::new("http.request.method", name.method()));
        attributes.push(KeyValue::new("url.path", request.uri().path().to_owned()));
        attributes.extend(name.route_at.map(|_| KeyValue::new("http.route", name.route())));
        let query = request.uri().query();
        attributes.extend(query.map(|query| KeyValue::new("url.query", query.to_owned())));
    }
    SpanBuilder::from_name(name.operation.clone())
        .with_kind(SpanKind::Server)
        .with_start_time(start)
        .with_attributes(attributes)
}

impl<S, B, R> Service<HttpRequest<B>> for MemoryService<S>
where
    S: Service<HttpRequest<B>, Response = Response<R>>,
    R: Body,
{
    type Response = Response<MemoryBody<R>>;
    type Error = S::Error;
    type Future = MemoryFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: HttpRequest<B>) -> Self::Future {
        let running = Running::begin(&request, &self.shared);
        let inner = {
            let frame = 0u8;
            let _entered = running.enter(std::ptr::from_ref(&frame).addr());
            let _span = running.own_span.then(|| running.context.clone().attach());
            self.inner.call(request)
        };
        MemoryFuture { inner, running: Some(running) }
    }
}

pin_project! {
    /// A request on its way to a response.
    #[derive(Debug)]
    pub struct MemoryFuture<F> {
        #[pin]
        inner: F,
        running: Option<Running>,
    }
}

impl<F, R, E> Future for MemoryFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
    R: Body,
{
    type Output = Result<Response<MemoryBody<R>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answer = {
            let frame = 0u8;
            let running = this.running.as_ref();
            let _entered = running.and_then(|running| running.enter(std::ptr::from_ref(&frame).addr()));
            let own = running.filter(|running| running.own_span);
            let _span = own.map(|running| running.context.clone().attach());
            this.inner.poll(cx)
        };
        let Poll::Ready(answer) = answer else { return Poll::Pending };
        let mut running = this.running.take();
        if let Some(running) = &mut running {
            finish_head(running, answer.as_ref().ok());
        }
        Poll::Ready(answer.map(|response| response.map(|inner| MemoryBody { inner, running })))
    }
}

/// The response is there; its body follows.
fn finish_head<R: Body>(running: &mut Running, response: Option<&Response<R>>) {
    if running.own_span {
        let status = response.map_or(500, |response| response.status().as_u16());
        running.status = Some(status);
        if status >= 500 {
            running.context.span().set_status(Status::error(""));
        }
    } else {
        // Whoever made the span ends it now: what is known goes onto it, less what the body will carry away.
        running.handed_on = response.map_or(0, |response| response.body().size_hint().lower());
        running.describe();
    }
}

pin_project! {
    /// A response's body. The request ends with it.
    #[derive(Debug)]
    pub struct MemoryBody<R> {
        #[pin]
        inner: R,
        running: Option<Running>,
    }
}

impl<R: Body> Body for MemoryBody<R> {
    type Data = R::Data;
    type Error = R::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = self.project();
        let frame = {
            let frame = 0u8;
            let running = this.running.as_ref();
            let _entered = running.and_then(|running| running.enter(std::ptr::from_ref(&frame).addr()));
            this.inner.poll_frame(cx)
        };
        if let (Poll::Ready(Some(Ok(frame))), Some(running)) = (&frame, this.running.as_mut()) {
            let bytes = frame.data_ref().map_or(0, bytes::Buf::remaining);
            running.handed_on = running.handed_on.saturating_add(bytes as u64);
        }
        if matches!(frame, Poll::Ready(None)) {
            *this.running = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
