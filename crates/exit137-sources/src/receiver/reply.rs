//! What a sender is told, in the words of its protocol: HTTP status with a `google.rpc.Status` in the request's own
//! encoding, or gRPC trailers.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};

use super::{Answer, Encoding, Signal};

/// Longer texts are cut: a message may quote what was sent.
const MESSAGE_BYTES_MAX: usize = 512;

/// The body of a reply: some bytes, and trailers in gRPC.
#[derive(Debug, Default)]
pub(super) struct ReplyBody {
    data: Option<Bytes>,
    trailers: Option<HeaderMap>,
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = match self.data.take() {
            Some(data) => Some(Frame::data(data)),
            None => self.trailers.take().map(Frame::trailers),
        };
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_none() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.data.as_ref().map_or(0, |data| data.len() as u64))
    }
}

/// A reply.
pub(super) type Reply = Response<ReplyBody>;

/// How the sender speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    Http(Encoding),
    Grpc,
}

/// Why a request was turned away, as both protocols number it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    BadRequest,
    Unauthenticated,
    NotFound,
    MethodNotAllowed,
    TooSlow,
    TooLong,
    Unsupported,
    /// Over our own budget.
    Busy,
    /// The sink has no room now.
    Unavailable,
}

impl Reason {
    fn http(self) -> StatusCode {
        match self {
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::TooLong => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Unsupported => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Busy => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// `google.rpc.Code`. One that is too long is not RESOURCE_EXHAUSTED, which means "later" with RetryInfo and
    /// which some senders retry without.
    fn code(self) -> u8 {
        match self {
            Self::BadRequest | Self::TooLong => 3,
            Self::TooSlow => 4,
            Self::NotFound | Self::MethodNotAllowed | Self::Unsupported => 12,
            Self::Busy => 8,
            Self::Unavailable => 14,
            Self::Unauthenticated => 16,
        }
    }
}

impl Dialect {
    /// The reply to what the sink answered.
    pub(super) fn answer(self, signal: Signal, answer: Answer) -> Reply {
        let partial = match answer {
            Answer::Accepted => None,
            Answer::Partial { rejected, message } => Some((rejected, message)),
            Answer::Retry { after, message } => {
                return self.refuse(Reason::Unavailable, &message, Some(after));
            }
            Answer::Refused { message } => return self.refuse(Reason::BadRequest, &message, None),
        };
        let message = match (&partial, self) {
            (None, Self::Http(Encoding::Json)) => b"{}".to_vec(),
            (None, _) => Vec::new(),
            (Some((rejected, why)), Self::Http(Encoding::Json)) => partial_json(signal, *rejected, cut(why)),
            (Some((rejected, why)), _) => partial_proto(*rejected, cut(why)),
        };
        match self {
            Self::Http(encoding) => http(StatusCode::OK, encoding, message),
            Self::Grpc => {
                let mut data = vec![0];
                data.extend_from_slice(&(message.len() as u32).to_be_bytes());
                data.extend_from_slice(&message);
                let mut trailers = HeaderMap::new();
                trailers.insert(GRPC_STATUS, HeaderValue::from_static("0"));
                grpc(ReplyBody { data: Some(Bytes::from(data)), trailers: Some(trailers) })
            }
        }
    }

    /// The reply to a request that was turned away; `after` when it should come again.
    pub(super) fn refuse(self, reason: Reason, message: &str, after: Option<Duration>) -> Reply {
        let message = cut(message);
        let status = status_proto(reason.code(), message, after);
        let mut reply = match self {
            Self::Http(Encoding::Protobuf) => http(reason.http(), Encoding::Protobuf, status),
            Self::Http(Encoding::Json) => {
                let text = serde_json::json!({ "code": reason.code(), "message": message });
                http(reason.http(), Encoding::Json, text.to_string().into_bytes())
            }
            Self::Grpc => {
                let mut reply = grpc(ReplyBody::default());
                let headers = reply.headers_mut();
                headers.insert(GRPC_STATUS, HeaderValue::from(u16::from(reason.code())));
                insert(headers, GRPC_MESSAGE, &percent_encoded(message));
                insert(headers, GRPC_DETAILS, &base64(&status));
                return reply;
            }
        };
        if let Some(after) = after {
            // Whole seconds, and never "now".
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            reply.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        if reason == Reason::Unauthenticated {
            reply.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        reply
    }
}

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
const GRPC_ACCEPT: HeaderName = HeaderName::from_static("grpc-accept-encoding");

fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

fn http(status: StatusCode, encoding: Encoding, body: Vec<u8>) -> Reply {
    let content_type = match encoding {
        Encoding::Protobuf => "application/x-protobuf",
        Encoding::Json => "application/json",
    };
    let mut reply = Response::new(ReplyBody { data: Some(Bytes::from(body)), trailers: None });
    *reply.status_mut() = status;
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}

fn grpc(body: ReplyBody) -> Reply {
    let mut reply = Response::new(body);
    let headers = reply.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(GRPC_ACCEPT, HeaderValue::from_static("identity,gzip,zstd,deflate"));
    reply
}

fn cut(message: &str) -> &str {
    &message[..message.floor_char_boundary(MESSAGE_BYTES_MAX)]
}

/// `Export*ServiceResponse`; the three differ in the name of one field.
fn partial_json(signal: Signal, rejected: u64, message: &str) -> Vec<u8> {
    let name = match signal {
        Signal::Traces => "rejectedSpans",
        Signal::Metrics => "rejectedDataPoints",
        Signal::Logs => "rejectedLogRecords",
    };
    let partial = serde_json::json!({ name: rejected.to_string(), "errorMessage": message });
    serde_json::json!({ "partialSuccess": partial }).to_string().into_bytes()
}

fn partial_proto(rejected: u64, message: &str) -> Vec<u8> {
    let mut partial = Vec::new();
    put_number(1, rejected, &mut partial);
    put_bytes(2, message.as_bytes(), &mut partial);
    let mut response = Vec::new();
    put_bytes(1, &partial, &mut response);
    response
}

/// `google.rpc.Status`, with a `google.rpc.RetryInfo` in its details.
fn status_proto(code: u8, message: &str, after: Option<Duration>) -> Vec<u8> {
    let mut status = Vec::new();
    put_number(1, u64::from(code), &mut status);
    put_bytes(2, message.as_bytes(), &mut status);
    if let Some(after) = after {
        let (mut delay, mut info, mut any) = (Vec::new(), Vec::new(), Vec::new());
        put_number(1, after.as_secs(), &mut delay);
        put_number(2, u64::from(after.subsec_nanos()), &mut delay);
        put_bytes(1, &delay, &mut info);
        put_bytes(1, b"type.googleapis.com/google.rpc.RetryInfo", &mut any);
        put_bytes(2, &info, &mut any);
        put_bytes(3, &any, &mut status);
    }
    status
}

fn put_varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn put_number(field: u8, number: u64, out: &mut Vec<u8>) {
    if number != 0 {
        out.push(field << 3);
        put_varint(number, out);
    }
}

fn put_bytes(field: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(field << 3 | 2);
    put_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// As the gRPC protocol wants `grpc-message`.
fn percent_encoded(message: &str) -> String {
    let mut out = String::with_capacity(message.len());
    for byte in message.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

fn base64(bytes: &[u8]) -> String {
    let mut out = Vec::new();
    crate::otlp::number::push_base64(bytes, &mut out);
    String::from_utf8_lossy(&out).trim_end_matches('=').to_owned()
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
    use prost::Message;

    use super::*;

    #[test]
    fn a_partial_success_reads_as_the_protocol_has_it() {
        let bytes = partial_proto(300, "no room");
        let partial = ExportTraceServiceResponse::decode(&bytes[..]).unwrap().partial_success.unwrap();
        assert_eq!((partial.rejected_spans, partial.error_message.as_str()), (300, "no room"));
        let text = partial_json(Signal::Logs, 300, "no \"room\"");
        // Whole numbers of 64 bits are strings in OTLP/JSON.
        let expected = r#"{"partialSuccess":{"errorMessage":"no \"room\"","rejectedLogRecords":"300"}}"#;
        assert_eq!(String::from_utf8_lossy(&text), expected);
    }

    #[test]
    fn a_retry_says_when_in_both_protocols() {
        let retry = || Answer::Retry { after: Duration::from_millis(1500), message: "100 % full\n".into() };
        let reply = Dialect::Http(Encoding::Protobuf).answer(Signal::Logs, retry());
        assert_eq!(reply.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(reply.headers()["retry-after"], "2");
        let reply = Dialect::Grpc.answer(Signal::Logs, retry());
        assert_eq!(reply.status(), StatusCode::OK);
        assert_eq!(reply.headers()["grpc-status"], "14");
        assert_eq!(reply.headers()["grpc-message"], "100 %25 full%0A");
        assert!(reply.body().is_end_stream());
        assert_eq!(
            status_proto(14, "m", Some(Duration::from_millis(1500))),
            b"\x08\x0e\x12\x01m\x1a\x36\x0a\x28type.googleapis.com/google.rpc.RetryInfo\x12\x0a\x0a\x08\x08\x01\x10\x80\xca\xb5\xee\x01"
        );
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        assert_eq!(cut(&"ä".repeat(400)).len(), MESSAGE_BYTES_MAX);
        assert_eq!(cut(&format!("x{}", "ä".repeat(400))).len(), MESSAGE_BYTES_MAX - 1);
    }
}
