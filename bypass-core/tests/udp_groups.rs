//! Multicast groups: what is received, what routers are told, what is nonsense.

#![allow(clippy::unwrap_used, reason = "helpers are part of the tests")]

mod udp;

use std::cell::Cell;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bypass_core::udp::Config;
use bypass_core::udp::neighbours::{Lookup, Neighbours};
use bypass_core::{Buffer, DropCause, Endpoint, Error, MacAddr, Result};
use udp::*;

const GROUP: [u8; 4] = [239, 1, 2, 3];
const GROUP_MAC: MacAddr = MacAddr([1, 0, 0x5e, 1, 2, 3]);

fn v4_only(config: Config) -> Config {
    config
}

/// What is sent while `flush` is called for as long as `enough` is not met.
fn sent_until<N: Neighbours>(
    stack: &mut Stack<N>,
    wire: &Wire,
    enough: impl Fn(&[Vec<u8>]) -> bool,
) -> Vec<Vec<u8>> {
    let (mut sent, deadline) = (Vec::new(), Instant::now() + Duration::from_secs(5));
    while !enough(&sent) {
        stack.flush().unwrap();
        sent.extend(wire.sent().into_iter().map(|sent| sent.bytes));
        assert!(Instant::now() < deadline, "it never came: {sent:?}");
    }
    sent
}

/// A report of IGMPv3 about [`GROUP`], judged by RFC 3376.
fn assert_igmp(frame: &[u8], kind: u8) {
    assert_eq!(frame[..6], [1, 0, 0x5e, 0, 0, 22]);
    assert_eq!(frame[14], 0x46, "with an option");
    assert_eq!(checksum(&frame[14..38]), [0, 0], "IPv4 checksum");
    assert_eq!((frame[22], frame[23]), (1, 2), "one hop, IGMP");
    assert_eq!(frame[26..34], [US_V4, [224, 0, 0, 22]].concat());
    assert_eq!(frame[34..38], [0x94, 4, 0, 0], "router alert");
    assert_eq!(checksum(&frame[38..]), [0, 0], "IGMP checksum");
    assert_eq!(frame[38], 0x22);
    assert_eq!(frame[42..], [&[0, 0, 0, 1, kind, 0, 0, 0][..], &GROUP].concat());
}

fn query(code: u8, group: [u8; 4], version: u8) -> Vec<u8> {
    let mut message = vec![0x11, code, 0, 0];
    message.extend(group);
    if version == 3 {
        message.extend([0; 4]);
    }
    let sum = checksum(&message);
    message[2..4].copy_from_slice(&sum);
    // From a switch that has no address of its own.
    let mut bytes = [&[1, 0, 0x5e, 0, 0, 1][..], &PEER.0, &[8, 0]].concat();
    bytes.extend([0x45, 0, 0, 20 + message.len() as u8, 0, 0, 0, 0, 1, 2, 0, 0]);
    bytes.extend([0, 0, 0, 0, 224, 0, 0, 1]);
    bytes.extend(message);
    mend_ipv4(&mut bytes);
    bytes
}

#[test]
fn a_group_is_heard_from_joining_to_leaving() {
    let (mut stack, wire) = stack(v4_only);
    let datagram = v4_to(GROUP_MAC, GROUP, b"payload");
    let group = IpAddr::from(GROUP);
    for (joined, heard) in [(None, 0), (Some(true), 1), (Some(true), 1), (Some(false), 0)] {
        match joined {
            Some(true) => stack.join(group).unwrap(),
            Some(false) => stack.leave(group).unwrap(),
            None => {}
        }
        wire.arrive(&datagram);
        let got = received(&mut stack);
        assert_eq!(got.len(), heard, "{joined:?}");
        assert!(got.iter().all(|one| one.data() == b"payload"));
    }
    assert_eq!(stack.stats().drops[DropCause::IpAddress], 2);
}

#[test]
fn routers_are_told_twice_and_when_they_ask() {
    let (mut stack, wire) = stack(v4_only);
    stack.join(GROUP.into()).unwrap();
    let told = sent_until(&mut stack, &wire, |sent| sent.len() == 2);
    told.iter().for_each(|frame| assert_igmp(frame, 4));

    // A general question, one about the group (answer within a tenth of a second), one that is
    // about another.
    for question in [query(1, [0; 4], 3), query(1, GROUP, 3)] {
        wire.arrive(&question);
        received(&mut stack);
        let told = sent_until(&mut stack, &wire, |sent| !sent.is_empty());
        assert_eq!(told.len(), 1);
        assert_igmp(&told[0], 2);
    }
    wire.arrive(&query(1, [239, 9, 9, 9], 3));
    received(&mut stack);
    // In the older version the answer goes to the group itself.
    wire.arrive(&query(1, [0; 4], 2));
    received(&mut stack);
    let told = sent_until(&mut stack, &wire, |sent| !sent.is_empty());
    assert_eq!(told.len(), 1);
    assert_eq!((&told[0][..6], told[0][38]), (&GROUP_MAC.0[..], 0x16));
    assert_eq!(told[0][42..], GROUP);
    assert_eq!(checksum(&told[0][38..]), [0, 0]);

    stack.leave(GROUP.into()).unwrap();
    let told = sent_until(&mut stack, &wire, |sent| sent.len() == 2);
    told.iter().for_each(|frame| assert_igmp(frame, 3));
    wire.arrive(&query(1, [0; 4], 3));
    received(&mut stack);
    stack.flush().unwrap();
    assert!(wire.sent().is_empty(), "there is nothing to report");
    assert_eq!(counter(&stack, "control_received"), 5);
    assert_accounted(&stack);
}

#[test]
fn routers_of_ipv6_are_told_too() {
    let (mut stack, wire) = stack(v4_only);
    let group = [0xff, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x77];
    stack.join(group.into()).unwrap();
    let told = sent_until(&mut stack, &wire, |sent| !sent.is_empty());
    let frame = &told[0];
    assert_eq!(frame[..6], [0x33, 0x33, 0, 0, 0, 0x16]);
    assert_eq!((frame[20], frame[21]), (0, 1), "a hop-by-hop header, one hop");
    assert_eq!(frame[22..38], [0; 16], "there is no link-local address");
    assert_eq!(frame[54..62], [58, 0, 5, 2, 0, 0, 1, 0]);
    assert_eq!(frame[62], 143);
    assert_eq!(frame[66..], [&[0, 0, 0, 1, 4, 0, 0, 0][..], &group].concat());
    let pseudo = [&frame[22..54], &[0, 0, 0, 28, 0, 0, 0, 58]].concat();
    assert_eq!(checksum(&[&pseudo, &frame[62..]].concat()), [0, 0], "ICMPv6 checksum");

    let router = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let all_nodes = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let mut message = vec![130, 0, 0, 0, 0, 1, 0, 0];
    message.extend([0; 20]);
    let question = icmpv6(MacAddr([0x33, 0x33, 0, 0, 0, 1]), router, all_nodes, 1, &message);
    let told = sent_until(&mut stack, &wire, |sent| !sent.is_empty());
    assert_eq!(told[0][70], 4, "the join, repeated");
    wire.arrive(&question);
    received(&mut stack);
    let told = sent_until(&mut stack, &wire, |sent| !sent.is_empty());
    assert_eq!(told[0][70], 2, "the answer");
}

#[test]
fn what_is_no_group_cannot_be_joined() {
    let (port, _wire) = port(&bypass_core::pool::PoolOptions::new(64));
    let config = Config::new(US, PORT).address("10.0.0.1/24".parse().unwrap());
    let mut stack = bypass_core::udp::UdpOverL2::new(port, config).unwrap();
    for wrong in ["10.0.0.2", "fd00::1", "ff05::1"] {
        let error = stack.join(wrong.parse().unwrap()).unwrap_err();
        assert!(matches!(error, Error::Config { .. }), "{error}");
        assert!(error.to_string().contains(wrong), "{error}");
    }
    stack.leave("239.1.1.1".parse().unwrap()).unwrap();
}

/// A kernel that refuses to leave groups while it is told to.
struct Stubborn(Rc<Cell<bool>>);

impl Neighbours for Stubborn {
    fn lookup(&mut self, _: IpAddr, _: Duration) -> Lookup {
        Lookup::Unknown("this is a test".into())
    }

    fn set_membership(&mut self, _: IpAddr, member: bool) -> Option<Result<()>> {
        let refused = std::io::Error::from_raw_os_error(libc::ENOMEM);
        let refused = Error::os("leave a group", refused);
        Some(if self.0.get() && !member { Err(refused) } else { Ok(()) })
    }
}

#[test]
fn a_group_that_the_kernel_does_not_leave_is_still_joined() {
    let refuse = Rc::new(Cell::new(true));
    let stubborn = Stubborn(Rc::clone(&refuse));
    let (mut stack, wire) = stack(|config| config.neighbours(stubborn));
    let group = IpAddr::from(GROUP);
    stack.join(group).unwrap();
    assert!(matches!(stack.leave(group), Err(Error::Os { .. })));
    wire.arrive(&v4_to(GROUP_MAC, GROUP, b"payload"));
    assert_eq!(received(&mut stack).len(), 1, "what the kernel lets through is not dropped");
    refuse.set(false);
    stack.leave(group).unwrap();
    wire.arrive(&v4_to(GROUP_MAC, GROUP, b"payload"));
    assert_eq!(received(&mut stack).len(), 0);
    assert_accounted(&stack);
}
