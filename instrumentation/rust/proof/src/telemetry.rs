//! OpenTelemetry as any service sets it up, with an exporter that throws everything away: what sending costs is the same for
//! all, and not the question.

use opentelemetry::global;
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{BatchSpanProcessor, SdkTracerProvider, SpanData, SpanExporter};

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
pub fn set_up<P: opentelemetry_sdk::trace::SpanProcessor + 'static>(processor: P) -> SdkTracerProvider {
    global::set_text_map_propagator(TraceContextPropagator::new());
    let provider = SdkTracerProvider::builder().with_span_processor(processor).build();
    let _ = provider.tracer("warm");
    global::set_tracer_provider(provider.clone());
    provider
}

/// A batch processor that throws everything away.
pub fn processor() -> BatchSpanProcessor {
    BatchSpanProcessor::builder(Discard).build()
}
