//! OpenTelemetry as any service sets it up: batches, sent as OTLP to `--collector PORT` with the stock exporter. Without a
//! collector the exporter throws everything away.

use opentelemetry::global;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{MetricExporter, Protocol, SpanExporter as OtlpExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{
    BatchSpanProcessor, SdkTracerProvider, SpanData, SpanExporter, SpanProcessor,
};

use crate::number;

/// Counts nothing, keeps nothing.
#[derive(Debug)]
pub struct Discard;

impl SpanExporter for Discard {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        drop(batch);
        Ok(())
    }
}

/// The global provider and propagator, with this processor.
pub fn set_up<P: SpanProcessor + 'static>(processor: P) -> SdkTracerProvider {
    global::set_text_map_propagator(TraceContextPropagator::new());
    let resource = Resource::builder().with_service_name("proof").build();
    let provider =
        SdkTracerProvider::builder().with_resource(resource).with_span_processor(processor).build();
    let _ = provider.tracer("warm");
    global::set_tracer_provider(provider.clone());
    provider
}

fn endpoint(signal: &str) -> Option<String> {
    let port = number("--collector", 0);
    (port != 0).then(|| format!("http://127.0.0.1:{port}/v1/{signal}"))
}

/// A batch processor with its defaults.
pub fn processor() -> BatchSpanProcessor {
    let Some(endpoint) = endpoint("traces") else { return BatchSpanProcessor::builder(Discard).build() };
    let exporter = OtlpExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(endpoint)
        .build();
    match exporter {
        Ok(exporter) => BatchSpanProcessor::builder(exporter).build(),
        Err(error) => panic!("no exporter for spans: {error}"),
    }
}

/// Metrics, which only the service with exit137 has. Without a collector there are none.
pub fn set_up_metrics() -> Option<SdkMeterProvider> {
    let endpoint = endpoint("metrics")?;
    let exporter = MetricExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(endpoint)
        .build();
    let provider = match exporter {
        Ok(exporter) => SdkMeterProvider::builder().with_periodic_exporter(exporter).build(),
        Err(error) => panic!("no exporter for metrics: {error}"),
    };
    global::set_meter_provider(provider.clone());
    Some(provider)
}
