//! [`RxQueue`].

use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, RawFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bypass_core::{Buffer, Burst, Interest, Ready};
use bypass_dpdk_sys as sys;

use super::burst::{FastPath, at_most};
use super::{LOOK, is_passing};
use crate::mbuf::{self, Mbuf, Raw};
use crate::mempool::Mempool;
use crate::port::Running;

/// Packets that are taken at once while somebody [waits](RxQueue::look) for them.
const AHEAD: usize = 32;

/// The end of a port's receiving queue: used by one thread at a time, whichever that is.
///
/// It cannot be copied, nor used through a shared reference:
///
/// ```compile_fail,E0599
/// fn two(queue: bypass_dpdk::RxQueue) -> (bypass_dpdk::RxQueue, bypass_dpdk::RxQueue) {
///     (queue.clone(), queue) // error: no method named `clone`
/// }
/// ```
///
/// ```compile_fail,E0596
/// fn aside(queue: &bypass_dpdk::RxQueue, out: &mut bypass_core::Burst<bypass_dpdk::Mbuf>) {
///     queue.recv(out); // error: cannot borrow as mutable
/// }
/// ```
///
/// ```compile_fail,E0277
/// fn needs_sync<T: Sync>() {}
/// needs_sync::<bypass_dpdk::RxQueue>(); // error: cannot be shared between threads safely
/// ```
pub struct RxQueue {
    fast: FastPath,
    queue: u16,
    pool: Mempool,
    fd: Option<RawFd>,
    /// The descriptor counts what it was told, and is readable until the count is read (eventfd(2)).
    is_counter: bool,
    /// Packets that were handed out.
    packets: u64,
    /// Their bytes, if they are counted.
    bytes: u64,
    /// The driver moves bytes: each packet's length is looked at.
    counts_bytes: bool,
    /// Packets that others could see too, and that there was no mbuf to copy to.
    lost: u64,
    /// Packets without an Ethernet header.
    short: u64,
    /// Received while somebody waited for them, and handed out before any others.
    ahead: VecDeque<Mbuf>,
    /// Not 0 when receiving looks at what came: to count its bytes, or to put it behind what was ahead. Of the
    /// kind of [`LOOK`], so that one test is for both.
    looks: u8,
    running: Arc<Running>,
    not_sync: PhantomData<Cell<()>>,
}

// SAFETY: a queue may be used by any thread, one at a time; the pointer inside is to data that stays.
unsafe impl Send for RxQueue {}

impl RxQueue {
    /// The caller has marked the queue as taken.
    pub(crate) fn new(running: Arc<Running>, queue: u16) -> Self {
        let pool = running.pools[usize::from(queue) % running.pools.len()].clone();
        let fd = running.interrupts.get(usize::from(queue)).copied();
        // SAFETY: the port is started, for as long as `running` is held, and has the queue.
        let fast = unsafe { FastPath::receiving(running.id(), queue) };
        let is_counter = fd.is_some_and(is_eventfd);
        let counts_bytes = !is_passing(&running.report.driver);
        Self {
            fast,
            queue,
            pool,
            fd,
            is_counter,
            packets: 0,
            bytes: 0,
            counts_bytes,
            lost: 0,
            short: 0,
            ahead: VecDeque::new(),
            looks: u8::from(counts_bytes),
            running,
            not_sync: PhantomData,
        }
    }

    /// Appends received packets to `out`, as many as there are and fit, and returns how many.
    ///
    /// Each packet's length is read, to count its bytes: one without an Ethernet header is
    /// [dropped](Self::short). Of `net_ring` and `net_null`, which move no bytes and have no such packets, nothing is
    /// read, but where a packet may be one that somebody else can see too (a clone that came through a `net_ring`,
    /// which is copied), or has to be marked with its queue.
    #[inline(always)]
    pub fn recv(&mut self, out: &mut Burst<Mbuf>) -> usize {
        let fill = |spare: &mut [MaybeUninit<Mbuf>]| {
            let n = at_most(spare.len());
            // SAFETY: there are no fewer.
            let spare = unsafe { spare.get_unchecked_mut(..n) };
            let got = self.take(spare);
            match self.looks | LOOK.load(Ordering::Relaxed) {
                0 => got,
                _ => self.look_at(spare, got),
            }
        };
        // SAFETY: the driver has written so many slots, at most `n`, with packets that are ours now; those
        // that others can see were replaced. Those of a driver that moves bytes were looked at; `net_null` makes
        // packets of 14 bytes at least (`driver`, or whoever answered for it), and from a `net_ring` comes what was
        // sent, which has as many in its first segment (`Limits`).
        let received = unsafe { out.receive(fill) };
        self.packets += received as u64;
        received
    }

    /// Has the driver fill slots, of which there are no more than `u16::MAX`; returns how many, from the first.
    #[inline(always)]
    fn take(&mut self, slots: &mut [MaybeUninit<Mbuf>]) -> usize {
        let n = slots.len() as u16;
        let at = slots.as_mut_ptr().cast::<*mut sys::rte_mbuf>();
        // SAFETY: the port is started and has the queue, which is ours; an `Mbuf` is a transparent
        // pointer, and there is room for `n`.
        let got = usize::from(unsafe { self.fast.receive(at, n) });
        // SAFETY: a driver hands out no more than were asked for (`rte_eth_rx_burst`).
        unsafe { std::hint::assert_unchecked(got <= slots.len()) };
        got
    }

    /// Does with the first `got` slots, which the driver has filled, what is not done to every queue's
    /// packets; returns how many slots have packets then.
    #[inline(never)]
    fn look_at(&mut self, slots: &mut [MaybeUninit<Mbuf>], got: usize) -> usize {
        let mut n = self.admit(&mut slots[..got]);
        if !self.ahead.is_empty() {
            self.ahead.extend(slots[..n].iter().map(|slot| {
                // SAFETY: the slot has a packet, which is not taken from it again.
                unsafe { slot.assume_init_read() }
            }));
            n = self.ahead.len().min(slots.len());
            for (slot, packet) in slots.iter_mut().zip(self.ahead.drain(..n)) {
                slot.write(packet);
            }
            self.looks = u8::from(self.counts_bytes || !self.ahead.is_empty());
        }
        if self.counts_bytes {
            // SAFETY: each of them has a packet, which stays in it.
            let packets = slots[..n].iter().map(|slot| unsafe { slot.assume_init_ref() });
            self.bytes += packets.map(|packet| packet.total_len() as u64).sum::<u64>();
        }
        n
    }

    /// Looks whether packets are there, and takes some; the next [`recv`](Self::recv) hands them out.
    pub(super) fn look(&mut self) -> bool {
        if self.ahead.is_empty() {
            let mut slots = [const { MaybeUninit::uninit() }; AHEAD];
            let got = self.take(&mut slots);
            let n = self.admit(&mut slots[..got]);
            self.ahead.extend(slots[..n].iter().map(|slot| {
                // SAFETY: the slot has a packet, which is not taken from it again.
                unsafe { slot.assume_init_read() }
            }));
            self.looks = u8::from(self.counts_bytes || !self.ahead.is_empty());
        }
        !self.ahead.is_empty()
    }

    /// Leaves out packets without an Ethernet header. Once it is necessary, marks packets with their queue, and
    /// replaces those that others can see. Returns how many there are then. The driver has filled all of the slots.
    fn admit(&mut self, slots: &mut [MaybeUninit<Mbuf>]) -> usize {
        let marks = LOOK.load(Ordering::Relaxed) != 0;
        if !marks && (!self.counts_bytes || have_headers(slots)) {
            return slots.len();
        }
        let mut kept = 0;
        for i in 0..slots.len() {
            let at = slots[i].as_mut_ptr().cast::<*mut sys::rte_mbuf>();
            // SAFETY: the driver has written the slot.
            let packet = unsafe { at.read() };
            // SAFETY: with a packet.
            let packet = unsafe { NonNull::new_unchecked(packet) };
            // SAFETY: the packet is ours; what others can see of it is not written.
            let raw = unsafe { Raw::new(packet) };
            let is_short = usize::from(raw.data_len()) < Mbuf::SHORTEST_RECEIVED;
            let packet = if !is_short && (!marks || raw.chain().all(Raw::is_exclusive)) {
                // SAFETY: nobody else can see any of it: nothing was sent that others hold, or it was looked at.
                Some(unsafe { Mbuf::from_raw(packet) })
            } else {
                let copy = if is_short { None } else { mbuf::copy(raw, &self.pool) };
                // SAFETY: this holder of the packet is ours, and ends here.
                unsafe { sys::rte_pktmbuf_free_bulk(at, 1) };
                copy
            };
            let Some(packet) = packet else {
                self.short += u64::from(is_short);
                self.lost += u64::from(!is_short);
                continue;
            };
            if marks {
                mbuf::mark_queue(packet.raw(), self.queue);
            }
            slots[kept].write(packet);
            kept += 1;
        }
        kept
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

    /// The pool that its packets lie in.
    #[must_use]
    pub fn pool(&self) -> &Mempool {
        &self.pool
    }

    /// A descriptor that becomes readable when packets arrive, where the port was started with
    /// [`rx_interrupts`](crate::PortOptions::rx_interrupts). From this call on the driver tells of them,
    /// until [`disarm`](Self::disarm). Receive once more before sleeping: a packet may have come before.
    #[must_use]
    pub fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        let fd = self.fd?;
        // SAFETY: the port is started and has the queue, which is ours, and this thread's: the type is
        // not `Sync`.
        let _always_on = unsafe { sys::rte_eth_dev_rx_intr_enable(self.port(), self.queue) };
        // SAFETY: the driver closes it when the port is stopped, which this queue prevents.
        Some(unsafe { BorrowedFd::borrow_raw(fd) })
    }

    /// Has the driver tell of packets no longer, and takes back what it has told.
    pub fn disarm(&mut self) {
        if self.fd.is_some() {
            // SAFETY: the port is started and has the queue, which is ours.
            let _always_on = unsafe { sys::rte_eth_dev_rx_intr_disable(self.port(), self.queue) };
        }
        self.reset();
    }

    /// Takes back what the descriptor has told, where it counts that; answers whether it was something.
    pub(super) fn reset(&self) -> bool {
        let Some(fd) = self.fd.filter(|_| self.is_counter) else { return false };
        // SAFETY: the driver closes it when the port is stopped, which this queue prevents.
        let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
        let told = bypass_core::sys::wait(borrowed, Interest::RX, Some(Duration::ZERO), "look");
        if !told.is_ok_and(|told| told.contains(Ready::RX)) {
            return false;
        }
        let mut count = 0u64;
        // SAFETY: the descriptor is open, and there is room for what is read. It does not wait: something
        // was told, and only this queue takes it back.
        unsafe { libc::read(fd, (&raw mut count).cast(), size_of::<u64>()) > 0 }
    }

    /// Packets that it has handed out.
    #[must_use]
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// Their bytes; 0 for `net_ring` and `net_null`, which move none.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Packets that had less than an Ethernet header in their first segment, and were dropped here.
    #[must_use]
    pub fn short(&self) -> u64 {
        self.short
    }

    /// Packets lost here: others could see them too, and there was no mbuf to copy them to.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Packets that wait in the device's ring; `None` where the driver does not tell
    /// (`rte_eth_rx_queue_count`).
    #[must_use]
    pub fn waiting(&self) -> Option<u32> {
        // SAFETY: the port is started and has the queue, which is ours: nobody receives meanwhile.
        let told = unsafe { sys::bypass_eth_rx_queue_count(self.port(), self.queue) };
        u32::try_from(told).ok()
    }

    pub(super) fn running(&self) -> &Arc<Running> {
        &self.running
    }
}

/// Whether each packet has an Ethernet header in its first segment, as nearly all have. The driver has filled all of
/// the slots.
fn have_headers(slots: &[MaybeUninit<Mbuf>]) -> bool {
    // SAFETY: the driver has written the slot, with a packet.
    let lengths = slots.iter().map(|slot| unsafe { slot.assume_init_ref() }.raw().data_len());
    lengths.min().is_none_or(|shortest| usize::from(shortest) >= Mbuf::SHORTEST_RECEIVED)
}

/// What the kernel says a descriptor is: reading from a tap's would take a packet.
fn is_eventfd(fd: RawFd) -> bool {
    std::fs::read_link(format!("/proc/self/fd/{fd}"))
        .is_ok_and(|kind| kind.as_os_str() == "anon_inode:[eventfd]")
}

impl Drop for RxQueue {
    fn drop(&mut self) {
        if let Some(taken) = self.running.rx.get(usize::from(self.queue)) {
            taken.store(false, Ordering::Release);
        }
    }
}

impl fmt::Debug for RxQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RxQueue")
            .field("port", &self.port())
            .field("queue", &self.queue)
            .finish_non_exhaustive()
    }
}
