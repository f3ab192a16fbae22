//! A global allocator that counts, so that "no allocation per packet" is a figure.
//!
//! It also puts what has the size of a page or more at the beginning of a page, so that runtimes
//! that read into memory which they allocate themselves can read directly (`O_DIRECT`).
//!
//! Relies on: every call is handed to the system allocator, with a layout that depends on the
//! caller's layout alone. The count costs each side the same, and nothing where nothing is
//! allocated.

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

/// The layout that the system allocator is asked for: the same size, aligned to at least as much.
fn aligned(layout: Layout) -> Layout {
    if layout.size() < PAGE {
        return layout;
    }
    layout.align_to(PAGE).unwrap_or(layout)
}

const PAGE: usize = 4096;

// SAFETY: each method calls the method of `System` of the same name with the layout that `aligned`
// makes of the caller's, so the memory fits the caller's layout, and what is freed is freed with the
// layout that it was allocated with; counting touches no memory that is handed out. `realloc` is the
// trait's own, made of the others.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the size is not zero, as the caller promises, and `aligned` does not change it.
        unsafe { System.alloc(aligned(layout)) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller got `pointer` from this allocator with `layout`, so from `System` with
        // what `aligned` makes of `layout`.
        unsafe { System.dealloc(pointer, aligned(layout)) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the size is not zero, as the caller promises, and `aligned` does not change it.
        unsafe { System.alloc_zeroed(aligned(layout)) }
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
    fn pages_are_aligned_and_smaller_things_are_left_alone() {
        let mut growing = std::hint::black_box(vec![7_u8; 100]);
        for size in [4096, 5000, 100_000] {
            growing.resize(size, 7);
            growing.shrink_to_fit();
            assert_eq!(growing.as_ptr().addr() % PAGE, 0, "{size}");
        }
        growing.truncate(10);
        growing.shrink_to_fit();
        assert_eq!(growing, [7; 10]);
        let small = Layout::array::<u8>(4095).unwrap();
        assert_eq!(aligned(small), small);
        let coarse = Layout::from_size_align(8192, 8192).unwrap();
        assert_eq!(aligned(coarse), coarse);
    }

    #[test]
    fn a_thread_can_be_left_out() {
        // Other tests count at the same time, so what is looked at is this thread's decision.
        assert!(!EXEMPT.get());
        exempt_this_thread();
        assert!(EXEMPT.get());
    }
}
