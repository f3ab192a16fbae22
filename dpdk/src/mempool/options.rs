//! [`MempoolOptions`]: how a pool is laid out.

use bypass_core::{Error, Result};
use bypass_dpdk_sys as sys;

/// Bytes of a name: `RTE_MEMPOOL_NAMESIZE` of `rte_mempool.h`, less the zero at its end.
const MOST_NAME: usize = 25;

/// How a [`Mempool`](crate::Mempool) is laid out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MempoolOptions {
    /// Its name in DPDK's tools, at most 25 bytes; `None` makes one.
    pub name: Option<String>,
    /// Number of mbufs; memory is best used by a power of two less one.
    pub mbufs: u32,
    /// Bytes of data in an mbuf, behind its 128 bytes of headroom: at most 65 407. 0 makes a pool for
    /// [clones](crate::SharedMbuf::try_clone), which have their data elsewhere.
    pub data_room: u16,
    /// Bytes of the application's own beside each mbuf, a multiple of 8.
    pub private_size: u16,
    /// Mbufs that each registered thread may keep to itself: at most 512, and at most two thirds of
    /// all. 0 makes no caches.
    pub cache: u32,
    /// Mbufs that [`alloc`](crate::Mempool::alloc) leaves for receiving, so that an application which
    /// allocates all it can still receives; fewer than there are. Those in threads' caches do not count.
    pub rx_reserve: u32,
    /// Has mbufs lie side by side, across the bounds of pages too. With ordinary pages, of which each mbuf
    /// has one to itself otherwise, this takes little more than half the memory; `net_af_xdp` needs it
    /// before DPDK 24.11. The environment has to use [virtual addresses](crate::Iova::Virtual), as it does
    /// with ordinary pages, and the pool is for virtual devices only.
    pub packed: bool,
    /// The NUMA node (socket) that its memory is on; `None` for any. Take the
    /// [port's](crate::Port::socket).
    pub socket: Option<u32>,
}

impl MempoolOptions {
    /// Mbufs of 2 KiB of data, a cache of 256 for each thread (or what so small a pool can have), an
    /// eighth in reserve for receiving, on any NUMA node.
    #[must_use]
    pub fn new(mbufs: u32) -> Self {
        Self {
            name: None,
            mbufs,
            data_room: 2048,
            private_size: 0,
            cache: (mbufs / 4).min(256),
            rx_reserve: mbufs / 8,
            packed: false,
            socket: None,
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        let bad = |name: &&String| name.is_empty() || name.len() > MOST_NAME;
        if let Some(name) = self.name.as_ref().filter(bad) {
            return Err(Error::config("name", name, format!("a name has 1 to {MOST_NAME} bytes")));
        }
        if self.mbufs == 0 {
            return Err(Error::config("mbufs", self.mbufs, "a pool has at least one"));
        }
        let headroom = sys::RTE_PKTMBUF_HEADROOM as u16;
        if self.data_room > u16::MAX - headroom {
            let why = "data and headroom together are at most 65535 bytes: use chains of mbufs";
            return Err(Error::config("data_room", self.data_room, why));
        }
        if !self.private_size.is_multiple_of(8) {
            return Err(Error::config("private_size", self.private_size, "take a multiple of 8"));
        }
        let most = sys::RTE_MEMPOOL_CACHE_MAX_SIZE;
        if self.cache > most || u64::from(self.cache) * 3 > u64::from(self.mbufs) * 2 {
            let why = format!("a cache is at most {most}, and two thirds of the mbufs");
            return Err(Error::config("cache", self.cache, why));
        }
        if self.rx_reserve >= self.mbufs {
            let why = "the reserve for receiving must leave an mbuf to allocate";
            return Err(Error::config("rx_reserve", self.rx_reserve, why));
        }
        Ok(())
    }

    /// What DPDK calls the data room: with headroom.
    pub(crate) fn buffer_size(&self) -> u16 {
        match self.data_room {
            0 => 0,
            data_room => data_room + sys::RTE_PKTMBUF_HEADROOM as u16,
        }
    }

    /// What is attempted with them, for errors.
    pub(crate) fn attempt(&self, name: &str) -> String {
        format!("make a pool {name} of {} mbufs on {}", self.mbufs, self.place())
    }

    fn place(&self) -> String {
        self.socket
            .map_or_else(|| "any NUMA node".to_owned(), |socket| format!("NUMA node {socket}"))
    }
}
