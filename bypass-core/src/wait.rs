//! What to do when there is nothing to do: spin, sleep, or spin and then sleep.

use std::time::Duration;

use crate::{Endpoint, Interest, Result};

/// How long [`Block`] and [`Adaptive`] sleep at the most, so that a loop sees its stop signal.
const LIMIT: Duration = Duration::from_millis(100);

/// How a loop passes the time between bursts.
///
/// ```
/// use bypass_core::{Adaptive, Burst, Interest, PacketIo, Result, WaitStrategy};
///
/// fn run<P: PacketIo>(port: &mut P, mut wait: impl WaitStrategy) -> Result<()> {
///     let mut burst = Burst::with_capacity(32);
///     loop {
///         let n = port.recv(&mut burst)?;
///         # if n == 0 { return Ok(()) }
///         // ... work on the burst ...
///         burst.clear();
///         wait.after(n, port, Interest::RX)?;
///     }
/// }
/// ```
pub trait WaitStrategy {
    /// Called after each turn of the loop with the number of packets that it moved; returns when
    /// it is time for the next turn.
    ///
    /// # Errors
    ///
    /// As [`Endpoint::wait`].
    fn after(
        &mut self,
        packets: usize,
        endpoint: &mut dyn Endpoint,
        interest: Interest,
    ) -> Result<()>;
}

/// Never sleeps: the lowest latency, for a whole core of CPU time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BusyPoll;

impl WaitStrategy for BusyPoll {
    fn after(&mut self, packets: usize, _: &mut dyn Endpoint, _: Interest) -> Result<()> {
        if packets == 0 {
            std::hint::spin_loop();
        }
        Ok(())
    }
}

/// Sleeps whenever there is nothing: the least CPU time, at the price of a wake-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// The longest sleep.
    pub limit: Duration,
}

impl Default for Block {
    /// Sleeps at most 100 ms at a time.
    fn default() -> Self {
        Self { limit: LIMIT }
    }
}

impl WaitStrategy for Block {
    fn after(
        &mut self,
        packets: usize,
        endpoint: &mut dyn Endpoint,
        interest: Interest,
    ) -> Result<()> {
        if packets == 0 {
            endpoint.wait(interest, Some(self.limit))?;
        }
        Ok(())
    }
}

/// Spins for a number of empty turns, then sleeps: low latency under load, little CPU time when
/// idle.
///
/// Every turn that moves packets fills the credits up; every empty one costs a credit; without
/// credits it sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adaptive {
    /// Empty turns before it sleeps.
    pub spins: u32,
    /// The longest sleep.
    pub limit: Duration,
    credits: u32,
}

impl Adaptive {
    /// Sleeps after `spins` empty turns, at most 100 ms at a time.
    #[must_use]
    pub const fn new(spins: u32) -> Self {
        Self { spins, limit: LIMIT, credits: spins }
    }
}

impl Default for Adaptive {
    /// Spins 1 000 turns: some 50 to 200 µs with most backends.
    fn default() -> Self {
        Self::new(1000)
    }
}

impl WaitStrategy for Adaptive {
    fn after(
        &mut self,
        packets: usize,
        endpoint: &mut dyn Endpoint,
        interest: Interest,
    ) -> Result<()> {
        if packets > 0 {
            self.credits = self.spins;
        } else if self.credits > 0 {
            self.credits -= 1;
            std::hint::spin_loop();
        } else if !endpoint.wait(interest, Some(self.limit))?.is_empty() {
            self.credits = self.spins;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Caps, Ready, Stats};

    /// Counts the sleeps that it is asked for.
    struct Sleeper(Caps, Vec<Duration>);

    impl Endpoint for Sleeper {
        fn flush(&mut self) -> Result<()> {
            Ok(())
        }

        fn wait(&mut self, _: Interest, timeout: Option<Duration>) -> Result<Ready> {
            self.1.extend(timeout);
            Ok(Ready::empty())
        }

        fn caps(&self) -> &Caps {
            &self.0
        }

        fn stats(&self) -> Stats {
            Stats::default()
        }
    }

    fn sleeps(strategy: &mut dyn WaitStrategy, turns: &[usize]) -> usize {
        let mut sleeper = Sleeper(Caps::new("test", 0, 0), Vec::new());
        for &packets in turns {
            strategy.after(packets, &mut sleeper, Interest::RX).unwrap();
        }
        assert!(sleeper.1.iter().all(|&limit| limit == LIMIT), "no sleep is without a limit");
        sleeper.1.len()
    }

    #[test]
    fn each_strategy_sleeps_when_it_should() {
        assert_eq!(sleeps(&mut BusyPoll, &[0, 0, 0, 5, 0]), 0);
        assert_eq!(sleeps(&mut Block::default(), &[0, 3, 0, 5, 0]), 3);
        assert_eq!(sleeps(&mut Adaptive::new(2), &[0, 0, 0, 0]), 2, "two credits, then sleep");
        assert_eq!(sleeps(&mut Adaptive::new(2), &[0, 0, 9, 0, 0]), 0, "packets fill them up");
        assert_eq!(sleeps(&mut Adaptive::new(0), &[0, 1, 0]), 2);
    }
}
