//! Elements with escaped contents: whatever is not written by this program goes through [`Text`].

use std::fmt;

use crate::output::clean;

/// Appends formatted markup. Only [`Text`] and numbers may be interpolated, never a `&str` from a verdict.
macro_rules! put {
    ($out:expr, $($argument:tt)*) => {{
        use std::fmt::Write as _;
        // Writing into a String cannot fail.
        let _ = write!($out, $($argument)*);
    }};
}

pub(super) use put;

/// The same, with what stands between backticks as code.
pub(super) struct Prose<'a>(pub(super) &'a str);

impl fmt::Display for Prose<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<&str> = self.0.split('`').collect();
        for (index, part) in parts.iter().enumerate() {
            match (index % 2 == 1, index + 1 == parts.len()) {
                (true, false) => write!(f, "<code>{}</code>", Text(part))?,
                // A backtick without its pair is one.
                (true, true) => write!(f, "`{}", Text(part))?,
                (false, _) => write!(f, "{}", Text(part))?,
            }
        }
        Ok(())
    }
}

/// Escaped when displayed, for text and for quoted attributes.
pub(super) struct Text<'a>(pub(super) &'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&clean::html(self.0))
    }
}
