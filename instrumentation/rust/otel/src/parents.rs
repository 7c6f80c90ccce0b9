//! Whose child a span is. OpenTelemetry does not tell that of a running span, except to the processor that sees it start:
//! so the last few of each thread are remembered, until the layer asks, on the same thread and moments later.

use std::cell::Cell;

use opentelemetry::trace::SpanId;

/// Spans of a thread that are remembered.
const REMEMBERED: usize = 8;

thread_local! {
    /// Span and parent, in a ring; and how many there were so far.
    static LAST: [Cell<(u64, u64)>; REMEMBERED] = const { [const { Cell::new((0, 0)) }; REMEMBERED] };
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

/// A span has started.
pub(crate) fn remember(span: SpanId, parent: SpanId) {
    let count = COUNT.get();
    COUNT.set(count.wrapping_add(1));
    let pair = (u64::from_be_bytes(span.to_bytes()), u64::from_be_bytes(parent.to_bytes()));
    LAST.with(|last| last[count % REMEMBERED].set(pair));
}

/// The parent of a span that started on this thread not long ago.
pub(crate) fn parent_of(span: SpanId) -> SpanId {
    let wanted = u64::from_be_bytes(span.to_bytes());
    let find = |last: &[Cell<(u64, u64)>; REMEMBERED]| {
        last.iter().map(Cell::get).find(|(span, _)| *span == wanted && wanted != 0)
    };
    LAST.with(find).map_or(SpanId::INVALID, |(_, parent)| SpanId::from(parent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_spans_are_known() {
        for number in 1..=9u64 {
            remember(SpanId::from(number), SpanId::from(number + 100));
        }
        assert_eq!(parent_of(SpanId::from(9)), SpanId::from(109));
        assert_eq!(parent_of(SpanId::from(1)), SpanId::INVALID);
        assert_eq!(parent_of(SpanId::INVALID), SpanId::INVALID);
    }
}
