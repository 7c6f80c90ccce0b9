//! The kernel's own log, and one that is not allowed to be read. Others on this machine write to the log as well, so only what
//! concerns this test is looked at.

use std::io::Write;
use std::path::Path;

use super::{Heard, Kmsg, Position};
use crate::node::boot_id;
use crate::node::wall::KernelClock;

fn open(resume: Option<&Position>) -> Kmsg {
    let boot_id = boot_id(Path::new("/")).expect("a boot id");
    Kmsg::open(Path::new("/dev/kmsg"), &boot_id, resume)
        .expect("the kernel log can be read here: run as root")
}

fn drain(kmsg: &mut Kmsg) -> Vec<Heard> {
    let mut heard = Vec::new();
    // Everything is old enough to be complete.
    while kmsg.hear(i64::MAX, 10_000, &mut heard) {}
    heard
}

#[test]
fn what_was_heard_is_not_heard_again_in_the_same_boot() {
    let mut first = open(None);
    drain(&mut first);
    let position = first.position();
    assert!(position.next_sequence > 0);
    let mut again = open(Some(&position));
    for heard in drain(&mut again) {
        let Heard::Oom(report) = heard else { panic!("nothing is lost: {heard:?}") };
        assert!(report.sequence >= Some(position.next_sequence));
    }
    let other_boot = Position { boot_id: "another".into(), ..position };
    let mut anew = open(Some(&other_boot));
    drain(&mut anew);
    assert!(anew.position().next_sequence >= other_boot.next_sequence);
}

#[test]
fn records_that_are_gone_are_told() {
    let mut kmsg = open(None);
    drain(&mut kmsg);
    let next = kmsg.position().next_sequence;
    // As if we had seen everything up to a record that was overwritten since.
    kmsg.expected = Some(next.saturating_sub(1));
    let mut device = std::fs::OpenOptions::new().write(true).open("/dev/kmsg").expect("writable");
    device.write_all(b"exit137 tests its reading of this log\n").expect("written");
    let lost = drain(&mut kmsg).into_iter().find(|heard| matches!(heard, Heard::Lost { .. }));
    assert_eq!(lost, Some(Heard::Lost { records: 1, from_sequence: next - 1 }));
}

#[test]
fn nobody_can_forge_a_kill() {
    let mut kmsg = open(None);
    kmsg.skip_to_end().expect("the end");
    let mut device = std::fs::OpenOptions::new().write(true).open("/dev/kmsg").expect("writable");
    let forged = "Memory cgroup out of memory: Killed process 4194305 (exit137-forged) total-vm:1kB, anon-rss:1kB, \
                  file-rss:0kB, shmem-rss:0kB, UID:0 pgtables:1kB oom_score_adj:0\n";
    device.write_all(forged.as_bytes()).expect("written");
    let forged = drain(&mut kmsg).into_iter().any(|heard| match heard {
        Heard::Oom(report) => report.victims.iter().any(|victim| victim.pid == 4_194_305),
        Heard::Lost { .. } => false,
    });
    assert!(!forged);
}

#[test]
fn a_record_that_was_waited_for_dates_the_log() {
    let mut kmsg = open(None);
    kmsg.skip_to_end().expect("the end");
    let mut device = std::fs::OpenOptions::new().write(true).open("/dev/kmsg").expect("writable");
    device.write_all(b"exit137 tests its clock\n").expect("written");
    drain(&mut kmsg);
    let mut clock = KernelClock::default();
    clock.heard(kmsg.last_at());
    let wall = crate::node::cgroup::wall_now();
    let age = wall.since(clock.wall(kmsg.last_at()).at);
    assert!((0..1_000_000_000).contains(&age), "{age}");
}

#[test]
fn what_cannot_be_read_says_which_file() {
    let error = Kmsg::open(Path::new("/dev/no-such-log"), "boot", None).expect_err("there is none");
    assert_eq!(error.to_string(), "cannot read /dev/no-such-log");
}
