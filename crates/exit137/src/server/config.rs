//! Every setting of `exit137 serve`, with what it is when nobody sets it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::notify::config::Notify;
use crate::config::{Listen, Size, Span};
use crate::logging::Log;

/// The settings. `exit137 serve --print-config` prints them as a file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Where everything is kept.
    pub(crate) data_dir: PathBuf,
    /// Pages, API and metrics.
    pub(crate) listen: Listen,
    /// What may be kept on disk.
    pub(crate) disk_budget: Size,
    /// What the process may hold in memory.
    pub(crate) memory_budget: Size,
    /// A file with one bearer token a line, asked of browsers and API clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tokens_file: Option<PathBuf>,
    /// Where people reach this server, for links in notifications.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) public_url: Option<String>,
    /// A kernel log to follow: `/dev/kmsg`, or a file that syslog writes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kernel_log: Option<PathBuf>,
    /// What the server says of itself.
    pub(crate) log: Log,
    /// Certificates, for all that listens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tls: Option<Tls>,
    /// Telemetry.
    pub(crate) otlp: Otlp,
    /// The cluster.
    pub(crate) kubernetes: Kubernetes,
    /// For how long.
    pub(crate) keep: Keep,
    /// When and from what.
    pub(crate) verdict: Verdict,
    /// What leaves the server in a capture.
    pub(crate) redact: Redact,
    /// Who is told of incidents.
    pub(crate) notify: Notify,
}

/// Certificates.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tls {
    /// Chain, PEM.
    pub(crate) certificate: PathBuf,
    /// Private key, PEM.
    pub(crate) key: PathBuf,
    /// Whose certificates clients must show; absent when they need none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) client_ca: Option<PathBuf>,
}

/// Telemetry.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Otlp {
    /// OTLP over HTTP.
    pub(crate) http: Listen,
    /// OTLP over gRPC.
    pub(crate) grpc: Listen,
    /// A file with one bearer token a line, asked of senders.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tokens_file: Option<PathBuf>,
    /// Browser origins that may send.
    pub(crate) cors_origins: Vec<String>,
    /// The largest request, decompressed.
    pub(crate) body_max: Size,
    /// Metrics to keep besides those about memory and load, by name.
    pub(crate) keep_metrics: Vec<String>,
}

/// The cluster.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Kubernetes {
    /// Whether to watch it.
    pub(crate) enabled: bool,
    /// Else `KUBECONFIG`, `~/.kube/config`, or the pod's own service account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Else the current one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) context: Option<String>,
    /// All when empty.
    pub(crate) namespaces: Vec<String>,
    /// Which pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) selector: Option<String>,
}

/// For how long things are kept, as far as the disk budget allows.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Keep {
    /// Spans.
    pub(crate) spans: Span,
    /// Memory metrics; thinned out with age.
    pub(crate) metrics: Span,
    /// Kills, kernel reports, Kubernetes objects, logs.
    pub(crate) events: Span,
    /// Incidents with their verdicts.
    pub(crate) incidents: Span,
}

/// When and from what a verdict is made.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Verdict {
    /// How far back the lives of a killed container are looked at.
    pub(crate) horizon: Span,
    /// How long around a kill the spans of its callers are searched.
    pub(crate) callers_window: Span,
    /// How long after a kill what arrives late still changes the verdict.
    pub(crate) settle: Span,
    /// How often all containers are examined for leaks.
    pub(crate) leaks_every: Span,
    /// What a verdict may take in memory besides `memory_budget`, one at a time. Of more spans than fit, those nearest to
    /// the kill are looked at, and the verdict says so.
    pub(crate) memory: Size,
}

/// What leaves the server in a capture.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Redact {
    /// Attributes whose values are replaced, besides the built-in list; `*` at the end stands for anything.
    pub(crate) attributes: Vec<String>,
    /// Attributes whose values stay although a rule would replace them.
    pub(crate) keep: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: default_data_dir(),
            listen: Listen::local(1370),
            disk_budget: Size(10 << 30),
            memory_budget: Size(192 << 20),
            tokens_file: None,
            public_url: None,
            kernel_log: None,
            log: Log::default(),
            tls: None,
            otlp: Otlp::default(),
            kubernetes: Kubernetes::default(),
            keep: Keep::default(),
            verdict: Verdict::default(),
            redact: Redact::default(),
            notify: Notify::default(),
        }
    }
}

/// Where services keep their state, or where a person's programs do.
fn default_data_dir() -> PathBuf {
    if let Some(given) = std::env::var_os("STATE_DIRECTORY") {
        return PathBuf::from(given);
    }
    let home = std::env::var_os("HOME").map(PathBuf::from);
    match home {
        Some(home) if !rustix::process::geteuid().is_root() => home.join(".local/state/exit137"),
        _ => PathBuf::from("/var/lib/exit137"),
    }
}

impl Default for Otlp {
    fn default() -> Self {
        Self {
            http: Listen::local(4318),
            grpc: Listen::local(4317),
            tokens_file: None,
            cors_origins: Vec::new(),
            body_max: Size(16 << 20),
            keep_metrics: Vec::new(),
        }
    }
}

impl Default for Kubernetes {
    fn default() -> Self {
        Self { enabled: true, kubeconfig: None, context: None, namespaces: Vec::new(), selector: None }
    }
}

impl Default for Keep {
    fn default() -> Self {
        const DAY: u64 = 86_400;
        Self {
            spans: Span::seconds(3 * DAY),
            metrics: Span::seconds(14 * DAY),
            events: Span::seconds(30 * DAY),
            incidents: Span::seconds(90 * DAY),
        }
    }
}

impl Default for Verdict {
    fn default() -> Self {
        Self {
            horizon: Span::seconds(24 * 3600),
            // A caller gives up after a minute or two at most; what it called when is known by then.
            callers_window: Span::seconds(120),
            // SDKs send every 5 s, collectors batch again, and the kubelet tells a kill with some seconds of delay.
            settle: Span::seconds(60),
            leaks_every: Span::seconds(300),
            // A million spans and what the core needs to think about them.
            memory: Size(384 << 20),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_printed_settings_are_a_file_that_sets_the_same() {
        let config = Config {
            tls: Some(Tls { certificate: "c.pem".into(), key: "k.pem".into(), client_ca: None }),
            kernel_log: Some("/dev/kmsg".into()),
            ..Config::default()
        };
        let text = toml::to_string(&config).expect("TOML");
        let again: Config = toml::from_str(&text).expect("settings");
        assert_eq!(toml::to_string(&again).expect("TOML"), text);
    }

    #[test]
    fn an_empty_file_changes_nothing() {
        let empty: Config = toml::from_str("").expect("settings");
        assert_eq!(toml::to_string(&empty).ok(), toml::to_string(&Config::default()).ok());
    }
}
