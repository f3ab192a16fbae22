//! [`Rx`]: receiving, and memory to receive into.

use bypass_core::pool::FrameMeta;
use bypass_core::{Buffer, Burst, DropCause, RxMeta, Stats, TxMeta};

use crate::program::{HINTS_LEN, take_hints};
use crate::ring::{Consumer, Mapped, Producer};
use crate::sys::{Desc, DescOptions};
use crate::umem::{Umem, XdpFrame};

/// The receiving half of a port.
#[derive(Debug)]
pub(super) struct Rx {
    ring: Consumer<Mapped<Desc>>,
    fill: Producer<Mapped<u64>>,
    umem: Umem,
    /// Chunks to keep posted.
    target: u32,
    /// Chunks that are posted, and those that never came back.
    posted: u32,
    queue: u16,
    /// The program puts hints in front of frames.
    hints: bool,
    /// What has come of a frame whose end has not.
    chain: Chain,
    packets: u64,
    bytes: u64,
    /// Frames with a piece that was not to be trusted.
    invalid: u64,
    strays: u64,
    dry: u64,
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
            posted,
            queue: queue as u16,
            hints,
            chain: Chain::None,
            packets: 0,
            bytes: 0,
            invalid: 0,
            strays: 0,
            dry: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    /// Whether nothing can be received for want of chunks.
    pub(super) fn is_starved(&self) -> bool {
        self.posted == 0
    }

    /// Appends what has arrived to `out`, as far as it fits, and returns how many frames.
    #[inline]
    pub(super) fn take(&mut self, out: &mut Burst<XdpFrame>) -> usize {
        let Self { ring, umem, posted, chain, queue, hints, .. } = self;
        let mut entries = ring.entries(out.room() as u32);
        let (mut bytes, mut came, mut strays, mut invalid) = (0, 0, 0, 0);
        // A chunk comes with empty data beside it.
        let is_plain = *queue == 0 && !*hints;
        let received = out.fill_from(std::iter::from_fn(|| {
            for desc in entries.by_ref() {
                let more = desc.options.contains(DescOptions::XDP_PKT_CONTD);
                let piece = umem.received(desc.addr, desc.len);
                // Almost every frame is one piece: it goes straight to where it stays.
                match piece {
                    Ok(frame) if is_plain && !more && matches!(chain, Chain::None) => {
                        came += 1;
                        bytes += u64::from(desc.len);
                        return Some(frame);
                    }
                    piece => {
                        came += u32::from(piece.is_ok());
                        strays += u64::from(piece.is_err());
                        match chain.join(piece.ok(), more) {
                            Ok(None) => {}
                            Ok(Some(frame)) => {
                                bytes += frame.total_len() as u64;
                                return Some(described(frame, *queue, *hints));
                            }
                            Err(Broken) => invalid += 1,
                        }
                    }
                }
            }
            None
        }));
        drop(entries);
        umem.owe(came);
        *posted = posted.saturating_sub(came);
        self.packets += received as u64;
        self.bytes += bytes;
        self.strays += strays;
        self.invalid += invalid;
        received
    }

    /// Posts chunks until there are as many as there should be, or none is free. Answers whether the
    /// driver sleeps until it is called.
    #[inline]
    pub(super) fn refill(&mut self) -> bool {
        let missing = self.target.saturating_sub(self.posted);
        if missing > 0 {
            let mut places = self.fill.reserve(missing);
            let wanted = missing.min(places.left());
            let lent = self.umem.lend(wanted, |address| {
                places.push(address);
            });
            self.posted += lent;
            self.dry += u64::from(lent < wanted);
        }
        self.fill.needs_wakeup()
    }

    #[cfg(test)]
    pub(super) fn fill_for_tests(&mut self) -> &mut Producer<Mapped<u64>> {
        &mut self.fill
    }

    pub(super) fn count(&self, stats: &mut Stats) {
        stats.rx_packets = self.packets;
        stats.rx_bytes = self.bytes;
        stats.drops[DropCause::RxInvalid] = self.invalid;
    }

    pub(super) fn visit(&self, visit: &mut dyn FnMut(&str, u64)) {
        visit("rx_strays", self.strays);
        visit("rx_dry", self.dry);
        visit("rx_posted", u64::from(self.posted));
    }
}

impl Drop for Rx {
    fn drop(&mut self) {
        self.umem.release(self.target, self.target.saturating_sub(self.posted));
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
