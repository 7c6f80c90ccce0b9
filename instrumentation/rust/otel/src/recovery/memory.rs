//! Who held the memory of a killed process, as JSON: the body of the log record `exit137.journal`. `JOURNAL.md` says what is in
//! it; whoever reads journals beside the process sends the same.

use std::fmt::Write;

use exit137_journal::Journal;

/// Rows of each table that are told, the largest first: a record stays far below what collectors take.
const ROWS_MAX: usize = 128;

/// What the journal says of memory; `message` says it to people.
pub(super) fn json(journal: &Journal, message: &str) -> String {
    let mut out = String::from("{\"message\":");
    text(&mut out, message);
    out.push_str(",\"resource\":{");
    list(&mut out, &journal.resource, |out, (key, value)| {
        text(out, key);
        out.push(':');
        text(out, value);
    });
    let numbers = [
        ("pid", u64::from(journal.pid)),
        ("started_unix_nanos", journal.started_unix_nanos),
        ("seen_unix_nanos", journal.seen_unix_nanos),
        ("live_bytes", journal.live_bytes),
    ];
    out.push('}');
    for (key, value) in numbers {
        put(&mut out, format_args!(",\"{key}\":{value}"));
    }
    out.push_str(",\"heap\":[");
    let holders = journal.holders();
    list(&mut out, holders.iter().take(ROWS_MAX), |out, row| {
        out.push_str("{\"operation\":");
        text(out, &row.operation);
        if let Some(place) = &row.place {
            out.push_str(",\"place\":");
            text(out, place);
        }
        let (live, allocated) = (row.live_bytes, row.allocated_bytes);
        put(out, format_args!(",\"live_bytes\":{live},\"allocated_bytes\":{allocated}}}"));
    });
    out.push_str("],\"operations\":[");
    let mut operations: Vec<_> = journal.operations.iter().collect();
    operations.sort_by_key(|row| std::cmp::Reverse(row.retained_bytes()));
    list(&mut out, operations.into_iter().take(ROWS_MAX), |out, row| {
        out.push_str("{\"name\":");
        text(out, &row.name);
        let (finished, retained, peak) = (row.finished, row.retained_bytes(), row.peak_bytes);
        put(
            out,
            format_args!(",\"finished\":{finished},\"retained_bytes\":{retained},\"peak_bytes\":{peak}}}"),
        );
    });
    out.push_str("]}");
    out
}

fn put(out: &mut String, arguments: std::fmt::Arguments<'_>) {
    // A string takes everything.
    let _ = out.write_fmt(arguments);
}

fn list<T>(out: &mut String, items: impl IntoIterator<Item = T>, mut each: impl FnMut(&mut String, T)) {
    for (number, item) in items.into_iter().enumerate() {
        if number > 0 {
            out.push(',');
        }
        each(out, item);
    }
}

fn text(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            control if control < ' ' => put(out, format_args!("\\u{:04x}", u32::from(control))),
            other => out.push(other),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_quotes() {
        let mut out = String::new();
        text(&mut out, "GET /\"a\\b\"\n\u{1}ü");
        assert_eq!(out, "\"GET /\\\"a\\\\b\\\"\\u000a\\u0001ü\"");
    }

    #[test]
    fn an_empty_journal_is_told_too() {
        let told = json(&Journal::default(), "nothing");
        assert_eq!(
            told,
            "{\"message\":\"nothing\",\"resource\":{},\"pid\":0,\"started_unix_nanos\":0,\"seen_unix_nanos\":0,\
             \"live_bytes\":0,\"heap\":[],\"operations\":[]}"
        );
    }
}
