//! Where in the input a record stands, for the list of problems.

/// The place of one document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location<'a> {
    /// File, as the person who gave it wrote it.
    pub file: &'a str,
    /// Line at which the document begins, counted from 1.
    pub line: usize,
}
