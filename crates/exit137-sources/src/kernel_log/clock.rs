//! Files that say when a machine booted: `/proc/stat`, and logs of both clocks.

use exit137_core::kernel::stamp::decimal_seconds;
use exit137_core::observation::BootTime;
use exit137_core::time::{SECOND, UnixNanos};

/// `btime` drops the fraction, and the kernel works it out anew whenever the clock is set.
const BTIME_UNCERTAINTY: i64 = SECOND;

/// The two clocks of a pair are read one after the other, and uptime has two decimals.
const PAIR_UNCERTAINTY: i64 = SECOND / 100;

/// A day of pairs, one a second.
const PAIRS_MAX: usize = 100_000;

/// 2001-09-09. Any two columns of numbers could be pairs; a clock that is earlier was never set.
const UNIX_SECONDS_MIN: i64 = 1_000_000_000;

/// Both clocks run at the same speed. A clock that is set jumps, but not by more within one file.
const OFFSET_CHANGE_MAX: i64 = 600 * SECOND;

/// When the machine booted, if this is a file that says so: `/proc/stat` or its line `btime 1795340714`, or
/// pairs of `<unix seconds> <seconds since boot>` with `#` comments between. `head` is the file or its beginning.
pub fn boot_time(head: &[u8], file: &str) -> Option<BootTime> {
    let text = std::str::from_utf8(head).ok()?;
    btime(text, file).or_else(|| pairs(text, file))
}

fn btime(text: &str, file: &str) -> Option<BootTime> {
    if !text.starts_with("cpu") && !text.starts_with("btime ") {
        return None;
    }
    let seconds: i64 = text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    if seconds < UNIX_SECONDS_MIN {
        return None;
    }
    let boot = UnixNanos(seconds.checked_mul(SECOND)?);
    Some(BootTime { file: file.to_owned(), pairs: vec![(0, boot)], uncertainty: BTIME_UNCERTAINTY })
}

fn pairs(text: &str, file: &str) -> Option<BootTime> {
    // A head can end inside a number.
    let whole = text.rfind('\n').map_or(text, |end| &text[..end]);
    let mut pairs: Vec<(i64, UnixNanos)> = Vec::new();
    for line in whole.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let pair = pair(line)?;
        let offset = |(since_boot, wall): (i64, UnixNanos)| wall.0 - since_boot;
        if pairs.first().is_some_and(|first| (offset(*first) - offset(pair)).abs() > OFFSET_CHANGE_MAX) {
            return None;
        }
        if pairs.len() < PAIRS_MAX {
            pairs.push(pair);
        }
    }
    (!pairs.is_empty()).then(|| BootTime { file: file.to_owned(), pairs, uncertainty: PAIR_UNCERTAINTY })
}

fn pair(line: &str) -> Option<(i64, UnixNanos)> {
    let (wall, wall_decimals, rest) = decimal_seconds(line)?;
    let (since_boot, boot_decimals, rest) = decimal_seconds(rest.trim_start_matches([' ', '\t']))?;
    let plausible = wall >= UNIX_SECONDS_MIN.saturating_mul(SECOND) && since_boot < wall;
    let fine = wall_decimals > 0 && boot_decimals > 0;
    (rest.is_empty() && plausible && fine).then_some((since_boot, UnixNanos(wall)))
}
