//! [`Reports`]: what routers and switches are told about the groups that we are in.

use std::net::IpAddr;
use std::time::Duration;

use super::UdpOverL2;
use super::control::Handled;
use crate::udp::neighbours::Neighbours;
use crate::udp::wire::envelope::Hosts;
use crate::udp::wire::igmp::{Membership, Query};
use crate::udp::wire::{Address, ethernet, icmp, igmp, mld, protocol};
use crate::{Buffer, DropCause, PacketIo};

/// Changes are told twice, in case the first report is lost (the robustness variable of RFC 3376,
/// section 8.1), within this time (section 8.11).
const AGAIN: Duration = Duration::from_secs(1);

/// The reports that are to be sent.
#[derive(Debug, Default)]
pub(super) struct Reports {
    pending: Vec<Report>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Report {
    group: IpAddr,
    membership: Membership,
    /// In the version before the current one.
    old: bool,
    at: Duration,
    /// It is to be sent once more afterwards.
    again: bool,
}

impl Reports {
    pub(super) fn joined(&mut self, group: IpAddr, now: Duration) {
        self.change(group, Membership::Joined, now);
    }

    pub(super) fn left(&mut self, group: IpAddr, now: Duration) {
        self.change(group, Membership::Left, now);
    }

    fn change(&mut self, group: IpAddr, membership: Membership, now: Duration) {
        self.pending.retain(|report| report.group != group);
        if !is_never_reported(group) {
            self.pending.push(Report { group, membership, old: false, at: now, again: true });
        }
    }

    /// Answers a query some time within the limit that it sets, so that not all hosts answer at
    /// once.
    pub(super) fn asked(&mut self, query: Query, groups: &[IpAddr], now: Duration) {
        for &group in groups {
            let about = match query.group {
                Some(asked) => asked == group,
                None => group.is_ipv4() == query.v4,
            };
            let answered = self.pending.iter().any(|report| report.group == group);
            if about && !answered && !is_never_reported(group) {
                let at = now + query.within.mul_f64(fastrand::f64());
                let (membership, old) = (Membership::Member, query.old);
                self.pending.push(Report { group, membership, old, at, again: false });
            }
        }
    }

    pub(super) fn deadline(&self) -> Option<Duration> {
        self.pending.iter().map(|report| report.at).min()
    }

    fn take_due(&mut self, now: Duration) -> Option<Report> {
        let i = self.pending.iter().position(|report| report.at <= now)?;
        let report = self.pending[i];
        if report.again {
            let at = now + AGAIN.mul_f64(fastrand::f64());
            self.pending[i] = Report { at, again: false, ..report };
        } else {
            self.pending.swap_remove(i);
        }
        Some(report)
    }
}

/// Every host is in these groups, and nobody keeps track of them (RFC 3376, section 6; RFC 3810,
/// section 6).
fn is_never_reported(group: IpAddr) -> bool {
    match group {
        IpAddr::V4(group) => group == igmp::ALL_HOSTS,
        // All nodes of the link, and whatever does not leave the host.
        IpAddr::V6(group) => {
            group == crate::udp::wire::ipv6::ALL_NODES || group.segments()[0] & 0xf < 2
        }
    }
}

impl<P: PacketIo, N: Neighbours> UdpOverL2<P, N> {
    /// Sends the reports that are due.
    pub(super) fn report_groups(&mut self, now: Duration) {
        while self.reports.deadline().is_some_and(|at| at <= now) {
            let Some(frame) = self.own_frame() else { return };
            let Some(report) = self.reports.take_due(now) else { return };
            // One that finds no room is repeated when a router asks, as one that was lost.
            let _unsent = self.send_report(frame, &report);
        }
    }

    fn send_report(&mut self, mut frame: P::Frame, report: &Report) -> Handled {
        let no_source = DropCause::ReplyNoFrame;
        let source = self.local.source_for(report.group).ok_or(no_source)?;
        let (address, extra, protocol): (_, &[u8], _) = match (report.group, source) {
            (IpAddr::V4(group), IpAddr::V4(source)) => {
                let destination = if report.old { group } else { igmp::ROUTERS };
                let filled = if report.old {
                    frame.fill(&igmp::report_v2(group))
                } else {
                    frame.fill(&igmp::report(group, report.membership))
                };
                filled.map_err(|_| DropCause::ReplyNoFrame)?;
                (Address::V4 { source, destination }, &igmp::ROUTER_ALERT, protocol::IGMP)
            }
            (IpAddr::V6(group), IpAddr::V6(source)) => {
                // Reports come from a link-local address, or from none (RFC 3810, section 5.2.13).
                let source = if source.is_unicast_link_local() { source } else { [0; 16].into() };
                let address = Address::V6 { source, destination: mld::ROUTERS };
                let message = mld::report(group, report.membership);
                frame.fill(&message).map_err(|_| DropCause::ReplyNoFrame)?;
                icmp::seal(
                    frame.data_mut(),
                    mld::REPORT,
                    address.icmp_pseudo_header(message.len()),
                );
                (address, &mld::ROUTER_ALERT, protocol::ICMPV6)
            }
            _ => return Err(no_source),
        };
        let station = ethernet::group(address.destination());
        self.send_message(frame, &Hosts { address, protocol, hops: 1, extra }, station)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn query(group: Option<IpAddr>) -> Query {
        Query { group, v4: true, within: at(10), old: false }
    }

    #[test]
    fn a_change_is_told_twice_and_a_query_answered_once_in_time() {
        let group = IpAddr::from([239, 1, 2, 3]);
        let mut reports = Reports::default();
        reports.joined(group, at(1));
        let first = reports.take_due(at(1)).unwrap();
        assert_eq!((first.group, first.membership), (group, Membership::Joined));
        assert_eq!(reports.take_due(at(1)).filter(|second| second.at > at(1)), None);
        let second = reports.deadline().unwrap_or(at(1));
        assert!(second <= at(2));
        while reports.take_due(at(2)).is_some() {}
        assert_eq!(reports.deadline(), None);

        for about in [None, Some(group)] {
            reports.asked(query(about), &[group, igmp::ALL_HOSTS.into()], at(5));
            reports.asked(query(about), &[group], at(5));
            assert_eq!(reports.pending.len(), 1, "once, and not for what all are in");
            assert!((at(5)..at(15)).contains(&reports.deadline().unwrap()));
            let answer = reports.take_due(at(15)).unwrap();
            assert_eq!((answer.membership, answer.again), (Membership::Member, false));
        }
        reports.asked(query(Some([239, 9, 9, 9].into())), &[group], at(5));
        reports.asked(Query { v4: false, ..query(None) }, &[group], at(5));
        assert_eq!(reports.deadline(), None, "not about us");
    }

    #[test]
    fn leaving_takes_the_place_of_joining() {
        let group = IpAddr::from([239, 1, 2, 3]);
        let mut reports = Reports::default();
        reports.joined(group, at(1));
        reports.left(group, at(1));
        assert_eq!(reports.take_due(at(1)).unwrap().membership, Membership::Left);
        reports.joined("ff01::5".parse().unwrap(), at(2));
        assert_eq!(reports.pending.len(), 1, "what stays in the host is told to nobody");
    }
}
