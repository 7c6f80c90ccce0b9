//! Whoever names a pod or a route writes into the output. Whatever they write, it stays text.

mod support;

use std::collections::BTreeMap;

use exit137::output::{Format, Paper};
use exit137_core::verdict::{ContainerRef, IncidentVerdict, OperationClaim, Timeline, Verdict};
use proptest::prelude::*;
use support::sample;

fn poison_container(container: &mut ContainerRef, text: &str) {
    let fields = [
        &mut container.namespace,
        &mut container.pod,
        &mut container.pod_uid,
        &mut container.name,
        &mut container.container_id,
        &mut container.image,
        &mut container.version,
        &mut container.node,
    ];
    for field in fields {
        *field = Some(text.to_owned());
    }
    if let Some(workload) = &mut container.workload {
        (workload.kind, workload.name) = (text.to_owned(), text.to_owned());
    }
}

fn poison_attributes(attributes: &mut BTreeMap<String, String>, text: &str) {
    *attributes = BTreeMap::from([(text.to_owned(), text.to_owned())]);
}

fn poison_operations(operations: &mut [OperationClaim], text: &str) {
    for operation in operations {
        operation.names.fill(text.to_owned());
        operation.service = Some(text.to_owned());
        operation.summary = text.to_owned();
        poison_attributes(&mut operation.attributes, text);
    }
}

fn poison_timeline(timeline: &mut Timeline, text: &str) {
    for series in &mut timeline.series {
        series.pod = Some(text.to_owned());
    }
    for mark in &mut timeline.marks {
        mark.label = text.to_owned();
    }
}

fn poison_incident(incident: &mut IncidentVerdict, text: &str) {
    poison_container(&mut incident.container, text);
    poison_operations(&mut incident.operations, text);
    poison_timeline(&mut incident.timeline, text);
    incident.headline = text.to_owned();
    for kill in &mut incident.kills {
        kill.pod = Some(text.to_owned());
        kill.container_id = Some(text.to_owned());
        kill.record = Some(text.to_owned());
        kill.victim.comm = Some(text.to_owned());
    }
    for opinion in &mut incident.opinions {
        opinion.summary = text.to_owned();
        opinion.evidence.fill(text.to_owned());
    }
    if let Some(introduced) = &mut incident.introduced_by {
        introduced.version = text.to_owned();
        introduced.previous = Some(text.to_owned());
    }
    for request in &mut incident.in_flight {
        request.operation = text.to_owned();
        poison_attributes(&mut request.attributes, text);
    }
    incident.advice.summary = text.to_owned();
    for gap in &mut incident.gaps {
        (gap.missing, gap.effect, gap.remedy) = (text.to_owned(), text.to_owned(), text.to_owned());
    }
    for fact in &mut incident.facts {
        (fact.name, fact.value, fact.source) = (text.to_owned(), text.to_owned(), text.to_owned());
    }
    for finding in &mut incident.settings {
        (finding.setting, finding.place, finding.summary) =
            (text.to_owned(), text.to_owned(), text.to_owned());
    }
}

/// The sample with `text` in every field that comes from outside.
fn poisoned(text: &str) -> Verdict {
    let mut verdict = sample::verdict();
    for incident in &mut verdict.incidents {
        poison_incident(incident, text);
    }
    for leak in &mut verdict.leaks {
        poison_container(&mut leak.container, text);
        poison_operations(&mut leak.operations, text);
        poison_timeline(&mut leak.timeline, text);
        leak.headline = text.to_owned();
    }
    for end in &mut verdict.not_oom {
        poison_container(&mut end.container, text);
        end.summary = text.to_owned();
    }
    verdict.guesses.fill(text.to_owned());
    for problem in &mut verdict.problems {
        (problem.source, problem.message) = (text.to_owned(), text.to_owned());
    }
    verdict
}

fn paper() -> Paper {
    Paper { asked_for: None, width: 80, ..Paper::default() }
}

/// Characters that must not reach a reader's eyes unescaped: they repaint or reorder.
fn steers(c: char) -> bool {
    (c.is_control() && c != '\n')
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
}

/// The tags of a page in order, with the names of their attributes. Every `<` has to begin a tag.
fn skeleton(page: &str) -> Vec<String> {
    let mut tags = Vec::new();
    let mut rest = page;
    while let Some(at) = rest.find('<') {
        let tag = &rest[at + 1..];
        let (mut end, mut quoted, mut name) = (tag.len(), false, String::new());
        for (index, c) in tag.char_indices() {
            match c {
                '"' => quoted = !quoted,
                '>' if !quoted => {
                    end = index;
                    break;
                }
                c if !quoted => name.push(c),
                _ => {}
            }
        }
        // Coordinates are quoted and so are left out; the number of lines does not depend on names.
        tags.push(name);
        rest = &tag[(end + 1).min(tag.len())..];
    }
    tags
}

/// Markdown without its code spans, in which nothing is markup and a backslash is a backslash.
fn outside_code(markdown: &str) -> String {
    let (mut out, mut in_code, mut escaped) = (String::new(), false, false);
    for c in markdown.chars() {
        match c {
            '`' if !escaped => in_code = !in_code,
            c if !in_code && !escaped => out.push(c),
            _ => {}
        }
        escaped = c == '\\' && !in_code && !escaped;
    }
    assert!(!in_code, "a code span does not end");
    out
}

fn attack() -> impl Strategy<Value = String> {
    let fragments = prop::sample::select(vec![
        "<script>alert(1)</script>",
        "\"><img src=x onerror=alert(1)>",
        "' onmouseover='x",
        "</style><b>",
        "<!--",
        "]]>",
        "&lt;",
        "\u{1b}[31m",
        "\u{1b}]8;;http://evil\u{7}",
        "\u{9b}2J",
        "\u{202e}",
        "\u{2066}",
        "\r\n",
        "\u{2028}",
        "\u{0}",
        "```",
        "|",
        "\n# h",
        "[a](http://b)",
        "@everyone",
        "-->",
        "\u{301}",
    ]);
    let part = prop_oneof![fragments.prop_map(str::to_owned), any::<String>(), "[ -~]{0,200}"];
    // The letter in front keeps fields from being empty, which would change the page for good reasons.
    prop::collection::vec(part, 1..5).prop_map(|parts| format!("x{}", parts.concat()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_in_a_name_text_stays_text(text in attack()) {
        let verdict = poisoned(&text);
        for format in [Format::Text, Format::Json, Format::Markdown, Format::Html] {
            let output = format.render(&verdict, &paper());
            prop_assert!(!output.chars().any(steers), "{format:?}");
        }
        for line in Format::Text.render(&verdict, &paper()).lines() {
            prop_assert!(unicode_width::UnicodeWidthStr::width(line) <= 80, "{line}");
        }
    }

    #[test]
    fn whatever_is_in_a_name_the_page_keeps_its_elements(text in attack()) {
        let page = Format::Html.render(&poisoned(&text), &paper());
        let harmless = Format::Html.render(&poisoned("x"), &paper());
        prop_assert_eq!(skeleton(&page), skeleton(&harmless));
    }

    #[test]
    fn whatever_is_in_a_name_markdown_keeps_its_elements(text in attack()) {
        let page = Format::Markdown.render(&poisoned(&text), &paper());
        let harmless = Format::Markdown.render(&poisoned("x"), &paper());
        // As many lines, table cells and tags as with a harmless name.
        let bars = |text: &str| text.replace("\\|", "").matches('|').count();
        prop_assert_eq!(page.lines().count(), harmless.lines().count());
        prop_assert_eq!(bars(&page), bars(&harmless));
        prop_assert_eq!(skeleton(&outside_code(&page)), skeleton(&outside_code(&harmless)));
    }

    #[test]
    fn whatever_is_in_a_name_json_gives_it_back(text in attack()) {
        let json = Format::Json.render(&poisoned(&text), &paper());
        let document: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        prop_assert_eq!(&document["incidents"][0]["headline"], &serde_json::Value::from(text.as_str()));
        prop_assert_eq!(support::schema_errors(&document), Vec::<String>::new());
    }
}

/// A recorded kill whose pod, container and process chose their names to harm.
#[test]
fn whatever_the_input_calls_itself_every_form_stays_harmless() {
    let name = "x\u{1b}[2J\u{9b}1m<script>alert(1)</script>\u{202e}`|\n# h\u{0}\u{7f}&lt;";
    let escaped = serde_json::to_string(name).expect("a string is JSON");
    let escaped = escaped.trim_matches('"');
    let folder = support::scratch("hostile-names");
    let case = support::case::Case::named("shop-catalog-leak").folder;
    for file in ["k8s/pods.json", "k8s/events.json", "kernel/kmsg.log"] {
        let text = std::fs::read_to_string(case.join(file)).expect("a recorded file");
        let text = text
            .replace("catalog-api-b6dgpjc8-kf2kt", escaped)
            .replace("\"catalog-api\"", &format!("\"{escaped}\""));
        let text = text
            .replace("(python)", "(\u{1b}]0;<b>x\u{7})")
            .replace("task=python", "task=\u{1b}]0;<b>x\u{7}");
        std::fs::write(folder.join(file.replace('/', "-")), text).expect("written");
    }
    let options = exit137_sources::ReadOptions::default();
    let observations =
        exit137_sources::read(&[folder], &options, &exit137_sources::NoProgress).expect("readable");
    let verdict = exit137_core::diagnose(&observations);
    assert_eq!(verdict.incidents.iter().map(|incident| incident.kills.len()).sum::<usize>(), 2);
    for format in [Format::Text, Format::Json, Format::Markdown, Format::Html] {
        let output = format.render(&verdict, &paper());
        assert!(!output.chars().any(steers), "{format:?}");
        assert!(output.contains("alert(1)") || format == Format::Text, "{format:?}: the name is not shown");
    }
    let page = Format::Html.render(&verdict, &paper());
    assert!(!page.contains("<script") && !page.contains("<b>x"));
    let markdown = outside_code(&Format::Markdown.render(&verdict, &paper()));
    assert!(!markdown.contains("<script") && !markdown.lines().any(|line| line.starts_with("# h")));
}

#[test]
fn the_page_can_load_nothing() {
    let page = Format::Html.render(&sample::verdict(), &paper());
    assert!(page.contains("default-src 'none'"));
    for loader in ["<script", "<link", "<img", "<iframe", "url(", "@import", "src="] {
        assert!(!page.contains(loader), "{loader}");
    }
    assert_eq!(
        page.matches("http").count(),
        page.matches("http-equiv").count()
            + page.matches("http://catalog-api").count()
            + page.matches("http.server").count()
    );
}
