//! Who has to give when the disk budget is used up.

use crate::piece::Kind;
use crate::record::Entry;

/// The records that count towards a container's share.
pub(crate) fn keepable(entries: &[Entry]) -> impl Iterator<Item = &Entry> {
    entries.iter().filter(|entry| entry.kind().is_some_and(Kind::is_bulk))
}

/// The most that each may keep so that `need` is freed: who holds less keeps all. A container that sends a hundred
/// times as much as the others so gives first, and alone, until it has no more than the next.
pub(crate) fn fair_share(mut usage: Vec<u64>, need: u64) -> u64 {
    usage.sort_unstable();
    let total: u64 = usage.iter().sum();
    let mut left = total.saturating_sub(need);
    let mut sharing = usage.len() as u64;
    for bytes in usage {
        if bytes > left / sharing {
            return left / sharing;
        }
        left -= bytes;
        sharing -= 1;
    }
    u64::MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(usage: &[u64], need: u64, expected: u64) {
        assert_eq!(fair_share(usage.to_vec(), need), expected);
    }

    #[test]
    fn the_busiest_gives_first() {
        check(&[10, 10, 100], 50, 50);
        check(&[10, 60, 100], 70, 45);
    }

    #[test]
    fn equals_give_alike() {
        check(&[40, 40, 40], 30, 30);
    }

    #[test]
    fn nobody_gives_when_nothing_is_needed() {
        check(&[10, 20], 0, u64::MAX);
        check(&[], 10, u64::MAX);
    }

    #[test]
    fn all_give_all_when_that_is_not_enough() {
        check(&[10, 20], 100, 0);
    }
}
