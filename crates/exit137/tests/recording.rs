//! A real cluster sets traps; its recording says how many of each. What the numbers are is told by the API
//! objects and by the kernel's log, not by us.

mod support;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use exit137_core::verdict::{Kill, LimitHit, NotOom, NotOomReason, Verdict, Witness};
use support::case::Case;

static VERDICT: LazyLock<Verdict> = LazyLock::new(|| Case::named("kubernetes-1.36-recording").verdict());

/// Kills of pods whose name starts so, with the name of the container.
fn kills_of(pod: &str, container: &str) -> Vec<&'static Kill> {
    let incidents = VERDICT.incidents.iter();
    let of_container = incidents.filter(|incident| incident.container.name.as_deref() == Some(container));
    let kills = of_container.flat_map(|incident| &incident.kills);
    kills.filter(|kill| kill.pod.as_deref().is_some_and(|name| name.starts_with(pod))).collect()
}

fn seen_by(kills: &[&Kill], witness: Witness) -> usize {
    kills.iter().filter(|kill| kill.seen_by.contains(&witness)).count()
}

/// How often containers of pods whose name starts so ended for each reason that is no OOM kill.
fn other_ends(pod: &str) -> BTreeMap<(&'static str, &'static str), usize> {
    let mut ends = BTreeMap::new();
    let of_pod = |end: &&NotOom| end.container.pod.as_deref().is_some_and(|name| name.starts_with(pod));
    for end in VERDICT.not_oom.iter().filter(of_pod) {
        let container = end.container.name.as_deref().unwrap_or("?");
        *ends.entry((container, end.reason.name())).or_default() += 1;
    }
    ends
}

#[test]
fn every_kill_is_counted_once_where_it_happened() {
    // Pod, container, kills that the kernel tells, kills that the API shows too.
    let table = [
        ("checkout-cbb856d54-98x2s", "app", 5, 5),
        ("checkout-cbb856d54-blpbb", "app", 5, 5),
        ("checkout-78c8dd78d9", "app", 0, 0),
        ("checkout", "proxy", 0, 0),
        ("thumbnailer", "app", 12, 0),
        ("migrator", "migrate", 16, 16),
        ("catalog", "log-shipper", 15, 14),
        ("catalog", "app", 0, 0),
        ("nightly-report-9xffd", "report", 1, 1),
        ("nightly-report-rhbzt", "report", 1, 1),
        ("nightly-report-t9s7j", "report", 1, 1),
        ("stuck", "app", 0, 0),
        ("uploader", "app", 168, 5),
        ("steady", "app", 0, 0),
    ];
    for (pod, container, kernel, kubernetes) in table {
        let kills = kills_of(pod, container);
        let counts = (kills.len(), seen_by(&kills, Witness::Kernel), seen_by(&kills, Witness::Kubernetes));
        assert_eq!(counts, (kernel, kernel, kubernetes), "{pod}/{container}");
    }
}

#[test]
fn no_kill_is_lost_and_none_is_made_up() {
    let all: Vec<&Kill> = VERDICT.incidents.iter().flat_map(|incident| &incident.kills).collect();
    assert_eq!(all.len(), 247);
    assert_eq!(seen_by(&all, Witness::Kernel), 247);
    assert_eq!(seen_by(&all, Witness::Kubernetes), 48);
}

#[test]
fn kills_of_an_earlier_namespace_stay_with_containers_that_nobody_knows() {
    let unknown = VERDICT.incidents.iter().filter(|incident| incident.container.pod.is_none());
    let mut kills = 0;
    for incident in unknown {
        kills += incident.kills.len();
        assert_eq!(incident.container.namespace, None);
        assert_eq!(incident.container.name, None);
        assert_eq!(incident.container.workload, None);
        assert!(incident.container.container_id.is_some());
        assert!(incident.kills.iter().all(|kill| kill.pod.is_none() && kill.container_id.is_some()));
    }
    assert_eq!(kills, 23);
}

#[test]
fn the_cgroup_whose_limit_was_hit_is_told() {
    let table = [
        ("checkout-cbb856d54", "app", LimitHit::Container),
        ("thumbnailer", "app", LimitHit::Pod),
        ("nightly-report", "report", LimitHit::Pod),
        ("uploader", "app", LimitHit::Pod),
    ];
    for (pod, container, limit_hit) in table {
        for kill in kills_of(pod, container) {
            assert_eq!(kill.limit_hit, Some(limit_hit), "{pod}/{container} at {}", kill.at.at);
        }
    }
}

#[test]
fn children_die_and_the_container_lives_on() {
    let mut victims: BTreeMap<(&str, bool), usize> = BTreeMap::new();
    for kill in kills_of("uploader", "app") {
        let survived = kill.container_survived == Some(true);
        *victims.entry((kill.victim.comm.as_deref().unwrap_or("?"), survived)).or_default() += 1;
    }
    let expected = [(("dd", true), 163), (("runc:[2:INIT]", false), 4), (("sh", false), 1)];
    assert_eq!(victims, BTreeMap::from(expected));
    assert!(kills_of("thumbnailer", "app").iter().all(|kill| kill.container_survived == Some(true)));
    for (pod, container) in [("checkout", "app"), ("migrator", "migrate"), ("nightly-report", "report")] {
        let kills = kills_of(pod, container);
        assert!(kills.iter().all(|kill| kill.container_survived == Some(false)), "{pod}");
    }
}

#[test]
fn a_sigkill_that_was_no_oom_kill_is_called_what_it_was() {
    type Ends = &'static [((&'static str, &'static str), usize)];
    let table: [(&str, Ends); 9] = [
        ("checkout-cbb856d54", &[(("proxy", "grace_period"), 2)]),
        ("checkout-78c8dd78d9", &[(("app", "eviction"), 2), (("proxy", "eviction"), 2)]),
        // `OOMKilled` in the API, but no process was killed then.
        ("thumbnailer", &[(("app", "eviction"), 1)]),
        ("migrator", &[(("migrate", "eviction"), 1)]),
        ("catalog", &[(("app", "eviction"), 1), (("log-shipper", "eviction"), 1)]),
        ("nightly-report", &[]),
        ("stuck", &[(("app", "eviction"), 1), (("app", "probe"), 19)]),
        ("uploader", &[(("app", "eviction"), 1)]),
        ("steady", &[(("app", "eviction"), 1)]),
    ];
    for (pod, expected) in table {
        assert_eq!(other_ends(pod), expected.iter().copied().collect(), "{pod}");
    }
    assert!(VERDICT.not_oom.iter().all(|end| end.reason != NotOomReason::Unknown));
}

#[test]
fn everything_was_understood() {
    assert_eq!(VERDICT.problems, []);
    assert_eq!(VERDICT.guesses, Vec::<String>::new());
}

/// The recording says once a second what time it was on both clocks. The kernel stamps its log by a third, which
/// runs within a few milliseconds of the one that was recorded.
#[test]
fn every_kill_is_dated_to_within_fifty_milliseconds() {
    const ERROR_MAX: i64 = 50_000_000;
    let folder = Case::named("kubernetes-1.36-recording").folder;
    let text = |name: &str| {
        let file = std::fs::File::open(folder.join(name)).expect("a file of the recording");
        String::from_utf8(zstd::stream::decode_all(file).expect("zstd")).expect("text")
    };
    let (log, clock) = (text("kmsg.raw.zst"), text("clock.txt.zst"));
    let nanos = |seconds: &str| -> i64 {
        let (whole, decimals) = seconds.split_once('.').expect("decimals");
        let decimals: i64 = format!("{decimals:0<9}").parse().expect("a number");
        whole.parse::<i64>().expect("a number") * 1_000_000_000 + decimals
    };
    let pairs: Vec<(i64, i64)> = clock
        .lines()
        .filter_map(|line| line.split_once(' ').filter(|_| !line.starts_with('#')))
        .map(|(wall, since_boot)| (nanos(since_boot), nanos(wall)))
        .collect();
    let lines: Vec<&str> = log.lines().collect();
    let mut checked = 0;
    for kill in VERDICT.incidents.iter().flat_map(|incident| &incident.kills) {
        let record = kill.record.as_deref().expect("the kernel told every kill");
        let number: usize = record.rsplit_once(':').and_then(|(_, line)| line.parse().ok()).expect("a line");
        let line = lines[number - 1];
        assert!(line.contains("Killed process"), "{record}: {line}");
        let micros: i64 = line.split(',').nth(2).and_then(|field| field.parse().ok()).expect("microseconds");
        let since_boot = micros * 1000;
        let (then, wall) =
            pairs.iter().min_by_key(|(then, _)| (then - since_boot).abs()).copied().expect("a pair");
        let error = kill.at.at.0 - (wall + since_boot - then);
        assert!(error.abs() <= ERROR_MAX, "{record} is dated {error} ns off");
        assert!(
            kill.at.uncertainty <= ERROR_MAX,
            "{record} claims to be inexact by {} ns",
            kill.at.uncertainty
        );
        checked += 1;
    }
    assert_eq!(checked, 247);
}
