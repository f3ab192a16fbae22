//! [`Pool`]: packet memory in chunks, with an owner for each chunk at every moment.
//!
//! The backends `memory`, `packet`, `socket`, io_uring and AF_XDP keep their packets here. A pool
//! belongs to one thread; so do its buffers, which cost no atomic operation and no lock. A
//! [`Detached`] buffer crosses threads and comes home through a queue.
//!
//! ```text
//!            alloc                     post(Tx)
//!   Free ------------> application ---------------> kernel reads
//!    ^  <------------  (PoolBuf)   <---------------    (Tx)
//!    |      drop                       reclaim
//!    |                  alloc_rx + post(Rx)
//!    +---------------------------------------------> kernel writes (Rx) --reclaim--> application
//! ```
//!
//! A [`Ledger`] makes many of these steps with one look at the counters, and takes a chunk from one loan to
//! the next without a buffer in between.

mod arena;
mod buf;
mod count;
mod detached;
mod ledger;
mod meta;
mod shared;

use std::fmt;
use std::ops::AddAssign;
use std::rc::Rc;
use std::sync::Arc;

pub use arena::{Arena, ArenaId, HugePages};
pub use buf::{PoolBuf, Posted};
use count::hold;
pub use detached::Detached;
pub use ledger::{Filled, Ledger, Shown};
pub use meta::{DatagramMeta, FrameMeta};
use shared::{Owner, Shared};

use crate::{Burst, Error, FrameCensus, Result, TxOffloads};

/// The largest chunk: a whole IP packet of 64 KiB with what a backend keeps in front of it.
const MAX_CHUNK: u32 = 131_072;

/// More chunks than a pool has.
const NONE: u32 = u32::MAX;

/// What a pool is for: a type of its own for each backend, so that one backend's buffer is not
/// another's, and the data that travels beside each buffer.
pub trait Kind: Sized + 'static {
    /// Kept beside each chunk; reset when the chunk is allocated.
    type Meta: Copy + Default + fmt::Debug + Send;

    /// The backend's name in messages.
    const BACKEND: &'static str;
}

/// How a pool is laid out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolOptions {
    /// Number of chunks, at least 1.
    pub chunks: u32,
    /// Bytes in a chunk, headroom included: a power of two from 128 to 131 072.
    pub chunk_size: u32,
    /// Bytes free before the data of a fresh buffer; less than a chunk.
    pub headroom: u32,
    /// Chunks that only receiving may use, so that an application which allocates all it can still
    /// receives; less than `chunks`.
    pub rx_reserve: u32,
    /// Whether the memory lies on huge pages.
    pub huge_pages: HugePages,
    /// What may be asked for in [`TxMeta`](crate::TxMeta).
    pub tx_offloads: TxOffloads,
}

impl PoolOptions {
    /// Chunks of 2 KiB with 128 bytes of headroom, a quarter of them reserved for receiving.
    #[must_use]
    pub fn new(chunks: u32) -> Self {
        Self {
            chunks,
            chunk_size: 2048,
            headroom: 128,
            rx_reserve: chunks / 4,
            huge_pages: HugePages::No,
            tx_offloads: TxOffloads::empty(),
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        if self.chunks == 0 || self.chunks == NONE {
            return Err(Error::config("chunks", self.chunks, "a pool has 1 to 2^32 - 2 chunks"));
        }
        if !self.chunk_size.is_power_of_two() || !(128..=MAX_CHUNK).contains(&self.chunk_size) {
            let why = "a chunk is a power of two from 128 to 131072 bytes";
            return Err(Error::config("chunk_size", self.chunk_size, why));
        }
        if self.headroom >= self.chunk_size {
            let why = "the headroom must leave room for data in the chunk";
            return Err(Error::config("headroom", self.headroom, why));
        }
        if self.rx_reserve >= self.chunks {
            let why = "the reserve for receiving must leave a chunk to allocate";
            return Err(Error::config("rx_reserve", self.rx_reserve, why));
        }
        Ok(())
    }
}

/// The direction in which a chunk is lent to the kernel or the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lent {
    /// To be written: a receive buffer.
    Rx,
    /// To be read: a packet being sent.
    Tx,
}

/// A thread's pool of packet memory.
///
/// Clones share it. The memory is freed when the last clone, the last buffer, the last detached
/// buffer and the last other holder of its [`arena`](Self::arena) are gone; a chunk that is lent
/// does not count.
///
/// ```
/// use bypass_core::{Buffer, Burst};
/// use bypass_core::backend::memory::Memory;
/// use bypass_core::pool::{Pool, PoolOptions};
///
/// let pool = Pool::<Memory>::new(&PoolOptions::new(16))?;
/// let mut burst = Burst::with_capacity(16);
/// assert_eq!(pool.alloc(&mut burst, 16), 12, "a quarter is kept for receiving");
/// assert_eq!(pool.alloc(&mut burst, 1), 0, "back-pressure, not an error");
/// drop(burst);
/// assert_eq!(pool.census().free, 16);
/// # Ok::<(), bypass_core::Error>(())
/// ```
pub struct Pool<K: Kind> {
    shared: Rc<Shared<K>>,
}

impl<K: Kind> Clone for Pool<K> {
    fn clone(&self) -> Self {
        Self { shared: Rc::clone(&self.shared) }
    }
}

impl<K: Kind> Pool<K> {
    /// Maps the memory and frees every chunk.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for options out of range; [`Error::Os`] when the memory is not to be had.
    pub fn new(options: &PoolOptions) -> Result<Self> {
        options.check()?;
        Ok(Self { shared: Rc::new(Shared::new(options)?) })
    }

    /// Appends up to `n` empty buffers to `out` and returns how many. Leaves the reserve for
    /// receiving untouched.
    pub fn alloc(&self, out: &mut Burst<PoolBuf<K>>, n: usize) -> usize {
        let n = n.min(out.room());
        if (self.shared.free_len.get() as usize) < n + self.shared.rx_reserve as usize {
            self.shared.collect_returned();
        }
        let shared = &self.shared;
        let spare = shared.free_len.get().saturating_sub(shared.rx_reserve) as usize;
        let n = n.min(spare);
        hold(shared, n);
        let chunks = shared.take_many(n, Owner::Application);
        out.fill_from(chunks.map(|chunk| PoolBuf::counted(shared, chunk, shared.headroom, 0)))
    }

    /// One empty buffer to receive into; may use the reserve. `None`: the application holds them
    /// all.
    #[must_use]
    pub fn alloc_rx(&self) -> Option<PoolBuf<K>> {
        if self.shared.free_len.get() == 0 {
            self.shared.collect_returned();
        }
        let chunk = self.shared.take_many(1, Owner::Application).next()?;
        Some(PoolBuf::own(&self.shared, chunk, self.shared.headroom, 0))
    }

    /// Lends up to `n` free chunks to be received into, which `post` gets; may use the reserve.
    /// Returns how many there were. The same as [`alloc_rx`](Self::alloc_rx) and
    /// [`post`](PoolBuf::post) for each, for those who need no buffers between the two. Up to 64 free chunks
    /// are set aside while `post` runs, and are not to be had meanwhile.
    #[inline]
    pub fn lend_rx(&self, n: usize, post: impl FnMut(u32)) -> usize {
        self.ledger(0).lend_rx(n, post)
    }

    /// Takes a chunk back that the kernel or device has finished with, as a buffer whose data is
    /// `len` bytes at `offset` in the chunk. Its meta is what it was when the chunk was lent.
    ///
    /// # Errors
    ///
    /// [`StrayChunk`] when no such chunk was lent in this direction, or the data would lie outside
    /// of it: the answer of a confused kernel or driver. Nothing changes; count it.
    ///
    /// # Safety
    ///
    /// The kernel or device must be done with the chunk: it no longer reads or writes it.
    pub unsafe fn reclaim(
        &self,
        chunk: u32,
        from: Lent,
        offset: u32,
        len: u32,
    ) -> Result<PoolBuf<K>, StrayChunk> {
        let shared = &self.shared;
        shared.reclaim(chunk, from, offset, len)?;
        let lent = shared.lent(from);
        lent.set(lent.get().wrapping_sub(1));
        Ok(PoolBuf::own(shared, chunk, offset, len))
    }

    /// Frees chunks that the kernel or device has sent: [`reclaim`](Self::reclaim) for those who do not
    /// want the buffers. Of one that was not being sent nothing changes; count it.
    ///
    /// # Safety
    ///
    /// As for [`reclaim`](Self::reclaim); and the iterator must not use the pool, nor its buffers.
    pub unsafe fn release_sent(&self, chunks: impl Iterator<Item = usize>) -> Released {
        self.shared.release_sent(chunks)
    }

    /// Takes a chunk back that the kernel or device has sent, as the buffer that it was when it was lent.
    ///
    /// # Errors
    ///
    /// [`StrayChunk`] when no such chunk was being sent. Nothing changes; count it.
    ///
    /// # Safety
    ///
    /// As for [`reclaim`](Self::reclaim).
    pub unsafe fn reclaim_sent(&self, chunk: u32) -> Result<PoolBuf<K>, StrayChunk> {
        let extent = self.shared.extents.get(chunk as usize).ok_or(StrayChunk { chunk })?;
        let (offset, len) = extent.get();
        // SAFETY: the caller says that the kernel or device is done with the chunk.
        unsafe { self.reclaim(chunk, Lent::Tx, offset, len) }
    }

    /// Where each chunk is.
    #[must_use]
    pub fn census(&self) -> FrameCensus {
        let shared = &self.shared;
        let total = u64::from(shared.arena.chunks());
        let free = u64::from(shared.free_len.get()) + shared.arena.returned() as u64;
        let rx_posted = u64::from(shared.rx_posted.get());
        let tx_in_flight = u64::from(shared.tx_in_flight.get());
        // Chunks that a `Ledger` has moved count where they were until it is closed.
        let held = total.saturating_sub(free + rx_posted + tx_in_flight);
        FrameCensus { total, free, held, rx_posted, tx_in_flight }
    }

    /// Makes a detached buffer of this pool an ordinary one again.
    ///
    /// # Errors
    ///
    /// Gives the buffer back when it is of another pool.
    pub fn attach(&self, detached: Detached<K>) -> Result<PoolBuf<K>, Detached<K>> {
        let (chunk, offset, len, meta) = detached.surrender(&self.shared.arena)?;
        self.shared.set_meta(chunk, meta);
        Ok(PoolBuf::own(&self.shared, chunk, offset, len))
    }

    /// How many buffers [`alloc`](Self::alloc) can hand out now.
    #[must_use]
    pub fn available(&self) -> usize {
        let free = self.shared.free_len.get() as usize + self.shared.arena.returned();
        free.saturating_sub(self.shared.rx_reserve as usize)
    }

    /// The memory, to register with the kernel and to keep alive while the kernel uses it.
    #[must_use]
    pub fn arena(&self) -> &Arc<Arena> {
        &self.shared.arena
    }

    /// Bytes free before the data of a fresh buffer.
    #[must_use]
    pub fn headroom(&self) -> u32 {
        self.shared.headroom
    }

    /// Bytes behind the headroom of a fresh buffer.
    #[must_use]
    pub fn data_room(&self) -> u32 {
        self.shared.arena.chunk_size() - self.shared.headroom
    }

    /// Whether `buffer` lies in this pool.
    #[must_use]
    pub fn owns(&self, buffer: &PoolBuf<K>) -> bool {
        buffer.is_of(&self.shared)
    }
}

impl<K: Kind> fmt::Debug for Pool<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("backend", &K::BACKEND)
            .field("census", &self.census())
            .finish()
    }
}

/// What [`Pool::release_sent`] has found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Released {
    /// Chunks that are free now.
    pub chunks: u32,
    /// Chunks that were not being sent.
    pub strays: u32,
    /// Bytes of data that the chunks were lent with.
    pub bytes: u64,
}

impl AddAssign for Released {
    fn add_assign(&mut self, more: Self) {
        self.chunks += more.chunks;
        self.strays += more.strays;
        self.bytes += more.bytes;
    }
}

/// The kernel or the device returned a chunk that it did not have, or data outside of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the kernel or device returned chunk {chunk}, which it did not have, or data outside of it"
)]
pub struct StrayChunk {
    /// The chunk's index as the kernel gave it.
    pub chunk: u32,
}

#[cfg(test)]
mod tests;
