//! What leaks, for `exit137 leaks`: one report, told by exit137 or by one of the simpler methods.

use exit137_core::baselines::{Method, Ranking, article::Endpoint};
use exit137_core::verdict::{Cause, IncidentVerdict, LeakVerdict, Verdict};

use super::{Paper, json, text};

/// What leaks, by one method.
#[derive(Debug)]
pub enum LeakReport {
    /// By exit137: the leaks of a verdict, and its incidents that are leaks.
    Verdict(Box<Verdict>),
    /// By the article's method. `None` when no request's memory was recorded at all.
    Article(Option<Vec<Endpoint>>),
    /// By a method that ranks operations and judges nothing.
    Ranked(Method, Vec<Ranking>),
}

impl LeakReport {
    /// Whether anything is said to leak, or is ranked.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Verdict(verdict) => verdict.leaks.is_empty() && killed(verdict).next().is_none(),
            Self::Article(endpoints) => endpoints.iter().flatten().next().is_none(),
            Self::Ranked(_, rankings) => rankings.iter().all(|ranking| ranking.operations.is_empty()),
        }
    }

    /// For reading in a terminal.
    pub fn to_text(&self, paper: &Paper) -> String {
        text::leaks::render(self, paper)
    }

    /// For programs.
    pub fn to_json(&self) -> String {
        json::leaks::render(self)
    }
}

/// The incidents of a verdict that are leaks.
pub(super) fn killed(verdict: &Verdict) -> impl Iterator<Item = &IncidentVerdict> {
    verdict.incidents.iter().filter(|incident| incident.cause == Cause::Leak)
}

/// Containers that leak and live, the first to be killed first.
pub(super) fn alive(verdict: &Verdict) -> Vec<&LeakVerdict> {
    let mut alive: Vec<&LeakVerdict> = verdict.leaks.iter().collect();
    let left = |leak: &LeakVerdict| leak.time_to_limit_seconds.map_or(f64::INFINITY, |time| time.mid);
    alive.sort_by(|a, b| left(a).total_cmp(&left(b)));
    alive
}
