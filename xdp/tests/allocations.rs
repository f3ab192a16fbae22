//! The data path allocates nothing.

#![allow(clippy::unwrap_used, reason = "helpers are part of the tests")]

mod common;

use bypass_core::testing::allocations::{CountingAllocator, on_this_thread};
use bypass_core::testing::rig::VethOptions;
use bypass_core::{Buffer, Burst, Endpoint, Interest, PacketIo, PacketIoExt, Verdict};
use common::*;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

#[test]
fn sending_receiving_and_reflecting_allocate_nothing() {
    in_both_modes(&VethOptions::default(), |rig, hook| {
        let (mut a, mut b) = rig.pair(hook, |_| {});
        let (mut out, mut back) = (Burst::with_capacity(32), Burst::with_capacity(64));
        let before = on_this_thread();
        for _ in 0..100 {
            a.alloc(&mut out, 32);
            for frame in out.iter_mut() {
                frame.fill(&[0xff; 60]).unwrap();
            }
            assert_eq!(a.send(&mut out).unwrap(), 32);
            a.flush().unwrap();
            b.wait(Interest::RX, None).unwrap();
            b.reflect(&mut back, |_| Verdict::Send).unwrap();
            a.wait(Interest::RX, None).unwrap();
            a.recv(&mut out).unwrap();
            out.clear();
        }
        assert_eq!(on_this_thread() - before, 0);
        assert!(a.stats().rx_packets > 0 && b.stats().rx_packets >= 3200 - 64, "{:?}", b.stats());
    });
}
