//! Memory that can be looked at after its release.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use io_uring_ext::buf::{IoBuf, IoBufMut};

/// What released memory is filled with. Nothing that the tests transfer holds this byte.
pub const POISON: u8 = 0xa5;

/// What a piece holds when it is handed out.
pub const IN_USE: u8 = 0x5a;

/// Memory that stays mapped whatever is released, so that looking at it is always allowed.
pub struct Arena {
    base: *mut u8,
    piece: usize,
    pieces: usize,
    released: Arc<AtomicUsize>,
}

impl Arena {
    /// All of it is poison at first: nobody owns it.
    pub fn new(pieces: usize, piece: usize) -> Self {
        let mut map = memmap2::MmapMut::map_anon(piece * pieces).unwrap();
        map.fill(POISON);
        let base = Box::leak(Box::new(map)).as_mut_ptr();
        Self { base, piece, pieces, released: super::counter() }
    }

    pub fn piece(&self, n: usize) -> Piece {
        assert!(n < self.pieces);
        let address = self.base.wrapping_add(n * self.piece);
        let mut piece = Piece { address, len: self.piece, released: Arc::clone(&self.released) };
        piece.fill(IN_USE);
        piece
    }

    /// How many pieces have been released so far.
    pub fn released(&self) -> usize {
        super::count(&self.released)
    }

    /// Whether the piece holds nothing but poison: it has been released, and nobody wrote to it.
    #[allow(clippy::cast_ptr_alignment, reason = "pieces are whole pages")]
    pub fn is_poison(&self, n: usize) -> bool {
        assert!(n < self.pieces);
        let start = self.base.wrapping_add(n * self.piece);
        // SAFETY: inside the mapping, which is never unmapped. The kernel may write meanwhile, which
        // is what is looked for, so words are read one by one and volatile; pieces are whole pages.
        let word = |n| unsafe { start.cast::<u64>().wrapping_add(n).read_volatile() };
        (0..self.piece / 8).all(|n| word(n) == u64::from_ne_bytes([POISON; 8]))
    }

    /// Takes a piece that was forgotten back, after its ring is gone.
    pub fn poison(&self, n: usize) {
        drop(self.piece(n));
        self.released.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A part of an [`Arena`], poisoned when it is released.
pub struct Piece {
    address: *mut u8,
    len: usize,
    released: Arc<AtomicUsize>,
}

// SAFETY: a piece is the only user of its part of the arena.
unsafe impl Send for Piece {}

impl Piece {
    fn fill(&mut self, byte: u8) {
        // SAFETY: the piece is inside the arena, which is never unmapped, and is its only user.
        unsafe { self.address.write_bytes(byte, self.len) };
    }
}

// SAFETY: the arena is never unmapped, and each piece is handed out once at a time.
unsafe impl IoBuf for Piece {
    fn stable_ptr(&self) -> *const u8 {
        self.address
    }
    fn init_len(&self) -> usize {
        self.len
    }
}

// SAFETY: as above.
unsafe impl IoBufMut for Piece {
    fn stable_mut_ptr(&mut self) -> *mut u8 {
        self.address
    }
    fn capacity(&self) -> usize {
        self.len
    }
    unsafe fn set_init(&mut self, _len: usize) {}
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.fill(POISON);
        self.released.fetch_add(1, Ordering::SeqCst);
    }
}
