//! Strings that recur a million times (span names, attribute values) are kept once and named by number.
//!
//! All text lies in one buffer, and the table that finds it holds numbers only: a string costs its own bytes
//! and about twenty-four more, which matters when every request brings a URL of its own.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

/// A string in [`Symbols`]. Only meaningful together with the table that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Symbol(pub u32);

/// Longer values carry bodies or queries, not identity; they are cut, at a character boundary.
pub const SYMBOL_BYTES_MAX: usize = 512;

/// Total text kept. Past it new strings become [`Symbols::OVERFLOW`], so hostile input cannot eat memory.
pub const SYMBOLS_BYTES_MAX: usize = 96 << 20;

/// What a string costs beside its text: its end and its share of the table.
const OVERHEAD_BYTES: usize = 24;

/// Smallest table; a power of two.
const SLOTS_MIN: usize = 64;

/// The table of interned strings.
#[derive(Debug)]
pub struct Symbols {
    text: String,
    /// Where each string ends in `text`; it starts where the one before ends.
    ends: Vec<u32>,
    slots: Vec<Slot>,
    /// Different in every table, so that nobody can choose strings that collide.
    seed: u64,
}

/// A place of the open-addressing table: enough of the hash to skip most comparisons, and number + 1.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    tag: u32,
    number_plus_one: u32,
}

impl Default for Symbols {
    fn default() -> Self {
        let seed = RandomState::new().build_hasher().finish();
        Self { text: String::new(), ends: Vec::new(), slots: Vec::new(), seed }
    }
}

impl Symbols {
    /// Stands for every string that came after the table was full.
    pub const OVERFLOW: &'static str = "…";

    /// The symbol of `text`, made if it is new.
    pub fn intern(&mut self, text: &str) -> Symbol {
        let text = cut(text);
        let hash = self.hash(text.as_bytes());
        match self.lookup(text.as_bytes(), hash) {
            Some(symbol) => symbol,
            None => self.insert(text, hash),
        }
    }

    /// Like [`Symbols::intern`]; bytes that are not UTF-8 become replacement characters. Known strings, nearly
    /// all of them, are not validated again.
    pub fn intern_bytes(&mut self, bytes: &[u8]) -> Symbol {
        if bytes.len() <= SYMBOL_BYTES_MAX {
            let hash = self.hash(bytes);
            if let Some(symbol) = self.lookup(bytes, hash) {
                return symbol;
            }
            if let Ok(text) = std::str::from_utf8(bytes) {
                return self.insert(text, hash);
            }
        }
        // One character is at most four bytes, and a replacement character is never shorter than what it
        // replaces: what is cut here would be cut anyway.
        let head = &bytes[..bytes.len().min(SYMBOL_BYTES_MAX + 4)];
        let text = String::from_utf8_lossy(head);
        self.intern(&text)
    }

    /// The symbol of `text` if it was interned before.
    pub fn find(&self, text: &str) -> Option<Symbol> {
        let text = cut(text).as_bytes();
        self.lookup(text, self.hash(text))
    }

    /// The text of `symbol`; empty for a symbol of another table.
    pub fn text(&self, symbol: Symbol) -> &str {
        self.range(symbol.0 as usize).and_then(|(start, end)| self.text.get(start..end)).unwrap_or("")
    }

    /// The bytes of the text of `symbol`; for comparisons, which need no whole characters.
    pub fn bytes(&self, symbol: Symbol) -> &[u8] {
        self.range(symbol.0 as usize)
            .and_then(|(start, end)| self.text.as_bytes().get(start..end))
            .unwrap_or_default()
    }

    /// How many different strings there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether nothing was interned yet.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Takes over all strings of `other`; the result maps each of its symbols (by number) to one of ours.
    pub fn absorb(&mut self, other: &Symbols) -> Vec<Symbol> {
        (0..other.len() as u32).map(|number| self.intern(other.text(Symbol(number)))).collect()
    }

    fn range(&self, number: usize) -> Option<(usize, usize)> {
        let end = *self.ends.get(number)? as usize;
        let start = number.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
        Some((start, end))
    }

    fn lookup(&self, bytes: &[u8], hash: u64) -> Option<Symbol> {
        let mask = self.slots.len().checked_sub(1)?;
        let mut at = hash as usize & mask;
        loop {
            let slot = self.slots[at];
            let number = slot.number_plus_one.checked_sub(1)?;
            if slot.tag == tag(hash) {
                let (start, end) = self.range(number as usize)?;
                if &self.text.as_bytes()[start..end] == bytes {
                    return Some(Symbol(number));
                }
            }
            at = (at + 1) & mask;
        }
    }

    fn insert(&mut self, text: &str, hash: u64) -> Symbol {
        let full = self.text.len() + self.ends.len() * OVERHEAD_BYTES >= SYMBOLS_BYTES_MAX;
        if full && text != Self::OVERFLOW {
            return self.intern(Self::OVERFLOW);
        }
        // At most five eighths full: probes stay short without a cleverer scheme.
        if self.slots.len() * 5 <= (self.ends.len() + 1) * 8 {
            self.grow();
        }
        let number = self.ends.len() as u32;
        self.text.push_str(text);
        self.ends.push(self.text.len() as u32);
        self.place(number, hash);
        Symbol(number)
    }

    fn grow(&mut self) {
        let slots = (self.slots.len() * 2).max(SLOTS_MIN);
        self.slots.clear();
        self.slots.resize(slots, Slot::default());
        for number in 0..self.ends.len() {
            let hash =
                self.range(number).map_or(0, |(start, end)| self.hash(&self.text.as_bytes()[start..end]));
            self.place(number as u32, hash);
        }
    }

    fn place(&mut self, number: u32, hash: u64) {
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        while self.slots[at].number_plus_one != 0 {
            at = (at + 1) & mask;
        }
        self.slots[at] = Slot { tag: tag(hash), number_plus_one: number + 1 };
    }

    /// Multiply and fold, sixteen bytes a step; the seed keeps it unpredictable.
    fn hash(&self, bytes: &[u8]) -> u64 {
        let mut hash = self.seed ^ (bytes.len() as u64).wrapping_mul(FOLD_A);
        let mut rest = bytes;
        while let Some((head, tail)) = rest.split_first_chunk::<16>() {
            let [low, high] = halves(head);
            hash = fold(low ^ hash, high ^ FOLD_B ^ self.seed);
            rest = tail;
        }
        let mut last = [0; 16];
        last[..rest.len()].copy_from_slice(rest);
        let [low, high] = halves(&last);
        fold(fold(low ^ hash, high ^ FOLD_A ^ self.seed), FOLD_B)
    }
}

const FOLD_A: u64 = 0x9e37_79b9_7f4a_7c15;
const FOLD_B: u64 = 0xd6e8_feb8_6659_fd93;

fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

fn halves(bytes: &[u8; 16]) -> [u64; 2] {
    let both = u128::from_le_bytes(*bytes);
    [both as u64, (both >> 64) as u64]
}

/// The upper half of the hash: the lower bits already chose the slot.
fn tag(hash: u64) -> u32 {
    (hash >> 32) as u32
}

fn cut(text: &str) -> &str {
    if text.len() <= SYMBOL_BYTES_MAX {
        return text;
    }
    &text[..text.floor_char_boundary(SYMBOL_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn one_text_one_symbol(texts in prop::collection::vec(".{0,40}", 0..300)) {
            let mut symbols = Symbols::default();
            let mut known: HashMap<String, Symbol> = HashMap::new();
            for text in &texts {
                let symbol = symbols.intern(text);
                prop_assert_eq!(*known.entry(text.clone()).or_insert(symbol), symbol);
                prop_assert_eq!(symbols.text(symbol), text.as_str());
                prop_assert_eq!(symbols.intern_bytes(text.as_bytes()), symbol);
            }
            prop_assert_eq!(symbols.len(), known.len());
            let mut other = Symbols::default();
            other.intern("first");
            let map = other.absorb(&symbols);
            for (text, symbol) in known {
                prop_assert_eq!(other.text(map[symbol.0 as usize]), text);
            }
        }

        #[test]
        fn any_bytes_become_text(bytes in prop::collection::vec(any::<u8>(), 0..700)) {
            let mut symbols = Symbols::default();
            let symbol = symbols.intern_bytes(&bytes);
            let lossy = String::from_utf8_lossy(&bytes);
            prop_assert_eq!(symbols.text(symbol), cut(&lossy));
        }
    }

    #[test]
    fn a_full_table_takes_no_more_text() {
        let mut symbols = Symbols::default();
        let early = symbols.intern("early");
        let filler = "x".repeat(490);
        for number in 0..SYMBOLS_BYTES_MAX / 490 {
            symbols.intern(&format!("{filler}{number:020}"));
        }
        let late = symbols.intern("late");
        assert_eq!(symbols.text(late), Symbols::OVERFLOW);
        assert_eq!(symbols.intern("early"), early);
    }
}
