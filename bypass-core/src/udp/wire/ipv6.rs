//! IPv6 (RFC 8200) and the extension headers that are stepped over.

use std::net::Ipv6Addr;

use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::protocol;
use crate::DropCause;

/// Bytes of the header without extensions.
pub(crate) const LEN: usize = size_of::<Ipv6>();
/// Version 6, no traffic class, no flow label.
pub(crate) const VERSION: u32 = 6 << 28;
/// Where the traffic class is in the first word.
pub(crate) const TRAFFIC_CLASS: u32 = 20;

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Ipv6 {
    pub(crate) version_class_flow: U32,
    pub(crate) payload_length: U16,
    pub(crate) next_header: u8,
    pub(crate) hop_limit: u8,
    pub(crate) source: [u8; 16],
    pub(crate) destination: [u8; 16],
}

/// A packet whose headers are as they should be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packet<'a> {
    pub(crate) header: &'a Ipv6,
    /// Bytes of the header with its extensions.
    pub(crate) header_len: usize,
    /// The protocol behind them.
    pub(crate) protocol: u8,
    /// Source and destination, as they lie in the header.
    pub(crate) addresses: &'a [u8; 32],
    /// What is behind the headers, without the padding of the frame.
    pub(crate) payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Reads the headers and checks them.
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self, DropCause> {
        let (header, rest) = Ipv6::ref_from_prefix(bytes).map_err(|_| DropCause::IpHeader)?;
        if header.version_class_flow.get() >> 28 != 6 {
            return Err(DropCause::IpHeader);
        }
        // A jumbogram (RFC 2675) says 0 here and brings a hop-by-hop option that nobody asked for.
        let payload = rest.get(..header.payload_length.get().into()).ok_or(DropCause::IpLength)?;
        if !is_source(header.source) {
            return Err(DropCause::IpSource);
        }
        let (_, addresses) = bytes[..LEN].split_last_chunk().ok_or(DropCause::IpHeader)?;
        let mut packet =
            Self { header, header_len: LEN, protocol: header.next_header, addresses, payload };
        if !matches!(packet.protocol, protocol::UDP | protocol::ICMPV6) {
            packet.step_over_extensions()?;
        }
        Ok(packet)
    }

    /// Steps over extension headers, to the first that is none (RFC 8200, section 4).
    #[cold]
    fn step_over_extensions(&mut self) -> Result<(), DropCause> {
        loop {
            let extension = match (self.protocol, self.header_len) {
                (extension::FRAGMENT, _) => return Err(DropCause::IpFragment),
                // Only directly behind the IPv6 header (section 4.3).
                (HOP_BY_HOP, LEN) | (extension::DESTINATION_OPTIONS | extension::ROUTING, _) => {
                    self.protocol
                }
                (
                    HOP_BY_HOP
                    | extension::ESP
                    | extension::AUTHENTICATION
                    | extension::MOBILITY
                    | extension::HIP
                    | extension::SHIM6,
                    _,
                ) => return Err(DropCause::Ipv6Extension),
                _ => return Ok(()),
            };
            let &[next, words, ..] = self.payload else { return Err(DropCause::IpHeader) };
            let len = (usize::from(words) + 1) * 8;
            let Some((header, payload)) = self.payload.split_at_checked(len) else {
                return Err(DropCause::IpHeader);
            };
            let harmless = match extension {
                // Nothing is left to visit: the packet has arrived (section 4.4).
                extension::ROUTING => header[3] == 0,
                _ => options_may_be_skipped(&header[2..]),
            };
            if !harmless {
                return Err(DropCause::Ipv6Extension);
            }
            self.protocol = next;
            self.header_len += len;
            self.payload = payload;
        }
    }
}

/// The extension header that every node on the way looks at.
pub(crate) const HOP_BY_HOP: u8 = 0;

/// Protocol numbers of the other extension headers (the IANA registry).
mod extension {
    pub(super) const ROUTING: u8 = 43;
    pub(super) const FRAGMENT: u8 = 44;
    pub(super) const ESP: u8 = 50;
    pub(super) const AUTHENTICATION: u8 = 51;
    pub(super) const DESTINATION_OPTIONS: u8 = 60;
    pub(super) const MOBILITY: u8 = 135;
    pub(super) const HIP: u8 = 139;
    pub(super) const SHIM6: u8 = 140;
}

/// Whether every option is one that a node may step over: the two high bits of its type say so
/// when the type is unknown (section 4.2), and padding and the router alert need no work.
fn options_may_be_skipped(mut options: &[u8]) -> bool {
    const PAD1: u8 = 0;
    loop {
        options = match *options {
            [] => return true,
            [PAD1, ref rest @ ..] => rest,
            [kind, len, ref rest @ ..] if kind >> 6 == 0 && usize::from(len) <= rest.len() => {
                &rest[usize::from(len)..]
            }
            _ => return false,
        }
    }
}

/// Whether it can be a source: no group, not loopback, no IPv4 address in disguise. The unspecified
/// address is one, for neighbour solicitations only.
const fn is_source(address: [u8; 16]) -> bool {
    let ip = Ipv6Addr::from_octets(address);
    address[0] != 0xff && (address[0] != 0 || !(ip.is_loopback() || ip.to_ipv4_mapped().is_some()))
}

/// The group that a neighbour solicitation for `address` is sent to (RFC 4291, section 2.7.1).
pub(crate) const fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    let mut group = [0; 16];
    (group[0], group[1], group[11], group[12]) = (0xff, 0x02, 1, 0xff);
    (group[13], group[14], group[15]) = (a, b, c);
    Ipv6Addr::from_octets(group)
}

/// Every node on the link.
pub(crate) const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
