//! Page-aligned memory cut into equal pieces.
//!
//! Relies on one rule, kept by its users: a piece has one owner at a time. The mapping starts out
//! zeroed, so every byte is initialised from the beginning.

use std::io;
use std::ptr::NonNull;

use memmap2::{MmapMut, MmapOptions};

use crate::buf::HugePages;

/// The size of huge pages that is asked for: 2 MiB, as a power of two.
const HUGE_PAGE_BITS: u8 = 21;
/// Bytes in an arena, at most: what a slice may have, in whole huge pages.
const LONGEST: usize = isize::MAX as usize >> HUGE_PAGE_BITS << HUGE_PAGE_BITS;

/// A private mapping of `count` pieces of `piece` bytes each.
#[derive(Debug)]
pub(crate) struct Arena {
    base: NonNull<u8>,
    piece: usize,
    count: usize,
    is_huge: bool,
    refusal: Option<io::Error>,
    _map: MmapMut,
}

// SAFETY: the mapping is plain memory, valid from every thread; who may touch which piece is
// decided by the owners of the pieces.
unsafe impl Send for Arena {}
// SAFETY: as above; the methods only compute addresses.
unsafe impl Sync for Arena {}

impl Arena {
    pub(crate) fn new(piece: usize, count: usize, pages: HugePages) -> io::Result<Self> {
        let len = piece.checked_mul(count).filter(|len| (1..=LONGEST).contains(len));
        let len = len.ok_or(io::ErrorKind::InvalidInput)?;
        let mut options = MmapOptions::new();
        let (mut map, refusal) = match pages {
            HugePages::No => (options.len(len).map_anon()?, None),
            HugePages::Prefer => match huge(len) {
                Ok(map) => (map, None),
                Err(refusal) => (options.len(len).map_anon()?, Some(refusal)),
            },
            HugePages::Require => (huge(len)?, None),
        };
        let is_huge = pages != HugePages::No && refusal.is_none();
        let base = NonNull::from(&mut map[..]).cast();
        Ok(Self { base, piece, count, is_huge, refusal, _map: map })
    }

    pub(crate) fn is_huge(&self) -> bool {
        self.is_huge
    }

    /// Why it does not lie on huge pages though that was preferred.
    pub(crate) fn huge_page_refusal(&self) -> Option<&io::Error> {
        self.refusal.as_ref()
    }

    /// Bytes in all pieces.
    pub(crate) fn len(&self) -> usize {
        self.piece * self.count
    }

    /// All pieces, as the kernel takes memory to register.
    pub(crate) fn as_iovec(&self) -> libc::iovec {
        libc::iovec { iov_base: self.base.as_ptr().cast(), iov_len: self.len() }
    }

    pub(crate) fn count(&self) -> usize {
        self.count
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

/// A mapping of whole huge pages, at least so long.
fn huge(len: usize) -> io::Result<MmapMut> {
    let whole = len.next_multiple_of(1 << HUGE_PAGE_BITS);
    MmapOptions::new().len(whole).huge(Some(HUGE_PAGE_BITS)).map_anon()
}
