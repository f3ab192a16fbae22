//! [`Subscription`]: being told of what happens to a port.
//!
//! # What the unsafe code here relies on
//!
//! `rte_eth_dev_callback_unregister` succeeds only while the callback is not running, and no call begins
//! after it has.

use std::cell::Cell;
use std::ffi::c_void;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::Arc;

use bypass_core::Result;
use bypass_dpdk_sys as sys;

use super::Port;
use super::device::Device;

/// What can happen to a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Event {
    /// Its link came up or went down: see [`Port::link`].
    Link,
    /// It has to be stopped and started again.
    Reset,
    /// Its device is gone.
    Removed,
}

impl Event {
    fn raw(self) -> sys::rte_eth_event_type {
        match self {
            Self::Link => sys::RTE_ETH_EVENT_INTR_LSC,
            Self::Reset => sys::RTE_ETH_EVENT_INTR_RESET,
            Self::Removed => sys::RTE_ETH_EVENT_INTR_RMV,
        }
    }
}

type Callback = Box<dyn Fn() + Send + Sync>;

/// Somebody who wants to be told of an [`Event`], until this is dropped. The port stays open.
#[must_use = "nobody is told any more when this is dropped"]
pub struct Subscription {
    event: Event,
    callback: NonNull<Callback>,
    device: Arc<Device>,
}

// SAFETY: the callback may be called and dropped by any thread.
unsafe impl Send for Subscription {}
// SAFETY: nothing can be done with a shared reference.
unsafe impl Sync for Subscription {}

thread_local! {
    /// The callback that this thread is in.
    static INSIDE: Cell<*mut c_void> = const { Cell::new(std::ptr::null_mut()) };
}

impl<State> Port<State> {
    /// Has `callback` called each time that something happens: on DPDK's interrupt thread, as a rule, so
    /// it should be short. A panic in it is caught and lost.
    ///
    /// Not every driver tells of everything.
    ///
    /// # Errors
    ///
    /// When there is no memory for it.
    pub fn on(
        &self,
        event: Event,
        callback: impl Fn() + Send + Sync + 'static,
    ) -> Result<Subscription> {
        let callback: Box<Callback> = Box::new(Box::new(callback));
        let callback = NonNull::from(Box::leak(callback));
        let subscription = Subscription { event, callback, device: Arc::clone(&self.device) };
        // SAFETY: the port is open, and the callback stays until it is unregistered.
        let code = unsafe {
            sys::rte_eth_dev_callback_register(
                self.id(),
                event.raw(),
                Some(told),
                callback.as_ptr().cast(),
            )
        };
        self.device.answer(&format!("subscribe to {event:?}"), code)?;
        Ok(subscription)
    }
}

/// What DPDK calls.
unsafe extern "C" fn told(
    _port: u16,
    _event: sys::rte_eth_event_type,
    callback: *mut c_void,
    _more: *mut c_void,
) -> i32 {
    // SAFETY: it is the one that was registered, which is dropped only after that has been undone.
    let call = unsafe { &*callback.cast::<Callback>() };
    let outer = INSIDE.replace(callback);
    let _lost = catch_unwind(AssertUnwindSafe(call));
    INSIDE.set(outer);
    0
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let callback = self.callback.as_ptr();
        loop {
            // SAFETY: the port is open: this holds it.
            let code = unsafe {
                sys::rte_eth_dev_callback_unregister(
                    self.device.id(),
                    self.event.raw(),
                    Some(told),
                    callback.cast(),
                )
            };
            if code != -libc::EAGAIN {
                break;
            }
            if INSIDE.get() == callback.cast() {
                // It is dropped from inside of itself: it can never be known when it has ended, so it
                // stays, and goes on being called.
                return;
            }
            std::thread::yield_now();
        }
        // SAFETY: it was leaked when it was made, and nobody calls it any more.
        drop(unsafe { Box::from_raw(callback) });
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("event", &self.event)
            .field("port", &self.device.id())
            .finish_non_exhaustive()
    }
}
