//! The UDP socket over loopback, against the standard library's: no privileges needed.

#![cfg(feature = "testing")]
#![allow(clippy::unwrap_used, reason = "helpers are part of the tests")]

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bypass_core::backend::socket::{Multicast, Share, UdpOptions, UdpSocket};
use bypass_core::pool::PoolOptions;
use bypass_core::sys::option;
use bypass_core::testing::loopback::{self, tools::*};
use bypass_core::{Buffer, Burst, Datagram, DatagramIo, Endpoint, Error, FrameError, Transmit};
use socket2::SockRef;

fn options() -> UdpOptions {
    UdpOptions::new(([127, 0, 0, 1], 0).into())
}

fn open(change: impl FnOnce(&mut UdpOptions)) -> UdpSocket {
    let mut options = options();
    change(&mut options);
    options.open().unwrap()
}

#[test]
fn it_does_what_every_endpoint_does_on_loopback() {
    loopback::sockets(|options| options.open()).assert();
}

#[test]
fn a_datagram_that_can_never_be_sent_stays_first() {
    let mut socket = open(|options| options.pool.chunk_size = 65_536);
    let (receiver, good) = std_socket();
    let broken: [(&str, Transmit, usize); 6] = [
        ("no destination", Transmit::default(), 1),
        ("the socket is bound to an IPv4", Transmit::to("[::1]:9".parse().unwrap()), 1),
        ("the port is 0", Transmit::to("127.0.0.1:0".parse().unwrap()), 1),
        ("`broadcast` is off", Transmit::to("255.255.255.255:9".parse().unwrap()), 1),
        ("limit here is 65507", Transmit::to(good), 65_508),
        ("source is of another", source(good, "::1"), 1),
    ];
    for (reason, transmit, len) in broken {
        let mut burst = compose(&mut socket, good, [&b"bad"[..], b"good"]);
        burst[0].set_transmit(transmit);
        // Longer than fresh room: the headroom counts too.
        let headroom = burst[0].headroom();
        burst[0].prepend(headroom).unwrap();
        burst[0].set_len(len).unwrap();
        let error = socket.send(&mut burst).unwrap_err();
        assert!(matches!(error, Error::Frame { .. }), "{error:?}");
        assert!(error.to_string().contains(reason), "{error}");
        assert_eq!((burst.len(), burst[0].data().len()), (2, len));
        burst.pop_front();
        assert_eq!(socket.send(&mut burst).unwrap(), 1, "what is behind it is good");
        let (n, _) = receiver.recv_from(&mut [0; 16]).unwrap();
        assert_eq!(n, 4);
    }
    // A source that is not ours is known to the kernel only.
    let mut burst = compose(&mut socket, good, [&b"good"[..], b"bad"]);
    burst[1].set_transmit(source(good, "192.0.2.77"));
    assert_eq!(socket.send(&mut burst).unwrap(), 1, "those in front of it go");
    let error = socket.send(&mut burst).unwrap_err();
    assert!(error.to_string().contains("no route from 192.0.2.77"), "{error}");
    assert_eq!(burst.len(), 1);
}

fn source(destination: SocketAddr, source: &str) -> Transmit {
    let mut transmit = Transmit::to(destination);
    transmit.source = Some(source.parse().unwrap());
    transmit
}

#[test]
fn a_train_that_the_kernel_refuses_says_so() {
    let mut socket = open(|options| options.pool.chunk_size = 65_536);
    let (_receiver, to) = std_socket();
    let mut burst = compose(&mut socket, to, [&[0; 60_000][..]]);
    let mut transmit = Transmit::to(to);
    transmit.segment_size = Some(10);
    burst[0].set_transmit(transmit);
    let error = socket.send(&mut burst).unwrap_err();
    let Error::Frame { cause: FrameError::Unsupported(why), .. } = &error else {
        panic!("{error:?}")
    };
    assert!(why.to_string().contains("6000 segments of 10 bytes"), "{why}");
}

#[test]
fn a_chain_is_refused() {
    let mut socket = open(|_| {});
    let (_receiver, to) = std_socket();
    let mut burst = compose(&mut socket, to, [&b"1"[..], b"2"]);
    let second = burst.pop_back().unwrap();
    burst[0].chain(second).unwrap();
    let error = socket.send(&mut burst).unwrap_err();
    assert!(error.to_string().contains("several buffers"), "{error}");
    assert_eq!(burst.len(), 1);
}

#[test]
fn buffers_are_as_asked_or_the_fallback_says_why() {
    let socket = open(|options| {
        options.recv_buffer = Some(64 << 20);
        options.send_buffer = Some(32 << 20);
    });
    for (got, asked, name) in [
        (socket.recv_buffer().unwrap(), 64 << 20, "receive buffer"),
        (socket.send_buffer().unwrap(), 32 << 20, "send buffer"),
    ] {
        let told = socket.caps().fallbacks.iter().any(|fallback| fallback.starts_with(name));
        assert_eq!(got < asked, told, "{name}: {got} of {asked}");
    }
    // Twice of it is no `int`, of which the kernel makes a smaller one and says nothing.
    for size in [option::MAX_QUEUE + 1, usize::MAX] {
        let error = UdpOptions { send_buffer: Some(size), ..options() }.open().unwrap_err();
        assert!(matches!(error, Error::Config { .. }), "{error:?}");
    }
}

#[test]
fn workers_share_a_port_and_each_flow_stays_with_one() {
    let mut first = open(|options| options.share = Share { index: 0, count: 2 });
    let address = first.local_addr();
    let mut sharing = UdpOptions::new(address);
    let error = sharing.open().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EADDRINUSE), "{error}");
    sharing.reuse_port = true;
    let mut second = sharing.open().unwrap();
    let clients: Vec<_> = (0..64).map(|_| std_socket().0).collect();
    for client in &clients {
        client.send_to(b"1", address).unwrap();
        client.send_to(b"2", address).unwrap();
    }
    let mut flows = [HashSet::new(), HashSet::new()];
    for (socket, flows) in [&mut first, &mut second].into_iter().zip(&mut flows) {
        let mut burst = Burst::with_capacity(256);
        socket.recv(&mut burst).unwrap();
        flows.extend(burst.iter().map(|datagram| datagram.recv_meta().remote));
    }
    assert!(flows[0].is_disjoint(&flows[1]));
    assert_eq!(flows[0].len() + flows[1].len(), 64);
    assert_eq!(first.stats().rx_packets + second.stats().rx_packets, 128);
    assert!(flows.iter().all(|flows| !flows.is_empty()), "both have work");
}

#[test]
fn a_group_is_joined_on_its_interface() {
    let group: IpAddr = [239, 255, 66, 66].into();
    let multicast = Multicast {
        groups: vec![(group, Some("lo".to_owned()))],
        interface: Some("lo".to_owned()),
        ..Multicast::default()
    };
    let mut options = UdpOptions::new("0.0.0.0:0".parse().unwrap());
    options.multicast = multicast;
    let mut member = options.open().unwrap();
    let to = SocketAddr::new(group, member.local_addr().port());
    options.local.set_port(to.port());
    options.multicast.groups = vec![([239, 255, 66, 67].into(), Some("lo".to_owned()))];
    let mut other = options.open().unwrap();
    let meta = learn(&mut other, &mut member, Transmit::to(to));
    assert_eq!(meta.local, Some(group));
    assert_eq!(other.recv(&mut Burst::with_capacity(1)).unwrap(), 0, "it joined another group");

    let mut burst = compose(&mut other, to, [&b"question"[..]]);
    other.send(&mut burst).unwrap();
    let mut inbox = receive(&mut member, 1);
    inbox[0].reply();
    assert_eq!(member.send(&mut inbox).unwrap(), 1, "a reply is not sent from the group's address");

    options.multicast.groups[0].1 = Some("nosuch0".to_owned());
    let error = options.open().unwrap_err();
    assert!(matches!(error, Error::NoSuchInterface { .. }), "{error:?}");
}

#[test]
fn bad_settings_are_refused_by_name() {
    let wrong = |change: &dyn Fn(&mut UdpOptions)| {
        let mut options = options();
        change(&mut options);
        options.open().unwrap_err()
    };
    for batch in [0, 1025] {
        assert!(wrong(&|options| options.batch = batch).to_string().starts_with("batch ="));
    }
    for time in [Duration::from_nanos(999), Duration::from_secs(3600)] {
        let error = wrong(&|options| options.busy_poll = Some(time)).to_string();
        assert!(error.starts_with(&format!("busy_poll = {time:?}: ")), "{error}");
    }
    let error = wrong(&|options| options.interface = Some("nosuch0".to_owned()));
    assert!(matches!(error, Error::NoSuchInterface { .. }), "{error:?}");
    let error = wrong(&|options| options.local = ([192, 0, 2, 77], 0).into());
    assert_eq!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL), "{error}");
    assert!(error.to_string().contains("192.0.2.77"), "{error}");
    let (left, _right) = std::os::unix::net::UnixDatagram::pair().unwrap();
    let error = options().adopt(left).unwrap_err();
    assert!(error.to_string().starts_with("socket ="), "{error}");
}

#[test]
fn an_adopted_socket_works_and_does_not_count_what_was_lost_before() {
    let (socket, address) = std_socket();
    let (client, _) = std_socket();
    SockRef::from(&socket).set_recv_buffer_size(4096).unwrap();
    (0..100).for_each(|_| assert_eq!(client.send_to(b"early", address).unwrap(), 5));
    let mut socket = options().adopt(socket).unwrap();
    assert_eq!((socket.local_addr(), socket.stats().drops.total()), (address, 0));
    assert_eq!(receive(&mut socket, 1)[0].data(), b"early");
}

#[test]
fn an_application_that_holds_every_buffer_receives_again_when_it_lets_go() {
    let mut socket = open(|options| options.pool = PoolOptions::new(8));
    let (client, _) = std_socket();
    (0..20u8).for_each(|i| assert_eq!(client.send_to(&[i], socket.local_addr()).unwrap(), 1));
    let mut held = Burst::with_capacity(32);
    while socket.recv(&mut held).unwrap() > 0 {}
    assert_eq!(held.len(), 8, "all there are");
    assert!(counter(&socket, "recv_dry") > 0);
    assert_eq!(socket.stats().frames.unwrap().held, 8);
    held.clear();
    let mut rest = Burst::with_capacity(32);
    while rest.len() < 8 && socket.recv(&mut rest).unwrap() > 0 {}
    assert_eq!(rest[0].data(), [8], "nothing was lost meanwhile");
}

#[test]
fn a_full_burst_takes_several_system_calls_and_loses_nothing() {
    let mut socket = open(|options| options.batch = 8);
    let (client, _) = std_socket();
    (0..100u8).for_each(|i| assert_eq!(client.send_to(&[i], socket.local_addr()).unwrap(), 1));
    let mut burst = Burst::with_capacity(128);
    assert_eq!(socket.recv(&mut burst).unwrap(), 100);
    assert!(burst.iter().map(|d| d.data()[0]).eq(0..100));
    assert_eq!(socket.stats().syscalls, Some(13), "12 full ones, and the one that found the end");
}

#[test]
fn options_reach_the_socket() {
    let v4 = open(|options| {
        (options.ttl, options.broadcast, options.dont_fragment) = (Some(9), true, true);
        options.multicast.ttl = 5;
        options.multicast.loopback = false;
        options.busy_poll = Some(Duration::ZERO);
    });
    let fd = v4.as_fd().unwrap();
    let raw = SockRef::from(&fd);
    assert_eq!((raw.ttl_v4().unwrap(), raw.broadcast().unwrap()), (9, true));
    assert_eq!(raw.multicast_ttl_v4().unwrap(), 5);
    assert!(!raw.multicast_loop_v4().unwrap());
    let discover = |level, name| option::get_int(v4.as_fd().unwrap(), level, name).unwrap();
    assert_eq!(discover(libc::SOL_IP, libc::IP_MTU_DISCOVER), libc::IP_PMTUDISC_DO);

    let mut options = UdpOptions::new("[::]:0".parse().unwrap());
    (options.ttl, options.only_v6) = (Some(9), true);
    options.multicast.ttl = 5;
    let v6 = options.open().unwrap();
    let fd = v6.as_fd().unwrap();
    let raw = SockRef::from(&fd);
    assert_eq!((raw.unicast_hops_v6().unwrap(), raw.multicast_hops_v6().unwrap()), (9, 5));
    let to = SocketAddr::from(([127, 0, 0, 1], v6.local_addr().port()));
    let mut sender = open(|options| options.peer = Some(to));
    let mut burst = compose(&mut sender, to, [&b"over IPv4"[..]]);
    sender.send(&mut burst).unwrap();
    assert_eq!(sender.recv(&mut Burst::with_capacity(1)).unwrap(), 0);
    assert_eq!(counter(&sender, "pending_errors"), 1, "nobody listens there");
}

#[test]
fn without_privileges_the_capability_is_named() {
    // Capabilities belong to a thread, and anybody may give them up.
    let refused = std::thread::spawn(|| {
        use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
        let none = CapabilitySet::empty();
        let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
        set_capabilities(None, sets).unwrap();
        let low_port = UdpOptions::new(([127, 0, 0, 1], 80).into());
        let limited = UdpOptions { recv_buffer: Some(1 << 29), ..options() };
        (low_port.open().err(), limited.open().unwrap().caps().fallbacks.clone())
    });
    let (low_port, fallbacks) = refused.join().unwrap();
    assert!(fallbacks[0].contains("net.core.rmem_max"), "{fallbacks:?}");
    let first_free = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    if first_free.unwrap().trim().parse::<u16>().unwrap() > 80 {
        let error = low_port.unwrap();
        let named =
            matches!(error, Error::MissingCapability { capability: "CAP_NET_BIND_SERVICE", .. });
        assert!(named, "{error:?}");
        assert!(error.to_string().contains("bind a UDP socket to 127.0.0.1:80"), "{error}");
    }
}
