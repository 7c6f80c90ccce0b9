//! What pages and API ask of the recorder, and what takes long enough to leave to another thread.

use std::sync::Arc;

use super::capture;
use super::incident::Summary;
use super::recorder::Recorder;
use super::verdicts::{self, Why};

impl Recorder {
    /// The verdict on an incident, as it was last made.
    pub(super) async fn document(self: &Arc<Self>, id: &str) -> Option<String> {
        let (recorder, id) = (Arc::clone(self), id.to_owned());
        let read = tokio::task::spawn_blocking(move || recorder.store.incident(&id));
        Some(read.await.ok()?.ok()??.json).filter(|json| !json.is_empty())
    }

    /// Judges an incident again, from what is still recorded.
    pub(super) async fn recompute(self: &Arc<Self>, id: &str) -> Result<Summary, String> {
        let before = self.summary(id).ok_or("there is no incident of this name")?;
        let (recorder, old) = (Arc::clone(self), before.clone());
        let judged = tokio::task::spawn_blocking(move || {
            let (subject, kills) = verdicts::subject_of(&old);
            verdicts::examine(&recorder, &subject, &kills, Why::Asked)
        });
        let published = judged.await.map_err(|_| "the verdict ended in a panic".to_owned())?;
        let published = published.map_err(|error| crate::commands::chain(&error))?;
        let same = published
            .into_iter()
            .find(|summary| summary.id == before.id || summary.shares_kill(&before.marks));
        same.ok_or_else(|| "evidence of this incident has aged out; its last verdict stays".to_owned())
    }

    /// The capture of an incident, as an archive.
    pub(super) async fn capture(self: &Arc<Self>, id: &str) -> Result<Vec<u8>, String> {
        let (recorder, id) = (Arc::clone(self), id.to_owned());
        let made = tokio::task::spawn_blocking(move || capture::archive(&recorder, &id));
        let made = made.await.map_err(|_| "the capture ended in a panic".to_owned())?;
        made.map_err(|error| crate::commands::chain(&error))
    }
}
