//! What a program that stays up says of itself: lines on standard error, for people or for programs. The same settings
//! and options for `exit137 serve` and `exit137 agent`.

use std::io::{IsTerminal, stderr};

use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt;

/// What it says, and how.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Log {
    /// `error`, `warn`, `info`, `debug`, `trace`, or a filter like `info,exit137=debug`.
    pub(crate) level: String,
    /// Text for people, JSON for programs.
    pub(crate) format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Auto }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// Text on a terminal, else JSON
    Auto,
    /// For people
    Text,
    /// For programs: one object a line
    Json,
}

/// The same as options.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Log, on standard error")]
pub(crate) struct LogOptions {
    /// What it says of itself: error, warn, info, debug, trace, or a filter [default: info]
    #[arg(long, value_name = "LEVEL", env = "EXIT137_LOG", hide_env_values = true)]
    log: Option<String>,

    /// How log lines look [default: auto]
    #[arg(long, value_name = "FORMAT", env = "EXIT137_LOG_FORMAT", hide_env_values = true)]
    log_format: Option<LogFormat>,
}

impl LogOptions {
    /// Puts what was given here in place of what the file says.
    pub(crate) fn overrule(self, log: &mut Log) {
        if let Some(level) = self.log {
            log.level = level;
        }
        if let Some(format) = self.log_format {
            log.format = format;
        }
    }
}

/// The filter of log lines is none.
#[derive(Debug, thiserror::Error)]
#[error("expected a log level like info or a filter like info,exit137=debug, found \"{level}\"")]
pub(crate) struct NotALogLevel {
    /// As given.
    level: String,
    /// Why.
    source: ParseError,
}

/// Begins to write log lines.
pub(crate) fn start(log: &Log) -> Result<(), NotALogLevel> {
    // The Kubernetes client calls each refused connection an error of its own; what it means is said by the watch.
    let filter = EnvFilter::try_new(format!("kube_client=off,{}", log.level))
        .map_err(|source| NotALogLevel { level: log.level.clone(), source })?;
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
