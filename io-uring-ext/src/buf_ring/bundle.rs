//! The operation behind a [`BundleSender`](super::BundleSender): one submission, many buffers.
//!
//! # What the kernel does with the ring
//!
//! From `io_send`, `io_send_select_buffer` and `io_send_finish` in `io_uring/net.c` and
//! `io_ring_buffers_peek` in `io_uring/kbuf.c`, Linux 6.10 to 6.18:
//!
//! - A round takes entries in order: at most 256 (`PEEK_MAX_IMPORT`), at most `INT_MAX` bytes, and at
//!   most `INT_MAX` divided by the length of the first. When they are not all that the ring has, it
//!   posts their result with `MORE` and begins another round, even where the round was cut short by an
//!   error after some bytes. With such an error that passes (`ENOBUFS`, or an ICMP message under
//!   `IP_RECVERR`) the stream would have a hole. So a submission is given only what one round takes,
//!   see [`CHUNK`], and nothing is added while it is in flight: then `REQ_F_BL_EMPTY` makes that round
//!   the last one, and there is one completion.
//! - Bundles imply `MSG_WAITALL`: what the socket has no room for waits inside the kernel and is sent
//!   from where it stopped (`done_io`), out of the same vector of entries. What cuts a send short are
//!   errors, cancels, the end of the thread that submitted it, and the 128th wait for room
//!   (`APOLL_MAX_RETRY` in `io_uring/poll.c`; measured on 6.18: 128 times what the socket takes). The
//!   result is then what had been sent (`io_sendrecv_fail`).
//! - Where the ring's head is after a send that was cut short depends on how it ended and on the kernel:
//!   behind everything that was taken, or that was sent, or nowhere if it had not begun. So nothing here
//!   depends on it: after such a send the ring is registered anew, empty, and what is left is written to
//!   it again.

use std::collections::VecDeque;
use std::io;
use std::ptr::NonNull;

use io_uring::{opcode, squeue};

use crate::buf::IoBuf;
use crate::error::{Error, Result};
use crate::mode::Mode;
use crate::op::sealed::Prepare;
use crate::op::{Completions, Operation, Target};
use crate::ring::{Inner, RingId};
use crate::sys::buf_ring::BufRingMemory;

/// Entries that the kernel takes in one round, at most.
pub(super) const MAX_ENTRIES: u16 = 256;

/// Bytes in one entry, at most; longer buffers get several. However long the first entry is, the kernel
/// takes 512 behind it, and all of them together are less than it takes at once.
const CHUNK: usize = 4 << 20;

const _: () = assert!(i32::MAX as usize / CHUNK >= MAX_ENTRIES as usize);

/// A ring of provided buffers that is registered.
struct Group<M: Mode> {
    ring: M::Ptr<Inner<M>>,
    id: u16,
    /// `None` only once it is being dropped.
    memory: Option<BufRingMemory>,
}

impl<M: Mode> Group<M> {
    fn new(ring: &M::Ptr<Inner<M>>, entries: u16) -> Result<Self> {
        let memory = BufRingMemory::new(entries)
            .map_err(|error| Error::os("mapping a buffer ring", error))?;
        let id = ring.with(|state| state.register_buf_ring(&memory, entries))??;
        Ok(Self { ring: ring.clone(), id, memory: Some(memory) })
    }
}

impl<M: Mode> Drop for Group<M> {
    fn drop(&mut self) {
        // The operation that uses the group owns it, so none is in flight. If the kernel cannot be
        // asked to forget the ring, what it may still read is leaked. In a forked child the memory is
        // a private copy.
        let memory = self.memory.take();
        match self.ring.with(|state| state.unregister_buf_ring(self.id)) {
            Ok(Ok(())) | Err(_) => {}
            Ok(Err(_)) => std::mem::forget(memory),
        }
    }
}

/// Buffers that are sent together, and the ring that shows them to the kernel. Travels into the
/// operation and back, so sending allocates nothing.
pub(super) struct Batch<B, M: Mode> {
    stream: Target,
    group: Group<M>,
    entries: u16,
    /// The kernel may not have used up what was written to the ring.
    pub(super) stale: bool,
    pub(super) bufs: VecDeque<B>,
    /// Bytes of the first buffer that have been sent before.
    pub(super) skip: usize,
    /// Bytes that have been shown to the kernel.
    pub(super) offered: usize,
}

impl<B: IoBuf, M: Mode> Batch<B, M> {
    /// `capacity` buffers are held without an allocation.
    pub(super) fn new(
        ring: &M::Ptr<Inner<M>>,
        stream: Target,
        entries: u16,
        capacity: usize,
    ) -> Result<Self> {
        Ok(Self {
            stream,
            group: Group::new(ring, entries)?,
            entries,
            stale: false,
            bufs: VecDeque::with_capacity(capacity),
            skip: 0,
            offered: 0,
        })
    }

    /// Makes the ring empty also for the kernel.
    pub(super) fn renew(&mut self) -> Result<()> {
        if self.stale {
            self.group = Group::new(&self.group.ring, self.entries)?;
            self.stale = false;
        }
        Ok(())
    }

    /// Takes from `waiting` what one submission can send; of the first buffer, `skip` bytes have been
    /// sent. Whether there is anything to send.
    pub(super) fn fill(&mut self, waiting: &mut VecDeque<B>, skip: usize) -> bool {
        (self.skip, self.offered) = (skip, 0);
        let (mut used, mut before) = (0, skip);
        while let Some(buf) = waiting.front() {
            let entries = buf.init_len().saturating_sub(before).div_ceil(CHUNK);
            // A buffer too long for all of the entries is sent as far as they reach.
            if used > 0 && used + entries > usize::from(self.entries) {
                break;
            }
            (used, before) = (used + entries, 0);
            self.bufs.extend(waiting.pop_front());
        }
        used > 0
    }

    /// Writes the buffers to the ring, as far as its entries reach, and shows them to the kernel.
    fn offer(&mut self) {
        let Some(memory) = &mut self.group.memory else { return };
        let (mut entry, mut from) = (0, self.skip);
        for buf in &self.bufs {
            while from < buf.init_len() && entry < self.entries {
                let len = (buf.init_len() - from).min(CHUNK);
                let start = buf.stable_ptr().wrapping_add(from).cast_mut();
                let Some(address) = NonNull::new(start) else { break };
                // The ring is empty before, and gets no more entries than it has; `CHUNK` fits `u32`.
                // SAFETY: the kernel only reads. The bytes are initialised and stable (`IoBuf`), in a
                // buffer that stays here until the terminal completion; if that has not used the
                // entry up, `stale` has the group unregistered before another operation uses it.
                unsafe { memory.write(address, len as u32, entry) };
                (entry, from) = (entry + 1, from + len);
                self.offered += len;
            }
            from = 0;
        }
        memory.publish();
    }
}

/// `send` with `IORING_RECVSEND_BUNDLE` (Linux 6.10).
pub(super) struct SendBundle<B, M: Mode>(pub(super) Box<Batch<B, M>>);

// SAFETY: the entry points to nothing. What the kernel reads belongs to the batch, a heap block of the
// operation: the descriptor, the registered ring, and the buffers, stable memory (`IoBuf`).
unsafe impl<B: IoBuf, M: Mode> Prepare for SendBundle<B, M> {
    fn target(&self) -> Option<&Target> {
        Some(&self.0.stream)
    }

    fn entry(&mut self, _ring: RingId) -> squeue::Entry {
        self.0.offer();
        opcode::SendBundle::new(self.0.stream.number(), self.0.group.id).build()
    }
}

/// A finished [`SendBundle`].
pub(super) struct BundleSent<B, M: Mode> {
    pub(super) result: io::Result<usize>,
    pub(super) batch: Box<Batch<B, M>>,
}

impl<B: IoBuf, M: Mode> Operation for SendBundle<B, M> {
    type Output = BundleSent<B, M>;

    fn complete(self, completions: Completions) -> BundleSent<B, M> {
        // There always is one, see `Ends::WithCompletion`.
        BundleSent { result: completions.result_or(0), batch: self.0 }
    }
}
