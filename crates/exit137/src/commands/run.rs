//! `exit137 run -- CMD…`: the command line of [`crate::run`].

use std::ffi::OsString;
use std::fs;
use std::io::{self, IsTerminal, stderr};
use std::path::PathBuf;

use anstream::{AutoStream, ColorChoice};
use clap::Args;
use exit137_core::bytes::Bytes;
use exit137_core::verdict::Verdict;
use jiff::tz::TimeZone;

use super::diagnose::report_problems;
use super::terminal::{self, Color};
use super::{Outcome, chain};
use crate::output::{Format, Paper, WIDTH_MAX, WIDTH_MIN};
use crate::run::{self, Plan, RunError};

/// exit137 itself failed, as `docker run` and `timeout` say it.
const CODE_FAILED: u8 = 125;
/// The command is there, but cannot be executed.
const CODE_NOT_EXECUTABLE: u8 = 126;
/// There is no such command.
const CODE_NOT_FOUND: u8 = 127;

/// In less than this a program does not even start, and the kernel would kill it before it is one.
const LIMIT_BYTES_MIN: u64 = 1 << 20;

/// Longer names fill the live line.
const NAME_CHARS_MAX: usize = 60;

const LONG_ABOUT: &str = "\
Runs any program under a memory limit and, when the kernel kills it, says why.

The program runs in a memory cgroup of its own, like a container. Its output, its input and its exit code are its own; \
everything that exit137 says goes to standard error. Meanwhile exit137 samples the cgroup, hears the kernel, and takes \
the program's telemetry: OTEL_EXPORTER_OTLP_ENDPOINT and its kin point at a recorder that listens on this machine \
alone. So a program with the stock OpenTelemetry packages has its guilty endpoint named, and one without still has \
cause, timeline and processes.

After the end, what the program left running is killed, and the cgroup is removed.";

const AFTER_HELP: &str = "\
Examples:
  A service with OpenTelemetry, under the limit that it has in production:
    exit137 run --memory 200MiB -- opentelemetry-instrument python3 app.py

  Anything else; the verdict then rests on memory and the kernel's report:
    exit137 run --memory 1GiB -- make -j8

  Three lives, which tell a leak from a spike better than one does:
    exit137 run --memory 200MiB --repeat 3 -- node server.js

  The record for later, and a page for the ticket:
    exit137 run --memory 200MiB --save incident -o html --out why.html -- ./server
    exit137 diagnose incident

  Without root, where systemd manages cgroup v2:
    systemd-run --user --scope -p Delegate=yes exit137 run --memory 200MiB -- ./server

Exit codes:
  that of the command; 128 and the signal's number if a signal ended it (137 for an OOM kill)
  2    an option that exit137 run does not know
  125  exit137 itself failed: no cgroup, no place for the record
  126  the command cannot be executed
  127  the command was not found

Environment of the command, where not set already (endpoints always are):
  OTEL_EXPORTER_OTLP_ENDPOINT    the recorder of this run
  OTEL_EXPORTER_OTLP_PROTOCOL    http/protobuf; grpc and http/json work as well
  OTEL_SERVICE_NAME              the name of this run
  OTEL_RESOURCE_ATTRIBUTES       container.id and k8s.* of this life, behind what is there
  OTEL_TRACES_EXPORTER, OTEL_METRICS_EXPORTER
                                 otlp
  OTEL_BSP_SCHEDULE_DELAY, OTEL_BLRP_SCHEDULE_DELAY, OTEL_METRIC_EXPORT_INTERVAL
                                 200, 200 and 1000 milliseconds, so that little is lost with the program
  EXIT137_JOURNAL                a folder for journals of the program's requests";

/// Run a program under a memory limit, and say why if the kernel kills it
#[derive(Debug, Args)]
#[command(long_about = LONG_ABOUT, after_help = AFTER_HELP)]
pub(super) struct Run {
    /// Limit of all memory of the command: 200MiB, 1.5GiB, 500MB, 64Mi; without it, only limits from outside count
    #[arg(short, long, value_name = "SIZE", value_parser = size)]
    memory: Option<u64>,

    /// What the command is called in the verdict and to OpenTelemetry [default: the command's own name]
    #[arg(short, long, value_name = "NAME")]
    name: Option<String>,

    /// Start the command again after an OOM kill, until it was killed this many times
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    repeat: u32,

    /// A kill takes all processes of the command, as Kubernetes has it on cgroup v2
    #[arg(long)]
    group_kill: bool,

    /// Keep the record in this new or empty folder, for `exit137 diagnose`
    #[arg(long, value_name = "DIR")]
    save: Option<PathBuf>,

    /// How to print the verdict
    #[arg(short, long, value_name = "FORMAT", default_value = "text", help_heading = "Output")]
    output: Format,

    /// Write the verdict to this file instead of standard error
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    out: Option<PathBuf>,

    /// When to use colour
    #[arg(long, value_name = "WHEN", default_value = "auto", help_heading = "Output")]
    color: Color,

    /// Nothing on standard error but the verdict: no live line, no notes
    #[arg(short, long, help_heading = "Output")]
    quiet: bool,

    /// The command and its arguments
    #[arg(value_name = "CMD", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum RunCommandError {
    #[error("a page of HTML is not for a terminal; hint: add `--out report.html`")]
    HtmlToTerminal,
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

impl Run {
    pub(super) fn run(self) -> Outcome {
        match self.run_or_fail() {
            Ok(code) => Outcome::Ended(code),
            Err((code, error)) => {
                eprintln!("exit137 run: {}", chain(error.as_ref()));
                if let Some(hint) = error.downcast_ref::<RunError>().and_then(RunError::hint) {
                    eprintln!("hint: {hint}");
                }
                Outcome::Ended(code)
            }
        }
    }

    fn run_or_fail(self) -> Result<u8, (u8, Box<dyn std::error::Error>)> {
        if self.output == Format::Html && self.out.is_none() && stderr().is_terminal() {
            return Err((CODE_FAILED, RunCommandError::HtmlToTerminal.into()));
        }
        let plan = self.plan();
        let outcome = run::run(&plan).map_err(|error| {
            let code = match error {
                RunError::NotFound(_) => CODE_NOT_FOUND,
                RunError::Start(_) => CODE_NOT_EXECUTABLE,
                RunError::Setup(_) | RunError::Read(_) => CODE_FAILED,
            };
            (code, error.into())
        })?;
        if let Some(verdict) = outcome.verdict {
            // The command has ended in its own way, and its exit code stays its own.
            if let Err(error) = self.tell(&verdict) {
                eprintln!("exit137 run: {}", chain(&error));
            }
        }
        Ok(outcome.code)
    }

    fn plan(&self) -> Plan {
        Plan {
            command: self.command.clone(),
            memory: self.memory,
            group_kill: self.group_kill,
            name: self.name.clone().unwrap_or_else(|| name_of(&self.command)),
            lives: self.repeat,
            save: self.save.clone(),
            live: !self.quiet,
            quiet: self.quiet,
        }
    }

    fn tell(&self, verdict: &Verdict) -> Result<(), RunCommandError> {
        if !self.quiet {
            report_problems(&verdict.problems);
        }
        let text = self.output.render(verdict, &self.paper());
        match &self.out {
            Some(path) => fs::write(path, text)
                .map_err(|source| RunCommandError::Write { path: path.clone(), source })?,
            None => {
                // Nobody is left to be told when standard error is gone.
                let _ = io::Write::write_all(&mut stderr().lock(), text.as_bytes());
            }
        }
        if let (Some(path), false) = (&self.out, self.quiet) {
            let headline = verdict.incidents.first().map(|incident| incident.headline.as_str());
            eprintln!("exit137 run: {}", headline.unwrap_or("the kernel killed a process of the command"));
            eprintln!("exit137 run: the verdict is in {}", path.display());
        }
        Ok(())
    }

    fn paper(&self) -> Paper {
        let into_file = self.out.is_some();
        let color = match self.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => !into_file && AutoStream::choice(&stderr()) != ColorChoice::Never,
        };
        Paper {
            width: terminal::width_of(stderr()).clamp(WIDTH_MIN, WIDTH_MAX),
            color: self.output == Format::Text && color,
            unicode: terminal::is_unicode(),
            zone: TimeZone::UTC,
            asked_for: None,
            left_out: Vec::new(),
        }
    }
}

/// What the command is called if nobody says: the script that an interpreter runs, else the program.
fn name_of(command: &[OsString]) -> String {
    let base = |word: &OsString| {
        let word = word.to_string_lossy();
        word.rsplit('/').find(|part| !part.is_empty()).unwrap_or("command").to_owned()
    };
    let script = command.iter().skip(1).find(|word| {
        let word = word.to_string_lossy();
        [".py", ".js", ".mjs", ".cjs", ".ts", ".rb", ".jar", ".sh", ".php", ".dll"]
            .iter()
            .any(|ending| word.ends_with(ending) && !word.starts_with('-'))
    });
    let name = match script {
        Some(script) => {
            let name = base(script);
            name.rsplit_once('.').map_or(name.clone(), |(stem, _)| stem.to_owned())
        }
        None => command.first().map_or_else(|| "command".to_owned(), base),
    };
    name.chars().filter(|char| !char.is_control()).take(NAME_CHARS_MAX).collect()
}

/// Units: those of Kubernetes, and their full names. A bare `m` or `k` means different things to different tools.
const UNITS: [(&str, u64); 16] = [
    ("", 1),
    ("B", 1),
    ("Ki", 1 << 10),
    ("KiB", 1 << 10),
    ("Mi", 1 << 20),
    ("MiB", 1 << 20),
    ("Gi", 1 << 30),
    ("GiB", 1 << 30),
    ("Ti", 1 << 40),
    ("TiB", 1 << 40),
    ("k", 1_000),
    ("kB", 1_000),
    ("M", 1_000_000),
    ("MB", 1_000_000),
    ("G", 1_000_000_000),
    ("GB", 1_000_000_000),
];

fn size(text: &str) -> Result<u64, String> {
    const EXPECTED: &str = "expected a size like 200MiB, 1.5GiB, 500MB or 64Mi";
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().map_err(|_| EXPECTED.to_owned())?;
    let unit = UNITS.iter().find(|(name, _)| *name == unit.trim()).ok_or(EXPECTED)?.1;
    let bytes = number * unit as f64;
    if bytes > (1u64 << 60) as f64 {
        return Err(EXPECTED.to_owned());
    }
    let bytes = bytes as u64;
    if bytes < LIMIT_BYTES_MIN {
        return Err(format!("{} is less than any program needs to start", Bytes(bytes)));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_written_as_in_kubernetes_or_in_full() {
        for (text, bytes) in [
            ("200MiB", 200 << 20),
            ("200 Mi", 200 << 20),
            ("1.5GiB", 3 << 29),
            ("500MB", 500_000_000),
            ("500M", 500_000_000),
            ("4194304", 4 << 20),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "MiB", "200m", "-5MiB", "1e9", "12 parsecs", "99999999TiB", "1.2.3Gi"] {
            assert!(size(text).is_err_and(|error| error.starts_with("expected a size like")), "{text}");
        }
        assert_eq!(size("5"), Err("5 B is less than any program needs to start".to_owned()));
    }

    #[test]
    fn a_command_is_called_by_its_script() {
        let name = |words: &[&str]| name_of(&words.iter().map(OsString::from).collect::<Vec<_>>());
        assert_eq!(name(&["python3", "-m", "pdb", "examples/shop.py", "--load"]), "shop");
        assert_eq!(name(&["/usr/bin/java", "-Xmx1g", "-jar", "api.jar"]), "api");
        assert_eq!(name(&["./server", "--port", "80"]), "server");
        assert_eq!(name(&["make"]), "make");
        assert_eq!(name(&["/"]), "command");
    }
}
