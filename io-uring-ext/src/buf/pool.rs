//! [`BufPool`]: equal buffers that come back when they are dropped.

use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;

use super::{Bell, HugePages, IoBuf, IoBufMut};
use crate::buf_ring::BufSource;
use crate::fixed::Registrations;
use crate::mode::{Local, Lock, Mode, Shared};
use crate::ring::{Ring, RingId};
use crate::sys::arena::Arena;

/// A fixed number of buffers of one size in one mapping. Taking and giving back allocate nothing.
///
/// ```
/// use io_uring_ext::buf::BufPool;
///
/// let pool = BufPool::local(2048, 4)?;
/// let mut buffer = pool.take().unwrap();
/// buffer.set_len(5);
/// buffer.copy_from_slice(b"hello");
/// assert_eq!(pool.available(), 3);
/// drop(buffer);
/// assert_eq!(pool.available(), 4);
/// # std::io::Result::Ok(())
/// ```
pub struct BufPool<M: Mode = Local> {
    shared: M::Ptr<Pool<M>>,
}

/// What a pool and its buffers share.
struct Pool<M: Mode> {
    arena: Arc<Arena>,
    /// The rings that know the memory; their slots are held until the last buffer is gone.
    registrations: Arc<Registrations>,
    free: M::Lock<Vec<u32>>,
    bell: Arc<Bell>,
}

impl BufPool<Local> {
    /// `count` buffers of `size` bytes, for one thread.
    ///
    /// # Errors
    ///
    /// As `mmap(2)`; `InvalidInput` for no buffers, no bytes, or more than a `u32` counts.
    pub fn local(size: usize, count: usize) -> io::Result<Self> {
        Self::new(size, count, HugePages::No)
    }

    /// As [`local`](Self::local), on huge pages of 2 MiB or as far as they are to be had.
    ///
    /// # Errors
    ///
    /// As [`local`](Self::local); with [`HugePages::Require`] also when there are too few
    /// (`ENOMEM`; `sysctl vm.nr_hugepages` reserves them).
    pub fn local_on(pages: HugePages, size: usize, count: usize) -> io::Result<Self> {
        Self::new(size, count, pages)
    }
}

impl BufPool<Shared> {
    /// `count` buffers of `size` bytes, which any thread can take and drop.
    ///
    /// # Errors
    ///
    /// As [`local`](BufPool::local).
    pub fn shared(size: usize, count: usize) -> io::Result<Self> {
        Self::new(size, count, HugePages::No)
    }

    /// As [`shared`](Self::shared), on huge pages of 2 MiB or as far as they are to be had.
    ///
    /// # Errors
    ///
    /// As [`local_on`](BufPool::local_on).
    pub fn shared_on(pages: HugePages, size: usize, count: usize) -> io::Result<Self> {
        Self::new(size, count, pages)
    }
}

impl<M: Mode> BufPool<M> {
    fn new(size: usize, count: usize, pages: HugePages) -> io::Result<Self> {
        let last = u32::try_from(count).map_err(|_| io::ErrorKind::InvalidInput)?;
        if u32::try_from(size).is_err() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let arena = Arc::new(Arena::new(size, count, pages)?);
        let free = (0..last).rev().collect::<Vec<_>>().into();
        let registrations = Arc::default();
        Ok(Self { shared: Pool { arena, free, bell: Arc::default(), registrations }.into() })
    }

    /// A buffer of length zero; `None` when all are out.
    pub fn take(&self) -> Option<PoolBuf<M>> {
        let index = self.shared.free.with(Vec::pop)?;
        Some(PoolBuf { pool: self.shared.clone(), index, len: 0 })
    }

    /// Buffers that can be taken now.
    pub fn available(&self) -> usize {
        self.shared.free.with(|free| free.len())
    }

    /// Buffers that there are, out or not.
    pub fn buffer_count(&self) -> usize {
        self.shared.arena.count()
    }

    /// Whether operations on this ring use the buffers as registered ones (see
    /// [`BufferTable`](crate::fixed::BufferTable)).
    pub fn is_registered<R: Mode>(&self, ring: &Ring<R>) -> bool {
        let id = ring.inner.with(|state| state.id());
        id.is_ok_and(|id| self.shared.registrations.index(id).is_some())
    }

    /// Whether the memory lies on huge pages.
    pub fn is_on_huge_pages(&self) -> bool {
        self.shared.arena.is_huge()
    }

    /// Why it does not, if that was [preferred](HugePages::Prefer).
    pub fn huge_page_refusal(&self) -> Option<&io::Error> {
        self.shared.arena.huge_page_refusal()
    }

    /// All the memory, and where it is registered.
    pub(crate) fn memory(&self) -> (&Arc<Arena>, &Arc<Registrations>) {
        (&self.shared.arena, &self.shared.registrations)
    }

    /// Itself, if there is no other handle and no buffer is out.
    pub(crate) fn alone(self) -> Result<Self, Self> {
        match M::unwrap(self.shared) {
            Ok(pool) => Ok(Self { shared: pool.into() }),
            Err(shared) => Err(Self { shared }),
        }
    }

    /// Bytes in a buffer.
    pub fn buffer_size(&self) -> usize {
        self.shared.arena.piece()
    }
}

impl<M: Mode> Clone for BufPool<M> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<M: Mode> BufSource for BufPool<M> {
    type Buf = PoolBuf<M>;
    fn supply(&mut self) -> Option<PoolBuf<M>> {
        self.take()
    }
    fn bell(&self) -> Option<&Arc<Bell>> {
        Some(&self.shared.bell)
    }
}

/// A buffer of a [`BufPool`], given back when dropped. Forgetting it leaks its place in the pool.
///
/// It is the bytes in use; [`set_len`](Self::set_len) says how many those are.
pub struct PoolBuf<M: Mode = Local> {
    pool: M::Ptr<Pool<M>>,
    index: u32,
    len: u32,
}

impl<M: Mode> PoolBuf<M> {
    /// Bytes that fit.
    pub fn capacity(&self) -> usize {
        self.pool.arena.piece()
    }

    /// Puts `len` bytes in use, at most as many as fit. New ones are whatever the memory last held.
    pub fn set_len(&mut self, len: usize) {
        self.len = len.min(self.capacity()) as u32;
    }

    fn address(&self) -> NonNull<u8> {
        self.pool.arena.address(self.index as usize)
    }
}

impl<M: Mode> Drop for PoolBuf<M> {
    fn drop(&mut self) {
        // Capacity for every index was reserved when the pool was made.
        self.pool.free.with(|free| free.push(self.index));
        self.pool.bell.ring();
    }
}

impl<M: Mode> Deref for PoolBuf<M> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: this value owns the piece, and whoever writes to it has `&mut self` or owns it.
        unsafe { self.pool.arena.slice(self.index as usize, self.len as usize) }
    }
}

impl<M: Mode> DerefMut for PoolBuf<M> {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: this value owns the piece: its index left the free list when it was made.
        unsafe { self.pool.arena.slice_mut(self.index as usize, self.len as usize) }
    }
}

// SAFETY: the piece does not move with the value, began zeroed, and belongs to this value alone.
unsafe impl<M: Mode> IoBuf for PoolBuf<M> {
    fn stable_ptr(&self) -> *const u8 {
        self.address().as_ptr()
    }
    fn init_len(&self) -> usize {
        self.len as usize
    }
    fn registered(&self, ring: RingId) -> Option<u16> {
        self.pool.registrations.index(ring)
    }
}

// SAFETY: the piece belongs to this value alone.
unsafe impl<M: Mode> IoBufMut for PoolBuf<M> {
    fn stable_mut_ptr(&mut self) -> *mut u8 {
        self.address().as_ptr()
    }
    fn capacity(&self) -> usize {
        self.pool.arena.piece()
    }
    unsafe fn set_init(&mut self, len: usize) {
        self.set_len(len);
    }
}

impl<M: Mode> fmt::Debug for BufPool<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BufPool")
            .field("buffer_size", &self.buffer_size())
            .field("available", &self.available())
            .finish_non_exhaustive()
    }
}

impl<M: Mode> fmt::Debug for PoolBuf<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolBuf").field("index", &self.index).field("len", &self.len).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_buffer_is_in_one_place() {
        let pool = BufPool::local(16, 3).unwrap();
        let mut out: Vec<_> = std::iter::from_fn(|| pool.take()).collect();
        assert_eq!(out.len(), 3);
        for (buffer, mark) in out.iter_mut().zip(1..) {
            buffer.set_len(16);
            buffer.fill(mark);
        }
        for (buffer, mark) in out.iter().zip(1..) {
            assert_eq!(buffer[..], [mark; 16]);
        }
        std::mem::forget(out.pop());
        drop(out);
        assert_eq!(pool.available(), 2, "a forgotten buffer is leaked, nothing else");
    }

    #[test]
    fn a_shared_pool_takes_buffers_back_from_other_threads() {
        let pool = BufPool::shared(64, 8).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        drop((pool.take(), pool.take()));
                    }
                });
            }
        });
        assert_eq!(pool.available(), 8);
    }

    #[test]
    fn a_buffer_outlives_its_pool() {
        let pool = BufPool::local(8, 1).unwrap();
        let mut buffer = pool.take().unwrap();
        drop(pool);
        buffer.set_len(8);
        buffer.fill(9);
        assert_eq!(buffer[..], [9; 8]);
    }
}
