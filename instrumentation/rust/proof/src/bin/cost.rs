//! What one operation costs, in nanoseconds: the median of many rounds, single-threaded.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::time::Instant;

use exit137_journal::{Kind, Options, Request as Record};
use exit137_otel::{Allocator, Begin, Config, Request};
use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};
use proof::article;

const ROUNDS: usize = 41;

/// Nanoseconds of one call.
fn measure(name: &str, calls: u32, mut call: impl FnMut()) -> f64 {
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            (0..calls).for_each(|_| call());
            start.elapsed().as_nanos() as f64 / f64::from(calls)
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    let (best, median) = (rounds[0], rounds[ROUNDS / 2]);
    println!("{name:<64} median {median:>9.1} ns   best {best:>9.1} ns");
    median
}

/// How much dearer `with` is than `without`, in nanoseconds a pair of allocation and free: in turns, so that a busy machine
/// slows both, and the least of each.
fn compare(name: &str, calls: u32, bytes: usize, counted: &Allocator) -> f64 {
    let time = |run: &mut dyn FnMut()| {
        let start = Instant::now();
        (0..calls).for_each(|_| run());
        start.elapsed().as_nanos() as f64 / f64::from(calls) / 8.0
    };
    let (mut without, mut with) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..ROUNDS * 5 {
        without = without.min(time(&mut || pairs(&System, bytes)));
        with = with.min(time(&mut || pairs(counted, bytes)));
    }
    println!("{name:<64} {without:.2} ns without, {with:.2} with: {:.2} ns more a pair", with - without);
    with - without
}

/// Allocates and frees blocks as a request does: a few at a time, in order.
fn pairs<A: GlobalAlloc>(allocator: &A, bytes: usize) {
    let layout = Layout::from_size_align(bytes, 8).unwrap_or(Layout::new::<u64>());
    let mut blocks = [std::ptr::null_mut::<u8>(); 8];
    for block in &mut blocks {
        // SAFETY: the layout is not of zero bytes, and each block is given back below with the same layout.
        *block = black_box(unsafe { allocator.alloc(layout) });
    }
    for block in blocks {
        // SAFETY: as above; none is null on a machine that runs benchmarks.
        unsafe { allocator.dealloc(block, layout) };
    }
}

fn main() {
    let folder = std::env::temp_dir().join(format!("exit137-cost-{}", std::process::id()));
    let _ = std::fs::create_dir_all(&folder);
    let (writer, _) = match exit137_journal::create(&folder.join("bench"), &Options::default()) {
        Ok(made) => made,
        Err(error) => return eprintln!("{error}"),
    };
    let record = Record {
        trace_id: [7; 16],
        span_id: [9; 8],
        parent_span_id: [5; 8],
        name: "GET /search",
        kind: Kind::Server,
        start_unix_nanos: 1,
        attributes: &[("url.path", "/search"), ("url.query", "q=shoes&page=2")],
        ..Record::default()
    };
    let journal = measure("journal: start and end of a request", 20_000, || {
        if let Some(ticket) = writer.start(black_box(&record)) {
            writer.end(ticket);
        }
    });
    let ticket = writer.start(&record);
    if let Some(ticket) = &ticket {
        measure("journal: update", 20_000, || writer.set_memory(black_box(ticket.mark()), 1, 2, 3));
        measure("journal: phase", 20_000, || writer.set_phase(black_box(ticket.mark()), "after_load_items"));
    }
    let _exit137 = exit137_otel::init_with(&Config::default().with_journal(folder.join("j")));
    let counted = Allocator::system();
    let mut worst = 0.0f64;
    for bytes in [16, 64, 256, 1024] {
        let more = compare(&format!("allocate and free {bytes} bytes"), 2000, bytes, &counted);
        worst = worst.max(if bytes <= 256 { more } else { 0.0 });
    }
    compare("allocate and free 16 KiB", 1000, 16 << 10, &counted);
    let span = SpanContext::new(
        TraceId::from(7),
        SpanId::from(9),
        TraceFlags::SAMPLED,
        false,
        TraceState::default(),
    );
    let request = measure("request: begin, four polls, end, with its journal", 10_000, || {
        let request = Request::begin(&Begin::server("GET /search", black_box(&span)));
        let scope = request.scope();
        (0..4).for_each(|_| drop(black_box(scope.enter())));
        drop(scope);
        black_box(request.end());
    });
    let reads = measure("the article: two reads of resident size", 2000, || {
        black_box(article::resident_bytes());
        black_box(article::resident_bytes());
    });
    measure("the article, with /proc/self/status", 1000, || {
        black_box(std::fs::read_to_string("/proc/self/status").ok());
        black_box(std::fs::read_to_string("/proc/self/status").ok());
    });
    println!(
        "journal start and end {journal:.0} ns (bar 150); small allocation {worst:.2} ns a pair (bar 5);"
    );
    println!(
        "| measuring a request, in a loop | {:.2} µs | the article's reads {:.2} µs | 1/{:.0} (bar 1/50) |",
        request / 1000.0,
        reads / 1000.0,
        reads / request
    );
    let _ = std::fs::remove_dir_all(&folder);
}
