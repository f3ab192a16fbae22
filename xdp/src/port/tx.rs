//! [`Tx`]: sending, and taking back what was sent.

use std::io;

use bypass_core::pool::{Kind as _, Lent, Released};
use bypass_core::{Buffer, Burst, DropCause, FrameError, Occupancy, Stats, Unsupported};

use super::direct::{Again, Direct, MIN_LEN, Totals};
use super::times::{Marks, SentTime, Times};
use crate::ring::{Consumer, Exchange, Mapped, Producer, Step};
use crate::socket::Interface;
use crate::sys::{Desc, DescOptions};
use crate::umem::{Umem, Xdp, XdpFrame, metadata};

/// The sending half of a port.
#[derive(Debug)]
pub(super) struct Tx {
    ring: Producer<Mapped<Desc>>,
    completion: Consumer<Mapped<u64>>,
    umem: Umem,
    zero_copy: bool,
    max_segments: usize,
    /// Chunks in flight that are not the last of their frame.
    parts: Marks,
    totals: Totals,
    /// Frames that came back and were not sent.
    failed: u64,
    bytes_failed: u64,
    /// The kernel did not take everything when it was last called.
    stalled: bool,
    /// Frames may ask for something.
    offloads: bool,
    times: Times,
}

/// How far [`Tx::take`] came.
pub(super) enum Outcome {
    All,
    /// The ring is full.
    Full,
    /// The first frame that is left can never be sent.
    Unsendable(FrameError),
}

impl Tx {
    pub(super) fn new(
        ring: Producer<Mapped<Desc>>,
        completion: Consumer<Mapped<u64>>,
        umem: Umem,
        zero_copy: bool,
        max_segments: usize,
    ) -> Self {
        let parts = Marks::new(umem.arena().chunks());
        Self {
            ring,
            completion,
            zero_copy,
            max_segments,
            parts,
            totals: Totals::default(),
            failed: 0,
            bytes_failed: 0,
            stalled: false,
            offloads: !umem.tx_offloads().is_empty(),
            times: Times::new(&umem, zero_copy),
            umem,
        }
    }

    /// When frames were sent that asked for it.
    pub(super) fn times(&mut self) -> impl Iterator<Item = SentTime> + '_ {
        self.reclaim();
        self.times.told.drain(..)
    }

    #[cfg(test)]
    pub(super) fn ring_for_tests(&mut self) -> &mut Producer<Mapped<Desc>> {
        &mut self.ring
    }

    /// Shows how full its rings are.
    pub(super) fn visit_rings(&self, visit: &mut dyn FnMut(&str, Occupancy)) {
        visit("tx", self.ring.occupancy());
        visit("completion", self.completion.occupancy());
    }

    /// Whether the ring has room for a frame.
    pub(super) fn has_room(&self) -> bool {
        self.ring.waiting() < self.ring.size()
    }

    /// Whether the ring has room for `n` frames of one segment.
    #[inline]
    pub(super) fn has_room_for(&mut self, n: usize) -> bool {
        self.ring.reserve(n as u32).left() as usize >= n
    }

    /// Whether the kernel left frames in the ring for want of room elsewhere.
    pub(super) fn is_stalled(&self) -> bool {
        self.stalled
    }

    /// Whether there is anything that has not come back.
    pub(super) fn is_sending(&self) -> bool {
        self.totals.chunks_in_flight > 0
    }

    /// Puts frames into the ring, from the front, and returns how many.
    #[inline]
    pub(super) fn take(
        &mut self,
        frames: &mut Burst<XdpFrame>,
        link: &Interface,
    ) -> (usize, Outcome) {
        let mut places = self.ring.reserve(frames.len() as u32);
        // Almost all frames are one piece and ask for nothing: those in front go together.
        let most = if self.offloads { 0 } else { places.left() as usize };
        let (umem, max_len) = (&self.umem, link.max_len());
        let mut taken = umem.lend_front(
            frames,
            most,
            |frame| can_be_sent(frame, max_len),
            |desc| {
                places.push(desc);
            },
        );
        self.totals.chunks_in_flight += taken as u32;
        let outcome = loop {
            let Some(first) = frames.first() else { break Outcome::All };
            let segments = match check(first, &self.umem, link, self.max_segments) {
                Ok(segments) => segments,
                Err(cause) => break Outcome::Unsendable(cause),
            };
            if !places.has(segments) {
                break Outcome::Full;
            }
            let Some(mut frame) = frames.pop_front() else { break Outcome::All };
            taken += 1;
            self.totals.chunks_in_flight += segments;
            let (mut options, mut is_timed) = if self.offloads {
                metadata::put(&mut frame)
            } else {
                (DescOptions::empty(), false)
            };
            loop {
                let rest = frame.split_next();
                options.set(DescOptions::XDP_PKT_CONTD, rest.is_some());
                let (chunk, desc) = lend(frame, options);
                places.push(desc);
                if is_timed {
                    self.times.awaited.set(chunk);
                }
                let Some(rest) = rest else { break };
                self.parts.set(chunk);
                (frame, options, is_timed) = (rest, DescOptions::empty(), false);
            }
        };
        drop(places);
        self.totals.taken += taken as u64;
        (taken, outcome)
    }

    /// Places in the ring for about `most` frames of one segment that ask for nothing.
    #[inline]
    pub(super) fn direct(&mut self, most: usize, link: &Interface) -> Direct<'_> {
        let Self { ring, totals, .. } = self;
        Direct::new(ring.reserve(most as u32), link.max_len(), totals)
    }

    /// Has `f` fill up to `n` frames of `len` bytes in chunks that were sent, and queues them to be sent
    /// again: no chunk is freed and taken in between. Returns how many.
    #[inline]
    pub(super) fn resend(&mut self, n: usize, len: u32, f: impl FnMut(&mut [u8])) -> usize {
        if !self.all_are_plain() || self.umem.is_owing() {
            return 0;
        }
        if self.umem.is_unaligned() {
            self.resend_plain::<true>(n, len, f)
        } else {
            self.resend_plain::<false>(n, len, f)
        }
    }

    #[inline]
    fn resend_plain<const UNALIGNED: bool>(
        &mut self,
        n: usize,
        len: u32,
        mut f: impl FnMut(&mut [u8]),
    ) -> usize {
        let Self { ring, completion, umem, totals, .. } = self;
        let exchange = Exchange::new(completion, ring, n as u32);
        let mut again = Again { exchange, totals, bytes: 0, strays: 0 };
        let Again { exchange, bytes, strays, .. } = &mut again;
        let mut hand = umem.hand_of::<UNALIGNED>(0);
        exchange.each(|address| {
            let filled = hand.resend(address, len, |data, before| {
                *bytes += u64::from(before);
                f(data);
            });
            match filled {
                Ok(desc) => Step::Give(desc),
                Err(_) => {
                    *strays += 1;
                    Step::Take
                }
            }
        });
        again.exchange.written() as usize
    }

    /// Whether every chunk in flight is a frame, and is awaited for nothing but itself.
    #[inline]
    fn all_are_plain(&self) -> bool {
        self.parts.is_empty() && self.times.awaited.is_empty()
    }

    /// Takes back what was sent.
    #[inline]
    pub(super) fn reclaim(&mut self) {
        if self.totals.chunks_in_flight == 0 {
            return;
        }
        let are_plain = self.all_are_plain();
        let Self { completion, umem, parts, times, .. } = self;
        let mut entries = completion.entries(1);
        let (mut sum, mut ends) = (Released::default(), 0);
        if are_plain {
            sum = umem.sent(entries.by_ref());
            ends = sum.chunks;
        }
        for address in entries.by_ref() {
            let chunk = umem.chunk_of(address);
            let released = times.sent(umem, address);
            sum += released;
            ends += u32::from(released.chunks > 0 && !parts.take(chunk));
        }
        drop(entries);
        self.totals.chunks_in_flight = self.totals.chunks_in_flight.saturating_sub(sum.chunks);
        self.totals.done += u64::from(ends);
        self.totals.bytes_done += sum.bytes;
        self.totals.strays += u64::from(sum.strays);
    }

    /// Calls the kernel until it has taken everything, or takes no more for now.
    ///
    /// # Errors
    ///
    /// When the link is down or gone. What is in the ring stays there, and counted.
    pub(super) fn transmit(&mut self, mut kick: impl FnMut() -> io::Result<()>) -> io::Result<()> {
        self.stalled = false;
        while self.ring.waiting() > 0 && self.ring.needs_wakeup() {
            let before = (self.ring.consumed(), self.totals.done);
            let outcome = kick();
            self.kicked_from(&outcome, before.0);
            match outcome.as_ref().map_err(io::Error::raw_os_error) {
                // Budget spent, completion ring or send buffer full, driver busy, no memory, or one
                // frame lost: whether there was progress decides whether to go on.
                Ok(()) | Err(Some(libc::EAGAIN | libc::EBUSY | libc::ENOBUFS | libc::ENOMEM)) => {}
                Err(Some(libc::EINTR)) => {}
                Err(_) => {
                    self.stalled = true;
                    return outcome;
                }
            }
            if self.zero_copy {
                break;
            }
            if (self.ring.consumed(), self.totals.done) == before {
                self.stalled = true;
                break;
            }
        }
        Ok(())
    }

    /// Notes what a call of the kernel says of the frames in the ring.
    pub(super) fn kicked(&mut self, outcome: &io::Result<()>) {
        let before = self.ring.consumed();
        self.kicked_from(outcome, before);
    }

    fn kicked_from(&mut self, outcome: &io::Result<()>, before: u32) {
        let errno = outcome.as_ref().err().and_then(io::Error::raw_os_error);
        // In copy mode: the last frame that was taken completes, and was not sent.
        if errno == Some(libc::EBUSY) && !self.zero_copy {
            self.failed += 1;
            self.bytes_failed += self.last_taken(before);
        }
        self.reclaim();
    }

    /// Bytes of the last frame that the kernel has taken since its cursor was at `before`. Kernels
    /// before 6.17 do not always show how far they are; then nothing is known.
    fn last_taken(&self, before: u32) -> u64 {
        let (mut cursor, mut bytes) = (self.ring.consumed(), 0);
        for _ in 0..cursor.wrapping_sub(before).min(self.ring.size()) {
            let desc = self.ring.written_before(cursor);
            let is_end = !desc.options.contains(DescOptions::XDP_PKT_CONTD);
            if bytes > 0 && is_end {
                break;
            }
            bytes += u64::from(desc.len);
            cursor = cursor.wrapping_sub(1);
        }
        bytes
    }

    pub(super) fn count(&self, stats: &mut Stats) {
        stats.tx_packets = self.totals.done.saturating_sub(self.failed);
        stats.tx_bytes = self.totals.bytes_done.saturating_sub(self.bytes_failed);
        stats.tx_in_flight = self.totals.taken.saturating_sub(self.totals.done);
        stats.drops[DropCause::TxError] = self.failed;
    }

    pub(super) fn visit(&self, visit: &mut dyn FnMut(&str, u64)) {
        visit("tx_strays", self.totals.strays);
        visit("tx_times_lost", self.times.lost);
    }
}

/// Lends a single chunk to the kernel; how the TX ring names it.
#[inline]
fn lend(frame: XdpFrame, options: DescOptions) -> (u32, Desc) {
    let (addr, len) = (frame.arena_offset() as u64, frame.data().len() as u32);
    (frame.post(Lent::Tx).chunk, Desc { addr, len, options })
}

/// Whether a frame of one segment, which asks for nothing, is neither too short nor too long.
#[inline]
fn can_be_sent(frame: &XdpFrame, max_len: usize) -> bool {
    (MIN_LEN..=max_len).contains(&frame.data().len())
}

/// Why a frame can never be sent, or how many segments it has.
#[inline]
fn check(
    frame: &XdpFrame,
    umem: &Umem,
    link: &Interface,
    max_segments: usize,
) -> Result<u32, FrameError> {
    if !umem.owns(frame) {
        return Err(FrameError::ForeignPool);
    }
    let data = frame.data();
    let (len, segments) = match frame.is_chain() {
        false => (data.len(), 1),
        // A piece without bytes is none: no descriptor can say so.
        true if frame.segments().any(<[u8]>::is_empty) => (frame.total_len(), usize::MAX),
        true => (frame.total_len(), frame.segments().count()),
    };
    if len < MIN_LEN {
        return Err(FrameError::TooShort { len, min: MIN_LEN });
    }
    if len > link.max_len() && len > link.max_len_of(data) {
        return Err(FrameError::TooLong { len, max: link.max_len_of(data) });
    }
    let offloads = umem.tx_offloads();
    if !offloads.is_empty() {
        metadata::check(frame, offloads, umem.has_software_checksum())?;
    }
    if segments > max_segments {
        return Err(FrameError::Unsupported(Unsupported {
            what: format!("frames of {} segments", frame.segments().count()).into(),
            backend: Xdp::BACKEND,
            why: format!("there may be {max_segments}, none of them empty").into(),
        }));
    }
    Ok(segments as u32)
}
