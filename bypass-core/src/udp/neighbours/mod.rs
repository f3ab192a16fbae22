//! [`Neighbours`]: how the stack finds the station that leads to a host.
//!
//! | | knows | for |
//! |---|---|---|
//! | [`Resolver`] | what it asked for by ARP and NDP | links that no kernel keeps an address on |
//! | [`Kernel`] | what the kernel knows, and lets the kernel ask | interfaces whose address the kernel keeps |
//! | [`Table`] | what it was told | fixed networks; nothing is ever asked |
//! | [`Learned`] | where datagrams came from; else what another one knows | servers that also speak first |
//!
//! A [reply](crate::Datagram::reply) needs none of them: it goes back through the station that the
//! datagram came from.

mod kernel;
mod learned;
mod resolver;
mod table;

use std::net::IpAddr;
use std::time::Duration;

pub use self::kernel::Kernel;
pub use self::learned::{Learned, Nobody};
pub use self::resolver::{Resolver, ResolverOptions};
pub use self::table::Table;
use crate::{MacAddr, Result};

/// Finds stations. The stack speaks ARP and NDP, this decides what is asked and believed.
///
/// Times are those of the monotonic clock, since an epoch of its own.
///
/// ```
/// use std::net::IpAddr;
/// use std::time::Duration;
///
/// use bypass_core::MacAddr;
/// use bypass_core::udp::neighbours::{Lookup, Neighbours};
///
/// /// Stations whose address says which host they are: 02:00:a.b.c.d.
/// struct Computed;
///
/// impl Neighbours for Computed {
///     fn lookup(&mut self, host: IpAddr, _now: Duration) -> Lookup {
///         match host {
///             IpAddr::V4(ip) => {
///                 let [a, b, c, d] = ip.octets();
///                 Lookup::Found(MacAddr([2, 0, a, b, c, d]))
///             }
///             IpAddr::V6(_) => Lookup::Unknown("only IPv4 is computed".into()),
///         }
///     }
/// }
/// ```
pub trait Neighbours {
    /// The host on the link that packets to `destination` are handed to, or why there is none.
    /// `None` leaves it to the endpoint's prefixes and gateways.
    fn route(&mut self, destination: IpAddr) -> Option<Result<IpAddr, NoRoute>> {
        let _ = destination;
        None
    }

    /// The station of a host on the link.
    fn lookup(&mut self, host: IpAddr, now: Duration) -> Lookup;

    /// Changes whenever an answer that [`lookup`](Self::lookup) or [`route`](Self::route) gave may
    /// have become another. Answers are kept until then.
    fn generation(&self) -> u64 {
        0
    }

    /// A datagram has come from `host` through `station`. Called for each one.
    #[inline]
    fn observe(&mut self, host: IpAddr, station: MacAddr) {
        let _ = (host, station);
    }

    /// A host was heard to be at a station, in ARP or NDP.
    fn heard(&mut self, heard: Heard, now: Duration) {
        let _ = (heard, now);
    }

    /// The next question to be asked now, if there is one.
    fn solicit(&mut self, now: Duration) -> Option<Solicitation> {
        let _ = now;
        None
    }

    /// When [`service`](Self::service) and [`solicit`](Self::solicit) have something to do next.
    fn deadline(&self) -> Option<Duration> {
        None
    }

    /// Does what is due: lets old entries go, reads the kernel's news.
    ///
    /// # Errors
    ///
    /// When the source of knowledge is gone.
    fn service(&mut self, now: Duration) -> Result<()> {
        let _ = now;
        Ok(())
    }

    /// Whether the stack answers those who ask for its address. Not where the kernel does it.
    fn stack_answers(&self) -> bool {
        true
    }

    /// Lets whoever keeps the address join (or leave) a group, which includes telling routers.
    /// `None` leaves it to the stack.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    fn set_membership(&mut self, group: IpAddr, member: bool) -> Option<Result<()>> {
        let _ = (group, member);
        None
    }

    /// Tells what it counts, by name.
    fn visit_counters(&self, visit: &mut dyn FnMut(&str, u64)) {
        let _ = visit;
    }
}

/// The station of a host on the link, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// It is this one.
    Found(MacAddr),
    /// It has been asked for; datagrams wait for the answer.
    Asking,
    /// It was asked for in vain a short while ago; datagrams are dropped and counted.
    Failed,
    /// It is not known and nobody can be asked; datagrams are refused.
    Unknown(NoRoute),
}

/// Why packets cannot be sent somewhere.
pub type NoRoute = std::borrow::Cow<'static, str>;

/// What ARP or NDP said of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Heard {
    /// The host.
    pub host: IpAddr,
    /// Where it is; `None` when an answer says only "as you asked it".
    pub station: Option<MacAddr>,
    /// Why it said so.
    pub occasion: Occasion,
}

/// Why a host said where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion {
    /// It asks for us, so it is about to talk to us.
    Request,
    /// It answers.
    Reply {
        /// What was known may be replaced by this (the override flag of RFC 4861; always so in
        /// ARP).
        replace: bool,
    },
    /// It tells all, unasked.
    Announcement,
}

/// A question to be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Solicitation {
    /// Who has this address?
    pub host: IpAddr,
    /// The station to ask; `None` asks all.
    pub station: Option<MacAddr>,
}

impl<N: Neighbours + ?Sized> Neighbours for Box<N> {
    fn route(&mut self, destination: IpAddr) -> Option<Result<IpAddr, NoRoute>> {
        (**self).route(destination)
    }

    fn lookup(&mut self, host: IpAddr, now: Duration) -> Lookup {
        (**self).lookup(host, now)
    }

    fn generation(&self) -> u64 {
        (**self).generation()
    }

    fn observe(&mut self, host: IpAddr, station: MacAddr) {
        (**self).observe(host, station);
    }

    fn heard(&mut self, heard: Heard, now: Duration) {
        (**self).heard(heard, now);
    }

    fn solicit(&mut self, now: Duration) -> Option<Solicitation> {
        (**self).solicit(now)
    }

    fn deadline(&self) -> Option<Duration> {
        (**self).deadline()
    }

    fn service(&mut self, now: Duration) -> Result<()> {
        (**self).service(now)
    }

    fn stack_answers(&self) -> bool {
        (**self).stack_answers()
    }

    fn set_membership(&mut self, group: IpAddr, member: bool) -> Option<Result<()>> {
        (**self).set_membership(group, member)
    }

    fn visit_counters(&self, visit: &mut dyn FnMut(&str, u64)) {
        (**self).visit_counters(visit);
    }
}
