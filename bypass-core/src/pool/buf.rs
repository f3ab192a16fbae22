//! [`PoolBuf`]: the owned buffer of a [`Pool`](super::Pool).
//!
//! # What the unsafe code here relies on
//!
//! A `PoolBuf` (or `Detached`) that names `chunk` is the only owner of that chunk: the pool hands
//! an index out once, marked [`Owner::Application`], and takes it back only from the owner. The
//! kernel has no access in that state, by the contract of [`Pool::reclaim`](super::Pool::reclaim).
//! `offset + len` never exceeds the chunk, the chunk never exceeds the mapping, and the mapping
//! lives as long as the arena that the buffer holds. Anonymous mappings start zeroed, so every
//! byte is initialised.

use std::fmt;
use std::mem::ManuallyDrop;
use std::rc::Rc;
use std::sync::Arc;

use super::{Arena, Detached, Kind, Lent, NONE, Owner, Shared};
use crate::buffer::Room;
use crate::datagram::{Datagram, RecvMeta, Transmit};
use crate::{Buffer, Frame, OutOfRoom, RxMeta, TxMeta, Unsupported};

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
    shared: Rc<Shared<K>>,
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
    /// Bytes from the start of the data to the end of the chunk.
    pub room: u32,
}

impl<K: Kind> PoolBuf<K> {
    /// Makes the caller, who took `chunk` from the pool, its owner.
    pub(super) fn own(shared: Rc<Shared<K>>, chunk: u32, offset: u32, len: u32) -> Self {
        debug_assert_eq!(shared.slots[chunk as usize].owner.get(), Owner::Application);
        debug_assert!(offset + len <= shared.arena.chunk_size());
        Self { shared, chunk, offset, len }
    }

    pub(super) fn shared(&self) -> &Rc<Shared<K>> {
        &self.shared
    }

    /// What travels beside the bytes.
    #[must_use]
    pub fn meta(&self) -> K::Meta {
        self.shared.metas[self.chunk as usize].get()
    }

    /// Sets what travels beside the bytes.
    pub fn set_meta(&mut self, meta: K::Meta) {
        self.shared.set_meta(self.chunk, meta);
    }

    /// The memory that the buffer lies in.
    #[must_use]
    pub fn arena(&self) -> &Arc<Arena> {
        &self.shared.arena
    }

    /// Offset of the data from the start of the arena, in bytes: the address in AF_XDP's terms.
    #[must_use]
    pub fn arena_offset(&self) -> usize {
        self.chunk as usize * self.shared.arena.chunk_size() as usize + self.offset as usize
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
            room: self.shared.arena.chunk_size() - self.offset,
        };
        let lent = self.shared.lent(to);
        lent.set(lent.get() + 1);
        let extent = (self.offset, self.len);
        let (shared, chunk) = self.dissolve();
        let slot = &shared.slots[chunk as usize];
        slot.extent.set(extent);
        slot.owner.set(to.owner());
        posted
    }

    /// Puts `more` behind the last segment of this buffer.
    ///
    /// # Errors
    ///
    /// Gives `more` back when it is of another pool.
    pub fn chain(&mut self, more: Self) -> Result<(), Self> {
        if !Rc::ptr_eq(&self.shared, &more.shared) {
            return Err(more);
        }
        let extent = (more.offset, more.len);
        let (shared, tail) = more.dissolve();
        shared.slots[tail as usize].extent.set(extent);
        let mut last = self.chunk;
        while shared.slots[last as usize].next.get() != NONE {
            last = shared.slots[last as usize].next.get();
        }
        shared.slots[last as usize].next.set(tail);
        Ok(())
    }

    /// Takes off everything behind the first segment, as a buffer of its own.
    pub fn split_next(&mut self) -> Option<Self> {
        let next = self.shared.slots[self.chunk as usize].next.replace(NONE);
        if next == NONE {
            return None;
        }
        let (offset, len) = self.shared.slots[next as usize].extent.get();
        Some(Self::own(Rc::clone(&self.shared), next, offset, len))
    }

    /// Whether there are segments behind the first.
    #[must_use]
    pub fn is_chain(&self) -> bool {
        self.shared.slots[self.chunk as usize].next.get() != NONE
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
        let (offset, len, meta) = (self.offset, self.len, self.meta());
        let arena = Arc::clone(&self.shared.arena);
        let (_, chunk) = self.dissolve();
        Ok(Detached::own(arena, chunk, offset, len, meta))
    }

    /// Ends the buffer without freeing its chunk.
    fn dissolve(self) -> (Rc<Shared<K>>, u32) {
        let this = ManuallyDrop::new(self);
        let shared: *const Rc<Shared<K>> = &raw const this.shared;
        // SAFETY: `this` is never dropped and not used again, so the `Rc` is moved out once.
        (unsafe { shared.read() }, this.chunk)
    }

    fn pointer(&self) -> *mut u8 {
        // SAFETY: chunk and offset lie inside the mapping (see the module's head).
        unsafe { self.shared.arena.base().add(self.arena_offset()) }
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
        (self.shared.arena.chunk_size() - self.end()) as usize
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
        let most = self.shared.arena.chunk_size() - self.offset;
        if n > most as usize {
            return Err(Self::no_room(Room::Tailroom, n, most));
        }
        self.len = n as u32;
        Ok(())
    }

    fn segments(&self) -> impl Iterator<Item = &[u8]> {
        let mut next = self.shared.slots[self.chunk as usize].next.get();
        let rest = std::iter::from_fn(move || {
            let slot = self.shared.slots.get(next as usize)?;
            let (offset, len) = slot.extent.get();
            let at = next as usize * self.shared.arena.chunk_size() as usize + offset as usize;
            next = slot.next.get();
            // SAFETY: the chunk and its extent lie inside the mapping.
            let pointer = unsafe { self.shared.arena.base().add(at) };
            // SAFETY: every chunk of the chain belongs to this buffer alone; the result borrows it.
            Some(unsafe { std::slice::from_raw_parts(pointer, len as usize) })
        });
        std::iter::once(self.data()).chain(rest)
    }
}

impl<K: Kind> Drop for PoolBuf<K> {
    fn drop(&mut self) {
        let mut chunk = self.chunk;
        while chunk != NONE {
            let next = self.shared.slots[chunk as usize].next.replace(NONE);
            self.shared.release(chunk);
            chunk = next;
        }
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

/// What travels beside a frame in a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameMeta {
    /// What was learned on receive.
    pub rx: RxMeta,
    /// What is asked for on send.
    pub tx: TxMeta,
}

/// What travels beside a datagram in a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DatagramMeta {
    /// What was learned on receive.
    pub recv: RecvMeta,
    /// Where it goes.
    pub transmit: Transmit,
}

impl<K: Kind<Meta = FrameMeta>> Frame for PoolBuf<K> {
    fn rx_meta(&self) -> RxMeta {
        self.meta().rx
    }

    fn set_tx_meta(&mut self, tx: TxMeta) -> Result<(), Unsupported> {
        let lacking = tx.offloads().difference(self.shared.tx_offloads);
        if !lacking.is_empty() {
            return Err(Unsupported {
                what: format!("send offload {lacking:?}").into(),
                backend: K::BACKEND,
                why: "the endpoint's `caps().tx_offloads` lists those that it has".into(),
            });
        }
        self.set_meta(FrameMeta { tx, ..self.meta() });
        Ok(())
    }
}

impl<K: Kind<Meta = DatagramMeta>> Datagram for PoolBuf<K> {
    fn recv_meta(&self) -> RecvMeta {
        self.meta().recv
    }

    fn transmit(&self) -> Transmit {
        self.meta().transmit
    }

    fn set_transmit(&mut self, transmit: Transmit) {
        self.set_meta(DatagramMeta { transmit, ..self.meta() });
    }
}
