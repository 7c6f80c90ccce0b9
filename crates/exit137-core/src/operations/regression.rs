//! One explanation at a time for a rising level: `y = a_life + b · x + u` with its own intercept for each life, a
//! common slope b ≥ 0, and errors that remember each other (AR(1)). Small, dense and exact; no iteration but a
//! grid over the memory of the errors.

/// Memory of the errors that are tried; a level that follows requests is somewhere between.
const RHO: [f64; 6] = [0.0, 0.3, 0.5, 0.7, 0.85, 0.95];

/// One stretch of levels with what may explain them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stretch {
    /// Levels, bytes.
    pub level: Vec<f64>,
    /// By hypothesis: its value at each level.
    pub explanations: Vec<Vec<f64>>,
    /// What moves the level for a while whatever is kept: taken out of everything, at a rate of its own in each life.
    pub passing: Vec<Vec<f64>>,
}

/// How well one explanation fits.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Fit {
    /// Profile log-likelihood.
    pub log_likelihood: f64,
    /// Bytes for one unit of x.
    pub slope: f64,
    /// Its standard error.
    pub error: f64,
}

/// Fits every explanation alone; the last entry is "nothing".
pub(crate) fn fit_each(stretches: &[Stretch], noise_floor: f64) -> Vec<Fit> {
    let count = stretches.first().map_or(0, |stretch| stretch.explanations.len());
    let mut best: Vec<Fit> = vec![Fit { log_likelihood: f64::NEG_INFINITY, ..Fit::default() }; count + 1];
    for rho in RHO {
        let products = Products::of(stretches, rho, count, None);
        for (hypothesis, best) in best.iter_mut().enumerate() {
            let fit = products.fit(hypothesis, noise_floor);
            if fit.log_likelihood > best.log_likelihood {
                *best = fit;
            }
        }
    }
    best
}

/// Two explanations together.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct PairFit {
    /// Of the explanation that was there first, with the other beside it.
    pub beside: Fit,
    /// Of the other.
    pub fit: Fit,
}

/// Fits every explanation together with `first`, for both slopes at once.
pub(super) fn fit_beside(stretches: &[Stretch], first: usize, noise_floor: f64) -> Vec<PairFit> {
    let count = stretches.first().map_or(0, |stretch| stretch.explanations.len());
    let none = Fit { log_likelihood: f64::NEG_INFINITY, ..Fit::default() };
    let mut best: Vec<PairFit> = vec![PairFit { beside: none, fit: none }; count];
    for rho in RHO {
        let products = Products::of(stretches, rho, count, Some(first));
        for (other, best) in best.iter_mut().enumerate().filter(|(other, _)| *other != first) {
            let pair = products.fit_pair(other, noise_floor);
            if pair.fit.log_likelihood > best.fit.log_likelihood {
                *best = pair;
            }
        }
    }
    best
}

/// Sums of squares and products after the errors' memory and the lives' intercepts are taken out.
struct Products {
    n: f64,
    yy: f64,
    xx: Vec<f64>,
    xy: Vec<f64>,
    /// Of the explanation that stays in the model: its square, its product with the levels and with each other one.
    kept: Option<(f64, f64, Vec<f64>)>,
    /// ln of the Jacobian of the transformation.
    jacobian: f64,
}

impl Products {
    fn of(stretches: &[Stretch], rho: f64, count: usize, beside: Option<usize>) -> Self {
        let mut columns: Vec<Vec<f64>> = vec![Vec::new(); count];
        let mut levels: Vec<f64> = Vec::new();
        let mut lives = 0.0;
        for stretch in stretches.iter().filter(|stretch| stretch.level.len() >= 3) {
            let basis = basis_of(stretch, rho);
            levels.extend(without_all(whiten(&stretch.level, rho), &basis));
            for (column, explanation) in columns.iter_mut().zip(&stretch.explanations) {
                column.extend(without_all(whiten(explanation, rho), &basis));
            }
            lives += 1.0;
        }
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let kept = beside.map(|first| {
            let kept = columns[first].clone();
            let products = (
                dot(&kept, &kept),
                dot(&kept, &levels),
                columns.iter().map(|column| dot(&kept, column)).collect(),
            );
            levels = without(&levels, &kept);
            columns = columns.iter().map(|column| without(column, &kept)).collect();
            products
        });
        Self {
            n: levels.len() as f64,
            yy: dot(&levels, &levels),
            xx: columns.iter().map(|column| dot(column, column)).collect(),
            xy: columns.iter().map(|column| dot(column, &levels)).collect(),
            kept,
            jacobian: lives * 0.5 * (1.0 - rho * rho).ln(),
        }
    }

    /// The fit of one explanation beside the kept one.
    fn fit_pair(&self, other: usize, noise_floor: f64) -> PairFit {
        let fit = self.fit(other, noise_floor);
        let Some((square, with_levels, with_others)) = &self.kept else {
            return PairFit { beside: Fit::default(), fit };
        };
        let slope = (with_levels - fit.slope * with_others[other]) / square.max(1e-9);
        PairFit { beside: Fit { slope, error: fit.error, ..fit }, fit }
    }

    /// The fit of one explanation; past the last one, of nothing.
    fn fit(&self, hypothesis: usize, noise_floor: f64) -> Fit {
        let n = self.n.max(1.0);
        let (xx, xy) = (
            self.xx.get(hypothesis).copied().unwrap_or(0.0),
            self.xy.get(hypothesis).copied().unwrap_or(0.0),
        );
        let slope = if xx > 1e-9 && xy > 0.0 { xy / xx } else { 0.0 };
        let rss = (self.yy - slope * xy).max(0.0);
        // No measurement is better than this, however well a line happens to fit.
        let variance = (rss / n).max(noise_floor * noise_floor);
        let error = if xx > 1e-9 { (variance / xx).sqrt() } else { 0.0 };
        Fit { log_likelihood: -0.5 * n * variance.ln() + self.jacobian, slope, error }
    }
}

/// Takes the errors' memory out (Prais–Winsten).
fn whiten(values: &[f64], rho: f64) -> Vec<f64> {
    let first = values.first().map(|value| value * (1.0 - rho * rho).sqrt());
    first.into_iter().chain(values.windows(2).map(|pair| pair[1] - rho * pair[0])).collect()
}

/// Orthogonal directions of the stretch's own level and of what passes.
fn basis_of(stretch: &Stretch, rho: f64) -> Vec<Vec<f64>> {
    let mut basis = vec![whiten(&vec![1.0; stretch.level.len()], rho)];
    for passing in &stretch.passing {
        let rest = without_all(whiten(passing, rho), &basis);
        if rest.iter().map(|value| value * value).sum::<f64>() > 1e-6 {
            basis.push(rest);
        }
    }
    basis
}

fn without_all(values: Vec<f64>, basis: &[Vec<f64>]) -> Vec<f64> {
    basis.iter().fold(values, |values, direction| without(&values, direction))
}

/// `values` without their projection on `direction`.
fn without(values: &[f64], direction: &[f64]) -> Vec<f64> {
    let (mut along, mut length) = (0.0, 0.0);
    for (value, direction) in values.iter().zip(direction) {
        along += value * direction;
        length += direction * direction;
    }
    let scale = if length > 1e-12 { along / length } else { 0.0 };
    values.iter().zip(direction).map(|(value, direction)| value - scale * direction).collect()
}

/// Correlation of two explanations once what all share (a straight line in each stretch) is taken out.
pub(super) fn partial_correlation(stretches: &[Stretch], a: usize, b: usize, shared: usize) -> f64 {
    let (mut aa, mut bb, mut ab) = (0.0, 0.0, 0.0);
    for stretch in stretches.iter().filter(|stretch| stretch.level.len() >= 3) {
        let ones = vec![1.0; stretch.level.len()];
        let line = without(&stretch.explanations[shared], &ones);
        let rest = |index: usize| without(&without(&stretch.explanations[index], &ones), &line);
        for (x, y) in rest(a).iter().zip(rest(b)) {
            aa += x * x;
            bb += y * y;
            ab += x * y;
        }
    }
    ab / (aa * bb).sqrt().max(f64::MIN_POSITIVE)
}

#[cfg(test)]
mod tests {
    use super::{Stretch, fit_each};

    #[test]
    fn the_explanation_that_made_the_level_fits_best() {
        // Three operations whose counts rise at uneven pace; the second one leaks 5 a call.
        let steps = |seed: u64| {
            let mut state = seed;
            (0..200)
                .scan(0.0, move |sum, _| {
                    state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    *sum += ((state >> 60) % 4) as f64;
                    Some(*sum)
                })
                .collect::<Vec<f64>>()
        };
        let explanations: Vec<Vec<f64>> = [1, 2, 3].map(steps).to_vec();
        let level: Vec<f64> = explanations[1]
            .iter()
            .enumerate()
            .map(|(i, x)| 50.0 + 5.0 * x + ((i * 37) % 11) as f64)
            .collect();
        let fits = fit_each(&[Stretch { level, explanations, ..Stretch::default() }], 0.1);
        let best = (0..fits.len()).max_by(|a, b| fits[*a].log_likelihood.total_cmp(&fits[*b].log_likelihood));
        assert_eq!(best, Some(1));
        assert!((fits[1].slope - 5.0).abs() < 0.5, "{}", fits[1].slope);
    }
}
