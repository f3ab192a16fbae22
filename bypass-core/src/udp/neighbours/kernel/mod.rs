//! [`Kernel`]: the kernel's own neighbour table and routes.

mod membership;
mod netlink;
mod reserved;

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use self::membership::Memberships;
use self::netlink::{KernelState, Netlink, News};
use self::reserved::Reserved;
use super::{Lookup, Neighbours, NoRoute};
use crate::{Error, MacAddr, Result};

/// How often the kernel's news is read: rarely while all is known, and at every opportunity while
/// datagrams wait.
const UNHURRIED: Duration = Duration::from_millis(100);
/// For how long the kernel may be silent about a host that it was asked for. It gives up itself
/// after 3 tries a second apart, and says so.
const PATIENCE: Duration = Duration::from_secs(5);
/// For how long a host that the kernel did not find is not asked for again.
const FAILED: Duration = Duration::from_secs(3);

/// What the kernel knows of the neighbours on an interface whose address it keeps, over netlink
/// (rtnetlink(7)): its neighbour table, followed as it changes, and its routes.
///
/// The kernel goes on answering those who ask for the address, and asks for others when this needs
/// them, as if it were about to send to them. Entries in use are confirmed the way the kernel
/// confirms its own. A route is asked for once per destination; a changed one is noticed within a
/// tenth of a second.
///
/// Over IPv6 the kernel asks for nobody until it has tested its own link-local address (duplicate
/// address detection, a second or two after the link has come up).
///
/// The kernel also sees the datagrams, unless the port takes them away from it (AF_XDP), and
/// answers those to a port that none of its own sockets has with "port unreachable", unless a
/// socket [reserves](Self::reserve) it.
///
/// Minimum kernel: 2.6.32 (`NTF_USE`).
///
/// ```no_run
/// use bypass_core::backend::packet::PacketOptions;
/// use bypass_core::udp::neighbours::Kernel;
/// use bypass_core::udp::{Config, UdpOverL2};
///
/// // Beside the kernel, with its address, on a port that it does not use.
/// let config = Config::new("02:00:00:00:00:01".parse()?, 4000)
///     .address("10.0.0.1/24".parse()?)
///     .neighbours(Kernel::open("eth1")?);
/// let stack = UdpOverL2::new(PacketOptions::new("eth1").open()?, config)?;
/// # let _ = stack;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Kernel {
    netlink: Netlink,
    interface: u32,
    name: String,
    hosts: HashMap<IpAddr, State>,
    routes: HashMap<IpAddr, Result<IpAddr, NoRoute>>,
    generation: u64,
    /// When to listen next.
    listen: Duration,
    news: Vec<News>,
    memberships: Memberships,
    reserved: Option<Reserved>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Valid(MacAddr),
    /// To be confirmed when it is used.
    Stale(MacAddr),
    Asking {
        until: Duration,
    },
    Failed {
        until: Duration,
    },
}

impl Kernel {
    /// Reads the table of the interface `name` and follows it from now on. Belongs to the network
    /// namespace of the calling thread.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchInterface`]; [`Error::MissingCapability`] without `CAP_NET_ADMIN`, which it
    /// takes to have the kernel ask for a neighbour.
    pub fn open(name: &str) -> Result<Self> {
        let any_socket = UnixDatagram::unbound()
            .map_err(|error| Error::os("open a socket to look up an interface", error))?;
        let what = "open the kernel's neighbour table";
        let interface = crate::sys::interface::index(any_socket.as_fd(), name, what)?;
        let attempt = || format!("open the kernel's neighbour table of {name}");
        let mut netlink = Netlink::open(interface).map_err(|error| Error::os(attempt(), error))?;
        // Without the right to it this is refused, and otherwise nothing is known of this host.
        let nobody = IpAddr::from([0, 0, 0, 0]);
        if let Err(error) = netlink.make_use_of(nobody, false)
            && error.raw_os_error() != Some(libc::ENOENT)
        {
            let attempt = format!("have the kernel ask for neighbours on {name}");
            return Err(Error::privileged(attempt, "CAP_NET_ADMIN", error));
        }
        let news = netlink.dump().map_err(|error| Error::os(attempt(), error))?;
        let mut kernel = Self {
            netlink,
            interface,
            name: name.to_owned(),
            hosts: HashMap::new(),
            routes: HashMap::new(),
            generation: 0,
            listen: Duration::ZERO,
            news,
            memberships: Memberships::open(),
            reserved: None,
        };
        kernel.take_in(Duration::ZERO)?;
        Ok(kernel)
    }

    /// Keeps a bound UDP socket for as long as this lives, so that no other socket gets its port, and
    /// the kernel tells nobody that the port is unreachable. Nothing is received through it: what the
    /// kernel has for it is dropped, and counted as `kernel_datagrams`. On a port that leaves
    /// everything to the kernel as well, that is every datagram; on one that takes its datagrams away,
    /// those that came another way: in fragments, from this machine itself, or through a queue that
    /// nobody serves.
    ///
    /// # Errors
    ///
    /// [`Error::Os`] when the kernel refuses the filter that drops.
    pub fn reserve(mut self, socket: OwnedFd) -> Result<Self> {
        self.reserved = Some(Reserved::new(socket)?);
        Ok(self)
    }

    /// Works through the news that has been read.
    fn take_in(&mut self, now: Duration) -> Result<()> {
        let mut news = std::mem::take(&mut self.news);
        for news in news.drain(..) {
            match news {
                News::Neighbour { host, state } => self.learn(host, state, now),
                News::Routes => {
                    self.generation += u64::from(!self.routes.is_empty());
                    self.routes.clear();
                }
                News::Lost => {
                    self.generation += 1;
                    self.routes.clear();
                    self.hosts.clear();
                    match self.netlink.dump() {
                        Ok(table) => self.news.extend(table),
                        Err(error) => {
                            // The next call asks again: what the table says comes by no news.
                            self.news.push(News::Lost);
                            return Err(self.lost(error));
                        }
                    }
                }
            }
        }
        // Only a fresh dump can be there now, and a dump never says that something was lost.
        if self.news.is_empty() { Ok(()) } else { self.take_in(now) }
    }

    fn learn(&mut self, host: IpAddr, state: KernelState, now: Duration) {
        let new = match state {
            KernelState::Valid(station) => Some(State::Valid(station)),
            KernelState::Stale(station) => Some(State::Stale(station)),
            KernelState::Incomplete => Some(State::Asking { until: now + PATIENCE }),
            KernelState::Failed => Some(State::Failed { until: now + FAILED }),
            KernelState::Gone => None,
        };
        let old = match new {
            Some(new) => self.hosts.insert(host, new),
            None => self.hosts.remove(&host),
        };
        // Answers that were kept are wrong when the station is another one, and have to be asked
        // for again when the kernel wants to see that they are used.
        let kept = match (old, new) {
            (Some(State::Valid(old) | State::Stale(old)), Some(State::Valid(new))) => old == new,
            (Some(State::Valid(_) | State::Stale(_)), _) => false,
            _ => true,
        };
        self.generation += u64::from(!kept);
    }

    /// Has the kernel ask for a host.
    fn ask(&mut self, host: IpAddr, now: Duration) -> Lookup {
        match self.netlink.make_use_of(host, true) {
            Ok(()) => {
                self.hosts.insert(host, State::Asking { until: now + PATIENCE });
                self.listen = now;
                Lookup::Asking
            }
            Err(error) => Lookup::Unknown(
                format!("the kernel does not ask for {host} on {}: {error}", self.name).into(),
            ),
        }
    }

    fn lost(&self, error: io::Error) -> Error {
        Error::os(format!("follow the kernel's neighbour table of {}", self.name), error)
    }

    fn ask_route(&mut self, destination: IpAddr) -> Result<IpAddr, NoRoute> {
        if let IpAddr::V6(ip) = destination
            && ip.is_unicast_link_local()
        {
            return Ok(destination);
        }
        match self.netlink.route(destination) {
            Ok(Some((hop, interface))) if interface == self.interface => Ok(hop),
            Ok(Some(_)) => {
                Err(format!("the kernel routes it through another interface than {}", self.name)
                    .into())
            }
            Ok(None) => Err("the kernel has a route for it, but not to another host".into()),
            Err(error) => Err(format!("the kernel has no route: {error}").into()),
        }
    }
}

impl Neighbours for Kernel {
    fn route(&mut self, destination: IpAddr) -> Option<Result<IpAddr, NoRoute>> {
        if let Some(known) = self.routes.get(&destination) {
            return Some(known.clone());
        }
        let route = self.ask_route(destination);
        if self.routes.len() >= 4096 {
            self.routes.clear();
        }
        self.routes.insert(destination, route.clone());
        Some(route)
    }

    fn lookup(&mut self, host: IpAddr, now: Duration) -> Lookup {
        match self.hosts.get(&host).copied() {
            Some(State::Valid(station)) => Lookup::Found(station),
            Some(State::Stale(station)) => {
                // The kernel confirms it in its own time; until then it is good enough.
                if self.netlink.make_use_of(host, false).is_ok() {
                    self.hosts.insert(host, State::Valid(station));
                }
                Lookup::Found(station)
            }
            Some(State::Asking { until }) if now < until => Lookup::Asking,
            Some(State::Failed { until }) if now < until => Lookup::Failed,
            Some(State::Asking { .. } | State::Failed { .. }) | None => self.ask(host, now),
        }
    }

    fn generation(&self) -> u64 {
        self.generation
    }

    fn deadline(&self) -> Option<Duration> {
        Some(self.listen)
    }

    fn service(&mut self, now: Duration) -> Result<()> {
        if now < self.listen {
            return Ok(());
        }
        while self.netlink.next(&mut self.news).map_err(|error| self.lost(error))? {}
        self.take_in(now)?;
        let waiting = self
            .hosts
            .values()
            .any(|state| matches!(state, State::Asking { until } if now < *until));
        self.listen = if waiting { now } else { now + UNHURRIED };
        Ok(())
    }

    fn stack_answers(&self) -> bool {
        false
    }

    fn set_membership(&mut self, group: IpAddr, member: bool) -> Option<Result<()>> {
        Some(self.memberships.set(group, member, self.interface, &self.name))
    }

    fn visit_counters(&self, visit: &mut dyn FnMut(&str, u64)) {
        if let Some(reserved) = &self.reserved {
            visit("kernel_datagrams", reserved.dropped());
        }
    }
}
