//! The project's own commands, run as `cargo xtask COMMAND`: one file a command, one line each in the list below.

use std::process::ExitCode;

mod check;

/// What a command does with the words after its name; the error is what to tell the person.
type Run = fn(&[String]) -> Result<(), String>;

/// Name, what it does, and the function that does it.
const COMMANDS: &[(&str, &str, Run)] = &[("check", check::ABOUT, check::run)];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let found = words.first().and_then(|name| COMMANDS.iter().find(|command| command.0 == name));
    let Some((_, _, run)) = found else {
        eprintln!("usage: cargo xtask COMMAND\n");
        for (name, about, _) in COMMANDS {
            eprintln!("  {name:<10} {about}");
        }
        return ExitCode::from(2);
    };
    match run(&words[1..]) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}
