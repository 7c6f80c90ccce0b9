//! One request: begun, worked for, ended. The layers do this by themselves; here it is for everything else.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};
use std::time::{SystemTime, UNIX_EPOCH};

use exit137_journal::{Clock, Kind, Request as Record, Ticket};
use opentelemetry::trace::{SpanContext, SpanId, SpanKind};

use crate::allocator::thread::THREAD;
use crate::context::{ContextId, Counted, Lease, context};
use crate::{operations, parents};

/// What is known of a request when it begins.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Begin<'a> {
    /// Low-cardinality name: `GET /search`.
    pub operation: &'a str,
    /// Kind of its span.
    pub kind: SpanKind,
    /// Its span. Invalid when it is not traced.
    pub span: SpanContext,
    /// Its span's parent; [`SpanId::INVALID`] for a root, or when it is not known.
    pub parent: SpanId,
    /// When it began; now, if `None`.
    pub start: Option<SystemTime>,
    /// Chosen attributes, to be found in the journal after a kill. They share 128 bytes with the name.
    pub attributes: &'a [(&'a str, &'a str)],
}

impl<'a> Begin<'a> {
    /// A request of this operation that answers somebody, with this span.
    pub fn server(operation: &'a str, span: &SpanContext) -> Self {
        let parent = parents::parent_of(span.span_id());
        Self { operation, kind: SpanKind::Server, span: span.clone(), parent, start: None, attributes: &[] }
    }
}

/// What a request has used, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Usage {
    /// Allocated for it.
    pub allocated: u64,
    /// Freed by it, and its large blocks freed by others. Below zero only in the moment in which credits cross.
    pub freed: i64,
    /// Allocated and not freed; negative when it freed what others had allocated.
    pub retained: i64,
    /// The most that it held at once. Known to 64 KiB for each thread that works for it.
    pub peak: u64,
}

impl From<Counted> for Usage {
    fn from(counted: Counted) -> Self {
        Self {
            allocated: counted.allocated,
            freed: counted.freed as i64,
            retained: counted.held(),
            peak: counted.peak,
        }
    }
}

/// A request that is running. It ends when this is dropped.
#[derive(Debug)]
pub struct Request {
    lease: Option<Lease>,
    ticket: Option<Ticket>,
    operation: u16,
}

fn kind_of(kind: &SpanKind) -> Kind {
    match kind {
        SpanKind::Client => Kind::Client,
        SpanKind::Server => Kind::Server,
        SpanKind::Producer => Kind::Producer,
        SpanKind::Consumer => Kind::Consumer,
        SpanKind::Internal => Kind::Internal,
    }
}

impl Request {
    /// Begins a request: it is in the journal from now on, and memory is counted for it wherever its [`Scope`] is entered.
    /// When more requests run than there is room for, the surplus ones are not counted.
    pub fn begin(begin: &Begin<'_>) -> Self {
        Self::begin_as(operations::index_of(begin.operation, kind_of(&begin.kind)), begin)
    }

    /// The same for an operation whose index is known.
    pub(crate) fn begin_as(operation: u16, begin: &Begin<'_>) -> Self {
        operations::started(operation);
        let lease = Lease::new(operation);
        let start = begin.start.and_then(|start| start.duration_since(UNIX_EPOCH).ok());
        let record = Record {
            trace_id: begin.span.trace_id().to_bytes(),
            span_id: begin.span.span_id().to_bytes(),
            parent_span_id: begin.parent.to_bytes(),
            name: begin.operation,
            kind: kind_of(&begin.kind),
            start_unix_nanos: start.map_or_else(Clock::now, |start| start.as_nanos() as u64),
            sampled: begin.span.is_sampled(),
            operation,
            attributes: begin.attributes,
        };
        let ticket = crate::journal().and_then(|journal| journal.start(&record));
        if let Some(lease) = &lease {
            lease.set_mark(ticket.as_ref().map(Ticket::mark));
        }
        Self { lease, ticket, operation }
    }

    /// Index of its operation.
    #[cfg_attr(not(feature = "tracing"), allow(dead_code, reason = "the layer asks"))]
    pub(crate) fn operation(&self) -> u16 {
        self.operation
    }

    /// To be entered by all that works for this request.
    pub fn scope(&self) -> Scope {
        Scope { lease: self.lease.clone() }
    }

    /// [`Scope::enter`], for a layer that polls from a frame of its own: `frame` is the address of something in it.
    #[cfg_attr(not(feature = "tower"), allow(dead_code, reason = "the layer asks"))]
    pub(crate) fn enter_from(&self, frame: usize) -> Entered<'_> {
        Entered::new(self.lease.as_ref(), Some(frame))
    }

    /// What it has used so far.
    pub fn usage(&self) -> Usage {
        THREAD.with(|thread| {
            thread.hand_over();
        });
        self.lease.as_ref().map(|lease| context(lease.id()).counted().into()).unwrap_or_default()
    }

    /// Ends it. Work that it spawned and that still runs is counted for its operation, not for it.
    pub fn end(self) -> Usage {
        self.usage()
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        if let Some(lease) = &self.lease {
            lease.set_mark(None);
        }
        if let (Some(ticket), Some(journal)) = (self.ticket.take(), crate::journal()) {
            journal.end(ticket);
        }
        operations::finished(self.operation);
    }
}

/// For whom work is done. Cheap to clone; hand it to whatever works for the same request.
#[derive(Debug, Clone)]
pub struct Scope {
    lease: Option<Lease>,
}

impl Scope {
    /// The one that this thread is in.
    pub fn current() -> Self {
        Self { lease: Lease::of(THREAD.with(|thread| thread.context())) }
    }

    /// Allocations of this thread are this request's, until the guard is dropped. Not to be held across an `await`:
    /// [`InScope`] enters for each poll.
    pub fn enter(&self) -> Entered<'_> {
        Entered::new(self.lease.as_ref(), None)
    }

    /// Runs a closure in this scope: for `spawn_blocking` and threads.
    pub fn run<T>(&self, work: impl FnOnce() -> T) -> T {
        let _entered = self.enter();
        work()
    }

    #[cfg(feature = "tracing")]
    pub(crate) fn swap_in(&self) -> Option<ContextId> {
        self.lease.as_ref().map(|lease| THREAD.with(|thread| thread.switch(lease.id())))
    }
}

/// While this lives, its thread works for a request.
#[derive(Debug)]
pub struct Entered<'a> {
    /// For whom the thread worked, and from where on its stack.
    previous: Option<(ContextId, usize)>,
    /// Belongs to its thread, and holds on to the scope.
    _scope: PhantomData<(&'a Scope, *const ())>,
}

impl<'a> Entered<'a> {
    fn new(lease: Option<&'a Lease>, frame: Option<usize>) -> Self {
        let enter = |lease: &Lease| {
            THREAD.with(|thread| {
                // Who does not know where it begins may well begin inside of what was known.
                let boundary = thread.set_boundary(frame.unwrap_or_else(|| thread.boundary()));
                (thread.switch(lease.id()), boundary)
            })
        };
        Self { previous: lease.map(enter), _scope: PhantomData }
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        if let Some((context, boundary)) = self.previous {
            THREAD.with(|thread| {
                thread.switch(context);
                thread.set_boundary(boundary);
            });
        }
    }
}

/// A future that is polled, and dropped, in a scope.
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct InScope<F> {
    /// `None` once dropped in the scope. The future is on the heap so that this needs no pinning by hand.
    future: Option<Pin<Box<F>>>,
    scope: Scope,
}

impl<F: Future> Future for InScope<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        let frame = 0u8;
        let _entered = Entered::new(this.scope.lease.as_ref(), Some(std::ptr::from_ref(&frame).addr()));
        match &mut this.future {
            Some(future) => future.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}

impl<F> Drop for InScope<F> {
    fn drop(&mut self) {
        let _entered = self.scope.enter();
        // What the future holds was allocated for the request; so it is freed for it.
        self.future = None;
    }
}

/// Hands the scope on to spawned work: `tokio::spawn(work().in_current_scope())`.
pub trait InCurrentScope: Future + Sized {
    /// Polls this future for the request that the caller works for.
    fn in_current_scope(self) -> InScope<Self> {
        self.in_scope(Scope::current())
    }

    /// Polls this future for the request of `scope`.
    fn in_scope(self, scope: Scope) -> InScope<Self> {
        InScope { future: Some(Box::pin(self)), scope }
    }
}

impl<F: Future> InCurrentScope for F {}
