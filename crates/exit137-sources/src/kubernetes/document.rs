//! Takes documents apart into objects and hands each to the one who knows its kind.

use std::borrow::Cow;

use serde_json::value::RawValue;

use exit137_core::observation::Observations;
use exit137_core::observation::kubernetes::TERMINATIONS_MAX;

use super::envelope::Envelope;
use super::field::{Field, Shape};
use super::reader::{Reader, cut};
use super::{event, pod, wire, workload};
use crate::location::Location;

/// A list within a list is legal and made by nobody; deeper ones are made to break readers.
const LISTS_DEPTH_MAX: usize = 4;

/// The document holds nothing that Kubernetes would say.
#[derive(Debug, thiserror::Error)]
pub enum NotKubernetes {
    /// Not JSON, or JSON that breaks off.
    #[error("expected a Kubernetes object in JSON")]
    NotJson(#[source] serde_json::Error),
    /// JSON of something else.
    #[error("expected a Kubernetes object, a list of them or a watch event")]
    OtherJson,
}

/// Reads one JSON document: an object, a list, or a watch event. Returns how many usable objects it held; events
/// that were read and say nothing about a kill count as usable, kinds that are not read do not.
///
/// # Errors
///
/// When the document as a whole is not Kubernetes; nothing was added then. Anything wrong with single objects or
/// fields is in `observations.problems` instead. The caller counts the source in `observations.counts`.
pub fn decode_json(
    document: &[u8],
    at: Location<'_>,
    observations: &mut Observations,
) -> Result<u64, NotKubernetes> {
    let utf8 = String::from_utf8_lossy(document);
    let text = utf8.strip_prefix('\u{feff}').unwrap_or(&utf8);
    let decoder = Decoder { file: at.file, observations };
    let read = decoder.document(text, Lines { text, offset: 0, line: at.line, moving: true });
    if read.is_ok() && matches!(utf8, Cow::Owned(_)) {
        let message = "expected UTF-8: other bytes were replaced";
        observations.problems.add(at.file, Some(at.line), message);
    }
    read
}

/// Reads JSON that was made from something else, whose lines mean nothing.
pub(super) fn decode_converted(
    json: &str,
    at: Location<'_>,
    observations: &mut Observations,
) -> Result<u64, NotKubernetes> {
    let lines = Lines { text: json, offset: 0, line: at.line, moving: false };
    Decoder { file: at.file, observations }.document(json, lines)
}

/// Finds the line of a part of the text. Parts are asked for in order, so that a long document is counted once.
struct Lines<'a> {
    text: &'a str,
    offset: usize,
    line: usize,
    moving: bool,
}

impl Lines<'_> {
    fn of(&mut self, part: &str) -> usize {
        let offset = (part.as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize);
        if self.moving
            && let Some(passed) = self.text.as_bytes().get(self.offset..offset)
        {
            self.line += memchr::memchr_iter(b'\n', passed).count();
            self.offset = offset;
        }
        self.line
    }
}

/// What surrounds an object.
#[derive(Clone, Copy, Default)]
struct Context<'a> {
    /// `Pod` and its `apiVersion` for the items of a PodList, which do not say it themselves.
    listed: Option<(&'a str, &'a str)>,
    /// In a DELETED watch event.
    deleted: bool,
    /// Lists around it.
    depth: usize,
}

struct Decoder<'o> {
    file: &'o str,
    observations: &'o mut Observations,
}

impl Decoder<'_> {
    fn document(mut self, text: &str, mut lines: Lines<'_>) -> Result<u64, NotKubernetes> {
        let (envelope, error) = Envelope::read(text);
        match (&envelope.event_type, envelope.object) {
            (Some(event_type), Some(object)) => return Ok(self.watch_event(event_type, object, &mut lines)),
            _ if envelope.items.is_some() => {}
            _ if envelope.kind.is_some() && error.is_none() => {}
            _ => return Err(error.map_or(NotKubernetes::OtherJson, NotKubernetes::NotJson)),
        }
        Ok(self.enveloped(text, envelope, error, &mut lines, Context::default()))
    }

    fn watch_event(&mut self, event_type: &str, object: &RawValue, lines: &mut Lines<'_>) -> u64 {
        let text = object.get();
        let deleted = match event_type {
            "ADDED" | "MODIFIED" => false,
            "DELETED" => true,
            // Only says how far the watch has come.
            "BOOKMARK" => return 0,
            "ERROR" => {
                self.watch_error(text, lines.of(text));
                return 0;
            }
            other => {
                let found = cut(other, 64);
                let line = lines.of(text);
                let message =
                    format!("expected a watch event of type ADDED, MODIFIED or DELETED, found \"{found}\"");
                self.observations.problems.add(self.file, Some(line), message);
                return 0;
            }
        };
        self.object(text, lines, Context { deleted, ..Context::default() })
    }

    fn watch_error(&mut self, text: &str, line: usize) {
        let status: wire::Status<'_> = serde_json::from_str(text).unwrap_or_default();
        let at = Location { file: self.file, line };
        let problems = &mut self.observations.problems;
        let mut reader = Reader { at, kind: "watch", name: String::new(), problems };
        let reason = reader.text("reason", &status.reason).unwrap_or_default();
        let code = reader.count("code", &status.code).map(|code| code.to_string()).unwrap_or_default();
        let message = reader.text("message", &status.message).unwrap_or_default();
        let details = [code.as_str(), &reason, cut(&message, 256)];
        let details: Vec<&str> = details.into_iter().filter(|detail| !detail.is_empty()).collect();
        reader
            .problem(&format!("the API server ended it ({}): later changes are missing", details.join(", ")));
    }

    /// An object or a list whose top level was looked at.
    fn enveloped(
        &mut self,
        text: &str,
        envelope: Envelope<'_>,
        error: Option<serde_json::Error>,
        lines: &mut Lines<'_>,
        context: Context<'_>,
    ) -> u64 {
        let own = envelope.kind.as_deref().map(|kind| (kind, envelope.api_version.as_deref().unwrap_or("")));
        let Some(items) = envelope.items else {
            let Some((kind, api_version)) = own.or(context.listed) else {
                let line = lines.of(text);
                let message = "expected a Kubernetes object with `kind` and `apiVersion`";
                self.observations.problems.add(self.file, Some(line), message);
                return 0;
            };
            return self.kind(kind, api_version, text, lines, context.deleted);
        };
        let listed = own.and_then(|(kind, version)| Some((kind.strip_suffix("List")?, version)));
        let listed = listed.filter(|(kind, _)| !kind.is_empty());
        let context = Context { listed, depth: context.depth + 1, ..context };
        let first_line = lines.of(text);
        let mut usable = 0;
        for item in items.iter().filter(|item| item.get() != "null") {
            usable += self.object(item.get(), lines, context);
        }
        if let Some(error) = error {
            let line = first_line + if lines.moving { error.line().saturating_sub(1) } else { 0 };
            let reason = without_place(&error);
            let message = format!("the list breaks off, only the items before are read: {reason}");
            self.observations.problems.add(self.file, Some(line), message);
        }
        usable
    }

    /// An object or a list within something else.
    fn object(&mut self, text: &str, lines: &mut Lines<'_>, context: Context<'_>) -> u64 {
        if let Some((kind, api_version)) = context.listed {
            return self.kind(kind, api_version, text, lines, context.deleted);
        }
        let (envelope, error) = Envelope::read(text);
        let wrong = match error {
            _ if context.depth >= LISTS_DEPTH_MAX => "lists in lists are not read so deep".to_owned(),
            // The surrounding document was sound, so this is a value of another type.
            Some(error) if envelope.items.is_none() => {
                format!("expected a Kubernetes object: {}", without_place(&error))
            }
            error => return self.enveloped(text, envelope, error, lines, context),
        };
        let line = lines.of(text);
        self.observations.problems.add(self.file, Some(line), wrong);
        0
    }

    fn kind(
        &mut self,
        kind: &str,
        api_version: &str,
        text: &str,
        lines: &mut Lines<'_>,
        deleted: bool,
    ) -> u64 {
        // Others give their own kinds these names too.
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        let line = lines.of(text);
        let at = Location { file: self.file, line };
        let Observations { kubernetes, problems, .. } = &mut *self.observations;
        let mut reader = Reader { at, kind, name: String::new(), problems };
        let read = match (kind, group) {
            ("Pod", "") => parse(text).map(|object| {
                let pod = pod::read(&mut reader, &object, deleted)?;
                let uid = pod.uid.clone();
                kubernetes.observe_pod(pod);
                let ends = kubernetes.pods.get(&uid).map_or(0, |pod| pod.terminations.len());
                if ends >= TERMINATIONS_MAX {
                    reader.problem(&format!("only its latest {TERMINATIONS_MAX} container ends are kept"));
                }
                Some(())
            }),
            ("Event", "" | "events.k8s.io") => parse(text).map(|object| {
                match event::read(&mut reader, &object) {
                    Some(event) => kubernetes.observe_event(event),
                    // Read, and worth knowing that it was: an event that is not there tells too.
                    None => kubernetes.skip(kind, 1),
                }
                Some(())
            }),
            ("Node", "") => parse(text).map(|object| {
                workload::read_node(&mut reader, &object).map(|node| kubernetes.observe_node(node))
            }),
            (
                "ReplicaSet" | "Deployment" | "StatefulSet" | "DaemonSet" | "Job" | "CronJob",
                "" | "apps" | "batch" | "extensions",
            ) => parse(text).map(|object| {
                let workload = workload::read_workload(&mut reader, &object)?;
                kubernetes.observe_workload(workload);
                Some(())
            }),
            _ => {
                kubernetes.skip(kind, 1);
                return 0;
            }
        };
        match read {
            Ok(Some(())) => 1,
            Ok(None) => {
                // A manifest: what someone wants, not what a cluster has.
                kubernetes.skip(&format!("{kind} without uid"), 1);
                0
            }
            Err(wrong) => {
                reader.problem(&format!("expected an object{wrong}"));
                0
            }
        }
    }
}

/// One object, or how to go on after "expected an object".
fn parse<'de, T: Shape<'de>>(text: &'de str) -> Result<T, String> {
    match serde_json::from_str::<Field<T>>(text) {
        Ok(Field::Is(object)) => Ok(object),
        Ok(Field::Wrong(found)) => Err(format!(", found {found}")),
        Ok(Field::Absent) => Err(", found null".to_owned()),
        Err(error) => Err(format!(": {}", without_place(&error))),
    }
}

/// The error without its line, which counts from the start of the object and not of the file.
fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let end = text.rfind(" at line ").unwrap_or(text.len());
    text[..end].to_owned()
}
