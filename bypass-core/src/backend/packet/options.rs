//! [`PacketOptions`]: how an AF_PACKET port is opened.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use socket2::{Domain, Socket as RawSocket, Type};

use super::{Link, PacketPort, RING_BYTES};
use crate::backend::socket::UdpOptions;
use crate::pool::PoolOptions;
use crate::sys::{VLAN_LEN, interface, option};
use crate::udp::Beside;
use crate::{Error, Result, Unsupported};

/// The shortest frame on an Ethernet.
const MIN_FRAME: usize = 60;
/// The longest: a packet of 64 KiB behind a header with a VLAN tag.
const MAX_FRAME: usize = 65_536 + ETHERNET;
/// A header with a VLAN tag.
const ETHERNET: usize = 14 + VLAN_LEN;

/// How a [`PacketPort`] is opened.
///
/// ```no_run
/// use bypass_core::backend::packet::{Fanout, FanoutMode, PacketOptions};
///
/// let mut options = PacketOptions::new("eth1");
/// options.promiscuous = true;
/// // Called by each worker on its own thread: the kernel spreads the flows among them.
/// options.fanout = Some(Fanout { group: 7, mode: FanoutMode::Hash });
/// let port = options.open()?;
/// # Ok::<(), bypass_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PacketOptions {
    /// The interface's name, in the network namespace of the calling thread.
    pub interface: String,
    /// The packet memory, with at least 4 bytes of headroom. The chunks become larger where
    /// [`max_frame`](Self::max_frame) asks for it.
    pub pool: PoolOptions,
    /// Frames in the receive ring that is shared with the kernel; `None`: as many as 8 MiB hold,
    /// some 5 000 at an MTU of 1 500.
    pub ring: Option<u32>,
    /// The longest frame that is received, in bytes; longer ones are counted as
    /// [`RxTruncated`](crate::DropCause::RxTruncated). `None`: MTU + 18, that is with an Ethernet
    /// header and a VLAN tag. Where a device joins packets before they come here (GRO, or a virtual
    /// interface whose other end sends with TSO), 65 554 takes them whole.
    pub max_frame: Option<usize>,
    /// Most frames in one system call when sending, 1 to 1024.
    pub batch: usize,
    /// Receive frames to other stations too (`PACKET_MR_PROMISC`); ends with the port.
    pub promiscuous: bool,
    /// Receive what this machine itself sends through the interface. Without it
    /// `PACKET_IGNORE_OUTGOING` is set (Linux 4.20+).
    pub outgoing: bool,
    /// Send past the queueing discipline (`PACKET_QDISC_BYPASS`, Linux 3.14+): no traffic control,
    /// no buffering; for load generators.
    pub qdisc_bypass: bool,
    /// Bytes of the kernel's send queue (`SO_SNDBUFFORCE`); `None`: `net.core.wmem_default`.
    pub send_buffer: Option<usize>,
    /// Share the interface with other ports.
    pub fanout: Option<Fanout>,
}

/// A group of ports among which the kernel spreads what an interface receives (`PACKET_FANOUT`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fanout {
    /// Names the group, in this network namespace.
    pub group: u16,
    /// Who gets which frame; the same for every port of the group.
    pub mode: FanoutMode,
}

/// Which port of a [`Fanout`] group gets a frame (`packet(7)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FanoutMode {
    /// By flow: a flow stays with one port.
    Hash,
    /// In turns.
    RoundRobin,
    /// By the CPU on which it arrived.
    Cpu,
    /// By the device's queue, modulo the number of ports (Linux 3.14+).
    Queue,
    /// The first port until its ring is full, then the next (Linux 3.10+).
    Rollover,
}

impl FanoutMode {
    const fn number(self) -> u32 {
        match self {
            Self::Hash => libc::PACKET_FANOUT_HASH,
            Self::RoundRobin => libc::PACKET_FANOUT_LB,
            Self::Cpu => libc::PACKET_FANOUT_CPU,
            Self::Queue => libc::PACKET_FANOUT_QM,
            Self::Rollover => libc::PACKET_FANOUT_ROLLOVER,
        }
    }
}

/// An AF_PACKET socket with all its options set, before it has memory to receive into.
#[derive(Debug)]
pub struct ConfiguredPacket {
    /// The socket, not bound: nothing arrives yet.
    pub socket: OwnedFd,
    /// What it will be bound to.
    pub link: Link,
    /// The packet memory that was asked for, large enough for the longest frame.
    pub pool: PoolOptions,
    /// The longest frame that is received, in bytes.
    pub max_frame: usize,
    /// The kernel does not leave out what this machine sends; the backend must.
    pub skip_outgoing: bool,
    /// What was asked for and is not to be had.
    pub fallbacks: Vec<String>,
}

impl PacketOptions {
    /// A port on `interface` with 1 024 buffers of 2 KiB.
    #[must_use]
    pub fn new(interface: impl Into<String>) -> Self {
        Self {
            interface: interface.into(),
            pool: PoolOptions::new(1024),
            ring: None,
            max_frame: None,
            batch: 64,
            promiscuous: false,
            outgoing: false,
            qdisc_bypass: false,
            send_buffer: None,
            fanout: None,
        }
    }

    /// What an endpoint beside the kernel
    /// ([`beside_kernel`](crate::udp::UdpOverL2::beside_kernel)) has to receive with: every frame of the
    /// interface, of which it takes its own.
    ///
    /// A `recv_buffer` is the memory of the ring where it asks for more than that has by itself, 8 MiB.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for a `recv_buffer` beyond all measure; [`Error::Unsupported`] for `busy_poll`.
    pub fn beside_kernel(options: &UdpOptions, beside: &Beside) -> Result<Self> {
        let mut packet = Self::new(&*beside.station.interface);
        if options.busy_poll.is_some() {
            let what = "polling of the device (`busy_poll`)".into();
            let why = "the application can spin instead, see `BusyPoll`".into();
            return Err(Unsupported { what, backend: "AF_PACKET", why }.into());
        }
        if let Some(bytes) = options.recv_buffer.filter(|bytes| *bytes > RING_BYTES) {
            let frames = u32::try_from(bytes / (beside.station.mtu + ETHERNET));
            let too_many =
                |_| Error::config("recv_buffer", bytes, "a ring has up to 2³² - 1 frames");
            packet.ring = Some(frames.map_err(too_many)?);
        }
        packet.pool = options.pool.clone();
        packet.batch = options.batch;
        packet.send_buffer = options.send_buffer;
        Ok(packet)
    }

    /// Opens the port, in the network namespace of the calling thread, where it stays.
    ///
    /// # Errors
    ///
    /// [`Error::MissingCapability`] without CAP_NET_RAW, [`Error::NoSuchInterface`],
    /// [`Error::Config`] for settings that make no sense, else [`Error::Os`].
    pub fn open(&self) -> Result<PacketPort> {
        PacketPort::new(self.configure()?, self)
    }

    /// The first half of [`open`](Self::open), for the other backends over AF_PACKET. When they
    /// have memory to receive into they [bind](Self::bind).
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn configure(&self) -> Result<ConfiguredPacket> {
        if !(1..=1024).contains(&self.batch) {
            let why = "one system call moves 1 to 1024 frames";
            return Err(Error::config("batch", self.batch, why));
        }
        if self.ring == Some(0) {
            return Err(Error::config("ring", 0, "a ring holds at least one frame"));
        }
        if (self.pool.headroom as usize) < VLAN_LEN {
            let why = "a VLAN tag that the kernel took out needs 4 bytes to go back in";
            return Err(Error::config("headroom", self.pool.headroom, why));
        }
        let name = &self.interface;
        let attempt = format!("open an AF_PACKET socket on {name}");
        // With protocol 0 it receives nothing until it is bound.
        let raw = RawSocket::new(Domain::PACKET, Type::RAW.nonblocking().cloexec(), None)
            .map_err(|error| Error::privileged(attempt.clone(), "CAP_NET_RAW", error))?;
        let index = interface::index(raw.as_fd(), name, &attempt)?;
        let link = Link::new(raw.as_fd(), name.clone(), index)?;
        let mut fallbacks = Vec::new();
        let skip_outgoing = self.set_options(raw.as_fd(), index, &mut fallbacks)?;
        let max_frame = self.max_frame.unwrap_or(link.max_len() + VLAN_LEN);
        if !(MIN_FRAME..=MAX_FRAME).contains(&max_frame) {
            let why = "frames have 60 to 65554 bytes: a packet of 64 KiB with header and VLAN tag";
            return Err(Error::config("max_frame", max_frame, why));
        }
        let mut pool = self.pool.clone();
        let needed = pool.headroom.saturating_add(max_frame as u32);
        pool.chunk_size = pool.chunk_size.max(needed.checked_next_power_of_two().unwrap_or(needed));
        Ok(ConfiguredPacket { socket: raw.into(), link, pool, max_frame, skip_outgoing, fallbacks })
    }

    /// The second half of [`open`](Self::open): frames arrive from here on.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn bind(&self, configured: &mut ConfiguredPacket) -> Result<()> {
        let ConfiguredPacket { socket, link, skip_outgoing, .. } = configured;
        let socket = socket.as_fd();
        let failed = |attempt: String| |error| link.explain(socket, attempt, error);
        let attempt = format!("bind an AF_PACKET socket to {}", link.name());
        interface::bind(socket, link.index(), libc::ETH_P_ALL as u16).map_err(failed(attempt))?;
        let Some(Fanout { group, mode }) = self.fanout else { return Ok(()) };
        let join = |flags: u32| {
            let value = u32::from(group) | (mode.number() | flags) << 16;
            option::set_int(socket, libc::SOL_PACKET, libc::PACKET_FANOUT, value.cast_signed())
        };
        if self.outgoing {
            return join(0).map_err(failed(format!("join the fanout group {group}")));
        }
        // The group as a whole leaves out what is sent, where the kernel knows how to (Linux 5.10).
        join(libc::PACKET_FANOUT_FLAG_IGNORE_OUTGOING)
            .or_else(|_| join(0).inspect(|()| *skip_outgoing = true))
            .map_err(failed(format!("join the fanout group {group}")))
    }

    /// Answers whether the backend has to leave out what this machine sends.
    fn set_options(
        &self,
        socket: BorrowedFd<'_>,
        index: u32,
        fallbacks: &mut Vec<String>,
    ) -> Result<bool> {
        let name = &self.interface;
        let refused = |what: &str, error| Error::os(format!("set {what} on {name}"), error);
        if self.promiscuous {
            // struct packet_mreq: interface, type, address length, address
            let mut request = [0; 16];
            request[..4].copy_from_slice(&index.to_ne_bytes());
            request[4..6].copy_from_slice(&(libc::PACKET_MR_PROMISC as u16).to_ne_bytes());
            option::set(socket, libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &request)
                .map_err(|error| refused("promiscuous mode", error))?;
        }
        if self.qdisc_bypass {
            option::set_int(socket, libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, 1)
                .map_err(|error| refused("PACKET_QDISC_BYPASS", error))?;
        }
        if let Some(size) = self.send_buffer {
            fallbacks.extend(option::set_queue(socket, option::Queue::Send, size)?);
        }
        if self.outgoing {
            return Ok(false);
        }
        let ignore = option::set_int(socket, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1);
        Ok(ignore.is_err())
    }
}
