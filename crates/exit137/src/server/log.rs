//! What the server says of itself: lines on standard error, for people or for programs.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

use super::ServeError;
use super::config::{Log, LogFormat};

/// Begins to write log lines.
pub(super) fn start(log: &Log) -> Result<(), ServeError> {
    // The Kubernetes client calls each refused connection an error of its own; what it means is said by the watch.
    let filter = EnvFilter::try_new(format!("kube_client=off,{}", log.level))
        .map_err(|source| ServeError::LogLevel { level: log.level.clone(), source })?;
    let as_json = match log.format {
        LogFormat::Auto => !stderr().is_terminal(),
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let builder = fmt().with_env_filter(filter).with_writer(stderr);
    // A second start in one process (tests) leaves the first in place.
    let _ = if as_json {
        builder.json().flatten_event(true).with_target(false).try_init()
    } else {
        builder.with_target(false).with_ansi(stderr().is_terminal()).try_init()
    };
    Ok(())
}
