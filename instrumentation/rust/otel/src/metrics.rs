//! `request.memory.delta` and `process.memory.usage`, through whatever meter provider the service has set.

use std::borrow::Cow;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use exit137_journal::OTHER;
use opentelemetry::metrics::{BoundHistogram, Histogram, ObservableGauge, ObservableUpDownCounter};
use opentelemetry::{KeyValue, global};

use crate::operations;

/// Kept, because an observable instrument lives as long as its handle.
struct Instruments {
    delta: Histogram<u64>,
    _usage: ObservableGauge<i64>,
    _virtual: ObservableUpDownCounter<i64>,
    _live: ObservableGauge<i64>,
}

static INSTRUMENTS: OnceLock<Instruments> = OnceLock::new();

/// Resident and virtual size of this process in bytes; `None` where there is no procfs.
fn sizes() -> Option<(i64, i64)> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let mut pages = text.split_ascii_whitespace().map(|number| number.parse::<i64>().unwrap_or(0));
    let page = page_bytes();
    let (size, resident) = (pages.next()?, pages.next()?);
    Some((resident.saturating_mul(page), size.saturating_mul(page)))
}

#[allow(unsafe_code)]
fn page_bytes() -> i64 {
    // SAFETY: sysconf takes a number and touches no memory of ours.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    if bytes > 0 { bytes as i64 } else { 4096 }
}

fn make() -> Instruments {
    let meter = global::meter("exit137");
    let by_kind = |kind: &'static str| [KeyValue::new("memory.type", kind)];
    Instruments {
        delta: meter
            .u64_histogram("request.memory.delta")
            .with_unit("By")
            .with_description("Memory that a request left behind, or freed of what others had allocated")
            .with_boundaries(vec![
                0.0,
                1024.0,
                4096.0,
                16_384.0,
                65_536.0,
                262_144.0,
                1_048_576.0,
                4_194_304.0,
                16_777_216.0,
                67_108_864.0,
                268_435_456.0,
            ])
            .build(),
        _usage: meter
            .i64_observable_gauge("process.memory.usage")
            .with_unit("By")
            .with_description("Resident and virtual size of the process")
            .with_callback(move |observer| {
                // Callbacks come first in a collection, so the histogram has it all when it is read.
                hand_over();
                if let Some((resident, size)) = sizes() {
                    observer.observe(resident, &by_kind("rss"));
                    observer.observe(size, &by_kind("vms"));
                }
            })
            .build(),
        _virtual: meter
            .i64_observable_up_down_counter("process.memory.virtual")
            .with_unit("By")
            .with_description("Virtual size of the process")
            .with_callback(|observer| {
                if let Some((_, size)) = sizes() {
                    observer.observe(size, &[]);
                }
            })
            .build(),
        _live: meter
            .i64_observable_gauge("exit137.heap.live")
            .with_unit("By")
            .with_description("Live heap, estimated from samples")
            .with_callback(|observer| observer.observe(crate::heap::live_bytes() as i64, &[]))
            .build(),
    }
}

/// The histogram for each operation, by whether memory grew. To look these two attributes up for each request would cost more
/// than all the counting.
static BOUND: [[OnceLock<BoundHistogram<u64>>; 2]; operations::ROWS] =
    [const { [const { OnceLock::new() }; 2] }; operations::ROWS];

/// Changes from here on go into the histogram one by one, as they are. Of smaller ones, which nearly all are, only number and sum are
/// kept until somebody collects: the histogram has a lock, for which all threads would queue with each request.
const ORDINARY_BELOW: u64 = 4096;

/// Which of the histogram's first buckets an ordinary change is in: 0, to 1024, to 4096.
fn bucket(change: u64) -> usize {
    usize::from(change > 0) + usize::from(change > 1024)
}

/// Number of changes (26 bits) and their sum (38), so that both change at once: 64 million are not reached between two collections.
const SUM_BITS: u32 = 38;

/// By whether memory grew, and bucket: one line of the cache.
#[repr(align(64))]
struct Ordinary([[AtomicU64; 4]; 2]);

/// As in [`operations`], threads share with every eighth other.
const SHARES: usize = 8;

static ORDINARY: [[Ordinary; operations::ROWS]; SHARES] =
    [const { [const { Ordinary([const { [const { AtomicU64::new(0) }; 4] }; 2]) }; operations::ROWS] };
        SHARES];

/// Puts what was kept into the histogram: as many changes as there were, of the same sum, in the same bucket. Called when somebody
/// collects, before the histogram is read.
fn hand_over() {
    let all = ORDINARY.iter().flat_map(|share| share.iter().zip(&BOUND));
    for (Ordinary(kept), bound) in all {
        for (kept, bound) in kept.iter().zip(bound) {
            let Some(bound) = bound.get() else { continue };
            for kept in kept {
                let kept = kept.swap(0, Ordering::Relaxed);
                let (count, sum) = (kept >> SUM_BITS, kept & ((1 << SUM_BITS) - 1));
                let more = sum.checked_rem(count).unwrap_or(0);
                (0..count).for_each(|number| bound.record(sum / count + u64::from(number < more)));
            }
        }
    }
}

/// Counts a finished request of the operation with this index, which has this route. The instruments are made at the first one:
/// by then the service has set its provider.
pub(crate) fn record(operation: u16, route: impl FnOnce() -> Cow<'static, str>, retained: i64) {
    let (grew, change) = (retained > 0, retained.unsigned_abs());
    let attributes = || [KeyValue::new("http.route", route()), KeyValue::new("memory.grew", grew)];
    let histogram = || &INSTRUMENTS.get_or_init(make).delta;
    match BOUND.get(usize::from(operation)) {
        // Those that found no row in the table of operations have nothing in common.
        Some(bound) if operation != OTHER => {
            let bound = bound[usize::from(grew)].get_or_init(|| histogram().bind(&attributes()));
            if change >= ORDINARY_BELOW {
                return bound.record(change);
            }
            let share = &ORDINARY[exit137_journal::thread_number() % SHARES];
            let Ordinary(kept) = &share[usize::from(operation)];
            kept[usize::from(grew)][bucket(change)].fetch_add(1 << SUM_BITS | change, Ordering::Relaxed);
        }
        _ => histogram().record(change, &attributes()),
    }
}
