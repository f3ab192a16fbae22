//! Page-aligned memory cut into equal pieces.
//!
//! Relies on one rule, kept by its users: a piece has one owner at a time. The mapping starts out
//! zeroed, so every byte is initialised from the beginning.

use std::io;
use std::ptr::NonNull;

use memmap2::MmapMut;

/// A private mapping of `count` pieces of `piece` bytes each.
#[derive(Debug)]
pub(crate) struct Arena {
    base: NonNull<u8>,
    piece: usize,
    count: usize,
    _map: MmapMut,
}

// SAFETY: the mapping is plain memory, valid from every thread; who may touch which piece is
// decided by the owners of the pieces.
unsafe impl Send for Arena {}
// SAFETY: as above; the methods only compute addresses.
unsafe impl Sync for Arena {}

impl Arena {
    pub(crate) fn new(piece: usize, count: usize) -> io::Result<Self> {
        let len = piece.checked_mul(count).filter(|len| *len > 0);
        let mut map = MmapMut::map_anon(len.ok_or(io::ErrorKind::InvalidInput)?)?;
        let base = NonNull::from(&mut map[..]).cast();
        Ok(Self { base, piece, count, _map: map })
    }

    /// Bytes in a piece.
    pub(crate) fn piece(&self) -> usize {
        self.piece
    }

    /// Address of piece `index`.
    pub(crate) fn address(&self, index: usize) -> NonNull<u8> {
        assert!(index < self.count, "piece {index} of {}", self.count);
        // SAFETY: the product is inside the mapping, because `index` was checked.
        unsafe { self.base.add(index * self.piece) }
    }

    /// The first `len` bytes of piece `index`.
    ///
    /// # Safety
    ///
    /// Nobody, the kernel included, writes to them while the slice lives.
    pub(crate) unsafe fn slice(&self, index: usize, len: usize) -> &[u8] {
        assert!(len <= self.piece);
        // SAFETY: inside the mapping by the checks; initialised because the mapping began zeroed;
        // no writer by the caller's promise.
        unsafe { std::slice::from_raw_parts(self.address(index).as_ptr(), len) }
    }

    /// The first `len` bytes of piece `index`, to change.
    ///
    /// # Safety
    ///
    /// The caller is the piece's only owner while the slice lives.
    #[expect(
        clippy::mut_from_ref,
        reason = "pieces are owned one by one, which the caller promises"
    )]
    pub(crate) unsafe fn slice_mut(&self, index: usize, len: usize) -> &mut [u8] {
        assert!(len <= self.piece);
        // SAFETY: inside the mapping by the checks; initialised because the mapping began zeroed;
        // exclusive by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.address(index).as_ptr(), len) }
    }
}
