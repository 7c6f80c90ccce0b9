//! What is told of an incident: a piece of the verdict's JSON, and why it is told now.

use serde_json::Value;

/// Of the kills, the latest; their number is told besides.
const KILLS_MAX: usize = 20;

/// Of requests in flight.
const IN_FLIGHT_MAX: usize = 20;

/// Of any text that a person reads in a message. Alertmanager and chats have limits of their own, all larger.
const TEXT_BYTES_MAX: usize = 2000;

/// An incident as it is now.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct IncidentNote {
    /// What the server calls it; the same over all its changes.
    pub(crate) id: String,
    /// Its page.
    pub(crate) link: Option<String>,
    /// Whether everything that was waited for has arrived.
    pub(crate) settled: bool,
    /// Why no more kills are expected: "no kill since 1.4.3".
    pub(crate) ended: Option<String>,
    /// How many kills there were, if more than those in the verdict.
    pub(crate) kills: usize,
    pub(super) incident: Value,
}

impl IncidentNote {
    /// `incident` is an entry of `incidents` in `docs/verdict.schema.json`.
    pub(crate) fn new(id: String, mut incident: Value) -> Self {
        let mut kills = 0;
        if let Some(fields) = incident.as_object_mut() {
            // A chart is for a page.
            fields.remove("timeline");
            for (key, most) in [("kills", KILLS_MAX), ("in_flight", IN_FLIGHT_MAX)] {
                if let Some(list) = fields.get_mut(key).and_then(Value::as_array_mut) {
                    kills = if key == "kills" { list.len() } else { kills };
                    list.drain(..list.len().saturating_sub(most));
                }
            }
        }
        Self { id, link: None, settled: false, ended: None, kills, incident }
    }

    /// The verdict's entry, without its chart and with the latest kills only.
    pub(super) fn incident(&self) -> &Value {
        &self.incident
    }

    /// How many kills there were.
    pub(super) fn kills(&self) -> usize {
        self.kills
    }

    /// The text at a JSON pointer, fit for a message.
    fn text(&self, pointer: &str) -> Option<String> {
        let text = self.incident.pointer(pointer)?.as_str()?;
        (!text.is_empty()).then(|| shown(text, TEXT_BYTES_MAX))
    }

    /// A field of the container: `namespace`, `pod`, `name`, …
    pub(super) fn container(&self, field: &str) -> Option<String> {
        self.text(&format!("/container/{field}"))
    }

    /// Kind and name of the workload.
    pub(super) fn workload(&self) -> Option<(String, String)> {
        Some((self.text("/container/workload/kind")?, self.text("/container/workload/name")?))
    }

    /// `leak`, …
    pub(super) fn cause(&self) -> String {
        self.text("/cause/name").unwrap_or_else(|| "unknown".to_owned())
    }

    /// `very likely`, …
    pub(super) fn certainty(&self) -> Option<String> {
        self.text("/cause/words")
    }

    /// One sentence: what was killed and why.
    pub(super) fn headline(&self) -> String {
        self.text("/headline").unwrap_or_else(|| "a container was OOM-killed".to_owned())
    }

    /// One sentence: what to do.
    pub(super) fn advice(&self) -> Option<String> {
        self.text("/advice/summary")
    }

    /// Who did it.
    pub(super) fn operation(&self) -> Option<String> {
        self.text("/operations/0/names/0")
    }

    /// When the first of the kills that are told was.
    pub(super) fn first_kill_at(&self) -> Option<String> {
        self.text("/kills/0/at")
    }

    /// When the last kill was.
    pub(super) fn last_kill_at(&self) -> Option<String> {
        self.incident.pointer("/kills")?.as_array()?.last()?.get("at")?.as_str().map(str::to_owned)
    }

    /// What a person reads, but for numbers that grow with each kill: when it differs, there is news.
    pub(super) fn substance(&self) -> [Option<String>; 4] {
        let action = self.text("/advice/action");
        [Some(self.cause()), self.certainty(), self.operation(), action]
    }
}

/// Cut, and without what would break a line or hide something in it.
pub(super) fn shown(text: &str, bytes_max: usize) -> String {
    let cut = &text[..text.floor_char_boundary(bytes_max)];
    let clean = cut.chars().map(|c| if c.is_control() || is_invisible(c) { ' ' } else { c });
    let mut clean: String = clean.collect();
    if cut.len() < text.len() {
        clean.push('…');
    }
    clean
}

/// What turns the direction of text or takes no room.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Why something is told now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The first time, or again after it had ended.
    New,
    /// Another cause than was told.
    Cause {
        /// The one that was told.
        before: String,
    },
    /// Nothing more is waited for.
    Settled {
        /// Whether a person reads something else than before.
        says_more: bool,
    },
    /// Ten times as many kills as when it was last told.
    Kills,
    /// One more kill; only for those who keep a state.
    Again,
    /// No more kills are expected.
    Ended,
}

impl Reason {
    /// In JSON.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Cause { .. } => "cause_changed",
            Self::Settled { .. } => "settled",
            Self::Kills => "more_kills",
            Self::Again => "killed_again",
            Self::Ended => "ended",
        }
    }

    /// Whether it is worth a person's attention.
    pub(super) fn is_news(&self) -> bool {
        !matches!(self, Self::Again | Self::Settled { says_more: false })
    }
}

/// An incident, and why it is told.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Notice {
    pub(super) note: IncidentNote,
    pub(super) reason: Reason,
}
