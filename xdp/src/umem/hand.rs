//! [`Hand`]: what takes frames off one ring, many at a time, and makes entries of another.

use bypass_core::pool::{Ledger, Lent, Shown, StrayChunk};

use super::{Addressing, Umem, Xdp, XdpFrame};
use crate::sys::{Desc, DescOptions};

/// Moves frames between rings, with one look at the umem's counters for all of them.
#[derive(Debug)]
pub(crate) struct Hand<'a> {
    ledger: Ledger<'a, Xdp>,
    addressing: Addressing,
}

/// What became of a frame that was shown.
pub(crate) enum Seen {
    /// Its chunk is to be received into again: the entry of the fill ring.
    Again(u64),
    /// It is to be sent: the entry of the TX ring.
    Sent(Desc),
    Kept(XdpFrame),
}

impl Umem {
    /// For a loop that makes about so many frames.
    #[inline]
    pub(crate) fn hand(&self, frames: u32) -> Hand<'_> {
        let Self { shared } = self;
        Hand { ledger: shared.pool.ledger(frames as usize), addressing: shared.addressing }
    }

    /// The same, for a loop of its own for each way of addressing: `UNALIGNED` must be
    /// [`is_unaligned`](Self::is_unaligned).
    #[inline]
    pub(crate) fn hand_of<const UNALIGNED: bool>(&self, frames: u32) -> Hand<'_> {
        debug_assert_eq!(UNALIGNED, self.is_unaligned());
        let mut hand = self.hand(frames);
        hand.addressing.unaligned = UNALIGNED;
        hand
    }

    /// Whether an address has an offset above.
    #[inline]
    pub(crate) fn is_unaligned(&self) -> bool {
        self.shared.addressing.unaligned
    }
}

impl Hand<'_> {
    /// The frame in a chunk that the kernel has received into; one more that is [owed](Umem::owe).
    ///
    /// # Errors
    ///
    /// [`StrayChunk`] when the kernel did not have it for that, or the data would lie outside.
    #[inline]
    pub(crate) fn received(&mut self, desc: &Desc) -> Result<XdpFrame, StrayChunk> {
        let (chunk, offset) = self.addressing.locate(desc.addr);
        // SAFETY: the address was on the RX ring, so the kernel is done with the chunk (see the head of
        // the module above).
        unsafe { self.ledger.received(chunk, offset, desc.len) }
    }

    /// Shows such a frame where it lies; `f` says to what its chunk is lent next, or that it is not.
    ///
    /// # Errors
    ///
    /// As [`received`](Self::received); then `f` has seen nothing.
    #[inline]
    pub(crate) fn show(
        &mut self,
        desc: &Desc,
        f: impl FnOnce(&mut [u8]) -> Option<Lent>,
    ) -> Result<Seen, StrayChunk> {
        let (chunk, offset) = self.addressing.locate(desc.addr);
        // SAFETY: as in `received`.
        let shown = unsafe { self.ledger.show(chunk, offset, desc.len, f) }?;
        let address = self.addressing.start(desc.addr);
        Ok(match shown {
            Shown::Again => Seen::Again(address),
            Shown::Sent => Seen::Sent(plain(address + u64::from(offset), desc.len)),
            Shown::Kept(frame) => Seen::Kept(frame),
        })
    }

    /// Has `f` fill a frame of `len` bytes in a chunk whose address is on the completion ring, to be sent
    /// again: the entry of the TX ring. `f` also gets how many bytes were sent before.
    ///
    /// # Errors
    ///
    /// [`StrayChunk`] when the kernel did not have it for that, or it has no room for so many bytes.
    #[inline]
    pub(crate) fn resend(
        &mut self,
        address: u64,
        len: u32,
        f: impl FnOnce(&mut [u8], u32),
    ) -> Result<Desc, StrayChunk> {
        let (chunk, _) = self.addressing.locate(address);
        // SAFETY: the address was on the completion ring, so the kernel is done with the chunk (see the
        // head of the module above).
        let filled = unsafe { self.ledger.resend(chunk, len, f) }?;
        let start = self.addressing.start(address);
        Ok(plain(start + u64::from(filled.offset), len))
    }

    /// Has `f` fill up to `n` frames of `len` bytes that are to be sent, for each of which `queue` gets the
    /// entry of the TX ring; there are as many as [`Umem::spare`] says, if a chunk has room for one.
    #[inline]
    pub(crate) fn fill(
        &mut self,
        n: usize,
        len: u32,
        f: impl FnMut(&mut [u8]),
        mut queue: impl FnMut(Desc),
    ) {
        let addressing = self.addressing;
        self.ledger.fill(n, len, f, |filled| {
            let address = addressing.address(u64::from(filled.chunk));
            queue(plain(address + u64::from(filled.offset), len));
        });
    }
}

/// The entry of a frame of one segment that asks for nothing.
fn plain(addr: u64, len: u32) -> Desc {
    Desc { addr, len, options: DescOptions::empty() }
}
