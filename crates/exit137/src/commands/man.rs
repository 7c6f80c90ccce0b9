//! `exit137 man`: the manual pages, made from the same text as `--help`.

use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory};
use clap_mangen::Man as Page;

use super::{Cli, Outcome, StdoutError};

const AFTER_HELP: &str = "\
Examples:
  exit137 man | man -l -
  exit137 man --dir ~/.local/share/man/man1";

/// Print the manual page, or write all of them into a folder
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Man {
    /// Write one page per command into this folder
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum ManError {
    #[error("cannot make the manual page")]
    Render(#[source] io::Error),
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Stdout(#[from] StdoutError),
}

impl Man {
    pub(super) fn run(self) -> Result<Outcome, ManError> {
        let command = Cli::command();
        match self.dir {
            None => super::print(&render(command).map_err(ManError::Render)?)?,
            Some(dir) => write_pages(&dir, command)?,
        }
        Ok(Outcome::Done)
    }
}

fn render(command: clap::Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    Page::new(command).render(&mut page)?;
    Ok(page)
}

fn write_pages(dir: &Path, mut command: clap::Command) -> Result<(), ManError> {
    std::fs::create_dir_all(dir).map_err(|source| ManError::Write { path: dir.to_owned(), source })?;
    command.build();
    let pages = command.get_subcommands().filter(|subcommand| subcommand.get_name() != "help");
    for page in std::iter::once(&command).chain(pages) {
        // Building has given every subcommand its name as a page: `exit137-diagnose`.
        let title = page.get_display_name().unwrap_or(page.get_name());
        let path = dir.join(format!("{title}.1"));
        let text = render(page.clone()).map_err(ManError::Render)?;
        std::fs::write(&path, text).map_err(|source| ManError::Write { path, source })?;
    }
    Ok(())
}
