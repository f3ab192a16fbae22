//! Where a pool's mbufs lie.

use std::ffi::c_void;

use bypass_dpdk_sys as sys;

use super::Mempool;

impl Mempool {
    /// Bytes that its mbufs take together, with what DPDK keeps before and behind each, and bytes from the
    /// first to the last of them: more, where there are gaps.
    pub(crate) fn extent(&self) -> (usize, usize) {
        let pool = self.as_ptr();
        // SAFETY: the pool is there, and its sizes never change.
        let sizes = unsafe { &*pool };
        let each = (sizes.header_size + sizes.elt_size + sizes.trailer_size) as usize;
        let mut found = Bounds { first: usize::MAX, last: 0 };
        // SAFETY: the function is called for each object, with the place that is passed on, and only looks
        // at addresses.
        unsafe { sys::rte_mempool_obj_iter(pool, Some(widen), (&raw mut found).cast()) };
        (each * sizes.size as usize, found.last.saturating_sub(found.first) + each)
    }
}

/// Addresses of objects.
struct Bounds {
    first: usize,
    last: usize,
}

/// Widens the bounds by an object.
unsafe extern "C" fn widen(
    _pool: *mut sys::rte_mempool,
    found: *mut c_void,
    object: *mut c_void,
    _number: u32,
) {
    // SAFETY: it is what `extent` passed, which nobody else has.
    let found = unsafe { &mut *found.cast::<Bounds>() };
    found.first = found.first.min(object.addr());
    found.last = found.last.max(object.addr());
}
