//! The UDP socket where it needs a network of its own: narrow links, missing routes and neighbours.

#![cfg(feature = "testing")]
#![allow(clippy::unwrap_used, reason = "helpers are part of the tests")]

use std::net::SocketAddr;
use std::time::Duration;

use bypass_core::backend::socket::{SocketDatagram, UdpOptions, UdpSocket};
use bypass_core::testing::needs::{Need, skip};
use bypass_core::testing::rig::{Namespace, Veth, VethOptions};
use bypass_core::{
    Buffer, Burst, Datagram, DatagramIo, DatagramIoExt, Endpoint, Error, Interest, Ready,
};

fn open(namespace: &Namespace, change: impl FnOnce(&mut UdpOptions)) -> UdpSocket {
    let _inside = namespace.enter().unwrap();
    let mut options = UdpOptions::new(([0, 0, 0, 0], 0).into());
    change(&mut options);
    options.open().unwrap()
}

fn at(address: std::net::Ipv4Addr, socket: &UdpSocket) -> SocketAddr {
    (address, socket.local_addr().port()).into()
}

fn compose(socket: &mut UdpSocket, to: SocketAddr, payloads: &[Vec<u8>]) -> Burst<SocketDatagram> {
    let mut burst = Burst::with_capacity(payloads.len());
    for payload in payloads {
        assert!(socket.compose(payload, to, &mut burst).unwrap());
    }
    burst
}

fn receive(socket: &mut UdpSocket, n: usize) -> Vec<Vec<u8>> {
    let (mut seen, mut burst) = (Vec::new(), Burst::with_capacity(64));
    while seen.len() < n {
        let ready = socket.wait(Interest::RX, Some(Duration::from_secs(5))).unwrap();
        assert_eq!(ready, Ready::RX, "{} of {n} came", seen.len());
        socket.recv(&mut burst).unwrap();
        seen.extend(burst.iter().map(|datagram| datagram.data().to_vec()));
        burst.clear();
    }
    seen
}

#[test]
fn datagrams_longer_than_the_mtu_are_sent_without_coalescing_and_that_is_reported() {
    if skip(&[Need::Namespaces]) {
        return;
    }
    let veth = Veth::new(&VethOptions { mtu: 1300, ..VethOptions::default() }).unwrap();
    let (mut a, mut b) = (open(&veth.a, |_| {}), open(&veth.b, |_| {}));
    let to = at(Veth::IPV4[1], &b);

    // Longer than the MTU: refused as a train, sent one by one, as fragments.
    let long: Vec<_> = (0..10u8).map(|i| vec![i; 1800]).collect();
    let mut burst = compose(&mut a, to, &long);
    assert_eq!(a.send(&mut burst).unwrap(), 10);
    assert_eq!(receive(&mut b, 10), long);
    let fallbacks = &a.caps().fallbacks;
    assert!(fallbacks.iter().any(|f| f.contains("coalescing: up to 1799 bytes")), "{fallbacks:?}");

    // From now on such datagrams are not tried as a train, shorter ones still are.
    let before = a.stats().syscalls.unwrap();
    let mut burst = compose(&mut a, to, &long);
    assert_eq!(a.send(&mut burst).unwrap(), 10);
    assert_eq!(a.stats().syscalls.unwrap(), before + 1);
    let short: Vec<_> = (0..10u8).map(|i| vec![i; 500]).collect();
    let mut burst = compose(&mut a, to, &short);
    assert_eq!(a.send(&mut burst).unwrap(), 10);
    assert_eq!(receive(&mut b, 20), [long, short].concat());
    let mut counters = std::collections::BTreeMap::new();
    a.visit_counters(&mut |name, value| {
        counters.insert(name.to_owned(), value);
    });
    assert_eq!((counters["refused_trains"], counters["coalesced_messages"]), (1, 1));
    assert_eq!(a.stats().tx_packets, 30);
}

#[test]
fn without_fragmenting_a_datagram_that_is_too_long_is_refused() {
    if skip(&[Need::Namespaces]) {
        return;
    }
    let veth = Veth::new(&VethOptions { mtu: 1300, ..VethOptions::default() }).unwrap();
    let mut a = open(&veth.a, |options| options.dont_fragment = true);
    let mut b = open(&veth.b, |_| {});
    let to = at(Veth::IPV4[1], &b);
    let mut burst = compose(&mut a, to, &[vec![1; 1272], vec![2; 1273], vec![3; 10]]);
    assert_eq!(a.send(&mut burst).unwrap(), 1);
    let error = a.send(&mut burst).unwrap_err();
    assert!(matches!(error, Error::Frame { .. }), "{error:?}");
    assert!(error.to_string().contains("1273 bytes do not fit"), "{error}");
    burst.pop_front();
    assert_eq!(a.send(&mut burst).unwrap(), 1);
    assert_eq!(receive(&mut b, 2), [vec![1; 1272], vec![3; 10]]);
}

#[test]
fn a_destination_without_a_route_is_refused_and_the_next_one_goes() {
    if skip(&[Need::Namespaces]) {
        return;
    }
    let veth = Veth::new(&VethOptions::default()).unwrap();
    let (mut a, mut b) = (open(&veth.a, |_| {}), open(&veth.b, |_| {}));
    let to = at(Veth::IPV4[1], &b);
    let mut burst = compose(&mut a, to, &[b"lost".to_vec(), b"found".to_vec()]);
    burst[0].send_to("192.0.2.1:9".parse().unwrap());
    let error = a.send(&mut burst).unwrap_err();
    assert!(matches!(error, Error::Frame { .. }), "{error:?}");
    assert!(
        error.to_string().contains("192.0.2.1:9 cannot be reached from here: there is no route")
    );
    assert_eq!(burst[0].data(), b"lost");
    burst.pop_front();
    assert_eq!(a.send(&mut burst).unwrap(), 1);
    assert_eq!(receive(&mut b, 1), [b"found"]);

    // The link goes away and comes back: the same socket goes on.
    veth.a.ip("link set veth0 down").unwrap();
    let mut burst = compose(&mut a, to, &[b"again".to_vec()]);
    let error = a.send(&mut burst).unwrap_err();
    assert!(matches!(error, Error::Frame { .. }), "{error:?}");
    veth.a.ip("link set veth0 up").unwrap();
    assert_eq!(a.send(&mut burst).unwrap(), 1);
    assert_eq!(receive(&mut b, 1), [b"again"]);
}

#[test]
fn a_full_send_queue_keeps_the_rest_and_wakes_when_there_is_room() {
    if skip(&[Need::Namespaces]) {
        return;
    }
    let veth = Veth::new(&VethOptions::default()).unwrap();
    // What goes to a neighbour that does not answer waits in the kernel, charged to the sender.
    veth.a.sysctl("net.ipv4.neigh.veth0.mcast_solicit", "1").unwrap();
    veth.a.sysctl("net.ipv4.neigh.veth0.retrans_time_ms", "300").unwrap();
    let mut a = open(&veth.a, |options| {
        options.send_buffer = Some(4096);
        options.coalesce = false;
    });
    let nobody = SocketAddr::from(([10, 66, 0, 99], 9));
    let payloads: Vec<_> = (0..64u8).map(|i| vec![i; 1000]).collect();
    let mut burst = compose(&mut a, nobody, &payloads);
    let sent = a.send(&mut burst).unwrap();
    assert!(sent < 64, "all fit");
    assert!(burst.iter().map(Buffer::data).eq(payloads[sent..].iter()), "the rest, in order");
    assert_eq!(a.stats().tx_packets, sent as u64);
    assert_eq!(a.send(&mut burst).unwrap(), 0);
    assert_eq!(a.wait(Interest::TX, Some(Duration::ZERO)).unwrap(), Ready::empty());
    // The kernel gives the neighbour up, and room is made.
    assert_eq!(a.wait(Interest::TX, Some(Duration::from_secs(5))).unwrap(), Ready::TX);
    assert!(a.send(&mut burst).unwrap() > 0);
}

#[test]
fn a_socket_bound_to_an_interface_receives_from_there_only() {
    if skip(&[Need::Namespaces]) {
        return;
    }
    let veth = Veth::new(&VethOptions::default()).unwrap();
    let mut bound = open(&veth.b, |options| options.interface = Some("lo".to_owned()));
    let (mut local, mut remote) = (open(&veth.b, |_| {}), open(&veth.a, |_| {}));
    for (from, to, payload) in [
        (&mut remote, at(Veth::IPV4[1], &bound), b"remote"),
        (&mut local, at([127, 0, 0, 1].into(), &bound), b"local!"),
    ] {
        let mut burst = compose(from, to, &[payload.to_vec()]);
        assert_eq!(from.send(&mut burst).unwrap(), 1);
    }
    assert_eq!(receive(&mut bound, 1), [b"local!"]);
    assert_eq!(bound.recv(&mut Burst::with_capacity(1)).unwrap(), 0);
}

#[test]
fn a_reply_leaves_from_the_address_that_was_asked() {
    if skip(&[Need::Namespaces]) {
        return;
    }
    let veth = Veth::new(&VethOptions { ipv6: true, ..VethOptions::default() }).unwrap();
    veth.b.ip("address add fd66::22/64 dev veth0 nodad").unwrap();
    veth.b.ip("address add 10.66.0.22/24 dev veth0").unwrap();
    let any = |options: &mut UdpOptions| options.local = "[::]:0".parse().unwrap();
    let (mut a, mut b) = (open(&veth.a, any), open(&veth.b, any));
    for address in ["10.66.0.2", "10.66.0.22", "fd66::2", "fd66::22"] {
        let to = SocketAddr::new(address.parse().unwrap(), b.local_addr().port());
        let mut burst = compose(&mut a, to, &[b"ping".to_vec()]);
        assert_eq!(a.send(&mut burst).unwrap(), 1);
        assert_eq!(b.wait(Interest::RX, Some(Duration::from_secs(5))).unwrap(), Ready::RX);
        b.recv(&mut burst).unwrap();
        assert_eq!(burst[0].recv_meta().local, Some(to.ip()));
        burst[0].reply();
        assert_eq!(b.send(&mut burst).unwrap(), 1);
        assert_eq!(a.wait(Interest::RX, Some(Duration::from_secs(5))).unwrap(), Ready::RX);
        a.recv(&mut burst).unwrap();
        assert_eq!(burst[0].recv_meta().remote, Some(to), "{address}");
    }
}
