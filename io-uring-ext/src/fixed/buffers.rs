//! [`BufferTable`]: memory that the kernel knows beforehand.

use std::fmt;
use std::sync::{Arc, OnceLock};

use io_uring::opcode;

use super::SlotTable;
use crate::buf::BufPool;
use crate::error::{Error, Result};
use crate::mode::{Local, Mode};
use crate::ring::{Inner, Ring};

/// Slots in a buffer table, at most (`IORING_MAX_REG_BUFFERS` in `io_uring/rsrc.h`).
const MAX_SLOTS: u32 = 1 << 14;
/// Bytes in one slot, at most (`io_buffer_validate` in `io_uring/rsrc.c`).
const MAX_BYTES: usize = 1 << 30;
/// How often a clone is tried again when the table changes meanwhile.
const TRIES: usize = 16;

/// Whether this kernel takes several parts of a registered buffer in one operation (Linux 6.15,
/// `IORING_OP_READV_FIXED`). Looked up with the first table; without a table nobody asks.
static VECTORED: OnceLock<bool> = OnceLock::new();

pub(crate) fn vectored_is_supported() -> bool {
    VECTORED.get().is_some_and(|supported| *supported)
}

/// A ring's table of registered buffers (Linux 5.19, `IORING_REGISTER_BUFFERS2` with
/// `IORING_RSRC_REGISTER_SPARSE` in `io_uring_register(2)`).
///
/// The kernel looks up and pins the pages of registered memory once, instead of with every operation.
/// A slot takes the whole memory of a [`BufPool`], so its buffers are *fixed buffers* from then on: an
/// operation on this ring that is given one becomes `IORING_OP_READ_FIXED` and the like by itself. On
/// another ring the same buffer is ordinary memory, unless it is registered there too.
///
/// ```
/// use io_uring_ext::buf::BufPool;
/// use io_uring_ext::fixed::BufferTable;
/// use io_uring_ext::op::Read;
/// use io_uring_ext::{Fd, Ring};
///
/// let ring = Ring::local()?;
/// let table = BufferTable::new(&ring, 4)?;
/// let pool = BufPool::local(4096, 16)?;
/// if let Err(refused) = table.register(&pool) {
///     eprintln!("slower, but it works: {refused}"); // too little memory may be locked, say
/// }
/// let zero = Fd::new(std::fs::File::open("/dev/zero")?);
/// let read = ring.push(Read::new(&zero, pool.take().ok_or("no buffer")?, 0))?.wait(None)?;
/// assert_eq!(read.buf[..], [0; 4096]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Who owns what
///
/// A buffer in flight keeps its pool, and a pool keeps its slots. When the pool and all its buffers are
/// gone, the ring empties the slot in its next call, and the memory is unmapped when the kernel has said
/// that it is done with it (the slot's tag). A ring that is closed with operations that do not end leaks
/// the memory of its table with them.
///
/// # What to know
///
/// - A file that cannot read or write through an iterator (some of `/proc` and `/sys`, some devices)
///   answers `EFAULT` or `EOPNOTSUPP` to fixed buffers.
/// - Registered memory counts against `RLIMIT_MEMLOCK` without `CAP_IPC_LOCK`; what does not fit is
///   refused with [`Refusal::Memlock`](crate::probe::Refusal::Memlock), and the pool stays as usable as
///   it was.
///
/// Clones are handles to the same table. A ring has one table at a time; it is unregistered when the
/// last handle and the last pool registered in it are gone, or when the ring is closed.
pub struct BufferTable<M: Mode = Local> {
    ring: M::Ptr<Inner<M>>,
    slots: Arc<SlotTable>,
}

impl<M: Mode> BufferTable<M> {
    /// A table of `slots` empty slots.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for no slots, more than 16384, or a second table; [`Error::Refused`] when the
    /// kernel has none.
    pub fn new(ring: &Ring<M>, slots: u32) -> Result<Self> {
        if !(1..=MAX_SLOTS).contains(&slots) {
            return Err(Error::config("slots of a buffer table", slots, "take 1 to 16384"));
        }
        let slots = ring.inner.with(|state| {
            VECTORED.get_or_init(|| state.has_opcode(opcode::ReadvFixed::CODE));
            state.open_buffer_table(slots)
        })??;
        Ok(Self { ring: ring.inner.clone(), slots })
    }

    /// Registers the memory of a pool, all its buffers together, in one slot. Does nothing when it is
    /// registered already.
    ///
    /// # Errors
    ///
    /// An error leaves the pool as it was: its buffers are ordinary memory, which every operation
    /// takes. [`Error::Refused`] with [`Refusal::Memlock`](crate::probe::Refusal::Memlock) when
    /// `RLIMIT_MEMLOCK` is too low; [`Error::TableFull`]; [`Error::Config`] for a pool of more than
    /// 1 GiB; [`Error::Closed`] after the ring.
    pub fn register<P: Mode>(&self, pool: &BufPool<P>) -> Result<()> {
        let (arena, owner) = pool.memory();
        check(arena.len())?;
        self.ring.with(|state| state.register_memory(arena, owner))?
    }

    /// Registers the memory of `new` in the slot of `old`, in place: in one call, and without a moment
    /// in which the slot is anybody else's. `old` ends; its memory is unmapped when the kernel is done
    /// with it.
    ///
    /// # Errors
    ///
    /// Gives `old` back, as it was: when there are other handles of it, or buffers that have not come
    /// back; when it is not registered in this table ([`Error::ForeignRing`]) or `new` is already; and
    /// as [`register`](Self::register), with both memories counting against the limit.
    pub fn replace<P: Mode, Q: Mode>(
        &self,
        old: BufPool<P>,
        new: &BufPool<Q>,
    ) -> Result<(), (BufPool<P>, Error)> {
        let old = old.alone().map_err(|old| {
            let out = old.buffer_count() - old.available();
            let why =
                "it has other handles, or buffers that are out: replace it when they are gone";
            (old, Error::config("a pool to be replaced", format!("one with {out} out"), why))
        })?;
        let replaced = check(new.memory().0.len()).and_then(|()| {
            let (arena, owner) = new.memory();
            self.ring.with(|state| state.replace_memory(old.memory().1, arena, owner))?
        });
        replaced.map_err(|error| (old, error))
    }

    /// Registers everything that is in this table with another ring too, in the same slots and without
    /// pinning the memory again (Linux 6.12, `IORING_REGISTER_CLONE_BUFFERS`). The pools are then
    /// registered with both rings. What comes later into one table does not come into the other.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when the other ring has a table; [`Error::Refused`] when the kernel cannot, or
    /// the rings belong to different users; [`Error::Closed`] after one of the rings.
    pub fn clone_to<N: Mode>(&self, ring: &Ring<N>) -> Result<BufferTable<N>> {
        for _ in 0..TRIES {
            let snapshot = self.ring.with(|state| state.buffers_snapshot())??;
            // The locks of two rings are never held together: they would have to be in one order.
            let source = self.ring.ring_fd();
            let slots = ring.inner.with(|state| state.clone_buffers(source, &snapshot))??;
            let table = BufferTable { ring: ring.inner.clone(), slots };
            if self.ring.with(|state| state.buffers_are_as_in(&snapshot))? {
                ring.inner.with(|state| state.adopt_clone(&snapshot))?;
                return Ok(table);
            }
            // Another thread has changed this table. The clone is unused, and goes.
        }
        Err(Error::config(
            "a table to be cloned",
            self.slots.len(),
            "other threads keep changing it; clone it when they do not",
        ))
    }

    /// Slots that are free now.
    pub fn available(&self) -> usize {
        self.ring.with(|state| state.free_buffers()).unwrap_or(0)
    }
}

fn check(bytes: usize) -> Result<()> {
    if bytes > MAX_BYTES {
        return Err(Error::config(
            "bytes of a pool to be registered",
            bytes,
            "take at most 1 GiB; several pools can be registered",
        ));
    }
    Ok(())
}

impl<M: Mode> Clone for BufferTable<M> {
    fn clone(&self) -> Self {
        Self { ring: self.ring.clone(), slots: Arc::clone(&self.slots) }
    }
}

impl<M: Mode> fmt::Debug for BufferTable<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BufferTable")
            .field("slots", &self.slots.len())
            .field("available", &self.available())
            .finish_non_exhaustive()
    }
}
