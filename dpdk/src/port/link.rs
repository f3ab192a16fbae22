//! [`Link`]: whether there is a cable, and how fast it is.

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
        let (mut speed, mut is_up, mut is_full_duplex) = (0, false, false);
        let (at, up, full) = (&raw mut speed, &raw mut is_up, &raw mut is_full_duplex);
        let _one = self.control();
        // SAFETY: the port is open; there is room for the answers. The function does not wait.
        let code = unsafe { sys::bypass_eth_link(self.id(), at, up, full) };
        self.answer("ask for the link", code)?;
        let speed = (speed != 0 && speed != u32::MAX).then_some(speed);
        Ok(Link { is_up, speed, is_full_duplex })
    }
}
