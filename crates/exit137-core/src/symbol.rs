//! Strings that recur a million times (span names, attribute values) are kept once and named by number.

use std::collections::HashMap;

/// A string in [`Symbols`]. Only meaningful together with the table that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Symbol(pub u32);

/// Longer values carry bodies or queries, not identity; they are cut, at a character boundary.
pub const SYMBOL_BYTES_MAX: usize = 512;

/// Total text kept. Past it new strings become [`Symbols::OVERFLOW`], so hostile input cannot eat memory.
pub const SYMBOLS_BYTES_MAX: usize = 96 << 20;

/// The table of interned strings.
#[derive(Debug, Default)]
pub struct Symbols {
    texts: Vec<Box<str>>,
    numbers: HashMap<Box<str>, Symbol>,
    bytes: usize,
}

impl Symbols {
    /// Stands for every string that came after the table was full.
    pub const OVERFLOW: &'static str = "…";

    /// The symbol of `text`, made if it is new.
    pub fn intern(&mut self, text: &str) -> Symbol {
        let text = cut(text);
        if let Some(&symbol) = self.numbers.get(text) {
            return symbol;
        }
        let full = self.bytes >= SYMBOLS_BYTES_MAX && text != Self::OVERFLOW;
        if full {
            return self.intern(Self::OVERFLOW);
        }
        let symbol = Symbol(self.texts.len() as u32);
        self.bytes += text.len() + 64;
        self.texts.push(text.into());
        self.numbers.insert(text.into(), symbol);
        symbol
    }

    /// The symbol of `text` if it was interned before.
    pub fn find(&self, text: &str) -> Option<Symbol> {
        self.numbers.get(cut(text)).copied()
    }

    /// The text of `symbol`; empty for a symbol of another table.
    pub fn text(&self, symbol: Symbol) -> &str {
        self.texts.get(symbol.0 as usize).map_or("", |text| text)
    }

    /// How many different strings there are.
    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// Whether nothing was interned yet.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// Takes over all strings of `other`; the result maps each of its symbols (by number) to one of ours.
    pub fn absorb(&mut self, other: &Symbols) -> Vec<Symbol> {
        other.texts.iter().map(|text| self.intern(text)).collect()
    }
}

fn cut(text: &str) -> &str {
    if text.len() <= SYMBOL_BYTES_MAX {
        return text;
    }
    &text[..text.floor_char_boundary(SYMBOL_BYTES_MAX)]
}
