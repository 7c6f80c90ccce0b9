//! `exit137 leaks` for a terminal: who will be killed next, who was killed by a leak, and who did it.

use exit137_core::baselines::{Method, Ranking, article::Endpoint};
use exit137_core::bytes::Bytes;
use exit137_core::verdict::{IncidentVerdict, LeakVerdict, Verdict};

use super::incident::{self, certainty_style};
use super::sheet::{BOLD, DIM, PLAIN, RED, Sheet};
use crate::output::leaks::{LeakReport, alive, killed};
use crate::output::{Paper, clean, words};

/// Operations shown of a ranking: a method without certainty has no other end.
const RANKED_MAX: usize = 10;

/// The whole report.
pub(in crate::output) fn render(report: &LeakReport, paper: &Paper) -> String {
    let mut sheet = Sheet::new(paper);
    match report {
        LeakReport::Verdict(verdict) => by_verdict(&mut sheet, verdict),
        LeakReport::Article(endpoints) => by_article(&mut sheet, endpoints.as_deref()),
        LeakReport::Ranked(method, rankings) => by_rank(&mut sheet, *method, rankings),
    }
    sheet.finish()
}

fn by_verdict(sheet: &mut Sheet<'_>, verdict: &Verdict) {
    for leak in alive(verdict) {
        sheet.gap();
        living(sheet, leak);
    }
    for incident in killed(verdict) {
        sheet.gap();
        dead(sheet, incident);
    }
    if verdict.leaks.is_empty() && killed(verdict).next().is_none() {
        let kills: usize = verdict.incidents.iter().map(|incident| incident.kills.len()).sum();
        let others = match kills {
            0 => String::new(),
            kills => format!("; {} had another cause", words::count(kills, "OOM kill", "OOM kills")),
        };
        sheet.paragraph("", 0, &[(BOLD, &format!("nothing is found to leak{others}"))]);
        let hint = " a leak shows in a container's memory over time: give metrics or cgroup samples of some \
                    minutes at least, and the traces of the same time to learn who does it";
        nothing(sheet, verdict, hint);
    }
}

fn nothing(sheet: &mut Sheet<'_>, verdict: &Verdict, hint: &str) {
    sheet.paragraph("  ", 4, &[(PLAIN, "looked in: "), (PLAIN, &words::looked_in(verdict))]);
    sheet.paragraph("", 2, &[(BOLD, "hint:"), (PLAIN, hint)]);
}

fn living(sheet: &mut Sheet<'_>, leak: &LeakVerdict) {
    let certainty = format!(" {}", words::certainty(leak.probability));
    sheet.paragraph(
        "",
        2,
        &[
            (BOLD, &words::container(&leak.container)),
            (PLAIN, " leaks,"),
            (certainty_style(leak.probability), &certainty),
        ],
    );
    let slope = format!("{} an hour", words::bytes_range(leak.slope_bytes_per_hour));
    sheet.field(2, 6, "grows", &[(PLAIN, &slope)]);
    match leak.time_to_limit_seconds {
        Some(interval) => {
            let until = format!("in {}", words::duration_range(interval));
            sheet.field(2, 6, "killed", &[(RED, &until), (PLAIN, " if nothing changes")]);
        }
        None => sheet.field(2, 6, "killed", &[(DIM, "no limit is known")]),
    }
    incident::operations(sheet, &leak.operations, true);
}

fn dead(sheet: &mut Sheet<'_>, incident: &IncidentVerdict) {
    let kills = words::count(incident.kills.len(), "time", "times");
    let certainty = format!(" {}", words::certainty(incident.probability));
    sheet.paragraph(
        "",
        2,
        &[
            (BOLD, &words::container(&incident.container)),
            (PLAIN, &format!(" was OOM-killed {kills} by a leak,")),
            (certainty_style(incident.probability), &certainty),
        ],
    );
    incident::operations(sheet, &incident.operations, true);
}

fn by_article(sheet: &mut Sheet<'_>, endpoints: Option<&[Endpoint]>) {
    let Some(endpoints) = endpoints else {
        sheet.paragraph("", 0, &[(BOLD, "no request's memory was recorded")]);
        let hint = " the article's method needs points of request.memory.delta, or spans with \
                    memory.<label>.delta_mb attributes; --method exit137 does without";
        sheet.paragraph("", 2, &[(BOLD, "hint:"), (PLAIN, hint)]);
        return;
    };
    if endpoints.is_empty() {
        let none = "no endpoint has 100 requests of which more than 80 % grew memory";
        sheet.paragraph("", 0, &[(BOLD, none)]);
        return;
    }
    for endpoint in endpoints {
        let name = clean::shorten(&endpoint.endpoint, 80);
        sheet.item(0, "·", &[(BOLD, &name)]);
        let growth = Bytes(endpoint.avg_growth_bytes.max(0.0) as u64);
        let numbers = format!(
            "{:.0} % of requests grew memory; {growth} a request, {:.1} MiB together",
            endpoint.growth_ratio * 100.0,
            endpoint.total_growth_mb
        );
        sheet.paragraph("  ", 2, &[(PLAIN, &numbers)]);
    }
    sheet.gap();
    let doubt = "Under concurrency a request's growth holds everyone else's: see --method exit137.";
    sheet.paragraph("", 0, &[(DIM, doubt)]);
}

fn by_rank(sheet: &mut Sheet<'_>, method: Method, rankings: &[Ranking]) {
    let ranked = rankings.iter().filter(|ranking| !ranking.operations.is_empty());
    let mut any = false;
    for ranking in ranked {
        any = true;
        sheet.gap();
        let kills = format!(", {}", words::count(ranking.kills, "OOM kill", "OOM kills"));
        sheet.paragraph("", 2, &[(BOLD, &words::container(&ranking.container)), (DIM, &kills)]);
        for named in ranking.operations.iter().take(RANKED_MAX) {
            let score = match method {
                Method::Regression => format!("{} of growth", Bytes(named.score as u64)),
                Method::MostFrequent => words::count(named.score.round() as usize, "call", "calls"),
                Method::MostInFlight => format!("{:.0} in flight", named.score),
            };
            let name = clean::shorten(&named.name, 80);
            sheet.item(2, "·", &[(PLAIN, &name), (PLAIN, ": "), (DIM, &score)]);
        }
    }
    if any {
        sheet.gap();
        let doubt = "This method ranks and does not judge: something comes first even where nothing leaks.";
        sheet.paragraph("", 0, &[(DIM, doubt)]);
    } else {
        sheet.paragraph("", 0, &[(BOLD, "no operation can be ranked")]);
        let hint =
            " traces tell what ran; the regression needs the container's memory over the same time too";
        sheet.paragraph("", 2, &[(BOLD, "hint:"), (PLAIN, hint)]);
    }
}
