//! `exit137 leaks PATH…`: what leaks, when it will be killed, and who does it.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use exit137_core::baselines::{Method, article, rankings};
use exit137_sources::{ReadError, ReadOptions};

use super::progress::Bar;
use super::terminal::{self, Color};
use super::{Outcome, StdoutError};
use crate::output::{LeakReport, Paper, WIDTH_MAX, WIDTH_MIN};

const LONG_ABOUT: &str = "\
Reads recorded evidence like `exit137 diagnose` and lists what leaks: containers that were not killed yet, with the time \
until they meet their limit, and containers that a leak has already killed; each with the operations that do it.

A trend alone is no leak: a service that warms up, fills a bounded cache or follows its load is not listed.";

const AFTER_HELP: &str = "\
Methods:
  exit137         judges the cause first, then compares operations, and says how sure it is
  article         endpoints with at least 100 requests of which more than 80 % grew memory, by their total growth; needs
                  request.memory.delta points or memory.<label>.delta_mb span attributes. Both are the whole process
                  before and after a request, so under concurrency it blames whoever runs beside a large request
  regression      least squares of the memory's changes on the calls that finished meanwhile
  most-frequent   operations by how often they were called
  most-in-flight  operations by how many of their calls ran at the kills
All but exit137 are there to be compared with. How often each is right: docs/accuracy.md

Examples:
  Who will be killed next:
    exit137 leaks telemetry/ pods.json

  Seconds until then, for a script:
    exit137 leaks telemetry/ -o json | jq '.leaks[] | [.container.pod, .time_to_limit_seconds.mid]'

  What the article's method makes of it:
    exit137 leaks --method article telemetry/

Exit codes:
  0  something leaks, or is ranked
  1  nothing is found to leak
  2  error: usage, unreadable input, unwritable output";

/// List what leaks, when it will be killed, and who does it
#[derive(Debug, Args)]
#[command(long_about = LONG_ABOUT, after_help = AFTER_HELP)]
pub(super) struct Leaks {
    /// Files and folders to read; `-` is standard input
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,

    /// Who is asked
    #[arg(long, value_name = "METHOD", default_value = "exit137", hide_possible_values = true)]
    method: Asked,

    /// How to print the list
    #[arg(short, long, value_name = "FORMAT", default_value = "text", help_heading = "Output")]
    output: ListFormat,

    /// When to use colour
    #[arg(long, value_name = "WHEN", default_value = "auto", help_heading = "Output")]
    color: Color,

    /// Columns of the text, 60 to 160 [default: the terminal's]
    #[arg(long, value_name = "N", help_heading = "Output")]
    width: Option<usize>,

    /// No progress and no list of unreadable records on standard error
    #[arg(short, long, help_heading = "Output")]
    quiet: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Asked {
    Exit137,
    Article,
    Regression,
    MostFrequent,
    MostInFlight,
}

/// Forms of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ListFormat {
    /// For reading in a terminal
    Text,
    /// For programs: schema exit137.leaks/1
    Json,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum LeaksError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Stdout(#[from] StdoutError),
}

impl Leaks {
    pub(super) fn run(self) -> Result<Outcome, LeaksError> {
        let bar = Bar::new(self.quiet);
        let observations = exit137_sources::read(&self.paths, &ReadOptions::default(), &bar);
        bar.finish();
        let observations = observations?;
        if !self.quiet {
            super::diagnose::report_problems(&observations.problems.list());
        }
        let ranked = |method| LeakReport::Ranked(method, rankings(&observations, method));
        let report = match self.method {
            Asked::Exit137 => LeakReport::Verdict(Box::new(exit137_core::diagnose(&observations))),
            Asked::Article => LeakReport::Article(article::leaky_endpoints(&observations)),
            Asked::Regression => ranked(Method::Regression),
            Asked::MostFrequent => ranked(Method::MostFrequent),
            Asked::MostInFlight => ranked(Method::MostInFlight),
        };
        let text = match self.output {
            ListFormat::Text => report.to_text(&self.paper()),
            ListFormat::Json => report.to_json(),
        };
        super::print(text.as_bytes())?;
        Ok(if report.is_empty() { Outcome::NothingFound } else { Outcome::Done })
    }

    fn paper(&self) -> Paper {
        Paper {
            width: self.width.unwrap_or_else(terminal::width).clamp(WIDTH_MIN, WIDTH_MAX),
            color: self.color.is_on(false),
            unicode: terminal::is_unicode(),
            ..Paper::default()
        }
    }
}
