//! ARP for IPv4 over Ethernet (RFC 826).

use std::net::Ipv4Addr;

use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::ethernet;
use crate::{DropCause, MacAddr};

pub(crate) const REQUEST: u16 = 1;
pub(crate) const REPLY: u16 = 2;

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Arp {
    hardware: U16,
    protocol: U16,
    hardware_len: u8,
    protocol_len: u8,
    pub(crate) operation: U16,
    sender_mac: [u8; 6],
    sender_ip: [u8; 4],
    target_mac: [u8; 6],
    target_ip: [u8; 4],
}

/// A party to the exchange.
pub(crate) type Station = (MacAddr, Ipv4Addr);

impl Arp {
    pub(crate) fn new(operation: u16, sender: Station, target: Station) -> Self {
        Self {
            hardware: U16::new(1),
            protocol: U16::new(ethernet::IPV4),
            hardware_len: 6,
            protocol_len: 4,
            operation: U16::new(operation),
            sender_mac: sender.0.0,
            sender_ip: sender.1.octets(),
            target_mac: target.0.0,
            target_ip: target.1.octets(),
        }
    }

    pub(crate) fn read(bytes: &[u8]) -> Result<Self, DropCause> {
        let (arp, _) = Self::read_from_prefix(bytes).map_err(|_| DropCause::ArpMalformed)?;
        let about_us = arp.hardware.get() == 1
            && arp.protocol.get() == ethernet::IPV4
            && (arp.hardware_len, arp.protocol_len) == (6, 4)
            && matches!(arp.operation.get(), REQUEST | REPLY)
            && !MacAddr(arp.sender_mac).is_group();
        if about_us { Ok(arp) } else { Err(DropCause::ArpMalformed) }
    }

    pub(crate) fn sender(&self) -> Station {
        (MacAddr(self.sender_mac), self.sender_ip.into())
    }

    pub(crate) fn target(&self) -> Ipv4Addr {
        self.target_ip.into()
    }
}
