//! [`PacketIo`]: the seam for whole layer-2 frames.

use crate::{Buffer, Burst, Endpoint, Error, Frame, FrameError, Result};

/// Moves owned layer-2 frames in bursts through one RX/TX queue pair.
///
/// Code written against this trait runs on AF_XDP, DPDK, io_uring, plain AF_PACKET and memory, and
/// compiles to the same work as a direct call; `Box<dyn PacketIo<Frame = F>>` works too.
///
/// ```
/// use bypass_core::{Buffer, Burst, PacketIo, PacketIoExt, Result};
///
/// /// Sends everything back to where it came from. What the queue refuses stays in the burst.
/// fn bounce<P: PacketIo>(port: &mut P, burst: &mut Burst<P::Frame>) -> Result<usize> {
///     port.recv(burst)?;
///     burst.iter_mut().for_each(bypass_core::swap_addresses);
///     let sent = port.send(burst)?;
///     port.flush()?;
///     Ok(sent)
/// }
/// ```
pub trait PacketIo: Endpoint {
    /// The frame that this backend receives and sends. Another backend's frame is another type.
    type Frame: Frame;

    /// Appends received frames to `out`, as many as there are and fit. Never blocks: `Ok(0)` is an
    /// idle queue (or a full `out`).
    ///
    /// # Errors
    ///
    /// When the device is gone or the kernel refuses; frames received before the error come first,
    /// the error with the next call.
    fn recv(&mut self, out: &mut Burst<Self::Frame>) -> Result<usize>;

    /// Appends up to `n` empty frames to `out` and returns how many. Fewer than `n` is
    /// back-pressure: frames are in flight, or what is left is kept for receiving.
    fn alloc(&mut self, out: &mut Burst<Self::Frame>, n: usize) -> usize;

    /// Takes frames from the front of `frames` for sending, as many as the queue has room for, and
    /// returns how many. The rest stays where it is, in order.
    ///
    /// # Errors
    ///
    /// [`Error::Frame`] when the first frame can never be sent (too long, empty, an offload that is
    /// not to be had): it is still the first in `frames`, to be mended or dropped by the caller.
    /// Other errors as for [`recv`](Self::recv). No frame is taken by a call that fails.
    fn send(&mut self, frames: &mut Burst<Self::Frame>) -> Result<usize>;
}

impl<P: PacketIo + ?Sized> PacketIo for Box<P> {
    type Frame = P::Frame;

    fn recv(&mut self, out: &mut Burst<Self::Frame>) -> Result<usize> {
        (**self).recv(out)
    }

    fn alloc(&mut self, out: &mut Burst<Self::Frame>, n: usize) -> usize {
        (**self).alloc(out, n)
    }

    fn send(&mut self, frames: &mut Burst<Self::Frame>) -> Result<usize> {
        (**self).send(frames)
    }
}

impl<E: Endpoint + ?Sized> Endpoint for Box<E> {
    fn flush(&mut self) -> Result<()> {
        (**self).flush()
    }

    fn wait(
        &mut self,
        interest: crate::Interest,
        timeout: Option<std::time::Duration>,
    ) -> Result<crate::Ready> {
        (**self).wait(interest, timeout)
    }

    fn as_fd(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        (**self).as_fd()
    }

    fn caps(&self) -> &crate::Caps {
        (**self).caps()
    }

    fn stats(&self) -> crate::Stats {
        (**self).stats()
    }

    fn visit_counters(&self, visit: &mut dyn FnMut(&str, u64)) {
        (**self).visit_counters(visit);
    }
}

/// What to do with a frame that a [`reflect`](PacketIoExt::reflect) callback has looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Send it as it is now.
    Send,
    /// Give its memory back to the pool.
    Drop,
}

/// Conveniences over [`PacketIo`]; every packet queue has them.
pub trait PacketIoExt: PacketIo {
    /// Receives into `scratch` and shows each frame to `f`; the frames are dropped afterwards.
    /// Returns how many there were. What `scratch` held before is shown too.
    ///
    /// # Errors
    ///
    /// As [`PacketIo::recv`].
    fn for_each(
        &mut self,
        scratch: &mut Burst<Self::Frame>,
        mut f: impl FnMut(&mut Self::Frame),
    ) -> Result<usize> {
        self.recv(scratch)?;
        let n = scratch.len();
        scratch.iter_mut().for_each(&mut f);
        scratch.clear();
        Ok(n)
    }

    /// Receives, lets `f` change each new frame in place, and sends those that it wants sent:
    /// the zero-copy reply path. Returns how many were sent.
    ///
    /// Frames that the queue refuses stay in `frames` and are tried again, before new ones and
    /// without asking `f` again, by the next call.
    ///
    /// # Errors
    ///
    /// As [`PacketIo::recv`] and [`PacketIo::send`].
    fn reflect(
        &mut self,
        frames: &mut Burst<Self::Frame>,
        mut f: impl FnMut(&mut Self::Frame) -> Verdict,
    ) -> Result<usize> {
        let decided = frames.len();
        self.recv(frames)?;
        let mut i = 0;
        frames.retain(|frame| {
            i += 1;
            i <= decided || f(frame) == Verdict::Send
        });
        let sent = if frames.is_empty() { 0 } else { self.send(frames)? };
        self.flush()?;
        Ok(sent)
    }

    /// Copies a frame of any backend (or any other bytes in a [`Buffer`]) into a frame of this one,
    /// at the back of `out`, as a single segment. Answers false when no frame can be had just now.
    ///
    /// # Errors
    ///
    /// [`Error::Frame`] when it is longer than a frame of this backend, or a buffer of it, can be.
    fn import(&mut self, foreign: &impl Buffer, out: &mut Burst<Self::Frame>) -> Result<bool> {
        let (len, caps) = (foreign.total_len(), self.caps());
        let (backend, max) = (caps.backend, caps.max_len);
        let refused = |cause| Error::frame("import a frame by copy", backend, cause);
        if len > max {
            return Err(refused(FrameError::TooLong { len, max }));
        }
        if out.is_full() || self.alloc(out, 1) == 0 {
            return Ok(false);
        }
        let Some(frame) = out.last_mut() else { return Ok(false) };
        if let Err(room) = frame.set_len(len) {
            out.pop_back();
            return Err(refused(room.into()));
        }
        let mut rest = frame.data_mut();
        for segment in foreign.segments() {
            let (to, behind) = rest.split_at_mut(segment.len().min(rest.len()));
            to.copy_from_slice(&segment[..to.len()]);
            rest = behind;
        }
        Ok(true)
    }
}

impl<P: PacketIo + ?Sized> PacketIoExt for P {}

/// Swaps source and destination address of an Ethernet frame; shorter ones stay as they are.
pub fn swap_addresses(frame: &mut impl Frame) {
    if let Some((destination, rest)) = frame.data_mut().split_first_chunk_mut::<6>()
        && let Some(source) = rest.first_chunk_mut::<6>()
    {
        std::mem::swap(destination, source);
    }
}

#[cfg(test)]
mod tests;
