//! [`UdpOptions`]: how a UDP socket is opened.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket as RawSocket, Type};

use super::{MAX_PAYLOAD, Share, Socket, UdpSocket};
use crate::pool::{Kind, Pool, PoolOptions};
use crate::sys::option::{self, Queue};
use crate::sys::{Family, interface};
use crate::{Caps, Error, Result, RxOffloads, TxOffloads, Unsupported};

/// A GRO train, which a buffer must hold whole, is at most one IP packet long.
const TRAIN_CHUNK: u32 = 65_536;
/// What is left of such a chunk beside the longest UDP payload.
const TRAIN_HEADROOM: u32 = 28;

/// How a [`UdpSocket`] is opened.
///
/// ```
/// use bypass_core::backend::socket::UdpOptions;
/// use bypass_core::{DatagramIo, Endpoint};
///
/// let mut options = UdpOptions::new("127.0.0.1:0".parse()?);
/// options.recv_buffer = Some(256 << 10);
/// let socket = options.open()?;
/// assert!(socket.local_addr().port() > 0);
/// println!("{} bytes of receive buffer", socket.recv_buffer()?);
/// println!("{:?}", socket.caps().fallbacks);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UdpOptions {
    /// The address to bind to; port 0 lets the kernel choose. `[::]` receives IPv4 too, unless
    /// [`only_v6`](Self::only_v6).
    pub local: SocketAddr,
    /// Receive from this address only, and send there without a look at the routes each time.
    pub peer: Option<SocketAddr>,
    /// Send and receive through this interface only (`SO_BINDTODEVICE`).
    pub interface: Option<String>,
    /// The packet memory. With [`gro`](Self::gro) the chunks become 64 KiB with at most 28 bytes of
    /// headroom, because a train must fit into one.
    pub pool: PoolOptions,
    /// Most messages in one system call, 1 to 1024.
    pub batch: usize,
    /// Bytes of the kernel's receive queue (`SO_RCVBUFFORCE`, or `SO_RCVBUF` up to
    /// `net.core.rmem_max` without CAP_NET_ADMIN); see [`UdpSocket::recv_buffer`]. `None`:
    /// `net.core.rmem_default`.
    pub recv_buffer: Option<usize>,
    /// The same for sending.
    pub send_buffer: Option<usize>,
    /// Share the port with other sockets, however many, among which the kernel spreads the flows
    /// (`SO_REUSEPORT`).
    pub reuse_port: bool,
    /// The same for a known number of endpoints, one for each worker, also past the kernel.
    pub share: Share,
    /// Do not receive IPv4 on an IPv6 wildcard address (`IPV6_V6ONLY`).
    pub only_v6: bool,
    /// Send trains of equal datagrams with one message (`UDP_SEGMENT`); see
    /// [`Coalescer`](crate::sys::Coalescer).
    pub coalesce: bool,
    /// Receive trains of datagrams of one flow in one buffer (`UDP_GRO`, Linux 5.0+); the
    /// application must look at [`RecvMeta::segment_size`](crate::RecvMeta::segment_size).
    pub gro: bool,
    /// Read the congestion mark of each datagram (`IP_RECVTOS`, `IPV6_RECVTCLASS`).
    pub ecn: bool,
    /// Stamp each datagram with its time of arrival (`SO_TIMESTAMPNS`).
    pub timestamps: bool,
    /// Never fragment: a datagram longer than the path MTU is refused (`IP_PMTUDISC_DO`).
    pub dont_fragment: bool,
    /// Time to live, or hop limit, of unicast packets.
    pub ttl: Option<u8>,
    /// Allow sending to broadcast addresses.
    pub broadcast: bool,
    /// Let a call that finds nothing poll the driver so long (`SO_BUSY_POLL`, whole microseconds; zero:
    /// not at all; older kernels want CAP_NET_ADMIN for more than `net.core.busy_read`).
    pub busy_poll: Option<Duration>,
    /// Groups to receive from, and how to send to groups.
    pub multicast: Multicast,
}

/// A UDP socket with all its options set, before it has memory to receive into.
#[derive(Debug)]
pub struct ConfiguredUdp {
    /// The socket, bound and non-blocking.
    pub socket: OwnedFd,
    /// What it is bound to.
    pub local: SocketAddr,
    /// What it is connected to.
    pub peer: Option<SocketAddr>,
    /// The local address of every datagram, where it is the same for all.
    pub bound: Option<IpAddr>,
    /// The packet memory that was asked for, large enough for trains where those are received.
    pub pool: PoolOptions,
    /// Whether it can cut trains (`UDP_SEGMENT`, Linux 4.18+).
    pub segmentation: bool,
    /// What was asked for and is not to be had.
    pub fallbacks: Vec<String>,
}

impl ConfiguredUdp {
    /// What an endpoint over this socket with this pool does and costs.
    #[must_use]
    pub fn caps<K: Kind>(&self, options: &UdpOptions, pool: &Pool<K>) -> Caps {
        let max_len = MAX_PAYLOAD.min(pool.data_room() as usize);
        let mut caps = Caps::new(K::BACKEND, max_len, pool.headroom() as usize);
        caps.rx_offloads.set(RxOffloads::TIMESTAMP, options.timestamps);
        caps.rx_offloads.set(RxOffloads::COALESCE, options.gro);
        caps.tx_offloads.set(TxOffloads::SEGMENTATION, self.segmentation);
        caps.fallbacks.clone_from(&self.fallbacks);
        caps.fallbacks.extend(pool.arena().fallback().map(str::to_owned));
        caps
    }
}

/// Multicast settings of a [`UdpSocket`].
///
/// A socket with groups receives from those only (not from what other programs have joined), and
/// shares its address with other sockets (`SO_REUSEADDR`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Multicast {
    /// Groups to join, each on an interface (`None`: the kernel's choice by route).
    pub groups: Vec<(IpAddr, Option<String>)>,
    /// Send to groups through this interface.
    pub interface: Option<String>,
    /// Time to live, or hop limit, of packets to groups; 1 stays on the link.
    pub ttl: u8,
    /// Whether this machine's members receive what it sends to a group.
    pub loopback: bool,
}

impl Default for Multicast {
    /// The kernel's: no groups, one hop, local members included.
    fn default() -> Self {
        Self { groups: Vec::new(), interface: None, ttl: 1, loopback: true }
    }
}

impl UdpOptions {
    /// A socket bound to `local`, with 1 024 buffers of 2 KiB, coalescing and congestion marks.
    #[must_use]
    pub fn new(local: SocketAddr) -> Self {
        Self {
            local,
            peer: None,
            interface: None,
            pool: PoolOptions::new(1024),
            batch: 64,
            recv_buffer: None,
            send_buffer: None,
            reuse_port: false,
            share: Share::default(),
            only_v6: false,
            coalesce: true,
            gro: false,
            ecn: true,
            timestamps: false,
            dont_fragment: false,
            ttl: None,
            broadcast: false,
            busy_poll: None,
            multicast: Multicast::default(),
        }
    }

    /// [`busy_poll`](Self::busy_poll) in microseconds, as the kernel wants it.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for a part of one, which would be none at all, and for more than an `int` holds.
    pub fn busy_poll_micros(&self) -> Result<Option<u32>> {
        let micros = |time: Duration| match i32::try_from(time.as_micros()) {
            Ok(micros) if micros > 0 || time.is_zero() => Ok(micros.cast_unsigned()),
            _ => {
                let why = "the kernel polls for 1 to 2147483647 microseconds, or not at all";
                Err(Error::config("busy_poll", format!("{time:?}"), why))
            }
        };
        self.busy_poll.map(micros).transpose()
    }

    /// Opens and binds the socket, in the network namespace of the calling thread, where it stays.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for settings that make no sense, [`Error::NoSuchInterface`],
    /// [`Error::MissingCapability`] for a port below 1024 or for busy polling, [`Error::Unsupported`] for GRO on an old kernel, else [`Error::Os`].
    pub fn open(&self) -> Result<UdpSocket> {
        self.adopt(self.bind()?)
    }

    /// The first half of [`open`](Self::open), for the other backends over UDP sockets: the socket,
    /// bound but not yet [configured](Self::configure).
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn bind(&self) -> Result<OwnedFd> {
        let local = self.local;
        self.share.check()?;
        let failed = |error| Error::os(format!("open a UDP socket for {local}"), error);
        let kind = Type::DGRAM.nonblocking().cloexec();
        let raw = RawSocket::new(Domain::for_address(local), kind, Some(Protocol::UDP));
        let raw = raw.map_err(failed)?;
        if local.is_ipv6() {
            raw.set_only_v6(self.only_v6).map_err(failed)?;
        }
        raw.set_reuse_port(self.reuse_port || !self.share.is_all()).map_err(failed)?;
        raw.set_reuse_address(!self.multicast.groups.is_empty()).map_err(failed)?;
        if let Some(name) = &self.interface {
            let attempt = format!("bind a UDP socket to {name}");
            interface::index(raw.as_fd(), name, &attempt)?;
            raw.bind_device(Some(name.as_bytes()))
                .map_err(|error| Error::privileged(attempt, "CAP_NET_RAW", error))?;
        }
        let attempt = format!("bind a UDP socket to {local}");
        raw.bind(&local.into())
            .map_err(|error| Error::privileged(attempt, "CAP_NET_BIND_SERVICE", error))?;
        if let Some(peer) = self.peer {
            raw.connect(&peer.into())
                .map_err(|error| Error::os(format!("connect UDP {local} to {peer}"), error))?;
        }
        Ok(raw.into())
    }

    /// Makes the port from a bound UDP socket that was opened elsewhere: by a service manager, or
    /// in another network namespace. `local`, `peer`, `interface`, `only_v6` and the sharing of
    /// addresses are as they are; the other options are set.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn adopt(&self, socket: impl Into<OwnedFd>) -> Result<UdpSocket> {
        UdpSocket::new(self.configure(socket)?, self)
    }

    /// The second half of [`open`](Self::open), for the other backends over UDP sockets: sets the
    /// options of a bound socket.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn configure(&self, socket: impl Into<OwnedFd>) -> Result<ConfiguredUdp> {
        if !(1..=1024).contains(&self.batch) {
            let why = "one system call moves 1 to 1024 messages";
            return Err(Error::config("batch", self.batch, why));
        }
        let raw = RawSocket::from(socket.into());
        let Some(local) = raw.local_addr().ok().and_then(|address| address.as_socket()) else {
            let why = "it must be an open UDP socket over IPv4 or IPv6";
            return Err(Error::config("socket", format!("{raw:?}"), why));
        };
        let mut fallbacks = Vec::new();
        self.set_ip_options(raw.as_fd(), &local)?;
        self.set_socket_options(&raw)?;
        self.set_multicast(&raw, Family::of(&local))?;
        self.set_buffers(&raw, &mut fallbacks)?;
        let mut pool = self.pool.clone();
        if self.gro {
            pool.chunk_size = TRAIN_CHUNK;
            pool.headroom = pool.headroom.min(TRAIN_HEADROOM);
        }
        let segmentation = option::get_int(raw.as_fd(), libc::SOL_UDP, libc::UDP_SEGMENT).is_ok();
        if self.coalesce && !segmentation {
            fallbacks.push("coalescing: off, because UDP_SEGMENT came with Linux 4.18".to_owned());
        }
        Ok(ConfiguredUdp {
            peer: raw.peer_addr().ok().and_then(|peer| peer.as_socket()),
            bound: Some(local.ip()).filter(|ip| !ip.is_unspecified()),
            socket: raw.into(),
            local,
            pool,
            segmentation,
            fallbacks,
        })
    }

    /// An IPv6 socket takes the IPv4 options too, for its mapped addresses.
    fn set_ip_options(&self, fd: BorrowedFd<'_>, local: &SocketAddr) -> Result<()> {
        let v4 = |name, what, value| set(fd, libc::SOL_IP, name, what, value);
        let v6 = |name, what, value| match local {
            SocketAddr::V6(_) => set(fd, libc::SOL_IPV6, name, what, value),
            SocketAddr::V4(_) => Ok(()),
        };
        // Bound to one address, every datagram was sent to that one.
        let ask_for_local = i32::from(local.ip().is_unspecified());
        v4(libc::IP_PKTINFO, "IP_PKTINFO", ask_for_local)?;
        v6(libc::IPV6_RECVPKTINFO, "IPV6_RECVPKTINFO", ask_for_local)?;
        v4(libc::IP_RECVTOS, "IP_RECVTOS", self.ecn.into())?;
        v6(libc::IPV6_RECVTCLASS, "IPV6_RECVTCLASS", self.ecn.into())?;
        if self.dont_fragment {
            v4(libc::IP_MTU_DISCOVER, "IP_MTU_DISCOVER", libc::IP_PMTUDISC_DO)?;
            v6(libc::IPV6_MTU_DISCOVER, "IPV6_MTU_DISCOVER", libc::IPV6_PMTUDISC_DO)?;
        }
        if let Some(ttl) = self.ttl {
            v4(libc::IP_TTL, "IP_TTL", ttl.into())?;
            v6(libc::IPV6_UNICAST_HOPS, "IPV6_UNICAST_HOPS", ttl.into())?;
        }
        Ok(())
    }

    fn set_socket_options(&self, raw: &RawSocket) -> Result<()> {
        let fd = raw.as_fd();
        let socket = |name, what, value| set(fd, libc::SOL_SOCKET, name, what, value);
        socket(libc::SO_BROADCAST, "SO_BROADCAST", self.broadcast.into())?;
        socket(libc::SO_TIMESTAMPNS, "SO_TIMESTAMPNS", self.timestamps.into())?;
        if let Some(micros) = self.busy_poll_micros()? {
            let micros = micros.cast_signed();
            let set = option::set_int(fd, libc::SOL_SOCKET, libc::SO_BUSY_POLL, micros);
            let attempt = "set SO_BUSY_POLL above net.core.busy_read on a UDP socket";
            set.map_err(|error| Error::privileged(attempt, "CAP_NET_ADMIN", error))?;
        }
        if self.gro {
            let set = option::set_int(fd, libc::SOL_UDP, libc::UDP_GRO, 1);
            set.map_err(|error| Unsupported {
                what: "GRO".into(),
                backend: Socket::BACKEND,
                why: format!("the kernel refuses UDP_GRO, which Linux 5.0 brought: {error}").into(),
            })?;
        }
        Ok(())
    }

    fn set_multicast(&self, raw: &RawSocket, family: Family) -> Result<()> {
        let Multicast { groups, interface, ttl, loopback } = &self.multicast;
        let fd = raw.as_fd();
        let index = |name: &Option<String>, attempt: &str| {
            name.as_deref().map_or(Ok(0), |name| interface::index(fd, name, attempt))
        };
        for (group, name) in groups {
            let attempt = format!("join the multicast group {group}");
            let index = index(name, &attempt)?;
            let joined = match group {
                IpAddr::V4(group) => {
                    raw.join_multicast_v4_n(group, &InterfaceIndexOrAddress::Index(index))
                }
                IpAddr::V6(group) => raw.join_multicast_v6(group, index),
            };
            joined.map_err(|error| Error::os(attempt, error))?;
        }
        let v4 = |name, what, value: i32| set(fd, libc::SOL_IP, name, what, value);
        let v6 = |name, what, value: i32| match family {
            Family::V6 => set(fd, libc::SOL_IPV6, name, what, value),
            Family::V4 => Ok(()),
        };
        if !groups.is_empty() {
            v4(libc::IP_MULTICAST_ALL, "IP_MULTICAST_ALL", 0)?;
            v6(libc::IPV6_MULTICAST_ALL, "IPV6_MULTICAST_ALL", 0)?;
        }
        v4(libc::IP_MULTICAST_TTL, "IP_MULTICAST_TTL", i32::from(*ttl))?;
        v6(libc::IPV6_MULTICAST_HOPS, "IPV6_MULTICAST_HOPS", i32::from(*ttl))?;
        v4(libc::IP_MULTICAST_LOOP, "IP_MULTICAST_LOOP", i32::from(*loopback))?;
        v6(libc::IPV6_MULTICAST_LOOP, "IPV6_MULTICAST_LOOP", i32::from(*loopback))?;
        if interface.is_some() {
            let index = index(interface, "send multicast")?.cast_signed();
            // struct ip_mreqn: group, address, interface
            let mut request = [0; 12];
            request[8..].copy_from_slice(&index.to_ne_bytes());
            option::set(fd, libc::SOL_IP, libc::IP_MULTICAST_IF, &request)
                .map_err(|error| refused("IP_MULTICAST_IF", error))?;
            v6(libc::IPV6_MULTICAST_IF, "IPV6_MULTICAST_IF", index)?;
        }
        Ok(())
    }

    fn set_buffers(&self, raw: &RawSocket, fallbacks: &mut Vec<String>) -> Result<()> {
        let asked = [(self.recv_buffer, Queue::Receive), (self.send_buffer, Queue::Send)];
        for (size, queue) in asked {
            if let Some(size) = size {
                fallbacks.extend(option::set_queue(raw.as_fd(), queue, size)?);
            }
        }
        Ok(())
    }
}

fn set(fd: BorrowedFd<'_>, level: i32, name: i32, what: &str, value: i32) -> Result<()> {
    option::set_int(fd, level, name, value).map_err(|error| refused(what, error))
}

fn refused(what: &str, error: io::Error) -> Error {
    Error::os(format!("set {what} on a UDP socket"), error)
}
