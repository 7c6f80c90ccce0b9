//! `exit137 capture INCIDENT`: an incident of the recorder as a folder that `exit137 diagnose` reads.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use exit137_store::OpenError;

use super::Outcome;
use crate::config::{self, ConfigError};
use crate::output::clean_line;
use crate::server::config::Config;
use crate::server::{self, ServeError, tar};

const LONG_ABOUT: &str = "\
Saves an incident as a folder that `exit137 diagnose` reads: exactly what the verdict was made from, so that it can be \
judged again elsewhere, attached to a ticket, or kept as a test case.

Values that may name persons or open doors are replaced by marks, by the rules in docs/serve.md: attributes like \
enduser.*, tokens and mail addresses in any text, the values of queries in URLs. Equal values get equal marks, so the \
verdict stays what it was.";

const AFTER_HELP: &str = "\
Examples:
  exit137 capture 20261122-085329-3f9a1c -o incident/
  exit137 diagnose incident/

  From a server elsewhere that asks for a token:
    EXIT137_TOKEN=… exit137 capture 20261122-085329-3f9a1c --server https://recorder.example -o incident/

  From one whose certificate a private authority signed:
    exit137 capture 20261122-085329-3f9a1c --server https://recorder.example --ca-file ca.crt -o incident/

  Without a running server, straight from its data folder:
    exit137 capture 20261122-085329-3f9a1c --data-dir /var/lib/exit137 -o incident/";

/// The server of this machine.
const SERVER: &str = "http://127.0.0.1:1370";

/// Save an incident of the recorder as a folder that `diagnose` reads
#[derive(Debug, Args)]
#[command(long_about = LONG_ABOUT, after_help = AFTER_HELP)]
pub(super) struct Capture {
    /// Name of the incident, as the list and the address of its page show it
    #[arg(value_name = "INCIDENT")]
    incident: String,

    /// Folder to write; it must be empty or not there
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,

    /// Server to ask [default: http://127.0.0.1:1370]
    #[arg(
        long,
        value_name = "URL",
        env = "EXIT137_SERVER",
        hide_env_values = true,
        conflicts_with = "data_dir"
    )]
    server: Option<String>,

    /// Token that the server asks for
    #[arg(long, value_name = "TOKEN", env = "EXIT137_TOKEN", hide_env_values = true, hide = true)]
    token: Option<String>,

    #[command(flatten)]
    trust: Trust,

    /// Data folder of a server that is not running
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// Settings of the server, for their rules of redaction
    #[arg(long, value_name = "FILE", requires = "data_dir")]
    config: Option<PathBuf>,
}

/// Who is believed to be the server, and who we are to it.
#[derive(Debug, Args)]
struct Trust {
    /// Authorities in PEM that the server's certificate must come from, instead of the system's
    #[arg(
        long,
        value_name = "FILE",
        env = "EXIT137_CA_FILE",
        hide_env_values = true,
        conflicts_with = "data_dir"
    )]
    ca_file: Option<PathBuf>,

    /// Certificate in PEM to show to a server that asks for one
    #[arg(long, value_name = "FILE", requires = "client_key", conflicts_with = "data_dir")]
    client_certificate: Option<PathBuf>,

    /// Its private key in PEM
    #[arg(long, value_name = "FILE", requires = "client_certificate")]
    client_key: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum CaptureError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error("{}: already in use by process {pid}: ask that server, with --server URL, or end it first", path.display())]
    InUse { path: PathBuf, pid: String },
    #[error("{}: expected an empty folder", path.display())]
    NotEmpty { path: PathBuf },
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}: expected {expected} in PEM", path.display())]
    NotPem { path: PathBuf, expected: &'static str },
    #[error("cannot prepare HTTPS")]
    Https(#[source] reqwest::Error),
    #[error(
        "cannot trust the server at {server}: {reason}; --ca-file FILE names the authority behind its certificate"
    )]
    Trust { server: String, reason: String },
    #[error("cannot start a thread")]
    Threads(#[source] io::Error),
    #[error(
        "cannot reach a server at {server}: {reason}; --server URL asks another, --data-dir DIR needs none"
    )]
    Ask { server: String, reason: String },
    #[error("{server} answers {status}: {reason}")]
    Refused { server: String, status: u16, reason: String },
    #[error("{server}: expected an archive, found something else")]
    NotAnArchive { server: String },
}

impl Capture {
    pub(super) fn run(self) -> Result<Outcome, CaptureError> {
        must_be_empty(&self.output)?;
        let files = match &self.data_dir {
            Some(folder) => {
                let mut config: Config = match &self.config {
                    Some(path) => config::read(path)?,
                    None => Config::default(),
                };
                config.data_dir.clone_from(folder);
                server::capture_from_folder(config, &self.incident).map_err(|error| match error {
                    ServeError::Open(OpenError::InUse { path, pid }) => CaptureError::InUse { path, pid },
                    error => CaptureError::Serve(error),
                })?
            }
            None => self.ask()?,
        };
        let count = crate::output::count(files.len(), "file", "files");
        for (name, bytes) in files {
            let path = self.output.join(name);
            let write = || {
                path.parent().map_or(Ok(()), fs::create_dir_all)?;
                fs::write(&path, bytes)
            };
            write().map_err(|source| CaptureError::Write { path: path.clone(), source })?;
        }
        let folder = clean_line(&self.output.to_string_lossy());
        eprintln!("wrote {count}; to judge it again: exit137 diagnose {folder}");
        Ok(Outcome::Done)
    }

    fn ask(&self) -> Result<Vec<(String, Vec<u8>)>, CaptureError> {
        let server = self.server.as_deref().unwrap_or(SERVER).trim_end_matches('/');
        let name: String = self.incident.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
        let url = format!("{server}/api/v1/incidents/{name}/capture");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(CaptureError::Threads)?;
        let at = || clean_line(server);
        let client = self.trust.client(&url)?;
        let (status, body) =
            runtime.block_on(fetch(&client, &url, self.token.as_deref())).map_err(|error| {
                let reason = last_words(&error);
                // As rustls begins what it says of a certificate that it does not accept.
                match reason.starts_with("invalid peer certificate") {
                    true => CaptureError::Trust { server: at(), reason },
                    false => CaptureError::Ask { server: at(), reason },
                }
            })?;
        if status != 200 {
            return Err(CaptureError::Refused { server: at(), status, reason: reason_of(&body) });
        }
        tar::read(&body).ok_or_else(|| CaptureError::NotAnArchive { server: at() })
    }
}

impl Trust {
    fn client(&self, url: &str) -> Result<reqwest::Client, CaptureError> {
        // Another part of the process may have chosen already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut client = reqwest::Client::builder();
        if let Some(path) = &self.ca_file {
            let certificates = reqwest::Certificate::from_pem_bundle(&read(path)?).unwrap_or_default();
            if certificates.is_empty() {
                return Err(CaptureError::NotPem { path: path.clone(), expected: "certificates" });
            }
            client = client.tls_certs_only(certificates);
        } else if url.starts_with("http://") {
            // A container image may hold no certificates at all, and none are needed.
            client = client.tls_certs_only([]);
        }
        if let Some((certificate, key)) = self.client_certificate.as_ref().zip(self.client_key.as_ref()) {
            let pem = [read(key)?, read(certificate)?].join(&b'\n');
            let identity = reqwest::Identity::from_pem(&pem).map_err(|_| CaptureError::NotPem {
                path: certificate.clone(),
                expected: "a certificate that fits the private key, both",
            })?;
            client = client.identity(identity);
        }
        client.build().map_err(CaptureError::Https)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, CaptureError> {
    fs::read(path).map_err(|source| CaptureError::Read { path: path.to_owned(), source })
}

/// What it comes to: `Connection refused`, without the layers through which it was told.
fn last_words(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    clean_line(&last.to_string())
}

/// What the server complains of.
fn reason_of(body: &[u8]) -> String {
    let complaint: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let words = complaint.as_ref().and_then(|complaint| complaint["error"].as_str());
    let text = String::from_utf8_lossy(&body[..body.len().min(1000)]);
    clean_line(words.unwrap_or(text.trim()))
}

async fn fetch(
    client: &reqwest::Client,
    url: &str,
    token: Option<&str>,
) -> Result<(u16, Vec<u8>), reqwest::Error> {
    let mut request = client.get(url);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let answer = request.send().await?;
    let status = answer.status().as_u16();
    Ok((status, answer.bytes().await?.to_vec()))
}

fn must_be_empty(path: &Path) -> Result<(), CaptureError> {
    match fs::read_dir(path) {
        Ok(mut entries) => match entries.next() {
            Some(_) => Err(CaptureError::NotEmpty { path: path.to_owned() }),
            None => Ok(()),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(CaptureError::Write { path: path.to_owned(), source }),
    }
}
