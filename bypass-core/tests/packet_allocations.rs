//! The data path of the AF_PACKET port allocates nothing.

#![cfg(feature = "testing")]

use bypass_core::backend::packet::PacketOptions;
use bypass_core::testing::allocations::{CountingAllocator, none_per_packet};
use bypass_core::testing::needs::{Need, skip};
use bypass_core::testing::rig::{Veth, VethOptions};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

#[test]
fn sending_receiving_and_reflecting_allocate_nothing() {
    if skip(&[Need::Namespaces]) {
        return;
    }
    let veth = Veth::new(&VethOptions::default()).unwrap();
    let [a, b] = [&veth.a, &veth.b].map(|end| {
        let _inside = end.enter().unwrap();
        PacketOptions::new(Veth::NAME).open().unwrap()
    });
    none_per_packet(a, b);
}
