//! Which kills are one incident: those of one workload's container with one cause. Kills share a cause unless
//! another one explains a kill far better, because a workload seldom has two troubles at a time.

use std::collections::BTreeMap;

use crate::causes::{CAUSES, scores_of_kill, weight_of};
use crate::features::features;
use crate::incident::{Incident, KillScene, Scene};

/// ln 50: a kill leaves its workload's common cause when another explains it fifty times better.
const LEAVES_NATS: f64 = 3.9;

/// Kills that are looked at one by one for telling causes apart; of more, an even selection.
const EXAMINED_MAX: usize = 60;

/// Puts kills together.
pub fn group<'a>(scene: &'a Scene<'a>, kills: Vec<KillScene<'a>>) -> Vec<Incident<'a>> {
    let mut families: BTreeMap<Family, Vec<KillScene<'a>>> = BTreeMap::new();
    for (index, kill) in kills.into_iter().enumerate() {
        let family = match kill.container {
            Some(container) => {
                let (namespace, owner, name) = scene.cast.family(container);
                Family::Container(namespace, owner, name)
            }
            None => Family::Unknown(
                kill.record.kill.victim.comm.clone(),
                kill.record.report.is_none().then_some(index),
            ),
        };
        families.entry(family).or_default().push(kill);
    }
    families.into_values().flat_map(|kills| split(scene, kills)).collect()
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Family {
    Container(Option<String>, String, Option<String>),
    Unknown(Option<String>, Option<usize>),
}

/// Splits the kills of one container by cause.
fn split<'a>(scene: &'a Scene<'a>, kills: Vec<KillScene<'a>>) -> Vec<Incident<'a>> {
    if kills.len() == 1 {
        return vec![Incident { scene, kills }];
    }
    let step = kills.len().div_ceil(EXAMINED_MAX);
    let examined: Vec<_> = kills.iter().step_by(step).map(|kill| (kill, features(kill, scene))).collect();
    let longest = examined.iter().filter_map(|(_, features)| features.life_seconds).fold(0.0, f64::max);
    let scores: Vec<Vec<f64>> = examined
        .iter()
        .map(|(kill, features)| {
            // What a life of moments after a restart shows is not worth splitting for.
            let weight = weight_of(features, longest);
            let scores = scores_of_kill(kill, features);
            scores.iter().zip(CAUSES).map(|(score, cause)| weight * (score + cause.prior().ln())).collect()
        })
        .collect();
    let totals: Vec<f64> =
        (0..CAUSES.len()).map(|cause| scores.iter().map(|score| score[cause]).sum()).collect();
    let common = best(&totals);
    let mut groups: BTreeMap<usize, Vec<KillScene<'a>>> = BTreeMap::new();
    for (index, kill) in kills.into_iter().enumerate() {
        let score = &scores[index / step];
        let own = best(score);
        let cause = if score[own] - score[common] > LEAVES_NATS { own } else { common };
        groups.entry(cause).or_default().push(kill);
    }
    groups.into_values().map(|kills| Incident { scene, kills }).collect()
}

fn best(scores: &[f64]) -> usize {
    (0..scores.len()).max_by(|a, b| scores[*a].total_cmp(&scores[*b])).unwrap_or_default()
}
