//! The verdict for a terminal, in the order in which a person asks: what was it, what do I do, show me, why,
//! who was hit, what are the raw facts, what do you not know.

mod chart;
mod incident;
pub(super) mod leaks;
mod sheet;

use exit137_core::verdict::{LeakVerdict, Verdict};

use super::{Paper, words};
use incident::certainty_style;
use sheet::{BOLD, DIM, PLAIN, RED, Sheet};

/// The whole verdict.
pub(super) fn render(verdict: &Verdict, paper: &Paper) -> String {
    let mut sheet = Sheet::new(paper);
    if verdict.incidents.is_empty() && verdict.leaks.is_empty() {
        nothing(&mut sheet, verdict);
    }
    if verdict.incidents.len() > 1 {
        overview(&mut sheet, verdict);
    }
    for (index, incident) in verdict.incidents.iter().enumerate() {
        if verdict.incidents.len() > 1 {
            sheet.gap();
            let rule = if paper.unicode { "━" } else { "=" };
            let head = format!("{rule}{rule} {} of {} ", index + 1, verdict.incidents.len());
            let rest = sheet.width.saturating_sub(unicode_width::UnicodeWidthStr::width(head.as_str()));
            sheet.drawn(&[(DIM, &head), (DIM, &rule.repeat(rest))]);
            sheet.gap();
        }
        incident::write(&mut sheet, incident);
    }
    for leak in &verdict.leaks {
        unkilled_leak(&mut sheet, leak);
    }
    other_ends(&mut sheet, verdict);
    footer(&mut sheet, verdict);
    sheet.finish()
}

fn nothing(sheet: &mut Sheet<'_>, verdict: &Verdict) {
    let (asked_for, left_out) = (sheet.paper.asked_for.as_deref(), &sheet.paper.left_out);
    sheet.paragraph("", 0, &[(BOLD, &words::nothing_found(asked_for))]);
    sheet.paragraph("  ", 4, &[(PLAIN, "looked in: "), (PLAIN, &words::looked_in(verdict))]);
    sheet.paragraph("", 2, &[(BOLD, "hint:"), (PLAIN, &format!(" {}", words::hint(verdict, left_out)))]);
}

fn overview(sheet: &mut Sheet<'_>, verdict: &Verdict) {
    let kills: usize = verdict.incidents.iter().map(|incident| incident.kills.len()).sum();
    let title = format!(
        "{} in {}",
        words::count(kills, "OOM kill", "OOM kills"),
        words::count(verdict.incidents.len(), "incident", "incidents")
    );
    sheet.paragraph("", 0, &[(BOLD, &title)]);
    for (index, incident) in verdict.incidents.iter().enumerate() {
        let style = certainty_style(incident.probability);
        sheet.item(
            2,
            &format!("{}.", index + 1),
            &[
                (PLAIN, &words::container(&incident.container)),
                (DIM, &format!(" × {}: ", incident.kills.len())),
                (PLAIN, &format!("{}, ", incident.cause.title())),
                (style, &words::certainty_of(incident.cause, incident.probability)),
            ],
        );
    }
}

fn unkilled_leak(sheet: &mut Sheet<'_>, leak: &LeakVerdict) {
    sheet.gap();
    sheet.paragraph("", 0, &[(BOLD, "not killed yet: "), (BOLD, &format!(" {}", leak.headline))]);
    let cause = format!("a memory leak in {}, ", words::container(&leak.container));
    sheet.field(
        2,
        6,
        "cause",
        &[
            (PLAIN, &cause),
            (certainty_style(leak.probability), &format!(" {}", words::certainty(leak.probability))),
        ],
    );
    let slope = format!("{} an hour", words::bytes_range(leak.slope_bytes_per_hour));
    sheet.field(2, 6, "grows", &[(PLAIN, &slope)]);
    if let Some(interval) = leak.time_to_limit_seconds {
        let until = format!("in {}", words::duration_range(interval));
        sheet.field(2, 6, "killed", &[(RED, &until), (PLAIN, " if nothing changes")]);
    }
    chart::draw(sheet, &leak.timeline);
    incident::operations(sheet, &leak.operations, true);
}

fn other_ends(sheet: &mut Sheet<'_>, verdict: &Verdict) {
    if verdict.not_oom.is_empty() {
        return;
    }
    sheet.title("ended with SIGKILL, but not by the OOM killer");
    for group in words::group_not_oom(verdict) {
        let reason = format!(" {}", words::not_oom_reason(group.reason));
        let when = group.when(&sheet.paper.zone).map(|when| format!(" ({when})")).unwrap_or_default();
        let summary = group.ends.last().map_or("", |end| &end.summary);
        sheet.item(
            2,
            &format!("{} ×", group.ends.len()),
            &[
                (PLAIN, &group.container),
                (PLAIN, ":"),
                (BOLD, &reason),
                (DIM, &when),
                (PLAIN, &format!(" — {summary}")),
            ],
        );
    }
}

fn footer(sheet: &mut Sheet<'_>, verdict: &Verdict) {
    if !verdict.guesses.is_empty() {
        sheet.title("guessed");
        for guess in &verdict.guesses {
            sheet.item(2, "·", &[(PLAIN, guess)]);
        }
    }
    if !(verdict.incidents.is_empty() && verdict.leaks.is_empty()) {
        sheet.gap();
        sheet.paragraph("", 2, &[(DIM, "looked in: "), (DIM, &words::looked_in(verdict))]);
    }
}
