//! The stack passes the conformance suite over a memory link, whichever way stations are found.

#![cfg(feature = "testing")]

use std::time::Duration;

use bypass_core::backend::memory::{Faults, LinkOptions, MemoryPort, link};
use bypass_core::backend::packet::PacketOptions;
use bypass_core::testing::conformance;
use bypass_core::testing::needs::{Need, skip};
use bypass_core::testing::rig::{Namespace, Veth, VethOptions};
use bypass_core::udp::neighbours::{Learned, Lookup, Neighbours, Resolver, Table};
use bypass_core::udp::{Config, Limits, TxChecksums, UdpOverL2};
use bypass_core::{Burst, DatagramIo, Endpoint, MacAddr, PacketIo, Result};

const MAC: [MacAddr; 2] = Veth::MAC;

/// Both ends of a memory link, each with the address of its `nets` and as `refine` has it.
fn pair<N: Neighbours>(
    options: &LinkOptions,
    nets: [&str; 2],
    refine: impl Fn(Config) -> Config<N>,
) -> Result<(UdpOverL2<MemoryPort, N>, UdpOverL2<MemoryPort, N>)> {
    let (a, b) = link(options)?;
    bind([a.open()?, b.open()?], nets, refine)
}

fn bind<P: PacketIo, N: Neighbours>(
    [a, b]: [P; 2],
    nets: [&str; 2],
    refine: impl Fn(Config) -> Config<N>,
) -> Result<(UdpOverL2<P, N>, UdpOverL2<P, N>)> {
    let bind = |port, i: usize| {
        let net = nets[i].parse().expect("a network");
        UdpOverL2::new(port, refine(Config::new(MAC[i], 4000).address(net)))
    };
    let (mut a, mut b) = (bind(a, 0)?, bind(b, 1)?);
    acquaint(&mut a, &mut b);
    acquaint(&mut b, &mut a);
    Ok((a, b))
}

/// Has `a` find `b`: the suite sends without ever calling the sender again, so that an answer to a
/// question of the sender's would never be heard.
fn acquaint<P: PacketIo, N: Neighbours>(a: &mut UdpOverL2<P, N>, b: &mut UdpOverL2<P, N>) {
    let host = b.local_addr().ip();
    let mut none = Burst::with_capacity(1);
    while !matches!(a.neighbours_mut().lookup(host, Duration::ZERO), Lookup::Found(_)) {
        a.flush().expect("to ask");
        b.recv(&mut none).expect("to answer");
        a.recv(&mut none).expect("to hear the answer");
    }
}

const V4: [&str; 2] = ["10.0.0.1/24", "10.0.0.2/24"];
const V6: [&str; 2] = ["fd00::1/64", "fd00::2/64"];

#[test]
fn over_ipv4_asking_by_arp() {
    conformance::datagrams(|| pair(&LinkOptions::default(), V4, |config| config)).assert();
}

#[test]
fn over_ipv6_asking_by_ndp() {
    conformance::datagrams(|| pair(&LinkOptions::default(), V6, |config| config)).assert();
}

#[test]
fn in_a_vlan_without_checksums() {
    let refine = |config: Config| config.vlan(77).tx_checksums(TxChecksums::Omit);
    conformance::datagrams(|| pair(&LinkOptions::default(), V4, refine)).assert();
}

#[test]
fn with_a_static_table() {
    let table = Table::new().with([10, 0, 0, 1].into(), MAC[0]).with([10, 0, 0, 2].into(), MAC[1]);
    let refine = |config: Config| config.neighbours(table.clone());
    conformance::datagrams(|| pair(&LinkOptions::default(), V4, refine)).assert();
}

#[test]
fn learning_over_asking() {
    let refine = |config: Config| config.neighbours(Learned::over(Resolver::default()));
    conformance::datagrams(|| pair(&LinkOptions::default(), V6, refine)).assert();
}

#[test]
fn on_a_link_that_refuses_often_and_holds_little() {
    let faults = Faults { refusal: 0.3, seed: 7, ..Faults::default() };
    let options = LinkOptions { ring: 8, faults, ..LinkOptions::default() };
    // No more than the cable takes at once: the suite lets a sender settle without a receiver.
    let refine = |config: Config| config.limits(Limits { tx_queue: 4, ..Limits::default() });
    conformance::datagrams(|| pair(&options, V4, refine)).assert();
}

#[test]
fn on_a_real_interface() {
    if skip(&[Need::Namespaces]) {
        return;
    }
    let veth = Veth::new(&VethOptions::default()).expect("a veth pair");
    for side in [&veth.a, &veth.b] {
        side.ip(&format!("address flush dev {}", Veth::NAME)).expect("no kernel in between");
    }
    for nets in [V4, V6] {
        conformance::datagrams(|| {
            let open = |side: &Namespace| {
                let _inside = side.enter()?;
                PacketOptions::new(Veth::NAME).open()
            };
            bind([open(&veth.a)?, open(&veth.b)?], nets, |config| config)
        })
        .assert();
    }
}
