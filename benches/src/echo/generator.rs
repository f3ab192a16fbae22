//! What makes the traffic, the same for all servers of a scenario.

use std::time::Duration;

use anyhow::Result;

use crate::open_loop::Source;

/// A client of an echo server, connected. As a source each of its messages carries the time at which it was
/// due, so that a stall counts for all that it delayed.
pub(crate) trait Generator: Source {
    /// Proves that the server sends back what it gets.
    fn verify(&mut self) -> Result<()>;

    /// Keeps a window of messages under way for `duration`, then lets it run empty; returns the
    /// round trips.
    fn closed_loop(&mut self, duration: Duration) -> Result<u64>;
}
