//! Neighbour discovery (RFC 4861): solicitations and advertisements of neighbours.

use std::net::Ipv6Addr;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::icmp::Icmp;
use crate::{DropCause, MacAddr};

pub(crate) const SOLICITATION: u8 = 135;
pub(crate) const ADVERTISEMENT: u8 = 136;

const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

const SOURCE_ADDRESS: u8 = 1;
const TARGET_ADDRESS: u8 = 2;

/// A hop limit that no packet from another link can have.
pub(crate) const HOP_LIMIT: u8 = 255;

/// A message as it is sent: with the address of its sender's station.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Message {
    icmp: Icmp,
    target: [u8; 16],
    option: u8,
    option_len: u8,
    station: [u8; 6],
}

impl Message {
    fn new(kind: u8, flags: u8, target: Ipv6Addr, option: u8, station: MacAddr) -> Self {
        let icmp = Icmp { kind, code: 0, checksum: [0; 2], rest: [flags, 0, 0, 0] };
        Self { icmp, target: target.octets(), option, option_len: 1, station: station.0 }
    }

    /// Who has `target`? Tell `station`.
    pub(crate) fn solicitation(target: Ipv6Addr, station: MacAddr) -> Self {
        Self::new(SOLICITATION, 0, target, SOURCE_ADDRESS, station)
    }

    /// `target` is at `station`, as was asked, or (not `solicited`) for all to know.
    pub(crate) fn advertisement(target: Ipv6Addr, station: MacAddr, solicited: bool) -> Self {
        let flags = if solicited { SOLICITED | OVERRIDE } else { OVERRIDE };
        Self::new(ADVERTISEMENT, flags, target, TARGET_ADDRESS, station)
    }
}

/// What arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Solicitation { target: Ipv6Addr, station: Option<MacAddr> },
    Advertisement { target: Ipv6Addr, station: Option<MacAddr>, solicited: bool, replace: bool },
}

/// Checks a message whose ICMPv6 checksum is right (RFC 4861, sections 7.1.1 and 7.1.2).
pub(crate) fn read(
    message: &[u8],
    hop_limit: u8,
    source: Ipv6Addr,
    destination: Ipv6Addr,
) -> Result<Heard, DropCause> {
    const MALFORMED: DropCause = DropCause::NdpMalformed;
    let (icmp, rest) = Icmp::ref_from_prefix(message).map_err(|_| MALFORMED)?;
    let (target, options) = rest.split_first_chunk::<16>().ok_or(MALFORMED)?;
    let target = Ipv6Addr::from_octets(*target);
    if hop_limit != HOP_LIMIT || icmp.code != 0 || target.is_multicast() {
        return Err(MALFORMED);
    }
    if icmp.kind == SOLICITATION {
        let station = station(options, SOURCE_ADDRESS)?;
        // Somebody who tries an address for itself has none yet, and asks the group.
        let is_group =
            destination.octets()[..13] == super::ipv6::solicited_node(target).octets()[..13];
        if source.is_unspecified() && (station.is_some() || !is_group) {
            return Err(MALFORMED);
        }
        return Ok(Heard::Solicitation { target, station });
    }
    let station = station(options, TARGET_ADDRESS)?;
    let solicited = icmp.rest[0] & SOLICITED != 0;
    if source.is_unspecified() || (solicited && destination.is_multicast()) {
        return Err(MALFORMED);
    }
    let replace = icmp.rest[0] & OVERRIDE != 0;
    Ok(Heard::Advertisement { target, station, solicited, replace })
}

/// The link-layer address option of this `kind`; other options are stepped over.
fn station(mut options: &[u8], kind: u8) -> Result<Option<MacAddr>, DropCause> {
    let mut found = None;
    while let [this, words, ..] = *options {
        let (option, rest) = options
            .split_at_checked(usize::from(words) * 8)
            .filter(|(option, _)| !option.is_empty())
            .ok_or(DropCause::NdpMalformed)?;
        if this == kind
            && let Some(mac) = option[2..].first_chunk()
        {
            found = Some(MacAddr(*mac)).filter(|mac| !mac.is_group());
        }
        options = rest;
    }
    if options.is_empty() { Ok(found) } else { Err(DropCause::NdpMalformed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
    const PEER: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
    const STATION: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

    #[test]
    fn what_is_built_reads_back() {
        let group = super::super::ipv6::solicited_node(US);
        let ask = Message::solicitation(US, STATION);
        assert_eq!(
            read(ask.as_bytes(), 255, PEER, group),
            Ok(Heard::Solicitation { target: US, station: Some(STATION) })
        );
        let tell = Message::advertisement(PEER, STATION, true);
        let heard = Heard::Advertisement {
            target: PEER,
            station: Some(STATION),
            solicited: true,
            replace: true,
        };
        assert_eq!(read(tell.as_bytes(), 255, PEER, US), Ok(heard));
    }

    #[test]
    fn each_rule_of_rfc_4861_is_kept() {
        let group = super::super::ipv6::solicited_node(US);
        let ask = Message::solicitation(US, STATION);
        let tell = Message::advertisement(PEER, STATION, true);
        let none = Ipv6Addr::UNSPECIFIED;
        let bare = &ask.as_bytes()[..24];
        let with = |at: usize, value: u8| {
            let mut bytes = ask.as_bytes().to_vec();
            bytes[at] = value;
            bytes
        };
        let ok = |bytes: &[u8], hops, from, to| read(bytes, hops, from, to).is_ok();
        assert!(ok(bare, 255, none, group), "duplicate address detection");
        assert!(!ok(bare, 255, none, US), "the same to one host");
        assert!(!ok(ask.as_bytes(), 255, none, group), "no address but a station");
        assert!(!ok(ask.as_bytes(), 254, PEER, group), "from another link");
        assert!(!ok(&with(1, 1), 255, PEER, group), "code");
        assert!(!ok(&with(8, 0xff), 255, PEER, group), "target is a group");
        assert!(!ok(&with(25, 0), 255, PEER, group), "option of no length");
        assert!(!ok(&with(25, 2), 255, PEER, group), "option beyond the end");
        assert!(!ok(&ask.as_bytes()[..23], 255, PEER, group), "cut short");
        assert!(!ok(&ask.as_bytes()[..25], 255, PEER, group), "half an option");
        assert!(!ok(tell.as_bytes(), 255, PEER, group), "solicited but to all");
        assert!(!ok(tell.as_bytes(), 255, none, US), "advertised by nobody");
    }
}
