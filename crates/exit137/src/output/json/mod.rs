//! JSON, schema `exit137.verdict/1`: the contract that programs build on, described by `docs/verdict.schema.json`.
//!
//! Fields may be added, never renamed. What is not known is absent, never 0 and never invented. Times are
//! RFC 3339 in UTC whatever zone people are shown.

pub(super) mod leaks;
mod read;
mod read_timeline;
mod wire;

use std::io;

use exit137_core::verdict::Verdict;
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

use super::clean;

pub(crate) use read::read;

/// The verdict as a JSON document, indented by two spaces, always in the same order.
pub(super) fn render(verdict: &Verdict) -> String {
    document(&wire::Verdict::from(verdict))
}

fn document(value: &impl Serialize) -> String {
    let mut bytes = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut bytes, Quiet(PrettyFormatter::new()));
    // Writing plain structs with string keys into memory has no way to fail.
    if value.serialize(&mut serializer).is_err() {
        return String::new();
    }
    bytes.push(b'\n');
    String::from_utf8(bytes).unwrap_or_default()
}

/// Pretty JSON that also escapes what a terminal would obey or reorder. The values stay the same.
struct Quiet(PrettyFormatter<'static>);

impl Formatter for Quiet {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut plain_from = 0;
        for (at, c) in fragment.char_indices() {
            if !(c.is_control() || clean::is_invisible(c) || matches!(c, '\u{2028}' | '\u{2029}')) {
                continue;
            }
            writer.write_all(&fragment.as_bytes()[plain_from..at])?;
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                write!(writer, "\\u{unit:04x}")?;
            }
            plain_from = at + c.len_utf8();
        }
        writer.write_all(&fragment.as_bytes()[plain_from..])
    }

    fn begin_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_array(writer)
    }
    fn end_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array(writer)
    }
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_array_value(writer, first)
    }
    fn end_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array_value(writer)
    }
    fn begin_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object(writer)
    }
    fn end_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object(writer)
    }
    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(writer, first)
    }
    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object_value(writer)
    }
    fn end_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object_value(writer)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use crate::output::sample;

    #[test]
    fn values_survive_although_terminals_are_spared() {
        let mut verdict = sample::verdict();
        let hostile = "a\u{1b}[31m\u{9b}b\u{202e}\u{e0001}\"\\\n<é>";
        verdict.incidents[0].headline = hostile.to_owned();
        let document = super::render(&verdict);
        assert!(!document.chars().any(|c| (c.is_control() && c != '\n') || c == '\u{202e}'));
        let parsed: Value = serde_json::from_str(&document).expect("JSON");
        assert_eq!(parsed["incidents"][0]["headline"], hostile);
    }
}
