//! [`Detached`]: a buffer that crosses threads.
//!
//! # What the unsafe code here relies on
//!
//! The same as for [`PoolBuf`](super::PoolBuf): the one owner of a chunk is its only user. The
//! pool's thread sees the chunk again through the arena's return queue, whose push releases and
//! whose pop acquires, so everything written here is visible there.

use std::fmt;
use std::mem::ManuallyDrop;
use std::sync::Arc;

use super::{Arena, Kind};

/// A buffer taken off its thread: it can be sent anywhere, read and written there, and given back
/// from there; dropping it returns the chunk to its pool.
///
/// ```
/// use bypass_core::Buffer;
/// use bypass_core::backend::memory::Memory;
/// use bypass_core::pool::{Pool, PoolOptions};
///
/// let pool = Pool::<Memory>::new(&PoolOptions::new(8))?;
/// let mut frame = pool.alloc_rx().ok_or("no frame")?;
/// frame.fill(b"to another core")?;
/// let detached = frame.detach().map_err(|_| "a chain")?;
/// std::thread::spawn(move || assert_eq!(detached.data(), b"to another core"))
///     .join()
///     .map_err(|_| "panicked")?;
/// assert_eq!(pool.census().free, 8, "dropped over there, free over here");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Detached<K: Kind> {
    arena: Arc<Arena>,
    chunk: u32,
    offset: u32,
    len: u32,
    meta: K::Meta,
}

impl<K: Kind> Detached<K> {
    /// Makes the caller, who has dissolved the buffer that owned `chunk`, its owner.
    pub(super) fn own(arena: Arc<Arena>, chunk: u32, offset: u32, len: u32, meta: K::Meta) -> Self {
        Self { arena, chunk, offset, len, meta }
    }

    /// Gives chunk, offset, length and meta to the pool of `arena`, if it is this buffer's.
    pub(super) fn surrender(self, arena: &Arc<Arena>) -> Result<(u32, u32, u32, K::Meta), Self> {
        if !Arc::ptr_eq(&self.arena, arena) {
            return Err(self);
        }
        let mut this = ManuallyDrop::new(self);
        let parts = (this.chunk, this.offset, this.len, this.meta);
        let own: *mut Arc<Arena> = &raw mut this.arena;
        // SAFETY: `this` is never dropped and not used again, so its `Arc` is dropped once.
        unsafe { own.drop_in_place() };
        Ok(parts)
    }

    /// The bytes in use.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        // SAFETY: the range is initialised and in the chunk that this buffer alone owns.
        unsafe { std::slice::from_raw_parts(self.pointer(), self.len as usize) }
    }

    /// The bytes in use, to change in place.
    pub fn data_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `data`; the result borrows the buffer mutably, so it is the only access.
        unsafe { std::slice::from_raw_parts_mut(self.pointer(), self.len as usize) }
    }

    /// What travels beside the bytes.
    #[must_use]
    pub fn meta(&self) -> K::Meta {
        self.meta
    }

    fn pointer(&self) -> *mut u8 {
        let at = self.chunk as usize * self.arena.chunk_size() as usize + self.offset as usize;
        // SAFETY: chunk and offset lie inside the mapping, which the arena keeps alive.
        unsafe { self.arena.base().add(at) }
    }
}

impl<K: Kind> Drop for Detached<K> {
    fn drop(&mut self) {
        self.arena.give_back(self.chunk);
    }
}

impl<K: Kind> fmt::Debug for Detached<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Detached")
            .field("backend", &K::BACKEND)
            .field("chunk", &self.chunk)
            .field("len", &self.len)
            .finish()
    }
}
