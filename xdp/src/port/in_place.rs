//! Frames that are shown where they arrived, and filled where they are sent from.

use bypass_core::pool::{Kind as _, Lent};
use bypass_core::{
    Buffer as _, Burst, Endpoint as _, Error, FrameError, PacketIo, Result, RxMeta, Verdict,
    Visited,
};

use super::XdpPort;
use super::direct::{Direct, MIN_LEN};
use super::rx::Guest;
use crate::sys::Desc;
use crate::umem::{Xdp, XdpFrame};

/// Who is shown frames by [`PacketIo::visit`].
struct Visitor<'a, F> {
    f: F,
    waiting: &'a mut Burst<XdpFrame>,
    direct: Direct<'a>,
    /// Nothing waits that has to be sent before.
    may_send: bool,
}

impl<F: FnMut(&mut [u8], &RxMeta) -> Verdict> Guest for Visitor<'_, F> {
    #[inline]
    fn look(&mut self, data: &mut [u8], meta: &RxMeta) -> Option<Lent> {
        match (self.f)(data, meta) {
            Verdict::Drop => Some(Lent::Rx),
            Verdict::Send if self.may_send && self.direct.takes(data.len()) => Some(Lent::Tx),
            Verdict::Send => None,
        }
    }

    #[inline]
    fn sent(&mut self, desc: Desc) {
        self.direct.push(desc);
    }

    /// It is to be sent, and cannot be just now, or not by itself.
    fn keep(&mut self, frame: XdpFrame) {
        self.may_send = false;
        // No more are shown than there is room for.
        let kept = self.waiting.push(frame);
        debug_assert!(kept.is_ok());
    }
}

/// Frames of which the first `n` can be sent; the others are dropped with this, also by a panic.
struct Made<'a> {
    frames: &'a mut Burst<XdpFrame>,
    n: usize,
}

impl Drop for Made<'_> {
    fn drop(&mut self) {
        self.frames.truncate(self.n);
    }
}

impl XdpPort {
    /// See [`PacketIo::visit`].
    #[inline]
    pub(super) fn visit_in_place(
        &mut self,
        waiting: &mut Burst<XdpFrame>,
        f: impl FnMut(&mut [u8], &RxMeta) -> Verdict,
    ) -> Result<Visited> {
        self.tx.reclaim();
        let Self { rx, tx, kernel, .. } = self;
        let room = waiting.room();
        // What waits goes first, and errors are told by `send`.
        let may_send = waiting.is_empty() && kernel.is_up();
        let direct = tx.direct(room, kernel.link());
        let mut visitor = Visitor { f, waiting, direct, may_send };
        let seen = rx.show(room, &mut visitor);
        let sent = visitor.direct.sent();
        drop(visitor);
        match seen {
            0 if room == 0 => self.kernel.still_there()?,
            0 => self.none_came()?,
            _ => self.came(),
        }
        let sent = self.send_behind(waiting, sent)?;
        if sent > 0 {
            self.flush()?;
        }
        Ok(Visited { seen, sent })
    }

    /// See [`PacketIo::generate`].
    #[inline]
    pub(super) fn generate_in_place(
        &mut self,
        waiting: &mut Burst<XdpFrame>,
        n: usize,
        len: usize,
        mut f: impl FnMut(&mut [u8]),
    ) -> Result<usize> {
        self.kernel.still_there()?;
        self.check_len(len)?;
        if !waiting.is_empty() || !self.kernel.is_up() {
            self.tx.reclaim();
            return self.generate_behind(waiting, n, len, f);
        }
        if !self.tx.has_room_for(n) {
            // Those in the ring go first; whatever happens to them is not about these.
            let _told_by_flush = self.transmit();
        }
        let again = self.tx.resend(n, len as u32, &mut f);
        if again == n {
            return Ok(n);
        }
        self.tx.reclaim();
        let Self { tx, kernel, umem, .. } = self;
        let mut direct = tx.direct(n - again, kernel.link());
        let n = (n - again).min(direct.room()).min(umem.spare());
        umem.hand(0).fill(n, len as u32, f, |desc| direct.push(desc));
        Ok(again + direct.sent())
    }

    /// Refuses what no frame of one segment can be.
    #[inline]
    fn check_len(&self, len: usize) -> Result<()> {
        let max = self.caps.max_len.min(self.umem.data_room());
        let cause = match len {
            _ if len < MIN_LEN => FrameError::TooShort { len, min: MIN_LEN },
            _ if len > max => FrameError::TooLong { len, max },
            _ => return Ok(()),
        };
        Err(Error::frame("send a frame", Xdp::BACKEND, cause))
    }

    /// Makes frames that are sent after those that wait.
    fn generate_behind(
        &mut self,
        waiting: &mut Burst<XdpFrame>,
        n: usize,
        len: usize,
        mut f: impl FnMut(&mut [u8]),
    ) -> Result<usize> {
        let mut made = Made { n: waiting.len(), frames: waiting };
        self.alloc(made.frames, n);
        while let Some(frame) = made.frames.get_mut(made.n) {
            let _there_is_room = frame.set_len(len);
            f(frame.data_mut());
            made.n += 1;
        }
        drop(made);
        self.send_behind(waiting, 0)
    }

    /// Sends what waits, after `sent` frames that were sent already.
    fn send_behind(&mut self, frames: &mut Burst<XdpFrame>, sent: usize) -> Result<usize> {
        if frames.is_empty() {
            return Ok(sent);
        }
        match self.send(frames) {
            Ok(more) => Ok(sent + more),
            // The next call meets it again.
            Err(_) if sent > 0 => Ok(sent),
            Err(error) => Err(error),
        }
    }
}
