//! The sample verdict in every format, byte for byte. Read a change of these files like a change of code.

mod support;

use exit137::output::{Format, Paper};
use exit137_core::verdict::Verdict;
use support::{check_golden, sample};

#[test]
fn the_sample_reads_as_it_should() {
    let verdict = sample::verdict();
    let paper = Paper::default();
    let narrow = Paper { width: 60, unicode: false, ..Paper::default() };
    let colored = Paper { width: 160, color: true, ..Paper::default() };
    check_golden("sample.txt", &Format::Text.render(&verdict, &paper));
    check_golden("sample.narrow.ascii.txt", &Format::Text.render(&verdict, &narrow));
    check_golden("sample.wide.color.txt", &Format::Text.render(&verdict, &colored));
    check_golden("sample.json", &Format::Json.render(&verdict, &paper));
    check_golden("sample.md", &Format::Markdown.render(&verdict, &paper));
    check_golden("sample.html", &Format::Html.render(&verdict, &paper));
}

#[test]
fn nothing_found_says_where_it_looked() {
    let sample = sample::verdict();
    let verdict = Verdict { looked_in: sample.looked_in, not_oom: sample.not_oom, ..Verdict::default() };
    let paper = Paper {
        asked_for: Some("shop/cart between 09:00 and 10:00".to_owned()),
        left_out: vec!["fleet/exports".to_owned(), "shop/catalog-api".to_owned()],
        ..Paper::default()
    };
    check_golden("nothing.txt", &Format::Text.render(&verdict, &paper));
    check_golden("nothing.md", &Format::Markdown.render(&verdict, &Paper::default()));
    check_golden("nothing.html", &Format::Html.render(&Verdict::default(), &paper));
}

#[test]
fn text_keeps_its_width() {
    use unicode_width::UnicodeWidthStr;
    for width in [60, 61, 79, 80, 100, 133, 160] {
        for unicode in [true, false] {
            let paper = Paper { width, unicode, ..Paper::default() };
            let text = Format::Text.render(&sample::verdict(), &paper);
            for line in text.lines() {
                assert!(line.width() <= width, "{} columns of {width}: {line}", line.width());
                assert!(unicode || line.is_ascii(), "{line}");
            }
        }
    }
}

#[test]
fn times_are_shown_in_the_zone_asked_for() {
    let paper = Paper { zone: jiff::tz::TimeZone::fixed(jiff::tz::offset(2)), ..Paper::default() };
    let text = Format::Text.render(&sample::verdict(), &paper);
    assert!(text.contains("2026-11-22 10:53:29"), "{text}");
    assert!(text.contains("2026-11-22, local time"), "{text}");
    assert!(Format::Json.render(&sample::verdict(), &paper).contains("2026-11-22T08:53:29"));
}
