//! The checks.

use std::net::UdpSocket;
use std::time::{Duration, Instant, SystemTime};

use super::Ports;
use super::tools::{
    ETHERTYPE, bad_news, compose, frame, is_ours, is_udp, numbered, offered, open, pair, receive,
    send, sent, veth,
};
use crate::pool::PoolOptions;
use crate::testing::rig::Veth;
use crate::{
    Buffer, Burst, ChecksumVerdict, Clock, DropCause, Error, Frame, FrameError, Interest, PacketIo,
    RxOffloads,
};

/// One property, which panics where it does not hold.
pub(super) type Check<P> = fn(Ports<'_, P>);

/// Every check and its name.
pub(super) fn all<P: PacketIo>() -> Vec<(&'static str, Check<P>)> {
    vec![
        ("the_kernel_at_the_other_end_answers", the_kernel_at_the_other_end_answers::<P>),
        ("vlan_tags_arrive_where_they_were", vlan_tags_arrive_where_they_were::<P>),
        (
            "what_is_known_of_checksum_and_time_is_told",
            what_is_known_of_checksum_and_time_is_told::<P>,
        ),
        (
            "a_link_that_goes_down_is_reported_and_work_goes_on_when_it_is_up",
            a_link_that_goes_down_is_reported_and_work_goes_on_when_it_is_up::<P>,
        ),
        (
            "an_interface_that_is_removed_is_reported_by_every_call",
            an_interface_that_is_removed_is_reported_by_every_call::<P>,
        ),
        (
            "what_the_queue_has_no_room_for_is_counted",
            what_the_queue_has_no_room_for_is_counted::<P>,
        ),
        (
            "a_pool_without_buffers_leaves_frames_in_the_queue_or_counts_them",
            a_pool_without_buffers_leaves_frames_in_the_queue_or_counts_them::<P>,
        ),
        ("frames_that_can_never_be_sent_stay_first", frames_that_can_never_be_sent_stay_first::<P>),
        (
            "what_this_machine_sends_is_received_only_when_asked_for",
            what_this_machine_sends_is_received_only_when_asked_for::<P>,
        ),
        ("promiscuous_mode_ends_with_the_port", promiscuous_mode_ends_with_the_port::<P>),
    ]
}

fn the_kernel_at_the_other_end_answers<P: PacketIo>(ports: Ports<'_, P>) {
    let veth = veth();
    let mut port = open(ports, &veth.a, |_| {});
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

fn vlan_tags_arrive_where_they_were<P: PacketIo>(ports: Ports<'_, P>) {
    let veth = veth();
    let (mut a, mut b) = pair(ports, &veth);
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
    let is_tagged = |frame: &P::Frame| matches!(frame.data()[12..14], [0x81, 0] | [0x88, 0xa8]);
    let seen = receive(&mut b, 8, is_tagged);
    for (frame, sent) in seen.iter().zip(tagged.iter().cycle()) {
        assert_eq!(frame.data(), sent);
        assert_eq!(frame.rx_meta().vlan, None, "it is in the frame");
    }
    assert_eq!(b.stats().rx_bytes, 2 * tagged.iter().map(|frame| frame.len() as u64).sum::<u64>());
}

fn what_is_known_of_checksum_and_time_is_told<P: PacketIo>(ports: Ports<'_, P>) {
    let veth = veth();
    let (mut a, mut b) = pair(ports, &veth);
    let now = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos();
    let before = now();
    send(&mut a, &[numbered(0, 60)]);
    let meta = receive(&mut b, 1, is_ours)[0].rx_meta();
    let told = b.caps().rx_offloads;
    assert_eq!(meta.checksum, ChecksumVerdict::Unknown, "nobody looked into this one");
    assert_eq!(meta.timestamp.is_some(), told.contains(RxOffloads::TIMESTAMP), "{told:?}");
    if let Some(stamp) = meta.timestamp {
        assert_eq!(stamp.clock, Clock::Realtime);
        assert!((before..=now()).contains(&u128::from(stamp.nanos)), "{before} {stamp:?}");
    }

    // The kernel leaves the checksum of its own datagrams to the device, which a veth has not.
    let socket = {
        let _inside = veth.a.enter().unwrap();
        UdpSocket::bind("10.66.0.1:0").unwrap()
    };
    // Nobody answers ARP where a port takes what comes.
    let station = Veth::MAC[1];
    veth.a.ip(&format!("neighbour replace 10.66.0.2 lladdr {station} dev veth0")).unwrap();
    socket.send_to(b"x", "10.66.0.2:9").unwrap();
    let meta = receive(&mut b, 1, is_udp)[0].rx_meta();
    let looks = told.contains(RxOffloads::CHECKSUM);
    let expected = if looks { ChecksumVerdict::NotNeeded } else { ChecksumVerdict::Unknown };
    assert_eq!(meta.checksum, expected);
}

fn a_link_that_goes_down_is_reported_and_work_goes_on_when_it_is_up<P: PacketIo>(
    ports: Ports<'_, P>,
) {
    let veth = veth();
    let (mut a, mut b) = pair(ports, &veth);
    send(&mut a, &[numbered(0, 60)]);
    receive(&mut b, 1, is_ours);

    veth.b.ip("link set veth0 down").unwrap();
    let error = bad_news(&mut b);
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
    b.flush().unwrap();
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

fn an_interface_that_is_removed_is_reported_by_every_call<P: PacketIo>(ports: Ports<'_, P>) {
    let veth = veth();
    let (mut a, mut b) = pair(ports, &veth);
    send(&mut a, &[numbered(0, 60)]);
    let kept = receive(&mut b, 1, is_ours);
    let mut burst = compose(&mut b, &[numbered(1, 60)]);
    veth.a.ip("link delete veth0").unwrap();
    let gone = |error: Error| {
        assert!(matches!(error, Error::NoSuchInterface { .. }), "{error:?}");
        assert!(error.to_string().contains("veth0"), "{error}");
    };
    // One end sleeps, the other looks without ever sleeping.
    gone(bad_news(&mut b));
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

fn what_the_queue_has_no_room_for_is_counted<P: PacketIo>(ports: Ports<'_, P>) {
    let veth = veth();
    let mut a = open(ports, &veth.a, |_| {});
    let mut b = open(ports, &veth.b, |options| options.ring = Some(64));
    for batch in 0..10 {
        let frames: Vec<_> = (0..50).map(|i| numbered(batch * 50 + i, 60)).collect();
        send(&mut a, &frames);
    }
    let dropped = b.stats().drops[DropCause::RxQueueFull];
    assert!(dropped > 0);
    let (mut burst, mut next) = (Burst::with_capacity(64), 0);
    while b.recv(&mut burst).unwrap() > 0 {
        for frame in burst.iter().filter(|frame| is_ours(*frame)) {
            assert_eq!(frame.data(), numbered(next, 60), "the first ones");
            next += 1;
        }
        burst.clear();
    }
    let stats = b.stats();
    assert_eq!(stats.drops[DropCause::RxQueueFull], dropped, "counted once");
    assert_eq!(stats.rx_packets + stats.drops.total(), 500, "{stats:?}");
}

fn a_pool_without_buffers_leaves_frames_in_the_queue_or_counts_them<P: PacketIo>(
    ports: Ports<'_, P>,
) {
    let veth = veth();
    let mut a = open(ports, &veth.a, |_| {});
    let mut b = open(ports, &veth.b, |options| options.pool = PoolOptions::new(8));
    let frames: Vec<_> = (0..20).map(|i| numbered(i, 60)).collect();
    send(&mut a, &frames);
    sent(&mut a);
    // A queue that has no room but that of the pool loses what comes meanwhile.
    let lost = b.stats().drops[DropCause::RxNoFrame];
    assert!(lost == 0 || b.stats().frames.unwrap().rx_posted > 0, "{:?}", b.stats());
    let first = (20 - lost).min(8) as usize;
    let mut held = receive(&mut b, first, is_ours);
    assert_eq!(b.recv(&mut Burst::with_capacity(8)).unwrap(), 0);
    assert_eq!(b.stats().frames.unwrap().held, first as u64);
    held.clear();
    let mut next = first as u16;
    while u64::from(next) < 20 - lost {
        for frame in receive(&mut b, 1, is_ours) {
            assert_eq!(frame.data(), numbered(next, 60), "nothing was lost meanwhile");
            next += 1;
        }
    }
    let stats = b.stats();
    assert_eq!((stats.rx_packets + lost, stats.drops.total()), (20, lost), "{stats:?}");
}

fn frames_that_can_never_be_sent_stay_first<P: PacketIo>(ports: Ports<'_, P>) {
    let veth = veth();
    let (mut a, mut b) = pair(ports, &veth);
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
        a.flush().unwrap();
        let seen = receive(&mut b, 2, is_ours);
        assert_eq!(seen[1].data(), numbered(2, max));
    }
    // The MTU is lowered while the port is open.
    veth.a.ip("link set veth0 mtu 1400").unwrap();
    let mut burst = compose(&mut a, &[numbered(3, 1414), numbered(4, 1415)]);
    let taken = a.send(&mut burst).unwrap();
    if taken == 1 {
        let error = a.send(&mut burst).unwrap_err();
        assert!(error.to_string().contains("1415 bytes long, the limit here is 1414"), "{error}");
    }
    // Where nobody asks the kernel, what no longer fits is the link's to drop.
    assert_eq!(sent(&mut a), 8 + taken as u64);
}

fn what_this_machine_sends_is_received_only_when_asked_for<P: PacketIo>(ports: Ports<'_, P>) {
    let veth = veth();
    let mut quiet = open(ports, &veth.a, |_| {});
    let Some(mut curious) = offered(ports, &veth.a, |options| options.outgoing = true) else {
        return;
    };
    let (socket, mut b) = {
        let _inside = veth.a.enter().unwrap();
        (UdpSocket::bind("10.66.0.1:0").unwrap(), open(ports, &veth.b, |_| {}))
    };
    socket.send_to(b"out", "10.66.0.2:9").unwrap();
    assert!(receive(&mut curious, 1, is_udp)[0].data().ends_with(b"out"));
    receive(&mut b, 1, is_udp);
    // The answers (ARP, ICMP) come in, the datagram itself does not.
    let mut burst = Burst::with_capacity(64);
    quiet.recv(&mut burst).unwrap();
    assert!(!burst.iter().any(is_udp));
}

fn promiscuous_mode_ends_with_the_port<P: PacketIo>(ports: Ports<'_, P>) {
    let veth = veth();
    let promiscuity = || {
        let shown = veth.b.ip("-d link show veth0").unwrap();
        shown.split_once("promiscuity ").unwrap().1.chars().next().unwrap()
    };
    let Some(port) = offered(ports, &veth.b, |options| options.promiscuous = true) else { return };
    assert_eq!(promiscuity(), '1');
    drop(port);
    assert_eq!(promiscuity(), '0');
}
