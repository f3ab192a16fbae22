//! The data path of the AF_PACKET port allocates nothing.

#![cfg(feature = "testing")]

use bypass_core::backend::packet::PacketOptions;
use bypass_core::testing::allocations::{CountingAllocator, on_this_thread};
use bypass_core::testing::needs::{Need, skip};
use bypass_core::testing::rig::{Veth, VethOptions};
use bypass_core::{Buffer, Burst, Endpoint, Interest, PacketIo, PacketIoExt, Verdict};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

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
    let before = on_this_thread();
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
    assert_eq!(on_this_thread() - before, 0);
    assert!(a.stats().rx_packets >= 3200, "{:?}", a.stats());
    // The counter works.
    let before = on_this_thread();
    drop(std::hint::black_box(Box::new(1)));
    assert_eq!(on_this_thread() - before, 1);
}
