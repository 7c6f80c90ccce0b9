//! Rows added up: shares with what they are shares of, how well certainty was placed, and the bars.

use serde::Serialize;

use super::row::{LIKELY, Row, VERY_LIKELY};

/// Bins of the calibration error.
const BINS: usize = 10;

/// So many of so many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Share {
    pub of: usize,
    pub right: usize,
}

impl Share {
    fn count(answers: impl Iterator<Item = bool>) -> Self {
        answers.fold(Self::default(), |share, right| Self {
            of: share.of + 1,
            right: share.right + usize::from(right),
        })
    }

    /// `None` when nothing was asked.
    pub fn ratio(self) -> Option<f64> {
        (self.of > 0).then(|| self.right as f64 / self.of as f64)
    }
}

/// What one method is worth on a set of records.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Totals {
    pub cases: usize,
    pub errors: usize,
    /// Empty for a method that says nothing of causes.
    pub cause: Share,
    pub ac1: Share,
    pub ac3: Share,
    pub group1: Share,
    pub attribute: Share,
    pub introduced_by: Share,
    /// Records whose kills were all found, and no more.
    pub kills: Share,
    /// Of the causes said to be very likely, the right ones.
    pub cause_very_likely: Share,
    /// Of the operations said to be very likely, the right ones; wrong is also one where nobody is guilty.
    pub op_very_likely: Share,
    /// Of the operations said to be likely or more, the right ones.
    pub op_likely: Share,
    /// Of all records, those with a very likely cause.
    pub cause_coverage: Share,
    /// Of the records that tell the culprit, those with a very likely operation.
    pub op_coverage: Share,
    /// Mean distance of the probability of the cause from how often it was right.
    pub cause_calibration: Option<f64>,
    /// The same of the operation.
    pub op_calibration: Option<f64>,
    /// Healthy runs on which a leak is reported.
    pub false_leaks: Share,
    pub wrongly_named: usize,
    pub wrongly_named_likely: usize,
}

impl Totals {
    /// Adds up the rows of one method.
    pub fn of<'r>(rows: impl Iterator<Item = &'r Row> + Clone) -> Self {
        let judges_cause = |row: &&Row| row.cause.is_some() || row.error.is_some();
        let asked_who = |row: &&Row| row.ac1.is_some();
        let said = |least: f64| {
            let rows = rows.clone().filter(move |row| row.op_p.is_some_and(|p| p >= least));
            Share::count(rows.filter_map(|row| row.op_right))
        };
        let asked = |field: fn(&Row) -> Option<bool>| Share::count(rows.clone().filter_map(field));
        let causes = rows.clone().filter(judges_cause);
        Self {
            cases: rows.clone().count(),
            errors: rows.clone().filter(|row| row.error.is_some()).count(),
            cause: Share::count(causes.clone().map(|row| row.cause_ok)),
            ac1: asked(|row| row.ac1),
            ac3: asked(|row| row.ac3),
            group1: asked(|row| row.group1),
            attribute: asked(|row| row.attr),
            introduced_by: asked(|row| row.introduced),
            kills: asked(|row| Some(row.kills_want? == row.kills_got?)),
            cause_very_likely: Share::count(causes.clone().filter(|r| r.very_likely).map(|r| r.cause_ok)),
            op_very_likely: said(VERY_LIKELY),
            op_likely: said(LIKELY),
            cause_coverage: Share::count(causes.clone().map(|row| row.very_likely)),
            op_coverage: Share::count(
                rows.clone().filter(asked_who).map(|row| row.op_p.is_some_and(|p| p >= VERY_LIKELY)),
            ),
            cause_calibration: calibration_error(causes.filter_map(|row| Some((row.p?, row.cause_ok)))),
            op_calibration: calibration_error(
                rows.clone().filter_map(|row| Some((row.op_p?, row.op_right?))),
            ),
            false_leaks: asked(|row| row.false_leak),
            wrongly_named: rows.clone().filter(|row| row.wrongly_named).count(),
            wrongly_named_likely: rows.clone().filter(|row| row.wrongly_named_likely).count(),
        }
    }

    /// The bars that are missed: what is bound, and what was found.
    pub fn missed_bars(&self) -> Vec<String> {
        let mut missed = self.missed_certainty();
        for (name, share, bar) in [
            ("cause", self.cause, 0.90),
            ("operation first", self.ac1, 0.80),
            ("operation among three", self.ac3, 0.95),
        ] {
            if share.ratio().is_some_and(|ratio| ratio < bar) {
                missed.push(format!("{name}: {} of {}, at least {bar:.2} is owed", share.right, share.of));
            }
        }
        for (name, error) in [("cause", self.cause_calibration), ("operation", self.op_calibration)] {
            if let Some(error) = error.filter(|error| *error > 0.10) {
                missed.push(format!("calibration error of the {name}: {error:.3}, at most 0.10 is allowed"));
            }
        }
        if self.false_leaks.right > 0 {
            missed.push(format!("{} healthy runs are said to leak", self.false_leaks.right));
        }
        missed
    }

    /// The bars that even poor records have to meet.
    pub fn missed_certainty(&self) -> Vec<String> {
        let certain = [("cause", self.cause_very_likely), ("operation", self.op_very_likely)];
        let low = certain.into_iter().filter(|(_, share)| share.ratio().is_some_and(|ratio| ratio < 0.95));
        low.map(|(name, share)| {
            format!("{name} when very likely: {} of {}, at least 0.95 is owed", share.right, share.of)
        })
        .collect()
    }
}

/// Expected calibration error: the mean distance between what was said and how often it was true, over bins of
/// what was said, weighted by their size.
fn calibration_error(said: impl Iterator<Item = (f64, bool)>) -> Option<f64> {
    let mut bins = [(0usize, 0.0f64, 0usize); BINS];
    for (probability, right) in said {
        let bin = &mut bins[((probability * BINS as f64) as usize).min(BINS - 1)];
        *bin = (bin.0 + 1, bin.1 + probability, bin.2 + usize::from(right));
    }
    let all: usize = bins.iter().map(|bin| bin.0).sum();
    let distance: f64 = bins.iter().map(|(_, said, right)| (said - *right as f64).abs()).sum();
    (all > 0).then(|| distance / all as f64)
}

#[cfg(test)]
mod tests {
    use super::{Row, Totals, calibration_error};

    #[test]
    fn calibration_compares_what_is_said_with_what_comes_true() {
        let half_right = [(0.95, true), (0.95, false), (0.55, true), (0.55, false)];
        let error = calibration_error(half_right.into_iter()).expect("there are answers");
        assert!((error - 0.25).abs() < 1e-9, "{error}");
        assert_eq!(calibration_error([].into_iter()), None);
    }

    #[test]
    fn who_is_named_where_nobody_is_guilty_costs_precision() {
        let row = |right, inferable| Row {
            op_p: Some(0.95),
            op_right: Some(right),
            inferable,
            ac1: inferable.then_some(right),
            ..Row::default()
        };
        let rows = [row(true, true), row(false, false)];
        let totals = Totals::of(rows.iter());
        assert_eq!((totals.op_very_likely.right, totals.op_very_likely.of), (1, 2));
        assert_eq!((totals.ac1.right, totals.ac1.of), (1, 1));
        assert_eq!(totals.missed_bars().len(), 2, "{:?}", totals.missed_bars());
    }
}
