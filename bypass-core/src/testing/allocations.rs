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

use crate::{Buffer, Burst, Interest, PacketIo, PacketIoExt, Verdict};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// How often the calling thread has asked for memory; other threads (the test harness, say) do not
/// count.
#[must_use]
pub fn on_this_thread() -> u64 {
    ALLOCATIONS.get()
}

/// Frames go from one port to the other and back, and nobody allocates: what is sent, received, waited for and
/// reflected is where it has been.
///
/// # Panics
///
/// When somebody does, and when the frames do not come.
pub fn none_per_packet(mut a: impl PacketIo, mut b: impl PacketIo) {
    const ROUNDS: u64 = 100;
    let (mut out, mut back) = (Burst::with_capacity(32), Burst::with_capacity(64));
    let mut sent = Burst::with_capacity(32);
    let before = on_this_thread();
    for _ in 0..ROUNDS {
        a.alloc(&mut sent, 32);
        for frame in sent.iter_mut() {
            frame.fill(&[0xff; 60]).expect("there is room for 60 bytes");
        }
        assert_eq!(a.send(&mut sent).expect("frames are sent"), 32);
        a.flush().expect("frames leave");
        b.wait(Interest::RX, None).expect("frames come");
        b.reflect(&mut back, |_| Verdict::Send).expect("frames are sent back");
        a.wait(Interest::RX, None).expect("frames come back");
        a.recv(&mut out).expect("frames are received");
        out.clear();
    }
    assert_eq!(on_this_thread() - before, 0, "allocations in {ROUNDS} rounds");
    // Of the last burst some may still be under way.
    let [a, b] = [a.stats(), b.stats()];
    assert!(a.rx_packets > 0 && b.rx_packets >= 32 * (ROUNDS - 2), "{a:?}, {b:?}");
    // The counter works.
    let before = on_this_thread();
    drop(std::hint::black_box(Box::new(1)));
    assert_eq!(on_this_thread() - before, 1, "the allocator of this program does not count");
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
