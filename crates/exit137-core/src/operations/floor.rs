//! The levels that a leak is told by: the memory of each life between kills, and the lowest values of it.

use crate::features::{floor_from_right, warmed_up};
use crate::identity::ContainerIndex;
use crate::identity::LifeIndex;
use crate::incident::Scene;
use crate::memory::{Series, between};
use crate::time::{SECOND, UnixNanos};
use crate::verdict::MemoryKind;

/// Levels per stretch at least.
pub(super) const LEVELS_MIN: usize = 10;
/// The same where no life has so many: several short ones, or one told by few measurements, still say something together. A
/// line through three levels does not.
pub(super) const LEVELS_FEW: usize = 4;
/// Levels per stretch at most: more make the cost, not the answer.
const LEVELS_MAX: usize = 600;
/// A way to tell what is kept from what passes. None is right for every program, so several answers are weighed alike.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum View {
    /// Points that were not undercut afterwards by more than this share of the growth: allocators breathe, nobody
    /// knows how deep.
    Undercut(f64),
    /// The lowest point of each of this many equal parts of the time.
    Lowest(usize),
    /// Every point, with what the calls hold that are running taken out.
    Every,
    /// The points at which memory had moved. An allocator that keeps what it once had rises only when more is needed than ever
    /// before, and stands still in between, whatever is kept meanwhile.
    Moves,
}

/// The views that are asked, the one with the most levels first: sizes are told by it.
pub(super) const VIEWS: [View; 6] =
    [View::Undercut(0.1), View::Undercut(0.03), View::Lowest(20), View::Lowest(13), View::Every, View::Moves];

/// The first part of a life is warm-up.
const WARM_UP_SHARE: f64 = 0.1;
/// Share of the growth from which on memory has moved.
const MOVE_SHARE: f64 = 0.01;
/// Share of falling in all movement of the level up to which it counts as a floor.
const FALLING_SHARE_MAX: f64 = 0.25;

/// What is asked: whose growth, cut at which moments, of which memory.
pub(super) struct Question<'a> {
    /// Everything.
    pub scene: &'a Scene<'a>,
    /// The containers that show the growth.
    pub containers: Vec<ContainerIndex>,
    /// Moments at which memory was given back all at once.
    pub cuts: Vec<(LifeIndex, UnixNanos)>,
    /// `None` for the memory that cannot be reclaimed.
    pub kind: Option<MemoryKind>,
}

/// A series that saw the growth. Each has noise of its own, so that what fits them all is better known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Witness {
    /// The memory of the container or its processes.
    Memory,
    /// The heap after collections: the floor itself.
    HeapAfterCollection,
    /// The heap in use.
    HeapUsed,
}

/// Those that a question about memory of no kind in particular can ask, the most trustworthy first.
pub(super) const WITNESSES: [Witness; 3] = [Witness::Memory, Witness::HeapAfterCollection, Witness::HeapUsed];

/// One stretch of a life between kills, reduced to floor levels with their times.
pub(super) struct Floor {
    /// Whose.
    pub container: ContainerIndex,
    /// Begin of the stretch.
    pub from: UnixNanos,
    /// Time and level.
    pub levels: Series,
}

/// The stretches of all lives as `witness` saw them, cut at kills; those of at least so many levels.
pub(super) fn floors_of(
    question: &Question<'_>,
    witness: Witness,
    view: View,
    levels_min: usize,
) -> Vec<Floor> {
    let cast = question.scene.cast;
    let mut floors = Vec::new();
    for &container in &question.containers {
        for &life in &cast.containers[container].lives {
            let Some(series) = series_of(question, witness, life) else { continue };
            let (Some(first), Some(last)) = (series.first(), series.last()) else { continue };
            let mut cuts: Vec<UnixNanos> =
                question.cuts.iter().filter(|(cut, _)| *cut == life).map(|(_, at)| *at).collect();
            cuts.push(last.0 + 1);
            cuts.sort_unstable();
            let mut from = cast.lives[life].started_at.unwrap_or(first.0).max(first.0 - 60 * SECOND);
            for cut in cuts {
                let width = (cut.since(from) as f64 * WARM_UP_SHARE) as i64;
                let warm = warmed_up(question.scene.work.calls_of(container), from, cut, width);
                let levels = warm.map(|warm| view.levels(between(series, warm, cut - 1)));
                if let Some(levels) = levels.filter(|levels| levels.len() >= levels_min) {
                    floors.push(Floor { container, from, levels });
                }
                from = cut + 2 * SECOND;
            }
        }
    }
    floors
}

fn series_of<'a>(question: &Question<'a>, witness: Witness, life: LifeIndex) -> Option<&'a Series> {
    let memory = question.scene.memory.life(life);
    match (witness, question.kind) {
        (Witness::Memory, Some(kind)) => memory.by_kind.get(&kind),
        (Witness::Memory, None) => memory.hard().map(|(_, series)| series),
        (_, Some(_)) => None,
        (Witness::HeapAfterCollection, None) => Some(&memory.heap_floor),
        (Witness::HeapUsed, None) => Some(&memory.heap_used),
    }
}

impl View {
    fn levels(self, points: &[(UnixNanos, f64)]) -> Series {
        match self {
            Self::Undercut(share) => envelope(points, share),
            Self::Lowest(parts) => lowest_of_parts(points, parts),
            Self::Every => thinned(points),
            Self::Moves => moves(points),
        }
    }
}

/// The first point of each level that memory stood at.
fn moves(points: &[(UnixNanos, f64)]) -> Series {
    let floors = envelope(points, 0.1);
    let (Some(first), Some(last)) = (floors.first(), floors.last()) else { return Vec::new() };
    let least = (last.1 - first.1).abs() * MOVE_SHARE;
    let mut stood = f64::NEG_INFINITY;
    let moved = |point: &&(UnixNanos, f64)| {
        let moved = (point.1 - stood).abs() > least;
        if moved {
            stood = point.1;
        }
        moved
    };
    floors.iter().filter(moved).copied().collect()
}

fn lowest_of_parts(points: &[(UnixNanos, f64)], parts: usize) -> Series {
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return Vec::new() };
    let width = last.0.since(first.0) / parts as i64 + 1;
    let part = |point: &(UnixNanos, f64)| point.0.since(first.0) / width;
    let lowest = |bin: &[(UnixNanos, f64)]| bin.iter().min_by(|a, b| a.1.total_cmp(&b.1)).copied();
    points.chunk_by(|a, b| part(a) == part(b)).filter_map(lowest).collect()
}

/// The points that memory hardly undercut afterwards: what it stood at when nothing passing was held. Of a
/// collected heap these are the points after collections; of a program that frees at once, the quiet moments.
fn envelope(points: &[(UnixNanos, f64)], slack_share: f64) -> Series {
    let floors = floor_from_right(points);
    let (Some(first), Some(last)) = (floors.first(), floors.last()) else { return Vec::new() };
    let slack = slack_share * (last - first);
    let next = floors.iter().skip(1).chain(std::iter::once(last));
    let kept: Series = points
        .iter()
        .zip(next)
        .filter(|((_, value), next)| *value <= **next + slack)
        .map(|(point, _)| *point)
        .collect();
    thinned(&kept)
}

/// No more than [`LEVELS_MAX`] points, the lowest of each bin.
fn thinned(points: &[(UnixNanos, f64)]) -> Series {
    let width = points.len().div_ceil(LEVELS_MAX).max(1);
    let lowest = |bin: &[(UnixNanos, f64)]| bin.iter().min_by(|a, b| a.1.total_cmp(&b.1)).copied();
    points.chunks(width).filter_map(lowest).collect()
}

/// The lowest point of each bin; bins as narrow as they can be while the level mostly rises.
pub(crate) fn lowest(points: &[(UnixNanos, f64)]) -> Series {
    let mut levels: Series = points.to_vec();
    for width in [1usize, 2, 3, 5, 8, 12, 20, 32] {
        let bins =
            points.chunks(width).filter_map(|bin| bin.iter().min_by(|a, b| a.1.total_cmp(&b.1)).copied());
        let binned: Series = bins.collect();
        if binned.len() < LEVELS_MIN.max(14) {
            break;
        }
        levels = binned;
        let (mut up, mut down) = (0.0, 0.0);
        for pair in levels.windows(2) {
            let step = pair[1].1 - pair[0].1;
            if step > 0.0 { up += step } else { down -= step }
        }
        if down <= FALLING_SHARE_MAX * (up + down) {
            break;
        }
    }
    levels
}
