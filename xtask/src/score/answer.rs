//! What a method answers to one record, in one shape for exit137 and for the methods that it is compared with.

use std::collections::BTreeMap;

use exit137_core::baselines::{self, Method, article};
use exit137_core::observation::Observations;
use exit137_core::verdict::{IncidentVerdict, OperationClaim, Probability, Verdict};

use super::truth::Truth;

/// An operation, or a group of them, that is blamed.
#[derive(Debug, Clone, Default)]
pub struct Claim {
    pub names: Vec<String>,
    pub probability: Option<f64>,
    pub attributes: BTreeMap<String, String>,
}

/// Everything that is compared with the truth.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// `None` for a method that says nothing of causes.
    pub cause: Option<String>,
    pub probability: Option<f64>,
    /// `None` for a method that says nothing of operations.
    pub operations: Option<Vec<Claim>>,
    /// Whether the method narrows operations down to an attribute value, and tells the version.
    pub narrows: bool,
    pub introduced_by: Option<String>,
    /// `None` for a method that counts no kills.
    pub kills: Option<usize>,
    /// Whether anything is said to leak; `None` for a method that says nothing of leaks.
    pub leak_reported: Option<bool>,
}

/// What is compared, exit137 first.
pub const METHODS: [&str; 6] =
    ["exit137", "always a leak", "the article's method", "most frequent", "most in flight", "regression"];

/// What exit137 says of the container that the truth is about.
pub fn of_verdict(verdict: &Verdict, truth: &Truth) -> Answer {
    let leak_cause = verdict.incidents.iter().any(|incident| incident.cause.name() == "leak");
    let leak_reported = Some(!verdict.leaks.is_empty() || leak_cause);
    if truth.is_alive() {
        let leak = verdict.leaks.first();
        let found = verdict.incidents.first().map_or("none", |incident| incident.cause.name());
        return Answer {
            cause: Some(if leak.is_some() { "leak" } else { found }.to_owned()),
            probability: leak.map(|leak| rounded(leak.probability)),
            operations: Some(leak.map(|leak| claims(&leak.operations)).unwrap_or_default()),
            narrows: true,
            leak_reported,
            ..Answer::default()
        };
    }
    let named: Vec<&IncidentVerdict> =
        verdict.incidents.iter().filter(|incident| truth.names(incident.container.name.as_deref())).collect();
    let chosen = if named.is_empty() { verdict.incidents.iter().collect() } else { named };
    // The first of those with most kills.
    let best = chosen.iter().rev().max_by_key(|incident| incident.kills.len());
    Answer {
        cause: Some(best.map_or("missing", |incident| incident.cause.name()).to_owned()),
        probability: best.map(|incident| rounded(incident.probability)),
        operations: Some(best.map(|incident| claims(&incident.operations)).unwrap_or_default()),
        narrows: true,
        introduced_by: best.and_then(|incident| Some(incident.introduced_by.as_ref()?.version.clone())),
        kills: Some(chosen.iter().map(|incident| incident.kills.len()).sum()),
        leak_reported,
    }
}

/// As the JSON prints it: with four digits.
fn rounded(probability: Probability) -> f64 {
    (probability.0 * 1e4).round() / 1e4
}

fn claims(operations: &[OperationClaim]) -> Vec<Claim> {
    let claim = |operation: &OperationClaim| Claim {
        names: operation.names.clone(),
        probability: Some(rounded(operation.probability)),
        attributes: operation.attributes.clone(),
    };
    operations.iter().map(claim).collect()
}

/// What the simpler methods say, in the order of [`METHODS`]. They know no doubt: what they name counts as
/// named with certainty.
pub fn of_baselines(observations: &Observations, truth: &Truth) -> Vec<Answer> {
    let named = |names: Vec<String>| -> Option<Vec<Claim>> {
        let claim = |name| Claim { names: vec![name], probability: Some(1.0), attributes: BTreeMap::new() };
        Some(names.into_iter().map(claim).collect())
    };
    let always = Answer {
        cause: Some("leak".to_owned()),
        probability: Some(1.0),
        leak_reported: Some(true),
        ..Answer::default()
    };
    let endpoints = article::leaky_endpoints(observations).unwrap_or_default();
    let leaky: Vec<String> = endpoints.into_iter().map(|endpoint| endpoint.endpoint).collect();
    let article =
        Answer { leak_reported: Some(!leaky.is_empty()), operations: named(leaky), ..Answer::default() };
    let mut answers = vec![always, article];
    for method in [Method::MostFrequent, Method::MostInFlight, Method::Regression] {
        let rankings = baselines::rankings(observations, method);
        let about = rankings
            .iter()
            .find(|ranking| truth.names(ranking.container.name.as_deref()))
            .or(rankings.first());
        let names = about.map(|ranking| ranking.operations.iter().map(|named| named.name.clone()).collect());
        answers.push(Answer { operations: named(names.unwrap_or_default()), ..Answer::default() });
    }
    answers
}
