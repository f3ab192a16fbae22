//! [`RecvSlots`]: a [`RecvBatch`] that receives straight into a pool's buffers.

use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;

use super::{Message, RecvBatch};
use crate::pool::{Kind, Pool, PoolBuf};
use crate::{Buffer, FrameCensus};

/// Buffers of a pool posted for `recvmmsg(2)`, and handed out when they are filled: nothing is
/// copied in user space, nothing is allocated.
pub struct RecvSlots<K: Kind> {
    pool: Pool<K>,
    batch: RecvBatch,
    /// The memory of the slots; those in `vacant..` are posted, those before are empty. A slot that
    /// was just emptied is the first to be filled again, with the buffer that was freed last: at a
    /// low rate the same few cache lines do all the work.
    buffers: Box<[Option<PoolBuf<K>>]>,
    vacant: usize,
    dry: u64,
}

impl<K: Kind> RecvSlots<K> {
    /// Posts `slots` buffers of `pool` to receive into, as far as it has them.
    #[must_use]
    pub fn new(pool: Pool<K>, slots: usize) -> Self {
        let buffers = (0..slots).map(|_| None).collect();
        let mut this = Self { pool, batch: RecvBatch::new(slots), buffers, vacant: slots, dry: 0 };
        this.refill();
        this
    }

    /// The pool that the buffers come from.
    #[must_use]
    pub fn pool(&self) -> &Pool<K> {
        &self.pool
    }

    /// How many buffers are posted.
    #[must_use]
    pub fn posted(&self) -> usize {
        self.buffers.len() - self.vacant
    }

    /// Where the pool's buffers are.
    #[must_use]
    pub fn census(&self) -> FrameCensus {
        let (census, posted) = (self.pool.census(), self.posted() as u64);
        FrameCensus { held: census.held - posted, rx_posted: census.rx_posted + posted, ..census }
    }

    /// How often there was no buffer to receive into, because the application held them all.
    #[must_use]
    pub fn dry(&self) -> u64 {
        self.dry
    }

    /// Receives up to `n` packets with one system call, without blocking, and gives each to `take`
    /// in a buffer of its length. Returns how many there were, and how many could have been.
    ///
    /// # Errors
    ///
    /// The kernel's (`EAGAIN`: there is nothing).
    pub fn recv(
        &mut self,
        socket: BorrowedFd<'_>,
        n: usize,
        mut take: impl FnMut(PoolBuf<K>, Message<'_>),
    ) -> io::Result<Batch> {
        self.refill();
        let asked = n.min(self.posted());
        if asked == 0 {
            self.dry += u64::from(n > 0);
            return Ok(Batch { received: 0, asked });
        }
        let first = self.vacant;
        let received = self.batch.recv(socket, first, asked)?;
        for slot in first..first + received {
            self.vacant += 1;
            let message = self.batch.message(slot);
            if let Some(mut buffer) = self.buffers[slot].take()
                && buffer.set_len(message.len).is_ok()
            {
                take(buffer, message);
            }
        }
        Ok(Batch { received, asked })
    }

    fn refill(&mut self) {
        while let Some(slot) = self.vacant.checked_sub(1)
            && let Some(mut buffer) = self.pool.alloc_rx()
        {
            let room = buffer.tailroom();
            let Ok(data) = buffer.append(room) else { return };
            let (data, len) = (data.as_mut_ptr(), data.len());
            // SAFETY: the buffer is kept in `buffers[slot]` and touched by nobody until the slot
            // counts as vacant; a vacant slot is not received into before it is posted anew.
            unsafe { self.batch.post(slot, data, len) };
            self.buffers[slot] = Some(buffer);
            self.vacant = slot;
        }
    }
}

impl<K: Kind> fmt::Debug for RecvSlots<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecvSlots")
            .field("pool", &self.pool)
            .field("slots", &self.buffers.len())
            .field("posted", &self.posted())
            .finish_non_exhaustive()
    }
}

/// What one call received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Packets received.
    pub received: usize,
    /// Packets for which there was a slot; when fewer were received, the queue is empty.
    pub asked: usize,
}
