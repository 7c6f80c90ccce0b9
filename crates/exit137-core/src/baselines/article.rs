//! The method of the article that this project started from: an endpoint leaks when it served at least 100
//! requests, more than 80 % of them left more memory behind than they found, and then the endpoints are sorted
//! by what their requests grew together.
//!
//! Read from `request.memory.delta`, and from the `memory.<label>.delta_mb` attributes of spans. Both are the
//! process's memory before and after: under concurrency a request is charged for its neighbours, and one that
//! gives its memory back late is charged for nothing.

use std::collections::{BTreeMap, HashSet};

use crate::observation::Observations;
use crate::observation::metric::{DistributionPoint, DistributionSeries, Quantity};
use crate::symbol::Symbol;
use crate::time::UnixNanos;

/// Endpoints with fewer requests are not judged.
const REQUESTS_MIN: u64 = 100;

/// An endpoint is leaky when more than this share of its requests grew memory.
const GROWTH_RATIO_MIN: f64 = 0.8;

const MEBIBYTE: f64 = 1_048_576.0;

/// An endpoint that the method calls leaky. The fields are the article's.
#[derive(Debug, Clone, PartialEq)]
pub struct Endpoint {
    /// `http.route`; of a span without one, its name.
    pub endpoint: String,
    /// Share of requests that grew memory, two digits.
    pub growth_ratio: f64,
    /// Mean growth of a request, bytes.
    pub avg_growth_bytes: f64,
    /// Growth of all requests, MiB.
    pub total_growth_mb: f64,
}

/// Requests of one endpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Tally {
    requests: u64,
    grew: u64,
    bytes: f64,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.grew += other.grew;
        self.bytes += other.bytes;
    }
}

/// The leaky endpoints by the points of `request.memory.delta`; where there are none, by the spans. `None` when
/// neither was recorded.
pub fn leaky_endpoints(observations: &Observations) -> Option<Vec<Endpoint>> {
    let recorded = |tallies: &BTreeMap<String, Tally>| !tallies.is_empty();
    let by_histogram = Some(tallies_of_histograms(observations)).filter(recorded);
    by_histogram.or_else(|| Some(tallies_of_spans(observations)).filter(recorded)).map(judged)
}

fn judged(tallies: BTreeMap<String, Tally>) -> Vec<Endpoint> {
    let mut leaky: Vec<Endpoint> = Vec::new();
    for (endpoint, tally) in tallies.into_iter().filter(|(_, tally)| tally.requests >= REQUESTS_MIN) {
        let requests = tally.requests as f64;
        let growth_ratio = tally.grew as f64 / requests;
        if growth_ratio > GROWTH_RATIO_MIN {
            leaky.push(Endpoint {
                endpoint,
                growth_ratio: (growth_ratio * 100.0).round_ties_even() / 100.0,
                avg_growth_bytes: tally.bytes / requests,
                total_growth_mb: tally.bytes / MEBIBYTE,
            });
        }
    }
    leaky.sort_by(|a, b| b.total_growth_mb.total_cmp(&a.total_growth_mb));
    leaky
}

fn tallies_of_histograms(observations: &Observations) -> BTreeMap<String, Tally> {
    let symbols = &observations.symbols;
    let mut tallies: BTreeMap<String, Tally> = BTreeMap::new();
    let deltas = |series: &&DistributionSeries| series.metric.quantity == Quantity::RequestDelta;
    for series in observations.metrics.distributions.iter().filter(deltas) {
        let says = |key: &str| {
            let (_, value) = series.attributes.iter().find(|(known, _)| symbols.text(*known) == key)?;
            Some(symbols.text(*value))
        };
        let Some(route) = says("http.route") else { continue };
        let grew = says("memory.grew").map(|grew| grew.eq_ignore_ascii_case("true"));
        let tally = tallies.entry(route.to_owned()).or_default();
        for point in counted_once(&series.points) {
            tally.add(tally_of_point(point, grew));
        }
    }
    tallies
}

/// The points that together count every value once: of what counts on from its start, the last point before it
/// starts over.
fn counted_once(points: &[DistributionPoint]) -> Vec<&DistributionPoint> {
    let mut kept: Vec<&DistributionPoint> = points.iter().filter(|point| point.delta).collect();
    // By start: several processes may report as one.
    let mut by_start: BTreeMap<UnixNanos, Vec<&DistributionPoint>> = BTreeMap::new();
    for point in points.iter().filter(|point| !point.delta) {
        by_start.entry(point.start).or_default().push(point);
    }
    for mut counting in by_start.into_values() {
        counting.sort_by_key(|point| point.at);
        let restarts = counting.windows(2).filter(|pair| pair[1].count < pair[0].count).map(|pair| pair[0]);
        kept.extend(restarts.chain(counting.last().copied()));
    }
    kept
}

/// `grew` is what the series says of all of its values. Histograms hold no negative values, so SDKs that are fed
/// with one record its size, and only that attribute tells the sign.
fn tally_of_point(point: &DistributionPoint, grew: Option<bool>) -> Tally {
    let sum = point.sum.unwrap_or_default();
    let (positive, bytes) = match grew {
        Some(true) => (point.count, sum),
        Some(false) => (0, -sum.abs()),
        None if point.min.is_some_and(|min| min > 0.0) => (point.count, sum),
        None => (positive_in(&point.buckets), sum),
    };
    Tally { requests: point.count, grew: positive, bytes }
}

/// Values in buckets that hold nothing but growth.
fn positive_in(buckets: &[(f64, u64)]) -> u64 {
    let mut lower = f64::NEG_INFINITY;
    let mut positive = 0;
    for &(upper, count) in buckets {
        if lower >= 0.0 {
            positive += count;
        }
        lower = upper;
    }
    positive
}

fn tallies_of_spans(observations: &Observations) -> BTreeMap<String, Tally> {
    let symbols = &observations.symbols;
    let is_delta = |symbol: &Symbol| {
        let key = symbols.text(*symbol);
        key.strip_prefix("memory.").is_some_and(|rest| rest.ends_with(".delta_mb"))
    };
    let deltas: HashSet<Symbol> = (0..symbols.len() as u32).map(Symbol).filter(is_delta).collect();
    let mut tallies: BTreeMap<String, Tally> = BTreeMap::new();
    if deltas.is_empty() {
        return tallies;
    }
    let route = symbols.find("http.route");
    for span in &observations.traces.spans {
        let attributes = observations.traces.attributes(span);
        // Each phase is measured from the start of the request, so the last one is the request's.
        let last = attributes.iter().rev().find(|(key, _)| deltas.contains(key));
        let Some(megabytes) = last.and_then(|(_, value)| symbols.text(*value).parse::<f64>().ok()) else {
            continue;
        };
        let endpoint = route.and_then(|key| observations.traces.attribute(span, key)).unwrap_or(span.name);
        let tally = tallies.entry(symbols.text(endpoint).to_owned()).or_default();
        let grew = u64::from(megabytes > 0.0);
        tally.add(Tally { requests: 1, grew, bytes: megabytes * MEBIBYTE });
    }
    tallies
}

#[cfg(test)]
mod tests {
    use super::{Tally, counted_once, judged, positive_in, tally_of_point};
    use crate::observation::metric::DistributionPoint;
    use crate::time::UnixNanos;
    use std::collections::BTreeMap;

    fn point(at: i64, start: i64, count: u64, sum: f64) -> DistributionPoint {
        let (at, start) = (UnixNanos(at), UnixNanos(start));
        DistributionPoint {
            at,
            start,
            delta: false,
            count,
            sum: Some(sum),
            min: None,
            max: None,
            buckets: Vec::new(),
        }
    }

    #[test]
    fn an_endpoint_is_leaky_by_both_thresholds_and_ranked_by_total_growth() {
        let tally = |requests, grew, bytes| Tally { requests, grew, bytes };
        let tallies = BTreeMap::from([
            ("/few".to_owned(), tally(99, 99, 1e12)),
            ("/even".to_owned(), tally(100, 80, 1e12)),
            ("/small".to_owned(), tally(100, 81, 1_048_576.0)),
            ("/large".to_owned(), tally(300, 299, 3.0 * 1_048_576.0)),
        ]);
        let leaky = judged(tallies);
        let told: Vec<_> = leaky
            .iter()
            .map(|e| (e.endpoint.as_str(), e.growth_ratio, e.avg_growth_bytes, e.total_growth_mb))
            .collect();
        assert_eq!(told, [("/large", 1.0, 10_485.76, 3.0), ("/small", 0.81, 10_485.76, 1.0)]);
    }

    #[test]
    fn what_counts_on_is_counted_once_and_again_after_a_restart() {
        let points = [point(1, 0, 10, 0.0), point(2, 0, 25, 0.0), point(3, 0, 5, 0.0), point(9, 8, 7, 0.0)];
        let counts: u64 = counted_once(&points).iter().map(|point| point.count).sum();
        assert_eq!(counts, 25 + 5 + 7);
    }

    #[test]
    fn the_sign_of_a_delta_is_told_by_its_attribute_or_its_bucket() {
        let shrunk = tally_of_point(&point(1, 0, 4, 8.0), Some(false));
        assert_eq!(shrunk, Tally { requests: 4, grew: 0, bytes: -8.0 });
        assert_eq!(tally_of_point(&point(1, 0, 4, 8.0), Some(true)).grew, 4);
        assert_eq!(positive_in(&[(-5.0, 1), (0.0, 2), (5.0, 4), (f64::INFINITY, 8)]), 12);
    }
}
