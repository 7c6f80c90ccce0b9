//! JSON, schema `exit137.verdict/1`: the contract that programs build on, described by `docs/verdict.schema.json`.
//!
//! Fields may be added, never renamed. What is not known is absent, never 0 and never invented. Times are
//! RFC 3339 in UTC whatever zone people are shown.

mod wire;

use std::io;

use exit137_core::verdict::Verdict;
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

use super::clean;

/// The verdict as a JSON document, indented by two spaces, always in the same order.
pub(super) fn render(verdict: &Verdict) -> String {
    let mut bytes = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut bytes, Quiet(PrettyFormatter::new()));
    // Writing plain structs with string keys into memory has no way to fail.
    if wire::Verdict::from(verdict).serialize(&mut serializer).is_err() {
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
    use exit137_core::verdict::Verdict;
    use serde_json::Value;

    use crate::output::sample;

    const SCHEMA: &str = include_str!("../../../../../docs/verdict.schema.json");

    #[track_caller]
    fn check_schema(document: &str) {
        let schema: Value = serde_json::from_str(SCHEMA).expect("the schema is JSON");
        let validator = jsonschema::draft202012::new(&schema).expect("the schema is a schema");
        let document: Value = serde_json::from_str(document).expect("the verdict is JSON");
        let errors: Vec<String> = validator
            .iter_errors(&document)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{}", errors.join("\n"));
    }

    #[test]
    fn the_sample_keeps_the_contract() {
        check_schema(&super::render(&sample::verdict()));
    }

    #[test]
    fn an_empty_verdict_keeps_the_contract() {
        check_schema(&super::render(&Verdict::default()));
    }

    #[test]
    fn the_schema_rejects_what_the_contract_forbids() {
        let schema: Value = serde_json::from_str(SCHEMA).expect("the schema is JSON");
        let validator = jsonschema::draft202012::new(&schema).expect("the schema is a schema");
        let sound: Value = serde_json::from_str(&super::render(&sample::verdict())).expect("JSON");
        let changes = [
            ("/schema", Value::from("exit137.verdict/2")),
            ("/incidents/0/cause/name", Value::from("gremlins")),
            ("/incidents/0/cause/words", Value::from("certainly")),
            ("/incidents/0/opinions/0/opinion", Value::from("maybe")),
            ("/incidents/0/opinions/0/probability", Value::from(1.5)),
            ("/incidents/0/kills/0/at", Value::from("yesterday")),
            ("/incidents/0/kills/0/limit_bytes", Value::from(-1)),
            ("/incidents/0/kills/0/seen_by/0", Value::from("a friend")),
            ("/incidents/0/in_flight/0/trace_id", Value::from("XYZ")),
            ("/incidents/0/gaps/0/do", Value::Null),
            ("/not_oom/0/reason", Value::from("OOMKilled")),
            ("/problems", Value::Null),
        ];
        for (pointer, value) in changes {
            let mut document = sound.clone();
            *document.pointer_mut(pointer).expect(pointer) = value;
            assert!(!validator.is_valid(&document), "{pointer}");
        }
    }

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
