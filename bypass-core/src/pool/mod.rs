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

mod arena;
mod buf;
mod detached;

use std::cell::Cell;
use std::fmt;
use std::ops::AddAssign;
use std::rc::Rc;
use std::sync::Arc;

pub use arena::{Arena, ArenaId, HugePages};
use buf::hold;
pub use buf::{DatagramMeta, FrameMeta, PoolBuf, Posted};
pub use detached::Detached;

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

/// Who owns a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Owner {
    Free,
    Application,
    Rx,
    Tx,
}

/// The direction in which a chunk is lent to the kernel or the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lent {
    /// To be written: a receive buffer.
    Rx,
    /// To be read: a packet being sent.
    Tx,
}

impl Lent {
    fn owner(self) -> Owner {
        match self {
            Self::Rx => Owner::Rx,
            Self::Tx => Owner::Tx,
        }
    }
}

/// What every packet touches of a chunk beside its bytes; so little that the table of all chunks stays
/// in the nearest cache.
struct Slot {
    owner: Cell<Owner>,
    /// Its meta is the default, so that it need not be reset.
    is_fresh: Cell<bool>,
    /// Another chunk of the same buffer is behind it.
    has_next: Cell<bool>,
}

/// What is known of a chunk that no buffer tells of: one behind the first, or one that is lent.
struct Link {
    /// The next chunk of the same buffer, where the slot says that there is one.
    next: Cell<u32>,
    /// Where the data lies: offset and length.
    extent: Cell<(u32, u32)>,
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

struct Shared<K: Kind> {
    arena: Arc<Arena>,
    slots: Box<[Slot]>,
    links: Box<[Link]>,
    metas: Box<[Cell<K::Meta>]>,
    /// What a meta is reset to.
    blank: K::Meta,
    /// A stack: `free[..free_len]` are the chunks that nobody owns.
    free: Box<[Cell<u32>]>,
    free_len: Cell<u32>,
    rx_posted: Cell<u32>,
    tx_in_flight: Cell<u32>,
    /// Buffers that there are; they keep the pool alive together.
    buffers: Cell<usize>,
    chunk_size: u32,
    headroom: u32,
    rx_reserve: u32,
    tx_offloads: TxOffloads,
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
        let slots = (0..options.chunks).map(|_| Slot {
            owner: Cell::new(Owner::Free),
            is_fresh: Cell::new(true),
            has_next: Cell::new(false),
        });
        let links =
            (0..options.chunks).map(|_| Link { next: Cell::new(NONE), extent: Cell::new((0, 0)) });
        let blank = K::Meta::default();
        Ok(Self {
            shared: Rc::new(Shared {
                arena: Arc::new(Arena::new(options)?),
                slots: slots.collect(),
                links: links.collect(),
                metas: vec![Cell::new(blank); options.chunks as usize].into(),
                blank,
                free: (0..options.chunks).rev().map(Cell::new).collect(),
                free_len: Cell::new(options.chunks),
                rx_posted: Cell::new(0),
                tx_in_flight: Cell::new(0),
                buffers: Cell::new(0),
                chunk_size: options.chunk_size,
                headroom: options.headroom,
                rx_reserve: options.rx_reserve,
                tx_offloads: options.tx_offloads,
            }),
        })
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
        self.take()
    }

    /// Lends free chunks to be received into, as many as `out` has places for; may use the reserve.
    /// Returns how many there were. The same as [`alloc_rx`](Self::alloc_rx) and
    /// [`post`](PoolBuf::post) for each, for those who need no buffers between the two.
    #[must_use]
    pub fn lend_rx(&self, out: &mut [u32]) -> usize {
        let shared = &self.shared;
        if (shared.free_len.get() as usize) < out.len() {
            shared.collect_returned();
        }
        let n = out.len().min(shared.free_len.get() as usize);
        for (place, chunk) in out.iter_mut().zip(shared.take_many(n, Owner::Rx)) {
            *place = chunk;
        }
        shared.rx_posted.set(shared.rx_posted.get() + n as u32);
        n
    }

    fn take(&self) -> Option<PoolBuf<K>> {
        let chunk = self.shared.take_many(1, Owner::Application).next()?;
        Some(PoolBuf::own(&self.shared, chunk, self.shared.headroom, 0))
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
        let slot = shared.slots.get(chunk as usize).ok_or(StrayChunk { chunk })?;
        let end = offset.checked_add(len).ok_or(StrayChunk { chunk })?;
        if slot.owner.get() != from.owner() || end > shared.chunk_size {
            return Err(StrayChunk { chunk });
        }
        slot.owner.set(Owner::Application);
        let lent = shared.lent(from);
        lent.set(lent.get() - 1);
        Ok(PoolBuf::own(shared, chunk, offset, len))
    }

    /// Frees chunks that the kernel or device has sent: [`reclaim`](Self::reclaim) for those who do not
    /// want the buffers. Of one that was not being sent nothing changes; count it.
    ///
    /// # Safety
    ///
    /// As for [`reclaim`](Self::reclaim).
    pub unsafe fn release_sent(&self, chunks: &[u32]) -> Released {
        let shared = &self.shared;
        let (mut top, mut released) = (shared.free_len.get(), Released::default());
        for &chunk in chunks {
            match shared.slots.get(chunk as usize) {
                Some(slot) if slot.owner.get() == Owner::Tx => {
                    slot.owner.set(Owner::Free);
                    shared.free[top as usize].set(chunk);
                    top += 1;
                    released.chunks += 1;
                    released.bytes += u64::from(shared.links[chunk as usize].extent.get().1);
                }
                _ => released.strays += 1,
            }
        }
        shared.free_len.set(top);
        shared.tx_in_flight.set(shared.tx_in_flight.get() - released.chunks);
        released
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
        let link = self.shared.links.get(chunk as usize).ok_or(StrayChunk { chunk })?;
        let (offset, len) = link.extent.get();
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
        let held = total - free - rx_posted - tx_in_flight;
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

impl<K: Kind> Shared<K> {
    fn lent(&self, to: Lent) -> &Cell<u32> {
        match to {
            Lent::Rx => &self.rx_posted,
            Lent::Tx => &self.tx_in_flight,
        }
    }

    /// Takes the `n` free chunks on top, of which there must be so many, for their next owner. What the
    /// iterator is not asked for is leaked.
    fn take_many(&self, n: usize, owner: Owner) -> impl Iterator<Item = u32> + '_ {
        let top = self.free_len.get() as usize;
        let below = top.saturating_sub(n);
        self.free_len.set(below as u32);
        // Nobody writes to the places above the stack while the iterator is in use: no code but this
        // module's runs meanwhile.
        self.free[below..top].iter().rev().map(move |chunk| {
            let chunk = chunk.get();
            let slot = &self.slots[chunk as usize];
            slot.owner.set(owner);
            if !slot.is_fresh.replace(true) {
                self.metas[chunk as usize].set(self.blank);
            }
            chunk
        })
    }

    fn set_meta(&self, chunk: u32, meta: K::Meta) {
        self.metas[chunk as usize].set(meta);
        self.slots[chunk as usize].is_fresh.set(false);
    }

    /// The chunk behind `chunk` in its buffer.
    fn next(&self, chunk: u32) -> Option<u32> {
        let has_next = self.slots[chunk as usize].has_next.get();
        has_next.then(|| self.links[chunk as usize].next.get())
    }

    /// Puts `next` behind `chunk`, which must be the last of its buffer.
    fn join(&self, chunk: u32, next: u32) {
        self.links[chunk as usize].next.set(next);
        self.slots[chunk as usize].has_next.set(true);
    }

    /// Takes off what is behind `chunk` in its buffer.
    fn cut(&self, chunk: u32) -> Option<u32> {
        let next = self.next(chunk);
        self.slots[chunk as usize].has_next.set(false);
        next
    }

    /// Frees one chunk that the application owned.
    fn release(&self, chunk: u32) {
        let slot = &self.slots[chunk as usize];
        debug_assert_eq!(slot.owner.get(), Owner::Application);
        slot.owner.set(Owner::Free);
        let top = self.free_len.get();
        self.free[top as usize].set(chunk);
        self.free_len.set(top + 1);
    }

    /// Frees a buffer's chunks.
    fn release_chain(&self, first: u32) {
        let mut chunk = Some(first);
        while let Some(this) = chunk {
            chunk = self.cut(this);
            self.release(this);
        }
    }

    /// Frees buffers by their first chunks, and returns how many.
    fn release_many(&self, firsts: impl Iterator<Item = u32>) -> usize {
        let (mut top, mut n) = (self.free_len.get(), 0);
        for chunk in firsts {
            let slot = &self.slots[chunk as usize];
            debug_assert_eq!(slot.owner.get(), Owner::Application);
            n += 1;
            if slot.has_next.get() {
                self.free_len.set(top);
                self.release_chain(chunk);
                top = self.free_len.get();
                continue;
            }
            slot.owner.set(Owner::Free);
            self.free[top as usize].set(chunk);
            top += 1;
        }
        self.free_len.set(top);
        n
    }

    fn collect_returned(&self) {
        while let Some(chunk) = self.arena.take_returned() {
            self.release(chunk);
        }
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
