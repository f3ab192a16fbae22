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

    /// Appends what has arrived to `out`, as far as it fits, and returns how many frames.
    #[inline]
    pub(super) fn take(&mut self, out: &mut Burst<XdpFrame>) -> usize {
        let before = out.len();
        let mut entries = self.ring.entries(out.room() as u32);
        while !out.is_full() {
            let Some(desc) = entries.next() else { break };
            let piece = self.umem.received(desc.addr, desc.len);
            let more = desc.options.contains(DescOptions::XDP_PKT_CONTD);
            match piece {
                Ok(_) => self.posted = self.posted.saturating_sub(1),
                Err(_) => self.strays += 1,
            }
            let frame = match (std::mem::replace(&mut self.chain, Chain::None), piece) {
                (Chain::None, Ok(frame)) => Ok(frame),
                (Chain::Growing(mut head), Ok(piece)) => match head.chain(piece) {
                    Ok(()) => Ok(head),
                    Err(_) => Err(()),
                },
                (Chain::Broken, _) | (_, Err(_)) => Err(()),
            };
            match (frame, more) {
                (Ok(frame), true) => self.chain = Chain::Growing(frame),
                (Ok(mut frame), false) => {
                    self.packets += 1;
                    self.bytes += frame.total_len() as u64;
                    describe(&mut frame, self.queue, self.hints);
                    let _room_was_checked = out.push(frame);
                }
                (Err(()), true) => self.chain = Chain::Broken,
                (Err(()), false) => self.invalid += 1,
            }
        }
        drop(entries);
        out.len() - before
    }

    /// Posts chunks until there are as many as there should be, or none is free. Answers whether the
    /// driver sleeps until it is called.
    #[inline]
    pub(super) fn refill(&mut self) -> bool {
        let missing = self.target.saturating_sub(self.posted);
        if missing > 0 {
            let mut places = self.fill.reserve(missing);
            for _ in 0..missing.min(places.left()) {
                let Some(address) = self.umem.lend() else {
                    self.dry += 1;
                    break;
                };
                places.push(address);
                self.posted += 1;
            }
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
#[inline]
fn describe(frame: &mut XdpFrame, queue: u16, hints: bool) {
    // A chunk comes with empty data beside it.
    if queue == 0 && !hints {
        return;
    }
    let mut rx = RxMeta::default();
    rx.queue = queue;
    if hints && let Ok(front) = frame.prepend(HINTS_LEN) {
        if let Some(front) = front.first_chunk_mut() {
            take_hints(front, &mut rx);
        }
        let _there_were_as_many = frame.trim_front(HINTS_LEN);
    }
    frame.set_meta(FrameMeta { rx, tx: TxMeta::default() });
}
