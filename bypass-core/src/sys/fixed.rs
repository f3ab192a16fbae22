//! [`Fixed`]: an array whose elements stay where they are.

use std::ops::{Index, IndexMut};
use std::ptr::NonNull;

/// A boxed array that raw pointers may point into for as long as it lives.
///
/// Unlike a `Box`, moving it or borrowing one element says nothing about the others, so pointers
/// that were taken with [`address`](Self::address) stay valid beside the references that indexing
/// gives, as long as no element is used through both at once.
pub(super) struct Fixed<T> {
    elements: NonNull<[T]>,
}

impl<T: Clone> Fixed<T> {
    pub(super) fn new(value: T, n: usize) -> Self {
        let elements = Box::into_raw(vec![value; n].into_boxed_slice());
        // SAFETY: a box is never null.
        Self { elements: unsafe { NonNull::new_unchecked(elements) } }
    }
}

impl<T> Fixed<T> {
    pub(super) fn len(&self) -> usize {
        self.elements.len()
    }

    /// Where element `i` lies.
    ///
    /// # Panics
    ///
    /// When there is no such element.
    pub(super) fn address(&self, i: usize) -> *mut T {
        assert!(i < self.len(), "element {i} of {}", self.len());
        // SAFETY: in bounds, as just checked.
        unsafe { self.elements.as_ptr().cast::<T>().add(i) }
    }
}

impl<T> Index<usize> for Fixed<T> {
    type Output = T;

    fn index(&self, i: usize) -> &T {
        // SAFETY: the element lives as long as `self`, and is initialised; the result borrows
        // `self`, and whoever has a raw pointer does not write through it meanwhile (contract).
        unsafe { &*self.address(i) }
    }
}

impl<T> IndexMut<usize> for Fixed<T> {
    fn index_mut(&mut self, i: usize) -> &mut T {
        // SAFETY: as in `index`; the result borrows `self` mutably.
        unsafe { &mut *self.address(i) }
    }
}

impl<T> Drop for Fixed<T> {
    fn drop(&mut self) {
        // SAFETY: the pointer came out of a box in `new` and is given back once.
        drop(unsafe { Box::from_raw(self.elements.as_ptr()) });
    }
}
