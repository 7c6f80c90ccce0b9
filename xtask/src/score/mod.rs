//! `cargo xtask score DIR…`: how often the diagnosis is right on recorded incidents whose truth is known, how well
//! its certainty is placed, and what simpler methods make of the same records.

mod answer;
mod degrade;
mod record;
mod row;
mod table;
mod totals;
mod truth;

use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use clap::Parser;
use serde::Serialize;

use answer::METHODS;
use degrade::Kind;
use record::{Half, Record};
use row::Row;
use table::Style;
use totals::Totals;

/// The line in `cargo xtask`'s list.
pub const ABOUT: &str = "how often the diagnosis is right on records whose truth is known";

/// Score the diagnosis on recorded incidents
///
/// Reads every folder at or below DIR that has a `truth.yaml`, diagnoses what lies beside it, and compares.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask score", bin_name = "cargo xtask score")]
struct Score {
    /// Folders of records
    #[arg(value_name = "DIR", required = true)]
    folders: Vec<PathBuf>,

    /// Only records of the services in this half
    #[arg(long, value_name = "HALF", default_value = "all")]
    split: Half,

    /// Also score degraded copies; may be given several times
    #[arg(long, value_name = "KIND")]
    degrade: Vec<Kind>,

    /// Only records of these names, one a line
    #[arg(long, value_name = "FILE")]
    only: Option<PathBuf>,

    /// Every row with what was named, by the simpler methods too
    #[arg(long)]
    wide: bool,

    /// Tables in Markdown, totals only
    #[arg(long)]
    markdown: bool,

    /// Write all rows and totals to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Exit with 1 when a bar is missed
    #[arg(long)]
    bars: bool,
}

/// The rows and totals of all records, as they are or as one degraded copy.
#[derive(Debug, Serialize)]
struct Scored {
    /// `None` for the records as they are.
    degraded: Option<String>,
    totals: Vec<(&'static str, Totals)>,
    rows: Vec<Row>,
}

/// Runs the command.
pub fn run(words: &[String]) -> Result<(), String> {
    let score =
        Score::parse_from(std::iter::once("cargo xtask score").chain(words.iter().map(String::as_str)));
    let mut records = record::find(&score.folders)?;
    if let Some(path) = &score.only {
        let names = std::fs::read_to_string(path)
            .map_err(|error| format!("cannot open {}: {error}", path.display()))?;
        records.retain(|record| names.lines().any(|name| name.trim() == record.name));
    }
    records.retain(|record| score.split == Half::All || record.half() == score.split);
    if records.is_empty() {
        return Err("no record found: no folder there has a truth.yaml".to_owned());
    }
    let kinds: Vec<Kind> = match score.degrade.contains(&Kind::All) {
        true => Kind::every().collect(),
        false => score.degrade.clone(),
    };
    let whole = score_all(&records, None);
    let degraded: Vec<Scored> = kinds.iter().map(|kind| score_all(&records, Some(*kind))).collect();
    // A reader that has seen enough (`| head`) is no error.
    let _ = std::io::stdout().write_all(score.report(&records, &whole, &degraded).as_bytes());
    if let Some(path) = &score.json {
        let all: Vec<&Scored> = std::iter::once(&whole).chain(&degraded).collect();
        let text = serde_json::to_string_pretty(&all).map_err(|error| error.to_string())?;
        std::fs::write(path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    let missed = missed(&whole, &degraded);
    if score.bars && !missed.is_empty() {
        return Err(format!("bars missed:\n  {}", missed.join("\n  ")));
    }
    Ok(())
}

/// Scores every record by every method, several at a time; degraded copies by exit137 alone.
fn score_all(records: &[Record], kind: Option<Kind>) -> Scored {
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, Vec<Row>)>> = Mutex::new(Vec::new());
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers.min(records.len()) {
            scope.spawn(|| {
                while let Some(index) =
                    Some(next.fetch_add(1, Ordering::Relaxed)).filter(|i| *i < records.len())
                {
                    let rows = score_one(&records[index], kind);
                    done.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push((index, rows));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    done.sort_by_key(|(index, _)| *index);
    let rows: Vec<Row> = done.into_iter().flat_map(|(_, rows)| rows).collect();
    let of = |method: &'static str| Totals::of(rows.iter().filter(move |row| row.method == method));
    let methods = METHODS.into_iter().filter(|method| rows.iter().any(|row| row.method == *method));
    let totals = methods.map(|method| (method, of(method))).collect();
    Scored { degraded: kind.map(Kind::name), totals, rows }
}

/// A panic is a wrong answer, not the end of the score.
fn score_one(record: &Record, kind: Option<Kind>) -> Vec<Row> {
    let methods: &[&'static str] = if kind.is_none() { &METHODS } else { &METHODS[..1] };
    let failed = |error: String| {
        methods.iter().map(|method| Row::failed(&record.name, method, &record.truth, error.clone())).collect()
    };
    match catch_unwind(AssertUnwindSafe(|| answer_one(record, kind))) {
        Ok(Ok(rows)) => rows,
        Ok(Err(error)) => failed(error),
        Err(_) => failed("panicked".to_owned()),
    }
}

fn answer_one(record: &Record, kind: Option<Kind>) -> Result<Vec<Row>, String> {
    let mut seen = record.observations()?;
    let mut truth = record.truth.clone();
    if let Some(kind) = kind {
        kind.apply(&mut seen, &mut truth);
    }
    let start = Instant::now();
    let verdict = exit137_core::diagnose(&seen);
    let seconds = start.elapsed().as_secs_f64();
    let mut answers = vec![answer::of_verdict(&verdict, &truth)];
    if kind.is_none() {
        answers.extend(answer::of_baselines(&seen, &truth));
    }
    let rows =
        METHODS.iter().zip(&answers).map(|(method, answer)| Row::of(&record.name, method, &truth, answer));
    let mut rows: Vec<Row> = rows.collect();
    rows[0].seconds = Some(seconds);
    Ok(rows)
}

/// The bars that are missed, those of degraded copies with the copy's name.
fn missed(whole: &Scored, degraded: &[Scored]) -> Vec<String> {
    let mut missed = whole.totals.first().map(|(_, totals)| totals.missed_bars()).unwrap_or_default();
    for scored in degraded {
        let name = scored.degraded.as_deref().unwrap_or_default();
        let certain = scored.totals.first().map(|(_, totals)| totals.missed_certainty());
        missed.extend(certain.into_iter().flatten().map(|bar| format!("{name}: {bar}")));
    }
    missed
}

impl Score {
    fn report(&self, records: &[Record], whole: &Scored, degraded: &[Scored]) -> String {
        let style = if self.markdown { Style::Markdown } else { Style::Plain };
        let mut services: Vec<&str> = records.iter().map(Record::service).collect();
        services.sort_unstable();
        services.dedup();
        let mut text = format!("{} records of {} services\n\n", records.len(), services.len());
        if !self.markdown {
            text += &cases(style, whole, self.wide);
            text.push('\n');
        }
        let methods: Vec<(String, Totals)> =
            whole.totals.iter().map(|(name, totals)| ((*name).to_owned(), totals.clone())).collect();
        text += &table::of_methods(style, &methods);
        let copies: Vec<(String, Totals)> = degraded
            .iter()
            .filter_map(|scored| Some((scored.degraded.clone()?, scored.totals.first()?.1.clone())))
            .collect();
        if !copies.is_empty() {
            let whole = methods.first().map(|(_, totals)| ("as recorded".to_owned(), totals.clone()));
            let rows: Vec<(String, Totals)> = whole.into_iter().chain(copies).collect();
            text.push('\n');
            text += &table::of_copies(style, &rows);
        }
        for scored in degraded.iter().filter(|_| self.wide && !self.markdown) {
            text += &format!("\n{}\n\n", scored.degraded.as_deref().unwrap_or_default());
            text += &cases(style, scored, true);
        }
        text
    }
}

fn cases(style: Style, scored: &Scored, wide: bool) -> String {
    let cases: Vec<&[Row]> = scored.rows.chunk_by(|a, b| a.case == b.case).collect();
    table::of_cases(style, &cases, wide)
}
