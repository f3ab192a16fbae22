//! [`UringSocket`]: UDP datagrams.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use bypass_core::backend::socket::{ConfiguredUdp, Sender, UdpOptions, describe, may_be_pending};
use bypass_core::pool::{DatagramMeta, Kind, Pool, PoolBuf};
use bypass_core::sys::{ControlBuffer, QueueDrops, Train, encode, option, segments};
use bypass_core::{
    Burst, Caps, DatagramIo, DropCause, Endpoint, Interest, Occupancy, Ready, Result, Stats,
    Transmit,
};

use super::rx::{Arrival, Receive, Rx, SPARE_CONTROL};
use super::tx::{Fate, RingTx};
use super::{UringOptions, core_error};
use crate::buf_ring::MessageLayout;
use crate::op::DatagramFd;
use crate::sys::socket_address;

/// A GRO train, which a chunk must hold whole with a header in front.
const TRAIN_CHUNK: u32 = 131_072;

/// Marks the pools and datagrams of this backend.
#[derive(Clone, Copy, Debug)]
pub struct UringUdp;

impl Kind for UringUdp {
    type Meta = DatagramMeta;
    const BACKEND: &'static str = "uring";
}

/// The datagram of this backend.
pub type UringDatagram = PoolBuf<UringUdp>;

/// A UDP socket on io_uring (Linux 6.1).
///
/// It takes the same [`UdpOptions`] as the socket backend, and does the same with them: addresses,
/// congestion marks, GRO trains and their sizes, times of arrival, coalescing of equal datagrams into
/// one message. [`Stats`] count datagrams as the network sees them.
///
/// ```
/// use bypass_core::backend::socket::UdpOptions;
/// use bypass_core::{Buffer, Burst, Datagram, DatagramIo, DatagramIoExt, Endpoint, Interest};
/// use io_uring_ext::packet::{UringOptions, UringSocket};
///
/// let options = UdpOptions::new("127.0.0.1:0".parse()?);
/// let mut server = UringSocket::open(&options, &UringOptions::new())?;
/// let mut client = UringSocket::open(&options, &UringOptions::new())?;
/// let mut burst = Burst::with_capacity(32);
/// client.compose(b"ping", server.local_addr(), &mut burst)?;
/// client.send(&mut burst)?;
///
/// server.wait(Interest::RX, None)?;
/// let mut inbox = Burst::with_capacity(32);
/// server.recv(&mut inbox)?;
/// assert_eq!(inbox[0].data(), b"ping");
/// inbox[0].reply();
/// server.send(&mut inbox)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// It belongs to the thread that opened it:
///
/// ```compile_fail,E0277
/// # use io_uring_ext::packet::UringSocket;
/// fn elsewhere(socket: UringSocket) {
///     std::thread::spawn(move || drop(socket)); // error: `Rc` cannot be sent between threads
/// }
/// ```
#[derive(Debug)]
pub struct UringSocket {
    rx: Rx<UringUdp>,
    tx: RingTx<UringUdp, Train>,
    socket: DatagramFd,
    sender: Sender,
    control: ControlBuffer,
    local: SocketAddr,
    bound: Option<IpAddr>,
    caps: Caps,
    stats: Stats,
    queue_drops: QueueDrops,
    /// Errors about earlier datagrams that sending through the ring met.
    pending_errors: u64,
}

impl UringSocket {
    /// Opens and binds a socket and a ring for this thread.
    ///
    /// # Errors
    ///
    /// As [`UdpOptions::open`]; `Backend` with the reason when io_uring is refused.
    pub fn open(udp: &UdpOptions, uring: &UringOptions) -> Result<Self> {
        Self::adopt(udp.bind()?, udp, uring)
    }

    /// Makes the endpoint from a bound UDP socket that was opened elsewhere.
    ///
    /// # Errors
    ///
    /// As [`UdpOptions::adopt`]; `Backend` with the reason when io_uring is refused.
    pub fn adopt(
        socket: impl Into<OwnedFd>,
        udp: &UdpOptions,
        uring: &UringOptions,
    ) -> Result<Self> {
        let mut configured = udp.configure(socket)?;
        let layout = layout(&configured, udp);
        if udp.gro {
            configured.pool.chunk_size = TRAIN_CHUNK;
        }
        configured.pool.headroom =
            configured.pool.headroom.max(layout.payload_at() as u32).next_multiple_of(8);
        let pool = Pool::new(&configured.pool)?;
        let caps = configured.caps(udp, &pool);
        let sender = Sender::new(&configured, udp);
        let ConfiguredUdp { socket, local, bound, .. } = configured;
        let queue_drops = QueueDrops::new(socket.as_fd());
        let socket = DatagramFd::new(socket)
            .map_err(|error| bypass_core::Error::os("use a socket for datagrams", error))?;
        let entries = uring.entries(pool.arena().chunks())?;
        let ring = uring.ring(entries)?;
        let mut stats = Stats::default();
        stats.syscalls = Some(0);
        Ok(Self {
            rx: Rx::new(ring, &socket, pool, entries, layout).map_err(core_error)?,
            tx: RingTx::new(socket.clone(), uring.sqpoll.is_some()),
            socket,
            sender,
            control: ControlBuffer::default(),
            local,
            bound,
            caps,
            stats,
            queue_drops,
            pending_errors: 0,
        })
    }

    /// The ring, to run other operations on: files, timers, other sockets.
    pub fn ring(&self) -> &crate::Ring {
        &self.rx.ring
    }

    fn count_syscall(&mut self) {
        self.stats.syscalls = self.stats.syscalls.map(|n| n + 1);
    }

    /// Sends the train at the front of `datagrams` through the ring.
    fn send_train(&mut self, datagrams: &mut Burst<UringDatagram>, train: Train) -> Fate {
        let len = encode(&mut self.control, &train.transmit, train.segment_size);
        let (control, to) = (&self.control.0[..len], self.sender.destination(&train));
        let fate = self.tx.send(&self.rx.ring, datagrams, train.datagrams, train, |message| {
            message.set_destination(to);
            // What `encode` writes is never longer than what a message holds.
            let _fits = message.set_control(control);
        });
        if matches!(fate, Fate::Sent) {
            self.sender.sent(&train, &mut self.stats, &mut self.caps);
        }
        fate
    }

    /// Everything as entries of the ring, for the kernel thread to take.
    fn send_polled(&mut self, datagrams: &mut Burst<UringDatagram>) -> Result<usize> {
        let before = datagrams.len();
        while !datagrams.is_empty() && self.tx.has_room() {
            let Some(train) = self.sender.first(datagrams, &self.caps) else {
                if before > datagrams.len() {
                    break; // the next call says what is wrong with it
                }
                return self.send_now(datagrams);
            };
            if matches!(self.send_train(datagrams, train), Fate::Refused(_)) {
                break;
            }
        }
        Ok(before - datagrams.len())
    }

    fn send_now(&mut self, datagrams: &mut Burst<UringDatagram>) -> Result<usize> {
        let Self { sender, socket, stats, caps, .. } = self;
        sender.send(socket.as_fd(), datagrams, stats, caps)
    }

    fn reclaim(&mut self) {
        let Self { tx, sender, stats, caps, .. } = self;
        tx.reclaim(|train, result| match result {
            Ok(_) => sender.sent(train, stats, caps),
            Err(_) => stats.drops[DropCause::TxError] += train.packets(),
        });
    }
}

/// Room for what the socket tells beside each datagram.
fn layout(configured: &ConfiguredUdp, udp: &UdpOptions) -> MessageLayout {
    /// `CMSG_SPACE`.
    const fn space(data: usize) -> usize {
        16 + data.next_multiple_of(8)
    }
    let v6 = configured.local.is_ipv6();
    let name = if v6 { size_of::<libc::sockaddr_in6>() } else { size_of::<libc::sockaddr_in>() };
    // A socket for both families tells an IPv4 datagram in the terms of both.
    let of_family = |v4: usize, also_v6: usize| space(v4) + if v6 { space(also_v6) } else { 0 };
    let mut control = SPARE_CONTROL;
    if configured.bound.is_none() {
        control += of_family(size_of::<libc::in_pktinfo>(), size_of::<libc::in6_pktinfo>());
    }
    if udp.ecn {
        control += of_family(1, 4);
    }
    if udp.gro {
        control += space(4);
    }
    if udp.timestamps {
        control += space(size_of::<libc::timespec>());
    }
    MessageLayout::new(name, control)
}

/// Takes in what has arrived.
struct Datagrams<'a> {
    bound: Option<IpAddr>,
    stats: &'a mut Stats,
}

impl Receive<UringUdp> for Datagrams<'_> {
    fn describe(&mut self, arrival: &Arrival<'_>) -> Option<DatagramMeta> {
        if arrival.is_truncated() {
            self.stats.drops[DropCause::RxTruncated] += 1;
            return None;
        }
        let remote = socket_address::parse(arrival.name).map(canonical);
        let recv = describe(remote, arrival.control, arrival.len, self.bound);
        self.stats.rx_packets += segments(arrival.len, recv.segment_size);
        self.stats.rx_bytes += arrival.len as u64;
        Some(DatagramMeta { recv, transmit: Transmit::default() })
    }

    fn is_about_earlier(&self, errno: i32) -> bool {
        may_be_pending(errno)
    }
}

/// An IPv4 address that an IPv6 socket has mapped, as IPv4.
fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => (ip, address.port()).into(),
        IpAddr::V6(_) => address,
    }
}

impl DatagramIo for UringSocket {
    type Datagram = UringDatagram;

    fn recv(&mut self, out: &mut Burst<UringDatagram>) -> Result<usize> {
        let mut receive = Datagrams { bound: self.bound, stats: &mut self.stats };
        let received = self.rx.recv(out, &mut receive).map_err(core_error);
        self.reclaim();
        received
    }

    fn alloc(&mut self, out: &mut Burst<UringDatagram>, n: usize) -> usize {
        self.rx.pool().alloc(out, n)
    }

    fn send(&mut self, datagrams: &mut Burst<UringDatagram>) -> Result<usize> {
        self.reclaim();
        if self.tx.is_sqpoll() {
            return self.send_polled(datagrams);
        }
        let n = datagrams.len();
        match self.sender.first(datagrams, &self.caps) {
            Some(train) if train.datagrams == n => match self.send_train(datagrams, train) {
                Fate::Sent | Fate::Queued => Ok(n),
                // `sendmmsg` finds out why, or it was about an earlier datagram.
                Fate::Refused(errno) => {
                    self.pending_errors += u64::from(errno.is_some_and(may_be_pending));
                    self.send_now(datagrams)
                }
            },
            _ => self.send_now(datagrams),
        }
    }

    fn local_addr(&self) -> SocketAddr {
        self.local
    }
}

impl Endpoint for UringSocket {
    fn flush(&mut self) -> Result<()> {
        self.rx.ring.submit().map_err(core_error)?;
        self.reclaim();
        Ok(())
    }

    fn wait(&mut self, interest: Interest, timeout: Option<Duration>) -> Result<Ready> {
        if interest.contains(Interest::TX) {
            self.count_syscall();
        }
        self.rx.wait_for(self.socket.as_fd(), interest, timeout)
    }

    /// An eventfd that the ring signals, registered with the first call.
    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.rx.poll_fd().ok()
    }

    fn caps(&self) -> &Caps {
        &self.caps
    }

    fn stats(&self) -> Stats {
        let mut stats = self.stats;
        stats.drops[DropCause::RxInvalid] = self.rx.invalid();
        stats.drops[DropCause::RxQueueFull] = self.queue_drops.read(self.socket.as_fd());
        stats.tx_in_flight = self.tx.in_flight().map(Train::packets).sum();
        stats.frames = Some(self.rx.census(self.tx.sending()));
        stats.syscalls = stats.syscalls.map(|n| n + self.rx.ring.counters().enters);
        stats.wakeups = Some(self.rx.wakeups());
        stats
    }

    fn visit_counters(&self, visit: &mut dyn FnMut(&str, u64)) {
        let sending = self.pending_errors + self.sender.pending_errors();
        visit("pending_errors", self.rx.pending_errors() + sending);
        self.rx.visit_counters(visit);
        self.sender.visit_counters(visit);
    }

    /// - `rx_buffers`: buffers for receiving that have been used and are not posted anew;
    /// - `rx_queue_bytes`: the kernel's receive queue, with its bookkeeping, which fills when there are
    ///   no more of them.
    fn visit_rings(&self, visit: &mut dyn FnMut(&str, Occupancy)) {
        visit("rx_buffers", self.rx.occupancy());
        if let Ok(queue) = option::receive_queue(self.socket.as_fd()) {
            visit("rx_queue_bytes", queue);
        }
    }
}
