//! The data path of the UDP socket allocates nothing.

#![allow(unsafe_code, reason = "a global allocator that counts")]
#![allow(clippy::unwrap_used, reason = "helpers are part of the tests")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bypass_core::backend::socket::UdpOptions;
use bypass_core::{Burst, Datagram, DatagramIo, DatagramIoExt, Endpoint, Interest};

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
fn sending_receiving_and_replying_allocate_nothing() {
    for (gro, coalesce) in [(false, false), (false, true), (true, true)] {
        let mut options = UdpOptions::new(([127, 0, 0, 1], 0).into());
        (options.gro, options.coalesce) = (gro, coalesce);
        let (mut client, mut server) = (options.open().unwrap(), options.open().unwrap());
        let to = server.local_addr();
        let (mut burst, mut back) = (Burst::with_capacity(64), Burst::with_capacity(64));
        let before = ALLOCATIONS.get();
        for _ in 0..100 {
            while client.compose(&[7; 100], to, &mut burst).unwrap() && burst.len() < 32 {}
            client.send(&mut burst).unwrap();
            server.wait(Interest::RX, None).unwrap();
            server.recv(&mut back).unwrap();
            back.iter_mut().for_each(|datagram| datagram.reply());
            server.send(&mut back).unwrap();
            client.wait(Interest::RX, None).unwrap();
            client.recv(&mut burst).unwrap();
            burst.clear();
        }
        assert_eq!(ALLOCATIONS.get() - before, 0, "gro {gro}, coalesce {coalesce}");
        assert!(client.stats().rx_packets >= 3200);
    }
    // The counter works.
    let before = ALLOCATIONS.get();
    drop(std::hint::black_box(Box::new(1)));
    assert_eq!(ALLOCATIONS.get() - before, 1);
}
