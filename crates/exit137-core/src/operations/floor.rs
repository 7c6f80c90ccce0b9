//! The levels that a leak is told by: the memory of each life between kills, and the lowest values of it.

use crate::identity::ContainerIndex;
use crate::identity::LifeIndex;
use crate::incident::Scene;
use crate::memory::{Series, between};
use crate::time::{SECOND, UnixNanos};
use crate::verdict::MemoryKind;

/// Levels per stretch at least.
pub(super) const LEVELS_MIN: usize = 10;
/// The first part of a life is warm-up.
const WARM_UP_SHARE: f64 = 0.1;
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

/// One stretch of a life between kills, reduced to floor levels with their times.
pub(super) struct Floor {
    /// Whose.
    pub container: ContainerIndex,
    /// Begin of the stretch.
    pub from: UnixNanos,
    /// Time and level.
    pub levels: Series,
}

/// The stretches of all lives, cut at kills.
pub(super) fn floors_of(question: &Question<'_>) -> Vec<Floor> {
    let cast = question.scene.cast;
    let mut floors = Vec::new();
    for &container in &question.containers {
        for &life in &cast.containers[container].lives {
            let Some(series) = series_of(question, life) else { continue };
            let (Some(first), Some(last)) = (series.first(), series.last()) else { continue };
            let mut cuts: Vec<UnixNanos> =
                question.cuts.iter().filter(|(cut, _)| *cut == life).map(|(_, at)| *at).collect();
            cuts.push(last.0 + 1);
            cuts.sort_unstable();
            let mut from = cast.lives[life].started_at.unwrap_or(first.0).max(first.0 - 60 * SECOND);
            for cut in cuts {
                let warm = from + (cut.since(from) as f64 * WARM_UP_SHARE) as i64;
                let levels = lowest(between(series, warm, cut - 1));
                if levels.len() >= LEVELS_MIN {
                    floors.push(Floor { container, from, levels });
                }
                from = cut + 2 * SECOND;
            }
        }
    }
    floors
}

fn series_of<'a>(question: &Question<'a>, life: LifeIndex) -> Option<&'a Series> {
    let memory = question.scene.memory.life(life);
    match question.kind {
        Some(kind) => memory.by_kind.get(&kind),
        None if memory.heap_floor.len() >= LEVELS_MIN => Some(&memory.heap_floor),
        None => memory.hard().map(|(_, series)| series),
    }
}

/// The lowest point of each bin; bins as narrow as they can be while the level mostly rises.
fn lowest(points: &[(UnixNanos, f64)]) -> Series {
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
