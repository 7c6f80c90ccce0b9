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
        // The common way ends in the call of `inner`, with nothing to come back to; so do those below.
        if count_allocated(layout.size()) {
            // SAFETY: the caller keeps the contract of `alloc`, which is the contract of this.
            return alloc_watched(layout.size(), || unsafe { self.inner.alloc(layout) });
        }
        // SAFETY: as above.
        unsafe { self.inner.alloc(layout) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if count_allocated(layout.size()) {
            // SAFETY: as above.
            return alloc_watched(layout.size(), || unsafe { self.inner.alloc_zeroed(layout) });
        }
        // SAFETY: as above.
        unsafe { self.inner.alloc_zeroed(layout) }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count_freed(layout.size());
        if blocks::may_know(block as usize) {
            // SAFETY: as above.
            return unsafe { self.free_known(block, layout) };
        }
        // SAFETY: as above.
        unsafe { self.inner.dealloc(block, layout) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count_freed(layout.size());
        if count_allocated(new_size) || blocks::may_know(block as usize) {
            // SAFETY: as above.
            return unsafe { self.realloc_known(block, layout, new_size) };
        }
        // SAFETY: as above.
        unsafe { self.inner.realloc(block, layout, new_size) }
    }
}

impl<A: GlobalAlloc> Allocator<A> {
    /// Frees a block that may be written down. It is taken out first: once free, somebody else may get it, and write it down anew.
    #[cold]
    #[inline(never)]
    unsafe fn free_known(&self, block: *mut u8, layout: Layout) {
        if let Some(entry) = blocks::take(block as usize) {
            THREAD.with(|thread| sampler::after_free(thread, layout.size(), &entry));
        }
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { self.inner.dealloc(block, layout) }
    }

    /// Both: the old block may be written down, and somebody may have to look at the new one.
    #[cold]
    #[inline(never)]
    unsafe fn realloc_known(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let entry = blocks::take(block as usize);
        // SAFETY: the caller keeps the contract of `realloc`.
        let new = unsafe { self.inner.realloc(block, layout, new_size) };
        THREAD.with(|thread| {
            if new.is_null() {
                // The old block stands.
                thread.uncount_freed(layout.size());
                thread.uncount_allocated(new_size);
                if let Some(entry) = entry {
                    blocks::put(block as usize, &entry);
                }
                return;
            }
            if let Some(entry) = entry {
                sampler::after_free(thread, layout.size(), &entry);
            }
            if thread.must_look(new_size) {
                sampler::after_alloc(thread, new as usize, new_size);
            }
        });
        new
    }
}

/// Counts before there is a block. A small one that the allocator then refuses stays counted: that is the end of the process.
#[inline(always)]
fn count_allocated(bytes: usize) -> bool {
    THREAD.with(|thread| thread.count_allocated(bytes))
}

#[inline(always)]
fn count_freed(bytes: usize) {
    THREAD.with(|thread| thread.count_freed(bytes));
}

/// An allocation after which somebody must look.
#[cold]
#[inline(never)]
fn alloc_watched(bytes: usize, alloc: impl FnOnce() -> *mut u8) -> *mut u8 {
    let block = alloc();
    THREAD.with(|thread| {
        if block.is_null() {
            thread.uncount_allocated(bytes);
        } else {
            sampler::after_alloc(thread, block as usize, bytes);
        }
    });
    block
}
