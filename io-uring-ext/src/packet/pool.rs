//! The family's pool buffers as memory that a ring may own.
//!
//! Relies on what `bypass_core::pool` promises of a `PoolBuf`: it is the only owner of its chunk, the
//! chunk lies in a mapping that the buffer keeps alive and that began zeroed, and moving the buffer
//! moves no bytes.

use bypass_core::Buffer;
use bypass_core::pool::{Kind, Pool, PoolBuf};

use crate::buf::{IoBuf, IoBufMut};
use crate::buf_ring::BufSource;

/// Of a chain, the ring's own operations (`Send`, a `Message`) send the first segment only. To send
/// all of it, take it apart with `split_next` and push every segment to a
/// [`Message`](crate::op::Message), or send it through an endpoint.
// SAFETY: the data is in a chunk that the buffer alone owns, at an address that does not change when
// the buffer moves, and initialised.
unsafe impl<K: Kind> IoBuf for PoolBuf<K> {
    fn stable_ptr(&self) -> *const u8 {
        self.data().as_ptr()
    }
    fn init_len(&self) -> usize {
        self.data().len()
    }
}

// SAFETY: from the start of the data to the end of the chunk belongs to the buffer alone.
unsafe impl<K: Kind> IoBufMut for PoolBuf<K> {
    fn stable_mut_ptr(&mut self) -> *mut u8 {
        self.data_mut().as_mut_ptr()
    }
    fn capacity(&self) -> usize {
        self.data().len() + self.tailroom()
    }
    unsafe fn set_init(&mut self, len: usize) {
        let fits = self.set_len(len);
        debug_assert!(fits.is_ok(), "{len} bytes were written to a smaller chunk");
    }
}

/// Supplies a buffer ring with chunks of a pool.
///
/// Received data begins with a header of the kernel's, which becomes headroom: buffers begin so far
/// before the pool's usual headroom that the payload lies right behind it.
#[derive(Debug)]
pub(super) struct Chunks<K: Kind> {
    pub(super) pool: Pool<K>,
    /// Bytes of header in front of the payload; at most the pool's headroom.
    pub(super) header: usize,
}

impl<K: Kind> BufSource for Chunks<K> {
    type Buf = PoolBuf<K>;

    fn supply(&mut self) -> Option<PoolBuf<K>> {
        let mut chunk = self.pool.alloc_rx()?;
        chunk.prepend(self.header).ok()?;
        chunk.set_len(0).ok()?;
        Some(chunk)
    }
}
