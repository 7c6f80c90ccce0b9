//! Text in words, without allocating.

/// The first `max` bytes of `text`, at a character boundary.
pub(super) fn cut(text: &str, max: usize) -> &str {
    if text.len() <= max {
        return text;
    }
    let mut end = max;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Up to `N` words of bytes.
pub(super) struct Text<const N: usize> {
    bytes: [[u8; 8]; N],
    len: usize,
}

impl<const N: usize> Default for Text<N> {
    fn default() -> Self {
        Self { bytes: [[0; 8]; N], len: 0 }
    }
}

impl<const N: usize> Text<N> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Appends as much as fits.
    pub(super) fn push(&mut self, more: &[u8]) {
        let flat = self.bytes.as_flattened_mut();
        let bytes = more.len().min(flat.len() - self.len);
        flat[self.len..self.len + bytes].copy_from_slice(&more[..bytes]);
        self.len += bytes;
    }

    /// To the next whole word.
    pub(super) fn align(&mut self) {
        self.len = self.len.next_multiple_of(8);
    }

    /// Appends a pair after its lengths, if all of it fits.
    pub(super) fn push_pair(&mut self, key: &str, value: &str) {
        let (key, value) = (cut(key, 255), cut(value, 255));
        if self.len + 2 + key.len() + value.len() <= N * 8 {
            self.push(&[key.len() as u8, value.len() as u8]);
            self.push(key.as_bytes());
            self.push(value.as_bytes());
        }
    }

    pub(super) fn words(&self) -> [u64; N] {
        self.bytes.map(u64::from_le_bytes)
    }
}

/// The attributes of a resource in at most `max` bytes; what does not fit is left out.
pub(super) fn resource(attributes: &[(String, String)], max: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (key, value) in attributes {
        let (key, value) = (cut(key, 255), cut(value, 1024));
        if bytes.len() + 3 + key.len() + value.len() <= max {
            bytes.push(key.len() as u8);
            bytes.extend((value.len() as u16).to_le_bytes());
            bytes.extend(key.as_bytes());
            bytes.extend(value.as_bytes());
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::{Text, cut};

    #[test]
    fn text_is_cut_between_characters() {
        assert_eq!(cut("añb", 2), "a");
        assert_eq!(cut("añb", 3), "añ");
        assert_eq!(cut("", 0), "");
    }

    #[test]
    fn a_pair_that_does_not_fit_is_left_out_whole() {
        let mut text = Text::<2>::default();
        text.push_pair("key", "value");
        text.push_pair("k", "longer than the rest");
        text.push_pair("k", "v");
        assert_eq!(text.len(), 14);
    }
}
