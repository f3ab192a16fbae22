//! Counters of a port.

use std::ffi::CStr;
use std::mem::MaybeUninit;

use bypass_core::Result;
use bypass_dpdk_sys as sys;

use super::device::{Device, Running};

/// What a device has counted since its port was started; which of these it counts is the driver's
/// affair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PortStats {
    /// Packets received.
    pub rx_packets: u64,
    /// Their bytes.
    pub rx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Their bytes.
    pub tx_bytes: u64,
    /// Packets dropped because a receiving queue was full (`imissed`), those among them that the kernel
    /// has dropped in front of a `net_af_packet` that was [plugged in](crate::Vdev), or of a `net_af_xdp`
    /// (`rx_ring_full` of `XDP_STATISTICS`).
    pub rx_missed: u64,
    /// Packets that were damaged, or that the driver could not make sense of (`ierrors`).
    pub rx_errors: u64,
    /// Packets dropped because the pool was empty (`rx_nombuf`).
    pub rx_no_mbuf: u64,
    /// Packets that could not be sent (`oerrors`).
    pub tx_errors: u64,
}

impl PortStats {
    fn since(self, then: Self) -> Self {
        Self {
            rx_packets: self.rx_packets.wrapping_sub(then.rx_packets),
            rx_bytes: self.rx_bytes.wrapping_sub(then.rx_bytes),
            tx_packets: self.tx_packets.wrapping_sub(then.tx_packets),
            tx_bytes: self.tx_bytes.wrapping_sub(then.tx_bytes),
            rx_missed: self.rx_missed.wrapping_sub(then.rx_missed),
            rx_errors: self.rx_errors.wrapping_sub(then.rx_errors),
            rx_no_mbuf: self.rx_no_mbuf.wrapping_sub(then.rx_no_mbuf),
            tx_errors: self.tx_errors.wrapping_sub(then.tx_errors),
        }
    }
}

impl Device {
    pub(super) fn stats(&self) -> Result<PortStats> {
        let mut stats = MaybeUninit::<sys::rte_eth_stats>::zeroed();
        let _one = self.control();
        // SAFETY: the port is open; there is room for the answer.
        let code = unsafe { sys::rte_eth_stats_get(self.id(), stats.as_mut_ptr()) };
        self.answer("read the counters", code)?;
        // SAFETY: it was zeroed, and consists of numbers.
        let stats = unsafe { stats.assume_init() };
        let of_device = self.plugged().map_or(0, |device| device.missed.packets());
        let missed = of_device + self.missed.packets();
        Ok(PortStats {
            rx_packets: stats.ipackets,
            rx_bytes: stats.ibytes,
            tx_packets: stats.opackets,
            tx_bytes: stats.obytes,
            rx_missed: stats.imissed + missed,
            rx_errors: stats.ierrors,
            rx_no_mbuf: stats.rx_nombuf,
            tx_errors: stats.oerrors,
        })
    }
}

impl Running {
    /// The counters since the start.
    pub(crate) fn counters(&self) -> Result<PortStats> {
        Ok(self.device.stats()?.since(self.before))
    }

    /// Shows every counter that the driver has, by its name.
    pub(crate) fn visit(&self, visit: &mut dyn FnMut(&str, u64)) -> Result<()> {
        let (names, values) = self.extended()?;
        for value in values {
            let Some(name) = usize::try_from(value.id).ok().and_then(|id| names.get(id)) else {
                continue;
            };
            // SAFETY: the driver has ended the name with a zero; it was zeroed before.
            let name = unsafe { CStr::from_ptr(name.name.as_ptr()) };
            visit(&name.to_string_lossy(), value.value);
        }
        Ok(())
    }

    fn extended(&self) -> Result<(Vec<sys::rte_eth_xstat_name>, Vec<sys::rte_eth_xstat>)> {
        let id = self.id();
        let _one = self.device.control();
        // SAFETY: the port is open; without room for names it tells their number.
        let n = unsafe { sys::rte_eth_xstats_get_names(id, std::ptr::null_mut(), 0) };
        self.device.answer("ask for the counters' names", n)?;
        let n = n.max(0).cast_unsigned();
        let mut names = vec![MaybeUninit::<sys::rte_eth_xstat_name>::zeroed(); n as usize];
        // SAFETY: the port is open; there is room for `n` names.
        let code = unsafe { sys::rte_eth_xstats_get_names(id, names.as_mut_ptr().cast(), n) };
        self.device.answer("ask for the counters' names", code)?;
        let mut values = vec![sys::rte_eth_xstat { id: u64::MAX, value: 0 }; n as usize];
        // SAFETY: the port is open; there is room for `n` values.
        let code = unsafe { sys::rte_eth_xstats_get(id, values.as_mut_ptr(), n) };
        self.device.answer("read the counters", code)?;
        values.truncate(code.max(0) as usize);
        // SAFETY: they were zeroed, and consist of bytes.
        let names = names.into_iter().map(|name| unsafe { name.assume_init() }).collect();
        Ok((names, values))
    }
}
