//! The AF_PACKET endpoint on veth pairs in namespaces, against the kernel's own stack.
#![cfg(feature = "packet")]
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

use std::net::UdpSocket;
use std::time::{Duration, SystemTime};

use bypass_core::backend::packet::PacketOptions;
use bypass_core::pool::PoolOptions;
use bypass_core::testing::needs::{Need, skip};
use bypass_core::testing::rig::{Namespace, Veth, VethOptions};
use bypass_core::{
    Buffer, Burst, ChecksumVerdict, Clock, DropCause, Endpoint, Error, Frame, FrameError, Interest,
    PacketIo, Ready,
};
use io_uring_ext::packet::{UringFrame, UringOptions, UringPort};

const PATIENCE: Option<Duration> = Some(Duration::from_secs(5));
/// EtherType for local experiments: no stack answers it.
const ETHERTYPE: [u8; 2] = [0x88, 0xb5];

fn veth() -> Option<Veth> {
    let missing = skip(&[Need::IoUring, Need::Namespaces]);
    (!missing).then(|| Veth::new(&VethOptions::default()).unwrap())
}

fn open(namespace: &Namespace, change: impl FnOnce(&mut PacketOptions)) -> UringPort {
    let _inside = namespace.enter().unwrap();
    let mut options = PacketOptions::new(Veth::NAME);
    change(&mut options);
    UringPort::open(&options, &UringOptions::new()).unwrap()
}

fn pair(veth: &Veth) -> (UringPort, UringPort) {
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

fn compose(port: &mut UringPort, frames: &[Vec<u8>]) -> Burst<UringFrame> {
    let mut burst = Burst::with_capacity(frames.len());
    assert_eq!(port.alloc(&mut burst, frames.len()), frames.len());
    for (frame, bytes) in burst.iter_mut().zip(frames) {
        frame.fill(bytes).unwrap();
    }
    burst
}

fn send(port: &mut UringPort, frames: &[Vec<u8>]) {
    let mut burst = compose(port, frames);
    assert_eq!(port.send(&mut burst).unwrap(), frames.len());
}

/// Receives until `wanted` has been true for `n` frames, and returns those.
fn receive(
    port: &mut UringPort,
    n: usize,
    mut wanted: impl FnMut(&UringFrame) -> bool,
) -> Vec<UringFrame> {
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

fn is_ours(frame: &UringFrame) -> bool {
    frame.data()[12..14] == ETHERTYPE
}

fn is_udp(frame: &UringFrame) -> bool {
    frame.data()[12..14] == [8, 0] && frame.data()[23] == 17
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
    // All at once, and one by one: the ways through `sendmmsg` and through the ring.
    send(&mut a, &tagged);
    tagged.iter().for_each(|frame| send(&mut a, std::slice::from_ref(frame)));
    let is_tagged = |frame: &UringFrame| matches!(frame.data()[12..14], [0x81, 0] | [0x88, 0xa8]);
    let seen = receive(&mut b, 8, is_tagged);
    for (frame, sent) in seen.iter().zip(tagged.iter().cycle()) {
        assert_eq!(frame.data(), sent);
        assert_eq!(frame.rx_meta().vlan, None, "it is in the frame");
    }
    assert_eq!(b.stats().rx_bytes, 2 * tagged.iter().map(|frame| frame.len() as u64).sum::<u64>());
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
fn a_third_party_sees_what_is_sent() {
    if skip(&[Need::IoUring, Need::Namespaces, Need::Tool("arping")]) {
        return;
    }
    let veth = Veth::new(&VethOptions::default()).unwrap();
    // Side b's own address is taken away, so nobody but the port can answer.
    veth.b.ip("address flush dev veth0").unwrap();
    let mut port = open(&veth.b, |_| {});
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let said = std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let said = veth.a.run("arping", "-c 3 -w 5 -I veth0 10.66.0.2");
            drop(stop);
            said
        });
        let mut burst = Burst::with_capacity(8);
        while stopped.try_recv() != Err(std::sync::mpsc::TryRecvError::Disconnected) {
            port.wait(Interest::RX, Some(Duration::from_millis(20))).unwrap();
            port.recv(&mut burst).unwrap();
            burst.retain(|frame| frame.data()[12..14] == [8, 6] && frame.data()[21] == 1);
            burst.iter_mut().for_each(answer_arp);
            port.send(&mut burst).unwrap();
        }
        asking.join().unwrap()
    });
    let said = said.unwrap();
    assert!(said.to_lowercase().contains("02:00:00:00:66:02"), "{said}");
}

/// Turns the question who has 10.66.0.2 into the answer (RFC 826).
fn answer_arp(frame: &mut UringFrame) {
    let data = frame.data_mut();
    let asker: [u8; 10] = data[22..32].try_into().unwrap();
    data[..6].copy_from_slice(&asker[..6]);
    data[6..12].copy_from_slice(&Veth::MAC[1].0);
    data[21] = 2;
    data[22..28].copy_from_slice(&Veth::MAC[1].0);
    data[28..32].copy_from_slice(&Veth::IPV4[1].octets());
    data[32..42].copy_from_slice(&asker);
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
    let mut inbox = Burst::with_capacity(8);
    let error = loop {
        match a.recv(&mut inbox) {
            Ok(0) => std::thread::yield_now(),
            Ok(_) => inbox.clear(),
            Err(error) => break error,
        }
    };
    gone(error);
    assert_eq!((burst.len(), kept[0].data()), (1, &numbered(0, 60)[..]));
    drop(b);
    assert_eq!(burst[0].data(), numbered(1, 60), "frames outlive the port");
}

#[test]
fn what_the_queue_has_no_room_for_is_counted() {
    let Some(veth) = veth() else { return };
    let mut a = open(&veth.a, |_| {});
    let mut b = open(&veth.b, |options| options.ring = Some(64));
    for batch in 0..10 {
        let frames: Vec<_> = (0..50).map(|i| numbered(batch * 50 + i, 60)).collect();
        send(&mut a, &frames);
    }
    let dropped = b.stats().drops[DropCause::RxQueueFull];
    assert!(dropped > 0);
    let (mut burst, mut next) = (Burst::with_capacity(64), 0);
    while b.recv(&mut burst).unwrap() > 0 {
        for frame in burst.iter().filter(|frame| is_ours(frame)) {
            assert_eq!(frame.data(), numbered(next, 60), "the first ones");
            next += 1;
        }
        burst.clear();
    }
    let stats = b.stats();
    assert_eq!(stats.drops[DropCause::RxQueueFull], dropped, "counted once");
    assert_eq!(stats.rx_packets + stats.drops.total(), 500, "{stats:?}");
}

#[test]
fn a_pool_without_buffers_leaves_frames_in_the_queue() {
    let Some(veth) = veth() else { return };
    let mut a = open(&veth.a, |_| {});
    let mut b = open(&veth.b, |options| options.pool = PoolOptions::new(8));
    let frames: Vec<_> = (0..20).map(|i| numbered(i, 60)).collect();
    send(&mut a, &frames);
    let mut held = receive(&mut b, 8, is_ours);
    assert_eq!(b.recv(&mut Burst::with_capacity(8)).unwrap(), 0);
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
    for (bad, wanted) in [
        (vec![], FrameError::TooShort { len: 0, min: 14 }),
        (vec![0; 13], FrameError::TooShort { len: 13, min: 14 }),
        (numbered(1, max + 1), FrameError::TooLong { len: max + 1, max }),
    ] {
        let mut burst = compose(&mut a, &[bad, numbered(2, max)]);
        match a.send(&mut burst).unwrap_err() {
            Error::Frame { cause, backend, .. } => assert_eq!((cause, backend), (wanted, "uring")),
            other => panic!("{other:?}"),
        }
        assert_eq!(burst.len(), 2);
        burst.pop_front();
        assert_eq!(a.send(&mut burst).unwrap(), 1);
        assert_eq!(receive(&mut b, 1, is_ours)[0].data(), numbered(2, max));
    }
    // The MTU is lowered while the port is open: the kernel refuses what goes through the ring.
    veth.a.ip("link set veth0 mtu 1400").unwrap();
    let mut burst = compose(&mut a, &[numbered(4, 1415)]);
    let error = a.send(&mut burst).unwrap_err();
    assert!(error.to_string().contains("1415 bytes long, the limit here is 1414"), "{error}");
    assert_eq!(burst.len(), 1);
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
}

#[test]
fn what_this_machine_sends_is_received_only_when_asked_for() {
    let Some(veth) = veth() else { return };
    let mut quiet = open(&veth.a, |_| {});
    let mut curious = open(&veth.a, |options| options.outgoing = true);
    let mut b = open(&veth.b, |_| {});
    let socket = {
        let _inside = veth.a.enter().unwrap();
        UdpSocket::bind("10.66.0.1:0").unwrap()
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
fn promiscuous_mode_ends_with_the_port() {
    let Some(veth) = veth() else { return };
    let promiscuity = || {
        let shown = veth.b.ip("-d link show veth0").unwrap();
        shown.split_once("promiscuity ").unwrap().1.chars().next().unwrap()
    };
    let port = open(&veth.b, |options| options.promiscuous = true);
    assert_eq!(promiscuity(), '1');
    drop(port);
    assert_eq!(promiscuity(), '0', "no operation keeps the socket open");
}
