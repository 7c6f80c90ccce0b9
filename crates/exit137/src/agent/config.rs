//! Every setting of `exit137 agent`, with what it is when nobody sets it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::{Size, Span};
use crate::logging::Log;

/// The settings. `exit137 agent --print-config` prints them as a file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Where OTLP/HTTP is taken. Without it everything is kept on disk until there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) endpoint: Option<String>,
    /// A file with a bearer token, sent with every request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token_file: Option<PathBuf>,
    /// Further headers, `name=value`.
    pub(crate) headers: Vec<String>,
    /// Authorities (PEM) that vouch for the endpoint; else the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ca_file: Option<PathBuf>,
    /// State, and what is not delivered yet.
    pub(crate) state_dir: PathBuf,
    /// What may wait on disk.
    pub(crate) buffer: Size,
    /// Where the node's file system is mounted.
    pub(crate) sysroot: PathBuf,
    /// Only containers below this cgroup.
    pub(crate) cgroup_root: String,
    /// The kernel's log, from the sysroot.
    pub(crate) kernel_log: PathBuf,
    /// `k8s.node.name`; else the host's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) node_name: Option<String>,
    /// Where names are asked for when the kubelet's files cannot be read: `auto` (the API of the cluster that the agent runs in),
    /// `never`, or the API's address.
    pub(crate) kubernetes_api: String,
    /// The token for it.
    pub(crate) kubernetes_token_file: PathBuf,
    /// Authorities (PEM) that vouch for it.
    pub(crate) kubernetes_ca_file: PathBuf,
    /// Between two looks at a container that is neither near its limit nor quiet.
    pub(crate) interval: Span,
    /// Whether quiet containers are looked at less often.
    pub(crate) rest: bool,
    /// Between two metric exports.
    pub(crate) export_interval: Span,
    /// Whether tracefs may be used.
    pub(crate) tracepoint: bool,
    /// What the agent says of itself.
    pub(crate) log: Log,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            endpoint: None,
            token_file: None,
            headers: Vec::new(),
            ca_file: None,
            state_dir: PathBuf::from("/var/lib/exit137-agent"),
            buffer: Size(64 << 20),
            sysroot: PathBuf::from("/"),
            cgroup_root: "/".to_owned(),
            kernel_log: PathBuf::from("/dev/kmsg"),
            node_name: None,
            kubernetes_api: "auto".to_owned(),
            kubernetes_token_file: PathBuf::from("/var/run/secrets/kubernetes.io/serviceaccount/token"),
            kubernetes_ca_file: PathBuf::from("/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"),
            interval: Span::seconds(1),
            rest: true,
            export_interval: Span::seconds(10),
            tracepoint: true,
            log: Log::default(),
        }
    }
}
