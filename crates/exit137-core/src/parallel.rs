//! The same work on several parts of much data at once. The answer is that of one thread, in the same order.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// More threads than this wait for memory.
const THREADS_MAX: usize = 8;

/// `of` of each of `parts`, in order: by as many threads as there are cores where it is `worth` it. A thread that cannot be
/// had is done without.
pub(crate) fn map<T: Sync, R: Send>(parts: &[T], worth: bool, of: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let cores = thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX).min(parts.len());
    if !worth || cores < 2 {
        return parts.iter().map(of).collect();
    }
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, R)>> = Mutex::new(Vec::with_capacity(parts.len()));
    let work = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(part) = parts.get(index) else { break };
            let result = of(part);
            done.lock().unwrap_or_else(PoisonError::into_inner).push((index, result));
        }
    };
    thread::scope(|scope| {
        for _ in 1..cores {
            if thread::Builder::new().spawn_scoped(scope, work).is_err() {
                break;
            }
        }
        work();
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

/// Below this, a thread is not worth its start.
const PART: usize = 200_000;

/// Changes each of `all`, by as many threads as there are cores.
pub(crate) fn for_each<T: Send>(all: &mut [T], change: impl Fn(&mut T) + Sync) {
    let parts: Vec<Mutex<&mut [T]>> = all.chunks_mut(PART).map(Mutex::new).collect();
    map(&parts, parts.len() > 1, |part| {
        part.lock().unwrap_or_else(PoisonError::into_inner).iter_mut().for_each(&change);
    });
}

#[cfg(test)]
mod tests {
    use super::{PART, for_each, map};

    #[test]
    fn each_is_changed_once() {
        let mut numbers: Vec<usize> = (0..3 * PART + 5).collect();
        for_each(&mut numbers, |number| *number += 7);
        assert!(numbers.iter().enumerate().all(|(index, number)| *number == index + 7));
        for_each(&mut numbers[..0], |_| panic!("there is none"));
    }

    #[test]
    fn parts_come_back_in_order() {
        let parts: Vec<u64> = (0..1000).collect();
        let squares: Vec<u64> = parts.iter().map(|part| part * part).collect();
        assert_eq!(map(&parts, true, |part| part * part), squares);
        assert_eq!(map(&parts, false, |part| part * part), squares);
        assert!(map(&[] as &[u64], true, |part| *part).is_empty());
    }
}
