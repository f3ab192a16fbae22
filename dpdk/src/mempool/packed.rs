//! Pools whose mbufs lie side by side.
//!
//! `rte_pktmbuf_pool_create` lets no mbuf cross a page, so that there are gaps at the ends of pages: with
//! ordinary ones each mbuf has a page of its own. Where addresses are virtual, memory that is one piece for
//! the process is one piece for a device too, and there is no need for that. What follows is what
//! `rte_pktmbuf_pool_create_by_ops` does (`rte_mbuf.c`), but for the memory.

use std::ffi::{CStr, CString, c_void};
use std::ptr::NonNull;

use bypass_core::{Error, Result};
use bypass_dpdk_sys as sys;

use super::MempoolOptions;
use crate::error::DpdkError;

/// Has DPDK leave no gaps (`RTE_MEMPOOL_F_NO_IOVA_CONTIG`).
const FLAGS: u32 = sys::RTE_MEMPOOL_F_NO_IOVA_CONTIG;

/// The memory begins a page.
const PAGE: u32 = 4096;

/// Makes such a pool; the environment runs, and the options were checked.
pub(super) fn create(
    name: &CStr,
    socket: i32,
    options: &MempoolOptions,
) -> Result<NonNull<sys::rte_mempool>> {
    // SAFETY: the environment runs.
    if unsafe { sys::rte_eal_iova_mode() } != sys::RTE_IOVA_VA {
        let why = "devices are given physical addresses, of which nothing larger than a page is one \
                   piece: start the environment with `Iova::Virtual`";
        return Err(Error::config("packed", true, why));
    }
    let room = options.buffer_size();
    let len = size_of::<sys::rte_mbuf>() as u32 + u32::from(options.private_size) + u32::from(room);
    // SAFETY: computes a number; where the parts go is not asked for.
    let each = unsafe { sys::rte_mempool_calc_obj_size(len, FLAGS, std::ptr::null_mut()) };
    // SAFETY: the environment runs, and the name ends with a zero.
    let raw = unsafe {
        sys::rte_mempool_create_empty(
            name.as_ptr(),
            options.mbufs,
            len,
            options.cache,
            size_of::<sys::rte_pktmbuf_pool_private>() as u32,
            socket,
            FLAGS,
        )
    };
    let Some(raw) = NonNull::new(raw) else { return Err(refused(options, name, errno())) };
    let mut private = sys::rte_pktmbuf_pool_private {
        mbuf_data_room_size: room,
        mbuf_priv_size: options.private_size,
        flags: 0,
    };
    match fill(raw, name, socket, &mut private, each as usize * options.mbufs as usize) {
        Ok(()) => Ok(raw),
        Err(code) => {
            // SAFETY: the pool is ours, and nobody has anything of it.
            unsafe { sys::rte_mempool_free(raw.as_ptr()) };
            Err(refused(options, name, code))
        }
    }
}

/// Gives an empty pool its memory, which is one piece, and makes mbufs of it.
fn fill(
    raw: NonNull<sys::rte_mempool>,
    name: &CStr,
    socket: i32,
    private: &mut sys::rte_pktmbuf_pool_private,
    bytes: usize,
) -> std::result::Result<(), i32> {
    let pool = raw.as_ptr();
    // SAFETY: it reads what the platform has set.
    let operations = unsafe { sys::rte_mbuf_best_mempool_ops() };
    // SAFETY: the pool is ours and empty; the name is one of DPDK's own.
    let code = unsafe { sys::rte_mempool_set_ops_byname(pool, operations, std::ptr::null_mut()) };
    if code != 0 {
        return Err(code);
    }
    // SAFETY: the pool has room for this, and it is copied.
    unsafe { sys::rte_pktmbuf_pool_init(pool, std::ptr::from_mut(private).cast()) };
    // As DPDK names the first piece of a pool's memory (`RTE_MEMPOOL_MZ_FORMAT`).
    let name = [b"MP_", name.to_bytes(), b"_0"].concat();
    let name = CString::new(name).unwrap_or_default();
    // SAFETY: the name ends with a zero; any node and any pages.
    let memory = unsafe { sys::rte_memzone_reserve_aligned(name.as_ptr(), bytes, socket, 0, PAGE) };
    // SAFETY: it is null, or the memory's description, which stays until it is freed.
    let Some(zone) = (unsafe { memory.as_ref() }) else { return Err(errno()) };
    // SAFETY: the other half of the union is the address as a number.
    let address = unsafe { zone.__bindgen_anon_1.addr };
    // SAFETY: the pool is ours; the memory is as long as is said, and is the pool's from here on, which
    // gives it back by `give_back`.
    let filled = unsafe {
        sys::rte_mempool_populate_iova(
            pool,
            address.cast(),
            zone.iova,
            zone.len,
            Some(give_back),
            memory.cast_mut().cast(),
        )
    };
    if filled <= 0 {
        // SAFETY: the pool has not taken it.
        unsafe { sys::rte_memzone_free(memory) };
        return Err(if filled == 0 { libc::ENOBUFS } else { filled });
    }
    // SAFETY: the pool's size never changes.
    if filled.cast_unsigned() != unsafe { raw.as_ref() }.size {
        return Err(libc::ENOBUFS);
    }
    // SAFETY: each of the pool's objects has room for an mbuf, and nobody has one yet.
    unsafe { sys::rte_mempool_obj_iter(pool, Some(sys::rte_pktmbuf_init), std::ptr::null_mut()) };
    Ok(())
}

/// What DPDK calls when a pool no longer needs its memory.
unsafe extern "C" fn give_back(_chunk: *mut sys::rte_mempool_memhdr, memory: *mut c_void) {
    // SAFETY: it is what was reserved for the pool, which is being freed.
    unsafe { sys::rte_memzone_free(memory.cast_const().cast()) };
}

fn errno() -> i32 {
    // SAFETY: it reads a thread-local variable.
    unsafe { sys::bypass_errno() }
}

fn refused(options: &MempoolOptions, name: &CStr, code: i32) -> Error {
    DpdkError::refused(options.attempt(&name.to_string_lossy()), code).into()
}
