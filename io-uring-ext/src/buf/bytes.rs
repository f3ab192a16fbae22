//! The types of the `bytes` crate, by the feature of that name.

use bytes::{Bytes, BytesMut};

use super::{IoBuf, IoBufMut};

// SAFETY: the bytes lie on the heap, in static memory or with an owner that `Bytes` does not move, and
// nobody writes to them while there is a handle.
unsafe impl IoBuf for Bytes {
    fn stable_ptr(&self) -> *const u8 {
        self.as_ptr()
    }
    fn init_len(&self) -> usize {
        self.len()
    }
}

// SAFETY: the bytes lie on the heap and belong to this handle alone.
unsafe impl IoBuf for BytesMut {
    fn stable_ptr(&self) -> *const u8 {
        self.as_ptr()
    }
    fn init_len(&self) -> usize {
        self.len()
    }
}

// SAFETY: `capacity` bytes from the pointer belong to this handle alone.
unsafe impl IoBufMut for BytesMut {
    fn stable_mut_ptr(&mut self) -> *mut u8 {
        self.as_mut_ptr()
    }
    fn capacity(&self) -> usize {
        self.capacity()
    }
    unsafe fn set_init(&mut self, len: usize) {
        // SAFETY: the caller promises that so many bytes are initialised and fit.
        unsafe { self.set_len(len) };
    }
}
