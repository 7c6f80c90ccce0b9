//! The whole public face, as a service would use it. What does not compile here would break somebody who links this crate in:
//! such a change needs a new minor version while there is no 1.0, and a new major one after that.
#![allow(missing_docs)]

use std::time::SystemTime;

use exit137_otel::journal::{CreateError, InFlight, Journal};
use exit137_otel::{
    Allocator, Begin, Config, Entered, InCurrentScope, InScope, Instrumentation, LARGE_BYTES, LiveHeap,
    OperationTotals, Recovered, RecoveringProcessor, Request, Scope, Usage, memory_phase,
};
use opentelemetry::logs::NoopLoggerProvider;
use opentelemetry::trace::{SpanContext, SpanId, SpanKind};
use opentelemetry_sdk::trace::{BatchSpanProcessor, SpanData};

static SYSTEM: Allocator = Allocator::system();
static OVER: Allocator<std::alloc::System> = Allocator::over(std::alloc::System);

fn is_a_processor<P: opentelemetry_sdk::trace::SpanProcessor>() {}
fn can_be_sent<T: Send + Sync + 'static>() {}
fn is_an_allocator<T: std::alloc::GlobalAlloc>(_allocator: &T) {}

#[test]
fn what_a_service_calls_is_there() {
    let _: [fn() -> Instrumentation; 1] = [exit137_otel::init];
    let _: fn(&Config) -> Instrumentation = exit137_otel::init_with;
    let _: fn(&Instrumentation) -> Option<&CreateError> = Instrumentation::problem;
    let _: fn(&mut Instrumentation) -> Vec<Recovered> = Instrumentation::take_recovered;
    let _: fn(&Instrumentation, &NoopLoggerProvider) = Instrumentation::log_recovered;
    let _: fn(&mut Instrumentation, BatchSpanProcessor) -> RecoveringProcessor<BatchSpanProcessor> =
        Instrumentation::recover_with;
    let _: fn() -> Vec<u8> = exit137_otel::pprof;
    let _: fn() -> Vec<LiveHeap> = exit137_otel::live_heap;
    let _: fn() -> Vec<OperationTotals> = exit137_otel::operations;
    let _: fn(&Recovered) -> &Journal = Recovered::journal;
    let _: fn(&Recovered) -> bool = Recovered::was_killed;
    let _: fn(&Recovered) -> Vec<SpanData> = Recovered::spans;
    let _: fn(&Recovered) -> String = Recovered::summary;
    let _: fn(Recovered) = Recovered::forget;
    let _: fn(&Journal) -> &Vec<InFlight> = |journal| &journal.in_flight;
    is_a_processor::<RecoveringProcessor<BatchSpanProcessor>>();
    can_be_sent::<(Instrumentation, Scope, Request, Config)>();
    is_an_allocator(&SYSTEM);
    is_an_allocator(&OVER);
    assert_eq!(LARGE_BYTES, 4096);
}

#[test]
fn settings_can_be_chained() {
    let config = Config::default()
        .with_journal("/j")
        .with_requests_max(7)
        .with_sample_bytes(8)
        .with_samples_per_second_max(10)
        .with_high_growth_bytes(9)
        .with_names(false)
        .with_resource("key", "value");
    let Config { journal, requests_max, sample_bytes, high_growth_bytes, names, resource, .. } =
        config.clone();
    assert_eq!(config.samples_per_second_max, 10);
    assert_eq!(journal.as_deref(), Some(std::path::Path::new("/j")));
    assert_eq!((requests_max, sample_bytes, high_growth_bytes, names), (7, 8, 9, false));
    assert_eq!(resource, [("key".to_owned(), "value".to_owned())]);
}

#[test]
fn a_request_can_be_told_by_hand() {
    let mut begin = Begin::server("GET /by hand", &SpanContext::NONE);
    begin.kind = SpanKind::Consumer;
    begin.parent = SpanId::INVALID;
    begin.start = Some(SystemTime::now());
    begin.attributes = &[("tenant", "acme")];
    let request = Request::begin(&begin);
    let scope: Scope = request.scope();
    {
        let _entered: Entered<'_> = scope.enter();
        memory_phase!("loaded");
        exit137_otel::phase("loaded");
    }
    let four = scope.run(|| 4);
    let futures: [InScope<_>; 2] =
        [std::future::ready(1), std::future::ready(2)].map(InCurrentScope::in_current_scope);
    drop((futures, std::future::ready(3).in_scope(Scope::current())));
    let so_far: Usage = request.usage();
    let Usage { allocated, freed, retained, peak, .. } = request.end();
    assert_eq!(four, 4);
    // This program allocates from the system itself, so nothing was counted.
    assert_eq!((so_far, allocated, freed, retained, peak), (Usage::default(), 0, 0, 0, 0));
}

#[cfg(feature = "tower")]
#[test]
fn the_layer_fits_any_tower_service() {
    use exit137_otel::{MemoryBody, MemoryFuture, MemoryLayer, MemoryService};
    use tower::Layer;
    let _: MemoryService<()> = MemoryLayer::new().with_header("x-tenant").layer(());
    fn names<F, B>(_: Option<MemoryFuture<F>>, _: Option<MemoryBody<B>>) {}
    names::<(), ()>(None, None);
    can_be_sent::<MemoryLayer>();
}

#[cfg(feature = "tracing")]
#[test]
fn the_tracing_layer_fits_a_registry() {
    use tracing_subscriber::layer::SubscriberExt;
    let _ = tracing_subscriber::registry().with(exit137_otel::TracingMemoryLayer::new());
}
