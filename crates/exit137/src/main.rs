//! exit137 says why a container was OOM-killed, who did it and what to do.

use std::process::ExitCode;

use clap::Parser;
use exit137::commands::{self, Cli};

fn main() -> ExitCode {
    match commands::run(Cli::parse()) {
        Ok(outcome) => outcome.into(),
        Err(error) => {
            eprintln!("{}", commands::chain(error.as_ref()));
            ExitCode::from(commands::EXIT_ERROR)
        }
    }
}
