//! Hands incidents to those who tell people of them: what is news is theirs to decide.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;

use super::incident::Summary;
use super::notify::{IncidentNote, Notifier};
use super::recorder::Recorder;

/// For notices that wait when the server ends.
const PATIENCE: Duration = Duration::from_secs(5);

fn lock(recorder: &Recorder) -> MutexGuard<'_, Option<Notifier>> {
    recorder.notifier.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes up the telling; what is known already was told before the restart.
pub(super) fn begin(recorder: &Arc<Recorder>, notifier: Notifier) {
    if !notifier.state().is_empty() {
        let known: Vec<Summary> = recorder.incidents().clone();
        for summary in known {
            if let Ok(Some(stored)) = recorder.store.incident(&summary.id)
                && let Some(note) = note(recorder, &summary, &stored.json)
            {
                notifier.remember(&note);
            }
        }
    }
    *lock(recorder) = Some(notifier);
}

/// An incident is as `document` says now.
pub(super) fn of(recorder: &Recorder, summary: &Summary, document: &str) {
    let notifier = lock(recorder);
    if let Some(notifier) = notifier.as_ref().filter(|notifier| !notifier.state().is_empty())
        && let Some(note) = note(recorder, summary, document)
    {
        notifier.observe(note);
    }
}

/// An incident is as `document` says now, and nobody needs to be told.
pub(super) fn remember(recorder: &Recorder, summary: &Summary, document: &str) {
    let notifier = lock(recorder);
    if let Some(notifier) = notifier.as_ref().filter(|notifier| !notifier.state().is_empty())
        && let Some(note) = note(recorder, summary, document)
    {
        notifier.remember(&note);
    }
}

/// Waits for what is on its way.
pub(super) async fn end(recorder: &Recorder) {
    let notifier = lock(recorder).take();
    if let Some(notifier) = notifier {
        notifier.close(PATIENCE).await;
    }
}

fn note(recorder: &Recorder, summary: &Summary, document: &str) -> Option<IncidentNote> {
    let mut document: Value = serde_json::from_str(document).ok()?;
    let incident = document.get_mut("incidents")?.get_mut(0)?.take();
    let mut note = IncidentNote::new(summary.id.clone(), incident);
    let public = recorder.config.public_url.as_deref().map(|url| url.trim_end_matches('/').to_owned());
    let own = || recorder.pages.get().map(|address| format!("http://{address}"));
    note.link = public.or_else(own).map(|server| format!("{server}/incidents/{}", summary.id));
    // Also those whose evidence has aged out.
    note.kills = usize::try_from(summary.kill_count).unwrap_or(usize::MAX);
    note.settled = summary.settled;
    note.ended = summary.ended_with.as_ref().map(|version| format!("no kill since {version}"));
    Some(note)
}
