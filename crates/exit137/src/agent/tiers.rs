//! What works on this node with the rights that there are, and what is lost without the rest: said once, at the start.

use std::fmt::Write as _;

/// One way to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tier {
    name: &'static str,
    /// Why it does not work; `None` when it does.
    missing: Option<String>,
    /// What is lost without it.
    lost: &'static str,
}

impl Tier {
    /// `outcome` says why it does not work.
    pub(super) fn new<T>(name: &'static str, outcome: Result<T, String>, lost: &'static str) -> Self {
        Self { name, missing: outcome.err(), lost }
    }
}

/// A table for people.
pub(super) fn text(tiers: &[Tier]) -> String {
    let width = tiers.iter().map(|tier| tier.name.len()).max().unwrap_or_default();
    let mut text = String::new();
    for Tier { name, missing, lost } in tiers {
        // Writing to a string cannot fail.
        let _ = match missing {
            None => writeln!(text, "  {name:width$}  yes"),
            Some(why) => writeln!(text, "  {name:width$}  no: {why}\n  {:width$}      lost: {lost}", ""),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Tier, text};

    #[test]
    fn what_is_missing_says_why_and_what_is_lost() {
        let tiers = [
            Tier::new("cgroups", Ok(()), "all"),
            Tier::new("kernel log", Err::<(), _>("cannot read /dev/kmsg".into()), "who was killed"),
        ];
        let expected = "  cgroups     yes\n  kernel log  no: cannot read /dev/kmsg\n                  lost: who was killed\n";
        assert_eq!(text(&tiers), expected);
    }
}
