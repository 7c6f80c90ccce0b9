//! How often a container is looked at, and when its processes are photographed: by how full it is of what cannot be reclaimed, and
//! how fast it grows. Pure.

use std::time::Duration;

/// Nearer to the limit than this, a look every 50 ms costs less than missing the last second.
const HOT_PERMILLE: u64 = 900;
const HOT_INTERVAL: Duration = Duration::from_millis(50);

/// From here on, four looks where there was one.
const WARM_PERMILLE: u64 = 750;

/// At the speed of the last look it would be at the limit within two usual intervals.
const SOON_LOOKS: u64 = 2;

/// Processes are photographed when one of these is passed; again only after it fell well below.
const STAGES_PERMILLE: [u64; 3] = [850, 900, 950];
const FALL_PERMILLE: u64 = 50;

/// The last photograph: at its speed the container has this long to live, or no room at all.
const WALL_TIME: Duration = Duration::from_millis(300);
const WALL_PERMILLE: u64 = 985;

/// A container that stays at the wall is photographed this often.
const WALL_PAUSE: Duration = Duration::from_secs(5);

/// Less change than this is quiet, and a quiet minute makes looks rarer.
const QUIET_PERMILLE: u64 = 5;
const QUIET_AFTER: Duration = Duration::from_secs(60);
const QUIET_FACTOR: u32 = 5;

/// What the last looks saw.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rate {
    last: Option<(Duration, u64)>,
    stages: usize,
    wall_at: Option<Duration>,
    /// When and at what it was last different.
    changed: (Duration, u64),
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Next {
    /// Look again after this.
    pub(super) interval: Duration,
    /// Photograph the processes now, and why.
    pub(super) photograph: Option<&'static str>,
}

impl Rate {
    /// At `now` the container held `hard` bytes that cannot be reclaimed, of `limit`. `usual` is the interval of a container
    /// that is neither near its limit nor quiet; `may_rest` allows a longer one.
    pub(super) fn look(
        &mut self,
        now: Duration,
        hard: u64,
        limit: Option<u64>,
        usual: Duration,
        may_rest: bool,
    ) -> Next {
        let before = self.last.replace((now, hard));
        let Some(limit) = limit.filter(|limit| *limit > 0) else {
            return Next { interval: self.rested(now, hard, 1 << 30, usual, may_rest), photograph: None };
        };
        let permille = hard.saturating_mul(1000) / limit;
        let left = left(before, now, hard, limit);
        let is_soon = left.is_some_and(|left| left <= usual * SOON_LOOKS as u32);
        let interval = if permille >= HOT_PERMILLE || is_soon {
            HOT_INTERVAL.min(usual)
        } else if permille >= WARM_PERMILLE {
            usual / 4
        } else {
            self.rested(now, hard, limit, usual, may_rest)
        };
        Next { interval, photograph: self.photograph(now, permille, left) }
    }

    fn photograph(&mut self, now: Duration, permille: u64, left: Option<Duration>) -> Option<&'static str> {
        while self.stages > 0 && permille + FALL_PERMILLE < STAGES_PERMILLE[self.stages - 1] {
            self.stages -= 1;
        }
        let passed = STAGES_PERMILLE.iter().filter(|stage| permille >= **stage).count();
        let is_new = passed > self.stages;
        self.stages = self.stages.max(passed);
        let near = permille >= WALL_PERMILLE || left.is_some_and(|left| left <= WALL_TIME) && passed > 0;
        if near && self.wall_at.is_none_or(|at| now.saturating_sub(at) >= WALL_PAUSE) {
            self.wall_at = Some(now);
            return Some("wall");
        }
        is_new.then(|| ["85 %", "90 %", "95 %"][passed - 1])
    }

    fn rested(&mut self, now: Duration, hard: u64, scale: u64, usual: Duration, may_rest: bool) -> Duration {
        let (since, value) = self.changed;
        if hard.abs_diff(value).saturating_mul(1000) > scale.saturating_mul(QUIET_PERMILLE) || since.is_zero()
        {
            self.changed = (now, hard);
            return usual;
        }
        if may_rest && now.saturating_sub(since) >= QUIET_AFTER { usual * QUIET_FACTOR } else { usual }
    }
}

/// How long until the limit, at the speed since the last look.
fn left(before: Option<(Duration, u64)>, now: Duration, hard: u64, limit: u64) -> Option<Duration> {
    let (then, was) = before?;
    let grown = hard.checked_sub(was).filter(|grown| *grown > 0)?;
    let per_byte = now.saturating_sub(then).as_secs_f64() / grown as f64;
    Duration::try_from_secs_f64(per_byte * limit.saturating_sub(hard) as f64).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const USUAL: Duration = Duration::from_secs(1);
    const LIMIT: Option<u64> = Some(1000 << 20);

    /// Looks at (seconds, MiB of a limit of 1000); what each decides.
    #[track_caller]
    fn check(looks: &[(f64, u64)], expected: &[(u64, Option<&str>)]) {
        let mut rate = Rate::default();
        let next = looks.iter().map(|(at, mib)| {
            let next = rate.look(Duration::from_secs_f64(*at), mib << 20, LIMIT, USUAL, true);
            (next.interval.as_millis() as u64, next.photograph)
        });
        assert_eq!(next.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn near_the_limit_looks_come_faster_and_each_stage_is_photographed_once() {
        check(
            &[(1.0, 700), (20.0, 760), (40.0, 860), (60.0, 865), (80.0, 910), (80.05, 910), (90.0, 955)],
            &[
                (1000, None),
                (250, None),
                (250, Some("85 %")),
                (250, None),
                (50, Some("90 %")),
                (50, None),
                (50, Some("95 %")),
            ],
        );
    }

    #[test]
    fn what_grows_fast_is_looked_at_fast_from_far_away() {
        check(&[(1.0, 100), (2.0, 450), (2.05, 480)], &[(1000, None), (50, None), (50, None)]);
    }

    #[test]
    fn just_before_the_wall_there_is_a_last_photograph() {
        check(
            &[(1.0, 800), (2.0, 880), (2.05, 900), (2.1, 970)],
            &[(250, None), (50, Some("85 %")), (50, Some("wall")), (50, Some("95 %"))],
        );
        check(&[(1.0, 990), (1.05, 990), (7.0, 990)], &[(50, Some("wall")), (50, None), (50, Some("wall"))]);
    }

    #[test]
    fn a_stage_counts_again_after_a_fall() {
        check(
            &[(1.0, 860), (100.0, 820), (200.0, 860), (300.0, 500), (400.0, 860)],
            &[(250, Some("85 %")), (250, None), (250, None), (1000, None), (250, Some("85 %"))],
        );
    }

    #[test]
    fn quiet_containers_rest_until_they_move() {
        check(
            &[(1.0, 100), (30.0, 101), (61.0, 102), (66.0, 103), (71.0, 120)],
            &[(1000, None), (1000, None), (5000, None), (5000, None), (1000, None)],
        );
    }
}
