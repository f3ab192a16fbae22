//! Freeing pools, when nobody can be at work in them any more.
//!
//! A pool without handles may have mbufs under way, in the application or in a port that sends them.
//! Such a pool is parked. It is freed once every mbuf is home, which is looked at whenever a pool comes
//! or goes and whenever a port is closed.
//!
//! DPDK counts an mbuf as home a moment before it has written it into a thread's cache
//! (`rte_mempool_do_generic_put` adds to the cache's length first, and counts twice what it is about to
//! flush), so its own `rte_mempool_full` may say yes while another thread still writes. Hence the count
//! here leaves out the caches of threads that are running: what is in the pool's ring, in the cache of
//! the calling thread and in those of lcores without a thread at work is home for certain. A pool that
//! has mbufs in another running thread's cache stays parked; so does one with mbufs in the cache of a
//! thread that is gone, while another thread has its lcore number.

use std::ptr::NonNull;
use std::sync::atomic::{Ordering, fence};
use std::sync::{Mutex, PoisonError};

use bypass_dpdk_sys as sys;

use crate::eal::Eal;

/// A pool without handles.
struct Parked {
    raw: NonNull<sys::rte_mempool>,
    /// The environment stays as long as the pool.
    eal: Eal,
}

// SAFETY: nobody but the list below has the pointer, and a pool may be freed by any thread.
unsafe impl Send for Parked {}

static PARKED: Mutex<Vec<Parked>> = Mutex::new(Vec::new());

/// Takes over a pool whose last handle is gone.
pub(super) fn retire(raw: NonNull<sys::rte_mempool>, eal: Eal) {
    let parked = Parked { raw, eal };
    PARKED.lock().unwrap_or_else(PoisonError::into_inner).push(parked);
    reap();
}

/// Frees the parked pools whose mbufs are all home.
pub(crate) fn reap() {
    let mut parked = PARKED.lock().unwrap_or_else(PoisonError::into_inner);
    parked.retain(|pool| {
        // An lcore that is quiet stays so until its cache was looked at.
        let none_begins = pool.eal.launching();
        let is_home = is_home(pool.raw);
        drop(none_begins);
        if is_home {
            // SAFETY: there is no handle, and no mbuf outside; hence nobody can reach it, now or later.
            unsafe { sys::rte_mempool_free(pool.raw.as_ptr()) };
        }
        !is_home
    });
}

/// Whether every mbuf is in a place where nobody is at work.
fn is_home(raw: NonNull<sys::rte_mempool>) -> bool {
    // SAFETY: a parked pool is there.
    let pool = unsafe { raw.as_ref() };
    let mut home = super::common(raw);
    if pool.cache_size > 0 {
        home += (0..sys::RTE_MAX_LCORE)
            .filter(|&lcore| is_quiet(lcore))
            .map(|lcore| cached(pool, lcore))
            .sum::<u32>();
    }
    home == pool.size
}

fn cached(pool: &sys::rte_mempool, lcore: u32) -> u32 {
    // SAFETY: a pool with caches has one for each of `RTE_MAX_LCORE` lcores.
    let cache = unsafe { pool.local_cache.add(lcore as usize) };
    // SAFETY: as above; no thread that could change it is running (see `is_quiet`).
    unsafe { (*cache).len }
}

/// Whether no thread but this one can be using the lcore's caches.
fn is_quiet(lcore: u32) -> bool {
    // SAFETY: it reads a thread-local variable.
    if lcore == unsafe { sys::bypass_lcore_id() } {
        return true;
    }
    // SAFETY: any number may be asked for.
    if unsafe { sys::rte_lcore_has_role(lcore, sys::ROLE_OFF) } > 0 {
        // What its last thread wrote, it wrote before it gave the number back.
        fence(Ordering::Acquire);
        return true;
    }
    // SAFETY: as above.
    let is_worker = unsafe { sys::rte_lcore_has_role(lcore, sys::ROLE_RTE) } > 0
        // SAFETY: it reads a variable.
        && lcore != unsafe { sys::rte_get_main_lcore() };
    // A worker that waits for work is not in the middle of any; its state is read with acquire
    // semantics.
    // SAFETY: the lcore is one of the environment's.
    is_worker && unsafe { sys::rte_eal_get_lcore_state(lcore) } == sys::WAIT
}
