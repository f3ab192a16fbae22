//! [`UdpOverL2`]: the stack, put together.

mod clock;
mod control;
mod groups;
mod parked;
mod rx;
mod stats;
mod tx;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use self::groups::Reports;
use self::parked::Parked;
use self::stats::Counters;
use super::UdpDatagram;
use super::config::{Checked, Config, RxChecksums, TxChecksums};
use super::flows::FlowCache;
use super::local::Local;
use super::neighbours::{Neighbours, Resolver};
use super::wire::udp::Verify;
use super::wire::{Seal, ipv4, ipv6, udp};
use crate::{
    Burst, Caps, DatagramIo, Endpoint, Error, Interest, Occupancy, PacketIo, Ready, Result,
    RxOffloads, Stats, TxOffloads,
};

/// The least time that [`wait`](Endpoint::wait) sleeps between looking after neighbours.
const TICK: Duration = Duration::from_millis(1);

/// UDP over IPv4 and IPv6 in user space, on top of any [`PacketIo`].
///
/// See the [module](super) for what it does. It belongs to the thread that drives the port, and
/// works only when called: [`recv`](DatagramIo::recv) answers ARP, NDP and ping on the way, `send`,
/// `flush` and `wait` also look after neighbours that datagrams wait for.
///
/// ```
/// use std::time::Duration;
///
/// use bypass_core::backend::memory;
/// use bypass_core::udp::{Config, UdpOverL2};
/// use bypass_core::{Buffer, Burst, Datagram, DatagramIo, Endpoint, Interest};
///
/// # let (port, other) = memory::link(&memory::LinkOptions::default())?;
/// # let port = port.open()?;
/// # let publisher = Config::new("02:00:00:00:00:02".parse()?, 9000).address("10.0.0.2/24".parse()?);
/// # let mut publisher = UdpOverL2::new(other.open()?, publisher)?;
/// // Market data from a group: any `port` will do.
/// let config = Config::new("02:00:00:00:00:01".parse()?, 4000).address("10.0.0.1/24".parse()?);
/// let mut feed = UdpOverL2::new(port, config)?;
/// feed.join("239.1.2.3".parse()?)?;
///
/// let mut burst = Burst::with_capacity(32);
/// # let mut tick = Burst::with_capacity(1);
/// # use bypass_core::DatagramIoExt;
/// # publisher.compose(b"bid 101.25", "239.1.2.3:4000".parse()?, &mut tick)?;
/// # publisher.send(&mut tick)?;
/// feed.wait(Interest::RX, Some(Duration::from_secs(1)))?;
/// feed.recv(&mut burst)?;
/// for datagram in burst.iter() {
///     println!("{:?} says {:?}", datagram.recv_meta().remote, datagram.data());
/// }
/// # assert_eq!(burst[0].data(), b"bid 101.25");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct UdpOverL2<P: PacketIo, N = Resolver> {
    port: P,
    neighbours: N,
    local: Local,
    settings: Settings,
    caps: Caps,
    /// Taken from the port, not looked at yet.
    rx: Burst<P::Frame>,
    /// For the application, found while looking for a neighbour's answer.
    backlog: Burst<UdpDatagram<P::Frame>>,
    /// Fresh frames on their way to the application.
    fresh: Burst<P::Frame>,
    /// Headers in front, waiting for the port.
    tx: Burst<P::Frame>,
    /// Headers in front, waiting for the neighbour.
    parked: Parked<P::Frame>,
    flows: FlowCache,
    reports: Reports,
    counters: Counters,
    /// An error of the port's that a call could not tell, because part of its work was done.
    tx_error: Option<Error>,
}

/// What the configuration comes to.
#[derive(Clone, Copy, Debug)]
struct Settings {
    ttl: u8,
    multicast_ttl: u8,
    echo: bool,
    /// What is done about UDP checksums that the port says nothing of.
    verify: Verify,
    seal_v4: Seal,
    seal_v6: Seal,
    /// The longest payloads.
    max_v4: usize,
    max_v6: usize,
    /// Bytes of the largest headers.
    reserve: u8,
    /// Frames may have several segments.
    chains: bool,
    park_timeout: Duration,
}

impl<P: PacketIo, N: Neighbours> UdpOverL2<P, N> {
    /// Makes the endpoint that `config` describes, on top of `port`.
    ///
    /// Nothing is sent yet. The port must hand over what is sent to the endpoint's Ethernet
    /// address, to the broadcast address, and to the groups that are [joined](Self::join) and that
    /// IPv6 asks neighbours through (`33:33:ff:…`): with an address of its own that may take the
    /// port's promiscuous mode.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for a setting that makes no sense, alone, with others, or on this port.
    pub fn new(port: P, mut config: Config<N>) -> Result<Self> {
        let Checked { local, mtu, header_len } = config.check(port.caps())?;
        let offload = port.caps().tx_offloads.contains(TxOffloads::CHECKSUM);
        let best = if offload { Seal::Device } else { Seal::Software };
        let (seal_v4, seal_v6) = match config.tx_checksums {
            TxChecksums::Auto => (best, best),
            TxChecksums::Software => (Seal::Software, Seal::Software),
            TxChecksums::Omit => (Seal::Omit, best),
        };
        let settings = Settings {
            ttl: config.ttl,
            multicast_ttl: config.multicast_ttl,
            echo: config.echo,
            verify: match config.rx_checksums {
                RxChecksums::Verify => Verify::Compute,
                RxChecksums::VerifyOrPartial => Verify::ComputeOrPartial,
                RxChecksums::Ignore => Verify::Ignore,
            },
            seal_v4,
            seal_v6,
            max_v4: mtu - ipv4::LEN - udp::LEN,
            max_v6: mtu.saturating_sub(ipv6::LEN + udp::LEN),
            reserve: header_len as u8,
            chains: port.caps().max_segments > 1,
            park_timeout: config.limits.park_timeout,
        };
        let has_v4 = local.first_v4().is_some();
        let mut caps = Caps {
            max_len: if has_v4 { settings.max_v4 } else { settings.max_v6 },
            headroom: port.caps().headroom - header_len,
            max_segments: 1,
            tx_offloads: TxOffloads::empty(),
            ..port.caps().clone()
        };
        caps.rx_offloads &= RxOffloads::TIMESTAMP;
        let limits = &config.limits;
        Ok(Self {
            rx: Burst::with_capacity(limits.rx_burst),
            backlog: Burst::with_capacity(limits.rx_queue),
            fresh: Burst::with_capacity(limits.rx_burst),
            tx: Burst::with_capacity(limits.tx_queue),
            parked: Parked::new(limits),
            flows: FlowCache::new(limits.flows),
            reports: Reports::default(),
            counters: Counters::default(),
            tx_error: None,
            neighbours: config.neighbours,
            port,
            local,
            settings,
            caps,
        })
    }

    /// Takes part in a multicast group from now on: datagrams to it are received.
    ///
    /// Where the kernel keeps the address ([`Kernel`](super::neighbours::Kernel)) it joins too,
    /// which tells routers and opens the network card's filter. Elsewhere the stack tells routers
    /// and switches itself (IGMPv3, RFC 3376, or version 2 where they ask in that; MLDv2,
    /// RFC 3810), now and whenever they ask; opening the card's filter is then the port's part.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for an address that is no group, or of a family that the endpoint has no
    /// address of; [`Error::Os`] when the kernel refuses.
    pub fn join(&mut self, group: IpAddr) -> Result<()> {
        if !group.is_multicast() {
            let why = "a group has an address of 224.0.0.0/4 or ff00::/8";
            return Err(Error::config("group", group, why));
        }
        if self.local.source_for(group).is_none() {
            let why = "the endpoint has no address of this family";
            return Err(Error::config("group", group, why));
        }
        if self.local.groups.contains(&group) {
            return Ok(());
        }
        match self.neighbours.set_membership(group, true) {
            Some(answer) => answer?,
            None => self.reports.joined(group, clock::now()),
        }
        self.local.groups.push(group);
        self.tend()
    }

    /// Leaves a group; one that was not joined is left already.
    ///
    /// # Errors
    ///
    /// [`Error::Os`] when the kernel refuses: the group is joined as before.
    pub fn leave(&mut self, group: IpAddr) -> Result<()> {
        let Some(i) = self.local.groups.iter().position(|joined| *joined == group) else {
            return Ok(());
        };
        match self.neighbours.set_membership(group, false) {
            Some(answer) => answer?,
            None => self.reports.left(group, clock::now()),
        }
        self.local.groups.swap_remove(i);
        self.tend()
    }

    /// The port underneath.
    pub fn port(&self) -> &P {
        &self.port
    }

    /// Where stations are looked up.
    pub fn neighbours(&self) -> &N {
        &self.neighbours
    }

    /// Where stations are looked up, to change what it knows.
    pub fn neighbours_mut(&mut self) -> &mut N {
        &mut self.neighbours
    }

    /// When something is to be done that no frame will remind us of.
    fn due(&self) -> Option<Duration> {
        let timers = [
            self.neighbours.deadline(),
            self.parked.deadline(self.settings.park_timeout),
            self.reports.deadline(),
        ];
        timers.into_iter().flatten().min()
    }

    /// Does what is due: asks for neighbours, sends or gives up what waits for them, tells routers
    /// of groups. Costs nothing while nothing is awaited.
    #[inline]
    fn tend(&mut self) -> Result<()> {
        match self.due() {
            Some(due) => self.tend_at(due, clock::now()),
            None => Ok(()),
        }
    }

    fn tend_at(&mut self, due: Duration, now: Duration) -> Result<()> {
        if due > now {
            return Ok(());
        }
        self.neighbours.service(now)?;
        self.solicit(now);
        self.report_groups(now);
        self.settle_parked(now);
        Ok(())
    }
}

impl<P: PacketIo, N: Neighbours> DatagramIo for UdpOverL2<P, N> {
    type Datagram = UdpDatagram<P::Frame>;

    fn recv(&mut self, out: &mut Burst<Self::Datagram>) -> Result<usize> {
        self.receive(out)
    }

    fn alloc(&mut self, out: &mut Burst<Self::Datagram>, n: usize) -> usize {
        let wanted = n.min(out.room());
        let mut got = 0;
        while got < wanted {
            if self.fresh.is_empty() && self.port.alloc(&mut self.fresh, wanted - got) == 0 {
                break;
            }
            let reserve = self.settings.reserve;
            let frames = self.fresh.drain(wanted - got);
            got += out.fill_from(frames.map(|frame| UdpDatagram::empty(frame, reserve)));
        }
        got
    }

    fn send(&mut self, datagrams: &mut Burst<Self::Datagram>) -> Result<usize> {
        self.transmit(datagrams)
    }

    /// The first address of the configuration, and the port.
    fn local_addr(&self) -> SocketAddr {
        // A configuration without an address is refused.
        let first = self.local.addresses.first().map_or(IpAddr::from([0; 4]), |net| net.addr());
        SocketAddr::new(first, self.local.port)
    }
}

impl<P: PacketIo, N: Neighbours> Endpoint for UdpOverL2<P, N> {
    fn flush(&mut self) -> Result<()> {
        self.tend()?;
        self.pump()?;
        if let Some(error) = self.tx_error.take() {
            return Err(error);
        }
        self.push_out()?;
        self.port.flush()
    }

    /// Wakes for datagrams only: what the stack answers itself is answered meanwhile.
    fn wait(&mut self, interest: Interest, timeout: Option<Duration>) -> Result<Ready> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let to_receive = interest.contains(Interest::RX);
        loop {
            self.tend()?;
            self.push_out()?;
            if to_receive && self.look_ahead()? {
                return Ok(Ready::RX);
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let until_due = self.due().map(|due| due.saturating_sub(clock::now()).max(TICK));
            let slice = left.into_iter().chain(until_due).min();
            // Who waits for a neighbour has to hear its answer.
            let listening = !self.parked.is_empty();
            let inner = if listening { interest | Interest::RX } else { interest };
            let started = Instant::now();
            let ready = self.port.wait(inner, slice)?;
            if listening {
                self.pump()?;
            }
            if interest.contains(Interest::TX) && ready.contains(Ready::TX) {
                return Ok(Ready::TX);
            }
            let slept = started.elapsed();
            let interrupted = ready.is_empty() && slice.is_none_or(|slice| slept < slice);
            if interrupted || left.is_some_and(|left| left <= slept && ready.is_empty()) {
                return Ok(Ready::empty());
            }
        }
    }

    /// The port's. What else is due, questions to neighbours among it, is done by the next call of
    /// any method.
    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.port.as_fd()
    }

    fn caps(&self) -> &Caps {
        &self.caps
    }

    fn stats(&self) -> Stats {
        self.collect_stats()
    }

    fn visit_counters(&self, visit: &mut dyn FnMut(&str, u64)) {
        self.counters.visit(visit);
        self.neighbours.visit_counters(visit);
        self.port.visit_counters(visit);
    }

    /// The stack's own queues of datagrams, and the port's rings: `udp_rx_queue`, what came while
    /// something else was awaited; `udp_tx_queue`, what the port has not taken yet; `udp_parked`, what
    /// waits for neighbours.
    fn visit_rings(&self, visit: &mut dyn FnMut(&str, Occupancy)) {
        let occupancy = |used, size| Occupancy { used: used as u64, size: size as u64 };
        visit("udp_rx_queue", occupancy(self.backlog.len(), self.backlog.capacity()));
        visit("udp_tx_queue", occupancy(self.tx.len(), self.tx.capacity()));
        visit("udp_parked", occupancy(self.parked.len(), self.parked.capacity()));
        self.port.visit_rings(visit);
    }
}

impl<P: PacketIo, N> fmt::Debug for UdpOverL2<P, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UdpOverL2")
            .field("backend", &self.caps.backend)
            .field("local", &self.local)
            .field("tx_queued", &self.tx.len())
            .field("parked", &self.parked.len())
            .finish_non_exhaustive()
    }
}
