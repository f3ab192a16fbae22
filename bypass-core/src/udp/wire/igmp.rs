//! IGMP (RFC 2236, RFC 3376): what a host says and hears about IPv4 groups.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::Sum;
use crate::DropCause;

const QUERY: u8 = 0x11;
const REPORT_V2: u8 = 0x16;
const REPORT_V3: u8 = 0x22;

/// Where reports of version 3 go: every router that keeps track of groups.
pub(crate) const ROUTERS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 22);
/// Every host on the link, where general queries go.
pub(crate) const ALL_HOSTS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);

/// The IP option that makes routers look at a packet that is not for them (RFC 2113).
pub(crate) const ROUTER_ALERT: [u8; 4] = [0x94, 4, 0, 0];

/// What a report says about a group; the numbers are those of IGMPv3 and MLDv2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Membership {
    /// Asked, we are a member.
    Member = 2,
    /// We have left.
    Left = 3,
    /// We have joined.
    Joined = 4,
}

/// A question of a router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Query {
    /// The group that it is about; `None`: all of the family.
    pub(crate) group: Option<IpAddr>,
    /// About IPv4.
    pub(crate) v4: bool,
    /// Answer within this time.
    pub(crate) within: Duration,
    /// It is of the version before the current one, and so should be the answer.
    pub(crate) old: bool,
}

/// Reads a message; those of other hosts are of no interest.
pub(crate) fn read(message: &[u8]) -> Result<Query, DropCause> {
    let &[kind, code, _, _, a, b, c, d, ref rest @ ..] = message else {
        return Err(DropCause::IgmpMalformed);
    };
    if !Sum::of(message).is_intact() {
        return Err(DropCause::IgmpMalformed);
    }
    if kind != QUERY {
        return Err(DropCause::IgmpOther);
    }
    let group = Ipv4Addr::new(a, b, c, d);
    // Tenths of a second; from 128 on version 3 has a mantissa and an exponent (section 4.1.1).
    let tenths = match code {
        0 => 100,
        1..=127 => u64::from(code),
        _ => u64::from(code & 0xf | 0x10) << ((code >> 4 & 7) + 3),
    };
    Ok(Query {
        group: Some(group).filter(|group| !group.is_unspecified()).map(IpAddr::V4),
        v4: true,
        within: Duration::from_millis(tenths * 100),
        old: rest.is_empty(),
    })
}

/// A report of version 3 about one group, from any source.
pub(crate) fn report(group: Ipv4Addr, membership: Membership) -> [u8; 16] {
    let mut message = [0; 16];
    message[0] = REPORT_V3;
    message[7] = 1;
    message[8] = membership as u8;
    message[12..].copy_from_slice(&group.octets());
    seal(message)
}

/// A report of version 2: we are a member.
pub(crate) fn report_v2(group: Ipv4Addr) -> [u8; 8] {
    let [a, b, c, d] = group.octets();
    seal([REPORT_V2, 0, 0, 0, a, b, c, d])
}

fn seal<const N: usize>(mut message: [u8; N]) -> [u8; N] {
    let [high, low] = Sum::of(&message).checksum();
    (message[2], message[3]) = (high, low);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_of_both_versions_are_understood() {
        let general = seal([QUERY, 100, 0, 0, 0, 0, 0, 0]);
        let within = Duration::from_secs(10);
        assert_eq!(read(&general), Ok(Query { group: None, v4: true, within, old: true }));
        let mut specific = [0; 12];
        (specific[0], specific[1]) = (QUERY, 0x80 | 1 << 4 | 2);
        specific[4..8].copy_from_slice(&[239, 1, 2, 3]);
        let query = read(&seal(specific)).unwrap();
        assert_eq!(query.group, Some(IpAddr::from([239, 1, 2, 3])));
        assert_eq!((query.within, query.old), (Duration::from_millis(0x12 * 16 * 100), false));
    }

    #[test]
    fn damage_and_reports_of_others_are_told_apart() {
        let report = report(Ipv4Addr::new(239, 1, 2, 3), Membership::Joined);
        assert_eq!(read(&report), Err(DropCause::IgmpOther));
        assert_eq!(read(&report_v2(Ipv4Addr::new(239, 1, 2, 3))), Err(DropCause::IgmpOther));
        let mut damaged = report;
        damaged[9] ^= 1;
        assert_eq!(read(&damaged), Err(DropCause::IgmpMalformed));
        assert_eq!(read(&report[..7]), Err(DropCause::IgmpMalformed));
    }
}
