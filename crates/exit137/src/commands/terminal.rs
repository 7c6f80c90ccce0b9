//! What the terminal can show: how wide, in colour or not, in Unicode or not.

use std::env;
use std::io::{IsTerminal, stdout};
use std::os::fd::AsFd;

use anstream::{AutoStream, ColorChoice};

use crate::output::{WIDTH_MAX, WIDTH_MIN};

/// When to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Color {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Even into a file or a pipe
    Always,
    /// Not at all
    Never,
}

/// Width where there is no terminal to ask.
const WIDTH_ELSEWHERE: usize = 100;

impl Color {
    /// Whether to use colour on standard output, or in a file.
    pub(super) fn is_on(self, into_file: bool) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto if into_file => false,
            Self::Auto => AutoStream::choice(&stdout()) != ColorChoice::Never,
        }
    }
}

/// Columns of the terminal behind standard output, within what reads well.
pub(super) fn width() -> usize {
    width_of(stdout()).clamp(WIDTH_MIN, WIDTH_MAX)
}

/// Columns of the terminal behind `stream`, not clamped.
pub(super) fn width_of(stream: impl AsFd) -> usize {
    let columns = terminal_size::terminal_size_of(stream).map(|(width, _)| usize::from(width.0));
    columns.unwrap_or(WIDTH_ELSEWHERE)
}

/// Whether the locale is UTF-8. Without a locale it is assumed to be: containers and CI rarely set one.
pub(super) fn is_unicode() -> bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(|name| {
        let value = env::var_os(name)?.to_string_lossy().to_ascii_lowercase();
        (!value.is_empty()).then_some(value)
    });
    locale.is_none_or(|locale| locale.contains("utf-8") || locale.contains("utf8"))
}

/// Whether standard output is a terminal.
pub(super) fn is_terminal() -> bool {
    stdout().is_terminal()
}
