//! Memory of each request, and the requests that SIGKILL swallows, for services with OpenTelemetry.
//!
//! - [`Allocator`] is set as the global allocator and counts for whom memory is allocated.
//! - [`init`] opens the journal that `EXIT137_JOURNAL` names and starts sampling the heap.
//! - [`Instrumentation::recover_with`] wraps the service's span processor, and tells it what the last life left in flight.
//! - `MemoryLayer`, `TracingMemoryLayer`, or [`Request`] and [`Scope`] by hand, say which request a thread works for.
//! - [`memory_phase!`] marks phases; [`operations`], [`live_heap`] and [`pprof`] tell what is known.
//!
//! The README says in five lines how to add it, and exactly what is counted and what is estimated.

mod allocator;
mod config;
mod context;
mod heap;
mod layer;
#[cfg_attr(not(any(feature = "tower", feature = "tracing")), allow(dead_code, reason = "the layers call it"))]
mod metrics;
mod operations;
mod parents;
#[cfg_attr(not(any(feature = "tower", feature = "tracing")), allow(dead_code, reason = "the layers call it"))]
mod phase;
mod recovery;
mod request;
mod watch;

use std::io::Write;
use std::sync::OnceLock;

use exit137_journal::{CreateError, Options, Previous, Writer};

pub use allocator::{Allocator, LARGE_BYTES};
pub use config::Config;
/// The journal's reader and writer, whose types some functions here return.
pub use exit137_journal as journal;
pub use heap::pprof::pprof;
pub use heap::{LiveHeap, live_heap};
#[cfg(feature = "tower")]
pub use layer::tower::{MemoryBody, MemoryFuture, MemoryLayer, MemoryService};
#[cfg(feature = "tracing")]
pub use layer::tracing::TracingMemoryLayer;
pub use operations::{OperationTotals, operations};
pub use phase::phase;
pub use recovery::{Recovered, RecoveringProcessor};
pub use request::{Begin, Entered, InCurrentScope, InScope, Request, Scope, Usage};

static JOURNAL: OnceLock<Writer> = OnceLock::new();

/// The journal of this process, if it has one.
pub(crate) fn journal() -> Option<&'static Writer> {
    JOURNAL.get()
}

/// Starts measuring with the settings of the environment: `EXIT137_JOURNAL` names the journal. To be called once, first
/// thing in `main`; keep what it returns until the end.
pub fn init() -> Instrumentation {
    init_with(&Config::default())
}

/// Starts measuring. A second call changes nothing. Never fails: what could not be had is told by
/// [`Instrumentation::problem`], and on standard error.
pub fn init_with(config: &Config) -> Instrumentation {
    config::set_high_growth_bytes(config.high_growth_bytes);
    let mut previous = Vec::new();
    let (mut problem, mut ours) = (None, false);
    if let (Some(path), None) = (&config.journal, journal()) {
        let mut options = Options::default();
        options.slots = config.requests_max;
        options.operations = operations::ROWS as u32;
        options.resource = config.identity();
        options.sample_bytes = config.sample_bytes;
        match exit137_journal::create(path, &options) {
            Ok((writer, found)) => {
                operations::register_all(&writer);
                previous = found;
                // When two threads race, one of the two journals is never filled; it says so by having no requests.
                ours = JOURNAL.set(writer).is_ok();
                close_at_exit();
            }
            Err(error) => {
                // Not `eprintln!`, which panics when nobody reads standard error.
                let _ = writeln!(
                    std::io::stderr(),
                    "exit137: {error}: requests in flight at a kill will be lost"
                );
                problem = Some(error);
            }
        }
    }
    allocator::sampler::set_interval(config.sample_bytes, config.samples_per_second_max);
    let watch = watch::Watch::start(config.names);
    Instrumentation { previous, problem, ours, _watch: watch }
}

/// Also who leaves by `std::process::exit`, which drops nothing, ends of its own will.
#[allow(unsafe_code)]
fn close_at_exit() {
    extern "C" fn close() {
        if let Some(journal) = journal() {
            journal.close();
        }
    }
    // SAFETY: `atexit` keeps the address of a function that lives as long as the program. That function may run on any thread
    // and beside others: it reads a static that is never dropped, stores one word into a mapping that is never unmapped, and
    // does not unwind.
    unsafe { libc::atexit(close) };
}

/// What [`init`] started. Dropping it tells the journal that the process ends of its own will.
#[derive(Debug)]
#[must_use = "dropping it says that the process ends, and then no request is recovered: keep it until the end of `main`"]
pub struct Instrumentation {
    previous: Vec<Previous>,
    problem: Option<CreateError>,
    /// Whether the journal was made here: who called [`init`] a second time does not end it.
    ours: bool,
    _watch: watch::Watch,
}

impl Instrumentation {
    /// Why there is no journal, if one was asked for.
    pub fn problem(&self) -> Option<&CreateError> {
        self.problem.as_ref()
    }
}

impl Drop for Instrumentation {
    fn drop(&mut self) {
        if let Some(journal) = journal().filter(|_| self.ours) {
            journal.close();
        }
    }
}
