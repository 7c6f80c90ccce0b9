//! The verdict as one page: no network, no script, nothing to install. Made to be attached and opened years later.

mod figure;
mod incident;
mod marks;
mod markup;
mod svg;

use exit137_core::verdict::{Cause, IncidentVerdict, LeakVerdict, Probability, Verdict};

use super::words::capitalized;
use super::{Paper, words};
use markup::{Text, put};

const STYLE: &str = include_str!("style.css");

/// Only inline style, only images inside the page: even markup that slipped through could load nothing.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'";

/// The whole page.
pub(super) fn render(verdict: &Verdict, paper: &Paper) -> String {
    let mut out = String::new();
    let title = title(verdict, paper);
    out.push_str("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    out.push_str("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
    put!(out, "<meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n");
    out.push_str("<meta name=\"referrer\" content=\"no-referrer\">\n");
    put!(out, "<title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n", Text(&title));
    out.push_str("<a class=\"skip\" href=\"#main\">Skip to the verdict</a>\n");
    put!(
        out,
        "<header class=\"top\"><strong>exit137</strong> <span>Times in {}</span></header>\n",
        Text(&words::zone_name(&paper.zone))
    );
    put!(out, "<main id=\"main\">\n<h1>{}</h1>\n", Text(&title));
    if verdict.incidents.is_empty() && verdict.leaks.is_empty() {
        nothing(&mut out, verdict, paper);
    }
    if verdict.incidents.len() + verdict.leaks.len() > 1 {
        overview(&mut out, verdict);
    }
    for (index, incident) in verdict.incidents.iter().enumerate() {
        incident::write(&mut out, incident, index + 1, paper);
    }
    for (index, leak) in verdict.leaks.iter().enumerate() {
        unkilled_leak(&mut out, leak, index + 1, paper);
    }
    other_ends(&mut out, verdict, paper);
    out.push_str("</main>\n");
    footer(&mut out, verdict);
    out.push_str("</body>\n</html>\n");
    out
}

/// Its articles alone, for a page that has a frame of its own.
pub(crate) fn articles(verdict: &Verdict, paper: &Paper) -> String {
    let mut out = String::new();
    for (index, incident) in verdict.incidents.iter().enumerate() {
        incident::write(&mut out, incident, index + 1, paper);
    }
    for (index, leak) in verdict.leaks.iter().enumerate() {
        unkilled_leak(&mut out, leak, index + 1, paper);
    }
    other_ends(&mut out, verdict, paper);
    if !verdict.looked_in.is_empty() {
        footer(&mut out, verdict);
    }
    out
}

fn title(verdict: &Verdict, paper: &Paper) -> String {
    let kills: usize = verdict.incidents.iter().map(|incident| incident.kills.len()).sum();
    match (verdict.incidents.as_slice(), verdict.leaks.as_slice()) {
        ([], []) => capitalized(&words::nothing_found(paper.asked_for.as_deref())),
        ([], leaks) => {
            format!("{} on the way to an OOM kill", words::count(leaks.len(), "container", "containers"))
        }
        ([incident], _) => format!(
            "{} of {}",
            words::count(kills, "OOM kill", "OOM kills"),
            words::container(&incident.container)
        ),
        (incidents, _) => {
            format!(
                "{} in {}",
                words::count(kills, "OOM kill", "OOM kills"),
                words::count(incidents.len(), "incident", "incidents")
            )
        }
    }
}

/// `<span>very likely (97 %)</span>`
fn certainty(probability: Probability) -> String {
    let class = if probability.0 >= 0.7 { "certainty sure" } else { "certainty" };
    format!("<span class=\"{class}\">{}</span>", Text(&words::certainty(probability)))
}

/// The same of an incident's cause.
fn certainty_of(incident: &IncidentVerdict) -> String {
    match incident.cause {
        Cause::Unknown => {
            let words = words::certainty_of(incident.cause, incident.probability);
            format!("<span class=\"certainty\">{words}</span>")
        }
        _ => certainty(incident.probability),
    }
}

fn nothing(out: &mut String, verdict: &Verdict, paper: &Paper) {
    put!(out, "<article>\n<p>Looked in: {}.</p>\n", Text(&words::looked_in(verdict)));
    put!(
        out,
        "<div class=\"action\"><h3>Hint</h3><p>{}</p></div>\n</article>\n",
        Text(&capitalized(&words::hint(verdict, &paper.left_out)))
    );
}

fn overview(out: &mut String, verdict: &Verdict) {
    out.push_str("<nav aria-label=\"Incidents\">\n<ol>\n");
    for (index, incident) in verdict.incidents.iter().enumerate() {
        put!(
            out,
            "<li><a href=\"#incident-{}\">{}</a>: {}, {} {}</li>\n",
            index + 1,
            Text(&words::container(&incident.container)),
            words::count(incident.kills.len(), "kill", "kills"),
            incident.cause.title(),
            certainty_of(incident)
        );
    }
    for (index, leak) in verdict.leaks.iter().enumerate() {
        put!(
            out,
            "<li><a href=\"#leak-{}\">{}</a>: not killed yet, a memory leak {}</li>\n",
            index + 1,
            Text(&words::container(&leak.container)),
            certainty(leak.probability)
        );
    }
    out.push_str("</ol>\n</nav>\n");
}

fn unkilled_leak(out: &mut String, leak: &LeakVerdict, number: usize, paper: &Paper) {
    put!(out, "<article id=\"leak-{number}\" aria-labelledby=\"leak-{number}-h\">\n");
    put!(out, "<p class=\"where\">{} · not killed yet</p>\n", Text(&words::container(&leak.container)));
    put!(out, "<h2 id=\"leak-{number}-h\">{}</h2>\n", Text(&leak.headline));
    put!(out, "<p class=\"cause\">A memory leak {}</p>\n", certainty(leak.probability));
    put!(out, "<p>Grows {} an hour.", words::bytes_range(leak.slope_bytes_per_hour));
    if let Some(interval) = leak.time_to_limit_seconds {
        put!(out, " Meets its limit in {} if nothing changes.", words::duration_range(interval));
    }
    out.push_str("</p>\n");
    figure::write(out, &leak.timeline, &format!("leak-{number}"), &leak.headline, &[], paper);
    incident::operations(out, &leak.operations);
    out.push_str("</article>\n");
}

fn other_ends(out: &mut String, verdict: &Verdict, paper: &Paper) {
    if verdict.not_oom.is_empty() {
        return;
    }
    out.push_str("<article aria-labelledby=\"other\">\n");
    out.push_str("<h2 id=\"other\">Ended with SIGKILL, but not by the OOM killer</h2>\n");
    out.push_str(
        "<div class=\"scroll\"><table class=\"stack\">\n<thead><tr><th scope=\"col\">Container</th>",
    );
    out.push_str("<th scope=\"col\">Times</th><th scope=\"col\">Why</th><th scope=\"col\">When</th></tr></thead>\n<tbody>\n");
    for group in words::group_not_oom(verdict) {
        put!(out, "<tr><th scope=\"row\">{}</th>", Text(&group.container));
        put!(out, "<td data-name=\"Times\">{}</td>", group.ends.len());
        let summary = group.ends.last().map_or("", |end| &end.summary);
        let reason = capitalized(words::not_oom_reason(group.reason));
        put!(out, "<td><strong>{reason}</strong>: {}</td>", Text(summary));
        let when = group.when(&paper.zone).unwrap_or_else(|| "not known".to_owned());
        put!(out, "<td data-name=\"When\">{}</td></tr>\n", Text(&when));
    }
    out.push_str("</tbody>\n</table></div>\n</article>\n");
}

fn footer(out: &mut String, verdict: &Verdict) {
    out.push_str("<footer>\n");
    // Where nothing was found, that is the first thing said.
    if !(verdict.incidents.is_empty() && verdict.leaks.is_empty()) {
        put!(out, "<p>Looked in: {}.</p>\n", Text(&words::looked_in(verdict)));
    }
    if !verdict.guesses.is_empty() {
        out.push_str("<p>Guessed:</p>\n<ul>\n");
        for guess in &verdict.guesses {
            put!(out, "<li>{}</li>\n", Text(guess));
        }
        out.push_str("</ul>\n");
    }
    if !verdict.problems.is_empty() {
        let count = words::count(verdict.problems.len(), "problem", "problems");
        put!(out, "<details><summary>{count} in the input</summary>\n<ul>\n");
        for problem in &verdict.problems {
            put!(out, "<li><code>{}</code> {}</li>\n", Text(&problem.source), Text(&problem.message));
        }
        out.push_str("</ul></details>\n");
    }
    out.push_str("</footer>\n");
}
