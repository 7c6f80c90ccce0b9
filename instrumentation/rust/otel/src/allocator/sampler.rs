//! What happens on the rare way: handing over, sampling, and writing blocks down.
//!
//! Sampling is a Poisson process over bytes: each byte is as likely as any other to be a sample's, so a block of `s` bytes
//! is sampled with probability `p = 1 − exp(−s / interval)` and then stands for `s / p` bytes. Sums of such weights are right
//! on average, whatever the sizes.
//!
//! Taking a stack costs some microseconds. So a program that allocates gigabytes a second is sampled at longer intervals, as long
//! as it does; each sample stands for the interval that it was drawn from.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::LARGE_BYTES;
use super::blocks::{self, Entry};
use super::thread::Thread;
use crate::context::{self, BACKGROUND, context};
use crate::{heap, operations};

/// Average bytes between two samples; 0 for no sampling.
static INTERVAL: AtomicU64 = AtomicU64::new(0);

/// How often the interval is doubled now.
static DOUBLED: AtomicU32 = AtomicU32::new(0);
const DOUBLED_MAX: u32 = 5;

/// Samples since [`pace`] last looked.
static TAKEN: AtomicU64 = AtomicU64::new(0);

/// Samples between two looks from which on the interval grows; 0 for no bound. With a quarter of it, it shrinks again.
static TAKEN_MAX: AtomicU64 = AtomicU64::new(0);

/// How often [`pace`] looks in a second.
const LOOKS_A_SECOND: u64 = 4;

/// Without sampling, a thread looks again after so many bytes.
const NEVER: i64 = 1 << 40;

/// Different seeds for different threads.
static SEED: AtomicU64 = AtomicU64::new(0x5851_f42d_4c95_7f2d);

/// Sets the average number of bytes between two samples, 0 for no sampling; and how many samples a second are too many, 0 for no
/// bound.
pub(crate) fn set_interval(bytes: u64, per_second_max: u64) {
    INTERVAL.store(bytes, Ordering::Relaxed);
    TAKEN_MAX.store(per_second_max.div_ceil(LOOKS_A_SECOND), Ordering::Relaxed);
}

/// As set by [`set_interval`].
pub(crate) fn interval() -> u64 {
    INTERVAL.load(Ordering::Relaxed)
}

/// Keeps the price of sampling within bounds; called four times a second.
pub(crate) fn pace() {
    let taken = TAKEN.swap(0, Ordering::Relaxed);
    let doubled = DOUBLED.load(Ordering::Relaxed);
    DOUBLED.store(paced(taken, TAKEN_MAX.load(Ordering::Relaxed), doubled), Ordering::Relaxed);
}

fn paced(taken: u64, taken_max: u64, doubled: u32) -> u32 {
    match taken {
        _ if taken_max == 0 => 0,
        _ if taken > taken_max => (doubled + 1).min(DOUBLED_MAX),
        _ if taken < taken_max / 4 => doubled.saturating_sub(1),
        _ => doubled,
    }
}

/// A block was allocated, and somebody must look.
#[cold]
#[inline(never)]
pub(super) fn after_alloc(thread: &Thread, address: usize, bytes: usize) {
    // A large block alone is no reason to hand over: nobody is promised a peak to less than that.
    let drawn_from = if thread.is_due() { hand_over(thread) } else { None };
    if drawn_from.is_none() && bytes < LARGE_BYTES {
        return;
    }
    let owner = thread.context();
    let operation = context(owner).operation(owner);
    let mut entry = Entry { owner, operation, stack: 0, weight: 0 };
    if let Some(interval) = drawn_from {
        // Whatever the unwinder allocates is counted, and not sampled.
        thread.busy.set(true);
        entry.weight = weight(bytes, interval);
        TAKEN.fetch_add(1, Ordering::Relaxed);
        entry.stack = heap::record(operation, entry.weight);
        thread.busy.set(false);
    }
    if !blocks::put(address, &entry) && entry.stack > 0 {
        heap::forget(entry.stack, entry.weight);
    }
}

/// Hands over what was counted. When a sample is due, draws the next one and tells the interval that this one was drawn from.
fn hand_over(thread: &Thread) -> Option<u64> {
    let had_a_date = thread.until_sample.get() > 0;
    thread.hand_over();
    let interval = interval() << DOUBLED.load(Ordering::Relaxed).min(DOUBLED_MAX);
    let drawn_from = thread.drawn_from.get();
    let due = had_a_date && thread.until_sample.get() <= 0;
    if thread.until_sample.get() <= 0 || (interval > 0 && thread.until_sample.get() > NEVER / 2) {
        thread.until_sample.set(next(thread, interval));
        thread.drawn_from.set(interval);
        thread.grant();
    }
    (due && drawn_from > 0 && !thread.busy.get()).then_some(drawn_from)
}

/// A block that was written down is freed; [`Thread::count_freed`] has booked it on the thread already.
#[cold]
#[inline(never)]
pub(super) fn after_free(thread: &Thread, bytes: usize, entry: &Entry) {
    if entry.stack > 0 {
        heap::forget(entry.stack, entry.weight);
    }
    let here = thread.context();
    if here == entry.owner {
        return;
    }
    if bytes >= LARGE_BYTES {
        thread.uncount_freed(bytes);
        if entry.owner == BACKGROUND {
            thread.count_for_background(0, bytes as i64);
        } else {
            context::credit_owner(entry.owner, entry.operation, bytes as u64);
        }
    } else if entry.weight > 0 {
        // One small block was sampled; it stands for all those that went the same way.
        let operation = context(here).operation(here);
        operations::moved(entry.operation, operation, entry.weight as i64);
    }
}

/// Bytes that a sampled block of this size stands for.
fn weight(bytes: usize, interval: u64) -> u64 {
    let bytes = bytes as f64;
    let probability = -(-bytes / interval as f64).exp_m1();
    if probability > 0.0 { (bytes / probability) as u64 } else { interval }
}

/// Bytes until the next sample: exponentially distributed.
fn next(thread: &Thread, interval: u64) -> i64 {
    if interval == 0 {
        return NEVER;
    }
    let mut random = thread.random.get();
    if random == 0 {
        random = SEED.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed) ^ std::process::id() as u64;
        random |= 1;
    }
    random ^= random << 13;
    random ^= random >> 7;
    random ^= random << 17;
    thread.random.set(random);
    // Between 0 and 1, neither of them.
    let uniform = ((random >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    ((-uniform.ln() * interval as f64) as i64).clamp(1, NEVER / 4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::allocator::thread::THREAD;

    #[test]
    fn samples_come_once_an_interval_on_average() {
        let (mut sum, draws) = (0.0, 20_000);
        THREAD.with(|thread| {
            for _ in 0..draws {
                sum += next(thread, 1000) as f64;
            }
        });
        let mean = sum / f64::from(draws);
        assert!((mean - 1000.0).abs() < 40.0, "{mean}");
    }

    #[test]
    fn many_samples_stretch_the_interval_and_few_bring_it_back() {
        let busy = (0..10).fold(0, |doubled, _| paced(65, 64, doubled));
        assert_eq!(busy, DOUBLED_MAX);
        assert_eq!(paced(32, 64, busy), busy, "half as many are as many as wanted");
        assert_eq!((0..10).fold(busy, |doubled, _| paced(0, 64, doubled)), 0);
        assert_eq!(paced(u64::MAX, 0, busy), 0, "without a bound");
    }

    #[test]
    fn small_blocks_stand_for_an_interval_and_huge_ones_for_themselves() {
        assert!((524_288..=524_330).contains(&weight(64, 524_288)), "{}", weight(64, 524_288));
        assert_eq!(weight(1 << 30, 524_288), 1 << 30);
    }
}
