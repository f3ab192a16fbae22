//! UDP through the kernel with `recvmmsg(2)` and `sendmmsg(2)`: runs everywhere, needs no
//! privileges, and is the baseline that the other backends are measured against.
//!
//! Datagrams are received straight into pool buffers and sent straight out of them; the kernel
//! copies once each way. Trains of equal datagrams leave as one message
//! ([`UdpOptions::coalesce`]), which the receiver does not notice, and arrive as one buffer when
//! asked for ([`UdpOptions::gro`]).
//!
//! ```
//! use bypass_core::backend::socket::UdpOptions;
//! use bypass_core::{Buffer, Burst, Datagram, DatagramIo, DatagramIoExt, Endpoint, Interest};
//!
//! let mut server = UdpOptions::new("127.0.0.1:0".parse()?).open()?;
//! let mut client = UdpOptions::new("127.0.0.1:0".parse()?).open()?;
//! let mut burst = Burst::with_capacity(32);
//! client.compose(b"ping", server.local_addr(), &mut burst)?;
//! client.send(&mut burst)?;
//!
//! server.wait(Interest::RX, None)?;
//! let mut inbox = Burst::with_capacity(32);
//! server.recv(&mut inbox)?;
//! assert_eq!(inbox[0].data(), b"ping");
//! assert_eq!(inbox[0].recv_meta().remote, Some(client.local_addr()));
//! inbox[0].reply();
//! server.send(&mut inbox)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What it does not do: raw IP, hardware timestamps, zero-copy sends (`MSG_ZEROCOPY` costs a
//! notification for each datagram, more than it saves below about 10 KiB).

mod options;
mod refusal;
mod share;
mod tx;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use socket2::Socket as RawSocket;

pub use self::options::{ConfiguredUdp, Multicast, UdpOptions};
pub use self::refusal::may_be_pending;
pub use self::share::Share;
pub use self::tx::Sender;
use crate::pool::{DatagramMeta, Kind, Pool, PoolBuf};
use crate::sys::{self, Batch, QueueDrops, RecvSlots, decode, option, segments};
use crate::{
    Burst, Caps, DatagramIo, DropCause, Endpoint, Error, Interest, Occupancy, Ready, RecvMeta,
    Result, Stats, Transmit,
};

/// Marks the pools and datagrams of this backend.
#[derive(Clone, Copy, Debug)]
pub struct Socket;

impl Kind for Socket {
    type Meta = DatagramMeta;
    const BACKEND: &'static str = "socket";
}

/// The datagram of this backend.
pub type SocketDatagram = PoolBuf<Socket>;

/// The longest payload of a UDP datagram over IPv4, and of a train.
const MAX_PAYLOAD: usize = 65_535 - 20 - 8;

/// Errors of earlier packets that one call steps over before it lets the application have a turn.
const MOST_PENDING: u64 = 16;

/// A UDP socket.
///
/// [`Stats`] count datagrams as the network sees them: a train counts as many as it is cut into.
/// What the kernel's receive queue had no room for is in
/// [`DropCause::RxQueueFull`], exact at any time (`SO_MEMINFO`, Linux 4.12+), with everything else
/// that the socket dropped, such as datagrams with a wrong checksum.
///
/// Errors that the network reports for earlier datagrams (ICMP), which the kernel hands to
/// whichever call comes next, are counted (`pending_errors`) and change nothing else. Errors of
/// receiving itself are counted too (`recv_errors`).
#[derive(Debug)]
pub struct UdpSocket {
    raw: RawSocket,
    slots: RecvSlots<Socket>,
    sender: Sender,
    local: SocketAddr,
    /// The local address of every datagram, where it is the same for all.
    bound: Option<IpAddr>,
    caps: Caps,
    stats: Stats,
    pending_errors: u64,
    /// An error that came behind packets, for the next call.
    failed: Option<Error>,
    /// Errors of receiving itself.
    recv_errors: u64,
    queue_drops: QueueDrops,
}

impl UdpSocket {
    fn new(configured: ConfiguredUdp, options: &UdpOptions) -> Result<Self> {
        let pool = Pool::new(&configured.pool)?;
        let caps = configured.caps(options, &pool);
        // Never so many that the application could not have any.
        let batch = options.batch.min((pool.arena().chunks() as usize / 2).max(1));
        let sender = Sender::new(&configured, options);
        let ConfiguredUdp { socket, local, bound, .. } = configured;
        let raw = RawSocket::from(socket);
        Ok(Self {
            sender,
            slots: RecvSlots::new(pool, batch),
            queue_drops: QueueDrops::new(raw.as_fd()),
            raw,
            local,
            bound,
            caps,
            stats: Stats { syscalls: Some(0), wakeups: Some(0), ..Stats::default() },
            pending_errors: 0,
            failed: None,
            recv_errors: 0,
        })
    }

    /// Bytes of the kernel's receive queue, as obtained. The kernel counts its own bookkeeping
    /// (about 700 bytes for each datagram) against it.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn recv_buffer(&self) -> Result<usize> {
        self.buffer(libc::SO_RCVBUF)
    }

    /// Bytes of the kernel's send queue, as obtained.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn send_buffer(&self) -> Result<usize> {
        self.buffer(libc::SO_SNDBUF)
    }

    fn buffer(&self, name: i32) -> Result<usize> {
        option::get_int(self.raw.as_fd(), libc::SOL_SOCKET, name)
            .map(|size| size.unsigned_abs() as usize)
            .map_err(|error| Error::os("read the size of a socket buffer", error))
    }

    fn count_syscall(&mut self) {
        self.stats.syscalls = self.stats.syscalls.map(|n| n + 1);
    }

    /// One `recvmmsg`.
    fn receive(&mut self, out: &mut Burst<SocketDatagram>) -> io::Result<Batch> {
        let Self { raw, slots, bound, stats, .. } = self;
        let answer = slots.recv(raw.as_fd(), out.room(), |mut datagram, message| {
            if message.is_truncated() {
                stats.drops[DropCause::RxTruncated] += 1;
                return;
            }
            let remote = message.name.inet(message.name_len);
            let recv = describe(remote, message.control, message.len, *bound);
            stats.rx_packets += segments(message.len, recv.segment_size);
            stats.rx_bytes += message.len as u64;
            datagram.set_meta(DatagramMeta { recv, transmit: Transmit::default() });
            let _room_was_asked_for = out.push(datagram);
        });
        if !matches!(answer, Ok(Batch { asked: 0, .. })) {
            self.count_syscall();
        }
        answer
    }

    /// Receives with `receive` until there is nothing left or no room.
    fn recv_with(
        &mut self,
        out: &mut Burst<SocketDatagram>,
        mut receive: impl FnMut(&mut Self, &mut Burst<SocketDatagram>) -> io::Result<Batch>,
    ) -> Result<usize> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let (before, mut pending) = (out.len(), 0u64);
        while !out.is_full() && pending < MOST_PENDING {
            match receive(self, out) {
                Ok(Batch { received, asked }) if received < asked || asked == 0 => break,
                Ok(_) => {}
                Err(error) => match error.raw_os_error() {
                    Some(libc::EAGAIN) => break,
                    Some(libc::EINTR) => {}
                    Some(errno) if may_be_pending(errno) => pending += 1,
                    _ => {
                        self.recv_errors += 1;
                        let what = format!("receive on UDP {}", self.local);
                        self.failed = Some(Error::os(what, error));
                        break;
                    }
                },
            }
        }
        self.pending_errors += pending;
        match self.failed.take_if(|_| out.len() == before) {
            Some(error) => Err(error),
            None => Ok(out.len() - before),
        }
    }
}

/// What is known of `len` bytes from `remote` that came with these control messages, on a socket
/// [`bound`](ConfiguredUdp::bound) to one address or to all.
#[must_use]
pub fn describe(
    remote: Option<SocketAddr>,
    control: &[u8],
    len: usize,
    bound: Option<IpAddr>,
) -> RecvMeta {
    let known = decode(control);
    RecvMeta {
        remote,
        local: bound.or(known.local),
        ecn: known.ecn,
        // A train of one is a datagram.
        segment_size: known.segment_size.filter(|size| usize::from(*size) < len),
        next_hop: None,
        timestamp: known.timestamp,
    }
}

impl DatagramIo for UdpSocket {
    type Datagram = SocketDatagram;

    fn recv(&mut self, out: &mut Burst<SocketDatagram>) -> Result<usize> {
        self.recv_with(out, Self::receive)
    }

    fn alloc(&mut self, out: &mut Burst<SocketDatagram>, n: usize) -> usize {
        self.slots.pool().alloc(out, n)
    }

    fn send(&mut self, datagrams: &mut Burst<SocketDatagram>) -> Result<usize> {
        self.sender.send(self.raw.as_fd(), datagrams, &mut self.stats, &mut self.caps)
    }

    fn local_addr(&self) -> SocketAddr {
        self.local
    }
}

impl Endpoint for UdpSocket {
    /// Does nothing: `send` has handed everything to the kernel.
    fn flush(&mut self) -> Result<()> {
        Ok(())
    }

    fn wait(&mut self, interest: Interest, timeout: Option<Duration>) -> Result<Ready> {
        if interest.contains(Interest::RX) && self.failed.is_some() {
            return Ok(Ready::RX); // the kernel has told it and is silent about it now
        }
        self.count_syscall();
        self.stats.wakeups = self.stats.wakeups.map(|n| n + 1);
        sys::wait(self.raw.as_fd(), interest, timeout, "wait for a UDP socket")
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.raw.as_fd())
    }

    fn caps(&self) -> &Caps {
        &self.caps
    }

    fn stats(&self) -> Stats {
        let mut stats = self.stats;
        stats.drops[DropCause::RxQueueFull] = self.queue_drops.read(self.raw.as_fd());
        stats.frames = Some(self.slots.census());
        stats
    }

    fn visit_counters(&self, visit: &mut dyn FnMut(&str, u64)) {
        visit("pending_errors", self.pending_errors + self.sender.pending_errors());
        visit("recv_errors", self.recv_errors);
        visit("recv_dry", self.slots.dry());
        self.sender.visit_counters(visit);
    }

    /// `rx_queue_bytes`: the kernel's receive queue, with its bookkeeping.
    fn visit_rings(&self, visit: &mut dyn FnMut(&str, Occupancy)) {
        if let Ok(queue) = option::receive_queue(self.raw.as_fd()) {
            visit("rx_queue_bytes", queue);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Buffer;

    #[test]
    fn a_train_of_one_is_a_datagram() {
        // cmsg_len (with header), SOL_UDP, UDP_GRO, the size
        let mut control = (size_of::<usize>() + 12).to_ne_bytes().to_vec();
        for word in [libc::SOL_UDP, libc::UDP_GRO, 1200] {
            control.extend(word.to_ne_bytes());
        }
        let size = |len| describe(None, &control, len, None).segment_size;
        assert_eq!((size(1200), size(700), size(1201)), (None, None, Some(1200)));
    }

    #[test]
    fn an_error_behind_datagrams_comes_with_the_next_call() {
        let options = |batch| {
            let local = ([127, 0, 0, 1], 0).into();
            UdpOptions { batch, ..UdpOptions::new(local) }
        };
        let mut socket = options(2).open().unwrap();
        let client = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        for byte in 0..3 {
            client.send_to(&[byte], socket.local_addr()).unwrap();
        }
        socket.wait(Interest::RX, None).unwrap();
        let mut burst = Burst::with_capacity(8);
        let mut calls = 0;
        let received = socket.recv_with(&mut burst, |socket, out| {
            calls += 1;
            if calls > 1 {
                return Err(io::Error::from_raw_os_error(libc::ENOMEM));
            }
            socket.receive(out)
        });
        assert_eq!((received.unwrap(), burst.len()), (2, 2));
        // Nobody sleeps over it, and it comes once.
        assert_eq!(socket.wait(Interest::RX, Some(Duration::ZERO)).unwrap(), Ready::RX);
        let error = socket.recv(&mut burst).unwrap_err();
        assert!(error.to_string().contains("receive on UDP"), "{error}");
        assert_eq!((socket.recv(&mut burst).unwrap(), burst[2].data()), (1, &[2][..]));
        let mut counted = 0;
        socket.visit_counters(&mut |name, n| counted += if name == "recv_errors" { n } else { 0 });
        assert_eq!(counted, 1);
    }
}
