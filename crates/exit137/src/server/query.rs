//! Which incidents are asked for, in which order, and which page of them. The same words in the address of a page and
//! of the API, so that a list can be bookmarked.

use std::cmp::Ordering;

use exit137_core::time::UnixNanos;
use exit137_core::verdict::Cause;
use serde::Deserialize;

use super::incident::Summary;

/// Incidents of one page unless asked otherwise.
pub(crate) const LIMIT: usize = 50;

/// Incidents of one page at most.
const LIMIT_MAX: usize = 500;

/// More than there ever are.
const OFFSET_MAX: usize = 10_000_000;

/// What is asked for. Everything may be left out; an empty value is the same.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Query {
    /// Words that all occur in what the list shows, or in the headline.
    pub(crate) q: String,
    pub(crate) namespace: String,
    pub(crate) workload: String,
    pub(crate) container: String,
    pub(crate) cause: String,
    pub(crate) operation: String,
    /// Last kill at or after this time.
    pub(crate) since: String,
    /// First kill at or before this time.
    pub(crate) until: String,
    /// Least probability of the cause.
    pub(crate) certainty: String,
    /// `open`, `ended`, or both when empty.
    pub(crate) state: String,
    /// A column; `-` before it turns the order round.
    pub(crate) sort: String,
    /// How many to step over.
    pub(crate) offset: String,
    /// How many to give.
    pub(crate) limit: String,
}

/// A question that cannot be answered.
#[derive(Debug, thiserror::Error, PartialEq)]
pub(crate) enum QueryError {
    #[error("{name}: expected a time like 2026-11-22T08:53:29Z, found \"{value}\"")]
    Time { name: &'static str, value: String },
    #[error("{name}: expected a number from {low} to {high}, found \"{value}\"")]
    Number { name: &'static str, low: f64, high: f64, value: String },
    #[error("sort: expected one of {}, with or without - before it, found \"{value}\"", SORTS.join(", "))]
    Sort { value: String },
    #[error("state: expected open or ended, found \"{0}\"")]
    State(String),
    #[error("cause: expected one of {}, found \"{value}\"", Cause::ALL.map(Cause::name).join(", "))]
    Cause { value: String },
}

/// Columns to sort by.
pub(crate) const SORTS: &[&str] = &["last", "first", "kills", "certainty", "where", "cause", "operation"];

/// One page of what was asked for.
#[derive(Debug)]
pub(crate) struct Page<'a> {
    pub(crate) incidents: Vec<&'a Summary>,
    /// How many there are on all pages.
    pub(crate) total: usize,
    pub(crate) offset: usize,
    pub(crate) limit: usize,
}

/// The question, understood.
struct Wanted {
    words: Vec<String>,
    since: Option<UnixNanos>,
    until: Option<UnixNanos>,
    certainty: f64,
}

impl Query {
    /// Answers from `all`.
    pub(crate) fn answer<'a>(&self, all: impl Iterator<Item = &'a Summary>) -> Result<Page<'a>, QueryError> {
        let wanted = self.understand()?;
        let (sort, turned) = self.order()?;
        let number = |name, value: &str, (low, high): (usize, usize), default: usize| match value {
            "" => Ok(default),
            value => {
                value.parse::<usize>().ok().filter(|number| (low..=high).contains(number)).ok_or_else(|| {
                    QueryError::Number { name, low: low as f64, high: high as f64, value: value.to_owned() }
                })
            }
        };
        let offset = number("offset", &self.offset, (0, OFFSET_MAX), 0)?;
        let limit = number("limit", &self.limit, (1, LIMIT_MAX), LIMIT)?;
        let mut matching: Vec<&Summary> = all.filter(|summary| self.fits(summary, &wanted)).collect();
        matching.sort_by(|a, b| {
            let by_column = compare(sort, a, b);
            let by_column = if turned { by_column.reverse() } else { by_column };
            // Always a whole order, or pages would overlap.
            by_column.then_with(|| b.last_at.cmp(&a.last_at)).then_with(|| a.id.cmp(&b.id))
        });
        let total = matching.len();
        let incidents = matching.into_iter().skip(offset).take(limit).collect();
        Ok(Page { incidents, total, offset, limit })
    }

    fn understand(&self) -> Result<Wanted, QueryError> {
        let time = |name, value: &str| match value {
            "" => Ok(None),
            value => {
                moment(value).map(Some).ok_or_else(|| QueryError::Time { name, value: value.to_owned() })
            }
        };
        let certainty = match self.certainty.as_str() {
            "" => 0.0,
            value => value.parse::<f64>().ok().filter(|p| (0.0..=1.0).contains(p)).ok_or_else(|| {
                QueryError::Number { name: "certainty", low: 0.0, high: 1.0, value: value.to_owned() }
            })?,
        };
        if !matches!(self.state.as_str(), "" | "open" | "ended") {
            return Err(QueryError::State(self.state.clone()));
        }
        if !self.cause.is_empty() && !Cause::ALL.iter().any(|cause| cause.name() == self.cause) {
            return Err(QueryError::Cause { value: self.cause.clone() });
        }
        Ok(Wanted {
            words: self.q.split_whitespace().map(str::to_lowercase).collect(),
            since: time("since", &self.since)?,
            until: time("until", &self.until)?,
            certainty,
        })
    }

    fn order(&self) -> Result<(&'static str, bool), QueryError> {
        let asked = if self.sort.is_empty() { "-last" } else { self.sort.as_str() };
        let (column, turned) = asked.strip_prefix('-').map_or((asked, false), |column| (column, true));
        let known = SORTS.iter().find(|known| **known == column);
        known.map(|column| (*column, turned)).ok_or_else(|| QueryError::Sort { value: self.sort.clone() })
    }

    fn fits(&self, summary: &Summary, wanted: &Wanted) -> bool {
        let is = |asked: &str, found: Option<&str>| asked.is_empty() || found == Some(asked);
        is(&self.namespace, summary.namespace.as_deref())
            && is(&self.workload, summary.workload.as_deref())
            && is(&self.container, summary.container.as_deref())
            && is(&self.cause, Some(&summary.cause))
            && (self.operation.is_empty() || summary.operations.contains(&self.operation))
            && match self.state.as_str() {
                "open" => summary.ended_with.is_none(),
                "ended" => summary.ended_with.is_some(),
                _ => true,
            }
            && summary.probability >= wanted.certainty
            && wanted.since.is_none_or(|since| summary.last() >= since)
            && wanted.until.is_none_or(|until| summary.first() <= until)
            && wanted.words.iter().all(|word| mentions(summary, word))
    }
}

/// A time as somebody writes it. One beyond what a record can hold is before or after everything.
fn moment(text: &str) -> Option<UnixNanos> {
    let text = text.trim();
    let Ok(timestamp) = text.parse::<jiff::Timestamp>() else {
        // The last day of the year 9999 is written like a time, and is beyond those that can be counted with.
        let pieces = jiff::fmt::temporal::Pieces::parse(text).ok()?;
        return pieces.time().and(pieces.offset()).map(|_| UnixNanos(i64::MAX));
    };
    let nanos = timestamp.as_nanosecond().clamp(i128::from(i64::MIN), i128::from(i64::MAX));
    Some(UnixNanos(nanos as i64))
}

fn mentions(summary: &Summary, word: &str) -> bool {
    let texts = [Some(summary.title.as_str()), summary.pod.as_deref(), summary.version.as_deref()];
    let texts = texts.into_iter().flatten().chain([summary.headline.as_str(), summary.id.as_str()]);
    let mut texts = texts.chain(summary.operations.iter().map(String::as_str));
    texts.any(|text| text.to_lowercase().contains(word)) || summary.cause_title().contains(word)
}

fn compare(column: &str, a: &Summary, b: &Summary) -> Ordering {
    match column {
        "first" => a.first_at.cmp(&b.first_at),
        "kills" => a.kill_count.cmp(&b.kill_count),
        "certainty" => a.probability.total_cmp(&b.probability),
        "where" => a.title.cmp(&b.title),
        "cause" => a.cause.cmp(&b.cause),
        "operation" => a.operations.cmp(&b.operations),
        _ => a.last_at.cmp(&b.last_at),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::sample;

    fn all() -> Vec<Summary> {
        let verdict = sample::verdict();
        let of = |incident| Summary::of(incident, None, UnixNanos(0));
        verdict.incidents.iter().map(of).collect()
    }

    fn query(address: &str) -> Query {
        let uri: axum::http::Uri = format!("/?{address}").parse().expect("an address");
        axum::extract::Query::try_from_uri(&uri).expect("a query").0
    }

    #[track_caller]
    fn check(address: &str, expected: &[&str]) {
        let all = all();
        let query = query(address);
        let page = query.answer(all.iter()).expect("an answer");
        let found: Vec<&str> = page.incidents.iter().map(|summary| summary.title.as_str()).collect();
        assert_eq!(found, expected, "{address}");
    }

    #[test]
    fn a_list_is_narrowed_by_what_it_shows() {
        let both = ["shop/catalog-api", "fleet/exports"];
        check("", &both);
        check("namespace=shop", &both[..1]);
        check("q=EXPORTS&cause=", &both[1..]);
        check("q=catalog+nothing", &[]);
        check("cause=leak", &both[..1]);
        check("since=2026-11-22T08:50:00Z", &both[..1]);
        check("sort=where", &[both[1], both[0]]);
        check("sort=where&offset=1", &both[..1]);
        check("limit=1", &both[..1]);
        check("state=ended", &[]);
        check("since=0001-01-01T00:00:00Z&until=9999-12-31T23:59:59Z", &both);
    }

    #[test]
    fn what_cannot_be_answered_is_said() {
        for (address, expected) in [
            ("since=yesterday", "since: expected a time like 2026-11-22T08:53:29Z, found \"yesterday\""),
            ("since=2026-11-22", "since: expected a time like 2026-11-22T08:53:29Z, found \"2026-11-22\""),
            ("certainty=7", "certainty: expected a number from 0 to 1, found \"7\""),
            ("limit=9999", "limit: expected a number from 1 to 500, found \"9999\""),
            ("state=odd", "state: expected open or ended, found \"odd\""),
            (
                "cause=Leak",
                "cause: expected one of leak, operation_spike, concurrency_surge, undersized_limit, startup_peak, \
                 tmpfs_or_page_cache, child_process, node_pressure, unknown, found \"Leak\"",
            ),
        ] {
            let error = query(address).answer(all().iter()).expect_err(address).to_string();
            assert_eq!(error, expected);
        }
        let error = query("sort=-colour").answer(all().iter()).expect_err("no such column").to_string();
        assert!(error.starts_with("sort: expected one of last, first"), "{error}");
    }
}
