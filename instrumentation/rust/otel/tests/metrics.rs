//! What the service's meter provider gets: the histogram of what requests leave behind, and the gauges.
#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Mutex;

use axum::routing::get;
use exit137_otel::{Allocator, Config, MemoryLayer};
use opentelemetry::{KeyValue, Value, global};
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, HistogramDataPoint, MetricData, ResourceMetrics};
use opentelemetry_sdk::metrics::{InMemoryMetricExporter, SdkMeterProvider};
use tower::ServiceExt;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator::system();

static KEPT: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());
const KEPT_BYTES: usize = 300_000;

async fn ask(router: &axum::Router, method: &str, path: &str) {
    let request = http::Request::builder().method(method).uri(path).body(axum::body::Body::empty()).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
}

fn metric<'a>(found: &'a [ResourceMetrics], name: &str) -> &'a AggregatedMetrics {
    let scopes = found.iter().flat_map(ResourceMetrics::scope_metrics);
    let metrics = scopes.flat_map(opentelemetry_sdk::metrics::data::ScopeMetrics::metrics);
    metrics.filter(|metric| metric.name() == name).last().unwrap_or_else(|| panic!("no {name}")).data()
}

fn value(attributes: impl Iterator<Item = KeyValue>, key: &str) -> Option<Value> {
    attributes.into_iter().find(|pair| pair.key.as_str() == key).map(|pair| pair.value)
}

#[test]
fn requests_are_in_a_histogram_by_route_and_growth() {
    let exporter = InMemoryMetricExporter::default();
    let provider = SdkMeterProvider::builder().with_periodic_exporter(exporter.clone()).build();
    global::set_meter_provider(provider.clone());
    let _exit137 = exit137_otel::init_with(&Config::default());
    let keep = || async {
        KEPT.lock().unwrap().push(vec![1; KEPT_BYTES]);
    };
    let router = axum::Router::new()
        .route("/keep/{id}", get(keep).post(keep))
        .route("/calm", get(|| async { "calm" }))
        .layer(MemoryLayer::new());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        for number in 0..5 {
            ask(&router, "GET", &format!("/keep/{number}")).await;
            ask(&router, "POST", &format!("/keep/{number}")).await;
            ask(&router, "GET", "/calm").await;
        }
    });
    provider.force_flush().unwrap();
    let found = exporter.get_finished_metrics().unwrap();

    let AggregatedMetrics::U64(MetricData::Histogram(deltas)) = metric(&found, "request.memory.delta") else {
        panic!("not a histogram: {found:?}");
    };
    let of = |route: &str| -> Vec<&HistogramDataPoint<u64>> {
        let is = |point: &&HistogramDataPoint<u64>| {
            value(point.attributes().cloned(), "http.route") == Some(Value::from(route.to_owned()))
        };
        deltas.data_points().filter(is).collect()
    };
    let kept = of("/keep/{id}");
    let [kept] = kept.as_slice() else { panic!("{kept:?}") };
    // Two operations, one route.
    assert_eq!(kept.count(), 10);
    assert_eq!(value(kept.attributes().cloned(), "memory.grew"), Some(Value::Bool(true)));
    let each = kept.sum() as f64 / 10.0;
    assert!((each - KEPT_BYTES as f64).abs() < 4096.0, "{each}");
    assert_eq!(of("/calm").iter().map(|point| point.count()).sum::<u64>(), 5);

    let AggregatedMetrics::I64(MetricData::Gauge(usage)) = metric(&found, "process.memory.usage") else {
        panic!("not a gauge: {found:?}");
    };
    let mut kinds: Vec<String> = usage
        .data_points()
        .filter(|point| point.value() > 1 << 20)
        .filter_map(|point| value(point.attributes().cloned(), "memory.type"))
        .map(|kind| kind.as_str().into_owned())
        .collect();
    kinds.sort();
    assert_eq!(kinds, ["rss", "vms"]);
    metric(&found, "process.memory.virtual");
    metric(&found, "exit137.heap.live");
}
