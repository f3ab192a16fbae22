//! `UdpOverL2` over AF_XDP answers the kernel's own sockets, and ping, in the peer's namespace.

#![allow(clippy::unwrap_used, reason = "helpers are part of the tests")]

mod common;

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use bypass_core::testing::needs::{Need, skip};
use bypass_core::testing::rig::{Veth, VethOptions};
use bypass_core::udp::neighbours::Resolver;
use bypass_core::udp::{Config, UdpOverL2};
use bypass_core::{Burst, Datagram, DatagramIo, DropCause, Endpoint, Interest, Stats, TxOffloads};
use bypass_xdp::{CopyMode, Hook, Want, XdpError, XdpOptions, XdpPort};
use common::*;

const PORT: u16 = 4000;

/// Side b is the stack's alone; side a fills in its checksums, which a veth pair would leave out.
fn prepare(rig: &Rig) {
    let veth = &rig.veth;
    veth.a.run("ethtool", "-K veth0 tx off").unwrap();
    veth.b.sysctl("net.ipv6.conf.veth0.disable_ipv6", "1").unwrap();
    veth.b.ip("address flush dev veth0").unwrap();
}

/// Has the kernel sum what is sent.
fn summed_by_the_kernel(options: &mut XdpOptions) {
    options.umem.pool.tx_offloads = TxOffloads::CHECKSUM;
    options.umem.software_checksum = true;
    options.mode = Want::Require(CopyMode::Copy);
}

type Way = (Hook, fn(&mut XdpOptions));

/// Each hook; and offloads, where the kernel has them.
fn ways(rig: &Rig) -> Vec<Way> {
    let mut ways: Vec<Way> = vec![(Hook::Generic, |_| {}), (Hook::Native, |_| {})];
    match try_open(&rig.veth.b, Hook::Native, summed_by_the_kernel) {
        Ok(_) => ways.push((Hook::Native, summed_by_the_kernel)),
        Err(error) => assert!(matches!(xdp_error(&error), XdpError::OldKernel { .. }), "{error}"),
    }
    ways
}

fn echo(rig: &Rig, (hook, change): Way, ready: &Sender<()>, stop: &AtomicBool) -> Stats {
    let config = Config::new(Veth::MAC[1], PORT)
        .address(format!("{}/24", Veth::IPV4[1]).parse().unwrap())
        .address(format!("{}/64", Veth::IPV6[1]).parse().unwrap())
        .echo(true);
    let port = open(&rig.veth.b, hook, change);
    let mut stack = {
        let _inside = rig.veth.b.enter().unwrap();
        UdpOverL2::<XdpPort, Resolver>::new(port, config).unwrap()
    };
    ready.send(()).unwrap();
    let mut burst = Burst::with_capacity(32);
    while !stop.load(Ordering::Acquire) {
        stack.wait(Interest::RX, Some(Duration::from_millis(5))).unwrap();
        stack.recv(&mut burst).unwrap();
        burst.iter_mut().for_each(Datagram::reply);
        stack.send(&mut burst).unwrap();
        stack.flush().unwrap();
    }
    stack.stats()
}

#[test]
fn sockets_and_ping_of_the_peer_are_answered() {
    if skip(&[Need::Tool("ethtool"), Need::Tool("ping")]) {
        return;
    }
    let Some(rig) = Rig::new(&VethOptions { ipv6: true, ..VethOptions::default() }) else { return };
    prepare(&rig);
    for way in ways(&rig) {
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let (ready, is_ready) = mpsc::channel();
            let (rig, stop) = (&rig, &stop);
            let server = scope.spawn(move || echo(rig, way, &ready, stop));
            is_ready.recv().unwrap();
            // However the clients end, the server ends too.
            let clients = scope.spawn(|| clients(rig));
            let outcome = clients.join();
            stop.store(true, Ordering::Release);
            let stats = server.join().unwrap();
            outcome.unwrap();
            assert!(stats.rx_packets >= 600, "{stats:?}");
            assert_eq!(stats.drops[DropCause::UdpChecksum], 0, "{stats:?}");
            assert_eq!(stats.drops[DropCause::RxInvalid], 0, "{stats:?}");
            assert!(stats.frames.unwrap().adds_up(), "{stats:?}");
        });
    }
    rig.assert_clean();
}

fn clients(rig: &Rig) {
    for (from, to) in [
        (IpAddr::V4(Veth::IPV4[0]), IpAddr::V4(Veth::IPV4[1])),
        (IpAddr::V6(Veth::IPV6[0]), IpAddr::V6(Veth::IPV6[1])),
    ] {
        rig.veth.a.run("ping", &format!("-c 3 -i 0.01 -W 5 {to}")).unwrap();
        let socket = {
            let _inside = rig.veth.a.enter().unwrap();
            UdpSocket::bind((from, 0)).unwrap()
        };
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut answer = [0; 2048];
        for n in 0..300_usize {
            let question = vec![n as u8; n * 4 % 1400 + 1];
            socket.send_to(&question, SocketAddr::new(to, PORT)).unwrap();
            let (len, source) = socket.recv_from(&mut answer).unwrap();
            assert_eq!((&answer[..len], source), (&question[..], SocketAddr::new(to, PORT)));
        }
    }
}
