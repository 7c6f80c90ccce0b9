//! The global allocator that counts for whom memory is allocated.
//!
//! Exact: bytes allocated, by the request that ran on the thread; and the owner of every block of
//! [`LARGE_BYTES`](crate::LARGE_BYTES) or more, whoever frees it. A smaller block is booked as freed by whoever frees it;
//! samples estimate how much that moves between operations. Bytes are those asked for, not what the allocator rounds
//! them up to.
//!
//! On the way of a small block lie a thread-local subtraction (allocating), a thread-local addition and one look at a
//! table of counters (freeing). Nothing here allocates, locks or panics.
#![allow(unsafe_code)]

pub(crate) mod blocks;
pub(crate) mod sampler;
pub(crate) mod thread;

use std::alloc::{GlobalAlloc, Layout, System};

use thread::THREAD;

/// Blocks of so many bytes or more have their owner written down, each of them.
pub const LARGE_BYTES: usize = 4096;

/// Counts what goes through another allocator. Bytes are attributed once [`init`](crate::init) was called; without it,
/// counting costs the same and tells nobody.
///
/// ```
/// #[global_allocator]
/// static ALLOCATOR: exit137_otel::Allocator = exit137_otel::Allocator::system();
/// ```
///
/// Over another allocator: `Allocator::over(mimalloc::MiMalloc)`, with the type `Allocator<mimalloc::MiMalloc>`.
#[derive(Debug, Default)]
pub struct Allocator<A = System> {
    inner: A,
}

impl Allocator<System> {
    /// Over the system's allocator.
    pub const fn system() -> Self {
        Self { inner: System }
    }
}

impl<A> Allocator<A> {
    /// Over any allocator.
    pub const fn over(inner: A) -> Self {
        Self { inner }
    }
}

// SAFETY: every call is passed to `inner` with the very pointer and layout it came with, and its answer is given back
// unchanged, so all that GlobalAlloc demands holds if it holds for `inner`. What is counted beside it uses the pointer as a
// number only, touches only static and const-initialised thread-local memory without destructors, does not allocate
// (the sampler marks its thread as busy while it takes a stack, and is not entered again), and does not unwind: it has no
// indexing, no arithmetic that panics and no user code.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Allocator<A> {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `alloc`, which is the contract of this.
        let block = unsafe { self.inner.alloc(layout) };
        allocated(block, layout.size());
        block
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        let block = unsafe { self.inner.alloc_zeroed(layout) };
        allocated(block, layout.size());
        block
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // Before the block is free: after that somebody else may get it, and write it down anew.
        freed(block, layout.size());
        // SAFETY: as above.
        unsafe { self.inner.dealloc(block, layout) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let written_down = blocks::take(block as usize);
        // SAFETY: as above.
        let new = unsafe { self.inner.realloc(block, layout, new_size) };
        if new.is_null() {
            // The old block stands.
            if let Some(entry) = written_down {
                blocks::put_back(block as usize, entry);
            }
            return new;
        }
        THREAD.with(|thread| {
            thread.count_freed(layout.size());
            if let Some(entry) = written_down {
                sampler::after_free(thread, layout.size(), &entry);
            }
        });
        allocated(new, new_size);
        new
    }
}

#[inline(always)]
fn allocated(block: *mut u8, bytes: usize) {
    if !block.is_null() {
        THREAD.with(|thread| {
            if thread.count_allocated(bytes) {
                sampler::after_alloc(thread, block as usize, bytes);
            }
        });
    }
}

#[inline(always)]
fn freed(block: *mut u8, bytes: usize) {
    THREAD.with(|thread| {
        thread.count_freed(bytes);
        if let Some(entry) = blocks::take(block as usize) {
            sampler::after_free(thread, bytes, &entry);
        }
    });
}
