//! The timeline as a drawing: memory by kind, the limit, what happened when, and below it the requests in
//! flight on the same time axis. Drawn twice, wide and narrow, because text that shrinks cannot be read.

use exit137_core::bytes::Bytes;
use exit137_core::time::UnixNanos;
use exit137_core::verdict::{MarkKind, MemoryKind, Timeline, TimelineSeries};
use jiff::tz::TimeZone;

use super::marks;
use super::markup::{Text, put};
use crate::output::chart::{KILL_LINES_MAX, Scale};
use crate::output::words;

/// Sizes of one drawing, in its own units.
pub(super) struct Frame {
    /// CSS class that shows it on wide or narrow screens.
    pub(super) class: &'static str,
    pub(super) width: f64,
    pub(super) left: f64,
    pub(super) right: f64,
    /// Room for the labels of marks.
    pub(super) top: f64,
    pub(super) plot: f64,
    /// Height of the strip of requests in flight.
    strip: f64,
    time_ticks: usize,
    /// Whether lines carry their names at their ends.
    names: bool,
}

pub(super) const WIDE: Frame = Frame {
    class: "wide",
    width: 880.0,
    left: 66.0,
    right: 136.0,
    top: 46.0,
    plot: 280.0,
    strip: 64.0,
    time_ticks: 8,
    names: true,
};

pub(super) const NARROW: Frame = Frame {
    class: "narrow",
    width: 360.0,
    left: 60.0,
    right: 10.0,
    top: 46.0,
    plot: 230.0,
    strip: 52.0,
    time_ticks: 5,
    names: false,
};

/// Height of a plot without lines.
const PLOT_WITHOUT_MEMORY: f64 = 84.0;

/// Between the plot and the strip: the labels of the time axis.
const AXIS: f64 = 26.0;

/// With more pods than this, their lines are drawn thin.
const PODS_BOLD_MAX: usize = 3;

/// Title line above the strip.
const STRIP_TITLE: f64 = 22.0;

impl Frame {
    pub(super) fn plot_width(&self) -> f64 {
        self.width - self.left - self.right
    }
    pub(super) fn bottom(&self) -> f64 {
        self.top + self.plot
    }
    pub(super) fn x(&self, share: f64) -> f64 {
        self.left + share * self.plot_width()
    }
    pub(super) fn y(&self, share: f64) -> f64 {
        self.bottom() - share * self.plot
    }
}

/// The drawing, described by `title` and `description` for those who cannot see it.
pub(super) fn draw(
    frame: &Frame,
    scale: &Scale,
    (timeline, elsewhere): (&Timeline, &[UnixNanos]),
    id: &str,
    (title, description): (&str, &str),
    zone: &TimeZone,
) -> String {
    // Without memory there is only the limit to draw, and what happened when.
    let plot = if timeline.series.is_empty() { PLOT_WITHOUT_MEMORY } else { frame.plot };
    let frame = &Frame { plot, ..*frame };
    let has_strip = timeline.in_flight.iter().any(|&(_, requests)| requests > 0.0);
    let strip = if has_strip { STRIP_TITLE + frame.strip } else { 0.0 };
    let height = frame.bottom() + AXIS + strip + 4.0;
    let (class, width) = (frame.class, frame.width);
    let mut out = String::new();
    put!(out, "<svg class=\"{class}\" viewBox=\"0 0 {width} {height}\" role=\"img\" ");
    put!(out, "aria-labelledby=\"{id}-{class}-t {id}-{class}-d\">\n");
    put!(out, "<title id=\"{id}-{class}-t\">{}</title>\n", Text(title));
    put!(out, "<desc id=\"{id}-{class}-d\">{}</desc>\n", Text(description));
    grid(&mut out, frame, scale, zone, has_strip.then_some(height - 4.0));
    lines(&mut out, frame, scale, timeline);
    if scale.shows_limit {
        limit(&mut out, frame, scale, timeline);
    }
    marks::draw(&mut out, frame, scale, (timeline, elsewhere), zone);
    if frame.names {
        names(&mut out, frame, scale, timeline);
    } else if scale.shows_limit {
        limit_name(&mut out, frame, scale, timeline);
    }
    if has_strip {
        in_flight(&mut out, frame, scale, timeline, height - 4.0);
    }
    out.push_str("</svg>\n");
    out
}

fn grid(out: &mut String, frame: &Frame, scale: &Scale, zone: &TimeZone, strip_bottom: Option<f64>) {
    let (left, right) = (frame.left, frame.x(1.0));
    let ticks = if frame.plot > PLOT_WITHOUT_MEMORY { 5 } else { 2 };
    for (bytes, label) in scale.byte_ticks(ticks) {
        let Some(y) = scale.y(bytes).map(|share| frame.y(share)) else { continue };
        put!(out, "<path d=\"M{left} {y:.1}H{right}\" stroke=\"var(--line)\" fill=\"none\"/>");
        put!(out, "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>\n", left - 8.0, y + 4.5);
    }
    let bottom = frame.bottom();
    for (at, label) in scale.time_ticks(frame.time_ticks, zone) {
        let x = frame.x(scale.x(at));
        let half = label.len() as f64 * 3.6;
        let text_x = x.clamp(half, frame.width - half);
        put!(out, "<path d=\"M{x:.1} {bottom}v5\" stroke=\"var(--soft)\" fill=\"none\"/>");
        if let Some(strip_bottom) = strip_bottom {
            let from = strip_bottom - frame.strip;
            put!(out, "<path d=\"M{x:.1} {from}V{strip_bottom}\" stroke=\"var(--line)\" fill=\"none\"/>");
        }
        put!(
            out,
            "<text x=\"{text_x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>\n",
            bottom + 20.0
        );
    }
    put!(out, "<path d=\"M{left} {bottom}H{right}\" stroke=\"var(--soft)\" fill=\"none\"/>\n");
}

/// Colour, width and dashes of a kind: told apart without colour, too.
pub(super) fn stroke(kind: MemoryKind) -> (&'static str, f64, &'static str) {
    match kind {
        MemoryKind::Usage => ("usage", 1.75, ""),
        MemoryKind::WorkingSet => ("working-set", 2.5, ""),
        MemoryKind::Anon => ("anon", 1.75, "7 3"),
        MemoryKind::File => ("file", 1.75, "2 3"),
        MemoryKind::Shmem => ("shmem", 1.75, "8 3 2 3"),
        MemoryKind::Kernel => ("kernel", 1.5, "1 3"),
        MemoryKind::ProcessRss => ("process-rss", 1.5, "4 2"),
    }
}

fn lines(out: &mut String, frame: &Frame, scale: &Scale, timeline: &Timeline) {
    for series in &timeline.series {
        let (color, width, dashes) = stroke(series.kind);
        // The lines of many pods lie on each other.
        let pods = timeline.series.iter().filter(|other| other.kind == series.kind).count();
        let width = if pods > PODS_BOLD_MAX { 1.0 } else { width };
        for life in &series.lives {
            let points: Vec<(f64, f64)> = life
                .iter()
                .filter_map(|&(at, bytes)| Some((frame.x(scale.x(at)), frame.y(scale.y(bytes)?))))
                .collect();
            let (Some(first), Some(last)) = (points.first(), points.last()) else { continue };
            let mut path = String::new();
            for (index, (x, y)) in points.iter().enumerate() {
                put!(path, "{}{x:.1} {y:.1}", if index == 0 { 'M' } else { 'L' });
            }
            if points.len() == 1 {
                let (x, y) = first;
                put!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.5\" fill=\"var(--{color})\"/>\n");
                continue;
            }
            if series.kind == MemoryKind::Usage {
                let bottom = frame.bottom();
                put!(out, "<path d=\"{path}L{:.1} {bottom}L{:.1} {bottom}Z\" ", last.0, first.0);
                put!(out, "fill=\"var(--usage)\" fill-opacity=\".1\"/>\n");
            }
            put!(out, "<path d=\"{path}\" fill=\"none\" stroke=\"var(--{color})\" stroke-width=\"{width}\" ");
            put!(out, "stroke-linejoin=\"round\" stroke-dasharray=\"{dashes}\"/>\n");
        }
    }
}

fn limit(out: &mut String, frame: &Frame, scale: &Scale, timeline: &Timeline) {
    let mut path = String::new();
    for (index, &(at, bytes)) in timeline.limit.iter().enumerate() {
        let Some(y) = scale.y(bytes as f64).map(|share| frame.y(share)) else { continue };
        // Before the first statement the limit was most likely the same; the page says no more than that.
        let x = if index == 0 { frame.left } else { frame.x(scale.x(at)) };
        if index == 0 { put!(path, "M{x:.1} {y:.1}") } else { put!(path, "H{x:.1}V{y:.1}") }
    }
    if path.is_empty() {
        return;
    }
    put!(out, "<path d=\"{path}H{:.1}\" fill=\"none\" stroke=\"var(--limit)\" ", frame.x(1.0));
    put!(out, "stroke-width=\"1.75\" stroke-dasharray=\"9 4\"/>\n");
}

/// On a narrow drawing the limit is named on its own line, over everything else.
fn limit_name(out: &mut String, frame: &Frame, scale: &Scale, timeline: &Timeline) {
    let Some(&(_, bytes)) = timeline.limit.last() else { return };
    let y = scale.y(bytes as f64).map_or(frame.top, |share| frame.y(share)) - 5.0;
    let x = frame.left + 6.0;
    put!(out, "<text class=\"halo ink-limit\" x=\"{x:.1}\" y=\"{y:.1}\">limit {}</text>\n", Bytes(bytes));
}

/// The last value of a kind, for the place of its name.
fn last_value(series: &TimelineSeries) -> Option<f64> {
    let last = series.lives.iter().filter_map(|life| life.last()).max_by_key(|(at, _)| *at)?;
    last.1.is_finite().then_some(last.1)
}

/// Names beside the ends of the lines, pushed apart where they would overlap.
fn names(out: &mut String, frame: &Frame, scale: &Scale, timeline: &Timeline) {
    const LINE: f64 = 15.0;
    let mut labels: Vec<(f64, String, &'static str)> = Vec::new();
    for series in &timeline.series {
        let (color, _, _) = stroke(series.kind);
        let y = last_value(series).and_then(|bytes| scale.y(bytes)).map(|share| frame.y(share));
        let seen = labels.iter().any(|(_, _, other)| *other == color);
        if let (Some(y), false) = (y, seen) {
            labels.push((y, words::memory_kind(series.kind).to_owned(), color));
        }
    }
    if let (true, Some(&(_, bytes))) = (scale.shows_limit, timeline.limit.last()) {
        let y = scale.y(bytes as f64).map_or(frame.top, |share| frame.y(share));
        labels.push((y, format!("limit {}", Bytes(bytes)), "limit"));
    }
    labels.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut lowest = frame.top - LINE;
    for label in &mut labels {
        label.0 = label.0.max(lowest + LINE);
        lowest = label.0;
    }
    // Pushed over the bottom edge, all of them move up again.
    let mut highest = frame.bottom() + LINE;
    for label in labels.iter_mut().rev() {
        label.0 = label.0.min(highest - LINE);
        highest = label.0;
    }
    for (y, name, color) in labels {
        let x = frame.x(1.0) + 8.0;
        put!(out, "<text class=\"ink-{color}\" x=\"{x:.1}\" y=\"{:.1}\">{name}</text>\n", y + 4.5);
    }
}

fn in_flight(out: &mut String, frame: &Frame, scale: &Scale, timeline: &Timeline, bottom: f64) {
    let finite = || timeline.in_flight.iter().filter(|(_, requests)| requests.is_finite());
    let peak = finite().map(|&(_, requests)| requests).fold(1.0, f64::max);
    let y = |requests: f64| bottom - (requests.max(0.0) / peak) * (frame.strip - 2.0);
    let mut path = String::new();
    let mut last: Option<(f64, f64)> = None;
    for &(at, requests) in finite() {
        let (x, y) = (frame.x(scale.x(at)), y(requests));
        if last.is_some() {
            put!(path, "H{x:.1}V{y:.1}")
        } else {
            put!(path, "M{x:.1} {bottom}V{y:.1}")
        }
        last = Some((x, y));
    }
    let (left, right, top) = (frame.left, frame.x(1.0), bottom - frame.strip);
    let end = last.map_or(right, |(x, _)| x);
    put!(out, "<path d=\"{path}H{end:.1}V{bottom}Z\" fill=\"var(--in-flight)\" fill-opacity=\".35\" ");
    put!(out, "stroke=\"var(--in-flight)\" stroke-width=\"1\"/>\n");
    put!(out, "<path d=\"M{left} {bottom}H{right}\" stroke=\"var(--soft)\" fill=\"none\"/>\n");
    put!(out, "<text x=\"{left}\" y=\"{:.1}\">requests in flight</text>\n", top - 6.0);
    put!(out, "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{peak:.0}</text>\n", left - 8.0, top + 9.0);
    put!(out, "<text x=\"{:.1}\" y=\"{bottom:.1}\" text-anchor=\"end\">0</text>\n", left - 8.0);
    let kills: Vec<_> = timeline.marks.iter().filter(|mark| mark.kind == MarkKind::Kill).collect();
    for mark in kills.iter().filter(|_| kills.len() <= KILL_LINES_MAX) {
        let x = frame.x(scale.x(mark.at));
        put!(out, "<path d=\"M{x:.1} {top}V{bottom}\" stroke=\"var(--kill)\" stroke-opacity=\".6\"/>\n");
    }
}

/// A table of the same numbers, for screen readers and for copying: at most so many rows.
pub(super) const TABLE_ROWS_MAX: i64 = 24;

/// One row: when, and the highest value of each kind around that time.
pub(super) type TableRow = (UnixNanos, Vec<Option<f64>>);

/// The kinds that the timeline has, and rows evenly spread over it.
pub(super) fn table(timeline: &Timeline) -> (Vec<MemoryKind>, Vec<TableRow>) {
    let mut kinds: Vec<MemoryKind> = timeline.series.iter().map(|series| series.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let length = timeline.to.since(timeline.from).max(1);
    let step = (length / TABLE_ROWS_MAX).max(1);
    let mut rows: Vec<TableRow> = (0..TABLE_ROWS_MAX)
        .map(|row| (timeline.from + step.saturating_mul(row), vec![None; kinds.len()]))
        .collect();
    for series in &timeline.series {
        let Ok(column) = kinds.binary_search(&series.kind) else { continue };
        for &(at, bytes) in series.lives.iter().flatten().filter(|(_, bytes)| bytes.is_finite()) {
            let row = (at.since(timeline.from) / step).clamp(0, TABLE_ROWS_MAX - 1) as usize;
            let cell: &mut Option<f64> = &mut rows[row].1[column];
            *cell = Some(cell.map_or(bytes, |seen| seen.max(bytes)));
        }
    }
    rows.retain(|(_, cells)| cells.iter().any(Option::is_some));
    (kinds, rows)
}
