//! The command line: one file a subcommand, one line in [`Command`], and one in [`run`].

mod agent;
mod capture;
mod completions;
mod diagnose;
mod journal;
mod leaks;
pub(crate) mod machine;
mod man;
mod progress;
mod run;
mod selection;
mod serve;
mod terminal;

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::output::clean_line;

/// Exit code for usage errors, unreadable input and unwritable output.
pub const EXIT_ERROR: u8 = 2;

/// Exit code for "no OOM kill found".
const EXIT_NOTHING_FOUND: u8 = 1;

const LONG_ABOUT: &str = "\
exit137 says why a container was OOM-killed: the cause and how sure it is, the operation that is guilty if one is, \
the requests that were in flight, the evidence, what is missing, and one action.

It joins the kill (Kubernetes objects, kernel log, cgroup counters), the memory (OpenTelemetry metrics, cgroup \
samples) and the work (OpenTelemetry traces). Any of them helps; none of them is required.";

const AFTER_HELP: &str = "\
Exit codes:
  0  the kills are explained, or there is a leak to tell about
  1  no OOM kill was found
  2  error: usage, unreadable input, unwritable output

Start with `exit137 diagnose --help`: it has examples.";

/// Says why a container was OOM-killed, who did it and what to do
#[derive(Debug, Parser)]
#[command(name = "exit137", version, long_about = LONG_ABOUT, after_help = AFTER_HELP, disable_help_subcommand = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Diagnose(Box<diagnose::Diagnose>),
    Run(Box<run::Run>),
    Leaks(leaks::Leaks),
    Journal(journal::Journal),
    Serve(Box<serve::Serve>),
    Agent(Box<agent::Agent>),
    Capture(capture::Capture),
    Completions(completions::Completions),
    Man(man::Man),
}

/// How a command that did not fail ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Explained, or nothing wrong.
    Done,
    /// No OOM kill found.
    NothingFound,
    /// A command was run, and this is its exit code.
    Ended(u8),
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Done => Self::SUCCESS,
            Outcome::NothingFound => Self::from(EXIT_NOTHING_FOUND),
            Outcome::Ended(code) => Self::from(code),
        }
    }
}

/// Runs the command that was asked for.
///
/// # Errors
/// When the input cannot be read or the output cannot be written.
pub fn run(cli: Cli) -> Result<Outcome, Box<dyn Error>> {
    match cli.command {
        Command::Diagnose(diagnose) => Ok(diagnose.run()?),
        Command::Run(run) => Ok(run.run()),
        Command::Leaks(leaks) => Ok(leaks.run()?),
        Command::Journal(journal) => Ok(journal.run()?),
        Command::Serve(serve) => Ok(serve.run()?),
        Command::Agent(agent) => Ok(agent.run()?),
        Command::Capture(capture) => Ok(capture.run()?),
        Command::Completions(completions) => Ok(completions.run()?),
        Command::Man(man) => Ok(man.run()?),
    }
}

/// An error with its reasons in one line: `cannot open x: Permission denied`.
pub fn chain(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(reason) = source {
        let words = without_code(reason);
        // Some libraries' errors repeat what their own reasons say.
        if !line.ends_with(&words) {
            line = format!("{line}: {words}");
        }
        source = reason.source();
    }
    clean_line(&line)
}

/// `(os error 13)` tells nobody anything that the words before it do not.
fn without_code(error: &(dyn Error + 'static)) -> String {
    let text = error.to_string();
    match text.find(" (os error ") {
        Some(at) if error.is::<io::Error>() => text[..at].to_owned(),
        _ => text,
    }
}

/// Standard output is gone or full.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output")]
struct StdoutError {
    source: io::Error,
}

/// Writes to standard output. A reader that has seen enough (`| head`) is no error.
fn print(bytes: &[u8]) -> Result<(), StdoutError> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(source) if source.kind() != io::ErrorKind::BrokenPipe => Err(StdoutError { source }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
