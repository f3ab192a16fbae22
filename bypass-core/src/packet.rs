//! [`PacketIo`]: the seam for whole layer-2 frames.

use crate::{Buffer, Burst, Endpoint, Error, Frame, FrameError, Result, RxMeta};

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

    /// Shows received frames to `f`, which may change their bytes in place, and drops them or sends them
    /// back as it says: for monitors, filters and reflectors. Rings the doorbell if anything is sent.
    ///
    /// `f` sees the first segment of a frame and what is known of it. It is shown no more frames than fit
    /// into `waiting`, where those stay that the queue refuses; they are tried again, before new ones and
    /// without asking `f` again, by the next call. A backend may show frames in the memory that they
    /// arrived in, and give that straight back to be received into or sent (AF_XDP does). Frames that the
    /// application wants to own, or to grow, come by [`recv`](Self::recv).
    ///
    /// When `f` panics, the frame that it sees is dropped, and so may be those that came with it and were
    /// not shown; what it wanted to send is sent, or waits.
    ///
    /// ```
    /// use bypass_core::{Burst, PacketIo, Result, Verdict};
    ///
    /// /// Sends IPv6 back to where it came from, and counts the rest.
    /// fn filter<P: PacketIo>(port: &mut P, waiting: &mut Burst<P::Frame>) -> Result<usize> {
    ///     let mut others = 0;
    ///     port.visit(waiting, |frame, _| {
    ///         if frame.get(12..14) != Some(&[0x86, 0xdd]) {
    ///             others += 1;
    ///             return Verdict::Drop;
    ///         }
    ///         let (to, from) = frame.split_at_mut(6);
    ///         to.swap_with_slice(&mut from[..6]);
    ///         Verdict::Send
    ///     })?;
    ///     Ok(others)
    /// }
    /// ```
    ///
    /// What is shown cannot be kept:
    ///
    /// ```compile_fail,E0521
    /// use bypass_core::{Burst, PacketIo, Verdict};
    ///
    /// fn keep<P: PacketIo>(port: &mut P, waiting: &mut Burst<P::Frame>) {
    ///     let mut kept: Vec<&mut [u8]> = Vec::new();
    ///     let _ = port.visit(waiting, |frame, _| {
    ///         kept.push(frame); // error: borrowed data escapes outside of closure
    ///         Verdict::Drop
    ///     });
    /// }
    /// ```
    ///
    /// nor can the port be used meanwhile:
    ///
    /// ```compile_fail,E0499
    /// use bypass_core::{Burst, PacketIo, Verdict};
    ///
    /// fn nested<P: PacketIo>(port: &mut P, waiting: &mut Burst<P::Frame>, other: &mut Burst<P::Frame>) {
    ///     let _ = port.visit(waiting, |_, _| {
    ///         let _ = port.recv(other); // error: cannot borrow `*port` as mutable more than once
    ///         Verdict::Drop
    ///     });
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv) and [`send`](Self::send).
    #[inline]
    fn visit(
        &mut self,
        waiting: &mut Burst<Self::Frame>,
        f: impl FnMut(&mut [u8], &RxMeta) -> Verdict,
    ) -> Result<Visited>
    where
        Self: Sized,
    {
        bursts::visit(self, waiting, f)
    }

    /// Sends up to `n` frames of `len` bytes that `f` fills: for generators. Returns how many frames were
    /// sent; as after [`send`](Self::send), [`flush`](Endpoint::flush) rings the doorbell.
    ///
    /// The bytes are whatever the memory last held; no more frames are made than fit into `waiting`,
    /// which has the same part as in [`visit`](Self::visit). A backend may have frames filled in the
    /// memory that they are sent from, without a place for them in any burst (AF_XDP does).
    ///
    /// ```
    /// use bypass_core::{Burst, Endpoint, PacketIo, Result};
    ///
    /// /// Sends up to 32 copies of a frame.
    /// fn repeat<P: PacketIo>(port: &mut P, waiting: &mut Burst<P::Frame>, frame: &[u8]) -> Result<usize> {
    ///     let sent = port.generate(waiting, 32, frame.len(), |new| new.copy_from_slice(frame))?;
    ///     port.flush()?;
    ///     Ok(sent)
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send), and [`Error::Frame`] when no frame of one segment can be so long.
    #[inline]
    fn generate(
        &mut self,
        waiting: &mut Burst<Self::Frame>,
        n: usize,
        len: usize,
        f: impl FnMut(&mut [u8]),
    ) -> Result<usize>
    where
        Self: Sized,
    {
        bursts::generate(self, waiting, n, len, f)
    }
}

/// What [`PacketIo::visit`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Visited {
    /// Frames that were shown.
    pub seen: usize,
    /// Frames that were sent, with those that had waited.
    pub sent: usize,
}

/// The same with owned frames, for backends that can do no better.
pub(crate) mod bursts {
    use super::*;

    pub(crate) fn visit<P: PacketIo>(
        port: &mut P,
        waiting: &mut Burst<P::Frame>,
        mut f: impl FnMut(&mut [u8], &RxMeta) -> Verdict,
    ) -> Result<Visited> {
        let before = waiting.len();
        let seen = port.recv(waiting)?;
        retain_behind(waiting, before, |frame| {
            let meta = frame.rx_meta();
            f(frame.data_mut(), &meta) == Verdict::Send
        });
        if waiting.is_empty() {
            return Ok(Visited { seen, sent: 0 });
        }
        let sent = port.send(waiting)?;
        port.flush()?;
        Ok(Visited { seen, sent })
    }

    pub(crate) fn generate<P: PacketIo>(
        port: &mut P,
        waiting: &mut Burst<P::Frame>,
        n: usize,
        len: usize,
        mut f: impl FnMut(&mut [u8]),
    ) -> Result<usize> {
        let before = waiting.len();
        port.alloc(waiting, n);
        let mut refused = None;
        retain_behind(waiting, before, |frame| match frame.set_len(len) {
            Ok(()) => {
                f(frame.data_mut());
                true
            }
            Err(room) => {
                refused = Some(room);
                false
            }
        });
        if let Some(room) = refused {
            return Err(Error::frame("send a frame", port.caps().backend, room));
        }
        if waiting.is_empty() { Ok(0) } else { port.send(waiting) }
    }

    /// Keeps those behind the first `before` of which `keep` says so, in order. Should it panic, what it
    /// has not decided on is dropped: nobody else may take it for something to be sent.
    pub(super) fn retain_behind<F: Frame>(
        frames: &mut Burst<F>,
        before: usize,
        mut keep: impl FnMut(&mut F) -> bool,
    ) {
        struct Decided<'a, F: Frame>(&'a mut Burst<F>, usize);
        impl<F: Frame> Drop for Decided<'_, F> {
            fn drop(&mut self) {
                self.0.truncate(self.1);
            }
        }
        let mut decided = Decided(frames, before);
        for i in before..decided.0.len() {
            if keep(&mut decided.0[i]) {
                decided.0.swap(decided.1, i);
                decided.1 += 1;
            }
        }
    }
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

    fn visit_rings(&self, visit: &mut dyn FnMut(&str, crate::Occupancy)) {
        (**self).visit_rings(visit);
    }
}

/// What to do with a frame that was looked at, in [`visit`](PacketIo::visit) and
/// [`reflect`](PacketIoExt::reflect).
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
    /// without asking `f` again, by the next call. So are those that `f` wants sent when it panics over
    /// another one; that one is dropped, and those that it has not seen.
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
        bursts::retain_behind(frames, decided, |frame| f(frame) == Verdict::Send);
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
