//! [`Mbuf`], [`SharedMbuf`]: packets in DPDK's memory.
//!
//! # What the unsafe code here relies on
//!
//! - An mbuf that DPDK hands out (allocated, or received) belongs to whoever gets it, with its whole
//!   chain, until it is handed back (freed, or taken for sending).
//! - `pkt_len` of a packet of one segment is its `data_len`.
//! - In every segment `data_off + data_len <= buf_len`, and `buf_len` bytes from `buf_addr` are memory of
//!   the pool's or of a driver's. Memory comes from the system, zeroed or written before; none of it is
//!   uninitialised.
//! - A pool stays as long as one of its mbufs does: see [`crate::mempool`].
//! - What more than one holder can see is a [`SharedMbuf`], which nobody can write to. DPDK changes its
//!   count of references atomically, except while there is one holder.

mod chain;
mod external;
mod meta;
pub(crate) mod offload;
mod raw;
mod shared;

use std::fmt;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

use bypass_core::{Buffer, Drain, Frame, OutOfRoom, Room, RxMeta, TxMeta, Unsupported};
use bypass_dpdk_sys as sys;

pub use chain::{SegmentsMut, TooManySegments};
pub use external::ExternalBuffer;
pub(crate) use meta::{mark_queue, queues_are_marked_by, times_are_at};
pub use offload::TxOffload;
pub(crate) use raw::Raw;
pub use shared::SharedMbuf;
pub(crate) use shared::copy;

/// A packet of its own: one segment or a chain of them, each in a piece of a
/// [`Mempool`](crate::Mempool)'s memory that nobody else in the process can see. Other processes may be able to
/// where that memory is shared with them ([`Memory::Shared`](crate::Memory::Shared), the other end of a
/// `net_virtio_user`): they are trusted as a [device](crate::Vdev) is, to keep off packets that are not theirs.
///
/// It is one pointer, and a [`Burst`](bypass_core::Burst) of them is what drivers take and fill. Dropping
/// it gives its memory back to the pool, on any thread. A packet that others may see too (a clone, memory
/// of the application's) is a [`SharedMbuf`], and cannot be written to.
///
/// One that was sent is gone:
///
/// ```compile_fail,E0382
/// use bypass_core::{Buffer, Burst};
/// use bypass_dpdk::Mbuf;
///
/// fn keep(mut packet: Mbuf, burst: &mut Burst<Mbuf>) {
///     let _ = burst.push(packet);
///     packet.data_mut(); // error: borrow of moved value
/// }
/// ```
///
/// and it has one owner:
///
/// ```compile_fail,E0599
/// fn twice(packet: bypass_dpdk::Mbuf) -> (bypass_dpdk::Mbuf, bypass_dpdk::Mbuf) {
///     (packet.clone(), packet) // error: no method named `clone`
/// }
/// ```
///
/// What a device is to do with it is said by [`TxOffload`](crate::TxOffload), which is checked; there is no way to
/// the flags that drivers believe without a look:
///
/// ```compile_fail,E0599
/// fn crash(packet: &mut bypass_dpdk::Mbuf) {
///     packet.set_ol_flags(u64::MAX); // error: no method named `set_ol_flags`
/// }
/// ```
#[repr(transparent)]
pub struct Mbuf(NonNull<sys::rte_mbuf>);

// SAFETY: nobody else can see the packet, and any thread may give it back to its pool (pools are made
// for that).
unsafe impl Send for Mbuf {}
// SAFETY: a shared reference only reads, and nothing changes behind one.
unsafe impl Sync for Mbuf {}

impl Mbuf {
    /// Takes over an mbuf of DPDK's.
    ///
    /// # Safety
    ///
    /// It is the first segment of a packet that nobody else uses or frees, and no segment of which has
    /// its data in another mbuf or in memory that others can see.
    #[must_use]
    pub unsafe fn from_raw(mbuf: NonNull<sys::rte_mbuf>) -> Self {
        Self(mbuf)
    }

    /// Gives the packet to DPDK's functions; whoever has the pointer frees it.
    #[must_use]
    pub fn into_raw(self) -> NonNull<sys::rte_mbuf> {
        ManuallyDrop::new(self).0
    }

    #[inline(always)]
    pub(crate) fn raw(&self) -> Raw {
        // SAFETY: the packet is ours (type invariant); what writes takes `&mut self`.
        unsafe { Raw::new(self.0) }
    }

    /// The port that it came in by; `None` for one of the application's own.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        match self.raw().port() {
            u16::MAX => None,
            port => Some(port),
        }
    }

    /// What the driver found in its headers: `RTE_PTYPE_*` bits, 0 where it does not look.
    ///
    /// See [`rte_mbuf_ptype.h`](https://doc.dpdk.org/api/rte__mbuf__ptype_8h.html).
    #[must_use]
    pub fn packet_type(&self) -> u32 {
        self.raw().packet_type()
    }

    /// The mark that a flow rule gave it: [`flow::Action::Mark`](crate::flow::Action::Mark).
    #[must_use]
    pub fn mark(&self) -> Option<u32> {
        let raw = self.raw();
        (raw.ol_flags() & sys::RTE_MBUF_F_RX_FDIR_ID != 0).then(|| raw.hash_fdir_hi())
    }

    /// The application's own bytes beside the packet:
    /// [`MempoolOptions::private_size`](crate::MempoolOptions::private_size) of them. They keep what was
    /// written last, also by an earlier owner.
    #[must_use]
    pub fn private(&self) -> &[u8] {
        let (at, len) = self.private_area();
        // SAFETY: the private area follows the mbuf, in the same piece of the pool, and is ours.
        unsafe { std::slice::from_raw_parts(at, len) }
    }

    /// The application's own bytes, to change.
    #[must_use]
    pub fn private_mut(&mut self) -> &mut [u8] {
        let (at, len) = self.private_area();
        // SAFETY: as in `private`; nobody else has the packet.
        unsafe { std::slice::from_raw_parts_mut(at, len) }
    }

    fn private_area(&self) -> (*mut u8, usize) {
        let at = self.0.as_ptr().cast::<u8>().wrapping_add(size_of::<sys::rte_mbuf>());
        (at, usize::from(self.raw().priv_size()))
    }

    /// Makes the packet one that several can hold, none of which can change it. Offloads that were asked
    /// for are forgotten.
    #[must_use]
    pub fn share(mut self) -> SharedMbuf {
        self.clear_offloads();
        // SAFETY: the packet is whole and ours, and now the other's.
        unsafe { SharedMbuf::from_raw(self.into_raw()) }
    }

    /// Sets the first segment's length, and the packet's with it.
    #[inline(always)]
    fn resize(&mut self, to: u16) {
        let raw = self.raw();
        let by = u32::from(to).wrapping_sub(u32::from(raw.data_len()));
        raw.set_data_len(to);
        raw.set_pkt_len(raw.pkt_len().wrapping_add(by));
    }
}

/// As the buffer of its first segment; [`chain`](Mbuf::chain) and
/// [`segments_mut`](Mbuf::segments_mut) reach the others.
impl Buffer for Mbuf {
    /// An Ethernet header: what is shorter is not handed out.
    const SHORTEST_RECEIVED: usize = 14;

    #[inline(always)]
    fn data(&self) -> &[u8] {
        // SAFETY: the packet is ours; it stays unchanged while it is borrowed.
        unsafe { self.raw().data() }
    }

    #[inline(always)]
    fn data_mut(&mut self) -> &mut [u8] {
        // SAFETY: nobody else can see the segment's data (type invariant), and `self` is borrowed
        // exclusively.
        unsafe { self.raw().data_mut() }
    }

    #[inline(always)]
    fn headroom(&self) -> usize {
        usize::from(self.raw().data_off())
    }

    #[inline(always)]
    fn tailroom(&self) -> usize {
        self.raw().tailroom()
    }

    #[inline]
    fn prepend(&mut self, n: usize) -> Result<&mut [u8], OutOfRoom> {
        let (raw, available) = (self.raw(), self.headroom());
        if n > available {
            return Err(OutOfRoom { room: Room::Headroom, asked: n, available });
        }
        raw.set_data_off((available - n) as u16);
        self.resize(raw.data_len() + n as u16);
        Ok(&mut self.data_mut()[..n])
    }

    #[inline]
    fn append(&mut self, n: usize) -> Result<&mut [u8], OutOfRoom> {
        let (len, available) = (self.data().len(), self.tailroom());
        if n > available {
            return Err(OutOfRoom { room: Room::Tailroom, asked: n, available });
        }
        self.resize((len + n) as u16);
        Ok(&mut self.data_mut()[len..])
    }

    #[inline]
    fn trim_front(&mut self, n: usize) -> Result<(), OutOfRoom> {
        let (raw, available) = (self.raw(), self.data().len());
        if n > available {
            return Err(OutOfRoom { room: Room::Data, asked: n, available });
        }
        raw.set_data_off(raw.data_off() + n as u16);
        self.resize((available - n) as u16);
        Ok(())
    }

    #[inline]
    fn set_len(&mut self, n: usize) -> Result<(), OutOfRoom> {
        let available = self.data().len() + self.tailroom();
        if n > available {
            return Err(OutOfRoom { room: Room::Tailroom, asked: n, available });
        }
        self.resize(n as u16);
        Ok(())
    }

    fn segments(&self) -> impl Iterator<Item = &[u8]> {
        // SAFETY: the whole chain is ours, and stays unchanged while it is borrowed.
        self.raw().chain().map(|segment| unsafe { segment.data() })
    }

    #[inline(always)]
    fn total_len(&self) -> usize {
        self.raw().pkt_len() as usize
    }

    #[inline]
    fn free_bulk(mut buffers: Drain<'_, Self>) {
        let n = buffers.len();
        if n == 0 {
            return;
        }
        let all = buffers.forget(n).as_ptr().cast::<*mut sys::rte_mbuf>().cast_mut();
        // SAFETY: these are `n` packets (an `Mbuf` is a transparent pointer), ours until now, and
        // forgotten; the function reads the array and does not write to it.
        unsafe { sys::rte_pktmbuf_free_bulk(all, n as u32) };
    }
}

impl Frame for Mbuf {
    #[inline]
    fn rx_meta(&self) -> RxMeta {
        meta::read(self.raw())
    }

    /// Asks for offloads. Which of them a port has, it says in its
    /// [`Caps`](bypass_core::Caps::tx_offloads); a queue whose port lacks one refuses the packet.
    ///
    /// A checksum is one of TCP or UDP over IPv4 or IPv6, behind at most one VLAN tag. The field holds
    /// what the Linux kernel wants there too: the sum of the pseudo header.
    ///
    /// # Errors
    ///
    /// [`Unsupported`] for a checksum of something else, for segmentation without one, and for a launch
    /// time; the packet keeps what it had.
    fn set_tx_meta(&mut self, meta: TxMeta) -> Result<(), Unsupported> {
        let offload = TxOffload::from_meta(self.data(), meta)?;
        self.offload(offload)
    }
}

impl Drop for Mbuf {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the packet is ours, and this is the last that is heard of it.
        unsafe { sys::bypass_pktmbuf_free(self.0.as_ptr()) };
    }
}

impl fmt::Debug for Mbuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mbuf")
            .field("len", &self.total_len())
            .field("segments", &self.raw().nb_segs())
            .field("headroom", &self.headroom())
            .field("tailroom", &self.tailroom())
            .finish_non_exhaustive()
    }
}
