//! Fields and flags of mbufs that are there once they are asked for.

use std::sync::Mutex;
use std::sync::PoisonError;

use bypass_core::{Error, Result, Unsupported};
use bypass_dpdk_sys as sys;

use super::device::Device;
use crate::error::DpdkError;
use crate::mbuf;
use crate::queue::look_at_what_comes;

/// One at a time.
static REGISTERED: Mutex<bool> = Mutex::new(false);

/// Has drivers write the time that packets arrived at.
///
/// Some stamp in nanoseconds, others in ticks of a clock that only they know. Only the latter let the
/// clock be read.
pub(super) fn register_times(device: &Device) -> Result<()> {
    let mut clock = 0;
    // SAFETY: the port is open; there is room for the answer.
    if unsafe { sys::rte_eth_read_clock(device.id(), &raw mut clock) } == 0 {
        return Err(Error::Unsupported(Unsupported {
            what: "receive timestamps in nanoseconds".into(),
            backend: crate::BACKEND,
            why: format!("the clock of {} counts ticks of its own", device.name()).into(),
        }));
    }
    let (mut offset, mut flag) = (0, 0);
    // SAFETY: there is room for the answers; the function may be called again.
    let code = unsafe { sys::rte_mbuf_dyn_rx_timestamp_register(&raw mut offset, &raw mut flag) };
    match usize::try_from(offset) {
        Ok(offset) if code == 0 => mbuf::times_are_at(offset, flag),
        _ => return Err(refused("make room for timestamps in mbufs")),
    }
    Ok(())
}

/// Has packets tell the queue that they came from.
pub(super) fn register_queues() -> Result<()> {
    let mut registered = REGISTERED.lock().unwrap_or_else(PoisonError::into_inner);
    if *registered {
        return Ok(());
    }
    let mut flag = sys::rte_mbuf_dynflag { name: [0; 64], flags: 0 };
    let name = b"bypass_io_dynflag_rx_queue";
    flag.name.iter_mut().zip(name).for_each(|(to, &from)| *to = from as libc::c_char);
    // SAFETY: the description is filled in, and read during the call.
    let bit = unsafe { sys::rte_mbuf_dynflag_register(&raw const flag) };
    match u32::try_from(bit) {
        Ok(bit @ 0..64) => mbuf::queues_are_marked_by(1 << bit),
        _ => return Err(refused("make room for a flag in mbufs")),
    }
    *registered = true;
    look_at_what_comes();
    Ok(())
}

fn refused(attempt: &'static str) -> Error {
    // SAFETY: it reads a thread-local variable.
    DpdkError::refused(attempt, unsafe { sys::bypass_errno() }).into()
}
