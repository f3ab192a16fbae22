//! The judgement on every frame that arrives.
//!
//! What nearly every frame is, a plain datagram for us, [`plain`] tells by fixed offsets; whatever
//! is not that is examined step by step by [`inspect`].

mod plain;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub(super) use self::plain::plain;

use super::datagram::Flags;
use super::local::{Cast, Local};
use super::wire::ethernet::Link;
use super::wire::udp::{Sealed, Verify};
use super::wire::{Sum, ethernet, icmp, igmp, ipv4, ipv6, protocol, udp};
use crate::{ChecksumVerdict, DropCause, MacAddr, RxMeta};

/// What a frame holds for us.
#[derive(Debug)]
pub(super) enum Inspected<'a> {
    /// A datagram for our port.
    Udp(Layout),
    /// An ARP message; its bytes begin with it.
    Arp(&'a [u8]),
    /// Something else that the stack itself may answer.
    Message(Message),
}

/// Where the parts of a datagram lie in its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// Bytes before the IP header.
    pub(super) link: usize,
    /// Bytes before the payload.
    pub(super) head: usize,
    /// Bytes before what is only padding.
    pub(super) end: usize,
    pub(super) flags: Flags,
}

/// An ICMP, ICMPv6 or IGMP message whose checksum is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) protocol: u8,
    /// The station that it came through.
    pub(super) station: MacAddr,
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) cast: Cast,
    /// What is left of its hop limit or time to live.
    pub(super) hops: u8,
    /// Bytes before the message, and before what is behind it.
    pub(super) start: usize,
    pub(super) end: usize,
}

/// What is to be done about the UDP checksum of a frame.
///
/// `unknown` is what is done where the port says nothing.
#[inline(always)]
pub(super) fn verify(meta: &RxMeta, unknown: Verify) -> Verify {
    match meta.checksum {
        // A device that calls it wrong is asked to prove it, and the cause is then known.
        ChecksumVerdict::Unknown | ChecksumVerdict::Bad => unknown,
        ChecksumVerdict::Good if unknown != Verify::Ignore => Verify::Right,
        _ => Verify::Ignore,
    }
}

/// Judges a frame: what it is for us, or why it is dropped.
pub(super) fn inspect<'a>(
    frame: &'a [u8],
    meta: &RxMeta,
    local: &Local,
    verify: Verify,
) -> Result<Inspected<'a>, DropCause> {
    let link = Link::read(frame, meta.vlan)?;
    if !local.is_our_vlan(link.tag) {
        return Err(DropCause::VlanOther);
    }
    let destination = MacAddr(link.ethernet.destination);
    if destination != local.mac && !destination.is_group() {
        return Err(DropCause::EthernetAddress);
    }
    if MacAddr(link.ethernet.source).is_group() {
        return Err(DropCause::EthernetSource);
    }
    let plain = meta.vlan.is_none() && link.len == ethernet::header_len(local.vlan);
    let arrival = Arrival { local, link, verify, plain };
    let packet = &frame[link.len..];
    match link.ethertype {
        ethernet::IPV4 => arrival.ipv4(packet, meta.checksum == ChecksumVerdict::Good),
        ethernet::IPV6 => arrival.ipv6(packet),
        ethernet::ARP => Ok(Inspected::Arp(packet)),
        _ => Err(DropCause::EtherType),
    }
}

/// A frame whose Ethernet header is as it should be.
struct Arrival<'a, 'l> {
    local: &'l Local,
    link: Link<'a>,
    verify: Verify,
    /// Whether the frame carries exactly the tag that ours carry.
    plain: bool,
}

/// An IP packet whose header is as it should be.
struct Packet<'a> {
    source: IpAddr,
    destination: IpAddr,
    cast: Cast,
    protocol: u8,
    hops: u8,
    /// Bytes of headers before the payload.
    start: usize,
    payload: &'a [u8],
    plain: bool,
}

impl<'a> Arrival<'a, '_> {
    fn ipv4(&self, bytes: &'a [u8], vouched: bool) -> Result<Inspected<'a>, DropCause> {
        let ip = ipv4::Packet::read(bytes, vouched)?;
        let source = Ipv4Addr::from(ip.header.source);
        let destination = Ipv4Addr::from(ip.header.destination);
        let is_igmp = ip.header.protocol == protocol::IGMP;
        // A switch that asks about groups may do so without an address of its own (RFC 4541).
        let asks_without = is_igmp && source.is_unspecified();
        if !self.local.believes_v4(source) && !asks_without {
            return Err(DropCause::IpSource);
        }
        let cast = match self.local.accepts_v4(destination) {
            Some(cast) => cast,
            None if is_igmp && destination == igmp::ALL_HOSTS => Cast::Group,
            None => return Err(DropCause::IpAddress),
        };
        let packet = Packet {
            source: source.into(),
            destination: destination.into(),
            cast,
            protocol: ip.header.protocol,
            hops: ip.header.ttl,
            start: self.link.len + ip.header_len,
            payload: ip.payload,
            plain: ip.header_len == ipv4::LEN,
        };
        self.station_fits(&packet)?;
        match packet.protocol {
            protocol::UDP => self.udp(&packet, ip.addresses, false),
            protocol::ICMP => {
                icmp::read(packet.payload, Sum::default())?;
                Ok(self.message(&packet))
            }
            protocol::IGMP => Ok(self.message(&packet)),
            _ => Err(DropCause::IpProtocol),
        }
    }

    fn ipv6(&self, bytes: &'a [u8]) -> Result<Inspected<'a>, DropCause> {
        let ip = ipv6::Packet::read(bytes)?;
        let source = Ipv6Addr::from_octets(ip.header.source);
        let destination = Ipv6Addr::from_octets(ip.header.destination);
        // Who looks for an address of its own asks without one; only the message can tell.
        let may_lack_source = ip.protocol == protocol::ICMPV6 && source.is_unspecified();
        if !self.local.believes_v6(source) && !may_lack_source {
            return Err(DropCause::IpSource);
        }
        let packet = Packet {
            source: source.into(),
            destination: destination.into(),
            cast: self.local.accepts_v6(destination).ok_or(DropCause::IpAddress)?,
            protocol: ip.protocol,
            hops: ip.header.hop_limit,
            start: self.link.len + ip.header_len,
            payload: ip.payload,
            plain: ip.header_len == ipv6::LEN,
        };
        self.station_fits(&packet)?;
        match packet.protocol {
            protocol::UDP => self.udp(&packet, ip.addresses, true),
            protocol::ICMPV6 => {
                // No larger than the 16-bit payload length of the packet that it was in.
                let length = packet.payload.len() as u16;
                let pseudo = Sum::pseudo_header(ip.addresses, protocol::ICMPV6, length);
                icmp::read(packet.payload, pseudo)?;
                Ok(self.message(&packet))
            }
            _ => Err(DropCause::IpProtocol),
        }
    }

    /// A frame to a group of stations must hold a packet to that group of hosts, or one host would
    /// be reached by what looks like a broadcast (RFC 1122, section 3.3.6).
    fn station_fits(&self, packet: &Packet<'_>) -> Result<(), DropCause> {
        let station = MacAddr(self.link.ethernet.destination);
        let fits = !station.is_group()
            || (packet.cast == Cast::Group && station == ethernet::group(packet.destination));
        if fits { Ok(()) } else { Err(DropCause::EthernetAddress) }
    }

    fn udp<const N: usize>(
        &self,
        packet: &Packet<'_>,
        addresses: &[u8; N],
        v6: bool,
    ) -> Result<Inspected<'a>, DropCause> {
        let (length, sealed) = udp::read(packet.payload, addresses, self.local.port, self.verify)?;
        let plain = self.plain && packet.plain && packet.cast == Cast::Unicast;
        let mut flags = Flags::RECEIVED | sealed.flag();
        flags.set(Flags::V6, v6);
        flags.set(Flags::PLAIN, plain);
        let (head, end) = (packet.start + udp::LEN, packet.start + length);
        Ok(Inspected::Udp(Layout { link: self.link.len, head, end, flags }))
    }

    fn message(&self, packet: &Packet<'_>) -> Inspected<'a> {
        Inspected::Message(Message {
            protocol: packet.protocol,
            station: MacAddr(self.link.ethernet.source),
            source: packet.source,
            destination: packet.destination,
            cast: packet.cast,
            hops: packet.hops,
            start: packet.start,
            end: packet.start + packet.payload.len(),
        })
    }
}

impl Sealed {
    #[inline(always)]
    fn flag(self) -> Flags {
        match self {
            Self::Yes => Flags::SEALED,
            Self::No => Flags::empty(),
        }
    }
}
