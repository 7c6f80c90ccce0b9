//! Turns a verdict into what people and programs read. One file a format; [`Format::render`] is the list.
//!
//! Nothing here decides anything: a number or a sentence that is not in the verdict is not made up here.

mod chart;
mod clean;
mod html;
mod json;
mod leaks;
mod markdown;
#[cfg(test)]
pub(crate) mod sample;
mod text;
mod words;

use exit137_core::verdict::Verdict;
use jiff::tz::TimeZone;

pub(crate) use clean::{line as clean_line, shorten};
pub(crate) use html::articles as html_articles;
pub(crate) use json::read as read_json;
pub use leaks::LeakReport;
pub(crate) use words::container as container_name;
pub(crate) use words::{bytes, capitalized, count, date_time};

/// Which form the verdict takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For reading in a terminal
    Text,
    /// For programs: schema exit137.verdict/1
    Json,
    /// One self-contained page that works offline
    Html,
    /// For a ticket or a pull request
    Markdown,
}

impl Format {
    /// The verdict in this format, ready to be written.
    pub fn render(self, verdict: &Verdict, paper: &Paper) -> String {
        match self {
            Self::Text => text::render(verdict, paper),
            Self::Json => json::render(verdict),
            Self::Html => html::render(verdict, paper),
            Self::Markdown => markdown::render(verdict, paper),
        }
    }
}

/// What the verdict is written on.
#[derive(Debug, Clone)]
pub struct Paper {
    /// Columns of the terminal.
    pub width: usize,
    /// Whether escape sequences for colour may be used.
    pub color: bool,
    /// Whether the terminal can show more than ASCII.
    pub unicode: bool,
    /// In which zone times are shown. JSON is always UTC.
    pub zone: TimeZone,
    /// What was asked for, if not everything: `shop/cart between 09:00 and 10:00`.
    pub asked_for: Option<String>,
    /// Containers with a verdict that was not asked for.
    pub left_out: Vec<String>,
}

/// The narrowest and widest text that still reads well.
pub const WIDTH_MIN: usize = 60;
/// See [`WIDTH_MIN`].
pub const WIDTH_MAX: usize = 160;

impl Default for Paper {
    fn default() -> Self {
        Self {
            width: 100,
            color: false,
            unicode: true,
            zone: TimeZone::UTC,
            asked_for: None,
            left_out: Vec::new(),
        }
    }
}
