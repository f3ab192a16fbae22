//! [`Template`]: the headers of a flow, made once and copied in front of each datagram; and the
//! headers of a received datagram turned around in place.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{FromBytes, IntoBytes};

use super::ethernet::Ethernet;
use super::ipv4::Ipv4;
use super::ipv6::Ipv6;
use super::udp::Udp;
use super::{Sum, ethernet, ipv4, ipv6, protocol, udp};
use crate::{Ecn, MacAddr};

/// The most bytes of headers that a template has: tagged Ethernet, IPv6, UDP.
pub(crate) const MAX_LEN: usize = ethernet::LEN + ethernet::TAG_LEN + ipv6::LEN + udp::LEN;
/// The headers that most datagrams have: untagged Ethernet, IPv4, UDP.
const COMMON_LEN: usize = ethernet::LEN + ipv4::LEN + udp::LEN;

/// Source and destination of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    V4 { source: Ipv4Addr, destination: Ipv4Addr },
    V6 { source: Ipv6Addr, destination: Ipv6Addr },
}

impl Address {
    /// From one host to another of the same family.
    pub(crate) fn between(source: IpAddr, destination: IpAddr) -> Option<Self> {
        match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => Some(Self::V4 { source, destination }),
            (IpAddr::V6(source), IpAddr::V6(destination)) => Some(Self::V6 { source, destination }),
            _ => None,
        }
    }

    pub(crate) fn destination(self) -> IpAddr {
        match self {
            Self::V4 { destination, .. } => destination.into(),
            Self::V6 { destination, .. } => destination.into(),
        }
    }
}

/// All that datagrams of a flow have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flow {
    pub(crate) source_mac: MacAddr,
    pub(crate) destination_mac: MacAddr,
    /// Tag control information of the VLAN.
    pub(crate) tag: Option<u16>,
    pub(crate) address: Address,
    pub(crate) source_port: u16,
    pub(crate) destination_port: u16,
    pub(crate) hops: u8,
    pub(crate) ecn: Ecn,
}

/// Who fills in the UDP checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seal {
    /// We do.
    Software,
    /// The device does, starting from the sum of the pseudo header that we leave there.
    Device,
    /// Nobody: it is zero (IPv4 only).
    Omit,
    /// It is right as it stands.
    Keep,
}

/// The headers of a flow, with lengths and checksums missing.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    bytes: [u8; MAX_LEN],
    len: u8,
    v6: bool,
    /// Over the IPv4 header.
    ip_sum: Sum,
    /// Over the pseudo header.
    pseudo_sum: Sum,
    /// Over the UDP header.
    udp_sum: Sum,
}

impl Template {
    pub(crate) fn new(flow: &Flow) -> Self {
        let mut bytes = [0; MAX_LEN];
        let ip_ethertype = match flow.address {
            Address::V4 { .. } => ethernet::IPV4,
            Address::V6 { .. } => ethernet::IPV6,
        };
        let (destination, source) = (flow.destination_mac, flow.source_mac);
        let link = ethernet::write(&mut bytes, destination, source, flow.tag, ip_ethertype);
        let (ip_len, pseudo) = match flow.address {
            Address::V4 { source, destination } => {
                let ip = Ipv4 {
                    version_ihl: ipv4::PLAIN,
                    tos: flow.ecn as u8,
                    total_length: U16::ZERO,
                    // A packet that is never cut needs no identification (RFC 6864).
                    id: U16::ZERO,
                    fragment: U16::new(ipv4::DONT_FRAGMENT),
                    ttl: flow.hops,
                    protocol: protocol::UDP,
                    checksum: [0; 2],
                    source: source.octets(),
                    destination: destination.octets(),
                };
                bytes[link..link + ipv4::LEN].copy_from_slice(ip.as_bytes());
                (ipv4::LEN, Sum::of(&ip.as_bytes()[12..]))
            }
            Address::V6 { source, destination } => {
                let class = u32::from(flow.ecn as u8) << ipv6::TRAFFIC_CLASS;
                let ip = Ipv6 {
                    version_class_flow: U32::new(ipv6::VERSION | class),
                    payload_length: U16::ZERO,
                    next_header: protocol::UDP,
                    hop_limit: flow.hops,
                    source: source.octets(),
                    destination: destination.octets(),
                };
                bytes[link..link + ipv6::LEN].copy_from_slice(ip.as_bytes());
                (ipv6::LEN, Sum::of(&ip.as_bytes()[8..]))
            }
        };
        let udp = Udp {
            source: U16::new(flow.source_port),
            destination: U16::new(flow.destination_port),
            length: U16::ZERO,
            checksum: [0; 2],
        };
        let len = link + ip_len + udp::LEN;
        bytes[link + ip_len..len].copy_from_slice(udp.as_bytes());
        Self {
            len: len as u8,
            v6: ip_len == ipv6::LEN,
            ip_sum: Sum::of(&bytes[link..link + ip_len]),
            pseudo_sum: pseudo.and(protocol::UDP.into()),
            udp_sum: Sum::of(udp.as_bytes()),
            bytes,
        }
    }

    /// Bytes of headers.
    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        self.len.into()
    }

    pub(crate) fn is_v6(&self) -> bool {
        self.v6
    }

    /// Writes the headers in front of the payload that follows them in `frame`. A frame that is
    /// too short for them stays as it is.
    #[inline(always)]
    pub(crate) fn write(&self, frame: &mut [u8], seal: Seal) {
        let Some((head, payload)) = frame.split_at_mut_checked(self.len()) else { return };
        // A copy of known length is a few moves instead of a call.
        match head.as_mut_array::<COMMON_LEN>() {
            Some(head) => head.copy_from_slice(&self.bytes[..COMMON_LEN]),
            None => head.copy_from_slice(&self.bytes[..head.len()]),
        }
        let length = (udp::LEN + payload.len()) as u16;
        let Ok((rest, udp)) = Udp::mut_from_suffix(head) else { return };
        udp.length = U16::new(length);
        // The length is in the header and in the pseudo header.
        udp.checksum = match seal {
            Seal::Software => {
                let sum = self.pseudo_sum.plus(self.udp_sum).and(length).and(length);
                sum.plus(Sum::of(payload)).udp_checksum()
            }
            Seal::Device => self.pseudo_sum.and(length).partial(),
            Seal::Omit | Seal::Keep => [0; 2],
        };
        if self.v6 {
            if let Ok((_, ip)) = Ipv6::mut_from_suffix(rest) {
                ip.payload_length = U16::new(length);
            }
        } else if let Ok((_, ip)) = Ipv4::mut_from_suffix(rest) {
            let total = ipv4::LEN as u16 + length;
            ip.total_length = U16::new(total);
            ip.checksum = ipv4::checksum(self.ip_sum, total);
        }
    }
}

/// Turns the headers of a received datagram around in place: back to the station, host and port
/// that it came from, with as many bytes of payload as follow them.
///
/// The headers are plain ones: `link` bytes of Ethernet, an IP header without options or
/// extensions, UDP. A frame that is too short for them stays as it is.
#[inline(always)]
pub(crate) fn turn(frame: &mut [u8], link: usize, v6: bool, mac: MacAddr, hops: u8, seal: Seal) {
    let Some((head, packet)) = frame.split_at_mut_checked(link) else { return };
    let Ok((ethernet, _)) = Ethernet::mut_from_prefix(head) else { return };
    (ethernet.destination, ethernet.source) = (ethernet.source, mac.0);
    if v6 {
        let Ok((ip, datagram)) = Ipv6::mut_from_prefix(packet) else { return };
        std::mem::swap(&mut ip.source, &mut ip.destination);
        ip.version_class_flow = U32::new(ipv6::VERSION);
        ip.payload_length = U16::new(datagram.len() as u16);
        ip.hop_limit = hops;
        turn_udp(&ip.as_bytes()[8..], datagram, seal);
    } else {
        let Ok((ip, datagram)) = Ipv4::mut_from_prefix(packet) else { return };
        let total_length = (ipv4::LEN + datagram.len()) as u16;
        // From the numbers, not from what is being written: that would have to be waited for.
        ip.checksum = Sum::of(&ip.as_bytes()[12..])
            .and(u16::from(ipv4::PLAIN) << 8)
            .and(total_length)
            .and(ipv4::DONT_FRAGMENT)
            .and(u16::from(hops) << 8 | u16::from(protocol::UDP))
            .checksum();
        std::mem::swap(&mut ip.source, &mut ip.destination);
        ip.version_ihl = ipv4::PLAIN;
        ip.tos = 0;
        ip.total_length = U16::new(total_length);
        ip.id = U16::ZERO;
        ip.fragment = U16::new(ipv4::DONT_FRAGMENT);
        ip.ttl = hops;
        turn_udp(&ip.as_bytes()[12..], datagram, seal);
    }
}

#[inline(always)]
fn turn_udp(addresses: &[u8], datagram: &mut [u8], seal: Seal) {
    let length = datagram.len() as u16;
    let Ok((udp, _)) = Udp::mut_from_prefix(datagram) else { return };
    std::mem::swap(&mut udp.source, &mut udp.destination);
    udp.length = U16::new(length);
    if seal == Seal::Keep {
        return;
    }
    udp.checksum = [0; 2];
    let pseudo = Sum::pseudo_header(addresses, protocol::UDP, length);
    let checksum = match seal {
        Seal::Software => pseudo.plus(Sum::of(datagram)).udp_checksum(),
        Seal::Device => pseudo.partial(),
        Seal::Omit | Seal::Keep => [0; 2],
    };
    if let Ok((udp, _)) = Udp::mut_from_prefix(datagram) {
        udp.checksum = checksum;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::udp::{Sealed, Verify};
    use super::super::{ethernet::Link, ipv4, ipv6, udp};
    use super::*;

    const US: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const PEER: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

    fn flow(v6: bool, tag: Option<u16>) -> Flow {
        let address = if v6 {
            Address::V6 {
                source: Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1),
                destination: Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2),
            }
        } else {
            Address::V4 { source: [10, 0, 0, 1].into(), destination: [10, 0, 0, 2].into() }
        };
        Flow {
            source_mac: US,
            destination_mac: PEER,
            tag,
            address,
            source_port: 4000,
            destination_port: 5000,
            hops: 64,
            ecn: Ecn::Ect0,
        }
    }

    /// Reads a frame back with every check; answers link, ports and whether the checksum was there.
    fn read(frame: &[u8], port: u16) -> Result<(usize, MacAddr, Sealed), crate::DropCause> {
        let link = Link::read(frame, None)?;
        let packet = &frame[link.len..];
        let destination = MacAddr(link.ethernet.destination);
        let (total, (length, sealed)) = if link.ethertype == ethernet::IPV6 {
            let ip = ipv6::Packet::read(packet)?;
            (ip.payload.len(), udp::read(ip.payload, ip.addresses, port, Verify::Compute)?)
        } else {
            let ip = ipv4::Packet::read(packet, false)?;
            (ip.payload.len(), udp::read(ip.payload, ip.addresses, port, Verify::Compute)?)
        };
        assert_eq!(length, total);
        Ok((link.len, destination, sealed))
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back_and_turns_around(
            payload in proptest::collection::vec(any::<u8>(), 0..1400),
            v6: bool,
            tag in proptest::option::of(0u16..4096),
        ) {
            let template = Template::new(&flow(v6, tag));
            let mut frame = vec![0xaa; template.len()];
            frame.extend(&payload);
            template.write(&mut frame, Seal::Software);
            let (link, destination, sealed) = read(&frame, 5000).unwrap();
            prop_assert_eq!((destination, sealed), (PEER, Sealed::Yes));
            for seal in [Seal::Keep, Seal::Software] {
                let mut reply = frame.clone();
                turn(&mut reply, link, v6, PEER, 3, seal);
                let (_, destination, sealed) = read(&reply, 4000).unwrap();
                prop_assert_eq!((destination, sealed), (US, Sealed::Yes));
                prop_assert_eq!(&reply[template.len()..], &payload);
                prop_assert_eq!(&reply[link - 2..][..2], &frame[link - 2..][..2]);
            }
        }

        #[test]
        fn a_device_finishes_the_checksum(
            payload in proptest::collection::vec(any::<u8>(), 0..200),
            v6: bool,
            turned: bool,
        ) {
            let template = Template::new(&flow(v6, None));
            let start = template.len() - udp::LEN;
            let mut frame = vec![0xaa; template.len()];
            frame.extend(&payload);
            template.write(&mut frame, Seal::Device);
            if turned {
                turn(&mut frame, ethernet::LEN, v6, PEER, 3, Seal::Device);
            }
            // What a device does: sums from `start` to the end, seed included.
            let checksum = Sum::of(&frame[start..]).udp_checksum();
            frame[start + 6..start + 8].copy_from_slice(&checksum);
            let port = if turned { 4000 } else { 5000 };
            prop_assert_eq!(read(&frame, port).unwrap().2, Sealed::Yes);
        }
    }

    #[test]
    fn an_omitted_checksum_is_zero_and_accepted_over_ipv4_only() {
        for v6 in [false, true] {
            let template = Template::new(&flow(v6, None));
            let mut frame = vec![0; template.len() + 5];
            template.write(&mut frame, Seal::Omit);
            let read = read(&frame, 5000).map(|(.., sealed)| sealed);
            assert_eq!(read, if v6 { Err(crate::DropCause::UdpChecksum) } else { Ok(Sealed::No) });
        }
    }
}
