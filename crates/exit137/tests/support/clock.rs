//! Moves every clock of a recording by the same amount, and the times of a verdict back.

use exit137_core::kernel::{KernelLog, KernelTime};
use exit137_core::observation::Observations;
use exit137_core::observation::kubernetes::{Event, Pod};
use exit137_core::observation::metric::Quantity;
use exit137_core::time::{SECOND, UnixNanos};
use serde_json::Value;

/// Sets all clocks `by` nanoseconds ahead. What counts from boot stays; the boot moves.
pub(crate) fn shift(observations: &mut Observations, by: i64) {
    for span in &mut observations.traces.spans {
        move_by(by, [&mut span.start, &mut span.end]);
    }
    for series in &mut observations.metrics.series {
        for point in &mut series.points {
            move_by(by, [&mut point.at, &mut point.start]);
            if series.metric.quantity == Quantity::TerminatedAt {
                point.value += (by / SECOND) as f64;
            }
        }
    }
    for point in observations.metrics.distributions.iter_mut().flat_map(|series| &mut series.points) {
        move_by(by, [&mut point.at, &mut point.start]);
    }
    move_by(by, observations.logs.iter_mut().map(|record| &mut record.at));
    move_by(by, observations.cgroup_samples.iter_mut().map(|sample| &mut sample.at));
    let pairs = observations.boot_times.iter_mut().flat_map(|boot| &mut boot.pairs);
    move_by(by, pairs.map(|(_, wall)| wall));
    observations.kernel.iter_mut().for_each(|log| shift_kernel_log(log, by));
    let kubernetes = &mut observations.kubernetes;
    kubernetes.pods.values_mut().for_each(|pod| shift_pod(pod, by));
    kubernetes.events.values_mut().for_each(|event| shift_event(event, by));
    move_by(by, kubernetes.nodes.values_mut().flat_map(|node| &mut node.memory_pressure_at));
    move_by(by, kubernetes.workloads.values_mut().filter_map(|workload| workload.created_at.as_mut()));
}

/// A zero stands for "not known" and stays.
fn move_by<'a>(by: i64, times: impl IntoIterator<Item = &'a mut UnixNanos>) {
    for time in times.into_iter().filter(|time| time.0 != 0) {
        *time = *time + by;
    }
}

fn shift_kernel_log(log: &mut KernelLog, by: i64) {
    let shift = |time: &mut KernelTime| match time {
        KernelTime::Wall(moment) | KernelTime::Local { moment, .. } => moment.at = moment.at + by,
        KernelTime::SinceBoot(_) | KernelTime::Unknown => {}
    };
    for report in &mut log.reports {
        shift(&mut report.at);
        report.victims.iter_mut().for_each(|victim| shift(&mut victim.at));
    }
    if let Some((first, last)) = &mut log.span {
        shift(first);
        shift(last);
    }
}

fn shift_pod(pod: &mut Pod, by: i64) {
    move_by(by, [&mut pod.created_at, &mut pod.deletion_at, &mut pod.ready_at].into_iter().flatten());
    move_by(by, pod.disruptions.iter_mut().filter_map(|(_, _, at)| at.as_mut()));
    move_by(by, pod.running.iter_mut().map(|running| &mut running.started_at));
    for end in &mut pod.terminations {
        move_by(by, [&mut end.started_at, &mut end.finished_at].into_iter().flatten());
    }
}

fn shift_event(event: &mut Event, by: i64) {
    move_by(by, [&mut event.first_at, &mut event.last_at].into_iter().flatten());
    move_by(by, &mut event.times);
}

/// Sets every string of `document` that is a time `by` nanoseconds ahead.
pub(crate) fn shift_json(document: &mut Value, by: i64) {
    match document {
        Value::String(text) => {
            if let Some(at) = UnixNanos::parse_rfc3339(text) {
                *text = (at + by).to_string();
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| shift_json(item, by)),
        Value::Object(fields) => fields.values_mut().for_each(|field| shift_json(field, by)),
        _ => {}
    }
}
