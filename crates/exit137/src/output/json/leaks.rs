//! JSON of `exit137 leaks`, schema `exit137.leaks/1`. The article's fields keep the article's names.

use exit137_core::baselines::{self, Method, article};
use serde::Serialize;

use super::wire::{Cause, Container, Leak, Operation};
use crate::output::leaks::{self, LeakReport};

const SCHEMA: &str = "exit137.leaks/1";

/// The report as a JSON document.
pub(in crate::output) fn render(report: &LeakReport) -> String {
    match report {
        LeakReport::Verdict(verdict) => super::document(&ByVerdict {
            schema: SCHEMA,
            method: "exit137",
            leaks: leaks::alive(verdict).into_iter().map(Leak::from).collect(),
            killed: leaks::killed(verdict)
                .map(|incident| Killed {
                    container: Container::from(&incident.container),
                    headline: &incident.headline,
                    kills: incident.kills.len(),
                    cause: Cause::from(incident),
                    operations: incident.operations.iter().map(Operation::from).collect(),
                })
                .collect(),
        }),
        LeakReport::Article(endpoints) => super::document(&ByArticle {
            schema: SCHEMA,
            method: "article",
            endpoints: endpoints.iter().flatten().map(Endpoint::from).collect(),
        }),
        LeakReport::Ranked(method, rankings) => super::document(&ByRank {
            schema: SCHEMA,
            method: method_name(*method),
            containers: rankings
                .iter()
                .map(|ranking| Ranking {
                    container: Container::from(&ranking.container),
                    kills: ranking.kills,
                    operations: ranking.operations.iter().map(|named| Named::of(*method, named)).collect(),
                })
                .collect(),
        }),
    }
}

/// As on the command line.
pub(in crate::output) fn method_name(method: Method) -> &'static str {
    match method {
        Method::Regression => "regression",
        Method::MostFrequent => "most-frequent",
        Method::MostInFlight => "most-in-flight",
    }
}

#[derive(Serialize)]
struct ByVerdict<'a> {
    schema: &'static str,
    method: &'static str,
    leaks: Vec<Leak<'a>>,
    killed: Vec<Killed<'a>>,
}

#[derive(Serialize)]
struct Killed<'a> {
    container: Container<'a>,
    headline: &'a str,
    kills: usize,
    cause: Cause,
    operations: Vec<Operation<'a>>,
}

#[derive(Serialize)]
struct ByArticle<'a> {
    schema: &'static str,
    method: &'static str,
    endpoints: Vec<Endpoint<'a>>,
}

#[derive(Serialize)]
struct Endpoint<'a> {
    endpoint: &'a str,
    growth_ratio: f64,
    avg_growth_bytes: f64,
    total_growth_mb: f64,
}

impl<'a> From<&'a article::Endpoint> for Endpoint<'a> {
    fn from(endpoint: &'a article::Endpoint) -> Self {
        Self {
            endpoint: &endpoint.endpoint,
            growth_ratio: endpoint.growth_ratio,
            avg_growth_bytes: endpoint.avg_growth_bytes,
            total_growth_mb: endpoint.total_growth_mb,
        }
    }
}

#[derive(Serialize)]
struct ByRank<'a> {
    schema: &'static str,
    method: &'static str,
    containers: Vec<Ranking<'a>>,
}

#[derive(Serialize)]
struct Ranking<'a> {
    container: Container<'a>,
    kills: usize,
    operations: Vec<Named<'a>>,
}

/// What a method ranks by, under a name that says its unit.
#[derive(Serialize)]
struct Named<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    growth_bytes: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    calls: Option<f64>,
}

impl<'a> Named<'a> {
    fn of(method: Method, named: &'a baselines::Named) -> Self {
        let score = Some(named.score.round());
        let (growth_bytes, calls) = if method == Method::Regression { (score, None) } else { (None, score) };
        Self { name: &named.name, growth_bytes, calls }
    }
}
