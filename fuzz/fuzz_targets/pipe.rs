//! The whole pipe: files that are read together, the verdict, and every form it is printed in. The parts of the
//! input between separators are the files.
#![no_main]

use exit137::output::{Format, Paper};
use exit137_core::diagnose;
use exit137_sources::fuzzing::read;
use libfuzzer_sys::fuzz_target;

/// Stands between two files; `fuzz/examples/seeds.rs` writes it.
const SEPARATOR: &[u8] = b"\x00--next file--\x00";

const FILES_MAX: usize = 8;

fuzz_target!(|bytes: &[u8]| {
    let mut files = Vec::new();
    let mut rest = bytes;
    while let (Some(at), true) = (find(rest), files.len() + 1 < FILES_MAX) {
        files.push(&rest[..at]);
        rest = &rest[at + SEPARATOR.len()..];
    }
    files.push(rest);
    let verdict = diagnose(&read(&files, 1));
    let paper = Paper { width: 80, ..Paper::default() };
    let text = Format::Text.render(&verdict, &paper);
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "a control character in the text");
    let json = Format::Json.render(&verdict, &paper);
    let value: serde_json::Value = serde_json::from_str(&json).expect("valid JSON");
    assert_eq!(value["schema"], "exit137.verdict/1");
    for format in [Format::Markdown, Format::Html] {
        let page = format.render(&verdict, &paper);
        assert!(!page.chars().any(|c| c.is_control() && c != '\n'), "a control character in the page");
    }
});

fn find(bytes: &[u8]) -> Option<usize> {
    bytes.windows(SEPARATOR.len()).position(|window| window == SEPARATOR)
}
