//! [`Subscription`]: being told of what happens to a port.
//!
//! # What the unsafe code here relies on
//!
//! What DPDK is given to hand back is never freed: two threads may process one event, and then DPDK says
//! that a callback has ended, and forgets it, while one of them is still in it.

use std::ffi::c_void;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

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

type Callback = Arc<dyn Fn() + Send + Sync>;

/// What DPDK has of a subscription, for good: whom to tell, while somebody wants to be told.
#[derive(Default)]
struct Slot(Mutex<Option<Callback>>);

impl Slot {
    fn set(&self, callback: Option<Callback>) -> Option<Callback> {
        std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), callback)
    }

    fn get(&self) -> Option<Callback> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Somebody who wants to be told of an [`Event`], until this is dropped; a call that another thread is in
/// then may still go on for a moment. The port stays open.
///
/// Some bytes stay taken after it is dropped, because DPDK cannot say when it is done with them.
#[must_use = "nobody is told any more when this is dropped"]
pub struct Subscription {
    event: Event,
    slot: &'static Slot,
    device: Arc<Device>,
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
        let slot: &'static Slot = Box::leak(Box::default());
        // SAFETY: the port is open, and the slot stays for ever.
        let code = unsafe {
            sys::rte_eth_dev_callback_register(self.id(), event.raw(), Some(told), address(slot))
        };
        self.device.answer(&format!("subscribe to {event:?}"), code)?;
        slot.set(Some(Arc::new(callback)));
        Ok(Subscription { event, slot, device: Arc::clone(&self.device) })
    }
}

/// How DPDK knows a slot.
fn address(slot: &'static Slot) -> *mut c_void {
    std::ptr::from_ref(slot).cast_mut().cast()
}

/// What DPDK calls.
unsafe extern "C" fn told(
    _port: u16,
    _event: sys::rte_eth_event_type,
    slot: *mut c_void,
    _more: *mut c_void,
) -> i32 {
    // SAFETY: it is the one that was registered, which stays for ever and is only shared.
    let slot = unsafe { &*slot.cast::<Slot>() };
    // The callback may be dropped in here, when its subscription was dropped meanwhile.
    let _lost = catch_unwind(AssertUnwindSafe(|| slot.get().inspect(|callback| callback())));
    0
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let callback = self.slot.set(None);
        let (port, slot) = (self.device.id(), address(self.slot));
        // Refused while a call is under way, this one's own among them. Then DPDK keeps the entry until
        // the port is closed, and nobody is told.
        // SAFETY: the port is open: this holds it.
        let _code = unsafe {
            sys::rte_eth_dev_callback_unregister(port, self.event.raw(), Some(told), slot)
        };
        drop(callback);
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
