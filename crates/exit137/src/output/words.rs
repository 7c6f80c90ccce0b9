//! How numbers, times and names are said to people, the same in every format.

use std::collections::BTreeMap;

use exit137_core::bytes::Bytes;
use exit137_core::observation::SourceKind;
use exit137_core::observation::kubernetes::ContainerRole;
use exit137_core::time::{Moment, SECOND, UnixNanos};
use exit137_core::verdict::{
    Answer, Cause, ContainerRef, Interval, Kill, LimitHit, MarkKind, MemoryKind, NotOom, NotOomReason,
    Probability, RecoveredFrom, Verdict, VictimProcess, Witness,
};
use jiff::tz::TimeZone;

use super::clean_line;

/// `97 %`. Never 0 or 100: nothing here is that certain.
pub(super) fn percent(probability: Probability) -> String {
    match probability.0 * 100.0 {
        p if p.is_nan() => "unknown".to_owned(),
        p if p < 1.0 => "under 1 %".to_owned(),
        p if p > 99.0 => "over 99 %".to_owned(),
        p => format!("{p:.0} %"),
    }
}

/// `very likely (97 %)`.
pub(super) fn certainty(probability: Probability) -> String {
    format!("{} ({})", probability.words(), percent(probability))
}

/// The same of a cause. That nothing fits has a probability too, which says nothing to people.
pub(super) fn certainty_of(cause: Cause, probability: Probability) -> String {
    match cause {
        Cause::Unknown => "too little to tell".to_owned(),
        _ => certainty(probability),
    }
}

/// `208 MiB`, `-1.20 MiB`.
pub(crate) fn bytes(value: f64) -> String {
    let size = Bytes(value.abs() as u64);
    if value <= -1.0 { format!("-{size}") } else { size.to_string() }
}

/// `1.10 MiB (0.9 to 1.3 MiB)`: the middle, and the range that holds it in 8 of 10 cases.
pub(super) fn bytes_range(interval: Interval) -> String {
    let (low, mid, high) = (bytes(interval.low), bytes(interval.mid), bytes(interval.high));
    if low == high { mid } else { format!("{mid} ({low} to {high})") }
}

/// `45 s`, `40 min`, `2 h 10 min`, `3 days`.
pub(super) fn duration(seconds: f64) -> String {
    let seconds = seconds.max(0.0);
    let minutes = (seconds / 60.0).round();
    let hours = (minutes / 60.0).floor();
    match seconds {
        s if !s.is_finite() => "unknown".to_owned(),
        s if s < 9.95 => format!("{s:.1} s"),
        s if s < 99.5 => format!("{s:.0} s"),
        _ if minutes < 100.0 => format!("{minutes:.0} min"),
        _ if hours < 10.0 && minutes % 60.0 >= 1.0 => format!("{hours:.0} h {:.0} min", minutes % 60.0),
        s if s < 48.0 * 3600.0 => format!("{:.0} h", s / 3600.0),
        s => format!("{:.0} days", s / 86400.0),
    }
}

/// `about 2 h (40 min to 3 h)`.
pub(super) fn duration_range(interval: Interval) -> String {
    let (low, mid, high) = (duration(interval.low), duration(interval.mid), duration(interval.high));
    if low == high { format!("about {mid}") } else { format!("about {mid} ({low} to {high})") }
}

/// `1 kill`, `3 kills`.
pub(crate) fn count(number: usize, one: &str, many: &str) -> String {
    format!("{} {}", grouped(number), if number == 1 { one } else { many })
}

/// `52,110`.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn zoned(at: UnixNanos, zone: &TimeZone, format: &str) -> String {
    match at.to_timestamp() {
        Some(timestamp) => timestamp.to_zoned(zone.clone()).strftime(format).to_string(),
        None => "unknown time".to_owned(),
    }
}

/// `2026-11-22 08:53:29`.
pub(crate) fn date_time(at: UnixNanos, zone: &TimeZone) -> String {
    zoned(at, zone, "%Y-%m-%d %H:%M:%S")
}

/// `2026-11-22`.
pub(super) fn date(at: UnixNanos, zone: &TimeZone) -> String {
    zoned(at, zone, "%Y-%m-%d")
}

/// `08:53:29`.
pub(super) fn clock(at: UnixNanos, zone: &TimeZone) -> String {
    zoned(at, zone, "%H:%M:%S")
}

/// `08:53`.
pub(super) fn clock_minutes(at: UnixNanos, zone: &TimeZone) -> String {
    zoned(at, zone, "%H:%M")
}

/// `22 Nov 08:53`.
pub(super) fn day_clock(at: UnixNanos, zone: &TimeZone) -> String {
    zoned(at, zone, "%-d %b %H:%M")
}

/// `22 Nov`.
pub(super) fn day(at: UnixNanos, zone: &TimeZone) -> String {
    zoned(at, zone, "%-d %b")
}

/// `UTC`, `Europe/Berlin`, `local time`.
pub(super) fn zone_name(zone: &TimeZone) -> String {
    zone.iana_name().unwrap_or(if *zone == TimeZone::UTC { "UTC" } else { "local time" }).to_owned()
}

/// `2026-11-22 08:53:29`, with `±30 s` when that is worth saying.
pub(super) fn moment(moment: Moment, zone: &TimeZone) -> String {
    if !moment.is_known() {
        return "at an unknown time".to_owned();
    }
    let at = date_time(moment.at, zone);
    // Whole seconds are shown, so half a second either way adds nothing.
    if moment.uncertainty <= SECOND { at } else { format!("{at} ±{}", duration_of(moment.uncertainty)) }
}

fn duration_of(nanos: i64) -> String {
    duration(nanos as f64 / SECOND as f64)
}

/// `shop/catalog-api`: the workload where it is known, else the pod, else what there is.
pub(crate) fn container(container: &ContainerRef) -> String {
    let workload = container.workload.as_ref().map(|workload| &workload.name);
    let name = match workload.or(container.pod.as_ref()).or(container.name.as_ref()) {
        Some(name) => name.clone(),
        None => match (&container.container_id, &container.pod_uid) {
            (Some(id), _) => format!("container {}", short_id(id)),
            (None, Some(uid)) => format!("a container of pod {uid}"),
            (None, None) => "an unknown container".to_owned(),
        },
    };
    match &container.namespace {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name,
    }
}

/// The rest that is known about a container, as names and values.
pub(super) fn container_details(container: &ContainerRef) -> Vec<(&'static str, String)> {
    let name = container.name.clone().map(|name| match container.role.map(role) {
        Some(role) if role != "main" => format!("{name} ({role})"),
        _ => name,
    });
    [
        ("workload", container.workload.as_ref().map(|w| format!("{} {}", w.kind, w.name))),
        ("container", name),
        ("pod", container.pod.clone()),
        ("version", container.version.clone()),
        ("image", container.image.clone()),
        ("node", container.node.clone()),
        ("pod UID", container.pod_uid.clone().filter(|_| container.pod.is_none())),
        ("container ID", container.container_id.clone().filter(|_| container.name.is_none())),
    ]
    .into_iter()
    .filter_map(|(key, value)| Some((key, value?)))
    .collect()
}

/// The first twelve characters of a container id, as every tool prints them.
pub(super) fn short_id(id: &str) -> String {
    id.chars().take(12).collect()
}

/// Contract name of a role.
pub(super) fn role(role: ContainerRole) -> &'static str {
    match role {
        ContainerRole::Main => "main",
        ContainerRole::Init => "init",
        ContainerRole::Sidecar => "sidecar",
        ContainerRole::Ephemeral => "ephemeral",
    }
}

/// Contract name of a witness.
pub(super) fn witness(witness: Witness) -> &'static str {
    match witness {
        Witness::Kernel => "kernel",
        Witness::Kubernetes => "kubernetes",
        Witness::Cgroup => "cgroup",
        Witness::Metrics => "metrics",
    }
}

/// `the kernel log, Kubernetes`.
pub(super) fn witnesses(kill: &Kill) -> String {
    let names: Vec<&str> = kill
        .seen_by
        .iter()
        .map(|witness| match witness {
            Witness::Kernel => "kernel log",
            Witness::Kubernetes => "Kubernetes",
            Witness::Cgroup => "cgroup",
            Witness::Metrics => "metrics",
        })
        .collect();
    names.join(", ")
}

/// `the container's limit, 224 MiB`.
pub(super) fn limit(kill: &Kill) -> Option<String> {
    let whose = kill.limit_hit.map(|hit| match hit {
        LimitHit::Container => "the container's limit",
        LimitHit::Pod => "the pod's limit",
        LimitHit::Ancestor => "a limit above the pod",
        LimitHit::Node => "the node's memory",
    });
    match (whose, kill.limit_bytes) {
        (Some(whose), Some(bytes)) => Some(format!("{whose}, {}", Bytes(bytes))),
        (Some(whose), None) => Some(whose.to_owned()),
        (None, bytes) => bytes.map(|bytes| Bytes(bytes).to_string()),
    }
}

/// `python, pid 18087 (main process), anon 203 MiB`.
pub(super) fn victim(victim: &VictimProcess) -> Option<String> {
    let mut parts = Vec::new();
    parts.extend(victim.comm.clone());
    parts.extend(victim.pid.map(|pid| format!("pid {pid}")));
    parts.extend(
        victim
            .main_process
            .map(|main| if main { "the main process".to_owned() } else { "not the main process".to_owned() }),
    );
    for (name, size) in
        [("anon", victim.anon_bytes), ("file", victim.file_bytes), ("shmem", victim.shmem_bytes)]
    {
        parts.extend(size.filter(|&size| size > 0).map(|size| format!("{name} {}", Bytes(size))));
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// How an answer is said.
pub(super) fn answer(answer: Answer) -> &'static str {
    match answer {
        Answer::Supported => "supported",
        Answer::RuledOut => "ruled out",
        Answer::CannotTell => "cannot tell",
    }
}

/// How a request became known.
pub(super) fn recovered_from(how: RecoveredFrom) -> &'static str {
    match how {
        RecoveredFrom::Journal => "from the journal",
        RecoveredFrom::ClientSpan => "from the caller's span",
        RecoveredFrom::Orphans => "from spans without a parent",
        RecoveredFrom::Log => "from a log line",
    }
}

/// How memory kinds are said.
pub(super) fn memory_kind(kind: MemoryKind) -> &'static str {
    match kind {
        MemoryKind::Usage => "everything charged",
        MemoryKind::WorkingSet => "working set",
        MemoryKind::Anon => "anon",
        MemoryKind::File => "file cache",
        MemoryKind::Shmem => "shmem, tmpfs",
        MemoryKind::Kernel => "kernel",
        MemoryKind::ProcessRss => "process RSS",
    }
}

/// Contract name of a mark.
pub(super) fn mark_kind(kind: MarkKind) -> &'static str {
    match kind {
        MarkKind::Kill => "kill",
        MarkKind::Start => "start",
        MarkKind::Rollout => "rollout",
        MarkKind::OtherEnd => "other_end",
    }
}

/// Why a container that was no OOM kill ended, in words.
pub(super) fn not_oom_reason(reason: NotOomReason) -> &'static str {
    match reason {
        NotOomReason::Probe => "a failed probe",
        NotOomReason::Eviction => "an eviction",
        NotOomReason::GracePeriod => "a deletion past its grace period",
        NotOomReason::StartError => "an error at start",
        NotOomReason::Unknown => "an unknown reason",
    }
}

/// Ends that were no OOM kill, of one container and for one reason.
pub(super) struct NotOomGroup<'a> {
    /// Who.
    pub(super) container: String,
    /// Why.
    pub(super) reason: NotOomReason,
    /// In the verdict's order, never empty.
    pub(super) ends: Vec<&'a NotOom>,
}

impl NotOomGroup<'_> {
    /// First and last known time.
    pub(super) fn when(&self, zone: &TimeZone) -> Option<String> {
        let times = || self.ends.iter().filter_map(|end| end.at);
        let (first, last) = (times().min()?, times().max()?);
        let first_text = moment(first, zone);
        if first == last {
            return Some(first_text);
        }
        let same_day = date(first.at, zone) == date(last.at, zone);
        let last = if same_day { clock(last.at, zone) } else { date_time(last.at, zone) };
        Some(format!("{} to {last}", date_time(first.at, zone)))
    }
}

/// Twenty failed probes of one container are one thing to say.
pub(super) fn group_not_oom(verdict: &Verdict) -> Vec<NotOomGroup<'_>> {
    let mut groups: BTreeMap<(String, Option<&str>, NotOomReason, i32), Vec<&NotOom>> = BTreeMap::new();
    for end in &verdict.not_oom {
        let key = (container(&end.container), end.container.name.as_deref(), end.reason, end.exit_code);
        groups.entry(key).or_default().push(end);
    }
    let mut groups: Vec<_> = groups
        .into_iter()
        .map(|((container, _, reason, _), ends)| NotOomGroup { container, reason, ends })
        .collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.ends.len()));
    groups
}

/// How a kind of source is named.
pub(super) fn source_kind(kind: SourceKind) -> &'static str {
    match kind {
        SourceKind::Kubernetes => "Kubernetes",
        SourceKind::KernelLog => "kernel log",
        SourceKind::Cgroup => "cgroup files",
        SourceKind::Traces => "traces",
        SourceKind::Metrics => "metrics",
        SourceKind::Logs => "logs",
        SourceKind::Journal => "journals",
    }
}

/// Contract name of a kind of source.
pub(super) fn source_kind_name(kind: SourceKind) -> &'static str {
    match kind {
        SourceKind::Kubernetes => "kubernetes",
        SourceKind::KernelLog => "kernel_log",
        SourceKind::Cgroup => "cgroup",
        SourceKind::Traces => "traces",
        SourceKind::Metrics => "metrics",
        SourceKind::Logs => "logs",
        SourceKind::Journal => "journals",
    }
}

const SOURCES: [SourceKind; 6] = [
    SourceKind::Kubernetes,
    SourceKind::KernelLog,
    SourceKind::Cgroup,
    SourceKind::Metrics,
    SourceKind::Traces,
    SourceKind::Logs,
];

/// `Kubernetes (14 records in 2 files), kernel log (nothing), …`.
pub(super) fn looked_in(verdict: &Verdict) -> String {
    let told = |kind: SourceKind| match verdict.looked_in.get(&kind) {
        Some(seen) if seen.records > 0 => {
            let records = count(usize::try_from(seen.records).unwrap_or(usize::MAX), "record", "records");
            let files = count(usize::try_from(seen.files).unwrap_or(usize::MAX), "file", "files");
            format!("{} ({records} in {files})", source_kind(kind))
        }
        _ => format!("{} (nothing)", source_kind(kind)),
    };
    let mut sources = SOURCES.map(told).to_vec();
    // Few services keep one: its absence is not worth a word.
    sources.extend(verdict.looked_in.contains_key(&SourceKind::Journal).then(|| told(SourceKind::Journal)));
    format!("{}{}", sources.join(", "), left_aside(verdict))
}

/// `; left aside: 2 × ConfigMap, 1 × Secret`.
fn left_aside(verdict: &Verdict) -> String {
    /// Custom kinds are many.
    const KINDS_SHOWN_MAX: usize = 5;
    let mut kinds: Vec<(&String, &u64)> = verdict.skipped.iter().collect();
    kinds.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let mut said: Vec<String> = kinds
        .iter()
        .take(KINDS_SHOWN_MAX)
        .map(|(kind, number)| {
            format!("{} × {}", grouped(usize::try_from(**number).unwrap_or(usize::MAX)), clean_line(kind))
        })
        .collect();
    match kinds.len() {
        0 => return String::new(),
        many if many > KINDS_SHOWN_MAX => said.push(format!("{} more kinds", many - KINDS_SHOWN_MAX)),
        _ => {}
    }
    format!("; left aside: {}", said.join(", "))
}

/// `no OOM kill found for shop/cart`.
pub(super) fn nothing_found(asked_for: Option<&str>) -> String {
    match asked_for {
        Some(asked_for) => format!("no OOM kill found for {asked_for}"),
        None => "no OOM kill found".to_owned(),
    }
}

/// `no OOM kill` → `No OOM kill`.
pub(crate) fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

/// What to add so that a kill could be found.
pub(super) fn hint(verdict: &Verdict, left_out: &[String]) -> String {
    if let Some((first, rest)) = left_out.split_first() {
        let others = match rest {
            [] => String::new(),
            [second] => format!(" and {second}"),
            [second, rest @ ..] => format!(", {second} and {} more", rest.len()),
        };
        return format!("without the filters there is a verdict on {first}{others}");
    }
    let has = |kind| verdict.looked_in.get(&kind).is_some_and(|seen| seen.records > 0);
    if !SOURCES.iter().any(|&kind| has(kind)) {
        return "nothing in the input was recognised: give OTLP/JSON lines, `kubectl get pods -A -o json`, \
                or a kernel log (`journalctl -k -o json`)"
            .to_owned();
    }
    match (has(SourceKind::KernelLog), has(SourceKind::Kubernetes)) {
        (false, _) => "add the kernel log of the node: `journalctl -k -o json > kernel.jsonl`".to_owned(),
        (true, false) => "add the pods: `kubectl get pods,events -A -o json > pods.json`".to_owned(),
        (true, true) => "the kernel log may begin after the kill, or be of another node: \
                         compare its first line with the pod's `lastState`"
            .to_owned(),
    }
}

/// `in flight at the kill: 4 requests`; without a number when none could be recovered.
pub(super) fn in_flight_title(requests: usize) -> String {
    match requests {
        0 => "in flight at the kill".to_owned(),
        requests => format!("in flight at the kill: {}", count(requests, "request", "requests")),
    }
}

/// Requests in flight of one operation: its name, how many, and the first few.
pub(super) fn group_in_flight(
    in_flight: &[exit137_core::verdict::InFlight],
) -> Vec<(&str, Vec<&exit137_core::verdict::InFlight>)> {
    let mut groups: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    for request in in_flight {
        groups.entry(request.operation.as_str()).or_default().push(request);
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|(_, requests)| std::cmp::Reverse(requests.len()));
    groups
}

/// `key=value, key=value`.
pub(super) fn attributes(attributes: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = attributes.iter().map(|(key, value)| format!("{key}={value}")).collect();
    pairs.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_said_like_people_say_them() {
        let cases = [
            (0.4, "0.4 s"),
            (45.0, "45 s"),
            (99.7, "2 min"),
            (2400.0, "40 min"),
            (7800.0, "2 h 10 min"),
            (7200.0, "2 h"),
            (100_000.0, "28 h"),
            (260_000.0, "3 days"),
            (-5.0, "0.0 s"),
            (f64::INFINITY, "unknown"),
        ];
        for (seconds, text) in cases {
            assert_eq!(duration(seconds), text);
        }
    }

    #[test]
    fn nothing_is_certain() {
        let cases = [(0.0, "under 1 %"), (0.005, "under 1 %"), (0.97, "97 %"), (1.0, "over 99 %")];
        for (probability, text) in cases {
            assert_eq!(percent(Probability(probability)), text);
        }
    }
}
