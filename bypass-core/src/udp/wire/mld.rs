//! MLD version 2 (RFC 3810): what a host says and hears about IPv6 groups.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use super::igmp::{Membership, Query};
use super::protocol;
use crate::DropCause;

pub(crate) const QUERY: u8 = 130;
pub(crate) const REPORT: u8 = 143;

/// Where reports go: every router that keeps track of groups.
pub(crate) const ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);

/// The hop-by-hop header with the router alert that every message has (RFC 2711).
pub(crate) const ROUTER_ALERT: [u8; 8] = [protocol::ICMPV6, 0, 5, 2, 0, 0, 1, 0];

/// Reads a query whose ICMPv6 checksum is right, and which comes from a router of this link
/// (section 6.2).
pub(crate) fn read(message: &[u8], hop_limit: u8, source: IpAddr) -> Result<Query, DropCause> {
    const MALFORMED: DropCause = DropCause::IcmpMalformed;
    if hop_limit != 1 || !matches!(source, IpAddr::V6(ip) if ip.is_unicast_link_local()) {
        return Err(MALFORMED);
    }
    let code = message.get(4..6).ok_or(MALFORMED)?;
    let code = u64::from(u16::from_be_bytes([code[0], code[1]]));
    let (group, rest) =
        message[8.min(message.len())..].split_first_chunk::<16>().ok_or(MALFORMED)?;
    let group = Ipv6Addr::from_octets(*group);
    // Version 2 has a mantissa and an exponent from 32768 on (section 5.1.3).
    let millis = match code {
        0..0x8000 => code,
        _ => (code & 0xfff | 0x1000) << ((code >> 12 & 7) + 3),
    };
    Ok(Query {
        group: Some(group).filter(|group| !group.is_unspecified()).map(IpAddr::V6),
        v4: false,
        within: Duration::from_millis(millis),
        // Version 1 routers are not answered in their own version; none is known to be left.
        old: rest.is_empty(),
    })
}

/// A report about one group, from any source; without its checksum.
pub(crate) fn report(group: Ipv6Addr, membership: Membership) -> [u8; 28] {
    let mut message = [0; 28];
    message[0] = REPORT;
    message[7] = 1;
    message[8] = membership as u8;
    message[12..].copy_from_slice(&group.octets());
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTER: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1));

    #[test]
    fn queries_are_understood() {
        let mut general = [0; 28];
        general[0] = QUERY;
        general[4..6].copy_from_slice(&10_000u16.to_be_bytes());
        let query = read(&general, 1, ROUTER).unwrap();
        assert_eq!((query.group, query.within.as_secs(), query.old), (None, 10, false));
        general[4..6].copy_from_slice(&0x9234u16.to_be_bytes());
        general[8..24].copy_from_slice(&ROUTERS.octets());
        let query = read(&general[..24], 1, ROUTER).unwrap();
        assert_eq!((query.group, query.old), (Some(ROUTERS.into()), true));
        assert_eq!(query.within, Duration::from_millis(0x1234 << 4));
        for cut in 0..24 {
            assert!(read(&general[..cut], 1, ROUTER).is_err());
        }
        assert!(read(&general, 2, ROUTER).is_err(), "from beyond the link");
        assert!(read(&general, 1, "fd00::1".parse().unwrap()).is_err(), "from no router");
    }
}
