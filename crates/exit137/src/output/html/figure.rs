//! The timeline with everything around the drawing: caption, legend, and the numbers as a table.

use exit137_core::bytes::Bytes;
use exit137_core::time::UnixNanos;
use exit137_core::verdict::{MarkKind, MemoryKind, Timeline};

use super::markup::{Text, put};
use super::svg;
use crate::output::chart::Scale;
use crate::output::{Paper, words};

/// The figure, or a sentence when nothing was recorded.
///
/// `elsewhere` are the kills at which another limit than the one drawn was hit.
pub(super) fn write(
    out: &mut String,
    timeline: &Timeline,
    id: &str,
    headline: &str,
    elsewhere: &[UnixNanos],
    paper: &Paper,
) {
    let Some(scale) = Scale::of(timeline) else {
        out.push_str(
            "<p class=\"soft\">No memory was recorded around this time, so there is no chart.</p>\n",
        );
        return;
    };
    let limit = timeline.limit.iter().map(|&(_, bytes)| bytes).max().map(Bytes);
    let limit = match limit {
        Some(limit) if scale.shows_limit && !elsewhere.is_empty() => {
            format!("with the container's limit of {limit}, which is not the one that was hit")
        }
        Some(limit) if scale.shows_limit => format!("against the limit of {limit}"),
        Some(limit) => format!("the limit of {limit} lies far above"),
        None => "no limit is known".to_owned(),
    };
    let caption = format!("Memory over time, {limit}. {}.", scale.day_label(&paper.zone));
    put!(out, "<figure>\n<figcaption>{}</figcaption>\n", Text(&caption));
    let described = (headline, description(timeline, &scale, paper));
    for frame in [&svg::WIDE, &svg::NARROW] {
        let words = (described.0, described.1.as_str());
        out.push_str(&svg::draw(frame, &scale, (timeline, elsewhere), id, words, &paper.zone));
    }
    legend(out, timeline, &scale);
    samples(out, timeline, paper);
    out.push_str("</figure>\n");
}

fn description(timeline: &Timeline, scale: &Scale, paper: &Paper) -> String {
    let of_kind = |kind| timeline.marks.iter().filter(move |mark| mark.kind == kind);
    let mut parts = Vec::new();
    let kills: Vec<String> =
        of_kind(MarkKind::Kill).take(12).map(|mark| scale.time_of(mark.at, &paper.zone)).collect();
    if !kills.is_empty() {
        parts.push(format!("OOM kills at {}.", kills.join(", ")));
    }
    let starts = of_kind(MarkKind::Start).count();
    if starts > 0 {
        parts.push(format!("{}.", words::count(starts, "container start", "container starts")));
    }
    for series in &timeline.series {
        let values =
            || series.lives.iter().flatten().map(|&(_, bytes)| bytes).filter(|bytes| bytes.is_finite());
        let (low, high) = (values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max));
        if low.is_finite() {
            let kind = words::memory_kind(series.kind);
            parts.push(format!("{kind} between {} and {}.", words::bytes(low), words::bytes(high)));
        }
    }
    parts.push("The numbers are in the table below the drawing.".to_owned());
    parts.join(" ")
}

fn legend(out: &mut String, timeline: &Timeline, scale: &Scale) {
    let mut kinds: Vec<MemoryKind> = timeline.series.iter().map(|series| series.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let line = |color: &str, width: f64, dashes: &str| {
        format!(
            "<path d=\"M0 6H28\" stroke=\"var(--{color})\" stroke-width=\"{width}\" stroke-dasharray=\"{dashes}\"/>"
        )
    };
    let mut entries: Vec<(String, &str)> = kinds
        .into_iter()
        .map(|kind| {
            let (color, width, dashes) = svg::stroke(kind);
            (line(color, width, dashes), words::memory_kind(kind))
        })
        .collect();
    if scale.shows_limit {
        entries.push((line("limit", 1.75, "9 4"), "memory limit"));
    }
    let has = |kind| timeline.marks.iter().any(|mark| mark.kind == kind);
    if has(MarkKind::Kill) {
        let cross = "<path d=\"M9 1l10 10m0-10l-10 10\" stroke=\"var(--kill)\" stroke-width=\"2.5\"/>";
        entries.push((cross.to_owned(), "OOM kill"));
    }
    if has(MarkKind::Start) {
        entries.push(("<path d=\"M14 2l-5 9h10z\" fill=\"var(--start)\"/>".to_owned(), "container start"));
    }
    if has(MarkKind::OtherEnd) {
        let ring = "<circle cx=\"14\" cy=\"6\" r=\"4\" fill=\"none\" stroke=\"var(--start)\" stroke-width=\"1.75\"/>";
        entries.push((ring.to_owned(), "other end"));
    }
    if has(MarkKind::Rollout) {
        let dashes =
            "<path d=\"M14 0V12\" stroke=\"var(--rollout)\" stroke-width=\"1.5\" stroke-dasharray=\"3 3\"/>";
        entries.push((dashes.to_owned(), "new version"));
    }
    if entries.is_empty() {
        return;
    }
    let mut items = String::new();
    for (drawing, name) in entries {
        put!(items, "<li><svg viewBox=\"0 0 28 12\" aria-hidden=\"true\">{drawing}</svg>{name}</li>\n");
    }
    put!(out, "<ul class=\"legend\" aria-label=\"Legend\">\n{items}</ul>\n");
}

fn samples(out: &mut String, timeline: &Timeline, paper: &Paper) {
    let (kinds, rows) = svg::table(timeline);
    if rows.is_empty() {
        return;
    }
    out.push_str("<details class=\"samples\"><summary>The numbers as a table</summary>\n");
    out.push_str("<div class=\"scroll\"><table>\n<caption>The highest value around each time</caption>\n");
    out.push_str("<thead><tr><th scope=\"col\">Time</th>");
    for kind in &kinds {
        put!(out, "<th scope=\"col\" class=\"number\">{}</th>", words::memory_kind(*kind));
    }
    out.push_str("<th scope=\"col\" class=\"number\">limit</th></tr></thead>\n<tbody>\n");
    for (at, cells) in rows {
        put!(out, "<tr><th scope=\"row\" class=\"time\">{}</th>", words::date_time(at, &paper.zone));
        for cell in cells {
            let text = cell.map_or_else(|| "–".to_owned(), words::bytes);
            put!(out, "<td class=\"number\">{text}</td>");
        }
        let limit =
            Scale::limit_at(timeline, at).map_or_else(|| "–".to_owned(), |bytes| Bytes(bytes).to_string());
        put!(out, "<td class=\"number\">{limit}</td></tr>\n");
    }
    out.push_str("</tbody>\n</table></div>\n</details>\n");
}
