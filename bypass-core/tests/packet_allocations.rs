//! The data path of the AF_PACKET port allocates nothing.

#![cfg(feature = "testing")]
#![allow(unsafe_code, reason = "a global allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bypass_core::backend::packet::PacketOptions;
use bypass_core::testing::needs::{Need, skip};
use bypass_core::testing::rig::{Veth, VethOptions};
use bypass_core::{Buffer, Burst, Endpoint, Interest, PacketIo, PacketIoExt, Verdict};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: everything is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `GlobalAlloc::dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn sending_receiving_and_reflecting_allocate_nothing() {
    if skip(&[Need::Namespaces]) {
        return;
    }
    let veth = Veth::new(&VethOptions::default()).unwrap();
    let mut a = {
        let _inside = veth.a.enter().unwrap();
        PacketOptions::new(Veth::NAME).open().unwrap()
    };
    let mut b = {
        let _inside = veth.b.enter().unwrap();
        PacketOptions::new(Veth::NAME).open().unwrap()
    };
    let (mut out, mut back) = (Burst::with_capacity(32), Burst::with_capacity(64));
    let before = ALLOCATIONS.get();
    for _ in 0..100 {
        a.alloc(&mut out, 32);
        for frame in out.iter_mut() {
            frame.fill(&[0xff; 60]).unwrap();
        }
        assert_eq!(a.send(&mut out).unwrap(), 32);
        b.wait(Interest::RX, None).unwrap();
        b.reflect(&mut back, |_| Verdict::Send).unwrap();
        a.wait(Interest::RX, None).unwrap();
        a.recv(&mut out).unwrap();
        out.clear();
    }
    assert_eq!(ALLOCATIONS.get() - before, 0);
    assert!(a.stats().rx_packets >= 3200, "{:?}", a.stats());
    // The counter works.
    let before = ALLOCATIONS.get();
    drop(std::hint::black_box(Box::new(1)));
    assert_eq!(ALLOCATIONS.get() - before, 1);
}
