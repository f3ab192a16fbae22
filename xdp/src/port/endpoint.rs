//! Sleeping until something can be done, and what is told of a port: [`Endpoint`].

use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::{Duration, Instant};

use bypass_core::{Caps, DropCause, Endpoint, Interest, Occupancy, Ready, Result, Stats};

use super::XdpPort;

/// How long to sleep before one asks whether the link is still there: the kernel wakes nobody when it
/// has gone.
pub(super) const LINK_CHECK: Duration = Duration::from_millis(100);

/// How long to sleep before what was sent is looked after, while something is to be sent: a device that
/// had no room, and one that goes without copies, wakes nobody when it is done.
const TX_CHECK: Duration = Duration::from_millis(1);

impl XdpPort {
    /// What is to be done before sleeping: what was sent goes out, and memory is there to receive into.
    pub(super) fn advance(&mut self) -> Result<()> {
        self.kernel.still_there()?;
        self.tx.reclaim();
        self.refill()?;
        self.transmit_unless_down()
    }

    /// What can be done now, exactly.
    pub(super) fn ready(&self, interest: Interest) -> Ready {
        let mut ready = Ready::empty();
        ready.set(Ready::RX, interest.contains(Interest::RX) && !self.rx.is_empty());
        let can_send =
            interest.contains(Interest::TX) && self.tx.has_room() && self.umem.spare() > 0;
        ready.set(Ready::TX, can_send);
        ready
    }

    /// How long to sleep at most before looking again at what wakes nobody: chunks that come back, to be
    /// sent or received with, and room for what the kernel left in the TX ring.
    pub(super) fn nap(&self, interest: Interest) -> Duration {
        let is_needed =
            interest.contains(Interest::TX) || self.rx.is_starved() || self.tx.is_stalled();
        let is_awaited = is_needed && self.tx.is_sending() && !self.kernel.is_down();
        if is_awaited { TX_CHECK } else { LINK_CHECK }
    }
}

impl Endpoint for XdpPort {
    fn flush(&mut self) -> Result<()> {
        self.kernel.still_there()?;
        self.tx.reclaim();
        self.transmit()?;
        self.refill()
    }

    fn wait(&mut self, interest: Interest, timeout: Option<Duration>) -> Result<Ready> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            self.advance()?;
            let ready = self.ready(interest);
            if !ready.is_empty() {
                return Ok(ready);
            }
            let (begin, nap) = (Instant::now(), self.nap(interest));
            let left = deadline.map(|deadline| deadline.saturating_duration_since(begin));
            let slice = left.map_or(nap, |left| left.min(nap));
            self.kernel.syscalls += 1;
            self.kernel.wakeups += 1;
            let attempt = "wait for an AF_XDP socket";
            let ready =
                bypass_core::sys::wait(self.socket.as_fd(), interest, Some(slice), attempt)?;
            let end = Instant::now();
            if ready.is_empty() && end.duration_since(self.checked) >= LINK_CHECK {
                self.checked = end;
                self.check_link()?;
            }
            let is_over = left.is_some_and(|left| left <= nap);
            // An answer before its time is a signal's.
            if !ready.is_empty() || is_over || end.duration_since(begin) < slice {
                return Ok(ready);
            }
        }
    }

    /// Of use as long as the interface is there: when it is removed, the kernel wakes nobody (`xsk_poll`
    /// tells no error). [`wait`](Self::wait) and [`recv`](bypass_core::PacketIo::recv) find out.
    ///
    /// [`flush`](Self::flush) before it is polled: in copy mode `poll(2)` sends what is in the TX ring and does
    /// not say whether the driver dropped it, so that such a frame counts as sent.
    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket.as_fd())
    }

    fn caps(&self) -> &Caps {
        &self.caps
    }

    fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        self.rx.count(&mut stats);
        self.tx.count(&mut stats);
        let kernel = self.kernel.statistics(self.socket.as_fd());
        stats.drops[DropCause::RxQueueFull] = kernel.rx_ring_full.unwrap_or(0);
        // In copy mode the kernel counts a frame without a buffer in both. One of several segments only
        // as dropped; but then nothing is too long.
        let no_frame = if self.multi_buffer {
            kernel.rx_dropped
        } else {
            kernel.rx_fill_ring_empty_descs.unwrap_or(0).min(kernel.rx_dropped)
        };
        stats.drops[DropCause::RxNoFrame] = no_frame;
        stats.drops[DropCause::RxTruncated] = kernel.rx_dropped - no_frame;
        stats.frames = Some(self.umem.census());
        stats.syscalls = Some(self.kernel.syscalls);
        stats.wakeups = Some(self.kernel.wakeups);
        stats
    }

    /// The kernel's own counters (`XDP_STATISTICS`), and:
    ///
    /// - `rx_strays`, `tx_strays`: addresses that the kernel returned without having them;
    /// - `rx_dry`: how often there was no free chunk to post;
    /// - `rx_posted`: chunks that are posted now.
    fn visit_counters(&self, visit: &mut dyn FnMut(&str, u64)) {
        self.rx.visit(visit);
        self.tx.visit(visit);
        let kernel = self.kernel.statistics(self.socket.as_fd());
        for (name, value) in [
            ("kernel_rx_dropped", Some(kernel.rx_dropped)),
            ("kernel_rx_invalid_descs", Some(kernel.rx_invalid_descs)),
            ("kernel_tx_invalid_descs", Some(kernel.tx_invalid_descs)),
            ("kernel_rx_ring_full", kernel.rx_ring_full),
            ("kernel_rx_fill_ring_empty_descs", kernel.rx_fill_ring_empty_descs),
            ("kernel_tx_ring_empty_descs", kernel.tx_ring_empty_descs),
        ] {
            if let Some(value) = value {
                visit(name, value);
            }
        }
    }

    /// The four rings that are shared with the kernel: `rx` and `completion` fill when the application
    /// is slow, `tx` when the kernel is; `fill` runs empty when the application holds the chunks.
    fn visit_rings(&self, visit: &mut dyn FnMut(&str, Occupancy)) {
        self.rx.visit_rings(visit);
        self.tx.visit_rings(visit);
    }
}
