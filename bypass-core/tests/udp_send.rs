//! The send path: headers as other hands read them, replies in place, refusals, back-pressure.

mod udp;

use std::net::{IpAddr, SocketAddr};

use bypass_core::pool::PoolOptions;
use bypass_core::udp::neighbours::Table;
use bypass_core::udp::{Config, Limits, TxChecksums};
use bypass_core::{
    Buffer, Burst, Datagram, DatagramIo, DropCause, Ecn, Endpoint, Error, FrameError, MacAddr,
    NextHop, RxMeta, Transmit, TxChecksum, TxOffloads, VlanTag,
};
use udp::*;

fn table() -> Table {
    Table::new().with(PEER_V4.into(), PEER).with(PEER_V6.into(), PEER)
}

fn with_table(config: Config) -> Config<Table> {
    config.neighbours(table())
}

fn peer(v6: bool) -> SocketAddr {
    let ip: IpAddr = if v6 { PEER_V6.into() } else { PEER_V4.into() };
    (ip, PEER_PORT).into()
}

#[test]
fn headers_are_right_in_other_eyes() {
    for (v6, vlan, len) in [
        (false, None, 0),
        (false, None, 1),
        (false, None, 1472),
        (false, Some(7), 64),
        (true, None, 0),
        (true, None, 1452),
        (true, Some(7), 63),
    ] {
        let refine = |config| match vlan {
            Some(id) => with_table(config).vlan(id),
            None => with_table(config),
        };
        let (mut stack, wire) = stack(refine);
        let payload: Vec<u8> = (0..len).map(|i| i as u8).collect();
        // The second one finds its headers in the cache.
        for _ in 0..2 {
            let mut burst = compose(&mut stack, &payload);
            burst[0].send_to(peer(v6));
            assert_eq!(stack.send(&mut burst).unwrap(), 1);
            let sent = wire.sent_one();
            assert_eq!(sent.bytes[..12], [PEER.0, US.0].concat());
            let (from, to, source, destination, got) = judged(&sent.bytes);
            let ours: IpAddr = if v6 { US_V6.into() } else { US_V4.into() };
            assert_eq!((from, source), (ours, PORT));
            assert_eq!(SocketAddr::new(to, destination), peer(v6));
            assert_eq!(got, payload);
            let tag = [0x81, 0, 0, 7];
            assert_eq!(sent.bytes[12..16] == tag, vlan.is_some());
        }
        assert_eq!(counter(&stack, "flow_misses"), 1);
    }
}

#[test]
fn a_reply_goes_back_in_the_same_memory() {
    for bytes in [v4(b"payload"), v6(b"payload")] {
        let (mut stack, wire) = stack(with_table);
        wire.arrive(&bytes);
        let mut got = received(&mut stack);
        let end = got[0].data().as_ptr_range().end;
        got[0].reply();
        stack.send(&mut got).unwrap();
        let sent = wire.sent_one();
        assert_eq!(sent.end, end, "not copied");
        assert_eq!(sent.bytes[..12], [PEER.0, US.0].concat());
        let (from, to, source, destination, payload) = judged(&sent.bytes);
        assert!(stack.local_addr() == (from, PORT).into() || from == IpAddr::from(US_V6));
        assert_eq!((source, to, destination), (PORT, peer(from.is_ipv6()).ip(), PEER_PORT));
        assert_eq!(payload, b"payload");
        let sums = if from.is_ipv6() { 60..62 } else { 40..42 };
        assert_eq!(sent.bytes[sums.clone()], bytes[sums], "the same sum, not made again");
        assert_eq!(counter(&stack, "turned_in_place"), 1);
    }
}

#[test]
fn a_changed_reply_has_a_new_checksum() {
    type Change = fn(&mut dyn FnMut(Edit));
    enum Edit {
        Byte,
        Shorter,
        Longer,
        Front,
        Prefix,
    }
    let edits: [(Change, &[u8]); 5] = [
        (|edit| edit(Edit::Byte), b"Payload"),
        (|edit| edit(Edit::Shorter), b"pay"),
        (|edit| edit(Edit::Longer), b"payloads"),
        (|edit| edit(Edit::Front), b"load"),
        (|edit| edit(Edit::Prefix), b"re:payload"),
    ];
    for bytes in [v4(b"payload"), v6(b"payload")] {
        for (change, expected) in &edits {
            let (mut stack, wire) = stack(with_table);
            wire.arrive(&bytes);
            let mut got = received(&mut stack);
            let before = got[0].recv_meta();
            change(&mut |edit| match edit {
                Edit::Byte => got[0].data_mut()[0] = b'P',
                Edit::Shorter => got[0].set_len(3).unwrap(),
                Edit::Longer => got[0].append(1).unwrap().copy_from_slice(b"s"),
                Edit::Front => got[0].trim_front(3).unwrap(),
                Edit::Prefix => got[0].prepend(3).unwrap().copy_from_slice(b"re:"),
            });
            assert_eq!(got[0].recv_meta(), before, "what was received is still known");
            got[0].reply();
            stack.send(&mut got).unwrap();
            assert_eq!(judged(&wire.sent_one().bytes).4, *expected);
        }
    }
}

#[test]
fn a_reply_to_an_unusual_packet_is_a_usual_one() {
    // With IPv4 options; to a group; with its tag beside it.
    let options = {
        let plain = v4(b"payload");
        let mut bytes = [&plain[..34], &[1, 1, 1, 0], &plain[34..]].concat();
        (bytes[14], bytes[17]) = (0x46, bytes[17] + 4);
        mend_ipv4(&mut bytes);
        bytes
    };
    let group = v4_to(MacAddr([1, 0, 0x5e, 1, 2, 3]), [239, 1, 2, 3], b"payload");
    let mut stripped = RxMeta::default();
    stripped.vlan = Some(VlanTag { tpid: 0x8100, tci: 7 });
    for (bytes, meta, vlan) in [
        (options, RxMeta::default(), None),
        (group, RxMeta::default(), None),
        (v4(b"payload"), stripped, Some(7)),
    ] {
        // The table is empty: the station is known from the datagram alone.
        let refine = |config: Config| {
            let config = config.neighbours(Table::new());
            if let Some(id) = vlan { config.vlan(id) } else { config }
        };
        let (mut stack, wire) = stack(refine);
        stack.join("239.1.2.3".parse().unwrap()).unwrap();
        stack.flush().unwrap();
        wire.sent();
        wire.arrive_with(&bytes, meta);
        let mut got = received(&mut stack);
        got[0].reply();
        stack.send(&mut got).unwrap();
        let sent = wire.sent_one();
        let header = if vlan.is_some() { 46 } else { 42 };
        assert_eq!(sent.bytes.len(), header + 7);
        let (from, to, .., payload) = judged(&sent.bytes);
        assert_eq!((from, to), (US_V4.into(), PEER_V4.into()));
        assert_eq!(payload, b"payload");
        assert_eq!(sent.bytes[..6], PEER.0);
    }
}

#[test]
fn the_device_finishes_checksums_where_it_can() {
    let mut options = PoolOptions::new(64);
    options.tx_offloads = TxOffloads::CHECKSUM;
    for (policy, v6, by_device) in [
        (TxChecksums::Auto, false, true),
        (TxChecksums::Auto, true, true),
        (TxChecksums::Software, false, false),
        (TxChecksums::Omit, true, true),
    ] {
        let (mut stack, wire) =
            stack_on(&options, |config| with_table(config).tx_checksums(policy));
        let mut burst = compose(&mut stack, b"payload");
        burst[0].send_to(peer(v6));
        stack.send(&mut burst).unwrap();
        let mut sent = wire.sent_one();
        let start = if v6 { 54 } else { 34 };
        let asked = TxChecksum { start: start as u16, offset: 6 };
        assert_eq!(sent.meta.checksum, by_device.then_some(asked), "{policy:?}");
        if by_device {
            let sum = checksum(&sent.bytes[start..]);
            sent.bytes[start + 6..start + 8].copy_from_slice(&sum);
        }
        judged(&sent.bytes);
    }
    let (mut stack, wire) =
        stack_on(&options, |config| with_table(config).tx_checksums(TxChecksums::Omit));
    let mut burst = compose(&mut stack, b"payload");
    burst[0].send_to(peer(false));
    stack.send(&mut burst).unwrap();
    let sent = wire.sent_one();
    assert_eq!((&sent.bytes[40..42], sent.meta.checksum), (&[0, 0][..], None));
}

#[test]
fn what_can_never_be_sent_stays_first_and_says_why() {
    let to = |text: &str| Transmit::to(text.parse().unwrap());
    let with = |change: &dyn Fn(&mut Transmit)| {
        let mut transmit = to("10.0.0.2:5000");
        change(&mut transmit);
        transmit
    };
    let cases: Vec<(Transmit, usize, &str)> = vec![
        (Transmit::default(), 1, "no destination"),
        (to("0.0.0.0:1"), 1, "no other host"),
        (to("127.0.0.1:1"), 1, "no other host"),
        (to("10.0.0.1:1"), 1, "no other host"),
        (to("[fd00::1]:1"), 1, "no other host"),
        (to("1.1.1.1:1"), 1, "no gateway"),
        (to("10.0.0.77:1"), 1, "not in the static table"),
        (to("10.0.0.2:1"), 1473, "limit here is 1472"),
        (to("[fd00::2]:1"), 1453, "limit here is 1452"),
        (with(&|t| t.segment_size = Some(100)), 1, "segmentation"),
        (with(&|t| t.source = Some([10, 0, 0, 9].into())), 1, "source address 10.0.0.9"),
        (with(&|t| t.source = Some(US_V6.into())), 1, "another family"),
    ];
    for (transmit, len, reason) in cases {
        let (mut stack, wire) = stack(with_table);
        let mut burst = compose(&mut stack, &vec![7; len]);
        burst[0].set_transmit(transmit);
        let mut second = compose(&mut stack, b"second");
        second[0].send_to(peer(false));
        burst.append(&mut second, 1);
        for _ in 0..2 {
            let error = stack.send(&mut burst).unwrap_err();
            assert!(matches!(error, Error::Frame { .. }), "{error}");
            assert!(error.to_string().contains(reason), "{error}: {reason}");
            assert_eq!((burst.len(), burst[0].data()), (2, &vec![7; len][..]));
        }
        assert!(wire.sent().is_empty());
        burst.pop_front();
        assert_eq!(stack.send(&mut burst).unwrap(), 1);
        assert_eq!(judged(&wire.sent_one().bytes).4, b"second");
    }
}

#[test]
fn one_that_cannot_be_sent_stops_those_behind_it_only() {
    let (mut stack, wire) = stack(with_table);
    let mut burst = Burst::with_capacity(3);
    for destination in [Some(peer(false)), None, Some(peer(true))] {
        let mut one = compose(&mut stack, b"payload");
        if let Some(destination) = destination {
            one[0].send_to(destination);
        }
        burst.append(&mut one, 1);
    }
    assert_eq!(stack.send(&mut burst).unwrap(), 1);
    let error = stack.send(&mut burst).unwrap_err();
    assert!(matches!(error, Error::Frame { cause: FrameError::NoDestination, .. }));
    burst.pop_front();
    assert_eq!(stack.send(&mut burst).unwrap(), 1);
    assert_eq!(wire.sent().len(), 2);
}

#[test]
fn headers_need_headroom() {
    let (mut stack, wire) = stack(with_table);
    let mut fresh = compose(&mut stack, b"payload");
    let stated = stack.caps().headroom;
    assert_eq!(fresh[0].headroom(), stated);
    fresh[0].prepend(stated).unwrap().fill(b'.');
    assert!(fresh[0].prepend(1).is_err(), "the rest is for headers");
    fresh[0].send_to(peer(true));
    assert_eq!(stack.send(&mut fresh).unwrap(), 1);
    assert_eq!(judged(&wire.sent_one().bytes).4.len(), stated + 7);

    // A frame that was received at the very start of its buffer has room for what it came with.
    wire.arrive_at_start(&v4(b"payload"));
    let mut got = received(&mut stack);
    assert_eq!(got[0].headroom(), 0);
    got[0].send_to(peer(true));
    let error = stack.send(&mut got).unwrap_err();
    assert!(matches!(error, Error::Frame { cause: FrameError::Room(_), .. }), "{error}");
    assert_eq!(got[0].data(), b"payload");
    got[0].reply();
    assert_eq!(stack.send(&mut got).unwrap(), 1);
    assert_eq!(judged(&wire.sent_one().bytes).4, b"payload");
}

#[test]
fn a_full_port_pushes_back_and_headers_come_once() {
    let limits = Limits { tx_queue: 4, ..Limits::default() };
    let (mut stack, wire) = stack(|config| with_table(config).limits(limits));
    wire.set_room(0);
    let mut burst = Burst::with_capacity(8);
    for i in 0..8 {
        let mut one = compose(&mut stack, &[i]);
        one[0].send_to(peer(i % 2 == 1));
        burst.append(&mut one, 1);
    }
    assert_eq!(stack.send(&mut burst).unwrap(), 4, "as many as the queue holds");
    assert_eq!(stack.send(&mut burst).unwrap(), 0);
    assert_eq!(burst[0].data(), [4]);
    let stats = stack.stats();
    assert_eq!((stats.tx_packets, stats.tx_in_flight, stats.drops.total()), (0, 4, 0));
    let census = stats.frames.unwrap();
    assert!(census.adds_up());
    assert_eq!((census.held, census.tx_in_flight), (4, 4));
    wire.set_room(3);
    stack.flush().unwrap();
    assert_eq!(stack.stats().tx_in_flight, 1);
    wire.set_room(usize::MAX);
    assert_eq!(stack.send(&mut burst).unwrap(), 4);
    let payloads: Vec<_> = wire.sent().iter().map(|sent| judged(&sent.bytes).4).collect();
    assert_eq!(payloads, (0..8).map(|i| vec![i]).collect::<Vec<_>>());
    let stats = stack.stats();
    assert_eq!((stats.tx_packets, stats.tx_bytes, stats.tx_in_flight), (8, 8, 0));
    assert_eq!(stats.frames.unwrap().held, 0);
}

#[test]
fn what_the_port_says_is_passed_on() {
    let (mut stack, wire) = stack(with_table);
    let gone = || Error::os("send on a test port", std::io::ErrorKind::NotConnected);
    let mut burst = compose(&mut stack, b"payload");
    burst[0].send_to(peer(false));
    // It is in the queue already when the port fails, so the next call tells.
    wire.fail_with(gone());
    assert_eq!(stack.send(&mut burst).unwrap(), 1);
    let told = stack.flush().unwrap_err();
    assert!(told.to_string().contains("test port"), "{told}");
    stack.flush().unwrap();
    assert_eq!(wire.sent().len(), 1, "nothing was lost");

    // What the port can never send has no caller any more.
    let mut burst = compose(&mut stack, b"payload");
    burst[0].send_to(peer(false));
    wire.fail_with(Error::frame("send a frame", "scripted", FrameError::ForeignPool));
    assert_eq!(stack.send(&mut burst).unwrap(), 1);
    assert!(matches!(stack.flush(), Err(Error::Frame { .. })));
    let stats = stack.stats();
    assert_eq!((stats.drops[DropCause::TxError], stats.tx_packets, stats.tx_in_flight), (1, 1, 0));
}

#[test]
fn congestion_marks_travel_both_ways() {
    let (mut stack, wire) = stack(with_table);
    for (v6, ecn) in [(false, Ecn::Ect0), (true, Ecn::Congestion), (true, Ecn::Ect1)] {
        let mut burst = compose(&mut stack, b"payload");
        let mut transmit = Transmit::to(peer(v6));
        transmit.ecn = ecn;
        burst[0].set_transmit(transmit);
        stack.send(&mut burst).unwrap();
        let sent = wire.sent_one().bytes;
        let class = if v6 { sent[15] >> 4 } else { sent[15] };
        assert_eq!(Ecn::from_bits(class), ecn);
        let mut bytes = if v6 { v6_bytes() } else { v4(b"payload") };
        if v6 {
            bytes[15] |= (ecn as u8) << 4;
        } else {
            bytes[15] = ecn as u8;
            mend_ipv4(&mut bytes);
        }
        wire.arrive(&bytes);
        assert_eq!(received(&mut stack)[0].recv_meta().ecn, ecn);
    }
}

fn v6_bytes() -> Vec<u8> {
    v6(b"payload")
}

#[test]
fn groups_and_broadcasts_have_stations_of_their_own() {
    let (mut stack, wire) = stack(|config| config.neighbours(Table::new()).multicast_ttl(3));
    for (destination, station) in [
        ("239.1.2.3:9", "01:00:5e:01:02:03"),
        ("255.255.255.255:9", "ff:ff:ff:ff:ff:ff"),
        ("10.0.0.255:9", "ff:ff:ff:ff:ff:ff"),
        ("[ff05::1:2]:9", "33:33:00:01:00:02"),
    ] {
        let mut burst = compose(&mut stack, b"payload");
        burst[0].send_to(destination.parse().unwrap());
        stack.send(&mut burst).unwrap();
        let sent = wire.sent_one().bytes;
        assert_eq!(sent[..6], station.parse::<MacAddr>().unwrap().0, "{destination}");
        judged(&sent);
        assert_eq!(sent[if sent[12] == 8 { 22 } else { 21 }], 3, "hops");
    }
}

#[test]
fn the_next_hop_spares_the_lookup() {
    let (mut stack, wire) = stack(|config| config.neighbours(Table::new()));
    let mut burst = compose(&mut stack, b"payload");
    let mut transmit = Transmit::to("1.1.1.1:53".parse().unwrap());
    transmit.next_hop = Some(NextHop { mac: MacAddr([2, 9, 9, 9, 9, 9]) });
    burst[0].set_transmit(transmit);
    stack.send(&mut burst).unwrap();
    assert_eq!(wire.sent_one().bytes[..6], [2, 9, 9, 9, 9, 9]);
}

#[test]
fn a_reply_through_another_endpoint_is_refused() {
    let (mut ours, wire) = stack(with_table);
    let (port, other_wire) = port(&PoolOptions::new(64));
    let other = Config::new(US, PORT).address("10.0.0.7/24".parse().unwrap());
    let mut other = bypass_core::udp::UdpOverL2::new(port, with_table(other)).unwrap();
    wire.arrive(&v4(b"payload"));
    let mut got = received(&mut ours);
    got[0].reply();
    let error = other.send(&mut got).unwrap_err();
    assert!(error.to_string().contains("source address 10.0.0.1"), "{error}");
    assert!(other_wire.sent().is_empty());
    assert_eq!(ours.send(&mut got).unwrap(), 1, "at home it goes");
}
