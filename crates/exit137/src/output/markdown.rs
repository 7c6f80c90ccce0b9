//! Markdown for a ticket: short on top, the raw facts folded away. Text from outside is never markup.

use exit137_core::bytes::Bytes;
use exit137_core::verdict::{IncidentVerdict, Kill, LeakVerdict, OperationClaim, Verdict};

use super::clean::{markdown as text, markdown_code as code};
use super::{Paper, words};

/// Kills in the table; a ticket with more is read by nobody.
const KILLS_SHOWN_MAX: usize = 20;

/// Requests listed of all that were in flight.
const REQUESTS_SHOWN_MAX: usize = 20;

/// The whole verdict.
pub(super) fn render(verdict: &Verdict, paper: &Paper) -> String {
    let mut blocks: Vec<String> = Vec::new();
    if verdict.incidents.is_empty() && verdict.leaks.is_empty() {
        blocks.push(format!(
            "## {}",
            text(&words::capitalized(&words::nothing_found(paper.asked_for.as_deref())))
        ));
        blocks.push(format!("Looked in: {}.", text(&words::looked_in(verdict))));
        blocks.push(format!("Hint: {}", text(&words::hint(verdict, &paper.left_out))));
    }
    for incident in &verdict.incidents {
        write_incident(&mut blocks, incident, paper);
    }
    for leak in &verdict.leaks {
        write_leak(&mut blocks, leak);
    }
    other_ends(&mut blocks, verdict, paper);
    if !verdict.guesses.is_empty() {
        blocks.push(format!("Guessed:\n\n{}", bullets(&verdict.guesses)));
    }
    if !(verdict.incidents.is_empty() && verdict.leaks.is_empty()) {
        blocks.push(format!("<sub>exit137 looked in: {}.</sub>", text(&words::looked_in(verdict))));
    }
    let mut out = blocks.join("\n\n");
    out.push('\n');
    out
}

fn write_incident(blocks: &mut Vec<String>, incident: &IncidentVerdict, paper: &Paper) {
    blocks.push(format!("## {}", text(&incident.headline)));
    let since = incident.introduced_by.as_ref().map(|introduced| match &introduced.previous {
        Some(previous) => format!(", since {} ({} was healthy)", code(&introduced.version), code(previous)),
        None => format!(", since {}", code(&introduced.version)),
    });
    blocks.push(format!(
        "**Cause:** {}, **{}**{}  \n**Where:** {}",
        incident.cause.title(),
        words::certainty_of(incident.cause, incident.probability),
        since.unwrap_or_default(),
        code(&words::container(&incident.container)),
    ));
    let advice = &incident.advice;
    let mut action = format!("**Do:** {}", text(&advice.summary));
    if let Some(limit) = advice.limit_bytes {
        let days = advice.horizon_days.map(|days| words::count(days as usize, "day", "days"));
        let horizon = days.map(|days| format!(", meant to hold for {days}")).unwrap_or_default();
        action.push_str(&format!("  \nA limit to set: {}{horizon}.", Bytes(limit)));
    }
    if let Some(next) = advice.next_kill_in_seconds {
        let next = words::duration_range(next);
        action.push_str(&format!("  \nIf nothing changes, the next kill comes in {next}."));
    }
    blocks.push(action);
    kills(blocks, &incident.kills, paper);
    operations(blocks, &incident.operations);
    opinions(blocks, incident);
    in_flight(blocks, incident, paper);
    details(blocks, incident);
    if !incident.gaps.is_empty() {
        let gaps = incident.gaps.iter().map(|gap| {
            format!("- Missing: {} — {} — do: {}", text(&gap.missing), text(&gap.effect), text(&gap.remedy))
        });
        blocks.push(gaps.collect::<Vec<_>>().join("\n"));
    }
}

fn kills(blocks: &mut Vec<String>, kills: &[Kill], paper: &Paper) {
    let zone = words::zone_name(&paper.zone);
    let mut table = format!(
        "| Killed at ({}) | Pod | Limit hit | Process | Seen by |\n|---|---|---|---|---|",
        text(&zone)
    );
    for kill in kills.iter().take(KILLS_SHOWN_MAX) {
        table.push_str(&format!(
            "\n| {} | {} | {} | {} | {} |",
            words::moment(kill.at, &paper.zone),
            code(kill.pod.as_deref().unwrap_or_default()),
            words::limit(kill).unwrap_or_default(),
            text(&words::victim(&kill.victim).unwrap_or_default()),
            words::witnesses(kill),
        ));
    }
    blocks.push(table);
    if kills.len() > KILLS_SHOWN_MAX {
        blocks.push(format!("and {} more kills", kills.len() - KILLS_SHOWN_MAX));
    }
}

fn operations(blocks: &mut Vec<String>, operations: &[OperationClaim]) {
    if operations.is_empty() {
        return;
    }
    let lines = operations.iter().map(|operation| {
        let names: Vec<String> = operation.names.iter().map(|name| code(name)).collect();
        let service = operation.service.as_ref().map(|service| format!(" of {}", code(service)));
        let mut line = format!(
            "- {}{}, **{}**: {}",
            names.join(" or "),
            service.unwrap_or_default(),
            words::certainty(operation.probability),
            text(&operation.summary)
        );
        if !operation.attributes.is_empty() {
            line.push_str(&format!("; with {}", code(&words::attributes(&operation.attributes))));
        }
        if let Some(bytes) = operation.bytes_per_execution {
            line.push_str(&format!("; {} each", words::bytes_range(bytes)));
        }
        for note in &operation.notes {
            line.push_str(&format!("; {}", text(note)));
        }
        line
    });
    blocks.push("### Operations".to_owned());
    blocks.push(lines.collect::<Vec<_>>().join("\n"));
}

fn opinions(blocks: &mut Vec<String>, incident: &IncidentVerdict) {
    let (leading, others): (Vec<_>, Vec<_>) =
        incident.opinions.iter().partition(|opinion| opinion.cause == incident.cause);
    blocks.push(format!("### Why {}", incident.cause.title()));
    for opinion in leading {
        blocks.push(text(&words::capitalized(&opinion.summary)));
        if !opinion.evidence.is_empty() {
            blocks.push(bullets(&opinion.evidence));
        }
    }
    if !others.is_empty() {
        let lines = others.iter().map(|opinion| {
            let answer = words::answer(opinion.answer);
            format!("- {}: **{answer}**, {}", opinion.cause.title(), text(&opinion.summary))
        });
        let lines = lines.collect::<Vec<_>>().join("\n");
        blocks.push(format!("<details><summary>Other causes</summary>\n\n{lines}\n\n</details>"));
    }
}

fn in_flight(blocks: &mut Vec<String>, incident: &IncidentVerdict, paper: &Paper) {
    if incident.in_flight.is_empty() {
        return;
    }
    blocks.push(format!("### {}", words::capitalized(&words::in_flight_title(incident.in_flight.len()))));
    let mut lines: Vec<String> = Vec::new();
    for request in incident.in_flight.iter().take(REQUESTS_SHOWN_MAX) {
        let mut line =
            format!("- {} {}", code(&request.operation), words::recovered_from(request.recovered_from));
        if let Some(started) = request.started_at {
            line.push_str(&format!(", since {}", words::clock(started, &paper.zone)));
        }
        if let Some(id) = request.trace_id {
            line.push_str(&format!(", trace `{id:032x}`"));
        }
        if !request.attributes.is_empty() {
            line.push_str(&format!(", {}", code(&words::attributes(&request.attributes))));
        }
        lines.push(line);
    }
    if incident.in_flight.len() > REQUESTS_SHOWN_MAX {
        lines.push(format!("- and {} more", incident.in_flight.len() - REQUESTS_SHOWN_MAX));
    }
    blocks.push(lines.join("\n"));
}

fn details(blocks: &mut Vec<String>, incident: &IncidentVerdict) {
    let mut table = "| What | Value | Source |\n|---|---|---|".to_owned();
    for (name, value) in words::container_details(&incident.container) {
        table.push_str(&format!("\n| {name} | {} | |", code(&value)));
    }
    for fact in &incident.facts {
        table.push_str(&format!(
            "\n| {} | {} | {} |",
            text(&fact.name),
            code(&fact.value),
            text(&fact.source)
        ));
    }
    for finding in &incident.settings {
        let contradicts = if finding.contradicts { "**contradicts the limit:** " } else { "" };
        table.push_str(&format!(
            "\n| {} | {contradicts}{} | {} |",
            code(&finding.setting),
            text(&finding.summary),
            text(&finding.place)
        ));
    }
    blocks.push(format!("<details><summary>Raw facts</summary>\n\n{table}\n\n</details>"));
}

fn write_leak(blocks: &mut Vec<String>, leak: &LeakVerdict) {
    blocks.push(format!("## Not killed yet: {}", text(&leak.headline)));
    let mut lines = format!(
        "**Cause:** a memory leak in {}, **{}**  \n**Grows:** {} an hour",
        code(&words::container(&leak.container)),
        words::certainty(leak.probability),
        words::bytes_range(leak.slope_bytes_per_hour)
    );
    if let Some(interval) = leak.time_to_limit_seconds {
        let until = words::duration_range(interval);
        lines.push_str(&format!("  \n**Meets its limit:** in {until} if nothing changes"));
    }
    blocks.push(lines);
    operations(blocks, &leak.operations);
}

fn other_ends(blocks: &mut Vec<String>, verdict: &Verdict, paper: &Paper) {
    if verdict.not_oom.is_empty() {
        return;
    }
    blocks.push("## Ended with SIGKILL, but not by the OOM killer".to_owned());
    let lines = words::group_not_oom(verdict).into_iter().map(|group| {
        let when = group.when(&paper.zone).map(|when| format!(" ({when})")).unwrap_or_default();
        format!(
            "- {} × {}: **{}**{when}, {}",
            group.ends.len(),
            code(&group.container),
            words::not_oom_reason(group.reason),
            text(group.ends.last().map_or("", |end| &end.summary))
        )
    });
    blocks.push(lines.collect::<Vec<_>>().join("\n"));
}

fn bullets(items: &[String]) -> String {
    let items: Vec<String> = items.iter().map(|item| format!("- {}", text(item))).collect();
    items.join("\n")
}
