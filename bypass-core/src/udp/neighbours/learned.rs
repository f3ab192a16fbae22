//! [`Learned`]: stations that datagrams came through.

use std::net::IpAddr;
use std::time::Duration;

use super::{Heard, Lookup, Neighbours, NoRoute, Resolver, Solicitation};
use crate::{MacAddr, Result};

/// Remembers through which station each host's last datagram came, and sends back through it,
/// whether the host is on the link or behind a router. For the others it asks `N`.
///
/// Any station can pretend to be any host, so this belongs on links whose stations are trusted.
///
/// ```
/// use bypass_core::udp::neighbours::{Learned, Resolver};
///
/// let neighbours = Learned::over(Resolver::default());
/// # let _ = neighbours;
/// ```
#[derive(Clone, Debug)]
pub struct Learned<N = Resolver> {
    /// Each host has one place in here, which it shares with others: the last one heard keeps it.
    places: Box<[Option<(IpAddr, MacAddr)>]>,
    generation: u64,
    others: N,
}

/// Places of the table, a power of two: 24 bytes each.
const PLACES: usize = 4096;

impl<N: Neighbours> Learned<N> {
    /// Learns; whoever has not been heard is left to `others`.
    #[must_use]
    pub fn over(others: N) -> Self {
        Self { places: vec![None; PLACES].into_boxed_slice(), generation: 0, others }
    }

    fn known(&self, host: IpAddr) -> Option<MacAddr> {
        self.places[place(host)].filter(|(known, _)| *known == host).map(|(_, station)| station)
    }
}

impl Learned<Nobody> {
    /// Learns, and does not know anybody else.
    #[must_use]
    pub fn only() -> Self {
        Self::over(Nobody)
    }
}

#[inline]
fn place(host: IpAddr) -> usize {
    let low = match host {
        IpAddr::V4(ip) => u64::from(ip.to_bits()),
        IpAddr::V6(ip) => ip.to_bits() as u64 ^ (ip.to_bits() >> 64) as u64,
    };
    (low.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 52) as usize % PLACES
}

impl<N: Neighbours> Neighbours for Learned<N> {
    fn route(&mut self, destination: IpAddr) -> Option<Result<IpAddr, NoRoute>> {
        match self.known(destination) {
            Some(_) => Some(Ok(destination)),
            None => self.others.route(destination),
        }
    }

    fn lookup(&mut self, host: IpAddr, now: Duration) -> Lookup {
        match self.known(host) {
            Some(station) => Lookup::Found(station),
            None => self.others.lookup(host, now),
        }
    }

    fn generation(&self) -> u64 {
        self.generation.wrapping_add(self.others.generation())
    }

    #[inline]
    fn observe(&mut self, host: IpAddr, station: MacAddr) {
        let place = &mut self.places[place(host)];
        if *place != Some((host, station)) {
            // A host that moved, or one that is forgotten here and could move unnoticed: answers
            // that are kept may be wrong from now on.
            self.generation += u64::from(place.is_some());
            *place = Some((host, station));
        }
        self.others.observe(host, station);
    }

    fn heard(&mut self, heard: Heard, now: Duration) {
        if let Some(station) = heard.station
            && self.known(heard.host).is_some()
        {
            self.observe(heard.host, station);
        }
        self.others.heard(heard, now);
    }

    fn solicit(&mut self, now: Duration) -> Option<Solicitation> {
        self.others.solicit(now)
    }

    fn deadline(&self) -> Option<Duration> {
        self.others.deadline()
    }

    fn service(&mut self, now: Duration) -> Result<()> {
        self.others.service(now)
    }

    fn stack_answers(&self) -> bool {
        self.others.stack_answers()
    }

    fn set_membership(&mut self, group: IpAddr, member: bool) -> Option<Result<()>> {
        self.others.set_membership(group, member)
    }

    fn visit_counters(&self, visit: &mut dyn FnMut(&str, u64)) {
        self.others.visit_counters(visit);
    }
}

/// Knows nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nobody;

impl Neighbours for Nobody {
    fn lookup(&mut self, host: IpAddr, _now: Duration) -> Lookup {
        Lookup::Unknown(format!("nothing has come from {host} yet").into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));
    const NOW: Duration = Duration::ZERO;

    fn station(last: u8) -> MacAddr {
        MacAddr([2, 0, 0, 0, 0, last])
    }

    #[test]
    fn the_last_station_is_the_way_back() {
        let mut learned = Learned::only();
        assert!(matches!(learned.lookup(HOST, NOW), Lookup::Unknown(_)));
        assert_eq!(learned.route(HOST), None, "left to the prefixes");
        learned.observe(HOST, station(2));
        assert_eq!(learned.lookup(HOST, NOW), Lookup::Found(station(2)));
        assert_eq!(learned.route(HOST), Some(Ok(HOST)), "whatever the prefixes say");
        let before = learned.generation();
        learned.observe(HOST, station(2));
        assert_eq!(learned.generation(), before);
        learned.observe(HOST, station(3));
        assert_ne!(learned.generation(), before, "kept answers are wrong now");
        assert_eq!(learned.lookup(HOST, NOW), Lookup::Found(station(3)));
    }

    #[test]
    fn what_the_others_count_is_to_be_seen() {
        struct Counts;
        impl Neighbours for Counts {
            fn lookup(&mut self, _: IpAddr, _: Duration) -> Lookup {
                Lookup::Unknown("nobody".into())
            }
            fn visit_counters(&self, visit: &mut dyn FnMut(&str, u64)) {
                visit("kernel_datagrams", 3);
            }
        }
        let mut seen = Vec::new();
        Learned::over(Counts).visit_counters(&mut |name, n| seen.push((name.to_owned(), n)));
        assert_eq!(seen, [("kernel_datagrams".to_owned(), 3)]);
    }

    #[test]
    fn hosts_that_share_a_place_are_not_taken_for_each_other() {
        let mut learned = Learned::only();
        let hosts: Vec<IpAddr> =
            (0..20_000u32).map(|i| std::net::Ipv4Addr::from(i).into()).collect();
        for (i, host) in hosts.iter().enumerate() {
            learned.observe(*host, station(i as u8));
        }
        let known =
            hosts.iter().enumerate().filter(|(i, host)| match learned.lookup(**host, NOW) {
                Lookup::Found(found) => {
                    assert_eq!(found, station(*i as u8));
                    true
                }
                _ => false,
            });
        assert!(known.count() > PLACES / 2, "the table is used");
    }
}
