//! Where in the input something stands, for problems.

/// A line of a file, as it is named in problems.
#[derive(Clone, Copy, Debug)]
pub struct Location<'a> {
    /// The file as the user typed it, or relative to the folder the user typed.
    pub file: &'a str,
    /// Counted from 1.
    pub line: usize,
}
