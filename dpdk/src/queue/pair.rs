//! [`QueuePair`]: DPDK behind [`PacketIo`].

use std::hint::cold_path;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use bypass_core::{
    Burst, Caps, DropCause, Endpoint, Interest, Occupancy, PacketIo, Ready, Result, RxOffloads,
    Stats, TxOffloads,
};

use super::{RxQueue, TxQueue, is_passing};
use crate::mbuf::Mbuf;
use crate::mempool::Mempool;
use crate::open::Part;
use crate::port::{AF_XDP, Features, Report};

/// How often a thread that waits looks before it sleeps.
const LOOKS: u32 = 64;

/// How long a thread that waits sleeps between two looks: a device that is polled wakes nobody.
const NAP: Duration = Duration::from_micros(50);

/// How long a thread sleeps on a descriptor before it looks nevertheless: drivers may miss a packet that
/// came while they were told to watch.
const DOZE: Duration = Duration::from_millis(100);

/// Drivers that copy each packet: between the kernel, a file or another process and an mbuf.
const COPYING: &[&str] = &[
    "net_af_packet",
    "net_af_xdp",
    "net_tap",
    "net_pcap",
    "net_memif",
    "net_vhost",
    "net_virtio_user",
];

/// Drivers that count as errors (`oerrors`) what they refuse, which stays in the burst, and nothing else: what
/// they have taken does not get lost.
const REFUSALS_ARE_ERRORS: &[&str] = &[AF_XDP, "net_tap", "net_tun", "net_vhost"];

/// A receiving and a sending queue, used by one thread at a time: DPDK's
/// [`PacketIo`](bypass_core::PacketIo).
///
/// - Received packets are the mbufs that the driver filled; sending one copies nothing here.
/// - `recv` and `send` call the driver once. There is no doorbell: what `send` took is on its way.
/// - What the driver took counts as sent, since most do not say when it has left.
/// - Bytes are not counted where the driver moves none (`net_ring`, `net_null`): nothing of a packet is
///   read there on its way.
/// - Packets that came without an Ethernet header are dropped, and counted as [`RxError`](DropCause::RxError).
/// - [`DropCause::RxQueueFull`], [`RxNoFrame`](DropCause::RxNoFrame), [`RxError`](DropCause::RxError) and
///   [`TxError`](DropCause::TxError) are the device's counters (`imissed`, `rx_nombuf`, `ierrors`,
///   `oerrors`). It has them for the port as a whole; they are in the statistics of the pair whose
///   receiving queue is number 0, or whose sending queue is. `oerrors` of `net_tap`, `net_vhost` and `net_af_xdp`
///   say how often packets were refused, which are not lost: they are not counted here.
/// - There is no census of frames ([`Stats::frames`]): a pool is shared by ports and threads, and drivers do
///   not say how many mbufs they have posted or are sending. What is certain is told as `pool` by
///   [`visit_rings`](Endpoint::visit_rings): mbufs that are not free, in whosever hands.
/// - [`alloc`](PacketIo::alloc) takes mbufs of the receiving queue's pool, and leaves its
///   [reserve](crate::MempoolOptions::rx_reserve).
/// - [`wait`](Endpoint::wait) sleeps on a descriptor where the port was started with
///   [`rx_interrupts`](crate::PortOptions::rx_interrupts). Elsewhere it looks, and sleeps for 50 µs.
///
/// ```standalone_crate
/// use bypass_core::{Burst, PacketIoExt, Verdict, swap_addresses};
/// use bypass_dpdk::{EalOptions, Mempool, MempoolOptions, Port, PortOptions, Vdev};
///
/// let eal = EalOptions::new().start()?;
/// let pool = Mempool::new(&eal, &MempoolOptions::new(4095))?;
/// let _device = Vdev::plug(&eal, "net_null0", "")?;
/// let port = Port::open(&eal, "net_null0")?.start(&PortOptions::new(&pool))?;
/// let mut queue = port.queue_pair(0)?;
/// let mut burst = Burst::with_capacity(32);
/// let sent = queue.reflect(&mut burst, |packet| {
///     swap_addresses(packet);
///     Verdict::Send
/// })?;
/// assert_eq!(sent, 32);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct QueuePair {
    rx: RxQueue,
    tx: TxQueue,
    pool: Mempool,
    caps: Caps,
    /// Times that a wait slept.
    wakeups: u64,
    /// Dropped last: the port is closed with it, if nobody else shares it any more.
    part: Option<Part>,
}

impl QueuePair {
    /// Joins any two queues, of one port or of two.
    #[must_use]
    pub fn new(rx: RxQueue, tx: TxQueue) -> Self {
        let caps = caps(&rx.running().report, &tx.running().report, &tx);
        Self { pool: rx.pool().clone(), caps, wakeups: 0, rx, tx, part: None }
    }

    /// Keeps its port open for those that share it.
    pub(crate) fn keeping(mut self, part: Part) -> Self {
        self.part = Some(part);
        self
    }

    /// The pool that [`alloc`](PacketIo::alloc) takes from.
    #[must_use]
    pub fn pool(&self) -> &Mempool {
        &self.pool
    }

    /// Has [`alloc`](PacketIo::alloc) take from another pool.
    #[must_use]
    pub fn with_pool(mut self, pool: &Mempool) -> Self {
        self.pool = pool.clone();
        self
    }

    /// The queue that it receives from, for what a pair has no name for. What is received there is in the pair's
    /// statistics, too.
    pub fn rx(&mut self) -> &mut RxQueue {
        &mut self.rx
    }

    /// The queue that it sends to. What is sent there is in the pair's statistics, too.
    pub fn tx(&mut self) -> &mut TxQueue {
        &mut self.tx
    }

    /// Receives once more, if there was word of packets that came just now: an idle queue has nothing to
    /// tell otherwise.
    #[inline(never)]
    fn look_again(&mut self, out: &mut Burst<Mbuf>) -> usize {
        if self.rx.reset() { self.rx.recv(out) } else { 0 }
    }

    fn ready(&mut self, interest: Interest) -> Ready {
        let mut ready = Ready::empty();
        ready.set(Ready::RX, interest.contains(Interest::RX) && self.rx.look());
        if interest.contains(Interest::TX) {
            if !self.pool.has_spare() {
                self.tx.reclaim();
            }
            ready.set(Ready::TX, self.pool.has_spare());
        }
        ready
    }

    /// Sleeps until packets may be there, for `limit` at most.
    fn sleep(&mut self, limit: Duration) -> Result<()> {
        let Some(fd) = self.rx.as_fd() else {
            std::thread::sleep(limit.min(NAP));
            return Ok(());
        };
        bypass_core::sys::wait(fd, Interest::RX, Some(limit.min(DOZE)), "wait for a DPDK queue")?;
        Ok(())
    }
}

fn caps(rx: &Report, tx: &Report, queue: &TxQueue) -> Caps {
    let mut caps = Caps::new(crate::BACKEND, queue.max_len(), usize::from(Mempool::headroom()));
    caps.rx_copies = u8::from(COPYING.contains(&rx.driver.as_str()));
    caps.tx_copies = u8::from(COPYING.contains(&tx.driver.as_str()));
    caps.zero_copy = caps.rx_copies + caps.tx_copies == 0;
    caps.max_segments = tx.max_segments;
    caps.counts_bytes = queue.counts_bytes() && !is_passing(&rx.driver);
    for (feature, offload) in [
        (Features::RX_L4_CHECKSUM, RxOffloads::CHECKSUM),
        (Features::RX_TIMESTAMP, RxOffloads::TIMESTAMP),
        (Features::RX_HASH, RxOffloads::HASH),
        (Features::RX_VLAN_STRIP, RxOffloads::VLAN_STRIP),
        (Features::RX_LRO, RxOffloads::COALESCE),
    ] {
        caps.rx_offloads.set(offload, rx.features.contains(feature));
    }
    caps.tx_offloads.set(TxOffloads::CHECKSUM, tx.features.contains(Features::TX_L4_CHECKSUM));
    let cuts = Features::TX_TCP_SEGMENTATION | Features::TX_UDP_SEGMENTATION;
    caps.tx_offloads.set(TxOffloads::SEGMENTATION, tx.features.intersects(cuts));
    caps.fallbacks.clone_from(&rx.fallbacks);
    let others = tx.fallbacks.iter().filter(|fallback| !rx.fallbacks.contains(fallback));
    caps.fallbacks.extend(others.cloned());
    caps
}

impl PacketIo for QueuePair {
    type Frame = Mbuf;

    #[inline(always)]
    fn recv(&mut self, out: &mut Burst<Mbuf>) -> Result<usize> {
        let received = self.rx.recv(out);
        if received == 0 {
            // There is time for a jump.
            cold_path();
            return Ok(self.look_again(out));
        }
        Ok(received)
    }

    #[inline]
    fn alloc(&mut self, out: &mut Burst<Mbuf>, n: usize) -> usize {
        let wanted = n.min(out.room());
        let got = self.pool.alloc(out, wanted);
        if got < wanted {
            self.tx.reclaim();
            return got + self.pool.alloc(out, wanted - got);
        }
        got
    }

    #[inline(always)]
    fn send(&mut self, frames: &mut Burst<Mbuf>) -> Result<usize> {
        self.tx.send(frames)
    }
}

impl Endpoint for QueuePair {
    #[inline(always)]
    fn flush(&mut self) -> Result<()> {
        self.tx.flush();
        Ok(())
    }

    fn wait(&mut self, interest: Interest, timeout: Option<Duration>) -> Result<Ready> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let left = || deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let mut looks = 0;
        loop {
            let ready = self.ready(interest);
            if !ready.is_empty() || left() == Some(Duration::ZERO) {
                return Ok(ready);
            }
            looks += 1;
            if looks < LOOKS {
                std::hint::spin_loop();
                continue;
            }
            // From here on the driver watches; what came before is not told of.
            let _watched = self.rx.as_fd().is_some();
            let ready = self.ready(interest);
            let outcome = match ready.is_empty() {
                true => {
                    self.wakeups += 1;
                    self.sleep(left().unwrap_or(DOZE))
                }
                false => Ok(()),
            };
            self.rx.disarm();
            outcome?;
            if !ready.is_empty() {
                return Ok(ready);
            }
        }
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.rx.as_fd()
    }

    fn caps(&self) -> &Caps {
        &self.caps
    }

    fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        (stats.rx_packets, stats.rx_bytes) = (self.rx.packets(), self.rx.bytes());
        (stats.tx_packets, stats.tx_bytes) = (self.tx.packets(), self.tx.bytes());
        stats.wakeups = Some(self.wakeups);
        stats.drops[DropCause::RxNoFrame] = self.rx.lost();
        stats.drops[DropCause::RxError] = self.rx.short();
        if self.rx.index() == 0 {
            let device = self.rx.running().counters().unwrap_or_default();
            stats.drops[DropCause::RxQueueFull] = device.rx_missed;
            stats.drops[DropCause::RxNoFrame] += device.rx_no_mbuf;
            stats.drops[DropCause::RxError] += device.rx_errors;
        }
        let driver = self.tx.running().report.driver.as_str();
        if self.tx.index() == 0 && !REFUSALS_ARE_ERRORS.contains(&driver) {
            let device = self.tx.running().counters().unwrap_or_default();
            stats.drops[DropCause::TxError] = device.tx_errors;
            stats.tx_packets = stats.tx_packets.saturating_sub(device.tx_errors);
        }
        stats
    }

    /// The driver's own counters of the whole port, by its names (`rte_eth_xstats_get`), and:
    ///
    /// - `pool_size`, `pool_available`: mbufs in all, and those that are free.
    fn visit_counters(&self, visit: &mut dyn FnMut(&str, u64)) {
        visit("pool_size", u64::from(self.pool.size()));
        visit("pool_available", u64::from(self.pool.available()));
        // A driver that does not tell has none.
        let _none = self.rx.running().visit(visit);
    }

    /// - `pool`: mbufs of the receiving queue's pool that are in use, the device's among them;
    /// - `rx`: the device's ring of received packets, where the driver tells.
    fn visit_rings(&self, visit: &mut dyn FnMut(&str, Occupancy)) {
        let size = self.pool.size();
        let used = size.saturating_sub(self.pool.available());
        visit("pool", Occupancy { used: used.into(), size: size.into() });
        if let Some(used) = self.rx.waiting() {
            let size = self.rx.running().report.rx_descriptors;
            visit("rx", Occupancy { used: used.into(), size: size.into() });
        }
    }
}
