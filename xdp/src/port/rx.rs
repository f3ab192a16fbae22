//! [`Rx`]: receiving, and memory to receive into.

use bypass_core::pool::{FrameMeta, Lent};
use bypass_core::{Buffer, Burst, DropCause, Frame as _, Occupancy, RxMeta, Stats, TxMeta};

use crate::program::{HINTS_LEN, take_hints};
use crate::ring::{Consumer, Exchange, Mapped, Producer, Step};
use crate::sys::{Desc, DescOptions};
use crate::umem::{Seen, Umem, XdpFrame};

/// The receiving half of a port.
#[derive(Debug)]
pub(super) struct Rx {
    ring: Consumer<Mapped<Desc>>,
    fill: Producer<Mapped<u64>>,
    umem: Umem,
    /// Chunks to keep posted.
    target: u32,
    queue: u16,
    /// The program puts hints in front of frames.
    hints: bool,
    /// What has come of a frame whose end has not.
    chain: Chain,
    counters: Counters,
    dry: u64,
}

#[derive(Debug, Default)]
struct Counters {
    /// Chunks that are posted, and those that never came back.
    posted: u32,
    packets: u64,
    bytes: u64,
    /// Frames with a piece that was not to be trusted.
    invalid: u64,
    strays: u64,
}

/// A frame that is being put together.
#[derive(Debug)]
enum Chain {
    None,
    Growing(XdpFrame),
    /// A piece was missing; the rest is thrown away.
    Broken,
}

/// A frame came to its end with a piece missing.
struct Broken;

impl Chain {
    /// Adds the next piece, or that there was none to trust, and answers with the frame when it is
    /// whole.
    fn join(&mut self, piece: Option<XdpFrame>, more: bool) -> Result<Option<XdpFrame>, Broken> {
        let joined = match (std::mem::replace(self, Self::None), piece) {
            (Self::None, Some(frame)) => Some(frame),
            (Self::Growing(mut head), Some(piece)) => head.chain(piece).is_ok().then_some(head),
            (Self::Broken, _) | (_, None) => None,
        };
        match (joined, more) {
            (Some(frame), true) => *self = Self::Growing(frame),
            (None, true) => *self = Self::Broken,
            (Some(frame), false) => return Ok(Some(frame)),
            (None, false) => return Err(Broken),
        }
        Ok(None)
    }
}

/// Who is shown frames where they lie.
pub(super) trait Guest {
    /// What the chunk is lent for next; or that it is not, and the frame is [kept](Self::keep).
    fn look(&mut self, data: &mut [u8], meta: &RxMeta) -> Option<Lent>;

    /// It was lent to be sent: the entry of the TX ring.
    fn sent(&mut self, desc: Desc);

    fn keep(&mut self, frame: XdpFrame);
}

/// A loop over the ring that posts chunks again. What it has found is booked when it ends, also by a
/// panic; it follows from how far the rings are, so that the loop has little to count.
struct Tally<'a> {
    counters: &'a mut Counters,
    umem: &'a Umem,
    exchange: Exchange<'a, Mapped<Desc>, Mapped<u64>>,
    bytes: u64,
    strays: u32,
}

impl Tally<'_> {
    #[inline]
    fn packets(&self) -> u32 {
        self.exchange.taken() - self.strays
    }
}

/// Whether a frame is of one piece.
#[inline]
fn is_whole(desc: &Desc) -> bool {
    !desc.options.contains(DescOptions::XDP_PKT_CONTD)
}

impl Drop for Tally<'_> {
    #[inline]
    fn drop(&mut self) {
        let packets = self.packets();
        // Those that are not posted again.
        self.counters.came(self.umem, packets - self.exchange.written());
        self.counters.count(packets, self.bytes, self.strays);
    }
}

impl Counters {
    /// Chunks came that were posted.
    #[inline]
    fn came(&mut self, umem: &Umem, chunks: u32) {
        umem.owe(chunks);
        self.posted = self.posted.saturating_sub(chunks);
    }

    /// Frames of one piece came.
    #[inline]
    fn count(&mut self, packets: u32, bytes: u64, strays: u32) {
        self.packets += u64::from(packets);
        self.bytes += bytes;
        self.strays += u64::from(strays);
        self.invalid += u64::from(strays);
    }
}

impl Rx {
    pub(super) fn new(
        ring: Consumer<Mapped<Desc>>,
        fill: Producer<Mapped<u64>>,
        umem: Umem,
        target: u32,
        posted: u32,
        queue: u32,
        hints: bool,
    ) -> Self {
        Self {
            ring,
            fill,
            umem,
            target,
            queue: queue as u16,
            hints,
            chain: Chain::None,
            counters: Counters { posted, ..Counters::default() },
            dry: 0,
        }
    }

    /// Whether frames of one piece have nothing in front of them, and are whole.
    #[inline]
    fn is_plain(&self) -> bool {
        !self.hints && matches!(self.chain, Chain::None)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    /// Shows how full its rings are.
    pub(super) fn visit_rings(&self, visit: &mut dyn FnMut(&str, Occupancy)) {
        visit("rx", self.ring.occupancy());
        visit("fill", self.fill.occupancy());
    }

    /// Whether nothing can be received for want of chunks.
    pub(super) fn is_starved(&self) -> bool {
        self.counters.posted == 0
    }

    /// Appends what has arrived to `out`, as far as it fits, and returns how many frames.
    #[inline]
    pub(super) fn take(&mut self, out: &mut Burst<XdpFrame>) -> usize {
        let mut taken = 0;
        // A chunk comes with empty data beside it, which is right for queue 0.
        if self.is_plain() && self.queue == 0 {
            taken = self.take_plain(out);
        } else {
            self.ring.look_up();
        }
        if !out.is_full() && self.ring.is_known() {
            taken += out.fill_from(std::iter::from_fn(|| self.next_described()));
        }
        taken
    }

    /// Takes frames of one piece that nothing is known of. It ends in front of any other, so the loop calls
    /// nothing that could panic, and keeps its state in registers.
    #[inline]
    fn take_plain(&mut self, out: &mut Burst<XdpFrame>) -> usize {
        let Self { ring, umem, counters, .. } = self;
        let mut entries = ring.entries(out.room() as u32);
        entries.limit(out.room() as u32);
        let mut hand = umem.hand(entries.left());
        let (mut strays, mut bytes) = (0, 0);
        let frames = std::iter::from_fn(|| {
            loop {
                let desc = entries.next_if(is_whole)?;
                match hand.received(&desc) {
                    Ok(frame) => {
                        bytes += u64::from(desc.len);
                        return Some(frame);
                    }
                    Err(_) => strays += 1,
                }
            }
        });
        let taken = out.fill_from(frames);
        drop((entries, hand));
        counters.came(umem, taken as u32);
        counters.count(taken as u32, bytes, strays);
        taken
    }

    /// Shows up to `most` frames that have arrived where they lie, and returns how many.
    #[inline]
    pub(super) fn show(&mut self, most: usize, guest: &mut impl Guest) -> usize {
        let mut seen = 0;
        if self.is_plain() {
            seen = if self.umem.is_unaligned() {
                self.show_plain::<true>(most, guest)
            } else {
                self.show_plain::<false>(most, guest)
            };
        } else {
            self.ring.look_up();
        }
        while seen < most
            && self.ring.is_known()
            && let Some(mut frame) = self.next_described()
        {
            seen += 1;
            let meta = frame.rx_meta();
            if guest.look(frame.data_mut(), &meta) != Some(Lent::Rx) {
                guest.keep(frame);
            }
        }
        seen
    }

    /// Frames of one piece; what is not kept or sent goes from the RX ring to the fill ring.
    #[inline]
    fn show_plain<const UNALIGNED: bool>(&mut self, most: usize, guest: &mut impl Guest) -> usize {
        let Self { ring, fill, umem, counters, queue, .. } = self;
        let mut meta = RxMeta::default();
        meta.queue = *queue;
        // What was posted has left the fill ring, so there is a place for each.
        let exchange = Exchange::new(ring, fill, most as u32);
        let mut tally = Tally { counters, umem, exchange, bytes: 0, strays: 0 };
        let Tally { exchange, bytes, strays, .. } = &mut tally;
        let mut hand = umem.hand_of::<UNALIGNED>(0);
        exchange.each(|desc| {
            if desc.options != DescOptions::empty() {
                // It is described, or a piece of a longer one.
                return Step::Stay;
            }
            let seen = hand.show(&desc, |data| {
                *bytes += u64::from(desc.len);
                guest.look(data, &meta)
            });
            match seen {
                Ok(Seen::Again(address)) => return Step::Give(address),
                Ok(Seen::Sent(desc)) => guest.sent(desc),
                // A chunk comes with empty data beside it, which is right for queue 0.
                Ok(Seen::Kept(frame)) if *queue == 0 => guest.keep(frame),
                Ok(Seen::Kept(frame)) => guest.keep(described(frame, *queue, false)),
                Err(_) => *strays += 1,
            }
            Step::Take
        });
        tally.packets() as usize
    }

    /// The next frame, of whatever pieces, with what is known of it.
    #[inline(never)]
    fn next_described(&mut self) -> Option<XdpFrame> {
        let Self { ring, umem, counters, chain, .. } = self;
        for desc in ring.entries(1) {
            let piece = umem.hand(1).received(&desc).ok();
            match piece {
                Some(_) => counters.came(umem, 1),
                None => counters.strays += 1,
            }
            match chain.join(piece, !is_whole(&desc)) {
                Ok(None) => {}
                Ok(Some(frame)) => {
                    counters.packets += 1;
                    counters.bytes += frame.total_len() as u64;
                    return Some(described(frame, self.queue, self.hints));
                }
                Err(Broken) => counters.invalid += 1,
            }
        }
        None
    }

    /// Chunks were posted.
    #[inline]
    fn posted(&mut self, chunks: u32) {
        self.umem.posted(chunks);
        self.counters.posted += chunks;
    }

    /// Posts chunks until there are as many as there should be, or none is free. Answers whether the
    /// driver sleeps until it is called.
    #[inline]
    pub(super) fn refill(&mut self) -> bool {
        let missing = self.target.saturating_sub(self.counters.posted);
        if missing > 0 {
            let mut places = self.fill.reserve(missing);
            let wanted = missing.min(places.left());
            let lent = self.umem.lend(wanted, |address| {
                places.push(address);
            });
            drop(places);
            self.posted(lent);
            self.dry += u64::from(lent < wanted);
        }
        self.fill.needs_wakeup()
    }

    #[cfg(test)]
    pub(super) fn fill_for_tests(&mut self) -> &mut Producer<Mapped<u64>> {
        &mut self.fill
    }

    pub(super) fn count(&self, stats: &mut Stats) {
        stats.rx_packets = self.counters.packets;
        stats.rx_bytes = self.counters.bytes;
        stats.drops[DropCause::RxInvalid] = self.counters.invalid;
    }

    pub(super) fn visit(&self, visit: &mut dyn FnMut(&str, u64)) {
        visit("rx_strays", self.counters.strays);
        visit("rx_dry", self.dry);
        visit("rx_posted", u64::from(self.counters.posted));
    }
}

impl Drop for Rx {
    fn drop(&mut self) {
        self.umem.release(self.target, self.target.saturating_sub(self.counters.posted));
    }
}

/// Fills in what is known of a frame beside its bytes.
fn described(mut frame: XdpFrame, queue: u16, hints: bool) -> XdpFrame {
    let mut rx = RxMeta::default();
    rx.queue = queue;
    if hints && let Ok(front) = frame.prepend(HINTS_LEN) {
        if let Some(front) = front.first_chunk_mut() {
            take_hints(front, &mut rx);
        }
        let _there_were_as_many = frame.trim_front(HINTS_LEN);
    }
    frame.set_meta(FrameMeta { rx, tx: TxMeta::default() });
    frame
}
