//! The data path of the stack allocates nothing.

#![cfg(feature = "testing")]

use bypass_core::backend::memory::{LinkOptions, link};
use bypass_core::testing::allocations::{CountingAllocator, on_this_thread};
use bypass_core::udp::{Config, UdpOverL2};
use bypass_core::{Buffer, Burst, Datagram, DatagramIo, Endpoint, MacAddr};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

#[test]
fn sending_receiving_and_replying_allocate_nothing() {
    for nets in [["10.0.0.1/24", "10.0.0.2/24"], ["fd00::1/64", "fd00::2/64"]] {
        let (a, b) = link(&LinkOptions::default()).unwrap();
        let bind = |end: bypass_core::backend::memory::MemoryEnd, i: usize| {
            let mac = MacAddr([2, 0, 0, 0, 0, 1 + i as u8]);
            let config = Config::new(mac, 4000).address(nets[i].parse().unwrap());
            UdpOverL2::new(end.open().unwrap(), config).unwrap()
        };
        let (mut a, mut b) = (bind(a, 0), bind(b, 1));
        let peer = b.local_addr();
        let (mut out, mut back) = (Burst::with_capacity(32), Burst::with_capacity(32));
        let (mut rounds, mut echoes) = (0, 0);
        // The first rounds ask for the neighbour and fill the caches.
        let mut before = 0;
        while rounds < 110 {
            if rounds == 10 {
                before = on_this_thread();
                echoes = 0;
            }
            a.alloc(&mut out, 32);
            for datagram in out.iter_mut() {
                datagram.fill(&[7; 64]).unwrap();
                datagram.send_to(peer);
            }
            assert_eq!(a.send(&mut out).unwrap(), 32);
            a.flush().unwrap();
            b.recv(&mut back).unwrap();
            back.iter_mut().for_each(Datagram::reply);
            b.send(&mut back).unwrap();
            assert!(back.is_empty());
            b.flush().unwrap();
            a.recv(&mut back).unwrap();
            echoes += back.len();
            back.clear();
            rounds += 1;
        }
        assert_eq!(on_this_thread() - before, 0);
        assert!(echoes >= 3200, "{echoes}");
    }
}
