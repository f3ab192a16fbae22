//! [`Addressing`]: what an address on a ring means.

use bypass_core::pool::Posted;
use rustix::net::xdp::{XSK_UNALIGNED_BUF_ADDR_MASK, XSK_UNALIGNED_BUF_OFFSET_SHIFT};

/// How the kernel names bytes of a umem.
#[derive(Clone, Copy, Debug)]
pub(super) struct Addressing {
    /// The chunk size as a power of two.
    shift: u32,
    /// An address has the start of the buffer in its low 48 bits and an offset above
    /// (`XDP_UMEM_UNALIGNED_CHUNK_FLAG`, Linux 5.4).
    pub(super) unaligned: bool,
}

impl Addressing {
    /// For chunks of a power of two.
    pub(super) fn new(chunk_size: u32, unaligned: bool) -> Self {
        Self { shift: chunk_size.trailing_zeros(), unaligned }
    }

    /// The address of a chunk.
    #[inline]
    pub(super) fn address(self, chunk: u64) -> u64 {
        chunk << self.shift
    }

    /// The address of the data in a chunk that was lent.
    #[inline]
    pub(super) fn address_of(self, posted: &Posted) -> u64 {
        self.address(posted.chunk.into()) + u64::from(posted.offset)
    }

    /// The address of the chunk in which an address lies; of one beyond any umem, too.
    #[inline]
    pub(super) fn start(self, address: u64) -> u64 {
        self.plain(address) & !((1 << self.shift) - 1)
    }

    /// An address without an offset above.
    #[inline]
    fn plain(self, address: u64) -> u64 {
        if self.unaligned {
            let base = address & XSK_UNALIGNED_BUF_ADDR_MASK;
            base + (address >> XSK_UNALIGNED_BUF_OFFSET_SHIFT)
        } else {
            address
        }
    }

    /// The chunk in which an address lies, and where in it. An address beyond any umem gives a chunk
    /// that no pool has.
    #[inline]
    pub(super) fn locate(self, address: u64) -> (usize, u32) {
        let address = self.plain(address);
        ((address >> self.shift) as usize, (address & ((1 << self.shift) - 1)) as u32)
    }
}
