//! `exit137 agent`: one a node. Settings are gathered here; what runs is `agent/`.

use std::path::PathBuf;

use clap::Args;

use super::{Outcome, StdoutError};
use crate::agent::config::Config;
use crate::agent::{self, AgentError};
use crate::config::{self, ConfigError, Size, Span};
use crate::logging::{self, LogOptions, NotALogLevel};

const LONG_ABOUT: &str = "\
Watches the containers of the node that it runs on, and hears every OOM kill: also of child processes, of groups, and \
those that the Kubernetes API never shows. Before a container meets its limit, its processes are photographed.

Metrics and kills are sent as OTLP to `exit137 serve` or to any collector. What cannot be delivered waits on disk. It needs \
no API access, unless the kubelet's files cannot be read for names; what it may not read on the node it says at the start, with what is lost by that. It writes nothing to \
containers, and ends none.

Each setting can be given in a file (--config), in the environment, or as an option; the later of these overrules the \
earlier. --print-config shows what is in force, as a file.";

const AFTER_HELP: &str = "\
Examples:
  Beside `exit137 serve` on one machine (as root):
    exit137 agent --endpoint http://127.0.0.1:4318

  In a pod, with the node's file system mounted at /host:
    exit137 agent --sysroot /host --node-name \"$NODE_NAME\" --endpoint http://exit137.monitoring:4318

  Without root: what cgroups tell everybody, for containers below one cgroup:
    exit137 agent --state-dir ~/.local/state/exit137-agent --cgroup-root /kubepods.slice

Exit codes:
  0  asked to end (SIGTERM, SIGINT); what is not delivered waits on disk
  2  error: settings, no memory cgroups, a state folder that another agent uses

The guide is docs/agent.md; deploy/agent/daemonset.yaml runs it on every node.";

/// Watch a node: memory of every container, every OOM kill
#[derive(Debug, Args)]
#[command(long_about = LONG_ABOUT, after_help = AFTER_HELP)]
pub(super) struct Agent {
    /// File with settings (TOML); --print-config shows all there are
    #[arg(long, value_name = "FILE", env = "EXIT137_AGENT_CONFIG", hide_env_values = true)]
    config: Option<PathBuf>,

    /// Print the settings in force as a file, and end
    #[arg(long)]
    print_config: bool,

    /// Where OTLP/HTTP is taken; without it, everything waits on disk
    #[arg(
        long,
        value_name = "URL",
        env = "EXIT137_AGENT_ENDPOINT",
        hide_env_values = true,
        help_heading = "Sending"
    )]
    endpoint: Option<String>,

    /// Send the bearer token in this file
    #[arg(
        long,
        value_name = "FILE",
        env = "EXIT137_AGENT_TOKEN_FILE",
        hide_env_values = true,
        help_heading = "Sending"
    )]
    token_file: Option<PathBuf>,

    /// Send this header too; may be repeated
    #[arg(long = "header", value_name = "NAME=VALUE", help_heading = "Sending")]
    headers: Vec<String>,

    /// Trust the authorities in this file (PEM) and no others
    #[arg(
        long,
        value_name = "FILE",
        env = "EXIT137_AGENT_CA_FILE",
        hide_env_values = true,
        help_heading = "Sending"
    )]
    ca_file: Option<PathBuf>,

    /// Folder for state, and for what waits [default: /var/lib/exit137-agent]
    #[arg(
        long,
        value_name = "DIR",
        env = "EXIT137_AGENT_STATE_DIR",
        hide_env_values = true,
        help_heading = "Sending"
    )]
    state_dir: Option<PathBuf>,

    /// Let at most so much wait; the oldest metrics make room first [default: 64MiB]
    #[arg(
        long,
        value_name = "SIZE",
        env = "EXIT137_AGENT_BUFFER",
        hide_env_values = true,
        help_heading = "Sending"
    )]
    buffer: Option<Size>,

    /// Time between two metric exports [default: 10s]
    #[arg(
        long,
        value_name = "TIME",
        env = "EXIT137_AGENT_EXPORT_INTERVAL",
        hide_env_values = true,
        help_heading = "Sending"
    )]
    export_interval: Option<Span>,

    /// Where the node's file system is mounted [default: /]
    #[arg(
        long,
        value_name = "DIR",
        env = "EXIT137_AGENT_SYSROOT",
        hide_env_values = true,
        help_heading = "What is watched"
    )]
    sysroot: Option<PathBuf>,

    /// Only containers below this cgroup, and no kills of others [default: /]
    #[arg(
        long,
        value_name = "PATH",
        env = "EXIT137_AGENT_CGROUP_ROOT",
        hide_env_values = true,
        help_heading = "What is watched"
    )]
    cgroup_root: Option<String>,

    /// The kernel's log, from the sysroot [default: /dev/kmsg]
    #[arg(
        long,
        value_name = "PATH",
        env = "EXIT137_AGENT_KERNEL_LOG",
        hide_env_values = true,
        help_heading = "What is watched"
    )]
    kernel_log: Option<PathBuf>,

    /// The node's name in Kubernetes [default: the host's name]
    #[arg(
        long,
        value_name = "NAME",
        env = "NODE_NAME",
        hide_env_values = true,
        help_heading = "What is watched"
    )]
    node_name: Option<String>,

    /// Ask this API for names where the kubelet's files cannot be read: URL, auto, never [default: auto]
    #[arg(
        long,
        value_name = "URL",
        env = "EXIT137_AGENT_KUBERNETES_API",
        hide_env_values = true,
        help_heading = "What is watched"
    )]
    kubernetes_api: Option<String>,

    /// Token for the Kubernetes API [default: the pod's]
    #[arg(
        long,
        value_name = "FILE",
        env = "EXIT137_AGENT_KUBERNETES_TOKEN_FILE",
        hide_env_values = true,
        help_heading = "What is watched"
    )]
    kubernetes_token_file: Option<PathBuf>,

    /// Authorities (PEM) that vouch for the Kubernetes API [default: the pod's]
    #[arg(
        long,
        value_name = "FILE",
        env = "EXIT137_AGENT_KUBERNETES_CA_FILE",
        hide_env_values = true,
        help_heading = "What is watched"
    )]
    kubernetes_ca_file: Option<PathBuf>,

    /// Time between two looks at a container that is far from its limit [default: 1s]
    #[arg(
        long,
        value_name = "TIME",
        env = "EXIT137_AGENT_INTERVAL",
        hide_env_values = true,
        help_heading = "What is watched"
    )]
    interval: Option<Span>,

    /// Look at quiet containers as often as at all others
    #[arg(long, help_heading = "What is watched")]
    no_rest: bool,

    /// Do not use the kernel's tracepoint for OOM kills
    #[arg(long, help_heading = "What is watched")]
    no_tracepoint: bool,

    #[command(flatten)]
    log: LogOptions,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum AgentCommandError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("cannot print the settings")]
    Print(#[from] toml::ser::Error),
    #[error(transparent)]
    Stdout(#[from] StdoutError),
    #[error(transparent)]
    Log(#[from] NotALogLevel),
    #[error(transparent)]
    Agent(#[from] AgentError),
}

impl Agent {
    pub(super) fn run(self) -> Result<Outcome, AgentCommandError> {
        let mut config: Config = match &self.config {
            Some(path) => config::read(path)?,
            None => Config::default(),
        };
        let print = self.print_config;
        self.overrule(&mut config);
        if print {
            super::print(toml::to_string(&config)?.as_bytes())?;
            return Ok(Outcome::Done);
        }
        logging::start(&config.log)?;
        agent::run(config)?;
        Ok(Outcome::Done)
    }

    /// Puts what was given here in place of what the file says.
    fn overrule(self, config: &mut Config) {
        fn set<T>(setting: &mut T, given: Option<T>) {
            if let Some(given) = given {
                *setting = given;
            }
        }
        config.endpoint = self.endpoint.or(config.endpoint.take());
        config.token_file = self.token_file.or(config.token_file.take());
        config.ca_file = self.ca_file.or(config.ca_file.take());
        config.node_name = self.node_name.or(config.node_name.take());
        config.headers.extend(self.headers);
        set(&mut config.state_dir, self.state_dir);
        set(&mut config.buffer, self.buffer);
        set(&mut config.export_interval, self.export_interval);
        set(&mut config.sysroot, self.sysroot);
        set(&mut config.cgroup_root, self.cgroup_root);
        set(&mut config.kernel_log, self.kernel_log);
        set(&mut config.kubernetes_api, self.kubernetes_api);
        set(&mut config.kubernetes_token_file, self.kubernetes_token_file);
        set(&mut config.kubernetes_ca_file, self.kubernetes_ca_file);
        set(&mut config.interval, self.interval);
        self.log.overrule(&mut config.log);
        config.rest &= !self.no_rest;
        config.tracepoint &= !self.no_tracepoint;
    }
}
