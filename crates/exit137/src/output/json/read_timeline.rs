//! The chart of a stored verdict, read back.

use exit137_core::time::UnixNanos;
use exit137_core::verdict as core;
use serde::Deserialize;

/// A time as the contract writes it.
pub(super) fn time(text: &str) -> Option<UnixNanos> {
    UnixNanos::parse_rfc3339(text)
}

type Points = Vec<(String, f64)>;

#[derive(Deserialize)]
pub(super) struct Timeline {
    from: String,
    to: String,
    #[serde(default)]
    limit: Points,
    #[serde(default)]
    series: Vec<Series>,
    #[serde(default)]
    in_flight: Points,
    #[serde(default)]
    marks: Vec<Mark>,
}

#[derive(Deserialize)]
struct Series {
    kind: String,
    pod: Option<String>,
    lives: Vec<Points>,
}

#[derive(Deserialize)]
struct Mark {
    at: String,
    kind: String,
    label: String,
}

const MEMORY_KINDS: &[core::MemoryKind] = &[
    core::MemoryKind::Usage,
    core::MemoryKind::WorkingSet,
    core::MemoryKind::Anon,
    core::MemoryKind::File,
    core::MemoryKind::Shmem,
    core::MemoryKind::Kernel,
    core::MemoryKind::ProcessRss,
];

const MARK_KINDS: &[(&str, core::MarkKind)] = &[
    ("kill", core::MarkKind::Kill),
    ("start", core::MarkKind::Start),
    ("rollout", core::MarkKind::Rollout),
    ("other_end", core::MarkKind::OtherEnd),
];

fn points(points: Points) -> Vec<(UnixNanos, f64)> {
    points.into_iter().filter_map(|(at, value)| Some((time(&at)?, value))).collect()
}

impl From<Timeline> for core::Timeline {
    fn from(timeline: Timeline) -> Self {
        let series = |series: Series| {
            let kind = MEMORY_KINDS.iter().find(|kind| kind.name() == series.kind)?;
            let lives = series.lives.into_iter().map(points).collect();
            Some(core::TimelineSeries { kind: *kind, pod: series.pod, lives })
        };
        let mark = |mark: Mark| {
            let (_, kind) = MARK_KINDS.iter().find(|(name, _)| *name == mark.kind)?;
            Some(core::Mark { at: time(&mark.at)?, kind: *kind, label: mark.label })
        };
        Self {
            from: time(&timeline.from).unwrap_or_default(),
            to: time(&timeline.to).unwrap_or_default(),
            limit: points(timeline.limit).into_iter().map(|(at, bytes)| (at, bytes as u64)).collect(),
            series: timeline.series.into_iter().filter_map(series).collect(),
            in_flight: points(timeline.in_flight),
            marks: timeline.marks.into_iter().filter_map(mark).collect(),
        }
    }
}
