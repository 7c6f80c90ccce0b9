//! A shop that keeps every search for ever. Start it, ask it a thousand times, kill it with SIGKILL, and start it again: the
//! requests that were in flight arrive at the collector.
//!
//! ```text
//! EXIT137_JOURNAL=/tmp/shop OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318 cargo run --release -p shop
//! ```

mod cache;

use axum::Router;
use axum::extract::Query;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use exit137_otel::{Allocator, InCurrentScope, MemoryLayer, memory_phase};
use opentelemetry::global;
use opentelemetry_otlp::{LogExporter, MetricExporter, SpanExporter};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{BatchSpanProcessor, SdkTracerProvider};

#[global_allocator]
static ALLOCATOR: Allocator = Allocator::system();

#[derive(Debug)]
struct Telemetry {
    traces: SdkTracerProvider,
    metrics: SdkMeterProvider,
    logs: SdkLoggerProvider,
}

/// OpenTelemetry as any service sets it up. Two lines are about exit137.
fn set_up(exit137: &mut exit137_otel::Instrumentation) -> Result<Telemetry, Box<dyn std::error::Error>> {
    let resource = Resource::builder().with_service_name("shop").build();
    let logs = SdkLoggerProvider::builder()
        .with_resource(resource.clone())
        .with_batch_exporter(LogExporter::builder().with_http().build()?)
        .build();
    exit137.log_recovered(&logs);
    let processor = BatchSpanProcessor::builder(SpanExporter::builder().with_http().build()?).build();
    let traces = SdkTracerProvider::builder()
        .with_resource(resource.clone())
        .with_span_processor(exit137.recover_with(processor))
        .build();
    let metrics = SdkMeterProvider::builder()
        .with_resource(resource)
        .with_periodic_exporter(MetricExporter::builder().with_http().build()?)
        .build();
    global::set_tracer_provider(traces.clone());
    global::set_meter_provider(metrics.clone());
    global::set_text_map_propagator(TraceContextPropagator::new());
    Ok(Telemetry { traces, metrics, logs })
}

#[derive(Debug)]
struct Search {
    words: String,
}

async fn search(Query(query): Query<Vec<(String, String)>>) -> String {
    let words = query.into_iter().find(|(key, _)| key == "q").map(|(_, value)| value).unwrap_or_default();
    let search = Search { words };
    let items = load_items(&search).await;
    memory_phase!("after_load_items");
    // Spawned work is this request's when it is told so.
    let ranked = tokio::spawn(async move { rank(items) }.in_current_scope()).await.unwrap_or_default();
    cache::remember(&search.words, &ranked);
    ranked.join("\n")
}

async fn load_items(search: &Search) -> Vec<String> {
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    (0..200).map(|number| format!("{} item {number}", search.words)).collect()
}

fn rank(mut items: Vec<String>) -> Vec<String> {
    items.sort_by_key(|item| std::cmp::Reverse(item.len()));
    items
}

/// The live heap for `go tool pprof http://127.0.0.1:8137/debug/heap`.
async fn heap() -> impl IntoResponse {
    let profile = tokio::task::spawn_blocking(exit137_otel::pprof).await.unwrap_or_default();
    ([(CONTENT_TYPE, "application/octet-stream")], profile)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut exit137 = exit137_otel::init();
    let telemetry = set_up(&mut exit137)?;
    let app = Router::new()
        .route("/search", get(search))
        .route("/health", get(|| async { "ok" }))
        .layer(MemoryLayer::new().with_header("x-tenant"))
        .route("/debug/heap", get(heap));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let address = std::env::var("SHOP_ADDRESS").unwrap_or_else(|_| "127.0.0.1:8137".to_owned());
        let listener = tokio::net::TcpListener::bind(address).await?;
        println!("http://{}", listener.local_addr()?);
        let stop = async {
            let _ = tokio::signal::ctrl_c().await;
        };
        axum::serve(listener, app).with_graceful_shutdown(stop).await
    })?;
    telemetry.traces.shutdown()?;
    telemetry.metrics.shutdown()?;
    telemetry.logs.shutdown()?;
    Ok(())
}
