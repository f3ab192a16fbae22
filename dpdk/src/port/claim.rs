//! Who has a port open: one of this process's, and once.
//!
//! DPDK has owners of ports for that. But it leaves out those that have one when it lists ports, so that its
//! telemetry would not show them, and programs that capture packets would find none.

use std::ffi::CStr;
use std::mem::MaybeUninit;

use bypass_core::{Error, Result};
use bypass_dpdk_sys as sys;

use crate::eal::Eal;
use crate::error::DpdkError;

/// The bus of virtual devices.
const VIRTUAL: &CStr = c"vdev";

/// Makes a port ours; nobody else can open it until it is [given back](release). No device comes or goes
/// meanwhile. Answers whether its device is a virtual one.
///
/// A virtual device that nobody here has made (`is_ours`) is refused: whoever made it, another process that shares
/// the memory for example, takes it away without asking.
pub(super) fn claim(eal: &Eal, id: u16, name: &str, is_ours: bool) -> Result<bool> {
    let attempt = || format!("open port {id} ({name})");
    let refused =
        |code, remedy| Err(DpdkError::refused(attempt(), code).with_remedy(remedy).into());
    let mut open = eal.open_ports();
    if open.contains(&id) {
        return refused(libc::EBUSY, "it is open already: a port is opened once");
    }
    let mut owner = MaybeUninit::<sys::rte_eth_dev_owner>::zeroed();
    // SAFETY: there is room for the answer; any thread may ask at any time.
    let code = unsafe { sys::rte_eth_dev_owner_get(id, owner.as_mut_ptr()) };
    if code != 0 {
        return Err(DpdkError::refused(attempt(), code).into());
    }
    // SAFETY: it was zeroed, and consists of numbers.
    if unsafe { owner.assume_init() }.id != u64::from(sys::RTE_ETH_DEV_NO_OWNER) {
        return refused(libc::EBUSY, "a driver or another part of the program has it");
    }
    let is_virtual = is_virtual(id)?;
    if is_virtual && !is_ours {
        let why = "it is one of a virtual device that nobody here made, so that it can go at any time: make \
                   one by `Vdev::plug` or `EalOptions::vdev`";
        return Err(Error::config("port", name, why));
    }
    open.insert(id);
    Ok(is_virtual)
}

/// Closes a port by `close`, and lets it be opened again if that says that it is closed. By then another device
/// may have a port of that number, which nobody opens meanwhile.
pub(super) fn release(eal: &Eal, id: u16, close: impl FnOnce() -> bool) -> bool {
    let mut open = eal.open_ports();
    let is_closed = close();
    if is_closed {
        open.remove(&id);
    }
    is_closed
}

/// Whether the device is a virtual one, which reads packets with the processor.
fn is_virtual(id: u16) -> Result<bool> {
    let mut info = MaybeUninit::<sys::rte_eth_dev_info>::zeroed();
    // SAFETY: the port is there, and nobody has it open; there is room for the answer.
    let code = unsafe { sys::rte_eth_dev_info_get(id, info.as_mut_ptr()) };
    if code != 0 {
        return Err(DpdkError::refused(format!("ask for the device of port {id}"), code).into());
    }
    // SAFETY: it was zeroed, and consists of numbers and pointers.
    let device = unsafe { info.assume_init() }.device;
    if device.is_null() {
        return Ok(false);
    }
    // SAFETY: a port's device stays as long as the port.
    let bus = unsafe { sys::rte_dev_bus(device) };
    // SAFETY: buses stay as long as the process.
    let name = unsafe { sys::rte_bus_name(bus) };
    // SAFETY: the name of a bus is a constant.
    Ok(unsafe { CStr::from_ptr(name) } == VIRTUAL)
}
