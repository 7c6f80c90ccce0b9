//! The causes, and the one model that turns evidence into probabilities.
//!
//! Each cause says how it expects a number to be distributed when it is at work: a Beta density over a share
//! between 0 and 1, sharp where the cause implies the number, flat where it has no opinion. `Unknown` expects
//! what kills at large show. The log-likelihood ratio against that, in nats, is what a finding weighs.
//!
//! `score = ln(prior) + TEMPER · Σ over numbers of √kills · mean over kills of ln(density)`
//!
//! and the probabilities are the softmax of the scores. Kills of one incident are not independent, hence √kills
//! (each counted by the length of its life against the longest); numbers of one kill are not either, hence
//! `TEMPER`. No finding weighs more than [`NATS_MAX`], so that no
//! single number, which may be wrong, decides alone. Every parameter is a shape with a meaning; none is fitted to
//! one case. `docs/decisions/cause-model.md` tells why the model is this simple.

mod child_process;
mod common;
mod concurrency_surge;
mod leak;
mod node_pressure;
mod operation_spike;
mod startup_peak;
mod tmpfs_or_page_cache;
mod undersized_limit;

use crate::features::Features;
use crate::incident::{Incident, KillScene};
use crate::verdict::{Answer, Cause, Opinion, Probability};

/// Findings of one kill share their sources: their sum is worth less than independent ones.
const TEMPER: f64 = 0.8;

/// ln 40: one number alone never says more than 40 to 1.
const NATS_MAX: f64 = 3.7;

/// The tenth kill of a crash loop says what the third said.
const KILLS_COUNTED_MAX: f64 = 3.0;

/// From here on a finding is worth telling.
const NATS_TELLING: f64 = 0.4;

/// Supported from even odds against "nothing special", ruled out from 1 to 20.
const NATS_SUPPORTED: f64 = 0.7;
const NATS_RULED_OUT: f64 = -3.0;

/// From here on, being the likeliest supports a cause, whatever speaks for it.
const PROBABLE: f64 = 0.45;

/// Below one in three, the leading cause is not named even if something speaks for it.
const NAMED_MIN: f64 = 0.35;

/// What one number says for or against a cause.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// Which number; findings of several kills with one name are averaged.
    pub name: &'static str,
    /// Log-likelihood ratio against "nothing special".
    pub nats: f64,
    /// In words.
    pub text: String,
    /// Told only when it speaks against the cause: that nothing else is odd is no news.
    pub aside: bool,
}

impl Finding {
    /// The same, told only when it speaks against.
    pub fn aside(self) -> Self {
        Self { aside: true, ..self }
    }

    /// The same at a third of its weight where a collector stands between what is kept and what is seen.
    pub fn loosely(self, features: &Features) -> Self {
        let seen = self.name == "curve" && features.shape.as_ref().is_some_and(|shape| shape.told_by_heap);
        Self { nats: if features.loose && !seen { self.nats / 3.0 } else { self.nats }, ..self }
    }

    /// The same, speaking against the cause by no more than this.
    pub fn at_least(self, nats: f64) -> Self {
        Self { nats: self.nats.max(nats), ..self }
    }
}

/// One cause.
pub trait Examine {
    /// Which.
    fn cause(&self) -> Cause;

    /// How often it is behind an OOM kill before anything is known.
    fn prior(&self) -> f64;

    /// What the numbers of one kill say for and against it.
    fn examine(&self, kill: &KillScene<'_>, features: &Features) -> Vec<Finding>;

    /// One sentence when it leads.
    fn summary(&self, incident: &Incident<'_>, features: &[Features]) -> String;
}

/// The list: one line a cause.
pub static CAUSES: [&(dyn Examine + Sync); 8] = [
    &leak::Leak,
    &operation_spike::OperationSpike,
    &concurrency_surge::ConcurrencySurge,
    &undersized_limit::UndersizedLimit,
    &startup_peak::StartupPeak,
    &tmpfs_or_page_cache::TmpfsOrPageCache,
    &child_process::ChildProcess,
    &node_pressure::NodePressure,
];

/// Prior of "something that this list does not know".
const PRIOR_UNKNOWN: f64 = 0.06;

/// Log of the Beta(a, b) density at `x`: how well a share fits an expectation; flat for a = b = 1.
pub fn beta_nats(x: f64, a: f64, b: f64) -> f64 {
    let x = x.clamp(0.01, 0.99);
    let norm = ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b);
    (a - 1.0) * x.ln() + (b - 1.0) * (1.0 - x).ln() + norm
}

/// Lanczos approximation (g = 7, 9 terms), relative error below 1e-10 for x > 0.5.
fn ln_gamma(x: f64) -> f64 {
    const TERMS: [f64; 8] = [
        676.5203681218851,
        -1259.1392167224028,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507343278686905,
        -0.13857109526572012,
        9.984_369_578_019_572e-6,
        1.5056327351493116e-7,
    ];
    let x = x - 1.0;
    let sum = TERMS
        .iter()
        .enumerate()
        .fold(0.999_999_999_999_809_9, |sum, (i, term)| sum + term / (x + i as f64 + 1.0));
    let t = x + 7.5;
    0.5 * std::f64::consts::TAU.ln() + (x + 0.5) * t.ln() - t + sum.ln()
}

/// A finding from a log-likelihood ratio that was worked out elsewhere.
pub fn likelihood(name: &'static str, nats: f64, text: String) -> Finding {
    Finding { name, nats: nats.clamp(-NATS_MAX, NATS_MAX), text, aside: false }
}

/// How a number is distributed over OOM kills at large, whatever their cause: mostly as `ordinary`, else anyhow.
/// A share of files of zero is no news; one of a half is.
fn population_nats(name: &str, x: f64) -> f64 {
    let (ordinary, weight) = match name {
        "files" => ((0.8, 10.0), 0.88),
        "others" => ((0.7, 5.0), 0.88),
        "load" => ((2.0, 3.2), 0.75),
        "rarest" => ((3.0, 1.0), 0.8),
        "shortfall" => ((1.0, 30.0), 0.6),
        _ => return 0.0,
    };
    (weight * beta_nats(x, ordinary.0, ordinary.1).exp() + (1.0 - weight)).ln()
}

/// A finding from a Beta expectation, against kills at large.
pub fn expects(name: &'static str, x: f64, (a, b): (f64, f64), text: String) -> Finding {
    let nats = (beta_nats(x, a, b) - population_nats(name, x)).clamp(-NATS_MAX, NATS_MAX);
    Finding { name, nats, text, aside: false }
}

/// What the kernel itself says of whose limit was hit and who was killed is a fact, not a measurement: it may weigh
/// up to 400 to 1.
const FACT_NATS_MAX: f64 = 6.0;

/// A finding from a fact.
pub fn fact(name: &'static str, under_cause: f64, in_general: f64, text: String) -> Finding {
    let nats = (under_cause / in_general).ln().clamp(-FACT_NATS_MAX, FACT_NATS_MAX);
    Finding { name, nats, text, aside: false }
}

/// A finding from two stated probabilities: of seeing this under the cause, and in general.
pub fn odds(name: &'static str, under_cause: f64, in_general: f64, text: String) -> Finding {
    Finding { name, nats: (under_cause / in_general).ln().clamp(-NATS_MAX, NATS_MAX), text, aside: false }
}

/// A cause's score on a set of kills, with its findings merged by name, weightiest first.
struct Score {
    nats: f64,
    findings: Vec<Finding>,
}

fn score(cause: &dyn Examine, kills: &[&KillScene<'_>], features: &[&Features]) -> Score {
    let longest = features.iter().filter_map(|features| features.life_seconds).fold(0.0, f64::max);
    let mut merged: Vec<(Finding, f64)> = Vec::new();
    for (kill, features) in kills.iter().zip(features) {
        let weight = weight_of(features, longest);
        for finding in cause.examine(kill, features) {
            match merged.iter_mut().find(|(known, _)| known.name == finding.name) {
                Some((known, total)) => {
                    known.nats += weight * finding.nats;
                    known.text = finding.text;
                    *total += weight;
                }
                None => merged.push((Finding { nats: weight * finding.nats, ..finding }, weight)),
            }
        }
    }
    let mut findings: Vec<Finding> = merged
        .into_iter()
        .map(|(finding, total)| Finding {
            nats: finding.nats / total * total.clamp(1.0, KILLS_COUNTED_MAX).sqrt(),
            ..finding
        })
        .collect();
    findings.sort_by(|a, b| b.nats.abs().total_cmp(&a.nats.abs()).then_with(|| a.name.cmp(b.name)));
    let nats = TEMPER * findings.iter().map(|finding| finding.nats).sum::<f64>();
    Score { nats, findings }
}

/// A long life shows more than one that ended moments after a restart under the load that had piled up.
pub fn weight_of(features: &Features, longest: f64) -> f64 {
    match features.life_seconds {
        Some(seconds) if longest > 0.0 => (seconds / longest).clamp(0.15, 1.0),
        _ => 1.0,
    }
}

/// The score of each cause on one kill alone, in the order of [`CAUSES`]: for telling incidents apart.
pub fn scores_of_kill(kill: &KillScene<'_>, features: &Features) -> Vec<f64> {
    CAUSES.iter().map(|cause| score(*cause, &[kill], &[features]).nats).collect()
}

/// The opinions on every cause, most probable first, `Unknown` included.
pub fn opinions(incident: &Incident<'_>, features: &[Features]) -> Vec<Opinion> {
    let kills: Vec<&KillScene<'_>> = incident.kills.iter().collect();
    let references: Vec<&Features> = features.iter().collect();
    let scores: Vec<Score> = CAUSES.iter().map(|cause| score(*cause, &kills, &references)).collect();
    let mut weights: Vec<f64> =
        CAUSES.iter().zip(&scores).map(|(cause, score)| cause.prior().ln() + score.nats).collect();
    weights.push(PRIOR_UNKNOWN.ln());
    let probabilities = softmax(&weights);
    let mut opinions: Vec<Opinion> = CAUSES
        .iter()
        .zip(scores)
        .zip(&probabilities)
        .map(|((cause, score), probability)| opinion(*cause, score, *probability, incident, features))
        .collect();
    let unknown = *probabilities.last().unwrap_or(&1.0);
    opinions.push(Opinion {
        cause: Cause::Unknown,
        answer: Answer::CannotTell,
        probability: Probability(unknown),
        summary: "none of the causes that are looked for".to_owned(),
        evidence: Vec::new(),
    });
    opinions.sort_by(|a, b| b.probability.0.total_cmp(&a.probability.0).then(a.cause.cmp(&b.cause)));
    opinions
}

fn opinion(
    cause: &dyn Examine,
    score: Score,
    probability: f64,
    incident: &Incident<'_>,
    features: &[Features],
) -> Opinion {
    let telling: Vec<&Finding> =
        score.findings.iter().filter(|finding| finding.nats.abs() >= NATS_TELLING).collect();
    let answer = match score.nats {
        nats if nats <= NATS_RULED_OUT => Answer::RuledOut,
        // What is left when all else is ruled out needs no strong words of its own.
        _ if probability >= PROBABLE => Answer::Supported,
        nats if nats >= NATS_SUPPORTED && telling.iter().any(|finding| finding.nats > 0.0) => {
            Answer::Supported
        }
        _ => Answer::CannotTell,
    };
    let summary = match answer {
        Answer::Supported => cause.summary(incident, features),
        Answer::RuledOut => {
            let against = telling.iter().find(|finding| finding.nats < 0.0);
            against
                .map_or_else(|| "the evidence speaks against it".to_owned(), |finding| finding.text.clone())
        }
        Answer::CannotTell if telling.is_empty() => {
            "nothing that was given speaks for or against it".to_owned()
        }
        Answer::CannotTell => "the evidence does not decide it".to_owned(),
    };
    let sign = |finding: &&Finding| if finding.nats > 0.0 { "for" } else { "against" };
    let evidence = telling.iter().map(|finding| format!("{}: {}", sign(finding), finding.text)).collect();
    Opinion { cause: cause.cause(), answer, probability: Probability(probability), summary, evidence }
}

/// The cause to name: the leader, unless too little speaks for it. `Unknown` comes with its own probability.
pub fn leader(opinions: &[Opinion]) -> (Cause, Probability) {
    let unknown = opinions.iter().find(|opinion| opinion.cause == Cause::Unknown);
    match opinions.first() {
        Some(first) if first.probability.0 >= NAMED_MIN && first.answer == Answer::Supported => {
            (first.cause, first.probability)
        }
        _ => (Cause::Unknown, unknown.map_or(Probability(1.0), |opinion| opinion.probability)),
    }
}

fn softmax(weights: &[f64]) -> Vec<f64> {
    let highest = weights.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = weights.iter().map(|weight| (weight - highest).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

/// The mean of a number over the kills that have it.
pub(crate) fn mean(features: &[Features], number: impl Fn(&Features) -> Option<f64>) -> Option<f64> {
    let values: Vec<f64> = features.iter().filter_map(number).collect();
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// A share in percent. Nothing that was measured is exactly nothing or all.
pub(crate) fn percent(share: f64) -> String {
    match share * 100.0 {
        share if share > 0.0 && share < 1.0 => "less than 1 %".to_owned(),
        share => format!("{share:.0} %"),
    }
}

#[cfg(test)]
mod tests {
    use super::{beta_nats, ln_gamma, softmax};

    #[test]
    fn a_flat_expectation_weighs_nothing() {
        for x in [0.0, 0.3, 1.0] {
            assert!(beta_nats(x, 1.0, 1.0).abs() < 1e-9);
        }
    }

    #[test]
    fn densities_integrate_to_one() {
        for (a, b) in [(2.0, 5.0), (6.0, 1.5), (1.3, 4.0)] {
            let sum: f64 =
                (0..1000).map(|i| beta_nats((f64::from(i) + 0.5) / 1000.0, a, b).exp() / 1000.0).sum();
            assert!((sum - 1.0).abs() < 0.06, "{a} {b}: {sum}");
        }
    }

    #[test]
    fn the_gamma_function_is_the_factorial() {
        assert!((ln_gamma(6.0) - 120f64.ln()).abs() < 1e-9);
    }

    #[test]
    fn probabilities_sum_to_one_whatever_the_weights() {
        let sum: f64 = softmax(&[-1000.0, 3.0, 800.0]).iter().sum();
        assert!((sum - 1.0).abs() < 1e-12);
    }
}
