//! Tells people and programs of incidents: once, and again when something has changed.
//!
//! Each receiver has a queue of its own, so that one that is down delays no other; what does not fit is dropped and
//! counted. Nothing that is told decides anything: what is true stands in the record and on the pages.

pub(crate) mod config;
mod deliver;
mod format;
mod memory;
mod note;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use exit137_sources::cluster::Cluster;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use ring::hmac;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use config::{Notify, Secret};
use deliver::{Counts, Http, Pace, Receiver, WAITING_MAX, add, carry};
use format::Format;
use memory::Memory;
pub(crate) use note::IncidentNote;
use note::Notice;

/// For a receiver to answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(15);

/// Why nobody can be told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotifyError {
    /// A file with a secret or a certificate.
    #[error("{receiver}: cannot read {}", path.display())]
    Read {
        /// `notify.slack[0]`.
        receiver: String,
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Something in the settings.
    #[error("{receiver}: {message}")]
    Setting {
        /// `notify.slack[0]`.
        receiver: String,
        /// What was expected.
        message: String,
    },
    /// TLS.
    #[error("notify: cannot prepare HTTPS: expected certificates of the system, or `ca_file`")]
    Tls(#[source] reqwest::Error),
}

/// What became of the notices to one receiver.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct ReceiverState {
    /// `notify.slack[0]`.
    pub(crate) name: String,
    /// Arrived.
    pub(crate) delivered: u64,
    /// Refused, or given up.
    pub(crate) failed: u64,
    /// Not queued, because too many waited.
    pub(crate) dropped: u64,
    /// Further attempts.
    pub(crate) retries: u64,
    /// Waiting now.
    pub(crate) waiting: usize,
}

struct Queue {
    name: String,
    notices: mpsc::Sender<Arc<Notice>>,
    counts: Arc<Counts>,
}

/// Tells everybody who wants to know.
pub(crate) struct Notifier {
    /// Empty once it is closed.
    queues: Mutex<Vec<Queue>>,
    memory: Mutex<Memory>,
    carriers: Mutex<JoinSet<()>>,
}

impl Notifier {
    /// Starts to carry. Needs a tokio runtime. `cluster` takes the events, if they are switched on.
    ///
    /// # Errors
    ///
    /// When a setting cannot be used; nobody is asked whether they are there.
    pub(crate) fn start(settings: &Notify, cluster: Option<&Cluster>) -> Result<Self, NotifyError> {
        Self::start_at(settings, cluster, Pace::default())
    }

    fn start_at(settings: &Notify, cluster: Option<&Cluster>, pace: Pace) -> Result<Self, NotifyError> {
        let (mut queues, mut carriers) = (Vec::new(), JoinSet::new());
        for (name, receiver) in receivers(settings, cluster)? {
            let (sender, notices) = mpsc::channel(WAITING_MAX);
            let counts = Arc::new(Counts::default());
            carriers.spawn(carry(name.clone(), receiver, notices, Arc::clone(&counts), pace));
            queues.push(Queue { name, notices: sender, counts });
        }
        Ok(Self { queues: Mutex::new(queues), memory: Mutex::default(), carriers: Mutex::new(carriers) })
    }

    /// Takes note of an incident without telling anybody: what was told before a restart.
    pub(crate) fn remember(&self, note: &IncidentNote) {
        held(&self.memory).remember(note);
    }

    /// Takes note of an incident as it is now, and tells if that is news. Never waits.
    pub(crate) fn observe(&self, note: IncidentNote) {
        let news = held(&self.memory).news(&note, deliver::now());
        let Some(reason) = news else { return };
        let notice = Arc::new(Notice { note, reason });
        for queue in held(&self.queues).iter() {
            if queue.notices.try_send(Arc::clone(&notice)).is_err() {
                add(&queue.counts.dropped);
                let (receiver, incident) = (&queue.name, &notice.note.id);
                tracing::warn!(receiver, incident, "not told: {WAITING_MAX} notices wait already");
            }
        }
    }

    /// How it is going.
    pub(crate) fn state(&self) -> Vec<ReceiverState> {
        let state = |queue: &Queue| ReceiverState {
            name: queue.name.clone(),
            delivered: queue.counts.delivered.load(Ordering::Relaxed),
            failed: queue.counts.failed.load(Ordering::Relaxed),
            dropped: queue.counts.dropped.load(Ordering::Relaxed),
            retries: queue.counts.retries.load(Ordering::Relaxed),
            waiting: queue.notices.max_capacity() - queue.notices.capacity(),
        };
        held(&self.queues).iter().map(state).collect()
    }

    /// Takes nothing more, and carries what waits, for at most so long.
    pub(crate) async fn close(&self, patience: Duration) {
        held(&self.queues).clear();
        let mut carriers = std::mem::take(&mut *held(&self.carriers));
        let all = async { while carriers.join_next().await.is_some() {} };
        if tokio::time::timeout(patience, all).await.is_err() {
            tracing::warn!("ended with notices that did not arrive");
        }
    }
}

/// What is locked is whole between any two of our lines, so a panic elsewhere spoils nothing.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Everybody in the settings.
fn receivers(settings: &Notify, cluster: Option<&Cluster>) -> Result<Vec<(String, Receiver)>, NotifyError> {
    let mut found: Vec<(String, Http)> = Vec::new();
    let client = client(settings)?;
    let mut add = |name: String, url: Secret, format: Format, headers: HeaderMap, key: Option<hmac::Key>| {
        let url = checked(&name, url)?;
        found.push((name, Http { client: client.clone(), url, headers, key, format }));
        Ok::<(), NotifyError>(())
    };
    for (index, setting) in settings.alertmanager.iter().enumerate() {
        let name = format!("notify.alertmanager[{index}]");
        let mut headers = HeaderMap::new();
        if let Some(path) = &setting.token_file {
            let token = read(&name, path)?;
            headers.insert(AUTHORIZATION, header_value(&name, &format!("Bearer {}", token.reveal()))?);
        }
        let (labels, resolve_after) = (setting.labels.clone(), setting.resolve_after.0);
        let url = extended(&setting.url, "/api/v2/alerts");
        add(name, url, Format::Alertmanager { labels, resolve_after }, headers, None)?;
    }
    for (index, setting) in settings.slack.iter().enumerate() {
        let name = format!("notify.slack[{index}]");
        let url = given(&name, "url", &setting.url, setting.url_file.as_deref())?;
        add(name, url, Format::Slack, HeaderMap::new(), None)?;
    }
    for (index, setting) in settings.webhook.iter().enumerate() {
        let name = format!("notify.webhook[{index}]");
        let url = given(&name, "url", &setting.url, setting.url_file.as_deref())?;
        let signed = setting.secret.is_some() || setting.secret_file.is_some();
        let secret = signed.then(|| given(&name, "secret", &setting.secret, setting.secret_file.as_deref()));
        let key =
            secret.transpose()?.map(|secret| hmac::Key::new(hmac::HMAC_SHA256, secret.reveal().as_bytes()));
        add(name.clone(), url, Format::Webhook, headers(&name, &setting.headers)?, key)?;
    }
    for (index, setting) in settings.otlp.iter().enumerate() {
        let name = format!("notify.otlp[{index}]");
        let url = extended(&setting.url, "/v1/logs");
        add(name.clone(), url, Format::Otlp, headers(&name, &setting.headers)?, None)?;
    }
    let http = found.into_iter().map(|(name, http)| (name, Receiver::Http(Box::new(http))));
    let mut receivers: Vec<(String, Receiver)> = http.collect();
    if settings.kubernetes_events.enabled {
        let name = "notify.kubernetes_events".to_owned();
        let Some(cluster) = cluster else {
            let message = "expected a cluster to be watched, for it takes the events".to_owned();
            return Err(NotifyError::Setting { receiver: name, message });
        };
        receivers.push((name, Receiver::Kubernetes(Box::new(cluster.clone()))));
    }
    Ok(receivers)
}

/// One client for all: it keeps connections, follows no redirects (whoever redirects would learn what we send), and
/// does not wait for ever.
fn client(settings: &Notify) -> Result<reqwest::Client, NotifyError> {
    // The first one counts; it is the same everywhere in this program.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut client = reqwest::Client::builder()
        .timeout(ANSWER_TIME_MAX)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("exit137/", env!("CARGO_PKG_VERSION")));
    if let Some(path) = &settings.ca_file {
        let receiver = "notify.ca_file".to_owned();
        let pem = read(&receiver, path)?;
        let certificates = reqwest::Certificate::from_pem_bundle(pem.reveal().as_bytes());
        let expected =
            |_| NotifyError::Setting { receiver, message: "expected certificates in PEM".to_owned() };
        client = client.tls_certs_only(certificates.map_err(expected)?);
    } else if !is_encrypted(settings) {
        // A container image may hold no certificates at all, and none are needed.
        client = client.tls_certs_only([]);
    }
    client.build().map_err(NotifyError::Tls)
}

/// Whether anybody may be spoken to over HTTPS.
fn is_encrypted(settings: &Notify) -> bool {
    let urls = settings.alertmanager.iter().map(|setting| Some(&setting.url));
    let urls = urls.chain(settings.otlp.iter().map(|setting| Some(&setting.url)));
    let urls = urls.chain(settings.slack.iter().map(|setting| setting.url.as_ref()));
    let mut urls = urls.chain(settings.webhook.iter().map(|setting| setting.url.as_ref()));
    // One that stands in a file may be anything.
    urls.any(|url| url.is_none_or(|url| !url.reveal().starts_with("http://")))
}

fn extended(url: &Secret, path: &str) -> Secret {
    Secret::from(format!("{}{path}", url.reveal().trim_end_matches('/')))
}

fn checked(receiver: &str, url: Secret) -> Result<Secret, NotifyError> {
    let parsed = reqwest::Url::parse(url.reveal()).ok();
    match parsed {
        Some(parsed) if matches!(parsed.scheme(), "http" | "https") && parsed.has_host() => Ok(url),
        // Not what was found: it may be half a secret.
        _ => Err(NotifyError::Setting {
            receiver: receiver.to_owned(),
            message: "expected a URL that begins with http:// or https://".to_owned(),
        }),
    }
}

/// A secret that is given, or stands in a file.
fn given(
    receiver: &str,
    key: &str,
    secret: &Option<Secret>,
    file: Option<&Path>,
) -> Result<Secret, NotifyError> {
    match (secret, file) {
        (Some(secret), None) => Ok(secret.clone()),
        (None, Some(path)) => read(receiver, path),
        _ => Err(NotifyError::Setting {
            receiver: receiver.to_owned(),
            message: format!("expected one of `{key}` and `{key}_file`"),
        }),
    }
}

fn read(receiver: &str, path: &Path) -> Result<Secret, NotifyError> {
    let text = std::fs::read_to_string(path).map_err(|source| NotifyError::Read {
        receiver: receiver.to_owned(),
        path: path.to_owned(),
        source,
    })?;
    Ok(Secret::from(text.trim().to_owned()))
}

fn headers(
    receiver: &str,
    given: &std::collections::BTreeMap<String, Secret>,
) -> Result<HeaderMap, NotifyError> {
    let mut headers = HeaderMap::new();
    for (name, value) in given {
        let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| NotifyError::Setting {
            receiver: receiver.to_owned(),
            message: format!("expected the name of a header, found \"{name}\""),
        })?;
        headers.insert(key, header_value(receiver, value.reveal())?);
    }
    Ok(headers)
}

fn header_value(receiver: &str, value: &str) -> Result<HeaderValue, NotifyError> {
    let mut value = HeaderValue::from_str(value).map_err(|_| NotifyError::Setting {
        receiver: receiver.to_owned(),
        message: "expected the value of a header on one line".to_owned(),
    })?;
    value.set_sensitive(true);
    Ok(value)
}
