//! Leaks: whose finished calls explain the growth of the floor. Every operation, pairs of them, the time
//! ("background") and all calls together ("every request") are compared on equal terms, over all lives at once.

use std::collections::{BTreeMap, HashMap};

use super::attributes::values_of;
use super::floor::{Floor, Question, WITNESSES, Witness, floors_of};
use super::regression::{Fit, PairFit, Stretch, fit_beside, fit_each, partial_correlation};
use super::tally::{Finish, Tally};
use super::{BACKGROUND, EVERY_REQUEST, Suspect};
use crate::bytes::Bytes;
use crate::identity::ContainerIndex;

/// Likelihoods of neighbouring levels are not independent: they count by half (measured: an untempered posterior
/// is wrong far more often than it says).
const TEMPER: f64 = 0.5;
/// Priors of a leak that no request causes, that every request causes, and that two operations cause.
const PRIOR_BACKGROUND: f64 = 0.13;
const PRIOR_EVERY: f64 = 0.10;
const PRIOR_PAIR: f64 = 0.05;
/// Operations that are tried in pairs: the best ones alone.
const PAIRED_MAX: usize = 8;
/// Operations finished less often than this cannot be judged.
const FINISHES_MIN: f64 = 6.0;
/// Operations compared; the rest are rare.
const OPERATIONS_MAX: usize = 60;
/// Calls that always come together cannot be told apart.
const INSEPARABLE: f64 = 0.95;
/// Gain of an attribute value over its operation, after paying for the number looked at, in tempered nats.
const VALUE_NATS: f64 = 3.0;
/// With this many levels, a perfect fit is worth even odds.
const LEVELS_DOUBTED: f64 = 3.0;
/// No level is measured better than this.
const NOISE_FLOOR: f64 = 300_000.0;

type Tallies = HashMap<ContainerIndex, Tally>;

/// The columns of the regression: operations, then the time, then all calls; as each witness saw the levels.
struct Columns {
    names: Vec<String>,
    /// At least one; the first is the one that sizes are told by.
    witnesses: Vec<Vec<Stretch>>,
    growth: f64,
}

impl Columns {
    fn stretches(&self) -> &[Stretch] {
        &self.witnesses[0]
    }

    fn background(&self) -> usize {
        self.names.len()
    }

    fn every(&self) -> usize {
        self.names.len() + 1
    }

    fn name(&self, column: usize) -> String {
        match column {
            c if c == self.background() => BACKGROUND.to_owned(),
            c if c == self.every() => EVERY_REQUEST.to_owned(),
            c => self.names[c].clone(),
        }
    }

    /// Growth that a slope explains, as a share of all growth.
    fn share(&self, column: usize, slope: f64) -> f64 {
        let rise = |stretch: &Stretch| {
            let column = &stretch.explanations[column];
            column.last().zip(column.first()).map_or(0.0, |(last, first)| last - first)
        };
        slope * self.stretches().iter().map(rise).sum::<f64>() / self.growth.max(1.0)
    }
}

/// Ranks the explanations of the growth.
pub(super) fn suspects(question: &Question<'_>) -> Vec<Suspect> {
    let Some(columns) = columns_of(question) else { return Vec::new() };
    let hypotheses = hypotheses(&columns);
    let highest = hypotheses.iter().map(|h| h.weight).fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = hypotheses.iter().map(|h| (h.weight - highest).exp()).sum();
    // A few levels may fall in line by chance in ways that their noise does not show.
    let levels: usize = columns.stretches().iter().map(|stretch| stretch.level.len()).sum();
    let trust = levels as f64 / (levels as f64 + LEVELS_DOUBTED);
    let mut found: BTreeMap<usize, Suspect> = BTreeMap::new();
    for hypothesis in &hypotheses {
        let probability = trust * (hypothesis.weight - highest).exp() / sum;
        for (column, fit) in &hypothesis.members {
            let suspect = found.entry(*column).or_insert_with(|| suspect(&columns, *column, fit));
            suspect.probability += probability;
        }
    }
    let mut ranked: Vec<(usize, Suspect)> = found.into_iter().collect();
    ranked.sort_by(|a, b| b.1.probability.total_cmp(&a.1.probability).then(a.0.cmp(&b.0)));
    join_inseparable(&mut ranked, &columns);
    let index = |name: &str| question.scene.work.operations.iter().position(|known| known == name);
    ranked
        .into_iter()
        .map(|(_, mut suspect)| {
            suspect.operation = index(&suspect.names[0]).map(|index| index as u32);
            suspect
        })
        .collect()
}

/// One or two columns that may explain the growth.
struct Hypothesis {
    members: Vec<(usize, Fit)>,
    weight: f64,
}

fn hypotheses(columns: &Columns) -> Vec<Hypothesis> {
    let operations = columns.names.len();
    let fits: Vec<Vec<Fit>> =
        columns.witnesses.iter().map(|witness| fit_each(witness, NOISE_FLOOR)).collect();
    let likelihood =
        |column: usize| fits.iter().map(|fits| TEMPER * fits[column].log_likelihood).sum::<f64>();
    let prior = |column: usize| match column {
        c if c == columns.background() => PRIOR_BACKGROUND,
        c if c == columns.every() => PRIOR_EVERY,
        _ => (1.0 - PRIOR_BACKGROUND - PRIOR_EVERY - PRIOR_PAIR) / operations.max(1) as f64,
    };
    let mut found: Vec<Hypothesis> = (0..=columns.every())
        .map(|column| {
            let fit = fits[0][column];
            let share = columns.share(column, fit.slope);
            let weight = prior(column).ln() + likelihood(column) + plausible(share);
            Hypothesis { members: vec![(column, fit)], weight }
        })
        .collect();
    let mut best: Vec<usize> = (0..operations).filter(|column| fits[0][*column].slope > 0.0).collect();
    best.sort_by(|a, b| likelihood(*b).total_cmp(&likelihood(*a)).then(a.cmp(b)));
    best.truncate(PAIRED_MAX);
    let pairs = (best.len() * best.len().saturating_sub(1) / 2).max(1) as f64;
    for (position, &first) in best.iter().enumerate() {
        let beside: Vec<Vec<PairFit>> =
            columns.witnesses.iter().map(|witness| fit_beside(witness, first, NOISE_FLOOR)).collect();
        for &second in &best[position + 1..] {
            let (own, other) = (beside[0][second].beside, beside[0][second].fit);
            if own.slope <= 0.0 || other.slope <= 0.0 {
                continue;
            }
            let shares = [columns.share(first, own.slope), columns.share(second, other.slope)];
            // A second culprit that explains a tenth is the first one's noise.
            if shares.iter().any(|share| *share < 0.15) {
                continue;
            }
            let likelihood: f64 =
                beside.iter().map(|fits| TEMPER * (fits[second].fit.log_likelihood - 1.0)).sum();
            let weight = (PRIOR_PAIR / pairs).ln() + likelihood + plausible(shares.iter().sum());
            found.push(Hypothesis { members: vec![(first, own), (second, other)], weight });
        }
    }
    found
}

/// A culprit explains about all of the growth: half of it or twice as much is a sign that it only comes along.
fn plausible(share: f64) -> f64 {
    let off = share.max(0.02).ln() / 0.6;
    (-0.5 * off * off).max(-6.0)
}

fn suspect(columns: &Columns, column: usize, fit: &Fit) -> Suspect {
    let name = columns.name(column);
    let share = columns.share(column, fit.slope);
    let each = Bytes(fit.slope.max(0.0) as u64);
    let summary = match name.as_str() {
        BACKGROUND => {
            let hour = Bytes((fit.slope * 3600.0).max(0.0) as u64);
            format!("memory grows with time, about {hour} an hour, whatever is asked of the service")
        }
        EVERY_REQUEST => format!("each request keeps about {each}, whichever it is"),
        _ => format!(
            "each {name} keeps about {each}; its calls explain {:.0} % of the growth",
            share.clamp(0.0, 9.99) * 100.0
        ),
    };
    let spread = 1.28 * fit.error;
    let bytes =
        (name != BACKGROUND).then_some(((fit.slope - spread).max(0.0), fit.slope, fit.slope + spread));
    Suspect { names: vec![name], operation: None, probability: 0.0, bytes, share: Some(share), summary }
}

/// Operations that come together with the leader in every life are one group with it.
fn join_inseparable(ranked: &mut Vec<(usize, Suspect)>, columns: &Columns) {
    let operations = columns.names.len();
    let Some((leader, probability)) = ranked
        .first()
        .filter(|(column, _)| *column < operations)
        .map(|(column, suspect)| (*column, suspect.probability))
    else {
        return;
    };
    let together = |(column, suspect): &(usize, Suspect)| {
        *column < operations
            && *column != leader
            && suspect.probability > 0.2 * probability
            && partial_correlation(columns.stretches(), leader, *column, columns.background()) > INSEPARABLE
    };
    let (joined, rest): (Vec<_>, Vec<_>) = std::mem::take(ranked).into_iter().partition(together);
    *ranked = rest;
    let Some((_, first)) = ranked.first_mut().filter(|_| !joined.is_empty()) else { return };
    for (_, other) in joined {
        first.probability = (first.probability + other.probability).min(1.0);
        first.names.extend(other.names);
    }
    let names = first.names.join(" and ");
    first.summary = format!(
        "{names} always come together here and cannot be told apart; a time in which only one of them is called would tell"
    );
}

fn columns_of(question: &Question<'_>) -> Option<Columns> {
    let floors: Vec<Vec<Floor>> = floors_by_witness(question);
    let (tallies, names) = tallies_of(question, floors.first()?);
    let frequent = frequent(&tallies);
    let mut column: Vec<Option<usize>> = vec![None; names.len()];
    for (position, operation) in frequent.iter().enumerate() {
        column[*operation as usize] = Some(position);
    }
    let of = |finish: &Finish| column.get(finish.operation as usize).copied().flatten();
    let witnesses: Vec<Vec<Stretch>> =
        floors.iter().map(|floors| stretches_of(floors, &tallies, frequent.len(), &of)).collect();
    let growth = growth_of(&witnesses[0]);
    let names = frequent.iter().map(|operation| names[*operation as usize].clone()).collect();
    (growth > 0.0).then_some(Columns { names, witnesses, growth })
}

/// What each witness saw, of those that saw growth.
fn floors_by_witness(question: &Question<'_>) -> Vec<Vec<Floor>> {
    let rises = |floors: &Vec<Floor>| {
        let rise = |floor: &Floor| Some(floor.levels.last()?.1 - floor.levels.first()?.1);
        floors.iter().filter_map(rise).sum::<f64>() > 0.0
    };
    WITNESSES.iter().map(|witness| floors_of(question, *witness)).filter(rises).collect()
}

fn growth_of(stretches: &[Stretch]) -> f64 {
    stretches.iter().filter_map(|stretch| Some(stretch.level.last()? - stretch.level.first()?)).sum()
}

fn tallies_of(question: &Question<'_>, floors: &[Floor]) -> (Tallies, Vec<String>) {
    let mut names = Vec::new();
    let mut tallies = Tallies::new();
    for floor in floors {
        let tally = || Tally::of(question.scene, floor.container, &mut names);
        tallies.entry(floor.container).or_insert_with(tally);
    }
    (tallies, names)
}

fn frequent(tallies: &Tallies) -> Vec<u32> {
    let mut counts: BTreeMap<u32, f64> = BTreeMap::new();
    for finish in tallies.values().flat_map(|tally| &tally.finishes) {
        *counts.entry(finish.operation).or_default() += finish.weight;
    }
    let mut ranked: Vec<(u32, f64)> =
        counts.into_iter().filter(|(_, count)| *count >= FINISHES_MIN).collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    ranked.into_iter().take(OPERATIONS_MAX).map(|(operation, _)| operation).collect()
}

/// Levels with the cumulative finishes of each column, the seconds, and all finishes.
fn stretches_of(
    floors: &[Floor],
    tallies: &Tallies,
    columns: usize,
    column_of: &dyn Fn(&Finish) -> Option<usize>,
) -> Vec<Stretch> {
    let stretch = |floor: &Floor| {
        let finishes = tallies.get(&floor.container).map_or(&[][..], |tally| &tally.finishes);
        let mut next = finishes.partition_point(|finish| finish.at < floor.from);
        let mut sums = vec![0.0; columns];
        let mut all = 0.0;
        let mut stretch = Stretch { level: Vec::new(), explanations: vec![Vec::new(); columns + 2] };
        for (at, level) in &floor.levels {
            while let Some(finish) = finishes.get(next).filter(|finish| finish.at <= *at) {
                if let Some(column) = column_of(finish) {
                    sums[column] += finish.weight;
                }
                all += finish.weight;
                next += 1;
            }
            stretch.level.push(*level);
            for (column, sum) in sums.iter().enumerate() {
                stretch.explanations[column].push(*sum);
            }
            stretch.explanations[columns].push(at.seconds_since(floor.from));
            stretch.explanations[columns + 1].push(all);
        }
        stretch
    };
    floors.iter().map(stretch).collect()
}

/// The attribute value of operation `name` that explains the growth better than all its calls do.
pub(super) fn best_value(question: &Question<'_>, name: &str) -> BTreeMap<String, String> {
    let floors = floors_of(question, Witness::Memory);
    let (tallies, names) = tallies_of(question, &floors);
    let Some(operation) = names.iter().position(|known| known == name).map(|index| index as u32) else {
        return BTreeMap::new();
    };
    let mut counts: BTreeMap<(String, String), f64> = BTreeMap::new();
    let mut values_by_span: HashMap<u32, HashMap<String, String>> = HashMap::new();
    for finish in
        tallies.values().flat_map(|tally| &tally.finishes).filter(|finish| finish.operation == operation)
    {
        let Some(span) = finish.span else { continue };
        let values = values_of(question.scene, span);
        for (key, value) in &values {
            *counts.entry((key.clone(), value.clone())).or_default() += 1.0;
        }
        values_by_span.insert(span, values);
    }
    let all = values_by_span.len() as f64;
    let mut distinct: BTreeMap<String, f64> = BTreeMap::new();
    for (key, _) in counts.keys() {
        *distinct.entry(key.clone()).or_default() += 1.0;
    }
    // A key with nearly as many values as calls identifies requests, not kinds of them; a value that nearly all or
    // hardly any calls have separates nothing.
    counts.retain(|(key, _), _| distinct.get(key).is_some_and(|values| *values <= (all / 5.0).max(12.0)));
    let candidates: Vec<(String, String)> = counts
        .into_iter()
        .filter(|(_, count)| *count >= 4.0 && *count <= 0.9 * all)
        .map(|(pair, _)| pair)
        .take(200)
        .collect();
    let fit_of = |wanted: Option<&(String, String)>| {
        let column = |finish: &Finish| {
            let values = || values_by_span.get(&finish.span?);
            let has =
                || values().zip(wanted).is_some_and(|(values, (key, value))| values.get(key) == Some(value));
            (finish.operation == operation && (wanted.is_none() || has())).then_some(0)
        };
        fit_each(&stretches_of(&floors, &tallies, 1, &column), NOISE_FLOOR)[0].log_likelihood
    };
    if candidates.is_empty() || floors.is_empty() {
        return BTreeMap::new();
    }
    let plain = fit_of(None);
    let price = (candidates.len() as f64).ln();
    let gains = candidates.iter().map(|pair| (TEMPER * (fit_of(Some(pair)) - plain) - price, pair));
    match gains.max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(a.1))) {
        Some((gain, (key, value))) if gain >= VALUE_NATS => BTreeMap::from([(key.clone(), value.clone())]),
        _ => BTreeMap::new(),
    }
}
