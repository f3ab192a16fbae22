//! [`FastPath`]: `rte_eth_rx_burst` and `rte_eth_tx_burst`, which are inline functions in C.

use std::sync::atomic::{AtomicPtr, Ordering};

use bypass_dpdk_sys as sys;
use libc::c_void;

/// Where the functions and the data of a port's receiving or sending queue are.
///
/// The function is read anew for each call: drivers replace it while they recover from an error. The
/// places of the queue's data and of its callbacks stay while the port is started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FastPath {
    ops: *const sys::rte_eth_fp_ops,
    data: *const *mut c_void,
    callbacks: *mut *mut c_void,
    port: u16,
    queue: u16,
}

/// As many as one call of a driver can move: no more than `u16::MAX`.
#[inline(always)]
pub(super) fn at_most(n: usize) -> usize {
    if n > usize::from(u16::MAX) { most() } else { n }
}

/// Apart, so that the usual number is taken as it is.
#[cold]
#[inline(never)]
fn most() -> usize {
    usize::from(u16::MAX)
}

impl FastPath {
    /// Of a receiving queue.
    ///
    /// # Safety
    ///
    /// The port is started and has the queue.
    pub(crate) unsafe fn receiving(port: u16, queue: u16) -> Self {
        let ops = ops(port);
        // SAFETY: the entry is there, and its places do not change while the port is started (contract).
        let ops_now = unsafe { &*ops };
        Self::new(ops, ops_now.rxq, port, queue)
    }

    /// Of a sending queue.
    ///
    /// # Safety
    ///
    /// The port is started and has the queue.
    pub(crate) unsafe fn sending(port: u16, queue: u16) -> Self {
        let ops = ops(port);
        // SAFETY: the entry is there, and its places do not change while the port is started (contract).
        let ops_now = unsafe { &*ops };
        Self::new(ops, ops_now.txq, port, queue)
    }

    fn new(
        ops: *const sys::rte_eth_fp_ops,
        queues: sys::rte_ethdev_qdata,
        port: u16,
        queue: u16,
    ) -> Self {
        let at = usize::from(queue);
        let (data, callbacks) = (queues.data.wrapping_add(at), queues.clbk.wrapping_add(at));
        Self { ops, data, callbacks, port, queue }
    }

    /// Receives up to `n` packets to `at`, and returns how many.
    ///
    /// # Safety
    ///
    /// The port is started and has the receiving queue, which nobody else uses during the call; there is
    /// room for `n` pointers.
    #[inline(always)]
    pub(crate) unsafe fn receive(&self, at: *mut *mut sys::rte_mbuf, n: u16) -> u16 {
        // SAFETY: the entry is there, and does not change while the port is started.
        let ops = unsafe { &*self.ops };
        // SAFETY: every port has the function, a started one that of its driver (`rte_eth_dev_start`).
        let receive = unsafe { ops.rx_pkt_burst.unwrap_unchecked() };
        // SAFETY: the port has the queue (contract).
        let data = unsafe { self.data.read() };
        // SAFETY: as the driver wants it: its own data, and room for `n` pointers (contract).
        let got = unsafe { receive(data, at, n) };
        // SAFETY: the port has the queue (contract).
        let callbacks = unsafe { self.callbacks() };
        if callbacks.is_null() {
            return got;
        }
        // SAFETY: the arguments are those of the call above.
        unsafe { self.show_received(at, got, n, callbacks) }
    }

    /// # Safety
    ///
    /// As for `rte_eth_call_rx_callbacks`.
    #[cold]
    unsafe fn show_received(
        &self,
        at: *mut *mut sys::rte_mbuf,
        got: u16,
        n: u16,
        callbacks: *mut c_void,
    ) -> u16 {
        // SAFETY: as the caller says.
        unsafe { sys::rte_eth_call_rx_callbacks(self.port, self.queue, at, got, n, callbacks) }
    }

    /// # Safety
    ///
    /// As for `rte_eth_call_tx_callbacks`.
    #[cold]
    unsafe fn show_sent(&self, at: *mut *mut sys::rte_mbuf, n: u16, callbacks: *mut c_void) -> u16 {
        // SAFETY: as the caller says.
        unsafe { sys::rte_eth_call_tx_callbacks(self.port, self.queue, at, n, callbacks) }
    }

    /// Sends up to `n` packets, and returns how many the driver took, from the first.
    ///
    /// # Safety
    ///
    /// The port is started and has the sending queue, which nobody else uses during the call; `at` has
    /// `n` packets, which are the caller's, and as many of them as are taken are the driver's then.
    #[inline(always)]
    pub(crate) unsafe fn send(&self, at: *mut *mut sys::rte_mbuf, mut n: u16) -> u16 {
        // SAFETY: the entry is there, and does not change while the port is started.
        let ops = unsafe { &*self.ops };
        // SAFETY: every port has the function, a started one that of its driver (`rte_eth_dev_start`).
        let send = unsafe { ops.tx_pkt_burst.unwrap_unchecked() };
        // SAFETY: the port has the queue (contract).
        let data = unsafe { self.data.read() };
        // SAFETY: the port has the queue (contract).
        let callbacks = unsafe { self.callbacks() };
        if !callbacks.is_null() {
            // SAFETY: the packets are the caller's (contract).
            n = unsafe { self.show_sent(at, n, callbacks) };
            // Not every driver bears a call without packets.
            if n == 0 {
                return 0;
            }
        }
        // SAFETY: as the driver wants it: its own data, and packets that it may take (contract).
        unsafe { send(data, at, n) }
    }

    /// Has the driver make packets ready whose offloads are asked for; returns how many are, from the
    /// first. The one behind them is one that it cannot send.
    ///
    /// # Safety
    ///
    /// As for [`send`](Self::send), but for what becomes of the packets: they stay the caller's.
    pub(crate) unsafe fn prepare(&self, at: *mut *mut sys::rte_mbuf, n: u16) -> u16 {
        // SAFETY: the entry is there, and does not change while the port is started.
        let ops = unsafe { &*self.ops };
        let Some(prepare) = ops.tx_pkt_prepare else { return n };
        // SAFETY: the port has the queue (contract).
        let data = unsafe { self.data.read() };
        // SAFETY: as the driver wants it.
        unsafe { prepare(data, at, n) }
    }

    /// The first of the functions that want to see the queue's packets (packet capture, for example).
    ///
    /// # Safety
    ///
    /// The port is started and has the queue.
    #[inline(always)]
    unsafe fn callbacks(&self) -> *mut c_void {
        // SAFETY: it is aligned, there (contract), and changed by atomic operations.
        let first = unsafe { AtomicPtr::from_ptr(self.callbacks) };
        // As in C: what it points to was written before, and is reached through it.
        first.load(Ordering::Relaxed)
    }
}

/// A port's entry.
fn ops(port: u16) -> *const sys::rte_eth_fp_ops {
    let all = (&raw const sys::rte_eth_fp_ops).cast::<sys::rte_eth_fp_ops>();
    // An open port's number is below `RTE_MAX_ETHPORTS`, for which there are entries.
    all.wrapping_add(usize::from(port))
}
