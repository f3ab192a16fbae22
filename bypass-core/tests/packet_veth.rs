//! The AF_PACKET port on veth pairs in namespaces, against the kernel's own stack.

#![cfg(feature = "testing")]
#![allow(clippy::unwrap_used, reason = "helpers are part of the tests")]

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};

use bypass_core::backend::packet::{Fanout, FanoutMode, PacketFrame, PacketOptions, PacketPort};
use bypass_core::testing::needs::{Need, skip};
use bypass_core::testing::rig::{Namespace, Veth, VethOptions};
use bypass_core::testing::veth::{self, tools::*};
use bypass_core::{Buffer, Burst, DropCause, Endpoint, Error, PacketIo};

fn veth() -> Option<Veth> {
    (!skip(&[Need::Namespaces])).then(|| Veth::new(&VethOptions::default()).unwrap())
}

fn open(namespace: &Namespace, change: impl FnOnce(&mut PacketOptions)) -> PacketPort {
    let _inside = namespace.enter().unwrap();
    let mut options = PacketOptions::new(Veth::NAME);
    change(&mut options);
    options.open().unwrap()
}

fn pair(veth: &Veth) -> (PacketPort, PacketPort) {
    (open(&veth.a, |_| {}), open(&veth.b, |_| {}))
}

#[test]
fn it_does_what_every_port_does_on_a_veth_pair() {
    if !skip(&[Need::Namespaces]) {
        veth::ports(|options| options.open()).assert();
    }
}

#[test]
fn what_the_ring_has_no_room_for_is_counted() {
    let Some(veth) = veth() else { return };
    let mut a = open(&veth.a, |_| {});
    let mut b = open(&veth.b, |options| options.ring = Some(64));
    let ring = b.ring_len() as u64;
    assert!((64..500).contains(&ring), "rounded up to whole blocks: {ring}");
    for batch in 0..10 {
        send(&mut a, &(0..50).map(|i| numbered(batch * 50 + i, 60)).collect::<Vec<_>>());
    }
    let dropped = b.stats().drops[DropCause::RxQueueFull];
    assert_eq!(dropped, 500 - ring);
    let seen = receive(&mut b, ring as usize, is_ours);
    assert!(
        seen.iter().zip(0..).all(|(frame, i)| frame.data() == numbered(i, 60)),
        "the first ones"
    );
    send(&mut a, &[numbered(999, 60)]);
    receive(&mut b, 1, is_ours);
    let stats = b.stats();
    assert_eq!(stats.drops[DropCause::RxQueueFull], dropped, "counted once");
    assert_eq!(stats.rx_packets + stats.drops.total(), 501);
}

#[test]
fn a_frame_of_several_segments_arrives_as_one() {
    let Some(veth) = veth() else { return };
    let (mut a, mut b) = pair(&veth);
    let whole = numbered(7, 1000);
    let (head, tail) = whole.split_at(100);
    let mut burst = compose(&mut a, &[head.to_vec(), tail.to_vec()]);
    let tail = burst.pop_back().unwrap();
    burst[0].chain(tail).unwrap();
    assert_eq!(a.send(&mut burst).unwrap(), 1);
    assert_eq!(receive(&mut b, 1, is_ours)[0].data(), whole);
    assert_eq!(a.stats().tx_bytes, 1000);

    let pieces: Vec<_> = (0..17).map(|_| numbered(8, 14)).collect();
    let mut burst = compose(&mut a, &pieces);
    let mut whole = burst.pop_front().unwrap();
    while let Some(piece) = burst.pop_front() {
        whole.chain(piece).unwrap();
    }
    assert!(burst.push(whole).is_ok());
    let error = a.send(&mut burst).unwrap_err();
    assert!(error.to_string().contains("frame of 17 segments"), "{error}");
}

#[test]
fn the_loopback_interface_gives_each_frame_once() {
    let Some(veth) = veth() else { return };
    let mut port = open(&veth.a, |options| options.interface = "lo".to_owned());
    send(&mut port, &[numbered(1, 60), numbered(2, 40_000)]);
    let seen = receive(&mut port, 2, is_ours);
    assert_eq!(seen[1].data(), numbered(2, 40_000));
    assert_eq!(port.recv(&mut Burst::with_capacity(8)).unwrap(), 0);
}

#[test]
fn a_fanout_group_shares_the_flows() {
    let Some(veth) = veth() else { return };
    let group = |options: &mut PacketOptions| {
        options.fanout = Some(Fanout { group: 66, mode: FanoutMode::Hash });
    };
    let mut ports = [open(&veth.b, group), open(&veth.b, group)];
    let sockets: Vec<_> = {
        let _inside = veth.a.enter().unwrap();
        (0..64).map(|_| UdpSocket::bind("10.66.0.1:0").unwrap()).collect()
    };
    veth.a.ip("neighbour replace 10.66.0.2 lladdr 02:00:00:00:66:02 dev veth0").unwrap();
    for socket in sockets.iter().cycle().take(256) {
        socket.send_to(b"flow", "10.66.0.2:9").unwrap();
    }
    let flows = ports.each_mut().map(|port| {
        let mut burst = Burst::with_capacity(512);
        port.recv(&mut burst).unwrap();
        let source = |frame: &PacketFrame| [frame.data()[34], frame.data()[35]];
        burst.iter().filter(|frame| is_udp(*frame)).map(source).collect::<Vec<_>>()
    });
    let distinct = flows.each_ref().map(|flows| flows.iter().copied().collect::<HashSet<_>>());
    assert_eq!(flows[0].len() + flows[1].len(), 256, "each frame comes to one port");
    assert!(distinct[0].is_disjoint(&distinct[1]), "each flow too");
    assert!(distinct.iter().all(|flows| !flows.is_empty()), "both have work");
}

/// Sends a megabyte through TCP from side a to side b.
fn stream(veth: &Veth) {
    let listener = {
        let _inside = veth.b.enter().unwrap();
        TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap()
    };
    let to = SocketAddr::from((Veth::IPV4[1], listener.local_addr().unwrap().port()));
    let mut client = {
        let _inside = veth.a.enter().unwrap();
        TcpStream::connect(to).unwrap()
    };
    let (mut server, _) = listener.accept().unwrap();
    let reader = std::thread::spawn(move || server.read_to_end(&mut Vec::new()).unwrap());
    client.write_all(&vec![0; 1 << 20]).unwrap();
    drop(client);
    assert_eq!(reader.join().unwrap(), 1 << 20);
}

#[test]
fn frames_longer_than_the_mtu_are_counted_or_taken_whole() {
    let Some(veth) = veth() else { return };
    // The sender leaves the cutting of its stream to the device, and the veth hands it on.
    let mut usual = open(&veth.b, |_| {});
    let mut large = open(&veth.b, |options| options.max_frame = Some(65_554));
    stream(&veth);
    let drained = |port: &mut PacketPort| {
        let (mut burst, mut longest) = (Burst::with_capacity(64), 0);
        while port.recv(&mut burst).unwrap() > 0 {
            longest = burst.iter().map(|frame| frame.data().len()).max().unwrap().max(longest);
            burst.clear();
        }
        (port.stats(), longest)
    };
    let ((usual, up_to), (large, longest)) = (drained(&mut usual), drained(&mut large));
    assert!(usual.drops[DropCause::RxTruncated] > 0 && up_to <= 1518, "{usual:?}");
    assert!(longest > 1518, "{longest}");
    assert_eq!(large.drops.total(), 0);
    let arrived = |stats: &bypass_core::Stats| stats.rx_packets + stats.drops.total();
    assert_eq!(arrived(&usual), arrived(&large), "both saw the same frames");
}

#[test]
fn bad_settings_are_refused_by_name() {
    let Some(veth) = veth() else { return };
    let wrong = |change: &dyn Fn(&mut PacketOptions)| {
        let _inside = veth.a.enter().unwrap();
        let mut options = PacketOptions::new(Veth::NAME);
        change(&mut options);
        options.open().unwrap_err()
    };
    for (change, setting) in [
        ((|options| options.batch = 0) as fn(&mut PacketOptions), "batch = 0"),
        (|options| options.ring = Some(0), "ring = 0"),
        (|options| options.pool.headroom = 3, "headroom = 3"),
        (|options| options.max_frame = Some(59), "max_frame = 59"),
        (|options| options.max_frame = Some(65_555), "max_frame = 65555"),
        (|options| options.pool.headroom = u32::MAX, "chunk_size = "),
    ] {
        let error = wrong(&change);
        assert!(error.to_string().starts_with(setting), "{error}");
    }
    let error = wrong(&|options| options.interface = "nosuch0".to_owned());
    assert!(matches!(error, Error::NoSuchInterface { .. }), "{error:?}");
    let error = wrong(&|options| options.ring = Some(u32::MAX));
    assert!(error.to_string().contains("smaller `ring`"), "{error}");
    // The group exists with another mode.
    let group = |mode| {
        move |options: &mut PacketOptions| {
            options.fanout = Some(Fanout { group: 1, mode });
        }
    };
    let _port = open(&veth.a, group(FanoutMode::Cpu));
    let error = wrong(&group(FanoutMode::Hash));
    assert!(error.to_string().contains("join the fanout group 1"), "{error}");
}

#[test]
fn without_privileges_the_capability_is_named() {
    // Capabilities belong to a thread, and anybody may give them up.
    let error = std::thread::spawn(|| {
        use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
        let none = CapabilitySet::empty();
        let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
        set_capabilities(None, sets).unwrap();
        PacketOptions::new("lo").open().unwrap_err()
    });
    let error = error.join().unwrap();
    assert!(
        matches!(error, Error::MissingCapability { capability: "CAP_NET_RAW", .. }),
        "{error:?}"
    );
    assert!(error.to_string().contains("open an AF_PACKET socket on lo"), "{error}");
}
