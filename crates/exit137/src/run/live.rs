//! The live line: memory against the limit, and requests seen, on the last row of the terminal while the command has the
//! rest. The row is taken out of the part that scrolls, so that neither writes over the other.
//!
//! It is there only on a terminal that is ours at the moment, and goes while a program draws full screens or asks for
//! a password: both switch the terminal away from echoing lines.

use std::io::{IsTerminal, Write, stderr};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::getpgrp;
use rustix::termios::{LocalModes, tcgetattr, tcgetpgrp};

use super::child::Job;
use crate::output::shorten;

/// With fewer rows, each one is needed.
const ROWS_MIN: u16 = 8;

#[derive(Debug, Default)]
struct Shown {
    /// Rows of the terminal when the last one was taken.
    rows: Option<u16>,
}

/// The row, shared with those who must take it away.
#[derive(Debug, Clone)]
pub(super) struct Live {
    /// `None` where there is no terminal.
    shown: Option<Arc<Mutex<Shown>>>,
}

impl Live {
    /// On standard error, if `wanted` and if that is a terminal.
    pub(super) fn new(wanted: bool) -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        let on = wanted && !dumb && stderr().is_terminal();
        Self { shown: on.then(Arc::default) }
    }

    /// Whether anybody would see it.
    pub(super) fn is_on(&self) -> bool {
        self.shown.is_some()
    }

    /// Shows `text` on the last row.
    pub(super) fn show(&self, text: &str) {
        let Some(shown) = &self.shown else { return };
        let mut shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
        let size = terminal_size::terminal_size_of(stderr()).map(|(width, height)| (width.0, height.0));
        let Some((columns, rows)) = size.filter(|(_, rows)| *rows >= ROWS_MIN && is_ours()) else {
            return give_back(&mut shown);
        };
        let mut bytes = String::new();
        if shown.rows != Some(rows) {
            // A line feed at the bottom makes room; the region that scrolls ends above, and the cursor stays where it was.
            bytes.push_str(&format!("\n\x1b7\x1b[1;{}r\x1b8\x1b[1A", rows - 1));
            shown.rows = Some(rows);
        }
        let text = shorten(text, usize::from(columns).saturating_sub(1));
        bytes.push_str(&format!("\x1b7\x1b[{rows};1H\x1b[2K\x1b[2m{text}\x1b[0m\x1b8"));
        let _ = stderr().lock().write_all(bytes.as_bytes());
    }

    /// Gives the row back.
    pub(super) fn hide(&self) {
        if let Some(shown) = &self.shown {
            give_back(&mut shown.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }
}

impl Job for Live {
    fn stopping(&self) {
        self.hide();
    }
}

fn give_back(shown: &mut Shown) {
    if let Some(rows) = shown.rows.take() {
        let bytes = format!("\x1b7\x1b[r\x1b[{rows};1H\x1b[2K\x1b8");
        let _ = stderr().lock().write_all(bytes.as_bytes());
    }
}

/// Whether lines are typed and shown on this terminal, and we are its foreground.
fn is_ours() -> bool {
    let foreground = tcgetpgrp(stderr()).is_ok_and(|group| group == getpgrp());
    let modes = tcgetattr(stderr()).map(|attributes| attributes.local_modes);
    foreground && modes.is_ok_and(|modes| modes.contains(LocalModes::ICANON | LocalModes::ECHO))
}
