//! Lines of a given width, with or without colour. Everything written passes through here, and here alone
//! text from outside is made harmless.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::output::{Paper, clean};

pub(super) const PLAIN: Style = Style::new();
pub(super) const BOLD: Style = Style::new().bold();
pub(super) const DIM: Style = Style::new().dimmed();
pub(super) const RED: Style = AnsiColor::Red.on_default().bold();
pub(super) const YELLOW: Style = AnsiColor::Yellow.on_default();
pub(super) const GREEN: Style = AnsiColor::Green.on_default();
pub(super) const BLUE: Style = AnsiColor::Cyan.on_default();

/// A piece of text with one style.
pub(super) type Piece<'a> = (Style, &'a str);

/// The output as it grows.
pub(super) struct Sheet<'a> {
    pub(super) paper: &'a Paper,
    pub(super) width: usize,
    out: String,
}

impl<'a> Sheet<'a> {
    pub(super) fn new(paper: &'a Paper) -> Self {
        let width = paper.width.clamp(crate::output::WIDTH_MIN, crate::output::WIDTH_MAX);
        Self { paper, width, out: String::new() }
    }

    pub(super) fn finish(self) -> String {
        self.out
    }

    /// An empty line between sections, never two.
    pub(super) fn gap(&mut self) {
        if !self.out.is_empty() && !self.out.ends_with("\n\n") {
            self.out.push('\n');
        }
    }

    /// The head of a section.
    pub(super) fn title(&mut self, text: &str) {
        self.gap();
        self.paragraph("", 0, &[(BOLD, text)]);
    }

    /// Text wrapped at the width: `first` before the first line, `indent` columns before the others.
    pub(super) fn paragraph(&mut self, first: &str, indent: usize, pieces: &[Piece<'_>]) {
        let first = self.ascii(first);
        let mut line = Line { used: first.width(), text: first, empty: true };
        let mut after_space = true;
        for (style, text) in pieces {
            let text = self.ascii(&clean::line(text));
            // Pieces stand apart where one of them has a space there; else they are glued: `name` and `,`.
            let mut glued = !text.starts_with(' ') && !after_space;
            after_space = text.ends_with(' ') || (text.is_empty() && after_space);
            for word in text.split(' ').filter(|word| !word.is_empty()) {
                for part in pieces_of_word(word, self.width.saturating_sub(indent).max(8)) {
                    self.place(&mut line, *style, part, glued, indent);
                    glued = true;
                }
                glued = false;
            }
        }
        self.end_line(&line.text);
    }

    fn place(&mut self, line: &mut Line, style: Style, word: &str, glued: bool, indent: usize) {
        let space = usize::from(!line.empty && !glued);
        if !line.empty && line.used + space + word.width() > self.width {
            self.end_line(&line.text);
            *line = Line { text: " ".repeat(indent), used: indent, empty: true };
        } else if space == 1 {
            line.text.push(' ');
            line.used += 1;
        }
        line.text.push_str(&self.styled(style, word));
        line.used += word.width();
        line.empty = false;
    }

    /// A list item, wrapped under its own text.
    pub(super) fn item(&mut self, indent: usize, bullet: &str, pieces: &[Piece<'_>]) {
        let first = format!("{}{bullet} ", " ".repeat(indent));
        let hanging = first.width();
        self.paragraph(&first, hanging, pieces);
    }

    /// A name in a column of its own, and its value wrapped beside it.
    pub(super) fn field(&mut self, indent: usize, column: usize, name: &str, pieces: &[Piece<'_>]) {
        let name = clean::shorten(&self.ascii(name), column);
        let padding = column.saturating_sub(name.width());
        let first = format!("{}{name}{}  ", " ".repeat(indent), " ".repeat(padding));
        let hanging = first.width();
        self.paragraph(&first, hanging, pieces);
    }

    /// One line of our own making (the chart), already as wide as it should be.
    pub(super) fn drawn(&mut self, pieces: &[Piece<'_>]) {
        let mut line = String::new();
        for (style, text) in pieces {
            line.push_str(&self.styled(*style, text));
        }
        self.end_line(&line);
    }

    /// `text` in a style, if this paper takes colour.
    fn styled(&self, style: Style, text: &str) -> String {
        if !self.paper.color || style.is_plain() {
            return text.to_owned();
        }
        let mut out = String::new();
        let _ = write!(out, "{style}{text}{style:#}");
        out
    }

    /// Our own typography in ASCII for terminals without Unicode; what else is there becomes `?`.
    pub(super) fn ascii(&self, text: &str) -> String {
        if self.paper.unicode {
            return text.to_owned();
        }
        let mut out = String::with_capacity(text.len());
        for c in text.chars() {
            match c {
                '—' | '–' => out.push('-'),
                '…' => out.push_str("..."),
                '±' => out.push_str("+/-"),
                '×' | '✕' => out.push('x'),
                '·' | '•' => out.push('-'),
                '→' => out.push_str("->"),
                '’' | '‘' => out.push('\''),
                '“' | '”' => out.push('"'),
                c if c.is_ascii() => out.push(c),
                _ => out.push('?'),
            }
        }
        out
    }

    fn end_line(&mut self, line: &str) {
        self.out.push_str(line.trim_end());
        self.out.push('\n');
    }
}

struct Line {
    text: String,
    used: usize,
    empty: bool,
}

/// A word that is longer than a line is cut into lines.
fn pieces_of_word(word: &str, columns: usize) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut from, mut used) = (0, 0);
    for (at, c) in word.char_indices() {
        let width = c.width().unwrap_or(0);
        if used + width > columns {
            parts.push(&word[from..at]);
            (from, used) = (at, 0);
        }
        used += width;
    }
    parts.push(&word[from..]);
    parts
}
