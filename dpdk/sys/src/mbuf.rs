//! Pointers to the fields of an mbuf.
//!
//! ```
//! use bypass_dpdk_sys::{mbuf, rte_mbuf};
//!
//! /// # Safety
//! ///
//! /// `packet` is an mbuf.
//! unsafe fn is_whole(packet: *mut rte_mbuf) -> bool {
//!     // SAFETY: the field lies within the mbuf.
//!     let segments = unsafe { mbuf::nb_segs(packet).read() };
//!     segments == 1
//! }
//! ```
//!
//! Each function computes an address and reads nothing. See the documentation of
//! [`rte_mbuf`](https://doc.dpdk.org/api/structrte__mbuf.html) for what the fields hold.
#![allow(unsafe_code, reason = "raw pointers are what this module is about")]

use crate::{rte_mbuf, rte_mbuf_ext_shared_info, rte_mempool};

macro_rules! fields {
    ($($(#[$doc:meta])* $name:ident: $type:ty, $offset:ident, $size:ident;)*) => {$(
        $(#[$doc])*
        ///
        /// # Safety
        ///
        /// `mbuf` points to an mbuf.
        #[inline(always)]
        #[must_use]
        pub const unsafe fn $name(mbuf: *mut rte_mbuf) -> *mut $type {
            // SAFETY: the field lies within the mbuf, at an offset that the C compiler computed.
            unsafe { mbuf.byte_add(crate::$offset) }.cast()
        }

        const _: () = assert!(size_of::<$type>() == crate::$size, "the field has another type");
        const _: () = assert!(
            crate::$offset % align_of::<$type>() == 0
                && crate::$offset + crate::$size <= size_of::<rte_mbuf>(),
            "the field does not lie where C says it does"
        );
    )*};
}

fields! {
    /// Where the segment's buffer begins.
    buf_addr: *mut libc::c_void, BYPASS_MBUF_OFFSET_BUF_ADDR, BYPASS_MBUF_SIZE_BUF_ADDR;
    /// The next segment.
    next: *mut rte_mbuf, BYPASS_MBUF_OFFSET_NEXT, BYPASS_MBUF_SIZE_NEXT;
    /// Bytes from the buffer's begin to the data's.
    data_off: u16, BYPASS_MBUF_OFFSET_DATA_OFF, BYPASS_MBUF_SIZE_DATA_OFF;
    /// How many hold the segment; changed atomically where it is shared.
    refcnt: u16, BYPASS_MBUF_OFFSET_REFCNT, BYPASS_MBUF_SIZE_REFCNT;
    /// Segments of the packet, in its first.
    nb_segs: u16, BYPASS_MBUF_OFFSET_NB_SEGS, BYPASS_MBUF_SIZE_NB_SEGS;
    /// The port that the packet came in by.
    port: u16, BYPASS_MBUF_OFFSET_PORT, BYPASS_MBUF_SIZE_PORT;
    /// `RTE_MBUF_F_*`.
    ol_flags: u64, BYPASS_MBUF_OFFSET_OL_FLAGS, BYPASS_MBUF_SIZE_OL_FLAGS;
    /// `RTE_PTYPE_*`.
    packet_type: u32, BYPASS_MBUF_OFFSET_PACKET_TYPE, BYPASS_MBUF_SIZE_PACKET_TYPE;
    /// Bytes of the packet, in its first segment.
    pkt_len: u32, BYPASS_MBUF_OFFSET_PKT_LEN, BYPASS_MBUF_SIZE_PKT_LEN;
    /// Bytes of data in the segment.
    data_len: u16, BYPASS_MBUF_OFFSET_DATA_LEN, BYPASS_MBUF_SIZE_DATA_LEN;
    /// The VLAN tag, with `RTE_MBUF_F_RX_VLAN` or `RTE_MBUF_F_TX_VLAN`.
    vlan_tci: u16, BYPASS_MBUF_OFFSET_VLAN_TCI, BYPASS_MBUF_SIZE_VLAN_TCI;
    /// The hash that chose the queue, with `RTE_MBUF_F_RX_RSS_HASH`.
    hash_rss: u32, BYPASS_MBUF_OFFSET_HASH_RSS, BYPASS_MBUF_SIZE_HASH_RSS;
    /// The mark of a flow rule, with `RTE_MBUF_F_RX_FDIR_ID`.
    hash_fdir_hi: u32, BYPASS_MBUF_OFFSET_HASH_FDIR_HI, BYPASS_MBUF_SIZE_HASH_FDIR_HI;
    /// The outer VLAN tag, with `RTE_MBUF_F_RX_QINQ` or `RTE_MBUF_F_TX_QINQ`.
    vlan_tci_outer: u16, BYPASS_MBUF_OFFSET_VLAN_TCI_OUTER, BYPASS_MBUF_SIZE_VLAN_TCI_OUTER;
    /// Bytes of the segment's buffer.
    buf_len: u16, BYPASS_MBUF_OFFSET_BUF_LEN, BYPASS_MBUF_SIZE_BUF_LEN;
    /// The pool that the segment goes back to.
    pool: *mut rte_mempool, BYPASS_MBUF_OFFSET_POOL, BYPASS_MBUF_SIZE_POOL;
    /// Lengths of the headers and of the segments to cut; see [`TX_L2_LEN_BITS`](crate::BYPASS_TX_L2_LEN_BITS).
    tx_offload: u64, BYPASS_MBUF_OFFSET_TX_OFFLOAD, BYPASS_MBUF_SIZE_TX_OFFLOAD;
    /// Who else holds an external buffer, with `RTE_MBUF_F_EXTERNAL`.
    shinfo: *mut rte_mbuf_ext_shared_info, BYPASS_MBUF_OFFSET_SHINFO, BYPASS_MBUF_SIZE_SHINFO;
    /// Bytes of the application's data between the mbuf and its buffer.
    priv_size: u16, BYPASS_MBUF_OFFSET_PRIV_SIZE, BYPASS_MBUF_SIZE_PRIV_SIZE;
    /// The register that holds a PTP packet's time.
    timesync: u16, BYPASS_MBUF_OFFSET_TIMESYNC, BYPASS_MBUF_SIZE_TIMESYNC;
}
