//! [`UmemOptions`]: how packet memory is laid out.

use bypass_core::pool::PoolOptions;
use bypass_core::{Error, Result, TxOffloads};

use super::metadata;

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
    /// - `tx_offloads` is what may be asked for in [`TxMeta`](bypass_core::TxMeta) of a frame (Linux
    ///   6.11): a port opens only if it can have all of them, see below. With any, 24 bytes in front of
    ///   each frame that is sent belong to the kernel; fresh frames have so much more headroom, and a
    ///   frame that has used it up is refused.
    ///
    /// | | in copy mode | without copies |
    /// |---|---|---|
    /// | `CHECKSUM` | always: by the device if it sums for the kernel, else by the kernel | if the driver [says](crate::DeviceFeatures) so |
    /// | `TIMESTAMP` | always, by the kernel when the driver is done with the frame | if the driver says so, by the device |
    /// | `LAUNCH_TIME` (Linux 6.14) | if the driver says so | if the driver says so |
    /// | `SEGMENTATION` | never | never |
    ///
    /// A veth pair sums nothing: it hands the frame over as it is, which the kernel at the other end
    /// knows and an XDP program there does not.
    pub pool: PoolOptions,
    /// Has the kernel treat the memory as one piece in which frames may lie anywhere
    /// (`XDP_UMEM_UNALIGNED_CHUNK_FLAG`, Linux 5.4), for drivers that ask for it.
    pub unaligned: bool,
    /// The kernel sums the checksums that are asked for, not the device: for tests, and for devices that
    /// do it wrong (`XDP_UMEM_TX_SW_CSUM`). In copy mode, and for frames of one segment only.
    pub software_checksum: bool,
}

impl Default for UmemOptions {
    /// 4 096 chunks of 2 KiB, half of which are kept posted for receiving.
    fn default() -> Self {
        Self {
            pool: PoolOptions { rx_reserve: 2048, ..PoolOptions::new(4096) },
            unaligned: false,
            software_checksum: false,
        }
    }
}

impl UmemOptions {
    /// The longest piece of a frame that the kernel puts into one chunk, in bytes.
    pub(crate) fn rx_room(&self) -> usize {
        rx_room(self.pool.chunk_size, self.pool.headroom) as usize
    }

    pub(super) fn check(&self) -> Result<()> {
        let PoolOptions { chunk_size, headroom, rx_reserve, tx_offloads, .. } = self.pool;
        if chunk_size != MIN_CHUNK && chunk_size != MAX_CHUNK {
            let why = "AF_XDP has chunks of 2048 or 4096 bytes";
            return Err(Error::config("chunk_size", chunk_size, why));
        }
        // The kernel wants this much; that an Ethernet frame fits is the interface's matter.
        if rx_room(chunk_size, headroom) == 0 {
            let why = "the headroom, and 256 bytes of the kernel's, must leave room in the chunk";
            return Err(Error::config("headroom", headroom, why));
        }
        // In front of what is sent there is room for its metadata, too.
        let front = headroom.saturating_add(metadata::len(tx_offloads));
        if front >= chunk_size {
            let why = "the headroom, and 24 bytes for `tx_offloads`, must leave room in the chunk";
            return Err(Error::config("headroom", headroom, why));
        }
        if self.software_checksum && !tx_offloads.contains(TxOffloads::CHECKSUM) {
            let why = "nothing is summed unless `tx_offloads` of the pool has CHECKSUM";
            return Err(Error::config("software_checksum", true, why));
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
