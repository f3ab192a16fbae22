//! [`Broken`]: a packet queue that is wrong on purpose.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use crate::{Buffer, Burst, Caps, DropCause, Endpoint, Interest, PacketIo, Ready, Result, Stats};

/// What is wrong with it. Each is a mistake that a published wrapper has made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Defect {
    /// Hands two packets out in the wrong order.
    Reorders,
    /// Changes a byte of what it receives.
    Corrupts,
    /// Cuts the last byte off what it sends.
    Truncates,
    /// Frees what the queue refused.
    DropsRefused,
    /// Pretends that a packet which cannot be sent was sent.
    SwallowsUnsendable,
    /// Receives even when there is no room, and loses what it received.
    OverfillsBursts,
    /// `recv` waits for packets.
    BlocksInRecv,
    /// Allocates one buffer more than was asked for.
    OverAllocates,
    /// Claims more headroom than there is.
    ClaimsHeadroom,
    /// Keeps a buffer of every burst for itself.
    LeaksBuffers,
    /// Refuses to receive while the application holds allocated buffers.
    StarvesRecv,
    /// Counts packets twice.
    MiscountsPackets,
    /// Says that there is a packet when there is none.
    WakesForNothing,
    /// Sleeps through packets.
    NeverWakes,
    /// Never has room to send.
    NeverWritable,
    /// Has a descriptor that is never readable.
    DeafDescriptor,
    /// Panics when it is closed while the application still holds buffers.
    PanicsOnClose,
}

impl Defect {
    /// Every defect.
    pub const ALL: &[Self] = &[
        Self::Reorders,
        Self::Corrupts,
        Self::Truncates,
        Self::DropsRefused,
        Self::SwallowsUnsendable,
        Self::OverfillsBursts,
        Self::BlocksInRecv,
        Self::OverAllocates,
        Self::ClaimsHeadroom,
        Self::LeaksBuffers,
        Self::StarvesRecv,
        Self::MiscountsPackets,
        Self::WakesForNothing,
        Self::NeverWakes,
        Self::NeverWritable,
        Self::DeafDescriptor,
        Self::PanicsOnClose,
    ];
}

/// A sound backend with a defect on top.
#[derive(Debug)]
pub struct Broken<P: PacketIo> {
    inner: P,
    defect: Defect,
    caps: Caps,
    deaf: std::os::fd::OwnedFd,
}

impl<P: PacketIo> Broken<P> {
    /// Breaks `inner`.
    ///
    /// # Errors
    ///
    /// When the process has no descriptor left.
    pub fn new(inner: P, defect: Defect) -> Result<Self> {
        let mut caps = inner.caps().clone();
        if defect == Defect::ClaimsHeadroom {
            caps.headroom += 1;
        }
        let deaf = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC)
            .map_err(|error| crate::Error::os("make an eventfd", error))?;
        Ok(Self { inner, defect, caps, deaf })
    }

    fn is(&self, defect: Defect) -> bool {
        self.defect == defect
    }
}

impl<P: PacketIo> PacketIo for Broken<P> {
    type Frame = P::Frame;

    fn recv(&mut self, out: &mut Burst<P::Frame>) -> Result<usize> {
        match self.defect {
            Defect::OverfillsBursts if out.is_full() => {
                return self.inner.recv(&mut Burst::with_capacity(1));
            }
            Defect::BlocksInRecv => {
                self.inner.wait(Interest::RX, Some(Duration::from_millis(30)))?;
            }
            Defect::StarvesRecv if self.inner.stats().frames.is_some_and(|f| f.held > 64) => {
                return Ok(0);
            }
            _ => {}
        }
        let n = self.inner.recv(out)?;
        let new = out.len() - n;
        match self.defect {
            Defect::Reorders if n > 1 => out[new..].swap(0, 1),
            Defect::Corrupts if n > 0 => {
                if let Some(last) = out[new].data_mut().last_mut() {
                    *last ^= 1;
                }
            }
            Defect::LeaksBuffers if n > 0 => std::mem::forget(out.pop_back()),
            _ => {}
        }
        Ok(n)
    }

    fn alloc(&mut self, out: &mut Burst<P::Frame>, n: usize) -> usize {
        self.inner.alloc(out, n + usize::from(self.is(Defect::OverAllocates)))
    }

    fn send(&mut self, frames: &mut Burst<P::Frame>) -> Result<usize> {
        if self.is(Defect::Truncates) {
            for frame in frames.iter_mut() {
                let len = frame.data().len();
                // An empty frame has nothing to cut.
                let _empty = frame.set_len(len.saturating_sub(1));
            }
        }
        let before = frames.len();
        match self.inner.send(frames) {
            Ok(n) if n < before && self.is(Defect::DropsRefused) => {
                frames.clear();
                Ok(before)
            }
            Err(crate::Error::Frame { .. }) if self.is(Defect::SwallowsUnsendable) => {
                frames.clear();
                Ok(before)
            }
            other => other,
        }
    }
}

impl<P: PacketIo> Endpoint for Broken<P> {
    fn flush(&mut self) -> Result<()> {
        self.inner.flush()
    }

    fn wait(&mut self, interest: Interest, timeout: Option<Duration>) -> Result<Ready> {
        match self.defect {
            Defect::WakesForNothing if interest.contains(Interest::RX) => Ok(Ready::RX),
            Defect::NeverWakes if interest.contains(Interest::RX) => {
                std::thread::sleep(timeout.unwrap_or_default().min(Duration::from_millis(30)));
                Ok(Ready::empty())
            }
            Defect::NeverWritable if interest.contains(Interest::TX) => Ok(Ready::empty()),
            _ => self.inner.wait(interest, timeout),
        }
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        use std::os::fd::AsFd;
        if self.is(Defect::DeafDescriptor) {
            return Some(self.deaf.as_fd());
        }
        self.inner.as_fd()
    }

    fn caps(&self) -> &Caps {
        &self.caps
    }

    fn stats(&self) -> Stats {
        let mut stats = self.inner.stats();
        if self.is(Defect::MiscountsPackets) {
            stats.rx_packets *= 2;
            stats.drops[DropCause::RxError] += 1;
        }
        stats
    }
}

impl<P: PacketIo> Drop for Broken<P> {
    fn drop(&mut self) {
        let held = self.inner.stats().frames.is_some_and(|census| census.held > 0);
        let panics = self.is(Defect::PanicsOnClose) && held && !std::thread::panicking();
        assert!(!panics, "closed while buffers are out");
    }
}
