//! Natural experiments: a version before which the same workload was healthy.

use std::collections::BTreeMap;

use crate::incident::Incident;
use crate::memory::between;
use crate::time::UnixNanos;
use crate::verdict::IntroducedBy;

/// Growth per hour of the version before, as a share of the faulty one's, up to which it counts as healthy.
const HEALTHY_SHARE_MAX: f64 = 0.25;
/// A life must be watched this long, as a share of the time that the faulty version takes to its kill.
const WATCHED_MIN: f64 = 0.5;

/// The version whose lives were killed, if lives of another version of the workload, as long, did not grow.
pub(super) fn introduced_by(incident: &Incident<'_>) -> Option<IntroducedBy> {
    let cast = incident.scene.cast;
    let killed = incident.latest().container?;
    let faulty = cast.containers[killed].version.clone()?;
    let family = cast.family(killed);
    let rates: Vec<(f64, f64)> = incident
        .kills
        .iter()
        .filter_map(|kill| kill.episode.as_ref())
        .filter_map(|episode| Some((growth_rate(&episode.series)?, episode.seconds())))
        .collect();
    let rate = rates.iter().map(|(rate, _)| *rate).fold(f64::INFINITY, f64::min);
    let seconds = rates.iter().map(|(_, seconds)| *seconds).fold(0.0, f64::max);
    if !rate.is_finite() || rate <= 0.0 {
        return None;
    }
    let mut before: BTreeMap<String, (UnixNanos, bool)> = BTreeMap::new();
    for container in 0..cast.containers.len() {
        let entry = &cast.containers[container];
        let Some(version) =
            entry.version.clone().filter(|version| *version != faulty && cast.family(container) == family)
        else {
            continue;
        };
        for &life in &entry.lives {
            let Some((_, series)) = incident.scene.memory.life(life).hard() else { continue };
            let (Some(first), Some(last)) = (series.first(), series.last()) else { continue };
            let watched = last.0.seconds_since(first.0);
            let healthy = watched >= WATCHED_MIN * seconds
                && growth_rate(series).is_some_and(|own| own <= HEALTHY_SHARE_MAX * rate);
            let entry = before.entry(version.clone()).or_insert((first.0, true));
            entry.0 = entry.0.max(first.0);
            entry.1 &= healthy;
        }
    }
    let first_faulty = incident.kills.iter().filter_map(|kill| kill.record.kill.life_started_at).min()?;
    let (previous, _) = before
        .iter()
        .filter(|(_, (start, healthy))| *healthy && *start <= first_faulty)
        .max_by_key(|(_, (start, _))| *start)?;
    Some(IntroducedBy { version: faulty, previous: Some(previous.clone()) })
}

/// Growth of the floor after the first fifth, bytes per second.
fn growth_rate(series: &[(UnixNanos, f64)]) -> Option<f64> {
    let (first, last) = (series.first()?.0, series.last()?.0);
    let width = last.since(first);
    let lowest = |from: i64, to: i64| {
        let part = between(series, first + width * from / 10, first + width * to / 10);
        part.iter().map(|(_, value)| *value).fold(f64::INFINITY, f64::min)
    };
    let (early, late) = (lowest(2, 4), lowest(8, 10));
    let seconds = width as f64 / 1e9 * 0.6;
    (early.is_finite() && late.is_finite() && seconds > 0.0).then(|| (late - early) / seconds)
}
