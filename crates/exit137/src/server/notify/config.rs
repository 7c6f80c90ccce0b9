//! Who is told, as the file of settings says it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize, Serializer};

use crate::config::Span;

/// Who is told of incidents. Nobody, unless set.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Notify {
    /// Certificates (PEM) to trust instead of the system's, for all of these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Alertmanagers: an alert for each incident.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) alertmanager: Vec<Alertmanager>,
    /// Slack, Mattermost, Rocket.Chat: a message for each incident and change.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) slack: Vec<Slack>,
    /// Programs: JSON, signed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) webhook: Vec<Webhook>,
    /// Collectors: OTLP log records over HTTP.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) otlp: Vec<OtlpLogs>,
    /// Events in the cluster.
    pub(crate) kubernetes_events: KubernetesEvents,
}

/// One Alertmanager. Give all of a cluster: they tell each other apart, not us.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Alertmanager {
    /// `http://alertmanager:9093`; user and password may stand before the host.
    pub(crate) url: Secret,
    /// A file with a bearer token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token_file: Option<PathBuf>,
    /// Further labels of each alert.
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
    /// How long after the last kill an alert counts as resolved.
    #[serde(default = "an_hour")]
    pub(crate) resolve_after: Span,
}

fn an_hour() -> Span {
    Span::seconds(3600)
}

/// One incoming webhook of a chat.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Slack {
    /// Who knows it can write into the channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) url: Option<Secret>,
    /// A file that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) url_file: Option<PathBuf>,
}

/// One program that wants to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Webhook {
    /// Where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) url: Option<Secret>,
    /// A file that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) url_file: Option<PathBuf>,
    /// What signs the body; without it nothing does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) secret: Option<Secret>,
    /// A file that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) secret_file: Option<PathBuf>,
    /// Further headers.
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, Secret>,
}

/// One collector.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OtlpLogs {
    /// `http://collector:4318`; `/v1/logs` is added.
    pub(crate) url: Secret,
    /// Further headers.
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, Secret>,
}

/// Events on the pod and on its workload: the only thing that is ever written to a cluster.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct KubernetesEvents {
    /// Whether to.
    pub(crate) enabled: bool,
}

/// Text that is used and never shown: not in logs, not in errors, not in printed settings.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(crate) struct Secret(String);

impl Secret {
    /// To be used, not shown.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("(secret)")
    }
}
