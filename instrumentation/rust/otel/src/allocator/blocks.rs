//! Which blocks are written down, and for whom: a table of fixed size, without locks, keyed by address.
//!
//! Nearly every block that is freed is not in it. One counter tells that: blocks share a counter with their neighbours in
//! memory, and counters of neighbours are neighbours, so one line of the cache tells of 16 KiB of heap. (Spread by a hash, they
//! cost a miss for nearly every block that was freed.)
//!
//! A block's entry is put by who got the block from the allocator and taken by who gives it back, so no two threads ever
//! work on one address at once; that the giver sees what the getter wrote follows from how the pointer came to it. The
//! table is advice: full or wrong, memory is as safe as without it.

use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};

use crate::context::ContextId;

/// Slots of a bucket.
const WAYS: usize = 4;
/// Buckets; a power of two. Miri looks at all of a table for each reference into it.
const BUCKETS: usize = if cfg!(miri) { 1 << 5 } else { 1 << 14 };
/// Counters; a power of two.
const COUNTERS: usize = if cfg!(miri) { 1 << 6 } else { 1 << 17 };
/// Neighbours within two to this many bytes share a counter.
const COUNTER_SHIFT: u32 = 8;
/// Neighbours within two to this many bytes share a bucket's neighbourhood.
const NEIGHBOURS_SHIFT: u32 = 9;
/// Buckets that are tried one after the other.
const PROBES: usize = 4;

/// What is known of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Who allocated it.
    pub owner: ContextId,
    /// Its operation.
    pub operation: u16,
    /// Index of its stack + 1; 0 when it was not sampled.
    pub stack: u16,
    /// Bytes that it stands for; 0 when it was not sampled.
    pub weight: u64,
}

/// One slot: the address, and what is known. 0 is free, 1 is being filled.
struct Slot {
    address: AtomicUsize,
    owner: AtomicU64,
    /// operation (16 bits), stack (16)
    what: AtomicU64,
    weight: AtomicU64,
}

const FREE: usize = 0;
const FILLING: usize = 1;

#[allow(clippy::declare_interior_mutable_const, reason = "only to fill the static")]
const SLOT: Slot = Slot {
    address: AtomicUsize::new(FREE),
    owner: AtomicU64::new(0),
    what: AtomicU64::new(0),
    weight: AtomicU64::new(0),
};

/// Zeros, so it lies in .bss: a page of it costs memory when it is first used.
static SLOTS: [[Slot; WAYS]; BUCKETS] = [const { [SLOT; WAYS] }; BUCKETS];
static COUNTS: [AtomicU8; COUNTERS] = [const { AtomicU8::new(0) }; COUNTERS];

fn hash(address: usize) -> u64 {
    ((address >> NEIGHBOURS_SHIFT) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[inline(always)]
fn counter(address: usize) -> &'static AtomicU8 {
    &COUNTS[(address >> COUNTER_SHIFT) % COUNTERS]
}

/// The buckets to try. Blocks that share a counter differ here by their lower bits.
fn buckets(address: usize) -> impl Iterator<Item = &'static [Slot; WAYS]> {
    let first = (hash(address) >> 40) as usize ^ (address >> 4);
    (0..PROBES).map(move |probe| &SLOTS[first.wrapping_add(probe) % BUCKETS])
}

/// Writes a block down. False when there is no room.
pub(crate) fn put(address: usize, entry: &Entry) -> bool {
    let counter = counter(address);
    // 255 stays: from then on this counter always says "look".
    let more = |count: u8| count.checked_add(1);
    let _ = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    for slot in buckets(address).flatten() {
        if slot.address.load(Ordering::Relaxed) != FREE {
            continue;
        }
        if slot.address.compare_exchange(FREE, FILLING, Ordering::Acquire, Ordering::Relaxed).is_ok() {
            slot.owner.store(entry.owner.to_bits(), Ordering::Relaxed);
            slot.what.store(u64::from(entry.operation) | u64::from(entry.stack) << 16, Ordering::Relaxed);
            slot.weight.store(entry.weight, Ordering::Relaxed);
            slot.address.store(address, Ordering::Release);
            return true;
        }
    }
    uncount(counter);
    false
}

fn uncount(counter: &AtomicU8) {
    // Once full, it is not known how many it stands for.
    let less = |count: u8| (count > 0 && count < u8::MAX).then(|| count - 1);
    let _ = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
}

/// False when nothing is known of a block, true when there may be something to [`take`].
#[inline(always)]
pub(crate) fn may_know(address: usize) -> bool {
    counter(address).load(Ordering::Relaxed) != 0
}

/// Takes what is known of a block.
pub(crate) fn take(address: usize) -> Option<Entry> {
    let slot = buckets(address).flatten().find(|slot| slot.address.load(Ordering::Acquire) == address)?;
    let what = slot.what.load(Ordering::Relaxed);
    let entry = Entry {
        owner: ContextId::from_bits(slot.owner.load(Ordering::Relaxed)),
        operation: what as u16,
        stack: (what >> 16) as u16,
        weight: slot.weight.load(Ordering::Relaxed),
    };
    slot.address.store(FREE, Ordering::Release);
    uncount(counter(address));
    Some(entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(weight: u64) -> Entry {
        Entry { owner: ContextId::from_bits(9 << 32 | 3), operation: 4, stack: 5, weight }
    }

    /// Addresses that no allocator gives out.
    const BASE: usize = 1 << 60;

    #[test]
    fn a_block_is_known_until_it_is_taken() {
        assert_eq!(take(BASE), None);
        assert!(put(BASE, &entry(1)));
        assert!(put(BASE + 16, &entry(2)));
        assert_eq!(take(BASE), Some(entry(1)));
        assert_eq!(take(BASE), None);
        assert_eq!(take(BASE + 16), Some(entry(2)));
        // Blocks of the tests beside this one may be counted with these, and are gone soon.
        let since = std::time::Instant::now();
        while counter(BASE).load(Ordering::Relaxed) != 0 {
            assert!(since.elapsed().as_secs() < 60, "the count comes back to nothing");
            std::thread::yield_now();
        }
    }

    #[test]
    fn threads_do_not_lose_each_others_blocks() {
        std::thread::scope(|scope| {
            for thread in 1..=4usize {
                scope.spawn(move || {
                    let rounds = if cfg!(miri) { 60 } else { 2000 };
                    for round in 0..rounds {
                        let at = (thread << 52) + round % 50 * 4096;
                        assert!(put(at, &entry(round as u64)));
                        assert_eq!(take(at), Some(entry(round as u64)));
                    }
                });
            }
        });
    }

    #[test]
    fn a_full_table_says_so() {
        let addresses: Vec<usize> = (0..WAYS * PROBES + 8).map(|n| (3 << 60) + n * (BUCKETS << 40)).collect();
        let put_down = addresses.iter().filter(|address| put(**address, &entry(1))).count();
        let taken = addresses.iter().filter(|address| take(**address).is_some()).count();
        assert_eq!(put_down, taken);
    }
}
