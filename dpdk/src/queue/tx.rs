//! [`TxQueue`].

use std::cell::Cell;
use std::fmt;
use std::hint::{assert_unchecked, cold_path};
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bypass_core::{Buffer as _, Burst, Error, FrameError, Result, Unsupported};
use bypass_dpdk_sys as sys;

use super::burst::{FastPath, at_most};
use super::limits::{Limits, lacking};
use super::look_at_what_comes;
use crate::mbuf::{Mbuf, SharedMbuf};
use crate::port::Running;

/// The end of a port's sending queue: used by one thread at a time, whichever that is.
///
/// It cannot be copied, nor used through a shared reference:
///
/// ```compile_fail,E0599
/// fn two(queue: bypass_dpdk::TxQueue) -> (bypass_dpdk::TxQueue, bypass_dpdk::TxQueue) {
///     (queue.clone(), queue) // error: no method named `clone`
/// }
/// ```
///
/// ```compile_fail,E0596
/// fn aside(queue: &bypass_dpdk::TxQueue, packets: &mut bypass_core::Burst<bypass_dpdk::Mbuf>) {
///     let _ = queue.send(packets); // error: cannot borrow as mutable
/// }
/// ```
///
/// ```compile_fail,E0277
/// fn needs_sync<T: Sync>() {}
/// needs_sync::<bypass_dpdk::TxQueue>(); // error: cannot be shared between threads safely
/// ```
pub struct TxQueue {
    fast: FastPath,
    queue: u16,
    limits: Limits,
    packets: u64,
    bytes: u64,
    running: Arc<Running>,
    not_sync: PhantomData<Cell<()>>,
}

// SAFETY: a queue may be used by any thread, one at a time; the pointer inside is to data that stays.
unsafe impl Send for TxQueue {}

impl TxQueue {
    /// The caller has marked the queue as taken.
    pub(crate) fn new(running: Arc<Running>, queue: u16) -> Self {
        let limits = Limits::of(&running);
        // SAFETY: the port is started, for as long as `running` is held, and has the queue.
        let fast = unsafe { FastPath::sending(running.id(), queue) };
        Self { fast, queue, limits, packets: 0, bytes: 0, running, not_sync: PhantomData }
    }

    /// Hands packets to the driver, from the front of `packets`, as many as it takes, and returns how
    /// many. The rest stays where it is, in order.
    ///
    /// Packets that ask for [offloads](crate::TxOffload) are made ready by the driver first
    /// (`rte_eth_tx_prepare`), which may write the sums of pseudo headers.
    ///
    /// Each packet's first cache line is read, which every driver of a device does too. `net_ring` and
    /// `net_null` do not: they take a burst that is [as it was received](Burst::is_as_received), whatever is
    /// in it.
    ///
    /// # Errors
    ///
    /// [`Error::Frame`] when the first packet can never be sent: too short or too long, of too many
    /// segments, or it asks for an offload that the port was not started with. It is still the first.
    #[inline(always)]
    pub fn send(&mut self, packets: &mut Burst<Mbuf>) -> Result<usize> {
        if self.limits.takes_any & packets.is_as_received() {
            let taken = self.hand_over(packets, at_most(packets.len()) as u16);
            // SAFETY: a driver that takes any packet is `net_ring` or `net_null`, and no lazy one
            // (`Limits::of`). So the compiler leaves a flush behind this out.
            unsafe { assert_unchecked(!self.limits.is_lazy) };
            return Ok(taken);
        }
        // Not rare, but it can bear a jump.
        cold_path();
        self.send_looked(packets)
    }

    /// Sends packets that have to be looked at.
    #[inline(never)]
    fn send_looked(&mut self, packets: &mut Burst<Mbuf>) -> Result<usize> {
        // That of `net_memif` would look at the first all the same (`eth_memif_tx`, since DPDK 23.03).
        if packets.is_empty() {
            return Ok(0);
        }
        let Some(bytes) = self.limits.plain(packets) else { return self.send_special(packets) };
        let taken = self.hand_over(packets, at_most(packets.len()) as u16);
        self.count(bytes, packets);
        Ok(taken)
    }

    /// Sends packets some of which ask for something, or cannot be sent.
    #[inline(never)]
    fn send_special(&mut self, packets: &mut Burst<Mbuf>) -> Result<usize> {
        let looked = self.limits.look_at(packets);
        let mut n = at_most(looked.good) as u16;
        if n == 0 {
            return looked.cause.map_or(Ok(0), |cause| Err(refused(cause)));
        }
        if looked.prepare {
            n = self.prepare(packets.as_raw().cast(), n)?;
        }
        let taken = self.hand_over(packets, n);
        self.count(looked.bytes, &packets[..looked.good - taken]);
        Ok(taken)
    }

    /// Counts the bytes of packets that were to be sent, without those that are left.
    #[inline]
    fn count(&mut self, bytes: u64, left: &[Mbuf]) {
        if bytes > 0 {
            self.bytes += bytes - left.iter().map(|packet| packet.total_len() as u64).sum::<u64>();
        }
    }

    /// Gives the first `n` packets, which can be sent, to the driver, and returns how many it took.
    #[inline(always)]
    fn hand_over(&mut self, packets: &mut Burst<Mbuf>, n: u16) -> usize {
        debug_assert!(usize::from(n) <= packets.len(), "more than there are");
        // An `Mbuf` is a transparent pointer.
        let at = packets.as_raw().cast::<*mut sys::rte_mbuf>();
        // SAFETY: the port is started and has the queue, which is ours; the first `n` packets of the
        // burst are ours and can be sent.
        let taken = usize::from(unsafe { self.fast.send(at, n) });
        // SAFETY: a driver takes no more than it is given (`rte_eth_tx_burst`), which are as many as there
        // are at most.
        unsafe { assert_unchecked(taken <= packets.len()) };
        self.packets += taken as u64;
        packets.forget(taken)
    }

    /// Has the driver make packets ready; how many are.
    #[cold]
    fn prepare(&mut self, at: *mut *mut sys::rte_mbuf, n: u16) -> Result<u16> {
        // SAFETY: the port is started and has the queue, which is ours; so are the packets.
        let ready = unsafe { self.fast.prepare(at, n) }.min(n);
        if ready > 0 {
            return Ok(ready);
        }
        Err(refused(FrameError::Unsupported(Unsupported {
            what: "these offloads for this packet".into(),
            backend: crate::BACKEND,
            why: format!("the driver {} refuses it", self.running.report.driver).into(),
        })))
    }

    /// Hands packets to the driver that others may hold too, from the front of `packets`, and returns
    /// how many it took; those are gone from `packets`. The others' view of the data stays.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send), and when the first packet lies in [memory of the
    /// application's](SharedMbuf::external) and the port is a real device's or a `net_virtio_user`, which could not read it.
    pub fn send_shared(&mut self, packets: &mut Vec<SharedMbuf>) -> Result<usize> {
        let (mut good, mut total, mut cause) = (0, 0, None);
        for packet in &*packets {
            if let Err(wrong) = self.limits.check(packet.raw()) {
                cause = Some(wrong);
                break;
            }
            if let Some(what) = self.limits.unreadable(packet) {
                cause = Some(lacking(what, "copy the packet into a pool's mbuf"));
                break;
            }
            good += 1;
            total += packet.total_len() as u64;
        }
        let n = at_most(good) as u16;
        if n == 0 {
            return cause.map_or(Ok(0), |cause| Err(refused(cause)));
        }
        look_at_what_comes();
        let at = packets.as_mut_ptr().cast::<*mut sys::rte_mbuf>();
        // SAFETY: the port is started and has the queue, which is ours; the first `n` packets are ours,
        // and drivers do not write to what others hold too. A `SharedMbuf` is a transparent pointer.
        let taken = usize::from(unsafe { self.fast.send(at, n) }.min(n));
        let left: usize =
            packets.get(taken..good).into_iter().flatten().map(SharedMbuf::total_len).sum();
        packets.drain(..taken).for_each(|packet| {
            let _the_drivers = packet.into_raw();
        });
        self.packets += taken as u64;
        self.bytes += total - left as u64;
        Ok(taken)
    }

    /// Has the driver free what it has sent, without waiting for the next packets. Some drivers cannot,
    /// and some have nothing to free.
    pub fn reclaim(&mut self) {
        // It has no function for that, and takes back what the kernel has sent whenever it is called.
        if self.limits.is_lazy {
            return self.call_again();
        }
        // SAFETY: the port is started and has the queue, which is ours.
        let _unsupported = unsafe { sys::rte_eth_tx_done_cleanup(self.port(), self.queue, 0) };
    }

    /// Has the driver go on with what it has taken. Only `net_af_xdp` has to be called for that, without packets; not
    /// every driver bears such a call.
    #[inline(always)]
    pub fn flush(&mut self) {
        if self.limits.is_lazy {
            cold_path();
            self.call_again();
        }
    }

    #[inline(never)]
    fn call_again(&mut self) {
        let mut none = [std::ptr::null_mut(); 1];
        // SAFETY: the port is started and has the queue, which is ours; there are no packets.
        unsafe { self.fast.send(none.as_mut_ptr(), 0) };
    }

    /// Its number.
    #[must_use]
    pub fn index(&self) -> u16 {
        self.queue
    }

    /// The number of its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.running.id()
    }

    /// Packets that the driver has taken.
    #[must_use]
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// Bytes of the packets that the driver has taken; 0 where it [moves none](Self::counts_bytes).
    #[must_use]
    pub fn bytes(&self) -> u64 {
        if self.counts_bytes() { self.bytes } else { 0 }
    }

    /// Whether bytes are counted: not for `net_ring` and `net_null`, which move none.
    #[must_use]
    pub fn counts_bytes(&self) -> bool {
        !self.limits.takes_any
    }

    /// The longest packet that can be sent, in bytes, without a VLAN tag.
    #[must_use]
    pub fn max_len(&self) -> usize {
        self.limits.max_len as usize
    }

    pub(super) fn running(&self) -> &Arc<Running> {
        &self.running
    }
}

fn refused(cause: FrameError) -> Error {
    Error::frame("send a packet", crate::BACKEND, cause)
}

impl Drop for TxQueue {
    fn drop(&mut self) {
        if let Some(taken) = self.running.tx.get(usize::from(self.queue)) {
            taken.store(false, Ordering::Release);
        }
    }
}

impl fmt::Debug for TxQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TxQueue")
            .field("port", &self.port())
            .field("queue", &self.queue)
            .finish_non_exhaustive()
    }
}
