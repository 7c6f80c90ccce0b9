//! One incident, section by section.

use anstyle::Style;
use exit137_core::bytes::Bytes;
use exit137_core::verdict::{
    Answer, Fact, Gap, InFlight, IncidentVerdict, Kill, OperationClaim, Opinion, Probability, SettingFinding,
};
use unicode_width::UnicodeWidthStr;

use super::chart;
use super::sheet::{BOLD, DIM, GREEN, PLAIN, Piece, RED, Sheet, YELLOW};
use crate::output::{clean, words};

/// Requests shown of one operation.
const REQUESTS_SHOWN_MAX: usize = 3;

/// Operations in flight that are listed one by one.
const OPERATIONS_SHOWN_MAX: usize = 8;

/// Kills listed one by one: first and last ones.
const KILLS_SHOWN_MAX: usize = 8;

/// Widest column of names.
const NAME_COLUMNS_MAX: usize = 38;

/// Green is sure, yellow is not.
pub(super) fn certainty_style(probability: Probability) -> Style {
    if probability.0 >= 0.7 { GREEN.bold() } else { YELLOW.bold() }
}

/// All sections that have something to say.
pub(super) fn write(sheet: &mut Sheet<'_>, incident: &IncidentVerdict) {
    head(sheet, incident);
    chart::draw(sheet, &incident.timeline);
    operations(sheet, &incident.operations, false);
    opinions(sheet, incident);
    in_flight(sheet, incident);
    kills(sheet, &incident.kills);
    settings(sheet, &incident.settings);
    facts(sheet, &incident.facts);
    gaps(sheet, &incident.gaps);
}

fn head(sheet: &mut Sheet<'_>, incident: &IncidentVerdict) {
    sheet.paragraph("", 0, &[(BOLD, &incident.headline)]);
    let mut cause: Vec<Piece<'_>> = vec![(PLAIN, incident.cause.title()), (PLAIN, ", ")];
    let certainty = format!(" {}", words::certainty_of(incident.cause, incident.probability));
    cause.push((certainty_style(incident.probability), &certainty));
    let since = incident.introduced_by.as_ref().map(|introduced| match &introduced.previous {
        Some(previous) => format!(", since version {} ({previous} was healthy)", introduced.version),
        None => format!(", since version {}", introduced.version),
    });
    if let Some(since) = &since {
        cause.push((PLAIN, since));
    }
    sheet.field(2, 6, "cause", &cause);
    sheet.field(2, 6, "do", &[(BOLD, &incident.advice.summary)]);
    if let Some(limit) = incident.advice.limit_bytes {
        let horizon = incident
            .advice
            .horizon_days
            .map(|days| format!(", meant to hold for {}", words::count(days as usize, "day", "days")));
        let limit = format!("{}{}", Bytes(limit), horizon.unwrap_or_default());
        sheet.field(2, 6, "limit", &[(PLAIN, &limit)]);
    }
    if let Some(next) = incident.advice.next_kill_in_seconds {
        let next = format!("the next kill comes in {} if nothing changes", words::duration_range(next));
        sheet.field(2, 6, "else", &[(PLAIN, &next)]);
    }
    let details: Vec<String> = words::container_details(&incident.container)
        .into_iter()
        .filter(|(key, _)| *key != "image")
        .map(|(key, value)| format!("{key} {}", clean::shorten(&value, 60)))
        .collect();
    sheet.field(2, 6, "where", &[(DIM, &details.join(", "))]);
}

/// Who did it, and what one execution costs.
pub(super) fn operations(sheet: &mut Sheet<'_>, operations: &[OperationClaim], keeps: bool) {
    if operations.is_empty() {
        return;
    }
    sheet.title(if keeps { "operations that may keep memory" } else { "operations" });
    for operation in operations {
        let names: Vec<String> = operation.names.iter().map(|name| clean::shorten(name, 60)).collect();
        let name = names.join(" or ");
        let service = operation.service.as_ref().map(|service| format!(" of {service}")).unwrap_or_default();
        let certainty = format!(" {}", words::certainty(operation.probability));
        sheet.item(
            2,
            "·",
            &[
                (BOLD, &name),
                (PLAIN, &service),
                (PLAIN, ","),
                (certainty_style(operation.probability), &certainty),
            ],
        );
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
        sheet.paragraph("    ", 4, &[(PLAIN, &operation.summary)]);
        if !parts.is_empty() {
            sheet.paragraph("    ", 4, &[(DIM, &parts.join("; "))]);
        }
        for note in &operation.notes {
            sheet.paragraph("    ", 4, &[(PLAIN, note)]);
        }
    }
}

fn opinions(sheet: &mut Sheet<'_>, incident: &IncidentVerdict) {
    let (leading, others): (Vec<_>, Vec<_>) =
        incident.opinions.iter().partition(|opinion| opinion.cause == incident.cause);
    sheet.title(&format!("why {}", incident.cause.title()));
    for opinion in leading {
        sheet.paragraph("  ", 2, &[(PLAIN, &opinion.summary)]);
        for evidence in &opinion.evidence {
            sheet.item(2, "-", &[(PLAIN, evidence)]);
        }
    }
    if others.is_empty() {
        return;
    }
    sheet.title("why nothing else");
    let column = column(others.iter().map(|opinion| opinion.cause.title()));
    for opinion in others {
        // Beside a column of names a narrow terminal has no room for sentences.
        if column * 2 > sheet.width {
            let mut pieces: Vec<Piece<'_>> = vec![(PLAIN, opinion.cause.title()), (PLAIN, ", ")];
            pieces.extend(other_opinion(opinion));
            sheet.item(2, "-", &pieces);
        } else {
            sheet.field(2, column, opinion.cause.title(), &other_opinion(opinion));
        }
    }
}

fn other_opinion(opinion: &Opinion) -> Vec<Piece<'_>> {
    let style = match opinion.answer {
        Answer::Supported => GREEN,
        Answer::RuledOut => DIM,
        Answer::CannotTell => YELLOW,
    };
    vec![(style, words::answer(opinion.answer)), (PLAIN, ": "), (PLAIN, &opinion.summary)]
}

fn in_flight(sheet: &mut Sheet<'_>, incident: &IncidentVerdict) {
    let missing = incident.in_flight_missing.filter(|missing| *missing >= 0.5);
    if incident.in_flight.is_empty() && missing.is_none() {
        return;
    }
    sheet.title(&words::in_flight_title(incident.in_flight.len()));
    let groups = words::group_in_flight(&incident.in_flight);
    for (operation, requests) in groups.iter().take(OPERATIONS_SHOWN_MAX) {
        let name = clean::shorten(operation, 60);
        sheet.item(2, "·", &[(DIM, &format!("{} ×", requests.len())), (BOLD, &format!(" {name}"))]);
        for request in requests.iter().take(REQUESTS_SHOWN_MAX) {
            sheet.paragraph("      ", 8, &[(DIM, &request_line(sheet, request, &incident.kills))]);
        }
        if requests.len() > REQUESTS_SHOWN_MAX {
            let more = format!("and {} more", requests.len() - REQUESTS_SHOWN_MAX);
            sheet.paragraph("      ", 8, &[(DIM, &more)]);
        }
    }
    if groups.len() > OPERATIONS_SHOWN_MAX {
        let more = format!("and {} more operations", groups.len() - OPERATIONS_SHOWN_MAX);
        sheet.paragraph("  ", 4, &[(DIM, &more)]);
    }
    if let Some(missing) = missing {
        let missing = format!("by the usual rate about {missing:.0} more ran; nothing tells which");
        sheet.paragraph("  ", 4, &[(DIM, &missing)]);
    }
}

fn request_line(sheet: &Sheet<'_>, request: &InFlight, kills: &[Kill]) -> String {
    let mut parts = Vec::new();
    let kill_at = kills.get(request.kill).map(|kill| kill.at.at);
    match (request.started_at, kill_at) {
        (Some(started), Some(killed)) if killed >= started => {
            let ran = words::duration(killed.seconds_since(started));
            parts.push(format!("since {}, ran {ran}", words::clock(started, &sheet.paper.zone)));
        }
        (Some(started), _) => parts.push(format!("since {}", words::clock(started, &sheet.paper.zone))),
        (None, _) => {}
    }
    parts.push(words::recovered_from(request.recovered_from).to_owned());
    parts.extend(request.trace_id.map(|id| format!("trace {id:032x}")));
    if !request.attributes.is_empty() {
        parts.push(clean::shorten(&words::attributes(&request.attributes), 160));
    }
    parts.join(", ")
}

fn kills(sheet: &mut Sheet<'_>, kills: &[Kill]) {
    sheet.title("kills");
    let shown = |index: usize| {
        kills.len() <= KILLS_SHOWN_MAX
            || index < KILLS_SHOWN_MAX / 2
            || index >= kills.len() - KILLS_SHOWN_MAX / 2
    };
    for (index, kill) in kills.iter().enumerate() {
        if !shown(index) {
            if shown(index - 1) {
                let hidden = format!("… {} more", kills.len() - KILLS_SHOWN_MAX);
                sheet.paragraph("  ", 4, &[(DIM, &hidden)]);
            }
            continue;
        }
        let at = words::moment(kill.at, &sheet.paper.zone);
        let mut parts = Vec::new();
        parts.extend(kill.pod.as_ref().map(|pod| format!("pod {}", clean::shorten(pod, 60))));
        parts.extend(words::limit(kill).map(|limit| format!("hit {limit}")));
        parts.extend(words::victim(&kill.victim).map(|victim| format!("killed {victim}")));
        parts.extend((kill.container_survived == Some(true)).then(|| "the container lived on".to_owned()));
        parts.push(format!("seen by {}", words::witnesses(kill)));
        parts.extend(kill.record.clone());
        sheet.item(2, "✕", &[(RED, &at), (PLAIN, &format!(" {}", parts.join("; ")))]);
    }
}

fn settings(sheet: &mut Sheet<'_>, settings: &[SettingFinding]) {
    if settings.is_empty() {
        return;
    }
    sheet.title("runtime settings against the limit");
    for finding in settings {
        let (bullet, style) = if finding.contradicts { ("!", YELLOW.bold()) } else { ("·", PLAIN) };
        sheet.item(
            2,
            bullet,
            &[
                (style, &finding.setting),
                (DIM, &format!(" ({})", finding.place)),
                (PLAIN, ": "),
                (PLAIN, &finding.summary),
            ],
        );
    }
}

fn facts(sheet: &mut Sheet<'_>, facts: &[Fact]) {
    if facts.is_empty() {
        return;
    }
    sheet.title("raw facts");
    let column = column(facts.iter().map(|fact| fact.name.as_str()));
    for fact in facts {
        sheet.field(2, column, &fact.name, &[(PLAIN, &fact.value), (DIM, &format!(" [{}]", fact.source))]);
    }
}

fn gaps(sheet: &mut Sheet<'_>, gaps: &[Gap]) {
    if gaps.is_empty() {
        return;
    }
    sheet.title("what was missing");
    for gap in gaps {
        sheet.item(
            2,
            "·",
            &[
                (YELLOW, "missing: "),
                (PLAIN, &format!(" {}", gap.missing)),
                (PLAIN, &format!(" — {}", gap.effect)),
                (PLAIN, " — do: "),
                (BOLD, &format!(" {}", gap.remedy)),
            ],
        );
    }
}

/// The width of the longest name, within reason.
fn column<'a>(names: impl Iterator<Item = &'a str>) -> usize {
    names.map(|name| clean::line(name).width()).max().unwrap_or(0).min(NAME_COLUMNS_MAX)
}
