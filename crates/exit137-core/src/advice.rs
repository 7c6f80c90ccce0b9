//! What to do: one action by cause, with the numbers it rests on. A peak that ended in a kill is censored: the
//! demand was at least the limit, nobody knows how much more. A higher limit is never the cure of a leak.

use crate::bytes::{Bytes, MIB};
use crate::features::{Features, Shape};
use crate::incident::Incident;
use crate::verdict::{Action, Advice, Cause, Interval, OperationClaim};

/// Limits are advised for two weeks: long enough to see weekly peaks, short enough to still be true.
const HORIZON_DAYS: u32 = 14;

/// Advised limits are multiples of this, as people write them.
const STEP: u64 = 16 * MIB;

/// The advice on an incident.
pub fn advise(
    incident: &Incident<'_>,
    features: &[Features],
    cause: Cause,
    operations: &[OperationClaim],
) -> Advice {
    let limit = incident.latest().limit();
    let shape = features.iter().rev().find_map(|f| f.shape.as_ref());
    let mut advice = match cause {
        Cause::Leak => leak(shape, limit, operations),
        Cause::OperationSpike => spike(shape, limit, operations),
        Cause::ConcurrencySurge => surge(features, shape, limit, operations),
        Cause::UndersizedLimit => undersized(shape, limit),
        Cause::StartupPeak => startup(limit),
        Cause::TmpfsOrPageCache => files(incident, features, limit),
        Cause::ChildProcess => child(incident, limit),
        Cause::NodePressure => plain(
            Action::ResizeNode,
            "give the node's pods requests that match what they use, move some of them, or take a larger node; this container's own limit was not the problem",
        ),
        Cause::Unknown => plain(
            Action::CollectMore,
            "too little is known to act on: collect what is listed as missing, and do not raise the limit blindly",
        ),
    };
    advice.next_kill_in_seconds = next_kill(incident, cause);
    advice
}

fn plain(action: Action, summary: &str) -> Advice {
    Advice {
        action,
        summary: summary.to_owned(),
        limit_bytes: None,
        horizon_days: None,
        next_kill_in_seconds: None,
    }
}

fn with_limit(action: Action, summary: String, limit: Option<f64>) -> Advice {
    let limit_bytes = limit.map(round_up);
    Advice {
        action,
        summary,
        limit_bytes,
        horizon_days: limit_bytes.map(|_| HORIZON_DAYS),
        next_kill_in_seconds: None,
    }
}

fn round_up(bytes: f64) -> u64 {
    (bytes.max(0.0) as u64).div_ceil(STEP).saturating_mul(STEP)
}

fn named(operations: &[OperationClaim]) -> Option<String> {
    let first = operations.first().filter(|operation| operation.probability.0 >= 0.5)?;
    Some(first.names.join(" or "))
}

fn leak(shape: Option<&Shape>, limit: Option<f64>, operations: &[OperationClaim]) -> Advice {
    let place = match named(operations) {
        Some(name) if name == "background" => {
            "outside of requests (a timer, a queue, a cache that is filled in the background)".to_owned()
        }
        Some(name) if name == "every request" => {
            "in what every request passes through (middleware, logging, sessions, metrics labels)".to_owned()
        }
        Some(name) => format!("in {name}"),
        None => "in the program".to_owned(),
    };
    let mut summary = format!(
        "find and fix what keeps memory {place}: bound the cache, drop the reference, close what is opened"
    );
    let rate = shape.map(|shape| (shape.floor - shape.base) / shape.seconds).filter(|rate| *rate > 0.0);
    if let (Some(limit), Some(rate)) = (limit, rate) {
        let bought = duration(limit * 0.5 / rate);
        summary.push_str(&format!("; a limit half as large again would only buy about {bought}"));
    }
    plain(Action::FixCode, &summary)
}

fn spike(shape: Option<&Shape>, limit: Option<f64>, operations: &[OperationClaim]) -> Advice {
    let what = named(operations)
        .map_or("what one request may load".to_owned(), |name| format!("what one {name} may load"));
    let mut summary =
        format!("bound {what} (page, stream, refuse above a size), or run it apart from the rest");
    if let (Some(shape), Some(limit)) = (shape, limit) {
        let took = Bytes((shape.ceiling - shape.floor).max(0.0) as u64);
        summary.push_str(&format!("; it took at least {took} on top of {} before the limit of {} ended it, and nobody knows how much it wanted", Bytes(shape.floor as u64), Bytes(limit as u64)));
    }
    plain(Action::FixCode, &summary)
}

fn surge(
    features: &[Features],
    shape: Option<&Shape>,
    limit: Option<f64>,
    operations: &[OperationClaim],
) -> Advice {
    let what = named(operations).map_or("requests".to_owned(), |name| format!("{name} requests"));
    let load = features.iter().rev().find_map(|f| f.load.as_ref());
    let (Some(shape), Some(load), Some(limit)) = (shape, load, limit) else {
        return plain(
            Action::CapConcurrency,
            &format!("cap how many {what} run at once, and let the rest wait or fail fast"),
        );
    };
    // What one more running request costs: the jump over what came with it.
    let more = (load.at_kill as f64 - load.ordinary / 2.0).max(1.0);
    let each = (shape.ceiling - shape.floor).max(0.0) / more;
    let cap = ((limit * 0.85 - shape.floor) / each.max(1.0)).floor().max(1.0);
    let needed = shape.floor + each * load.at_kill as f64 * 1.3;
    let summary = format!(
        "cap how many {what} run at once at about {cap:.0} (each holds about {}), and let the rest wait or fail fast; to serve {} at once the limit would have to be {}",
        Bytes(each as u64),
        load.at_kill,
        Bytes(round_up(needed.max(limit * 1.2)))
    );
    with_limit(Action::CapConcurrency, summary, Some(needed.max(limit * 1.2)))
}

fn undersized(shape: Option<&Shape>, limit: Option<f64>) -> Advice {
    let Some(limit) = limit else {
        return plain(
            Action::RaiseLimit,
            "raise the limit by half and measure the peak again over two weeks",
        );
    };
    // The busy moment used up all the room there was; twice that room is the least that can be said to last.
    let room = shape.map_or(0.0, |shape| (shape.ceiling - shape.floor).max(0.0));
    let floor = shape.map_or(limit, |shape| shape.floor);
    let advised = (floor + 2.0 * room).clamp(limit * 1.25, limit * 2.0);
    let summary = format!(
        "raise the limit from {} to {}: the steady need is {} and a busy moment took at least {} more; measure the peak again after two weeks",
        Bytes(limit as u64),
        Bytes(round_up(advised)),
        Bytes(floor as u64),
        Bytes(room as u64)
    );
    with_limit(Action::RaiseLimit, summary, Some(advised))
}

fn startup(limit: Option<f64>) -> Advice {
    let Some(limit) = limit else {
        return plain(
            Action::RaiseLimit,
            "raise the limit by half to let it start once, measure the peak of the start, and set the limit a fifth above it",
        );
    };
    let advised = limit * 1.5;
    let summary = format!(
        "starting needs more than {}, and how much more was never seen: raise the limit to {} to let it start once, measure the peak, then set the limit a fifth above it, or load in smaller pieces",
        Bytes(limit as u64),
        Bytes(round_up(advised))
    );
    with_limit(Action::RaiseLimit, summary, Some(advised))
}

fn files(incident: &Incident<'_>, features: &[Features], limit: Option<f64>) -> Advice {
    let share = features.iter().rev().find_map(|f| f.files).unwrap_or_default();
    let held =
        limit.map(|limit| format!(" ({} at the kill)", Bytes((share * limit) as u64))).unwrap_or_default();
    let pod = incident
        .latest()
        .container
        .and_then(|c| incident.scene.cast.pods[incident.scene.cast.containers[c].pod].kubernetes);
    let volumes: Vec<String> = pod.map_or(Vec::new(), |pod| {
        pod.memory_volumes
            .iter()
            .map(|(name, size)| match size {
                Some(size) => format!("{name} (sizeLimit {})", Bytes(*size)),
                None => format!("{name} (no sizeLimit)"),
            })
            .collect()
    });
    let place = if volumes.is_empty() {
        "files in memory".to_owned()
    } else {
        format!("the memory-backed volume {}", volumes.join(", "))
    };
    plain(
        Action::BoundFiles,
        &format!(
            "bound {place}{held}: set a sizeLimit, delete what is done, or use a volume on disk; what lies there survives the container and counts against the next one"
        ),
    )
}

fn child(incident: &Incident<'_>, limit: Option<f64>) -> Advice {
    let victim = &incident.latest().record.kill.victim;
    let comm = victim.comm.as_deref().unwrap_or("the child process");
    let held = victim.anon_bytes.map(|anon| format!(" (it held {})", Bytes(anon))).unwrap_or_default();
    let limit = limit.map(|limit| format!(" of {}", Bytes(limit as u64))).unwrap_or_default();
    plain(
        Action::IsolateChild,
        &format!(
            "bound {comm}{held}: give it its own memory limit or its own container, run fewer at once, or refuse inputs that need more than the limit{limit} leaves"
        ),
    )
}

/// When the next kill comes if nothing changes, from the lengths of the lives that ended in kills; told only for
/// causes that come by themselves.
fn next_kill(incident: &Incident<'_>, cause: Cause) -> Option<Interval> {
    if !matches!(cause, Cause::Leak | Cause::StartupPeak | Cause::TmpfsOrPageCache) {
        return None;
    }
    let mut lengths: Vec<f64> = incident
        .kills
        .iter()
        .filter_map(|kill| kill.episode.as_ref().map(|episode| episode.seconds()))
        .collect();
    if lengths.is_empty() {
        let starts = incident
            .kills
            .iter()
            .filter_map(|kill| Some(kill.at().seconds_since(kill.record.kill.life_started_at?)));
        lengths.extend(starts);
    }
    lengths.retain(|length| *length > 0.0);
    lengths.sort_by(f64::total_cmp);
    let mid = *lengths.get(lengths.len() / 2)?;
    // One life says little of the next: half to twice as long. Several say how much they differ.
    let (low, high) = match lengths.as_slice() {
        [_] => (mid / 2.0, mid * 2.0),
        [first, .., last] => (first * 0.8, last * 1.25),
        [] => return None,
    };
    Some(Interval { low, mid, high })
}

/// Seconds in words.
pub(crate) fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.0} h", s / 3600.0),
        s => format!("{:.0} days", s / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::{duration, round_up};

    #[test]
    fn limits_are_rounded_up_to_what_people_write() {
        assert_eq!(round_up(200.0 * 1_048_576.0 + 1.0), 208 << 20);
        assert_eq!(round_up(-5.0), 0);
    }

    #[test]
    fn durations_are_told_in_the_unit_that_fits() {
        let cases = [(45.0, "45 s"), (600.0, "10 min"), (20_000.0, "6 h"), (1e6, "12 days")];
        for (seconds, text) in cases {
            assert_eq!(duration(seconds), text);
        }
    }
}
