//! The record protocol and the free list under every interleaving, and every order in which relaxed stores may be seen.
//! `RUSTFLAGS="--cfg loom" cargo test -p exit137-journal --features writer --lib --release loom`
#![cfg(test)]

use loom::sync::Arc;
use loom::thread;

use crate::checksum;
use crate::record::{self, AtomicU64, Ordering};
use crate::writer::free_list::FreeList;

fn write(words: &[AtomicU64], before: u64, payload: [u64; 2]) -> u64 {
    let sequence = record::begin(words, before);
    for (at, word) in payload.iter().enumerate() {
        words[2 + at].store(*word, Ordering::Relaxed);
    }
    record::publish(words, sequence, checksum::of(sequence, payload));
    sequence
}

/// A copy as `read(2)` takes it: word by word, in no order that anybody promised. What passes must be a record that was
/// written whole.
#[test]
fn loom_a_mixture_never_passes() {
    loom::model(|| {
        let words: Arc<Vec<AtomicU64>> = Arc::new((0..4).map(|_| AtomicU64::new(0)).collect());
        let writer = Arc::clone(&words);
        let thread = thread::spawn(move || {
            let first = write(&writer, 0, [11, 12]);
            record::end(&writer, first);
            write(&writer, first, [21, 22]);
        });
        let payload = [words[2].load(Ordering::Relaxed), words[3].load(Ordering::Relaxed)];
        let sum = words[1].load(Ordering::Relaxed);
        let control = words[0].load(Ordering::Relaxed);
        if record::is_valid(control, sum, payload) {
            let (sequence, _) = record::split(control);
            let expected = if sequence == 1 { [11, 12] } else { [21, 22] };
            assert_eq!(payload, expected);
        }
        thread.join().unwrap();
    });
}

/// When the writer is done, everybody who knows that sees the record.
#[test]
fn loom_a_published_record_is_there() {
    loom::model(|| {
        let words: Arc<Vec<AtomicU64>> = Arc::new((0..4).map(|_| AtomicU64::new(0)).collect());
        let writer = Arc::clone(&words);
        let thread = thread::spawn(move || {
            write(&writer, 0, [11, 12]);
        });
        let control = words[0].load(Ordering::Acquire);
        if control == record::control(1, crate::layout::state::VALID) {
            let payload = [words[2].load(Ordering::Relaxed), words[3].load(Ordering::Relaxed)];
            assert!(record::is_valid(control, words[1].load(Ordering::Relaxed), payload));
        }
        thread.join().unwrap();
    });
}

#[test]
fn loom_no_slot_is_given_out_twice() {
    given_out_once(0);
}

/// Threads that prefer different stacks take from each other's.
#[test]
fn loom_no_slot_is_given_out_twice_by_two_stacks() {
    given_out_once(1);
}

fn given_out_once(other: usize) {
    loom::model(move || {
        let free = Arc::new(FreeList::new(2));
        let held: Arc<Vec<AtomicU64>> = Arc::new((0..2).map(|_| AtomicU64::new(0)).collect());
        let work = |preferred: usize, free: Arc<FreeList>, held: Arc<Vec<AtomicU64>>| {
            move || {
                for _ in 0..2 {
                    if let Some(number) = free.pop(preferred) {
                        assert_eq!(held[number as usize].swap(1, Ordering::Relaxed), 0, "twice");
                        held[number as usize].store(0, Ordering::Relaxed);
                        free.push(preferred, number);
                    }
                }
            }
        };
        let thread = thread::spawn(work(other, Arc::clone(&free), Arc::clone(&held)));
        work(0, Arc::clone(&free), Arc::clone(&held))();
        thread.join().unwrap();
        let mut all = [free.pop(0), free.pop(0), free.pop(0)];
        all.sort_unstable();
        assert_eq!(all, [None, Some(0), Some(1)]);
    });
}
