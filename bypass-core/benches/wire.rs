//! Which way of reading and building headers is the fastest: nanoseconds per packet.
//!
//! Every reader below does the same work: EtherType, destination station, header length, total
//! length against frame length, fragments, source and destination address, protocol, UDP length,
//! port, and both checksums; it answers where the payload lies and who sent it. The floor believes
//! in fixed offsets and checks no more than that the packet has the expected shape.
//!
//! ```text
//! cargo bench -p bypass-core --bench wire
//! ```

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::ops::Range;
use std::time::Instant;

use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
const LOCAL: [u8; 4] = [10, 0, 0, 1];
const PEER: [u8; 4] = [10, 0, 0, 2];
const PORT: u16 = 4000;

/// What a reader finds: the sender, its port, and where the payload lies.
type Found = Option<([u8; 4], u16, Range<usize>)>;

fn main() {
    println!("{:34} {:>8} {:>8} {:>8}   ns per packet, best of 15", "payload", 16, 64, 1400);
    let packets: Vec<_> = [16, 64, 1400].map(packet).into();
    let read = |name: &str, reader: fn(&[u8]) -> Found| {
        let times = packets.iter().map(|packet| {
            assert_eq!(reader(packet), Some((PEER, 5000, 42..packet.len())), "{name}");
            nanos(|| reader(black_box(packet)).map_or(0, |(_, _, payload)| payload.end))
        });
        row(name, times);
    };
    read("read: fixed offsets (floor)", fixed_offsets);
    read("read: zerocopy views", views);
    read("read: smoltcp::wire", smoltcp_wire);
    read("read: etherparse", etherparse_slices);

    let build = |name: &str, builder: fn(&mut [u8])| {
        let times = packets.iter().map(|packet| {
            let mut out = packet.clone();
            out[..42].fill(0);
            builder(&mut out);
            assert_eq!(views(&rebound(&out)), Some((LOCAL, PORT, 42..packet.len())), "{name}");
            nanos(|| {
                builder(black_box(&mut out));
                out.len()
            })
        });
        row(name, times);
    };
    build("build: template and patch", template);
    build("build: smoltcp::wire", smoltcp_build);
    build("build: etherparse", etherparse_build);

    for (name, checksum) in [
        ("checksum: u32 words", sum as fn(&[u8]) -> u16),
        ("checksum: internet-checksum", |bytes| {
            u16::from_ne_bytes(internet_checksum::checksum(bytes))
        }),
    ] {
        let times = packets.iter().map(|packet| {
            let payload = &packet[42..];
            assert_eq!(
                checksum(payload),
                !sum(payload) ^ if name.contains("words") { 0xffff } else { 0 }
            );
            nanos(|| checksum(black_box(payload)).into())
        });
        row(name, times);
    }
}

fn row(name: &str, times: impl Iterator<Item = f64>) {
    let columns: String = times.map(|time| format!(" {time:>8.1}")).collect();
    println!("{name:34}{columns}");
}

fn nanos(mut work: impl FnMut() -> usize) -> f64 {
    const ROUNDS: u32 = 100_000;
    let once = |_| {
        let start = Instant::now();
        for _ in 0..ROUNDS {
            black_box(work());
        }
        start.elapsed().as_nanos() as f64 / f64::from(ROUNDS)
    };
    (0..15).map(once).fold(f64::MAX, f64::min)
}

// --- the packet -------------------------------------------------------------------------------

/// A datagram of `len` bytes from the peer to us.
fn packet(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; 42 + len];
    for (i, byte) in bytes[42..].iter_mut().enumerate() {
        *byte = i as u8;
    }
    headers(&mut bytes, (PEER_MAC, PEER, 5000), (MAC, LOCAL, PORT));
    bytes
}

/// The built packet as its receiver would see it: to us.
fn rebound(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    headers(&mut bytes, (PEER_MAC, LOCAL, PORT), (MAC, LOCAL, PORT));
    assert!(!bytes.is_empty());
    bytes
}

type Station = ([u8; 6], [u8; 4], u16);

fn headers(bytes: &mut [u8], from: Station, to: Station) {
    let len = bytes.len() as u16;
    bytes[..6].copy_from_slice(&to.0);
    bytes[6..12].copy_from_slice(&from.0);
    bytes[12..24].copy_from_slice(&[8, 0, 0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17]);
    bytes[16..18].copy_from_slice(&(len - 14).to_be_bytes());
    bytes[24..26].fill(0);
    bytes[26..30].copy_from_slice(&from.1);
    bytes[30..34].copy_from_slice(&to.1);
    bytes[34..36].copy_from_slice(&from.2.to_be_bytes());
    bytes[36..38].copy_from_slice(&to.2.to_be_bytes());
    bytes[38..40].copy_from_slice(&(len - 34).to_be_bytes());
    bytes[40..42].fill(0);
    let ip = !sum(&bytes[14..34]);
    bytes[24..26].copy_from_slice(&ip.to_ne_bytes());
    let udp = !fold(pseudo(bytes) + wide(&bytes[34..]));
    bytes[40..42].copy_from_slice(&udp.to_ne_bytes());
}

/// The sum of the pseudo header of a packet without options.
fn pseudo(bytes: &[u8]) -> u64 {
    wide(&bytes[26..34])
        + u64::from(17u16.to_be())
        + u64::from(u16::from_ne_bytes([bytes[38], bytes[39]]))
}

fn fold(mut sum: u64) -> u16 {
    sum = (sum >> 32) + (sum & 0xffff_ffff);
    sum = (sum >> 16) + (sum & 0xffff);
    sum = (sum >> 16) + (sum & 0xffff);
    sum = (sum >> 16) + (sum & 0xffff);
    sum as u16
}

/// The folded sum of the 16-bit words, which the compiler turns into vector instructions.
#[inline(always)]
fn sum(bytes: &[u8]) -> u16 {
    fold(wide(bytes))
}

#[inline(always)]
fn wide(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<4>();
    let sum: u64 = words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum();
    let mut last = [0; 4];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    sum + u64::from(u32::from_ne_bytes(last))
}

// --- readers ----------------------------------------------------------------------------------

fn fixed_offsets(bytes: &[u8]) -> Found {
    let head: &[u8; 42] = bytes.first_chunk()?;
    let total = usize::from(u16::from_be_bytes([head[16], head[17]]));
    let shape = head[..6] == MAC
        && head[12..15] == [8, 0, 0x45]
        && total + 14 == bytes.len()
        && head[23] == 17
        && head[30..34] == LOCAL
        && head[36..38] == PORT.to_be_bytes();
    let right = || fold(pseudo(bytes) + wide(&bytes[34..])) == 0xffff;
    let peer = [head[26], head[27], head[28], head[29]];
    let port = u16::from_be_bytes([head[34], head[35]]);
    (shape && right()).then_some((peer, port, 42..bytes.len()))
}

#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Ethernet {
    destination: [u8; 6],
    _source: [u8; 6],
    ethertype: U16,
}

#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Ipv4 {
    version_ihl: u8,
    _tos: u8,
    total: U16,
    _id: U16,
    fragment: U16,
    _ttl: u8,
    protocol: u8,
    _checksum: U16,
    source: [u8; 4],
    destination: [u8; 4],
}

#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Udp {
    source: U16,
    destination: U16,
    length: U16,
    checksum: [u8; 2],
}

fn views(bytes: &[u8]) -> Found {
    let (ethernet, packet) = Ethernet::ref_from_prefix(bytes).ok()?;
    let (ip, _) = Ipv4::ref_from_prefix(packet).ok()?;
    let header = usize::from(ip.version_ihl & 0xf) * 4;
    let total = usize::from(ip.total.get());
    if ethernet.ethertype.get() != 0x0800
        || ethernet.destination != MAC
        || ip.version_ihl >> 4 != 4
        || header < 20
        || total < header
        || total > packet.len()
        || ip.fragment.get() & 0x3fff != 0
        || !matches!(ip.source[0], 1..=126 | 128..=223)
        || ip.destination != LOCAL
        || ip.protocol != 17
        || sum(&packet[..header]) != 0xffff
    {
        return None;
    }
    let datagram = &packet[header..total];
    let (udp, _) = Udp::ref_from_prefix(datagram).ok()?;
    let length = usize::from(udp.length.get());
    if length < 8 || length > datagram.len() || udp.destination.get() != PORT {
        return None;
    }
    if udp.checksum != [0, 0] {
        let addresses = sum(&packet[12..20]);
        let pseudo =
            u64::from(addresses) + u64::from(17u16.to_be()) + u64::from((length as u16).to_be());
        if fold(pseudo + u64::from(sum(&datagram[..length]))) != 0xffff {
            return None;
        }
    }
    let payload = 14 + header + 8;
    Some((ip.source, udp.source.get(), payload..payload + length - 8))
}

fn smoltcp_wire(bytes: &[u8]) -> Found {
    use smoltcp::wire::{
        EthernetAddress, EthernetFrame, EthernetProtocol, IpAddress, IpProtocol, Ipv4Packet,
        UdpPacket,
    };
    let frame = EthernetFrame::new_checked(bytes).ok()?;
    if frame.ethertype() != EthernetProtocol::Ipv4 || frame.dst_addr() != EthernetAddress(MAC) {
        return None;
    }
    let ip = Ipv4Packet::new_checked(frame.payload()).ok()?;
    let (source, destination) = (ip.src_addr(), ip.dst_addr());
    if ip.version() != 4
        || ip.more_frags()
        || ip.frag_offset() != 0
        || source.is_multicast()
        || source.is_broadcast()
        || destination != Ipv4Addr::from(LOCAL)
        || ip.next_header() != IpProtocol::Udp
        || !ip.verify_checksum()
    {
        return None;
    }
    let udp = UdpPacket::new_checked(ip.payload()).ok()?;
    if udp.dst_port() != PORT
        || !udp.verify_checksum(&IpAddress::Ipv4(source), &IpAddress::Ipv4(destination))
    {
        return None;
    }
    let start = 14 + usize::from(ip.header_len()) + 8;
    Some((source.octets(), udp.src_port(), start..start + udp.payload().len()))
}

fn etherparse_slices(bytes: &[u8]) -> Found {
    use etherparse::{EtherType, IpNumber, SlicedPacket, TransportSlice, checksum};
    let packet = SlicedPacket::from_ethernet(bytes).ok()?;
    let Some(etherparse::LinkSlice::Ethernet2(link)) = &packet.link else { return None };
    let Some(etherparse::NetSlice::Ipv4(ip)) = &packet.net else { return None };
    let Some(TransportSlice::Udp(udp)) = &packet.transport else { return None };
    let header = ip.header();
    if link.ether_type() != EtherType::IPV4
        || link.destination() != MAC
        || header.is_fragmenting_payload()
        || !matches!(header.source()[0], 1..=126 | 128..=223)
        || header.destination() != LOCAL
        || header.protocol() != IpNumber::UDP
        || header.to_header().calc_header_checksum() != header.header_checksum()
        || udp.destination_port() != PORT
    {
        return None;
    }
    let sum = checksum::Sum16BitWords::new()
        .add_4bytes(header.source())
        .add_4bytes(header.destination())
        .add_2bytes([0, 17])
        .add_2bytes(udp.length().to_be_bytes())
        .add_slice(udp.slice())
        .ones_complement();
    let start = 14 + header.slice().len() + 8;
    (sum == 0).then(|| (header.source(), udp.source_port(), start..start + udp.payload().len()))
}

// --- builders ---------------------------------------------------------------------------------

fn template(bytes: &mut [u8]) {
    const TEMPLATE: [u8; 42] = [
        2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0, 10,
        0, 0, 1, 10, 0, 0, 2, 0x0f, 0xa0, 0x13, 0x88, 0, 0, 0, 0,
    ];
    // A real template keeps these two sums; here the compiler computes them from the constant.
    let (ip_sum, udp_sum) = (sum(&TEMPLATE[14..34]), sum(&TEMPLATE[26..38]));
    let total = bytes.len() as u16 - 14;
    let udp = total - 20;
    let payload = wide(&bytes[42..]);
    let Some(head) = bytes.first_chunk_mut::<42>() else { return };
    *head = TEMPLATE;
    let (total_be, udp_be) = (total.to_be_bytes(), udp.to_be_bytes());
    let ip_checksum = !fold(u64::from(ip_sum) + u64::from(u16::from_ne_bytes(total_be)));
    let length = u64::from(u16::from_ne_bytes(udp_be));
    let pseudo = u64::from(udp_sum) + u64::from(17u16.to_be()) + 2 * length;
    let udp_checksum = !fold(pseudo + payload);
    head[16..18].copy_from_slice(&total_be);
    head[24..26].copy_from_slice(&ip_checksum.to_ne_bytes());
    head[38..40].copy_from_slice(&udp_be);
    head[40..42].copy_from_slice(&udp_checksum.to_ne_bytes());
}

fn smoltcp_build(bytes: &mut [u8]) {
    use smoltcp::phy::ChecksumCapabilities;
    use smoltcp::wire::{
        EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, IpAddress, IpProtocol,
        Ipv4Packet, Ipv4Repr, UdpPacket,
    };
    let udp_len = bytes.len() - 34;
    let mut frame = EthernetFrame::new_unchecked(bytes);
    EthernetRepr {
        src_addr: EthernetAddress(MAC),
        dst_addr: EthernetAddress(PEER_MAC),
        ethertype: EthernetProtocol::Ipv4,
    }
    .emit(&mut frame);
    let mut ip = Ipv4Packet::new_unchecked(frame.payload_mut());
    let repr = Ipv4Repr {
        src_addr: LOCAL.into(),
        dst_addr: PEER.into(),
        next_header: IpProtocol::Udp,
        payload_len: udp_len,
        hop_limit: 64,
    };
    repr.emit(&mut ip, &ChecksumCapabilities::default());
    let mut udp = UdpPacket::new_unchecked(ip.payload_mut());
    udp.set_src_port(PORT);
    udp.set_dst_port(5000);
    udp.set_len(udp_len as u16);
    udp.fill_checksum(&IpAddress::Ipv4(LOCAL.into()), &IpAddress::Ipv4(PEER.into()));
}

fn etherparse_build(bytes: &mut [u8]) {
    use etherparse::{EtherType, Ethernet2Header, IpNumber, Ipv4Header, UdpHeader};
    let (head, payload) = bytes.split_at_mut(42);
    let Ok(mut ip) = Ipv4Header::new(payload.len() as u16 + 8, 64, IpNumber::UDP, LOCAL, PEER)
    else {
        return;
    };
    ip.header_checksum = ip.calc_header_checksum();
    let Ok(udp) = UdpHeader::with_ipv4_checksum(PORT, 5000, &ip, payload) else { return };
    let ethernet =
        Ethernet2Header { destination: PEER_MAC, source: MAC, ether_type: EtherType::IPV4 };
    head[..14].copy_from_slice(&ethernet.to_bytes());
    head[14..34].copy_from_slice(&ip.to_bytes());
    head[34..].copy_from_slice(&udp.to_bytes());
}
