//! Leaks: whose finished calls explain the growth of the floor. Every operation, pairs of them, the time
//! ("background") and all calls together ("every request") are compared on equal terms, over all lives at once.

use std::collections::{BTreeMap, HashMap};

use super::floor::{Floor, LEVELS_FEW, LEVELS_MIN, Question, VIEWS, View, WITNESSES, Witness, floors_of};
use super::regression::{Fit, PairFit, Stretch, fit_beside, fit_each, partial_correlation};
use super::tally::{Finish, Tally};
use super::values::{Value, Values};
use super::{BACKGROUND, EVERY_REQUEST, Suspect};
use crate::bytes::Bytes;
use crate::identity::ContainerIndex;
use crate::parallel;
use crate::time::UnixNanos;

/// What the likelihood of levels is worth: neighbouring ones are not independent, but the model knows that.
const TEMPER: f64 = 1.0;
/// The same where a collector decides when memory is given back.
const TEMPER_COLLECTED: f64 = 0.4;
/// What the likelihood is worth where calls are told by metrics alone.
const ROUGH: f64 = 0.3;
/// What the collected heap itself holds is nearer to what is kept than what the process holds.
const TEMPER_HEAP: f64 = 0.6;
/// What the likelihood of every point is worth beside that of points which nothing passing lifts.
const TEMPER_EVERY: f64 = 0.5;
/// Priors of a leak that no request causes, that every request causes, and that two operations cause.
const PRIOR_BACKGROUND: f64 = 0.05;
const PRIOR_EVERY: f64 = 0.07;
const PRIOR_PAIR: f64 = 0.05;
/// Operations that are tried in pairs: the best ones alone.
const PAIRED_MAX: usize = 8;
/// Operations finished less often than this cannot be judged.
const FINISHES_MIN: f64 = 6.0;
/// Operations compared; the rest are rare.
const OPERATIONS_MAX: usize = 60;
/// Calls that always come together cannot be told apart.
const INSEPARABLE: f64 = 0.95;
/// Of an operation's prior, the part that its attribute values share: as often as not, all of its calls leak.
const PRIOR_VALUES: f64 = 0.4;
/// A value is named when at least this part of its operation's probability is its own.
const VALUE_SHARE_MIN: f64 = 0.7;
/// Operations whose values are tried.
const VALUED_MAX: usize = 12;
/// With this many levels, a perfect fit is worth even odds.
const LEVELS_DOUBTED: f64 = 3.0;
/// With more finished calls than this, one thread takes long.
const MANY_FINISHES: usize = 200_000;
/// No level is measured better than this.
const NOISE_FLOOR: f64 = 300_000.0;

type Tallies = HashMap<ContainerIndex, Tally>;

/// What one witness saw, and how much its word counts.
struct Seen {
    stretches: Vec<Stretch>,
    temper: f64,
}

/// The columns of the regression: operations, attribute values of operations, the time, and all calls; as each
/// witness saw the levels.
struct Columns<'a> {
    finished: &'a Finished,
    /// At least one; the first is the one that sizes are told by.
    witnesses: Vec<Seen>,
    growth: f64,
}

/// What a column stands for.
enum Column<'a> {
    Operation(usize),
    Value(usize, &'a Value),
    Background,
    Every,
}

impl Columns<'_> {
    fn stretches(&self) -> &[Stretch] {
        &self.witnesses[0].stretches
    }

    fn operations(&self) -> usize {
        self.finished.frequent.len()
    }

    fn background(&self) -> usize {
        self.operations() + self.finished.values.list.len()
    }

    fn every(&self) -> usize {
        self.background() + 1
    }

    fn kind(&self, column: usize) -> Column<'_> {
        let values = &self.finished.values.list;
        match column.checked_sub(self.operations()) {
            None => Column::Operation(column),
            Some(value) if value < values.len() => {
                let of = |operation: &u32| *operation == values[value].operation;
                let operation = self.finished.frequent.iter().position(of);
                Column::Value(operation.unwrap_or_default(), &values[value])
            }
            Some(value) if value == values.len() => Column::Background,
            Some(_) => Column::Every,
        }
    }

    /// The operation that a column is about, else itself.
    fn about(&self, column: usize) -> usize {
        match self.kind(column) {
            Column::Value(operation, _) => operation,
            _ => column,
        }
    }

    fn name(&self, column: usize) -> String {
        match self.kind(column) {
            Column::Background => BACKGROUND.to_owned(),
            Column::Every => EVERY_REQUEST.to_owned(),
            Column::Operation(operation) | Column::Value(operation, _) => {
                self.finished.names[self.finished.frequent[operation] as usize].clone()
            }
        }
    }

    fn prior(&self, column: usize) -> f64 {
        let each = (1.0 - PRIOR_BACKGROUND - PRIOR_EVERY - PRIOR_PAIR) / self.operations().max(1) as f64;
        let siblings = |operation: usize| {
            let operation = self.finished.frequent[operation];
            self.finished.values.list.iter().filter(|value| value.operation == operation).count() as f64
        };
        match self.kind(column) {
            Column::Background => PRIOR_BACKGROUND,
            Column::Every => PRIOR_EVERY,
            Column::Operation(operation) if siblings(operation) > 0.0 => each * (1.0 - PRIOR_VALUES),
            Column::Operation(_) => each,
            Column::Value(operation, _) => each * PRIOR_VALUES / siblings(operation).max(1.0),
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

/// Ranks the explanations of the growth. What is kept is seen through what passes in several ways, whose answers are
/// averaged.
pub(super) fn suspects(question: &Question<'_>) -> Vec<Suspect> {
    let finished = Finished::of(question);
    // Where no work is known, time explains everything, and that means nothing.
    if finished.frequent.is_empty() {
        return Vec::new();
    }
    let finishes: usize = finished.tallies.values().map(|tally| tally.finishes.len()).sum();
    let weighed = |levels_min: usize| -> Vec<(Columns<'_>, Vec<(f64, Hypothesis)>)> {
        let views = parallel::map(&VIEWS, finishes > MANY_FINISHES, |view| {
            let columns = columns_of(question, &finished, *view, levels_min)?;
            let posterior = posterior(&columns);
            Some((columns, posterior))
        });
        views.into_iter().flatten().collect()
    };
    let mut views = weighed(LEVELS_MIN);
    if views.is_empty() {
        views = weighed(LEVELS_FEW);
    }
    let Some((widest, _)) = views.first() else { return Vec::new() };
    let mut found: BTreeMap<usize, Suspect> = BTreeMap::new();
    let mut by_value: BTreeMap<usize, Suspect> = BTreeMap::new();
    for (columns, posterior) in &views {
        for (probability, hypothesis) in posterior {
            let probability = probability / views.len() as f64;
            for (column, fit) in &hypothesis.members {
                let about = columns.about(*column);
                let suspect = found.entry(about).or_insert_with(|| suspect(columns, *column, fit));
                suspect.probability += probability;
                if about != *column {
                    let narrowed =
                        by_value.entry(*column).or_insert_with(|| self::suspect(columns, *column, fit));
                    narrowed.probability += probability;
                }
            }
        }
    }
    narrow(&mut found, by_value, widest);
    let mut ranked: Vec<(usize, Suspect)> = found.into_iter().collect();
    ranked.sort_by(|a, b| b.1.probability.total_cmp(&a.1.probability).then(a.0.cmp(&b.0)));
    join_inseparable(&mut ranked, widest);
    let index = |name: &str| question.scene.work.operations.iter().position(|known| known == name);
    ranked
        .into_iter()
        .map(|(_, mut suspect)| {
            suspect.operation = index(&suspect.names[0]).map(|index| index as u32);
            suspect
        })
        .collect()
}

/// Puts attribute values in place of their operations where they hold most of the probability. One value may be told
/// by several keys: they count together, and the strongest is named.
fn narrow(found: &mut BTreeMap<usize, Suspect>, by_value: BTreeMap<usize, Suspect>, columns: &Columns<'_>) {
    let mut groups: BTreeMap<(usize, String), Vec<Suspect>> = BTreeMap::new();
    for (column, narrowed) in by_value {
        if let Column::Value(operation, value) = columns.kind(column) {
            groups.entry((operation, value.value.clone())).or_default().push(narrowed);
        }
    }
    for ((operation, _), group) in groups {
        let total: f64 = group.iter().map(|narrowed| narrowed.probability).sum();
        // A span attribute is the service's own word; a query parameter of the same name comes second.
        let own = |narrowed: &Suspect| narrowed.attributes.keys().any(|key| key.contains('.'));
        let rank = |narrowed: &Suspect| narrowed.probability * if own(narrowed) { 2.0 } else { 1.0 };
        let strongest = group.into_iter().max_by(|a, b| rank(a).total_cmp(&rank(b)));
        if let (Some(suspect), Some(narrowed)) = (found.get_mut(&operation), strongest)
            && total >= VALUE_SHARE_MIN * suspect.probability
        {
            *suspect = Suspect { probability: suspect.probability, ..narrowed };
        }
    }
}

fn posterior(columns: &Columns<'_>) -> Vec<(f64, Hypothesis)> {
    let hypotheses = hypotheses(columns);
    let highest = hypotheses.iter().map(|h| h.weight).fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = hypotheses.iter().map(|h| (h.weight - highest).exp()).sum();
    // A few levels may fall in line by chance in ways that their noise does not show.
    let levels: usize = columns.stretches().iter().map(|stretch| stretch.level.len()).sum();
    let trust = levels as f64 / (levels as f64 + LEVELS_DOUBTED);
    hypotheses.into_iter().map(|h| (trust * (h.weight - highest).exp() / sum, h)).collect()
}

/// One or two columns that may explain the growth.
struct Hypothesis {
    members: Vec<(usize, Fit)>,
    weight: f64,
}

fn hypotheses(columns: &Columns<'_>) -> Vec<Hypothesis> {
    let operations = columns.operations();
    let fits: Vec<Vec<Fit>> =
        columns.witnesses.iter().map(|seen| fit_each(&seen.stretches, NOISE_FLOOR)).collect();
    let tempers: Vec<f64> = columns.witnesses.iter().map(|seen| seen.temper).collect();
    let likelihood = |column: usize| -> f64 {
        fits.iter().zip(&tempers).map(|(fits, temper)| temper * fits[column].log_likelihood).sum()
    };
    let mut found: Vec<Hypothesis> = (0..=columns.every())
        .map(|column| {
            let fit = fits[0][column];
            let share = columns.share(column, fit.slope);
            let weight = columns.prior(column).ln() + likelihood(column) + plausible(share);
            Hypothesis { members: vec![(column, fit)], weight }
        })
        .collect();
    let mut best: Vec<usize> = (0..operations).filter(|column| fits[0][*column].slope > 0.0).collect();
    best.sort_by(|a, b| likelihood(*b).total_cmp(&likelihood(*a)).then(a.cmp(b)));
    best.truncate(PAIRED_MAX);
    let pairs = (best.len() * best.len().saturating_sub(1) / 2).max(1) as f64;
    for (position, &first) in best.iter().enumerate() {
        let beside: Vec<Vec<PairFit>> =
            columns.witnesses.iter().map(|seen| fit_beside(&seen.stretches, first, NOISE_FLOOR)).collect();
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
            let gains = beside.iter().map(|fits| fits[second].fit.log_likelihood - 1.0);
            let likelihood: f64 = gains.zip(&tempers).map(|(gain, temper)| temper * gain).sum();
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

fn suspect(columns: &Columns<'_>, column: usize, fit: &Fit) -> Suspect {
    let name = columns.name(column);
    let share = columns.share(column, fit.slope);
    let each = Bytes(fit.slope.max(0.0) as u64);
    let explains = match share {
        0.9.. => "nearly all".to_owned(),
        _ => format!("{:.0} %", share.max(0.0) * 100.0),
    };
    let mut attributes = BTreeMap::new();
    let summary = match columns.kind(column) {
        Column::Background => {
            let hour = Bytes((fit.slope * 3600.0).max(0.0) as u64);
            format!("memory grows with time, about {hour} an hour, whatever is asked of the service")
        }
        Column::Every => format!("each request keeps about {each}, whichever it is"),
        Column::Operation(_) => {
            format!("each {name} keeps about {each}; its calls explain {explains} of the growth")
        }
        Column::Value(_, Value { key, value, .. }) => {
            attributes.insert(key.clone(), value.clone());
            format!(
                "each {name} with {key}={value} keeps about {each}; those calls alone explain {explains} of the growth"
            )
        }
    };
    let spread = 1.28 * fit.error;
    let bytes =
        (name != BACKGROUND).then_some(((fit.slope - spread).max(0.0), fit.slope, fit.slope + spread));
    Suspect { names: vec![name], attributes, bytes, share: Some(share), summary, ..Suspect::default() }
}

/// Operations that come together with the leader in every life are one group with it.
fn join_inseparable(ranked: &mut Vec<(usize, Suspect)>, columns: &Columns<'_>) {
    let operations = columns.operations();
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

/// What the containers in question finished, the operations that are frequent enough to be judged, and the
/// attribute values that their calls differ by.
struct Finished {
    tallies: Tallies,
    names: Vec<String>,
    frequent: Vec<u32>,
    values: Values,
}

impl Finished {
    fn of(question: &Question<'_>) -> Self {
        let mut names = Vec::new();
        let tallies: Tallies = question
            .containers
            .iter()
            .map(|container| (*container, Tally::of(question.scene, *container, &mut names)))
            .collect();
        let frequent = frequent(&tallies);
        let finishes = tallies.values().flat_map(|tally| &tally.finishes);
        let values = Values::of(question.scene, finishes, &frequent[..frequent.len().min(VALUED_MAX)]);
        Self { tallies, names, frequent, values }
    }
}

fn columns_of<'a>(
    question: &Question<'_>,
    finished: &'a Finished,
    view: View,
    levels_min: usize,
) -> Option<Columns<'a>> {
    let operations = finished.frequent.len();
    let mut column: Vec<Option<usize>> = vec![None; finished.names.len()];
    for (position, operation) in finished.frequent.iter().enumerate() {
        column[*operation as usize] = Some(position);
    }
    let add = |finish: &Finish, sums: &mut [f64]| {
        if let Some(column) = column.get(finish.operation as usize).copied().flatten() {
            sums[column] += finish.weight;
        }
        for value in finished.values.of_span(finish.span) {
            sums[operations + *value as usize] += finish.weight;
        }
    };
    // Calls that are spread over the time between two exports rise as smoothly as the time does.
    let interval = finished.tallies.values().filter_map(|tally| tally.rough).reduce(f64::max);
    let doubt = if view == View::Every { TEMPER_EVERY } else { 1.0 };
    let see = |witness: &Witness| {
        let floors = floors_of(question, *witness, view_of(*witness, view), levels_min);
        let columns = operations + finished.values.list.len();
        let rough =
            interval.map_or(1.0, |interval| ROUGH * (spacing(&floors) / interval.max(0.001)).min(1.0));
        let mut stretches = stretches_of(&floors, &finished.tallies, columns, &add);
        let passing = view_of(*witness, view) != View::Lowest(13);
        if passing {
            take_out_running(&mut stretches, &floors, question);
        }
        (growth_of(&stretches) > 0.0).then(|| Seen {
            temper: doubt * rough * known(&stretches) * temper(question, *witness),
            stretches,
        })
    };
    let witnesses: Vec<Seen> = WITNESSES.iter().filter_map(see).collect();
    let growth = growth_of(&witnesses.first()?.stretches);
    Some(Columns { finished, witnesses, growth })
}

/// Mean seconds between two levels.
fn spacing(floors: &[Floor]) -> f64 {
    let length = |floor: &Floor| Some(floor.levels.last()?.0.seconds_since(floor.levels.first()?.0));
    let seconds: f64 = floors.iter().filter_map(length).sum();
    let levels: usize = floors.iter().map(|floor| floor.levels.len()).sum();
    seconds / levels.max(1) as f64
}

/// How well the work between two levels is known: with few calls a level, of all or of a sample, counts are noise
/// beside the time, which has none.
fn known(stretches: &[Stretch]) -> f64 {
    let levels: usize = stretches.iter().map(|stretch| stretch.level.len()).sum();
    let all = |stretch: &Stretch| {
        Some(stretch.explanations.last()?.last()? - stretch.explanations.last()?.first()?)
    };
    let finished: f64 = stretches.iter().filter_map(all).sum();
    finished / (finished + 2.0 * levels as f64).max(1.0)
}

/// A heap is told by its runtime in steps: parts of the time would take the step's edge for its moment.
fn view_of(witness: Witness, view: View) -> View {
    if witness == Witness::Memory { view } else { VIEWS[0] }
}

fn growth_of(stretches: &[Stretch]) -> f64 {
    stretches.iter().filter_map(|stretch| Some(stretch.level.last()? - stretch.level.first()?)).sum()
}

/// How much the likelihood of a witness counts. Where a collector frees memory when it sees fit, the memory of the
/// process follows the work only loosely, and a smooth rise says little about who keeps what.
fn temper(question: &Question<'_>, witness: Witness) -> f64 {
    let collected = question.containers.iter().any(|container| question.scene.is_collected(*container));
    match witness {
        Witness::HeapAfterCollection => TEMPER,
        Witness::HeapUsed => TEMPER_HEAP,
        Witness::Memory if collected => TEMPER_COLLECTED,
        Witness::Memory => TEMPER,
    }
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

/// What a running call holds is given back: the more run, the higher the level, whatever is kept.
fn take_out_running(stretches: &mut [Stretch], floors: &[Floor], question: &Question<'_>) {
    let mut times: HashMap<ContainerIndex, (Vec<UnixNanos>, Vec<UnixNanos>)> = HashMap::new();
    for (stretch, floor) in stretches.iter_mut().zip(floors) {
        let (starts, ends) = times.entry(floor.container).or_insert_with(|| {
            let calls = question.scene.work.calls_of(floor.container);
            let mut ends: Vec<UnixNanos> = calls.iter().map(|call| call.end).collect();
            ends.sort_unstable();
            (calls.iter().map(|call| call.start).collect(), ends)
        });
        let running = |at: &UnixNanos| {
            starts.partition_point(|start| start <= at) as f64 - ends.partition_point(|end| end <= at) as f64
        };
        stretch.passing.push(floor.levels.iter().map(|(at, _)| running(at)).collect());
    }
}

/// Levels with the cumulative finishes of each column, the seconds, and all finishes.
fn stretches_of(
    floors: &[Floor],
    tallies: &Tallies,
    columns: usize,
    add: &dyn Fn(&Finish, &mut [f64]),
) -> Vec<Stretch> {
    let stretch = |floor: &Floor| {
        let finishes = tallies.get(&floor.container).map_or(&[][..], |tally| &tally.finishes);
        let mut next = finishes.partition_point(|finish| finish.at < floor.from);
        let mut sums = vec![0.0; columns];
        let mut all = 0.0;
        let mut stretch = Stretch { explanations: vec![Vec::new(); columns + 2], ..Stretch::default() };
        for (at, level) in &floor.levels {
            while let Some(finish) = finishes.get(next).filter(|finish| finish.at <= *at) {
                add(finish, &mut sums);
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
