//! One incident as an article: verdict, action, chart, operations, evidence, requests, kills, facts, gaps.

use exit137_core::bytes::Bytes;
use exit137_core::time::UnixNanos;
use exit137_core::verdict::{Answer, Cause, IncidentVerdict, Kill, LimitHit, OperationClaim, Opinion};

use super::markup::{Text, put};
use super::{certainty, certainty_of, figure};
use crate::output::words::capitalized;
use crate::output::{Paper, words};

/// Requests listed of one operation; the JSON has all.
const REQUESTS_SHOWN_MAX: usize = 20;

/// Kills listed; the JSON has all.
const KILLS_SHOWN_MAX: usize = 50;

pub(super) fn write(out: &mut String, incident: &IncidentVerdict, number: usize, paper: &Paper) {
    put!(out, "<article id=\"incident-{number}\" aria-labelledby=\"incident-{number}-h\">\n");
    head(out, incident, number);
    let elsewhere = kills_elsewhere(&incident.kills);
    figure::write(
        out,
        &incident.timeline,
        &format!("incident-{number}"),
        &incident.headline,
        &elsewhere,
        paper,
    );
    operations(out, &incident.operations);
    opinions(out, incident);
    in_flight(out, incident, paper);
    kills(out, &incident.kills, paper);
    settings(out, incident);
    facts(out, incident);
    gaps(out, incident);
    out.push_str("</article>\n");
}

/// The kills at which another limit than the container's or its pod's was hit.
fn kills_elsewhere(kills: &[Kill]) -> Vec<UnixNanos> {
    let elsewhere = |kill: &&Kill| matches!(kill.limit_hit, Some(LimitHit::Node | LimitHit::Ancestor));
    kills.iter().filter(elsewhere).map(|kill| kill.at.at).collect()
}

fn head(out: &mut String, incident: &IncidentVerdict, number: usize) {
    let details: Vec<String> = words::container_details(&incident.container)
        .into_iter()
        .filter(|(key, _)| matches!(*key, "pod" | "version" | "node"))
        .map(|(key, value)| format!("{key} {value}"))
        .collect();
    let place = [vec![words::container(&incident.container)], details].concat().join(" · ");
    put!(out, "<p class=\"where\">{}</p>\n", Text(&place));
    put!(out, "<h2 id=\"incident-{number}-h\">{}</h2>\n", Text(&incident.headline));
    put!(out, "<p class=\"cause\">{} ", capitalized(incident.cause.title()));
    out.push_str(&certainty_of(incident));
    if let Some(introduced) = &incident.introduced_by {
        put!(out, " since version {}", Text(&introduced.version));
        if let Some(previous) = &introduced.previous {
            put!(out, " ({} was healthy)", Text(previous));
        }
    }
    out.push_str("</p>\n");
    let advice = &incident.advice;
    put!(
        out,
        "<div class=\"action\">\n<h3>What to do</h3>\n<p>{}</p>\n",
        Text(&capitalized(&advice.summary))
    );
    let mut more = Vec::new();
    if let Some(limit) = advice.limit_bytes {
        let days = advice.horizon_days.map(|days| words::count(days as usize, "day", "days"));
        let horizon = days.map(|days| format!(", meant to hold for {days}")).unwrap_or_default();
        more.push(format!("A limit to set: {}{horizon}.", Bytes(limit)));
    }
    if let Some(next) = advice.next_kill_in_seconds {
        more.push(format!("If nothing changes, the next kill comes in {}.", words::duration_range(next)));
    }
    if !more.is_empty() {
        put!(out, "<p class=\"more\">{}</p>\n", Text(&more.join(" ")));
    }
    out.push_str("</div>\n");
}

pub(super) fn operations(out: &mut String, operations: &[OperationClaim]) {
    if operations.is_empty() {
        return;
    }
    out.push_str("<h3>Which operation</h3>\n<ul class=\"plain operations\">\n");
    for operation in operations {
        let names: Vec<String> = operation
            .names
            .iter()
            .map(|name| format!("<strong><code>{}</code></strong>", Text(name)))
            .collect();
        put!(out, "<li>{}", names.join(" or "));
        if let Some(service) = &operation.service {
            put!(out, " of {}", Text(service));
        }
        put!(out, " {}<br>{}", certainty(operation.probability), Text(&capitalized(&operation.summary)));
        let mut parts = Vec::new();
        if !operation.attributes.is_empty() {
            parts.push(format!("with {}", words::attributes(&operation.attributes)));
        }
        if let Some(bytes) = operation.bytes_per_execution {
            parts.push(format!("{} each", words::bytes_range(bytes)));
        }
        if operation.in_flight_at_kill > 0 {
            parts.push(format!("{} in flight at the kill", operation.in_flight_at_kill));
        }
        if !parts.is_empty() {
            put!(out, "<br><span class=\"soft\">{}</span>", Text(&parts.join(" · ")));
        }
        for note in &operation.notes {
            put!(out, "<br>{}", Text(&capitalized(note)));
        }
        out.push_str("</li>\n");
    }
    out.push_str("</ul>\n");
}

fn opinions(out: &mut String, incident: &IncidentVerdict) {
    let (leading, others): (Vec<_>, Vec<_>) =
        incident.opinions.iter().partition(|opinion| opinion.cause == incident.cause);
    put!(out, "<h3>Why {}</h3>\n", incident.cause.title());
    for opinion in leading {
        put!(out, "<p>{}</p>\n", Text(&capitalized(&opinion.summary)));
        list(out, &opinion.evidence);
    }
    if others.is_empty() {
        return;
    }
    out.push_str("<h3>Why nothing else</h3>\n<div class=\"scroll\"><table class=\"stack\">\n<thead><tr>");
    out.push_str("<th scope=\"col\">Cause</th><th scope=\"col\">Answer</th><th scope=\"col\">Because</th></tr></thead>\n<tbody>\n");
    // That something unknown did it is always possible, and the last thing to think of.
    let (unknown, known): (Vec<_>, Vec<_>) =
        others.into_iter().partition(|opinion| opinion.cause == Cause::Unknown);
    for opinion in known.into_iter().chain(unknown) {
        other_opinion(out, opinion);
    }
    out.push_str("</tbody>\n</table></div>\n");
}

fn other_opinion(out: &mut String, opinion: &Opinion) {
    let class = match opinion.answer {
        Answer::Supported => "supported",
        Answer::RuledOut => "ruled-out",
        Answer::CannotTell => "cannot-tell",
    };
    put!(out, "<tr><th scope=\"row\">{}</th>", capitalized(opinion.cause.title()));
    put!(out, "<td class=\"answer {class}\">{}</td><td>", words::answer(opinion.answer));
    put!(out, "{}", Text(&opinion.summary));
    let said = |evidence: &&String| evidence.ends_with(&opinion.summary);
    let more: Vec<String> = opinion.evidence.iter().filter(|item| !said(item)).cloned().collect();
    list(out, &more);
    out.push_str("</td></tr>\n");
}

fn list(out: &mut String, items: &[String]) {
    if items.is_empty() {
        return;
    }
    out.push_str("<ul class=\"evidence\">\n");
    for item in items {
        put!(out, "<li>{}</li>\n", Text(item));
    }
    out.push_str("</ul>\n");
}

fn in_flight(out: &mut String, incident: &IncidentVerdict, paper: &Paper) {
    let missing = incident.in_flight_missing.filter(|missing| *missing >= 0.5);
    if incident.in_flight.is_empty() && missing.is_none() {
        return;
    }
    let title = capitalized(&words::in_flight_title(incident.in_flight.len()));
    put!(out, "<h3>{title}</h3>\n");
    if !incident.in_flight.is_empty() {
        requests(out, incident, paper);
    }
    if let Some(missing) = missing {
        put!(
            out,
            "<p class=\"soft\">By the usual rate about {missing:.0} more ran; nothing tells which.</p>\n"
        );
    }
}

fn requests(out: &mut String, incident: &IncidentVerdict, paper: &Paper) {
    out.push_str("<ul class=\"plain operations\">\n");
    for (operation, requests) in words::group_in_flight(&incident.in_flight) {
        put!(out, "<li>{} × <strong><code>{}</code></strong>\n", requests.len(), Text(operation));
        out.push_str("<ul class=\"evidence soft\">\n");
        for request in requests.iter().take(REQUESTS_SHOWN_MAX) {
            out.push_str("<li>");
            if let Some(started) = request.started_at {
                put!(out, "since {}, ", words::clock(started, &paper.zone));
            }
            put!(out, "known {}", words::recovered_from(request.recovered_from));
            if let Some(id) = request.trace_id {
                put!(out, ", trace <code>{id:032x}</code>");
            }
            if !request.attributes.is_empty() {
                put!(out, "<br>{}", Text(&words::attributes(&request.attributes)));
            }
            out.push_str("</li>\n");
        }
        if requests.len() > REQUESTS_SHOWN_MAX {
            put!(out, "<li>and {} more</li>\n", requests.len() - REQUESTS_SHOWN_MAX);
        }
        out.push_str("</ul></li>\n");
    }
    out.push_str("</ul>\n");
}

fn kills(out: &mut String, kills: &[Kill], paper: &Paper) {
    put!(out, "<h3>{}</h3>\n", words::count(kills.len(), "kill", "kills"));
    out.push_str("<div class=\"scroll\"><table class=\"stack\">\n<thead><tr><th scope=\"col\">When</th>");
    out.push_str(
        "<th scope=\"col\">Pod</th><th scope=\"col\">Limit hit</th><th scope=\"col\">Process killed</th>",
    );
    out.push_str("<th scope=\"col\">Seen by</th></tr></thead>\n<tbody>\n");
    for kill in kills.iter().take(KILLS_SHOWN_MAX) {
        let unknown = || "not known".to_owned();
        put!(out, "<tr><th scope=\"row\">{}</th>", Text(&words::moment(kill.at, &paper.zone)));
        put!(out, "<td data-name=\"Pod\">{}</td>", Text(&kill.pod.clone().unwrap_or_else(unknown)));
        put!(out, "<td data-name=\"Limit hit\">{}</td>", Text(&words::limit(kill).unwrap_or_else(unknown)));
        let mut victim = words::victim(&kill.victim).unwrap_or_else(unknown);
        if kill.container_survived == Some(true) {
            victim.push_str("; the container lived on");
        }
        put!(out, "<td data-name=\"Process killed\">{}</td>", Text(&victim));
        put!(out, "<td data-name=\"Seen by\">{}", Text(&words::witnesses(kill)));
        if let Some(record) = &kill.record {
            put!(out, "<br><span class=\"soft\">{}</span>", Text(record));
        }
        out.push_str("</td></tr>\n");
    }
    out.push_str("</tbody>\n</table></div>\n");
    if kills.len() > KILLS_SHOWN_MAX {
        put!(out, "<p class=\"soft\">And {} more kills.</p>\n", kills.len() - KILLS_SHOWN_MAX);
    }
}

fn settings(out: &mut String, incident: &IncidentVerdict) {
    if incident.settings.is_empty() {
        return;
    }
    out.push_str("<h3>Runtime settings against the limit</h3>\n<ul class=\"evidence\">\n");
    for finding in &incident.settings {
        let warning =
            if finding.contradicts { "<span class=\"warn\">Contradicts the limit:</span> " } else { "" };
        put!(
            out,
            "<li>{warning}<code>{}</code> <span class=\"soft\">({})</span>: {}</li>\n",
            Text(&finding.setting),
            Text(&finding.place),
            Text(&finding.summary)
        );
    }
    out.push_str("</ul>\n");
}

fn facts(out: &mut String, incident: &IncidentVerdict) {
    let container = words::container_details(&incident.container);
    put!(out, "<details><summary>Raw facts ({})</summary>\n", container.len() + incident.facts.len());
    out.push_str("<div class=\"scroll\"><table class=\"stack\">\n<thead><tr><th scope=\"col\">What</th>");
    out.push_str("<th scope=\"col\">Value</th><th scope=\"col\">Source</th></tr></thead>\n<tbody>\n");
    for (name, value) in container {
        put!(out, "<tr><th scope=\"row\">{name}</th><td>{}</td><td></td></tr>\n", Text(&value));
    }
    for fact in &incident.facts {
        put!(
            out,
            "<tr><th scope=\"row\">{}</th><td class=\"value\">{}</td><td class=\"soft\">{}</td></tr>\n",
            Text(&fact.name),
            Text(&fact.value),
            Text(&fact.source)
        );
    }
    out.push_str("</tbody>\n</table></div>\n</details>\n");
}

fn gaps(out: &mut String, incident: &IncidentVerdict) {
    if incident.gaps.is_empty() {
        return;
    }
    out.push_str("<h3>What was missing</h3>\n<ul class=\"plain gaps\">\n");
    for gap in &incident.gaps {
        put!(out, "<li><strong>{}</strong>: {}<br>", Text(&capitalized(&gap.missing)), Text(&gap.effect));
        put!(out, "<span class=\"soft\">To have it next time:</span> {}</li>\n", Text(&gap.remedy));
    }
    out.push_str("</ul>\n");
}
