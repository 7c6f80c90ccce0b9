//! SipHash-2-4 with 128 bits and the key 00 01 … 0f: the hash that container ids are. It is in the files, so it is
//! here in full and never changes. Speed matters little (one identity a piece), a collision would mix two
//! containers, and nobody gains by making one: whoever can may simply claim the other's name.

const KEY: [u64; 2] = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];

pub(crate) fn siphash128(bytes: &[u8]) -> [u8; 16] {
    let mut v = [
        KEY[0] ^ 0x736f_6d65_7073_6575,
        KEY[1] ^ 0x646f_7261_6e64_6f6d ^ 0xee,
        KEY[0] ^ 0x6c79_6765_6e65_7261,
        KEY[1] ^ 0x7465_6462_7974_6573,
    ];
    let mut words = bytes.chunks_exact(8);
    for word in &mut words {
        absorb(&mut v, word);
    }
    let mut last = [0; 8];
    last[..words.remainder().len()].copy_from_slice(words.remainder());
    last[7] = bytes.len() as u8;
    absorb(&mut v, &last);

    v[2] ^= 0xee;
    (0..4).for_each(|_| round(&mut v));
    let low = v[0] ^ v[1] ^ v[2] ^ v[3];
    v[1] ^= 0xdd;
    (0..4).for_each(|_| round(&mut v));
    let high = v[0] ^ v[1] ^ v[2] ^ v[3];

    let mut hash = [0; 16];
    hash[..8].copy_from_slice(&low.to_le_bytes());
    hash[8..].copy_from_slice(&high.to_le_bytes());
    hash
}

fn absorb(v: &mut [u64; 4], word: &[u8]) {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(word);
    let word = u64::from_le_bytes(bytes);
    v[3] ^= word;
    (0..2).for_each(|_| round(v));
    v[0] ^= word;
}

fn round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[2] = v[2].rotate_left(32);
}

/// A number that differs from run to run and cannot be guessed from outside.
pub(crate) fn seed() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first and the 64th vector that the authors of SipHash published for this variant.
    #[test]
    fn the_published_vectors_agree() {
        let hex = |bytes: [u8; 16]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let message: Vec<u8> = (0..63).collect();
        assert_eq!(hex(siphash128(&[])), "a3817f04ba25a8e66df67214c7550293");
        assert_eq!(hex(siphash128(&message[..1])), "da87c1d86b99af44347659119b22fc45");
        assert_eq!(hex(siphash128(&message)), "5150d1772f50834a503e069a973fbd7c");
    }
}
