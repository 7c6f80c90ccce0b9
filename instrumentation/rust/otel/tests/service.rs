//! What a service sees: bytes of requests that run interleaved, on several threads, with tasks of their own; spans; recovery.
#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use exit137_otel::{
    Allocator, Begin, Config, InCurrentScope, Instrumentation, MemoryLayer, Request, Scope, live_heap,
    memory_phase, operations,
};
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, TraceContextExt, TraceFlags, TraceId, TraceState};
use opentelemetry::{Context, Value, global};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SimpleSpanProcessor, SpanData};

#[global_allocator]
static ALLOCATOR: Allocator = Allocator::system();

struct Setup {
    exporter: InMemorySpanExporter,
    provider: SdkTracerProvider,
    path: std::path::PathBuf,
}

/// The exporter is shared: tests that look at it take turns.
static TURN: Mutex<()> = Mutex::new(());

fn set_up() -> (&'static Setup, MutexGuard<'static, ()>) {
    static SETUP: OnceLock<(Mutex<Instrumentation>, Setup)> = OnceLock::new();
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let (_, setup) = SETUP.get_or_init(|| {
        let path = std::env::temp_dir().join(format!("exit137-service-{}.journal", std::process::id()));
        let config =
            Config::default().with_journal(&path).with_sample_bytes(4096).with_samples_per_second_max(0);
        let mut exit137 = exit137_otel::init_with(&config);
        assert!(exit137.problem().is_none());
        let exporter = InMemorySpanExporter::default();
        let processor = exit137.recover_with(SimpleSpanProcessor::new(exporter.clone()));
        let provider = SdkTracerProvider::builder().with_span_processor(processor).build();
        global::set_tracer_provider(provider.clone());
        global::set_text_map_propagator(TraceContextPropagator::new());
        (Mutex::new(exit137), Setup { exporter, provider, path })
    });
    setup.exporter.reset();
    (setup, turn)
}

fn span(number: u64) -> SpanContext {
    let (trace, span) = (TraceId::from(u128::from(number)), SpanId::from(number));
    SpanContext::new(trace, span, TraceFlags::SAMPLED, false, TraceState::default())
}

fn begin(operation: &str) -> Request {
    Request::begin(&Begin::server(operation, &span(1)))
}

const MIB: usize = 1 << 20;

fn close_to(value: i64, expected: usize) -> bool {
    (value - expected as i64).abs() < 4096
}

#[test]
fn what_is_kept_is_retained_and_what_was_held_is_the_peak() {
    let (_setup, _turn) = set_up();
    let request = begin("GET /kept");
    let kept = request.scope().run(|| {
        drop(vec![1u8; 3 * MIB]);
        vec![1u8; MIB]
    });
    let usage = request.end();
    assert!(close_to(usage.retained, MIB), "{usage:?}");
    assert!(close_to(usage.allocated as i64, 4 * MIB) && close_to(usage.freed, 3 * MIB), "{usage:?}");
    assert!(close_to(usage.peak as i64, 3 * MIB), "{usage:?}");
    drop(kept);
}

#[test]
fn a_large_block_is_its_owners_whoever_frees_it() {
    let (_setup, _turn) = set_up();
    let (first, second) = (begin("GET /owner"), begin("GET /freer"));
    let block = first.scope().run(|| vec![1u8; MIB]);
    assert!(close_to(first.usage().retained, MIB));
    second.scope().run(|| drop(block));
    assert!(close_to(first.end().retained, 0));
    assert!(close_to(second.end().freed, 0));
}

#[test]
fn a_large_block_that_outlives_its_request_is_credited_to_the_operation() {
    let (_setup, _turn) = set_up();
    let request = begin("GET /outlived");
    let block = request.scope().run(|| vec![1u8; MIB]);
    request.end();
    let retained =
        || operations().into_iter().find(|totals| totals.name == "GET /outlived").unwrap().retained();
    assert!(close_to(retained(), MIB));
    drop(block);
    assert!(close_to(retained(), 0));
}

#[test]
fn growing_a_block_moves_it_to_who_grows_it() {
    let (_setup, _turn) = set_up();
    let (first, second) = (begin("GET /first"), begin("GET /grower"));
    let mut shared = first.scope().run(|| Vec::<u8>::with_capacity(MIB));
    second.scope().run(|| shared.reserve_exact(4 * MIB));
    assert!(close_to(first.end().retained, 0));
    assert!(close_to(second.end().retained, 4 * MIB));
}

#[test]
fn interleaved_requests_on_many_threads_keep_their_own_bytes() {
    let (_setup, _turn) = set_up();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_time().build().unwrap();
    runtime.block_on(async {
        let mut tasks = Vec::new();
        for number in 1..=64usize {
            tasks.push(tokio::spawn(async move {
                let request = begin("GET /interleaved");
                let work = async move {
                    let mut kept = Vec::new();
                    for step in 0..10 {
                        let transient = vec![0u8; 10_000 * (step + 1)];
                        tokio::time::sleep(Duration::from_micros(200)).await;
                        kept.push(vec![1u8; 1000 * number]);
                        drop(transient);
                        tokio::task::yield_now().await;
                    }
                    let child = async move { vec![2u8; 5000 * number] }.in_current_scope();
                    (kept, tokio::spawn(child).await.unwrap())
                };
                let kept = work.in_scope(request.scope()).await;
                let usage = request.end();
                assert!(close_to(usage.retained, 15_000 * number), "{number}: {usage:?}");
                assert!(usage.peak as usize >= 15_000 * number - 4096, "{number}: {usage:?}");
                kept
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
    });
}

#[test]
fn scopes_nest_and_come_back_after_a_panic() {
    let (_setup, _turn) = set_up();
    let (outer, inner) = (begin("GET /outer"), begin("GET /inner"));
    let scope = outer.scope();
    let entered = scope.enter();
    let panicked = std::panic::catch_unwind(|| {
        inner.scope().run(|| std::panic::resume_unwind(Box::new("gone")));
    });
    assert!(panicked.is_err());
    let kept = vec![1u8; MIB];
    drop(entered);
    let _after = vec![1u8; MIB];
    assert!(close_to(outer.end().retained, MIB) && inner.end().retained < 4096);
    drop(kept);
}

/// Not inlined: this is the place that the live heap must name.
#[inline(never)]
fn fill_the_cache(cache: &mut Vec<Vec<u8>>) {
    for _ in 0..5000 {
        cache.push(vec![1u8; 1000]);
    }
}

#[test]
fn the_live_heap_names_operation_and_place_and_survives_in_the_journal() {
    let (setup, _turn) = set_up();
    let mut cache = Vec::new();
    let request = begin("GET /cached");
    request.scope().run(|| fill_the_cache(&mut cache));
    let rows: u64 =
        live_heap().iter().filter(|row| row.operation == "GET /cached").map(|row| row.live_bytes).sum();
    assert!((3_500_000..7_000_000).contains(&rows), "{rows}");
    let bytes = || exit137_journal::read(&std::fs::read(&setup.path).unwrap()).unwrap();
    let until = std::time::Instant::now() + Duration::from_secs(20);
    let named = loop {
        let found = bytes()
            .heap
            .into_iter()
            .find(|row| row.operation_name == "GET /cached" && !row.frames.is_empty());
        if found.is_some() || std::time::Instant::now() > until {
            break found;
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    let named = named.expect("a row with names");
    assert!(named.frames[0].function.contains("fill_the_cache"), "{named:?}");
    assert!(named.frames[0].location.starts_with("service.rs:"), "{named:?}");
    let profile = exit137_otel::pprof();
    let holds = |text: &str| profile.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(holds("GET /cached") && holds("inuse_space"));
    drop(cache);
    let left: u64 =
        live_heap().iter().filter(|row| row.operation == "GET /cached").map(|row| row.live_bytes).sum();
    assert!(left < 100_000, "{left}");
}

#[test]
fn small_blocks_freed_elsewhere_are_estimated() {
    let (_setup, _turn) = set_up();
    let request = begin("GET /given away");
    let blocks: Vec<Vec<u8>> = request.scope().run(|| (0..4000).map(|_| vec![1u8; 500]).collect());
    request.end();
    begin("GET /taker").scope().run(|| drop(blocks));
    let of = |name: &str| operations().into_iter().find(|totals| totals.name == name).unwrap();
    assert!(of("GET /given away").retained().abs() < 400_000, "{:?}", of("GET /given away"));
    assert!((1_500_000..2_500_000).contains(&of("GET /given away").moved), "{:?}", of("GET /given away"));
}

fn attribute(span: &SpanData, key: &str) -> Option<Value> {
    span.attributes.iter().rev().find(|pair| pair.key.as_str() == key).map(|pair| pair.value.clone())
}

fn number(span: &SpanData, key: &str) -> f64 {
    match attribute(span, key) {
        Some(Value::I64(number)) => number as f64,
        Some(Value::F64(number)) => number,
        other => panic!("{key}: {other:?}"),
    }
}

static KEPT: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

fn router() -> axum::Router {
    use axum::routing::get;
    let leak = || async {
        KEPT.lock().unwrap().push(vec![1u8; 60 * MIB]);
        memory_phase!("after_load_items");
        tokio::task::yield_now().await;
        "x".repeat(20_000)
    };
    axum::Router::new().route("/leak/{id}", get(leak)).layer(MemoryLayer::new().with_header("x-tenant"))
}

async fn ask(router: axum::Router, path: &str) -> usize {
    use tower::ServiceExt;
    let request = http::Request::get(path)
        .header("traceparent", "00-000000000000000000000000000000aa-00000000000000bb-01")
        .header("x-tenant", "acme")
        .body(axum::body::Body::empty())
        .unwrap();
    let response = router.oneshot(request).await.unwrap();
    axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap().len()
}

#[test]
fn the_layer_makes_a_span_and_describes_memory_on_it() {
    let (setup, _turn) = set_up();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert_eq!(runtime.block_on(ask(router(), "/leak/7")), 20_000);
    setup.provider.force_flush().unwrap();
    let spans = setup.exporter.get_finished_spans().unwrap();
    let span = spans.iter().find(|span| span.name == "GET /leak/{id}").unwrap();
    assert_eq!((span.span_kind.clone(), span.parent_span_id), (SpanKind::Server, SpanId::from(0xbb)));
    assert_eq!(span.span_context.trace_id(), TraceId::from(0xaa));
    assert!(close_to(number(span, "exit137.memory.retained") as i64, 60 * MIB), "{span:?}");
    assert!((number(span, "memory.after_load_items.delta_mb") - 60.0).abs() < 0.1, "{span:?}");
    assert!((number(span, "memory.request.after_mb") - 60.0).abs() < 0.1);
    let growth: Vec<_> = span.events.iter().filter(|event| event.name == "memory.high_growth").collect();
    assert_eq!(growth.len(), 2, "{span:?}");
    assert_eq!(attribute(span, "http.response.status_code"), Some(Value::I64(200)));
    KEPT.lock().unwrap().clear();
}

#[test]
fn the_layer_joins_a_span_that_is_there() {
    use opentelemetry::trace::{FutureExt, Tracer};
    let (setup, _turn) = set_up();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let outer = global::tracer("test").start("outer");
    let context = Context::new().with_span(outer);
    runtime.block_on(ask(router(), "/leak/8").with_context(context.clone()));
    context.span().end();
    let spans = setup.exporter.get_finished_spans().unwrap();
    assert_eq!(spans.len(), 1, "{spans:?}");
    assert!(close_to(number(&spans[0], "exit137.memory.retained") as i64, 60 * MIB), "{spans:?}");
    KEPT.lock().unwrap().clear();
}

#[test]
fn a_request_without_room_is_served_all_the_same() {
    let (_setup, _turn) = set_up();
    let requests: Vec<Request> = (0..5000).map(|_| begin("GET /many")).collect();
    let usage = requests.last().unwrap().usage();
    assert_eq!(usage.allocated, 0);
    assert!(requests[0].scope().run(|| vec![1u8; 10]).len() == 10);
    drop(requests);
    let again = begin("GET /many");
    let kept = again.scope().run(|| vec![1u8; MIB]);
    assert!(close_to(again.end().retained, MIB));
    drop(kept);
}

#[test]
fn outside_of_requests_nothing_is_attributed() {
    let (_setup, _turn) = set_up();
    memory_phase!("nowhere");
    let scope = Scope::current();
    let kept = scope.run(|| vec![1u8; MIB]);
    drop(kept);
}

#[cfg(feature = "tracing")]
#[test]
fn a_tracing_span_counts_for_all_spans_inside() {
    use opentelemetry::trace::TracerProvider;
    use tracing_subscriber::layer::SubscriberExt;
    let (setup, _turn) = set_up();
    let subscriber = tracing_subscriber::registry()
        .with(exit137_otel::TracingMemoryLayer::new())
        .with(tracing_opentelemetry::layer().with_tracer(setup.provider.tracer("test")));
    let kept = tracing::subscriber::with_default(subscriber, || {
        let request = tracing::info_span!("handle", otel.kind = "server", otel.name = "GET /traced");
        request.in_scope(|| {
            let inner = tracing::info_span!("query");
            let kept = inner.in_scope(|| vec![1u8; MIB]);
            memory_phase!("after_query");
            kept
        })
    });
    let spans = setup.exporter.get_finished_spans().unwrap();
    let span = spans.iter().find(|span| span.name == "GET /traced").unwrap();
    assert!(close_to(number(span, "exit137.memory.retained") as i64, MIB), "{span:?}");
    assert!((number(span, "memory.after_query.delta_mb") - 1.0).abs() < 0.1, "{span:?}");
    drop(kept);
}
