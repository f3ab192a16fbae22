//! [`Mempool`]: memory for packets, shared by ports and threads.
//!
//! # What the unsafe code here relies on
//!
//! A pool is made by `rte_pktmbuf_pool_create`, or as it does (see [`packed`]): any thread may take mbufs out
//! and give them back (`rte_mempool(3)`: multi-producer, multi-consumer). Its memory stays as long as
//! one handle or one of its mbufs is there: see [`retire`].

mod extent;
mod options;
mod packed;
mod retire;

use std::ffi::{CStr, CString};
use std::fmt;
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bypass_core::{Burst, Result};
use bypass_dpdk_sys as sys;

pub use options::MempoolOptions;
pub(crate) use retire::reap;

use crate::eal::Eal;
use crate::error::DpdkError;
use crate::mbuf::Mbuf;

/// Numbers pools, whose names DPDK wants to be different.
static NEXT: AtomicU32 = AtomicU32::new(0);

/// A pool of mbufs: pieces of memory of one size, which ports and the application take their packets
/// from.
///
/// It is a handle; clones are the same pool. Mbufs do not count as handles and outlive all of them: a
/// pool whose mbufs are still under way when its last handle is dropped is kept until they have come
/// home.
///
/// Any thread may allocate, and free the mbufs of any other. Threads that are
/// [registered](crate::Eal::register_thread) do so through a cache of their own; the others all meet at the pool's
/// ring, which costs about half as much again.
///
/// ```no_run
/// use bypass_core::{Buffer, Burst};
/// use bypass_dpdk::{EalOptions, Mempool, MempoolOptions};
///
/// let eal = EalOptions::new().start()?;
/// let pool = Mempool::new(&eal, &MempoolOptions::new(1023))?;
/// let mut burst = Burst::with_capacity(32);
/// assert_eq!(pool.alloc(&mut burst, 32), 32);
/// drop(pool);
/// burst[0].fill(b"still there")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Mempool(Arc<Inner>);

struct Inner {
    raw: NonNull<sys::rte_mempool>,
    /// Mbufs that [`Mempool::alloc`] leaves for receiving.
    rx_reserve: u32,
    data_room: u16,
    packed: bool,
    eal: Option<Eal>,
}

// SAFETY: the functions of a pool may be called by any thread at any time (it is made without the
// flags for a single producer or consumer), and the rest is plain data.
unsafe impl Send for Inner {}
// SAFETY: as above.
unsafe impl Sync for Inner {}

impl Mempool {
    /// Makes a pool.
    ///
    /// # Errors
    ///
    /// [`bypass_core::Error::Config`] for options that make no sense, [`DpdkError`] when there is no
    /// memory for it.
    pub fn new(eal: &Eal, options: &MempoolOptions) -> Result<Self> {
        options.check()?;
        reap();
        let name = match &options.name {
            Some(name) => name.clone(),
            None => format!("bypass{}", NEXT.fetch_add(1, Ordering::Relaxed)),
        };
        let c_name = CString::new(name.as_str())
            .map_err(|_| bypass_core::Error::config("name", &name, "it has a zero byte"))?;
        let socket = options.socket.map_or(sys::SOCKET_ID_ANY, |socket| socket as i32);
        let raw = match options.packed {
            true => packed::create(&c_name, socket, options)?,
            false => create(&c_name, socket, options)?,
        };
        let (rx_reserve, data_room) = (options.rx_reserve, options.data_room);
        let (packed, eal) = (options.packed, Some(eal.clone()));
        Ok(Self(Arc::new(Inner { raw, rx_reserve, data_room, packed, eal })))
    }

    /// Appends up to `n` empty mbufs to `out` and returns how many. Fewer than `n` means that `out` is
    /// full or the pool is empty, except for its [reserve](MempoolOptions::rx_reserve).
    pub fn alloc(&self, out: &mut Burst<Mbuf>, n: usize) -> usize {
        let n = n.min(out.room());
        let reserve = self.0.rx_reserve as usize;
        let filled = if reserve == 0 || self.common() >= reserve + n + self.cache_size() {
            self.fill(&mut out.spare()[..n])
        } else {
            self.fill_sparingly(&mut out.spare()[..n], reserve)
        };
        // SAFETY: `fill` has written the first `filled` of the spare slots, and nobody else has them.
        unsafe { out.assume_filled(filled) };
        filled
    }

    /// An empty mbuf, from the reserve too; `None` when the pool has none.
    #[must_use]
    pub fn alloc_one(&self) -> Option<Mbuf> {
        let mut slot = [MaybeUninit::uninit()];
        if self.fill(&mut slot) == 0 {
            return None;
        }
        let [slot] = slot;
        // SAFETY: `fill` has written it.
        Some(unsafe { slot.assume_init() })
    }

    /// Allocates into the first slots, and returns how many. DPDK gives all or nothing: where it gives
    /// nothing, fewer are asked for.
    #[inline]
    fn fill(&self, slots: &mut [MaybeUninit<Mbuf>]) -> usize {
        let (mut filled, mut step) = (0, slots.len());
        while step > 0 && filled < slots.len() {
            step = step.min(slots.len() - filled);
            let at = slots[filled..].as_mut_ptr().cast::<*mut sys::rte_mbuf>();
            // SAFETY: there are `step` slots from here on, each as large as a pointer (an `Mbuf` is a
            // transparent one); the pool is there.
            let refused =
                unsafe { sys::bypass_pktmbuf_alloc_bulk(self.as_ptr(), at, step as u32) } != 0;
            match refused {
                true => step /= 2,
                false => filled += step,
            }
        }
        filled
    }

    /// As [`fill`](Self::fill), when the ring has little more than the reserve: a thread's cache that has
    /// too few would be filled up from it.
    #[cold]
    fn fill_sparingly(&self, slots: &mut [MaybeUninit<Mbuf>], reserve: usize) -> usize {
        let cached = self.cached().min(slots.len());
        let filled = self.fill(&mut slots[..cached]);
        let rest = &mut slots[filled..];
        let n = rest.len().min(self.common().saturating_sub(reserve));
        let at = rest.as_mut_ptr().cast::<*mut libc::c_void>();
        // SAFETY: there is room for `n` pointers; the pool is there. Without a cache they come from the
        // ring.
        let refused = unsafe {
            sys::bypass_mempool_get_bulk(self.as_ptr(), at, n as u32, std::ptr::null_mut())
        };
        if refused != 0 {
            return filled;
        }
        for slot in &mut rest[..n] {
            let mbuf = slot.as_mut_ptr().cast::<*mut sys::rte_mbuf>();
            // SAFETY: the pool has written the slot.
            let mbuf = unsafe { mbuf.read() };
            // SAFETY: the mbuf is ours, and comes from a pool of mbufs.
            unsafe { sys::bypass_pktmbuf_reset(mbuf) };
        }
        filled + n
    }

    fn cache_size(&self) -> usize {
        // SAFETY: the pool is there, and the size never changes.
        unsafe { (*self.as_ptr()).cache_size as usize }
    }

    /// Mbufs in the calling thread's cache.
    fn cached(&self) -> usize {
        // SAFETY: it reads a thread-local variable.
        let lcore = unsafe { sys::bypass_lcore_id() };
        // SAFETY: the pool is there; for a thread without a number there is no cache.
        let cache = unsafe { sys::bypass_mempool_default_cache(self.as_ptr(), lcore) };
        // SAFETY: it is this thread's, or null.
        unsafe { cache.as_ref() }.map_or(0, |cache| cache.len as usize)
    }

    /// How many mbufs it has.
    #[must_use]
    pub fn size(&self) -> u32 {
        // SAFETY: the pool is there, and its size never changes.
        unsafe { (*self.as_ptr()).size }
    }

    /// How many mbufs are free, in the ring or in a cache. It looks at every cache, and is exact while
    /// nobody else is at work.
    #[must_use]
    pub fn available(&self) -> u32 {
        // SAFETY: the pool is there; the function reads counters.
        unsafe { sys::rte_mempool_avail_count(self.as_ptr()) }
    }

    /// How many mbufs ports and the application have; see [`available`](Self::available).
    #[must_use]
    pub fn in_use(&self) -> u32 {
        self.size().saturating_sub(self.available())
    }

    /// Bytes of data that fit an mbuf behind its headroom.
    #[must_use]
    pub fn data_room(&self) -> u16 {
        self.0.data_room
    }

    /// Whether its mbufs lie [side by side](MempoolOptions::packed).
    #[must_use]
    pub fn is_packed(&self) -> bool {
        self.0.packed
    }

    /// Bytes of headroom of a fresh mbuf.
    #[must_use]
    pub const fn headroom() -> u16 {
        sys::RTE_PKTMBUF_HEADROOM as u16
    }

    /// Mbufs that [`alloc`](Self::alloc) leaves for receiving.
    #[must_use]
    pub fn rx_reserve(&self) -> u32 {
        self.0.rx_reserve
    }

    /// The name that DPDK's tools show it by.
    #[must_use]
    pub fn name(&self) -> String {
        // SAFETY: the pool is there, and its name never changes.
        let name = unsafe { &(*self.as_ptr()).name };
        name.iter().take_while(|&&byte| byte != 0).map(|&byte| byte as u8 as char).collect()
    }

    /// For DPDK's functions.
    #[must_use]
    pub fn as_ptr(&self) -> *mut sys::rte_mempool {
        self.0.raw.as_ptr()
    }

    /// Whether [`alloc`](Self::alloc) has one to give, from what all threads share.
    pub(crate) fn has_spare(&self) -> bool {
        self.common() > self.0.rx_reserve as usize
    }

    /// Mbufs in the pool's ring: what any thread can have.
    fn common(&self) -> usize {
        common(self.0.raw) as usize
    }
}

/// Makes a pool; the environment runs, and the options were checked.
fn create(name: &CStr, socket: i32, options: &MempoolOptions) -> Result<NonNull<sys::rte_mempool>> {
    // SAFETY: the environment runs, and the name ends with a zero.
    let raw = unsafe {
        sys::rte_pktmbuf_pool_create(
            name.as_ptr(),
            options.mbufs,
            options.cache,
            options.private_size,
            options.buffer_size(),
            socket,
        )
    };
    NonNull::new(raw).ok_or_else(|| {
        let attempt = options.attempt(&name.to_string_lossy());
        // SAFETY: it reads a thread-local variable.
        DpdkError::refused(attempt, unsafe { sys::bypass_errno() }).into()
    })
}

/// Mbufs in the ring of a pool that is there (`rte_mempool_ops_get_count`, which is not exported).
fn common(raw: NonNull<sys::rte_mempool>) -> u32 {
    // SAFETY: the pool is there, and the index of its operations never changes.
    let index = unsafe { (*raw.as_ptr()).ops_index };
    // SAFETY: the table is filled when DPDK is loaded, before any pool is made.
    let operations = unsafe { &raw const sys::rte_mempool_ops_table.ops }
        .cast::<sys::rte_mempool_ops>()
        .wrapping_add(index as usize);
    // SAFETY: a pool's index is that of an entry.
    let Some(count) = (unsafe { (*operations).get_count }) else { return 0 };
    // SAFETY: the function reads two cursors of the pool, which is there.
    unsafe { count(raw.as_ptr()) }
}

impl PartialEq for Mempool {
    /// Whether both are the same pool.
    fn eq(&self, other: &Self) -> bool {
        self.0.raw == other.0.raw
    }
}

impl Eq for Mempool {}

impl fmt::Debug for Mempool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mempool")
            .field("name", &self.name())
            .field("size", &self.size())
            .field("available", &self.available())
            .finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(eal) = self.eal.take() {
            retire::retire(self.raw, eal);
        }
    }
}
