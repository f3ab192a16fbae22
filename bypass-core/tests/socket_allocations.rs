//! The data path of the UDP socket allocates nothing.

#![cfg(feature = "testing")]
#![allow(clippy::unwrap_used, reason = "helpers are part of the tests")]

use bypass_core::backend::socket::UdpOptions;
use bypass_core::testing::allocations::{CountingAllocator, on_this_thread};
use bypass_core::{Burst, Datagram, DatagramIo, DatagramIoExt, Endpoint, Interest};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

#[test]
fn sending_receiving_and_replying_allocate_nothing() {
    for (gro, coalesce) in [(false, false), (false, true), (true, true)] {
        let mut options = UdpOptions::new(([127, 0, 0, 1], 0).into());
        (options.gro, options.coalesce) = (gro, coalesce);
        let (mut client, mut server) = (options.open().unwrap(), options.open().unwrap());
        let to = server.local_addr();
        let (mut burst, mut back) = (Burst::with_capacity(64), Burst::with_capacity(64));
        let before = on_this_thread();
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
        assert_eq!(on_this_thread() - before, 0, "gro {gro}, coalesce {coalesce}");
        assert!(client.stats().rx_packets >= 3200);
    }
    // The counter works.
    let before = on_this_thread();
    drop(std::hint::black_box(Box::new(1)));
    assert_eq!(on_this_thread() - before, 1);
}
