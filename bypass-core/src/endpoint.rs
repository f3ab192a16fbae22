//! [`Endpoint`]: what packet queues and datagram sockets have in common beside moving packets.

use std::ops::AddAssign;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use bitflags::bitflags;
use serde::Serialize;

use crate::{Caps, Result, Stats};

/// One RX/TX pair driven by one thread: its doorbell, its waiting, its abilities and its counters.
///
/// [`PacketIo`](crate::PacketIo) and [`DatagramIo`](crate::DatagramIo) add the packets. Waiting
/// strategies, workers and telemetry need no more than this.
pub trait Endpoint {
    /// Rings the doorbell where packets wait for it, and takes back what has been sent.
    ///
    /// `recv` and `send` take completions back too, so an endpoint that only receives, or only
    /// sends, never starves; `flush` is for the end of a burst of sends.
    ///
    /// # Errors
    ///
    /// When the device is gone or the kernel refuses; packets queued so far stay queued and counted.
    fn flush(&mut self) -> Result<()>;

    /// Sleeps until one of `interest` can be served, or `timeout` has passed (`None`: no limit).
    ///
    /// An empty answer means that the time is over or that a signal came; an answer may also be
    /// wrong in the optimistic direction, as with `poll(2)`. [`Interest::RX`] holds when
    /// `recv` would return packets; [`Interest::TX`] when `alloc` and `send` would make progress.
    ///
    /// # Errors
    ///
    /// When the device is gone.
    fn wait(&mut self, interest: Interest, timeout: Option<Duration>) -> Result<Ready>;

    /// A descriptor that becomes readable when packets arrive, for `epoll` and async runtimes;
    /// `None` where there is none (a polled device).
    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// What was obtained when the endpoint was opened.
    fn caps(&self) -> &Caps;

    /// The counters so far. They add up: see [`Stats`].
    fn stats(&self) -> Stats;

    /// Shows every counter that the backend has beyond [`Stats`], by name.
    fn visit_counters(&self, visit: &mut dyn FnMut(&str, u64)) {
        let _ = visit;
    }

    /// Shows how full each of the endpoint's rings and queues is now, by name. One that fills up is
    /// where packets are about to be dropped.
    fn visit_rings(&self, visit: &mut dyn FnMut(&str, Occupancy)) {
        let _ = visit;
    }
}

/// How full a ring or queue is, in its own units: entries, where its name does not say `bytes`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Occupancy {
    /// What is in it.
    pub used: u64,
    /// What there is room for.
    pub size: u64,
}

impl AddAssign for Occupancy {
    fn add_assign(&mut self, other: Self) {
        self.used += other.used;
        self.size += other.size;
    }
}

bitflags! {
    /// What to wait for.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct Interest: u8 {
        /// Packets to receive.
        const RX = 1 << 0;
        /// Room to send.
        const TX = 1 << 1;
    }
}

bitflags! {
    /// What [`Endpoint::wait`] found.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct Ready: u8 {
        /// There are packets to receive.
        const RX = 1 << 0;
        /// There is room to send.
        const TX = 1 << 1;
    }
}
