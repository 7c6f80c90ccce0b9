//! What can go wrong between us and an API server, as far as it decides what to do next.

use std::error::Error;
use std::time::Duration;

use kube::client::Body;
use serde::Deserialize;

use super::lines::whole;

/// A `Status` is a few hundred bytes; anything longer comes from a proxy and is cut.
const STATUS_BYTES_MAX: usize = 64 << 10;

/// Of a message that is shown.
const MESSAGE_BYTES_MAX: usize = 512;

/// Why a request or a watch ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    /// 403.
    #[error("the API server forbids it: {0}")]
    Forbidden(String),
    /// 401.
    #[error("the API server does not accept our credentials: {0}")]
    Unauthorized(String),
    /// 404: this API is not served.
    #[error("the API server does not serve it: {0}")]
    NotServed(String),
    /// 410, or a watch event that says so: the version we know is forgotten.
    #[error("the API server has forgotten the version that we know")]
    Gone,
    /// 429, 5xx and all else.
    #[error("the API server answered {code}: {message}")]
    Answer {
        /// HTTP status.
        code: u16,
        /// What it said.
        message: String,
        /// `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// No connection, or one that broke.
    #[error("{0}")]
    Broken(String),
    /// Nothing was heard for longer than a healthy connection is silent.
    #[error("nothing heard for {} s", .0.as_secs())]
    Silent(Duration),
    /// More bytes than one answer may have.
    #[error("an answer that is too large")]
    TooLarge,
    /// Something that is no Kubernetes.
    #[error("expected an answer of a Kubernetes API server: {0}")]
    Strange(String),
    /// Whoever took the changes is gone.
    #[error("nobody takes the changes any more")]
    SinkClosed,
}

/// What the API server answers when it cannot.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Status {
    message: String,
    reason: String,
    code: u16,
}

impl Failure {
    /// A connection's error with everything it rests on, which is where `connection refused` stands.
    pub(super) fn broken(error: &(dyn Error + 'static)) -> Self {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            // Wrappers like to repeat what they wrap.
            if !text.contains(&cause_text) {
                text.push_str(": ");
                text.push_str(&cause_text);
            }
            source = cause.source();
        }
        Self::Broken(shown(&text))
    }

    /// From an answer that is no success.
    pub(super) async fn of_response(response: hyper::http::Response<Body>) -> Self {
        let (parts, body) = response.into_parts();
        let retry_after = parts.headers.get(hyper::header::RETRY_AFTER);
        let seconds = retry_after.and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let body = whole(body, STATUS_BYTES_MAX).await.unwrap_or_default();
        let mut status: Status = serde_json::from_slice(&body).unwrap_or_default();
        // The line of the answer is what counts; a proxy's body may say anything.
        status.code = parts.status.as_u16();
        if status.message.is_empty() {
            status.message = parts.status.canonical_reason().unwrap_or("no reason given").to_owned();
        }
        Self::of_status(status, seconds.map(Duration::from_secs))
    }

    /// From a `Status` object.
    pub(super) fn of_status(status: Status, retry_after: Option<Duration>) -> Self {
        let message = shown(&status.message);
        match status.code {
            401 => Self::Unauthorized(message),
            403 => Self::Forbidden(message),
            404 => Self::NotServed(message),
            410 => Self::Gone,
            _ if matches!(status.reason.as_str(), "Expired" | "Gone") => Self::Gone,
            code => Self::Answer { code, message, retry_after },
        }
    }

    /// How long the server asked us to wait.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Answer { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// Cut, and without what would break a line of the log.
fn shown(text: &str) -> String {
    let cut = &text[..text.floor_char_boundary(MESSAGE_BYTES_MAX)];
    cut.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
