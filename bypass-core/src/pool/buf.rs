//! [`PoolBuf`]: the owned buffer of a [`Pool`](super::Pool).
//!
//! # What the unsafe code here relies on
//!
//! A `PoolBuf` (or `Detached`) that names `chunk` is the only owner of that chunk: the pool hands
//! an index out once, marked [`Owner::Application`], and takes it back only from the owner. The
//! kernel has no access in that state, by the contract of [`Pool::reclaim`](super::Pool::reclaim).
//! `offset + len` never exceeds the chunk, the chunk never exceeds the mapping, and the mapping
//! lives as long as the arena that the pool holds. Anonymous mappings start zeroed, so every
//! byte is initialised.
//!
//! Each buffer is counted in its pool (see `count`), so the pointer to it is valid.

use std::cell::Cell;
use std::fmt;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::Arc;

use super::count::{count, hold, let_go, pointer};
use super::shared::State;
use super::{Arena, Detached, Kind, Lent, Owner, Pool, Shared};
use crate::buffer::Room;
use crate::burst::{Burst, Drain};
use crate::{Buffer, OutOfRoom};

/// An owned buffer of a [`Pool`](super::Pool): a frame or a datagram, as the pool's [`Kind`] says.
///
/// It belongs to the pool's thread:
///
/// ```compile_fail,E0277
/// # use bypass_core::pool::PoolBuf;
/// # use bypass_core::backend::memory::Memory;
/// fn elsewhere(frame: PoolBuf<Memory>) {
///     std::thread::spawn(move || drop(frame)); // error: `Rc` cannot be sent between threads
/// }
/// ```
///
/// [`detach`](Self::detach) makes it one that crosses threads. It has one owner, so it cannot be
/// cloned:
///
/// ```compile_fail,E0599
/// # use bypass_core::pool::PoolBuf;
/// # use bypass_core::backend::memory::Memory;
/// fn two_owners(frame: PoolBuf<Memory>) {
///     let another = frame.clone(); // error: no method `clone`
/// }
/// ```
pub struct PoolBuf<K: Kind> {
    /// Its pool, which has counted it.
    shared: NonNull<Shared<K>>,
    chunk: u32,
    offset: u32,
    len: u32,
}

/// Where a chunk lies that was lent to the kernel or the device.
///
/// The address is good for as long as the [`Arena`] lives. A lent chunk does not keep it alive:
/// whoever gives the address away holds an `Arc` of the arena until the kernel is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Posted {
    /// Index in the arena; names the chunk when it is taken back.
    pub chunk: u32,
    /// The first byte of the data.
    pub data: *mut u8,
    /// Bytes of data.
    pub len: u32,
    /// Where the data begins in the chunk.
    pub offset: u32,
    /// Bytes from the start of the data to the end of the chunk.
    pub room: u32,
}

impl<K: Kind> PoolBuf<K> {
    /// Makes the caller, who took `chunk` from the pool, its owner.
    pub(super) fn own(shared: &Rc<Shared<K>>, chunk: u32, offset: u32, len: u32) -> Self {
        hold(shared, 1);
        Self::counted(shared, chunk, offset, len)
    }

    /// As [`own`](Self::own), of a buffer that was counted before.
    #[inline]
    pub(super) fn counted(shared: &Rc<Shared<K>>, chunk: u32, offset: u32, len: u32) -> Self {
        debug_assert!(shared.states[chunk as usize].get().is_of(Owner::Application));
        debug_assert!(offset + len <= shared.chunk_size);
        Self { shared: pointer(shared), chunk, offset, len }
    }

    pub(super) fn shared(&self) -> &Shared<K> {
        // SAFETY: the pool has counted this buffer, so it is there (see the module's head).
        unsafe { self.shared.as_ref() }
    }

    /// Whether it lies in that pool.
    #[inline]
    pub(super) fn is_of(&self, pool: &Rc<Shared<K>>) -> bool {
        self.shared == pointer(pool)
    }

    /// What travels beside the bytes.
    #[must_use]
    pub fn meta(&self) -> K::Meta {
        self.shared().meta(self.chunk)
    }

    /// Sets what travels beside the bytes.
    pub fn set_meta(&mut self, meta: K::Meta) {
        self.shared().set_meta(self.chunk, meta);
    }

    /// The memory that the buffer lies in.
    #[must_use]
    pub fn arena(&self) -> &Arc<Arena> {
        &self.shared().arena
    }

    /// Offset of the data from the start of the arena, in bytes: the address in AF_XDP's terms.
    #[must_use]
    pub fn arena_offset(&self) -> usize {
        self.chunk as usize * self.shared().chunk_size as usize + self.offset as usize
    }

    /// Lends the chunk to the kernel or the device, until [`Pool::reclaim`](super::Pool::reclaim).
    ///
    /// Safe, because a chunk that nobody takes back is merely lost to the pool; what the kernel
    /// does with the address is the unsafe part. Of a chain this lends the first segment; take the
    /// others off before with [`split_next`](Self::split_next), or they are freed.
    #[must_use]
    pub fn post(mut self, to: Lent) -> Posted {
        drop(self.split_next());
        let posted = Posted {
            chunk: self.chunk,
            data: self.pointer(),
            len: self.len,
            offset: self.offset,
            room: self.shared().chunk_size - self.offset,
        };
        let shared = self.shared();
        let lent = shared.lent(to);
        lent.set(lent.get().wrapping_add(1));
        shared.lend(self.chunk, to, self.offset, self.len);
        self.dissolve();
        posted
    }

    /// [Lends](Self::post) buffers from the front of `frames`, up to `most`, as long as they are of
    /// `pool`, of one segment and `accept`ed, with one look at the counters for all of them; `posted`
    /// gets them in order. Returns how many.
    #[inline]
    pub fn post_front(
        frames: &mut Burst<Self>,
        pool: &Pool<K>,
        to: Lent,
        most: usize,
        mut accept: impl FnMut(&Self) -> bool,
        mut posted: impl FnMut(Posted),
    ) -> usize {
        /// Takes what was lent out of the burst, also after a panic.
        struct Lending<'a, K: Kind> {
            frames: &'a mut Burst<PoolBuf<K>>,
            shared: &'a Rc<Shared<K>>,
            lent: &'a Cell<u32>,
            n: usize,
        }
        impl<K: Kind> Drop for Lending<'_, K> {
            #[inline]
            fn drop(&mut self) {
                self.lent.set(self.lent.get().wrapping_add(self.n as u32));
                self.frames.drain(self.n).forget(self.n);
                // SAFETY: they were counted, were forgotten, and are not looked at again.
                unsafe { let_go(pointer(self.shared), self.n) };
            }
        }
        let shared = &pool.shared;
        // In a loop the tables are not looked up each time: see `Ledger`.
        let (states, extents) = shared.tables();
        let (this, base, size) = (pointer(shared), shared.arena.base(), shared.chunk_size);
        let mut lending = Lending { frames, shared, lent: shared.lent(to), n: 0 };
        for buffer in lending.frames.iter().take(most) {
            let chunk = buffer.chunk as usize;
            let (Some(state), Some(extent)) = (states.get(chunk), extents.get(chunk)) else {
                break;
            };
            if buffer.shared != this || state.get().has(State::HAS_NEXT) || !accept(buffer) {
                break;
            }
            extent.set((buffer.offset, buffer.len));
            state.set(state.get().given_to(to.owner()));
            lending.n += 1;
            let at = chunk * size as usize + buffer.offset as usize;
            posted(Posted {
                chunk: buffer.chunk,
                // SAFETY: chunk and offset lie inside the mapping (see the module's head).
                data: unsafe { base.add(at) },
                len: buffer.len,
                offset: buffer.offset,
                room: size - buffer.offset,
            });
        }
        lending.n
    }

    /// Puts `more` behind the last segment of this buffer.
    ///
    /// # Errors
    ///
    /// Gives `more` back when it is of another pool.
    pub fn chain(&mut self, more: Self) -> Result<(), Self> {
        if self.shared != more.shared {
            return Err(more);
        }
        let shared = self.shared();
        shared.extents[more.chunk as usize].set((more.offset, more.len));
        let mut last = self.chunk;
        while let Some(next) = shared.next(last) {
            last = next;
        }
        shared.join(last, more.chunk);
        more.dissolve();
        Ok(())
    }

    /// Takes off everything behind the first segment, as a buffer of its own.
    pub fn split_next(&mut self) -> Option<Self> {
        let shared = self.shared();
        let chunk = shared.cut(self.chunk)?;
        let (offset, len) = shared.extents[chunk as usize].get();
        // This buffer is counted, so the pool holds itself already.
        count(&shared.buffers, 1);
        Some(Self { shared: self.shared, chunk, offset, len })
    }

    /// Whether there are segments behind the first.
    #[must_use]
    pub fn is_chain(&self) -> bool {
        self.shared().has_next(self.chunk)
    }

    /// Makes it a buffer that can go to another thread.
    ///
    /// # Errors
    ///
    /// Gives it back when it has several segments; detach them one by one.
    pub fn detach(self) -> Result<Detached<K>, Self> {
        if self.is_chain() {
            return Err(self);
        }
        let (chunk, offset, len, meta) = (self.chunk, self.offset, self.len, self.meta());
        let arena = Arc::clone(&self.shared().arena);
        self.dissolve();
        Ok(Detached::own(arena, chunk, offset, len, meta))
    }

    /// Ends the buffer without freeing its chunk.
    fn dissolve(self) {
        let this = ManuallyDrop::new(self);
        // SAFETY: it was counted, and `this` is neither dropped nor used again.
        unsafe { let_go(this.shared, 1) };
    }

    fn pointer(&self) -> *mut u8 {
        // SAFETY: chunk and offset lie inside the mapping (see the module's head).
        unsafe { self.shared().arena.base().add(self.arena_offset()) }
    }

    fn end(&self) -> u32 {
        self.offset + self.len
    }

    fn no_room(room: Room, asked: usize, available: u32) -> OutOfRoom {
        OutOfRoom { room, asked, available: available as usize }
    }
}

impl<K: Kind> Buffer for PoolBuf<K> {
    fn data(&self) -> &[u8] {
        // SAFETY: the range is in the chunk that this buffer alone owns, and initialised; the
        // result borrows the buffer, so nobody writes while it lives (see the module's head).
        unsafe { std::slice::from_raw_parts(self.pointer(), self.len as usize) }
    }

    fn data_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `data`; the result borrows the buffer mutably, so it is the only access.
        unsafe { std::slice::from_raw_parts_mut(self.pointer(), self.len as usize) }
    }

    fn headroom(&self) -> usize {
        self.offset as usize
    }

    fn tailroom(&self) -> usize {
        (self.shared().chunk_size - self.end()) as usize
    }

    fn prepend(&mut self, n: usize) -> Result<&mut [u8], OutOfRoom> {
        if n > self.headroom() {
            return Err(Self::no_room(Room::Headroom, n, self.offset));
        }
        self.offset -= n as u32;
        self.len += n as u32;
        Ok(&mut self.data_mut()[..n])
    }

    fn append(&mut self, n: usize) -> Result<&mut [u8], OutOfRoom> {
        let old = self.len as usize;
        if n > self.tailroom() {
            return Err(Self::no_room(Room::Tailroom, n, self.tailroom() as u32));
        }
        self.len += n as u32;
        Ok(&mut self.data_mut()[old..])
    }

    fn trim_front(&mut self, n: usize) -> Result<(), OutOfRoom> {
        if n > self.len as usize {
            return Err(Self::no_room(Room::Data, n, self.len));
        }
        self.offset += n as u32;
        self.len -= n as u32;
        Ok(())
    }

    fn set_len(&mut self, n: usize) -> Result<(), OutOfRoom> {
        let most = self.shared().chunk_size - self.offset;
        if n > most as usize {
            return Err(Self::no_room(Room::Tailroom, n, most));
        }
        self.len = n as u32;
        Ok(())
    }

    /// With one look at the counters for all buffers of a pool that lie side by side.
    fn free_bulk(mut buffers: Drain<'_, Self>) {
        let mut left = buffers.forget(usize::MAX);
        while let Some(first) = left.first() {
            let pool = first.shared;
            let chunks = left.iter().take_while(|buffer| buffer.shared == pool).map(|b| b.chunk);
            let n = first.shared().release_many(chunks);
            // SAFETY: they were counted, were forgotten, and are not looked at again.
            unsafe { let_go(pool, n) };
            left = &left[n..];
        }
    }

    fn segments(&self) -> impl Iterator<Item = &[u8]> {
        let shared = self.shared();
        let mut next = shared.next(self.chunk);
        let rest = std::iter::from_fn(move || {
            let chunk = next?;
            let (offset, len) = shared.extents[chunk as usize].get();
            let at = chunk as usize * shared.chunk_size as usize + offset as usize;
            next = shared.next(chunk);
            // SAFETY: the chunk and its extent lie inside the mapping.
            let pointer = unsafe { shared.arena.base().add(at) };
            // SAFETY: every chunk of the chain belongs to this buffer alone; the result borrows it.
            Some(unsafe { std::slice::from_raw_parts(pointer, len as usize) })
        });
        std::iter::once(self.data()).chain(rest)
    }
}

impl<K: Kind> Drop for PoolBuf<K> {
    fn drop(&mut self) {
        self.shared().release_chain(self.chunk);
        // SAFETY: it was counted, and is not used again.
        unsafe { let_go(self.shared, 1) };
    }
}

impl<K: Kind> fmt::Debug for PoolBuf<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolBuf")
            .field("backend", &K::BACKEND)
            .field("chunk", &self.chunk)
            .field("offset", &self.offset)
            .field("len", &self.len)
            .finish()
    }
}
