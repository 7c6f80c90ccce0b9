//! Ordinary least squares of the memory's changes on counts: between two readings of a container's memory, how
//! much did it change, and how many calls of each operation finished meanwhile? Ranked by the growth that the
//! coefficients add up to over the whole record.

use std::collections::BTreeMap;

use super::{Family, Named};
use crate::memory::between;
use crate::time::{SECOND, UnixNanos};

/// Finer readings are joined: most calls take a while from their growth to their end.
const SECONDS_MIN: i64 = 5;

/// Operations that get a coefficient: the most frequent ones.
const OPERATIONS_MAX: usize = 40;

/// A pivot below this share of its column's own square is nothing but rounding.
const PIVOT_MIN: f64 = 1e-9;

/// Change of memory, and finished calls by column.
struct Row {
    change: f64,
    finishes: Vec<f64>,
}

/// Operations by the growth that the regression gives them.
pub(super) fn ranked(family: &Family<'_, '_>) -> Vec<Named> {
    let columns = columns_of(family);
    let rows = rows_of(family, &columns);
    if rows.len() < 3 {
        return Vec::new();
    }
    let slopes = least_squares(&rows, columns.len());
    let growth = columns.iter().map(|(operation, column)| {
        let finishes: f64 = rows.iter().map(|row| row.finishes[*column]).sum();
        (*operation, slopes[*column] * finishes)
    });
    family.ranked(growth.collect())
}

/// A column for each of the most frequent operations.
fn columns_of(family: &Family<'_, '_>) -> BTreeMap<u32, usize> {
    let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
    for call in family.containers.iter().flat_map(|&container| family.scene.work.calls_of(container)) {
        *counts.entry(call.operation).or_default() += 1;
    }
    let mut frequent: Vec<(u32, usize)> = counts.into_iter().collect();
    frequent.sort_by_key(|(operation, count)| (std::cmp::Reverse(*count), *operation));
    frequent
        .iter()
        .take(OPERATIONS_MAX)
        .enumerate()
        .map(|(column, (operation, _))| (*operation, column))
        .collect()
}

fn rows_of(family: &Family<'_, '_>, columns: &BTreeMap<u32, usize>) -> Vec<Row> {
    let cast = family.scene.cast;
    let mut rows = Vec::new();
    for &container in &family.containers {
        let mut finishes: Vec<(UnixNanos, usize, f64)> = family
            .scene
            .work
            .calls_of(container)
            .iter()
            .filter_map(|call| Some((call.end, *columns.get(&call.operation)?, f64::from(call.weight))))
            .collect();
        finishes.sort_unstable_by_key(|(end, column, _)| (*end, *column));
        for &life in &cast.containers[container].lives {
            let Some((_, series)) = family.scene.memory.life(life).hard() else { continue };
            let kills: Vec<UnixNanos> =
                family.kills.iter().filter(|kill| kill.life == Some(life)).map(|kill| kill.at()).collect();
            for (from, to) in steps(series, &kills) {
                let mut row = Row { change: to.1 - from.1, finishes: vec![0.0; columns.len()] };
                let first = finishes.partition_point(|(end, ..)| *end <= from.0);
                for (_, column, weight) in finishes[first..].iter().take_while(|(end, ..)| *end <= to.0) {
                    row.finishes[*column] += weight;
                }
                rows.push(row);
            }
        }
    }
    rows
}

type Reading = (UnixNanos, f64);

/// Pairs of readings at least [`SECONDS_MIN`] apart with no kill between or just before them: a kill frees
/// memory that no call gave back.
fn steps(series: &[Reading], kills: &[UnixNanos]) -> Vec<(Reading, Reading)> {
    let mut steps = Vec::new();
    let mut from: Option<Reading> = None;
    for &reading in series {
        match from {
            None => from = Some(reading),
            Some(start) if reading.0.since(start.0) >= SECONDS_MIN * SECOND => {
                let freed = kills.iter().any(|kill| *kill + 2 * SECOND >= start.0 && *kill <= reading.0);
                if !freed && !between(series, start.0, reading.0).is_empty() {
                    steps.push((start, reading));
                }
                from = Some(reading);
            }
            Some(_) => {}
        }
    }
    steps
}

/// Slopes with an intercept that is taken out first; a column that others make up gets none.
fn least_squares(rows: &[Row], columns: usize) -> Vec<f64> {
    let n = rows.len() as f64;
    let mean = |value: &dyn Fn(&Row) -> f64| rows.iter().map(value).sum::<f64>() / n;
    let y = mean(&|row| row.change);
    let x: Vec<f64> = (0..columns).map(|column| mean(&|row| row.finishes[column])).collect();
    // Normal equations, the right side as the last column.
    let mut matrix = vec![vec![0.0; columns + 1]; columns];
    for row in rows {
        for (i, equation) in matrix.iter_mut().enumerate() {
            let own = row.finishes[i] - x[i];
            for (j, cell) in equation.iter_mut().take(columns).enumerate() {
                *cell += own * (row.finishes[j] - x[j]);
            }
            equation[columns] += own * (row.change - y);
        }
    }
    let squares: Vec<f64> = (0..columns).map(|i| matrix[i][i]).collect();
    let mut solved = vec![false; columns];
    // Gauss–Jordan on the diagonal: the matrix is symmetric and not negative, so the largest pivot left is safe.
    for _ in 0..columns {
        let left = (0..columns).filter(|&i| !solved[i] && matrix[i][i] > PIVOT_MIN * squares[i]);
        let Some(pivot) = left.max_by(|&a, &b| matrix[a][a].total_cmp(&matrix[b][b])) else { break };
        solved[pivot] = true;
        let scale = matrix[pivot][pivot];
        matrix[pivot].iter_mut().for_each(|cell| *cell /= scale);
        let equation = matrix[pivot].clone();
        for (i, other) in matrix.iter_mut().enumerate().filter(|(i, _)| *i != pivot) {
            let factor = other[pivot];
            debug_assert_ne!(i, pivot);
            other.iter_mut().zip(&equation).for_each(|(cell, known)| *cell -= factor * known);
        }
    }
    (0..columns).map(|i| if solved[i] { matrix[i][columns] } else { 0.0 }).collect()
}

#[cfg(test)]
mod tests {
    use super::{Row, least_squares, steps};
    use crate::time::{SECOND, UnixNanos};

    fn row(change: f64, finishes: &[f64]) -> Row {
        Row { change, finishes: finishes.to_vec() }
    }

    #[test]
    fn slopes_are_found_beside_a_constant() {
        let rows: Vec<Row> = [(1.0, 5.0), (4.0, 2.0), (7.0, 7.0), (2.0, 9.0), (3.0, 0.0)]
            .map(|(a, b)| row(11.0 + 3.0 * a - 2.0 * b, &[a, b]))
            .into();
        let slopes = least_squares(&rows, 2);
        assert!((slopes[0] - 3.0).abs() < 1e-9 && (slopes[1] + 2.0).abs() < 1e-9, "{slopes:?}");
    }

    #[test]
    fn a_column_that_is_another_one_gets_nothing() {
        let rows: Vec<Row> = [1.0, 4.0, 7.0, 2.0].map(|a| row(3.0 * a, &[a, a])).into();
        let slopes = least_squares(&rows, 2);
        assert!((slopes.iter().sum::<f64>() - 3.0).abs() < 1e-9, "{slopes:?}");
        assert!(slopes.contains(&0.0));
    }

    #[test]
    fn no_step_spans_a_kill() {
        let series: Vec<_> = (0..8).map(|i| (UnixNanos(i * 5 * SECOND), i as f64)).collect();
        let kept: Vec<i64> =
            steps(&series, &[UnixNanos(12 * SECOND)]).iter().map(|(from, _)| from.0.0 / SECOND).collect();
        assert_eq!(kept, [0, 5, 15, 20, 25, 30]);
    }
}
