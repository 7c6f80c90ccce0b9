//! Each kill once, whoever tells it first. Times are seconds.

use std::time::Duration;

use exit137_core::kernel::{KernelLogReader, OomReport};
use exit137_core::time::{Moment, SECOND, UnixNanos};

use super::{ContainerBy, Kill, Ledger};

const BY_PATH: ContainerBy = ContainerBy::Report;

fn report(pid: u32, more: &str) -> OomReport {
    let line = format!(
        "3,{pid},1,-;Memory cgroup out of memory: Killed process {pid} (a) total-vm:8kB, anon-rss:4kB, file-rss:0kB, \
         shmem-rss:0kB, UID:0 pgtables:4kB oom_score_adj:0"
    );
    let mut reader = KernelLogReader::new("kmsg");
    for (number, line) in line.lines().chain(more.lines()).enumerate() {
        reader.line(line, number + 1);
    }
    reader.finish().remove(0).reports.remove(0)
}

fn at(seconds: f64) -> UnixNanos {
    UnixNanos((seconds * SECOND as f64) as i64)
}

fn moment(seconds: f64) -> Moment {
    Moment::new(at(seconds), 1_000_000)
}

fn clock(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// One word a kill: `pid@container/how`, `?@container` when only the counter tells it.
fn words(kills: impl IntoIterator<Item = Kill>) -> Vec<String> {
    let word = |kill| match kill {
        Kill::Reported { report, container, .. } => {
            let place = container.map_or("-".to_owned(), |(slot, by)| format!("{slot}/{}", by.name()));
            let pids: Vec<String> = report.victims.iter().map(|victim| victim.pid.to_string()).collect();
            format!("{}@{place}", pids.join("+"))
        }
        Kill::Counted { container, count, .. } => format!("?@{container}#{count}"),
    };
    kills.into_iter().map(word).collect()
}

fn ledger(slots: &[u64]) -> Ledger {
    let mut ledger = Ledger::new(false, true);
    for slot in slots {
        ledger.watch(*slot, 0);
    }
    ledger
}

#[test]
fn a_kill_with_a_cgroup_is_told_at_once_and_its_counter_is_no_second_kill() {
    for counter_first in [false, true] {
        let mut ledger = ledger(&[1]);
        let count = |ledger: &mut Ledger| ledger.counted(1, 1, at(9.0), at(10.1), clock(1.0));
        if counter_first {
            assert!(count(&mut ledger));
        }
        let told = ledger.reported(report(7, ""), moment(10.0), Some((1, BY_PATH)), clock(1.0));
        assert_eq!(words(told), ["7@1/report"]);
        if !counter_first {
            assert!(count(&mut ledger));
        }
        assert_eq!(words(ledger.settle(clock(60.0))), [""; 0]);
        assert_eq!(ledger.told(1), 1);
    }
}

#[test]
fn a_report_without_a_cgroup_belongs_to_the_counter_that_rose_then() {
    let mut ledger = ledger(&[1, 2]);
    ledger.counted(2, 1, at(1.0), at(2.0), clock(0.0));
    ledger.counted(1, 1, at(9.0), at(10.1), clock(1.0));
    assert_eq!(ledger.reported(report(7, ""), moment(10.0), None, clock(1.0)), None);
    assert_eq!(ledger.untold().collect::<Vec<_>>(), [7]);
    assert_eq!(words(ledger.settle(clock(1.5))), ["7@1/counter"]);
    assert_eq!(words(ledger.settle(clock(60.0))), ["?@2#1"]);
}

#[test]
fn of_several_counters_each_gets_its_number_of_kills() {
    let mut ledger = ledger(&[1, 2]);
    ledger.counted(1, 2, at(9.9), at(10.1), clock(1.0));
    ledger.counted(2, 1, at(9.9), at(10.1), clock(1.0));
    for pid in [7, 8, 9] {
        ledger.reported(report(pid, ""), moment(10.0), None, clock(1.0));
    }
    assert_eq!(words(ledger.settle(clock(1.5))), [""; 0]);
    // When the first one is used up, the second is alone.
    assert_eq!(
        words(ledger.settle(clock(3.0))),
        ["7@1/shared_counters", "8@1/shared_counters", "9@2/counter"]
    );
    assert_eq!((ledger.told(1), ledger.told(2), ledger.is_waiting()), (2, 1, false));
}

#[test]
fn what_no_counter_knows_is_told_without_a_container_unless_it_is_not_ours() {
    for only_watched in [false, true] {
        let mut ledger = Ledger::new(only_watched, true);
        ledger.watch(1, 0);
        ledger.reported(report(7, ""), moment(10.0), None, clock(1.0));
        assert_eq!(words(ledger.settle(clock(2.0))), [""; 0]);
        let expected: &[&str] = if only_watched { &[] } else { &["7@-"] };
        assert_eq!(words(ledger.settle(clock(6.0))), expected);
        assert!(!ledger.is_waiting());
    }
}

#[test]
fn a_group_is_one_kill_however_often_its_counter_rises() {
    const MORE: &str = "\
6,8,2,-;Tasks in /kubepods/x are going to be killed due to memory.oom.group set
3,9,3,-;Memory cgroup out of memory: Killed process 8 (b) total-vm:8kB, anon-rss:4kB, file-rss:0kB, shmem-rss:0kB, UID:0 pgtables:4kB oom_score_adj:0";
    let mut ledger = ledger(&[1]);
    ledger.counted(1, 2, at(9.0), at(10.0), clock(1.0));
    let told = ledger.reported(report(7, MORE), moment(10.0), Some((1, BY_PATH)), clock(1.0));
    assert_eq!(words(told), ["7+8@1/report"]);
    ledger.counted(1, 3, at(10.0), at(10.2), clock(1.1));
    assert_eq!(words(ledger.settle(clock(60.0))), [""; 0]);
    // A minute later it is another kill.
    ledger.counted(1, 4, at(70.0), at(71.0), clock(61.0));
    assert_eq!(words(ledger.settle(clock(90.0))), ["?@1#4"]);
}

#[test]
fn what_happened_while_nobody_looked_shows_against_the_counter_told_last() {
    let mut ledger = Ledger::new(false, true);
    ledger.watch(1, 5);
    ledger.counted(1, 7, at(1.0), at(100.0), clock(0.0));
    ledger.reported(report(7, ""), moment(50.0), None, clock(0.1));
    assert_eq!(words(ledger.settle(clock(10.0))), ["7@1/counter", "?@1#7"]);
    assert_eq!(ledger.told(1), 7);
}

#[test]
fn without_a_log_counters_are_not_made_to_wait() {
    let mut ledger = Ledger::new(false, false);
    ledger.watch(1, 0);
    ledger.counted(1, 2, at(1.0), at(2.0), clock(0.0));
    assert_eq!(words(ledger.settle(clock(0.0))), ["?@1#1", "?@1#2"]);
}

#[test]
fn the_past_of_a_container_says_where_old_reports_belong_and_is_told_by_nothing_else() {
    let mut ledger = ledger(&[1]);
    ledger.had_past(1, 2, at(100.0), clock(0.0));
    ledger.reported(report(7, ""), moment(50.0), None, clock(0.1));
    assert_eq!(words(ledger.settle(clock(10.0))), ["7@1/counter"]);
    assert_eq!((ledger.told(1), ledger.is_waiting()), (2, false));
}
