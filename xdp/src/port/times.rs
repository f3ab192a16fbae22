//! [`Times`]: when frames were sent.

use std::collections::VecDeque;

use bypass_core::pool::Released;
use bypass_core::{Buffer as _, Clock, Timestamp, TxOffloads};

use crate::umem::{Umem, metadata};

/// When a frame was sent that asked for it with [`TxMeta::timestamp`](bypass_core::TxMeta::timestamp).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SentTime {
    /// The number that the sender gave it.
    pub tag: u64,
    /// In copy mode: when the driver, or the kernel that had to drop the frame, was done with it, by the
    /// kernel's clock (`CLOCK_TAI`). Without copies: when the device sent it, by the device's.
    pub time: Timestamp,
}

/// When frames were sent.
#[derive(Debug)]
pub(super) struct Times {
    /// The first chunks of frames whose time is to come.
    pub(super) awaited: Marks,
    /// As many as there are chunks, at most.
    pub(super) told: VecDeque<SentTime>,
    room: usize,
    /// Frames whose time nobody took, or that the device did not stamp.
    pub(super) lost: u64,
    clock: Clock,
}

impl Times {
    pub(super) fn new(umem: &Umem, zero_copy: bool) -> Self {
        let is_used = umem.tx_offloads().contains(TxOffloads::TIMESTAMP);
        let chunks = if is_used { umem.arena().chunks() } else { 0 };
        Self {
            awaited: Marks::new(chunks),
            told: VecDeque::with_capacity(chunks as usize),
            room: chunks as usize,
            lost: 0,
            clock: if zero_copy { Clock::Device } else { Clock::Tai },
        }
    }

    /// Takes a chunk back that was sent, and the time if it was asked for; as [`Umem::sent`].
    pub(super) fn sent(&mut self, umem: &Umem, address: u64) -> Released {
        if self.awaited.is_empty() {
            return umem.sent(std::iter::once(address));
        }
        let chunk = umem.chunk_of(address);
        let Ok(mut frame) = umem.take_sent(chunk) else {
            return Released { strays: 1, ..Released::default() };
        };
        let bytes = frame.data().len() as u64;
        if self.awaited.take(chunk) {
            match metadata::sent_time(&mut frame, self.clock) {
                Some((tag, time)) if self.told.len() < self.room => {
                    self.told.push_back(SentTime { tag, time });
                }
                _ => self.lost += 1,
            }
        }
        Released { chunks: 1, strays: 0, bytes }
    }
}

/// A bit for each chunk.
#[derive(Debug)]
pub(super) struct Marks {
    words: Box<[u64]>,
    set: u32,
}

impl Marks {
    pub(super) fn new(chunks: u32) -> Self {
        Self { words: vec![0; chunks.div_ceil(64) as usize].into(), set: 0 }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.set == 0
    }

    pub(super) fn set(&mut self, chunk: u32) {
        if let Some(word) = self.words.get_mut(chunk as usize / 64) {
            let bit = 1 << (chunk % 64);
            self.set += u32::from(*word & bit == 0);
            *word |= bit;
        }
    }

    /// Whether the bit was set; it is not any more.
    #[inline]
    pub(super) fn take(&mut self, chunk: u32) -> bool {
        if self.set == 0 {
            return false;
        }
        let Some(word) = self.words.get_mut(chunk as usize / 64) else { return false };
        let bit = 1 << (chunk % 64);
        let was = *word & bit != 0;
        *word &= !bit;
        self.set -= u32::from(was);
        was
    }
}
