//! The conformance suite on drivers whose packets go through the kernel.

#![allow(clippy::unwrap_used, reason = "helpers are part of the tests")]

mod common;

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use bypass_core::backend::packet::PacketOptions;
use bypass_core::testing::conformance;
use bypass_core::testing::needs::{Need, skip};
use bypass_core::testing::rig::{Namespace, Veth, VethOptions};
use bypass_core::{Buffer, Burst, Endpoint, Error, Interest, PacketIo, Result};
use bypass_dpdk::{Mbuf, Mempool, MempoolOptions, Port, PortOptions, QueuePair, Vdev};
use common::*;

/// A queue of a device that is plugged in inside of `namespace`.
fn open(
    namespace: &Namespace,
    driver: &str,
    arguments: &str,
    options: &PortOptions,
) -> Result<QueuePair> {
    let _inside = namespace.enter()?;
    let (_device, port) = started(driver, arguments, options)?;
    port.queue_pair(0)
}

/// Each end has a pool of its own.
fn on_veth(driver: &str, arguments: &str, change: impl Fn(&mut PortOptions)) {
    if skip(&[Need::Namespaces]) {
        return;
    }
    let _alone = alone();
    let veth = Veth::new(&VethOptions::default()).unwrap();
    let pools = [pool(4095), pool(4095)];
    let end = |namespace, pool: &Mempool| {
        let mut options = PortOptions::new(pool);
        change(&mut options);
        open(namespace, driver, arguments, &options)
    };
    conformance::packets(|| Ok((end(&veth.a, &pools[0])?, end(&veth.b, &pools[1])?))).assert();
    for pool in pools {
        assert_eq!(pool.in_use(), 0, "every mbuf is home");
    }
}

#[test]
fn af_packet() {
    on_veth("net_af_packet", "iface=veth0,framecnt=8192,blocksz=1048576", |_| {});
}

/// Both ends in one namespace, where the test stays: the driver takes its program off the interface in
/// whatever namespace it is closed.
#[test]
fn af_xdp() {
    if skip(&[Need::Namespaces, Need::Bpf]) {
        return;
    }
    let _alone = alone();
    let namespace = Namespace::new().unwrap();
    namespace.sysctl("net.ipv6.conf.default.disable_ipv6", "1").unwrap();
    let _inside = namespace.enter().unwrap();
    // By name alone, as a user does. Each port has a pool of its own: the driver posts 2048 mbufs, and forgets
    // them when it is closed.
    let _environment = eal();
    let end = |interface: &str| {
        let name = format!("net_af_xdp{},iface={interface}", number());
        let mut options = PacketOptions::new(name);
        options.pool.chunks = 6143;
        QueuePair::open(&options)
    };
    let open = || {
        let (a, b) = (format!("a{}", number()), format!("b{}", number()));
        namespace.ip(&format!("link add {a} type veth peer name {b}"))?;
        for interface in [&a, &b] {
            namespace.ip(&format!("link set {interface} up"))?;
        }
        Ok((end(&a)?, end(&b)?))
    };
    conformance::packets(open).assert();
}

/// The driver does not look, and would stop receiving without a word.
#[test]
fn pools_that_net_af_xdp_would_lose_packets_in_are_refused() {
    if skip(&[Need::Namespaces]) {
        return;
    }
    let namespace = Namespace::new().unwrap();
    let _inside = namespace.enter().unwrap();
    let (_device, mut port) = {
        let name = format!("net_af_xdp{}", number());
        let device = Vdev::plug(&eal(), &name, "iface=lo").unwrap();
        (device, Port::open(&eal(), &name).unwrap())
    };
    let gaps = cfg!(not(dpdk_24_11)).then_some((6143, false, "packed"));
    for (mbufs, packed, remedy) in gaps.into_iter().chain([(2048, true, "twice as many")]) {
        let pool = MempoolOptions { packed, ..MempoolOptions::new(mbufs) };
        let options = PortOptions::new(&Mempool::new(&eal(), &pool).unwrap());
        let refused = port.start(&options).unwrap_err();
        assert!(matches!(refused.error, Error::Config { .. }), "{refused}");
        assert!(refused.to_string().contains(remedy), "{refused}");
        port = refused.port;
    }
}

/// The kernel takes nothing from a tap that is down, which the driver counts as errors.
#[test]
fn what_a_tap_refuses_is_not_lost() {
    if skip(&[Need::Namespaces]) {
        return;
    }
    let _alone = alone();
    let namespace = Namespace::new().unwrap();
    let _inside = namespace.enter().unwrap();
    let pool = pool(4095);
    let (_device, port) = common::tap(&namespace, &PortOptions::new(&pool));
    let mut queue = port.queue_pair(0).unwrap();
    namespace.ip("link set tap0 down").unwrap();
    assert_eq!(refusals_count_nothing(&mut queue), 0);
    assert!(port.stats().unwrap().tx_errors > 0, "the driver counts them");
    namespace.ip("link set tap0 up").unwrap();
    send_all(&mut queue, &mut burst((0..32).map(|_| packet(&pool, &[0xff; 60]))));
    let stats = queue.stats();
    assert_eq!((stats.tx_packets, stats.drops.total()), (32, 0), "{stats:?}");
}

/// What this machine sends is there when it was asked for, and otherwise not.
#[test]
fn what_this_machine_sends_is_received_only_when_asked_for() {
    if skip(&[Need::Namespaces]) {
        return;
    }
    let _alone = alone();
    let veth = Veth::new(&VethOptions::default()).unwrap();
    let _inside = veth.a.enter().unwrap();
    let _environment = eal();
    let mut options = PacketOptions::new("veth0");
    let is_udp = |packet: &Mbuf| packet.data()[12..14] == [8, 0] && packet.data()[23] == 17;
    for outgoing in [false, true] {
        options.outgoing = outgoing;
        let mut port = QueuePair::open(&options).unwrap();
        let socket = UdpSocket::bind("10.66.0.1:0").unwrap();
        socket.send_to(b"out", "10.66.0.2:9").unwrap();
        // The other end answers that nobody is there (ICMP), behind the datagram.
        let is_answer = |packet: &Mbuf| packet.data()[12..14] == [8, 0] && packet.data()[23] == 1;
        let (mut seen, mut burst) = (false, Burst::with_capacity(32));
        let deadline = Instant::now() + Duration::from_secs(10);
        while !burst.iter().any(is_answer) {
            assert!(Instant::now() < deadline, "no answer");
            burst.clear();
            port.wait(Interest::RX, Some(Duration::from_millis(100))).unwrap();
            port.recv(&mut burst).unwrap();
            seen |= burst.iter().any(is_udp);
        }
        assert_eq!(seen, outgoing);
    }
}

/// Two taps on a bridge.
fn taps(change: impl Fn(&mut PortOptions)) {
    if skip(&[Need::Namespaces]) {
        return;
    }
    let _alone = alone();
    let namespace = Namespace::new().unwrap();
    namespace.sysctl("net.ipv6.conf.default.disable_ipv6", "1").unwrap();
    // One that listens in on multicast joins a group of its own, and says so on both taps within ten seconds.
    namespace.ip("link add bridge0 type bridge mcast_snooping 0").unwrap();
    namespace.ip("link set bridge0 up").unwrap();
    let pools = [pool(4095), pool(4095)];
    let end = |interface: &str, pool: &Mempool| {
        let mut options = PortOptions::new(pool);
        change(&mut options);
        let queue = open(&namespace, "net_tap", &format!("iface={interface}"), &options)?;
        namespace.ip(&format!("link set {interface} up master bridge0 txqueuelen 5000"))?;
        Ok::<_, Error>(queue)
    };
    conformance::packets(|| Ok((end("tap0", &pools[0])?, end("tap1", &pools[1])?))).assert();
    for pool in pools {
        assert_eq!(pool.in_use(), 0, "every mbuf is home");
    }
}

#[test]
fn tap() {
    taps(|_| {});
}

#[test]
fn tap_that_wakes_its_thread() {
    taps(|options| options.rx_interrupts = true);
}
