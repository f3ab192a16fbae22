//! [`AlignedBuf`]: memory for `O_DIRECT`.

use std::io;
use std::ops::{Deref, DerefMut};

use memmap2::MmapMut;

use super::{IoBuf, IoBufMut};

/// Page-aligned memory of its own mapping, zeroed at first: what `O_DIRECT` (`open(2)`) asks for.
///
/// Its length is what is in use; the capacity stays.
#[derive(Debug)]
pub struct AlignedBuf {
    map: MmapMut,
    len: usize,
}

impl AlignedBuf {
    /// `capacity` bytes, all of them zero and in use.
    ///
    /// # Errors
    ///
    /// As `mmap(2)`; `InvalidInput` for no bytes.
    pub fn new(capacity: usize) -> io::Result<Self> {
        if capacity == 0 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(Self { map: MmapMut::map_anon(capacity)?, len: capacity })
    }

    /// Makes the first `len` bytes the ones in use, at most as many as there are.
    pub fn truncate(&mut self, len: usize) {
        self.len = len.min(self.map.len());
    }
}

impl Deref for AlignedBuf {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.map[..self.len]
    }
}

impl DerefMut for AlignedBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.map[..self.len]
    }
}

// SAFETY: the mapping does not move with the value and starts out zeroed.
unsafe impl IoBuf for AlignedBuf {
    fn stable_ptr(&self) -> *const u8 {
        self.map.as_ptr()
    }
    fn init_len(&self) -> usize {
        self.len
    }
}

// SAFETY: the mapping belongs to this value alone.
unsafe impl IoBufMut for AlignedBuf {
    fn stable_mut_ptr(&mut self) -> *mut u8 {
        self.map.as_mut_ptr()
    }
    fn capacity(&self) -> usize {
        self.map.len()
    }
    unsafe fn set_init(&mut self, len: usize) {
        self.truncate(len);
    }
}
