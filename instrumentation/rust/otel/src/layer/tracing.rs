//! A layer for `tracing`: spans that begin a request count memory for it, whoever enters them.

use std::cell::RefCell;

use opentelemetry::Context as OtelContext;
use opentelemetry::trace::{SpanContext, SpanKind, TraceContextExt};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Dispatch, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::{LookupSpan, SpanRef};

use crate::allocator::thread::THREAD;
use crate::context::ContextId;
use crate::request::{Begin, Request, Scope};
use crate::{metrics, parents, phase};

/// Counts memory for spans that begin a request: those with `otel.kind` `server` or `consumer`, and those without a
/// parent. Spans inside them work for the same request, on whatever thread they are entered.
///
/// Add it before the OpenTelemetry layer, so that it sees a span's end first:
/// `registry().with(TracingMemoryLayer::new()).with(tracing_opentelemetry::layer())`.
#[derive(Debug, Default)]
pub struct TracingMemoryLayer {
    dispatch: std::sync::OnceLock<tracing::dispatcher::WeakDispatch>,
}

impl TracingMemoryLayer {
    /// With defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// The OpenTelemetry context of a span, if an OpenTelemetry layer keeps one.
    fn otel_context(&self, id: &Id) -> Option<OtelContext> {
        let dispatch: Dispatch = self.dispatch.get()?.upgrade()?;
        tracing_opentelemetry::get_otel_context(id, &dispatch)
    }
}

/// A span that begins a request, until it is first entered: by then its ids are known.
struct Waiting {
    operation: String,
    kind: SpanKind,
}

/// A span that began a request.
struct Running {
    request: Request,
    operation: String,
}

thread_local! {
    /// For whom this thread worked before it entered each span that it is in.
    static BEFORE: RefCell<Vec<(u64, ContextId)>> = const { RefCell::new(Vec::new()) };
}

#[derive(Default)]
struct Fields {
    kind: Option<SpanKind>,
    name: Option<String>,
}

impl Fields {
    fn take(&mut self, field: &Field, value: &str) {
        match field.name() {
            "otel.kind" if value.eq_ignore_ascii_case("server") => self.kind = Some(SpanKind::Server),
            "otel.kind" if value.eq_ignore_ascii_case("consumer") => self.kind = Some(SpanKind::Consumer),
            "otel.name" => self.name = Some(value.to_owned()),
            _ => {}
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name().starts_with("otel.") {
            self.take(field, format!("{value:?}").trim_matches('"'));
        }
    }
}

impl TracingMemoryLayer {
    fn begin<S: Subscriber + for<'a> LookupSpan<'a>>(&self, span: &SpanRef<'_, S>) {
        let Some(waiting) = span.extensions_mut().remove::<Waiting>() else { return };
        let context = self.otel_context(&span.id());
        let ids = context.map_or(SpanContext::NONE, |context| context.span().span_context().clone());
        let request = Request::begin(&Begin {
            operation: &waiting.operation,
            kind: waiting.kind,
            parent: parents::parent_of(ids.span_id()),
            span: ids,
            start: None,
            attributes: &[],
        });
        let scope = request.scope();
        let mut extensions = span.extensions_mut();
        extensions.replace(scope);
        extensions.replace(Running { request, operation: waiting.operation });
    }
}

impl TracingMemoryLayer {
    /// The request that a span works for: its own, else that of the nearest span around it.
    fn scope_of<S: Subscriber + for<'a> LookupSpan<'a>>(&self, span: &SpanRef<'_, S>) -> Option<Scope> {
        for around in span.scope() {
            self.begin(&around);
            let found = around.extensions().get::<Scope>().cloned();
            if let Some(scope) = found {
                if around.id() != span.id() {
                    span.extensions_mut().replace(scope.clone());
                }
                return Some(scope);
            }
        }
        None
    }
}

impl<S> Layer<S> for TracingMemoryLayer
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_register_dispatch(&self, dispatch: &Dispatch) {
        // A layer that is given to two subscribers speaks to the first one.
        let _ = self.dispatch.set(dispatch.downgrade());
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if fields.kind.is_none() && span.parent().is_some() {
            return;
        }
        let operation = fields.name.unwrap_or_else(|| span.name().to_owned());
        let kind = fields.kind.unwrap_or(SpanKind::Internal);
        span.extensions_mut().insert(Waiting { operation, kind });
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let Some(before) = self.scope_of(&span).and_then(|scope| scope.swap_in()) else { return };
        BEFORE.with(|stack| {
            if let Ok(mut stack) = stack.try_borrow_mut() {
                stack.push((id.into_u64(), before));
            }
        });
    }

    fn on_exit(&self, id: &Id, _context: Context<'_, S>) {
        BEFORE.with(|stack| {
            let Ok(mut stack) = stack.try_borrow_mut() else { return };
            let Some(at) = stack.iter().rposition(|(entered, _)| *entered == id.into_u64()) else { return };
            let (_, before) = stack.remove(at);
            // Spans that are left out of order: whoever was entered later still counts for itself.
            if at == stack.len() {
                THREAD.with(|thread| thread.switch(before));
            } else if let Some((_, later)) = stack.get_mut(at) {
                *later = before;
            }
        });
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else { return };
        let running = span.extensions_mut().remove::<Running>();
        let Some(Running { request, operation }) = running else { return };
        let index = request.operation();
        let usage = request.end();
        if let Some(otel) = self.otel_context(&id) {
            phase::describe_request(&otel.span(), &usage, None);
        }
        metrics::record(index, || operation.into(), usage.retained);
    }
}
