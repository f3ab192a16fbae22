//! Packets whose data lies in memory of the application's.

use std::ffi::c_void;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::atomic::{Ordering, fence};

use bypass_dpdk_sys as sys;

use super::SharedMbuf;
use crate::mempool::Mempool;

/// Memory that packets refer to, and what owns it.
///
/// It is made once, and each [packet](SharedMbuf::external) made of it takes it; clones of that packet
/// share it. The owner is dropped when the last of them is, by whichever thread that is: one that sends,
/// for example, when the device has taken the packet. A panic in that is caught and lost.
pub struct ExternalBuffer {
    owner: Box<dyn AsRef<[u8]> + Send>,
}

impl ExternalBuffer {
    /// Memory that `owner` has: a `Vec<u8>`, `bytes::Bytes`, a mapped file.
    pub fn new(owner: impl AsRef<[u8]> + Send + 'static) -> Self {
        Self { owner: Box::new(owner) }
    }

    /// Its bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        (*self.owner).as_ref()
    }
}

impl fmt::Debug for ExternalBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExternalBuffer").field("len", &self.as_slice().len()).finish()
    }
}

/// What DPDK counts the holders with, and what they hold.
struct Holder {
    shared: sys::rte_mbuf_ext_shared_info,
    owner: Box<dyn AsRef<[u8]> + Send>,
}

impl SharedMbuf {
    /// A packet of one segment that lies where `buffer` is. Devices that read memory themselves (all but
    /// virtual ones) do not take it: their memory has to be registered with them.
    ///
    /// # Errors
    ///
    /// Gives the buffer back when it has more than 65 535 bytes, or the pool has no mbuf.
    pub fn external(pool: &Mempool, buffer: ExternalBuffer) -> Result<Self, ExternalBuffer> {
        let shared = sys::rte_mbuf_ext_shared_info {
            free_cb: Some(release),
            fcb_opaque: std::ptr::null_mut(),
            refcnt: 1,
        };
        let holder = Box::new(Holder { shared, owner: buffer.owner });
        // Asked once: where and how long may differ the next time.
        let data = (*holder.owner).as_ref();
        let (data, len) = (data.as_ptr().cast_mut().cast::<c_void>(), u16::try_from(data.len()));
        let (Ok(len), Some(packet)) = (len, pool.alloc_one()) else {
            return Err(ExternalBuffer { owner: holder.owner });
        };
        let raw = packet.raw();
        let holder = Box::into_raw(holder);
        // SAFETY: just made, and nobody else has it.
        let held = unsafe { &mut *holder };
        held.shared.fcb_opaque = holder.cast();
        let shared = &raw mut held.shared;
        // SAFETY: any address may be asked about.
        let iova = unsafe { sys::rte_mem_virt2iova(data) };
        // SAFETY: the segment is ours and direct. The data stays where it is as long as the owner is not
        // dropped, and the owner as long as the count says, which is 1, for this segment.
        unsafe { sys::bypass_pktmbuf_attach_extbuf(raw.as_ptr(), data, iova, len, shared) };
        raw.set_data_len(len);
        raw.set_pkt_len(u32::from(len));
        Ok(packet.share())
    }
}

/// The last holder is gone.
unsafe extern "C" fn release(_data: *mut c_void, holder: *mut c_void) {
    let Some(holder) = NonNull::new(holder.cast::<Holder>()) else { return };
    // DPDK looks at the count without ordering when it is 1: what other holders read, they read before.
    fence(Ordering::Acquire);
    // SAFETY: it was made by `Box::into_raw`, and DPDK calls this once.
    let holder = unsafe { Box::from_raw(holder.as_ptr()) };
    // Into C no panic may go; what panicked has said so itself.
    let _lost = catch_unwind(AssertUnwindSafe(|| drop(holder.owner)));
}
