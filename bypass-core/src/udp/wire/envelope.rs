//! [`wrap`]: IP and Ethernet around a message of the stack itself.

use zerocopy::IntoBytes;
use zerocopy::byteorder::network_endian::{U16, U32};

use super::ipv4::{self, Ipv4};
use super::ipv6::{self, Ipv6};
use super::{Address, Sum, ethernet, protocol};
use crate::{Buffer, MacAddr, OutOfRoom};

/// From which station to which, in which VLAN.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stations {
    pub(crate) source: MacAddr,
    pub(crate) destination: MacAddr,
    pub(crate) tag: Option<u16>,
}

/// From which host to which, and what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hosts<'a> {
    pub(crate) address: Address,
    /// What the message is; before it, `extra` may have its say.
    pub(crate) protocol: u8,
    pub(crate) hops: u8,
    /// Options (IPv4) or a hop-by-hop header (IPv6), ready made.
    pub(crate) extra: &'a [u8],
}

impl Address {
    /// The sum of the pseudo header of an ICMP message, which only IPv6 has.
    pub(crate) fn icmp_pseudo_header(self, length: usize) -> Sum {
        match self {
            Self::V4 { .. } => Sum::default(),
            Self::V6 { source, destination } => {
                let addresses = [source.octets(), destination.octets()];
                Sum::pseudo_header(addresses.as_bytes(), protocol::ICMPV6, length as u16)
            }
        }
    }
}

/// Puts headers in front of the message that `frame` holds.
pub(crate) fn wrap(
    frame: &mut impl Buffer,
    stations: &Stations,
    hosts: &Hosts<'_>,
) -> Result<(), OutOfRoom> {
    let behind = hosts.extra.len() + frame.data().len();
    frame.prepend(hosts.extra.len())?.copy_from_slice(hosts.extra);
    let ethertype = match hosts.address {
        Address::V4 { source, destination } => {
            let mut ip = Ipv4 {
                version_ihl: ipv4::PLAIN + (hosts.extra.len() / 4) as u8,
                tos: 0,
                total_length: U16::new((ipv4::LEN + behind) as u16),
                id: U16::ZERO,
                fragment: U16::new(ipv4::DONT_FRAGMENT),
                ttl: hosts.hops,
                protocol: hosts.protocol,
                checksum: [0; 2],
                source: source.octets(),
                destination: destination.octets(),
            };
            ip.checksum = Sum::of(ip.as_bytes()).plus(Sum::of(hosts.extra)).checksum();
            frame.prepend(ipv4::LEN)?.copy_from_slice(ip.as_bytes());
            ethernet::IPV4
        }
        Address::V6 { source, destination } => {
            let ip = Ipv6 {
                version_class_flow: U32::new(ipv6::VERSION),
                payload_length: U16::new(behind as u16),
                next_header: if hosts.extra.is_empty() { hosts.protocol } else { ipv6::HOP_BY_HOP },
                hop_limit: hosts.hops,
                source: source.octets(),
                destination: destination.octets(),
            };
            frame.prepend(ipv6::LEN)?.copy_from_slice(ip.as_bytes());
            ethernet::IPV6
        }
    };
    frame_up(frame, stations, ethertype)
}

/// Puts an Ethernet header in front of what `frame` holds.
pub(crate) fn frame_up(
    frame: &mut impl Buffer,
    stations: &Stations,
    ethertype: u16,
) -> Result<(), OutOfRoom> {
    let header = frame.prepend(ethernet::header_len(stations.tag))?;
    ethernet::write(header, stations.destination, stations.source, stations.tag, ethertype);
    Ok(())
}
