//! A file in memory. The only place of this crate that talks to the kernel and that needs `unsafe`.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;

use crate::record::AtomicU64;

#[cfg(target_os = "linux")]
pub(super) const CLOCK_ABOUT: libc::clockid_t = libc::CLOCK_REALTIME_COARSE;
#[cfg(not(target_os = "linux"))]
pub(super) const CLOCK_ABOUT: libc::clockid_t = libc::CLOCK_REALTIME;

/// Nanoseconds since 1970; 0 before that.
pub(super) fn unix_nanos(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for a timespec. With a clock that the kernel does not know it stays zero.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    (time.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec as u64)
}

/// A mapped file, and the lock that tells others that its writer lives.
#[derive(Debug)]
pub(super) struct Map {
    start: NonNull<AtomicU64>,
    bytes: usize,
    /// Holds the lock.
    _file: File,
}

// SAFETY: the map is reached only as atomics, through `words`; it belongs to no thread.
unsafe impl Send for Map {}
// SAFETY: as above.
unsafe impl Sync for Map {}

/// Whether the lock of this file is ours now. It is held until all copies of the descriptor are closed: the kernel does
/// that at SIGKILL.
pub(super) fn lock(file: &File) -> bool {
    // SAFETY: flock takes a descriptor, which `file` keeps open, and no memory.
    unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) == 0 }
}

/// Gives the file its blocks now: a store into a hole of a full disk would be a SIGBUS later.
fn allocate(file: &File, bytes: usize) -> io::Result<()> {
    file.set_len(bytes as u64)?;
    #[cfg(target_os = "linux")]
    {
        // SAFETY: posix_fallocate takes a descriptor, which `file` keeps open, and no memory.
        let error = unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, bytes as libc::off_t) };
        if error != 0 {
            return Err(io::Error::from_raw_os_error(error));
        }
    }
    Ok(())
}

impl Map {
    /// Maps `bytes` of `file`, which is new, with `head` at its start, all pages present.
    pub(super) fn new(file: File, bytes: usize, head: &[u8]) -> io::Result<Self> {
        let bytes = bytes.next_multiple_of(4096);
        allocate(&file, bytes)?;
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours. The descriptor is
        // open, and the length is not zero.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast::<AtomicU64>()).ok_or(io::ErrorKind::OutOfMemory)?;
        let map = Self { start, bytes, _file: file };
        for (at, chunk) in head.chunks_exact(8).take(bytes / 8).enumerate() {
            let mut word = [0; 8];
            word.copy_from_slice(chunk);
            map.words(at * 8, 1)[0].store(u64::from_le_bytes(word), std::sync::atomic::Ordering::Relaxed);
        }
        // Every page is written once now, while there is memory, and stays if we may ask for that: a journal that
        // needs memory when there is none would be part of the problem. Locking is refused over RLIMIT_MEMLOCK.
        for page in (head.len()..bytes).step_by(4096) {
            map.words(page, 1)[0].store(0, std::sync::atomic::Ordering::Relaxed);
        }
        // SAFETY: the range is the mapping made above; locking changes none of its contents.
        unsafe { libc::mlock(map.start.as_ptr().cast(), bytes) };
        Ok(map)
    }

    /// `count` words from byte `at` on.
    ///
    /// Panics when they lie outside the map: callers check their indices, so that never happens.
    pub(super) fn words(&self, at: usize, count: usize) -> &[AtomicU64] {
        assert!(at % 8 == 0 && at + count * 8 <= self.bytes);
        // SAFETY: inside the mapping, which is page-aligned and lives as long as `self`; words are aligned by the
        // assertion. Other processes may write the same pages, which is what atomics are for. A file that somebody
        // truncates ends this process by SIGBUS; it has no other name than ours, and is not ours to prevent.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().add(at / 8), count) }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: the range is the mapping made in `new`; no reference outlives `self`.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}
