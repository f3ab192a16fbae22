//! [`Burst`]: the fixed-capacity, contiguous batch that every call on the data path works on.
//!
//! # What the unsafe code here relies on
//!
//! `slots[head..tail]` is initialised and owned by the burst, everything else is not, and
//! `head <= tail <= slots.len()`. Both cursors only move through the methods below, and always
//! *before* ownership leaves or *after* it has arrived: a destructor that panics, or an iterator
//! that is forgotten, can leak buffers but never have one dropped twice.

mod contents;
mod drain;

use std::fmt;
use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};

use self::contents::Contents;
pub use self::drain::Drain;
use crate::Buffer;

/// A batch of owned buffers: contiguous, fixed in capacity, first in first out.
///
/// A backend appends what it received at the back and takes what it accepted from the front, so
/// whatever it refused is still there, in order, for the next try. Nothing is allocated after
/// construction, and dropping a burst gives its buffers back in one
/// [bulk free](Buffer::free_bulk).
///
/// ```
/// use bypass_core::backend::memory::Memory;
/// use bypass_core::pool::{Pool, PoolOptions};
/// use bypass_core::{Buffer, Burst};
///
/// let pool = Pool::<Memory>::new(&PoolOptions::new(64))?;
/// let mut burst = Burst::with_capacity(32);
/// pool.alloc(&mut burst, 8);
/// assert_eq!(burst.len(), 8);
/// burst[0].append(4)?.copy_from_slice(b"ping");
/// let first = burst.pop_front();
/// assert_eq!(first.as_ref().map(|frame| frame.data()), Some(&b"ping"[..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A buffer that was put into a burst, and so one that was sent, cannot be used any more:
///
/// ```compile_fail,E0382
/// use bypass_core::{Buffer, Burst};
///
/// fn keep<B: Buffer>(mut buffer: B, out: &mut Burst<B>) {
///     let _ = out.push(buffer);
///     buffer.data_mut(); // error: borrow of moved value
/// }
/// ```
///
/// and one that is still in it cannot be kept beyond a call that may take it away:
///
/// ```compile_fail,E0502
/// use bypass_core::{Buffer, Burst, PacketIo};
///
/// fn peek<P: PacketIo>(port: &mut P, burst: &mut Burst<P::Frame>) -> Option<u8> {
///     let first = burst.first()?;
///     port.send(burst).ok()?; // error: `first` still borrows the burst
///     first.data().first().copied()
/// }
/// ```
///
/// Another backend's buffer does not go into it; copy it with
/// [`PacketIoExt::import`](crate::PacketIoExt::import):
///
/// ```compile_fail,E0308
/// use bypass_core::Burst;
/// use bypass_core::backend::memory::{Memory, MemoryFrame};
/// use bypass_core::pool::{FrameMeta, Kind, PoolBuf};
///
/// struct Other;
/// impl Kind for Other {
///     type Meta = FrameMeta;
///     const BACKEND: &'static str = "other";
/// }
///
/// fn mix(frame: PoolBuf<Other>, burst: &mut Burst<MemoryFrame>) {
///     let _ = burst.push(frame); // error: expected `PoolBuf<Memory>`, found `PoolBuf<Other>`
/// }
/// ```
pub struct Burst<B: Buffer> {
    slots: Box<[MaybeUninit<B>]>,
    head: usize,
    tail: usize,
    /// At most `slots.len()`; `tail - head` may exceed it after [`set_limit`](Self::set_limit).
    capacity: usize,
    /// Whether a buffer may have another shape than a device has handed it out with.
    changed: bool,
}

impl<B: Buffer> Burst<B> {
    /// An empty burst for up to `capacity` buffers. The usual size is 32 to 64.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        let slots = Box::new_uninit_slice(capacity);
        Self { slots, head: 0, tail: 0, capacity, changed: false }
    }

    /// How many buffers it can hold.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Sets how many buffers it can hold, up to the number that it was made for; those that are in
    /// it stay, and [go back](Self::push_front) into it.
    pub fn set_limit(&mut self, capacity: usize) {
        self.capacity = capacity.min(self.slots.len());
    }

    /// How many more buffers fit.
    #[inline]
    #[must_use]
    pub fn room(&self) -> usize {
        self.capacity.saturating_sub(self.len())
    }

    /// Whether no more buffers fit.
    #[inline]
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.room() == 0
    }

    /// Appends a buffer.
    ///
    /// # Errors
    ///
    /// Gives the buffer back when the burst is full.
    #[inline]
    pub fn push(&mut self, buffer: B) -> Result<(), B> {
        if self.is_full() {
            return Err(buffer);
        }
        if self.tail == self.slots.len() {
            self.make_room(1);
        }
        let Some(slot) = self.slots.get_mut(self.tail) else { return Err(buffer) };
        slot.write(buffer);
        self.tail += 1;
        self.changed = true;
        Ok(())
    }

    /// Appends buffers from `source`, until it ends or the burst is full. Returns how many.
    #[inline]
    pub fn fill_from(&mut self, source: impl Iterator<Item = B>) -> usize {
        let room = self.room();
        self.make_room(room);
        self.changed = true;
        let slots = self.slots.get_mut(self.tail..).unwrap_or_default();
        let mut filled = Filled { tail: &mut self.tail, n: 0 };
        for (slot, buffer) in slots.iter_mut().take(room).zip(source) {
            slot.write(buffer);
            filled.n += 1;
        }
        filled.n
    }

    /// Puts a buffer in front of the others: one that was [popped](Self::pop_front) and refused.
    /// What has left the burst always fits again, whatever its [limit](Self::set_limit).
    ///
    /// # Errors
    ///
    /// Gives the buffer back when there are as many as the burst was made for.
    pub fn push_front(&mut self, buffer: B) -> Result<(), B> {
        self.changed = true;
        if self.head > 0 {
            self.head -= 1;
            self.slots[self.head].write(buffer);
            return Ok(());
        }
        // Nothing was popped since the slots were last moved: join at the back, and turn.
        let Some(slot) = self.slots.get_mut(self.tail) else { return Err(buffer) };
        slot.write(buffer);
        self.tail += 1;
        self.rotate_right(1);
        Ok(())
    }

    /// Takes the first buffer.
    #[inline]
    pub fn pop_front(&mut self) -> Option<B> {
        if self.is_empty() {
            return None;
        }
        // SAFETY: it is inside `head..tail`, which lies inside the slots (type invariant).
        let slot = unsafe { self.slots.get_unchecked(self.head) }.as_ptr();
        self.head += 1;
        // SAFETY: `slot` was inside `head..tail`, hence initialised; the cursor has moved past it,
        // so this is the only place that will ever read it out.
        Some(unsafe { slot.read() })
    }

    /// Takes the last buffer.
    pub fn pop_back(&mut self) -> Option<B> {
        if self.is_empty() {
            return None;
        }
        self.tail -= 1;
        let slot = self.slots[self.tail].as_ptr();
        // SAFETY: `slot` was inside `head..tail`, hence initialised; the cursor has moved before
        // it, so this is the only place that will ever read it out.
        Some(unsafe { slot.read() })
    }

    /// Takes the first `n` buffers (or all, if there are fewer), in order.
    ///
    /// They leave the burst at once; those that the iterator is not asked for are dropped with it.
    pub fn drain(&mut self, n: usize) -> Drain<'_, B> {
        let end = self.head + n.min(self.len());
        let start = std::mem::replace(&mut self.head, end);
        // SAFETY: the slots were inside `head..tail`, hence initialised; the cursor has moved past them.
        unsafe { Drain::new(&mut self.slots[start..end]) }
    }

    /// Moves up to `n` buffers from the front of `other` to the back of `self`, as many as fit.
    /// Returns how many moved.
    pub fn append(&mut self, other: &mut Self, n: usize) -> usize {
        let n = n.min(other.len()).min(self.room());
        self.make_room(n);
        self.changed |= other.changed;
        for buffer in other.drain(n) {
            self.slots[self.tail].write(buffer);
            self.tail += 1;
        }
        n
    }

    /// Keeps the buffers for which `keep` answers true, in order; the others are dropped, in one
    /// bulk free.
    pub fn retain(&mut self, mut keep: impl FnMut(&mut B) -> bool) {
        // Everything stays in the burst until the survivors are in front, so a panic in `keep`
        // loses nothing.
        let mut kept = 0;
        for i in 0..self.len() {
            if keep(&mut self[i]) {
                self.swap(kept, i);
                kept += 1;
            }
        }
        self.truncate(kept);
    }

    /// Drops the buffers behind the first `len`, in one bulk free.
    pub fn truncate(&mut self, len: usize) {
        if len < self.len() {
            let end = std::mem::replace(&mut self.tail, self.head + len);
            // SAFETY: the slots were inside `head..tail`, hence initialised; the cursor has moved before
            // them.
            B::free_bulk(unsafe { Drain::new(&mut self.slots[self.tail..end]) });
        }
    }

    /// Drops every buffer, in one bulk free.
    pub fn clear(&mut self) {
        self.truncate(0);
    }

    /// All unused slots, [`room`](Self::room) of them, for a backend that fills them in place.
    ///
    /// Follow with [`assume_filled`](Self::assume_filled) for those that were written.
    #[inline]
    pub fn spare(&mut self) -> &mut [MaybeUninit<B>] {
        let room = self.room();
        self.make_room(room);
        &mut self.slots[self.tail..self.tail + room]
    }

    /// Counts the first `n` of the [`spare`](Self::spare) slots as buffers of this burst.
    ///
    /// # Safety
    ///
    /// The first `n` slots that the last call of `spare` returned must have been initialised since,
    /// the burst must not have been changed in between, and nothing else may own what was written
    /// there.
    #[inline]
    pub unsafe fn assume_filled(&mut self, n: usize) {
        debug_assert!(n <= self.slots.len() - self.tail, "more slots filled than were spare");
        self.changed = true;
        self.tail += n;
    }

    /// Appends what a device hands out: `fill` is given all unused slots and answers how many it has
    /// written, from the first. Returns that number.
    ///
    /// # Safety
    ///
    /// As many slots as `fill` answers were initialised by it, and nothing else owns what was written
    /// there. What [`Buffer::data_mut`] answers for each has [`Buffer::SHORTEST_RECEIVED`] bytes at least, as long as
    /// nothing else was done to it.
    #[inline(always)]
    pub unsafe fn receive(&mut self, fill: impl FnOnce(&mut [MaybeUninit<B>]) -> usize) -> usize {
        if !self.is_empty() {
            // SAFETY: as the caller says.
            return unsafe { self.receive_more(fill) };
        }
        // SAFETY: `capacity <= slots.len()` (type invariant).
        let spare = unsafe { self.slots.get_unchecked_mut(..self.capacity) };
        let n = fill(spare);
        debug_assert!(n <= self.capacity, "more slots filled than were spare");
        self.head = 0;
        self.tail = n;
        self.changed = false;
        n
    }

    /// [`receive`](Self::receive) behind buffers that are there: apart, so that a loop that sends all it
    /// has received knows where the first is.
    ///
    /// # Safety
    ///
    /// As for `receive`.
    #[cold]
    #[inline(never)]
    unsafe fn receive_more(&mut self, fill: impl FnOnce(&mut [MaybeUninit<B>]) -> usize) -> usize {
        let room = self.room();
        self.make_room(room);
        let n = fill(&mut self.slots[self.tail..self.tail + room]);
        debug_assert!(n <= room, "more slots filled than were spare");
        self.tail += n;
        n
    }

    /// Whether every buffer in it has the shape that a device has handed it out with: none was put here
    /// otherwise, and nobody has had the means to change more of one than its [bytes](Self::data_mut).
    /// Such buffers need not be looked at again when they are passed on.
    #[inline]
    #[must_use]
    pub fn is_as_received(&self) -> bool {
        !self.changed
    }

    /// The bytes of each buffer, to change in place: [`Buffer::data_mut`]. Neither lengths nor buffers
    /// change, so what was received counts as it was [received](Self::is_as_received).
    ///
    /// By `for_each` (or another method that goes through all of them at once) what is in every buffer of the
    /// device's ([`Buffer::SHORTEST_RECEIVED`]) is there without a look at each length: `first_mut`,
    /// `first_chunk_mut` and the like then cost no more than a pointer does in C.
    #[inline]
    pub fn data_mut(&mut self) -> impl ExactSizeIterator<Item = &mut [u8]> {
        let as_received = self.is_as_received();
        // SAFETY: what is as it was received has such bytes: whoever handed it out has said so (`receive`),
        // and every method that lets anybody change more than bytes says that it did.
        unsafe { Contents::new(self.live_mut(), as_received) }
    }

    /// The buffers as they lie in memory, for a backend that hands them to its driver; count those that
    /// it has taken with [`forget`](Self::forget).
    #[inline]
    pub fn as_raw(&mut self) -> *mut B {
        self.slots.as_mut_ptr().wrapping_add(self.head).cast()
    }

    /// Counts the first `n` buffers (or all, if there are fewer) as taken, without running their
    /// destructors, and returns how many.
    ///
    /// Safe, as forgetting always is; what is not passed on is leaked.
    #[inline]
    pub fn forget(&mut self, n: usize) -> usize {
        let n = n.min(self.len());
        self.head += n;
        n
    }

    /// Makes sure that the next `n` buffers fit behind `tail`, where `n` is at most `room()`.
    #[inline]
    fn make_room(&mut self, n: usize) {
        if self.is_empty() {
            self.head = 0;
            self.tail = 0;
            self.changed = false;
        } else if self.slots.len() - self.tail < n {
            self.move_to_front();
        }
    }

    #[inline]
    fn live_mut(&mut self) -> &mut [B] {
        // SAFETY: `head..tail` is in bounds (type invariant).
        let live = unsafe { self.slots.get_unchecked_mut(self.head..self.tail) };
        // SAFETY: every slot in `head..tail` is initialised (type invariant).
        unsafe { live.assume_init_mut() }
    }

    #[cold]
    fn move_to_front(&mut self) {
        let len = self.len();
        let base = self.slots.as_mut_ptr();
        // SAFETY: `head` is within the allocation (type invariant).
        let from = unsafe { base.add(self.head) };
        // SAFETY: both ranges lie inside the allocation (`head + len == tail <= slots.len()`),
        // and `copy` allows them to overlap. Ownership follows the bytes: the old places count
        // as uninitialised once the cursors say so, and nothing can panic in between.
        unsafe { std::ptr::copy(from, base, len) };
        self.head = 0;
        self.tail = len;
    }
}

/// Counts filled slots as buffers of the burst when it is dropped: once for all of them, and also
/// when their source panics.
struct Filled<'a> {
    tail: &'a mut usize,
    n: usize,
}

impl Drop for Filled<'_> {
    fn drop(&mut self) {
        *self.tail += self.n;
    }
}

impl<B: Buffer> Deref for Burst<B> {
    type Target = [B];

    #[inline]
    fn deref(&self) -> &[B] {
        // SAFETY: `head..tail` is in bounds (type invariant).
        let live = unsafe { self.slots.get_unchecked(self.head..self.tail) };
        // SAFETY: every slot in `head..tail` is initialised (type invariant).
        unsafe { live.assume_init_ref() }
    }
}

impl<B: Buffer> DerefMut for Burst<B> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [B] {
        self.changed = true;
        self.live_mut()
    }
}

impl<B: Buffer> Drop for Burst<B> {
    fn drop(&mut self) {
        self.clear();
    }
}

impl<B: Buffer> fmt::Debug for Burst<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Burst")
            .field("len", &self.len())
            .field("capacity", &self.capacity())
            .finish()
    }
}

#[cfg(test)]
mod tests;
