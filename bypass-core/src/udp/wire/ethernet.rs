//! Ethernet II and the 802.1Q tag.

use std::net::IpAddr;

use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::{DropCause, MacAddr, VlanTag};

/// Bytes of the header, without a tag.
pub(crate) const LEN: usize = size_of::<Ethernet>();
/// Bytes that a tag adds.
pub(crate) const TAG_LEN: usize = size_of::<Tag>();

pub(crate) const IPV4: u16 = 0x0800;
pub(crate) const ARP: u16 = 0x0806;
pub(crate) const IPV6: u16 = 0x86dd;
pub(crate) const VLAN: u16 = 0x8100;
/// 802.1ad, the outer tag of two.
pub(crate) const SERVICE_VLAN: u16 = 0x88a8;

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Ethernet {
    pub(crate) destination: [u8; 6],
    pub(crate) source: [u8; 6],
    pub(crate) ethertype: U16,
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Tag {
    pub(crate) tci: U16,
    pub(crate) ethertype: U16,
}

/// The header of a frame, tag taken apart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link<'a> {
    pub(crate) ethernet: &'a Ethernet,
    pub(crate) tag: Option<VlanTag>,
    /// EtherType of what follows.
    pub(crate) ethertype: u16,
    /// Where that begins.
    pub(crate) len: usize,
}

const fn is_tag(ethertype: u16) -> bool {
    matches!(ethertype, VLAN | SERVICE_VLAN)
}

impl<'a> Link<'a> {
    /// Reads the header; `stripped` is a tag that the device took out of the frame.
    pub(crate) fn read(frame: &'a [u8], stripped: Option<VlanTag>) -> Result<Self, DropCause> {
        let (ethernet, rest) =
            Ethernet::ref_from_prefix(frame).map_err(|_| DropCause::EthernetShort)?;
        let tpid = ethernet.ethertype.get();
        if !is_tag(tpid) {
            return Ok(Self { ethernet, tag: stripped, ethertype: tpid, len: LEN });
        }
        if stripped.is_some() {
            return Err(DropCause::VlanNested);
        }
        let (tag, _) = Tag::ref_from_prefix(rest).map_err(|_| DropCause::EthernetShort)?;
        let ethertype = tag.ethertype.get();
        if is_tag(ethertype) {
            return Err(DropCause::VlanNested);
        }
        let tag = Some(VlanTag { tpid, tci: tag.tci.get() });
        Ok(Self { ethernet, tag, ethertype, len: LEN + TAG_LEN })
    }
}

/// Writes a header at the front of `bytes`, with a tag of this `tci` if there is one. Answers its
/// length, [`header_len`]; too few bytes stay as they are.
pub(crate) fn write(
    bytes: &mut [u8],
    destination: MacAddr,
    source: MacAddr,
    tci: Option<u16>,
    ethertype: u16,
) -> usize {
    let outer = if tci.is_some() { VLAN } else { ethertype };
    let ethernet =
        Ethernet { destination: destination.0, source: source.0, ethertype: U16::new(outer) };
    if ethernet.write_to_prefix(bytes).is_ok()
        && let Some(tci) = tci
    {
        let tag = Tag { tci: U16::new(tci), ethertype: U16::new(ethertype) };
        let _too_short = tag.write_to_prefix(&mut bytes[LEN..]);
    }
    header_len(tci)
}

/// Bytes of a header, with or without a tag.
pub(crate) const fn header_len(tci: Option<u16>) -> usize {
    LEN + if tci.is_some() { TAG_LEN } else { 0 }
}

/// The group address that an IP group is sent to (RFC 1112, section 6.4; RFC 2464, section 7).
pub(crate) fn group(ip: IpAddr) -> MacAddr {
    match ip {
        IpAddr::V4(ip) if ip.is_multicast() => {
            let [_, b, c, d] = ip.octets();
            MacAddr([0x01, 0x00, 0x5e, b & 0x7f, c, d])
        }
        // What is no group but goes to more than one station is a broadcast.
        IpAddr::V4(_) => MacAddr::BROADCAST,
        IpAddr::V6(ip) => {
            let [.., a, b, c, d] = ip.octets();
            MacAddr([0x33, 0x33, a, b, c, d])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_have_the_addresses_of_the_rfcs() {
        let mac = |text: &str| group(text.parse().unwrap()).to_string();
        assert_eq!(mac("224.0.0.1"), "01:00:5e:00:00:01");
        assert_eq!(mac("239.129.2.3"), "01:00:5e:01:02:03");
        assert_eq!(mac("255.255.255.255"), "ff:ff:ff:ff:ff:ff");
        assert_eq!(mac("10.0.0.255"), "ff:ff:ff:ff:ff:ff");
        assert_eq!(mac("ff02::1:ff12:3456"), "33:33:ff:12:34:56");
    }
}
