//! `exit137 serve`: receives, records, watches; and when something is killed, says why.
//!
//! What arrives is recorded before it is looked at; verdicts are made from the record alone, by the same steps as
//! `exit137 diagnose` makes them from files.

mod ask;
mod capture;
pub(crate) mod config;
mod counts;
mod docket;
mod evidence;
mod filing;
mod gaps;
mod hearing;
mod http;
mod incident;
mod intake;
mod judge;
mod kernel;
mod metrics;
mod next;
pub(crate) mod notify;
mod query;
mod recorder;
mod redact;
mod samples;
mod state;
mod subject;
pub(crate) mod tar;
mod tell;
mod tls;
mod verdicts;
mod watch;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use axum::Router;
use exit137_sources::cluster::ClusterError;
use exit137_sources::receiver::{BindError, Certificates, Receiver, ReceiverOptions, Tls, TlsError, Token};
use exit137_store::{DatabaseError, Kind, OpenError, Store, StoreOptions};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch as flag};
use tokio::task::JoinHandle as Task;
use tracing::{error, info, warn};

use capture::CaptureError;
use config::{Config, Keep};
use http::Guard;
use intake::{Intake, ToHear};
use notify::{Notifier, NotifyError};
use recorder::Recorder;
use tls::TlsListener;

use crate::config::{Size, Span};
use crate::logging::{self, NotALogLevel};

/// Log exports that wait to be looked at for kills.
const HEARD_MAX: usize = 1024;

/// Why the server did not start, or did not end well.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    /// The filter of log lines is none.
    #[error(transparent)]
    LogLevel(#[from] NotALogLevel),
    /// No threads.
    #[error("cannot start threads")]
    Threads(#[source] io::Error),
    /// The data folder.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// What it holds.
    #[error("cannot read the incidents of the data folder")]
    Incidents(#[from] DatabaseError),
    /// The file with tokens.
    #[error("cannot read the tokens in {}", path.display())]
    Tokens {
        /// As given.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There are none in it.
    #[error("{}: expected a token a line, found none", path.display())]
    NoTokens {
        /// As given.
        path: PathBuf,
    },
    /// The address is taken, or not ours.
    #[error("cannot listen on {address}")]
    Listen {
        /// As given.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The receivers of telemetry.
    #[error(transparent)]
    Receiver(#[from] BindError),
    /// The cluster that was asked for.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// Who is to be told.
    #[error(transparent)]
    Notify(#[from] NotifyError),
    /// The operating system refuses to tell of signals.
    #[error("cannot wait for signals")]
    Signals(#[source] io::Error),
    /// A certificate or key.
    #[error("cannot offer TLS for pages")]
    Tls(#[from] TlsError),
    /// The incident that was asked for.
    #[error("cannot capture the incident")]
    Capture(#[from] CaptureError),
}

/// Runs until SIGTERM or SIGINT.
pub(crate) fn run(config: Config) -> Result<(), ServeError> {
    logging::start(&config.log)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(ServeError::Threads)?;
    runtime.block_on(serve(config))
}

/// The files of an incident's capture, from the folder of a server that is not running.
pub(crate) fn capture_from_folder(
    mut config: Config,
    id: &str,
) -> Result<Vec<(String, Vec<u8>)>, ServeError> {
    // Whoever looks must not clean up: the server may keep more, and longer, than what we were told.
    const CENTURY: Span = Span::seconds(100 * 365 * 86_400);
    config.disk_budget = Size(1 << 60);
    config.keep = Keep { spans: CENTURY, metrics: CENTURY, events: CENTURY, incidents: CENTURY };
    let store = open(&config)?;
    let incidents = verdicts::remembered(&store)?;
    Ok(capture::files(&Recorder::new(config, store, incidents), id)?)
}

/// Opens the data folder with the bounds of the settings.
fn open(config: &Config) -> Result<Store, OpenError> {
    let keep = &config.keep;
    let age = |kind| match kind {
        Kind::Spans => keep.spans,
        Kind::Metrics | Kind::Samples | Kind::Cgroup | Kind::Journal => keep.metrics,
        Kind::Logs | Kind::Kubernetes | Kind::KernelLog => keep.events,
    };
    let ages = Kind::ALL.into_iter().map(|kind| (kind, age(kind).0));
    let mut options = ages.fold(StoreOptions::default(), |options, (kind, age)| options.keep(kind, age));
    options.disk_budget_bytes = config.disk_budget.0;
    // A third is for requests on their way in, a quarter for connections, the rest for everything else.
    options.memory_budget_bytes = config.memory_budget.0 / 3;
    Store::open(&config.data_dir, options)
}

/// The tokens of a file, one a line; lines that begin with `#` are none.
fn tokens(path: Option<&Path>) -> Result<Vec<String>, ServeError> {
    let Some(path) = path else { return Ok(Vec::new()) };
    let text = std::fs::read_to_string(path)
        .map_err(|source| ServeError::Tokens { path: path.to_owned(), source })?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let tokens: Vec<String> = lines.map(str::to_owned).collect();
    if tokens.is_empty() {
        return Err(ServeError::NoTokens { path: path.to_owned() });
    }
    Ok(tokens)
}

fn receiver_options(config: &Config) -> Result<ReceiverOptions, ServeError> {
    let otlp = &config.otlp;
    let third = usize::try_from(config.memory_budget.0 / 3).unwrap_or(usize::MAX);
    Ok(ReceiverOptions {
        http: otlp.http.0,
        grpc: otlp.grpc.0,
        tls: config.tls.as_ref().map(tls_files),
        tokens: tokens(otlp.tokens_file.as_deref())?.into_iter().map(Token::new).collect(),
        cors_origins: otlp.cors_origins.clone(),
        decompressed_bytes_max: usize::try_from(otlp.body_max.0).unwrap_or(usize::MAX),
        in_flight_bytes_max: third,
        connection_bytes_max: third / 4 * 3,
        ..ReceiverOptions::default()
    })
}

fn tls_files(tls: &config::Tls) -> Tls {
    let config::Tls { certificate, key, client_ca } = tls.clone();
    Tls { certificate, key, client_ca }
}

fn warn_of_open_doors(config: &Config) {
    for listen in [config.listen, config.otlp.http, config.otlp.grpc] {
        if listen.is_public() && config.tls.is_none() {
            warn!(address = %listen, "listening to the network without TLS");
        }
    }
    if config.listen.is_public() && config.tokens_file.is_none() {
        warn!(address = %config.listen, "the pages are open to everybody who can reach them; see --tokens-file");
    }
}

async fn serve(config: Config) -> Result<(), ServeError> {
    warn_of_open_doors(&config);
    let mut asked_to_end = Ended::new()?;
    let (end, ending) = flag::channel(false);
    let ended = move || {
        let mut ending = ending.clone();
        async move { drop(ending.wait_for(|ending| *ending).await) }
    };
    // What can fail is tried before anything runs.
    let receiver = Receiver::bind(receiver_options(&config)?).await?;
    let guard = Guard::new(
        &tokens(config.tokens_file.as_deref())?,
        !config.listen.is_public(),
        config.public_url.as_deref(),
    );
    let listener = listen(config.listen.0).await?;
    let certificates = config.tls.as_ref().map(|tls| Certificates::read(&tls_files(tls))).transpose()?;
    let cluster = watch::configure(&config).await?;
    let notifier = Notifier::start(&config.notify, cluster.as_ref())?;
    let store = open(&config)?;
    let incidents = verdicts::remembered(&store)?;
    let recorder = Arc::new(Recorder::new(config, store, incidents));
    let _ = recorder.addresses.set(receiver.addresses());
    let _ = recorder.door.set(receiver.counters());
    tell::begin(&recorder, notifier);
    if let Some(Ok(address)) = listener.as_ref().map(TcpListener::local_addr) {
        let _ = recorder.pages.set(address);
    }

    let (heard, hearing) = mpsc::channel(HEARD_MAX);
    let threads = threads(&recorder, hearing)?;
    verdicts::resume(&recorder);
    if cluster.is_none() && recorder.config.kubernetes.enabled {
        let _ = recorder.no_cluster.set("no cluster is configured here".to_owned());
    }
    let watching = cluster.map(|cluster| {
        let _ = recorder.cluster.set(cluster.clone());
        tokio::spawn(watch::watch(Arc::clone(&recorder), cluster))
    });
    let intake = Intake::new(Arc::clone(&recorder), heard);
    let receiving = tokio::spawn(receiver.serve(intake, ended()));
    let router = http::router(Arc::clone(&recorder), Arc::new(guard));
    let serving = listener.map(|listener| tokio::spawn(pages(listener, certificates, router, ended())));
    announce(&recorder);

    asked_to_end.wait().await;
    recorder.ending.store(true, Ordering::Relaxed);
    end.send_replace(true);
    recorder.docket.close();
    if let Some(watching) = watching {
        watching.abort();
    }
    // A second signal ends what still waits for slow clients.
    tokio::select! {
        () = finish(receiving, serving) => {}
        () = asked_to_end.wait() => warn!("not waiting any longer"),
    }
    tell::end(&recorder).await;
    let joined = tokio::task::spawn_blocking(move || {
        threads.into_iter().for_each(|thread| drop(thread.join()));
        // Closing the store waits until everything accepted is on the disk.
        drop(recorder);
    });
    let _ = joined.await;
    info!("ended");
    Ok(())
}

/// What waits for a clock, a file or a queue, each in a thread of its own.
fn threads(
    recorder: &Arc<Recorder>,
    mut hearing: mpsc::Receiver<ToHear>,
) -> Result<Vec<JoinHandle<()>>, ServeError> {
    let mut threads = vec![
        thread("verdicts", recorder, verdicts::run)?,
        thread("leaks", recorder, next::run)?,
        thread("hearing", recorder, move |recorder| {
            intake::catch_up(recorder);
            intake::listen(recorder, &mut hearing);
        })?,
    ];
    if let Some(log) = kernel_log(recorder) {
        threads.push(thread("kernel-log", recorder, move |recorder| follow(recorder, log))?);
    }
    Ok(threads)
}

async fn listen(address: Option<SocketAddr>) -> Result<Option<TcpListener>, ServeError> {
    let Some(address) = address else { return Ok(None) };
    TcpListener::bind(address).await.map(Some).map_err(|source| ServeError::Listen { address, source })
}

async fn pages(
    listener: TcpListener,
    certificates: Option<Arc<Certificates>>,
    router: Router,
    ended: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    match certificates {
        None => axum::serve(listener, router).with_graceful_shutdown(ended).await,
        Some(certificates) => {
            let listener = TlsListener::new(listener, certificates)?;
            axum::serve(listener, router).with_graceful_shutdown(ended).await
        }
    }
}

/// Waits until requests that have begun are answered.
async fn finish(receiving: Task<()>, serving: Option<Task<io::Result<()>>>) {
    let _ = receiving.await;
    let Some(serving) = serving else { return };
    if let Ok(Err(error)) = serving.await {
        error!(%error, "cannot serve pages");
    }
}

fn announce(recorder: &Recorder) {
    let told = recorder.sources();
    let off = || "off".to_owned();
    info!(
        pages = recorder.pages.get().map_or_else(off, ToString::to_string),
        otlp_http = told.otlp_http.unwrap_or_else(off),
        otlp_grpc = told.otlp_grpc.unwrap_or_else(off),
        kubernetes = told.kubernetes,
        kernel_log = told.kernel_log,
        data_dir = %recorder.folder().display(),
        incidents = recorder.incidents().len(),
        "ready"
    );
}

/// The kernel log that is to be followed, if it can be.
fn kernel_log(recorder: &Recorder) -> Option<kernel::Log> {
    let path = recorder.config.kernel_log.as_ref()?;
    kernel::open(recorder, path).map_err(|error| not_followed(recorder, &error)).ok()
}

fn follow(recorder: &Arc<Recorder>, log: kernel::Log) {
    if let Err(error) = kernel::follow(recorder, log) {
        not_followed(recorder, &error);
    }
}

fn not_followed(recorder: &Recorder, error: &io::Error) {
    error!(%error, "the kernel log is not followed");
    let _ = recorder.no_kernel_log.set(error.to_string());
}

fn thread(
    name: &str,
    recorder: &Arc<Recorder>,
    run: impl FnOnce(&Arc<Recorder>) + Send + 'static,
) -> Result<JoinHandle<()>, ServeError> {
    let recorder = Arc::clone(recorder);
    let builder = std::thread::Builder::new().name(name.to_owned());
    builder.spawn(move || run(&recorder)).map_err(ServeError::Threads)
}

/// Signals that ask the server to end.
struct Ended {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Ended {
    fn new() -> Result<Self, ServeError> {
        let terminate = signal(SignalKind::terminate()).map_err(ServeError::Signals)?;
        let interrupt = signal(SignalKind::interrupt()).map_err(ServeError::Signals)?;
        Ok(Self { terminate, interrupt })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => info!("ending: SIGTERM"),
            _ = self.interrupt.recv() => info!("ending: SIGINT"),
        }
    }
}
