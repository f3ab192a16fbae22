//! Ports that several open, each for one of the queues.

#![allow(clippy::unwrap_used, reason = "helpers are part of the tests")]

mod common;

use std::sync::{Arc, Barrier};

use bypass_core::backend::packet::PacketOptions;
use bypass_core::backend::socket::Share;
use bypass_core::testing::needs::{Need, skip};
use bypass_core::testing::rig::{Veth, VethOptions};
use bypass_core::{Buffer, Burst, Endpoint, Error, PacketIo, Result};
use bypass_dpdk::{Port, QueuePair};
use common::*;

fn part(name: &str, index: u32, count: u32) -> Result<QueuePair> {
    eal();
    QueuePair::open_part(&PacketOptions::new(name), Share { index, count })
}

/// Sends packets with this byte, and sees them come back.
fn round(queue: &mut QueuePair, byte: u8) {
    let mut burst = Burst::with_capacity(8);
    assert_eq!(queue.alloc(&mut burst, 8), 8);
    burst.iter_mut().for_each(|packet| packet.fill(&[byte; 60]).unwrap());
    send_all(queue, &mut burst);
    assert_eq!(queue.recv(&mut burst).unwrap(), 8);
    assert!(burst.iter().all(|packet| packet.data() == [byte; 60]));
}

/// A queue of a `net_ring` brings back what it was given, so each part has its own; the port is closed
/// with the last one.
#[test]
fn each_part_has_a_queue_and_the_last_closes_the_port() {
    let _alone = alone();
    let name = format!("net_ring{}", number());
    let mut parts: Vec<_> = (0..3).map(|index| part(&name, index, 3).unwrap()).collect();
    let ids: Vec<_> = parts.iter_mut().map(|part| (part.rx().port(), part.rx().index())).collect();
    assert_eq!(ids, [(ids[0].0, 0), (ids[0].0, 1), (ids[0].0, 2)]);
    for (queue, byte) in parts.iter_mut().zip(1..) {
        round(queue, byte);
    }
    for (queue, other) in [(0, 1), (1, 2), (2, 0)] {
        let [one, other] = parts.get_disjoint_mut([queue, other]).unwrap();
        assert_ne!(one.pool().as_ptr(), other.pool().as_ptr(), "each has a pool of its own");
    }
    // In any order; a part that was dropped can be had again.
    drop(parts.remove(0));
    parts.push(part(&name, 0, 3).unwrap());
    while let Some(mut queue) = parts.pop() {
        round(&mut queue, 9);
    }
    let closed = Port::open(&eal(), &name).map(drop).unwrap_err();
    assert!(closed.to_string().contains("there is no port of this name"), "{closed}");
    // Another number of them, then.
    round(&mut part(&name, 1, 2).unwrap(), 7);
}

#[test]
fn what_cannot_be_shared_is_named() {
    let _alone = alone();
    let name = format!("net_ring{}", number());
    let refused = |outcome: Result<QueuePair>, word: &str| match outcome.map(drop) {
        Err(error @ Error::Config { .. }) if error.to_string().contains(word) => {}
        other => panic!("{word}: {other:?}"),
    };
    refused(part(&name, 2, 2), "2/2");
    refused(part(&name, 0, 17), "too few for all to get one: have fewer share");
    refused(part(&name, 0, 70_000), "has 16 queues");
    // Nothing of that is left in the way.
    let first = part(&name, 0, 2).unwrap();
    refused(part(&name, 0, 2), "it is in use");
    refused(part(&name, 0, 3), "is open in 2 parts");
    let other = PacketOptions { promiscuous: true, ..PacketOptions::new(&*name) };
    refused(QueuePair::open_part(&other, Share { index: 1, count: 2 }), "other settings");
    drop(first);
    round(&mut part(&name, 0, 1).unwrap(), 1);
    if skip(&[Need::Namespaces]) {
        return;
    }
    let veth = Veth::new(&VethOptions::default()).unwrap();
    let _inside = veth.a.enter().unwrap();
    refused(part("veth0", 0, 17), "net_af_packet has 16 queues at most");
    let name = format!("net_af_packet{},iface=veth0", number());
    refused(part(&name, 0, 2), "make it with `qpairs=2`, or have fewer share");
    part(&format!("{name},qpairs=2"), 0, 2).unwrap();
}

/// Whatever the workers' order, each finds the port or makes it; none meets one that is half closed.
#[test]
fn workers_come_and_go_at_once() {
    let _alone = alone();
    let name: Arc<str> = format!("net_ring{}", number()).into();
    let gate = Arc::new(Barrier::new(2));
    let workers = [0, 1].map(|index| {
        let (name, gate) = (Arc::clone(&name), Arc::clone(&gate));
        std::thread::spawn(move || {
            for turn in 0..200 {
                // By turns they begin together, and as it comes.
                if turn % 2 == 0 {
                    gate.wait();
                }
                round(&mut part(&name, index, 2).unwrap(), turn as u8);
            }
        })
    });
    for worker in workers {
        worker.join().unwrap();
    }
}

/// The kernel spreads an interface's flows over the parts: each flow comes to one, and not all to the same.
#[test]
fn flows_of_an_interface_are_spread() {
    if skip(&[Need::Namespaces]) {
        return;
    }
    let _alone = alone();
    let veth = Veth::new(&VethOptions::default()).unwrap();
    let mut parts = {
        let _inside = veth.a.enter().unwrap();
        [0, 1].map(|index| part("veth0", index, 2).unwrap())
    };
    // The kernel's complaints that nobody listens there come by, too.
    const UDP: u8 = 17;
    let is_ours = |frame: &[u8]| frame.ends_with(b"who is there?") && frame[23] == UDP;
    let mut of_flows = Vec::new();
    let mut burst = Burst::with_capacity(32);
    for _ in 0..64 {
        let socket = {
            let _inside = veth.b.enter().unwrap();
            std::net::UdpSocket::bind("10.66.0.2:0").unwrap()
        };
        let mut counts = [0; 2];
        for _ in 0..4 {
            socket.send_to(b"who is there?", "10.66.0.1:9").unwrap();
        }
        while counts.iter().sum::<usize>() < 4 {
            for (queue, count) in parts.iter_mut().zip(&mut counts) {
                queue.recv(&mut burst).unwrap();
                *count += burst.iter().filter(|frame| is_ours(frame.data())).count();
                burst.clear();
            }
        }
        assert!(counts.contains(&4), "a flow stays together: {counts:?}");
        of_flows.push(counts[0] == 4);
        if of_flows.contains(&true) && of_flows.contains(&false) {
            break;
        }
    }
    assert!(of_flows.contains(&true) && of_flows.contains(&false), "{of_flows:?}");
    assert!(parts.iter().all(|queue| queue.stats().rx_packets > 0));
}
