//! `exit137 serve`: the flight recorder. Settings are gathered here; what runs is `server/`.

use std::path::PathBuf;

use clap::Args;

use super::{Outcome, StdoutError};
use crate::config::{self, ConfigError, Listen, Size};
use crate::logging::LogOptions;
use crate::server::config::{Config, Tls};
use crate::server::{self, ServeError};

const LONG_ABOUT: &str = "\
Records telemetry beside your services and says why, seconds after a container was OOM-killed.

Point OTLP at it, let it watch Kubernetes or a kernel log, and open http://127.0.0.1:1370. Everything is kept in one \
folder, within a budget; nothing else needs to be installed, and nothing is ever written to the cluster unless \
notifications by Kubernetes Events are switched on.

Each setting can be given in a file (--config), in the environment, or as an option; the later of these overrules the \
earlier. --print-config shows what is in force, as a file.";

const AFTER_HELP: &str = "\
Examples:
  On a laptop, without a cluster, listening to the kernel (as root):
    exit137 serve --data-dir ./recorder --no-kubernetes --kernel-log /dev/kmsg

  A service that sends to it:
    OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318 opentelemetry-instrument python app.py

  For a whole cluster, from inside it:
    exit137 serve --listen 0.0.0.0:1370 --otlp-http 0.0.0.0:4318 --otlp-grpc 0.0.0.0:4317 \\
      --tokens-file /etc/exit137/tokens --disk-budget 50GiB

  What is in force:
    exit137 serve --config exit137.toml --print-config

Exit codes:
  0  asked to end (SIGTERM, SIGINT), and everything is on disk
  2  error: settings, an address that is taken, a data folder that another server uses

The guide is docs/serve.md.";

/// Record telemetry, and say why within seconds of a kill
#[derive(Debug, Args)]
#[command(long_about = LONG_ABOUT, after_help = AFTER_HELP)]
pub(super) struct Serve {
    /// File with settings (TOML); --print-config shows all there are
    #[arg(long, value_name = "FILE", env = "EXIT137_CONFIG", hide_env_values = true)]
    config: Option<PathBuf>,

    /// Print the settings in force as a file, and end
    #[arg(long)]
    print_config: bool,

    /// Folder in which everything is kept [default: /var/lib/exit137, or ~/.local/state/exit137]
    #[arg(
        long,
        value_name = "DIR",
        env = "EXIT137_DATA_DIR",
        hide_env_values = true,
        help_heading = "Storage"
    )]
    data_dir: Option<PathBuf>,

    /// Keep at most so much on disk; the oldest goes first [default: 10GiB]
    #[arg(
        long,
        value_name = "SIZE",
        env = "EXIT137_DISK_BUDGET",
        hide_env_values = true,
        help_heading = "Storage"
    )]
    disk_budget: Option<Size>,

    /// Hold at most so much in memory; senders are asked to wait instead [default: 192MiB]
    #[arg(
        long,
        value_name = "SIZE",
        env = "EXIT137_MEMORY_BUDGET",
        hide_env_values = true,
        help_heading = "Storage"
    )]
    memory_budget: Option<Size>,

    /// Pages, API and /metrics [default: 127.0.0.1:1370]
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "EXIT137_LISTEN",
        hide_env_values = true,
        help_heading = "Listening"
    )]
    listen: Option<Listen>,

    /// OTLP over HTTP, or `off` [default: 127.0.0.1:4318]
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "EXIT137_OTLP_HTTP",
        hide_env_values = true,
        help_heading = "Listening"
    )]
    otlp_http: Option<Listen>,

    /// OTLP over gRPC, or `off` [default: 127.0.0.1:4317]
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "EXIT137_OTLP_GRPC",
        hide_env_values = true,
        help_heading = "Listening"
    )]
    otlp_grpc: Option<Listen>,

    /// Certificate chain (PEM) for everything that listens
    #[arg(long, value_name = "FILE", requires = "tls_key", help_heading = "Listening")]
    tls_certificate: Option<PathBuf>,

    /// Private key (PEM) of the certificate
    #[arg(long, value_name = "FILE", requires = "tls_certificate", help_heading = "Listening")]
    tls_key: Option<PathBuf>,

    /// Ask clients for a certificate of this authority (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_certificate", help_heading = "Listening")]
    tls_client_ca: Option<PathBuf>,

    /// Ask browsers and API clients for one of the bearer tokens in this file, one a line
    #[arg(
        long,
        value_name = "FILE",
        env = "EXIT137_TOKENS_FILE",
        hide_env_values = true,
        help_heading = "Listening"
    )]
    tokens_file: Option<PathBuf>,

    /// Ask senders of OTLP for one of the bearer tokens in this file, one a line
    #[arg(
        long,
        value_name = "FILE",
        env = "EXIT137_OTLP_TOKENS_FILE",
        hide_env_values = true,
        help_heading = "Listening"
    )]
    otlp_tokens_file: Option<PathBuf>,

    /// Address under which people reach the pages, for links in notifications
    #[arg(
        long,
        value_name = "URL",
        env = "EXIT137_PUBLIC_URL",
        hide_env_values = true,
        help_heading = "Listening"
    )]
    public_url: Option<String>,

    /// Do not watch a cluster
    #[arg(long, env = "EXIT137_NO_KUBERNETES", hide_env_values = true, help_heading = "What is watched")]
    no_kubernetes: bool,

    /// How to reach the cluster [default: KUBECONFIG, ~/.kube/config, or the pod's service account]
    #[arg(long, value_name = "FILE", help_heading = "What is watched")]
    kubeconfig: Option<PathBuf>,

    /// Context of the kubeconfig [default: the current one]
    #[arg(long, value_name = "NAME", help_heading = "What is watched")]
    context: Option<String>,

    /// Watch only this namespace; may be repeated [default: all]
    #[arg(
        long = "namespace",
        value_name = "NAME",
        env = "EXIT137_NAMESPACES",
        value_delimiter = ',',
        hide_env_values = true,
        help_heading = "What is watched"
    )]
    namespaces: Vec<String>,

    /// Watch only pods with these labels
    #[arg(
        long,
        value_name = "SELECTOR",
        env = "EXIT137_SELECTOR",
        hide_env_values = true,
        help_heading = "What is watched"
    )]
    selector: Option<String>,

    /// Follow this kernel log: /dev/kmsg, or a file that syslog writes
    #[arg(
        long,
        value_name = "PATH",
        env = "EXIT137_KERNEL_LOG",
        hide_env_values = true,
        help_heading = "What is watched"
    )]
    kernel_log: Option<PathBuf>,

    #[command(flatten)]
    log: LogOptions,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum ServeCommandError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("cannot print the settings")]
    Print(#[from] toml::ser::Error),
    #[error(transparent)]
    Stdout(#[from] StdoutError),
    #[error(transparent)]
    Serve(#[from] ServeError),
}

impl Serve {
    pub(super) fn run(self) -> Result<Outcome, ServeCommandError> {
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
        server::run(config)?;
        Ok(Outcome::Done)
    }

    /// Puts what was given here in place of what the file says.
    fn overrule(self, config: &mut Config) {
        fn set<T>(setting: &mut T, given: Option<T>) {
            if let Some(given) = given {
                *setting = given;
            }
        }
        fn set_some<T>(setting: &mut Option<T>, given: Option<T>) {
            if given.is_some() {
                *setting = given;
            }
        }
        set(&mut config.data_dir, self.data_dir);
        set(&mut config.disk_budget, self.disk_budget);
        set(&mut config.memory_budget, self.memory_budget);
        set(&mut config.listen, self.listen);
        set(&mut config.otlp.http, self.otlp_http);
        set(&mut config.otlp.grpc, self.otlp_grpc);
        if let (Some(certificate), Some(key)) = (self.tls_certificate, self.tls_key) {
            config.tls = Some(Tls { certificate, key, client_ca: self.tls_client_ca });
        }
        set_some(&mut config.tokens_file, self.tokens_file);
        set_some(&mut config.otlp.tokens_file, self.otlp_tokens_file);
        set_some(&mut config.public_url, self.public_url);
        config.kubernetes.enabled &= !self.no_kubernetes;
        set_some(&mut config.kubernetes.kubeconfig, self.kubeconfig);
        set_some(&mut config.kubernetes.context, self.context);
        set_some(&mut config.kubernetes.selector, self.selector);
        if !self.namespaces.is_empty() {
            config.kubernetes.namespaces = self.namespaces;
        }
        set_some(&mut config.kernel_log, self.kernel_log);
        self.log.overrule(&mut config.log);
    }
}
