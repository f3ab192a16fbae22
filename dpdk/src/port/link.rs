//! [`Link`]: whether there is a cable, and how fast it is.

use std::mem::MaybeUninit;

use bypass_core::Result;
use bypass_dpdk_sys as sys;

use super::device::Device;

/// The state of a port's link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Link {
    /// Whether packets can go out and come in.
    pub is_up: bool,
    /// Megabits per second; `None` when the driver does not know.
    pub speed: Option<u32>,
    /// Whether both directions go at once.
    pub is_full_duplex: bool,
}

impl Device {
    pub(super) fn link(&self) -> Result<Link> {
        let mut link = MaybeUninit::<sys::rte_eth_link>::zeroed();
        let _one = self.control();
        // SAFETY: the port is open; there is room for the answer. The function does not wait.
        let code = unsafe { sys::rte_eth_link_get_nowait(self.id(), link.as_mut_ptr()) };
        self.answer("ask for the link", code)?;
        // SAFETY: it was zeroed, and consists of numbers.
        let link = unsafe { link.assume_init() };
        let known = link.link_speed != 0 && link.link_speed != u32::MAX;
        Ok(Link {
            is_up: u32::from(link.link_status()) == sys::RTE_ETH_LINK_UP,
            speed: known.then_some(link.link_speed),
            is_full_duplex: u32::from(link.link_duplex()) == sys::RTE_ETH_LINK_FULL_DUPLEX,
        })
    }
}
