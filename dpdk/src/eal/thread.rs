//! [`ThreadRegistration`]: a thread of your own that DPDK knows.
//!
//! Relied on: `rte_thread_register` gives the calling thread an lcore number that no other thread has,
//! and `rte_thread_unregister` takes back that of the calling thread.

use std::cell::Cell;
use std::marker::PhantomData;

use bypass_dpdk_sys as sys;

use super::{Eal, raw};
use crate::error::{DpdkError, Result};

/// What to do where other processes share the memory.
const INSTEAD: &str = "DPDK has either other processes or registered threads: use its lcores (`Eal::launch`), or threads that it does \
     not know, which do without caches of their own";

thread_local! {
    /// How many registrations of this thread there are; the last one to go ends it.
    static REGISTRATIONS: Cell<usize> = const { Cell::new(0) };
}

/// While it lives, the thread that made it counts as an lcore: it has caches of its own in every pool,
/// without which each packet costs a trip to the pool that all share.
///
/// A thread may have several; DPDK's own lcores need none, though it does no harm there.
///
/// ```standalone_crate
/// use bypass_dpdk::EalOptions;
/// use bypass_core::worker::{Workers, available_cores};
///
/// let eal = EalOptions::new().start()?;
/// // One thread per core, each known to DPDK while it works.
/// let workers = Workers::spawn(&available_cores()?, move |_worker| {
///     let registration = eal.register_thread()?;
///     Ok(registration.lcore())
/// })?;
/// let lcores = workers.join()?;
/// assert!(lcores.iter().all(|&lcore| lcore != 0), "0 is the main lcore: {lcores:?}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// It stays on its thread:
///
/// ```compile_fail,E0277
/// fn needs_send(_: impl Send) {}
/// fn leave(registration: bypass_dpdk::ThreadRegistration) {
///     needs_send(registration);
/// }
/// ```
#[derive(Debug)]
#[must_use = "the registration ends when it is dropped"]
pub struct ThreadRegistration {
    lcore: u32,
    /// Whether this thread was registered by a guard; DPDK's own lcores were not.
    counted: bool,
    _eal: Eal,
    /// It belongs to its thread.
    _not_send: PhantomData<*const ()>,
}

impl Eal {
    /// Makes DPDK know the calling thread, for as long as the returned guard lives.
    ///
    /// # Errors
    ///
    /// [`DpdkError::Refused`] when all lcore numbers are taken (`RTE_MAX_LCORE`, mostly 128). With
    /// [`packet_capture`](super::EalOptions::packet_capture), or when another process shares the memory: DPDK lets
    /// either other processes come or threads, and from the first registration on no process.
    pub fn register_thread(&self) -> Result<ThreadRegistration> {
        let registrations = REGISTRATIONS.get();
        let mut counted = registrations > 0;
        if lcore_id().is_none() {
            if self.is_captured() {
                let attempt = "register a thread where other processes may capture packets";
                return Err(DpdkError::refused(attempt, libc::ENOTSUP).with_remedy(INSTEAD));
            }
            let none_meanwhile = self.launching();
            // SAFETY: the environment runs: there is a handle to it.
            let code = unsafe { sys::rte_thread_register() };
            drop(none_meanwhile);
            if code != 0 {
                let errno = raw::last_errno().raw();
                let remedy = match errno {
                    // DPDK's word for it (`rte_thread_register`).
                    libc::EINVAL => INSTEAD,
                    _ => "end threads that no longer need it; DPDK is built for a fixed number",
                };
                return Err(DpdkError::refused("register a thread", errno).with_remedy(remedy));
            }
            counted = true;
        }
        if counted {
            REGISTRATIONS.set(registrations + 1);
        }
        let lcore = lcore_id().ok_or_else(|| {
            DpdkError::refused("register a thread: it has no number", libc::EINVAL)
        })?;
        Ok(ThreadRegistration { lcore, counted, _eal: self.clone(), _not_send: PhantomData })
    }
}

impl ThreadRegistration {
    /// The thread's lcore number.
    #[must_use]
    pub fn lcore(&self) -> u32 {
        self.lcore
    }
}

impl Drop for ThreadRegistration {
    fn drop(&mut self) {
        if !self.counted {
            return;
        }
        let left = REGISTRATIONS.get().saturating_sub(1);
        REGISTRATIONS.set(left);
        if left == 0 {
            // SAFETY: the environment runs: this holds a handle to it; the thread is registered.
            unsafe { sys::rte_thread_unregister() };
        }
    }
}

/// The calling thread's lcore number, if DPDK knows it.
pub(crate) fn lcore_id() -> Option<u32> {
    // SAFETY: reads a variable of this thread.
    let id = unsafe { sys::bypass_lcore_id() };
    (id != sys::LCORE_ID_ANY).then_some(id)
}
