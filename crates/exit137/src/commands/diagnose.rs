//! `exit137 diagnose PATH…`: reads what was recorded and says why.

use std::fs;
use std::io;
use std::path::PathBuf;

use clap::Args;
use exit137_core::problem::Problem;
use exit137_core::verdict::Verdict;
use exit137_sources::{ReadError, ReadOptions};
use jiff::tz::TimeZone;

use super::machine;
use super::progress::Bar;
use super::selection::Selection;
use super::terminal::{self, Color};
use super::{Outcome, StdoutError};
use crate::output::{Format, Paper, WIDTH_MAX, WIDTH_MIN, clean_line, shorten};

/// Problems told on standard error; the rest is counted.
const PROBLEMS_SHOWN_MAX: usize = 5;

/// Columns of one problem on standard error.
const PROBLEM_COLUMNS_MAX: usize = 200;

const LONG_ABOUT: &str = "\
Reads recorded evidence in any mix and says why each container was OOM-killed.

A PATH is a file, a folder (read with everything in it) or `-` for standard input. What a file is, is told by its \
content, not by its name:

  OpenTelemetry   traces, metrics and logs: OTLP as JSON or protobuf, as the
                  Collector's file exporter writes it
  Kubernetes      `kubectl get pods,events,… -o json` or `-o yaml`, and watches
  kernel log      `journalctl -k`, `dmesg`, or a copy of /dev/kmsg
  cgroup          samples of memory.current, memory.stat, memory.events
  journals        of processes that are instrumented with exit137

Files may be compressed with gzip or zstd. A record that cannot be read is reported and skipped.";

const AFTER_HELP: &str = "\
Examples:
  A folder with everything that was recorded around the kill:
    exit137 diagnose incident/

  Straight from a cluster and a node, without any telemetry:
    kubectl get pods,events -A -o json > pods.json
    journalctl -k -o json > kernel.jsonl
    exit137 diagnose pods.json kernel.jsonl

  One container, for the ticket:
    exit137 diagnose incident/ --namespace shop --container catalog-api -o markdown

  A page to open offline or to attach:
    exit137 diagnose incident/ -o html --out report.html

  The names of the guilty operations:
    exit137 diagnose incident/ -o json | jq -r '.incidents[].operations[0].names[]'

Exit codes:
  0  the kills are explained, or there is a leak to tell about
  1  no OOM kill was found
  2  error: usage, unreadable input, unwritable output

Environment:
  NO_COLOR                 no colour, unless --color always
  LC_ALL, LC_CTYPE, LANG   ASCII instead of Unicode when the locale is not UTF-8
  TZ                       the zone of --timezone local";

/// Say why containers were OOM-killed, from recorded evidence
#[derive(Debug, Args)]
#[command(long_about = LONG_ABOUT, after_help = AFTER_HELP)]
pub(super) struct Diagnose {
    /// Files and folders to read; `-` is standard input
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,

    /// How to print the verdict
    #[arg(short, long, value_name = "FORMAT", default_value = "text", help_heading = "Output")]
    output: Format,

    /// Write to this file instead of standard output
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    out: Option<PathBuf>,

    /// When to use colour
    #[arg(long, value_name = "WHEN", default_value = "auto", help_heading = "Output")]
    color: Color,

    /// Columns of the text, 60 to 160 [default: the terminal's]
    #[arg(long, value_name = "N", help_heading = "Output")]
    width: Option<usize>,

    /// Zone of the times shown; JSON is always UTC
    #[arg(long, value_name = "ZONE", default_value = "utc", help_heading = "Output")]
    timezone: Zone,

    /// No progress and no list of unreadable records on standard error
    #[arg(short, long, help_heading = "Output")]
    quiet: bool,

    #[command(flatten)]
    selection: Selection,

    /// Threads to read with [default: one a core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

/// Of which zone times are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Zone {
    /// Coordinated Universal Time
    Utc,
    /// The zone of this machine
    Local,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum DiagnoseError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("a page of HTML is not for a terminal; hint: add `--out report.html`")]
    HtmlToTerminal,
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Stdout(#[from] StdoutError),
}

impl Diagnose {
    pub(super) fn run(self) -> Result<Outcome, DiagnoseError> {
        if self.output == Format::Html && self.out.is_none() && terminal::is_terminal() {
            return Err(DiagnoseError::HtmlToTerminal);
        }
        let bar = Bar::new(self.quiet);
        let options = ReadOptions {
            threads: self.threads.map_or(0, usize::from),
            // The rest is for the diagnosis. A tool about OOM kills must not be one.
            kept_bytes_max: machine::memory_available().map(|bytes| bytes / 2),
        };
        let observations = exit137_sources::read(&self.paths, &options, &bar);
        bar.finish();
        let mut verdict = exit137_core::diagnose(&observations?);
        let left_out = self.selection.apply(&mut verdict);
        if !self.quiet {
            report_problems(&verdict.problems);
        }
        let text = self.output.render(&verdict, &self.paper(left_out));
        match self.out {
            Some(path) => fs::write(&path, text).map_err(|source| DiagnoseError::Write { path, source })?,
            None => super::print(text.as_bytes())?,
        }
        Ok(outcome(&verdict))
    }

    fn paper(&self, left_out: Vec<String>) -> Paper {
        Paper {
            width: self.width.unwrap_or_else(terminal::width).clamp(WIDTH_MIN, WIDTH_MAX),
            color: self.output == Format::Text && self.color.is_on(self.out.is_some()),
            unicode: terminal::is_unicode(),
            zone: match self.timezone {
                Zone::Utc => TimeZone::UTC,
                Zone::Local => TimeZone::system(),
            },
            asked_for: self.selection.describe(),
            left_out,
        }
    }
}

fn outcome(verdict: &Verdict) -> Outcome {
    let nothing = verdict.incidents.is_empty() && verdict.leaks.is_empty();
    if nothing { Outcome::NothingFound } else { Outcome::Done }
}

/// `3 problems in the input:` and the first of them.
pub(super) fn report_problems(problems: &[Problem]) {
    let shown = |problem: &Problem| {
        shorten(
            &format!("{}: {}", clean_line(&problem.source), clean_line(&problem.message)),
            PROBLEM_COLUMNS_MAX,
        )
    };
    match problems {
        [] => {}
        [problem] => eprintln!("1 problem in the input: {}", shown(problem)),
        problems => {
            eprintln!("{} problems in the input:", problems.len());
            for problem in problems.iter().take(PROBLEMS_SHOWN_MAX) {
                eprintln!("  {}", shown(problem));
            }
            if problems.len() > PROBLEMS_SHOWN_MAX {
                let more = problems.len() - PROBLEMS_SHOWN_MAX;
                eprintln!("  and {more} more; see problems in --output json");
            }
        }
    }
}
