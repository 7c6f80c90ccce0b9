//! Spans, metrics and log records as protobuf. Field numbers are those of the protocol's own files.

use exit137_core::observation::ResourceId;
use exit137_core::observation::span::{SpanKind, SpanStatus};

use super::wire::{Field, Fields, Malformed, fixed64s, varints, zigzag};
use super::{Message, key_value, with_value};
use crate::otlp::sink::{
    BUCKETS_MAX, DELTA, DistributionDraft, LogDraft, MetricDraft, PointDraft, has_event_reason, weight,
};

/// Empty stands for "none"; other lengths than `N` are no ids.
fn id<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Malformed> {
    if bytes.is_empty() { Ok([0; N]) } else { bytes.try_into().map_err(|_| Malformed) }
}

impl Message<'_> {
    pub(super) fn span(&mut self, resource: ResourceId, message: &[u8]) -> Result<(), Malformed> {
        self.sink.begin_span();
        let mut fields = Fields::of(message);
        while let Some((number, field)) = fields.next()? {
            let span = &mut self.sink.span;
            match (number, field) {
                (1, Field::Bytes(bytes)) => span.trace_id = u128::from_be_bytes(id(bytes)?),
                (2, Field::Bytes(bytes)) => span.span_id = u64::from_be_bytes(id(bytes)?),
                (3, Field::Bytes(state)) => span.weight = weight(state).unwrap_or_default(),
                (4, Field::Bytes(bytes)) => span.parent_span_id = u64::from_be_bytes(id(bytes)?),
                (5, Field::Bytes(name)) => {
                    span.name = Some(self.sink.observations.symbols.intern_bytes(name));
                }
                (6, Field::Varint(kind)) => span.kind = SpanKind::from_number(kind),
                (7, Field::Fixed64(time)) => span.start = time,
                (8, Field::Fixed64(time)) => span.end = time,
                (9, Field::Bytes(pair)) => {
                    let (key, value) = key_value(pair)?;
                    if let Some(wanted) = self.sink.wants_span_attribute(key) {
                        with_value(value, |value| self.sink.span_attribute(wanted, value))?;
                    }
                }
                (11, Field::Bytes(event)) => self.event(event)?,
                (15, Field::Bytes(status)) => self.status(status)?,
                _ => {}
            }
        }
        self.sink.finish_span(resource).map_err(|_| Malformed)
    }

    fn status(&mut self, message: &[u8]) -> Result<(), Malformed> {
        let mut fields = Fields::of(message);
        while let Some((number, field)) = fields.next()? {
            if let (3, Field::Varint(code)) = (number, field) {
                self.sink.span.status = SpanStatus::from_number(code);
            }
        }
        Ok(())
    }

    fn event(&mut self, message: &[u8]) -> Result<(), Malformed> {
        let mut name: &[u8] = b"";
        let mut fields = Fields::of(message);
        while let Some((number, field)) = fields.next()? {
            if let (2, Field::Bytes(bytes)) = (number, field) {
                name = bytes;
            }
        }
        if name.is_empty() {
            return Ok(());
        }
        let before = self.sink.span_attributes_len();
        let mut fields = Fields::of(message);
        while let Some((number, field)) = fields.next()? {
            if let (3, Field::Bytes(pair)) = (number, field) {
                let (key, value) = key_value(pair)?;
                with_value(value, |value| self.sink.event_attribute(name, key, value))?;
            }
        }
        if self.sink.span_attributes_len() == before {
            self.sink.bare_event(name);
        }
        Ok(())
    }

    pub(super) fn metric(&mut self, resource: ResourceId, message: &[u8]) -> Result<(), Malformed> {
        let (mut name, mut unit, mut data) = (&b""[..], &b""[..], None);
        let mut fields = Fields::of(message);
        while let Some((number, field)) = fields.next()? {
            match (number, field) {
                (1, Field::Bytes(bytes)) => name = bytes,
                (3, Field::Bytes(bytes)) => unit = bytes,
                (5 | 7 | 9 | 10 | 11, Field::Bytes(bytes)) => data = Some((number, bytes)),
                _ => {}
            }
        }
        let (Some(mut metric), Some((shape, data))) = (MetricDraft::new(name, unit), data) else {
            return Ok(());
        };
        let mut fields = Fields::of(data);
        while let Some((number, field)) = fields.next()? {
            if let (2, Field::Varint(temporality)) = (number, field) {
                metric.delta = temporality == DELTA;
            }
        }
        let mut fields = Fields::of(data);
        while let Some((number, field)) = fields.next()? {
            let (1, Field::Bytes(point)) = (number, field) else {
                continue;
            };
            let result = match shape {
                5 | 7 => self.point(resource, &metric, point),
                9 => self.histogram(resource, &metric, point),
                10 => self.exponential(resource, &metric, point),
                _ => self.summary(resource, &metric, point),
            };
            if result.is_err() {
                self.problem("a data point");
            }
        }
        Ok(())
    }

    fn point(&mut self, resource: ResourceId, metric: &MetricDraft, message: &[u8]) -> Result<(), Malformed> {
        let mut point = PointDraft::default();
        let mut fields = Fields::of(message);
        while let Some((number, field)) = fields.next()? {
            match (number, field) {
                (4, Field::Fixed64(bits)) => point.value = Some(f64::from_bits(bits)),
                (6, Field::Fixed64(bits)) => point.value = Some(bits as i64 as f64),
                (7, Field::Bytes(pair)) => self.attribute(pair, &mut point.attributes)?,
                (8, Field::Varint(flags)) => point.flags = flags,
                _ => times(number, field, &mut point),
            }
        }
        self.sink.finish_point(resource, metric, &point).map_err(|_| Malformed)
    }

    fn histogram(
        &mut self,
        resource: ResourceId,
        metric: &MetricDraft,
        message: &[u8],
    ) -> Result<(), Malformed> {
        let mut draft = DistributionDraft::default();
        let mut bounds = Vec::new();
        let mut fields = Fields::of(message);
        while let Some((number, field)) = fields.next()? {
            match (number, field) {
                (9, Field::Bytes(pair)) => self.attribute(pair, &mut draft.point.attributes)?,
                (6, field) if metric.wants_buckets() => fixed64s(field, &mut draft.counts, BUCKETS_MAX)?,
                (7, field) if metric.wants_buckets() => fixed64s(field, &mut bounds, BUCKETS_MAX)?,
                (10, Field::Varint(flags)) => draft.point.flags = flags,
                (11, Field::Fixed64(bits)) => draft.min = Some(f64::from_bits(bits)),
                (12, Field::Fixed64(bits)) => draft.max = Some(f64::from_bits(bits)),
                _ => count_and_sum(number, field, &mut draft),
            }
        }
        draft.bounds = bounds.into_iter().map(f64::from_bits).collect();
        self.sink.finish_distribution(resource, metric, &draft).map_err(|_| Malformed)
    }

    fn exponential(
        &mut self,
        resource: ResourceId,
        metric: &MetricDraft,
        message: &[u8],
    ) -> Result<(), Malformed> {
        let mut draft = DistributionDraft::default();
        let exponential = draft.exponential.get_or_insert_default();
        let mut fields = Fields::of(message);
        while let Some((number, field)) = fields.next()? {
            match (number, field) {
                (6, Field::Varint(scale)) => exponential.scale = zigzag(scale),
                (7, Field::Fixed64(count)) => exponential.zero_count = count,
                (8, Field::Bytes(buckets)) => exponential.positive = exponential_buckets(buckets)?,
                (9, Field::Bytes(buckets)) => exponential.negative = exponential_buckets(buckets)?,
                (14, Field::Fixed64(bits)) => exponential.zero_threshold = f64::from_bits(bits),
                _ => {}
            }
        }
        let mut fields = Fields::of(message);
        while let Some((number, field)) = fields.next()? {
            match (number, field) {
                (1, Field::Bytes(pair)) => self.attribute(pair, &mut draft.point.attributes)?,
                (10, Field::Varint(flags)) => draft.point.flags = flags,
                (12, Field::Fixed64(bits)) => draft.min = Some(f64::from_bits(bits)),
                (13, Field::Fixed64(bits)) => draft.max = Some(f64::from_bits(bits)),
                _ => count_and_sum(number, field, &mut draft),
            }
        }
        self.sink.finish_distribution(resource, metric, &draft).map_err(|_| Malformed)
    }

    fn summary(
        &mut self,
        resource: ResourceId,
        metric: &MetricDraft,
        message: &[u8],
    ) -> Result<(), Malformed> {
        let mut draft = DistributionDraft::default();
        let mut fields = Fields::of(message);
        while let Some((number, field)) = fields.next()? {
            match (number, field) {
                (7, Field::Bytes(pair)) => self.attribute(pair, &mut draft.point.attributes)?,
                (8, Field::Varint(flags)) => draft.point.flags = flags,
                _ => count_and_sum(number, field, &mut draft),
            }
        }
        self.sink.finish_distribution(resource, metric, &draft).map_err(|_| Malformed)
    }

    pub(super) fn log(&mut self, resource: ResourceId, message: &[u8]) -> Result<(), Malformed> {
        let mut draft = LogDraft::default();
        let mut fields = Fields::of(message);
        while let Some((number, field)) = fields.next()? {
            match (number, field) {
                (1, Field::Fixed64(time)) => draft.time = time,
                (11, Field::Fixed64(time)) => draft.observed = time,
                (5, Field::Bytes(body)) => with_value(Some(body), |value| draft.set_body(value))?,
                (6, Field::Bytes(pair)) => draft.has_reason |= has_event_reason(key_value(pair)?.0),
                (12, Field::Bytes(name)) => draft.event_name = name.to_vec(),
                _ => {}
            }
        }
        if !draft.is_relevant() {
            return Ok(());
        }
        let mut fields = Fields::of(message);
        while let Some((number, field)) = fields.next()? {
            if let (6, Field::Bytes(pair)) = (number, field) {
                self.attribute(pair, &mut draft.attributes)?;
            }
        }
        self.sink.finish_log(resource, draft).map_err(|_| Malformed)
    }
}

/// Fields 2 and 3 of every data point.
fn times(number: u64, field: Field<'_>, point: &mut PointDraft) {
    match (number, field) {
        (2, Field::Fixed64(time)) => point.start = time,
        (3, Field::Fixed64(time)) => point.time = time,
        _ => {}
    }
}

/// Fields 4 and 5 of every distribution.
fn count_and_sum(number: u64, field: Field<'_>, draft: &mut DistributionDraft) {
    match (number, field) {
        (4, Field::Fixed64(count)) => draft.count = count,
        (5, Field::Fixed64(bits)) => draft.sum = Some(f64::from_bits(bits)),
        _ => times(number, field, &mut draft.point),
    }
}

fn exponential_buckets(message: &[u8]) -> Result<(i64, Vec<u64>), Malformed> {
    let mut buckets = (0, Vec::new());
    let mut fields = Fields::of(message);
    while let Some((number, field)) = fields.next()? {
        match (number, field) {
            (1, Field::Varint(offset)) => buckets.0 = zigzag(offset),
            (2, field) => varints(field, &mut buckets.1, BUCKETS_MAX)?,
            _ => {}
        }
    }
    Ok(buckets)
}
