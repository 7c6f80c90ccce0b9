//! OTLP into the store: split at its resources, filed under who sent it, and acknowledged when it is on the disk.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use exit137_core::time::{SECOND, UnixNanos};
use exit137_sources::receiver::split::{self, Part, Split};
use exit137_sources::receiver::{Answer, Encoding, Export, Signal, Sink};
use exit137_sources::{memory_metrics, memory_samples};
use exit137_store::{AppendError, Identity, Kind, Piece, Query};
use tokio::sync::oneshot;
use tracing::warn;

use super::counts::{self, Counts};
use super::recorder::{Recorder, now};
use super::{hearing, samples};

/// Resources whose identity is remembered: it comes with every batch.
const IDENTITIES_MAX: usize = 20_000;

/// When to come again.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// A sender's clock may be wrong by this much; a time further ahead is none.
const AHEAD_MAX: i64 = 3_600_000_000_000;

/// A piece that is kept, and may tell of a kill.
pub(super) struct ToHear {
    signal: Signal,
    encoding: Encoding,
    identity: Identity,
    bytes: Bytes,
}

/// Where exports go.
pub(super) struct Intake {
    recorder: Arc<Recorder>,
    identities: Mutex<HashMap<u64, Identity>>,
    hasher: RandomState,
    /// Work that must not hold up an answer.
    heard: tokio::sync::mpsc::Sender<ToHear>,
}

impl Intake {
    /// Into this recorder; logs that may tell of a kill go to `heard` too.
    pub(super) fn new(recorder: Arc<Recorder>, heard: tokio::sync::mpsc::Sender<ToHear>) -> Self {
        Self { recorder, identities: Mutex::default(), hasher: RandomState::new(), heard }
    }

    /// Who a resource is. Equal bytes are equal resources.
    fn identity(&self, encoding: Encoding, resource: &[u8]) -> Identity {
        let hash = self.hasher.hash_one((encoding, resource));
        let mut known = self.identities.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(identity) = known.get(&hash) {
            return identity.clone();
        }
        let attributes = split::identity(encoding, resource);
        let identity = Identity::of(attributes.iter().map(|(key, value)| (key.as_str(), value.as_str())));
        if known.len() >= IDENTITIES_MAX {
            known.clear();
        }
        known.insert(hash, identity.clone());
        identity
    }

    /// Files one resource's records.
    fn file(&self, signal: Signal, body: &Bytes, part: Part<'_>, filed: &mut Filed) {
        let identity = self.identity(part.encoding, part.resource);
        let now = now();
        let plausible = |at: Option<UnixNanos>| at.filter(|at| at.since(now) < AHEAD_MAX).unwrap_or(now);
        let last = plausible(part.last);
        let first = plausible(part.first).min(last);
        let count = u32::try_from(part.records).unwrap_or(u32::MAX);
        let encoding = part.encoding;
        let is_json = encoding == Encoding::Json;
        let piece = |kind, bytes| {
            let encoding =
                if is_json { exit137_store::Encoding::Json } else { exit137_store::Encoding::Protobuf };
            Piece { container: identity.clone(), kind, encoding, first, last, count, bytes }
        };
        let to_hear = |bytes| ToHear { signal, encoding, identity: identity.clone(), bytes };
        match signal {
            Signal::Traces => filed.pieces.push(piece(Kind::Spans, part.into_bytes(body))),
            // Of logs only what may tell of a kill: the rest is not ours to keep.
            Signal::Logs if hearing::may_tell(&part.bytes) => {
                let bytes = part.into_bytes(body);
                filed.to_hear.push(to_hear(bytes.clone()));
                filed.pieces.push(piece(Kind::Logs, bytes));
            }
            Signal::Logs => {}
            Signal::Metrics => {
                let memory = memory_samples(is_json, &part.bytes);
                filed.reject(memory.unusable, memory.expected);
                let of_memory = samples::piece(identity.clone(), &memory.series);
                filed.pieces.extend(of_memory.map(|piece| Piece { first, last, ..piece }));
                let keep = &self.recorder.config.otlp.keep_metrics;
                let is_wanted = |name: &str| keep.iter().any(|kept| kept == name);
                let others = memory_metrics(is_json, &part.bytes, &is_wanted);
                filed.pieces.extend(others.map(|bytes| piece(Kind::Metrics, Bytes::from(bytes))));
                if counts::may_count(&part.bytes) {
                    filed.to_hear.push(to_hear(part.into_bytes(body)));
                }
            }
        }
    }

    fn count(&self, export: &Export, split: &Split<'_>) {
        let counters = &self.recorder.counters;
        let signal = export.signal as usize;
        let records: u64 = split.parts.iter().map(|part| part.records).sum();
        counters.exports[signal].fetch_add(1, Ordering::Relaxed);
        counters.export_bytes[signal].fetch_add(export.body.len() as u64, Ordering::Relaxed);
        counters.records[signal].fetch_add(records, Ordering::Relaxed);
    }
}

/// What an export comes to.
#[derive(Default)]
struct Filed {
    pieces: Vec<Piece>,
    to_hear: Vec<ToHear>,
    rejected: u64,
    expected: Option<String>,
}

impl Filed {
    fn reject(&mut self, records: u64, expected: Option<String>) {
        self.rejected += records;
        self.expected = self.expected.take().or(expected);
    }
}

impl Sink for Intake {
    async fn accept(&self, export: Export) -> Answer {
        let Filed { pieces, to_hear, rejected, expected } = {
            let split = split::split(export.signal, export.encoding, &export.body);
            let mut filed = Filed::default();
            self.count(&export, &split);
            filed.reject(split.rejected, split.expected.map(str::to_owned));
            for part in split.parts {
                self.file(export.signal, &export.body, part, &mut filed);
            }
            filed
        };
        self.recorder.counters.rejected.fetch_add(rejected, Ordering::Relaxed);
        if !pieces.is_empty() {
            let (sender, kept) = oneshot::channel();
            self.recorder.store.append_then(pieces, move |answer| drop(sender.send(answer)));
            match kept.await {
                Ok(Ok(_)) => self.recorder.counters.refused_at.store(0, Ordering::Relaxed),
                Ok(Err(error)) => return self.refuse(&error),
                Err(_) => return self.refuse(&AppendError::Closed),
            }
        }
        for one in to_hear {
            // Full only when kills come faster than they can be looked at; they are on the disk already.
            let _ = self.heard.try_send(one);
        }
        match expected {
            Some(expected) if rejected > 0 => {
                Answer::Partial { rejected, message: format!("expected {expected}") }
            }
            _ => Answer::Accepted,
        }
    }
}

impl Intake {
    fn refuse(&self, error: &AppendError) -> Answer {
        self.recorder.counters.refused.fetch_add(1, Ordering::Relaxed);
        self.recorder.counters.refused_at.store(now().0, Ordering::Relaxed);
        warn!(%error, "an export was not kept; its sender is asked to come again");
        Answer::Retry { after: RETRY_AFTER, message: error.to_string() }
    }
}

/// Looks for kills in what was kept already.
pub(super) fn listen(recorder: &Recorder, heard: &mut tokio::sync::mpsc::Receiver<ToHear>) {
    let mut counts = Counts::default();
    while let Some(one) = heard.blocking_recv() {
        let is_json = one.encoding == Encoding::Json;
        let kills = match (one.signal, one.encoding) {
            (Signal::Metrics, _) => counts.news(is_json, &one.bytes, &one.identity),
            (_, Encoding::Json) => hearing::in_json(&one.bytes),
            (_, Encoding::Protobuf) => hearing::in_protobuf(&one.bytes),
        };
        recorder.heard(kills);
    }
}

/// So long before the end of the record a server that was killed may not have looked at all of it.
const UNHEARD_MAX: i64 = 600 * SECOND;

/// What is looked at again at a start.
const UNHEARD_BYTES_MAX: u64 = 64 << 20;

/// Looks for kills that were acknowledged just before the last server ended, and that it may not have judged.
pub(super) fn catch_up(recorder: &Recorder) {
    let Some(last) = recorder.store.state().last else { return };
    let query = Query {
        from: last - UNHEARD_MAX,
        kinds: vec![Kind::Logs],
        bytes_max: UNHEARD_BYTES_MAX,
        ..Query::default()
    };
    let mut told = Vec::new();
    let read = recorder.store.read(&query, &mut |found| {
        if hearing::may_tell(found.bytes) {
            told.extend(match found.encoding {
                exit137_store::Encoding::Json => hearing::in_json(found.bytes),
                _ => hearing::in_protobuf(found.bytes),
            });
        }
        ControlFlow::Continue(())
    });
    if let Err(error) = read {
        warn!(%error, "cannot look for kills that were not judged");
    }
    recorder.heard(told);
}
