//! Memory against its limit in a terminal: braille dots, or stars where only ASCII can be shown.

use exit137_core::bytes::Bytes;
use exit137_core::time::UnixNanos;
use exit137_core::verdict::{MarkKind, MemoryKind, Timeline};

use super::sheet::{BLUE, DIM, PLAIN, Piece, RED, Sheet, YELLOW};
use crate::output::chart::Scale;
use crate::output::{clean, words};

/// Which memory is drawn if there are several: first what the kernel compares with the limit.
const PREFERRED: [MemoryKind; 7] = [
    MemoryKind::WorkingSet,
    MemoryKind::Usage,
    MemoryKind::Anon,
    MemoryKind::ProcessRss,
    MemoryKind::Shmem,
    MemoryKind::File,
    MemoryKind::Kernel,
];

const ROWS: usize = 10;

/// Without memory there is only the limit to draw, and what happened when.
const ROWS_WITHOUT_MEMORY: usize = 2;

/// Columns for `1023 MiB ` and the axis.
const LABEL_COLUMNS: usize = 10;

/// Draws the timeline; nothing if there is nothing to draw.
pub(super) fn draw(sheet: &mut Sheet<'_>, timeline: &Timeline) {
    let Some(scale) = Scale::of(timeline) else { return };
    let zone = sheet.paper.zone.clone();
    let kind = PREFERRED.into_iter().find(|&kind| timeline.series.iter().any(|series| series.kind == kind));
    let columns = sheet.width - LABEL_COLUMNS - 3;
    let rows = if kind.is_some() { ROWS } else { ROWS_WITHOUT_MEMORY };
    let mut canvas = Canvas::new(columns, rows, sheet.paper.unicode);
    if scale.shows_limit {
        draw_limit(&mut canvas, &scale, timeline, columns);
    }
    let series = timeline.series.iter().filter(|series| Some(series.kind) == kind);
    for life in series.flat_map(|series| &series.lives) {
        canvas.line(&scale, life);
    }

    let what = kind.map_or("no memory samples", words::memory_kind);
    let limit = timeline.limit.iter().map(|&(_, bytes)| bytes).max().map(Bytes);
    let limit = match limit {
        Some(limit) if scale.shows_limit => format!(", against the limit of {limit}"),
        Some(limit) => format!(", limit {limit} far above"),
        None => ", no limit known".to_owned(),
    };
    sheet.gap();
    sheet.paragraph("", 2, &[(PLAIN, what), (PLAIN, &limit), (DIM, " · "), (DIM, &scale.day_label(&zone))]);
    let mut labels = scale.byte_ticks(4);
    if scale.shows_limit {
        labels.extend(timeline.limit.last().map(|&(_, bytes)| (bytes as f64, Bytes(bytes).to_string())));
    }
    for row in 0..rows {
        // The limit comes last and wins over a tick in the same row.
        let label = labels.iter().rfind(|(bytes, _)| canvas.row_of(&scale, *bytes) == Some(row));
        draw_row(sheet, &canvas, row, label.map_or("", |(_, label)| label));
    }
    draw_axis(sheet, &scale, timeline, columns);
}

fn draw_limit(canvas: &mut Canvas, scale: &Scale, timeline: &Timeline, columns: usize) {
    let length = timeline.to.since(timeline.from) as f64;
    for column in 0..columns {
        let at = timeline.from + (length * (column as f64 + 0.5) / columns as f64) as i64;
        let row = Scale::limit_at(timeline, at).and_then(|bytes| canvas.row_of(scale, bytes as f64));
        if let Some(row) = row {
            canvas.limit[row * columns + column] = true;
        }
    }
}

fn draw_row(sheet: &mut Sheet<'_>, canvas: &Canvas, row: usize, label: &str) {
    let unicode = sheet.paper.unicode;
    let axis = match (unicode, label.is_empty()) {
        (true, true) => "│",
        (true, false) => "┤",
        (false, _) => "|",
    };
    let head = format!("{label:>LABEL_COLUMNS$} {axis}");
    let cells: Vec<(bool, char)> = (0..canvas.columns).map(|column| canvas.cell(row, column)).collect();
    let mut runs: Vec<(bool, String)> = Vec::new();
    for (is_limit, c) in cells {
        match runs.last_mut() {
            Some((last, run)) if *last == is_limit => run.push(c),
            _ => runs.push((is_limit, c.to_string())),
        }
    }
    let mut pieces: Vec<Piece<'_>> = vec![(DIM, &head)];
    pieces.extend(runs.iter().map(|(limit, run)| (if *limit { YELLOW } else { BLUE }, run.as_str())));
    sheet.drawn(&pieces);
}

fn draw_axis(sheet: &mut Sheet<'_>, scale: &Scale, timeline: &Timeline, columns: usize) {
    let unicode = sheet.paper.unicode;
    let column_of = |share: f64| ((share * columns as f64) as usize).min(columns - 1);
    let mut axis: Vec<char> = vec![if unicode { '─' } else { '-' }; columns];
    let ticks = scale.time_ticks(columns / 12, &sheet.paper.zone);
    for (at, _) in &ticks {
        axis[column_of(scale.x(*at))] = if unicode { '┬' } else { '+' };
    }
    let marks = [
        (MarkKind::OtherEnd, '○', 'o'),
        (MarkKind::Start, '▲', '^'),
        (MarkKind::Rollout, '◆', '#'),
        (MarkKind::Kill, '✕', 'X'),
    ];
    let mut legend: Vec<(char, String)> = Vec::new();
    for (kind, sign, ascii_sign) in marks {
        let sign = if unicode { sign } else { ascii_sign };
        let of_kind: Vec<_> = timeline.marks.iter().filter(|mark| mark.kind == kind).collect();
        for mark in &of_kind {
            axis[column_of(scale.x(mark.at))] = sign;
        }
        if of_kind.is_empty() {
            continue;
        }
        let text = match kind {
            MarkKind::Kill => format!("{sign} OOM kill at {}", kill_times(sheet, scale, timeline)),
            MarkKind::Start => format!("{sign} start"),
            MarkKind::Rollout => {
                let labels: Vec<String> =
                    of_kind.iter().take(3).map(|mark| clean::shorten(&mark.label, 24)).collect();
                format!("{sign} {}", labels.join(", "))
            }
            MarkKind::OtherEnd => format!("{sign} other end"),
        };
        legend.push((sign, text));
    }
    let corner = if unicode { '└' } else { '+' };
    let head = format!("{:>LABEL_COLUMNS$} {corner}", "");
    let pieces: Vec<(bool, String)> = axis.iter().map(|c| (matches!(c, '✕' | 'X'), c.to_string())).collect();
    let mut styled: Vec<Piece<'_>> = vec![(DIM, &head)];
    styled.extend(pieces.iter().map(|(kill, c)| (if *kill { RED } else { DIM }, c.as_str())));
    sheet.drawn(&styled);
    let labels = tick_labels(&ticks, columns, |at| column_of(scale.x(at)));
    sheet.drawn(&[(DIM, &format!("{:>LABEL_COLUMNS$}  {labels}", ""))]);
    // A start in the same column as a kill is not to be seen, so it needs no explanation.
    let legend: Vec<String> =
        legend.into_iter().rev().filter(|(sign, _)| axis.contains(sign)).map(|(_, text)| text).collect();
    if !legend.is_empty() {
        sheet.paragraph(&" ".repeat(LABEL_COLUMNS + 2), LABEL_COLUMNS + 2, &[(PLAIN, &legend.join("; "))]);
    }
}

/// `08:17:12, 08:35:36`; a long row of kills is in the kills of the verdict anyway.
fn kill_times(sheet: &Sheet<'_>, scale: &Scale, timeline: &Timeline) -> String {
    const SHOWN_MAX: usize = 6;
    let kills: Vec<_> = timeline.marks.iter().filter(|mark| mark.kind == MarkKind::Kill).collect();
    let times: Vec<String> =
        kills.iter().take(SHOWN_MAX).map(|mark| scale.time_of(mark.at, &sheet.paper.zone)).collect();
    match kills.len().saturating_sub(SHOWN_MAX) {
        0 => times.join(", "),
        more => format!("{} and {more} more", times.join(", ")),
    }
}

/// The labels centred under their ticks, none over another.
fn tick_labels(
    ticks: &[(UnixNanos, String)],
    columns: usize,
    column_of: impl Fn(UnixNanos) -> usize,
) -> String {
    let mut line = String::new();
    for (at, label) in ticks {
        let start = column_of(*at).saturating_sub(label.len() / 2);
        let start = start.min(columns.saturating_sub(label.len()));
        if !line.is_empty() && start <= line.len() {
            continue;
        }
        line.push_str(&" ".repeat(start - line.len()));
        line.push_str(label);
    }
    line
}

/// Dots in cells of 2 × 4 (braille), or one cell one star.
struct Canvas {
    columns: usize,
    rows: usize,
    unicode: bool,
    dots: Vec<u8>,
    limit: Vec<bool>,
}

impl Canvas {
    fn new(columns: usize, rows: usize, unicode: bool) -> Self {
        Self { columns, rows, unicode, dots: vec![0; columns * rows], limit: vec![false; columns * rows] }
    }

    fn dot(&mut self, x: usize, y: usize) {
        /// Bits of the braille block, by row and column.
        const BITS: [[u8; 2]; 4] = [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]];
        let (column, row) = ((x / 2).min(self.columns - 1), (y / 4).min(self.rows - 1));
        self.dots[row * self.columns + column] |= BITS[y % 4][x % 2];
    }

    /// Joins the points of one life.
    fn line(&mut self, scale: &Scale, life: &[(UnixNanos, f64)]) {
        let (width, height) = ((self.columns * 2 - 1) as f64, (self.rows * 4 - 1) as f64);
        let mut last: Option<(f64, f64)> = None;
        for &(at, bytes) in life {
            let Some(y) = scale.y(bytes) else { continue };
            let point = (scale.x(at) * width, (1.0 - y) * height);
            let (x0, y0) = last.unwrap_or(point);
            let steps = (point.0 - x0).abs().max((point.1 - y0).abs()).ceil().max(1.0) as usize;
            for step in 0..=steps {
                let share = step as f64 / steps as f64;
                let x = x0 + (point.0 - x0) * share;
                let y = y0 + (point.1 - y0) * share;
                self.dot(x.round() as usize, y.round() as usize);
            }
            last = Some(point);
        }
    }

    fn row_of(&self, scale: &Scale, bytes: f64) -> Option<usize> {
        let y = scale.y(bytes)?;
        Some((((1.0 - y) * (self.rows * 4 - 1) as f64).round() as usize / 4).min(self.rows - 1))
    }

    /// What stands in a cell, and whether it belongs to the limit.
    fn cell(&self, row: usize, column: usize) -> (bool, char) {
        let index = row * self.columns + column;
        match (self.dots[index], self.limit[index], self.unicode) {
            (0, false, _) => (false, ' '),
            (0, true, true) => (true, '╌'),
            (0, true, false) => (true, '-'),
            (dots, _, true) => (false, char::from_u32(0x2800 + u32::from(dots)).unwrap_or(' ')),
            (_, _, false) => (false, '*'),
        }
    }
}
