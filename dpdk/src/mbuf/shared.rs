//! [`SharedMbuf`]: packets that several can hold, and nobody can change.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use bypass_dpdk_sys as sys;

use super::{Mbuf, Raw, TooManySegments};
use crate::mempool::Mempool;

/// The most that may hold one segment. The count is 16 bits wide; the rest is for those that count at
/// the same moment.
const MOST_HOLDERS: u16 = 1 << 15;

/// A packet that nobody can change: one whose data others may hold too ([`try_clone`](Self::try_clone)),
/// or lies in memory of the application's ([`external`](Self::external)).
///
/// Dropping it gives its memory back when it was the last that held it. It is `Send`, so that each holder
/// can have a thread of its own, and not `Sync`: DPDK takes one holder to be one thread.
///
/// There is no way to write to it:
///
/// ```compile_fail,E0599
/// use bypass_core::Buffer;
///
/// fn deface(packet: &mut bypass_dpdk::SharedMbuf) {
///     packet.data_mut().fill(0); // error: no method named `data_mut`
/// }
/// ```
///
/// nor to have two threads clone it at once:
///
/// ```compile_fail,E0277
/// fn needs_sync<T: Sync>() {}
/// needs_sync::<bypass_dpdk::SharedMbuf>(); // error: cannot be shared between threads safely
/// ```
#[repr(transparent)]
pub struct SharedMbuf {
    mbuf: NonNull<sys::rte_mbuf>,
    not_sync: PhantomData<Cell<()>>,
}

// SAFETY: what it refers to is not written while it is there, the counts are atomic while there is more
// than one holder, and any thread may give memory back to its pool. The owner of an external buffer,
// which the last holder drops, is `Send`.
unsafe impl Send for SharedMbuf {}

impl SharedMbuf {
    /// Takes over an mbuf of DPDK's.
    ///
    /// # Safety
    ///
    /// It is the first segment of a packet that nobody else frees, and nobody writes to what is reached
    /// through it.
    #[must_use]
    pub unsafe fn from_raw(mbuf: NonNull<sys::rte_mbuf>) -> Self {
        Self { mbuf, not_sync: PhantomData }
    }

    /// Gives the packet to DPDK's functions; whoever has the pointer frees it.
    #[must_use]
    pub fn into_raw(self) -> NonNull<sys::rte_mbuf> {
        ManuallyDrop::new(self).mbuf
    }

    #[inline]
    pub(crate) fn raw(&self) -> Raw {
        // SAFETY: nobody writes to the packet as long as this is there (type invariant).
        unsafe { Raw::new(self.mbuf) }
    }

    /// Another holder of the same data, with mbufs of `pool` to say so: one for each segment, whose own
    /// room for data is not used. `None` when the pool has too few, or there are 32 768 holders already.
    #[must_use]
    pub fn try_clone(&self, pool: &Mempool) -> Option<Self> {
        if self.raw().chain().any(|segment| holders(segment) >= MOST_HOLDERS) {
            return None;
        }
        // SAFETY: the packet is there and nobody changes it; the counts it raises are not used by
        // another thread at the same time unless they are above one (this type is not `Sync`).
        let clone = unsafe { sys::rte_pktmbuf_clone(self.mbuf.as_ptr(), pool.as_ptr()) };
        // SAFETY: the clone is ours, and what it refers to is not written to while there is a holder.
        NonNull::new(clone).map(|mbuf| unsafe { Self::from_raw(mbuf) })
    }

    /// A copy of the packet in mbufs of `pool`, as many as it takes. `None` when the pool has too few, or
    /// it would take more than 65 535.
    #[must_use]
    pub fn copy(&self, pool: &Mempool) -> Option<Mbuf> {
        copy(self.raw(), pool)
    }

    /// The packet as one of its own, when nobody else holds any of it, and no part of it is
    /// [external](Self::external).
    ///
    /// # Errors
    ///
    /// Gives it back as it is, otherwise. A [clone](Self::try_clone) never becomes one, since it has its
    /// data elsewhere; the packet that it was made of does, once it is alone.
    pub fn try_into_mbuf(self) -> Result<Mbuf, Self> {
        if !self.raw().chain().all(Raw::is_exclusive) {
            return Err(self);
        }
        // SAFETY: nobody else holds any segment, and all data lies in them.
        Ok(unsafe { Mbuf::from_raw(self.into_raw()) })
    }

    /// Puts a packet in front: headers of its own for data that is shared.
    ///
    /// # Errors
    ///
    /// Gives both back, this one as `tail`, when there would be more than 65 535 segments.
    pub fn with_header(self, header: Mbuf) -> Result<Self, (Mbuf, Self)> {
        let mut header = header;
        // SAFETY: the packet is ours. The type that it takes meanwhile does not leave this function but
        // as the type that it has now, and nothing here writes to its data.
        let tail = unsafe { Mbuf::from_raw(self.into_raw()) };
        match header.chain(tail) {
            Ok(()) => Ok(header.share()),
            Err(TooManySegments { tail }) => {
                // SAFETY: as it was.
                Err((header, unsafe { Self::from_raw(tail.into_raw()) }))
            }
        }
    }

    /// Each segment's data, in order.
    pub fn segments(&self) -> impl Iterator<Item = &[u8]> {
        // SAFETY: nobody writes to the packet as long as this is there.
        self.raw().chain().map(|segment| unsafe { segment.data() })
    }

    /// How many segments it has.
    #[must_use]
    pub fn segment_count(&self) -> usize {
        usize::from(self.raw().nb_segs())
    }

    /// Bytes of the packet, in all segments.
    #[must_use]
    pub fn total_len(&self) -> usize {
        self.raw().pkt_len() as usize
    }

    /// Whether part of it lies in [memory of the application's](Self::external).
    #[must_use]
    pub fn is_external(&self) -> bool {
        self.raw().chain().any(Raw::is_external)
    }
}

/// How many hold what a segment refers to.
fn holders(segment: Raw) -> u16 {
    if segment.is_external() {
        let Some(shared) = NonNull::new(segment.shinfo()) else { return u16::MAX };
        // SAFETY: an external segment has one, which stays as long as the segment.
        let count = unsafe { &raw mut (*shared.as_ptr()).refcnt };
        // SAFETY: the field is changed with atomic operations only while there are several holders.
        return unsafe { AtomicU16::from_ptr(count) }.load(Ordering::Relaxed);
    }
    if segment.is_indirect() {
        return direct(segment).refcnt();
    }
    segment.refcnt()
}

/// The segment that has the data of an indirect one: its buffer follows it and its private area, of
/// which the indirect one keeps the size (`rte_mbuf_from_indirect`).
fn direct(segment: Raw) -> Raw {
    let before = size_of::<sys::rte_mbuf>() + usize::from(segment.priv_size());
    let direct = segment.buf_addr().wrapping_byte_sub(before).cast::<sys::rte_mbuf>();
    // SAFETY: the address is that of an mbuf.
    let direct = unsafe { NonNull::new_unchecked(direct) };
    // SAFETY: an indirect segment holds the direct one, so it is there, and nobody writes to it.
    unsafe { Raw::new(direct) }
}

/// A copy of a packet in mbufs of `pool`, without the offloads that were asked for.
pub(crate) fn copy(packet: Raw, pool: &Mempool) -> Option<Mbuf> {
    if packet.pkt_len() == 0 {
        // DPDK takes that for a part behind the end.
        return pool.alloc_one();
    }
    // Segments are counted in 16 bits, which DPDK does not look at here.
    let longest = u32::from(pool.data_room()).saturating_mul(u32::from(u16::MAX));
    if packet.pkt_len() > longest {
        return None;
    }
    // SAFETY: the packet is there and the function only reads it; the pool is there.
    let copy = unsafe { sys::rte_pktmbuf_copy(packet.as_ptr(), pool.as_ptr(), 0, u32::MAX) };
    // SAFETY: a copy is ours alone, with its data in its own segments.
    let mut copy = NonNull::new(copy).map(|mbuf| unsafe { Mbuf::from_raw(mbuf) })?;
    copy.clear_offloads();
    Some(copy)
}

impl Mbuf {
    /// A copy of the packet in mbufs of `pool`, as many as it takes. `None` when the pool has too few, or
    /// it would take more than 65 535.
    #[must_use]
    pub fn copy(&self, pool: &Mempool) -> Option<Self> {
        copy(self.raw(), pool)
    }
}

impl Drop for SharedMbuf {
    fn drop(&mut self) {
        // SAFETY: this holder ends here; DPDK frees what nobody else holds.
        unsafe { sys::bypass_pktmbuf_free(self.mbuf.as_ptr()) };
    }
}

impl fmt::Debug for SharedMbuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedMbuf")
            .field("len", &self.total_len())
            .field("segments", &self.segment_count())
            .field("external", &self.is_external())
            .finish_non_exhaustive()
    }
}
