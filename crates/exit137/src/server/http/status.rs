//! Pages about the server and about what has not been killed yet.

use std::collections::HashMap;
use std::sync::Arc;

use askama::Template;
use axum::extract::State as FromServer;
use axum::response::Response;
use exit137_core::time::UnixNanos;

use super::pages::{Frame, day_and_time, frame, missing};
use super::reply;
use crate::config::Span;
use crate::output::{self, Paper, clean_line};
use crate::server::notify::ReceiverState;
use crate::server::recorder::Recorder;
use crate::server::state::{Container, Dropped, Kept, Source, State, Watch};

#[derive(Template)]
#[template(path = "next.html")]
struct NextPage {
    frame: Frame,
    examined: String,
    nothing: &'static str,
    leaks: Vec<()>,
    articles: String,
}

/// `/next`: what leaks and was not killed yet.
pub(super) async fn next(FromServer(recorder): FromServer<Arc<Recorder>>) -> Response {
    let board = recorder.leaks();
    let examined = match board.examined_at {
        Some(at) => format!(
            "{} examined at {}, the one with the least time left first.",
            output::count(board.workloads, "workload", "workloads"),
            day_and_time(at)
        ),
        None => "No examination has finished yet.".to_owned(),
    };
    let view = NextPage {
        frame: frame(&recorder, "next"),
        examined,
        nothing: "Nothing is found to leak. A trend alone is no leak: a service that warms up, fills a bounded cache or follows its load is not listed.",
        leaks: vec![(); board.verdict.leaks.len()],
        articles: output::html_articles(&board.verdict, &Paper::default()),
    };
    reply::page(&view)
}

#[derive(Template)]
#[template(path = "recorder.html")]
struct RecorderPage {
    frame: Frame,
    disk: String,
    disk_percent: u64,
    reach: String,
    kept_for: String,
    dropped: Vec<Lost>,
    facts: Vec<(&'static str, String)>,
    sources: Vec<Source>,
    watches: Vec<Watched>,
    notifications: Vec<ReceiverState>,
    senders: Vec<Sender>,
    more_senders: bool,
    problems: Vec<String>,
}

/// What is gone, in words.
struct Lost {
    what: String,
    why: &'static str,
    records: String,
    from: String,
    to: String,
}

/// One watch, in words.
struct Watched {
    what: String,
    state: String,
    objects: String,
    trouble: String,
}

/// Somebody who has sent something.
struct Sender {
    name: String,
    details: String,
    last: String,
    last_at: String,
    records: String,
    size: String,
}

/// Senders that the page shows; the API has all.
const SENDERS_MAX: usize = 50;

/// `/recorder`: what is kept, how far back, how full.
pub(super) async fn recorder(FromServer(recorder): FromServer<Arc<Recorder>>) -> Response {
    let Some(state) = recorder.state().await else {
        return missing(&recorder, "The state of the recorder cannot be read.");
    };
    let mut senders = senders(&recorder.containers().await.unwrap_or_default());
    let more_senders = senders.len() > SENDERS_MAX;
    senders.truncate(SENDERS_MAX);
    let reach = match (&state.recorded_from, &state.recorded_to) {
        (Some(from), Some(to)) => format!("It reaches from {} to {}.", moment(from), moment(to)),
        _ => "Nothing is recorded yet.".to_owned(),
    };
    let view = RecorderPage {
        frame: frame(&recorder, "recorder"),
        disk: format!(
            "{} of {} on disk, in {}.",
            size(state.disk_bytes),
            size(state.disk_budget_bytes),
            clean_line(&state.folder)
        ),
        facts: facts(&recorder, &state),
        kept_for: kept_for(&state),
        disk_percent: (state.disk_bytes * 100 / state.disk_budget_bytes.max(1)).min(100),
        reach,
        dropped: state.dropped.iter().map(lost).collect(),
        sources: state.sources,
        watches: state.watches.iter().map(watched).collect(),
        notifications: state.notifications,
        senders,
        more_senders,
        problems: state.problems.iter().map(|problem| clean_line(problem)).collect(),
    };
    reply::page(&view)
}

fn size(bytes: u64) -> String {
    output::bytes(bytes as f64)
}

/// `2026-11-22 08:53:29`, from what the API says.
fn moment(text: &str) -> String {
    UnixNanos::parse_rfc3339(text).map_or_else(|| text.to_owned(), day_and_time)
}

fn kept_for(state: &State) -> String {
    let one = |kept: &Kept| format!("{} for {}", kept.what, Span::seconds(kept.seconds));
    let all: Vec<String> = state.kept_for.iter().map(one).collect();
    format!("Kept at most: {}.", all.join("; "))
}

fn facts(recorder: &Recorder, state: &State) -> Vec<(&'static str, String)> {
    let mut facts = vec![
        ("Version", state.version.to_owned()),
        ("Running since", day_and_time(recorder.started)),
        ("Incidents", thousands(state.incidents as u64)),
        ("Verdicts due", thousands(state.verdicts_due as u64)),
        ("Waiting to be written", size(state.waiting_bytes)),
    ];
    if let Some(resident) = state.resident_bytes {
        let limit = state.memory_limit_bytes.map(|limit| format!("; the kernel kills it at {}", size(limit)));
        let budget = size(state.memory_budget_bytes);
        let of = format!("{}; budget for telemetry {budget}{}", size(resident), limit.unwrap_or_default());
        facts.push(("Resident memory", of));
    }
    for one in &state.received {
        let name = match one.signal {
            "traces" => "Spans received",
            "metrics" => "Data points received",
            _ => "Log records received",
        };
        let (records, exports) = (thousands(one.records), thousands(one.exports));
        facts.push((name, format!("{records} in {exports} exports, {}", size(one.bytes))));
    }
    facts
}

/// `1,234,567`
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn lost(dropped: &Dropped) -> Lost {
    let why = match dropped.reason {
        "age" => "older than it is kept",
        "budget" => "the disk budget was full",
        "thinned" => "thinned with age; lows and highs are kept",
        _ => "damaged on disk",
    };
    Lost {
        what: dropped.kind.to_owned(),
        why,
        records: thousands(dropped.records),
        from: moment(&dropped.first_at),
        to: moment(&dropped.last_at),
    }
}

fn watched(watch: &Watch) -> Watched {
    let place = watch.namespace.as_ref().map_or_else(String::new, |name| format!(" in {name}"));
    let trouble = watch.last_error.as_ref().zip(watch.last_error_at.as_ref());
    let trouble = trouble.map(|(error, at)| format!("{error}, at {}", moment(at)));
    Watched {
        what: clean_line(&format!("{}{place}", watch.resource)),
        state: format!("{} since {}", watch.phase, moment(&watch.since)),
        objects: thousands(watch.objects as u64),
        trouble: clean_line(&trouble.unwrap_or_default()),
    }
}

/// A sender a line: runs of its containers, and what it sends by different names, together.
fn senders(containers: &[Container]) -> Vec<Sender> {
    let mut order: Vec<String> = Vec::new();
    let mut by_name: HashMap<String, Vec<&Container>> = HashMap::new();
    for container in containers {
        let name = name_of(container);
        let all = by_name.entry(name.clone()).or_default();
        if all.is_empty() {
            order.push(name);
        }
        all.push(container);
    }
    let sender = |name: String| {
        let all = &by_name[&name];
        let known = |key: &str| all.iter().find_map(|one| one.attributes.get(key)).map(String::as_str);
        let service = known("service.name").filter(|service| !name.contains(*service)).map(str::to_owned);
        let container = known("k8s.container.name").map(|name| format!("container {name}"));
        let version = known("service.version").map(|version| format!("version {version}"));
        let details: Vec<String> = [service, container, version].into_iter().flatten().collect();
        // The catalogue comes with the last heard of first.
        let last_at = all.first().map(|one| one.last_at.clone()).unwrap_or_default();
        Sender {
            details: clean_line(&details.join(" · ")),
            last: moment(&last_at),
            last_at,
            records: thousands(all.iter().map(|one| one.records).sum()),
            size: size(all.iter().map(|one| one.bytes).sum()),
            name: clean_line(&name),
        }
    };
    order.into_iter().map(sender).collect()
}

fn name_of(container: &Container) -> String {
    let get = |key: &str| container.attributes.get(key).map(String::as_str);
    let keys = ["k8s.pod.name", "host.name", "service.name", "k8s.node.name", "container.id"];
    let object = || Some(format!("{} {}", get("exit137.object.kind")?, get("exit137.workload.name")?));
    let name = keys.iter().find_map(|key| get(key)).map(str::to_owned).or_else(object);
    let place = get("k8s.namespace.name").map(|place| format!("{place}/")).unwrap_or_default();
    name.map_or_else(|| "without a name".to_owned(), |name| format!("{place}{name}"))
}

#[cfg(test)]
mod tests {
    use super::thousands;

    #[test]
    fn long_numbers_are_grouped() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (12_345_678, "12,345,678")] {
            assert_eq!(thousands(number), text);
        }
    }
}
