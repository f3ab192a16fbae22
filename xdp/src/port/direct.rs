//! [`Direct`] and [`Again`]: frames that are queued to be sent one at a time, while their sender is shown them.

use crate::ring::{Exchange, Mapped, Reserved};
use crate::sys::Desc;

/// A frame has at least a header.
pub(super) const MIN_LEN: usize = 14;

/// What was sent, and what is in flight.
#[derive(Debug, Default)]
pub(super) struct Totals {
    pub(super) chunks_in_flight: u32,
    /// Frames taken, and frames that came back.
    pub(super) taken: u64,
    pub(super) done: u64,
    pub(super) bytes_done: u64,
    pub(super) strays: u64,
}

/// Places in the TX ring for frames that are lent one at a time; they count as taken when this is dropped,
/// also by a panic.
#[derive(Debug)]
pub(super) struct Direct<'a> {
    places: Reserved<'a, Mapped<Desc>>,
    max_len: usize,
    totals: &'a mut Totals,
}

impl<'a> Direct<'a> {
    #[inline]
    pub(super) fn new(
        places: Reserved<'a, Mapped<Desc>>,
        max_len: usize,
        totals: &'a mut Totals,
    ) -> Self {
        Self { places, max_len, totals }
    }

    /// How many frames can be sent.
    #[inline]
    pub(super) fn room(&self) -> usize {
        self.places.left() as usize
    }

    /// Whether a frame of so many bytes can be sent.
    #[inline]
    pub(super) fn takes(&self, len: usize) -> bool {
        self.room() > 0 && (MIN_LEN..=self.max_len).contains(&len)
    }

    /// Queues a frame that was lent.
    #[inline]
    pub(super) fn push(&mut self, desc: Desc) {
        self.places.push(desc);
    }

    /// How many frames were queued.
    #[inline]
    pub(super) fn sent(&self) -> usize {
        self.places.written() as usize
    }
}

impl Drop for Direct<'_> {
    #[inline]
    fn drop(&mut self) {
        self.totals.chunks_in_flight += self.places.written();
        self.totals.taken += u64::from(self.places.written());
    }
}

/// Addresses of frames that were sent, and places in the TX ring for as many, which are sent from the same
/// chunks. All is counted when this is dropped, also by a panic.
#[derive(Debug)]
pub(super) struct Again<'a> {
    pub(super) exchange: Exchange<'a, Mapped<u64>, Mapped<Desc>>,
    pub(super) totals: &'a mut Totals,
    /// What the frames had that were sent before.
    pub(super) bytes: u64,
    /// Addresses that were none of ours.
    pub(super) strays: u32,
}

impl Drop for Again<'_> {
    #[inline]
    fn drop(&mut self) {
        let Self { exchange, totals, .. } = self;
        let (came, sent) = (exchange.taken() - self.strays, exchange.written());
        // One that was being filled when its sender panicked is not in flight any more.
        totals.chunks_in_flight = totals.chunks_in_flight.saturating_sub(came - sent);
        totals.taken += u64::from(sent);
        totals.done += u64::from(came);
        totals.bytes_done += self.bytes;
        totals.strays += u64::from(self.strays);
    }
}
