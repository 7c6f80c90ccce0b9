//! Events of both API groups. A cluster makes thousands an hour; those about memory, killing, restarts and
//! rollouts are few.

use exit137_core::observation::kubernetes::Event;
use exit137_core::time::UnixNanos;

use super::field::{Field, Text};
use super::reader::{MESSAGE_BYTES_MAX, Reader, cut};
use super::wire;

/// Events that bear on why a container ended, or on when it last began.
fn matters(reason: &str, message: &str) -> bool {
    const REASONS: [&str; 18] = [
        "BackOff",
        "Evicted",
        "EvictionThresholdMet",
        "ExceededGracePeriod",
        "FailedKillPod",
        "Killing",
        "NodeHasInsufficientMemory",
        "NodeHasSufficientMemory",
        "OOMKilling",
        "Preempted",
        "Preempting",
        "Rebooted",
        "SandboxChanged",
        "ScalingReplicaSet",
        "Started",
        "SystemOOM",
        "TaintManagerEviction",
        "Unhealthy",
    ];
    // `Failed` is also said of images that cannot be pulled.
    const FAILURES: [&str; 4] = ["oom", "memory", "failed to create", "failed to start"];
    let message = || message.to_ascii_lowercase();
    REASONS.contains(&reason)
        || reason.starts_with("Resize")
        || (reason == "Failed" && FAILURES.iter().any(|failure| message().contains(failure)))
}

/// Whether an event with these fields would be read at all.
pub(super) fn is_relevant(reason: &Text<'_>, message: &Text<'_>, note: &Text<'_>) -> bool {
    let Field::Is(reason) = reason else { return false };
    let message = [message, note].into_iter().find_map(|field| match field {
        Field::Is(text) => Some(text.as_ref()),
        _ => None,
    });
    matters(reason, message.unwrap_or_default())
}

/// One delivery of an event; `None` for one that says nothing here.
pub(super) fn read(reader: &mut Reader<'_>, event: &wire::Event<'_>) -> Option<Event> {
    let metadata = reader.get("metadata", &event.metadata);
    let empty_metadata = wire::Metadata::default();
    let metadata = metadata.unwrap_or(&empty_metadata);
    let namespace = reader.text("metadata.namespace", &metadata.namespace).unwrap_or_default();
    let name = reader.text("metadata.name", &metadata.name).unwrap_or_default();
    reader.name = format!("{namespace}/{name}");
    let reason = reader.text("reason", &event.reason)?;
    let message = reader.get("message", &event.message).or_else(|| reader.get("note", &event.note));
    let message = cut(message.map_or("", |text| text.trim()), MESSAGE_BYTES_MAX).to_owned();
    if !matters(&reason, &message) {
        return None;
    }
    let empty_object = wire::ObjectReference::default();
    let object = reader.get("involvedObject", &event.involved_object);
    let object = object.or_else(|| reader.get("regarding", &event.regarding)).unwrap_or(&empty_object);
    let (first_at, last_at, times) = times(reader, event, metadata);
    let path = reader.text("fieldPath", &object.field_path).unwrap_or_default();
    let mut told = |path, field: &Text<'_>| reader.text(path, field).unwrap_or_default();
    let mut observed = Event {
        uid: told("metadata.uid", &metadata.uid),
        reason,
        kind: told("type", &event.kind),
        message,
        object_kind: told("involvedObject.kind", &object.kind),
        object_namespace: told("involvedObject.namespace", &object.namespace),
        object_name: told("involvedObject.name", &object.name),
        object_uid: told("involvedObject.uid", &object.uid),
        container: container(&path),
        first_at,
        last_at,
        count: count(reader, event),
        times,
    };
    if observed.uid.is_empty() {
        // Names of events are unique in their namespace while they live.
        observed.uid = reader.name.clone();
    }
    Some(observed)
}

/// `spec.containers{name}` → `name`.
fn container(field_path: &str) -> Option<String> {
    let (list, name) = field_path.strip_suffix('}')?.split_once('{')?;
    let lists = ["spec.containers", "spec.initContainers", "spec.ephemeralContainers"];
    (lists.contains(&list) && !name.is_empty()).then(|| name.to_owned())
}

fn count(reader: &mut Reader<'_>, event: &wire::Event<'_>) -> u32 {
    let series = reader.get("series", &event.series);
    let counts = [
        series.and_then(|series| reader.count("series.count", &series.count)),
        reader.count("count", &event.count),
        reader.count("deprecatedCount", &event.deprecated_count),
    ];
    counts.into_iter().flatten().max().unwrap_or(1).max(1)
}

/// First, last and all times at which it happened. A new event's `eventTime` is exact, so its whole-second
/// copies are left out; the creation of the object is the last resort.
fn times(
    reader: &mut Reader<'_>,
    event: &wire::Event<'_>,
    metadata: &wire::Metadata<'_>,
) -> (Option<UnixNanos>, Option<UnixNanos>, Vec<UnixNanos>) {
    let series = reader.get("series", &event.series);
    let series = series.and_then(|s| reader.time("series.lastObservedTime", &s.last_observed_time));
    let mut time = |path, field| reader.time(path, field);
    let mut times: Vec<UnixNanos> =
        [time("eventTime", &event.event_time), series].into_iter().flatten().collect();
    if times.is_empty() {
        let both = [
            time("lastTimestamp", &event.last_timestamp),
            time("firstTimestamp", &event.first_timestamp),
            time("deprecatedLastTimestamp", &event.deprecated_last_timestamp),
            time("deprecatedFirstTimestamp", &event.deprecated_first_timestamp),
        ];
        times.extend(both.into_iter().flatten());
    }
    if times.is_empty() {
        times.extend(time("metadata.creationTimestamp", &metadata.creation_timestamp));
    }
    times.sort_unstable();
    times.dedup();
    (times.first().copied(), times.last().copied(), times)
}
