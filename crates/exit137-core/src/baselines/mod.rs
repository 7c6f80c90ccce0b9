//! Simpler ways to name the guilty operation, done as well as they can be done. They are here to be compared
//! with: a method that does not beat the most frequent operation is not worth its complexity.
//!
//! None of them judges the cause, and none says how sure it is. [`article`] is the method of the article that this
//! project started from.

pub mod article;
mod counts;
mod regression;

use std::collections::BTreeMap;

use crate::clock::KernelClock;
use crate::diagnose::scenes_of_kills;
use crate::identity::{Cast, ContainerIndex};
use crate::incident::{KillScene, Scene};
use crate::kills::account;
use crate::memory::Memory;
use crate::observation::Observations;
use crate::verdict::ContainerRef;
use crate::work::Work;

/// A way to rank the operations of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method {
    /// Ordinary least squares of the memory's changes on how many calls of each operation finished meanwhile.
    Regression,
    /// The operation that is called most.
    MostFrequent,
    /// The operation with most calls running at the kills.
    MostInFlight,
}

/// An operation with what the method ranks by: bytes, or calls.
#[derive(Debug, Clone, PartialEq)]
pub struct Named {
    /// Span name.
    pub name: String,
    /// Bytes of growth, or number of calls.
    pub score: f64,
}

/// What a method says of one workload's container.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranking {
    /// Which; of several replicas, one.
    pub container: ContainerRef,
    /// How often it was OOM-killed.
    pub kills: usize,
    /// The guiltiest first; empty when the method has nothing to go by.
    pub operations: Vec<Named>,
}

/// The replicas of one workload's container, and their kills.
struct Family<'s, 'a> {
    scene: &'s Scene<'a>,
    containers: Vec<ContainerIndex>,
    kills: Vec<KillScene<'s>>,
}

impl Family<'_, '_> {
    /// Sums by operation, the largest first; what is not above zero is no answer.
    fn ranked(&self, scores: BTreeMap<u32, f64>) -> Vec<Named> {
        let name = |operation: u32| self.scene.work.operations.get(operation as usize).cloned();
        let mut ranked: Vec<Named> = scores
            .into_iter()
            .filter(|(_, score)| *score > 0.0)
            .filter_map(|(operation, score)| Some(Named { name: name(operation)?, score }))
            .collect();
        ranked.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.name.cmp(&b.name)));
        ranked
    }
}

/// What `method` says of each container that does any work, those killed most often first.
pub fn rankings(observations: &Observations, method: Method) -> Vec<Ranking> {
    let mut cast = Cast::of(observations);
    let clock = KernelClock::of(observations, &mut cast);
    let accounts = account(observations, &mut cast, &clock);
    let memory = Memory::of(observations, &cast);
    let work = Work::of(observations, &cast);
    let scene = Scene { observations, cast: &cast, memory: &memory, work: &work };
    let mut rankings: Vec<(usize, Ranking)> = families(&scene, scenes_of_kills(&scene, &accounts.kills))
        .iter()
        .map(|family| {
            let operations = match method {
                Method::Regression => regression::ranked(family),
                Method::MostFrequent => counts::most_frequent(family),
                Method::MostInFlight => counts::most_in_flight(family),
            };
            let calls = family.containers.iter().map(|&container| work.calls_of(container).len()).sum();
            let latest = family.kills.last().and_then(|kill| kill.container);
            let container = cast.describe(latest.unwrap_or(family.containers[0]));
            (calls, Ranking { container, kills: family.kills.len(), operations })
        })
        .collect();
    // A stable sort: the families come in the order of their names.
    rankings.sort_by_key(|(calls, ranking)| std::cmp::Reverse((ranking.kills, *calls)));
    rankings.into_iter().map(|(_, ranking)| ranking).collect()
}

fn families<'s, 'a>(scene: &'s Scene<'a>, kills: Vec<KillScene<'s>>) -> Vec<Family<'s, 'a>> {
    let mut families: BTreeMap<_, Family<'s, 'a>> = BTreeMap::new();
    for container in 0..scene.cast.containers.len() {
        if !scene.work.calls_of(container).is_empty() {
            let empty = || Family { scene, containers: Vec::new(), kills: Vec::new() };
            families.entry(scene.cast.family(container)).or_insert_with(empty).containers.push(container);
        }
    }
    for kill in kills {
        let family = kill.container.and_then(|container| families.get_mut(&scene.cast.family(container)));
        if let Some(family) = family {
            family.kills.push(kill);
        }
    }
    families.into_values().collect()
}
