//! ARP and NDP on the wire, datagrams that wait for an answer, and what waiting costs.

#![allow(clippy::unwrap_used, reason = "helpers are part of the tests")]

mod udp;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use bypass_core::udp::neighbours::{
    Learned, Lookup, Neighbours, Nobody, Resolver, ResolverOptions, Table,
};
use bypass_core::udp::{Config, Limits};
use bypass_core::{
    Buffer, Burst, Datagram, DatagramIo, DropCause, Endpoint, Error, Interest, MacAddr, Ready,
    RxMeta, VlanTag,
};
use udp::*;

/// Tries again soon and gives up soon, for those who wait.
fn hasty() -> Resolver {
    Resolver::new(ResolverOptions {
        tries: 2,
        retransmit: Duration::from_millis(5),
        failed: Duration::from_millis(20),
        ..ResolverOptions::default()
    })
}

fn send_to<N: Neighbours>(stack: &mut Stack<N>, payload: &[u8], to: &str) {
    let mut burst = compose(stack, payload);
    burst[0].send_to(to.parse().unwrap());
    assert_eq!(stack.send(&mut burst).unwrap(), 1);
}

/// Calls `flush` until `done`.
fn flush_until<N: Neighbours>(stack: &mut Stack<N>, mut done: impl FnMut(&Stack<N>) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !done(stack) {
        stack.flush().unwrap();
        assert!(Instant::now() < deadline, "it never came: {:?}", stack.stats());
    }
}

fn arp_request(frame: &[u8]) -> ([u8; 4], [u8; 6]) {
    assert_eq!(frame[12..22], [8, 6, 0, 1, 8, 0, 6, 4, 0, 1], "{frame:?}");
    assert_eq!(frame[22..32], [&US.0[..], &US_V4].concat());
    (frame[38..42].try_into().unwrap(), frame[..6].try_into().unwrap())
}

// --- those who ask for us ------------------------------------------------------------------------

#[test]
fn an_arp_request_becomes_its_answer() {
    for vlan in [None, Some(7)] {
        let refine = |config: Config| vlan.map_or(config.clone(), |id| config.vlan(id));
        let (mut stack, wire) = stack(refine);
        let mut meta = RxMeta::default();
        meta.vlan = vlan.map(|tci| VlanTag { tpid: 0x8100, tci });
        wire.arrive_with(&arp(1, (PEER.0, PEER_V4), US_V4), meta);
        assert!(received(&mut stack).is_empty());
        let sent = wire.sent_one().bytes;
        let header = if vlan.is_some() { 18 } else { 14 };
        assert_eq!(sent.len(), header + 28);
        assert_eq!(sent[..12], [PEER.0, US.0].concat());
        let reply = [&[0, 1, 8, 0, 6, 4, 0, 2][..], &US.0, &US_V4, &PEER.0, &PEER_V4].concat();
        assert_eq!(sent[header..], reply);
        assert_eq!(counter(&stack, "control_received"), 1);
        assert_accounted(&stack);
        // Who asks is about to be talked to: nobody has to ask back.
        send_to(&mut stack, b"payload", "10.0.0.2:9");
        assert_eq!(wire.sent_one().bytes[..6], PEER.0);
    }
}

#[test]
fn a_probe_is_answered_and_not_believed() {
    let (mut stack, wire) = stack(|config| config);
    wire.arrive(&arp(1, (PEER.0, [0; 4]), US_V4));
    received(&mut stack);
    assert_eq!(wire.sent_one().bytes[20..22], [0, 2]);
    send_to(&mut stack, b"payload", "10.0.0.2:9");
    assert_eq!(arp_request(&wire.sent_one().bytes).0, PEER_V4, "it has to be asked");
}

#[test]
fn a_solicitation_is_answered_as_rfc_4861_has_it() {
    let all_nodes = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    for (from, to_host, flags, to_station) in
        [(PEER_V6, PEER_V6, 0x60, PEER.0), ([0; 16], all_nodes, 0x20, [0x33, 0x33, 0, 0, 0, 1])]
    {
        let (mut stack, wire) = stack(|config| config);
        wire.arrive(&ndp(135, 0, from, solicited(US_V6), US_V6));
        assert!(received(&mut stack).is_empty());
        let sent = wire.sent_one().bytes;
        let mut message = vec![136, 0, 0, 0, flags, 0, 0, 0];
        message.extend(US_V6);
        message.extend([2, 1]);
        message.extend(US.0);
        let expected = icmpv6(MacAddr(to_station), US_V6, to_host, 255, &message);
        assert_eq!(sent[..6], expected[..6]);
        assert_eq!(sent[6..12], US.0);
        assert_eq!(sent[12..], expected[12..]);
        assert_accounted(&stack);
    }
}

/// Knows nobody, and has the kernel answer for it.
struct KernelAnswers;

impl Neighbours for KernelAnswers {
    fn lookup(&mut self, _: IpAddr, _: Duration) -> Lookup {
        Lookup::Unknown("this is a test".into())
    }

    fn stack_answers(&self) -> bool {
        false
    }
}

#[test]
fn where_the_kernel_answers_the_stack_does_not() {
    let (mut stack, wire) = stack(|config| config.neighbours(KernelAnswers));
    wire.arrive(&arp(1, (PEER.0, PEER_V4), US_V4));
    wire.arrive(&ndp(135, 0, PEER_V6, solicited(US_V6), US_V6));
    received(&mut stack);
    assert!(wire.sent().is_empty());
    assert_eq!(counter(&stack, "control_received"), 2);
}

#[test]
fn a_ping_becomes_its_answer_in_the_same_memory() {
    for (bytes, kind) in [(ping_v4(), 0), (ping_v6(), 129)] {
        let (mut stack, wire) = stack(|config| config.echo(true).ttl(42));
        wire.arrive(&bytes);
        assert!(received(&mut stack).is_empty());
        let sent = wire.sent_one();
        let start = if kind == 0 { 34 } else { 54 };
        assert_eq!(sent.bytes[start], kind);
        assert_eq!(sent.bytes[start + 4..], bytes[start + 4..], "identifier, number and data");
        let packet = etherparse::PacketHeaders::from_ethernet_slice(&sent.bytes).unwrap();
        match packet.net.unwrap() {
            etherparse::NetHeaders::Ipv4(ip, _) => {
                assert_eq!(ip.calc_header_checksum(), ip.header_checksum);
                assert_eq!((ip.source, ip.destination, ip.time_to_live), (US_V4, PEER_V4, 42));
                assert_eq!(checksum(&sent.bytes[34..]), [0, 0]);
            }
            etherparse::NetHeaders::Ipv6(ip, _) => {
                assert_eq!((ip.source, ip.destination, ip.hop_limit), (US_V6, PEER_V6, 42));
                let message = icmpv6(PEER, US_V6, PEER_V6, 42, &sent.bytes[54..]);
                assert_eq!(sent.bytes[54..], message[54..], "checksum");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn an_answer_that_finds_no_room_is_counted() {
    let limits = Limits { tx_queue: 1, ..Limits::default() };
    let (mut stack, wire) = stack(|config| config.limits(limits));
    wire.set_room(0);
    for _ in 0..3 {
        wire.arrive(&arp(1, (PEER.0, PEER_V4), US_V4));
    }
    received(&mut stack);
    assert_eq!(stack.stats().drops[DropCause::ReplyNoFrame], 2);
    assert_eq!(stack.stats().tx_in_flight, 0, "the one that waits is not a datagram");
    assert_accounted(&stack);
    wire.set_room(9);
    stack.flush().unwrap();
    assert_eq!(wire.sent().len(), 1);
}

// --- those that we ask for -----------------------------------------------------------------------

#[test]
fn datagrams_wait_for_the_answer_and_leave_in_order() {
    for (to, target, answer) in [
        ("10.0.0.2:9", IpAddr::from(PEER_V4), arp(2, (PEER.0, PEER_V4), US_V4)),
        ("[fd00::2]:9", PEER_V6.into(), ndp(136, 0x60, PEER_V6, US_V6, PEER_V6)),
    ] {
        let (mut stack, wire) = stack(|config| config);
        for i in 0..3 {
            send_to(&mut stack, &[i], to);
        }
        stack.flush().unwrap();
        let asked = wire.sent_one().bytes;
        if target.is_ipv4() {
            assert_eq!(arp_request(&asked), (PEER_V4, [0xff; 6]));
        } else {
            assert_eq!(asked[..6], [0x33, 0x33, 0xff, 0, 0, 2]);
            let mut message = vec![135, 0, 0, 0, 0, 0, 0, 0];
            message.extend(PEER_V6);
            message.extend([1, 1]);
            message.extend(US.0);
            let expected = icmpv6(US, US_V6, solicited(PEER_V6), 255, &message);
            assert_eq!(asked[12..], expected[12..]);
        }
        let stats = stack.stats();
        assert_eq!((stats.tx_packets, stats.tx_in_flight, stats.drops.total()), (0, 3, 0));
        let census = stats.frames.unwrap();
        assert_eq!((census.adds_up(), census.held, census.tx_in_flight), (true, 0, 3));
        wire.arrive(&answer);
        // One who only sends hears the answer too.
        stack.flush().unwrap();
        let sent = wire.sent();
        let payloads: Vec<_> = sent.iter().map(|sent| judged(&sent.bytes).4).collect();
        assert_eq!(payloads, [[0], [1], [2]]);
        assert!(sent.iter().all(|sent| sent.bytes[..6] == PEER.0));
        let stats = stack.stats();
        assert_eq!((stats.tx_packets, stats.tx_in_flight), (3, 0));
        send_to(&mut stack, &[3], to);
        assert_eq!(wire.sent_one().bytes[..6], PEER.0);
    }
}

#[test]
fn nobody_overtakes_those_who_wait() {
    let limits = Limits { tx_queue: 2, ..Limits::default() };
    let (mut stack, wire) = stack(|config| config.limits(limits));
    for i in 0..5 {
        send_to(&mut stack, &[i], "10.0.0.2:9");
    }
    stack.flush().unwrap();
    wire.sent();
    wire.set_room(1);
    wire.arrive(&arp(2, (PEER.0, PEER_V4), US_V4));
    stack.flush().unwrap();
    let mut sixth = compose(&mut stack, &[5]);
    sixth[0].send_to("10.0.0.2:9".parse().unwrap());
    wire.set_room(usize::MAX);
    while !sixth.is_empty() {
        stack.send(&mut sixth).unwrap();
    }
    flush_until(&mut stack, |stack| stack.stats().tx_in_flight == 0);
    let payloads: Vec<_> = wire.sent().iter().map(|sent| judged(&sent.bytes).4).collect();
    assert_eq!(payloads, [[0], [1], [2], [3], [4], [5]]);
}

#[test]
fn who_does_not_answer_is_given_up_and_counted() {
    let (mut stack, wire) = stack(|config| config.neighbours(hasty()));
    send_to(&mut stack, b"payload", "10.0.0.2:9");
    send_to(&mut stack, b"payload", "10.0.0.2:9");
    flush_until(&mut stack, |stack| stack.stats().drops[DropCause::NeighbourTimeout] == 2);
    let asked: Vec<_> = wire.sent().iter().map(|sent| arp_request(&sent.bytes).0).collect();
    assert_eq!(asked, [PEER_V4; 2], "as often as was said");
    assert_eq!(stack.stats().tx_in_flight, 0);
    assert_eq!(stack.stats().frames.unwrap().held, 0);
    // For a while it is not even asked for; then it is asked for again.
    send_to(&mut stack, b"payload", "10.0.0.2:9");
    assert_eq!(stack.stats().drops[DropCause::NeighbourTimeout], 3);
    let deadline = Instant::now() + Duration::from_secs(5);
    while wire.sent().is_empty() {
        send_to(&mut stack, b"payload", "10.0.0.2:9");
        stack.flush().unwrap();
        assert!(Instant::now() < deadline, "it is never asked for again");
    }
}

#[test]
fn a_datagram_does_not_wait_for_ever() {
    let limits = Limits { park_timeout: Duration::from_millis(20), ..Limits::default() };
    let (mut stack, _wire) = stack(|config| config.limits(limits));
    send_to(&mut stack, b"payload", "10.0.0.2:9");
    flush_until(&mut stack, |stack| stack.stats().drops[DropCause::NeighbourTimeout] == 1);
    assert_eq!(stack.stats().tx_in_flight, 0);
}

#[test]
fn for_ever_is_a_time_like_any_other() {
    let limits = Limits { park_timeout: Duration::MAX, ..Limits::default() };
    let options = ResolverOptions {
        retransmit: Duration::MAX,
        reachable: Duration::MAX,
        failed: Duration::MAX,
        ..ResolverOptions::default()
    };
    let (mut stack, wire) =
        stack(|config| config.limits(limits).neighbours(Resolver::new(options)));
    send_to(&mut stack, b"payload", "10.0.0.2:9");
    wire.arrive(&arp(2, (PEER.0, PEER_V4), US_V4));
    stack.flush().unwrap();
    assert_eq!(wire.sent().len(), 2);
    assert_eq!(stack.wait(Interest::RX, Some(Duration::from_millis(1))).unwrap(), Ready::empty());
}

#[test]
fn only_so_many_wait() {
    let limits = Limits { parked_neighbours: 2, parked_per_neighbour: 2, ..Limits::default() };
    let (mut stack, wire) = stack(|config| config.limits(limits));
    for i in 0..3 {
        send_to(&mut stack, &[i], "10.0.0.2:9");
    }
    send_to(&mut stack, b"x", "10.0.0.3:9");
    send_to(&mut stack, b"x", "10.0.0.4:9");
    let stats = stack.stats();
    assert_eq!(stats.drops[DropCause::NeighbourQueueFull], 2, "the oldest, and one too many");
    assert_eq!(stats.tx_in_flight, 3);
    stack.flush().unwrap();
    wire.sent();
    wire.arrive(&arp(2, (PEER.0, PEER_V4), US_V4));
    stack.flush().unwrap();
    let payloads: Vec<_> = wire.sent().iter().map(|sent| judged(&sent.bytes).4).collect();
    assert_eq!(payloads, [[1], [2]]);
}

#[test]
fn beyond_the_link_the_gateway_is_asked_for() {
    let gateway = |config: Config| config.gateway(PEER_V4.into()).gateway(PEER_V6.into());
    let (mut stack, wire) = stack(gateway);
    send_to(&mut stack, b"payload", "1.1.1.1:53");
    stack.flush().unwrap();
    assert_eq!(arp_request(&wire.sent_one().bytes).0, PEER_V4);
    wire.arrive(&arp(2, (PEER.0, PEER_V4), US_V4));
    stack.flush().unwrap();
    let sent = wire.sent_one().bytes;
    assert_eq!((&sent[..6], judged(&sent).1), (&PEER.0[..], [1, 1, 1, 1].into()));
    send_to(&mut stack, b"payload", "[2001:db8::1]:53");
    stack.flush().unwrap();
    assert_eq!(wire.sent_one().bytes[62..78], PEER_V6);
}

#[test]
fn what_arrives_meanwhile_is_kept_as_far_as_there_is_place() {
    let limits = Limits { rx_queue: 2, ..Limits::default() };
    let (mut stack, wire) = stack(|config| config.limits(limits));
    send_to(&mut stack, b"payload", "10.0.0.2:9");
    for i in 0..3 {
        wire.arrive(&v4(&[i]));
    }
    wire.arrive(&arp(2, (PEER.0, PEER_V4), US_V4));
    stack.flush().unwrap();
    assert_eq!(stack.stats().tx_in_flight, 0, "the answer was heard behind them");
    assert_eq!(stack.stats().drops[DropCause::RxQueueFull], 1);
    let payloads: Vec<_> = received(&mut stack).iter().map(|one| one.data().to_vec()).collect();
    assert_eq!(payloads, [[0], [1]]);
    assert_accounted(&stack);
}

#[test]
fn a_host_that_moves_is_followed() {
    let (mut stack, wire) = stack(|config| config);
    wire.arrive(&arp(1, (PEER.0, PEER_V4), US_V4));
    received(&mut stack);
    send_to(&mut stack, b"payload", "10.0.0.2:9");
    wire.sent();
    let elsewhere = [2, 0, 0, 0, 0, 9];
    wire.arrive(&arp(1, (elsewhere, PEER_V4), PEER_V4));
    received(&mut stack);
    send_to(&mut stack, b"payload", "10.0.0.2:9");
    assert_eq!(wire.sent_one().bytes[..6], elsewhere);
    assert_eq!(counter(&stack, "control_received"), 2);
}

#[test]
fn a_station_in_use_is_asked_whether_it_is_still_there() {
    let options =
        ResolverOptions { reachable: Duration::from_millis(10), ..ResolverOptions::default() };
    let (mut stack, wire) = stack(|config| config.neighbours(Resolver::new(options)));
    wire.arrive(&arp(1, (PEER.0, PEER_V4), US_V4));
    received(&mut stack);
    wire.sent();
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        send_to(&mut stack, b"payload", "10.0.0.2:9");
        stack.flush().unwrap();
        let sent = wire.sent();
        assert!(sent.iter().all(|sent| sent.bytes[..6] == PEER.0), "used all the time, and alone");
        if sent.iter().any(|sent| sent.bytes[12..14] == [8, 6]) {
            break;
        }
        assert!(Instant::now() < deadline, "it is never asked");
    }
}

// --- other ways to know --------------------------------------------------------------------------

#[test]
fn the_way_back_is_learned() {
    let (mut stack, wire) = stack(|config| config.neighbours(Learned::only()));
    let mut burst = compose(&mut stack, b"payload");
    burst[0].send_to("10.0.0.2:9".parse().unwrap());
    let error = stack.send(&mut burst).unwrap_err();
    assert!(error.to_string().contains("nothing has come from 10.0.0.2"), "{error}");
    let mut from_afar = v4(b"payload");
    from_afar[26..30].copy_from_slice(&[8, 8, 8, 8]);
    from_afar[40..42].fill(0);
    mend_ipv4(&mut from_afar);
    wire.arrive(&v4(b"payload"));
    wire.arrive(&from_afar);
    received(&mut stack);
    stack.send(&mut burst).unwrap();
    assert_eq!(wire.sent_one().bytes[..6], PEER.0);
    send_to(&mut stack, b"payload", "8.8.8.8:53");
    assert_eq!(wire.sent_one().bytes[..6], PEER.0, "without prefix or gateway");
}

#[test]
fn a_table_can_be_changed_and_boxed() {
    let boxed: Box<dyn Neighbours> = Box::new(Learned::over(Table::new()));
    let (mut stack, _wire) = stack(|config| config.neighbours(boxed));
    let mut burst = compose(&mut stack, b"payload");
    burst[0].send_to("10.0.0.2:9".parse().unwrap());
    assert!(matches!(stack.send(&mut burst), Err(Error::Frame { .. })));

    let (mut stack, wire) = udp::stack(|config| config.neighbours(Table::new()));
    for station in [[2, 0, 0, 0, 0, 7], [2, 0, 0, 0, 0, 8]] {
        stack.neighbours_mut().insert(PEER_V4.into(), MacAddr(station));
        send_to(&mut stack, b"payload", "10.0.0.2:9");
        assert_eq!(wire.sent_one().bytes[..6], station);
    }
    stack.neighbours_mut().remove(PEER_V4.into());
    let mut burst = compose(&mut stack, b"payload");
    burst[0].send_to("10.0.0.2:9".parse().unwrap());
    assert!(stack.send(&mut burst).is_err());
    assert!(matches!(Nobody.lookup(PEER_V4.into(), Duration::ZERO), Lookup::Unknown(_)));
}

// --- waiting -------------------------------------------------------------------------------------

#[test]
fn waiting_ends_for_datagrams_not_for_what_the_stack_answers() {
    let (mut stack, wire) = stack(|config| config);
    let begin = Instant::now();
    for _ in 0..5 {
        wire.arrive(&arp(1, (PEER.0, PEER_V4), US_V4));
    }
    let timeout = Some(Duration::from_millis(30));
    assert_eq!(stack.wait(Interest::RX, timeout).unwrap(), Ready::empty());
    assert!(begin.elapsed() >= Duration::from_millis(30));
    assert_eq!(wire.sent().len(), 5, "answered meanwhile");
    wire.arrive(&arp(1, (PEER.0, PEER_V4), US_V4));
    wire.arrive(&v4(b"one"));
    wire.arrive(&v4(b"two"));
    let waits = wire.waits();
    assert_eq!(stack.wait(Interest::RX, None).unwrap(), Ready::RX);
    assert_eq!(stack.wait(Interest::RX, None).unwrap(), Ready::RX, "it is still there");
    assert_eq!(wire.waits(), waits, "nobody slept");
    let mut burst = Burst::with_capacity(64);
    while burst.len() < 2 {
        assert_ne!(stack.recv(&mut burst).unwrap(), 0);
    }
    assert_eq!((burst[0].data(), burst[1].data()), (&b"one"[..], &b"two"[..]));
    assert_accounted(&stack);
}

#[test]
fn waiting_goes_on_asking() {
    let (mut stack, wire) = stack(|config| config.neighbours(hasty()));
    send_to(&mut stack, b"payload", "10.0.0.2:9");
    let deadline = Instant::now() + Duration::from_secs(5);
    while stack.stats().drops[DropCause::NeighbourTimeout] == 0 {
        stack.wait(Interest::RX, Some(Duration::from_millis(50))).unwrap();
        assert!(Instant::now() < deadline, "{:?}", stack.stats());
    }
    assert_eq!(wire.sent().len(), 2);
    assert_eq!(stack.wait(Interest::TX, None).unwrap(), Ready::TX);
}

#[test]
fn queues_of_the_stack_show_how_full_they_are() {
    let limits = Limits { parked_neighbours: 2, parked_per_neighbour: 3, ..Limits::default() };
    let (mut stack, wire) = stack(|config| config.limits(limits));
    let rings = |stack: &Stack<Resolver>| {
        let mut rings = Vec::new();
        stack.visit_rings(&mut |name, ring| rings.push((name.to_owned(), ring.used, ring.size)));
        rings
    };
    let ring = |name: &str, used, size| (name.to_owned(), used, size);
    let empty =
        [ring("udp_rx_queue", 0, 256), ring("udp_tx_queue", 0, 64), ring("udp_parked", 0, 6)];
    assert_eq!(rings(&stack), empty);
    // One waits for its neighbour, one that came meanwhile for the application, two for the port.
    send_to(&mut stack, b"payload", "10.0.0.2:9");
    wire.set_room(0);
    send_to(&mut stack, b"payload", "239.1.2.3:9");
    send_to(&mut stack, b"payload", "239.1.2.3:9");
    wire.arrive(&v4(b"payload"));
    stack.flush().unwrap();
    let full =
        [ring("udp_rx_queue", 1, 256), ring("udp_tx_queue", 2, 64), ring("udp_parked", 1, 6)];
    assert_eq!(rings(&stack), full);
}
