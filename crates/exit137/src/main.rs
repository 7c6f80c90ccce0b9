//! exit137 says why a container was OOM-killed, who did it and what to do.

use std::process::ExitCode;

use clap::Parser;
use exit137::commands::{self, Cli};

/// A day of telemetry is millions of small pieces; the C library's allocator takes longer over them and gives
/// less back, and the one of a static build several times as long.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match commands::run(Cli::parse()) {
        Ok(outcome) => outcome.into(),
        Err(error) => {
            eprintln!("{}", commands::chain(error.as_ref()));
            ExitCode::from(commands::EXIT_ERROR)
        }
    }
}
