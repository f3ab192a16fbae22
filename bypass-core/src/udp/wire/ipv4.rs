//! IPv4 (RFC 791).

use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::Sum;
use crate::DropCause;

/// Bytes of the header without options.
pub(crate) const LEN: usize = size_of::<Ipv4>();
/// Bytes of an address.
pub(crate) const ADDRESS_LEN: usize = 4;
/// "More fragments" and the fragment offset: both zero on a whole packet.
pub(crate) const FRAGMENT: u16 = 0x3fff;
pub(crate) const DONT_FRAGMENT: u16 = 0x4000;
/// Version 4, five words of header.
pub(crate) const PLAIN: u8 = 0x45;

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Ipv4 {
    pub(crate) version_ihl: u8,
    pub(crate) tos: u8,
    pub(crate) total_length: U16,
    pub(crate) id: U16,
    pub(crate) fragment: U16,
    pub(crate) ttl: u8,
    pub(crate) protocol: u8,
    pub(crate) checksum: [u8; 2],
    pub(crate) source: [u8; 4],
    pub(crate) destination: [u8; 4],
}

/// A packet whose header is as it should be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packet<'a> {
    pub(crate) header: &'a Ipv4,
    /// Bytes of the header with its options.
    pub(crate) header_len: usize,
    /// Source and destination, as they lie in the header.
    pub(crate) addresses: &'a [u8; 8],
    /// What is behind the header, without the padding of the frame.
    pub(crate) payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Reads a header and checks it, its checksum too unless `vouched` for.
    pub(crate) fn read(bytes: &'a [u8], vouched: bool) -> Result<Self, DropCause> {
        let (header, _) = Ipv4::ref_from_prefix(bytes).map_err(|_| DropCause::IpHeader)?;
        if header.version_ihl >> 4 != 4 {
            return Err(DropCause::IpHeader);
        }
        let header_len = usize::from(header.version_ihl & 0xf) * 4;
        if header_len < LEN || header_len > bytes.len() {
            return Err(DropCause::Ipv4HeaderLength);
        }
        let total = usize::from(header.total_length.get());
        if total < header_len || total > bytes.len() {
            return Err(DropCause::IpLength);
        }
        if !vouched && !Sum::of(&bytes[..header_len]).is_intact() {
            return Err(DropCause::Ipv4Checksum);
        }
        if header.fragment.get() & FRAGMENT != 0 {
            return Err(DropCause::IpFragment);
        }
        let (_, addresses) = bytes[..LEN].split_last_chunk().ok_or(DropCause::IpHeader)?;
        Ok(Self { header, header_len, addresses, payload: &bytes[header_len..total] })
    }
}

/// Whether it can be the address of one host on a network: not "this network" (0/8), not loopback,
/// no group, not reserved (RFC 1122, section 3.2.1.3).
pub(crate) const fn is_host(address: [u8; 4]) -> bool {
    matches!(address[0], 1..=126 | 128..=223)
}

/// The sum over a header without options, `total_length` bytes of packet, when `rest` is the sum
/// over everything else in it.
#[inline(always)]
pub(crate) const fn checksum(rest: Sum, total_length: u16) -> [u8; 2] {
    rest.and(total_length).checksum()
}
