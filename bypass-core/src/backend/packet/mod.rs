//! Whole frames through the kernel with AF_PACKET (`packet(7)`): runs on every interface, needs
//! CAP_NET_RAW only, and is the fallback where nothing faster is to be had.
//!
//! ```no_run
//! use bypass_core::backend::packet::PacketOptions;
//! use bypass_core::{Buffer, Burst, Endpoint, Interest, PacketIo, PacketIoExt, Verdict, swap_addresses};
//!
//! let mut port = PacketOptions::new("veth0").open()?;
//! let mut burst = Burst::with_capacity(64);
//! loop {
//!     port.wait(Interest::RX, None)?;
//!     port.reflect(&mut burst, |frame| {
//!         swap_addresses(frame);
//!         Verdict::Send
//!     })?;
//! }
//! # #[allow(unreachable_code)]
//! # Ok::<(), bypass_core::Error>(())
//! ```
//!
//! The port is a tap: the kernel's own stack receives the same frames, and answers them where it
//! has an address.
//!
//! # How frames move, and why
//!
//! The kernel writes received frames into a ring that it shares with the port (`TPACKET_V2`); the
//! port copies them into buffers of its pool, because a frame that stayed in the ring while the
//! application holds it would block those behind it. Looking for frames costs no system call.
//! Frames are sent with `sendmmsg(2)`. Measured on a veth pair (Linux 6.18, two cores, batches of
//! 64, a receiver that sleeps when there is nothing): CPU time of both cores per frame received,
//! relative to `recvmmsg`, and the round trip of one frame while both ends spin:
//!
//! | receiving by | 60 B | 1514 B | round trip p50 |
//! |---|---|---|---|
//! | `recvmmsg` | 1 | 1 | 3.3 µs |
//! | ring, version 2, and a copy | 0.85 to 0.95 | 0.7 to 0.8 | 1.6 µs |
//! | ring, version 3, and a copy | 0.4 to 0.5 | 0.5 to 0.6 | 1 000 µs |
//!
//! Version 3 hands over whole blocks, and one that is not full only after a timer of at least a
//! millisecond: good for capturing, useless for answering. The send ring costs the sender's core a
//! tenth more than `sendmmsg` or worse.
//!
//! What it does not do: checksum and segmentation offload (`PACKET_VNET_HDR`), hardware timestamps,
//! packet filters. Frames that this machine sent come with
//! [`NotNeeded`](crate::ChecksumVerdict::NotNeeded) where their checksum was left to the device.
//!
//! After `fork(2)` the port stays the parent's: parent and child share the ring's memory, so frames
//! that the child took would be missing in the parent, and counted nowhere. A child that does not
//! `exec` at once opens a port of its own.
//!
//! A frame belongs to its backend:
//!
//! ```compile_fail,E0308
//! # use bypass_core::backend::{memory::MemoryPort, packet::PacketPort};
//! # use bypass_core::{Burst, PacketIo};
//! fn forward(from: &mut PacketPort, to: &mut MemoryPort) -> bypass_core::Result<()> {
//!     let mut burst = Burst::with_capacity(32);
//!     from.recv(&mut burst)?;
//!     to.send(&mut burst)?; // error: expected `Burst<PoolBuf<Memory>>`
//!     Ok(())
//! }
//! ```
//!
//! [`PacketIoExt::import`](crate::PacketIoExt::import) copies one across.

mod link;
mod options;
mod tx;

use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

pub use self::link::Link;
pub use self::options::{ConfiguredPacket, Fanout, FanoutMode, PacketOptions};
pub use self::tx::FrameSender;
use crate::pool::{FrameMeta, Kind, Pool, PoolBuf};
use crate::sys::{self, PacketRing, RingFrame, option, restore_vlan};
use crate::{
    Buffer, Burst, Caps, DropCause, Endpoint, Error, Interest, Occupancy, PacketIo, Ready, Result,
    RxMeta, RxOffloads, Stats, TxMeta,
};

/// Marks the pools and frames of this backend.
#[derive(Clone, Copy, Debug)]
pub struct Packet;

impl Kind for Packet {
    type Meta = FrameMeta;
    const BACKEND: &'static str = "packet";
}

/// The frame of this backend.
pub type PacketFrame = PoolBuf<Packet>;

/// Bytes of ring where no number of frames is asked for.
const RING_BYTES: usize = 8 << 20;

/// How many calls of `recv` that find nothing go by before one asks whether the link is still
/// there: a busy loop hears of it within a fraction of a millisecond, at no cost that shows.
const IDLE_CALLS: u32 = 4096;

/// An AF_PACKET port.
///
/// - When the interface goes down, `recv` says so once and then finds nothing, and `send` says so
///   each time, taking nothing; when it is up again, both go on.
/// - When the interface is removed, every call answers [`Error::NoSuchInterface`].
/// - Frames for which the ring had no room are in [`DropCause::RxQueueFull`].
/// - A VLAN tag that the kernel took out of a frame is put back in.
#[derive(Debug)]
pub struct PacketPort {
    socket: OwnedFd,
    ring: PacketRing,
    pool: Pool<Packet>,
    sender: FrameSender,
    skip_outgoing: bool,
    /// The interface was removed.
    gone: bool,
    /// Calls of `recv` that found nothing since the socket was last asked for its error.
    idle: u32,
    caps: Caps,
    stats: Stats,
    /// How often there was no buffer to receive into.
    dry: u64,
    ring_drops: Cell<u64>,
}

impl PacketPort {
    fn new(mut configured: ConfiguredPacket, options: &PacketOptions) -> Result<Self> {
        let pool = Pool::new(&configured.pool)?;
        let link = &configured.link;
        let max_frame = configured.max_frame;
        let slots = options.ring.unwrap_or((RING_BYTES / max_frame.max(1)) as u32);
        let ring =
            PacketRing::new(configured.socket.as_fd(), slots, max_frame).map_err(|error| {
                let what =
                    format!("map a ring of {slots} frames of {max_frame} bytes on {}", link.name());
                Error::os(what, error).with_remedy("ask for a smaller `ring` or `max_frame`")
            })?;
        let max_len = link.max_len().min(pool.data_room() as usize);
        let mut caps = Caps::new(Packet::BACKEND, max_len, pool.headroom() as usize);
        caps.rx_copies = 2;
        caps.max_segments = tx::MAX_SEGMENTS;
        caps.rx_offloads = RxOffloads::CHECKSUM | RxOffloads::TIMESTAMP;
        options.bind(&mut configured)?;
        caps.fallbacks = configured.fallbacks;
        caps.fallbacks.extend(pool.arena().fallback().map(str::to_owned));
        Ok(Self {
            socket: configured.socket,
            ring,
            pool,
            sender: FrameSender::new(configured.link, options.batch),
            skip_outgoing: configured.skip_outgoing,
            gone: false,
            idle: 0,
            caps,
            stats: Stats { syscalls: Some(0), wakeups: Some(0), ..Stats::default() },
            dry: 0,
            ring_drops: Cell::new(0),
        })
    }

    /// How many frames the receive ring holds.
    #[must_use]
    pub fn ring_len(&self) -> usize {
        self.ring.slots()
    }

    /// Copies frames out of the ring as long as there are frames, buffers and room, but goes around
    /// it once at most: frames that are not handed out could keep coming for ever.
    fn drain(&mut self, out: &mut Burst<PacketFrame>) {
        for _ in 0..self.ring.slots() {
            if out.is_full() {
                return;
            }
            let Some(slot) = self.ring.peek() else { return };
            if self.skip_outgoing && slot.is_outgoing() {
                slot.release();
                continue;
            }
            let Some(mut frame) = self.pool.alloc_rx() else {
                self.dry += 1;
                return;
            };
            let outcome = copy(&slot, &mut frame);
            slot.release();
            match outcome {
                Ok(()) => {
                    self.stats.rx_packets += 1;
                    self.stats.rx_bytes += frame.data().len() as u64;
                    let _room_was_checked = out.push(frame);
                }
                Err(cause) => self.stats.drops[cause] += 1,
            }
        }
    }

    /// Asks the socket for the error that is pending there.
    fn check_link(&mut self) -> Result<()> {
        self.idle = 0;
        self.stats.syscalls = self.stats.syscalls.map(|n| n + 2);
        let (socket, link) = (self.socket.as_fd(), self.sender.link());
        self.gone = link.is_gone(socket);
        self.still_there()?;
        option::take_error(socket).map_or(Ok(()), |error| {
            Err(link.explain(socket, format!("receive on {}", link.name()), error))
        })
    }

    fn still_there(&self) -> Result<()> {
        if self.gone {
            let name = self.sender.link().name().to_owned();
            let attempt = "use an AF_PACKET port whose interface was removed".into();
            return Err(Error::NoSuchInterface { attempt, name });
        }
        Ok(())
    }

    fn read_ring_drops(&self) -> u64 {
        let new = option::packet_drops(self.socket.as_fd()).unwrap_or(0);
        self.ring_drops.set(self.ring_drops.get() + u64::from(new));
        self.ring_drops.get()
    }
}

/// Copies a frame out of the ring, or says why it cannot be handed out.
fn copy(slot: &RingFrame<'_>, frame: &mut PacketFrame) -> std::result::Result<(), DropCause> {
    if slot.is_truncated() {
        return Err(DropCause::RxTruncated);
    }
    let data = slot.data().ok_or(DropCause::RxInvalid)?;
    frame.fill(data).map_err(|_| DropCause::RxTruncated)?;
    if let Some(tag) = slot.vlan() {
        restore_vlan(frame, tag).map_err(|_| DropCause::RxTruncated)?;
    }
    let rx = RxMeta {
        timestamp: Some(slot.timestamp()),
        checksum: slot.checksum(),
        ..RxMeta::default()
    };
    frame.set_meta(FrameMeta { rx, tx: TxMeta::default() });
    Ok(())
}

impl PacketIo for PacketPort {
    type Frame = PacketFrame;

    fn recv(&mut self, out: &mut Burst<PacketFrame>) -> Result<usize> {
        self.still_there()?;
        let before = out.len();
        self.drain(out);
        let received = out.len() - before;
        if received > 0 {
            self.idle = 0;
        } else if !out.is_full() {
            self.idle += 1;
            if self.idle >= IDLE_CALLS {
                self.check_link()?;
            }
        }
        Ok(received)
    }

    fn alloc(&mut self, out: &mut Burst<PacketFrame>, n: usize) -> usize {
        self.pool.alloc(out, n)
    }

    fn send(&mut self, frames: &mut Burst<PacketFrame>) -> Result<usize> {
        let sent = self.sender.send(self.socket.as_fd(), frames, &mut self.stats);
        self.gone |= matches!(sent, Err(Error::NoSuchInterface { .. }));
        sent
    }
}

impl Endpoint for PacketPort {
    /// Does nothing: `send` has handed everything to the kernel.
    fn flush(&mut self) -> Result<()> {
        Ok(())
    }

    fn wait(&mut self, interest: Interest, timeout: Option<Duration>) -> Result<Ready> {
        self.still_there()?;
        if interest == Interest::RX && !self.ring.is_empty() {
            return Ok(Ready::RX);
        }
        self.stats.syscalls = self.stats.syscalls.map(|n| n + 1);
        self.stats.wakeups = self.stats.wakeups.map(|n| n + 1);
        let ready =
            sys::wait(self.socket.as_fd(), interest, timeout, "wait for an AF_PACKET socket")?;
        if ready.contains(Ready::RX) && self.ring.is_empty() {
            // It was woken by an error; let `recv` find it.
            self.idle = IDLE_CALLS;
        }
        Ok(ready)
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket.as_fd())
    }

    fn caps(&self) -> &Caps {
        &self.caps
    }

    fn stats(&self) -> Stats {
        let mut stats = self.stats;
        stats.drops[DropCause::RxQueueFull] = self.read_ring_drops();
        stats.frames = Some(self.pool.census());
        stats
    }

    fn visit_counters(&self, visit: &mut dyn FnMut(&str, u64)) {
        visit("recv_dry", self.dry);
    }

    /// `rx`: the ring that the kernel fills.
    fn visit_rings(&self, visit: &mut dyn FnMut(&str, Occupancy)) {
        let (used, size) = (self.ring.waiting() as u64, self.ring.slots() as u64);
        visit("rx", Occupancy { used, size });
    }
}
