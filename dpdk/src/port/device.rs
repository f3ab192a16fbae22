//! [`Device`]: a port of DPDK's, as long as anything uses it.
//!
//! # What the unsafe code here relies on
//!
//! - The functions of the control path (`rte_eth_dev_*`, `rte_eth_stats_get` and the like) may be called
//!   for a port by one thread at a time, while others send and receive: `control` sees to the first.
//! - A port stays until it is closed, which happens when the [`Device`] is dropped; it is stopped before,
//!   when the [`Running`] is dropped. Queues, flow rules and callbacks hold these.

use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bypass_core::{Error, MacAddr, Result};
use bypass_dpdk_sys as sys;

use super::claim::{claim, release};
use super::{Capabilities, Features, PortOptions, PortStats, Report, RssTypes};
use crate::eal::Eal;
use crate::error::DpdkError;
use crate::mempool::{Mempool, reap};
use crate::missed::Missed;
use crate::queue::FastPath;
use crate::vdev::Plugged;

/// An open port.
#[derive(Debug)]
pub(crate) struct Device {
    id: u16,
    name: String,
    /// One control call at a time.
    control: Mutex<()>,
    /// Where its queues lie.
    pools: Mutex<Vec<Mempool>>,
    /// It did not stop, so that nothing it uses may go.
    stuck: AtomicBool,
    /// It reads packets with the processor.
    pub(crate) is_virtual: bool,
    /// Held as long as the port, when it is one of a device that can be pulled.
    plugged: Option<Arc<Plugged>>,
    /// Bytes in each of the packets that it makes up.
    pub(super) makes: usize,
    /// What is dropped in front of its queues' sockets, where it has some.
    pub(super) missed: Missed,
    eal: Eal,
}

/// A port that is started, until this is dropped.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) device: Arc<Device>,
    pub(crate) report: Report,
    /// Which queues are handed out.
    pub(crate) rx: Vec<AtomicBool>,
    pub(crate) tx: Vec<AtomicBool>,
    pub(crate) pools: Vec<Mempool>,
    /// Counters that the device had before.
    pub(crate) before: PortStats,
    /// For each receiving queue a descriptor that tells of packets, when they were asked for.
    pub(crate) interrupts: Vec<RawFd>,
}

impl Device {
    /// Opens the port of this name.
    pub(super) fn open(eal: &Eal, name: &str) -> Result<Self> {
        let gone = |why: &'static str| Error::config("port", name, why);
        let c_name = CString::new(name).map_err(|_| gone("the name has a zero byte"))?;
        let mut id = 0;
        // No device is pulled meanwhile.
        let devices = eal.devices();
        // SAFETY: a C string, and room for the answer.
        if unsafe { sys::rte_eth_dev_get_port_by_name(c_name.as_ptr(), &raw mut id) } != 0 {
            let why = "there is no port of this name: was the device probed, and is its driver one of \
                       those that DPDK loads? A port that was closed comes back with its device";
            return Err(gone(why));
        }
        let held = crate::vdev::hold(&devices, name)?;
        let is_virtual = claim(eal, id, name, held.is_some())?;
        let (plugged, makes) = held.unwrap_or_default();
        drop(devices);
        Ok(Self {
            id,
            name: name.to_owned(),
            control: Mutex::default(),
            pools: Mutex::default(),
            stuck: AtomicBool::new(false),
            is_virtual,
            plugged,
            makes,
            missed: Missed::default(),
            eal: eal.clone(),
        })
    }

    pub(crate) fn id(&self) -> u16 {
        self.id
    }

    pub(super) fn plugged(&self) -> Option<&Plugged> {
        self.plugged.as_deref()
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// For calls of the control path; two at a time are not allowed.
    pub(crate) fn control(&self) -> MutexGuard<'_, ()> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a call of the control path answered.
    pub(crate) fn answer(&self, what: &str, code: i32) -> Result<()> {
        if code >= 0 {
            return Ok(());
        }
        Err(DpdkError::refused(format!("{what} of port {} ({})", self.id, self.name), code).into())
    }

    /// A call of the control path that takes nothing but the port's number.
    pub(crate) fn call(
        &self,
        what: &str,
        function: unsafe extern "C" fn(u16) -> i32,
    ) -> Result<i32> {
        let _one = self.control();
        // SAFETY: the port is open, and no other control call is under way. Every function that is passed
        // here takes a port and nothing else.
        let code = unsafe { function(self.id) };
        self.answer(what, code).map(|()| code)
    }

    pub(crate) fn info(&self) -> Result<sys::rte_eth_dev_info> {
        let _one = self.control();
        let mut info = MaybeUninit::<sys::rte_eth_dev_info>::zeroed();
        // SAFETY: the port is open; there is room for the answer.
        let code = unsafe { sys::rte_eth_dev_info_get(self.id, info.as_mut_ptr()) };
        self.answer("ask for the abilities", code)?;
        // SAFETY: it was zeroed, and consists of numbers and pointers.
        Ok(unsafe { info.assume_init() })
    }

    pub(super) fn capabilities(&self) -> Result<Capabilities> {
        let info = self.info()?;
        let mut mtu = 0;
        // SAFETY: the port is open; there is room for the answer.
        let code = unsafe { sys::rte_eth_dev_get_mtu(self.id, &raw mut mtu) };
        self.answer("ask for the MTU", code)?;
        let driver = match info.driver_name.is_null() {
            true => String::new(),
            // SAFETY: the name of a driver, which is a constant.
            false => unsafe { CStr::from_ptr(info.driver_name) }.to_string_lossy().into_owned(),
        };
        // SAFETY: the port is open.
        let socket = unsafe { sys::rte_eth_dev_socket_id(self.id) };
        let mut features = Features::of(info.rx_offload_capa, info.tx_offload_capa);
        // It says that it has this, and marks pieces of a chain in its ring without ever taking a mark back
        // (`eth_memif_tx`): packets behind would be joined.
        if cfg!(dpdk_23_03) && driver == "net_memif" {
            features.remove(Features::TX_MULTI_SEGMENT);
        }
        let most_segments = info.tx_desc_lim.nb_mtu_seg_max;
        Ok(Capabilities {
            driver,
            socket: u32::try_from(socket).ok(),
            interface: (info.if_index != 0).then_some(info.if_index),
            rx_queues: info.max_rx_queues,
            tx_queues: info.max_tx_queues,
            min_mtu: info.min_mtu,
            max_mtu: max_mtu(info.max_mtu, info.max_rx_pktlen),
            // Some drivers say 0 until they are configured.
            mtu: if mtu == 0 { 1500 } else { mtu },
            features,
            rss: RssTypes::from_bits_retain(info.flow_type_rss_offloads),
            rss_key_len: info.hash_key_size,
            rss_table_len: info.reta_size,
            max_segments: if most_segments == 0 { u16::MAX } else { most_segments },
        })
    }

    /// Whether the driver tells of its link by itself.
    pub(super) fn tells_of_link(&self) -> Result<bool> {
        let flags = self.info()?.dev_flags;
        // SAFETY: it is null, or points to flags of the driver's that live as long as the port.
        let flags = unsafe { flags.as_ref() };
        Ok(flags.is_some_and(|&flags| u64::from(flags) & sys::RTE_ETH_DEV_INTR_LSC != 0))
    }

    pub(super) fn mac(&self) -> Result<MacAddr> {
        let _one = self.control();
        let mut address = sys::rte_ether_addr { addr_bytes: [0; 6] };
        // SAFETY: the port is open; there is room for the answer.
        let code = unsafe { sys::rte_eth_macaddr_get(self.id, &raw mut address) };
        self.answer("ask for the address", code).map(|()| MacAddr(address.addr_bytes))
    }

    pub(super) fn set_mac(&self, address: MacAddr) -> Result<()> {
        let _one = self.control();
        let mut raw = sys::rte_ether_addr { addr_bytes: address.0 };
        // SAFETY: the port is open; the address is read.
        let code = unsafe { sys::rte_eth_dev_default_mac_addr_set(self.id, &raw mut raw) };
        self.answer("set the address", code)
    }

    /// Keeps these pools as long as the queues that lie in them.
    pub(super) fn keep(&self, pools: Vec<Mempool>) {
        *self.pools.lock().unwrap_or_else(PoisonError::into_inner) = pools;
    }

    /// Keeps these pools too, for queues some of which may come to lie in them.
    pub(super) fn keep_also(&self, pools: &[Mempool]) {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(pools);
    }
}

/// The largest MTU with which frames are not longer than the device takes (`eth_dev_get_overhead_len` in
/// `rte_ethdev.c`): some drivers name a larger one.
fn max_mtu(named: u16, longest_frame: u32) -> u16 {
    /// An Ethernet header and its checksum.
    const OVERHEAD: u32 = 18;
    if named != u16::MAX && longest_frame > u32::from(named) {
        return named;
    }
    let fits = longest_frame.saturating_sub(OVERHEAD);
    u16::try_from(fits).map_or(named, |fits| named.min(fits))
}

impl Running {
    /// Sets a port up and starts it.
    pub(super) fn start(device: &Arc<Device>, options: &PortOptions) -> Result<Self> {
        super::setup::start(device, options)
    }

    pub(crate) fn id(&self) -> u16 {
        self.device.id
    }

    /// Frees the packets in a `net_ring`, which would lose them with its rings.
    fn drain(&self) {
        for queue in 0..self.rx.len() as u16 {
            // SAFETY: the port is started and has the queue.
            let fast = unsafe { FastPath::receiving(self.id(), queue) };
            let mut packets = [std::ptr::null_mut(); 64];
            loop {
                let at = packets.as_mut_ptr();
                // SAFETY: the port is started and has the queue, which nobody uses any more; there is
                // room for 64.
                let n = unsafe { fast.receive(at, 64) };
                if n == 0 {
                    break;
                }
                // SAFETY: these were received just now, and are nobody else's.
                unsafe { sys::rte_pktmbuf_free_bulk(at, u32::from(n)) };
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _one = self.device.control();
        if self.report.driver == "net_ring" {
            self.drain();
        }
        // SAFETY: no queue is in use: each holds this.
        let code = unsafe { sys::rte_eth_dev_stop(self.device.id) };
        if code != 0 {
            self.device.stuck.store(true, Ordering::Relaxed);
        }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let pools = std::mem::take(&mut *self.pools.lock().unwrap_or_else(PoisonError::into_inner));
        self.missed.forget();
        let is_stopped = !self.stuck.load(Ordering::Relaxed);
        // No device comes or goes meanwhile: drivers keep lists of what they have, without locks.
        let devices = self.eal.devices();
        // SAFETY: the port is stopped and nobody uses it: whoever does holds this.
        let close = || is_stopped && unsafe { sys::rte_eth_dev_close(self.id) } == 0;
        let is_closed = release(&self.eal, self.id, close);
        drop(devices);
        if !is_closed {
            // It may go on to use all of this; it stays, and so does the environment.
            std::mem::forget((pools, self.plugged.take(), self.eal.clone()));
            return;
        }
        drop(pools);
        reap();
    }
}
