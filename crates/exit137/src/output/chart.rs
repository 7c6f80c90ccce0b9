//! What the chart in a terminal and the chart on a page share: its scales and the ticks of its axes.

use exit137_core::bytes::Bytes;
use exit137_core::time::{SECOND, UnixNanos};
use exit137_core::verdict::{Mark, MarkKind, Timeline};
use jiff::tz::TimeZone;

use super::words;

/// A limit this many times above all memory seen would press the lines flat; it is then only named.
const LIMIT_ABOVE_MEMORY_MAX: f64 = 4.0;

/// Room above the highest value.
const HEADROOM: f64 = 1.06;

/// Axis steps in time, seconds.
const TIME_STEPS: [i64; 22] = [
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172_800,
    604_800, 2_592_000, 31_536_000,
];

/// From time and bytes to shares of the plot's width and height.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    from: UnixNanos,
    to: UnixNanos,
    /// Top of the plot.
    pub(super) bytes_max: f64,
    /// Whether the highest limit is inside the plot.
    pub(super) shows_limit: bool,
}

impl Scale {
    /// `None` when the timeline holds nothing that could be drawn.
    pub(super) fn of(timeline: &Timeline) -> Option<Self> {
        let memory_max = timeline
            .series
            .iter()
            .flat_map(|series| series.lives.iter().flatten())
            .map(|&(_, bytes)| bytes)
            .filter(|bytes| bytes.is_finite())
            .fold(0.0, f64::max);
        let limit_max = timeline.limit.iter().map(|&(_, bytes)| bytes).max().unwrap_or(0) as f64;
        if memory_max <= 0.0 && (limit_max <= 0.0 || timeline.marks.is_empty()) {
            return None;
        }
        let shows_limit =
            limit_max > 0.0 && (memory_max <= 0.0 || limit_max <= memory_max * LIMIT_ABOVE_MEMORY_MAX);
        let top = if shows_limit { memory_max.max(limit_max) } else { memory_max };
        let (from, to) = (timeline.from.min(timeline.to), timeline.from.max(timeline.to));
        // An instant has no width; a minute around it does.
        let (from, to) =
            if to.since(from) < SECOND { (from - 30 * SECOND, to + 30 * SECOND) } else { (from, to) };
        Some(Self { from, to, bytes_max: top * HEADROOM, shows_limit })
    }

    /// 0 at the left edge, 1 at the right; outside the plot it is clamped.
    pub(super) fn x(&self, at: UnixNanos) -> f64 {
        (at.since(self.from) as f64 / self.to.since(self.from) as f64).clamp(0.0, 1.0)
    }

    /// 0 at the bottom, 1 at the top; `None` for what is no number.
    pub(super) fn y(&self, bytes: f64) -> Option<f64> {
        bytes.is_finite().then(|| (bytes / self.bytes_max).clamp(0.0, 1.0))
    }

    /// The limit at `at`, as far as it is known.
    pub(super) fn limit_at(timeline: &Timeline, at: UnixNanos) -> Option<u64> {
        let after_start = timeline.limit.iter().rev().find(|&&(from, _)| from <= at);
        after_start.or(timeline.limit.first()).map(|&(_, bytes)| bytes)
    }

    /// Zero and round sizes up to the top, about `wanted` of them.
    pub(super) fn byte_ticks(&self, wanted: usize) -> Vec<(f64, String)> {
        // Limits are set in powers of two and their multiples, so are the steps.
        let mut step = 1.0;
        while self.bytes_max / step > wanted.max(1) as f64 {
            step *= 2.0;
        }
        let ticks = (self.bytes_max / step).floor() as usize;
        (0..=ticks)
            .map(|tick| {
                let value = tick as f64 * step;
                (value, if tick == 0 { "0".to_owned() } else { Bytes(value as u64).to_string() })
            })
            .collect()
    }

    /// Round times inside the plot, at most `wanted`, each with what to write there.
    pub(super) fn time_ticks(&self, wanted: usize, zone: &TimeZone) -> Vec<(UnixNanos, String)> {
        let length = self.to.since(self.from) / SECOND;
        let step = TIME_STEPS
            .into_iter()
            .find(|step| length / step < i64::try_from(wanted).unwrap_or(1).max(1))
            .unwrap_or(i64::MAX / SECOND);
        let offset = self.from.to_timestamp().map_or(0, |at| i64::from(zone.to_offset(at).seconds()));
        let first = (self.from.0.div_euclid(SECOND) + offset).div_euclid(step) * step - offset;
        (0..=wanted as i64 + 1)
            .map(|tick| UnixNanos(first.saturating_add(step.saturating_mul(tick)).saturating_mul(SECOND)))
            .filter(|&at| at >= self.from && at <= self.to)
            .map(|at| (at, self.time_label(at, step, zone)))
            .collect()
    }

    fn time_label(&self, at: UnixNanos, step: i64, zone: &TimeZone) -> String {
        let clock = words::clock(at, zone);
        if step >= 86400 || (clock == "00:00:00" && step >= 60) {
            words::day(at, zone)
        } else if step < 60 {
            clock
        } else {
            words::clock_minutes(at, zone)
        }
    }

    /// When something happened, as exactly as matters on this axis: `08:53:29`, or `22 Nov 08:53` over days.
    pub(super) fn time_of(&self, at: UnixNanos, zone: &TimeZone) -> String {
        if words::date(self.from, zone) == words::date(self.to, zone) {
            words::clock(at, zone)
        } else {
            words::day_clock(at, zone)
        }
    }

    /// `2026-11-22, UTC`, or both days when they differ.
    pub(super) fn day_label(&self, zone: &TimeZone) -> String {
        let (first, last) = (words::date(self.from, zone), words::date(self.to, zone));
        let days = if first == last { first } else { format!("{first} to {last}") };
        format!("{days}, {}", words::zone_name(zone))
    }
}

/// With more kills than this, a line down from each would hide the memory.
pub(super) const KILL_LINES_MAX: usize = 24;

/// Neighbouring marks of one kind, told together where one by one they would overlap.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct MarkGroup {
    /// Where, as a share of the width: the middle of the group.
    pub(super) x: f64,
    /// What they are.
    pub(super) kind: MarkKind,
    /// In order of time, as indices into the marks of the timeline.
    pub(super) marks: Vec<usize>,
}

/// Groups marks of `kind` that are nearer than `gap` (a share of the width) to the group's first.
pub(super) fn group_marks(scale: &Scale, marks: &[Mark], kind: MarkKind, gap: f64) -> Vec<MarkGroup> {
    let mut of_kind: Vec<(f64, usize)> = marks
        .iter()
        .enumerate()
        .filter(|(_, mark)| mark.kind == kind)
        .map(|(index, mark)| (scale.x(mark.at), index))
        .collect();
    of_kind.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut groups: Vec<(f64, MarkGroup)> = Vec::new();
    for (x, index) in of_kind {
        match groups.last_mut() {
            Some((first, group)) if x - *first < gap => {
                group.marks.push(index);
                group.x = f64::midpoint(*first, x);
            }
            _ => groups.push((x, MarkGroup { x, kind, marks: vec![index] })),
        }
    }
    groups.into_iter().map(|(_, group)| group).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: UnixNanos = UnixNanos(1_795_348_800 * SECOND);

    fn scale(seconds: i64, bytes_max: f64) -> Scale {
        Scale { from: NOON, to: NOON + seconds * SECOND, bytes_max, shows_limit: true }
    }

    #[test]
    fn ticks_are_round() {
        let labels =
            |ticks: Vec<(f64, String)>| ticks.into_iter().map(|(_, label)| label).collect::<Vec<_>>();
        let mib = 1_048_576.0;
        assert_eq!(labels(scale(60, 237.0 * mib).byte_ticks(4)), ["0", "64 MiB", "128 MiB", "192 MiB"]);
        assert_eq!(labels(scale(60, 3000.0 * mib).byte_ticks(4)), ["0", "1 GiB", "2 GiB"]);
        let labels = |seconds, wanted| {
            let ticks = scale(seconds, 1.0).time_ticks(wanted, &TimeZone::UTC);
            ticks.into_iter().map(|(_, label)| label).collect::<Vec<_>>()
        };
        assert_eq!(labels(60, 4), ["12:00:00", "12:00:30", "12:01:00"]);
        assert_eq!(labels(3600, 4), ["12:00", "12:30", "13:00"]);
        assert_eq!(labels(86400, 4), ["12:00", "23 Nov", "12:00"]);
    }

    #[test]
    fn a_timeline_without_anything_has_no_scale() {
        assert!(Scale::of(&Timeline::default()).is_none());
    }

    #[test]
    fn extreme_times_do_not_break_the_axis() {
        let timeline = Timeline {
            from: UnixNanos(i64::MIN),
            to: UnixNanos(i64::MAX),
            series: vec![exit137_core::verdict::TimelineSeries {
                kind: exit137_core::verdict::MemoryKind::Usage,
                pod: None,
                lives: vec![vec![(UnixNanos(0), f64::MAX), (UnixNanos(1), f64::NAN)]],
            }],
            ..Timeline::default()
        };
        let scale = Scale::of(&timeline).expect("there is a point");
        assert!(scale.time_ticks(6, &TimeZone::UTC).len() <= 8);
        assert!(scale.byte_ticks(5).len() <= 6);
        assert!(scale.x(UnixNanos(0)).is_finite());
    }
}
