//! A program that has met its limit may hang there for minutes before the kernel gives up: the pages of its own code are
//! dropped and read again without end (thrashing), or its collector runs without a pause. What memory does meanwhile tells
//! nothing of the cause, and what waits meanwhile did not bring it about.

use crate::memory::Series;
use crate::time::UnixNanos;
use crate::work::Call;

/// Memory that came this near to what it was at the kill had no more room.
const WALL_SHARE: f64 = 0.98;
/// Work below this share of what is ordinary has all but stopped.
const WORK_SHARE: f64 = 0.2;
/// A pause, or a last batch of spans that was never sent (5 s by default), is no stall.
const SECONDS_MIN: f64 = 15.0;
/// What fewer measurements show may have happened between them.
const POINTS_MIN: usize = 3;
/// With fewer requests to be expected, none is no news.
const EXPECTED_MIN: f64 = 10.0;

/// The time that a program hung at its limit before it was killed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stall {
    /// Begin.
    pub from: UnixNanos,
    /// Requests that finished well in it.
    pub finished: usize,
    /// Requests that finish in such a time otherwise.
    pub ordinary: f64,
}

/// The stall that ended in the kill at `to`, in a life that began at `from`. `points` are its memory, `ceiling` what they
/// would have read at the kill. `None` where the work went on to the end, or where nothing tells of work.
pub fn stall_of(
    points: &Series,
    ceiling: f64,
    calls: &[Call],
    from: UnixNanos,
    to: UnixNanos,
) -> Option<Stall> {
    let below = points.iter().rposition(|(_, value)| *value < WALL_SHARE * ceiling);
    let at_wall = &points[below.map_or(0, |last| last + 1)..];
    let wall = at_wall.get(..POINTS_MIN)?[0].0;
    let mut ends: Vec<UnixNanos> = calls
        .iter()
        .filter(|call| !call.failed && call.end > from && call.end <= to)
        .map(|call| call.end)
        .collect();
    ends.sort_unstable();
    let before = ends.partition_point(|end| *end < wall);
    let rate = before as f64 / wall.seconds_since(from).max(1.0);
    // The requests that were nearly done may finish yet: the stall begins after one of them.
    let begins = std::iter::once(wall).chain(ends[before..].iter().copied());
    begins
        .enumerate()
        .map(|(done, from)| {
            let finished = ends.len() - before - done;
            Stall { from, finished, ordinary: rate * to.seconds_since(from) }
        })
        .take_while(|stall| to.seconds_since(stall.from) >= SECONDS_MIN && stall.ordinary >= EXPECTED_MIN)
        .find(|stall| {
            let measured = at_wall.len() - at_wall.partition_point(|(at, _)| *at < stall.from);
            measured >= POINTS_MIN && (stall.finished as f64) < WORK_SHARE * stall.ordinary
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::SECOND;
    use crate::work::CallSource;

    fn at(seconds: f64) -> UnixNanos {
        UnixNanos((seconds * SECOND as f64) as i64)
    }

    /// Grows by 1 a second to 100, then stays until 160.
    fn memory() -> Series {
        (0..160).map(|second| (at(f64::from(second)), f64::from(second.min(100)))).collect()
    }

    /// A call of a tenth of a second each second of `seconds`.
    fn calls(seconds: std::ops::Range<i32>) -> Vec<Call> {
        let call = |second| Call {
            start: at(f64::from(second)),
            end: at(f64::from(second) + 0.1),
            operation: 0,
            span: 0,
            source: CallSource::Own,
            failed: false,
            weight: 1.0,
        };
        seconds.map(call).collect()
    }

    fn found(calls: &[Call]) -> Option<(i64, usize)> {
        let stall = stall_of(&memory(), 100.0, calls, at(0.0), at(160.0))?;
        Some((stall.from.0 / SECOND, stall.finished))
    }

    #[test]
    fn a_stall_begins_when_the_work_stops_at_the_wall() {
        assert_eq!(found(&calls(0..98)), Some((98, 0)));
        // Some requests get through; work may go on for a while with no room left.
        assert_eq!(found(&calls(0..103)), Some((98, 5)));
        assert_eq!(found(&calls(0..130)), Some((122, 7)));
    }

    #[test]
    fn work_that_goes_on_or_stops_shortly_before_the_kill_is_no_stall() {
        assert_eq!(found(&calls(0..160)), None);
        assert_eq!(found(&calls(0..150)), None);
        assert_eq!(found(&[]), None);
    }

    #[test]
    fn a_program_that_rests_below_its_limit_does_not_hang() {
        let resting: Series = memory().into_iter().map(|(at, value)| (at, value.min(90.0))).collect();
        assert_eq!(stall_of(&resting, 100.0, &calls(0..98), at(0.0), at(160.0)), None);
    }
}
