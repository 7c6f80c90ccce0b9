//! The score as text or Markdown: a row a case, a row a method, a row a degraded copy.

use super::row::Row;
use super::totals::{Share, Totals};

/// How tables are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Columns of spaces
    Plain,
    /// Pipes
    Markdown,
}

/// What is measured, and its name where it heads a column.
const MEASURES: [(&str, &str); 12] = [
    ("cause", "cause"),
    ("operation first, AC@1", "AC@1"),
    ("operation among three, AC@3", "AC@3"),
    ("attribute value", "attribute"),
    ("introduced by", "introduced"),
    ("kills found", "kills"),
    ("cause when very likely: right (said)", "cause, very likely"),
    ("operation when very likely: right (said)", "operation, very likely"),
    ("calibration error of the cause", "error, cause"),
    ("calibration error of the operation", "error, operation"),
    ("healthy runs said to leak", "healthy leak"),
    ("very likely named where nobody is guilty", "accused"),
];

/// A row a measure, a column a method.
pub fn of_methods(style: Style, methods: &[(String, Totals)]) -> String {
    let columns: Vec<[String; 12]> = methods.iter().map(|(_, totals)| measured(totals)).collect();
    let head = std::iter::once(String::new()).chain(methods.iter().map(|(name, _)| name.clone()));
    let row = |(index, (name, _)): (usize, &(&str, &str))| {
        std::iter::once((*name).to_owned()).chain(columns.iter().map(|cells| cells[index].clone())).collect()
    };
    draw(style, head.collect(), MEASURES.iter().enumerate().map(row).collect())
}

/// A row a degraded copy, a column a measure.
pub fn of_copies(style: Style, copies: &[(String, Totals)]) -> String {
    let head = std::iter::once("").chain(MEASURES.iter().map(|(_, short)| *short)).map(str::to_owned);
    let row =
        |(name, totals): &(String, Totals)| std::iter::once(name.clone()).chain(measured(totals)).collect();
    draw(style, head.collect(), copies.iter().map(row).collect())
}

fn measured(totals: &Totals) -> [String; 12] {
    let certain = |right: Share, coverage: Share| match right.ratio() {
        Some(ratio) => format!("{} ({}/{})", hundredths(ratio), coverage.right, coverage.of),
        None if coverage.of > 0 => format!("– (0/{})", coverage.of),
        None => "–".to_owned(),
    };
    let error = |error: Option<f64>| error.map_or("–".to_owned(), hundredths);
    let names_operations = totals.ac1.of + totals.op_very_likely.of > 0;
    [
        share(totals.cause),
        share(totals.ac1),
        share(totals.ac3),
        share(totals.attribute),
        share(totals.introduced_by),
        share(totals.kills),
        certain(totals.cause_very_likely, totals.cause_coverage),
        certain(totals.op_very_likely, totals.op_coverage),
        error(totals.cause_calibration),
        error(totals.op_calibration),
        match totals.false_leaks.of {
            0 => "–".to_owned(),
            of => format!("{}/{of}", totals.false_leaks.right),
        },
        if names_operations { totals.wrongly_named.to_string() } else { "–".to_owned() },
    ]
}

/// `.91 (10/11)`
fn share(share: Share) -> String {
    share
        .ratio()
        .map_or("–".to_owned(), |ratio| format!("{} ({}/{})", hundredths(ratio), share.right, share.of))
}

/// `.91`, `1.00`
fn hundredths(value: f64) -> String {
    let text = format!("{value:.2}");
    text.strip_prefix('0').map_or(text.clone(), str::to_owned)
}

/// One row a case; `methods` holds the rows of one case, exit137's first. `wide` adds who was named, and what
/// the simpler methods named.
pub fn of_cases(style: Style, cases: &[&[Row]], wide: bool) -> String {
    let mut head: Vec<String> =
        ["case", "truth", "cause", "p", "AC@1", "AC@3", "attribute", "introduced", "kills"]
            .map(str::to_owned)
            .to_vec();
    if wide {
        head.extend(["named", "p", "seconds"].map(str::to_owned));
        let simpler = cases.first().map_or(&[][..], |rows| rows.get(1..).unwrap_or_default());
        head.extend(simpler.iter().map(|row| row.method.to_owned()));
    }
    draw(style, head, cases.iter().filter_map(|rows| case_row(rows, wide)).collect())
}

fn case_row(rows: &[Row], wide: bool) -> Option<Vec<String>> {
    let (row, simpler) = rows.split_first()?;
    let mark = |answer: Option<bool>| match answer {
        Some(true) => "ok".to_owned(),
        Some(false) => "WRONG".to_owned(),
        None => "–".to_owned(),
    };
    let probability = |p: Option<f64>| p.map_or("–".to_owned(), hundredths);
    let found = row.error.as_deref().or(row.cause.as_deref()).unwrap_or("–");
    let grouped = row.ac1 == Some(false) && row.group1 == Some(true);
    let mut cells = vec![
        row.case.clone(),
        row.truth.clone(),
        if row.cause_ok { "ok".to_owned() } else { format!("WRONG {found}") },
        probability(row.p),
        match row.ac1 {
            Some(_) if grouped => "group".to_owned(),
            None if row.wrongly_named => "ACCUSED".to_owned(),
            None if row.wrongly_named_likely => "accused".to_owned(),
            answer => mark(answer),
        },
        mark(row.ac3),
        mark(row.attr),
        mark(row.introduced),
        match (row.kills_got, row.kills_want) {
            (Some(got), Some(want)) => format!("{got}/{want}"),
            _ => "–".to_owned(),
        },
    ];
    if wide {
        cells.push(row.top.join(" | "));
        cells.push(probability(row.op_p));
        cells.push(row.seconds.map_or("–".to_owned(), |seconds| format!("{seconds:.1}")));
        let first = |row: &Row| row.top.first().cloned().unwrap_or("–".to_owned());
        let said = |row: &Row| if row.ac1 == Some(true) { "ok".to_owned() } else { first(row) };
        cells.extend(simpler.iter().map(said));
    }
    Some(cells)
}

fn draw(style: Style, head: Vec<String>, body: Vec<Vec<String>>) -> String {
    match style {
        Style::Markdown => {
            let line = |cells: &Vec<String>| {
                let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
                format!("| {} |\n", cells.join(" | "))
            };
            let rule = format!("|{}\n", "---|".repeat(head.len()));
            line(&head) + &rule + &body.iter().map(line).collect::<String>()
        }
        Style::Plain => {
            let rows: Vec<&Vec<String>> = std::iter::once(&head).chain(&body).collect();
            let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
            let widths: Vec<usize> = (0..head.len()).map(width).collect();
            let line = |row: &&Vec<String>| {
                let cells = row
                    .iter()
                    .zip(&widths)
                    .map(|(cell, width)| format!("{cell}{}", " ".repeat(width - cell.chars().count())));
                format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
            };
            rows.iter().map(line).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Style, draw};

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let head = vec!["a".to_owned(), "b".to_owned()];
        let body = vec![vec!["–––".to_owned(), "x|y".to_owned()]];
        assert_eq!(draw(Style::Plain, head.clone(), body.clone()), "a    b\n–––  x|y\n");
        assert_eq!(draw(Style::Markdown, head, body), "| a | b |\n|---|---|\n| ––– | x\\|y |\n");
    }
}
