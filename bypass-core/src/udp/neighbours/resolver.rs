//! [`Resolver`]: asks by ARP and NDP, and remembers the answers.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use super::{Heard, Lookup, Neighbours, Occasion, Solicitation};
use crate::{MacAddr, Result};

/// How patient a [`Resolver`] is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolverOptions {
    /// How often a host is asked before it counts as absent.
    pub tries: u32,
    /// Time between two tries.
    pub retransmit: Duration,
    /// For how long an answer is believed. When it is used after that, the station is asked again,
    /// and used until it has failed to answer.
    pub reachable: Duration,
    /// For how long a host that did not answer is not asked again.
    pub failed: Duration,
    /// Hosts remembered; the least useful one makes place for a new one.
    pub capacity: usize,
}

impl Default for ResolverOptions {
    /// Three tries a second apart, answers believed for 30 seconds (both as RFC 4861 has it),
    /// failures for 3; 1 024 hosts.
    fn default() -> Self {
        Self {
            tries: 3,
            retransmit: Duration::from_secs(1),
            reachable: Duration::from_secs(30),
            failed: Duration::from_secs(3),
            capacity: 1024,
        }
    }
}

/// The stack's own neighbour cache, for a link on which no kernel keeps our address: asks by ARP
/// (RFC 826) and neighbour solicitations (RFC 4861), and has the stack answer those of others.
///
/// With several queues of one interface, each endpoint has a resolver of its own, but answers come
/// to one queue only: there use [`Kernel`](super::Kernel) or [`Learned`](super::Learned).
///
/// ```
/// use std::time::Duration;
///
/// use bypass_core::udp::Config;
/// use bypass_core::udp::neighbours::{Resolver, ResolverOptions};
///
/// // A link where answers come at once or never.
/// let options =
///     ResolverOptions { retransmit: Duration::from_millis(50), ..ResolverOptions::default() };
/// let config = Config::new("02:00:00:00:00:01".parse()?, 4000)
///     .address("10.0.0.1/24".parse()?)
///     .neighbours(Resolver::new(options));
/// # let _ = config;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Resolver {
    options: ResolverOptions,
    hosts: HashMap<IpAddr, State>,
    generation: u64,
    /// No entry has anything to do before this.
    due: Option<Duration>,
}

/// What is known of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It did not answer.
    Failed { until: Duration },
    /// The answer is old, and has not been used since.
    Stale { station: MacAddr },
    /// The answer is fresh.
    Reachable { station: MacAddr, until: Duration },
    /// The answer is old and used; it is being confirmed.
    Probing { station: MacAddr, tries: u32, next: Duration },
    /// Nothing is known; it is being asked for.
    Asking { tries: u32, next: Duration },
}

impl State {
    fn station(self) -> Option<MacAddr> {
        match self {
            Self::Stale { station }
            | Self::Reachable { station, .. }
            | Self::Probing { station, .. } => Some(station),
            Self::Failed { .. } | Self::Asking { .. } => None,
        }
    }

    fn due(self) -> Option<Duration> {
        match self {
            Self::Stale { .. } => None,
            Self::Failed { until } | Self::Reachable { until, .. } => Some(until),
            Self::Probing { next, .. } | Self::Asking { next, .. } => Some(next),
        }
    }

    /// How useful it is to keep.
    fn worth(self) -> (u8, Duration) {
        match self {
            Self::Failed { until } => (0, until),
            Self::Stale { .. } => (1, Duration::ZERO),
            Self::Reachable { until, .. } => (2, until),
            Self::Probing { next, .. } => (3, next),
            Self::Asking { next, .. } => (4, next),
        }
    }
}

impl Resolver {
    /// An empty cache.
    #[must_use]
    pub fn new(options: ResolverOptions) -> Self {
        Self { options, ..Self::default() }
    }

    fn set(&mut self, host: IpAddr, state: State) {
        if !self.hosts.contains_key(&host) && self.hosts.len() >= self.options.capacity.max(1) {
            let least = self.hosts.iter().min_by_key(|(_, state)| state.worth());
            if let Some(host) = least.map(|(host, _)| *host) {
                self.hosts.remove(&host);
                self.generation += 1;
            }
        }
        self.due = earliest(self.due, state.due());
        self.hosts.insert(host, state);
    }

    fn ask(&mut self, host: IpAddr, now: Duration) -> Lookup {
        self.set(host, State::Asking { tries: self.options.tries.max(1), next: now });
        Lookup::Asking
    }

    fn find_due(&mut self) {
        self.due = self.hosts.values().filter_map(|state| state.due()).min();
    }
}

fn earliest(a: Option<Duration>, b: Option<Duration>) -> Option<Duration> {
    a.into_iter().chain(b).min()
}

impl Neighbours for Resolver {
    fn lookup(&mut self, host: IpAddr, now: Duration) -> Lookup {
        match self.hosts.get(&host).copied() {
            None => self.ask(host, now),
            Some(State::Failed { until }) if until <= now => self.ask(host, now),
            Some(State::Failed { .. }) => Lookup::Failed,
            Some(State::Asking { .. }) => Lookup::Asking,
            Some(State::Reachable { station, .. } | State::Probing { station, .. }) => {
                Lookup::Found(station)
            }
            Some(State::Stale { station }) => {
                let tries = self.options.tries.max(1);
                self.set(host, State::Probing { station, tries, next: now });
                Lookup::Found(station)
            }
        }
    }

    fn generation(&self) -> u64 {
        self.generation
    }

    fn heard(&mut self, heard: Heard, now: Duration) {
        let known = self.hosts.get(&heard.host).copied();
        // Who has not been asked is believed only when it is about to talk to us.
        if known.is_none() && heard.occasion != Occasion::Request {
            return;
        }
        let before = known.and_then(State::station);
        let Some(station) = heard.station.or(before) else { return };
        let moved = before.is_some_and(|before| before != station);
        let believed = match heard.occasion {
            Occasion::Request => true,
            Occasion::Reply { replace } => replace || !moved,
            // That somebody talks does not prove that it hears us.
            Occasion::Announcement => moved,
        };
        if believed {
            self.generation += u64::from(moved);
            let until = now.saturating_add(self.options.reachable);
            self.set(heard.host, State::Reachable { station, until });
        }
    }

    fn solicit(&mut self, now: Duration) -> Option<Solicitation> {
        let again = now.saturating_add(self.options.retransmit);
        for (&host, state) in &mut self.hosts {
            let station = state.station();
            if let State::Asking { tries, next } | State::Probing { tries, next, .. } = state
                && *next <= now
                && *tries > 0
            {
                *tries -= 1;
                *next = again;
                return Some(Solicitation { host, station });
            }
        }
        self.find_due();
        None
    }

    fn deadline(&self) -> Option<Duration> {
        self.due
    }

    fn service(&mut self, now: Duration) -> Result<()> {
        if self.due.is_none_or(|due| due > now) {
            return Ok(());
        }
        let failed = now.saturating_add(self.options.failed);
        let before = self.hosts.len();
        let mut changed = false;
        self.hosts.retain(|_, state| {
            match *state {
                State::Reachable { station, until } if until <= now => {
                    *state = State::Stale { station };
                    changed = true;
                }
                State::Asking { tries: 0, next } if next <= now => {
                    *state = State::Failed { until: failed };
                }
                State::Probing { tries: 0, next, .. } if next <= now => return false,
                State::Failed { until } if until <= now => return false,
                _ => {}
            }
            true
        });
        self.generation += u64::from(changed || self.hosts.len() < before);
        self.find_due();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));
    const HERE: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
    const THERE: MacAddr = MacAddr([2, 0, 0, 0, 0, 3]);

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn heard(station: MacAddr, occasion: Occasion) -> Heard {
        Heard { host: HOST, station: Some(station), occasion }
    }

    fn reply(station: MacAddr) -> Heard {
        heard(station, Occasion::Reply { replace: true })
    }

    /// What the stack does when a deadline has come.
    fn run(resolver: &mut Resolver, now: Duration) -> Vec<Solicitation> {
        resolver.service(now).unwrap();
        std::iter::from_fn(|| resolver.solicit(now)).collect()
    }

    #[test]
    fn who_answers_is_found_and_who_does_not_has_failed_for_a_while() {
        let mut resolver = Resolver::default();
        assert_eq!(resolver.lookup(HOST, at(0)), Lookup::Asking);
        let to_all = vec![Solicitation { host: HOST, station: None }];
        for second in 0..3 {
            assert_eq!(resolver.deadline(), Some(at(second * 1000)));
            assert_eq!(run(&mut resolver, at(second * 1000)), to_all, "try {second}");
            assert_eq!(run(&mut resolver, at(second * 1000 + 999)), [], "not yet");
            assert_eq!(resolver.lookup(HOST, at(second * 1000 + 999)), Lookup::Asking);
        }
        assert_eq!(run(&mut resolver, at(3000)), []);
        assert_eq!(resolver.lookup(HOST, at(3000)), Lookup::Failed);
        assert_eq!(resolver.lookup(HOST, at(5999)), Lookup::Failed);
        assert_eq!(run(&mut resolver, at(6000)), []);
        assert_eq!(resolver.lookup(HOST, at(6000)), Lookup::Asking, "asked anew");
        resolver.heard(reply(HERE), at(6001));
        assert_eq!(resolver.lookup(HOST, at(6002)), Lookup::Found(HERE));
        assert_eq!(run(&mut resolver, at(6003)), [], "nothing more to ask");
    }

    #[test]
    fn an_old_answer_is_confirmed_while_it_is_used() {
        let mut resolver = Resolver::default();
        resolver.lookup(HOST, at(0));
        resolver.heard(reply(HERE), at(0));
        let before = resolver.generation();
        assert_eq!(resolver.deadline().unwrap().max(at(30_000)), at(30_000));
        assert_eq!(run(&mut resolver, at(30_000)), [], "unused, it is left alone");
        assert_ne!(resolver.generation(), before, "whoever kept the answer comes back for it");
        assert_eq!(resolver.lookup(HOST, at(40_000)), Lookup::Found(HERE));
        let probe = vec![Solicitation { host: HOST, station: Some(HERE) }];
        assert_eq!(run(&mut resolver, at(40_000)), probe);
        resolver.heard(reply(HERE), at(40_001));
        assert_eq!(run(&mut resolver, at(41_000)), []);
        assert_eq!(run(&mut resolver, at(70_001)), []);
        assert_eq!(resolver.lookup(HOST, at(70_001)), Lookup::Found(HERE));
        for second in 70..73 {
            assert_eq!(run(&mut resolver, at(second * 1000 + 1)), probe);
            assert_eq!(resolver.lookup(HOST, at(second * 1000 + 1)), Lookup::Found(HERE));
        }
        assert_eq!(run(&mut resolver, at(73_001)), []);
        assert_eq!(resolver.lookup(HOST, at(73_001)), Lookup::Asking, "it has gone");
    }

    #[test]
    fn only_those_concerned_are_believed() {
        let mut resolver = Resolver::default();
        resolver.heard(reply(HERE), at(0));
        resolver.heard(heard(HERE, Occasion::Announcement), at(0));
        assert!(resolver.hosts.is_empty(), "nobody asked");
        resolver.heard(heard(HERE, Occasion::Request), at(0));
        assert_eq!(resolver.lookup(HOST, at(0)), Lookup::Found(HERE), "it asked for us");
        let kept = resolver.generation();
        resolver.heard(heard(THERE, Occasion::Reply { replace: false }), at(1));
        assert_eq!(resolver.lookup(HOST, at(1)), Lookup::Found(HERE));
        assert_eq!(resolver.generation(), kept);
        resolver.heard(heard(THERE, Occasion::Announcement), at(2));
        assert_eq!(resolver.lookup(HOST, at(2)), Lookup::Found(THERE), "it moved");
        assert_ne!(resolver.generation(), kept);
    }

    #[test]
    fn a_confirmation_needs_no_station() {
        let mut resolver = Resolver::default();
        let confirm =
            Heard { host: HOST, station: None, occasion: Occasion::Reply { replace: false } };
        resolver.lookup(HOST, at(0));
        resolver.heard(confirm, at(0));
        assert_eq!(resolver.lookup(HOST, at(0)), Lookup::Asking, "there is nothing to confirm");
        resolver.heard(reply(HERE), at(0));
        resolver.service(at(30_000)).unwrap();
        resolver.lookup(HOST, at(30_000));
        resolver.heard(confirm, at(30_001));
        assert_eq!(run(&mut resolver, at(30_002)), [], "confirmed");
    }

    #[test]
    fn the_least_useful_makes_place() {
        let mut resolver = Resolver::new(ResolverOptions { capacity: 2, ..Default::default() });
        let host = |last: u8| IpAddr::from([10, 0, 0, last]);
        let told = |last| Heard { host: host(last), ..reply(HERE) };
        for last in 2..4 {
            resolver.lookup(host(last), at(u64::from(last)));
            resolver.heard(told(last), at(u64::from(last)));
        }
        let kept = resolver.generation();
        assert_eq!(resolver.lookup(host(9), at(10)), Lookup::Asking);
        assert_eq!(resolver.hosts.len(), 2);
        assert_ne!(resolver.generation(), kept, "somebody may keep what was forgotten");
        assert_eq!(resolver.lookup(host(3), at(10)), Lookup::Found(HERE), "the fresher one stays");
    }
}
