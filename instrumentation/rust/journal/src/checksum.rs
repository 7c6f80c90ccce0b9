//! The checksum of a record. Any single wrong word always changes it; it is quick without special instructions and
//! a few lines in any language.

/// Odd, so that multiplying by it loses nothing.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// Starts from the record's sequence number: an old record under a new number does not pass.
pub(crate) fn begin(sequence: u64) -> u64 {
    sequence ^ 0x4531_3337_4a52_4e4c
}

/// Takes one word in.
pub(crate) fn add(sum: u64, word: u64) -> u64 {
    (sum ^ word).wrapping_mul(FACTOR).rotate_left(29)
}

/// The sum of a whole record.
pub(crate) fn of(sequence: u64, words: impl IntoIterator<Item = u64>) -> u64 {
    words.into_iter().fold(begin(sequence), add)
}

/// The sum of bytes: in words of eight, little endian, the last one filled with zeros.
pub(crate) fn of_bytes(bytes: &[u8]) -> u64 {
    let word = |chunk: &[u8]| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_le_bytes(word)
    };
    of(bytes.len() as u64, bytes.chunks(8).map(word))
}

#[cfg(test)]
mod tests {
    use super::{of, of_bytes};

    #[test]
    fn every_single_bit_counts() {
        let words = [0u64, u64::MAX, 42, 7];
        let sum = of(9, words);
        for at in 0..words.len() {
            for bit in 0..64 {
                let mut changed = words;
                changed[at] ^= 1 << bit;
                assert_ne!(of(9, changed), sum);
            }
        }
        assert_ne!(of(8, words), sum, "so does the sequence number");
    }

    #[test]
    fn the_sums_in_the_specification_are_these() {
        assert_eq!(of(1, []), 0x4531_3337_4a52_4e4d);
        assert_eq!(of(1, [2, 3]), 0xdc70_51a4_e230_7765);
        assert_eq!(of_bytes(b"exit137"), 0x888c_b738_d52e_c91c);
    }
}
