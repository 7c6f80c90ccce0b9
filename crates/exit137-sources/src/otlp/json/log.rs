//! Log records as JSON.

use exit137_core::observation::ResourceId;

use super::Decoder;
use super::cursor::Fault;
use super::value;
use crate::otlp::sink::{LogDraft, has_event_reason, may_be_relevant};

impl Decoder<'_, '_> {
    pub(super) fn log(&mut self, resource: ResourceId) -> Result<(), Fault> {
        self.cursor.peek();
        let start = self.cursor.at();
        self.cursor.skip()?;
        if !may_be_relevant(self.cursor.since(start)) {
            return Ok(());
        }
        self.cursor.rewind(start);
        if !self.cursor.enter_object()? {
            return Ok(());
        }
        let mut draft = LogDraft::default();
        let mut attributes = None;
        while let Some(key) = self.cursor.key()? {
            match key {
                b"timeUnixNano" | b"time_unix_nano" => draft.time = self.whole()?,
                b"observedTimeUnixNano" | b"observed_time_unix_nano" => draft.observed = self.whole()?,
                b"eventName" | b"event_name" => {
                    draft.event_name = value::plain(&self.cursor.text()?).into_owned();
                }
                b"body" => {
                    let raw = value::any(&mut self.cursor)?;
                    value::with_value(self.cursor, raw, |value| draft.set_body(value))?;
                }
                b"attributes" => {
                    attributes = Some(self.cursor);
                    self.cursor.skip()?;
                }
                _ => self.cursor.skip()?,
            }
        }
        let end = self.cursor;
        if let Some(cursor) = attributes {
            self.cursor = cursor;
            draft.has_reason = self.has_reason()?;
            if draft.is_relevant() {
                self.cursor = cursor;
                self.attributes(&mut draft.attributes)?;
            }
            self.cursor = end;
        }
        if !draft.is_relevant() {
            return Ok(());
        }
        self.sink.finish_log(resource, draft).map_err(|expected| Fault { expected, at: start })
    }

    fn has_reason(&mut self) -> Result<bool, Fault> {
        let mut found = false;
        if self.cursor.enter_array()? {
            while self.cursor.element()? {
                let (key, _) = value::pair(&mut self.cursor)?;
                found |= has_event_reason(&value::plain(&key));
            }
        }
        Ok(found)
    }
}
