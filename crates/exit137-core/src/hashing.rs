//! Hash maps with keys of a few numbers: span ids, symbols, indexes. The standard hasher takes longer over such a
//! key than everything else that is done with it; this one multiplies and folds. Its seed is random, so that
//! nobody can choose ids that collide.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

/// A map from numbers.
pub(crate) type NumberMap<K, V> = HashMap<K, V, Numbers>;

/// Makes the hasher of one map.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Numbers {
    seed: u64,
}

impl Default for Numbers {
    fn default() -> Self {
        Self { seed: RandomState::new().build_hasher().finish() }
    }
}

impl BuildHasher for Numbers {
    type Hasher = Fold;

    fn build_hasher(&self) -> Fold {
        Fold { state: self.seed }
    }
}

/// Multiplies to 128 bits and folds the halves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fold {
    state: u64,
}

const ODD: u64 = 0x9e37_79b9_7f4a_7c15;

impl Hasher for Fold {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, number: u64) {
        let product = u128::from(self.state ^ number) * u128::from(ODD);
        self.state = product as u64 ^ (product >> 64) as u64;
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn write_u128(&mut self, number: u128) {
        self.write_u64(number as u64);
        self.write_u64((number >> 64) as u64);
    }

    fn finish(&self) -> u64 {
        let product = u128::from(self.state ^ ODD) * u128::from(ODD.rotate_left(32));
        product as u64 ^ (product >> 64) as u64
    }
}

/// Which ids may be among many, in a byte or two for each: what it does not hold need not be looked up, which for
/// millions of ids is a walk through all of memory.
#[derive(Debug)]
pub(crate) struct Sieve {
    bits: Vec<u64>,
    seed: u64,
}

impl Sieve {
    /// For about this many ids.
    pub(crate) fn for_ids(count: usize) -> Self {
        let words = (count / 4 + 1).next_power_of_two();
        Self { bits: vec![0; words], seed: Numbers::default().seed }
    }

    pub(crate) fn insert(&mut self, id: u64) {
        let (word, bit) = self.place(id);
        self.bits[word] |= bit;
    }

    /// `false` is certain.
    pub(crate) fn may_hold(&self, id: u64) -> bool {
        let (word, bit) = self.place(id);
        self.bits[word] & bit != 0
    }

    fn place(&self, id: u64) -> (usize, u64) {
        let product = u128::from(id ^ self.seed) * u128::from(ODD);
        let hash = product as u64 ^ (product >> 64) as u64;
        ((hash >> 6) as usize & (self.bits.len() - 1), 1 << (hash & 63))
    }
}

#[cfg(test)]
mod tests {
    use super::{NumberMap, Sieve};

    #[test]
    fn a_sieve_forgets_nothing_and_lets_little_through() {
        let mut sieve = Sieve::for_ids(10_000);
        (0..10_000).for_each(|id| sieve.insert(id * 7));
        assert!((0..10_000).all(|id| sieve.may_hold(id * 7)));
        let through = (0..10_000).filter(|id| sieve.may_hold(id * 7 + 3)).count();
        assert!(through < 1500, "{through}");
    }

    #[test]
    fn numbers_that_lie_close_together_are_spread() {
        let mut map: NumberMap<u64, u64> = NumberMap::default();
        for number in 0..10_000u64 {
            map.insert(number << 32, number);
        }
        assert!((0..10_000u64).all(|number| map.get(&(number << 32)) == Some(&number)));
        let mut pairs: NumberMap<(u128, u64), ()> = NumberMap::default();
        pairs.insert((1, 2), ());
        assert!(pairs.contains_key(&(1, 2)) && !pairs.contains_key(&(2, 1)));
    }
}
