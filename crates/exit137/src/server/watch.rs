//! What the cluster shows goes into the store, and is looked at for kills: also for those that happened while nobody
//! watched, which the last states of pods still tell.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use exit137_sources::cluster::{Change, ChangeType, Cluster, ClusterError, ClusterOptions, Kind};
use exit137_store::Piece;
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::config::Config;
use super::filing::Files;
use super::hearing;
use super::recorder::Recorder;

/// Changes on their way; a full channel makes the watch wait.
const WAITING_MAX: usize = 256;

/// Changes written at once.
const BATCH: usize = 64;

/// The cluster to watch; `None` when none is meant.
pub(super) async fn configure(config: &Config) -> Result<Option<Cluster>, ClusterError> {
    let kubernetes = &config.kubernetes;
    if !kubernetes.enabled {
        return Ok(None);
    }
    let options = ClusterOptions {
        kubeconfig: kubernetes.kubeconfig.clone(),
        context: kubernetes.context.clone(),
        namespaces: kubernetes.namespaces.clone(),
        label_selector: kubernetes.selector.clone(),
        ..ClusterOptions::default()
    };
    let is_asked_for = kubernetes.kubeconfig.is_some() || kubernetes.context.is_some();
    match Cluster::configure(options).await {
        Ok(cluster) => Ok(Some(cluster)),
        // On a laptop there is often none, and nobody said that there was.
        Err(error @ ClusterError::NotConfigured { .. }) if !is_asked_for => {
            info!("{error}; --no-kubernetes says so on purpose");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Watches until the server ends.
pub(super) async fn watch(recorder: Arc<Recorder>, cluster: Cluster) {
    let (sender, mut receiver) = mpsc::channel(WAITING_MAX);
    let writing = tokio::task::spawn_blocking(move || write(&recorder, &mut receiver));
    cluster.watch(&Kind::ALL, sender).await;
    if writing.await.is_err() {
        warn!("recording the cluster ended in a panic");
    }
}

fn write(recorder: &Recorder, receiver: &mut mpsc::Receiver<Change>) {
    let mut files = Files::default();
    let mut batch = Vec::new();
    while let Some(change) = receiver.blocking_recv() {
        batch.push(change);
        while batch.len() < BATCH
            && let Ok(change) = receiver.try_recv()
        {
            batch.push(change);
        }
        // Who was found gone by a new list comes as deleted; that the list is over changes nothing here.
        let changes: Vec<Change> =
            batch.drain(..).filter(|change| change.change != ChangeType::Resync).collect();
        recorder.counters.changes.fetch_add(changes.len() as u64, Ordering::Relaxed);
        let pieces: Vec<Piece> =
            changes.iter().filter_map(|change| files.piece(change.document.clone(), change.at)).collect();
        if !pieces.is_empty() {
            recorder.keep_surely(pieces);
        }
        for change in changes.iter().filter(|change| matches!(change.kind, Kind::Pod | Kind::Event)) {
            if hearing::may_tell(&change.document) {
                recorder.heard(hearing::in_json(&change.document));
            }
        }
    }
}
