//! ICMP (RFC 792) and ICMPv6 (RFC 4443): the echo, and what both have in common.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::Sum;
use crate::DropCause;

pub(crate) const ECHO_REPLY: u8 = 0;
pub(crate) const ECHO_REQUEST: u8 = 8;
pub(crate) const ECHO_REQUEST_V6: u8 = 128;
pub(crate) const ECHO_REPLY_V6: u8 = 129;

/// The first word of every message, and the word behind it whose meaning depends on the type.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Icmp {
    pub(crate) kind: u8,
    pub(crate) code: u8,
    pub(crate) checksum: [u8; 2],
    pub(crate) rest: [u8; 4],
}

/// Reads a message and checks its checksum; `pseudo` is the sum of the pseudo header, which IPv4
/// does without.
pub(crate) fn read(message: &[u8], pseudo: Sum) -> Result<&Icmp, DropCause> {
    let (icmp, _) = Icmp::ref_from_prefix(message).map_err(|_| DropCause::IcmpMalformed)?;
    if !pseudo.plus(Sum::of(message)).is_intact() {
        return Err(DropCause::IcmpChecksum);
    }
    Ok(icmp)
}

/// Makes a message a `kind` and seals it again.
pub(crate) fn seal(message: &mut [u8], kind: u8, pseudo: Sum) {
    if let Ok((icmp, _)) = Icmp::mut_from_prefix(message) {
        icmp.kind = kind;
        icmp.checksum = [0; 2];
    }
    let checksum = pseudo.plus(Sum::of(message)).checksum();
    if let Ok((icmp, _)) = Icmp::mut_from_prefix(message) {
        icmp.checksum = checksum;
    }
}
