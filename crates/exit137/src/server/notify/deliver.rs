//! Carries notices to one receiver: one at a time, again when that failed, never more waiting than a bound.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use exit137_core::time::UnixNanos;
use exit137_sources::cluster::Cluster;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use ring::hmac;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::config::Secret;
use super::format::{Format, kubernetes_events};
use super::note::Notice;

/// Notices that wait for one receiver. An incident makes a handful; who is down for longer reads the page.
pub(super) const WAITING_MAX: usize = 1000;

/// How often one notice is tried; with the delays below, for some 15 minutes.
const ATTEMPTS_MAX: u32 = 18;

/// Who asks for more patience than this asks by mistake.
const ASKED_DELAY_MAX: Duration = Duration::from_secs(300);

/// Between two attempts: doubled each time, up to a bound.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    pub(super) delay_min: Duration,
    pub(super) delay_max: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { delay_min: Duration::from_secs(1), delay_max: Duration::from_secs(60) }
    }
}

/// What became of notices to one receiver, for `/metrics`.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Arrived.
    pub(super) delivered: AtomicU64,
    /// Refused, or tried as often as we do.
    pub(super) failed: AtomicU64,
    /// Not even queued, because too many waited.
    pub(super) dropped: AtomicU64,
    /// Further attempts.
    pub(super) retries: AtomicU64,
}

pub(super) fn add(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

/// Where notices go.
pub(super) enum Receiver {
    /// Somebody who takes HTTP.
    Http(Box<Http>),
    /// The cluster itself.
    Kubernetes(Box<Cluster>),
}

/// Somebody who takes HTTP.
pub(super) struct Http {
    pub(super) client: reqwest::Client,
    pub(super) url: Secret,
    pub(super) headers: HeaderMap,
    /// Signs bodies.
    pub(super) key: Option<hmac::Key>,
    pub(super) format: Format,
}

/// How an attempt ended.
enum Attempt {
    Arrived,
    /// Try again, not before so long.
    Later(String, Option<Duration>),
    /// It would not help.
    Never(String),
}

/// Runs until no more notices can come and all were carried.
pub(super) async fn carry(
    name: String,
    receiver: Receiver,
    mut notices: mpsc::Receiver<Arc<Notice>>,
    counts: Arc<Counts>,
    pace: Pace,
) {
    while let Some(notice) = notices.recv().await {
        let mut delay = pace.delay_min;
        for attempt in 1..=ATTEMPTS_MAX {
            let (reason, asked) = match receiver.attempt(&notice).await {
                Attempt::Arrived => {
                    add(&counts.delivered);
                    break;
                }
                Attempt::Never(reason) => {
                    tracing::warn!(receiver = name, incident = notice.note.id, "not told: {reason}");
                    add(&counts.failed);
                    break;
                }
                Attempt::Later(reason, _) if attempt == ATTEMPTS_MAX => {
                    tracing::warn!(receiver = name, incident = notice.note.id, attempt, "given up: {reason}");
                    add(&counts.failed);
                    break;
                }
                Attempt::Later(reason, asked) => (reason, asked),
            };
            let wait = delay.max(asked.unwrap_or_default().min(ASKED_DELAY_MAX));
            let wait_seconds = wait.as_secs_f32();
            if attempt == 1 {
                tracing::warn!(
                    receiver = name,
                    incident = notice.note.id,
                    wait_seconds,
                    "{reason}; trying again"
                );
            }
            add(&counts.retries);
            sleep(wait).await;
            delay = (delay * 2).min(pace.delay_max);
        }
    }
}

impl Receiver {
    async fn attempt(&self, notice: &Notice) -> Attempt {
        match self {
            Self::Http(http) => http.attempt(notice).await,
            Self::Kubernetes(cluster) => {
                let Some((namespace, events)) = kubernetes_events(notice, now()) else {
                    return Attempt::Arrived;
                };
                for event in events {
                    if let Err(error) = cluster.create_event(&namespace, event.to_string().into()).await {
                        return match error.is_lasting() {
                            true => Attempt::Never(error.to_string()),
                            false => Attempt::Later(error.to_string(), None),
                        };
                    }
                }
                Attempt::Arrived
            }
        }
    }
}

impl Http {
    async fn attempt(&self, notice: &Notice) -> Attempt {
        let now = now();
        let Some(body) = self.format.body(notice, now) else { return Attempt::Arrived };
        let body = body.to_string();
        let mut headers = self.headers.clone();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(key) = &self.key {
            sign(key, &body, now, &mut headers);
        }
        let request = self.client.post(self.url.reveal()).headers(headers).body(body);
        let response = match request.send().await {
            Ok(response) => response,
            // An address in an error's words is a secret.
            Err(error) => return Attempt::Later(words(error.without_url()), None),
        };
        let status = response.status();
        if status.is_success() {
            return Attempt::Arrived;
        }
        let asked = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let reason = format!("expected success, found {status}");
        match status.as_u16() {
            408 | 425 | 429 | 500.. => Attempt::Later(reason, asked.map(Duration::from_secs)),
            _ => Attempt::Never(reason),
        }
    }
}

/// Who knows the key can tell that the body is ours and was sent now. Each attempt is signed anew, so that one that
/// was late is not taken for a replayed one.
fn sign(key: &hmac::Key, body: &str, now: UnixNanos, headers: &mut HeaderMap) {
    let timestamp = (now.0 / exit137_core::time::SECOND).to_string();
    let tag = hmac::sign(key, format!("{timestamp}.{body}").as_bytes());
    let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    for (name, value) in [("x-exit137-timestamp", timestamp), ("x-exit137-signature", format!("v1={hex}"))] {
        // Digits and letters are fit for headers.
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
}

/// An error with what it rests on, where `connection refused` stands.
pub(super) fn words(error: reqwest::Error) -> String {
    let mut words = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        let cause_words = cause.to_string();
        if !words.contains(&cause_words) {
            words.push_str(": ");
            words.push_str(&cause_words);
        }
        source = cause.source();
    }
    words
}

pub(super) fn now() -> UnixNanos {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    UnixNanos(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}
