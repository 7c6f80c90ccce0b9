//! One request, from its head to its reply.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use hyper::body::{Body, Incoming};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

use super::body::{self, BodyError, Compression};
use super::budget::{Budget, Exhausted};
use super::counters::Counters;
use super::reply::{Dialect, Reason, Reply};
use super::{Answer, Encoding, Export, ReceiverOptions, Signal, Sink};

/// When to come again after our own budget was full.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Before a gRPC message: whether it is compressed, and its length.
const GRPC_PREFIX_BYTES: usize = 5;

/// What all connections share.
#[derive(Debug)]
pub(super) struct Desk<S> {
    pub(super) sink: S,
    pub(super) options: ReceiverOptions,
    pub(super) budget: Arc<Budget>,
    pub(super) counters: Arc<Counters>,
}

/// Why a request got no further.
struct Refusal {
    reason: Reason,
    message: String,
    after: Option<Duration>,
}

fn refusal(reason: Reason, message: impl Into<String>) -> Refusal {
    Refusal { reason, message: message.into(), after: None }
}

impl<S: Sink> Desk<S> {
    /// Replies to a request; tells whether an export was taken from it, so that its sender is known as one.
    pub(super) async fn serve(&self, request: Request<Incoming>) -> (Reply, bool) {
        let origin = self.allowed_origin(request.headers());
        if request.method() == Method::OPTIONS
            && let Some(origin) = &origin
        {
            return (preflight(origin.clone()), false);
        }
        let dialect = dialect(request.headers());
        let (mut reply, taken) = match self.take(request, dialect).await {
            Ok((signal, answer)) => {
                self.counters.answered(&answer);
                (dialect.answer(signal, answer), true)
            }
            Err(refusal) => {
                self.counters.refused(refusal.reason);
                (dialect.refuse(refusal.reason, &refusal.message, refusal.after), false)
            }
        };
        let headers = reply.headers_mut();
        if let Some(origin) = origin {
            allow_origin(headers, origin);
        }
        (reply, taken)
    }

    async fn take(&self, request: Request<Incoming>, dialect: Dialect) -> Result<(Signal, Answer), Refusal> {
        let signal = signal_of(&request, dialect)?;
        self.authorize(request.headers())?;
        let (encoding, compression) = content_of(request.headers(), dialect)?;
        let bytes_max = self.options.body_bytes_max;
        if request.body().size_hint().lower() > bytes_max as u64 {
            return Err(explain(BodyError::TooLong(bytes_max)));
        }
        let mut charge = self.budget.enter().await.map_err(|Exhausted| explain(BodyError::Exhausted))?;
        let timeout = self.options.body_timeout;
        let body = body::read(request.into_body(), bytes_max, timeout, &mut charge).await.map_err(explain)?;
        self.counters.arrived(body.len());
        let (body, compression) = match dialect {
            Dialect::Http(_) => (body, compression),
            Dialect::Grpc => unframe(body, compression)?,
        };
        let plain_max = self.options.decompressed_bytes_max;
        let body = body::decompress(body, compression, plain_max, &mut charge).await.map_err(explain)?;
        let answer = self.sink.accept(Export { signal, encoding, body }).await;
        drop(charge);
        Ok((signal, answer))
    }

    fn authorize(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        if self.options.tokens.is_empty() {
            return Ok(());
        }
        let offered = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default();
        let token = match offered.split_at_checked(b"Bearer ".len()) {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"Bearer ") => token.trim_ascii(),
            _ => {
                return Err(refusal(
                    Reason::Unauthenticated,
                    "expected the header `Authorization: Bearer TOKEN`",
                ));
            }
        };
        // All are compared, so that the time does not tell which one came near.
        let known = self.options.tokens.iter().fold(false, |known, own| known | own.is(token));
        if known { Ok(()) } else { Err(refusal(Reason::Unauthenticated, "this token is not known here")) }
    }

    /// The request's origin, when pages from there may send.
    fn allowed_origin(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let origin = headers.get(header::ORIGIN)?;
        let allowed = |known: &String| known == "*" || known.as_bytes() == origin.as_bytes();
        self.options.cors_origins.iter().any(allowed).then(|| origin.clone())
    }
}

fn dialect(headers: &HeaderMap) -> Dialect {
    match media_type(headers) {
        b"application/json" => Dialect::Http(Encoding::Json),
        grpc if grpc.starts_with(b"application/grpc") => Dialect::Grpc,
        _ => Dialect::Http(Encoding::Protobuf),
    }
}

/// `Content-Type` without its parameters.
fn media_type(headers: &HeaderMap) -> &[u8] {
    let value = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    value.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii()
}

fn signal_of(request: &Request<Incoming>, dialect: Dialect) -> Result<Signal, Refusal> {
    let path = request.uri().path();
    let signal = match (dialect, path) {
        (Dialect::Http(_), "/v1/traces") => Signal::Traces,
        (Dialect::Http(_), "/v1/metrics") => Signal::Metrics,
        (Dialect::Http(_), "/v1/logs") => Signal::Logs,
        (Dialect::Grpc, "/opentelemetry.proto.collector.trace.v1.TraceService/Export") => Signal::Traces,
        (Dialect::Grpc, "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export") => Signal::Metrics,
        (Dialect::Grpc, "/opentelemetry.proto.collector.logs.v1.LogsService/Export") => Signal::Logs,
        (Dialect::Http(_), _) => {
            let message =
                format!("nothing is at {path:?}: OTLP goes to /v1/traces, /v1/metrics and /v1/logs");
            return Err(refusal(Reason::NotFound, message));
        }
        (Dialect::Grpc, _) => {
            let message =
                format!("no gRPC method {path:?}: expected Export of OTLP's trace, metrics or logs service");
            return Err(refusal(Reason::NotFound, message));
        }
    };
    if request.method() != Method::POST {
        let message = format!("expected POST at {path}, got {}", request.method());
        return Err(refusal(Reason::MethodNotAllowed, message));
    }
    Ok(signal)
}

fn content_of(headers: &HeaderMap, dialect: Dialect) -> Result<(Encoding, Compression), Refusal> {
    let (encoding, name) = match dialect {
        Dialect::Grpc => (Encoding::Protobuf, HeaderName::from_static("grpc-encoding")),
        Dialect::Http(encoding) => {
            let media_type = media_type(headers);
            if !matches!(
                media_type,
                b"application/x-protobuf" | b"application/protobuf" | b"application/json"
            ) {
                let got = String::from_utf8_lossy(media_type);
                let message =
                    format!("content type {got:?}: expected application/x-protobuf or application/json");
                return Err(refusal(Reason::Unsupported, message));
            }
            (encoding, header::CONTENT_ENCODING)
        }
    };
    let coding = headers.get(name).map(HeaderValue::as_bytes).unwrap_or_default();
    let compression = Compression::named(coding.trim_ascii()).ok_or_else(|| {
        let got = String::from_utf8_lossy(coding);
        refusal(
            Reason::Unsupported,
            format!("compression {got:?}: expected one of {}", Compression::ACCEPTED),
        )
    })?;
    Ok((encoding, compression))
}

/// The one message of a unary call, and whether it is compressed.
fn unframe(mut body: Bytes, compression: Compression) -> Result<(Bytes, Compression), Refusal> {
    let wrong = || refusal(Reason::BadRequest, "expected one gRPC message after its length");
    let prefix = body.first_chunk::<GRPC_PREFIX_BYTES>().ok_or_else(wrong)?;
    let [flag, length @ ..] = *prefix;
    let compression = match flag {
        0 => Compression::None,
        1 if compression != Compression::None => compression,
        _ => return Err(refusal(Reason::BadRequest, "a compressed gRPC message without grpc-encoding")),
    };
    body.advance(GRPC_PREFIX_BYTES);
    if body.len() != u32::from_be_bytes(length) as usize {
        return Err(wrong());
    }
    Ok((body, compression))
}

fn explain(error: BodyError) -> Refusal {
    match error {
        BodyError::Exhausted => Refusal {
            reason: Reason::Busy,
            message: "more is arriving than there is memory for".into(),
            after: Some(RETRY_AFTER),
        },
        BodyError::TooLong(max) => {
            refusal(Reason::TooLong, format!("expected a body of at most {max} bytes"))
        }
        BodyError::TooLongInside(max) => {
            refusal(Reason::TooLong, format!("expected a body of at most {max} bytes when decompressed"))
        }
        BodyError::TooSlow(max) => {
            let seconds = max.as_secs();
            refusal(Reason::TooSlow, format!("expected the whole body within {seconds} s"))
        }
        BodyError::Broken => refusal(Reason::BadRequest, "the body ended before it was whole"),
        BodyError::NotCompressed(compression) => {
            refusal(Reason::BadRequest, format!("expected a body compressed with {}", compression.name()))
        }
    }
}

fn preflight(origin: HeaderValue) -> Reply {
    let mut reply = Response::new(Default::default());
    *reply.status_mut() = StatusCode::NO_CONTENT;
    let headers = reply.headers_mut();
    allow_origin(headers, origin);
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST"));
    let allowed = "authorization, content-encoding, content-type, x-requested-with";
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(allowed));
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("7200"));
    reply
}

fn allow_origin(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::VARY, HeaderValue::from_static("Origin"));
}
