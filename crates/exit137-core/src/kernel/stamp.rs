//! The dates and clocks that stand before kernel messages, as [`KernelTime`]. Nothing here guesses: a date
//! that names no zone or no year says so.

use jiff::civil::DateTime;
use jiff::tz::Offset;

use crate::kernel::KernelTime;
use crate::time::{Moment, SECOND, UnixNanos};

/// What a wall-clock stamp with decimals is trusted to. `dmesg` computes its dates from the boot time and
/// journald stamps on receipt; both are off by milliseconds where nothing was suspended.
const WALL_UNCERTAINTY: i64 = SECOND / 100;

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

const WEEKDAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// A time of day with as many decimals as were written.
#[derive(Debug, Clone, Copy)]
struct TimeOfDay {
    hour: i8,
    minute: i8,
    second: i8,
    nanos: i32,
    decimals: u32,
}

/// Reads `1895.102216` at the start of `text`: nanoseconds, number of decimals, rest. Seconds without decimals
/// are read too (0 decimals).
pub fn decimal_seconds(text: &str) -> Option<(i64, u32, &str)> {
    let (seconds, rest) = number(text)?;
    let (nanos, decimals, rest) = fraction(rest, b".");
    let whole = i64::try_from(seconds).ok()?.checked_mul(SECOND)?;
    Some((whole.checked_add(i64::from(nanos))?, decimals, rest))
}

/// Leading decimal digits (at least one, at most 20) and what follows.
pub(super) fn number(text: &str) -> Option<(u64, &str)> {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let digits = text.get(..end).filter(|digits| (1..=20).contains(&digits.len()))?;
    Some((digits.parse().ok()?, &text[end..]))
}

/// Reads `2026-11-22T09:41:39,537605+00:00` (also `.`, no decimals, `Z`, `+0000`). The flag says whether the
/// decimals stood behind a comma, as only `dmesg` writes them.
pub(super) fn iso(text: &str) -> Option<(KernelTime, bool, &str)> {
    let (year, month, day, rest) = iso_date(text)?;
    let rest = rest.strip_prefix(['T', ' '])?;
    let comma = rest.as_bytes().get(8) == Some(&b',');
    let (time, rest) = time_of_day(rest)?;
    let (offset, rest) = zone_offset(rest)?;
    let at = civil(year, month, day, time)? - i64::from(offset) * SECOND;
    Some((KernelTime::Wall(wall(at, time.decimals)), comma, rest))
}

/// Reads `Nov 22 09:41:39` or `Nov 22 09:41:39.537605`: neither year nor zone. 29 February does not exist in
/// the year 1970 that stands in, so such a time is unknown.
pub(super) fn month_day(text: &str) -> Option<(KernelTime, &str)> {
    let (month, day, rest) = month_and_day(text)?;
    let (time, rest) = time_of_day(rest.strip_prefix(' ')?)?;
    let at = match civil(1970, month, day, time) {
        Some(at) => KernelTime::Local { moment: local(at, time.decimals), has_year: false },
        None => KernelTime::Unknown,
    };
    Some((at, rest))
}

/// Reads `Sun Nov 22 09:41:39 2026`, as `dmesg -T` writes it.
pub(super) fn ctime(text: &str) -> Option<(KernelTime, &str)> {
    let rest = weekday(text)?;
    let (month, day, rest) = month_and_day(rest)?;
    let (time, rest) = time_of_day(rest.strip_prefix(' ')?)?;
    let (year, rest) = number(rest.strip_prefix(' ')?)?;
    let at = civil(i16::try_from(year).ok()?, month, day, time)?;
    Some((KernelTime::Local { moment: local(at, time.decimals), has_year: true }, rest))
}

/// Reads `Sun 2026-11-22 09:41:39 UTC`, as `journalctl -o short-full` writes it. Names of zones other than UTC
/// mean different offsets in different places, so they count as unknown.
pub(super) fn short_full(text: &str) -> Option<(KernelTime, &str)> {
    let (year, month, day, rest) = iso_date(weekday(text)?)?;
    let (time, rest) = time_of_day(rest.strip_prefix(' ')?)?;
    let (zone, rest) = rest.strip_prefix(' ')?.split_once(' ')?;
    let at = civil(year, month, day, time)?;
    let at = match zone {
        "UTC" | "GMT" => KernelTime::Wall(wall(at, time.decimals)),
        _ => KernelTime::Local { moment: local(at, time.decimals), has_year: true },
    };
    Some((at, rest))
}

/// Microseconds since 1970, as journald keeps them.
pub(super) fn wall_micros(micros: u64) -> Option<KernelTime> {
    let nanos = i64::try_from(micros).ok()?.checked_mul(1000)?;
    Some(KernelTime::Wall(wall(UnixNanos(nanos), 6)))
}

/// Nanoseconds since 1970 written with `decimals` decimals.
pub(super) fn wall(at: UnixNanos, decimals: u32) -> Moment {
    if decimals == 0 { Moment::floored_to_second(at) } else { Moment::new(at, WALL_UNCERTAINTY) }
}

/// The resolution alone: how wrong the zone is, nobody knows.
fn local(at: UnixNanos, decimals: u32) -> Moment {
    match decimals {
        0 => Moment::floored_to_second(at),
        decimals => Moment::new(at, 10_i64.pow(9 - decimals.min(9))),
    }
}

fn iso_date(text: &str) -> Option<(i16, i8, i8, &str)> {
    let bytes = text.as_bytes();
    if bytes.len() < 10 || bytes[4] != b'-' || bytes[7] != b'-' || !text.is_char_boundary(10) {
        return None;
    }
    Some((two_or_four(text, 0, 4)?, i8_at(text, 5)?, i8_at(text, 8)?, &text[10..]))
}

fn two_or_four(text: &str, from: usize, to: usize) -> Option<i16> {
    let digits = text.get(from..to)?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}

fn i8_at(text: &str, from: usize) -> Option<i8> {
    i8::try_from(two_or_four(text, from, from + 2)?).ok()
}

fn weekday(text: &str) -> Option<&str> {
    let (name, rest) = text.split_once(' ')?;
    WEEKDAYS.contains(&name).then_some(rest)
}

/// `Nov 22` or `Nov  2`.
fn month_and_day(text: &str) -> Option<(i8, i8, &str)> {
    let (name, rest) = text.split_once(' ')?;
    let month = MONTHS.iter().position(|month| *month == name)?;
    let (day, rest) = number(rest.strip_prefix(' ').unwrap_or(rest))?;
    Some((month as i8 + 1, i8::try_from(day).ok()?, rest))
}

fn time_of_day(text: &str) -> Option<(TimeOfDay, &str)> {
    let bytes = text.as_bytes();
    if bytes.len() < 8 || bytes[2] != b':' || bytes[5] != b':' || !text.is_char_boundary(8) {
        return None;
    }
    let (hour, minute) = (i8_at(text, 0)?, i8_at(text, 3)?);
    // A leap second has no place on the Unix clock.
    let second = i8_at(text, 6)?.min(59);
    let (nanos, decimals, rest) = fraction(&text[8..], b".,");
    Some((TimeOfDay { hour, minute, second, nanos, decimals }, rest))
}

/// Decimals behind one of `separators`, as nanoseconds; digits past the ninth are dropped.
fn fraction<'a>(text: &'a str, separators: &[u8]) -> (i32, u32, &'a str) {
    if !text.bytes().next().is_some_and(|byte| separators.contains(&byte)) {
        return (0, 0, text);
    }
    let digits = text[1..].bytes().take_while(u8::is_ascii_digit).count();
    let nanos = (0..9).fold(0_i32, |nanos, place| {
        let digit = if place < digits { i32::from(text.as_bytes()[1 + place] - b'0') } else { 0 };
        nanos * 10 + digit
    });
    (nanos, digits.min(9) as u32, &text[1 + digits..])
}

/// Seconds east of UTC: `Z`, `+0000`, `+00:00`, `-05:30`.
fn zone_offset(text: &str) -> Option<(i32, &str)> {
    if let Some(rest) = text.strip_prefix('Z') {
        return Some((0, rest));
    }
    let sign = match text.bytes().next()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let hours = i32::from(i8_at(text, 1)?);
    let minutes_at = if text.as_bytes().get(3) == Some(&b':') { 4 } else { 3 };
    let minutes = i32::from(i8_at(text, minutes_at)?);
    Some((sign * (hours * 3600 + minutes * 60), text.get(minutes_at + 2..)?))
}

fn civil(year: i16, month: i8, day: i8, time: TimeOfDay) -> Option<UnixNanos> {
    let date_time = DateTime::new(year, month, day, time.hour, time.minute, time.second, time.nanos).ok()?;
    let timestamp = Offset::UTC.to_timestamp(date_time).ok()?;
    i64::try_from(timestamp.as_nanosecond()).ok().map(UnixNanos)
}
