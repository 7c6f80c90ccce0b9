//! Pages for people: rendered here, complete without a script, each state with an address of its own.

use std::sync::Arc;

use askama::Template;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query as FromAddress, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use exit137_core::time::UnixNanos;
use exit137_core::verdict::Cause;
use jiff::tz::TimeZone;
use serde::Deserialize;

use super::reply;
use crate::output::{self, Paper, clean_line};
use crate::server::incident::Summary;
use crate::server::query::{Page, Query, SORTS};
use crate::server::recorder::Recorder;

/// What all pages have in common.
pub(super) struct Frame {
    pub(super) here: &'static str,
    pub(super) warnings: Vec<String>,
    pub(super) version: &'static str,
}

pub(super) fn frame(recorder: &Recorder, here: &'static str) -> Frame {
    Frame { here, warnings: recorder.warnings(), version: env!("CARGO_PKG_VERSION") }
}

/// An entry of a list to choose from.
struct Choice {
    value: String,
    label: String,
    chosen: bool,
}

struct Row {
    id: String,
    title: String,
    details: String,
    cause: &'static str,
    certainty: String,
    sure: bool,
    note: String,
    operations: Vec<String>,
    kills: u64,
    last: String,
    last_at: String,
}

#[derive(Template)]
#[template(path = "incidents.html")]
struct IncidentsPage {
    frame: Frame,
    /// What is searched for.
    words: String,
    causes: Vec<Choice>,
    namespaces: Vec<Choice>,
    states: Vec<Choice>,
    orders: Vec<Choice>,
    /// Filters that the form has no field for.
    carried: Vec<(&'static str, String)>,
    filtered: bool,
    complaint: Option<String>,
    rows: Vec<Row>,
    shown: String,
    before: String,
    after: String,
    since: String,
    received: String,
    otlp_http: Option<String>,
    otlp_grpc: Option<String>,
    kubernetes: String,
    kernel_log: String,
}

/// `/`: the incidents.
pub(super) async fn incidents(
    State(recorder): State<Arc<Recorder>>,
    query: Result<FromAddress<Query>, QueryRejection>,
) -> Response {
    let (query, complaint) = match query {
        Ok(FromAddress(query)) => (query, None),
        Err(rejection) => (Query::default(), Some(rejection.body_text())),
    };
    let sources = recorder.sources();
    let all = recorder.incidents();
    let answer = query.answer(all.iter());
    let (page, complaint) = match (answer, complaint) {
        (Ok(page), None) => (page, None),
        (Ok(_), Some(complaint)) => (nothing(), Some(complaint)),
        (Err(error), _) => (nothing(), Some(error.to_string())),
    };
    let mut namespaces: Vec<&str> = all.iter().filter_map(|summary| summary.namespace.as_deref()).collect();
    namespaces.sort_unstable();
    namespaces.dedup();
    let (before, after) = neighbours(&query, &page);
    let view = IncidentsPage {
        frame: frame(&recorder, "incidents"),
        causes: causes(&query),
        namespaces: namespaces
            .into_iter()
            .map(|name| choice(name, clean_line(name), &query.namespace))
            .collect(),
        states: [("open", "still happening"), ("ended", "ended by a rollout")]
            .map(|(value, label)| choice(value, label.to_owned(), &query.state))
            .into(),
        orders: orders(&query),
        carried: carried(&query),
        filtered: is_filtered(&query),
        complaint: complaint.as_deref().map(clean_line),
        shown: shown(&page),
        rows: page.incidents.iter().map(|summary| row(summary)).collect(),
        before,
        after,
        since: day_and_time(recorder.started),
        received: sources.received,
        otlp_http: sources.otlp_http,
        otlp_grpc: sources.otlp_grpc,
        kubernetes: sources.kubernetes,
        kernel_log: sources.kernel_log,
        // What somebody was made to click on is shown to them too.
        words: clean_line(&query.q),
    };
    drop(all);
    reply::page(&view)
}

fn nothing<'a>() -> Page<'a> {
    Page { incidents: Vec::new(), total: 0, offset: 0, limit: 1 }
}

fn choice(value: &str, label: String, chosen: &str) -> Choice {
    Choice { value: value.to_owned(), label, chosen: value == chosen }
}

fn causes(query: &Query) -> Vec<Choice> {
    Cause::ALL
        .into_iter()
        .map(|cause| choice(cause.name(), output::capitalized(cause.title()), &query.cause))
        .collect()
}

fn orders(query: &Query) -> Vec<Choice> {
    let label = |sort: &&str| match *sort {
        "last" => ("-last", "latest first"),
        "first" => ("-first", "newest incident first"),
        "kills" => ("-kills", "most kills first"),
        "certainty" => ("-certainty", "surest first"),
        "where" => ("where", "by name"),
        "cause" => ("cause", "by cause"),
        _ => ("operation", "by operation"),
    };
    let asked = if query.sort.is_empty() { "-last" } else { &query.sort };
    SORTS.iter().map(label).map(|(value, label)| choice(value, label.to_owned(), asked)).collect()
}

fn carried(query: &Query) -> Vec<(&'static str, String)> {
    let all = [
        ("workload", &query.workload),
        ("container", &query.container),
        ("operation", &query.operation),
        ("since", &query.since),
        ("until", &query.until),
        ("certainty", &query.certainty),
    ];
    all.into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| (name, clean_line(value)))
        .collect()
}

fn is_filtered(query: &Query) -> bool {
    let fields = [&query.q, &query.cause, &query.namespace, &query.state];
    fields.into_iter().any(|value| !value.is_empty()) || !carried(query).is_empty()
}

fn shown(page: &Page<'_>) -> String {
    let last = page.offset + page.incidents.len();
    match page.total {
        1 => "1 incident".to_owned(),
        total if page.offset == 0 && last == total => format!("{total} incidents"),
        total => format!("{} to {last} of {total} incidents", (page.offset + 1).min(last)),
    }
}

/// Addresses of the pages before and after, empty where there is none.
fn neighbours(query: &Query, page: &Page<'_>) -> (String, String) {
    let address = |offset: usize| {
        let mut pairs: Vec<(&str, String)> = vec![
            ("q", query.q.clone()),
            ("cause", query.cause.clone()),
            ("namespace", query.namespace.clone()),
            ("state", query.state.clone()),
            ("sort", query.sort.clone()),
            ("limit", query.limit.clone()),
        ];
        pairs.extend(carried(query));
        pairs.push(("offset", offset.to_string()));
        let pairs = pairs.iter().filter(|(_, value)| !value.is_empty());
        let pairs: Vec<String> = pairs.map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        format!("/?{}", pairs.join("&"))
    };
    let before =
        if page.offset > 0 { address(page.offset.saturating_sub(page.limit)) } else { String::new() };
    let next = page.offset + page.incidents.len();
    let after = if next < page.total && !page.incidents.is_empty() { address(next) } else { String::new() };
    (before, after)
}

/// A value as an address carries it.
fn encoded(value: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    value.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

fn row(summary: &Summary) -> Row {
    let version = summary.version.as_deref().map(|version| format!("version {version}"));
    let details =
        [summary.workload_kind.clone(), version].into_iter().flatten().collect::<Vec<_>>().join(" · ");
    let note = match (&summary.ended_with, summary.settled) {
        (Some(version), _) => format!("no kill since {version}"),
        (None, false) => "still being judged".to_owned(),
        (None, true) => String::new(),
    };
    Row {
        id: summary.id.clone(),
        title: clean_line(&summary.title),
        details: clean_line(&details),
        cause: summary.cause_title(),
        certainty: match summary.cause == Cause::Unknown.name() {
            true => "not enough to tell".to_owned(),
            false => summary.certainty(),
        },
        sure: summary.probability >= 0.7,
        note: clean_line(&note),
        operations: summary.operations.iter().map(|name| clean_line(name)).collect(),
        kills: summary.kill_count,
        last: day_and_time(summary.last()),
        last_at: summary.last_at.clone(),
    }
}

pub(super) fn day_and_time(at: UnixNanos) -> String {
    output::date_time(at, &TimeZone::UTC)
}

#[derive(Template)]
#[template(path = "incident.html")]
struct IncidentPage {
    frame: Frame,
    id: String,
    heading: String,
    state: String,
    /// Whether the browser is asked to come again, and whether it was told not to.
    live: bool,
    stopped: bool,
    article: String,
}

/// How an incident's page is shown.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct View {
    /// `off` stops a page that comes again by itself: who reads slowly must be able to.
    refresh: String,
}

/// `/incidents/ID`: one incident, as `--output html` shows it.
pub(super) async fn incident(
    State(recorder): State<Arc<Recorder>>,
    Path(id): Path<String>,
    view: Result<FromAddress<View>, QueryRejection>,
) -> Response {
    let stopped = view.is_ok_and(|FromAddress(view)| view.refresh == "off");
    let Some(summary) = recorder.summary(&id) else {
        return missing(&recorder, "There is no incident of this name, or it has aged out.");
    };
    let Some(document) = recorder.document(&id).await else {
        return missing(&recorder, "The verdict on this incident cannot be read.");
    };
    let Ok(verdict) = output::read_json(&document) else {
        return missing(
            &recorder,
            "The verdict on this incident was written in a form that is not understood.",
        );
    };
    let title = clean_line(&summary.title);
    let view = IncidentPage {
        frame: frame(&recorder, "incident"),
        heading: format!(
            "{} of {title}",
            output::count(summary.kill_count as usize, "OOM kill", "OOM kills")
        ),
        state: clean_line(&state_of(&summary)),
        live: !summary.settled && !stopped,
        stopped: !summary.settled && stopped,
        article: output::html_articles(&verdict, &Paper::default()),
        id,
    };
    reply::page(&view)
}

fn state_of(summary: &Summary) -> String {
    let mut parts = Vec::new();
    if summary.first_at == summary.last_at {
        parts.push(format!("At {}", day_and_time(summary.last())));
    } else {
        parts.push(format!("From {} to {}", day_and_time(summary.first()), day_and_time(summary.last())));
    }
    if let Some(version) = &summary.ended_with {
        parts.push(format!("no kill since {version}"));
    }
    if !summary.settled {
        parts.push("still being judged: what comes late may change this".to_owned());
    }
    parts.join("; ")
}

/// Judges again and shows the result.
pub(super) async fn recompute(State(recorder): State<Arc<Recorder>>, Path(id): Path<String>) -> Response {
    match recorder.recompute(&id).await {
        Ok(summary) => Redirect::to(&format!("/incidents/{}", summary.id)).into_response(),
        Err(error) => missing(&recorder, &error),
    }
}

#[derive(Template)]
#[template(path = "message.html")]
struct MessagePage {
    frame: Frame,
    title: &'static str,
    message: String,
}

pub(super) fn missing(recorder: &Recorder, message: &str) -> Response {
    let view = MessagePage { frame: frame(recorder, ""), title: "Not found", message: clean_line(message) };
    (StatusCode::NOT_FOUND, reply::page(&view)).into_response()
}

/// Any other address.
pub(super) async fn not_found(State(recorder): State<Arc<Recorder>>) -> Response {
    missing(&recorder, "There is no page at this address.")
}
