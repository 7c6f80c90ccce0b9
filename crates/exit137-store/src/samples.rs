//! Samples of memory: rows of series, time and value, kept by the store in its own form, because they are thinned with age.
//! Thinning leaves samples out and makes none up: of each interval the first, the lowest, the highest and the last
//! stay, at the times at which they were taken.

use std::collections::BTreeMap;

use exit137_core::time::UnixNanos;

use crate::piece::{Encoding, Identity, Kind, Piece};

/// One value of one series of a container.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample<'a> {
    /// Which series: a metric's name, with whatever else tells it from others (`memory.type=rss`).
    pub series: &'a str,
    /// When it was taken.
    pub at: UnixNanos,
    /// The value, in the unit of the series. Whole numbers take least space.
    pub value: f64,
}

/// Names of series are no longer than this, in bytes; what lies beyond is cut off.
pub const SERIES_BYTES_MAX: usize = 16 << 10;
/// Whole numbers up to here are exact in both forms.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

impl Piece {
    /// A piece of samples of one container, in any order.
    pub fn of_samples(container: Identity, samples: &[Sample<'_>]) -> Self {
        let mut series: BTreeMap<&str, Vec<(i64, f64)>> = BTreeMap::new();
        for sample in samples {
            series.entry(sample.series).or_default().push((sample.at.0, sample.value));
        }
        Self {
            container,
            kind: Kind::Samples,
            encoding: Encoding::Samples,
            first: samples.iter().map(|sample| sample.at).min().unwrap_or(UnixNanos(i64::MAX)),
            last: samples.iter().map(|sample| sample.at).max().unwrap_or(UnixNanos(i64::MIN)),
            count: samples.len() as u32,
            bytes: encode(&mut series).into(),
        }
    }
}

/// Each series as: length of the name, name, number of rows, 1 if all values are whole numbers else 0, and the rows by
/// time: the step from the time before, and the value (whole: the step from the value before; else eight bytes).
pub(crate) fn encode<S: AsRef<str>>(series: &mut BTreeMap<S, Vec<(i64, f64)>>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, rows) in series {
        let name = name.as_ref();
        rows.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
        let mut end = name.len().min(SERIES_BYTES_MAX);
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        put_varint(&mut bytes, end as u64);
        bytes.extend_from_slice(&name.as_bytes()[..end]);
        put_varint(&mut bytes, rows.len() as u64);
        let is_whole = |value: f64| value.fract() == 0.0 && value.abs() <= WHOLE_MAX && !negative_zero(value);
        let whole = rows.iter().all(|(_, value)| is_whole(*value));
        bytes.push(u8::from(whole));
        let (mut at_before, mut value_before) = (0i64, 0i64);
        for (at, value) in rows {
            put_varint(&mut bytes, zigzag(at.wrapping_sub(at_before)));
            at_before = *at;
            if whole {
                put_varint(&mut bytes, zigzag((*value as i64).wrapping_sub(value_before)));
                value_before = *value as i64;
            } else {
                bytes.extend_from_slice(&value.to_le_bytes());
            }
        }
    }
    bytes
}

fn negative_zero(value: f64) -> bool {
    value == 0.0 && value.is_sign_negative()
}

/// Calls `each` with every sample of a piece of samples. What comes before a damaged place is given; `None` says
/// that there was one.
pub fn read_samples<'a>(bytes: &'a [u8], each: &mut dyn FnMut(Sample<'a>)) -> Option<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let length = usize::try_from(take_varint(&mut rest)?).ok()?;
        let (name, after) = rest.split_at_checked(length)?;
        let series = std::str::from_utf8(name).ok()?;
        rest = after;
        let rows = take_varint(&mut rest)?;
        let whole = take::<1>(&mut rest)? == [1];
        let (mut at, mut value_before) = (0i64, 0i64);
        for _ in 0..rows {
            at = at.wrapping_add(unzigzag(take_varint(&mut rest)?));
            let value = if whole {
                value_before = value_before.wrapping_add(unzigzag(take_varint(&mut rest)?));
                value_before as f64
            } else {
                f64::from_le_bytes(take(&mut rest)?)
            };
            each(Sample { series, at: UnixNanos(at), value });
        }
    }
    Some(())
}

/// Of each interval of `every_nanos` and each series, the first, the lowest, the highest and the last.
pub(crate) fn thin(samples: &mut BTreeMap<String, Vec<(i64, f64)>>, every_nanos: i64) {
    for rows in samples.values_mut() {
        rows.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
        let mut kept: Vec<(i64, f64)> = Vec::new();
        for interval in rows.chunk_by(|a, b| a.0.div_euclid(every_nanos) == b.0.div_euclid(every_nanos)) {
            let last = interval.len() - 1;
            let by_value = |a: &usize, b: &usize| interval[*a].1.total_cmp(&interval[*b].1);
            let low = (0..interval.len()).min_by(by_value).unwrap_or(0);
            let high = (0..interval.len()).max_by(by_value).unwrap_or(0);
            let mut picked = [0, low, high, last];
            picked.sort_unstable();
            for (index, place) in picked.iter().enumerate() {
                if index == 0 || picked[index - 1] != *place {
                    kept.push(interval[*place]);
                }
            }
        }
        *rows = kept;
    }
}

fn zigzag(number: i64) -> u64 {
    (number << 1 ^ number >> 63) as u64
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

fn put_varint(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let [byte] = take(rest)?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(*taken)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> (Vec<(String, i64, f64)>, bool) {
        let mut found = Vec::new();
        let whole = read_samples(bytes, &mut |sample| {
            found.push((sample.series.to_owned(), sample.at.0, sample.value));
        });
        (found, whole.is_some())
    }

    proptest! {
        #[test]
        fn samples_are_read_back(rows in prop::collection::vec(("[a-c]", any::<i64>(), any::<f64>()), 0..50), whole: bool) {
            let rows: Vec<(String, i64, f64)> = rows
                .into_iter()
                .map(|(series, at, value)| (series, at, if whole { (value % 1e15).trunc() } else { value }))
                .filter(|row| !row.2.is_nan())
                .collect();
            let samples: Vec<Sample<'_>> =
                rows.iter().map(|(series, at, value)| Sample { series, at: UnixNanos(*at), value: *value }).collect();
            let piece = Piece::of_samples(Identity::of([("a", "b")]), &samples);
            let (mut found, sound) = read(&piece.bytes);
            prop_assert!(sound);
            let order = |a: &(String, i64, f64), b: &(String, i64, f64)| {
                a.0.cmp(&b.0).then(a.1.cmp(&b.1)).then(a.2.total_cmp(&b.2))
            };
            let mut rows = rows;
            rows.sort_by(order);
            found.sort_by(order);
            prop_assert_eq!(found, rows);
        }

        #[test]
        fn rubbish_is_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            read(&bytes);
        }
    }

    #[test]
    fn a_sample_of_a_steady_series_takes_few_bytes() {
        let samples: Vec<Sample<'_>> = (0..1000)
            .map(|index| Sample {
                series: "container.memory.working_set",
                at: UnixNanos(1_800_000_000_000_000_000 + index * 10_000_000_000),
                value: (200_000_000 + index * 4096) as f64,
            })
            .collect();
        let piece = Piece::of_samples(Identity::of([("a", "b")]), &samples);
        assert!(piece.bytes.len() < 8 * 1000 + 50, "{} bytes", piece.bytes.len());
    }

    #[test]
    fn thinning_keeps_the_first_the_lowest_the_highest_and_the_last() {
        let rows =
            vec![(0, 5.0), (1, 9.0), (2, 6.0), (3, 1.0), (4, 2.0), (9, 3.0), (10, 7.0), (11, 7.0), (12, 7.0)];
        let mut samples = BTreeMap::from([("s".to_owned(), rows)]);
        thin(&mut samples, 10);
        let expected = [(0, 5.0), (1, 9.0), (3, 1.0), (9, 3.0), (10, 7.0), (12, 7.0)];
        assert_eq!(samples["s"], expected);
        let once = samples.clone();
        thin(&mut samples, 10);
        assert_eq!(samples, once);
    }
}
