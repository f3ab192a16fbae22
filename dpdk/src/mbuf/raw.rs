//! [`Raw`]: the fields of an mbuf.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering, fence};

use bypass_dpdk_sys::{self as sys, mbuf as field};

/// A segment that whoever has this may read; whoever may write says so at the call.
///
/// Invariant: it points to an mbuf of a pool that is there, and nobody else writes its fields, the
/// count of references apart, as long as this is in use.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Raw(NonNull<sys::rte_mbuf>);

macro_rules! fields {
    ($($name:ident, $set:ident: $type:ty;)*) => {$(
        #[inline(always)]
        pub(crate) fn $name(self) -> $type {
            // SAFETY: it points to an mbuf (type invariant).
            let field = unsafe { field::$name(self.0.as_ptr()) };
            // SAFETY: the field is initialised since the pool was made, and nobody else writes it.
            unsafe { field.read() }
        }

        /// The caller owns the segment.
        #[inline(always)]
        pub(crate) fn $set(self, to: $type) {
            // SAFETY: it points to an mbuf (type invariant).
            let field = unsafe { field::$name(self.0.as_ptr()) };
            // SAFETY: the field lies in the mbuf, which is the caller's.
            unsafe { field.write(to) };
        }
    )*};
}

impl Raw {
    /// The flags that say that a segment's data is not in the segment itself.
    pub(crate) const ELSEWHERE: u64 = sys::RTE_MBUF_F_INDIRECT | sys::RTE_MBUF_F_EXTERNAL;

    fields! {
        buf_addr, _set_buf_addr: *mut libc::c_void;
        next, set_next: *mut sys::rte_mbuf;
        data_off, set_data_off: u16;
        nb_segs, set_nb_segs: u16;
        port, _set_port: u16;
        ol_flags, set_ol_flags: u64;
        packet_type, _set_packet_type: u32;
        pkt_len, set_pkt_len: u32;
        data_len, set_data_len: u16;
        vlan_tci, set_vlan_tci: u16;
        hash_rss, _set_hash_rss: u32;
        hash_fdir_hi, set_hash_fdir_hi: u32;
        buf_len, _set_buf_len: u16;
        tx_offload, set_tx_offload: u64;
        priv_size, _set_priv_size: u16;
        shinfo, _set_shinfo: *mut sys::rte_mbuf_ext_shared_info;
    }

    /// # Safety
    ///
    /// As the type's invariant says.
    #[inline(always)]
    pub(crate) const unsafe fn new(mbuf: NonNull<sys::rte_mbuf>) -> Self {
        Self(mbuf)
    }

    #[inline(always)]
    pub(crate) const fn as_ptr(self) -> *mut sys::rte_mbuf {
        self.0.as_ptr()
    }

    /// How many hold the segment. What the others did before they let go of it has happened.
    #[inline(always)]
    pub(crate) fn refcnt(self) -> u16 {
        // SAFETY: it points to an mbuf (type invariant).
        let field = unsafe { field::refcnt(self.0.as_ptr()) };
        // SAFETY: the field is aligned, lies in the mbuf, and is changed with atomic operations only
        // while others hold the segment.
        let count = unsafe { AtomicU16::from_ptr(field) }.load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        count
    }

    /// Whether the data lies in the segment itself, and nobody else holds it.
    #[inline(always)]
    pub(crate) fn is_exclusive(self) -> bool {
        self.refcnt() == 1 && self.ol_flags() & Self::ELSEWHERE == 0
    }

    /// Whether the data lies in memory of the application's or of a driver's.
    #[inline(always)]
    pub(crate) fn is_external(self) -> bool {
        self.ol_flags() & sys::RTE_MBUF_F_EXTERNAL != 0
    }

    #[inline(always)]
    pub(crate) fn is_indirect(self) -> bool {
        self.ol_flags() & sys::RTE_MBUF_F_INDIRECT != 0
    }

    /// Where the data begins.
    #[inline(always)]
    pub(crate) fn data_ptr(self) -> *mut u8 {
        self.buf_addr().cast::<u8>().wrapping_add(usize::from(self.data_off()))
    }

    /// The next segment of the packet.
    #[inline(always)]
    pub(crate) fn next_segment(self) -> Option<Self> {
        NonNull::new(self.next()).map(Self)
    }

    /// This segment and those behind it.
    #[inline]
    pub(crate) fn chain(self) -> impl Iterator<Item = Self> {
        std::iter::successors(Some(self), |segment| segment.next_segment())
    }

    #[inline(always)]
    pub(crate) fn tailroom(self) -> usize {
        usize::from(self.buf_len()) - usize::from(self.data_off()) - usize::from(self.data_len())
    }

    /// The data of the segment.
    ///
    /// # Safety
    ///
    /// The segment stays, and its data is not changed, for `'a`.
    #[inline(always)]
    pub(crate) unsafe fn data<'a>(self) -> &'a [u8] {
        let len = usize::from(self.data_len());
        // SAFETY: `data_off + data_len <= buf_len` in every mbuf, and the buffer is memory that the
        // system has initialised; the caller vouches for the rest.
        unsafe { std::slice::from_raw_parts(self.data_ptr(), len) }
    }

    /// The data of the segment, to change.
    ///
    /// # Safety
    ///
    /// The segment stays, and nobody else reads or changes its data, for `'a`.
    #[inline(always)]
    pub(crate) unsafe fn data_mut<'a>(self) -> &'a mut [u8] {
        let len = usize::from(self.data_len());
        // SAFETY: as in `data`.
        unsafe { std::slice::from_raw_parts_mut(self.data_ptr(), len) }
    }
}
