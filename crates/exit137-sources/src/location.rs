//! Where in the input a record stands, for the list of problems.

/// The place of one document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location<'a> {
    /// File, as the person who gave it wrote it.
    pub file: &'a str,
    /// Line at which the document begins, counted from 1.
    pub line: usize,
}

impl Location<'_> {
    /// The line at which the text of `document` breaks off when reading stops at `offset`: that of the last thing read.
    /// A record that was cut off is noticed only at the beginning of the next line.
    pub(crate) fn line_of(&self, document: &[u8], offset: usize) -> usize {
        let before = document[..offset.min(document.len())].trim_ascii_end();
        self.line + memchr::memchr_iter(b'\n', before).count()
    }
}

#[cfg(test)]
mod tests {
    use super::Location;

    #[test]
    fn a_record_that_was_cut_off_is_on_its_own_line() {
        let at = Location { file: "f", line: 7 };
        for (document, offset, line) in
            [("{\"a\":5\n", 7, 7), ("{\"a\":5\n{}", 7, 7), ("{\n\"a\":?", 6, 8), ("", 9, 7)]
        {
            assert_eq!(at.line_of(document.as_bytes(), offset), line, "{document:?}");
        }
    }
}
