//! What both encodings must agree on, and what each must forgive.

mod differential;
mod tolerance;

use exit137_core::observation::{Observations, ResourceId};
use exit137_core::symbol::Symbol;

use super::sink::Sink;
use crate::location::Location;

pub(super) const AT: Location<'_> = Location { file: "telemetry.jsonl", line: 1 };

pub(super) fn from_json(document: &[u8]) -> Observations {
    let mut sink = Sink::default();
    // Where it broke, if it did, is a problem too.
    let _ = super::json::decode(document, AT, &mut sink);
    sink.observations
}

pub(super) fn from_proto(file: &[u8]) -> Observations {
    let mut sink = Sink::default();
    let mut reader = file;
    super::proto::decode(&mut reader, AT.file, &mut sink).expect("reading from memory");
    sink.observations
}

pub(super) fn problems(observations: &Observations) -> Vec<String> {
    let problems = observations.problems.list();
    problems.into_iter().map(|problem| format!("{}: {}", problem.source, problem.message)).collect()
}

fn pairs(observations: &Observations, pairs: &[(Symbol, Symbol)]) -> Vec<String> {
    let text = |symbol| observations.symbols.text(symbol);
    pairs.iter().map(|(key, value)| format!("{}={}", text(*key), text(*value))).collect()
}

fn resource(observations: &Observations, id: ResourceId) -> String {
    pairs(observations, &observations.resources[id.0 as usize].attributes).join(" ")
}

/// Everything that was kept, a line a record, in an order that does not depend on symbols.
pub(super) fn view(observations: &Observations) -> Vec<String> {
    let mut lines = Vec::new();
    for span in &observations.traces.spans {
        lines.push(format!(
            "span {:032x} {:016x} {:016x} {:?} {}..{} {:?} {:?} x{} [{}] {:?}",
            span.trace_id,
            span.span_id,
            span.parent_span_id,
            observations.symbols.text(span.name),
            span.start.0,
            span.end.0,
            span.kind,
            span.status,
            span.weight,
            resource(observations, span.resource),
            pairs(observations, observations.traces.attributes(span)),
        ));
    }
    for series in &observations.metrics.series {
        let mut attributes = pairs(observations, &series.attributes);
        attributes.sort();
        let resource = resource(observations, series.resource);
        lines.extend(series.points.iter().map(|point| {
            let (metric, start, at) = (series.metric, point.start.0, point.at.0);
            format!("point {metric:?} {attributes:?} {start}..{at} {:?} [{resource}]", point.value)
        }));
    }
    for series in &observations.metrics.distributions {
        let mut attributes = pairs(observations, &series.attributes);
        attributes.sort();
        let resource = resource(observations, series.resource);
        let metric = series.metric;
        lines.extend(
            series
                .points
                .iter()
                .map(|point| format!("distribution {metric:?} {attributes:?} {point:?} [{resource}]")),
        );
    }
    for log in &observations.logs {
        lines.push(format!(
            "log {} {:?} {:?} {:?} [{}]",
            log.at.0,
            log.event_name.map(|name| observations.symbols.text(name)),
            observations.symbols.text(log.body),
            pairs(observations, &log.attributes),
            resource(observations, log.resource),
        ));
    }
    lines.sort();
    lines
}
