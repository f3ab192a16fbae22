//! A global allocator that counts, so that "no allocation per packet" is a figure.
//!
//! ```
//! use bypass_core::testing::allocations::{CountingAllocator, on_this_thread};
//!
//! #[global_allocator]
//! static ALLOCATOR: CountingAllocator = CountingAllocator;
//!
//! # fn main() {
//! let before = on_this_thread();
//! drop(std::hint::black_box(Box::new(1)));
//! assert_eq!(on_this_thread() - before, 1);
//! # }
//! ```
//!
//! # What the unsafe code here relies on
//!
//! Every call is handed unchanged to the system's allocator; counting touches no memory that is
//! handed out.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// How often the calling thread has asked for memory; other threads (the test harness, say) do not
/// count.
#[must_use]
pub fn on_this_thread() -> u64 {
    ALLOCATIONS.get()
}

/// The system's allocator, which counts. Growing a block counts too.
#[derive(Clone, Copy, Debug)]
pub struct CountingAllocator;

// SAFETY: each method calls the method of `System` of the same name with the arguments that it
// got, so whatever holds for `System` holds here; `realloc` and `alloc_zeroed` come here through
// their default bodies, which call these two.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps the contract of `alloc`, and this is the same call.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller got `pointer` from this allocator with `layout`, so from `System`
        // with `layout`.
        unsafe { System.dealloc(pointer, layout) }
    }
}
