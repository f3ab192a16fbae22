//! [`UmemOptions`]: how packet memory is laid out.

use bypass_core::pool::PoolOptions;
use bypass_core::{Error, Result};

/// What the kernel keeps free in front of received data (`XDP_PACKET_HEADROOM` of `linux/bpf.h`).
const KERNEL_HEADROOM: u32 = 256;

/// The smallest chunk (`XDP_UMEM_MIN_CHUNK_SIZE`).
const MIN_CHUNK: u32 = 2048;

/// The largest: a page, also on huge pages.
const MAX_CHUNK: u32 = 4096;

/// How packet memory is laid out.
///
/// ```
/// use bypass_core::pool::HugePages;
/// use bypass_xdp::{Umem, UmemOptions};
///
/// let mut options = UmemOptions::default();
/// options.pool.chunks = 256;
/// options.pool.rx_reserve = 64;
/// options.pool.huge_pages = HugePages::Prefer;
/// let umem = Umem::new(&options)?;
/// assert_eq!(umem.census().free, 256);
/// println!("{}", umem.arena().fallback().unwrap_or("on huge pages"));
/// # Ok::<(), bypass_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UmemOptions {
    /// Chunks, their size, headroom and pages.
    ///
    /// - `chunk_size` is 2048 or 4096: all that AF_XDP allows.
    /// - `headroom` is what a fresh frame has. A received one has 256 bytes more.
    /// - `rx_reserve` chunks are kept posted for each port that receives; the others can be allocated.
    ///   On a zero-copy device it should be more than the device's own ring and the RX ring together.
    pub pool: PoolOptions,
    /// Has the kernel treat the memory as one piece in which frames may lie anywhere
    /// (`XDP_UMEM_UNALIGNED_CHUNK_FLAG`, Linux 5.4), for drivers that ask for it.
    pub unaligned: bool,
}

impl Default for UmemOptions {
    /// 4 096 chunks of 2 KiB, half of which are kept posted for receiving.
    fn default() -> Self {
        Self { pool: PoolOptions { rx_reserve: 2048, ..PoolOptions::new(4096) }, unaligned: false }
    }
}

impl UmemOptions {
    /// The longest piece of a frame that the kernel puts into one chunk, in bytes.
    pub(crate) fn rx_room(&self) -> usize {
        rx_room(self.pool.chunk_size, self.pool.headroom) as usize
    }

    pub(super) fn check(&self) -> Result<()> {
        let PoolOptions { chunk_size, headroom, rx_reserve, .. } = self.pool;
        if chunk_size != MIN_CHUNK && chunk_size != MAX_CHUNK {
            let why = "AF_XDP has chunks of 2048 or 4096 bytes";
            return Err(Error::config("chunk_size", chunk_size, why));
        }
        // The kernel wants this much; that an Ethernet frame fits is the interface's matter.
        if rx_room(chunk_size, headroom) == 0 {
            let why = "the headroom, and 256 bytes of the kernel's, must leave room in the chunk";
            return Err(Error::config("headroom", headroom, why));
        }
        if rx_reserve == 0 {
            let why = "with nothing posted nothing is received; keep at least one chunk for it";
            return Err(Error::config("rx_reserve", rx_reserve, why));
        }
        Ok(())
    }
}

/// The most bytes that the kernel puts into one chunk.
pub(super) fn rx_room(chunk_size: u32, headroom: u32) -> u32 {
    chunk_size.saturating_sub(headroom.saturating_add(KERNEL_HEADROOM))
}
