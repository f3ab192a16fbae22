//! [`Drain`]: buffers on their way out of a burst.
//!
//! # What the unsafe code here relies on
//!
//! `slots[next..]` is initialised and owned by the iterator, what is before is not. The cursor moves
//! before ownership leaves, as in the burst.

use std::fmt;
use std::mem::MaybeUninit;

use crate::Buffer;

/// The buffers that [`Burst::drain`](super::Burst::drain) took out, in order.
pub struct Drain<'a, B: Buffer> {
    /// `slots[next..]` is initialised and owned by the iterator.
    slots: &'a mut [MaybeUninit<B>],
    next: usize,
}

impl<'a, B: Buffer> Drain<'a, B> {
    /// # Safety
    ///
    /// The slots are initialised, and nobody else owns what is in them.
    #[inline]
    pub(super) unsafe fn new(slots: &'a mut [MaybeUninit<B>]) -> Self {
        Self { slots, next: 0 }
    }
}

impl<B: Buffer> Drain<'_, B> {
    /// The remaining buffers as they lie in memory, without taking them.
    #[must_use]
    pub fn as_slice(&self) -> &[B] {
        // SAFETY: `next` never exceeds the length (type invariant).
        let rest = unsafe { self.slots.get_unchecked(self.next..) };
        // SAFETY: `slots[next..]` is initialised (type invariant).
        unsafe { rest.assume_init_ref() }
    }

    /// Counts the first `n` remaining buffers as taken without running their destructors, and
    /// returns them: for a backend that hands them to its driver as they lie.
    ///
    /// Safe, as forgetting always is; what is not passed on is leaked.
    pub fn forget(&mut self, n: usize) -> &[B] {
        let start = self.next;
        self.next += n.min(self.slots.len() - start);
        // SAFETY: `start <= next <= len`.
        let taken = unsafe { self.slots.get_unchecked(start..self.next) };
        // SAFETY: this range was still owned by the iterator, hence initialised, when the call
        // began, and a shared reference gives nobody the right to drop it.
        unsafe { taken.assume_init_ref() }
    }
}

impl<B: Buffer> Iterator for Drain<'_, B> {
    type Item = B;

    fn next(&mut self) -> Option<B> {
        let slot = self.slots.get(self.next)?.as_ptr();
        self.next += 1;
        // SAFETY: the slot was in `slots[next..]`, hence initialised; the cursor has moved past it,
        // so it is read out once.
        Some(unsafe { slot.read() })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.slots.len() - self.next;
        (left, Some(left))
    }
}

impl<B: Buffer> ExactSizeIterator for Drain<'_, B> {}

impl<B: Buffer> Drop for Drain<'_, B> {
    fn drop(&mut self) {
        let rest = &mut self.slots[self.next..];
        // SAFETY: `slots[next..]` is initialised and owned by the iterator (type invariant), which
        // ends here. Should one destructor panic, the others still run.
        unsafe { rest.assume_init_drop() };
    }
}

impl<B: Buffer> fmt::Debug for Drain<'_, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drain").field("left", &self.len()).finish()
    }
}
