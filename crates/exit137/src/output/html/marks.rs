//! Kills, starts, rollouts and other ends on the time axis, with labels that never lie on each other.

use exit137_core::time::UnixNanos;
use exit137_core::verdict::{MarkKind, MemoryKind, Timeline};
use jiff::tz::TimeZone;

use super::markup::{Text, put};
use super::svg::Frame;
use crate::output::chart::{self, KILL_LINES_MAX, MarkGroup, Scale};
use crate::output::clean;

/// Width of a letter of a label, about.
const LETTER: f64 = 7.6;

/// Between two labels in a row.
const GAP: f64 = 10.0;

/// Kills nearer than this share one label.
const GROUP_WIDTH: f64 = 26.0;

/// Columns of a label that comes from outside.
const LABEL_COLUMNS_MAX: usize = 22;

struct Label {
    x: f64,
    text: String,
    color: &'static str,
}

/// Draws all marks.
pub(super) fn draw(
    out: &mut String,
    frame: &Frame,
    scale: &Scale,
    (timeline, elsewhere): (&Timeline, &[UnixNanos]),
    zone: &TimeZone,
) {
    let bottom = frame.bottom();
    let kills = timeline.marks.iter().filter(|mark| mark.kind == MarkKind::Kill).count();
    // Half the size of a cross, and how thick it is.
    let (arm, width) = if kills > KILL_LINES_MAX { (3.0, 1.5) } else { (5.0, 2.5) };
    for mark in &timeline.marks {
        let x = frame.x(scale.x(mark.at));
        match mark.kind {
            MarkKind::Start => {
                let y = bottom - 1.0;
                put!(out, "<path d=\"M{x:.1} {:.1}l-4.5 8h9z\" fill=\"var(--start)\"/>\n", y - 7.0);
            }
            MarkKind::OtherEnd => {
                let y = bottom - 5.0;
                put!(
                    out,
                    "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"none\" stroke=\"var(--start)\" "
                );
                put!(out, "stroke-width=\"1.75\"/>\n");
            }
            MarkKind::Rollout => {
                let top = frame.top - 4.0;
                put!(out, "<path d=\"M{x:.1} {top:.1}V{bottom}\" stroke=\"var(--rollout)\" ");
                put!(out, "stroke-width=\"1.5\" stroke-dasharray=\"3 3\"/>\n");
            }
            MarkKind::Kill => {
                if kills <= KILL_LINES_MAX {
                    let top = frame.top - 4.0;
                    put!(out, "<path d=\"M{x:.1} {top:.1}V{bottom}\" stroke=\"var(--kill)\" ");
                    put!(out, "stroke-opacity=\".6\"/>");
                }
                let y = height(scale, timeline, elsewhere, mark.at).map_or(bottom, |share| frame.y(share));
                let (left, top, side) = (x - arm, y - arm, arm * 2.0);
                put!(out, "<path d=\"M{left:.1} {top:.1}l{side} {side}m0 -{side}l-{side} {side}\" ");
                put!(out, "stroke=\"var(--kill)\" stroke-width=\"{width}\" stroke-linecap=\"round\"/>\n");
            }
        }
    }
    labels(out, frame, scale, timeline, zone);
}

/// The cross stands where memory met the limit; at the last memory measured, when it was another limit that was met.
/// Without either, on the axis.
fn height(scale: &Scale, timeline: &Timeline, elsewhere: &[UnixNanos], at: UnixNanos) -> Option<f64> {
    if !elsewhere.contains(&at) {
        let limit = Scale::limit_at(timeline, at).filter(|_| scale.shows_limit);
        return scale.y(limit? as f64);
    }
    let kinds = [MemoryKind::WorkingSet, MemoryKind::Usage, MemoryKind::Anon, MemoryKind::ProcessRss];
    let last_of = |kind| {
        let of_kind = timeline.series.iter().filter(move |series| series.kind == kind);
        let points = of_kind.flat_map(|series| series.lives.iter().flatten());
        points.filter(|(time, _)| *time <= at).max_by_key(|(time, _)| *time).map(|(_, bytes)| *bytes)
    };
    scale.y(kinds.into_iter().find_map(last_of)?)
}

fn labels(out: &mut String, frame: &Frame, scale: &Scale, timeline: &Timeline, zone: &TimeZone) {
    let gap = GROUP_WIDTH / frame.plot_width();
    let groups = |kind| chart::group_marks(scale, &timeline.marks, kind, gap);
    let mut wanted: Vec<Label> = Vec::new();
    wanted.extend(groups(MarkKind::Rollout).iter().map(|group| {
        let labels: Vec<&str> = group
            .marks
            .iter()
            .filter_map(|&index| timeline.marks.get(index))
            .map(|mark| mark.label.as_str())
            .collect();
        let text = clean::shorten(&labels.join(", "), LABEL_COLUMNS_MAX);
        Label { x: frame.x(group.x), text: format!("▾ {text}"), color: "rollout" }
    }));
    wanted.extend(groups(MarkKind::Kill).iter().map(|group| kill_label(frame, scale, group, timeline, zone)));
    // Two rows. Rollouts are few and come first; kills without room for a label are in their table.
    let mut rows: [Vec<(f64, f64)>; 2] = [Vec::new(), Vec::new()];
    for label in wanted {
        let half = label.text.chars().count() as f64 * LETTER / 2.0;
        let left = (label.x - half).clamp(0.0, (frame.width - 2.0 * half).max(0.0));
        let right = left + 2.0 * half;
        let free =
            |row: &Vec<(f64, f64)>| row.iter().all(|&(from, to)| right + GAP < from || left - GAP > to);
        let Some(row) = rows.iter().position(free) else { continue };
        rows[row].push((left, right));
        let y = frame.top - 12.0 - row as f64 * 17.0;
        put!(out, "<text x=\"{:.1}\" y=\"{y:.1}\" text-anchor=\"middle\" ", f64::midpoint(left, right));
        put!(out, "class=\"ink-{}\">{}</text>\n", label.color, Text(&label.text));
    }
}

fn kill_label(
    frame: &Frame,
    scale: &Scale,
    group: &MarkGroup,
    timeline: &Timeline,
    zone: &TimeZone,
) -> Label {
    let first = group.marks.first().and_then(|&index| timeline.marks.get(index));
    let at = first.map(|mark| scale.time_of(mark.at, zone)).unwrap_or_default();
    let text = match group.marks.len() {
        1 => format!("✕ {at}"),
        many => format!("{many} kills from {at}"),
    };
    Label { x: frame.x(group.x), text, color: "kill" }
}
