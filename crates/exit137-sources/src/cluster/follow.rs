//! Follows one kind of object: lists what is there, page by page, then is told of every change, for ever.
//!
//! - A watch that ends is resumed from the last version heard, bookmarks included.
//! - When the API server has forgotten that version (410), all is listed again. What was passed on before and has
//!   not changed is not passed on twice, so catching up costs the reader little.
//! - A line that broke off, a silent connection, a refusal, an outage: wait, longer each time, and try again.
//! - What is in no list any more was deleted while nobody watched: pods are passed on as deleted.
//! - What is kept of each object is two hashes, and of a pod its names; a page and a line are the largest things ever
//!   held.

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::Request;
use kube::client::Body;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::backoff::Backoff;
use super::failure::{Failure, Status};
use super::kind::Kind;
use super::lines::{Lines, whole};
use super::state::{Phase, Shared};
use super::{Change, ChangeType, ClusterOptions, now};
use crate::kubernetes::{NotKept, Trimmed, trim};

/// Of one page. Two hundred pods are a few megabytes; a page that is larger is asked for again in smaller pieces.
const PAGE_BYTES_MAX: usize = 48 << 20;

/// For a page to arrive, and for a watch to begin.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(60);

/// After as many failures in a row from the same version, that version may be what is wrong.
const WATCH_FAILURES_MAX: u32 = 3;

/// A watch that ends sooner and said nothing has failed.
const WATCH_TIME_MIN: Duration = Duration::from_secs(1);

/// Objects whose fingerprints are kept: some 40 MiB. Versions of further ones are passed on even if unchanged.
const KNOWN_MAX: usize = 1_000_000;

/// Pods whose names are kept too: some 30 MiB.
const NAMED_MAX: usize = 200_000;

/// The fingerprint of what was not passed on.
const NOTHING: u64 = 0;

/// A watch, its place and what it has passed on.
pub(super) struct Follower {
    pub(super) client: kube::Client,
    pub(super) kind: Kind,
    pub(super) namespace: Option<String>,
    pub(super) options: ClusterOptions,
    pub(super) sink: mpsc::Sender<Change>,
    pub(super) shared: Shared,
    /// Of this watch in `shared`.
    pub(super) index: usize,
    place: Place,
}

#[derive(Default)]
struct Place {
    /// The version to go on from; `None` when all must be listed.
    version: Option<String>,
    known: HashMap<u64, Known>,
    /// Counts lists.
    epoch: u32,
    backoff: Backoff,
    failures: u32,
    /// When everything was last passed on.
    refreshed_at: Option<Instant>,
}

/// What was last passed on of an object.
struct Known {
    fingerprint: u64,
    /// The list that last held it.
    epoch: u32,
    /// Of a pod, to tell that it is gone: namespace, name and UID, which hold no slash.
    names: Option<Box<str>>,
}

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow, default)]
    metadata: PageMetadata<'a>,
    /// Null when there are none: so Go writes an empty list.
    #[serde(borrow)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PageMetadata<'a> {
    #[serde(borrow)]
    resource_version: Option<Cow<'a, str>>,
    #[serde(borrow)]
    r#continue: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct WatchLine<'a> {
    #[serde(borrow, rename = "type")]
    event_type: Cow<'a, str>,
    #[serde(borrow)]
    object: &'a RawValue,
}

/// Of any object.
#[derive(Deserialize)]
struct Versioned<'a> {
    #[serde(borrow, default)]
    metadata: PageMetadata<'a>,
}

impl Follower {
    pub(super) fn new(
        client: kube::Client,
        (kind, namespace): (Kind, Option<String>),
        options: ClusterOptions,
        sink: mpsc::Sender<Change>,
        (shared, index): (Shared, usize),
    ) -> Self {
        Self { client, kind, namespace, options, sink, shared, index, place: Place::default() }
    }

    /// Runs until nobody takes the changes any more.
    pub(super) async fn run(mut self) {
        loop {
            let outcome = if self.place.version.is_none() { self.list().await } else { self.watch().await };
            match outcome {
                Ok(()) => {}
                Err(Failure::SinkClosed) => return,
                Err(failure) => {
                    let delay = self.fail(&failure);
                    tokio::select! {
                        () = sleep(delay) => {}
                        () = self.sink.closed() => return,
                    }
                }
            }
        }
    }

    /// Notes the failure and says how long to wait.
    fn fail(&mut self, failure: &Failure) -> Duration {
        let place = &mut self.place;
        place.failures += 1;
        let mut phase = Phase::Retrying;
        let mut delay = place.backoff.next(failure.retry_after());
        match failure {
            Failure::Gone => {
                place.version = None;
                phase = Phase::Listing;
            }
            Failure::Forbidden(_) | Failure::NotServed(_) => {
                place.version = None;
                phase = Phase::Forbidden;
                delay = self.options.forbidden_retry;
            }
            _ if place.failures >= WATCH_FAILURES_MAX => place.version = None,
            _ => {}
        }
        let (at, message) = (now(), failure.to_string());
        // When the API server is down, all watches notice; it is news once.
        let known = self.shared.snapshot().watches.into_iter().any(|watch| {
            watch.phase == Phase::Retrying && watch.last_error.is_some_and(|(_, known)| known == message)
        });
        let mut first = false;
        self.shared.update(self.index, |state| {
            first = state.phase != phase && !known;
            state.relists += u64::from(*failure == Failure::Gone);
            state.since = if state.phase == phase { state.since } else { at };
            state.phase = phase;
            state.last_error = Some((at, message.clone()));
        });
        let (resource, retry_seconds) = (self.kind.resource(), delay.as_secs_f32());
        let namespace = self.namespace.as_deref().unwrap_or("*");
        match failure {
            Failure::Gone => tracing::info!(resource, namespace, "{message}: listing again"),
            _ if first => tracing::warn!(
                resource,
                namespace,
                retry_seconds,
                "{message}; until it works, {}",
                self.kind.loss()
            ),
            _ => tracing::debug!(resource, namespace, retry_seconds, "{message}"),
        }
        delay
    }

    fn enter(&self, phase: Phase) {
        let at = now();
        let mut was_lost = false;
        self.shared.update(self.index, |state| {
            if state.phase != phase {
                was_lost = state.phase == Phase::Retrying;
                (state.phase, state.since) = (phase, at);
            }
        });
        if was_lost && self.shared.snapshot().losses().is_empty() {
            tracing::info!("everything is watched again");
        }
    }

    /// Passes on everything that is there and was not passed on.
    async fn list(&mut self) -> Result<(), Failure> {
        // Until it has worked, what is told is that it does not.
        if self.place.failures == 0 {
            self.enter(Phase::Listing);
        }
        self.place.epoch += 1;
        if self.place.refreshed_at.is_none_or(|at| at.elapsed() >= self.options.refresh) {
            self.place.known.values_mut().for_each(|known| known.fingerprint = NOTHING);
            self.place.refreshed_at = Some(Instant::now());
        }
        let mut token: Option<String> = None;
        let mut page_size = self.options.page_size.max(1);
        let version = loop {
            match self.page(token.as_deref(), page_size).await {
                Err(Failure::TooLarge) if page_size > 1 => page_size = page_size.div_ceil(4),
                Err(failure) => return Err(failure),
                Ok((version, None)) => break version,
                Ok((_, next)) => token = next,
            }
        };
        for change in self.vanished() {
            self.send(change).await?;
        }
        let objects = self.place.known.len();
        let resync =
            Change { change: ChangeType::Resync, ..Change::about(self.kind, self.namespace.clone()) };
        self.send(resync).await?;
        self.reach(version);
        self.place.failures = 0;
        self.enter(Phase::Watching);
        self.shared.update(self.index, |state| (state.listed, state.objects) = (true, objects));
        let (resource, namespace) = (self.kind.resource(), self.namespace.as_deref().unwrap_or("*"));
        tracing::info!(resource, namespace, objects, "listed; watching");
        Ok(())
    }

    /// What the list that was just read did not hold is gone; nothing is known of it any more.
    fn vanished(&mut self) -> Vec<Change> {
        let epoch = self.place.epoch;
        let gone = self.place.known.extract_if(|_, known| known.epoch != epoch);
        let names: Vec<Box<str>> = gone.filter_map(|(_, known)| known.names).collect();
        names.iter().filter_map(|names| self.deletion(names)).collect()
    }

    /// A deletion as a watch would have told it, with what is still known: who it was.
    fn deletion(&self, names: &str) -> Option<Change> {
        let mut names = names.splitn(3, '/');
        let (namespace, name, uid) = (names.next()?, names.next()?, names.next()?);
        let document = serde_json::json!({"type": "DELETED", "object": {
            "apiVersion": self.kind.api_version(), "kind": self.kind.name(),
            "metadata": {"namespace": namespace, "name": name, "uid": uid}}});
        Some(Change {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: uid.to_owned(),
            change: ChangeType::Deleted,
            document: Bytes::from(document.to_string()),
            ..Change::about(self.kind, None)
        })
    }

    /// One page: its version, and how to ask for the next one.
    async fn page(&mut self, token: Option<&str>, limit: u32) -> Result<(String, Option<String>), Failure> {
        let mut query = vec![("limit", limit.to_string())];
        query.extend(token.map(|token| ("continue", token.to_owned())));
        let body = self.ask(&query).await?;
        let body = timeout(ANSWER_TIME_MAX, whole(body, PAGE_BYTES_MAX)).await;
        let body = body.map_err(|_| Failure::Silent(ANSWER_TIME_MAX))??;
        let text = std::str::from_utf8(&body).map_err(|error| Failure::Strange(error.to_string()))?;
        let page: Page<'_> =
            serde_json::from_str(text).map_err(|error| Failure::Strange(error.to_string()))?;
        let version = page.metadata.resource_version.filter(|version| !version.is_empty());
        let version = version.ok_or_else(|| Failure::Strange("a list without a version".to_owned()))?;
        for item in page.items.unwrap_or_default() {
            self.offer(item.get(), ChangeType::Seen).await?;
        }
        let next = page.metadata.r#continue.filter(|token| !token.is_empty());
        self.shared.update(self.index, |state| state.heard_at = Some(now()));
        Ok((version.into_owned(), next.map(Cow::into_owned)))
    }

    /// Passes on changes until the watch ends, as all do.
    async fn watch(&mut self) -> Result<(), Failure> {
        let began = Instant::now();
        let Some(version) = self.place.version.clone() else { return Ok(()) };
        let lasts = self.options.watch_timeout;
        let query = [
            ("watch", "1".to_owned()),
            ("allowWatchBookmarks", "true".to_owned()),
            ("resourceVersion", version),
            ("timeoutSeconds", lasts.as_secs().max(1).to_string()),
        ];
        let mut lines = Lines::new(self.ask(&query).await?);
        self.enter(Phase::Watching);
        let silence_max = lasts + (lasts / 20).max(Duration::from_secs(1));
        let mut heard = false;
        loop {
            let line = tokio::select! {
                line = timeout(silence_max, lines.next()) => line.map_err(|_| Failure::Silent(silence_max))??,
                () = self.sink.closed() => return Err(Failure::SinkClosed),
            };
            let Some(line) = line else { break };
            self.line(&line).await?;
            heard = true;
            self.place.failures = 0;
            self.place.backoff.reset();
        }
        if !heard && began.elapsed() < WATCH_TIME_MIN.min(lasts) {
            return Err(Failure::Broken("the watch ended as soon as it began".to_owned()));
        }
        self.place.failures = 0;
        self.place.backoff.reset();
        if self.place.refreshed_at.is_some_and(|at| at.elapsed() >= self.options.refresh) {
            self.place.version = None;
        }
        Ok(())
    }

    async fn line(&mut self, line: &[u8]) -> Result<(), Failure> {
        if line.iter().all(u8::is_ascii_whitespace) {
            return Ok(());
        }
        let strange = |error: &dyn std::fmt::Display| Failure::Strange(error.to_string());
        let text = std::str::from_utf8(line).map_err(|error| strange(&error))?;
        let event: WatchLine<'_> = serde_json::from_str(text).map_err(|error| strange(&error))?;
        let object = event.object.get();
        match event.event_type.as_ref() {
            "ADDED" | "MODIFIED" => self.offer(object, ChangeType::Modified).await?,
            "DELETED" => self.offer(object, ChangeType::Deleted).await?,
            "BOOKMARK" => {}
            "ERROR" => {
                let status: Status = serde_json::from_str(object).unwrap_or_default();
                return Err(Failure::of_status(status, None));
            }
            other => return Err(strange(&format_args!("a watch event of type {:?}", other.get(..32)))),
        }
        // Only now: whoever cancels us before must see it again.
        let versioned: Versioned<'_> = serde_json::from_str(object).map_err(|error| strange(&error))?;
        if let Some(version) = versioned.metadata.resource_version.filter(|version| !version.is_empty()) {
            self.reach(version.into_owned());
        }
        Ok(())
    }

    /// Everything up to this version was passed on.
    fn reach(&mut self, version: String) {
        self.place.version = Some(version.clone());
        self.shared
            .update(self.index, |state| (state.version, state.heard_at) = (Some(version), Some(now())));
    }

    /// Passes on one object, unless it says nothing new.
    async fn offer(&mut self, object: &str, change: ChangeType) -> Result<(), Failure> {
        let trimmed = match trim(object, self.kind.name(), self.kind.api_version()) {
            Ok(trimmed) => trimmed,
            Err(NotKept::Irrelevant) => {
                self.shared.update(self.index, |state| state.irrelevant += 1);
                return Ok(());
            }
            Err(error) => {
                let (resource, error) = (self.kind.resource(), error.to_string());
                tracing::warn!(resource, error, "an object could not be read");
                self.shared.update(self.index, |state| state.unreadable += 1);
                return Ok(());
            }
        };
        if !self.remember(&trimmed, change) {
            self.shared.update(self.index, |state| state.irrelevant += 1);
            return Ok(());
        }
        let document = match change {
            ChangeType::Deleted => {
                let parts: [&[u8]; 3] = [b"{\"type\":\"DELETED\",\"object\":", &trimmed.json, b"}"];
                parts.concat()
            }
            _ => trimmed.json,
        };
        let change = Change {
            namespace: trimmed.namespace,
            name: trimmed.name,
            uid: trimmed.uid,
            change,
            document: Bytes::from(document),
            ..Change::about(self.kind, None)
        };
        self.send(change).await
    }

    /// Whether this version differs from the one that was last passed on.
    fn remember(&mut self, object: &Trimmed, change: ChangeType) -> bool {
        let mut hasher = DefaultHasher::new();
        object.uid.hash(&mut hasher);
        let key = hasher.finish();
        let (fingerprint, epoch) = (object.fingerprint, self.place.epoch);
        let is_named = self.kind == Kind::Pod && self.place.known.len() < NAMED_MAX;
        let known = &mut self.place.known;
        if change == ChangeType::Deleted {
            known.remove(&key);
            return true;
        }
        if let Some(known) = known.get_mut(&key) {
            let is_new = known.fingerprint != fingerprint;
            (known.fingerprint, known.epoch) = (fingerprint, epoch);
            return is_new;
        }
        if known.len() < KNOWN_MAX {
            let names = || format!("{}/{}/{}", object.namespace, object.name, object.uid).into_boxed_str();
            known.insert(key, Known { fingerprint, epoch, names: is_named.then(names) });
        }
        true
    }

    async fn send(&self, change: Change) -> Result<(), Failure> {
        self.sink.send(change).await.map_err(|_| Failure::SinkClosed)?;
        let objects = self.place.known.len();
        self.shared.update(self.index, |state| {
            state.changes += 1;
            state.objects = objects;
        });
        Ok(())
    }

    /// The body of a successful answer.
    async fn ask(&self, query: &[(&str, String)]) -> Result<Body, Failure> {
        let selector = self.options.label_selector.as_deref().filter(|_| self.kind == Kind::Pod);
        ask(&self.client, self.kind, self.namespace.as_deref(), selector, query).await
    }
}

/// Asks for objects of one kind; the body of a successful answer.
pub(super) async fn ask(
    client: &kube::Client,
    kind: Kind,
    namespace: Option<&str>,
    selector: Option<&str>,
    query: &[(&str, String)],
) -> Result<Body, Failure> {
    let mut uri = kind.path(namespace);
    let selector = selector.map(|selector| ("labelSelector", selector));
    let query = query.iter().map(|(key, value)| (*key, value.as_str())).chain(selector);
    for (index, (key, value)) in query.enumerate() {
        uri.push(if index == 0 { '?' } else { '&' });
        uri.push_str(key);
        uri.push('=');
        escape(value, &mut uri);
    }
    let request = Request::get(uri)
        .header(hyper::header::ACCEPT, "application/json")
        // API servers compress watches in a way that few read; see kube's own client.
        .header(hyper::header::ACCEPT_ENCODING, "identity")
        .body(Body::empty())
        .map_err(|error| Failure::broken(&error))?;
    send(client, request).await
}

/// The body of a successful answer.
pub(super) async fn send(client: &kube::Client, request: Request<Body>) -> Result<Body, Failure> {
    let response = timeout(ANSWER_TIME_MAX, client.send(request)).await;
    let response = response.map_err(|_| Failure::Silent(ANSWER_TIME_MAX))?;
    let response = response.map_err(|error| match error {
        // These two only say that something failed, before what.
        kube::Error::Service(error) => Failure::broken(error.as_ref()),
        kube::Error::HyperError(error) => Failure::broken(&error),
        error => Failure::broken(&error),
    })?;
    if response.status().is_success() {
        return Ok(response.into_body());
    }
    let failure = timeout(ANSWER_TIME_MAX, Failure::of_response(response)).await;
    Err(failure.unwrap_or(Failure::Silent(ANSWER_TIME_MAX)))
}

/// Percent-encodes what is not safe in a query.
fn escape(value: &str, uri: &mut String) {
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            uri.push_str(&format!("%{byte:02X}"));
        }
    }
}
