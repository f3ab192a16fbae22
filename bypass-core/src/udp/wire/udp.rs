//! UDP (RFC 768; over IPv6 RFC 8200, section 8.1).

use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{Sum, ipv4, protocol};
use crate::DropCause;

/// Bytes of the header.
pub(crate) const LEN: usize = size_of::<Udp>();

/// Where the checksum is in it.
pub(crate) const CHECKSUM_OFFSET: u16 = 6;

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Udp {
    pub(crate) source: U16,
    pub(crate) destination: U16,
    pub(crate) length: U16,
    pub(crate) checksum: [u8; 2],
}

/// What is to be done about a checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verify {
    /// Compute it.
    Compute,
    /// Compute it; what a kernel on this machine has left for a device to finish is right, too.
    ComputeOrPartial,
    /// It was found right.
    Right,
    /// The field has no meaning: the packet never left the machine, or nobody wants to know.
    Ignore,
}

/// Whether the checksum in the header is right for the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sealed {
    /// It is.
    Yes,
    /// There is none, or nobody looked.
    No,
}

/// Reads a datagram for `port` from the payload of an IP packet whose `addresses` are given, and
/// checks it. Answers its length in bytes, header included: bytes behind it in the IP packet are
/// not its own.
#[inline(always)]
pub(crate) fn read<const ADDRESSES: usize>(
    bytes: &[u8],
    addresses: &[u8; ADDRESSES],
    port: u16,
    verify: Verify,
) -> Result<(usize, Sealed), DropCause> {
    let (header, _) = Udp::ref_from_prefix(bytes).map_err(|_| DropCause::UdpHeader)?;
    let length = usize::from(header.length.get());
    if length < LEN || length > bytes.len() {
        return Err(DropCause::UdpLength);
    }
    if header.destination.get() != port {
        return Err(DropCause::UdpPort);
    }
    if verify == Verify::Ignore {
        return Ok((length, Sealed::No));
    }
    if header.checksum == [0, 0] {
        // Over IPv4 the sender may go without; over IPv6 it may not.
        let may_lack = ADDRESSES == 2 * ipv4::ADDRESS_LEN;
        return if may_lack { Ok((length, Sealed::No)) } else { Err(DropCause::UdpChecksum) };
    }
    if verify != Verify::Right {
        let pseudo = Sum::pseudo_header(addresses, protocol::UDP, header.length.get());
        if !pseudo.plus(Sum::of(&bytes[..length])).is_intact() {
            // The sum that the device would have started from.
            let partial = header.checksum == pseudo.partial();
            return match verify {
                Verify::ComputeOrPartial if partial => Ok((length, Sealed::No)),
                _ => Err(DropCause::UdpChecksum),
            };
        }
    }
    Ok((length, Sealed::Yes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_that_waits_for_a_device_is_right_only_where_that_is_allowed() {
        let addresses = [10, 0, 0, 1, 10, 0, 0, 2];
        let mut bytes = [0x13, 0x88, 0x0f, 0xa0, 0, 12, 0, 0, b'd', b'a', b't', b'a'];
        let pseudo = Sum::pseudo_header(&addresses, protocol::UDP, 12);
        let read = |bytes: &[u8], verify| read(bytes, &addresses, 4000, verify);
        let whole = pseudo.plus(Sum::of(&bytes)).udp_checksum();
        for (checksum, compute, or_partial) in [
            (whole, Ok((12, Sealed::Yes)), Ok((12, Sealed::Yes))),
            (pseudo.partial(), Err(DropCause::UdpChecksum), Ok((12, Sealed::No))),
            ([1, 2], Err(DropCause::UdpChecksum), Err(DropCause::UdpChecksum)),
        ] {
            bytes[6..8].copy_from_slice(&checksum);
            assert_eq!(read(&bytes, Verify::Compute), compute, "{checksum:?}");
            assert_eq!(read(&bytes, Verify::ComputeOrPartial), or_partial, "{checksum:?}");
        }
    }
}
