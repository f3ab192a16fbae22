//! [`MemoryPort`]: an open end of a memory link.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rtrb::{Consumer, Producer};
use rustix::io::Errno;

use super::bell::Bell;
use super::faults::Injector;
use super::{LinkOptions, Memory, MemoryEnd, MemoryFrame, Wire, join};
use crate::pool::{Kind, Pool};
use crate::{
    Buffer, Burst, Caps, DropCause, Endpoint, Error, FrameCensus, FrameError, Interest, Occupancy,
    PacketIo, Ready, Result, Stats, Unsupported,
};

impl MemoryEnd {
    /// How the link was made.
    #[must_use]
    pub fn options(&self) -> &LinkOptions {
        &self.options
    }

    /// Whether the other end is gone, and nothing is left of what it sent.
    #[must_use]
    pub fn is_disconnected(&self) -> bool {
        self.rx.is_abandoned() && self.rx.is_empty()
    }

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
            partial: None,
            caps,
            stats: Stats { syscalls: Some(0), wakeups: Some(0), ..Stats::default() },
            starved: 0,
        })
    }
}

/// An end of a memory link.
///
/// When the other end is closed, `recv` hands out what is still on the cable and then fails, as
/// `send` does at once; `wait` does not sleep any more.
#[derive(Debug)]
pub struct MemoryPort {
    tx: Producer<Wire>,
    rx: Consumer<Wire>,
    /// Behind the cable: see `Bell::drop`.
    bell: Bell,
    ring: usize,
    pool: Pool<Memory>,
    /// The first segments of a frame of which the rest is still to be taken off the cable.
    partial: Option<MemoryFrame>,
    injector: Injector,
    caps: Caps,
    stats: Stats,
    /// Calls of `recv` that left frames on the cable because the pool was empty.
    starved: u64,
}

impl MemoryPort {
    /// The port's pool.
    #[must_use]
    pub fn pool(&self) -> &Pool<Memory> {
        &self.pool
    }

    /// Copies the next frame off the cable and counts the segments in `taken`; `None` when it has
    /// not wholly arrived, or there is no memory for the rest of it now.
    fn receive_one(&mut self, taken: &mut usize) -> Option<MemoryFrame> {
        loop {
            let wire = self.rx.peek().ok()?;
            let Some(mut segment) = self.pool.alloc_rx() else {
                self.starved += 1;
                return None;
            };
            // `check` at the other end, whose chunks are as large, made sure of it.
            let _it_fits = segment.fill(wire.segment.data());
            let more = wire.more;
            let _done_with = self.rx.pop();
            *taken += 1;
            let frame = join(self.partial.take(), segment);
            if !more {
                return Some(frame);
            }
            self.partial = Some(frame);
        }
    }

    /// The number of segments of a frame that can be sent.
    fn check(&self, frame: &MemoryFrame) -> Result<usize, FrameError> {
        let (mut len, mut longest, mut segments) = (0, 0, 0);
        for segment in frame.segments() {
            len += segment.len();
            longest = longest.max(segment.len());
            segments += 1;
        }
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
        // A segment that grew into its headroom would not fit behind the receiver's.
        let max = self.pool.data_room() as usize;
        if longest > max {
            return Err(FrameError::TooLong { len: longest, max });
        }
        Ok(segments)
    }

    /// Whether the cable has room for a frame of so many segments, and for those that a fault may
    /// put beside it.
    fn has_room(&self, segments: usize) -> bool {
        let beside = (self.injector.most_frames() - 1) * self.caps.max_segments;
        self.tx.slots() >= beside + segments
    }

    /// Sends a frame that the cable has room for.
    fn transmit(&mut self, frame: MemoryFrame) {
        self.stats.tx_packets += 1;
        self.stats.tx_bytes += frame.total_len() as u64;
        self.lay(frame);
    }

    /// Puts the segments of a frame on the cable, which has room for them.
    fn lay(&mut self, mut frame: MemoryFrame) {
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

    fn ready(&self, interest: Interest) -> Ready {
        let mut ready = Ready::empty();
        let readable = || !self.rx.is_empty() || self.rx.is_abandoned();
        let writable = || {
            let room = self.has_room(self.caps.max_segments) && self.pool.available() > 0;
            room || self.tx.is_abandoned()
        };
        ready.set(Ready::RX, interest.contains(Interest::RX) && readable());
        ready.set(Ready::TX, interest.contains(Interest::TX) && writable());
        ready
    }

    fn count_syscalls(&mut self, n: u64) {
        self.stats.syscalls = self.stats.syscalls.map(|so_far| so_far + n);
    }
}

fn closed(attempt: &'static str) -> Error {
    Error::os(attempt, Errno::NETDOWN).with_remedy("the other end is closed: make a new link")
}

impl PacketIo for MemoryPort {
    type Frame = MemoryFrame;

    fn recv(&mut self, out: &mut Burst<MemoryFrame>) -> Result<usize> {
        if self.rx.is_empty() {
            self.count_syscalls(self.bell.settle(|| self.rx.is_empty()));
            // Looked at in this order, what was sent before the end was closed is not missed.
            if self.rx.is_abandoned() && self.rx.is_empty() {
                return Err(closed("receive on a memory link"));
            }
        }
        let (mut n, mut taken) = (0, 0);
        while !out.is_full()
            && let Some(frame) = self.receive_one(&mut taken)
        {
            self.stats.rx_packets += 1;
            self.stats.rx_bytes += frame.total_len() as u64;
            let _room_was_checked = out.push(frame);
            n += 1;
        }
        if taken > 0 {
            self.count_syscalls(self.bell.ring());
        }
        Ok(n)
    }

    fn alloc(&mut self, out: &mut Burst<MemoryFrame>, n: usize) -> usize {
        self.pool.alloc(out, n)
    }

    fn send(&mut self, frames: &mut Burst<MemoryFrame>) -> Result<usize> {
        if self.tx.is_abandoned() {
            return Err(closed("send on a memory link"));
        }
        let mut taken = 0;
        while let Some(first) = frames.first() {
            let segments = match self.check(first) {
                Ok(segments) => segments,
                Err(_) if taken > 0 => break,
                Err(cause) => return Err(Error::frame("send a frame", Memory::BACKEND, cause)),
            };
            if !self.has_room(segments) || self.injector.refuses() {
                break;
            }
            let Some(frame) = frames.pop_front() else { break };
            taken += 1;
            let fate = self.injector.decide(frame, &self.pool);
            self.stats.drops[DropCause::Injected] += u64::from(fate.lost);
            if let Some(frame) = fate.frame {
                self.transmit(frame);
            }
            if let Some(twin) = fate.twin {
                self.lay(twin);
            }
            if let Some(late) = fate.late {
                self.transmit(late);
            }
        }
        if taken > 0 {
            self.count_syscalls(self.bell.ring());
        }
        Ok(taken)
    }
}

impl Endpoint for MemoryPort {
    fn flush(&mut self) -> Result<()> {
        if self.tx.slots() >= self.caps.max_segments
            && let Some(frame) = self.injector.take_held()
        {
            self.transmit(frame);
            self.count_syscalls(self.bell.ring());
        }
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
            let rang = self.bell.sleep(left)?;
            // The sleep, and the reading of the bell.
            self.count_syscalls(1 + u64::from(rang));
            self.stats.wakeups = self.stats.wakeups.map(|n| n + 1);
            if !rang {
                return Ok(self.ready(interest));
            }
        }
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.bell.watch(|| !self.rx.is_empty()))
    }

    fn caps(&self) -> &Caps {
        &self.caps
    }

    fn stats(&self) -> Stats {
        let on_cable = self.ring - self.tx.slots();
        let held_back = self.injector.held().map_or(0, |frame| frame.segments().count());
        let arriving = self.partial.as_ref().map_or(0, |frame| frame.segments().count()) as u64;
        let census = self.pool.census();
        // The other end may give chunks back between the two counts.
        let tx_in_flight = ((on_cable + held_back) as u64).min(census.held - arriving);
        let held = census.held - arriving - tx_in_flight;
        let frames = FrameCensus { held, rx_posted: arriving, tx_in_flight, ..census };
        let tx_in_flight = u64::from(self.injector.held().is_some());
        Stats { frames: Some(frames), tx_in_flight, ..self.stats }
    }

    fn visit_counters(&self, visit: &mut dyn FnMut(&str, u64)) {
        visit("rx_waits_for_memory", self.starved);
        self.injector.visit_counters(visit);
    }

    /// `tx`: the cable, as far as the other end has not received what is on it.
    fn visit_rings(&self, visit: &mut dyn FnMut(&str, Occupancy)) {
        let (used, size) = ((self.ring - self.tx.slots()) as u64, self.ring as u64);
        visit("tx", Occupancy { used, size });
    }
}

impl Drop for MemoryPort {
    /// What nobody will receive any more goes back to the pool that it came from.
    fn drop(&mut self) {
        while self.rx.pop().is_ok() {}
    }
}
