//! Two linked ports in memory: for tests, for simulations, and to measure what the traits cost.
//!
//! A link behaves like a cable between two network cards: what one end sends the other receives,
//! in order, nothing is lost unless [`Faults`] say so, and a full cable pushes back. Its ends may
//! be on different threads.
//!
//! ```
//! use bypass_core::backend::memory::{link, LinkOptions};
//! use bypass_core::{Buffer, Burst, PacketIo};
//!
//! let (a, b) = link(&LinkOptions::default())?;
//! let (mut a, mut b) = (a.open()?, b.open()?);
//! let mut burst = Burst::with_capacity(32);
//! a.alloc(&mut burst, 1);
//! burst[0].fill(&[0xff; 60])?;
//! a.send(&mut burst)?;
//! assert_eq!(b.recv(&mut burst)?, 1);
//! assert_eq!(burst[0].data(), [0xff; 60]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod bell;
mod faults;

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rtrb::{Consumer, Producer, RingBuffer};
use rustix::io::Errno;

use self::bell::{Bell, bells};
pub use self::faults::Faults;
use self::faults::Injector;
use crate::pool::{Detached, FrameMeta, Kind, Pool, PoolBuf, PoolOptions};
use crate::{
    Buffer, Burst, Caps, DropCause, Endpoint, Error, FrameCensus, FrameError, Interest, PacketIo,
    Ready, Result, Stats, Unsupported,
};

/// Marks the pools and frames of this backend.
#[derive(Clone, Copy, Debug)]
pub struct Memory;

impl Kind for Memory {
    type Meta = FrameMeta;
    const BACKEND: &'static str = "memory";
}

/// The frame of this backend.
pub type MemoryFrame = PoolBuf<Memory>;

/// How a link is made; both ends are alike.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkOptions {
    /// Segments that the cable holds in each direction before `send` refuses.
    pub ring: usize,
    /// The pool of each end.
    pub pool: PoolOptions,
    /// The longest frame in bytes, over all its segments.
    pub max_len: usize,
    /// The most segments in a frame.
    pub max_segments: usize,
    /// What goes wrong, on purpose, with what each end sends.
    pub faults: Faults,
}

impl Default for LinkOptions {
    /// 256 frames on the cable, 1 024 in each pool, frames up to 1 518 bytes in one segment, no
    /// faults.
    fn default() -> Self {
        Self {
            ring: 256,
            pool: PoolOptions::new(1024),
            max_len: 1518,
            max_segments: 1,
            faults: Faults::default(),
        }
    }
}

/// One segment on the cable.
#[derive(Debug)]
struct Wire {
    segment: Detached<Memory>,
    /// Another segment of the same frame follows.
    more: bool,
}

/// An end that is not open yet: it can be taken to the thread that will drive it.
#[derive(Debug)]
pub struct MemoryEnd {
    tx: Producer<Wire>,
    rx: Consumer<Wire>,
    bell: Bell,
    options: LinkOptions,
    seed: u64,
}

/// Makes a link.
///
/// # Errors
///
/// [`Error::Config`] for a cable that holds less than one frame; [`Error::Os`] when the process
/// has no descriptor left.
pub fn link(options: &LinkOptions) -> Result<(MemoryEnd, MemoryEnd)> {
    if options.max_segments == 0 || options.ring < options.max_segments {
        let why = "the cable must hold one frame of `max_segments` segments";
        return Err(Error::config("ring", options.ring, why));
    }
    let (a_tx, b_rx) = RingBuffer::new(options.ring);
    let (b_tx, a_rx) = RingBuffer::new(options.ring);
    let (a_bell, b_bell) = bells()?;
    let end = |tx, rx, bell, seed| MemoryEnd { tx, rx, bell, options: options.clone(), seed };
    let seed = options.faults.seed;
    Ok((end(a_tx, a_rx, a_bell, seed), end(b_tx, b_rx, b_bell, seed.wrapping_add(1))))
}

impl MemoryEnd {
    /// Makes the port, on the thread that will drive it.
    ///
    /// # Errors
    ///
    /// As [`Pool::new`].
    pub fn open(self) -> Result<MemoryPort> {
        let options = self.options;
        let pool = Pool::new(&options.pool)?;
        let mut caps = Caps::new(Memory::BACKEND, options.max_len, options.pool.headroom as usize);
        caps.tx_copies = 0;
        caps.max_segments = options.max_segments;
        caps.fallbacks.extend(pool.arena().fallback().map(str::to_owned));
        Ok(MemoryPort {
            injector: Injector::new(options.faults, self.seed),
            ring: options.ring,
            tx: self.tx,
            rx: self.rx,
            bell: self.bell,
            pool,
            caps,
            stats: Stats { syscalls: Some(0), ..Stats::default() },
        })
    }
}

/// An end of a memory link.
#[derive(Debug)]
pub struct MemoryPort {
    tx: Producer<Wire>,
    rx: Consumer<Wire>,
    ring: usize,
    bell: Bell,
    pool: Pool<Memory>,
    injector: Injector,
    caps: Caps,
    stats: Stats,
}

impl MemoryPort {
    /// The port's pool.
    #[must_use]
    pub fn pool(&self) -> &Pool<Memory> {
        &self.pool
    }

    /// Copies the next frame off the cable; `None` when there is none, or no memory for it now.
    fn receive_one(&mut self) -> Option<MemoryFrame> {
        let mut head: Option<MemoryFrame> = None;
        loop {
            // A frame's segments are put on the cable together, so the rest is there with the first.
            let wire = self.rx.peek().ok()?;
            let more = wire.more;
            // Out of memory in the middle of a frame: what was copied so far goes back to the pool,
            // and the segments that are gone are counted as one lost frame.
            let Some(mut frame) = self.pool.alloc_rx() else {
                if head.is_some() {
                    self.skip_frame();
                }
                return None;
            };
            let copied = frame.fill(wire.segment.data()).is_ok();
            let _done_with = self.rx.pop();
            if !copied {
                self.stats.drops[DropCause::RxTruncated] += 1;
                if more {
                    self.discard_rest();
                }
                head = None;
                continue;
            }
            match &mut head {
                None => head = Some(frame),
                Some(first) => {
                    let _same_pool = first.chain(frame);
                }
            }
            if !more {
                return head;
            }
        }
    }

    fn skip_frame(&mut self) {
        self.stats.drops[DropCause::RxNoFrame] += 1;
        self.discard_rest();
    }

    fn discard_rest(&mut self) {
        while let Ok(wire) = self.rx.pop() {
            if !wire.more {
                break;
            }
        }
    }

    fn check(&self, frame: &MemoryFrame) -> Result<usize, FrameError> {
        let (len, segments) = (frame.total_len(), frame.segments().count());
        if len == 0 {
            return Err(FrameError::TooShort { len, min: 1 });
        }
        if len > self.caps.max_len {
            return Err(FrameError::TooLong { len, max: self.caps.max_len });
        }
        if segments > self.caps.max_segments {
            return Err(FrameError::Unsupported(Unsupported {
                what: format!("frame of {segments} segments").into(),
                backend: Memory::BACKEND,
                why: format!("`max_segments` of this link is {}", self.caps.max_segments).into(),
            }));
        }
        Ok(segments)
    }

    /// Puts a frame on the cable, which has room for all its segments.
    fn transmit(&mut self, mut frame: MemoryFrame) {
        self.stats.tx_packets += 1;
        self.stats.tx_bytes += frame.total_len() as u64;
        loop {
            let next = frame.split_next();
            let more = next.is_some();
            if let Ok(segment) = frame.detach() {
                let _room_was_checked = self.tx.push(Wire { segment, more });
            }
            match next {
                Some(rest) => frame = rest,
                None => return,
            }
        }
    }

    /// Sends what the injector held back, if there is room.
    fn release_held(&mut self) {
        if self.tx.slots() >= self.caps.max_segments
            && let Some(frame) = self.injector.take_held()
        {
            self.transmit(frame);
        }
    }

    fn ready(&self, interest: Interest) -> Ready {
        let mut ready = Ready::empty();
        ready.set(Ready::RX, interest.contains(Interest::RX) && !self.rx.is_empty());
        let writable = || {
            self.tx.is_abandoned()
                || (self.tx.slots() >= self.caps.max_segments && self.pool.available() > 0)
        };
        ready.set(Ready::TX, interest.contains(Interest::TX) && writable());
        ready
    }
}

impl PacketIo for MemoryPort {
    type Frame = MemoryFrame;

    fn recv(&mut self, out: &mut Burst<MemoryFrame>) -> Result<usize> {
        let mut n = 0;
        if self.rx.is_empty() {
            self.stats.syscalls = self.stats.syscalls.map(|n| n + self.bell.settle());
        }
        while !out.is_full()
            && let Some(frame) = self.receive_one()
        {
            self.stats.rx_packets += 1;
            self.stats.rx_bytes += frame.total_len() as u64;
            let _room_was_checked = out.push(frame);
            n += 1;
        }
        if n > 0 {
            self.stats.syscalls = self.stats.syscalls.map(|n| n + self.bell.ring());
        }
        Ok(n)
    }

    fn alloc(&mut self, out: &mut Burst<MemoryFrame>, n: usize) -> usize {
        self.pool.alloc(out, n)
    }

    fn send(&mut self, frames: &mut Burst<MemoryFrame>) -> Result<usize> {
        if self.tx.is_abandoned() {
            return Err(Error::os(
                "send on a memory link whose other end is closed",
                Errno::NETDOWN,
            ));
        }
        let mut taken = 0;
        while let Some(first) = frames.first() {
            let segments = match self.check(first) {
                Ok(segments) => segments,
                Err(_) if taken > 0 => break,
                Err(cause) => return Err(Error::frame("send a frame", Memory::BACKEND, cause)),
            };
            // A fault may put two more frames on the cable beside this one.
            let room = self.injector.extra_frames() * self.caps.max_segments + segments;
            if self.tx.slots() < room || self.injector.refuses() {
                break;
            }
            let Some(frame) = frames.pop_front() else { break };
            taken += 1;
            let fate = self.injector.decide(frame, &self.pool);
            self.stats.drops[DropCause::Injected] += u64::from(fate.lost);
            for frame in fate.send.into_iter().flatten() {
                self.transmit(frame);
            }
        }
        if taken > 0 {
            self.stats.syscalls = self.stats.syscalls.map(|n| n + self.bell.ring());
        }
        Ok(taken)
    }
}

impl Endpoint for MemoryPort {
    fn flush(&mut self) -> Result<()> {
        self.release_held();
        self.stats.syscalls = self.stats.syscalls.map(|n| n + self.bell.ring());
        Ok(())
    }

    fn wait(&mut self, interest: Interest, timeout: Option<Duration>) -> Result<Ready> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            let ready = self.ready(interest);
            if !ready.is_empty() {
                return Ok(ready);
            }
            self.bell.arm();
            let ready = self.ready(interest);
            if !ready.is_empty() {
                return Ok(ready);
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            self.stats.syscalls = self.stats.syscalls.map(|n| n + 1);
            if !self.bell.sleep(left)? {
                return Ok(self.ready(interest));
            }
        }
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.bell.watch(!self.rx.is_empty()))
    }

    fn caps(&self) -> &Caps {
        &self.caps
    }

    fn stats(&self) -> Stats {
        let on_cable = (self.ring - self.tx.slots()) as u64;
        let held_back = u64::from(self.injector.holds());
        let census = self.pool.census();
        let in_flight = (on_cable + held_back).min(census.held);
        let frames =
            FrameCensus { held: census.held - in_flight, tx_in_flight: in_flight, ..census };
        Stats { frames: Some(frames), tx_in_flight: held_back, ..self.stats }
    }

    fn visit_counters(&self, visit: &mut dyn FnMut(&str, u64)) {
        self.injector.visit_counters(visit);
    }
}

#[cfg(test)]
mod tests;
