//! [`Contents`]: the bytes of a burst's buffers, to change in place.

use std::hint::assert_unchecked;

use crate::Buffer;

/// The bytes of each buffer of a burst.
pub(super) struct Contents<'a, B> {
    buffers: std::slice::IterMut<'a, B>,
    as_received: bool,
}

impl<'a, B: Buffer> Contents<'a, B> {
    /// # Safety
    ///
    /// If they are `as_received`, each of the buffers has [`Buffer::SHORTEST_RECEIVED`] bytes at least.
    #[inline]
    pub(super) unsafe fn new(buffers: &'a mut [B], as_received: bool) -> Self {
        Self { buffers: buffers.iter_mut(), as_received }
    }
}

impl<'a, B: Buffer> Iterator for Contents<'a, B> {
    type Item = &'a mut [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a mut [u8]> {
        self.buffers.next().map(B::data_mut)
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        self.buffers.size_hint()
    }

    #[inline]
    fn fold<T, F: FnMut(T, &'a mut [u8]) -> T>(self, init: T, f: F) -> T {
        if !self.as_received {
            return self.buffers.map(B::data_mut).fold(init, f);
        }
        let data = |buffer: &'a mut B| {
            let data = buffer.data_mut();
            // SAFETY: so it is, as whoever made this has promised; nothing but bytes was changed since.
            unsafe { assert_unchecked(data.len() >= B::SHORTEST_RECEIVED) };
            data
        };
        self.buffers.map(data).fold(init, f)
    }
}

impl<B: Buffer> ExactSizeIterator for Contents<'_, B> {}
