//! Log records: only those that may bear on a kill are kept.

use exit137_core::observation::{LogRecord, ResourceId, SourceKind};
use exit137_core::symbol::Symbol;
use memchr::memmem;

use super::span::nanos;
use super::{JsonText, Sink, Value};

/// An application may log its memory every millisecond.
pub(crate) const LOGS_MAX: usize = 100_000;

/// In a body, any of these makes a record worth keeping: `memory` and `MemoryError`, `OOM`, `Killed process`.
const BODY_WORDS: &[&[u8]] = &[b"emory", b"oom", b"OOM", b"illed process"];

/// The attribute of a Kubernetes event that came as a log record.
const EVENT_REASON: &[u8] = b"k8s.event.reason";

/// Whether an attribute's key marks a Kubernetes event.
pub(crate) fn has_event_reason(key: &[u8]) -> bool {
    key == EVENT_REASON
}

/// A log record while its fields come in.
#[derive(Debug, Default)]
pub(crate) struct LogDraft {
    pub(crate) time: u64,
    pub(crate) observed: u64,
    pub(crate) event_name: Vec<u8>,
    /// Bodies that are arrays or maps as compact JSON.
    pub(crate) body: Vec<u8>,
    pub(crate) has_reason: bool,
    pub(crate) attributes: Vec<(Symbol, Symbol)>,
}

impl LogDraft {
    /// Bodies are text as a rule.
    pub(crate) fn set_body(&mut self, value: Value<'_>) {
        match value {
            Value::Text(text) => self.body = text.to_vec(),
            other => {
                let mut out = JsonText::default();
                out.push_value(other);
                self.body = out.text().to_vec();
            }
        }
    }

    /// Whether the record may bear on a kill.
    pub(crate) fn is_relevant(&self) -> bool {
        self.has_reason
            || self.event_name.starts_with(b"exit137.")
            || self.event_name.starts_with(b"k8s.")
            || BODY_WORDS.iter().any(|word| memmem::find(&self.body, word).is_some())
    }
}

/// Whether a record encoded as `encoded` can be relevant at all; cheap, and wrong only towards yes.
pub(crate) fn may_be_relevant(encoded: &[u8]) -> bool {
    // An escape may hide a letter of any of these words.
    const MORE: &[&[u8]] = &[EVENT_REASON, b"exit137.", b"k8s.", b"\\u"];
    MORE.iter().chain(BODY_WORDS).any(|word| memmem::find(encoded, word).is_some())
}

impl Sink {
    /// Adds the record. `Err` says what it lacks.
    pub(crate) fn finish_log(&mut self, resource: ResourceId, draft: LogDraft) -> Result<(), &'static str> {
        let time = if draft.time == 0 { draft.observed } else { draft.time };
        if time == 0 {
            return Err("a log record with a time");
        }
        if draft.event_name.starts_with(b"exit137.") {
            let (at, observations) = (nanos(time), &mut self.observations);
            let seen = crate::agent::observe(&draft.event_name, at, resource, &draft.body, observations);
            match seen {
                // It says more than a log record, and is kept as what it says.
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(_) => return Err("a record of the agent as docs/agent.md describes it"),
            }
        }
        if self.observations.logs.len() >= LOGS_MAX {
            return Err("fewer log records about memory (only the first 100000 are kept)");
        }
        let symbols = &mut self.observations.symbols;
        let event_name = (!draft.event_name.is_empty()).then(|| symbols.intern_bytes(&draft.event_name));
        let body = symbols.intern_bytes(&draft.body);
        self.observations.logs.push(LogRecord {
            at: nanos(time),
            resource,
            event_name,
            body,
            attributes: draft.attributes,
        });
        self.count(SourceKind::Logs, 1);
        Ok(())
    }
}
