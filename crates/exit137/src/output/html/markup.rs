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

/// Escaped when displayed, for text and for quoted attributes.
pub(super) struct Text<'a>(pub(super) &'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&clean::html(self.0))
    }
}
