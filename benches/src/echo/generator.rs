//! What makes the traffic, the same for all servers of a scenario.

use std::time::Duration;

use anyhow::Result;
use hdrhistogram::Histogram;

/// A client of an echo server, connected.
pub(crate) trait Generator {
    /// Proves that the server sends back what it gets.
    fn verify(&mut self) -> Result<()>;

    /// Keeps a window of messages under way for `duration`, then lets it run empty; returns the
    /// round trips.
    fn closed_loop(&mut self, duration: Duration) -> Result<u64>;

    /// Sends `rate` messages per second on a fixed schedule, however the server fares. Each carries
    /// the time at which it was due, so that a stall counts for all that it delayed.
    fn open_loop(&mut self, rate: u32, duration: Duration) -> Result<OpenLoop>;
}

/// What an open loop saw.
pub(crate) struct OpenLoop {
    /// From the intended time of sending to the answer, in nanoseconds.
    pub(crate) latency: Histogram<u64>,
    pub(crate) sent: u64,
    pub(crate) received: u64,
}

impl OpenLoop {
    pub(super) fn new() -> Result<Self> {
        // 100 ns to 10 s with three digits.
        let latency = Histogram::new_with_bounds(100, 10_000_000_000, 3)?;
        Ok(Self { latency, sent: 0, received: 0 })
    }

    /// Books an answer that came so many nanoseconds after its question was due.
    pub(super) fn record(&mut self, nanoseconds: u64) {
        self.latency.saturating_record(nanoseconds);
        self.received += 1;
    }
}
