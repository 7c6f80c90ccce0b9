//! Metrics as JSON.

use exit137_core::observation::ResourceId;

use super::Decoder;
use super::cursor::{Cursor, Fault, Text};
use super::value;
use crate::otlp::number;
use crate::otlp::sink::{BUCKETS_MAX, DELTA, DistributionDraft, Exponential, MetricDraft, PointDraft};

/// The shape of a metric's data.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Shape {
    Number,
    Distribution,
}

impl<'a> Decoder<'a, '_> {
    pub(super) fn metric(&mut self, resource: ResourceId) -> Result<(), Fault> {
        if !self.cursor.enter_object()? {
            return Ok(());
        }
        let mut name: Option<Text<'a>> = None;
        let mut unit: Option<Text<'a>> = None;
        let mut data: Option<(Shape, Cursor<'a>)> = None;
        while let Some(key) = self.cursor.key()? {
            match key {
                b"name" => {
                    let text = self.cursor.text()?;
                    // Most metrics have nothing to do with memory: they cost no more than their length.
                    if MetricDraft::new(&value::plain(&text), b"").is_none() {
                        return self.cursor.skip_rest_of_object();
                    }
                    name = Some(text);
                }
                b"unit" => unit = Some(self.cursor.text()?),
                b"gauge" | b"sum" => {
                    data = Some((Shape::Number, self.cursor));
                    self.cursor.skip()?;
                }
                b"histogram" | b"exponentialHistogram" | b"exponential_histogram" | b"summary" => {
                    data = Some((Shape::Distribution, self.cursor));
                    self.cursor.skip()?;
                }
                _ => self.cursor.skip()?,
            }
        }
        let unit = unit.map(|unit| value::plain(&unit)).unwrap_or_default();
        let draft = name.and_then(|name| MetricDraft::new(&value::plain(&name), &unit));
        let (Some(mut draft), Some((shape, cursor))) = (draft, data) else {
            return Ok(());
        };
        let end = std::mem::replace(&mut self.cursor, cursor);
        self.data(resource, &mut draft, shape)?;
        self.cursor = end;
        Ok(())
    }

    fn data(&mut self, resource: ResourceId, draft: &mut MetricDraft, shape: Shape) -> Result<(), Fault> {
        if !self.cursor.enter_object()? {
            return Ok(());
        }
        let mut points = None;
        while let Some(key) = self.cursor.key()? {
            match key {
                b"dataPoints" | b"data_points" => {
                    points = Some(self.cursor);
                    self.cursor.skip()?;
                }
                b"aggregationTemporality" | b"aggregation_temporality" => {
                    let temporality = self.enumeration(b"AGGREGATION_TEMPORALITY_", TEMPORALITIES)?;
                    draft.delta = temporality == DELTA;
                }
                _ => self.cursor.skip()?,
            }
        }
        let Some(cursor) = points else {
            return Ok(());
        };
        self.cursor = cursor;
        if !self.cursor.enter_array()? {
            return Ok(());
        }
        let mut point = PointDraft::default();
        while self.cursor.element()? {
            let start = self.cursor.at();
            let result = match shape {
                Shape::Number => self.point(resource, draft, &mut point),
                Shape::Distribution => self.distribution(resource, draft),
            };
            if let Err(fault) = result {
                // The text was stepped over once already, so it is whole.
                self.cursor.rewind(start);
                self.cursor.skip()?;
                self.problem(fault);
            }
        }
        Ok(())
    }

    fn point(
        &mut self,
        resource: ResourceId,
        metric: &MetricDraft,
        point: &mut PointDraft,
    ) -> Result<(), Fault> {
        let start = self.cursor.at();
        point.clear();
        if !self.cursor.enter_object()? {
            return Ok(());
        }
        while let Some(key) = self.cursor.key()? {
            match key {
                b"asInt" | b"as_int" | b"asDouble" | b"as_double" => point.value = self.number()?,
                _ => self.point_field(key, point)?,
            }
        }
        self.sink.finish_point(resource, metric, point).map_err(|expected| Fault { expected, at: start })
    }

    /// The fields that points of every shape have.
    fn point_field(&mut self, key: &[u8], point: &mut PointDraft) -> Result<(), Fault> {
        match key {
            b"timeUnixNano" | b"time_unix_nano" => point.time = self.whole()?,
            b"startTimeUnixNano" | b"start_time_unix_nano" => point.start = self.whole()?,
            b"flags" => point.flags = self.whole()?,
            b"attributes" => self.attributes(&mut point.attributes)?,
            _ => self.cursor.skip()?,
        }
        Ok(())
    }

    fn distribution(&mut self, resource: ResourceId, metric: &MetricDraft) -> Result<(), Fault> {
        let start = self.cursor.at();
        let mut draft = DistributionDraft::default();
        if !self.cursor.enter_object()? {
            return Ok(());
        }
        while let Some(key) = self.cursor.key()? {
            match key {
                b"count" => draft.count = self.whole()?,
                b"sum" => draft.sum = self.number()?,
                b"min" => draft.min = self.number()?,
                b"max" => draft.max = self.number()?,
                _ if !metric.wants_buckets() => self.point_field(key, &mut draft.point)?,
                b"bucketCounts" | b"bucket_counts" => draft.counts = self.list(number::unsigned)?,
                b"explicitBounds" | b"explicit_bounds" => draft.bounds = self.list(number::float)?,
                b"scale" => exponential(&mut draft).scale = self.signed()?,
                b"zeroCount" | b"zero_count" => exponential(&mut draft).zero_count = self.whole()?,
                b"zeroThreshold" | b"zero_threshold" => {
                    exponential(&mut draft).zero_threshold = self.number()?.unwrap_or_default();
                }
                b"positive" => exponential(&mut draft).positive = self.exponential_buckets()?,
                b"negative" => exponential(&mut draft).negative = self.exponential_buckets()?,
                _ => self.point_field(key, &mut draft.point)?,
            }
        }
        self.sink
            .finish_distribution(resource, metric, &draft)
            .map_err(|expected| Fault { expected, at: start })
    }

    fn exponential_buckets(&mut self) -> Result<(i64, Vec<u64>), Fault> {
        let mut buckets = (0, Vec::new());
        if !self.cursor.enter_object()? {
            return Ok(buckets);
        }
        while let Some(key) = self.cursor.key()? {
            match key {
                b"offset" => buckets.0 = self.signed()?,
                b"bucketCounts" | b"bucket_counts" => buckets.1 = self.list(number::unsigned)?,
                _ => self.cursor.skip()?,
            }
        }
        Ok(buckets)
    }

    fn list<T>(&mut self, read: fn(&[u8]) -> Option<T>) -> Result<Vec<T>, Fault> {
        let mut list = Vec::new();
        if !self.cursor.enter_array()? {
            return Ok(list);
        }
        while self.cursor.element()? {
            let at = self.cursor.at();
            let value = read(self.cursor.number_text()?).ok_or(Fault { expected: "a number", at })?;
            if list.len() == BUCKETS_MAX {
                return Err(Fault { expected: "at most 1024 buckets", at });
            }
            list.push(value);
        }
        Ok(list)
    }

    fn number(&mut self) -> Result<Option<f64>, Fault> {
        let at = self.cursor.at();
        let digits = self.cursor.number_text()?;
        if digits.is_empty() {
            return Ok(None);
        }
        number::float(digits).map(Some).ok_or(Fault { expected: "a number", at })
    }

    fn signed(&mut self) -> Result<i64, Fault> {
        let at = self.cursor.at();
        let digits = self.cursor.number_text()?;
        if digits.is_empty() {
            return Ok(0);
        }
        number::signed(digits).ok_or(Fault { expected: "a whole number", at })
    }
}

fn exponential(draft: &mut DistributionDraft) -> &mut Exponential {
    draft.exponential.get_or_insert_default()
}

const TEMPORALITIES: &[&[u8]] = &[b"UNSPECIFIED", b"DELTA", b"CUMULATIVE"];
