//! Memory metrics in the store's own form, which it thins out with age, and back.
//!
//! A series is named by a line of JSON: `{"metric","resource","start","attributes"}`. The resource is a reference; what it
//! stands for is the name of a series of its own, `{"resource","is"}`, with a row for each piece: so a resource is
//! written once a piece, and once a day when pieces have been joined and thinned.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

use exit137_core::time::UnixNanos;
use exit137_sources::SampleSeries;
use exit137_sources::receiver::split::is_identity;
use exit137_store::{Identity, Piece, SERIES_BYTES_MAX, Sample, read_samples};
use serde::{Deserialize, Serialize};

type Pairs = BTreeMap<String, String>;

/// What a series is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
enum Name {
    Values {
        metric: String,
        resource: String,
        #[serde(default, skip_serializing_if = "is_zero")]
        start: i64,
        #[serde(default, skip_serializing_if = "Pairs::is_empty")]
        attributes: Pairs,
    },
    Resource {
        resource: String,
        is: Pairs,
    },
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

impl Name {
    /// `None` when it is longer than the store takes.
    fn text(&self) -> Option<String> {
        serde_json::to_string(self).ok().filter(|text| text.len() <= SERIES_BYTES_MAX)
    }
}

fn of(pairs: &[(String, String)]) -> Pairs {
    pairs.iter().cloned().collect()
}

/// The name of a resource; of one that is too long, that of what identifies it.
fn resource(pairs: &[(String, String)]) -> Option<(String, String)> {
    let mut hasher = DefaultHasher::new();
    pairs.hash(&mut hasher);
    let reference = format!("{:016x}", hasher.finish());
    let name = |is| Name::Resource { resource: reference.clone(), is }.text();
    let identifying = || pairs.iter().filter(|(key, _)| is_identity(key.as_bytes())).cloned().collect();
    let text = name(of(pairs)).or_else(|| name(identifying()))?;
    Some((reference, text))
}

/// What is kept of these series; `None` when that is nothing.
pub(super) fn piece(container: Identity, all: &[SampleSeries]) -> Option<Piece> {
    let mut names: Vec<(String, &[(UnixNanos, f64)])> = Vec::new();
    let mut resources: BTreeMap<String, UnixNanos> = BTreeMap::new();
    for series in all {
        let (Some((reference, who)), Some((first, _))) = (resource(&series.resource), series.samples.first())
        else {
            continue;
        };
        let (metric, attributes) = (series.metric.clone(), of(&series.attributes));
        let name = Name::Values { metric, resource: reference, start: series.start.0, attributes };
        if let Some(name) = name.text() {
            names.push((name, &series.samples));
            resources.insert(who, *first);
        }
    }
    let mut samples: Vec<Sample<'_>> =
        resources.iter().map(|(who, at)| Sample { series: who, at: *at, value: 0.0 }).collect();
    for (series, values) in &names {
        samples.extend(values.iter().map(|(at, value)| Sample { series, at: *at, value: *value }));
    }
    (!names.is_empty()).then(|| Piece::of_samples(container, &samples))
}

/// A piece as an export of metrics, in protobuf. What is damaged is left out.
pub(super) fn export(piece: &[u8]) -> Vec<u8> {
    let mut rows: BTreeMap<&str, Vec<(UnixNanos, f64)>> = BTreeMap::new();
    read_samples(piece, &mut |sample| {
        rows.entry(sample.series).or_default().push((sample.at, sample.value));
    });
    let mut resources: HashMap<String, Vec<(String, String)>> = HashMap::new();
    let mut series = Vec::new();
    for (name, samples) in rows {
        match serde_json::from_str(name) {
            Ok(Name::Resource { resource, is }) => drop(resources.insert(resource, is.into_iter().collect())),
            Ok(Name::Values { metric, resource, start, attributes }) => {
                let attributes = attributes.into_iter().collect();
                let one = SampleSeries {
                    metric,
                    attributes,
                    start: UnixNanos(start),
                    samples,
                    ..SampleSeries::default()
                };
                series.push((resource, one));
            }
            Err(_) => {}
        }
    }
    series.sort_by(|a, b| a.0.cmp(&b.0));
    let series = series.into_iter().map(|(resource, one)| SampleSeries {
        resource: resources.get(&resource).cloned().unwrap_or_default(),
        ..one
    });
    exit137_sources::encode_samples(&series.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use exit137_sources::memory_samples;

    use super::*;

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn series(resource: &[(&str, &str)], metric: &str, start: i64, values: &[(i64, f64)]) -> SampleSeries {
        SampleSeries {
            resource: pairs(resource),
            metric: metric.to_owned(),
            attributes: pairs(&[("type", "rss")]),
            start: UnixNanos(start),
            samples: values.iter().map(|(at, value)| (UnixNanos(*at), *value)).collect(),
        }
    }

    #[test]
    fn series_come_back_with_their_resources() {
        let all = [
            series(
                &[("host.arch", "arm64"), ("service.name", "cart")],
                "process.memory.usage",
                5,
                &[(1000, 7.0), (2000, 8.5)],
            ),
            series(
                &[("host.arch", "arm64"), ("service.name", "cart")],
                "process.memory.usage",
                6,
                &[(3000, 1.0)],
            ),
            series(&[("service.name", "cart")], "jvm.memory.used", 0, &[(1000, 3.0)]),
        ];
        let piece = piece(Identity::of([("service.name", "cart")]), &all).expect("a piece");
        assert_eq!((piece.first, piece.last), (UnixNanos(1000), UnixNanos(3000)));
        let mut found = memory_samples(false, &export(&piece.bytes)).series;
        let mut all = all.to_vec();
        let key = |series: &SampleSeries| (series.metric.clone(), series.start);
        found.sort_by_key(key);
        all.sort_by_key(key);
        assert_eq!(found, all);
    }

    #[test]
    fn a_resource_that_is_too_long_keeps_what_identifies_it() {
        let long = "x".repeat(SERIES_BYTES_MAX);
        let all =
            [series(&[("comment", &long), ("service.name", "cart")], "jvm.memory.used", 0, &[(1000, 3.0)])];
        let piece = piece(Identity::of([("service.name", "cart")]), &all).expect("a piece");
        let found = memory_samples(false, &export(&piece.bytes)).series;
        assert_eq!(found[0].resource, pairs(&[("service.name", "cart")]));
    }

    #[test]
    fn rubbish_is_an_empty_export() {
        assert!(export(b"\xff\x01rubbish").is_empty());
        let other = Piece::of_samples(
            Identity::of([("a", "b")]),
            &[Sample { series: "{}", at: UnixNanos(1), value: 1.0 }],
        );
        assert!(export(&other.bytes).is_empty());
    }
}
