//! The AF_PACKET port on veth pairs in namespaces, against the kernel's own stack.

#![cfg(feature = "testing")]
#![allow(clippy::unwrap_used, reason = "helpers are part of the tests")]

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant, SystemTime};

use bypass_core::backend::packet::{Fanout, FanoutMode, PacketFrame, PacketOptions, PacketPort};
use bypass_core::pool::PoolOptions;
use bypass_core::testing::needs::{Need, skip};
use bypass_core::testing::rig::{Namespace, Veth, VethOptions};
use bypass_core::{
    Buffer, Burst, ChecksumVerdict, Clock, DropCause, Endpoint, Error, Frame, FrameError, Interest,
    PacketIo, Ready,
};

const PATIENCE: Option<Duration> = Some(Duration::from_secs(5));
/// EtherType for local experiments: no stack answers it.
const ETHERTYPE: [u8; 2] = [0x88, 0xb5];

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

/// A frame from side a to side b, with this behind the addresses.
fn frame(rest: &[u8]) -> Vec<u8> {
    [&Veth::MAC[1].0[..], &Veth::MAC[0].0, rest].concat()
}

fn numbered(number: u16, len: usize) -> Vec<u8> {
    let mut bytes = frame(&[&ETHERTYPE[..], &number.to_be_bytes()].concat());
    bytes.resize(len, number as u8);
    bytes
}

fn compose(port: &mut PacketPort, frames: &[Vec<u8>]) -> Burst<PacketFrame> {
    let mut burst = Burst::with_capacity(frames.len());
    assert_eq!(port.alloc(&mut burst, frames.len()), frames.len());
    for (frame, bytes) in burst.iter_mut().zip(frames) {
        frame.fill(bytes).unwrap();
    }
    burst
}

fn send(port: &mut PacketPort, frames: &[Vec<u8>]) {
    let mut burst = compose(port, frames);
    assert_eq!(port.send(&mut burst).unwrap(), frames.len());
}

/// Receives until `wanted` has been true for `n` frames, and returns those.
fn receive(
    port: &mut PacketPort,
    n: usize,
    mut wanted: impl FnMut(&PacketFrame) -> bool,
) -> Vec<PacketFrame> {
    let (mut seen, mut burst) = (Vec::new(), Burst::with_capacity(64));
    while seen.len() < n {
        let ready = port.wait(Interest::RX, PATIENCE).unwrap();
        assert_eq!(ready, Ready::RX, "{} of {n} frames came", seen.len());
        port.recv(&mut burst).unwrap();
        while let Some(frame) = burst.pop_front() {
            if wanted(&frame) {
                seen.push(frame);
            }
        }
    }
    seen
}

fn is_ours(frame: &PacketFrame) -> bool {
    frame.data()[12..14] == ETHERTYPE
}

fn is_udp(frame: &PacketFrame) -> bool {
    frame.data()[12..14] == [8, 0] && frame.data()[23] == 17
}

fn counter(port: &PacketPort, name: &str) -> u64 {
    let mut found = 0;
    port.visit_counters(&mut |counter, value| found += if counter == name { value } else { 0 });
    found
}

#[test]
fn the_kernel_at_the_other_end_answers() {
    let Some(veth) = veth() else { return };
    let mut port = open(&veth.a, |_| {});
    // Who has 10.66.0.2? Tell 10.66.0.1 (RFC 826).
    let mut question = vec![0xff; 6];
    question.extend(Veth::MAC[0].0);
    question.extend([0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1]);
    question.extend(Veth::MAC[0].0);
    question.extend(Veth::IPV4[0].octets());
    question.extend([0; 6]);
    question.extend(Veth::IPV4[1].octets());
    send(&mut port, &[question]);
    let answer = receive(&mut port, 1, |frame| frame.data()[12..14] == [8, 6]);
    let answer = answer[0].data();
    assert_eq!(answer[20..22], [0, 2], "a reply");
    assert_eq!((&answer[22..28], &answer[28..32]), (&Veth::MAC[1].0[..], &[10, 66, 0, 2][..]));
}

#[test]
fn vlan_tags_arrive_where_they_were() {
    let Some(veth) = veth() else { return };
    let (mut a, mut b) = pair(&veth);
    let tagged = [
        frame(&[&[0x81, 0, 0x60, 7][..], &ETHERTYPE, b"one tag"].concat()),
        frame(&[&[0x88, 0xa8, 0, 9][..], &ETHERTYPE, b"a service tag"].concat()),
        frame(&[&[0x88, 0xa8, 0, 9, 0x81, 0, 0, 7][..], &ETHERTYPE, b"two tags"].concat()),
        // A tag may make a frame longer than the MTU allows otherwise.
        frame(&[&[0x81, 0, 0, 7][..], &ETHERTYPE, &[5; 1500]].concat()),
    ];
    assert_eq!(tagged[3].len(), a.caps().max_len + 4);
    send(&mut a, &tagged);
    let seen = receive(&mut b, 4, |frame| matches!(frame.data()[12..14], [0x81, 0] | [0x88, 0xa8]));
    for (frame, sent) in seen.iter().zip(&tagged) {
        assert_eq!(frame.data(), sent);
        assert_eq!(frame.rx_meta().vlan, None, "it is in the frame");
    }
}

#[test]
fn what_is_known_of_checksum_and_time_is_told() {
    let Some(veth) = veth() else { return };
    let (mut a, mut b) = pair(&veth);
    let now = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos();
    let before = now();
    send(&mut a, &[numbered(0, 60)]);
    let meta = receive(&mut b, 1, is_ours)[0].rx_meta();
    assert_eq!(meta.checksum, ChecksumVerdict::Unknown, "nobody looked into this one");
    let stamp = meta.timestamp.unwrap();
    assert_eq!(stamp.clock, Clock::Realtime);
    assert!((before..=now()).contains(&u128::from(stamp.nanos)), "{before} {stamp:?}");

    // The kernel leaves the checksum of its own datagrams to the device, which a veth has not.
    let socket = {
        let _inside = veth.a.enter().unwrap();
        UdpSocket::bind("10.66.0.1:0").unwrap()
    };
    socket.send_to(b"x", "10.66.0.2:9").unwrap();
    let meta = receive(&mut b, 1, is_udp)[0].rx_meta();
    assert_eq!(meta.checksum, ChecksumVerdict::NotNeeded);
}

#[test]
fn a_link_that_goes_down_is_reported_and_work_goes_on_when_it_is_up() {
    let Some(veth) = veth() else { return };
    let (mut a, mut b) = pair(&veth);
    send(&mut a, &[numbered(0, 60)]);
    receive(&mut b, 1, is_ours);

    veth.b.ip("link set veth0 down").unwrap();
    assert_eq!(b.wait(Interest::RX, PATIENCE).unwrap(), Ready::RX, "the error is news");
    let error = b.recv(&mut Burst::with_capacity(8)).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENETDOWN), "{error}");
    assert!(error.to_string().starts_with("cannot receive on veth0"), "{error}");
    assert!(error.to_string().contains("ip link set veth0 up"), "{error}");
    assert_eq!(b.recv(&mut Burst::with_capacity(8)).unwrap(), 0, "told once");
    let mut burst = compose(&mut b, &[numbered(1, 60)]);
    for _ in 0..2 {
        let error = b.send(&mut burst).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENETDOWN), "{error}");
        assert_eq!(burst.len(), 1, "the frame is still ours");
    }

    veth.b.ip("link set veth0 up").unwrap();
    assert_eq!(b.send(&mut burst).unwrap(), 1);
    receive(&mut a, 1, is_ours);
    send(&mut a, &[numbered(2, 60)]);
    let seen = receive(&mut b, 1, is_ours);
    assert_eq!(seen[0].data(), numbered(2, 60));

    // The link was down while nobody looked: that is no reason to refuse what comes now.
    veth.b.ip("link set veth0 down").unwrap();
    veth.b.ip("link set veth0 up").unwrap();
    send(&mut b, &[numbered(3, 60)]);
    receive(&mut a, 1, |frame| frame.data() == numbered(3, 60));
}

#[test]
fn an_interface_that_is_removed_is_reported_by_every_call() {
    let Some(veth) = veth() else { return };
    let (mut a, mut b) = pair(&veth);
    send(&mut a, &[numbered(0, 60)]);
    let kept = receive(&mut b, 1, is_ours);
    let mut burst = compose(&mut b, &[numbered(1, 60)]);
    veth.a.ip("link delete veth0").unwrap();
    let gone = |error: Error| {
        assert!(matches!(error, Error::NoSuchInterface { .. }), "{error:?}");
        assert!(error.to_string().contains("veth0"), "{error}");
    };
    // One end sleeps, the other looks without ever sleeping.
    assert_eq!(b.wait(Interest::RX, PATIENCE).unwrap(), Ready::RX);
    gone(b.recv(&mut Burst::with_capacity(8)).unwrap_err());
    gone(b.recv(&mut Burst::with_capacity(8)).unwrap_err());
    gone(b.wait(Interest::RX, None).unwrap_err());
    gone(b.send(&mut burst).unwrap_err());
    let deadline = Instant::now() + Duration::from_secs(5);
    let error = loop {
        match a.recv(&mut Burst::with_capacity(8)) {
            Ok(n) => assert!(n == 0 && Instant::now() < deadline, "it never heard of it"),
            Err(error) => break error,
        }
    };
    gone(error);
    assert_eq!((burst.len(), kept[0].data()), (1, &numbered(0, 60)[..]));
    drop(b);
    assert_eq!(burst[0].data(), numbered(1, 60), "frames outlive the port");
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
fn a_pool_without_buffers_leaves_frames_in_the_ring() {
    let Some(veth) = veth() else { return };
    let mut a = open(&veth.a, |_| {});
    let mut b = open(&veth.b, |options| options.pool = PoolOptions::new(8));
    send(&mut a, &(0..20).map(|i| numbered(i, 60)).collect::<Vec<_>>());
    let mut held = receive(&mut b, 8, is_ours);
    assert_eq!(b.recv(&mut Burst::with_capacity(8)).unwrap(), 0);
    assert!(counter(&b, "recv_dry") > 0);
    assert_eq!(b.stats().frames.unwrap().held, 8);
    held.clear();
    let rest = receive(&mut b, 8, is_ours);
    assert_eq!(rest[0].data(), numbered(8, 60), "nothing was lost meanwhile");
}

#[test]
fn frames_that_can_never_be_sent_stay_first() {
    let Some(veth) = veth() else { return };
    let (mut a, mut b) = pair(&veth);
    let max = a.caps().max_len;
    assert_eq!(max, 1514);
    let tagged = frame(&[&[0x81, 0, 0, 7][..], &[0; 1503]].concat());
    for (bad, wanted) in [
        (vec![], FrameError::TooShort { len: 0, min: 14 }),
        (vec![0; 13], FrameError::TooShort { len: 13, min: 14 }),
        (numbered(1, max + 1), FrameError::TooLong { len: max + 1, max }),
        (tagged, FrameError::TooLong { len: max + 5, max: max + 4 }),
    ] {
        let mut burst = compose(&mut a, &[numbered(0, 60), bad, numbered(2, max)]);
        assert_eq!(a.send(&mut burst).unwrap(), 1, "those in front of it go");
        match a.send(&mut burst).unwrap_err() {
            Error::Frame { cause, .. } => assert_eq!(cause, wanted),
            other => panic!("{other:?}"),
        }
        assert_eq!(burst.len(), 2);
        burst.pop_front();
        assert_eq!(a.send(&mut burst).unwrap(), 1);
        let seen = receive(&mut b, 2, is_ours);
        assert_eq!(seen[1].data(), numbered(2, max));
    }
    // The MTU is lowered while the port is open.
    veth.a.ip("link set veth0 mtu 1400").unwrap();
    let mut burst = compose(&mut a, &[numbered(3, 1414), numbered(4, 1415)]);
    assert_eq!(a.send(&mut burst).unwrap(), 1);
    let error = a.send(&mut burst).unwrap_err();
    assert!(error.to_string().contains("1415 bytes long, the limit here is 1414"), "{error}");
    assert_eq!(a.stats().tx_packets, 9);
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
fn what_this_machine_sends_is_received_only_when_asked_for() {
    let Some(veth) = veth() else { return };
    let mut quiet = open(&veth.a, |_| {});
    let mut curious = open(&veth.a, |options| options.outgoing = true);
    let (socket, mut b) = {
        let _inside = veth.a.enter().unwrap();
        (UdpSocket::bind("10.66.0.1:0").unwrap(), open(&veth.b, |_| {}))
    };
    socket.send_to(b"out", "10.66.0.2:9").unwrap();
    assert!(receive(&mut curious, 1, is_udp)[0].data().ends_with(b"out"));
    receive(&mut b, 1, is_udp);
    // The answers (ARP, ICMP) come in, the datagram itself does not.
    let mut burst = Burst::with_capacity(64);
    quiet.recv(&mut burst).unwrap();
    assert!(!burst.iter().any(is_udp));
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
        burst.iter().filter(|frame| is_udp(frame)).map(source).collect::<Vec<_>>()
    });
    let distinct = flows.each_ref().map(|flows| flows.iter().copied().collect::<HashSet<_>>());
    assert_eq!(flows[0].len() + flows[1].len(), 256, "each frame comes to one port");
    assert!(distinct[0].is_disjoint(&distinct[1]), "each flow too");
    assert!(distinct.iter().all(|flows| !flows.is_empty()), "both have work");
}

#[test]
fn promiscuous_mode_ends_with_the_port() {
    let Some(veth) = veth() else { return };
    let promiscuity = || {
        let shown = veth.b.ip("-d link show veth0").unwrap();
        shown.split_once("promiscuity ").unwrap().1.chars().next().unwrap()
    };
    let port = open(&veth.b, |options| options.promiscuous = true);
    assert_eq!(promiscuity(), '1');
    drop(port);
    assert_eq!(promiscuity(), '0');
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
