//! The conformance suite on drivers whose packets go through the kernel.

#![allow(clippy::unwrap_used, reason = "helpers are part of the tests")]

mod common;

use bypass_core::backend::packet::PacketOptions;
use bypass_core::testing::conformance;
use bypass_core::testing::needs::{Need, skip};
use bypass_core::testing::rig::{Namespace, Veth, VethOptions};
use bypass_core::{Error, Result};
use bypass_dpdk::{Mempool, MempoolOptions, Port, PortOptions, QueuePair, Vdev};
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

/// Two taps on a bridge.
fn taps(change: impl Fn(&mut PortOptions)) {
    if skip(&[Need::Namespaces]) {
        return;
    }
    let _alone = alone();
    let namespace = Namespace::new().unwrap();
    namespace.sysctl("net.ipv6.conf.default.disable_ipv6", "1").unwrap();
    namespace.ip("link add bridge0 type bridge").unwrap();
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
