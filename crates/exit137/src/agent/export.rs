//! The metrics of an interval, as an OTLP request.

use std::path::Path;

use exit137_core::kernel::cgroup_path::container_of;
use exit137_core::time::UnixNanos;
use exit137_sources::node::cgroup::{Reading, wall_now};

use super::names::NameBook;
use super::otlp::{Attributes, Metric, Metrics, Shape};
use super::records::resource;
use super::watch::{Point, Watch, Watched};
use std::time::Duration;

/// A metric with one number a look.
type Look = (&'static str, fn(&Point) -> u64);

const LOOKS: [Look; 6] = [
    ("container.memory.usage", |point| point.usage),
    ("container.memory.working_set", |point| point.working_set),
    ("container.memory.rss", |point| point.anon),
    ("container.memory.file", |point| point.file),
    ("container.memory.shmem", |point| point.shmem),
    ("container.memory.kernel", |point| point.kernel),
];

/// The metrics since the last call; the points are taken.
pub(super) fn metrics(
    watch: &mut Watch,
    names: &mut NameBook,
    node: &str,
    proc: &Path,
    now: Duration,
) -> Vec<u8> {
    let mut request = Vec::new();
    for watched in watch.slots.values_mut().filter(|watched| !watched.points.is_empty()) {
        if watched.names.as_ref().is_none_or(|names| names.container.is_empty()) {
            watched.names = names.find(&watched.container.identity, now);
        }
        let of = resource(node, &watched.container.identity, watched.names.as_ref());
        container(watched).finish(&of, &mut request);
        watched.points.clear();
    }
    for (path, reading) in watch.pods() {
        let identity = container_of(&path);
        let of = resource(node, &identity, names.find(&identity, now).as_ref());
        pod(&reading).finish(&of, &mut request);
    }
    let of: Attributes = vec![("k8s.node.name", node.into())];
    self::node(proc).finish(&of, &mut request);
    request
}

fn container(watched: &Watched) -> Metrics {
    let mut metrics = Metrics::default();
    for (name, value) in LOOKS {
        let points = watched.points.iter().map(|point| (point.at, value(point)));
        metrics.add(Metric { name, unit: "By", shape: Shape::Gauge, points });
    }
    let reading = &watched.reading;
    let mut once = |name: &str, unit: &str, shape: Shape, value: Option<u64>| {
        let points = value.into_iter().map(|value| (reading.at, value));
        metrics.add(Metric { name, unit, shape, points });
    };
    let available = reading.limit.zip(reading.working_set()).map(|(limit, used)| limit.saturating_sub(used));
    once("container.memory.available", "By", Shape::Gauge, available);
    once("k8s.container.memory.limit.current", "By", Shape::Gauge, reading.limit);
    once("container.memory.usage.max", "By", Shape::Gauge, reading.peak);
    once("container.memory.swap", "By", Shape::Gauge, reading.swap.filter(|swap| *swap > 0));
    once("exit137.container.processes", "{process}", Shape::Gauge, Some(watched.processes));
    once("exit137.container.memory.limit_hits", "{hit}", Shape::Counter, reading.failcnt);
    once("exit137.container.oom_kills", "{process}", Shape::Counter, reading.oom_kill);
    once("exit137.container.memory.pressure.some", "us", Shape::Counter, reading.pressure_some_micros);
    once("exit137.container.memory.pressure.full", "us", Shape::Counter, reading.pressure_full_micros);
    metrics
}

fn pod(reading: &Reading) -> Metrics {
    let mut metrics = Metrics::default();
    let available = reading.limit.zip(reading.working_set()).map(|(limit, used)| limit.saturating_sub(used));
    let values = [
        ("k8s.pod.memory.usage", reading.usage),
        ("k8s.pod.memory.working_set", reading.working_set()),
        ("k8s.pod.memory.rss", reading.anon),
        ("k8s.pod.memory.available", available),
    ];
    for (name, value) in values {
        gauge(&mut metrics, name, reading.at, value);
    }
    metrics
}

/// As the kubelet counts: available is what can be had without swapping.
fn node(proc: &Path) -> Metrics {
    let text = std::fs::read_to_string(proc.join("meminfo")).unwrap_or_default();
    let bytes = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        line.trim().split(' ').next()?.parse::<u64>().ok()?.checked_mul(1024)
    };
    let at = wall_now();
    let mut metrics = Metrics::default();
    let used = |left: Option<u64>| Some(bytes("MemTotal")?.saturating_sub(left?));
    gauge(&mut metrics, "k8s.node.memory.available", at, bytes("MemAvailable"));
    gauge(&mut metrics, "k8s.node.memory.working_set", at, used(bytes("MemAvailable")));
    gauge(&mut metrics, "k8s.node.memory.usage", at, used(bytes("MemFree")));
    gauge(&mut metrics, "k8s.node.memory.rss", at, bytes("AnonPages"));
    metrics
}

fn gauge(metrics: &mut Metrics, name: &str, at: UnixNanos, value: Option<u64>) {
    let points = value.into_iter().map(|value| (at, value));
    metrics.add(Metric { name, unit: "By", shape: Shape::Gauge, points });
}
