//! Frames for UDP in user space: Ethernet, IPv4 and IPv6, ARP, NDP, ICMP. What is answered is right, and every
//! frame is received, or is dropped under a name.

#![no_main]

use std::cell::RefCell;

use bypass_core::backend::memory::{LinkOptions, MemoryPort, link};
use bypass_core::udp::{Config, UdpOverL2};
use bypass_core::{Buffer as _, Burst, DatagramIo as _, Endpoint as _, MacAddr, PacketIo};
use libfuzzer_sys::fuzz_target;

struct Rig {
    peer: MemoryPort,
    socket: UdpOverL2<MemoryPort>,
}

thread_local! {
    static RIG: RefCell<Option<Rig>> = const { RefCell::new(None) };
}

fn rig() -> Rig {
    let (near, far) = link(&LinkOptions::default()).expect("a cable");
    let config = Config::new(MacAddr([2, 0, 0, 0, 0, 1]), 7)
        .address("10.0.0.1/24".parse().expect("an address"))
        .address("fd00::1/64".parse().expect("an address"))
        .echo(true);
    let socket = UdpOverL2::new(near.open().expect("a port"), config).expect("a socket");
    Rig { peer: far.open().expect("a port"), socket }
}

fuzz_target!(|frame: &[u8]| {
    RIG.with_borrow_mut(|place| {
        let Rig { peer, socket } = place.get_or_insert_with(rig);
        let mut frames = Burst::with_capacity(64);
        peer.alloc(&mut frames, 1);
        // What is too short or too long for the cable is nothing that could come.
        let filled = frames.last_mut().is_some_and(|buffer| buffer.fill(frame).is_ok());
        if !filled || peer.send(&mut frames).is_err() {
            return;
        }
        let mut received = Burst::with_capacity(64);
        socket.recv(&mut received).expect("a bad frame is no error");
        for datagram in received.iter_mut() {
            assert!(datagram.data().len() <= frame.len());
            bypass_core::Datagram::reply(datagram);
        }
        // Who has no station that is known waits for it, or is given up.
        socket.send(&mut received).expect("an answer can be sent");
        socket.flush().expect("what waits leaves");
        frames.clear();
        while peer.recv(&mut frames).expect("frames come back") > 0 {
            frames.clear();
        }
    });
});
