//! What is recorded about a kill, as the files of a folder: the same for a verdict, which decodes them, and for a
//! capture, which writes them down. So a capture can be judged elsewhere with the same result.

use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;

use exit137_core::time::UnixNanos;
use exit137_store::{ContainerId, Encoding, Found, Kind, Query, ReadSummary, Store};
use memchr::memmem::Finder;

use super::samples;
use super::subject::Scope;

/// Kinds that are few, and read whole.
const SMALL: &[Kind] =
    &[Kind::Kubernetes, Kind::Metrics, Kind::Samples, Kind::Cgroup, Kind::Journal, Kind::Logs];

/// What callers are searched for. A search looks at all bytes of a window once.
const SEARCHED_BYTES_MAX: u64 = 1 << 30;

/// One piece on its way into a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece<'a> {
    pub(super) kind: Kind,
    pub(super) encoding: Encoding,
    /// Tells kernel logs of different machines apart.
    pub(super) container: ContainerId,
    pub(super) bytes: &'a [u8],
}

/// Which part of the past.
#[derive(Debug, Clone)]
pub(super) struct Window {
    /// How far back lives are looked at.
    pub(super) from: UnixNanos,
    /// Up to when.
    pub(super) to: UnixNanos,
    /// Times around which callers are searched.
    pub(super) kills: Vec<UnixNanos>,
    /// How far around, in nanoseconds.
    pub(super) callers: i64,
    /// Span bytes to read at most, the newest first.
    pub(super) bytes_max: u64,
}

/// What was given.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Gathered {
    /// Bytes of spans.
    pub(super) span_bytes: u64,
    /// Whether there were more.
    pub(super) truncated: bool,
    /// Whether less was kept of what was read than there was: it did not fit into memory.
    pub(super) is_full: bool,
    /// Records that should have been read and were damaged.
    pub(super) damaged: u64,
}

/// Calls `each` with everything that bears on `scope` in `window`. Kernel logs come last, each in order of time.
pub(super) fn gather(
    store: &Store,
    scope: &Scope,
    window: &Window,
    each: &mut dyn FnMut(Piece<'_>),
) -> io::Result<Gathered> {
    let mut gathered = Gathered::default();
    let query = |containers: Vec<ContainerId>, kinds: &[Kind], bytes_max| Query {
        containers: Some(containers),
        from: window.from,
        to: window.to,
        kinds: kinds.to_vec(),
        bytes_max,
        ..Query::default()
    };
    let mut give = |found: Found<'_>| {
        if (found.kind, found.encoding) == (Kind::Samples, Encoding::Samples) {
            let bytes = &samples::export(found.bytes);
            each(Piece { kind: Kind::Metrics, encoding: Encoding::Protobuf, bytes, ..piece(&found) });
        } else {
            each(piece(&found));
        }
        ControlFlow::Continue(())
    };
    // Objects of Kubernetes tell of a state that lasts: what was said before the window is still true in it, and what
    // was heard only after it may tell of it.
    let objects = Query {
        from: UnixNanos(i64::MIN),
        to: UnixNanos(i64::MAX),
        ..query(scope.all(), &[Kind::Kubernetes], u64::MAX)
    };
    gathered.add(store.read(&objects, &mut give)?, false);
    gathered.add(store.read(&query(scope.all(), &SMALL[1..], u64::MAX), &mut give)?, false);
    // Of the replicas that were not killed there is what room is left for.
    for containers in [&scope.killed, &scope.others] {
        let left = window.bytes_max.saturating_sub(gathered.span_bytes);
        if !containers.is_empty() {
            let read = store.read(&query(containers.clone(), &[Kind::Spans], left), &mut give)?;
            gathered.add(read, true);
        }
    }
    mentions(store, scope, window, &mut give, &mut gathered)?;
    kernel_logs(store, scope, window, each)?;
    Ok(gathered)
}

impl Gathered {
    fn add(&mut self, read: ReadSummary, spans: bool) {
        self.span_bytes += if spans { read.bytes } else { 0 };
        self.truncated |= read.truncated;
        self.damaged += read.damaged;
    }
}

fn piece<'a>(found: &Found<'a>) -> Piece<'a> {
    Piece { kind: found.kind, encoding: found.encoding, container: found.container, bytes: found.bytes }
}

/// Spans of others around each kill that mention one of our names: calls that were never answered. And log records of
/// nodes in which the kernel names one of ours.
fn mentions(
    store: &Store,
    scope: &Scope,
    window: &Window,
    give: &mut dyn FnMut(Found<'_>) -> ControlFlow<()>,
    gathered: &mut Gathered,
) -> io::Result<()> {
    let needles: Vec<Finder<'_>> = scope.needles().into_iter().map(Finder::new).collect();
    if needles.is_empty() {
        return Ok(());
    }
    let report = Finder::new("oom-kill:constraint");
    let names_us = |bytes: &[u8]| needles.iter().any(|needle| needle.find(bytes).is_some());
    for (from, to) in joined(&window.kills, window.callers) {
        for kind in [Kind::Spans, Kind::Logs] {
            let (except, kinds) = (scope.all(), vec![kind]);
            let query = Query { except, from, to, kinds, bytes_max: SEARCHED_BYTES_MAX, ..Query::default() };
            let read = store.read(&query, &mut |found| {
                let is_ours = match kind {
                    Kind::Spans => names_us(found.bytes),
                    _ => report.find(found.bytes).is_some() && names_us(&underscored(found.bytes)),
                };
                if is_ours { give(found) } else { ControlFlow::Continue(()) }
            })?;
            gathered.damaged += read.damaged;
        }
    }
    Ok(())
}

/// Windows around `kills`, those that overlap as one, so that no piece is given twice.
fn joined(kills: &[UnixNanos], around: i64) -> Vec<(UnixNanos, UnixNanos)> {
    let mut sorted = kills.to_vec();
    sorted.sort_unstable();
    let mut windows: Vec<(UnixNanos, UnixNanos)> = Vec::new();
    for kill in sorted {
        // Pieces are whole and may reach out of a window: those near each other would share some.
        let (from, to) = (kill - around, kill + around);
        match windows.last_mut() {
            Some(last) if from <= last.1 + around => last.1 = to,
            _ => windows.push((from, to)),
        }
    }
    windows
}

/// Kernel logs with a report that names one of our containers or pods, and when their machines booted.
fn kernel_logs(
    store: &Store,
    scope: &Scope,
    window: &Window,
    each: &mut dyn FnMut(Piece<'_>),
) -> io::Result<()> {
    let needles: Vec<Finder<'_>> = scope.needles().into_iter().map(Finder::new).collect();
    let mut logs: BTreeMap<ContainerId, Vec<(UnixNanos, Encoding, Vec<u8>)>> = BTreeMap::new();
    let mut named: BTreeMap<ContainerId, bool> = BTreeMap::new();
    let query = Query {
        from: window.from,
        to: window.to,
        kinds: vec![Kind::KernelLog],
        bytes_max: SEARCHED_BYTES_MAX,
        ..Query::default()
    };
    store.read(&query, &mut |found| {
        let names_us = needles.iter().any(|needle| needle.find(&underscored(found.bytes)).is_some());
        *named.entry(found.container).or_default() |= names_us;
        if names_us || found.encoding == Encoding::Binary {
            let piece = (found.first, found.encoding, found.bytes.to_vec());
            logs.entry(found.container).or_default().push(piece);
        }
        ControlFlow::Continue(())
    })?;
    for (container, mut pieces) in logs {
        if !named.get(&container).copied().unwrap_or_default() {
            continue;
        }
        pieces.sort_by_key(|(first, ..)| *first);
        for (_, encoding, bytes) in &pieces {
            each(Piece { kind: Kind::KernelLog, encoding: *encoding, container, bytes });
        }
    }
    Ok(())
}

/// The systemd driver writes pods' UIDs with underscores.
fn underscored(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().map(|byte| if *byte == b'_' { b'-' } else { *byte }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_that_touch_are_one() {
        let at = UnixNanos;
        assert_eq!(joined(&[at(100), at(10), at(14)], 5), [(at(5), at(19)), (at(95), at(105))]);
        assert!(joined(&[], 5).is_empty());
    }
}
