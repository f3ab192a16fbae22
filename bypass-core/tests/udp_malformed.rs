//! Every kind of malformed, foreign or unwanted packet is counted under its own cause, and nothing
//! else comes of it; what only looks unusual is delivered.

mod udp;

use std::collections::BTreeSet;

use bypass_core::udp::Config;
use bypass_core::udp::neighbours::Resolver;
use bypass_core::{Buffer, ChecksumVerdict, DropCause, Endpoint, MacAddr, RxMeta, VlanTag};
use udp::*;

/// A change to a packet that makes it worse.
fn but(mut bytes: Vec<u8>, at: usize, new: &[u8]) -> Vec<u8> {
    bytes[at..at + new.len()].copy_from_slice(new);
    bytes
}

/// The same, with an IPv4 header whose checksum is right nevertheless.
fn ip4(at: usize, new: &[u8]) -> Vec<u8> {
    let mut bytes = but(v4(b"payload"), at, new);
    mend_ipv4(&mut bytes);
    bytes
}

fn ip6(at: usize, new: &[u8]) -> Vec<u8> {
    but(v6(b"payload"), at, new)
}

fn cut(mut bytes: Vec<u8>, len: usize) -> Vec<u8> {
    bytes.truncate(len);
    bytes
}

/// Puts an 802.1Q tag behind the addresses.
fn tagged(bytes: &[u8], tpid: u16, tci: u16) -> Vec<u8> {
    let tag = [tpid.to_be_bytes(), tci.to_be_bytes()].concat();
    [&bytes[..12], &tag, &bytes[12..]].concat()
}

/// Puts extension headers behind the IPv6 header; the last names UDP.
fn extended(first: u8, extensions: &[u8]) -> Vec<u8> {
    let plain = v6(b"payload");
    let mut bytes = [&plain[..54], extensions, &plain[54..]].concat();
    let length = (plain.len() - 54 + extensions.len()) as u16;
    bytes[18..20].copy_from_slice(&length.to_be_bytes());
    bytes[20] = first;
    bytes
}

/// An IPv4 packet of another protocol.
fn protocol(number: u8, message: &[u8]) -> Vec<u8> {
    let mut bytes = [&v4(&[])[..34], message].concat();
    bytes[16..18].copy_from_slice(&(20 + message.len() as u16).to_be_bytes());
    bytes[23] = number;
    mend_ipv4(&mut bytes);
    bytes
}

fn sealed(mut message: Vec<u8>) -> Vec<u8> {
    let sum = checksum(&message);
    message[2..4].copy_from_slice(&sum);
    message
}

/// A packet to every station, but to one host.
fn to_all_stations(bytes: Vec<u8>) -> Vec<u8> {
    but(bytes, 0, &[0xff; 6])
}

const OTHER_V4: [u8; 4] = [10, 0, 0, 99];
const OTHER_V6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 99];

fn cases() -> Vec<(DropCause, &'static str, Vec<u8>)> {
    use DropCause::*;
    let good = v4(b"payload");
    let group_mac = [1, 0, 0x5e, 1, 2, 3];
    let hop_by_hop = [17, 0, 1, 4, 0, 0, 0, 0];
    let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 2];
    let ask = |from, to, target| ndp(135, 0, from, to, target);
    vec![
        (EthernetShort, "nothing", vec![]),
        (EthernetShort, "13 bytes", cut(good.clone(), 13)),
        (EthernetShort, "half a tag", cut(tagged(&good, 0x8100, 0), 17)),
        (EthernetAddress, "another station", but(good.clone(), 5, &[9])),
        (EthernetAddress, "a broadcast to one host", to_all_stations(good.clone())),
        (
            EthernetAddress,
            "a group that does not fit",
            v4_to(MacAddr(group_mac), [10, 0, 0, 255], b""),
        ),
        (EthernetSource, "from a group", but(good.clone(), 6, &[3])),
        (EtherType, "for experiments", but(good.clone(), 12, &[0x88, 0xb5])),
        (EtherType, "a length, as 802.3 has it", but(good.clone(), 12, &[0, 40])),
        (VlanOther, "a tag where none is expected", tagged(&good, 0x8100, 5)),
        (VlanOther, "a service tag", tagged(&good, 0x88a8, 0)),
        (VlanNested, "two tags", tagged(&tagged(&good, 0x8100, 0), 0x88a8, 0)),
        (ArpMalformed, "cut short", cut(arp(1, (PEER.0, PEER_V4), US_V4), 41)),
        (ArpMalformed, "not about Ethernet", but(arp(1, (PEER.0, PEER_V4), US_V4), 15, &[6])),
        (ArpMalformed, "not about IPv4", but(arp(1, (PEER.0, PEER_V4), US_V4), 16, &[0x86, 0xdd])),
        (ArpMalformed, "neither request nor reply", arp(3, (PEER.0, PEER_V4), US_V4)),
        (ArpMalformed, "from a group", arp(1, ([1; 6], PEER_V4), US_V4)),
        (NeighbourOther, "a request for another", arp(1, (PEER.0, PEER_V4), OTHER_V4)),
        (NeighbourOther, "a solicitation of another", ask(PEER_V6, solicited(US_V6), OTHER_V6)),
        (AddressConflict, "a reply from our address", arp(2, (PEER.0, US_V4), PEER_V4)),
        (AddressConflict, "our address announced", arp(1, (PEER.0, US_V4), US_V4)),
        (AddressConflict, "our address advertised", ndp(136, 0x60, PEER_V6, US_V6, US_V6)),
        (IpHeader, "IPv4 cut short", cut(good.clone(), 33)),
        (IpHeader, "IPv4 of version 5", ip4(14, &[0x55])),
        (IpHeader, "IPv6 cut short", cut(v6(b""), 53)),
        (IpHeader, "IPv6 of version 4", ip6(14, &[0x45])),
        (
            IpHeader,
            "an extension of one byte",
            but(cut(extended(60, &hop_by_hop), 55), 18, &[0, 1]),
        ),
        (IpHeader, "an extension beyond the end", extended(60, &[17, 9, 1, 4, 0, 0, 0, 0])),
        (Ipv4HeaderLength, "16 bytes", ip4(14, &[0x44])),
        (Ipv4HeaderLength, "beyond the frame", but(cut(good.clone(), 60), 14, &[0x4f])),
        (IpLength, "IPv4 shorter than its header", ip4(16, &[0, 19])),
        (IpLength, "IPv4 beyond the frame", ip4(16, &[0, 200])),
        (IpLength, "IPv6 beyond the frame", ip6(18, &[0, 200])),
        (Ipv4Checksum, "a changed byte", but(good.clone(), 22, &[63])),
        (IpFragment, "the first of several", ip4(20, &[0x20, 0])),
        (IpFragment, "the last of several", ip4(20, &[0, 5])),
        (IpFragment, "of IPv6", extended(44, &[17, 0, 0, 1, 0, 0, 0, 7])),
        (Ipv6Extension, "authentication", extended(51, &[17, 0, 0, 0, 0, 0, 0, 0])),
        (Ipv6Extension, "a route to go on", extended(43, &[17, 0, 0, 1, 0, 0, 0, 0])),
        (Ipv6Extension, "an option not to be skipped", extended(60, &[17, 0, 0xc2, 4, 0, 0, 0, 0])),
        (Ipv6Extension, "an option beyond the end", extended(60, &[17, 0, 1, 5, 0, 0, 0, 0])),
        (
            Ipv6Extension,
            "hop-by-hop out of place",
            extended(60, &[&[0, 0, 1, 4, 0, 0, 0, 0][..], &hop_by_hop].concat()),
        ),
        (IpSource, "a group", ip4(26, &[224, 0, 0, 1])),
        (IpSource, "the broadcast address", ip4(26, &[255; 4])),
        (IpSource, "the network's broadcast address", ip4(26, &[10, 0, 0, 255])),
        (IpSource, "loopback", ip4(26, &[127, 0, 0, 1])),
        (IpSource, "nobody", ip4(26, &[0; 4])),
        (IpSource, "reserved", ip4(26, &[240, 0, 0, 1])),
        (IpSource, "ourselves", ip4(26, &US_V4)),
        (IpSource, "a group of IPv6", ip6(22, &[0xff])),
        (IpSource, "loopback of IPv6", ip6(22, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1])),
        (IpSource, "nobody of IPv6", ip6(22, &[0; 16])),
        (IpSource, "IPv4 in disguise", ip6(22, &mapped)),
        (IpSource, "ourselves of IPv6", ip6(22, &US_V6)),
        (IpAddress, "another host", ip4(30, &OTHER_V4)),
        (IpAddress, "a group not joined", v4_to(MacAddr(group_mac), [239, 1, 2, 3], b"")),
        (IpAddress, "another host of IPv6", ip6(38, &OTHER_V6)),
        (IpProtocol, "TCP", protocol(6, &[0; 20])),
        (IpProtocol, "no next header", extended(59, &[])),
        (UdpHeader, "7 bytes", protocol(17, &[0; 7])),
        (UdpLength, "less than its header", but(good.clone(), 38, &[0, 7])),
        (UdpLength, "beyond the packet", but(good.clone(), 38, &[0, 16])),
        (UdpLength, "nothing, over IPv6", ip6(58, &[0, 0])),
        (UdpChecksum, "a changed byte", but(good.clone(), 42, b"P")),
        (UdpChecksum, "a changed address", ip4(29, &[3])),
        (UdpChecksum, "none over IPv6", ip6(60, &[0, 0])),
        (UdpPort, "nobody listens", but(good, 36, &[0, 9])),
        (Icmp, "an echo request, unanswered", ping_v4()),
        (Icmp, "an echo request of IPv6", ping_v6()),
        (Icmp, "unreachable", protocol(1, &sealed(vec![3, 3, 0, 0, 0, 0, 0, 0]))),
        (
            Icmp,
            "a router's advertisement",
            icmpv6(US, PEER_V6, US_V6, 255, &[134, 0, 0, 0, 0, 0, 0, 0]),
        ),
        (IcmpMalformed, "7 bytes", protocol(1, &sealed(vec![8, 0, 0, 0, 0, 0, 0]))),
        (IcmpMalformed, "a query from beyond the link", icmpv6(US, PEER_V6, US_V6, 2, &[130; 24])),
        (IcmpChecksum, "a changed byte", but(ping_v4(), 44, &[0xff])),
        (IcmpChecksum, "a changed byte of IPv6", but(ping_v6(), 64, &[0xff])),
        (
            NdpMalformed,
            "from another link",
            icmpv6(US, PEER_V6, US_V6, 254, &{
                let mut message = vec![135, 0, 0, 0, 0, 0, 0, 0];
                message.extend(US_V6);
                message
            }),
        ),
        (NdpMalformed, "solicited, but told to all", {
            let all = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
            ndp(136, 0x60, PEER_V6, all, PEER_V6)
        }),
        (IgmpMalformed, "7 bytes", protocol(2, &sealed(vec![0x11, 0, 0, 0, 0, 0, 0]))),
        (IgmpMalformed, "a wrong checksum", protocol(2, &[0x11, 0, 1, 1, 0, 0, 0, 0])),
        (IgmpOther, "a report of another", protocol(2, &sealed(vec![0x16, 0, 0, 0, 239, 1, 2, 3]))),
    ]
}

#[test]
fn every_kind_of_bad_packet_is_counted_under_its_own_cause() {
    let mut covered = BTreeSet::new();
    for (cause, what, bytes) in cases() {
        let (mut stack, wire) = stack(|config| config);
        wire.arrive(&bytes);
        assert!(received(&mut stack).is_empty(), "{cause:?}: {what} was delivered");
        let drops: Vec<_> = stack.stats().drops.iter().collect();
        assert_eq!(drops, [(cause, 1)], "{cause:?}: {what}");
        assert!(wire.sent().is_empty(), "{cause:?}: {what} was answered");
        assert_accounted(&stack);
        covered.insert(cause.name());
    }
    // Tested elsewhere: what the port counts, what depends on several packets or on the pool.
    let elsewhere = [
        "rx_no_frame",
        "rx_queue_full",
        "rx_truncated",
        "rx_invalid",
        "rx_error",
        "tx_error",
        "tx_aborted",
        "injected",
        "multi_segment",
        "reply_no_frame",
        "neighbour_queue_full",
        "neighbour_timeout",
    ];
    let missing: Vec<_> = DropCause::ALL
        .iter()
        .map(|cause| cause.name())
        .filter(|name| !covered.contains(name) && !elsewhere.contains(name))
        .collect();
    assert!(missing.is_empty(), "causes without a case: {missing:?}");
}

#[test]
fn what_our_own_station_says_is_no_conflict() {
    let mut advertised = vec![136, 0, 0, 0, 0x60, 0, 0, 0];
    advertised.extend(US_V6);
    advertised.extend([2, 1]);
    advertised.extend(US.0);
    let cases = [
        ("a reply", arp(2, (US.0, US_V4), PEER_V4)),
        ("an announcement", arp(1, (US.0, US_V4), US_V4)),
        ("an advertisement", icmpv6(US, US_V6, PEER_V6, 255, &advertised)),
    ];
    for (what, bytes) in cases {
        let (mut stack, wire) = stack(|config| config);
        wire.arrive(&bytes);
        assert!(received(&mut stack).is_empty(), "{what}");
        assert_eq!(stack.stats().drops[DropCause::AddressConflict], 0, "{what}");
        assert!(wire.sent().is_empty(), "{what} was answered");
        assert_accounted(&stack);
    }
}

#[test]
fn a_frame_in_pieces_is_counted() {
    let (mut stack, wire) = stack(|config| config);
    wire.arrive_in_pieces(&v4(b"payload"));
    assert!(received(&mut stack).is_empty());
    assert_eq!(stack.stats().drops[DropCause::MultiSegment], 1);
    assert_eq!(stack.stats().frames.unwrap().held, 0, "both pieces are back");
}

fn meta(change: impl FnOnce(&mut RxMeta)) -> RxMeta {
    let mut meta = RxMeta::default();
    change(&mut meta);
    meta
}

#[test]
fn a_tag_may_be_beside_the_frame() {
    let stripped = |tci| meta(|meta| meta.vlan = Some(VlanTag { tpid: 0x8100, tci }));
    let in_vlan = |config: Config| config.vlan(5);
    let deliver = |refine: &dyn Fn(Config) -> Config<Resolver>, bytes: &[u8], meta| {
        let (mut stack, wire) = stack(refine);
        wire.arrive_with(bytes, meta);
        let got = received(&mut stack);
        (got.len(), stack.stats().drops.iter().map(|(cause, _)| cause).next())
    };
    let plain = v4(b"payload");
    let none = RxMeta::default();
    assert_eq!(deliver(&in_vlan, &plain, stripped(0x2005)), (1, None));
    assert_eq!(deliver(&in_vlan, &tagged(&plain, 0x8100, 5), none), (1, None));
    assert_eq!(deliver(&in_vlan, &plain, none), (0, Some(DropCause::VlanOther)));
    assert_eq!(deliver(&in_vlan, &plain, stripped(6)), (0, Some(DropCause::VlanOther)));
    let both = tagged(&plain, 0x8100, 5);
    assert_eq!(deliver(&in_vlan, &both, stripped(5)), (0, Some(DropCause::VlanNested)));
    assert_eq!(deliver(&|config| config, &plain, stripped(0xe000)), (1, None), "a priority only");
}

#[test]
fn what_only_looks_unusual_is_delivered() {
    let padded = |mut bytes: Vec<u8>| {
        bytes.resize(bytes.len() + 11, 0xee);
        bytes
    };
    let options = {
        let plain = v4(b"payload");
        let mut bytes = [&plain[..34], &[1, 1, 1, 0], &plain[34..]].concat();
        (bytes[14], bytes[17]) = (0x46, bytes[17] + 4);
        mend_ipv4(&mut bytes);
        bytes
    };
    let with_slack = {
        // Bytes behind the datagram, inside the packet.
        let mut bytes = padded(v4(b"payload"));
        bytes[17] += 11;
        mend_ipv4(&mut bytes);
        bytes
    };
    let group = [0xff, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x77];
    let cases = [
        ("plain", v4(b"payload")),
        ("plain IPv6", v6(b"payload")),
        ("padded", padded(v4(b"payload"))),
        ("padded IPv6", padded(v6(b"payload"))),
        ("with options", options),
        ("with slack", with_slack),
        ("without a checksum", but(v4(b"payload"), 40, &[0, 0])),
        ("with a priority tag", tagged(&v4(b"payload"), 0x8100, 0x6000)),
        ("with options of IPv6", extended(60, &[17, 0, 1, 4, 0, 0, 0, 0])),
        ("with an unknown option", extended(60, &[17, 0, 0x1e, 4, 9, 9, 9, 9])),
        ("routed to its end", extended(43, &[17, 0, 0, 0, 0, 0, 0, 0])),
        ("with two extensions", extended(0, &[60, 0, 5, 2, 0, 0, 0, 0, 17, 0, 1, 4, 0, 0, 0, 0])),
        ("a broadcast", v4_to(MacAddr::BROADCAST, [255; 4], b"payload")),
        ("to the network", v4_to(MacAddr::BROADCAST, [10, 0, 0, 255], b"payload")),
        ("a broadcast to our station", v4_to(US, [255; 4], b"payload")),
        ("a group", v4_to(MacAddr([1, 0, 0x5e, 1, 2, 3]), [239, 1, 2, 3], b"payload")),
        ("a group of IPv6", v6_to(MacAddr([0x33, 0x33, 0, 0, 0, 0x77]), group, b"payload")),
    ];
    for (what, bytes) in cases {
        let (mut stack, wire) = stack(|config| config);
        stack.join("239.1.2.3".parse().unwrap()).unwrap();
        stack.join("ff05::77".parse().unwrap()).unwrap();
        wire.arrive(&bytes);
        let got = received(&mut stack);
        assert_eq!(got.len(), 1, "{what}: {:?}", stack.stats().drops);
        assert_eq!(got[0].data(), b"payload", "{what}");
        assert_accounted(&stack);
    }
}

#[test]
fn the_port_s_word_on_checksums_counts() {
    use ChecksumVerdict::{Bad, Good, NotNeeded, Unknown};
    let right = v4(b"payload");
    let wrong = but(v4(b"payload"), 40, &[0xab, 0xcd]);
    let none_v6 = but(v6(b"payload"), 60, &[0, 0]);
    let partial_v6 = but(v6(b"payload"), 60, &[0xab, 0xcd]);
    let cases = [
        (Unknown, &right, true),
        (Unknown, &wrong, false),
        (Good, &wrong, true),
        (NotNeeded, &wrong, true),
        (NotNeeded, &partial_v6, true),
        (Bad, &wrong, false),
        (Bad, &right, true),
        (Good, &none_v6, false),
    ];
    for (verdict, bytes, delivered) in cases {
        let (mut stack, wire) = stack(|config| config);
        wire.arrive_with(bytes, meta(|meta| meta.checksum = verdict));
        assert_eq!(received(&mut stack).len(), usize::from(delivered), "{verdict:?}");
        let counted = stack.stats().drops[DropCause::UdpChecksum];
        assert_eq!(counted, u64::from(!delivered), "{verdict:?}");
    }
    let ignore = |config: Config| config.rx_checksums(bypass_core::udp::RxChecksums::Ignore);
    let (mut stack, wire) = stack(ignore);
    wire.arrive(&wrong);
    assert_eq!(received(&mut stack).len(), 1);
}
