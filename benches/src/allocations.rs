//! A global allocator that counts, so that "no allocation per packet" is a figure.
//!
//! Relies on: every call is handed unchanged to the system allocator, whose contract it keeps.
//! The count costs each side the same, and nothing where nothing is allocated.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// Whether this thread's allocations stay out of the count.
    static EXEMPT: Cell<bool> = const { Cell::new(false) };
}

/// How often the threads that count have asked for memory so far.
pub(crate) fn so_far() -> u64 {
    ALLOCATIONS.load(Relaxed)
}

/// Leaves this thread out of the count: it watches and does not work.
pub(crate) fn exempt_this_thread() {
    EXEMPT.set(true);
}

fn count() {
    // The cell has no destructor and needs no allocation, so it can be read at any time of a
    // thread's life.
    if !EXEMPT.get() {
        ALLOCATIONS.fetch_add(1, Relaxed);
    }
}

struct Counting;

#[global_allocator]
static GLOBAL: Counting = Counting;

// SAFETY: each method calls the method of `System` of the same name with the arguments that it got,
// so whatever holds for `System` holds here; counting touches no memory that is handed out.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc`, and this is the same call.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller got `pointer` from this allocator with `layout`, so from `System` with
        // `layout`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc_zeroed`, and this is the same call.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `realloc`; `pointer` came from `System` with
        // `layout`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allocation_is_counted() {
        let before = so_far();
        drop(std::hint::black_box(Box::new([0_u8; 100])));
        assert!(so_far() > before);
    }

    #[test]
    fn a_thread_can_be_left_out() {
        // Other tests count at the same time, so what is looked at is this thread's decision.
        assert!(!EXEMPT.get());
        exempt_this_thread();
        assert!(EXEMPT.get());
    }
}
