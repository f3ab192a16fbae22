//! [`RecvSource`]: what a completion of a multishot receive brings.

use std::collections::VecDeque;
use std::sync::Arc;

use io_uring::cqueue;

use super::message::MessageLayout;
use super::multishot::{How, RecvMulti};
use super::{BufSource, Registered};
use crate::buf::{Bell, IoBufMut};
use crate::mode::Mode;
use crate::multishot::{EndReason, Engine, Source};
use crate::op::Target;
use crate::ring::Cqe;

/// Data that came with a completion: its buffer, and how many bytes.
pub(crate) type Arrival<B> = (B, usize);

/// What both receivers have in common.
pub(crate) struct RecvSource<S: BufSource, M: Mode> {
    ring: M::Ptr<Registered<S, M>>,
    fd: Target,
    how: How,
    /// An empty result is the end.
    stream: bool,
    /// Buffers of the bundle that was taken last, behind the first.
    rest: VecDeque<Arrival<S::Buf>>,
    pub(super) low_water: usize,
    pub(super) received: u64,
    pub(super) bundled: u64,
    pub(super) invalid: u64,
}

pub(super) type Shot<S, M> = Engine<RecvSource<S, M>, M>;

impl<S: BufSource, M: Mode> RecvSource<S, M> {
    pub(super) fn shot(ring: M::Ptr<Registered<S, M>>, fd: Target, how: How) -> Shot<S, M> {
        let stream = how == How::Reads || fd.is_stream();
        let entries = ring.with(|slots| slots.held.len()).unwrap_or(1);
        let of = ring.ring.clone();
        let source = Self {
            ring,
            fd,
            how,
            stream,
            rest: VecDeque::with_capacity(if how == How::Bundles { entries } else { 0 }),
            low_water: (entries / 4).max(1),
            received: 0,
            bundled: 0,
            invalid: 0,
        };
        Engine::new(of, source, entries)
    }

    /// Takes a buffer of a completion, in which the first `len` bytes have been written.
    fn take_buffer(&mut self, id: u16, len: usize) -> Option<Arrival<S::Buf>> {
        let mut buf = self.ring.with(|slots| slots.take(id)).flatten()?;
        let len = len.min(buf.capacity());
        if let Some(layout) = self.how.layout() {
            clear_gaps(&mut buf, layout, len);
        }
        // SAFETY: the kernel has written so many bytes to the start of this buffer, except for the
        // gaps, which were just written.
        unsafe { buf.set_init(len) };
        Some((buf, len))
    }

    /// Takes the buffers of a bundle of `bytes`, the first of which is `first`, and answers with that.
    fn take_bundle(&mut self, first: u16, bytes: usize) -> Option<Arrival<S::Buf>> {
        let (mut next, mut left) = (Some(first), bytes);
        while let Some(id) = next {
            let here = left;
            // Looked up before the buffer is taken, while its capacity can be asked for.
            next = self.ring.with(|slots| slots.next_in_bundle(id, &mut left)).flatten();
            let arrival = self.take_buffer(id, here);
            self.rest.extend(arrival);
        }
        self.bundled += self.rest.len().saturating_sub(1) as u64;
        self.rest.pop_front()
    }
}

impl<S: BufSource, M: Mode> Source for RecvSource<S, M> {
    type Operation = RecvMulti<S, M>;
    type Item = Arrival<S::Buf>;
    const WHAT: &'static str = "a multishot receive";

    fn operation(&self) -> RecvMulti<S, M> {
        RecvMulti::new(self.fd.clone(), self.ring.clone(), self.how)
    }

    fn ready(&mut self, ended: Option<EndReason>) -> bool {
        let available = self.ring.refill();
        available >= if ended.is_none() { 1 } else { self.low_water }
    }

    fn bell(&self) -> Option<Arc<Bell>> {
        self.ring.with(|slots| slots.source.bell().cloned()).flatten()
    }

    fn end(&self, cqe: Cqe) -> Option<EndReason> {
        // Every message has a header, also an empty one.
        let overhead = self.how.layout().map_or(0, |layout| layout.payload_at());
        let empty = usize::try_from(cqe.result).is_ok_and(|len| len <= overhead);
        empty.then_some(match self.stream {
            true => EndReason::EndOfStream,
            false => EndReason::EmptyMessage,
        })
    }

    fn take(&mut self, cqe: Cqe) -> Option<Arrival<S::Buf>> {
        let len = usize::try_from(cqe.result).unwrap_or(0);
        let arrival = cqueue::buffer_select(cqe.flags).and_then(|id| match self.how {
            How::Bundles => self.take_bundle(id, len),
            _ => self.take_buffer(id, len),
        });
        if cqe.result < 0 || (len == 0 && self.stream) {
            // The end of a stream may come with a buffer in which nothing is.
            return None;
        }
        let header = self.how.layout().map_or(0, |layout| layout.payload_at());
        let arrival = arrival.filter(|_| len >= header);
        self.received += u64::from(arrival.is_some());
        self.invalid += u64::from(arrival.is_none() && len > 0);
        arrival
    }

    fn rest(&mut self) -> Option<Arrival<S::Buf>> {
        self.rest.pop_front()
    }

    fn discard(&mut self, cqe: Cqe) {
        self.ring.discard(cqe, self.how);
    }
}

/// Zeroes what the kernel counts among the `len` bytes of a message and does not write: the ends of
/// the rooms for address and control data (`io_recvmsg_multishot` in `io_uring/net.c`).
pub(super) fn clear_gaps(buf: &mut impl IoBufMut, layout: MessageLayout, len: usize) {
    let start = buf.stable_mut_ptr();
    for (field, room) in [0, 4].into_iter().zip(layout.rooms()) {
        if len < room.end {
            return;
        }
        // SAFETY: a message begins with four lengths; `len` bytes hold them and all of its rooms.
        let length = unsafe { start.add(field) };
        // SAFETY: the kernel has written the lengths, wherever they lie.
        let length = unsafe { length.cast::<u32>().read_unaligned() } as usize;
        let gap = room.start.saturating_add(length).min(room.end);
        // SAFETY: inside the room.
        let at = unsafe { start.add(gap) };
        // SAFETY: from there to the end of the room is inside the buffer, which is ours again.
        unsafe { at.write_bytes(0, room.end - gap) };
    }
}
