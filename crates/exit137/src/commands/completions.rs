//! `exit137 completions SHELL`: what the shell needs to complete our options.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Cli, Outcome, StdoutError};

const AFTER_HELP: &str = "\
Examples:
  exit137 completions bash > ~/.local/share/bash-completion/completions/exit137
  exit137 completions zsh > ~/.zfunc/_exit137
  exit137 completions fish > ~/.config/fish/completions/exit137.fish";

/// Print completions for a shell
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Completions {
    /// Which shell
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self) -> Result<Outcome, StdoutError> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "exit137", &mut script);
        super::print(&script)?;
        Ok(Outcome::Done)
    }
}
