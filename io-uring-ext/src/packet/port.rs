//! [`UringPort`]: whole Ethernet frames.

use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use bypass_core::backend::packet::{ConfiguredPacket, FrameSender, Link, PacketOptions};
use bypass_core::pool::{FrameMeta, Kind, Pool, PoolBuf};
use bypass_core::sys::{VLAN_LEN, checksum, decode, option, restore_vlan, vlan};
use bypass_core::{
    Buffer, Burst, Caps, DropCause, Endpoint, Error, Interest, Occupancy, PacketIo, Ready, Result,
    RxMeta, RxOffloads, Stats, TxMeta, VlanTag,
};

use super::rx::{Arrival, Receive, Rx, SPARE_CONTROL};
use super::tx::{Fate, RingTx};
use super::{UringOptions, core_error};
use crate::buf_ring::MessageLayout;
use crate::op::DatagramFd;

/// Bytes of the kernel's receive queue where no number of frames is asked for.
const QUEUE_BYTES: usize = 8 << 20;

/// What the kernel counts against the receive queue for a frame of ordinary size.
const QUEUE_PER_FRAME: usize = 2304;

/// The header of an Ethernet frame.
const MIN_LEN: usize = 14;

/// Room for `sockaddr_ll`, `PACKET_AUXDATA` and a time of arrival.
const LAYOUT: MessageLayout =
    MessageLayout::new(size_of::<libc::sockaddr_ll>(), (16 + 24) + (16 + 16) + SPARE_CONTROL);

/// Where a `sockaddr_ll` says how the frame was addressed.
const PACKET_TYPE: usize = std::mem::offset_of!(libc::sockaddr_ll, sll_pkttype);

/// Marks the pools and frames of this backend.
#[derive(Clone, Copy, Debug)]
pub struct UringPacket;

impl Kind for UringPacket {
    type Meta = FrameMeta;
    const BACKEND: &'static str = "uring";
}

/// The frame of this backend.
pub type UringFrame = PoolBuf<UringPacket>;

/// An AF_PACKET socket on io_uring (Linux 6.1; needs CAP_NET_RAW).
///
/// It takes the same [`PacketOptions`] as the packet backend. In place of the ring that it shares with
/// the kernel, frames wait in the socket's receive queue, which is sized for as many
/// ([`PacketOptions::ring`], 8 MiB unless set), and are copied once, into the buffers that are handed
/// out.
///
/// - When the interface goes down, `recv` says so once and then finds nothing, and `send` says so each
///   time, taking nothing; when it is up again, both go on.
/// - When the interface is removed, calls answer [`Error::NoSuchInterface`].
/// - Frames for which the queue had no room are in [`DropCause::RxQueueFull`] (`PACKET_STATISTICS`).
/// - A VLAN tag that the kernel took out of a frame is put back in.
///
/// ```no_run
/// use bypass_core::backend::packet::PacketOptions;
/// use bypass_core::{Burst, Endpoint, Interest, PacketIoExt, Verdict, swap_addresses};
/// use io_uring_ext::packet::{UringOptions, UringPort};
///
/// let mut port = UringPort::open(&PacketOptions::new("veth0"), &UringOptions::new())?;
/// let mut burst = Burst::with_capacity(64);
/// loop {
///     port.wait(Interest::RX, None)?;
///     port.reflect(&mut burst, |frame| {
///         swap_addresses(frame);
///         Verdict::Send
///     })?;
/// }
/// # #[allow(unreachable_code)]
/// # Ok::<(), bypass_core::Error>(())
/// ```
///
/// A frame belongs to its backend:
///
/// ```compile_fail,E0308
/// # use bypass_core::backend::packet::PacketPort;
/// # use bypass_core::{Burst, PacketIo};
/// # use io_uring_ext::packet::{UringFrame, UringPort};
/// fn forward(from: &mut UringPort, to: &mut PacketPort) -> bypass_core::Result<()> {
///     let mut burst = Burst::with_capacity(32);
///     from.recv(&mut burst)?;
///     to.send(&mut burst)?; // error: expected `Burst<PoolBuf<Packet>>`
///     Ok(())
/// }
/// ```
#[derive(Debug)]
pub struct UringPort {
    rx: Rx<UringPacket>,
    /// With the bytes of each frame.
    tx: RingTx<UringPacket, usize>,
    socket: DatagramFd,
    sender: FrameSender,
    max_frame: usize,
    skip_outgoing: bool,
    /// The interface was removed.
    gone: bool,
    caps: Caps,
    stats: Stats,
    queue_drops: Cell<u64>,
}

impl UringPort {
    /// Opens a socket on the interface and a ring for this thread.
    ///
    /// # Errors
    ///
    /// As [`PacketOptions::open`]; `Backend` with the reason when io_uring is refused.
    pub fn open(packet: &PacketOptions, uring: &UringOptions) -> Result<Self> {
        let mut packet = packet.clone();
        packet.pool.headroom = packet.pool.headroom.max((LAYOUT.payload_at() + VLAN_LEN) as u32);
        let mut configured = packet.configure()?;
        set_options(&mut configured, &packet)?;
        let pool = Pool::new(&configured.pool)?;
        let entries = uring.entries(pool.arena().chunks())?;
        let ring = uring.ring(entries)?;
        let cloned = configured.socket.try_clone();
        let socket = cloned
            .and_then(DatagramFd::new)
            .map_err(|error| Error::os("use an AF_PACKET socket with io_uring", error))?;
        let rx = Rx::new(ring, &socket, pool, entries, LAYOUT).map_err(core_error)?;
        packet.bind(&mut configured)?;
        let caps = caps(&configured, rx.pool());
        let mut stats = Stats::default();
        stats.syscalls = Some(0);
        Ok(Self {
            rx,
            tx: RingTx::new(socket.clone(), uring.sqpoll.is_some()),
            socket,
            sender: FrameSender::new(configured.link, packet.batch),
            max_frame: configured.max_frame,
            skip_outgoing: configured.skip_outgoing,
            gone: false,
            caps,
            stats,
            queue_drops: Cell::new(0),
        })
    }

    /// The ring, to run other operations on: files, timers, sockets.
    pub fn ring(&self) -> &crate::Ring {
        &self.rx.ring
    }

    /// Sends the frame at the front through the ring.
    fn send_first(&mut self, frames: &mut Burst<UringFrame>) -> Fate {
        let len = frames.first().map_or(0, |frame| frame.data().len());
        let fate = self.tx.send(&self.rx.ring, frames, 1, len, |_| {});
        if matches!(fate, Fate::Sent) {
            count_sent(&mut self.stats, len);
        }
        fate
    }

    /// Everything as entries of the ring, for the kernel thread to take.
    fn send_polled(&mut self, frames: &mut Burst<UringFrame>) -> Result<usize> {
        let before = frames.len();
        while let Some(first) = frames.first()
            && self.tx.has_room()
        {
            if !goes_as_it_is(first, self.sender.link()) {
                if before > frames.len() {
                    break; // the next call says what is wrong with it
                }
                return self.send_now(frames);
            }
            if matches!(self.send_first(frames), Fate::Refused(_)) {
                break;
            }
        }
        Ok(before - frames.len())
    }

    fn send_now(&mut self, frames: &mut Burst<UringFrame>) -> Result<usize> {
        let sent = self.sender.send(self.socket.as_fd(), frames, &mut self.stats);
        self.gone |= matches!(sent, Err(Error::NoSuchInterface { .. }));
        sent
    }

    fn reclaim(&mut self) {
        let Self { tx, stats, .. } = self;
        tx.reclaim(|len, result| match result {
            Ok(_) => count_sent(stats, *len),
            Err(_) => stats.drops[DropCause::TxError] += 1,
        });
    }

    fn still_there(&self) -> Result<()> {
        if self.gone {
            let name = self.sender.link().name().to_owned();
            let attempt = "use an AF_PACKET port whose interface was removed".into();
            return Err(Error::NoSuchInterface { attempt, name });
        }
        Ok(())
    }

    fn read_queue_drops(&self) -> u64 {
        let new = option::packet_drops(self.socket.as_fd()).unwrap_or(0);
        self.queue_drops.set(self.queue_drops.get() + u64::from(new));
        self.queue_drops.get()
    }
}

fn set_options(configured: &mut ConfiguredPacket, packet: &PacketOptions) -> Result<()> {
    let socket = configured.socket.as_fd();
    let name = configured.link.name();
    for (level, number, what) in [
        (libc::SOL_PACKET, libc::PACKET_AUXDATA, "PACKET_AUXDATA"),
        (libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, "SO_TIMESTAMPNS"),
    ] {
        option::set_int(socket, level, number, 1)
            .map_err(|error| Error::os(format!("set {what} on {name}"), error))?;
    }
    let per_frame = QUEUE_PER_FRAME.max(configured.max_frame + QUEUE_PER_FRAME / 2);
    let size = packet.ring.map_or(QUEUE_BYTES, |frames| frames as usize * per_frame);
    configured.fallbacks.extend(option::set_queue(socket, option::Queue::Receive, size)?);
    Ok(())
}

fn caps(configured: &ConfiguredPacket, pool: &Pool<UringPacket>) -> Caps {
    let max_len = configured.link.max_len().min(pool.data_room() as usize);
    let mut caps = Caps::new(UringPacket::BACKEND, max_len, pool.headroom() as usize);
    caps.rx_offloads = RxOffloads::CHECKSUM | RxOffloads::TIMESTAMP;
    caps.fallbacks.clone_from(&configured.fallbacks);
    caps.fallbacks.extend(pool.arena().fallback().map(str::to_owned));
    caps
}

/// Whether the ring can send the frame; [`FrameSender`] knows what to do with the others.
fn goes_as_it_is(frame: &UringFrame, link: &Link) -> bool {
    !frame.is_chain() && (MIN_LEN..=link.max_len_of(frame.data())).contains(&frame.data().len())
}

fn count_sent(stats: &mut Stats, len: usize) {
    stats.tx_packets += 1;
    stats.tx_bytes += len as u64;
}

/// Takes in what has arrived.
struct Frames<'a> {
    max_frame: usize,
    skip_outgoing: bool,
    /// The tag that was taken out of the frame at hand.
    tag: Option<VlanTag>,
    stats: &'a mut Stats,
}

impl Receive<UringPacket> for Frames<'_> {
    fn describe(&mut self, arrival: &Arrival<'_>) -> Option<FrameMeta> {
        let kind = arrival.name.get(PACKET_TYPE).copied();
        if self.skip_outgoing && kind == Some(libc::PACKET_OUTGOING) {
            return None;
        }
        if arrival.is_truncated() || arrival.len > self.max_frame {
            self.stats.drops[DropCause::RxTruncated] += 1;
            return None;
        }
        let known = decode(arrival.control);
        let aux = known.auxdata.unwrap_or_default();
        self.tag = vlan(aux.status, aux.vlan_tpid, aux.vlan_tci);
        let mut rx = RxMeta::default();
        rx.timestamp = known.timestamp;
        rx.checksum = checksum(aux.status);
        Some(FrameMeta { rx, tx: TxMeta::default() })
    }

    fn finish(&mut self, frame: &mut UringFrame) {
        if let Some(tag) = self.tag.take() {
            // The headroom was made for it.
            let _there_is_room = restore_vlan(frame, tag);
        }
        self.stats.rx_packets += 1;
        self.stats.rx_bytes += frame.data().len() as u64;
    }

    fn is_about_earlier(&self, _errno: i32) -> bool {
        false
    }
}

impl PacketIo for UringPort {
    type Frame = UringFrame;

    fn recv(&mut self, out: &mut Burst<UringFrame>) -> Result<usize> {
        self.still_there()?;
        let Self { max_frame, skip_outgoing, stats, .. } = self;
        let (max_frame, skip_outgoing) = (*max_frame, *skip_outgoing);
        let mut receive = Frames { max_frame, skip_outgoing, tag: None, stats };
        let received = self.rx.recv(out, &mut receive);
        self.reclaim();
        let explained = received.map_err(|error| match error {
            crate::Error::Os { source, .. } => {
                let link = self.sender.link();
                let attempt = format!("receive on {}", link.name());
                link.explain(self.socket.as_fd(), attempt, source)
            }
            other => core_error(other),
        });
        self.gone |= matches!(explained, Err(Error::NoSuchInterface { .. }));
        explained
    }

    fn alloc(&mut self, out: &mut Burst<UringFrame>, n: usize) -> usize {
        self.rx.pool().alloc(out, n)
    }

    fn send(&mut self, frames: &mut Burst<UringFrame>) -> Result<usize> {
        self.still_there()?;
        self.reclaim();
        if self.tx.is_sqpoll() {
            return self.send_polled(frames);
        }
        match &**frames {
            [only] if goes_as_it_is(only, self.sender.link()) => match self.send_first(frames) {
                Fate::Sent | Fate::Queued => Ok(1),
                // `sendmmsg` finds out why.
                Fate::Refused(_) => self.send_now(frames),
            },
            _ => self.send_now(frames),
        }
    }
}

impl Endpoint for UringPort {
    fn flush(&mut self) -> Result<()> {
        self.rx.ring.submit().map_err(core_error)?;
        self.reclaim();
        Ok(())
    }

    fn wait(&mut self, interest: Interest, timeout: Option<Duration>) -> Result<Ready> {
        self.still_there()?;
        self.stats.syscalls =
            self.stats.syscalls.map(|n| n + u64::from(interest.contains(Interest::TX)));
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
        stats.drops[DropCause::RxQueueFull] = self.read_queue_drops();
        stats.tx_in_flight = self.tx.in_flight().count() as u64;
        stats.frames = Some(self.rx.census(self.tx.sending()));
        stats.syscalls = stats.syscalls.map(|n| n + self.rx.ring.counters().enters);
        stats.wakeups = Some(self.rx.wakeups());
        stats
    }

    fn visit_counters(&self, visit: &mut dyn FnMut(&str, u64)) {
        self.rx.visit_counters(visit);
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
