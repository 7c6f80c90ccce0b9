//! Which operation finished when: from spans, or from the server's own request metrics where there are no spans
//! or only a sample of them. Metrics count every request; spans tell more of each.

use std::collections::BTreeMap;

use crate::identity::ContainerIndex;
use crate::incident::Scene;
use crate::observation::metric::{DistributionPoint, DistributionSeries, Quantity};
use crate::time::UnixNanos;

/// Spans that are fewer than this share of the requests that metrics count are a sample.
const SAMPLED_SHARE: f64 = 0.6;
/// Finishes between two exports of a metric are spread evenly, in at most this many pieces.
const PIECES_MAX: u64 = 16;

/// Finished executions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Finish {
    /// When.
    pub at: UnixNanos,
    /// Index into the table of names.
    pub operation: u32,
    /// How many.
    pub weight: f64,
    /// Index of the span, when there is one.
    pub span: Option<u32>,
}

/// The finished executions of one container, by time.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// By time.
    pub finishes: Vec<Finish>,
    /// Where metrics tell, because the spans are a sample: seconds within which a call ended somewhere.
    pub rough: Option<f64>,
}

impl Tally {
    /// Counts what `container` finished. Names get the same index in every tally of one `names` table.
    pub(super) fn of(scene: &Scene<'_>, container: ContainerIndex, names: &mut Vec<String>) -> Self {
        let mut index: BTreeMap<String, u32> = names.iter().cloned().zip(0..).collect();
        let mut number = |name: &str| {
            let next = index.len() as u32;
            *index.entry(name.to_owned()).or_insert_with(|| {
                names.push(name.to_owned());
                next
            })
        };
        let calls = scene.work.calls_of(container);
        // Millions of calls have few names.
        let mut numbers: Vec<Option<u32>> = vec![None; scene.work.operations.len()];
        let by_spans: Vec<Finish> = calls
            .iter()
            .filter(|call| !call.failed)
            .map(|call| Finish {
                at: call.end,
                operation: *numbers[call.operation as usize]
                    .get_or_insert_with(|| number(&scene.work.operations[call.operation as usize])),
                weight: f64::from(call.weight),
                span: Some(call.span),
            })
            .collect();
        let (by_metrics, interval) = finishes_by_metrics(scene, container, &mut number);
        let total = |finishes: &[Finish]| finishes.iter().map(|finish| finish.weight).sum::<f64>();
        let sampled = total(&by_spans) < SAMPLED_SHARE * total(&by_metrics);
        let mut finishes = if sampled { by_metrics } else { by_spans };
        finishes.sort_by_key(|finish| (finish.at, finish.operation));
        Self { finishes, rough: sampled.then_some(interval) }
    }
}

/// Share of the requests that metrics count of which there are spans: less than 1 where traces are sampled and nothing
/// says so. `None` where metrics count nothing.
pub(super) fn traced_share(scene: &Scene<'_>, container: ContainerIndex) -> Option<f64> {
    let counted: f64 =
        finishes_by_metrics(scene, container, &mut |_| 0).0.iter().map(|finish| finish.weight).sum();
    let calls = scene.work.calls_of(container).iter().filter(|call| !call.failed);
    let traced: f64 = calls.map(|call| f64::from(call.weight)).sum();
    (counted > 0.0).then(|| (traced / counted).min(1.0))
}

/// The finishes, and the mean time in seconds between two exports of a count.
fn finishes_by_metrics(
    scene: &Scene<'_>,
    container: ContainerIndex,
    number: &mut dyn FnMut(&str) -> u32,
) -> (Vec<Finish>, f64) {
    let own = |series: &&DistributionSeries| {
        series.metric.quantity == Quantity::RequestsFinished
            && scene.cast.container_of_resource(series.resource) == Some(container)
    };
    let all: Vec<&DistributionSeries> = scene.observations.metrics.distributions.iter().filter(own).collect();
    // One value may arrive under an old and a new name: the lower rank is the newer.
    let rank = all.iter().map(|series| series.metric.rank).min();
    let mut finishes = Vec::new();
    let (mut seconds, mut exports) = (0.0, 0.0);
    for series in all.into_iter().filter(|series| Some(series.metric.rank) == rank) {
        let operation = number(&name_of(scene, series));
        let mut points: Vec<&DistributionPoint> = series.points.iter().collect();
        points.sort_by_key(|point| point.at);
        let mut before: Option<&DistributionPoint> = None;
        for point in points {
            // A later start is a new process, whose count begins at nothing.
            let continued = before
                .filter(|before| !point.delta && before.start == point.start && before.count <= point.count);
            let count = continued.map_or(point.count, |before| point.count - before.count);
            let known_start = (point.start.0 > 0).then_some(point.start);
            let from =
                if point.delta { known_start } else { continued.map(|before| before.at).or(known_start) };
            let from = from.unwrap_or(point.at);
            seconds += point.at.seconds_since(from).max(0.0);
            exports += 1.0;
            add_spread(&mut finishes, operation, count, from, point.at);
            before = Some(point);
        }
    }
    (finishes, seconds / f64::max(exports, 1.0))
}

fn add_spread(finishes: &mut Vec<Finish>, operation: u32, count: u64, from: UnixNanos, to: UnixNanos) {
    let pieces = count.min(PIECES_MAX);
    let width = to.since(from).max(0);
    for piece in 0..pieces {
        let at = from + (width as f64 * (piece as f64 + 0.5) / pieces as f64) as i64;
        finishes.push(Finish { at, operation, weight: count as f64 / pieces as f64, span: None });
    }
}

/// `METHOD route`, or the RPC method, as a span would be named.
fn name_of(scene: &Scene<'_>, series: &DistributionSeries) -> String {
    let symbols = &scene.observations.symbols;
    let attribute = |key: &str| {
        series.attributes.iter().find(|(k, _)| symbols.text(*k) == key).map(|(_, value)| symbols.text(*value))
    };
    let method = attribute("http.request.method").or_else(|| attribute("http.method"));
    let route =
        attribute("http.route").or_else(|| attribute("http.target")).or_else(|| attribute("rpc.method"));
    match (method, route) {
        (Some(method), Some(route)) => format!("{method} {route}"),
        (Some(one), None) | (None, Some(one)) => one.to_owned(),
        (None, None) => "unnamed request".to_owned(),
    }
}
