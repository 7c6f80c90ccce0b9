//! A progress bar for long reading, on a terminal only.

use std::io::{IsTerminal, stderr};

use exit137_sources::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Less than this is read before a bar would be noticed.
const BYTES_MIN: u64 = 64 << 20;

/// Hidden until the reading turns out to be long.
pub(super) struct Bar {
    bar: ProgressBar,
    may_show: bool,
}

impl Bar {
    pub(super) fn new(quiet: bool) -> Self {
        Self { bar: ProgressBar::hidden(), may_show: !quiet && stderr().is_terminal() }
    }

    /// Removes the bar from the terminal.
    pub(super) fn finish(self) {
        self.bar.finish_and_clear();
    }
}

impl Progress for Bar {
    fn total(&self, bytes: u64) {
        self.bar.set_length(bytes);
        if self.may_show && bytes >= BYTES_MIN {
            let template = "reading {bar:32} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
            if let Ok(style) = ProgressStyle::with_template(template) {
                self.bar.set_style(style);
            }
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
    }

    fn advance(&self, bytes: u64) {
        self.bar.inc(bytes);
    }
}
